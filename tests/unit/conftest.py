"""The capture path on moto, with a Connect that answers inside the SDK: real requests, real parsing, no socket."""

import gzip
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
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
            return respond(request, status, {"message": "secret value"}, code)
        if len(types) > 6 or not set(types) <= set(ALL_TYPES):
            return respond(request, 400, {}, "InvalidParameterException")
        if contact_id not in self.contacts:
            return respond(request, 404, {}, "ResourceNotFoundException")
        known = ENTERED_TYPES | PRODUCED_TYPES
        asked = [m for m in self.contacts[contact_id] if known.get(next(iter(m)), "ATTACHMENT") in types]
        start = int(query.get("nextToken", ["0"])[0])
        size = self.page_size or len(asked) or 1
        token = str(start + size) if start + size < len(asked) else None
        if self.repeats_token:
            token = "1"  # noqa: S105 - no secret
        body = json.dumps({"ReferenceSummaryList": asked[start : start + size], "NextToken": token}).encode()
        return respond(request, 200, self.rewrite(body))


def respond(request: AWSPreparedRequest, status: int, body: Any, code: str = "") -> AWSResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers: Any = {"content-type": "application/json", **({"x-amzn-errortype": code} if code else {})}

    class Raw(BytesIO):
        def stream(self, **_: object) -> Iterator[bytes]:
            yield self.read()

    return AWSResponse(request.url, status, headers, Raw(raw))


Item = dict[str, Any]
Key = tuple[str, str]


