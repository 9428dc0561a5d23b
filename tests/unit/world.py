"""The capture path with all that stands around it, one AWS call after the other, and what must be true at each.

The path is the real one down to the SDK's clients; Connect, DynamoDB, S3 and SQS answer in memory. Each delivery
runs in a thread of its own that stops before every AWS call, so that several of them can be interleaved in any way,
and any call can fail before or after it took effect, or be the last thing that its process does.
"""

import gzip
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

from aws_lambda_powertools import Logger
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from contact_references.aws.capture_queue import CaptureQueue, Message
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.capture.capturer import Capturer
from contact_references.capture.intake import Intake
from contact_references.capture.report import Report
from contact_references.capture.targets import Result
from contact_references.model.contact import ContactKey, Scope
from contact_references.model.errors import CaptureError, ConfigurationError, PermanentError, RetriableError
from contact_references.model.reference import ENTERED_TYPES
from contact_references.model.timestamps import format_time
from local.in_memory.connect import Connect, Member
from local.in_memory.dynamodb import DynamoDB
from local.in_memory.expressions import Item
from local.in_memory.s3 import S3
from local.in_memory.service import RefusedError, respond, respond_refusal
from local.in_memory.sqs import SQS
from tests.unit.conftest import ALL_LISTS, INSTANCE_ID, Clock, make_client

SCOPE = Scope("us-east-1", "111122223333")
INSTANCE_ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"

# Two that start a chain, one of them without a real disconnect timestamp: its completion event dates it. And two
# legs, one of which Connect never gets to know. A contact's own reports agree about it.
CONTACTS: dict[str, dict[str, Any]] = {
    "voice": {"channel": "VOICE", "initiationMethod": "INBOUND", "disconnectTimestamp": "2026-03-01T11:58:00.500Z"},
    "task": {"channel": "Task", "initiationMethod": "API", "disconnectTimestamp": "1970-01-01T00:00:00.001Z"},
    "leg": {
        "initialContactId": "voice",
        "channel": "VOICE",
        "initiationMethod": "TRANSFER",
        "disconnectTimestamp": "2026-03-01T11:59:00.500Z",
    },
    "unknown leg": {"initialContactId": "voice", "channel": "VOICE", "initiationMethod": "TRANSFER"},
}
VISIBLE = ("voice", "task", "leg")

DIES_BEFORE, DIES_AFTER, ANSWER_LOST = "dies before the call", "dies after it", "its answer is lost"
RESET, THROTTLED, UNAVAILABLE, HALF_DONE = "reset", "throttled", "unavailable", "the batch is half done"
FAULTS = (DIES_BEFORE, DIES_AFTER, ANSWER_LOST, RESET, THROTTLED, UNAVAILABLE, HALF_DONE)

READ, FIND, QUERY, PUT_ROWS, COMMIT, UPDATE, APPEND = (
    "ListContactReferences",
    "BatchGetItem",
    "Query",
    "BatchWriteItem",
    "PutItem",
    "UpdateItem",
    "PutObject",
)
CALLS = (READ, FIND, QUERY, PUT_ROWS, COMMIT, UPDATE, APPEND, "SendMessage", "ChangeMessageVisibility")

Faults = Mapping[tuple[str, int], str]
"""How an operation's first, second, … call of a process goes wrong."""

# What a capture's rows say of the contact, the same as its CONTACT item.
_SHARED = ("initial_contact_id", "channel", "initiation_method", "completed_at", "capture_id", "captured_at")
# What never changes of a CONTACT item while its capture stays: it is in its rows, or in the lake.
_FIXED = (*_SHARED, "schema_version", "record_type", "reference_count", "event_id", "completion_seen", "expires_at")
_TYPES = {"Url": "URL", "String": "STRING", "Attachment": "ATTACHMENT"}

Said = Counter[tuple[object, ...]]
"""References as a person would compare them."""


def _said(kind: object, fields: Iterable[Any]) -> tuple[object, ...]:
    name, value, status = fields
    return (kind, name, value and value.partition("?X-Amz")[0], status)


