"""What is captured, seen through the ledger and the lake."""

import contextlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contact_references.batch import Capturer
from contact_references.capture import Capture
from contact_references.connect import ReferenceReader
from contact_references.contact import Contact, ContactKey
from contact_references.errors import (
    ConfigurationError,
    ContactNotFoundError,
    PermanentError,
    RetriableError,
)
from contact_references.ledger import Ledger
from contact_references.pacing import TokenBucket
from contact_references.reference import Reference
from tests.unit.conftest import ALL_TYPES, INSTANCE_ID, NOON, Member, System, completion
from tests.unit.strategies import members

LATER = NOON + timedelta(minutes=5)


def url(name: str, value: str = "https://example.com/") -> Member:
    return {"Url": {"Name": name, "Value": value}}


def key(contact_id: str) -> ContactKey:
    return ContactKey(INSTANCE_ID, contact_id)


def names(system: System, contact_id: str = "a") -> list[str]:
    capture = system.ledger.find_capture(key(contact_id))
    assert capture is not None
    return sorted(reference.reference_name or "" for reference in capture.references)


def assert_ledger_is_lake(system: System, contact_id: str = "a") -> None:
    contact, rows = system.lake_snapshot()[contact_id]
    items = system.items(contact_id)
    assert {name: str(value) for name, value in contact.items()}.items() <= {
        name: str(value) for name, value in items[0].items()
    }.items()
    assert sorted(row["reference_id"] for row in rows) == sorted(item["reference_id"] for item in items[1:])
    assert {item["captured_at"] for item in items} == {contact["captured_at"]}


