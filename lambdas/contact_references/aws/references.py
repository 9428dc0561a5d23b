"""Reads a contact's references from Amazon Connect, at a given pace."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from contact_references.aws.paced import PacedOperation, Page, Request
from contact_references.aws.pacing import TokenBucket
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.errors import ContactNotFoundError, RefusedError, RetriableError
from contact_references.model.reference import read_json
from contact_references.model.reference_types import TypeLists, changing, group_types

if TYPE_CHECKING:
    from mypy_boto3_connect import ConnectClient

Member = Mapping[str, object]
"""A member of the tagged union, `{tag: content}`."""

_OPERATION = "ListContactReferences"


_REACTIONS = {
    "ResourceNotFoundException": ContactNotFoundError,
    "InvalidRequestException": RefusedError,
    "InvalidParameterException": RefusedError,
}


class Answer(NamedTuple):
    """A contact's members, a list for each request, and the types that they were asked for by."""

    members: list[list[Member]]
    types: frozenset[str]


class ReferenceReader(PacedOperation):
    """Lists contacts' references, with a boto3 Connect client that makes one attempt a call.

    A type that the service refuses twice, an older Region or a channel that can't have it, is found by asking type by
    type, and left out for the channel from then on; `on_refused_type` is told of the channel and the type. A request
    that was accepted for another contact of the channel is refused for the contact.
    """

    def __init__(
        self,
        client: "ConnectClient",
        *,
        type_lists: TypeLists,
        bucket: TokenBucket,
        on_refused_type: Callable[[str | None, str], None],
    ) -> None:
        super().__init__(_OPERATION, self._list, reactions=_REACTIONS, bucket=bucket)
        self._client = client
        self._type_lists = type_lists
        self._on_refused_type = on_refused_type
        self._refused_types: dict[str | None, set[str]] = defaultdict(set)
        self._accepted: set[tuple[str, tuple[str, ...]]] = set()
        client.meta.events.register(f"before-parse.connect.{_OPERATION}", _keep_body)

    def types_of(self, contact: Contact) -> tuple[str, ...]:
        """Return the types to ask a contact for, without refused ones."""
        refused = self._refused_types[contact.channel]
        return tuple(name for name in self._type_lists.to_ask(contact) if name not in refused)

    def can_change(self, contact: Contact) -> bool:
        """Whether the contact is to be asked for types that may change, though they may be refused here and now."""
        return bool(changing(self._type_lists.to_ask(contact)))

    def read(self, contact: Contact, *, only_changing: bool = False) -> Answer:
        """Return a contact's references of the types to ask it for, or of those that can change, and unknown ones.

        Raises ContactNotFoundError, PermanentError for parameters that the service refuses, RetriableError
        (also for an endless list of pages) or ConfigurationError.
        """
        wanted = self.types_of(contact)
        answers: dict[tuple[str, ...], list[Member]] = {}
        refusals: dict[str, RefusedError] = {}
        groups = group_types(changing(wanted) if only_changing else wanted)
        for group in groups:
            try:
                answers[group] = self._read_types(contact.key, group)
            except RefusedError:
                if (contact.channel, group) in self._accepted:
                    raise
                for name in group:
                    try:
                        answers[(name,)] = self._read_types(contact.key, [name])
                    except RefusedError as error:
                        refusals[name] = error
        if not answers:  # then it is not for the types
            raise next(iter(refusals.values()))
        for name in list(refusals):
            # Once more, now that others were accepted: what is refused for a moment must not be left out for good.
            with suppress(RefusedError):
                answers[(name,)] = self._read_types(contact.key, [name])
                del refusals[name]
        self._leave_out(contact.channel, refusals)
        if contact.channel is not None:
            self._accepted.update((contact.channel, group) for group in groups)
        return Answer(list(answers.values()), frozenset(name for names in answers for name in names))

    def _leave_out(self, channel: str | None, types: Iterable[str]) -> None:
        for name in types:
            self._refused_types[channel].add(name)
            self._on_refused_type(channel, name)

    def _read_types(self, key: ContactKey, types: Sequence[str]) -> list[Member]:
        request = {"InstanceId": key.instance_id, "ContactId": key.contact_id, "ReferenceTypes": list(types)}
        return [member for page in self.pages(request) for member in _members(page)]

    def _list(self, request: Request) -> Page:
        try:
            return cast("Page", self._client.list_contact_references(**request))
        except (AttributeError, TypeError):  # from the SDK's parser: JSON of another form than its model's
            raise _unreadable() from None


def _keep_body(response_dict: Mapping[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Hand the raw body on: of a member that it doesn't know, the SDK's own answer has only the name."""
    customized_response_dict["Body"] = response_dict["body"]


def _members(page: Mapping[str, Any]) -> Iterator[Member]:
    members = page.get("ReferenceSummaryList") or []
    if members and not any("SDK_UNKNOWN_MEMBER" in member for member in members):
        yield from members
        return
    for member in _read_list(page["Body"]):
        yield {tag: content for tag, content in member.items() if tag != "__type" and content is not None}


def _read_list(body: bytes) -> list[dict[str, object]]:
    """Return the list of references in a raw body, its numbers as `JsonNumber`.

    The SDK takes a body that was cut off, or is no JSON at all, for an answer without references. Raises
    RetriableError for it: a contact must not lose its references to a broken proxy.
    """
    try:
        answer = read_json(body)
        if "ReferenceSummaryList" in answer or answer.keys() <= {"NextToken"}:
            return answer.get("ReferenceSummaryList") or []
    except (ValueError, RecursionError, AttributeError, TypeError):  # no JSON, or JSON of another form
        pass
    raise _unreadable()


def _unreadable() -> RetriableError:
    return RetriableError("InvalidResponse", f"{_OPERATION} answered what cannot be read")
