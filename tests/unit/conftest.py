"""The capture path on AWS in memory, behind the SDK's own clients: real requests, real parsing, no socket."""

import gzip
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from moto import mock_aws
from moto.core.models import botocore_stubber

from contact_references.aws.capture_queue import CaptureQueue, Message
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.capture.capturer import Capturer
from contact_references.capture.intake import Intake
from contact_references.capture.report import Report
from contact_references.capture.targets import Result
from contact_references.model.capture import ContactItem
from contact_references.model.contact import Contact, ContactKey, Scope
from contact_references.model.errors import CaptureError, ConfigurationError
from contact_references.model.events import MISSED, RECHECK, ContactReport
from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES
from contact_references.model.reference_types import TypeLists
from local.in_memory.connect import Connect
from local.in_memory.dynamodb import INDEX_KEYS, DynamoDB
from local.in_memory.s3 import S3
from local.in_memory.service import Service
from local.in_memory.sqs import SQS

INSTANCE_ID = "12345678-1234-1234-1234-123456789012"
INSTANCE_ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
SCOPE = Scope("us-east-1", "111122223333")
ALL_TYPES = (*ENTERED_TYPES.values(), *PRODUCED_TYPES.values())
ALL_LISTS = TypeLists({"*": ALL_TYPES})
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

CREDENTIALS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}
# A body without chunks and checksums is one that a stand-in can read.
ONCE = Config(retries={"total_max_attempts": 1}, request_checksum_calculation="when_required")


def make_client(service: str, config: Config = ONCE, *, answered_by: Service | None = None) -> Any:
    create: Any = boto3.client
    client = create(service, config=config, **CREDENTIALS)
    if answered_by is not None:  # alone: also while moto answers other clients
        client.meta.events.unregister("before-send", botocore_stubber)
        answered_by.stand_behind(client)
    return client


class Clock:
    """A clock that only moves when told to, but for the millisecond that each look takes."""

    def __init__(self) -> None:
        self.now = NOON
        self.step = timedelta(milliseconds=1)

    def __call__(self) -> datetime:
        self.now += self.step
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


