"""The services in memory answer as moto does where that is strict, and refuse what the real ones refuse."""

import contextlib
import doctest
import gzip
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, HeadersDict
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

from contact_references.aws.ledger import Ledger, value_key
from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.reference import normalize_references
from contact_references.model.timestamps import format_time
from local.in_memory import dynamodb, expressions
from local.in_memory.connect import Connect, ConnectSearch
from local.in_memory.dynamodb import DynamoDB
from local.in_memory.s3 import S3
from local.in_memory.server import Server
from local.in_memory.service import ConditionalCheckFailedError, RefusedError
from local.in_memory.sqs import SQS
from local.in_memory.usage import INDEX_UNITS, WRITE_UNITS
from ops.lake_versions import LakeVersions, Searched, Version
from tests.unit.conftest import ALL_TYPES, CREDENTIALS, INSTANCE_ID, NOON, create_ledger, make_client
from tests.unit.versioned_s3 import VersionedS3

TABLE = "ledger"
KEY = ContactKey(INSTANCE_ID, "a")
CONTACT = Contact(key=KEY, initial_contact_id="a", channel="VOICE", completed_at=NOON, completion_seen=True)
MINUTE = timedelta(minutes=1)


class Both:
    """The fake and moto, asked the same."""

    def __init__(self) -> None:
        self.moto, self.fake = make_client("dynamodb"), DynamoDB()
        create_ledger(self.moto)
        self.clients = (make_client("dynamodb", answered_by=self.fake), self.moto)
        self.ledgers = [Ledger(client, TABLE, clock=lambda: NOON) for client in self.clients]

    def ask(self, operation: str, **parameters: Any) -> Any:
        """Return what both answer to a call, or how both refuse it."""
        one, another = (_outcome(getattr(client, operation), parameters) for client in self.clients)
        self.assert_alike()
        assert one == another
        return one

    def do(self, act: Callable[[Ledger], Any]) -> Any:
        """Return what both ledgers do."""
        one, another = map(act, self.ledgers)
        self.assert_alike()
        assert one == another
        return one

    def assert_alike(self) -> None:
        items = self.moto.scan(TableName=TABLE)["Items"]
        assert {(item["pk"]["S"], item["sk"]["S"]): _plain(item) for item in items} == {
            key: _plain(item) for key, item in self.fake.items.items()
        }


@pytest.fixture
def both(moto: None) -> Both:  # noqa: ARG001 - before its client is made
    return Both()


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(item.items()))