def said_by_connect(members: Iterable[Member]) -> Said:
    """Read members without the code under test."""
    fields = ("Name", "Value", "Status")
    return Counter(_said(_TYPES.get(tag, "UNKNOWN"), map(of.get, fields)) for m in members for tag, of in m.items())


def said_by_rows(rows: Iterable[Mapping[str, Any]]) -> Said:
    fields = ("reference_name", "reference_value", "status")
    return Counter(_said(row["reference_type"], map(row.get, fields)) for row in rows)


def plain(item: Item) -> dict[str, Any]:
    return {name: next(iter(value.values())) for name, value in item.items()}


class Letter:
    """A message on the queue."""

    def __init__(self, message_id: str, body: str) -> None:
        self.message_id = message_id
        self.body = body
        self.receive_count = 0

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def __repr__(self) -> str:
        return f"<{self.message_id}: {self.event['id']}, received {self.receive_count} times>"


class Process:
    """One invocation, in a thread that stops before each AWS call until it is told to take the next step.

    `behind` is how far its clock is behind.
    """

    current = threading.local()

    def __init__(self, work: Callable[[], object], faults: Faults | None = None, *, behind: float = 0) -> None:
        self.faults = faults or {}
        self.behind = timedelta(seconds=behind)
        self.next_call: str | None = None
        self.calls: Counter[str] = Counter()
        self.error: BaseException | None = None
        self.is_done = False
        self.has_failed = False
        """Whether a fault met it, or its deadline: what it put may be left over."""
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

    def run_to(self, operation: str) -> "Process":
        """Let it run up to such a call, which it has not made then."""
        while self.next_call != operation:
            assert not self.is_done, f"there is no {operation} to come"
            self.step()
        return self

    def run_over(self, operation: str) -> "Process":
        """Let it run up to such a call, and make it."""
        self.run_to(operation).step()
        return self

    def finish(self) -> "Process":
        """Let it run to its end; raises what was neither foreseen nor the process's death."""
        while not self.is_done:
            self.step()
        if self.error is not None and not isinstance(self.error, KeyboardInterrupt):
            raise self.error
        return self

    def before_call(self, operation: str) -> str | None:
        """Wait, in the process's own thread, for its turn; return how the call goes wrong."""
        self.next_call = operation
        self._back.release()
        self._turn.acquire()
        self.calls[operation] += 1
        fault = self.faults.get((operation, self.calls[operation]))
        if fault == HALF_DONE and operation != PUT_ROWS:
            return None
        self.has_failed |= fault is not None
        return fault

    def _run(self) -> None:
        self._turn.acquire()
        Process.current.value = self
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - death is one of the things that happen to a process
            self.error = error
        self.is_done, self.next_call = True, None
        self._back.release()


def running() -> Process | None:
    return getattr(Process.current, "value", None)


@dataclass(frozen=True)
class Version:
    """What Connect said from a moment on; `is_known` says whether it knew the contact."""

    said: Said
    since: datetime
    is_known: bool

    def explains(self, said: Said, *, is_unknown: bool) -> bool:
        """Whether this can be what a capture shows, of a contact that counts as unknown perhaps."""
        return self.said == said if self.is_known else is_unknown and not said


class Half:
    """What Connect has said of a contact's references of one call, one version after the other."""

    def __init__(self, since: datetime) -> None:
        self._versions = [Version(Counter(), since, is_known=False)]
        self._shown = 0

    def change(self, said: Said, since: datetime, *, is_known: bool) -> None:
        latest = self._versions[-1]
        if (said, is_known) != (latest.said, latest.is_known):
            self._versions.append(Version(said, since, is_known))

    def show(self, said: Said, *, is_unknown: bool) -> bool:
        """Show it to a reader; return whether it is a version, and none that is older than what was shown before."""
        for number in range(self._shown, len(self._versions)):
            if self._versions[number].explains(said, is_unknown=is_unknown):
                self._shown = number
                return True
        return False

    def was(self, said: Said, *, is_unknown: bool) -> bool:
        """Whether Connect has ever said so."""
        return any(version.explains(said, is_unknown=is_unknown) for version in self._versions)

    def was_since(self, moment: datetime, said: Said, *, is_unknown: bool) -> bool:
        """Whether Connect has said so at a moment or later."""
        return any(version.explains(said, is_unknown=is_unknown) for version in self._since(moment))

    def was_unknown_since(self, moment: datetime) -> bool:
        """Whether Connect did not know the contact at a moment or later."""
        return not all(version.is_known for version in self._since(moment))

    def _since(self, moment: datetime) -> list[Version]:
        ends = [*(version.since for version in self._versions[1:]), None]
        return [version for version, end in zip(self._versions, ends, strict=True) if end is None or end > moment]


