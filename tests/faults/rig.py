"""The deployed local system under faults: what goes wrong, what happens meanwhile, and what it came to.

Faults of Connect are the simulator's own. Those of DynamoDB, S3 and SQS are microburst's, which the emulator's
process runs between the functions and itself, but for batches of which a part is left: that is the emulator's own
answer (`tests.faults.launcher`).
"""

import gzip
import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from boto3.dynamodb.types import TypeDeserializer

from local.emulator import INSTANCE_ARN, direct_open
from local.system import Json, System, start

FAULTS_URL_PATH = "/_local/faults-url"
END_DELAYS_PATH = "/_local/end-delays"
KILL_PATH = "/_local/kill"
PARTS_LEFT_PATH = "/_local/parts-left"

UNPROCESSED = "unprocessed"
"""The kind of fault by which DynamoDB does the first half of a batch's requests, and says so."""

INSTANCE_ID = INSTANCE_ARN.rpartition("/")[2]
ENTERED = ["URL", "NUMBER", "STRING", "DATE", "EMAIL"]

# Four execution environments at the most that one of them may have: what takes long is the fault, not the pace.
_CONTEXT = {"connectRequestsPerSecond": "32"}
_QUOTAS = {"ListContactReferences": 1000.0}

SERVICES = {
    "ListContactReferences": "connect",
    "BatchGetItem": "dynamodb",
    "Query": "dynamodb",
    "BatchWriteItem": "dynamodb",
    "PutItem": "dynamodb",
    "UpdateItem": "dynamodb",
    "PutObject": "s3",
    "ChangeMessageVisibility": "sqs",
    "SendMessage": "sqs",
}
"""Every call that the function makes, and whose it is."""

# Longer than the functions' read time-out. Microburst does not let go before.
_HANG_MILLISECONDS = 6000
_ACCESS_DENIED = {"dynamodb": ("AccessDeniedException", 400), "s3": ("AccessDenied", 403), "sqs": ("AccessDenied", 403)}
_THROTTLED = {
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "s3": ("SlowDown", 503),
    "sqs": ("ThrottlingException", 400),
}


class DamagedContactError(Exception):
    """A reader finds rows of the capture that counts missing, and no other capture in its place."""


class Reference(NamedTuple):
    """What is compared of a reference."""

    type: str
    name: str
    value: str


@dataclass(frozen=True)
class Fault:
    """What happens to an operation's calls: to the next `count` of them, or to all until it is lifted."""

    operation: str
    kind: str
    count: int | None = None


@dataclass
class Verdict:
    """What is wrong in the end; all zero is the only good one. `notes` says it in sentences, without values.

    `left_over` is nothing wrong: rows of attempts that died, which no reader sees and the next capture deletes.
    """

    lost: int = 0
    doubled: int = 0
    half_visible: int = 0
    dead_letters: int = 0
    left_over: int = field(default=0, compare=False)
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return self == Verdict()

    def add(self, kind: str, number: int, note: str) -> None:
        """Count something wrong."""
        if number:
            setattr(self, kind, getattr(self, kind) + number)
            self.notes.append(note)

    def __iadd__(self, other: "Verdict") -> "Verdict":
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        return self


