"""A contact's references, normalized: the members of `ListContactReferences`' tagged union become rows.

N members in, N references out, whatever they hold: a value that is not what its type says is kept and marked,
never dropped and never fatal.
https://docs.aws.amazon.com/connect/latest/APIReference/API_ReferenceSummary.html
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from contact_references.model.values import (
    Normalized,
    normalize_date,
    normalize_email,
    normalize_location,
    normalize_number,
    normalize_text,
    normalize_url,
    strip_signature,
)

ENTERED_TYPES = {"Url": "URL", "Number": "NUMBER", "String": "STRING", "Date": "DATE", "Email": "EMAIL"}
"""Members of the union and their types: what people and flows enter."""

PRODUCED_TYPES = {
    "Attachment": "ATTACHMENT",
    "ContactAnalysis": "CONTACT_ANALYSIS",
    "EmailMessage": "EMAIL_MESSAGE",
    "EmailMessagePlainText": "EMAIL_MESSAGE_PLAIN_TEXT",
    "EmailMessageRedacted": "EMAIL_MESSAGE_REDACTED",
    "EmailMessagePlainTextRedacted": "EMAIL_MESSAGE_PLAIN_TEXT_REDACTED",
}
"""What services produce: it may appear or change after the contact has ended."""

UNKNOWN = "UNKNOWN"
"""The type of a member that is newer than this list."""

_TYPES = ENTERED_TYPES | PRODUCED_TYPES
KNOWN_TYPES = (*_TYPES.values(), UNKNOWN)
"""Every type that a reference can have."""

_VALUE_RULES = {
    "URL": normalize_url,
    "NUMBER": normalize_number,
    "STRING": normalize_text,
    "DATE": normalize_date,
    "EMAIL": normalize_email,
    "ATTACHMENT": normalize_location,
    "CONTACT_ANALYSIS": normalize_location,
}
_SIGNED_TYPES = {"URL", "ATTACHMENT", "CONTACT_ANALYSIS"}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One reference; the fields are the contract's columns, None where the column is absent.

    `canonical_value` is the value in one spelling per meaning, for equality. `reference_id` is the same
    whenever the same reference is read again, in any order, and no other reference of the contact has it.
    """

    reference_id: str
    reference_type: str
    reference_name: str | None = None
    reference_value: str | None = None
    canonical_value: str | None = None
    number_value: Decimal | None = None
    date_value: str | None = None
    is_valid: bool = True
    arn: str | None = None
    status: str | None = None
    analytics_mode: str | None = None
    is_redacted: bool | None = None
    raw: str | None = None

    def unsigned(self) -> "Reference":
        """Return the reference without the signatures in it, which change whenever it is read."""
        if self.raw is not None:
            return replace(self, raw=_strip_raw(self.raw), reference_value=None, canonical_value=None)
        if self.reference_value is None or self.reference_type not in _SIGNED_TYPES:
            return self
        return replace(self, reference_value=strip_signature(self.reference_value))


def normalize_answers(answers: Iterable[Iterable[Mapping[str, object]]]) -> tuple[Reference, ...]:
    """Turn several requests' members into references, ordered by id.

    A member newer than the SDK that each of them answered is the same one: no request asks for it.
    """
    by_id = {reference.reference_id: reference for members in answers for reference in normalize_references(members)}
    return tuple(sorted(by_id.values(), key=lambda reference: reference.reference_id))


def normalize_references(members: Iterable[Mapping[str, object]]) -> tuple[Reference, ...]:
    """Turn the union's members into as many references, ordered by id.

    Each member is `{tag: content}`, as the API's JSON has it. A tag that is not among those known here gives
    a reference of type UNKNOWN with the whole member as JSON in `raw`. A lone surrogate, which JSON can carry
    and no store accepts, is escaped, and its reference is not valid.

    >>> [url] = normalize_references([{"Url": {"Name": "CRM", "Value": "HTTPS://Example.com:443/a?b"}}])
    >>> url.reference_type, url.reference_value, url.canonical_value, url.is_valid
    ('URL', 'HTTPS://Example.com:443/a?b', 'https://example.com/a?b', True)
    >>> [new] = normalize_references([{"Mood": {"Name": "tone", "Score": 3}}])
    >>> new.reference_type, new.reference_name, new.raw
    ('UNKNOWN', 'tone', '{"Mood":{"Name":"tone","Score":3}}')
    """
    return _with_ids([_normalize_member(member) for member in members])


def normalize_value(reference_type: str, value: str) -> Normalized:
    """Read a value as a reference's of this type is read.

    >>> normalize_value("URL", "HTTPS://Example.com:443/a?b").canonical_value
    'https://example.com/a?b'
    """
    return _VALUE_RULES.get(reference_type, normalize_text)(_escape(value))


