"""Amazon Connect: references by contact, and completed contacts to search, in memory.

`connect_simulator` has the whole API, with contacts that live their lives; these two hold whatever a test gives them,
true or not, and answer a hundred thousand calls in a second.
"""

import json
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES
from local.in_memory.service import Parameters, RefusedError, Service, respond, respond_refusal
from local.in_memory.usage import Usage

Member = dict[str, Any]
"""A member of the union of references: `{"Url": {"Name": …, "Value": …}}`."""

TYPES = ENTERED_TYPES | PRODUCED_TYPES
_MOST_TYPES = 6


class Connect(Service):
    """`ListContactReferences` as the service does it: strict on its parameters, and known contacts only.

    Set `failures` to have the next calls fail with (status, code); a status of 0 breaks the connection. A request
    that has one of `refused_types` is refused as a whole, as for a channel that can't have it; `refuses` says whether
    for a contact.
    """

    operations = frozenset({"ListContactReferences"})

    def __init__(self, usage: Usage | None = None, *, keeps_calls: bool = True) -> None:
        super().__init__(usage)
        self._keeps_calls = keeps_calls
        self.contacts: dict[str, list[Member]] = {}
        self.find: Callable[[str], Sequence[Member] | None] = self._find
        """What a contact has; None for one that is not known."""
        self.failures: list[tuple[int, str]] = []
        self.refused_types: set[str] = set()
        self.refuses: Callable[[str], bool] = lambda _: True
        self.answers_unknown_always = False
        """Whether members newer than the SDK come with every answer; else with that to a request for attachments."""
        self.page_size: int | None = None
        self.repeats_token = False
        self.before_answer: Callable[[str], None] = lambda _: None
        self.rewrite: Callable[[bytes], bytes] = lambda body: body
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        """Contact and types of each call, if they are kept."""

    def _find(self, contact_id: str) -> Sequence[Member] | None:
        return self.contacts.get(contact_id)

    def _list_contact_references(self, parameters: Parameters) -> dict[str, Any]:
        answer = self._list(parameters)
        # In a client's place, the raw body that the reader has the SDK hand on; it looks there if nothing was found.
        return answer if answer["ReferenceSummaryList"] else answer | {"Body": json.dumps(answer).encode()}

    def _list(self, parameters: Parameters) -> dict[str, Any]:
        contact_id, types = parameters["ContactId"], tuple(parameters["ReferenceTypes"])
        if self._keeps_calls:
            self.calls.append((contact_id, types))
        self.before_answer(contact_id)
        if self.failures:
            status, code = self.failures.pop(0)
            if status == 0:
                raise ConnectionResetError
            raise RefusedError(code, "ListContactReferences", status)
        is_refused = self.refuses(contact_id) and not self.refused_types.isdisjoint(types)
        if is_refused or not 0 < len(set(types)) == len(types) <= _MOST_TYPES or not set(types) <= set(TYPES.values()):
            raise RefusedError("InvalidParameterException", "ListContactReferences")
        members = self.find(contact_id)
        if members is None:
            raise RefusedError("ResourceNotFoundException", "ListContactReferences", 404)
        of_unknown = types[0] if self.answers_unknown_always else "ATTACHMENT"
        asked = [member for member in members if TYPES.get(next(iter(member)), of_unknown) in types]
        start = int(parameters.get("NextToken") or 0)
        size = self.page_size or len(asked) or 1
        token = str(start + size) if start + size < len(asked) else None
        if self.repeats_token:
            token = "1"  # noqa: S105 - no secret
        return {"ReferenceSummaryList": asked[start : start + size], "NextToken": token}

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a client's request."""
        try:
            answer = self.call(*self.read(request))
        except RefusedError as refusal:
            return respond_refusal(request, refusal)
        body = json.dumps({name: value for name, value in answer.items() if name != "Body"}).encode()
        return respond(request, 200, self.rewrite(body))

    def read(self, request: AWSPreparedRequest) -> tuple[str, Parameters]:
        """Return a request's operation and parameters."""
        url = urlsplit(request.url)
        if request.method != "GET" or not url.path.startswith("/contact/references/"):
            return f"{request.method} {url.path.split('/')[1]}", {}
        query = parse_qs(url.query)
        _, instance_id, contact_id = url.path.removeprefix("/contact").split("/", 3)[1:]
        return "ListContactReferences", {
            "InstanceId": unquote(instance_id),
            "ContactId": unquote(contact_id),
            "ReferenceTypes": query.get("referenceTypes", []),
            "NextToken": query.get("nextToken", [None])[0],
        }