class Work:
    """Contacts, with every set of references that Connect has had of each, the latest last."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.versions: dict[str, list[Counter[Reference]]] = {}

    def put(self, *references: Reference, contact_id: str | None = None, **members: str) -> str:
        """Put an ended contact in place, or change one, and return its id."""
        contact_id = contact_id or str(uuid4())
        contact = {
            "Id": contact_id,
            "InstanceId": INSTANCE_ID,
            "Channel": "VOICE",
            "InitiationMethod": "INBOUND",
            "DisconnectTimestamp": "2026-03-02T09:30:00.000Z",
            "References": [{each.type.capitalize(): {"Name": each.name, "Value": each.value}} for each in references],
        }
        self.versions.setdefault(contact_id, []).append(Counter(references))
        self._system.control_connect("contacts", {"contacts": [contact | members]})
        return contact_id

    def complete(self, contact_ids: Iterable[str]) -> None:
        """Let Connect report their completion."""
        for contact_id in contact_ids:
            self._system.control_connect(f"contacts/{contact_id}/complete", {})


def make_references(number: int) -> list[Reference]:
    """Return references of which each name is in every contact, and each value in this one only."""
    kinds = {"STRING": "CASE-{}", "URL": "https://crm.example.com/{}"}
    types = [*kinds] * (number // 2 + 1)
    return [
        Reference(kind, f"reference {index}", kinds[kind].format(uuid4())) for index, kind in enumerate(types[:number])
    ]


class Rig:
    """A running, deployed system whose calls can be made to fail."""

    def __init__(self, system: System, directory: Path) -> None:
        self.system = system
        self.directory = directory
        self._log = directory / "emulator.log"
        self._lake: dict[str, list[Json]] = {}

    @cached_property
    def _rules_url(self) -> str:
        return str(_call("GET", self.system.aws_url + FAULTS_URL_PATH)["url"]) + "/_microburst/rules"

    def inject(self, *faults: Fault) -> None:
        """Let calls fail from now on; the first fault that fits a call is the one that it meets."""
        for fault in faults:
            if SERVICES[fault.operation] == "connect":
                self.system.control_connect("faults", asdict(fault))
            elif fault.kind == UNPROCESSED:
                _call("POST", self.system.aws_url + PARTS_LEFT_PATH, asdict(fault))
            else:
                _call("PATCH", self._rules_url, [_rule(fault)])

    def slow(self, operation: str, milliseconds: int) -> None:
        """Let calls take longer, by up to so much."""
        rule = {"service": SERVICES[operation], "operation": operation, "latency": {"min": 0, "max": milliseconds}}
        _call("PATCH", self._rules_url, [rule])

    def hits(self, operation: str) -> int:
        """How many calls have met a fault that is not lifted yet."""
        connect = self.system.control_connect("faults")["faults"]
        parts_left = _call("GET", self.system.aws_url + PARTS_LEFT_PATH)
        return sum(
            rule.get("hits", rule.get("fired_count"))
            for rule in (*connect, *parts_left, *_call("GET", self._rules_url))
            if rule["operation"] == operation
        )

    def wait_for_hit(self, operation: str, *, seconds: float, times: int = 1) -> None:
        """Wait until a call has met a fault, so many times.

        Raises:
            TimeoutError: fewer did.
        """
        deadline = time.monotonic() + seconds
        while self.hits(operation) < times:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{operation} met fewer than {times} faults in {seconds:g} s")
            time.sleep(0.05)

    def lift(self) -> None:
        """End all faults."""
        _call("DELETE", f"{self.system.connect_url}/_simulator/faults")
        _call("POST", self._rules_url, [])
        _call("DELETE", self.system.aws_url + PARTS_LEFT_PATH)

    def end_delays(self) -> int:
        """Show the messages that wait after a failure, if no function works; returns how many functions do."""
        return int(_call("POST", self.system.aws_url + END_DELAYS_PATH)["working"])

    def drain(self, seconds: float) -> bool:
        """Wait until the queue is empty and the functions rest, without the queue's back-off; False if that fails."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.end_delays() + self.system.queued() == 0:
                return True
            time.sleep(0.1)
        return False

    def kill(self) -> int:
        """Kill one of the functions' processes that are at work; returns 0 if none was."""
        return int(_call("POST", self.system.aws_url + KILL_PATH)["killed"])

    def killed_invocations(self) -> int:
        """How many invocations have ended so far because their process did, by the emulator's log."""
        return self._log.read_text(errors="replace").count("errorMessage=Worker process died")

    def read(self, contact_id: str) -> Counter[Reference] | None:
        """What a reader sees of a contact: the CONTACT item, then the rows of the capture that it names.

        None while there is none. Raises DamagedContactError.
        """
        while True:
            item = next(iter(self._find(contact_id, "CONTACT")), None)
            if item is None:
                return None
            rows = self._find(contact_id, f"REFERENCE#{item['capture_id']}#")
            if len(rows) == item["reference_count"]:
                return Counter(map(_reference, rows))
            if self._find(contact_id, "CONTACT") == [item]:
                raise DamagedContactError(f"contact {contact_id}: {len(rows)} rows of {item['reference_count']}")

    def left_over(self, contact_id: str) -> int:
        """How many of a contact's rows are those of captures that no reader sees."""
        item, *rows = self._find(contact_id, "") or [{}]
        return sum(row["capture_id"] != item["capture_id"] for row in rows)

    def _find(self, contact_id: str, prefix: str) -> list[Json]:
        deserialize = TypeDeserializer().deserialize
        condition = "pk = :pk AND begins_with(sk, :prefix)" if prefix else "pk = :pk"
        values = {":pk": f"{INSTANCE_ID}#{contact_id}"} | ({":prefix": prefix} if prefix else {})
        answer = self.system.clients.dynamodb.query(
            TableName=self.system.outputs["TableName"],
            KeyConditionExpression=condition,
            ExpressionAttributeValues={name: {"S": value} for name, value in values.items()},
            ConsistentRead=True,
        )
        return [{name: deserialize(value) for name, value in item.items()} for item in answer["Items"]]

    def lake(self) -> dict[str, list[Json]]:
        """The lake's records by object. Objects never change, so each is read once."""
        bucket, s3 = self.system.outputs["BucketName"], self.system.clients.s3
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="captures/"):
            for entry in page.get("Contents", []):
                if entry["Key"] not in self._lake:
                    body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                    self._lake[entry["Key"]] = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        return self._lake

    def held(self, contact_id: str) -> Counter[Reference]:
        """What Connect holds, by its API."""
        answer = self.system.clients.connect.list_contact_references(
            InstanceId=INSTANCE_ID,
            ContactId=contact_id,
            ReferenceTypes=ENTERED,  # type: ignore[arg-type]  # their literals
        )
        members = (next(iter(summary.items())) for summary in answer["ReferenceSummaryList"])
        contents: Iterable[tuple[str, Any]] = members
        return Counter(Reference(member.upper(), content["Name"], content["Value"]) for member, content in contents)

    def judge(self, work: Work, *, hopeless: Iterable[str] = ()) -> Verdict:
        """Compare both stores with Connect, and the dead letters with the ids of the events that belong there.

        Rows that attempts left over are no reader's, and no fault; that one more capture leaves them there is.
        """
        verdict = Verdict()
        captures: dict[str, dict[str, _LakeCapture]] = {contact_id: {} for contact_id in work.versions}
        for record in (record for content in self.lake().values() for record in content):
            if record["contact_id"] in captures:
                of_contact = captures[record["contact_id"]]
                of_contact.setdefault(record["capture_id"], _LakeCapture()).add(record)
        for contact_id, in_lake in captures.items():
            held = self.held(contact_id)
            try:
                _compare(verdict, f"{contact_id} in the ledger", held, self.read(contact_id))
            except DamagedContactError as damage:
                verdict.add("half_visible", 1, str(damage))
            half = sum(
                not each.is_whole or each.references not in work.versions[contact_id] for each in in_lake.values()
            )
            verdict.add("half_visible", half, f"{contact_id} in the lake: captures that Connect never had")
            newest = max(in_lake.values(), key=lambda capture: capture.captured_at, default=None)
            _compare(verdict, f"{contact_id} in the lake", held, newest.references if newest else None)
        self._judge_dead_letters(verdict, set(hopeless))
        self._sweep(verdict, work)
        return verdict

    def _sweep(self, verdict: Verdict, work: Work) -> None:
        """Capture once more the contacts of which rows are left over: then there are none."""
        littered = {contact_id: left for contact_id in work.versions if (left := self.left_over(contact_id))}
        verdict.left_over += sum(littered.values())
        for contact_id in littered:
            number = work.versions[contact_id][-1].total()
            work.put(*make_references(number or 1), contact_id=contact_id)
        work.complete(littered)
        if littered:
            self.drain(30)
        for contact_id in littered:
            verdict.add("doubled", self.left_over(contact_id), f"contact {contact_id}: rows of a dead attempt stay")

    def _judge_dead_letters(self, verdict: Verdict, hopeless: set[str]) -> None:
        letters = self.system.dead_letters()
        for letter in letters:
            fitting = letter.event_id in hopeless and letter.attributes.get("reason")
            verdict.add("dead_letters", not fitting, f"a dead letter: {letter.attributes.get('error')}")
        missing = hopeless - {letter.event_id or "" for letter in letters}
        verdict.add("lost", len(missing), f"{len(missing)} hopeless events are not in the dead-letter queue")
        self.system.clients.sqs.purge_queue(QueueUrl=self.system.outputs["DeadLetterQueueUrl"])


