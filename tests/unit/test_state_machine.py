"""Nothing lost: contacts, events, duplicates, faults and deaths in any order, and what is true in the end.

The capture path is the real one down to the SDK's clients; Connect, DynamoDB, S3 and SQS answer in memory. Each
delivery runs in a thread of its own that stops before every AWS call, so that several of them can be interleaved
in any way, and any call can fail before or after it took effect, or be the last thing that its process does.
"""

import gzip
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contact_references.batch import Capturer, Result
from contact_references.capture import Capture
from contact_references.connect import ReferenceReader
from contact_references.contact import Contact, ContactKey, Scope
from contact_references.errors import CaptureError, ConfigurationError, RetriableError
from contact_references.intake import Intake
from contact_references.lake import Lake
from contact_references.ledger import ContendedError, Ledger
from contact_references.pacing import TokenBucket
from contact_references.queue import CaptureQueue, Message
from contact_references.reference import ENTERED_TYPES, normalize_references
from contact_references.report import Report
from contact_references.settling import SETTLED, Settling
from contact_references.timestamps import format_time
from tests.unit.conftest import (
    ALL_TYPES,
    INSTANCE_ID,
    NOON,
    Clock,
    FakeConnect,
    FakeDynamoDB,
    Member,
    System,
    respond,
    snapshot,
)

SCOPE = Scope("us-east-1", "111122223333")
INSTANCE_ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"

# Three that start a chain and two legs, one of which Connect never gets to know. A contact's own reports agree
# about it; one without a real disconnect timestamp is dated by its one completion event.
CONTACTS = {
    "voice": {"channel": "VOICE", "initiationMethod": "INBOUND", "disconnectTimestamp": "2026-03-01T11:58:00.500Z"},
    "chat": {"channel": "Chat", "initiationMethod": "API"},
    "task": {"channel": "TASK", "disconnectTimestamp": "1970-01-01T00:00:00.001Z"},
    "leg": {
        "initialContactId": "voice",
        "channel": "VOICE",
        "initiationMethod": "TRANSFER",
        "disconnectTimestamp": "2026-03-01T11:59:00.500Z",
    },
    "unknown leg": {"initialContactId": "chat", "channel": "CHAT", "initiationMethod": "TRANSFER"},
}
VISIBLE = ("voice", "chat", "task", "leg")

DIES_BEFORE, DIES_AFTER, ANSWER_LOST = "dies before the call", "dies after it", "its answer is lost"
FAULTS = (DIES_BEFORE, DIES_AFTER, ANSWER_LOST, "throttled", "unavailable", "reset")

Said = Counter[tuple[object, ...]]
"""References as a person would compare them."""


def _said(kind: object, fields: Iterable[Any]) -> tuple[object, ...]:
    name, value, status = fields
    return (kind, name, value and value.partition("?X-Amz")[0], status)


def said_by_connect(members: Iterable[Member]) -> Said:
    """Read members without the code under test."""
    types = {"Url": "URL", "String": "STRING", "Attachment": "ATTACHMENT"}
    fields = ("Name", "Value", "Status")
    return Counter(_said(types.get(tag, "UNKNOWN"), map(of.get, fields)) for m in members for tag, of in m.items())


def said_by_rows(rows: Iterable[dict[str, Any]]) -> Said:
    fields = ("reference_name", "reference_value", "status")
    return Counter(_said(row["reference_type"], map(row.get, fields)) for row in rows)


def _looked_at_again(held: Said, said: Said) -> Said:
    """Say what a contact has after a look: attachments as they are now; of a type nobody can ask for, all that was."""
    kept = Counter({fields: count for fields, count in held.items() if fields[0] != "ATTACHMENT"})
    unknown = Counter({fields: count for fields, count in said.items() if fields[0] == "UNKNOWN"})
    return (kept | unknown) + (said - unknown)


class Letter:
    """A message on the queue."""

    def __init__(self, message_id: str, body: str) -> None:
        self.message_id = message_id
        self.body = body
        self.receive_count = 0

    def __repr__(self) -> str:
        return f"<{self.message_id}: {json.loads(self.body)['id']}, received {self.receive_count} times>"