def _outcome(call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    try:
        answer = call(**parameters)
    except ClientError as error:
        of: Any = error.response
        return of["Error"]["Code"], of.get("Item")
    return {name: answer[name] for name in ("Items", "Responses", "UnprocessedItems") if name in answer}


def text(**attributes: str) -> dict[str, Any]:
    return {name: {"S": value} for name, value in attributes.items()}


def put(sort_key: str, **attributes: str) -> dict[str, Any]:
    return {"PutRequest": {"Item": text(pk="p", sk=sort_key, **attributes)}}


def delete(sort_key: str) -> dict[str, Any]:
    return {"DeleteRequest": {"Key": text(pk="p", sk=sort_key)}}


@pytest.mark.parametrize(
    "requests",
    [
        [put("a"), put("b")],
        [put("a"), delete("b"), delete("c")],
        [put(str(number)) for number in range(25)],
        [delete("a"), delete("a")],
    ],
)
def test_a_batch_is_written_or_refused_as_a_whole(both: Both, requests: list[Any]) -> None:
    both.ask("put_item", TableName=TABLE, Item=text(pk="p", sk="c"))
    both.ask("batch_write_item", RequestItems={TABLE: requests})


# What the service refuses, by its documentation, and moto does not: it must not be tested with moto alone.
# https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchWriteItem.html
@pytest.mark.parametrize(
    "requests",
    [
        [],
        [put(str(number)) for number in range(26)],
        [put("a"), put("a", more="x")],
        [put("a"), delete("a")],
        [put("a"), put("b", more="x" * 410_000)],
        [put("a", value_key="", value_at="x")],
        [put("a", due_key="x" * 1025)],
    ],
    ids=["nothing", "26", "a key twice", "put and deleted", "too large", "an empty key of an index", "a long one"],
)
def test_the_stand_in_refuses_as_a_whole_what_the_service_refuses(requests: list[Any]) -> None:
    fake = DynamoDB()
    with pytest.raises(ClientError, match="ValidationException"):
        fake.call("BatchWriteItem", {"RequestItems": {TABLE: requests}})
    assert fake.items == {}


def test_the_stand_in_refuses_values_that_no_expression_uses() -> None:
    fake = DynamoDB()
    condition = {"ConditionExpression": "attribute_not_exists(pk)", "ExpressionAttributeValues": {":seen": {"N": "2"}}}
    with pytest.raises(ClientError, match="ValidationException"):
        fake.call("PutItem", {"Item": text(pk="p", sk="s"), **condition})


def test_the_stand_in_leaves_unprocessed_what_it_is_told_to(both: Both) -> None:
    both.fake.gets_to = lambda _: 1
    answer = both.clients[0].batch_write_item(RequestItems={TABLE: [put("a"), put("b"), delete("c")]})
    assert answer["UnprocessedItems"] == {TABLE: [put("b"), delete("c")]}
    assert [sort_key for _, sort_key in both.fake.items] == ["a"]


def test_a_refused_put_hands_out_the_item_that_it_met_if_it_is_asked_to(both: Both) -> None:
    item = text(pk="p", sk="s", capture_id="1") | {"version": {"N": "1"}}
    both.ask("put_item", TableName=TABLE, Item=item)
    condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
    refused = "ConditionalCheckFailedException"
    assert both.ask("put_item", TableName=TABLE, Item=item, **condition) == (refused, None)
    condition["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    assert both.ask("put_item", TableName=TABLE, Item=item, **condition) == (refused, item)
    condition |= {"ConditionExpression": "version = :seen", "ExpressionAttributeValues": {":seen": {"N": "2"}}}
    assert both.ask("put_item", TableName=TABLE, Item=item, **condition) == (refused, item)
    assert both.ask("put_item", TableName=TABLE, Item=text(pk="p", sk="none"), **condition) == (refused, None)
    condition |= {"ExpressionAttributeValues": {":seen": {"N": "1"}}}
    assert both.ask("put_item", TableName=TABLE, Item=item | text(more="x"), **condition) == {}


def item_of(capture: Capture, *, version: int = 1) -> ContactItem:
    return ContactItem(
        contact=capture.contact,
        capture_id=capture.capture_id,
        captured_at=capture.captured_at,
        reference_count=len(capture.references),
        event_id="event",
        read_at=capture.captured_at,
        checked_at=capture.captured_at,
        version=version,
        due_at=NOON + MINUTE,
        full_recheck_at=NOON + MINUTE,
    )


def capture_of(name: str, count: int) -> Capture:
    members = [{"Url": {"Name": f"{name} {number}", "Value": "https://example.com/"}} for number in range(count)]
    members += [{"Number": {"Name": name, "Value": "1.50"}}]
    return Capture(contact=CONTACT, capture_id=name, captured_at=NOON, references=normalize_references(members))


def commit(ledger: Ledger, capture: Capture, over: ContactItem | None = None) -> bool:
    assert ledger.put_rows({capture.capture_id: ledger.make_rows(capture)}) == {}
    return ledger.commit(item_of(capture, version=over.version + 1 if over else 1), over=over)


def test_the_ledger_does_the_same_on_both(both: Both) -> None:
    first, second = capture_of("first", 40), capture_of("second", 2)
    assert both.do(lambda ledger: commit(ledger, first))
    assert not both.do(lambda ledger: commit(ledger, second))
    seen = item_of(first)
    assert both.do(lambda ledger: ledger.find_items([KEY, ContactKey(INSTANCE_ID, "none")])) == {KEY: seen}
    confirmed = replace(seen, version=2, checked_at=NOON + MINUTE, due_at=None, full_recheck_at=None)
    assert both.do(lambda ledger: ledger.confirm(confirmed, over=seen))
    assert not both.do(lambda ledger: ledger.confirm(confirmed, over=seen))
    assert both.do(lambda ledger: ledger.find_items([KEY])) == {KEY: confirmed}
    assert not both.do(lambda ledger: commit(ledger, second, over=seen))
    assert both.do(lambda ledger: commit(ledger, second, over=confirmed))
    rows = both.do(lambda ledger: ledger.find_rows(KEY))
    assert {name: len(references) for name, references in rows.references.items()} == {"first": 41, "second": 3}
    of_first = [name for name in rows.sort_keys if "#first#" in name]
    both.do(lambda ledger: ledger.delete_rows({KEY: of_first}))
    held = both.do(lambda ledger: ledger.find_capture(KEY))
    assert (held.capture_id, set(held.references)) == ("second", set(second.references))
    for _ in range(2):
        both.do(lambda ledger: ledger.mark_day("2026-03-01"))


def test_the_indexes_find_values_and_what_is_due(both: Both) -> None:
    capture = capture_of("a", 1)
    both.do(lambda ledger: commit(ledger, capture))
    both.do(lambda ledger: ledger.mark_day("2026-03-01"))

    def found(index: str, value: str) -> list[tuple[str, str]]:
        items = both.moto.query(
            TableName=TABLE,
            IndexName=index,
            KeyConditionExpression=f"{index.removeprefix('by_')}_key = :key",
            ExpressionAttributeValues={":key": {"S": value}},
        )["Items"]
        return [(item["sk"]["S"].split("#")[0], item[f"{index.removeprefix('by_')}_at"]["S"]) for item in items]

    assert found("by_value", value_key("URL", "https://example.com/")) == [("REFERENCE", format_time(NOON))]
    assert found("by_value", value_key("NUMBER", "1.5")) == [("REFERENCE", format_time(NOON))]
    assert found("by_due", f"RECHECK#{INSTANCE_ID}") == [("CONTACT", format_time(NOON + MINUTE))]
    assert found("by_due", "DAY") == [("2026-03-01", format_time(NOON))]
    both.do(lambda ledger: ledger.confirm(replace(item_of(capture), version=2, due_at=None), over=item_of(capture)))
    assert found("by_due", f"RECHECK#{INSTANCE_ID}") == []


def test_both_page_through_a_value_the_latest_first(both: Both) -> None:
    captures = [
        replace(
            capture_of(name, 0),
            capture_id=name,
            contact=replace(CONTACT, key=ContactKey(INSTANCE_ID, name), completed_at=NOON + hour * MINUTE),
        )
        for hour, name in enumerate("abc")
    ]
    both.do(lambda ledger: [commit(ledger, capture) for capture in captures])
    rows, following = both.do(lambda ledger: ledger.find_rows_of_value("NUMBER", "1.5", limit=2))
    assert [row.capture_id for row in rows] == ["c", "b"]
    rows, following = both.do(lambda ledger: ledger.find_rows_of_value("NUMBER", "1.5", limit=2, after=following))
    assert ([row.capture_id for row in rows], following) == (["a"], None)
    assert both.do(lambda ledger: ledger.find_rows_of_value("NUMBER", "2", limit=2)) == ([], None)


def test_a_batch_of_gets_ends_at_sixteen_megabytes_and_names_the_rest() -> None:
    fake = DynamoDB()
    for number in range(50):
        fake.put(text(pk="p", sk=f"{number:02}", more="x" * 400_000))
    keys = [text(pk="p", sk=f"{number:02}") for number in range(50)]
    answer = fake.batch_get_item(RequestItems={TABLE: {"Keys": keys, "ConsistentRead": True}})
    [found], left = answer["Responses"].values(), answer["UnprocessedKeys"][TABLE]
    assert (len(found), left) == (41, {"Keys": keys[41:], "ConsistentRead": True})


@pytest.mark.parametrize("keys", [[], [text(pk="p", sk="a")] * 2, [text(pk="p", sk=str(n)) for n in range(101)]])
def test_a_batch_of_gets_is_of_one_to_a_hundred_keys_each_once(keys: list[Any]) -> None:
    with pytest.raises(RefusedError, match="ValidationException"):
        DynamoDB().batch_get_item(RequestItems={TABLE: {"Keys": keys, "ConsistentRead": True}})


@pytest.mark.parametrize(
    "item",
    [
        text(pk="p"),
        text(pk="p", sk=""),
        text(pk="p" * 2049, sk="s"),
        text(pk="p", sk="s" * 1025),
        text(pk="p", sk="s") | {"n": {"N": "9" * 39}},
        text(pk="p", sk="s", more="x" * 410_000),
    ],
    ids=["half a key", "an empty key", "a long partition key", "a long sort key", "39 digits", "too large"],
)
def test_an_item_that_the_service_would_not_take_is_refused(item: dict[str, Any]) -> None:
    fake = DynamoDB()
    with pytest.raises(RefusedError, match="ValidationException"):
        fake.put_item(TableName=TABLE, Item=item)
    assert fake.items == {}


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("UpdateItem", {"Key": text(pk="p", sk="s"), "UpdateExpression": "SET a = b"}),
        ("PutItem", {"Item": text(pk="p", sk="s"), "ConditionExpression": "attribute_exists(sk)"}),
        ("Query", {"KeyConditionExpression": "sk = :sk", "ExpressionAttributeValues": text(**{":sk": "p"})}),
        ("BatchGetItem", {"RequestItems": {TABLE: {"Keys": [text(pk="p", sk="s")]}}}),
    ],
    ids=["an update", "a condition", "a query", "an eventually consistent read"],
)
def test_what_is_not_known_to_be_asked_is_not_answered(operation: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError):
        DynamoDB().call(operation, parameters)


