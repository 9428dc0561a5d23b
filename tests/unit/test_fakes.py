"""The stand-in for DynamoDB answers as moto does, and refuses what the service refuses."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from contact_references.aws.ledger import Ledger, value_key
from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.reference import normalize_references
from contact_references.model.timestamps import format_time
from tests.unit.conftest import INSTANCE_ID, NOON, FakeDynamoDB, create_ledger, make_client

TABLE = "ledger"
KEY = ContactKey(INSTANCE_ID, "a")
CONTACT = Contact(key=KEY, initial_contact_id="a", channel="VOICE", completed_at=NOON, completion_seen=True)
MINUTE = timedelta(minutes=1)


class Both:
    """The stand-in and moto, asked the same."""

    def __init__(self) -> None:
        self.moto, standing_in = make_client("dynamodb"), make_client("dynamodb")
        create_ledger(self.moto)
        self.fake = FakeDynamoDB()
        self.fake.stand_behind(standing_in)
        self.clients = (standing_in, self.moto)
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
    fake = FakeDynamoDB()
    with pytest.raises(ClientError, match="ValidationException"):
        fake.call("BatchWriteItem", {"RequestItems": {TABLE: requests}})
    assert fake.items == {}


def test_the_stand_in_refuses_values_that_no_expression_uses() -> None:
    fake = FakeDynamoDB()
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