@dataclass
class Reading:
    """What Connect answered when it was asked for a contact's references."""

    contact_id: str
    began: datetime
    said: Said


class Process:
    """One invocation, in a thread that stops before each AWS call until it is told to take the next step."""

    current = threading.local()

    def __init__(self, work: Callable[[], object], faults: dict[int, str]) -> None:
        self.faults = faults
        self.calls = 0
        self.entered: dict[str, Reading] = {}
        self.error: BaseException | None = None
        self.is_done = False
        self._work = work
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def step(self) -> None:
        """Let it run up to its next AWS call or its end."""
        self._turn.release()
        self._back.acquire()
        if self.is_done:
            self._thread.join()

    def before_call(self) -> str | None:
        """Wait, in the process's own thread, for its turn; return how the call goes wrong."""
        self._back.release()
        self._turn.acquire()
        self.calls += 1
        return self.faults.get(self.calls)

    def _run(self) -> None:
        self._turn.acquire()
        Process.current.value = self
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - death is one of the things that happen to a process
            self.error = error
        self.is_done = True
        self._back.release()


class WatchingReport(Report):
    """Notes failures that no fault explains."""

    def __init__(self, problems: list[str]) -> None:
        logger = Logger(service="world", level="CRITICAL", stream=io.StringIO())
        super().__init__(logger, cast("Any", SimpleNamespace(add_metric=lambda *_: None)))
        self._problems = problems

    def contact(self, key: ContactKey, result: Result | CaptureError) -> None:
        if isinstance(result, ConfigurationError) or "unexpected" in str(result):
            self._problems.append(f"{key.contact_id}: {result}")
        super().contact(key, result)


@cache
def _wires() -> SimpleNamespace:
    """Make the clients once: it takes longer than all that an example does. They ask the world of the moment."""
    connect = FakeConnect()
    config = Config(retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")
    session = boto3.session.Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - no secret
        region_name="us-east-1",
    )
    create: Any = session.client
    clients = {name: create(name, config=config) for name in ("dynamodb", "s3", "sqs")}
    wires = SimpleNamespace(connect=connect, world=None, **clients)
    for name, client in clients.items():
        client.meta.events.register(
            f"before-send.{name}", lambda request, name=name, **_: wires.world.serve(name, request)
        )
    bucket = TokenBucket(1000, clock=lambda: 0, sleep=lambda _: None)
    wires.reader = ReferenceReader(connect.client, reference_types=ALL_TYPES, bucket=bucket)
    return wires