@pytest.mark.parametrize("expression", ["SET a = :a, a = :a", "SET sk = :a"])
def test_an_update_changes_no_attribute_twice_and_no_key(expression: str) -> None:
    update = {"UpdateExpression": expression, "ExpressionAttributeValues": text(**{":a": "x"})}
    with pytest.raises(RefusedError, match="ValidationException"):
        DynamoDB().update_item(TableName=TABLE, Key=text(pk="p", sk="s"), **update)


def test_the_index_of_what_is_due_gives_pages_in_both_directions_and_is_as_far_behind_as_it_is_told() -> None:
    now = [NOON]
    fake = DynamoDB(clock=lambda: now[0])
    for number in range(5):
        fake.put(text(pk="p", sk=str(number), due_key="DAY", due_at=f"2026-03-0{number + 1}"))
    fake.due_page = 2
    values = text(**{":key": "DAY", ":until": "2026-03-04"})
    query = {"IndexName": "by_due", "KeyConditionExpression": "due_key = :key AND due_at <= :until"}

    def found(**options: Any) -> list[str]:
        pages = fake.get_paginator("query").paginate(**query, ExpressionAttributeValues=values, **options)
        return [item["sk"]["S"] for page in pages for item in page["Items"]]

    assert found() == ["0", "1", "2", "3"]
    assert found(ScanIndexForward=False) == ["3", "2", "1", "0"]
    fake.index_lag = MINUTE
    fake.put(text(pk="p", sk="2"))
    fake.batch_write_item(RequestItems={TABLE: [delete("0")]})
    assert found() == ["0", "1", "2", "3"]
    now[0] += MINUTE
    assert found() == ["1", "3"]