class Holding:
    """What Connect holds of one contact, and has held."""

    def __init__(self, now: datetime) -> None:
        self.members: dict[str, list[Member]] = {"entered": [], "produced": [], "unknown": []}
        self.is_known = False
        self.halves = {"entered": Half(now), "produced": Half(now)}
        self.unknown: Said = Counter()
        """Of types newer than the SDK, all that it ever held: no request can leave them out, and none asks for them."""

    def change(self, now: datetime, *, is_known: bool, members: Mapping[str, list[Member]]) -> None:
        self.is_known = is_known
        self.members |= members
        for name, half in self.halves.items():
            half.change(said_by_connect(self.members[name]), now, is_known=is_known)
        self.unknown |= said_by_connect(self.members["unknown"])

    @property
    def all_members(self) -> list[Member]:
        return [member for of_kind in self.members.values() for member in of_kind]

    def split(self, said: Said) -> dict[str, Said]:
        """Part what a capture says by the calls that brought it."""
        parts: dict[str, Said] = {"entered": Counter(), "produced": Counter(), "unknown": Counter()}
        for fields, count in said.items():
            kind = fields[0]
            name = "entered" if kind in ENTERED_TYPES.values() else "unknown" if kind == "UNKNOWN" else "produced"
            parts[name][fields] += count
        return parts


class WatchingReport(Report):
    """Notes failures that no fault explains."""

    def __init__(self, problems: list[str]) -> None:
        logger = Logger(service="world", level="CRITICAL", stream=io.StringIO())
        super().__init__(logger, cast("Any", SimpleNamespace(add_metric=lambda *_: None)), ALL_LISTS)
        self._problems = problems

    def contact(self, key: ContactKey, result: Result | CaptureError) -> None:
        is_refused = isinstance(result, PermanentError) and result.error != "ResourceNotFoundException"
        if is_refused or isinstance(result, ConfigurationError) or "unexpected" in str(result):
            self._problems.append(f"{key.contact_id}: {result}")
        super().contact(key, result)


def _retry_once(attempts: int, response: Any, caught_exception: object, **_: object) -> int | None:
    """Repeat a call as the function's clients do, but at once."""
    has_failed = caught_exception is not None or response[0].status_code >= 500
    is_throttled = response is not None and response[1].get("Error", {}).get("Code") == "ThrottlingException"
    return 0 if attempts == 1 and (has_failed or is_throttled) else None


@cache
def _wires() -> SimpleNamespace:
    """Make the clients once: it takes longer than all that an example does. They ask the world of the moment."""
    wires = SimpleNamespace(world=None)
    # Neither a user agent, which the SDK would put together anew for each call, nor a signature is looked at here.
    once = Config(
        user_agent="world",
        signature_version=UNSIGNED,
        retries={"mode": "standard", "total_max_attempts": 1},
        request_checksum_calculation="when_required",
    )
    for name in ("connect", "dynamodb", "s3", "sqs"):
        client = make_client(name, once)
        client.meta.events.register(
            f"before-send.{name}", lambda request, name=name, **_: wires.world.serve(name, request)
        )
        if name != "connect":
            client.meta.events.register(f"needs-retry.{name}", _retry_once)
        setattr(wires, name, client)
    return wires


