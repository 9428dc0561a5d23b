"""Reconciling on a virtual clock, with AWS in memory: contacts by the ten thousand."""

import json
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from aws_lambda_powertools import Logger, Metrics

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
from local.in_memory.connect import Connect, ConnectSearch
from local.in_memory.dynamodb import DynamoDB
from local.in_memory.s3 import S3
from local.in_memory.service import RefusedError
from local.in_memory.sqs import SQS
from tests.unit.conftest import ALL_TYPES, NOON

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


def refusal(code: str, operation: str, status: int = 400) -> RefusedError:
    return RefusedError(code, operation, status)


@dataclass
class Readings:
    """Which contacts were asked for their references, and with which code those fail that do; none has any."""

    calls: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def note(self, contact_id: str) -> None:
        self.calls.append(contact_id)
        if code := self.failures.get(contact_id):
            raise refusal(code, "ListContactReferences")


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
        self.table = DynamoDB(clock=self.clock, keeps_calls=False)
        self.dynamodb: Any = dynamodb or self.table
        self.searches = ConnectSearch(clock=self.clock)
        self.queue = SQS(clock=self.clock)
        for service in (self.table, self.searches, self.queue):
            service.before_call = self.before_call
        self.references = Readings()
        self.connect = Connect(keeps_calls=False)
        self.connect.find = lambda _: []
        self.connect.before_answer = self.references.note
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
        lake: Any = S3(keeps_objects=False)
        self.capturer = Capturer(
            reader=ReferenceReader(
                cast("Any", self.connect),
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
        self.searches.have(instance.instance_id, contact_id, at, **of)

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
        assert item is None or isinstance(item, ContactItem)
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