class FakeDynamoDB:
    """The DynamoDB calls that the ledger makes, in memory: what takes thousands of captures can't wait for moto.

    Parameters and answers are the wire's. It refuses what the service refuses (`ClientError` from `call`, the
    answer of an HTTP request from `answer`) and fails on an expression that the ledger is not known to use.
    """

    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}
        self.rows_a_page = 60
        """The service's pages end at a megabyte; shorter ones are met more often."""

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a request of the SDK's client."""
        target, body = request.headers["X-Amz-Target"], request.body
        assert isinstance(body, bytes)
        operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
        try:
            return respond(request, 200, self.call(operation, json.loads(body)))
        except ClientError as error:
            refusal = {
                "__type": f"com.amazonaws.dynamodb.v20120810#{error.response['Error']['Code']}",
                **error.response,
            }
            return respond(request, 400, refusal)

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Do what one operation asks for."""
        calls: dict[str, Callable[[Any], dict[str, Any]]] = {
            "BatchGetItem": self._batch_get,
            "Query": self._query,
            "PutItem": lambda put: self._transact([{"Put": put}], "PutItem"),
            "UpdateItem": self._update,
            "TransactWriteItems": lambda parameters: self._transact(parameters["TransactItems"], "TransactWriteItems"),
        }
        return calls[operation](parameters)

    def _batch_get(self, parameters: dict[str, Any]) -> dict[str, Any]:
        [(table, request)] = parameters["RequestItems"].items()
        assert request["ConsistentRead"] is True
        keys = [_key(key) for key in request["Keys"]]
        _require(0 < len(keys) <= 100 and len(set(keys)) == len(keys), "BatchGetItem")
        return {"Responses": {table: [self.items[key] for key in keys if key in self.items]}, "UnprocessedKeys": {}}

    def _query(self, parameters: dict[str, Any]) -> dict[str, Any]:
        assert parameters["KeyConditionExpression"] == "pk = :pk AND begins_with(sk, :rows)"
        assert parameters["ConsistentRead"] is True
        values = parameters["ExpressionAttributeValues"]
        start = _key(parameters["ExclusiveStartKey"]) if "ExclusiveStartKey" in parameters else ("", "")
        found = sorted(
            key
            for key in self.items
            if key[0] == values[":pk"]["S"] and key[1].startswith(values[":rows"]["S"]) and key > start
        )
        page = {"Items": [self.items[key] for key in found[: self.rows_a_page]]}
        if len(found) <= self.rows_a_page:
            return page
        pk, sk = found[self.rows_a_page - 1]
        return page | {"LastEvaluatedKey": {"pk": {"S": pk}, "sk": {"S": sk}}}

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        update = re.fullmatch(r"SET (\w+ = :\w+(?:, \w+ = :\w+)*)(?: REMOVE (.+))?", parameters["UpdateExpression"])
        assert update is not None
        changed = dict(term.split(" = ") for term in update[1].split(", "))
        removed = update[2].split(", ") if update[2] else []
        _require(not set(removed) & set(changed), "UpdateItem")
        key, values = _key(parameters["Key"]), parameters["ExpressionAttributeValues"]
        if not _holds(self.items.get(key), parameters, also_used=changed.values()):
            raise _refusal("ConditionalCheckFailedException", "UpdateItem")
        item = self.items[key] | {name: values[value] for name, value in changed.items()}
        self.items[key] = {name: value for name, value in item.items() if name not in removed}
        return {}

    def _transact(self, actions: list[dict[str, Any]], operation: str) -> dict[str, Any]:
        keys = [_key(action.get("Key") or action["Item"]) for of in actions for action in of.values()]
        puts = {_key(of["Put"]["Item"]): of["Put"]["Item"] for of in actions if "Put" in of}
        _require(len(keys) <= 100 and len(set(keys)) == len(keys), operation)
        sizes = [_checked_size(item, operation) for item in puts.values()]
        _require(sum(sizes) <= 4 * 1024 * 1024, operation)
        held = [_holds(self.items.get(key), next(iter(of.values()))) for key, of in zip(keys, actions, strict=True)]
        if not all(held):
            if operation == "PutItem":
                raise _refusal("ConditionalCheckFailedException", operation)
            reasons = [{"Code": "None" if is_held else "ConditionalCheckFailed"} for is_held in held]
            raise _refusal("TransactionCanceledException", operation, CancellationReasons=reasons)
        for key, action in zip(keys, actions, strict=True):
            if "Delete" in action:
                self.items.pop(key, None)
        self.items |= puts
        return {}


def _key(item: Item) -> Key:
    key = (item["pk"]["S"], item["sk"]["S"])
    _require(0 < len(key[0].encode()) <= 2048 and 0 < len(key[1].encode()) <= 1024, "a key")
    return key


def _checked_size(item: Item, operation: str) -> int:
    size = 0
    for name, value in item.items():
        [(kind, content)] = value.items()
        size += len(name) + (len(content.encode()) if kind == "S" else 21 if kind == "N" else 1)
        if kind == "N":
            digits = re.sub(r"[eE].*|[^0-9]", "", content).strip("0")
            _require(len(digits) <= 38, operation)
        if name == "value_key":
            _require(kind == "S" and 0 < len(content.encode()) <= 2048, operation)
    _require(size <= 400 * 1024, operation)
    return size


def _holds(item: Item | None, action: dict[str, Any], *, also_used: Iterable[str] = ()) -> bool:
    """Whether the action's condition holds of the item; values that nothing uses are refused, as by the service."""
    expression, values = action.get("ConditionExpression"), action.get("ExpressionAttributeValues", {})
    if expression is None or expression == "attribute_not_exists(pk)":
        _require(set(values) == set(also_used), "a condition")
        return expression is None or item is None
    terms = [re.fullmatch(r"(\w+) = (:\w+)", term) for term in expression.split(" AND ")]
    pairs = [(term[1], term[2]) for term in terms if term]
    assert len(pairs) == len(terms), f"the fake does not know {expression}"
    _require(set(values) == {value for _, value in pairs} | set(also_used), "a condition")
    return item is not None and all(item.get(name) == values[value] for name, value in pairs)


def _refusal(code: str, operation: str, **more: Any) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}, **more}
    return ClientError(answer, operation)


def _require(is_met: bool, operation: str) -> None:
    if not is_met:
        raise _refusal("ValidationException", operation)


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
        return snapshot(itertools.chain.from_iterable(self.lake().values()))

    def capture(self, *completions: Completion, time_left: float = 900) -> list[Any]:
        """Capture, and return the results in the order of the contacts."""
        return list(self.capturer.capture(completions, time_left=lambda: time_left).values())


def snapshot(records: Iterable[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Read the lake's records as the contract says: of each contact, what its newest CONTACT record names."""
    newest: dict[str, dict[str, Any]] = {}
    rows = defaultdict(list)
    for record in sorted(records, key=lambda record: str(record["captured_at"])):
        if record["record_type"] == "CONTACT":
            newest[record["contact_id"]] = record
        else:
            rows[record["contact_id"], record["captured_at"]].append(record)
    return {name: (record, rows[name, record["captured_at"]]) for name, record in newest.items()}


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


def create_ledger(dynamodb: Any) -> None:
    """Create the table, with the index of what is due."""
    names = ("pk", "sk", "settle_state", "look_again_at")
    dynamodb.create_table(
        TableName="ledger",
        KeySchema=_key_schema("pk", "sk"),
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_due",
                "KeySchema": _key_schema("settle_state", "look_again_at"),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


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
        create_ledger(dynamodb)
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