def test_a_mark_of_what_is_due_costs_an_index_unit_when_it_comes_and_when_it_goes() -> None:
    fake, key = DynamoDB(), text(pk="a", sk="CONTACT")
    for item in (key | text(due_key="RECHECK#i", due_at="2026-03-02T10:00:00.000Z"), key):
        fake.usage.clear()
        fake.put_item(TableName=TABLE, Item=item)
        assert fake.usage == {WRITE_UNITS: 1, INDEX_UNITS: 1}


def test_a_write_that_is_refused_costs_what_it_would_have_and_more_kilobytes_more_units() -> None:
    fake, item = DynamoDB(), text(pk="p", sk="s", more="x" * 3000)
    for _ in range(2):
        fake.usage.clear()
        with contextlib.suppress(ConditionalCheckFailedError):
            fake.put_item(TableName=TABLE, Item=item, ConditionExpression="attribute_not_exists(pk)")
        assert fake.usage == {WRITE_UNITS: 3}


URL = {"Url": {"Name": "CRM", "Value": "https://crm.example.com/"}}


@pytest.mark.parametrize("types", [[], ["URL"] * 2, ["URL", "MOOD"], list(ALL_TYPES[:7])])
def test_references_are_listed_by_one_to_six_different_known_types(types: list[str]) -> None:
    connect = Connect()
    connect.contacts["a"] = [URL]
    with pytest.raises(RefusedError, match="InvalidParameterException"):
        connect.list_contact_references(InstanceId=INSTANCE_ID, ContactId="a", ReferenceTypes=types)


