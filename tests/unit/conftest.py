"""The capture path on stand-ins for AWS that answer inside the SDK: real requests, real parsing, no socket."""

import gzip
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import md5
from io import BytesIO, StringIO
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
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

Member = dict[str, Any]


class FakeConnect:
    """`ListContactReferences` as the service does it: strict on its parameters, and known contacts only.

    It stands behind the SDK's own client, so that requests are validated and answers parsed by the real code.
    Set `failures` to have the next calls fail with (status, code); a status of 0 breaks the connection. A request
    that has one of `refused_types` is refused as a whole, as for a channel that can't have it; `refuses` says whether
    for a contact.
    """

    def __init__(self) -> None:
        self.contacts: dict[str, list[Member]] = {}
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
        self.client = make_client("connect")
        self.stand_behind(self.client)

    def stand_behind(self, client: Any) -> None:
        """Answer what this client asks."""
        stand_behind(client, self._answer)

    def _answer(self, request: AWSPreparedRequest) -> AWSResponse:
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
        is_refused = self.refuses(contact_id) and not self.refused_types.isdisjoint(types)
        if is_refused or len(set(types)) < len(types) or len(types) > 6 or not set(types) <= set(ALL_TYPES):
            return respond(request, 400, {}, "InvalidParameterException")
        if contact_id not in self.contacts:
            return respond(request, 404, {}, "ResourceNotFoundException")
        known = ENTERED_TYPES | PRODUCED_TYPES
        of_unknown = types[0] if self.answers_unknown_always else "ATTACHMENT"
        asked = [m for m in self.contacts[contact_id] if known.get(next(iter(m)), of_unknown) in types]
        start = int(query.get("nextToken", ["0"])[0])
        size = self.page_size or len(asked) or 1
        token = str(start + size) if start + size < len(asked) else None
        if self.repeats_token:
            token = "1"  # noqa: S105 - no secret
        body = json.dumps({"ReferenceSummaryList": asked[start : start + size], "NextToken": token}).encode()
        return respond(request, 200, self.rewrite(body))


def make_client(service: str, config: Config = ONCE) -> Any:
    create: Any = boto3.client
    return create(service, config=config, **CREDENTIALS)


def stand_behind(client: Any, answer: Callable[[AWSPreparedRequest], AWSResponse]) -> None:
    """Answer what a client asks, alone: also while moto answers other clients."""
    client.meta.events.unregister("before-send", botocore_stubber)
    client.meta.events.register("before-send", lambda request, **_: answer(request))


def respond(request: AWSPreparedRequest, status: int, body: Any, code: str = "") -> AWSResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers: Any = {"content-type": "application/json", **({"x-amzn-errortype": code} if code else {})}

    class Raw(BytesIO):
        def stream(self, **_: object) -> Iterator[bytes]:
            yield self.read()

    return AWSResponse(request.url, status, headers, Raw(raw))


Item = dict[str, Any]
Key = tuple[str, str]

MEGABYTE = 1024 * 1024
INDEX_KEYS = ("value_key", "value_at", "due_key", "due_at")