class World:
    """The capture path, what stands around it, and, if it watches, what was true."""

    def __init__(self, *, watches: bool = True) -> None:
        wires = _wires()
        self._watches = watches
        wires.world = self
        self.connect: FakeConnect = wires.connect
        self.connect.contacts, self.connect.calls = {}, []
        self.connect.before_answer, self.connect.rewrite = self._before_connect_answers, self._after_connect_answered
        self.dynamodb = FakeDynamoDB()
        self.lake: list[dict[str, Any]] = []
        self.queue: list[Letter] = []
        self.dead_letters: list[str] = []
        self.clock = Clock()
        self.problems: list[str] = []
        self.readings: list[Reading] = []
        self.seen: dict[str, tuple[str, str, str]] = {}
        self.ledger = Ledger(wires.dynamodb, "ledger")
        self._capturer = Capturer(
            reader=wires.reader, ledger=self.ledger, lake=Lake(wires.s3, "lake"), clock=self.clock
        )
        self._intake = Intake(
            capturer=self._capturer,
            queue=CaptureQueue(wires.sqs, queue_url="https://sqs/q", dead_letter_queue_url="https://sqs/d"),
            report=WatchingReport(self.problems),
            completion_types=frozenset({"COMPLETED"}),
        )
        self._letters = 0

    # What AWS does.

    def serve(self, service: str, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a call, or do to it what the process's faults say."""
        fault = self._fault_of_call()
        if fault == "unavailable" or (fault == "throttled" and service == "s3"):
            return respond(request, 503, b"")
        if fault == "throttled":
            return respond(request, 400, {"__type": "com.amazonaws#ThrottlingException"})
        answer = {"dynamodb": self.dynamodb.answer, "s3": self._put_object, "sqs": self._send}[service](request)
        if self._watches and service == "dynamodb":
            self._look()
        self._fail_after(fault)
        return answer

    def _fault_of_call(self) -> str | None:
        process: Process | None = getattr(Process.current, "value", None)
        fault = process.before_call() if process else None
        if fault == DIES_BEFORE:
            raise KeyboardInterrupt
        if fault == "reset":
            raise ConnectionClosedError(endpoint_url="https://aws")
        return fault

    def _fail_after(self, fault: str | None) -> None:
        if fault == DIES_AFTER:
            raise KeyboardInterrupt
        if fault == ANSWER_LOST:
            raise ConnectionClosedError(endpoint_url="https://aws")

    def _before_connect_answers(self, contact_id: str) -> None:
        _, types = self.connect.calls[-1]
        fault = self._fault_of_call()
        if fault in ("throttled", "unavailable"):
            self.connect.failures = [(429, "ThrottlingException") if fault == "throttled" else (503, "")]
            return
        if self._watches:
            self._note_reading(contact_id, is_entered="URL" in types)
        if fault and contact_id in self.connect.contacts:
            self.connect.rewrite = lambda body: self._after_connect_answered(body, fault)

    def _after_connect_answered(self, body: bytes, fault: str | None = None) -> bytes:
        self.connect.rewrite = self._after_connect_answered
        self._fail_after(fault)
        return body

    def _note_reading(self, contact_id: str, *, is_entered: bool) -> None:
        process: Process = Process.current.value
        members = self.connect.contacts.get(contact_id)
        if members is None:
            if "initialContactId" in CONTACTS[contact_id]:  # without references of its own, if its chain is known
                self.readings.append(Reading(contact_id, self.clock.now, Counter()))
            return
        said = said_by_connect(m for m in members if (next(iter(m)) in ENTERED_TYPES) == is_entered)
        if is_entered:
            process.entered[contact_id] = Reading(contact_id, self.clock.now, said)
        elif contact_id in process.entered:
            entered = process.entered.pop(contact_id)
            self.readings.append(Reading(contact_id, entered.began, entered.said + said))
        else:
            # A look at what may have changed: the rest is as some reading before had it.
            for reading in [earlier for earlier in self.readings if earlier.contact_id == contact_id]:
                self.readings.append(Reading(contact_id, self.clock.now, _looked_at_again(reading.said, said)))

    def _put_object(self, request: AWSPreparedRequest) -> AWSResponse:
        body = cast("Any", request.body)
        raw = body if isinstance(body, bytes) else body.read()
        self.lake += map(json.loads, gzip.decompress(raw).splitlines())
        return respond(request, 200, b"")

    def _send(self, request: AWSPreparedRequest) -> AWSResponse:
        message = json.loads(cast("bytes", request.body))
        if "MessageBody" in message:
            self.dead_letters.append(message["MessageBody"])
        return respond(request, 200, {"MessageId": "m", "MD5OfMessageBody": "m"})

    def _look(self) -> None:
        """See what a reader would see between any two calls. Raised here, it would be taken for a fault."""
        for contact_id in CONTACTS:
            item = self.dynamodb.items.get((f"{INSTANCE_ID}#{contact_id}", "CONTACT"))
            if item is None:
                continue
            state = (item["captured_at"]["S"], item["checked_at"]["S"], item["capture_state"]["S"])
            if state == self.seen.get(contact_id):
                continue
            if item["checked_at"]["S"] < self.seen.get(contact_id, ("", "", ""))[1]:
                self.problems.append(f"{contact_id}: an older reading took a newer one's place")
            self.seen[contact_id] = state
            rows = [row for row in self.rows(contact_id) if row["captured_at"] == item["captured_at"]["S"]]
            is_whole = len(rows) == int(item["reference_count"]["N"]) and self.was_true(contact_id, rows)
            if item["capture_state"]["S"] == "complete" and not is_whole:
                self.problems.append(f"{contact_id}: a reader sees what never was")

    # What one can look at.

    def items(self, contact_id: str) -> list[dict[str, Any]]:
        pk = f"{INSTANCE_ID}#{contact_id}"
        found = [self.dynamodb.items[key] for key in sorted(self.dynamodb.items) if key[0] == pk]
        return [{name: next(iter(value.values())) for name, value in item.items()} for item in found]

    def rows(self, contact_id: str) -> list[dict[str, Any]]:
        return [item for item in self.items(contact_id) if item["sk"] != "CONTACT"]

    def was_true(self, contact_id: str, rows: Iterable[dict[str, Any]], since: datetime | None = None) -> bool:
        """Whether one of the readings, begun at that time or later, gave these rows."""
        said = said_by_rows(rows)
        return any(
            reading.said == said and (since is None or reading.began >= since)
            for reading in self.readings
            if reading.contact_id == contact_id
        )

    # What happens.

    def post(self, body: str) -> None:
        self._letters += 1
        self.queue.append(Letter(f"message {self._letters}", body))

    def redrive(self) -> None:
        for body in self.dead_letters:
            self.post(body)
        self.dead_letters.clear()

    def deliver(self, letters: Sequence[Letter], looks_at_deadline: int | None = None) -> None:
        """Give messages to the function and take off the queue what it lets go, as Lambda does."""
        looks = iter(range(1000 if looks_at_deadline is None else looks_at_deadline))
        for letter in letters:
            letter.receive_count += 1
        messages = [
            Message(
                message_id=letter.message_id,
                receipt_handle="handle",
                body=letter.body,
                receive_count=letter.receive_count,
                origin="arn:aws:sqs:us-east-1:111122223333:queue",
            )
            for letter in letters
        ]
        failed = self._intake.take_messages(
            messages, scope=SCOPE, time_left=lambda: 900 if next(looks, None) is not None else 1
        )
        self.queue = [letter for letter in self.queue if letter not in letters or letter.message_id in failed]

    def read(self, contact_id: str) -> None:
        """Be a reader, who may be overtaken but never misled."""
        try:
            capture = self.ledger.find_capture(ContactKey(INSTANCE_ID, contact_id))
        except RetriableError as error:
            if Process.current.value.faults or error.error == "Contended":
                return
            raise
        if capture and not self.was_true(contact_id, capture.reference_records()):
            self.problems.append(f"{contact_id}: a reader was given what never was")

    def run(self, processes: Sequence[Process], schedule: Iterable[int]) -> None:
        """Run processes at once, a call of one after a call of another, as the schedule says."""
        for choice in schedule:
            live = [process for process in processes if not process.is_done]
            if live:
                live[choice % len(live)].step()
        for process in processes:
            while not process.is_done:
                process.step()
            if process.error is not None and not isinstance(process.error, KeyboardInterrupt):
                raise process.error


def url(name: str, value: str = "https://crm.example/") -> Member:
    return {"Url": {"Name": name, "Value": value}}


def file(status: str, signature: str) -> Member:
    value = f"https://b.example/k?X-Amz-Signature={signature}"
    return {"Attachment": {"Name": "f", "Value": value, "Status": status, "Arn": "arn:aws:connect:::file/1"}}


few_members = st.lists(
    st.sampled_from(
        [
            url("CRM"),
            url("CRM", "https://other.example/"),
            {"String": {"Name": "s", "Value": "v"}},
            file("PROCESSING", "1"),
            file("APPROVED", "1"),
            file("APPROVED", "2"),
            {"Mood": {"Name": "tone", "Score": 3}},
        ]
    ),
    max_size=3,
)
# More than one transaction takes, and more than two take.
many_members = st.sampled_from([99, 100, 130, 210]).map(lambda count: [url(str(number)) for number in range(count)])
held_members = st.one_of(*[few_members] * 9, many_members)
faults = st.dictionaries(st.integers(1, 12), st.sampled_from(FAULTS), max_size=2)


class NothingLost(RuleBasedStateMachine):
    """Any history; at its end the faults stop, what is outstanding is delivered, and the books must balance."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.reports: dict[str, list[tuple[str, datetime]]] = {}
        self.events: dict[str, dict[str, Any]] = {}

    @rule(contact_id=st.sampled_from(VISIBLE), members=held_members)
    def connect_holds(self, contact_id: str, members: list[Member]) -> None:
        self.world.connect.contacts[contact_id] = members

    @rule(contact_id=st.sampled_from(sorted(CONTACTS)))
    def completes(self, contact_id: str) -> None:
        """Report a contact's completion: by one event, however often that is delivered."""
        if contact_id not in self.events:
            now = self.world.clock()
            detail = {"contactId": contact_id, "instanceArn": INSTANCE_ARN, "eventType": "COMPLETED"}
            self.events[contact_id] = {
                "source": "aws.connect",
                "detail-type": "Amazon Connect Contact Event",
                "id": f"event of {contact_id}",
                "time": format_time(now.replace(microsecond=0)),
                "detail": detail | CONTACTS[contact_id],
            }
            self._note_report(contact_id, "event", now)
        self.world.post(json.dumps(self.events[contact_id]))

    @precondition(lambda self: self._held())
    @rule(data=st.data())
    def is_to_be_looked_at_again(self, data: st.DataObject) -> None:
        self.is_requested(data.draw(st.sampled_from(self._held())), "unsettled")

    def _held(self) -> list[str]:
        """Contacts that Connect knows and the ledger has."""
        items = self.world.dynamodb.items
        return [each for each in self.world.connect.contacts if (f"{INSTANCE_ID}#{each}", "CONTACT") in items]

    @rule(contact_id=st.sampled_from(sorted(CONTACTS)))
    def is_requested(self, contact_id: str, reason: str = "missing") -> None:
        now = self.world.clock()
        known = CONTACTS[contact_id] if reason == "missing" else {}
        detail = {"contactId": contact_id, "instanceArn": INSTANCE_ARN, "reason": reason}
        request = {
            "source": "contact-references",
            "detail-type": "Contact Capture Request",
            "id": f"request {now}",
            "time": format_time(now.replace(microsecond=0)),
            "detail": detail | known,
        }
        self._note_report(contact_id, reason, now)
        self.world.post(json.dumps(request))

    def _note_report(self, contact_id: str, kind: str, now: datetime) -> None:
        self.reports.setdefault(contact_id, []).append((kind, now))
        initial = CONTACTS[contact_id].get("initialContactId")
        if initial and kind != "unsettled":
            self.reports.setdefault(initial, []).append(("of a leg", now))

    @precondition(lambda self: self.world.queue)
    @rule(data=st.data(), faults=faults)
    def is_delivered(self, data: st.DataObject, faults: dict[int, str]) -> None:
        letters = data.draw(self._some_letters())
        deadline = data.draw(st.one_of(*[st.none()] * 4, st.integers(0, 4)))
        self.world.run([Process(partial(self.world.deliver, letters, deadline), faults)], [])

    @precondition(lambda self: self.world.queue)
    @rule(data=st.data(), schedule=st.lists(st.integers(0, 5), min_size=4, max_size=30))
    def happens_at_once(self, data: st.DataObject, schedule: list[int]) -> None:
        """Run two deliveries, a reader and perhaps a change of what Connect holds.

        SQS may show a message to two at once. That one of them fails at the same time is left out: the other's
        success takes the message off the queue, and what the first left in the lake stays its newest capture.
        """
        contact_id = data.draw(st.sampled_from(VISIBLE))
        batches = [data.draw(self._some_letters()) for _ in range(2)]
        are_apart = not any(letter in batches[0] for letter in batches[1])
        processes = [
            Process(partial(self.world.deliver, batch), data.draw(faults) if are_apart else {}) for batch in batches
        ]
        processes.append(Process(partial(self.world.read, contact_id), {}))
        members = data.draw(st.none() | few_members)
        if members is not None:
            processes.append(Process(partial(self.connect_holds_now, contact_id, members), {}))
        self.world.run(processes, schedule)

    def connect_holds_now(self, contact_id: str, members: list[Member]) -> None:
        self.world.connect.contacts[contact_id] = members

    def _some_letters(self) -> st.SearchStrategy[list[Letter]]:
        return st.lists(st.sampled_from(self.world.queue), min_size=1, max_size=4, unique_by=id)

    @rule(seconds=st.sampled_from([0.4, 1, 60, 4000]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds=seconds)

    @rule()
    def is_redriven(self) -> None:
        self.world.redrive()

    @invariant()
    def nobody_is_misled(self) -> None:
        assert not self.world.problems

    def teardown(self) -> None:
        self._settle()
        for contact_id, reports in self.reports.items():
            self._check(contact_id)
            assert self.world.was_true(contact_id, self.world.rows(contact_id), since=max(at for _, at in reports))
        self.world.clock.advance(minutes=5)
        for contact_id in list(self.reports):
            self.is_requested(contact_id, "missing")
        self._settle()
        for contact_id in self.reports:
            self._check(contact_id)
            held = self.world.connect.contacts.get(contact_id, [])
            assert said_by_rows(self.world.rows(contact_id)) == said_by_connect(held)

    def _settle(self) -> None:
        for contact_id in ("voice", "chat", "task"):
            self.world.connect.contacts.setdefault(contact_id, [])
        for _ in range(3):
            self.world.redrive()
            self.world.clock.advance(minutes=1)
            self.world.run([Process(partial(self.world.deliver, list(self.world.queue)), {})], [])
        assert not self.world.problems
        assert (self.world.queue, self.world.dead_letters) == ([], [])

    def _check(self, contact_id: str) -> None:
        """Compare a contact's items with what was reported of it, and the lake's newest capture with its items."""
        contact, *rows = self.world.items(contact_id)
        assert contact.items() >= self._expected(contact_id).items()
        assert contact.keys() & {"channel", "completed_at"} == self._expected(contact_id).keys() & {
            "channel",
            "completed_at",
        }
        assert {row["captured_at"] for row in rows} <= {contact["captured_at"]}
        assert int(contact["reference_count"]) == len(rows)
        lake_contact, lake_rows = snapshot(self.world.lake)[contact_id]
        assert {name: str(value) for name, value in lake_contact.items()}.items() <= {
            name: str(value) for name, value in contact.items()
        }.items()
        ids = ("reference_id", "reference_value")
        assert sorted([str(row.get(name)) for name in ids] for row in lake_rows) == sorted(
            [str(row.get(name)) for name in ids] for row in rows
        )

    def _expected(self, contact_id: str) -> dict[str, object]:
        """Tell what a contact's own reports say, whatever their order."""
        kinds = {kind for kind, _ in self.reports[contact_id]}
        facts = CONTACTS[contact_id]
        is_own = not kinds.isdisjoint({"event", "missing"})
        expected: dict[str, object] = {"capture_state": "complete", "completion_seen": is_own}
        if is_own:
            expected |= {
                "channel": facts["channel"].upper(),
                "initial_contact_id": facts.get("initialContactId", contact_id),
            }
            ended = facts.get("disconnectTimestamp", "1970")
            if not ended.startswith("1970"):
                expected["completed_at"] = ended
            elif "event" in kinds:
                expected["completed_at"] = self.events[contact_id]["time"]
        return expected


NothingLost.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
test_whatever_happens_nothing_is_lost_doubled_or_half_visible = NothingLost.TestCase


def request(number: int, world: World) -> str:
    """Make a request to capture the contact `voice`."""
    detail = {"contactId": "voice", "instanceArn": INSTANCE_ARN, "reason": "missing"}
    kind = {"source": "contact-references", "detail-type": "Contact Capture Request", "id": f"request {number}"}
    return json.dumps(kind | {"time": format_time(world.clock()), "detail": detail})


def run_delivery(world: World, faults: dict[int, str]) -> Process:
    return Process(partial(world.deliver, list(world.queue)), faults)


def changed_since_its_capture() -> World:
    """Return a world where one contact was captured, has changed since, and is reported again."""
    world = World()
    world.connect.contacts["voice"] = [url("first")]
    world.post(request(1, world))
    world.run([run_delivery(world, {})], [])
    world.clock.advance(minutes=5)
    world.connect.contacts["voice"] = [url("second")]
    world.post(request(2, world))
    return world


def assert_lake_is_ledger(world: World) -> None:
    contact, *rows = world.items("voice")
    lake_contact, lake_rows = snapshot(world.lake)["voice"]
    assert lake_contact["captured_at"] == contact["captured_at"]
    assert said_by_rows(lake_rows) == said_by_rows(rows)


@pytest.mark.parametrize("fault", [DIES_AFTER, ANSWER_LOST])
def test_what_a_failed_attempt_left_in_the_lake_does_not_stay_its_newest_capture(fault: str) -> None:
    world = changed_since_its_capture()
    calls_before_the_commit = 5  # entries, two of Connect, rows, lake
    world.run([run_delivery(world, {calls_before_the_commit: fault})], [])
    assert snapshot(world.lake)["voice"][1][0]["reference_name"] == "second"
    world.clock.advance(minutes=5)
    world.connect.contacts["voice"] = [url("first")]
    world.run([run_delivery(world, {})], [])
    assert (world.queue, said_by_rows(world.rows("voice"))) == ([], said_by_connect([url("first")]))
    assert_lake_is_ledger(world)


def test_a_capture_overtaken_by_a_reading_that_says_the_same_leaves_no_newer_one_in_the_lake() -> None:
    world = changed_since_its_capture()
    slower = run_delivery(world, {})
    for _ in range(6):  # up to its commit
        slower.step()
    world.connect.contacts["voice"] = [url("first")]
    world.queue.clear()
    world.post(request(3, world))
    world.run([run_delivery(world, {}), slower], [0] * 20)
    assert said_by_rows(world.rows("voice")) == said_by_connect([url("first")])
    assert_lake_is_ledger(world)


def test_the_stand_in_for_dynamodb_does_as_moto_does(system: System) -> None:
    fake = FakeDynamoDB()
    wires = _wires()
    wires.world = SimpleNamespace(serve=lambda _, request: fake.answer(request))
    ledgers = (system.ledger, Ledger(wires.dynamodb, "ledger"))
    key = ContactKey(INSTANCE_ID, "a")
    settlings = [SETTLED, Settling(NOON + timedelta(hours=1)), Settling(is_given_up=True), Settling(NOON), SETTLED]
    for minute, count in enumerate((1, 2, 0, 100, 1)):
        references = normalize_references([url(str(n), f"https://crm.example/{minute}") for n in range(count)])
        at = NOON + timedelta(minutes=minute)
        capture = Capture(contact=Contact.unseen(key), captured_at=at, references=references, event_id="e")
        for ledger in ledgers:
            entry = ledger.find_entries([key]).get(key)
            holding = ledger.find_holding(entry) if entry else None
            ledger.commit(capture, over=holding, settling=settlings[minute])
            with pytest.raises(ContendedError):
                ledger.commit(capture, over=holding)
            entry = ledger.find_entries([key])[key]
            assert entry.settling == settlings[minute]
            ledger.confirm(entry, at + timedelta(seconds=1), settling=settlings[minute - 1])
        items = [fake.items[key] for key in sorted(fake.items)]
        assert items == sorted(system.dynamodb.scan(TableName="ledger")["Items"], key=lambda item: item["sk"]["S"])