def test_only_known_contacts_have_references_and_only_of_the_types_asked_for() -> None:
    connect = Connect()
    connect.contacts["a"] = [URL, {"Number": {"Name": "n", "Value": "1"}}, {"Mood": {"Name": "newer than the SDK"}}]
    client = make_client("connect", answered_by=connect)
    answer = client.list_contact_references(InstanceId=INSTANCE_ID, ContactId="a", ReferenceTypes=["URL", "STRING"])
    assert answer["ReferenceSummaryList"] == [URL]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.list_contact_references(InstanceId=INSTANCE_ID, ContactId="b", ReferenceTypes=["URL"])


@pytest.mark.parametrize(
    "changed",
    [
        {"MaxResults": 101},
        {"TimeRange": {"Type": "DISCONNECT_TIMESTAMP", "StartTime": NOON, "EndTime": NOON}},
        {"TimeRange": {"Type": "DISCONNECT_TIMESTAMP", "StartTime": NOON, "EndTime": NOON + timedelta(weeks=9)}},
        {"TimeRange": {"Type": "INITIATION_TIMESTAMP", "StartTime": NOON, "EndTime": NOON + MINUTE}},
        {"NextToken": "another search's"},
        {"Sort": {}},
    ],
    ids=["101 a page", "no time", "nine weeks", "another time", "another token", "more parameters"],
)
def test_a_search_that_the_service_would_not_make_is_refused(changed: dict[str, Any]) -> None:
    period = {"Type": "DISCONNECT_TIMESTAMP", "StartTime": NOON, "EndTime": NOON + MINUTE}
    with pytest.raises(RefusedError):
        ConnectSearch(clock=lambda: NOON).search_contacts(
            **{"InstanceId": INSTANCE_ID, "TimeRange": period, "MaxResults": 100} | changed
        )


def test_searching_faster_than_the_quota_is_a_defect() -> None:
    search = ConnectSearch(clock=lambda: NOON)
    period = {"Type": "DISCONNECT_TIMESTAMP", "StartTime": NOON, "EndTime": NOON + MINUTE}
    request: dict[str, Any] = {"InstanceId": INSTANCE_ID, "TimeRange": period, "MaxResults": 100}
    search.search_contacts(**request)
    with pytest.raises(AssertionError, match="quota"):
        search.search_contacts(**request)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{"Id": "0", "DelaySeconds": 0, "MessageBody": "{}"}] * 2,
        [{"Id": str(n), "DelaySeconds": 0, "MessageBody": "{}"} for n in range(11)],
        [{"Id": "0", "DelaySeconds": 901, "MessageBody": "{}"}],
    ],
    ids=["none", "an id twice", "eleven", "a long delay"],
)
def test_a_batch_of_messages_that_the_queue_would_not_take_is_refused(entries: list[Any]) -> None:
    queue = SQS()
    with pytest.raises(RefusedError):
        queue.send_message_batch(QueueUrl="queue", Entries=entries)
    assert queue.messages == []


def test_a_message_is_hidden_for_twelve_hours_at_most() -> None:
    with pytest.raises(RefusedError, match="InvalidParameterValue"):
        SQS().change_message_visibility(QueueUrl="queue", ReceiptHandle="r", VisibilityTimeout=43_201)


