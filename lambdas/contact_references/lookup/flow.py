"""What a Connect flow asks, and the answer in the only form that it takes: a flat map of strings.

https://docs.aws.amazon.com/connect/latest/adminguide/connect-lambda-functions.html
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from contact_references.lookup.reader import PAGE_SIZE, Reader
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.reference import KNOWN_TYPES, Reference, normalize_value
from contact_references.model.timestamps import format_time

Answer = dict[str, str]

_PARAMETERS = ("type", "value", "contact_id", "types", "limit", "encoding")
_MOST_REFERENCES = PAGE_SIZE
_MOST_BYTES = 32_000  # of JSON in ASCII, its longest form: Connect takes 32 KB
_LONGEST_ID = 256  # of a contact, as the API's pages say
_BASE64 = "base64url"
_PAGES_OF_A_VALUE = (PAGE_SIZE, 100, 100)  # rows; the first is enough, unless others' are in it


class QuestionError(ValueError):
    """A question that cannot be answered; the message is a sentence for the flow's author, and quotes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a flow of an instance asks: the references that have a value, or if there is no `value`, those of contacts.

    `types` are the types to give, all if there are none. `is_encoded`: see `asks_for_encoding`.
    """

    instance_id: str
    contacts: tuple[ContactKey, ...] = ()
    reference_type: str = ""
    value: str | None = None
    types: frozenset[str] = frozenset()
    limit: int = _MOST_REFERENCES
    is_encoded: bool = False


def read_question(parameters: Mapping[str, object], *, instance_id: str, chain: tuple[str, ...]) -> Question:
    """Read the parameters of a flow's Lambda block; raises QuestionError.

    `chain` are the contacts that the flow's own one continues, asked for if no other is named.

    >>> def read(**parameters):
    ...     return read_question(parameters, instance_id="instance", chain=("earlier",))
    >>> read(types="URL, DATE", limit="3").contacts
    (ContactKey(instance_id='instance', contact_id='earlier'),)
    >>> read(type="EMAIL", value="Jane@Example.com").reference_type
    'EMAIL'
    >>> read(type="EMAIL")
    Traceback (most recent call last):
    contact_references.lookup.flow.QuestionError: type and value go together: one of them is missing
    """
    given = _read_texts(parameters)
    if given.get("encoding", _BASE64) != _BASE64:
        raise QuestionError(f"encoding is not {_BASE64}, the only one there is")
    types = frozenset(_read_type("types", name) for name in given["types"].split(",")) if "types" in given else ()
    by_value = {"type", "value"} & given.keys()
    if len(by_value) == 1:
        raise QuestionError("type and value go together: one of them is missing")
    if by_value and {"contact_id", "types"} & given.keys():
        raise QuestionError("type and value ask for all contacts: contact_id and types don't go with them")
    reference_type = _read_type("type", given["type"]) if by_value else ""
    if by_value and not normalize_value(reference_type, given["value"]).canonical_value:
        raise QuestionError("value is empty")
    contact_ids = () if by_value else (given["contact_id"],) if "contact_id" in given else chain
    return Question(
        instance_id=instance_id,
        contacts=tuple(ContactKey(instance_id, contact_id) for contact_id in dict.fromkeys(contact_ids)),
        reference_type=reference_type,
        value=given.get("value"),
        types=frozenset(types),
        limit=_read_limit(given.get("limit", str(_MOST_REFERENCES))),
        is_encoded=asks_for_encoding(given),
    )


def asks_for_encoding(parameters: Mapping[str, object]) -> bool:
    """Whether an answer's texts are to be in base64url: those that may have others than letters, digits, `-` and `_`.

    Said of any parameters, since a refusal has such a text too.
    """
    return parameters.get("encoding") == _BASE64


def _read_texts(parameters: Mapping[str, object]) -> dict[str, str]:
    if parameters.keys() - {*_PARAMETERS}:
        raise QuestionError(f"there are no other parameters than {', '.join(_PARAMETERS)}")
    texts = {}
    for name, value in parameters.items():
        if not isinstance(value, str):
            raise QuestionError(f"{name} is no text")
        if not value.strip():
            raise QuestionError(f"{name} is empty")
        if name == "contact_id" and len(value) > _LONGEST_ID:
            raise QuestionError(f"{name} is longer than {_LONGEST_ID} characters")
        texts[name] = value
    return texts


def _read_type(parameter: str, name: str) -> str:
    if (known := name.strip().upper()) not in KNOWN_TYPES:
        raise QuestionError(f"{parameter} has a type that there is not; there are {', '.join(KNOWN_TYPES)}")
    return known


def _read_limit(text: str) -> int:
    if text not in map(str, range(1, _MOST_REFERENCES + 1)):
        raise QuestionError(f"limit is no whole number from 1 to {_MOST_REFERENCES}")
    return int(text)


def answer(question: Question, reader: Reader) -> Answer:
    """Return the references, of the contacts that completed last first: `found`, `reference_count` and what each is.

    `truncated` says that there are or may be more than these. A flow learns of its own instance's contacts only: by
    value at most four requests more, if others' are among the latest. Raises what the reader raises.
    """
    has_more = False
    if question.value is None:
        found = [
            (capture.contact, reference)
            for capture in reader.references_of(*question.contacts)
            for reference in capture.references
            if not question.types or reference.reference_type in question.types
        ]
    else:
        found, has_more = _find_by_value(question, question.value, reader)
    written: Answer = {}
    count, size = 0, 0
    for contact, reference in found[: question.limit]:
        entry = _write(count + 1, contact, reference, is_encoded=question.is_encoded)
        size += len(json.dumps(entry))
        if size > _MOST_BYTES:
            break
        written |= entry
        count += 1
    return _head(count, is_found=bool(found), is_truncated=has_more or count < len(found)) | written


def _find_by_value(question: Question, value: str, reader: Reader) -> tuple[list[tuple[Contact, Reference]], bool]:
    """Return the references of the question's instance that have the value, and whether there may be more."""
    found: list[tuple[Contact, Reference]] = []
    following = None
    for rows in _PAGES_OF_A_VALUE:
        page = reader.contacts_with(question.reference_type, value, limit=rows, after=following)
        found += [
            (match.contact, match.reference)
            for match in page.matches
            if match.contact.key.instance_id == question.instance_id
        ]
        following = page.following
        if following is None or len(found) >= question.limit:
            break
    return found, following is not None