class _LakeCapture:
    """A capture by the lake's records, of which any may be there twice."""

    def __init__(self) -> None:
        self.captured_at = ""
        self._count: int | None = None
        self._references: dict[str, Reference] = {}

    def add(self, record: Json) -> None:
        self.captured_at = str(record["captured_at"])
        if record["record_type"] == "CONTACT":
            self._count = record["reference_count"]
        else:
            self._references[record["reference_id"]] = _reference(record)

    @property
    def is_whole(self) -> bool:
        return self._count == len(self._references)

    @property
    def references(self) -> Counter[Reference]:
        return Counter(self._references.values())


def _reference(record: Json) -> Reference:
    return Reference(record["reference_type"], record["reference_name"], record["reference_value"])


def _compare(verdict: Verdict, where: str, held: Counter[Reference], found: Counter[Reference] | None) -> None:
    if found is None:
        verdict.add("lost", 1, f"contact {where}: not captured")
    else:
        lost, surplus = (held - found).total(), (found - held).total()
        verdict.add("lost", lost, f"contact {where}: {lost} references missing")
        verdict.add("doubled", surplus, f"contact {where}: {surplus} references too many")


class Reader:
    """Reads contacts from the ledger again and again, and counts the sets of references that Connect never had."""

    def __init__(self, rig: Rig, work: Work) -> None:
        self._rig = rig
        self._work = work
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self.reads = 0
        self.verdict = Verdict()

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.wait(0.01):
            for contact_id, versions in list(self._work.versions.items()):
                self.reads += 1
                try:
                    seen = self._rig.read(contact_id)
                except DamagedContactError as damage:
                    self.verdict.add("half_visible", 1, str(damage))
                    continue
                if seen is not None and seen not in versions:
                    self.verdict.add("half_visible", 1, f"contact {contact_id}: a reader saw what Connect never had")