class FakeDynamoDB:
    """The DynamoDB calls that the ledger makes, in memory: what takes thousands of captures can't wait for moto.

    Parameters and answers are the wire's. It refuses what the service refuses (`ClientError` from `call`, the
    answer of an HTTP request from `answer`) and fails on an expression that the ledger is not known to use.
    """

    def __init__(self) -> None:
        self.items: dict[Key, Item] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.rows_a_page = 60
        """The service's pages end at a megabyte; shorter ones are met more often."""
        self.gets_to: Callable[[int], int] = lambda count: count
        """To how many of a BatchWriteItem's requests it gets; the others are unprocessed."""
        self.refuses: Callable[[str, dict[str, Any]], str | None] = lambda *_: None
        """With which error's code an operation with these parameters is refused."""

    def stand_behind(self, client: Any) -> None:
        """Answer what this client asks."""
        stand_behind(client, self.answer)

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a request of the SDK's client."""
        operation, body = read_request(request)
        try:
            return respond(request, 200, self.call(operation, body))
        except ClientError as error:
            of: Any = error.response
            refusal = {"__type": f"com.amazonaws.dynamodb.v20120810#{of['Error']['Code']}", "message": "refused"}
            return respond(request, 400, refusal | ({"Item": of["Item"]} if "Item" in of else {}))

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Do what one operation asks for."""
        self.calls.append((operation, parameters))
        if code := self.refuses(operation, parameters):
            raise _refusal(code, operation)
        calls: dict[str, Callable[[Any], dict[str, Any]]] = {
            "BatchGetItem": self._batch_get,
            "BatchWriteItem": self._batch_write,
            "Query": self._query,
            "PutItem": self._put,
            "UpdateItem": self._update,
        }
        return calls[operation](parameters)

    def _batch_get(self, parameters: dict[str, Any]) -> dict[str, Any]:
        [(table, request)] = parameters["RequestItems"].items()
        assert request["ConsistentRead"] is True
        keys = [_key(key, is_alone=True) for key in request["Keys"]]
        _require(0 < len(keys) <= 100 and len(set(keys)) == len(keys), "BatchGetItem")
        return {"Responses": {table: [self.items[key] for key in keys if key in self.items]}, "UnprocessedKeys": {}}

    def _batch_write(self, parameters: dict[str, Any]) -> dict[str, Any]:
        [(table, requests)] = parameters["RequestItems"].items()
        _require(0 < len(requests) <= 25, "BatchWriteItem")
        writes: dict[Key, Item | None] = {}
        size = 0
        for request in requests:
            [(kind, of)] = request.items()
            assert kind in ("PutRequest", "DeleteRequest"), kind
            key = _key(of["Key"], is_alone=True) if kind == "DeleteRequest" else _key(of["Item"])
            _require(key not in writes, "BatchWriteItem")
            writes[key] = of.get("Item")
            size += _checked_size(of["Item"], "BatchWriteItem") if kind == "PutRequest" else 0
        _require(size <= 16 * MEGABYTE, "BatchWriteItem")
        done = self.gets_to(len(requests))
        for key, item in itertools.islice(writes.items(), done):
            if item is None:
                self.items.pop(key, None)
            else:
                self.items[key] = item
        return {"UnprocessedItems": {table: requests[done:]} if requests[done:] else {}}

    def _query(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if "IndexName" in parameters:
            return self._query_value(parameters)
        used = {"pk = :pk": {":pk"}, "pk = :pk AND begins_with(sk, :rows)": {":pk", ":rows"}}
        assert parameters["ConsistentRead"] is True
        values = parameters["ExpressionAttributeValues"]
        _require(set(values) == used[parameters["KeyConditionExpression"]], "Query")
        _require(all(value["S"] for value in values.values()), "Query")
        start = _key(parameters["ExclusiveStartKey"]) if "ExclusiveStartKey" in parameters else ("", "")
        prefix = values.get(":rows", {"S": ""})["S"]
        found = sorted(
            key for key in self.items if key[0] == values[":pk"]["S"] and key[1].startswith(prefix) and key > start
        )
        page = {"Items": [self.items[key] for key in found[: self.rows_a_page]]}
        if len(found) <= self.rows_a_page:
            return page
        pk, sk = found[self.rows_a_page - 1]
        return page | {"LastEvaluatedKey": {"pk": {"S": pk}, "sk": {"S": sk}}}

    def _query_value(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Answer from the index `by_value`, which has all columns, the latest first, never a moment behind."""
        assert parameters["IndexName"] == "by_value"
        assert parameters["KeyConditionExpression"] == "value_key = :value"
        assert parameters["ScanIndexForward"] is False
        [wanted] = parameters["ExpressionAttributeValues"].values()
        _require("ConsistentRead" not in parameters and parameters["Limit"] > 0, "Query")
        found = [item for item in self.items.values() if item.get("value_key") == wanted]
        found.sort(key=lambda item: (item["value_at"]["S"], *_key(item)), reverse=True)
        names = ("pk", "sk", "value_key", "value_at")
        keys = [{name: item[name] for name in names} for item in found]
        start = keys.index(parameters["ExclusiveStartKey"]) + 1 if "ExclusiveStartKey" in parameters else 0
        end = start + parameters["Limit"]
        page: dict[str, Any] = {"Items": found[start:end]}
        # As the service does, a page that is full has a key to go on after, even if nothing comes after it.
        return page | ({"LastEvaluatedKey": keys[end - 1]} if end <= len(found) else {})

    def _put(self, parameters: dict[str, Any]) -> dict[str, Any]:
        item = parameters["Item"]
        key = _key(item)
        _checked_size(item, "PutItem")
        self._check_condition(key, parameters, "PutItem")
        self.items[key] = item
        return {}

    def _update(self, parameters: dict[str, Any]) -> dict[str, Any]:
        key, values = _key(parameters["Key"], is_alone=True), parameters["ExpressionAttributeValues"]
        changes = _read_update(parameters["UpdateExpression"])
        names = [name for name, _, _ in changes]
        _require(len(set(names)) == len(names) and not {"pk", "sk"} & set(names), "UpdateItem")
        used = {value for _, _, value in changes if value}
        self._check_condition(key, parameters, "UpdateItem", also_used=used)
        item = dict(self.items.get(key) or {"pk": {"S": key[0]}, "sk": {"S": key[1]}})
        for name, how, value in changes:
            if how == "remove":
                item.pop(name, None)
            elif how == "add":
                item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + int(values[value]["N"]))}
            elif how == "set" or name not in item:
                item[name] = values[value]
        _checked_size(item, "UpdateItem")
        self.items[key] = item
        return {}

    def _check_condition(
        self, key: Key, parameters: dict[str, Any], operation: str, *, also_used: Iterable[str] = ()
    ) -> None:
        """Refuse if the condition does not hold, and as the service does, values that nothing uses."""
        expression, values = parameters.get("ConditionExpression"), parameters.get("ExpressionAttributeValues", {})
        item, used, is_met = self.items.get(key), set(also_used), True
        if expression == "attribute_not_exists(pk)":
            is_met = item is None
        elif expression is not None:
            terms = [re.fullmatch(r"(\w+) = (:\w+)", term) for term in expression.split(" AND ")]
            pairs = [(term[1], term[2]) for term in terms if term]
            assert len(pairs) == len(terms), f"the fake does not know {expression}"
            used |= {value for _, value in pairs}
            is_met = item is not None and all(item.get(name) == values.get(value) for name, value in pairs)
        _require(set(values) == used, operation)
        if is_met:
            return
        returned = parameters.get("ReturnValuesOnConditionCheckFailure", "NONE")
        _require(returned in ("NONE", "ALL_OLD"), operation)
        raise _refusal("ConditionalCheckFailedException", operation, item if returned == "ALL_OLD" else None)