class World:
    """The capture path, what stands around it, and what has been true.

    `problems` are what must not be, noticed at the very call that brought it about.
    """

    def __init__(self) -> None:
        self.wires = wires = _wires()
        wires.world = self
        self.clock = Clock()
        self.connect, self.dynamodb, self.s3, self.sqs = Connect(), DynamoDB(), S3(), SQS()
        self._services = {"connect": self.connect, "dynamodb": self.dynamodb, "s3": self.s3, "sqs": self.sqs}
        self.holdings = {contact_id: Holding(self.clock.now) for contact_id in CONTACTS}
        self.dynamodb.rows_a_page = 20
        self.queue: list[Letter] = []
        self.dead_letters = self.sqs.dead_letters
        self.problems: list[str] = []
        self.committed: dict[str, tuple[str, Said]] = {}
        """What captures say that ever counted, by their ids: of which contact, and what."""
        self.lake: list[dict[str, Any]] = []
        self.marked: set[str] = set()
        """Captures whose day was marked after they were appended."""
        self._appended: dict[str, str] = {}
        self._seen: dict[str, dict[str, Any]] = {}
        self._owners: dict[str, Process] = {}
        self._replaced_by: dict[str, Process] = {}
        self._letters = 0
        self._held: Counter[Letter] = Counter()
        self._handed_back: set[Letter] = set()
        bucket = TokenBucket(1000, clock=lambda: 0, sleep=lambda _: None)
        self.ledger = Ledger(wires.dynamodb, "ledger", clock=self._tell_time, sleep=lambda _: None)
        capturer = Capturer(
            reader=ReferenceReader(
                wires.connect,
                type_lists=ALL_LISTS,
                bucket=bucket,
                on_refused_type=lambda _, name: self.problems.append(f"{name} is refused"),
            ),
            ledger=self.ledger,
            lake=Lake(wires.s3, "lake"),
            on_leftover=self._notice_leftover,
            clock=self._tell_time,
        )
        self._intake = Intake(
            capturer=capturer,
            queue=CaptureQueue(wires.sqs, queue_url="https://sqs/q", dead_letter_queue_url="https://sqs/d"),
            report=WatchingReport(self.problems),
            completion_types=frozenset({"COMPLETED"}),
            clock=self._tell_time,
        )

    def _tell_time(self) -> datetime:
        process = running()
        return self.clock() - (process.behind if process else timedelta(0))

    # What AWS does.

    def serve(self, name: str, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a call, or do to it what the process's faults say."""
        service = self._services[name]
        operation, parameters = service.read(request)
        process = running()
        fault = process.before_call(operation) if process else None
        _fail_before(fault)
        if fault == UNAVAILABLE or (fault == THROTTLED and name == "s3"):
            return respond(request, 503, b"" if name != "connect" else {})
        if fault == THROTTLED:
            return respond_refusal(
                request, RefusedError("ThrottlingException", operation, 429 if name == "connect" else 400)
            )
        self.dynamodb.gets_to = lambda count: count // 2 if fault == HALF_DONE else count
        if name == "connect":
            _fail_after(fault)  # it has no effect
        answer = service.answer(request)
        if answer.status_code == 200:
            self._observe(operation, parameters)
        _fail_after(fault)
        return answer

    # What must be true after every call. Raised in here, it would be taken for a fault.

    def _observe(self, operation: str, parameters: dict[str, Any]) -> None:
        partitions: set[str] = set()
        if operation == PUT_ROWS:
            requests = [of for [(_, part)] in [parameters["RequestItems"].items()] for of in part]
            for [(_, request)] in (of.items() for of in requests):
                row = request.get("Item") or request["Key"]
                partitions.add(row["pk"]["S"])
                if "Item" in request:
                    self._own(row["capture_id"]["S"])
        elif operation == COMMIT:
            partitions.add(parameters["Item"]["pk"]["S"])
            self._own(parameters["Item"]["capture_id"]["S"])
        elif operation == UPDATE and parameters["Key"]["pk"]["S"] == "DAYS":
            date = parameters["Key"]["sk"]["S"]
            self.marked |= {capture_id for capture_id, of in self._appended.items() if of == date}
        elif operation == APPEND:
            date = parameters["Key"].rpartition("/")[0].rpartition("completed_date=")[2]
            self._observe_append(date, parameters["Body"])
        elif operation == UPDATE:
            partitions.add(parameters["Key"]["pk"]["S"])
        for partition in partitions:
            self._look_as_reader(partition.partition("#")[2])

    def _own(self, capture_id: str) -> None:
        process = running()
        if process is not None and self._owners.setdefault(capture_id, process) is not process:
            self.problems.append("two attempts share a capture's id")

    def _look_as_reader(self, contact_id: str) -> None:
        item = self.item(contact_id)
        before = self._seen.get(contact_id)
        if item is None:
            if before is not None:
                self.problems.append(f"{contact_id}: its item is gone")
            return
        rows = self.rows(contact_id, item["capture_id"])
        if len(rows) != int(item["reference_count"]):
            self.problems.append(f"{contact_id}: a reader sees {len(rows)} rows of {item['reference_count']}")
        if item == before:
            return
        self._seen[contact_id] = item
        self.problems += [f"{contact_id}: {what}" for what in _compare_items(before, item)]
        capture_id = item["capture_id"]
        if before is not None and before["capture_id"] == capture_id:
            return
        if capture_id in self.committed:
            self.problems.append(f"{contact_id}: a capture counts again")
        if any(row.get(name) != item.get(name) for row in rows for name in _SHARED):
            self.problems.append(f"{contact_id}: rows and item do not say the same of the contact")
        said = said_by_rows(rows)
        self.committed[capture_id] = (contact_id, said)
        self._show(contact_id, said, is_unknown=item.get("is_unknown", False))
        if before is not None and (process := running()) is not None:
            self._replaced_by[before["capture_id"]] = process

    def _show(self, contact_id: str, said: Said, *, is_unknown: bool) -> None:
        holding = self.holdings[contact_id]
        parts = holding.split(said)
        for name, half in holding.halves.items():
            if not half.was(parts[name], is_unknown=is_unknown):
                self.problems.append(f"{contact_id}: a reader sees {name} references that never were")
            elif not half.show(parts[name], is_unknown=is_unknown):
                self.problems.append(f"{contact_id}: older {name} references took the place of newer ones")
        if parts["unknown"] - holding.unknown:
            self.problems.append(f"{contact_id}: a reader sees references of unknown types that never were")

    def _observe_append(self, date: str, body: bytes) -> None:
        records = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        self.lake += records
        for record in (record for record in records if record["record_type"] == "CONTACT"):
            capture_id = record["capture_id"]
            references = [
                each for each in records if each["capture_id"] == capture_id and each["record_type"] == "REFERENCE"
            ]
            if self.committed.get(capture_id) != (record["contact_id"], said_by_rows(references)):
                self.problems.append(f"{record['contact_id']}: the lake has what was never committed")
            if {each["completed_at"][:10] for each in (record, *references)} != {date}:
                self.problems.append(f"{record['contact_id']}: it is in the lake at another date than its completion's")
            self._appended[capture_id] = date  # once marked, a repeat of it is nothing new

    def _notice_leftover(self, _: CaptureError) -> None:
        process = running()
        if process is None or not process.has_failed:
            self.problems.append("rows are left over without a fault")

    # What one can look at.

    def item(self, contact_id: str) -> dict[str, Any] | None:
        item = self.dynamodb.items.get((f"{INSTANCE_ID}#{contact_id}", "CONTACT"))
        return None if item is None else plain(item)

    def rows(self, contact_id: str, capture_id: str = "") -> list[dict[str, Any]]:
        """The rows of a capture, or of all."""
        pk, prefix = f"{INSTANCE_ID}#{contact_id}", f"REFERENCE#{capture_id}"
        items = self.dynamodb.items
        return [plain(items[key]) for key in sorted(items) if key[0] == pk and key[1].startswith(prefix)]

    def shown(self, contact_id: str) -> Said:
        """What a reader sees of a captured contact."""
        item = self.item(contact_id)
        assert item is not None, f"{contact_id} is not captured"
        return said_by_rows(self.rows(contact_id, item["capture_id"]))

    def held(self, contact_id: str) -> Said:
        """What Connect holds of a contact."""
        return said_by_connect(self.holdings[contact_id].all_members)

    def newest_in_lake(self, contact_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The CONTACT record and the references that the lake says are true, without repeats."""
        of_contact = [record for record in self.lake if record["contact_id"] == contact_id]
        newest = max((record["captured_at"] for record in of_contact), default="")
        records = {
            (record["capture_id"], record.get("reference_id")): record
            for record in of_contact
            if record["captured_at"] == newest
        }
        contacts = [record for record in records.values() if record["record_type"] == "CONTACT"]
        assert len(contacts) <= 1, f"{contact_id}: two captures are the newest in the lake"
        rows = [record for record in records.values() if record["record_type"] == "REFERENCE"]
        return (contacts[0], rows) if contacts else None

    def unexplained_rows(self, contact_id: str) -> list[str]:
        """Rows of captures that do not count, though neither the attempt failed nor the one that replaced it."""
        item = self.item(contact_id) or {}
        left = [row for row in self.rows(contact_id) if row["capture_id"] != item.get("capture_id")]
        return [row["sk"] for row in left if not self._is_excused(row["capture_id"])]

    def _is_excused(self, capture_id: str) -> bool:
        processes = (self._owners.get(capture_id), self._replaced_by.get(capture_id))
        return any(process is not None and process.has_failed for process in processes)

    # What happens.

    def hold(self, contact_id: str, *, is_known: bool = True, **members: list[Member]) -> None:
        """Let Connect hold other references of a contact from now on, or not know it."""
        holding = self.holdings[contact_id]
        holding.change(self.clock(), is_known=is_known, members=members)
        self.connect.contacts.pop(contact_id, None)
        if is_known:
            self.connect.contacts[contact_id] = holding.all_members

    def post(self, event: dict[str, Any]) -> Letter:
        self._letters += 1
        letter = Letter(f"message {self._letters}", json.dumps(event))
        self.queue.append(letter)
        return letter

    def complete(self, contact_id: str, *, number: int = 1, is_analyzed: bool = False) -> Letter:
        """Report a contact's completion, by one event of it."""
        detail = {"contactId": contact_id, "instanceArn": INSTANCE_ARN, "eventType": "COMPLETED"}
        if is_analyzed:
            detail["contactLens"] = {"conversationalAnalytics": {"configuration": {"enabled": True}}}  # type: ignore[assignment]
        return self.post(
            {
                "source": "aws.connect",
                "detail-type": "Amazon Connect Contact Event",
                "id": f"event {number} of {contact_id}",
                "time": format_time(self.clock().replace(microsecond=0)),  # as EventBridge cuts it
                "detail": detail | CONTACTS[contact_id],
            }
        )

    def request(self, contact_id: str, reason: str) -> Letter:
        """Ask for a contact, as reconciling does."""
        known = {} if reason == "recheck" else CONTACTS[contact_id]
        return self.post(
            {
                "source": "contact-references",
                "detail-type": "Contact Capture Request",
                "id": f"request {self._letters} for {contact_id}",
                "time": format_time(self.clock()),
                "detail": {"contactId": contact_id, "instanceArn": INSTANCE_ARN, "reason": reason} | known,
            }
        )

    def redrive(self) -> None:
        for body in self.dead_letters:
            self.post(json.loads(body))
        self.dead_letters.clear()

    def delivery(
        self, *letters: Letter, faults: Faults | None = None, deadline: int | None = None, behind: float = 0
    ) -> Process:
        """Make an invocation that is given messages, or all; its deadline is near after so many looks at the time."""
        given = letters or tuple(self.queue)
        self._held.update(given)
        return Process(lambda: self._deliver(given, deadline), faults, behind=behind)

    def _deliver(self, letters: Sequence[Letter], deadline: int | None) -> None:
        """Give messages to the function and take off the queue what it lets go, as Lambda does.

        Of a message that others were given too, each has a copy: it is off the queue when all of them let it go.
        """
        looks = 0

        def time_left() -> float:
            nonlocal looks
            looks += 1
            if deadline is None or looks <= deadline:
                return 900
            Process.current.value.has_failed = True
            return 1

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
        failed = [letter.message_id for letter in letters]
        try:
            failed = self._intake.take_messages(messages, scope=SCOPE, time_left=time_left)
        finally:
            for letter in letters:
                self._held[letter] -= 1
                if letter.message_id in failed:
                    self._handed_back.add(letter)
                if not self._held[letter] and letter not in self._handed_back and letter in self.queue:
                    self.queue.remove(letter)
                if not self._held[letter]:
                    self._handed_back.discard(letter)

    def read(self, contact_id: str) -> None:
        """Be a reader, who may be overtaken but never misled."""
        try:
            capture = self.ledger.find_capture(ContactKey(INSTANCE_ID, contact_id))
        except RetriableError as error:
            if error.error != "Contended":
                self.problems.append(f"{contact_id}: a reader is refused: {error}")
        except CaptureError as error:
            self.problems.append(f"{contact_id}: a reader is refused: {error}")
        else:
            if capture and self.committed.get(capture.capture_id) != (
                contact_id,
                said_by_rows(capture.reference_records()),
            ):
                self.problems.append(f"{contact_id}: a reader was given what never was")

    def run(self, processes: Sequence[Process], schedule: Iterable[int] = ()) -> None:
        """Run processes at once, a call of one after a call of another, as the schedule says; then to their ends."""
        for choice in schedule:
            live = [process for process in processes if not process.is_done]
            if live:
                live[choice % len(live)].step()
        for process in processes:
            process.finish()

    def settle(self) -> None:
        """Deliver what is outstanding, without faults, until nothing is."""
        for _ in range(4):
            self.redrive()
            self.clock.advance(minutes=1)
            if self.queue:
                self.delivery().finish()
        assert not self.problems
        assert (self.queue, self.dead_letters) == ([], [])

    def check_quiet(self, contact_id: str) -> None:
        """Compare a contact's items with each other, with the lake and the days marked."""
        item = self.item(contact_id)
        assert item is not None
        assert not self.unexplained_rows(contact_id)
        newest = self.newest_in_lake(contact_id)
        if "completed_at" not in item:
            assert newest is None
            return
        assert newest is not None, f"{contact_id} is not in the lake"
        record, rows = newest
        assert {name: str(value) for name, value in record.items()}.items() <= {
            name: str(value) for name, value in item.items()
        }.items()
        assert said_by_rows(rows) == self.shown(contact_id)
        assert item["capture_id"] in self.marked


def _compare_items(before: dict[str, Any] | None, item: dict[str, Any]) -> list[str]:
    """What must not become of a CONTACT item from one moment to the next."""
    if item["read_at"] > item["checked_at"]:
        return ["it was read but not checked"]
    if before is None:
        return []
    kept = ("completed_at", "channel", "initiation_method")
    is_same_capture = item["capture_id"] == before["capture_id"]
    rules = {
        "its version does not rise": int(item["version"]) > int(before["version"]),
        "what is known of it changes": all(item.get(name) == before[name] for name in kept if name in before),
        "its completion is forgotten": item["completion_seen"] or not before["completion_seen"],
        "a 404 takes the place of what was read": before.get("is_unknown", False) or not item.get("is_unknown", False),
        "a capture changes": not is_same_capture or all(item.get(name) == before.get(name) for name in _FIXED),
        "the later capture is not the later one": is_same_capture or item["captured_at"] > before["captured_at"],
    }
    return [rule for rule, holds in rules.items() if not holds]


def _fail_before(fault: str | None) -> None:
    if fault == DIES_BEFORE:
        raise KeyboardInterrupt
    if fault == RESET:
        raise ConnectionClosedError(endpoint_url="https://aws")


def _fail_after(fault: str | None) -> None:
    if fault == DIES_AFTER:
        raise KeyboardInterrupt
    if fault == ANSWER_LOST:
        raise ConnectionClosedError(endpoint_url="https://aws")


def url(name: str, value: str = "https://crm.example/") -> Member:
    return {"Url": {"Name": name, "Value": value}}


def file(number: int, status: str = "APPROVED", *, version: int = 0, signature: int = 0) -> Member:
    value = f"https://b.example/{version}/{number}?X-Amz-Signature={signature}"
    arn = f"arn:aws:connect:us-east-1:111122223333:file/{number}"
    return {"Attachment": {"Name": f"file {number}", "Value": value, "Status": status, "Arn": arn}}
