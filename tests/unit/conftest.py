"""The capture path on moto, with a Connect that answers inside the SDK: real requests, real parsing, no socket."""

import gzip
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from moto import mock_aws

from contact_references.batch import Capturer
from contact_references.connect import ReferenceReader
from contact_references.contact import Completion, Contact, ContactKey
from contact_references.lake import Lake
from contact_references.ledger import Ledger
from contact_references.pacing import TokenBucket
from contact_references.reference import ENTERED_TYPES, PRODUCED_TYPES

INSTANCE_ID = "12345678-1234-1234-1234-123456789012"
ALL_TYPES = (*ENTERED_TYPES.values(), *PRODUCED_TYPES.values())
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

ONCE = Config(retries={"total_max_attempts": 1})

Member = dict[str, Any]


class FakeConnect:
    """`ListContactReferences` as the service does it: strict on its parameters, and known contacts only.

    It stands behind the SDK's own client, so that requests are validated and answers parsed by the real code.
    Set `failures` to have the next calls fail with (status, code); a status of 0 breaks the connection.
    """

    def __init__(self) -> None:
        self.contacts: dict[str, list[Member]] = {}
        self.failures: list[tuple[int, str]] = []
        self.page_size: int | None = None
        self.repeats_token = False
        self.before_answer: Callable[[str], None] = lambda _: None
        self.rewrite: Callable[[bytes], bytes] = lambda body: body
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.client = boto3.client(
            "connect",
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - no secret
            config=ONCE,
        )
        self.stand_behind(self.client)

    def stand_behind(self, client: Any) -> None:
        """Answer what this client asks."""
        client.meta.events.register("before-send.connect.ListContactReferences", self._answer)

    def _answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        url = urlsplit(request.url)
        query = parse_qs(url.query)
        contact_id = unquote(url.path).rpartition("/")[2]
        types = tuple(query["referenceTypes"])
        self.calls.append((contact_id, types))
        self.before_answer(contact_id)
        if self.failures:
            status, code = self.failures.pop(0)
            if status == 0:
                raise ConnectionResetError
            return _response(request, status, {"message": "secret value"}, code)
        if len(types) > 6 or not set(types) <= set(ALL_TYPES):
            return _response(request, 400, {}, "InvalidParameterException")
        if contact_id not in self.contacts:
            return _response(request, 404, {}, "ResourceNotFoundException")
        known = ENTERED_TYPES | PRODUCED_TYPES
        asked = [m for m in self.contacts[contact_id] if known.get(next(iter(m)), "ATTACHMENT") in types]
        start = int(query.get("nextToken", ["0"])[0])
        size = self.page_size or len(asked) or 1
        token = str(start + size) if start + size < len(asked) else None
        if self.repeats_token:
            token = "1"  # noqa: S105 - no secret
        body = json.dumps({"ReferenceSummaryList": asked[start : start + size], "NextToken": token}).encode()
        return _response(request, 200, self.rewrite(body))


def _response(request: AWSPreparedRequest, status: int, body: Any, code: str = "") -> AWSResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers: Any = {"content-type": "application/json", **({"x-amzn-errortype": code} if code else {})}

    class Raw(BytesIO):
        def stream(self, **_: object) -> Iterator[bytes]:
            yield self.read()

    return AWSResponse(request.url, status, headers, Raw(raw))


class Clock:
    """A clock that only moves when told to, but for the millisecond that each look takes."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


class System(SimpleNamespace):
    """The capture path and what stands around it."""

    connect: FakeConnect
    clock: Clock
    capturer: Capturer
    ledger: Ledger
    lake_store: Lake
    reader: ReferenceReader
    dynamodb: Any
    s3: Any
    sqs: Any

    def items(self, contact_id: str) -> list[dict[str, Any]]:
        """The ledger's items of a contact, as they are."""
        answer = self.dynamodb.query(
            TableName="ledger",
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"{INSTANCE_ID}#{contact_id}"}},
        )
        return [{name: next(iter(value.values())) for name, value in item.items()} for item in answer["Items"]]

    def lake(self) -> dict[str, list[dict[str, Any]]]:
        """The lake's objects: their records by their keys."""
        objects = self.s3.list_objects_v2(Bucket="lake").get("Contents", [])
        bodies = {item["Key"]: self.s3.get_object(Bucket="lake", Key=item["Key"])["Body"].read() for item in objects}
        return {key: list(map(json.loads, gzip.decompress(body).splitlines())) for key, body in bodies.items()}

    def lake_snapshot(self) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
        """What the lake says is true: of each contact the newest CONTACT record and the references by its name."""
        records = list(itertools.chain.from_iterable(self.lake().values()))
        newest: dict[str, dict[str, Any]] = {}
        rows = defaultdict(list)
        for record in sorted(records, key=lambda record: record["captured_at"]):
            if record["record_type"] == "CONTACT":
                newest[record["contact_id"]] = record
            else:
                rows[record["contact_id"], record["captured_at"]].append(record)
        return {name: (record, rows[name, record["captured_at"]]) for name, record in newest.items()}

    def capture(self, *completions: Completion, time_left: float = 900) -> list[Any]:
        """Capture, and return the results in the order of the contacts."""
        return list(self.capturer.capture(completions, time_left=lambda: time_left).values())


def completion(contact_id: str = "a", *, at: datetime = NOON, event_id: str | None = None, **of: Any) -> Completion:
    """Make the completion of a contact, a moment ago."""
    initial = of.pop("initial_contact_id", contact_id)
    contact = Contact(
        key=ContactKey(INSTANCE_ID, contact_id),
        initial_contact_id=initial,
        channel=of.pop("channel", "VOICE"),
        initiation_method="INBOUND",
        completed_at=of.pop("completed_at", at - timedelta(seconds=2)),
        completion_seen=True,
    )
    return Completion(contact=contact, event_id=event_id or f"event-{contact_id}-{at}", event_time=at, **of)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    connect = FakeConnect()
    with mock_aws():
        dynamodb = boto3.client("dynamodb", config=ONCE)
        s3 = boto3.client("s3", config=ONCE)
        sqs = boto3.client("sqs", config=ONCE)
        dynamodb.create_table(
            TableName="ledger",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            BillingMode="PAY_PER_REQUEST",
        )
        s3.create_bucket(Bucket="lake")
        clock = Clock()
        ledger = Ledger(dynamodb, "ledger")
        bucket = TokenBucket(1000, clock=lambda: 0, sleep=lambda _: None)
        reader = ReferenceReader(connect.client, reference_types=ALL_TYPES, bucket=bucket)
        capturer = Capturer(reader=reader, ledger=ledger, lake=Lake(s3, "lake"), clock=clock)
        yield System(
            connect=connect,
            clock=clock,
            lake_store=Lake(s3, "lake"),
            capturer=capturer,
            ledger=ledger,
            reader=reader,
            dynamodb=dynamodb,
            s3=s3,
            sqs=sqs,
        )