@contextmanager
def start_rig(directory: Path) -> Iterator[Rig]:
    """Start and deploy a system of its own in the directory, and stop it at the end."""
    with start(
        directory,
        launcher="tests.faults.launcher",
        context=_CONTEXT,
        quotas=_QUOTAS,
        report=lambda _: None,
    ) as system:
        yield Rig(system, directory)


def _rule(fault: Fault) -> Json:
    """Return microburst's rule for a fault."""
    service = SERVICES[fault.operation]
    throttled, denied = _THROTTLED[service], _ACCESS_DENIED[service]
    effects: Mapping[str, Json] = {
        "throttle": {"error": {"code": throttled[0], "status": throttled[1]}},
        "500": {"error": {"code": "InternalServerError", "status": 500}},
        "503": {"error": {"code": "ServiceUnavailable", "status": 503}},
        "hang": {"timeout_ms": _HANG_MILLISECONDS},
        "reset": {"reset": True},
        "access_denied": {"error": {"code": denied[0], "status": denied[1]}},
        # The request is carried out, and its answer lost.
        "answer_lost": {"response": {"abort_bytes": 0}},
    }
    return {"service": service, "operation": fault.operation, "times": fault.count, **effects[fault.kind]}


def _call(method: str, url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310 - http, loopback
    with direct_open(request, timeout=30) as answer:
        return json.loads(answer.read())