def take_over(
    references: Iterable[Reference], *, held: Iterable[Reference], replaced_types: Collection[str]
) -> tuple[Reference, ...]:
    """Return the references that were read, and the held ones of all types but the replaced ones, ordered by id.

    What was read of a type newer than the SDK takes the place of what is held by the same name and ARN.

    >>> [held] = normalize_references([{"Mood": {"Name": "tone", "Score": 3}}])
    >>> read = normalize_references([{"Mood": {"Name": "tone", "Score": 4}}, {"Mood": {"Name": "pace"}}])
    >>> take_over(read, held=[held], replaced_types=["URL"]) == read
    True
    """
    by_id = {reference.reference_id: reference for reference in references}
    unknown = {_kind_and_naming(reference) for reference in by_id.values() if reference.raw is not None}
    for reference in held:
        if reference.reference_type not in replaced_types and _kind_and_naming(reference) not in unknown:
            by_id.setdefault(reference.reference_id, reference)
    return tuple(sorted(by_id.values(), key=lambda reference: reference.reference_id))


def _normalize_member(member: Mapping[str, object]) -> Reference:
    tag, content = next(iter(member.items()), ("", None))
    fields = content if isinstance(content, Mapping) else {}
    reference_type = _TYPES.get(tag, UNKNOWN)
    name, value = _text(fields.get("Name")), _text(fields.get("Value"))
    normalized = normalize_value(reference_type, value) if value is not None else None
    is_valid = normalized.is_valid if normalized else tag not in ENTERED_TYPES
    is_redacted = fields.get("IsRedacted")
    return Reference(
        reference_id="",
        reference_type=reference_type,
        reference_name=name,
        reference_value=value,
        canonical_value=normalized.canonical_value if normalized else None,
        number_value=normalized.number_value if normalized else None,
        date_value=normalized.date_value if normalized else None,
        is_valid=is_valid
        and not _has_lone_surrogate(fields.get("Name"))
        and not _has_lone_surrogate(fields.get("Value")),
        arn=_text(fields.get("Arn")),
        status=_text(fields.get("Status")),
        analytics_mode=_text(fields.get("AnalyticsMode")),
        is_redacted=is_redacted if isinstance(is_redacted, bool) else None,
        raw=dump_json(member) if reference_type == UNKNOWN else None,
    )


def _text(value: object) -> str | None:
    return _escape(value) if isinstance(value, str) else None


def _escape(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _has_lone_surrogate(value: object) -> bool:
    return isinstance(value, str) and _LONE_SURROGATE.search(value) is not None


def _with_ids(references: Sequence[Reference]) -> tuple[Reference, ...]:
    """Give each its id: from type, name and ARN; where those leave two alike, from the value too.

    Of a type newer than the SDK all of its content always enters, as any request may bring more of them. An ordinal
    tells apart those that are the same in all of these, signatures aside; the first of them has none, so that its id
    does not depend on how many follow. They are put in order by what else they say: no id depends on the order of
    reading.
    """
    alike = Counter(map(_naming, references))
    by_identity: dict[tuple[str | None, ...], list[tuple[Reference, Reference]]] = defaultdict(list)
    for reference in references:
        identity, unsigned = _naming(reference), reference.unsigned()
        if alike[identity] > 1 or reference.raw is not None:
            identity = (*identity, unsigned.reference_value, unsigned.raw)
        by_identity[identity].append((reference, unsigned))
    identified = []
    for identity, same in by_identity.items():
        if len(same) > 1:
            same.sort(key=lambda pair: repr(pair[1]))
        for ordinal, (reference, _) in enumerate(same):
            parts = (*identity, ordinal) if ordinal else identity
            digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
            identified.append(replace(reference, reference_id=digest[:32]))
    return tuple(sorted(identified, key=lambda reference: reference.reference_id))


def _naming(reference: Reference) -> tuple[str | None, ...]:
    return (reference.reference_type, reference.reference_name, reference.arn)


def _kind_and_naming(reference: Reference) -> tuple[str | None, ...]:
    return ((reference.raw or "").partition(":")[0], *_naming(reference))


class JsonNumber(str):
    """A number of a JSON text, digit by digit: what is only passed on must not pass through a float."""

    __slots__ = ()


def read_json(text: str | bytes) -> Any:
    """Read JSON, its numbers as `JsonNumber`; raises ValueError, or RecursionError for thousands of brackets."""
    return json.loads(text, parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=JsonNumber)


def dump_json(value: object) -> str:
    """Write JSON again as it was read with its numbers as `JsonNumber`."""
    if isinstance(value, JsonNumber):
        return value
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(name)}:{dump_json(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump_json, value)) + "]"
    return json.dumps(value)


def _strip_raw(raw: str) -> str:
    """Return a member's JSON without the signatures of the URLs in it."""
    return dump_json(_strip_texts(read_json(raw)))


def _strip_texts(value: object) -> object:
    if isinstance(value, JsonNumber):
        return value
    if isinstance(value, str):
        return strip_signature(value)
    if isinstance(value, Mapping):
        return {name: _strip_texts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_strip_texts(item) for item in value]
    return value