def test_a_contact_and_its_references_become_rows_in_ledger_and_lake(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM", "HTTPS://Example.com"), {"Number": {"Name": "n", "Value": "1.50"}}]
    [result] = system.capture(completion("a"))
    assert (result.outcome, result.reference_count) == ("captured", 2)
    contact, number, link = system.items("a")
    shared = {
        "schema_version": "1",
        "instance_id": INSTANCE_ID,
        "contact_id": "a",
        "initial_contact_id": "a",
        "channel": "VOICE",
        "initiation_method": "INBOUND",
        "completed_at": "2026-03-01T11:59:58.000Z",
        "captured_at": "2026-03-01T12:00:00.001Z",
    }
    assert contact == shared | {
        "pk": f"{INSTANCE_ID}#a",
        "sk": "CONTACT",
        "record_type": "CONTACT",
        "reference_count": "2",
        "capture_state": "complete",
        "completion_seen": True,
        "checked_at": shared["captured_at"],
        "event_id": completion("a").event_id,
    }
    assert (link["record_type"], link["reference_value"], link["canonical_value"]) == (
        "REFERENCE",
        "HTTPS://Example.com",
        "https://example.com/",
    )
    assert number["sk"] == f"REFERENCE#NUMBER#{number['reference_id']}"
    assert number.items() >= shared.items()
    [(name, records)] = system.lake().items()
    assert name.startswith("captures/completed_date=2026-03-01/")
    assert name.endswith(".jsonl.gz")
    assert [record["record_type"] for record in records] == ["CONTACT", "REFERENCE", "REFERENCE"]
    assert {record.get("number_value") for record in records} == {None, "1.5"}
    assert_ledger_is_lake(system)


def test_a_contact_without_references_is_one_item_and_one_line(system: System) -> None:
    system.connect.contacts["a"] = []
    system.capture(completion("a"))
    assert [item["sk"] for item in system.items("a")] == ["CONTACT"]
    assert [len(records) for records in system.lake().values()] == [1]


def test_all_types_cost_two_calls_and_six_types_one(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a"))
    assert [len(types) for _, types in system.connect.calls] == [5, 6]
    few = ReferenceReader(system.connect.client, reference_types=ALL_TYPES[:6], bucket=TokenBucket(1e9))
    few.read(key("a"))
    assert few.calls == 1


@pytest.mark.parametrize("events", [["same"], ["same", "same"]])
def test_an_event_delivered_again_costs_nothing(system: System, events: list[str]) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", event_id="same"))
    before, calls, lake = system.items("a"), len(system.connect.calls), list(system.lake())
    [result] = system.capture(*(completion("a", event_id=event) for event in events))
    assert (result.outcome, result.reason, result.reference_count) == ("skipped", "captured since the event", 1)
    assert (system.items("a"), len(system.connect.calls), list(system.lake())) == (before, calls, lake)


@pytest.mark.parametrize(("seconds_before_reading", "calls"), [(1, 0), (0.9, 2), (-5, 2)])
def test_only_a_reading_a_second_after_the_event_covers_it(
    system: System, seconds_before_reading: float, calls: int
) -> None:
    system.connect.contacts["a"] = []
    system.capture(completion("a", event_id="first"))
    read_at = system.ledger.find_entries([key("a")])[key("a")].checked_at
    system.connect.calls.clear()
    at = read_at - timedelta(seconds=seconds_before_reading)
    system.capture(completion("a", event_id="another", at=at, completed_at=NOON - timedelta(seconds=2)))
    assert len(system.connect.calls) == calls


def test_a_reading_that_says_the_same_moves_only_the_time_of_the_check(system: System) -> None:
    signed = "https://b.example/k?X-Amz-Date={0}&X-Amz-Signature={0}"
    attachment = {
        "Attachment": {"Name": "f", "Value": signed.format(1), "Status": "APPROVED", "Arn": "arn:" + "a" * 20}
    }
    system.connect.contacts["a"] = [url("x"), url("x"), attachment]
    system.capture(completion("a"))
    before, lake = system.items("a"), list(system.lake())
    system.clock.advance(minutes=5)
    resigned = {"Attachment": attachment["Attachment"] | {"Value": signed.format(2)}}
    system.connect.contacts["a"] = [resigned, url("x"), url("x")]
    [result] = system.capture(completion("a", at=LATER, completed_at=NOON))
    assert (result.outcome, result.reason) == ("captured", "unchanged")
    after = system.items("a")
    assert after[0]["checked_at"] > before[0]["checked_at"]
    assert [item | {"checked_at": ""} for item in after] == [item | {"checked_at": ""} for item in before]
    assert list(system.lake()) == lake


def test_changed_references_replace_the_old_ones_exactly(system: System) -> None:
    system.connect.contacts["a"] = [url("kept"), url("gone"), url("changed", "https://old.example/")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("new"), url("kept"), url("changed", "https://new.example/")]
    [result] = system.capture(completion("a", at=LATER, completed_at=NOON))
    assert result.reason == "changed"
    assert names(system) == ["changed", "kept", "new"]
    assert len(system.items("a")) == 4
    assert system.items("a")[0]["completed_at"] == "2026-03-01T11:59:58.000Z"
    assert_ledger_is_lake(system)


def test_a_contact_that_was_emptied_is_empty_in_both(system: System) -> None:
    system.connect.contacts["a"] = [url("gone")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = []
    system.capture(completion("a", at=LATER))
    assert [item["sk"] for item in system.items("a")] == ["CONTACT"]
    assert system.lake_snapshot()["a"][1] == []


def test_a_transferred_contact_is_captured_with_its_initial_contact_each_as_itself(system: System) -> None:
    system.connect.contacts |= {"first": [url("on first")], "leg": [url("on leg")]}
    leg, first = system.capture(completion("leg", initial_contact_id="first"))
    assert (leg.outcome, first.outcome) == ("captured", "captured")
    assert (names(system, "leg"), names(system, "first")) == (["on leg"], ["on first"])
    assert system.items("leg")[0]["initial_contact_id"] == "first"
    contact = system.items("first")[0]
    assert contact["completion_seen"] is False
    assert contact.keys().isdisjoint({"channel", "initiation_method", "completed_at"})


def test_a_completion_after_its_leg_s_adds_what_it_knows_without_a_call(system: System) -> None:
    system.connect.contacts |= {"first": [url("on first")], "leg": []}
    system.clock.advance(minutes=1)
    system.capture(completion("leg", initial_contact_id="first"))
    calls = len(system.connect.calls)
    [result] = system.capture(completion("first", at=NOON - timedelta(minutes=1), channel="CHAT"))
    assert (result.outcome, len(system.connect.calls)) == ("captured", calls)
    contact = system.items("first")[0]
    assert (contact["channel"], contact["completion_seen"]) == ("CHAT", True)
    assert contact["completed_at"] == "2026-03-01T11:58:58.000Z"
    assert names(system, "first") == ["on first"]
    assert_ledger_is_lake(system, "first")


def test_a_leg_s_completion_after_its_initial_contact_s_takes_nothing_from_it(system: System) -> None:
    system.connect.contacts |= {"first": [url("on first")], "leg": []}
    system.capture(completion("first", channel="CHAT"))
    before = system.items("first")
    system.clock.advance(minutes=5)
    system.capture(completion("leg", initial_contact_id="first", at=LATER))
    after = system.items("first")
    assert after[0].pop("checked_at") > before[0].pop("checked_at")
    assert after == before


def test_a_leg_that_connect_does_not_know_has_no_references_if_its_initial_contact_is_known(system: System) -> None:
    system.connect.contacts["first"] = [url("on first")]
    leg, first = system.capture(completion("leg", initial_contact_id="first"))
    assert (leg.outcome, leg.reference_count, first.reference_count) == ("captured", 0, 1)
    assert [item["sk"] for item in system.items("leg")] == ["CONTACT"]


def test_a_leg_known_from_before_is_captured_without_its_chain_being_named(system: System) -> None:
    system.connect.contacts |= {"first": [], "leg": [url("on leg")]}
    system.capture(completion("leg", initial_contact_id="first"))
    system.clock.advance(minutes=5)
    del system.connect.contacts["leg"]
    [result] = system.capture(completion("leg", at=LATER))
    assert isinstance(result, ContactNotFoundError)
    system.connect.contacts["leg"] = [url("changed")]
    [result] = system.capture(completion("leg", at=LATER))
    assert result.outcome == "captured"
    assert system.items("leg")[0]["initial_contact_id"] == "first"


@pytest.mark.parametrize(("age", "error"), [(59, ContactNotFoundError), (61, PermanentError)])
def test_a_contact_that_connect_does_not_know_is_retried_while_its_event_is_young(
    system: System, age: int, error: type[Exception]
) -> None:
    system.clock.advance(minutes=age)
    leg, first = system.capture(completion("leg", initial_contact_id="first"))
    assert (type(leg), type(first)) == (error, error)
    assert system.items("leg") == []


def test_members_newer_than_the_sdk_are_kept_to_the_digit(system: System) -> None:
    exact = '{"Mood":{"Name":"tone","Value":"good","Score":0.12345678901234567890123,"Big":1e400,"Of":[1,null,true]}}'
    system.connect.contacts["a"] = [url("known"), json.loads(exact)]
    system.connect.rewrite = lambda body: body.replace(b"0.12345678901234568", b"0.12345678901234567890123").replace(
        b"Infinity", b"1e400"
    )
    [result] = system.capture(completion("a"))
    assert result.reference_count == 2
    [unknown] = [item for item in system.items("a") if item.get("reference_type") == "UNKNOWN"]
    assert (unknown["raw"], unknown["reference_name"], unknown["reference_value"]) == (exact, "tone", "good")


def test_a_batch_is_one_lake_object_for_each_day_and_one_reading_for_each_contact(system: System) -> None:
    system.connect.contacts = {name: [url(name)] for name in "abc"}
    yesterday = NOON - timedelta(days=1)
    system.capture(
        completion("a"), completion("b", completed_at=yesterday), completion("a", event_id="again"), completion("c")
    )
    assert sorted(key.split("/")[1] for key in system.lake()) == [
        "completed_date=2026-02-28",
        "completed_date=2026-03-01",
    ]
    assert len(system.connect.calls) == 6


def test_contacts_of_the_same_id_in_two_instances_are_two(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    other = completion("a")
    other = replace(other, contact=replace(other.contact, key=ContactKey("other-instance", "a")))
    results = system.capture(completion("a"), other)
    assert [result.outcome for result in results] == ["captured", "captured"]
    assert system.ledger.find_capture(ContactKey("other-instance", "a"))


def test_a_contact_past_its_retention_is_neither_read_nor_kept(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    month = timedelta(days=30)
    ledger = Ledger(system.dynamodb, "ledger", retention=month)
    system.capturer = Capturer(
        reader=system.reader, ledger=ledger, lake=system.lake_store, retention=month, clock=system.clock
    )
    [old] = system.capture(completion("a", completed_at=NOON - month))
    assert (old.outcome, old.reason, system.connect.calls) == ("skipped", "past its retention", [])
    system.capture(completion("a", completed_at=NOON))
    assert {item["expires_at"] for item in system.items("a")} == {str(int((NOON + month).timestamp()))}


def test_what_does_not_fit_before_the_deadline_is_not_begun(system: System) -> None:
    system.connect.contacts = {name: [] for name in "abc"}
    left = iter([100.0, 100.0, 10.0, *[100.0] * 9])
    results = system.capturer.capture([completion(name) for name in "abc"], time_left=lambda: next(left))
    assert [type(result).__name__ for result in results.values()] == ["Result", "Result", "RetriableError"]
    assert "NotStarted" in str(results[key("c")])
    assert (system.items("a") != [], system.items("c")) == (True, [])


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (429, "ThrottlingException", RetriableError),
        (400, "TooManyRequestsException", RetriableError),
        (500, "InternalServiceException", RetriableError),
        (503, "", RetriableError),
        (0, "", RetriableError),
        (400, "InvalidParameterException", PermanentError),
        (400, "InvalidRequestException", PermanentError),
        (403, "AccessDeniedException", ConfigurationError),
        (400, "UnrecognizedClientException", ConfigurationError),
    ],
)
def test_a_contact_that_fails_fails_alone_and_in_its_own_way(
    system: System, status: int, code: str, error: type[Exception]
) -> None:
    system.connect.contacts = {"a": [url("x")], "b": [url("y")]}
    is_throttling = code in ("ThrottlingException", "TooManyRequestsException")
    system.connect.failures = [(status, code)] * (3 if is_throttling else 1)
    failed, captured = system.capture(completion("a"), completion("b"))
    assert isinstance(failed, error)
    assert "secret" not in str(failed)
    assert captured.outcome == "captured"
    assert system.items("a") == []
    [again] = system.capture(completion("a"))
    assert again.outcome == "captured"
    assert system.reader.throttled_calls == (3 if is_throttling else 0)


def test_a_call_refused_for_its_rate_is_tried_again_at_a_lower_one(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    system.connect.failures = [(429, "ThrottlingException")] * 2
    [result] = system.capture(completion("a"))
    assert result.outcome == "captured"
    assert (system.reader.calls, system.reader.throttled_calls) == (4, 2)


def test_pages_are_followed_and_a_repeated_token_is_refused(system: System) -> None:
    system.connect.contacts["a"] = [url(str(number)) for number in range(7)]
    system.connect.page_size = 3
    system.capture(completion("a"))
    assert len(names(system)) == 7
    system.connect.repeats_token = True
    [result] = system.capture(completion("a", at=LATER))
    assert isinstance(result, RetriableError)
    assert result.error == "RepeatedNextToken"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"<html>Bad gateway</html>",
        b'{"ReferenceSummaryList": [{"Url"',
        b'"text"',
        b"[]",
        b'{"message": "no"}',
        b'{"ReferenceSummaryList": [{"Date": []}]}',
    ],
)
def test_an_answer_that_is_no_list_of_references_is_not_taken_for_an_empty_one(system: System, broken: bytes) -> None:
    system.connect.contacts["a"] = [url("x")]
    system.connect.rewrite = lambda _: broken
    [result] = system.capture(completion("a"))
    assert isinstance(result, RetriableError)
    assert "unexpected" not in result.reason
    assert system.items("a") == []
    system.connect.rewrite = lambda _: b"{}"
    [result] = system.capture(completion("a"))
    assert (result.outcome, result.reference_count) == ("captured", 0)


def test_without_the_lake_nothing_is_committed(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]

    def refuse(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="s3")

    system.s3.meta.events.register("before-send.s3.PutObject", refuse)
    [result] = system.capture(completion("a"))
    assert isinstance(result, RetriableError)
    assert system.items("a") == []


def test_of_two_readings_at_once_the_newer_stays(system: System) -> None:
    system.connect.contacts["a"] = [url("old")]

    def overtake(_: str) -> None:
        system.connect.before_answer = lambda _: None
        before = system.connect.contacts["a"]
        system.connect.contacts["a"] = [url("new")]
        system.capture(completion("a", event_id="overtaking"))
        system.connect.contacts["a"] = before

    system.connect.before_answer = overtake
    [result] = system.capture(completion("a"))
    assert (result.outcome, result.reason) == ("skipped", "a newer capture is there")
    assert names(system) == ["new"]
    assert_ledger_is_lake(system)


def test_a_commit_that_is_overtaken_by_an_older_reading_is_made_again(system: System) -> None:
    system.connect.contacts |= {"first": [url("x")], "leg": []}
    older = Capture(
        contact=Contact.unseen(key("first")), captured_at=NOON - timedelta(hours=1), references=(), event_id="older"
    )

    def overtake(**_: object) -> None:
        system.dynamodb.meta.events.unregister("before-send.dynamodb.TransactWriteItems", overtake)
        system.ledger.commit(older, over=None)

    system.dynamodb.meta.events.register("before-send.dynamodb.TransactWriteItems", overtake)
    [result] = system.capture(completion("first"))
    assert result.outcome == "captured"
    assert names(system, "first") == ["x"]
    assert_ledger_is_lake(system, "first")


def test_a_large_contact_is_captured_whole_replaced_whole_and_emptied(system: System) -> None:
    for count, at in ((210, NOON), (110, LATER), (0, LATER + timedelta(minutes=5))):
        system.clock.now = at
        system.connect.contacts["a"] = [url(str(number), f"https://example.com/{at}") for number in range(count)]
        system.capture(completion("a", at=at))
        assert len(names(system)) == count
        assert len(system.items("a")) == count + 1
        assert_ledger_is_lake(system)


@pytest.mark.parametrize("calls_before", range(4))
def test_a_large_capture_cut_off_anywhere_is_seen_by_nobody_and_made_good_by_the_next(
    system: System, calls_before: int
) -> None:
    system.connect.contacts["a"] = [url(f"old {number}") for number in range(3)]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url(f"new {number}") for number in range(110)]
    left = iter(range(calls_before))

    def die(**_: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    for operation in ("PutItem", "TransactWriteItems"):
        system.dynamodb.meta.events.register(f"before-send.dynamodb.{operation}", die)
    with contextlib.suppress(KeyboardInterrupt):
        system.capture(completion("a", at=LATER))
    for operation in ("PutItem", "TransactWriteItems"):
        system.dynamodb.meta.events.unregister(f"before-send.dynamodb.{operation}", die)
    found = system.ledger.find_capture(key("a"))
    assert found is None or len(found.references) in (3, 110)
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url(f"last {number}") for number in range(105)]
    system.capture(completion("a", at=LATER, event_id="again"))
    assert len(names(system)) == 105
    assert len(system.items("a")) == 106


def test_a_writer_that_was_overtaken_gets_no_row_in(system: System) -> None:
    large = [url(str(number)) for number in range(110)]
    system.connect.contacts["a"] = large
    sent = iter(range(1))

    def overtake(**_: object) -> None:
        if next(sent, None) is None:
            system.dynamodb.meta.events.unregister("before-send.dynamodb.TransactWriteItems", overtake)
            system.clock.advance(minutes=5)
            system.connect.contacts["a"] = [url("newer")]
            system.capture(completion("a", at=LATER, event_id="newer"))

    system.dynamodb.meta.events.register("before-send.dynamodb.TransactWriteItems", overtake)
    [result] = system.capture(completion("a"))
    assert (result.outcome, result.reason) == ("skipped", "a newer capture is there")
    assert names(system) == ["newer"]
    assert len(system.items("a")) == 2
    assert_ledger_is_lake(system)


def test_a_large_capture_whose_first_write_is_never_answered_is_captured_all_the_same(system: System) -> None:
    system.connect.contacts["a"] = [url(str(number)) for number in range(110)]

    def write_twice(params: Any, **_: object) -> None:
        system.dynamodb.meta.events.unregister("provide-client-params.dynamodb.PutItem", write_twice)
        system.dynamodb.put_item(**params)  # the SDK's second try meets what its first one wrote

    system.dynamodb.meta.events.register("provide-client-params.dynamodb.PutItem", write_twice)
    [result] = system.capture(completion("a"))
    assert (result.outcome, result.reference_count) == ("captured", 110)
    assert len(names(system)) == 110
    assert_ledger_is_lake(system)


def test_what_a_cut_off_attempt_left_in_the_lake_does_not_outlive_a_change_back(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("y")]

    def die(**_: object) -> None:
        raise KeyboardInterrupt

    system.dynamodb.meta.events.register("before-send.dynamodb.TransactWriteItems", die)
    with contextlib.suppress(KeyboardInterrupt):
        system.capture(completion("a", at=LATER))
    system.dynamodb.meta.events.unregister("before-send.dynamodb.TransactWriteItems", die)
    system.connect.contacts["a"] = [url("x")]
    system.clock.advance(minutes=5)
    system.capture(completion("a", at=LATER, event_id="another"))
    system.clock.advance(minutes=5)
    system.capture(completion("a", at=LATER, redelivered=True))
    assert names(system) == ["x"]
    assert_ledger_is_lake(system)


def planted(state: str, row_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a CONTACT item and one row, as a crash may have left them."""
    pk = {"S": f"{INSTANCE_ID}#a"}
    columns: dict[str, Any] = {name: {"S": "a"} for name in ("contact_id", "initial_contact_id")}
    columns["instance_id"] = {"S": INSTANCE_ID}
    name = {"S": "2026-03-01T11:00:00.000Z"}
    contact = columns | {
        "pk": pk,
        "sk": {"S": "CONTACT"},
        "captured_at": name,
        "checked_at": name,
        "reference_count": {"N": "1"},
        "capture_state": {"S": state},
        "completion_seen": {"BOOL": False},
    }
    row = columns | {"pk": pk, "sk": {"S": "REFERENCE#URL#0"}, "captured_at": {"S": row_name}}
    row |= {"reference_id": {"S": "0"}, "reference_type": {"S": "URL"}, "is_valid": {"BOOL": True}}
    return contact, row


@pytest.mark.parametrize(
    ("state", "row_name"), [("writing", "2026-03-01T11:00:00.000Z"), ("writing", "2026-03-01T10:00:00.000Z")]
)
def test_readers_see_nothing_of_an_incomplete_capture(system: System, state: str, row_name: str) -> None:
    for item in planted(state, row_name):
        system.dynamodb.put_item(TableName="ledger", Item=item)
    assert system.ledger.find_capture(key("a")) is None
    system.connect.contacts["a"] = []
    system.capture(completion("a"))
    assert [item["sk"] for item in system.items("a")] == ["CONTACT"]


def test_readers_are_never_given_a_part_of_a_capture(system: System) -> None:
    for item in planted("complete", "2026-03-01T10:00:00.000Z"):
        system.dynamodb.put_item(TableName="ledger", Item=item)
    with pytest.raises(RetriableError):
        system.ledger.find_capture(key("a"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(readings=st.lists(st.lists(members(), max_size=6), min_size=1, max_size=4), data=st.data())
def test_the_last_reading_is_what_ledger_and_lake_hold(
    system: System, readings: list[list[Member]], data: st.DataObject
) -> None:
    contact_id = str(system.clock())
    for reading in readings:
        system.connect.contacts[contact_id] = data.draw(st.permutations(reading))
        system.clock.advance(minutes=5)
        at = system.clock.now - timedelta(seconds=1)
        [result] = system.capture(completion(contact_id, at=at))
        assert result.outcome == "captured", result
    held = system.ledger.find_capture(key(contact_id))
    assert held is not None
    assert len(held.references) == len(readings[-1])
    assert {type(reference) for reference in held.references} <= {Reference}
    assert_ledger_is_lake(system, contact_id)