def test_the_bucket_that_keeps_versions_lists_reads_and_deletes_them_as_moto_does() -> None:
    def work(client: Any) -> list[Any]:
        lake = LakeVersions(client, "lake")

        def look(versions: Sequence[Version]) -> list[Any]:
            found = lake.search(versions, lambda content: Searched(rest=content))
            return [(version.key, searched and searched.rest) for version, searched in found.items()]

        for number, name in enumerate(("01/a", "01/b", "01/a", "02/a", "01/a")):
            body = gzip.compress(str(number).encode())
            client.put_object(Bucket="lake", Key=f"captures/completed_date=2026-03-{name}", Body=body)
        found = lake.find("2026-03-01")
        before = look(found)
        lake.delete([found[0], found[-1]])
        lake.delete([found[0]])
        left = lake.find("2026-03-01")
        return [before, [version.is_latest for version in (*found, *left)], look(left), look(found)]

    with mock_aws():
        moto = make_client("s3")
        moto.create_bucket(Bucket="lake")
        moto.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})
        done = work(moto)
    assert work(make_client("s3", answered_by=VersionedS3(lambda: NOON, versions_a_page=2))) == done
    assert [content for _, content in done[0]] == [b"4", b"2", b"0", b"1"]
    assert [content for _, content in done[2]] == [b"2", b"0"]


def test_an_object_is_put_again_the_same_or_not_at_all() -> None:
    s3 = S3()
    client = make_client("s3", answered_by=s3)
    for _ in range(2):
        client.put_object(Bucket="lake", Key="captures/a", Body=b"rows")
    with pytest.raises(ClientError, match="append only"):
        client.put_object(Bucket="lake", Key="captures/a", Body=b"other rows")
    assert s3.objects == {"captures/a": b"rows"}


@pytest.mark.parametrize("module", [dynamodb, expressions], ids=lambda module: module.__name__)
def test_the_examples_in_its_docstrings_are_true(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert (results.attempted > 0, results.failed) == (True, 0)


# Over TLS, as a process of its own meets them.


@pytest.fixture
def server() -> Iterator[Server]:
    connect = Connect(keeps_calls=False)
    connect.contacts["a"] = [URL]
    with Server(connect) as running:
        yield running


def client_of(server: Server, service: str) -> Any:
    create: Any = boto3.client
    config = Config(retries={"total_max_attempts": 1}, proxies={})
    return create(service, endpoint_url=server.url, verify=str(server.certificate), config=config, **CREDENTIALS)


def test_the_services_answer_an_sdk_over_tls_and_count_its_calls(server: Server) -> None:
    connect, table, s3 = (client_of(server, name) for name in ("connect", "dynamodb", "s3"))
    item = text(pk="p", sk="s")

    listed = connect.list_contact_references(InstanceId=INSTANCE_ID, ContactId="a", ReferenceTypes=["URL"])
    table.put_item(TableName=TABLE, Item=item)
    s3.put_object(Bucket="lake", Key="key", Body=b"\x1f\x8b rows")
    keys = [item, text(pk="p", sk="other")]
    found = table.batch_get_item(RequestItems={TABLE: {"Keys": keys, "ConsistentRead": True}})

    assert listed["ReferenceSummaryList"] == [URL]
    assert found["Responses"] == {TABLE: [item]}
    assert server.calls == {"ListContactReferences": 1, "PutItem": 1, "PutObject": 1, "BatchGetItem": 1}
    server.reset()
    assert server.calls == {}


def test_an_operation_that_is_not_there_is_refused_and_counted(server: Server) -> None:
    with pytest.raises(ClientError, match="UnknownOperationException"):
        client_of(server, "dynamodb").scan(TableName=TABLE)
    assert server.calls == {"Scan": 1}


def test_a_condition_holds_once_over_tls_too(server: Server) -> None:
    table, item = client_of(server, "dynamodb"), text(pk="p", sk="s")
    put = {"TableName": TABLE, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
    table.put_item(**put)
    with pytest.raises(table.exceptions.ConditionalCheckFailedException) as refusal:
        table.put_item(**put, ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert refusal.value.response["Item"] == item


def test_a_body_that_is_not_what_its_checksum_says_is_refused() -> None:
    headers: Any = HeadersDict({"content-encoding": "aws-chunked"})
    body = b"4\r\nrows\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    answer = S3().answer(AWSPreparedRequest("PUT", "/lake/key", headers, body, False))
    assert (answer.status_code, b"BadDigest" in answer.content) == (400, True)