def read_request(request: AWSPreparedRequest) -> tuple[str, dict[str, Any]]:
    """Return which operation of DynamoDB a request is for, and its parameters."""
    target, body = request.headers["X-Amz-Target"], request.body
    assert isinstance(body, bytes)
    return (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2], json.loads(body)


def _read_update(expression: str) -> list[tuple[str, str, str]]:
    """Return what an update does: to which attribute, how (set, default, remove, add), with which value."""
    sections = re.fullmatch(r"SET (.+?)(?: REMOVE (.+?))?(?: ADD (.+))?", expression)
    assert sections is not None, f"the fake does not know {expression}"
    terms = {"set": r"(\w+) = (:\w+)", "default": r"(\w+) = if_not_exists\(\1, (:\w+)\)"}
    changes: list[tuple[str, str, str]] = []
    for term in re.split(r", (?![^(]*\))", sections[1]):
        [found] = [(match[1], how, match[2]) for how, form in terms.items() if (match := re.fullmatch(form, term))]
        changes.append(found)
    changes += [(name, "remove", "") for name in (sections[2] or "").split(", ") if name]
    changes += [(name, "add", value) for name, value in re.findall(r"(\w+) (:\w+)", sections[3] or "")]
    return changes


def _key(item: Item, *, is_alone: bool = False) -> Key:
    _require(not is_alone or set(item) == {"pk", "sk"}, "a key")
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
        if name in INDEX_KEYS:
            _require(kind == "S" and 0 < len(content.encode()) <= 1024, operation)
    _require(size <= 400 * 1024, operation)
    return size


