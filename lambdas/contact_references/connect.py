"""Reads a contact's references from Amazon Connect, at a given pace."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from contact_references.contact import ContactKey
from contact_references.errors import ContactNotFoundError, PermanentError, RetriableError
from contact_references.paced import PacedOperation, Page, Request
from contact_references.pacing import TokenBucket
from contact_references.reference import ENTERED_TYPES, PRODUCED_TYPES, JsonNumber, dump_json

if TYPE_CHECKING:
    from mypy_boto3_connect import ConnectClient

Member = Mapping[str, object]
"""A member of the tagged union, `{tag: content}`."""

_OPERATION = "ListContactReferences"
_MOST_TYPES = 6  # that one request takes: the service refuses more, the SDK does not
_REACTIONS = {
    "ResourceNotFoundException": ContactNotFoundError,
    "InvalidRequestException": PermanentError,
    "InvalidParameterException": PermanentError,
}


def group_types(reference_types: Collection[str]) -> list[list[str]]:
    """Split types into as few requests as the service's limit of six types allows.

    More than six are split into what people enter and what services produce, so that a later look at what
    may still change takes one request.

    >>> group_types(["URL", "ATTACHMENT", "DATE"])
    [['URL', 'ATTACHMENT', 'DATE']]
    >>> [len(group) for group in group_types([*ENTERED_TYPES.values(), *PRODUCED_TYPES.values()])]
    [5, 6]
    """
    if len(reference_types) <= _MOST_TYPES:
        return [list(reference_types)]
    families = (ENTERED_TYPES.values(), PRODUCED_TYPES.values())
    return [[name for name in reference_types if name in family] for family in families]


class ReferenceReader(PacedOperation):
    """Lists contacts' references, with a boto3 Connect client that makes one attempt a call.

    `changing_types` are those asked for that may change after the contact has ended; one request reads them.
    """

    def __init__(self, client: "ConnectClient", *, reference_types: Sequence[str], bucket: TokenBucket) -> None:
        super().__init__(_OPERATION, self._list, reactions=_REACTIONS, bucket=bucket)
        self._client = client
        self._groups = group_types(reference_types)
        self.changing_types = tuple(name for name in reference_types if name in PRODUCED_TYPES.values())
        client.meta.events.register(f"before-parse.connect.{_OPERATION}", _keep_body)

    def read(self, key: ContactKey, *, only_changing: bool = False) -> list[Member]:
        """Return a contact's references, of the types that were asked for (or `only_changing` ones) and unknown ones.

        Raises ContactNotFoundError, PermanentError for parameters that the service refuses, RetriableError
        (also for an endless list of pages) or ConfigurationError.
        """
        members: list[Member] = []
        unknown: Counter[str] = Counter()
        unknown_members: dict[str, Member] = {}
        for group in [self.changing_types] if only_changing else self._groups:
            seen_here: Counter[str] = Counter()
            for tag, member in self._read_group(key, group):
                if tag in ENTERED_TYPES or tag in PRODUCED_TYPES:
                    members.append(member)
                else:
                    text = dump_json(member)
                    seen_here[text] += 1
                    unknown_members[text] = member
            # No request asks for a type that it does not know: one that each answers with is the same one.
            unknown |= seen_here
        return members + [unknown_members[text] for text in unknown.elements()]

    def _read_group(self, key: ContactKey, group: Sequence[str]) -> Iterator[tuple[str, Member]]:
        request = {"InstanceId": key.instance_id, "ContactId": key.contact_id, "ReferenceTypes": group}
        for page in self.pages(request):
            yield from _members(page)

    def _list(self, request: Request) -> Page:
        try:
            return cast("Page", self._client.list_contact_references(**request))
        except (AttributeError, TypeError):  # from the SDK's parser: JSON of another form than its model's
            raise _unreadable() from None


def _keep_body(response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Hand the raw body on: of a member that it doesn't know, the SDK's own answer has only the name."""
    customized_response_dict["Body"] = response_dict["body"]


def _members(page: Mapping[str, Any]) -> Iterator[tuple[str, Member]]:
    members = page.get("ReferenceSummaryList") or []
    if not members or any("SDK_UNKNOWN_MEMBER" in member for member in members):
        members = [
            {tag: content for tag, content in member.items() if tag != "__type" and content is not None}
            for member in _read_list(page["Body"])
        ]
    for member in members:
        yield next(iter(member), ""), member


def _read_list(body: bytes) -> list[dict[str, object]]:
    """Return the list of references in a raw body, its numbers as `JsonNumber`.

    The SDK takes a body that was cut off, or is no JSON at all, for an answer without references. Raises
    RetriableError for it: a contact must not lose its references to a broken proxy.
    """
    try:
        answer = json.loads(body, parse_int=JsonNumber, parse_float=JsonNumber, parse_constant=JsonNumber)
        if "ReferenceSummaryList" in answer or answer.keys() <= {"NextToken"}:
            return answer.get("ReferenceSummaryList") or []
    except (ValueError, AttributeError, TypeError):  # no JSON, or JSON of another form
        pass
    raise _unreadable()


def _unreadable() -> RetriableError:
    return RetriableError("InvalidResponse", f"{_OPERATION} answered what can't be read")