def refuse(error: QuestionError, *, is_encoded: bool = False) -> Answer:
    """Return the answer to a question that cannot be answered: nothing found, and why as `error`."""
    sentence = _encode(str(error)) if is_encoded else str(error)
    return _head(0, is_found=False, is_truncated=False) | {"error": sentence}


def _head(count: int, *, is_found: bool, is_truncated: bool) -> Answer:
    def word(is_true: bool) -> str:
        return "true" if is_true else "false"

    return {"found": word(is_found), "reference_count": str(count), "truncated": word(is_truncated)}


def _write(number: int, contact: Contact, reference: Reference, *, is_encoded: bool) -> Answer:
    """Return what an answer says of a reference; what it does not have is left out."""
    texts = {
        "name": reference.reference_name,
        "value": reference.reference_value,
        "completed_at": format_time(contact.completed_at) if contact.completed_at else None,
    }
    columns = {"type": reference.reference_type, "contact_id": contact.key.contact_id}
    columns |= {name: _encode(text) if is_encoded else text for name, text in texts.items() if text is not None}
    return {f"reference_{number}_{name}": column for name, column in columns.items()}


def _encode(text: str) -> str:
    """Write a text in letters, digits, dashes and underscores alone.

    >>> _encode("é?")
    'w6k_'
    """
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