def _refusal(code: str, operation: str, item: Item | None = None) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(answer | ({"Item": item} if item else {}), operation)


def _require(is_met: bool, operation: str) -> None:
    if not is_met:
        raise _refusal("ValidationException", operation)


class FakeS3:
    """S3's `PutObject`, in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def stand_behind(self, client: Any) -> None:
        """Answer what this client asks."""
        stand_behind(client, self.answer)

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a request of the SDK's client."""
        body: Any = request.body
        assert request.method == "PUT"
        key = unquote(urlsplit(request.url).path).lstrip("/").removeprefix("lake/")
        assert key not in self.objects, "the lake is append only"
        self.objects[key] = body if isinstance(body, bytes) else body.read()
        return respond(request, 200, b"")


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


class FakeSQS:
    """SQS's calls of the function that captures, in memory."""

    def __init__(self) -> None:
        self.dead_letters: list[str] = []
        self.delays: list[int] = []

    def stand_behind(self, client: Any) -> None:
        """Answer what this client asks."""
        stand_behind(client, self.answer)

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a request of the SDK's client."""
        operation, message = read_request(request)
        if operation == "SendMessage":
            body = message["MessageBody"]
            self.dead_letters.append(body)
            return respond(
                request,
                200,
                {"MessageId": "m", "MD5OfMessageBody": md5(body.encode(), usedforsecurity=False).hexdigest()},
            )
        assert operation == "ChangeMessageVisibility"
        self.delays.append(message["VisibilityTimeout"])
        return respond(request, 200, {})


class System(SimpleNamespace):
    """The capture path and what stands around it."""

    connect: FakeConnect
    fake: FakeDynamoDB
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
            self.connect.client,
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
    names = ("pk", "sk", *INDEX_KEYS)
    dynamodb.create_table(
        TableName="ledger",
        KeySchema=_key_schema("pk", "sk"),
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        GlobalSecondaryIndexes=[
            {
                "IndexName": f"by_{of}",
                "KeySchema": _key_schema(f"{of}_key", f"{of}_at"),
                "Projection": {"ProjectionType": projected},
            }
            for of, projected in (("value", "ALL"), ("due", "KEYS_ONLY"))
        ],
        BillingMode="PAY_PER_REQUEST",
    )


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def make_system() -> System:
    connect, fake, s3 = FakeConnect(), FakeDynamoDB(), FakeS3()
    clients = {name: make_client(name) for name in ("dynamodb", "s3")}
    fake.stand_behind(clients["dynamodb"])
    s3.stand_behind(clients["s3"])
    system = System(
        connect=connect,
        fake=fake,
        lake_objects=s3.objects,
        clock=Clock(),
        lake_store=Lake(clients["s3"], "lake"),
        leftovers=[],
        sleeps=[],
        seconds=itertools.count().__next__,
        **clients,
    )
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
        self._sqs = FakeSQS()
        self._report = WatchingReport()
        client = make_client("sqs")
        self._sqs.stand_behind(client)
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