class System(SimpleNamespace):
    """The capture path and what stands around it."""

    connect: Connect
    connect_client: Any
    fake: DynamoDB
    lake_objects: dict[str, bytes]
    clock: Clock
    capturer: Capturer
    ledger: Ledger
    lake_store: Lake
    reader: ReferenceReader
    dynamodb: Any
    s3: Any
    leftovers: list[CaptureError]
    sleeps: list[float]
    seconds: Callable[[], float]
    """The token bucket's clock: there is always a token, as a second passes at each look."""

    def __repr__(self) -> str:
        return f"<System with {len(self.fake.items)} items>"

    def use(self, *, type_lists: TypeLists = ALL_LISTS, retention: timedelta | None = None) -> None:
        """Be another execution environment, of another configuration perhaps, with the same stores."""
        self.refused: list[tuple[str | None, str]] = []
        self.ledger = Ledger(
            self.dynamodb, "ledger", retention=retention, clock=lambda: self.clock.now, sleep=self.sleeps.append
        )
        self.reader = ReferenceReader(
            self.connect_client,
            type_lists=type_lists,
            bucket=TokenBucket(1000, clock=self.seconds, sleep=lambda _: None),
            on_refused_type=lambda channel, name: self.refused.append((channel, name)),
        )
        self.capturer = Capturer(
            reader=self.reader,
            ledger=self.ledger,
            lake=self.lake_store,
            on_leftover=self.leftovers.append,
            retention=retention,
            clock=self.clock,
        )

    def capture(self, *reports: ContactReport, time_left: float = 900) -> list[Any]:
        """Capture, and return the results in the order of the contacts."""
        return list(self.capturer.capture(reports, time_left=lambda: time_left).values())

    def items(self, contact_id: str = "a", instance_id: str = INSTANCE_ID) -> list[dict[str, Any]]:
        """The ledger's items of a contact, as they are."""
        pk = f"{instance_id}#{contact_id}"
        found = [self.fake.items[key] for key in sorted(self.fake.items) if key[0] == pk]
        return [{name: next(iter(value.values())) for name, value in item.items()} for item in found]

    def item(self, contact_id: str = "a") -> ContactItem:
        """What the ledger says of a contact."""
        key = ContactKey(INSTANCE_ID, contact_id)
        found = self.ledger.find_items([key])[key]
        assert isinstance(found, ContactItem)
        return found

    def names(self, contact_id: str = "a") -> list[str]:
        """The names of the references that a reader finds of a contact."""
        capture = self.ledger.find_capture(ContactKey(INSTANCE_ID, contact_id))
        assert capture is not None
        return sorted(reference.reference_name or "" for reference in capture.references)

    def days(self) -> dict[str, dict[str, Any]]:
        """The days of the lake that are marked."""
        marked = {key[1]: item for key, item in self.fake.items.items() if key[0] == "DAYS"}
        return {day: {name: next(iter(of.values())) for name, of in item.items()} for day, item in marked.items()}

    def lake(self) -> dict[str, list[dict[str, Any]]]:
        """The lake's objects: their records by their keys."""
        return {
            key: list(map(json.loads, gzip.decompress(body).splitlines())) for key, body in self.lake_objects.items()
        }

    def lake_snapshot(self) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
        """What the lake says is true: of each contact the newest CONTACT record and its capture's references."""
        return snapshot(itertools.chain.from_iterable(self.lake().values()))

    @contextmanager
    def before(self, operation: str, act: Callable[[AWSPreparedRequest], object], *, skip: int = 0) -> Iterator[None]:
        """Do something, once, before the next call of an operation (`dynamodb.PutItem`), or one after that."""
        service, _, name = operation.partition(".")
        client = getattr(self, service)
        acts = iter([*[lambda _: None] * skip, act])

        def hook(request: AWSPreparedRequest, **_: object) -> None:
            next(acts, lambda _: None)(request)

        event = f"before-send.{service}.{name}"
        client.meta.events.register_first(event, hook)
        try:
            yield
        finally:
            client.meta.events.unregister(event, hook)
        assert next(acts, None) is None, f"{operation} was not called"