class ConnectSearch(Service):
    """`SearchContacts`: eight weeks, 10,000 results in no order, tokens that are of one search, half a call a second.

    Times are cut to whole seconds, as the SDK does. `ends_count` says whether both ends are in the range, or neither.
    """

    operations = frozenset({"SearchContacts"})

    def __init__(self, usage: Usage | None = None, *, clock: Callable[[], datetime]) -> None:
        super().__init__(usage)
        self._clock = clock
        self._contacts: dict[str, list[tuple[datetime, str, datetime]]] = defaultdict(list)
        self._members: dict[str, dict[str, Any]] = {}
        self._asked_at = datetime.min.replace(tzinfo=UTC)
        self.ends_count = True
        self.counts_total = True
        self.refused: dict[str, str] = {}
        """With which error an instance's searches are refused."""
        self.calls: list[str] = []
        """Instances searched."""
        self.takes: Callable[[], None] = lambda: None
        """What happens while a call is on its way."""

    def have(self, instance_id: str, contact_id: str, at: datetime, *, indexed_at: datetime | None = None) -> None:
        """Let a contact have disconnected at a time, and be found from another on, or at once."""
        insort(self._contacts[instance_id], (at, contact_id, indexed_at or at))
        self._members[contact_id] = {"Id": contact_id, "Channel": "VOICE", "InitiationMethod": "INBOUND"}

    def search_contacts(self, **request: Any) -> dict[str, Any]:
        """Answer a page, as a client of boto3 does."""
        return self.call("SearchContacts", request)

    def _search_contacts(self, request: Parameters) -> dict[str, Any]:
        now, instance_id, period = self._clock(), request["InstanceId"], request["TimeRange"]
        self.calls.append(instance_id)
        if now - self._asked_at < timedelta(seconds=2):
            raise AssertionError("SearchContacts is called more often than its quota allows")
        self._asked_at = now
        self.takes()
        if code := self.refused.get(instance_id):
            raise RefusedError(code, "SearchContacts", 429 if "Throttling" in code else 400)
        start, end = (period[name].replace(microsecond=0) for name in ("StartTime", "EndTime"))
        if (
            set(request) - {"NextToken"} != {"InstanceId", "TimeRange", "MaxResults"}
            or period["Type"] != "DISCONNECT_TIMESTAMP"
            or not timedelta(0) < end - start <= timedelta(weeks=8)
            or not 1 <= request["MaxResults"] <= 100
        ):
            raise RefusedError("InvalidRequestException", "SearchContacts")
        start += timedelta(0) if self.ends_count else timedelta(microseconds=1)
        end += timedelta(microseconds=1) if self.ends_count else timedelta(0)
        contacts = self._contacts[instance_id]
        found = contacts[bisect_left(contacts, (start, "", start)) : bisect_left(contacts, (end, "", end))]
        visible = sorted((entry for entry in found if entry[2] <= now), key=lambda entry: entry[1][::-1])
        question = f"{instance_id}/{start}/{end}/"
        token = request.get("NextToken", f"{question}0")
        if not token.startswith(question):  # it is of another search
            raise RefusedError("InvalidParameterException", "SearchContacts")
        first = int(token.removeprefix(question))
        last = first + request["MaxResults"]
        page: dict[str, Any] = {
            "Contacts": [
                self._members[contact_id] | {"DisconnectTimestamp": at}
                for at, contact_id, _ in visible[first : min(last, 10_000)]
            ]
        }
        if self.counts_total:
            page["TotalCount"] = len(visible)
        if last < min(len(visible), 10_000):
            page["NextToken"] = f"{question}{last}"
        return page
