"""Reconciling on a virtual clock, with strict stand-ins for AWS in memory: contacts by the ten thousand."""

import json
import re
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

from aws_lambda_powertools import Logger, Metrics
from botocore.exceptions import ClientError

from contact_references.aws.capture_queue import RequestQueue
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.aws.search import ContactSearch
from contact_references.aws.worklist import Worklist
from contact_references.capture.capturer import Capturer
from contact_references.capture.targets import Result
from contact_references.model.capture import ContactItem
from contact_references.model.contact import Contact, ContactKey, Instance, Scope
from contact_references.model.coverage import Hour
from contact_references.model.errors import CaptureError
from contact_references.model.events import ContactReport, parse_event
from contact_references.model.periods import parse_backfill
from contact_references.model.reference_types import TypeLists
from contact_references.reconcile.feeding import Feeder
from contact_references.reconcile.hours import Hours
from contact_references.reconcile.rechecks import Rechecks
from contact_references.reconcile.reconciler import Reconciler
from contact_references.reconcile.report import Gauges, ReconcileReport
from tests.unit.conftest import ALL_TYPES, NOON, FakeDynamoDB

INSTANCE = Instance("us-east-1", "111122223333", "first")
OTHER = Instance("us-east-1", "111122223333", "other")
SCOPE = Scope("us-east-1", "111122223333")
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ALL_LISTS = TypeLists({"*": ALL_TYPES})
ENVIRONMENT_SECONDS = {1: 55, 15: 895}
"""How long a run may take, by the minutes from one to the next."""


class KilledError(BaseException):
    """The function's end, between two calls."""


def refusal(code: str, operation: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, operation)


class ConditionalCheckFailedError(ClientError):
    """As the SDK's client has it."""


Values = dict[str, dict[str, Any]]
_CONDITIONS: dict[str, tuple[set[str], Callable[[dict[str, Any] | None, Values], bool]]] = {
    "attribute_not_exists(pk) OR held_until <= :now": (
        {":now"},
        lambda item, values: item is None or ("held_until" in item and item["held_until"]["S"] <= values[":now"]["S"]),
    ),
    "attribute_not_exists(pk) OR held_until <= :now OR holder = :me": (
        {":now", ":me"},
        lambda item, values: (
            item is None or item["held_until"]["S"] <= values[":now"]["S"] or item["holder"] == values[":me"]
        ),
    ),
    "holder = :me": ({":me"}, lambda item, values: item is not None and item.get("holder") == values[":me"]),
}