def snapshot(records: Iterable[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Read the lake's records as the contract says: of each contact, what its newest capture has.

    A record is identified by contact, capture and reference; one that is there again must say the same.
    """
    newest: dict[str, dict[str, Any]] = {}
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    rows = defaultdict(list)
    for record in sorted(records, key=lambda record: str(record["captured_at"])):
        contact = (record["instance_id"], record["contact_id"], record["capture_id"])
        identity = (*contact, record.get("reference_id"))
        if identity in seen:
            assert seen[identity] == record, "one record's name for two things"
            continue
        seen[identity] = record
        if record["record_type"] == "CONTACT":
            newest[record["contact_id"]] = record
        else:
            rows[contact].append(record)
    return {name: (record, rows[record["instance_id"], name, record["capture_id"]]) for name, record in newest.items()}


def completion(contact_id: str = "a", *, at: datetime = NOON, event_id: str | None = None, **of: Any) -> ContactReport:
    """Make the report of a contact's completion, a moment ago."""
    initial = of.pop("initial_contact_id", contact_id)
    contact = Contact(
        key=ContactKey(INSTANCE_ID, contact_id),
        initial_contact_id=initial,
        channel=of.pop("channel", "VOICE"),
        initiation_method=of.pop("initiation_method", "INBOUND"),
        completed_at=of.pop("completed_at", at - timedelta(seconds=2)),
        completion_seen=True,
    )
    return ContactReport(contact=contact, event_id=event_id or f"event-{contact_id}-{at}", event_time=at, **of)


def missed(contact_id: str = "a", *, at: datetime, **of: Any) -> ContactReport:
    """Make the request to capture a contact that was found by searching."""
    return completion(contact_id, at=at, event_id=f"missed-{contact_id}-{at}", requested=MISSED, **of)


def recheck(contact_id: str = "a", *, at: datetime) -> ContactReport:
    """Make the request to recheck a contact that was due at a moment."""
    contact = Contact.unseen(ContactKey(INSTANCE_ID, contact_id))
    return ContactReport(contact=contact, event_id=f"recheck-{contact_id}-{at}", event_time=at, requested=RECHECK)


def create_ledger(dynamodb: Any) -> None:
    """Create the table with its two indexes."""
    names = ("pk", "sk", *sorted(INDEX_KEYS))
    dynamodb.create_table(
        TableName="ledger",
        KeySchema=_key_schema("pk", "sk"),
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        GlobalSecondaryIndexes=[
            {
                "IndexName": f"by_{of}",
                "KeySchema": _key_schema(f"{of}_key", f"{of}_at"),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
            for of in ("value", "due")
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def make_system() -> System:
    connect, fake, s3 = Connect(), DynamoDB(), S3()
    system = System(
        connect=connect,
        fake=fake,
        lake_objects=s3.objects,
        clock=Clock(),
        leftovers=[],
        sleeps=[],
        seconds=itertools.count().__next__,
        connect_client=make_client("connect", answered_by=connect),
        dynamodb=make_client("dynamodb", answered_by=fake),
        s3=make_client("s3", answered_by=s3),
    )
    system.lake_store = Lake(system.s3, "lake")
    system.use()
    return system


@dataclass
class Letter:
    """A message on the queue."""

    message_id: str
    body: str
    receive_count: int = 0


class WatchingReport(Report):
    """Notes failures for which nothing accounts."""

    def __init__(self) -> None:
        unheard: Any = SimpleNamespace(add_metric=lambda *_: None)
        super().__init__(Logger(service="test", level="CRITICAL", stream=StringIO()), unheard, ALL_LISTS)
        self.problems: list[str] = []

    def contact(self, key: ContactKey, result: Result | CaptureError) -> None:
        if isinstance(result, ConfigurationError) or "unexpected" in str(result):
            self.problems.append(f"{key.contact_id}: {result}")
        super().contact(key, result)


class Deliveries:
    """A queue in memory, its dead letters, and the intake of its messages, on a system."""

    def __init__(self, system: System | None = None) -> None:
        self.system = system or make_system()
        self.queue: list[Letter] = []
        self._sqs = SQS()
        self._report = WatchingReport()
        client = make_client("sqs", answered_by=self._sqs)
        self._intake = Intake(
            capturer=self.system.capturer,
            queue=CaptureQueue(client, queue_url="https://sqs/q", dead_letter_queue_url="https://sqs/d"),
            report=self._report,
            completion_types=frozenset({"COMPLETED"}),
            clock=self.system.clock,
        )
        self._count = 0

    @property
    def dead_letters(self) -> list[str]:
        return self._sqs.dead_letters

    @property
    def problems(self) -> list[str]:
        return self._report.problems

    def post(self, *events: object) -> None:
        for event in events:
            self._count += 1
            self.queue.append(Letter(str(self._count), event if isinstance(event, str) else json.dumps(event)))

    def deliver(self, *events: object) -> None:
        """Post events, and give all that is on the queue to the function, which lets go or hands back."""
        self.post(*events)
        for letter in self.queue:
            letter.receive_count += 1
        messages = [
            Message(
                message_id=letter.message_id,
                receipt_handle="handle",
                body=letter.body,
                receive_count=letter.receive_count,
                origin="arn:aws:sqs:us-east-1:111122223333:queue",
            )
            for letter in self.queue
        ]
        failed = self._intake.take_messages(messages, scope=SCOPE, time_left=lambda: 900)
        self.queue = [letter for letter in self.queue if letter.message_id in failed]


@pytest.fixture
def system() -> System:
    return make_system()


@pytest.fixture
def moto() -> Iterator[None]:
    """Moto in place of all AWS, for clients that are made now."""
    with mock_aws():
        yield