class WorklistDynamoDB(FakeDynamoDB):
    """The table's stand-in, with its index `by_due` and the lease's conditions; used as the SDK's client is.

    `index_lag` is how far the index is behind the table.
    """

    def __init__(self, clock: Callable[[], datetime], before_call: Callable[[str], None]) -> None:
        super().__init__()
        self._clock = clock
        self._before_call = before_call
        self.exceptions: Any = type("Exceptions", (), {"ConditionalCheckFailedException": ConditionalCheckFailedError})
        self.index_lag = timedelta(0)
        self.due_page = 50
        self._indexed: dict[tuple[str, str], tuple[str, str]] = {}
        self._by_due: dict[str, list[tuple[str, tuple[str, str]]]] = defaultdict(list)
        self._behind: list[tuple[datetime, tuple[str, str], tuple[str, str] | None]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = "".join(map(str.capitalize, name.split("_")))
        return lambda **parameters: self.call(operation, parameters)

    def get_paginator(self, name: str) -> "WorklistDynamoDB":
        assert name == "query"
        return self

    def paginate(self, **parameters: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self.call("Query", parameters)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            parameters = parameters | {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._before_call(operation)
        try:
            answer = super().call(operation, parameters)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise ConditionalCheckFailedError(error.response, operation) from None
            raise
        self.calls.clear()
        for key in _written(operation, parameters):
            self._index(key)
        if operation == "UpdateItem" and parameters.get("ReturnValues") == "ALL_NEW":
            return {"Attributes": self.items[_written(operation, parameters)[0]]}
        return answer

    def put(self, item: dict[str, Any]) -> None:
        """Put an item past the function, as the wire has it."""
        key = (item["pk"]["S"], item["sk"]["S"])
        self.items[key] = item
        self._index(key)

    def _index(self, key: tuple[str, str]) -> None:
        item = self.items.get(key, {})
        due = (item["due_key"]["S"], item["due_at"]["S"]) if {"due_key", "due_at"} <= item.keys() else None
        self._behind.append((self._clock() + self.index_lag, key, due))
        self._catch_up()

    def _catch_up(self) -> None:
        while self._behind and self._behind[0][0] <= self._clock():
            _, key, due = self._behind.pop(0)
            if key in self._indexed:
                due_key, due_at = self._indexed.pop(key)
                entries = self._by_due[due_key]
                del entries[bisect_left(entries, (due_at, key))]
            if due is not None:
                self._indexed[key] = due
                insort(self._by_due[due[0]], (due[1], key))

    def _query(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if "IndexName" not in parameters:
            return super()._query(parameters)
        self._catch_up()
        assert parameters["IndexName"] == "by_due"
        assert "ConsistentRead" not in parameters
        values = parameters["ExpressionAttributeValues"]
        known = {"due_key = :key": {":key"}, "due_key = :key AND due_at <= :until": {":key", ":until"}}
        assert set(values) == known[parameters["KeyConditionExpression"]]
        entries = self._by_due[values[":key"]["S"]]
        if ":until" in values:
            entries = entries[: bisect_left(entries, (values[":until"]["S"], ("\U0010ffff", "")))]
        entries = entries if parameters.get("ScanIndexForward", True) else entries[::-1]
        is_backward = not parameters.get("ScanIndexForward", True)
        if start := parameters.get("ExclusiveStartKey"):
            last = (start["due_at"]["S"], (start["pk"]["S"], start["sk"]["S"]))
            entries = [entry for entry in entries if (entry < last if is_backward else entry > last)]
        page = entries[: self.due_page]
        answer: dict[str, Any] = {"Count": len(page)}
        if parameters.get("Select") != "COUNT":
            answer["Items"] = [self._keys(values[":key"], entry) for entry in page]
        if len(entries) > self.due_page:
            answer["LastEvaluatedKey"] = self._keys(values[":key"], page[-1])
        return answer

    @staticmethod
    def _keys(due_key: dict[str, str], entry: tuple[str, tuple[str, str]]) -> dict[str, Any]:
        due_at, (pk, sk) = entry
        return {"due_key": due_key, "due_at": {"S": due_at}, "pk": {"S": pk}, "sk": {"S": sk}}

    def _check_condition(
        self,
        key: tuple[str, str],
        parameters: dict[str, Any],
        operation: str,
        *,
        also_used: Iterable[str] = (),
    ) -> None:
        expression = parameters.get("ConditionExpression")
        if expression not in _CONDITIONS:
            super()._check_condition(key, parameters, operation, also_used=also_used)
            return
        used, holds = _CONDITIONS[expression]
        values = parameters["ExpressionAttributeValues"]
        if set(values) != used | set(also_used):
            raise refusal("ValidationException", operation)
        if not holds(self.items.get(key), values):
            raise refusal("ConditionalCheckFailedException", operation)


def _written(operation: str, parameters: dict[str, Any]) -> list[tuple[str, str]]:
    keys: list[Any] = []
    if operation == "BatchWriteItem":
        [requests] = parameters["RequestItems"].values()
        for request in requests:
            keys += [request["PutRequest"]["Item"]] if "PutRequest" in request else [request["DeleteRequest"]["Key"]]
    elif operation in ("PutItem", "UpdateItem"):
        keys.append(parameters["Item"] if operation == "PutItem" else parameters["Key"])
    return [(key["pk"]["S"], key["sk"]["S"]) for key in keys]


class FakeSearch:
    """`SearchContacts`: eight weeks, 10,000 results in no order, tokens that are of one search, half a call a second.

    Times are cut to whole seconds, as the SDK does. `ends_count` says whether both ends are in the range, or neither.
    """

    def __init__(self, clock: Callable[[], datetime], before_call: Callable[[str], None]) -> None:
        self._clock = clock
        self._before_call = before_call
        self._contacts: dict[str, list[tuple[datetime, str, datetime]]] = defaultdict(list)
        self._members: dict[str, dict[str, Any]] = {}
        self._asked_at = datetime.min.replace(tzinfo=UTC)
        self.ends_count = True
        self.counts_total = True
        self.refused: dict[str, str] = {}
        """With which error an instance's searches are refused."""
        self.calls: list[str] = []
        self.takes: Callable[[], None] = lambda: None
        """What happens while a call is on its way."""

    def have(self, instance: Instance, contact_id: str, at: datetime, *, indexed_at: datetime | None = None) -> None:
        insort(self._contacts[instance.instance_id], (at, contact_id, indexed_at or at))
        self._members[contact_id] = {"Id": contact_id, "Channel": "VOICE", "InitiationMethod": "INBOUND"}

    def search_contacts(self, **request: Any) -> dict[str, Any]:
        self._before_call("SearchContacts")
        now, instance_id, period = self._clock(), request["InstanceId"], request["TimeRange"]
        self.calls.append(instance_id)
        assert now - self._asked_at >= timedelta(seconds=2), "SearchContacts' quota"
        self._asked_at = now
        self.takes()
        if code := self.refused.get(instance_id):
            raise refusal(code, "SearchContacts", 429 if "Throttling" in code else 400)
        assert set(request) - {"NextToken"} == {"InstanceId", "TimeRange", "MaxResults"}
        assert period["Type"] == "DISCONNECT_TIMESTAMP"
        start, end = (period[name].replace(microsecond=0) for name in ("StartTime", "EndTime"))
        assert timedelta(0) < end - start <= timedelta(weeks=8)
        assert 1 <= request["MaxResults"] <= 100
        start += timedelta(0) if self.ends_count else timedelta(microseconds=1)
        end += timedelta(microseconds=1) if self.ends_count else timedelta(0)
        contacts = self._contacts[instance_id]
        found = contacts[bisect_left(contacts, (start, "", start)) : bisect_left(contacts, (end, "", end))]
        visible = sorted((entry for entry in found if entry[2] <= now), key=lambda entry: entry[1][::-1])
        question = f"{instance_id}/{start}/{end}/"
        token = request.get("NextToken", f"{question}0")
        assert token.startswith(question), "a token of another search"
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


class FakeQueue:
    """The queue's calls, by the clock."""

    def __init__(self, clock: Callable[[], datetime], before_call: Callable[[str], None]) -> None:
        self._clock = clock
        self._before_call = before_call
        self.messages: list[tuple[datetime, int, dict[str, Any]]] = []
        self.waiting = 0
        self.refuses_from: int | None = None
        """From which message of a batch on it refuses."""
        self.count = 0

    def get_queue_attributes(self, **request: Any) -> dict[str, Any]:
        self._before_call("GetQueueAttributes")
        assert request["AttributeNames"] == ["ApproximateNumberOfMessages"]
        return {"Attributes": {"ApproximateNumberOfMessages": str(self.waiting)}}

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        self._before_call("SendMessageBatch")
        entries = request["Entries"]
        assert 1 <= len(entries) <= 10
        assert len({entry["Id"] for entry in entries}) == len(entries)
        taken = entries if self.refuses_from is None else entries[: self.refuses_from]
        for entry in taken:
            assert 0 <= entry["DelaySeconds"] <= 900
            self.count += 1
            visible_at = self._clock() + timedelta(seconds=entry["DelaySeconds"])
            insort(self.messages, (visible_at, self.count, json.loads(entry["MessageBody"])), key=lambda m: m[:2])
        failed = [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in entries[len(taken) :]]
        return {"Successful": [{"Id": entry["Id"]} for entry in taken], "Failed": failed}


class FakeReferences:
    """`ListContactReferences` of contacts that have no references; `failures` has the codes of those that fail."""

    def __init__(self) -> None:
        self.meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_: None))
        self.calls: list[str] = []
        self.failures: dict[str, str] = {}

    def list_contact_references(self, **request: Any) -> dict[str, Any]:
        assert 1 <= len(request["ReferenceTypes"]) <= 6
        self.calls.append(request["ContactId"])
        if code := self.failures.get(request["ContactId"]):
            raise refusal(code, "ListContactReferences")
        return {"ReferenceSummaryList": [], "Body": b'{"ReferenceSummaryList": []}'}


class World:
    """Contacts, their capture and what reconciles them; only what takes time lets it pass."""

    def __init__(
        self,
        *,
        now: datetime = NOON,
        minutes: int = 15,
        retention: timedelta | None = None,
        type_lists: TypeLists = ALL_LISTS,
        instances: Sequence[Instance] = (INSTANCE,),
        share: float = 0.5,
        dynamodb: Any = None,
    ) -> None:
        self.now = now
        self.minutes = minutes
        self.retention = retention
        self.instances = list(instances)
        self.type_lists = type_lists
        self.share = share
        self.runs = 0
        self.gauges: dict[str, Gauges] = {}
        self.told: list[tuple[str, Any]] = []
        self.calls_left: int | None = None
        """After so many calls of AWS's the function is killed; None for never."""
        self.killed_after: tuple[str, str] | None = None
        """Between which two operations, one after the other, it is killed."""
        self.operations: list[str] = []
        self.table = WorklistDynamoDB(self.clock, self.before_call)
        self.dynamodb: Any = dynamodb or self.table
        self.searches = FakeSearch(self.clock, self.before_call)
        self.queue = FakeQueue(self.clock, self.before_call)
        self.references = FakeReferences()
        self.build()

    def build(self, report: ReconcileReport | None = None) -> None:
        """Be a new execution environment, with the same services."""
        self.ledger = Ledger(self.dynamodb, "ledger", retention=self.retention, clock=self.clock)
        self.worklist = Worklist(self.dynamodb, "ledger", retention=self.retention)
        self.requests = RequestQueue(cast("Any", self.queue), "queue")
        self.bucket = TokenBucket(0.25, clock=self.seconds, sleep=self.sleep)
        self.search = ContactSearch(cast("Any", self.searches), bucket=self.bucket)
        self.report = report or Report(self)
        self.feeder = Feeder(
            queue=self.requests,
            worklist=self.worklist,
            type_lists=self.type_lists,
            requests_per_second=8,
            share=self.share,
            clock=self.clock,
        )
        self.hours = Hours(
            search=self.search,
            ledger=self.ledger,
            worklist=self.worklist,
            feeder=self.feeder,
            report=self.report,
            retention=self.retention,
            clock=self.clock,
        )
        self.rechecks = Rechecks(
            ledger=self.ledger, worklist=self.worklist, feeder=self.feeder, report=self.report, clock=self.clock
        )
        self.reconciler = Reconciler(
            hours=self.hours,
            rechecks=self.rechecks,
            worklist=self.worklist,
            feeder=self.feeder,
            report=self.report,
            seconds_per_step=28,
            clock=self.clock,
        )
        lake: Any = type("Client", (), {"put_object": lambda *_, **__: {}})()
        self.capturer = Capturer(
            reader=ReferenceReader(
                cast("Any", self.references),
                type_lists=self.type_lists,
                bucket=TokenBucket(1000, clock=lambda: 0, sleep=lambda _: None),
                on_refused_type=lambda *_: None,
            ),
            ledger=self.ledger,
            lake=Lake(lake, "lake"),
            on_leftover=lambda _: None,
            retention=self.retention,
            clock=self.clock,
        )

    def clock(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def before_call(self, operation: str) -> None:
        if self.operations and self.killed_after == (self.operations[-1], operation):
            self.calls_left = 0
        self.operations.append(operation)
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                self.calls_left = 0
                raise KilledError

    def run(self, *, seconds: float | None = None) -> bool:
        """Make a run, and no more than it."""
        self.runs += 1
        start, limit = self.now, seconds or ENVIRONMENT_SECONDS[self.minutes]
        return self.reconciler.run(
            self.instances,
            holder=f"run-{self.runs}",
            time_left=lambda: limit - (self.now - start).total_seconds(),
        )

    def ask_for_rechecks(self, instance: Instance = INSTANCE) -> None:
        """Ask for what is due to be rechecked, as a run that does nothing else and takes no time."""
        lease = self.worklist.take_lease("rechecks", now=self.now, until=self.now + 15 * MINUTE)
        assert lease is not None
        self.feeder.begin(lease)
        deque(self.rechecks.ask_for_due(instance), maxlen=0)
        self.feeder.end()

    def run_for(self, period: timedelta, *, until: Callable[[], bool] = lambda: False) -> None:
        """Make runs, on their schedule, and capture what they ask for when it is due."""
        end = self.now + period
        while self.now < end and not until():
            start = self.now
            self.run()
            assert (self.now - start).total_seconds() <= 60 * self.minutes, "a run must end before the next one"
            self.deliver(start + self.minutes * MINUTE)

    def deliver(self, until: datetime) -> None:
        """Capture what is on the queue, each message when it can be seen, and let time pass until then."""
        messages = self.queue.messages
        while messages and messages[0][0] <= until:
            self.now = max(self.now, messages[0][0])
            batch = [messages.pop(0) for _ in range(min(25, len(messages))) if messages[0][0] <= self.now]
            self.capture([_read(event, self.now) for _, _, event in batch])
        self.now = max(self.now, until)

    def capture(self, reports: Sequence[ContactReport]) -> list[Result | CaptureError]:
        results = list(self.capturer.capture(reports, time_left=lambda: 900).values())
        assert not [result for result in results if isinstance(result, CaptureError) and "unexpected" in result.reason]
        return results

    def have(self, contact_id: str, at: datetime, instance: Instance = INSTANCE, **of: Any) -> None:
        """Let a contact have completed."""
        self.searches.have(instance, contact_id, at, **of)

    def complete(self, contact_id: str, at: datetime, instance: Instance = INSTANCE, *, times: int = 1) -> None:
        """Let a contact have completed, and its event have come so many times."""
        self.have(contact_id, at, instance)
        contact = Contact(
            key=ContactKey(instance.instance_id, contact_id),
            initial_contact_id=contact_id,
            channel="VOICE",
            completed_at=at,
            completion_seen=True,
        )
        for _ in range(times):
            self.capture([ContactReport(contact=contact, event_id=contact_id, event_time=at)])

    def mark(self, start: datetime, end: datetime) -> int:
        """Backfill a period of all instances."""
        event = {"from": start.isoformat(), "to": end.isoformat()}
        return self.hours.mark(parse_backfill(event, instances=self.instances, now=self.now, retention=self.retention))

    def have_captured(self, contact_id: str, at: datetime, instance: Instance = INSTANCE, **of: Any) -> None:
        """Let a contact have completed, and have been captured because of its event a moment later."""
        self.have(contact_id, at, instance)
        self.put_item(contact_id, at, instance, **of)

    def put_item(self, contact_id: str, at: datetime, instance: Instance = INSTANCE, **of: Any) -> ContactItem:
        """Let the ledger have a contact's item."""
        moment = at + timedelta(seconds=5)
        contact = Contact(
            key=ContactKey(instance.instance_id, contact_id),
            initial_contact_id=of.pop("initial_contact_id", contact_id),
            channel="VOICE",
            initiation_method="INBOUND",
            completed_at=at,
            completion_seen=of.pop("completion_seen", True),
        )
        item = ContactItem(
            contact=contact,
            capture_id="1",
            captured_at=moment,
            reference_count=0,
            event_id="event",
            read_at=of.pop("read_at", moment),
            checked_at=moment,
            version=1,
            **of,
        )
        assert self.ledger.commit(item, over=None)
        return item

    def item(self, contact_id: str, instance: Instance = INSTANCE) -> ContactItem | None:
        """What the ledger has of a contact."""
        found = self.ledger.find_items([ContactKey(instance.instance_id, contact_id)])
        [item] = found.values() or [None]
        assert not isinstance(item, CaptureError)
        return item

    def hour(self, start: datetime, instance: Instance = INSTANCE) -> Hour:
        """What is known of an hour."""
        [hour] = self.worklist.find_hours(instance, [start])
        assert isinstance(hour, Hour)
        return hour

    def all_hours(self, instance: Instance = INSTANCE) -> dict[datetime, Hour]:
        """All hours that were opened or marked."""
        pk = f"HOURS#{instance.instance_id}"
        names = [key[1] for key in self.table.items if key[0] == pk and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d", key[1])]
        starts = sorted(datetime.fromisoformat(f"{name}:00:00+00:00") for name in names)
        return {start: self.hour(start, instance) for start in starts}

    def asked(self) -> list[str]:
        """The contacts of the requests that are on the queue."""
        return [event["detail"]["contactId"] for _, _, event in self.queue.messages]


class Report(ReconcileReport):
    """A report that is kept, and not written."""

    def __init__(self, world: World) -> None:
        super().__init__(Logger(service="test", level="CRITICAL"), Metrics(namespace="test", service="test"))
        self._world = world

    def hour(self, hour: Hour) -> None:
        super().hour(hour)
        if hour.closed_at is not None:
            self._world.told.append(("given up" if hour.is_given_up else "closed", hour.start))

    def damaged(self, error: CaptureError) -> None:
        self._world.told.append(("damaged", error.reason))

    def recheck_given_up(self, key: ContactKey) -> None:
        self._world.told.append(("recheck given up", key.contact_id))

    def failed(self, instance: Instance, error: CaptureError) -> None:
        self._world.told.append(("failed", (instance.instance_id, error.error)))

    def gauges(self, instance: Instance, gauges: Gauges) -> None:
        self._world.gauges[instance.instance_id] = gauges


def _read(event: dict[str, Any], now: datetime) -> ContactReport:
    report = parse_event(json.loads(json.dumps(event)), scope=SCOPE, completion_types=frozenset({"COMPLETED"}), now=now)
    assert isinstance(report, ContactReport)
    return report
