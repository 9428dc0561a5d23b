"""What is captured, seen through the ledger and the lake."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contact_references.capture.targets import Result
from contact_references.model.contact import ContactKey
from contact_references.model.errors import (
    ConfigurationError,
    ContactNotFoundError,
    PermanentError,
    RetriableError,
)
from contact_references.model.events import ContactReport
from contact_references.model.reference import Reference
from local.in_memory.connect import Member
from tests.unit.conftest import INSTANCE_ID, NOON, System, completion, missed, recheck
from tests.unit.strategies import members

LATER = NOON + timedelta(minutes=5)
ENDED = NOON - timedelta(seconds=2)
MILLISECOND = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)


def url(name: str, value: str = "https://example.com/") -> Member:
    return {"Url": {"Name": name, "Value": value}}


def key(contact_id: str) -> ContactKey:
    return ContactKey(INSTANCE_ID, contact_id)


def assert_ledger_is_lake(system: System, contact_id: str = "a") -> None:
    contact, rows = system.lake_snapshot()[contact_id]
    item, *held = system.items(contact_id)
    held = [row for row in held if row["capture_id"] == item["capture_id"]]
    assert _texts(contact).items() <= _texts(item).items()
    assert sorted(row["reference_id"] for row in rows) == sorted(row["reference_id"] for row in held)
    assert {row["captured_at"] for row in (*rows, *held)} <= {contact["captured_at"]} == {item["captured_at"]}


def _texts(record: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in record.items()}


def test_a_contact_and_its_references_become_rows_in_ledger_and_lake(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM", "HTTPS://Example.com"), {"Number": {"Name": "n", "Value": "1.50"}}]
    [result] = system.capture(completion("a"))
    assert (result.outcome, result.reference_count) == ("captured", 2)
    contact, number, link = system.items("a")
    shared = {
        "schema_version": "2",
        "instance_id": INSTANCE_ID,
        "contact_id": "a",
        "initial_contact_id": "a",
        "channel": "VOICE",
        "initiation_method": "INBOUND",
        "completed_at": "2026-03-01T11:59:58.000Z",
        "capture_id": contact["capture_id"],
        "captured_at": contact["captured_at"],
    }
    assert contact == shared | {
        "pk": f"{INSTANCE_ID}#a",
        "sk": "CONTACT",
        "record_type": "CONTACT",
        "reference_count": "2",
        "completion_seen": True,
        "event_id": completion("a").event_id,
        "read_at": contact["captured_at"],
        "checked_at": contact["captured_at"],
        "version": "1",
    }
    assert "2026-03-01T12:00:00.001Z" <= contact["captured_at"] <= "2026-03-01T12:00:00.010Z"
    assert link == shared | {
        "pk": f"{INSTANCE_ID}#a",
        "sk": f"REFERENCE#{contact['capture_id']}#URL#{link['reference_id']}",
        "record_type": "REFERENCE",
        "reference_id": link["reference_id"],
        "reference_type": "URL",
        "reference_name": "CRM",
        "reference_value": "HTTPS://Example.com",
        "canonical_value": "https://example.com/",
        "is_valid": True,
        "value_key": "URL#0f115db062b7c0dd030b16878c99dea5c354b49dc37b38eb8846179c7783e9d7",
        "value_at": "2026-03-01T11:59:58.000Z",
    }
    assert (number["number_value"], number["sk"].split("#")[2]) == ("1.5", "NUMBER")
    [(name, records)] = system.lake().items()
    assert name.startswith("captures/completed_date=2026-03-01/")
    assert name.endswith(".jsonl.gz")
    assert [record["record_type"] for record in records] == ["CONTACT", "REFERENCE", "REFERENCE"]
    assert {record.get("number_value") for record in records} == {None, "1.5"}
    of_lake = {"pk", "sk", "completion_seen", "event_id", "read_at", "checked_at", "version", "value_key", "value_at"}
    assert set(records[0]) == set(contact) - of_lake
    assert [set(record) for record in records[1:]] in [
        [set(row) - of_lake for row in rows] for rows in ([number, link], [link, number])
    ]
    assert_ledger_is_lake(system)


def test_a_contact_without_references_is_one_item_and_one_line(system: System) -> None:
    system.connect.contacts["a"] = []
    system.capture(completion("a"))
    assert [item["sk"] for item in system.items("a")] == ["CONTACT"]
    assert [len(records) for records in system.lake().values()] == [1]
    assert [operation for operation, _ in system.fake.calls] == ["BatchGetItem", "PutItem", "UpdateItem"]


def test_a_value_that_is_absent_or_empty_is_not_in_the_index_of_values(system: System) -> None:
    system.connect.contacts["a"] = [
        url("empty", ""),
        {"Url": {"Name": "absent"}},
        {"String": {"Name": "s", "Value": ""}},
    ]
    system.capture(completion("a"))
    _, *rows = system.items("a")
    assert len(rows) == 3
    assert all({"value_key", "value_at"}.isdisjoint(row) for row in rows)


def test_a_contact_that_is_not_known_to_have_completed_is_in_the_ledger_and_by_value_but_not_in_the_lake(
    system: System,
) -> None:
    system.connect.contacts |= {"first": [url("on first")], "leg": []}
    system.capture(completion("leg", initial_contact_id="first"))
    contact, row = system.items("first")
    assert row["value_key"].startswith("URL#")
    assert row["value_at"] == contact["captured_at"]
    assert system.lake_snapshot().keys() == {"leg"}
    system.clock.advance(minutes=5)
    system.capture(completion("first", at=LATER, completed_at=ENDED))
    assert system.items("first")[1]["value_at"] == "2026-03-01T11:59:58.000Z"
    assert_ledger_is_lake(system, "first")


def test_every_capture_has_a_name_of_its_own(system: System) -> None:
    system.connect.contacts["a"] = []
    seen = set()
    for round_ in range(5):
        system.connect.contacts["a"].append(url(str(round_)))
        system.clock.advance(minutes=5)
        system.capture(completion("a", at=system.clock.now))
        seen |= {item["capture_id"] for item in system.items("a")}
    assert len(seen) == 5


@pytest.mark.parametrize("moves", [timedelta(0), -HOUR], ids=["stands still", "goes back"])
def test_a_later_capture_is_later_by_a_clock_that_does_not_go_on(system: System, moves: timedelta) -> None:
    system.clock.step = timedelta(0)
    found = []
    for round_ in range(4):
        system.connect.contacts["a"] = [url(str(round_))]
        system.capture(completion("a", event_id=str(round_)))
        found.append(system.item("a").captured_at)
        assert system.item("a").checked_at == NOON  # never earlier than it was
        assert system.names() == [str(round_)]
        assert_ledger_is_lake(system)
        system.clock.now += moves
    assert found == [NOON + number * MILLISECOND for number in range(4)]


def test_a_time_of_capture_is_whole_milliseconds_in_the_ledger_and_in_what_is_compared(system: System) -> None:
    system.clock.step = timedelta(microseconds=700)
    system.connect.contacts["a"] = []
    system.capture(completion("a"))
    system.connect.contacts["a"] = [url("x")]
    system.capture(completion("a", event_id="again"))
    item = system.item("a")
    assert item.captured_at.microsecond % 1000 == item.read_at.microsecond % 1000 == 0
    assert_ledger_is_lake(system)


def test_an_event_delivered_again_is_appended_again_and_costs_no_call(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", event_id="same"))
    before, calls = system.items("a"), len(system.connect.calls)
    [result] = system.capture(completion("a", event_id="same"), completion("a", event_id="same"))
    assert (result.outcome, result.reference_count) == ("skipped", 1)
    assert result.reason == "captured by this event, and appended again"
    assert (system.items("a"), len(system.connect.calls)) == (before, calls)
    one, again = system.lake().values()
    assert one == again


@pytest.mark.parametrize(("seconds_before_reading", "calls"), [(1, 0), (0.9, 2), (-5, 2)])
def test_only_a_reading_a_second_after_the_event_covers_it(
    system: System, seconds_before_reading: float, calls: int
) -> None:
    system.connect.contacts["a"] = []
    system.capture(completion("a", event_id="first"))
    read_at = system.item("a").read_at
    system.connect.calls.clear()
    at = read_at - timedelta(seconds=seconds_before_reading)
    [result] = system.capture(completion("a", event_id="another", at=at, completed_at=ENDED))
    assert len(system.connect.calls) == calls
    assert result.reason == ("unchanged" if calls else "captured since the event")
    if not calls:
        assert [operation for operation, _ in system.fake.calls[-1:]] == ["BatchGetItem"]  # its rows are not looked for
    assert len(system.lake()) == 1


def test_a_reading_that_says_the_same_moves_only_the_times_of_reading(system: System) -> None:
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
    assert (result.outcome, result.reason, result.reference_count) == ("captured", "unchanged", 3)
    after = system.items("a")
    assert {name for name in after[0] if after[0][name] != before[0][name]} == {"read_at", "checked_at", "version"}
    assert after[0]["read_at"] == after[0]["checked_at"] > before[0]["read_at"]
    assert after[0]["version"] == "2"
    assert after[1:] == before[1:]
    assert list(system.lake()) == lake


def test_changed_references_replace_the_old_ones_exactly(system: System) -> None:
    system.connect.contacts["a"] = [url("kept"), url("gone"), url("changed", "https://old.example/")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("new"), url("kept"), url("changed", "https://new.example/")]
    [result] = system.capture(completion("a", at=LATER, completed_at=NOON))
    assert result.reason == "changed"
    assert system.names() == ["changed", "kept", "new"]
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


def test_what_a_covered_report_says_is_a_capture_of_its_own_and_costs_no_call(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM"), {"Mood": {"Name": "tone"}}]
    system.capture(completion("a", channel=None, initiation_method=None))
    before, calls = system.item("a"), len(system.connect.calls)
    system.clock.now -= timedelta(minutes=5)
    early = completion("a", at=NOON - HOUR, event_id="early", channel="CHAT", completed_at=NOON)
    [result] = system.capture(early)
    after = system.item("a")
    assert (result.outcome, result.reason, result.reference_count) == ("captured", "more became known", 2)
    assert len(system.connect.calls) == calls
    assert after.capture_id != before.capture_id
    assert (after.captured_at, after.event_id) == (before.captured_at + MILLISECOND, "early")
    assert (after.read_at, after.checked_at, after.version) == (before.read_at, before.checked_at, 2)
    assert (after.contact.channel, after.contact.initiation_method) == ("CHAT", "INBOUND")
    assert after.contact.completed_at == before.contact.completed_at
    assert {row["channel"] for row in system.items("a")} == {"CHAT"}
    assert system.names() == ["CRM", "tone"]
    assert_ledger_is_lake(system)
    assert len(system.lake()) == 2
    [again] = system.capture(early)
    assert (again.outcome, len(system.connect.calls)) == ("skipped", calls)


def test_one_event_in_two_environments_at_once_that_brings_only_facts_doubles_nothing(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", channel=None))
    fact = completion("a", at=NOON - HOUR, event_id="fact", channel="CHAT")
    with system.before("dynamodb.PutItem", lambda _: system.capture(fact)):
        [result] = system.capture(fact)
    assert result.outcome == "skipped"
    assert len(system.items("a")) == 2
    assert len(system.lake()) == 3
    assert_ledger_is_lake(system)


def test_two_readings_begun_in_the_same_millisecond_are_never_mixed(system: System) -> None:
    system.clock.step = timedelta(0)
    system.connect.contacts["a"] = [url(f"old {number}") for number in range(100)]

    def change(contact_id: str) -> None:
        system.connect.before_answer = lambda _: None
        held = system.connect.contacts[contact_id]
        system.connect.contacts[contact_id] = [url(f"new {number}") for number in range(90)]
        system.capture(completion("a", event_id="another"))
        system.connect.contacts[contact_id] = held

    system.connect.before_answer = change
    [result] = system.capture(completion("a"))
    assert result.outcome == "captured"
    assert system.item("a").reference_count == 100
    assert system.names() == sorted(f"old {number}" for number in range(100))
    assert len(system.items("a")) == 101
    assert_ledger_is_lake(system)


def test_a_transferred_contact_is_captured_with_its_initial_contact_each_as_itself(system: System) -> None:
    system.connect.contacts |= {"first": [url("on first")], "leg": [url("on leg")]}
    leg, first = system.capture(completion("leg", initial_contact_id="first"))
    assert (leg.outcome, first.outcome) == ("captured", "captured")
    assert (system.names("leg"), system.names("first")) == (["on leg"], ["on first"])
    assert system.items("leg")[0]["initial_contact_id"] == "first"
    contact = system.items("first")[0]
    assert contact["completion_seen"] is False
    assert contact.keys().isdisjoint({"channel", "initiation_method", "completed_at"})


def test_a_leg_s_completion_has_its_initial_contact_read_again_in_full(system: System) -> None:
    system.connect.contacts |= {"first": [url("before")], "leg": []}
    system.capture(completion("first"))
    system.clock.advance(minutes=5)
    system.connect.contacts["first"] = [url("after")]
    system.connect.calls.clear()
    system.capture(completion("leg", initial_contact_id="first", at=LATER))
    assert [len(types) for name, types in system.connect.calls if name == "first"] == [5, 6]
    assert system.names("first") == ["after"]
    assert system.item("first").event_id == completion("leg", at=LATER).event_id


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
    assert system.names("first") == ["on first"]
    assert_ledger_is_lake(system, "first")


def test_a_leg_s_completion_after_its_initial_contact_s_takes_nothing_from_it(system: System) -> None:
    system.connect.contacts |= {"first": [url("on first")], "leg": []}
    system.capture(completion("first", channel="CHAT"))
    [before, *rows] = system.items("first")
    system.clock.advance(minutes=5)
    system.capture(completion("leg", initial_contact_id="first", at=LATER))
    [after, *rows_after] = system.items("first")
    assert rows_after == rows
    assert {name for name in after if after[name] != before[name]} == {"read_at", "checked_at", "version"}


@pytest.mark.parametrize("report", [completion, missed])
def test_a_completion_older_than_a_recheck_is_read_all_the_same(
    system: System, report: Callable[..., ContactReport]
) -> None:
    system.connect.contacts |= {"first": [], "leg": []}
    system.capture(completion("leg", initial_contact_id="first"))
    system.connect.contacts["first"] = [url("entered after the leg's reading")]
    system.clock.now = NOON + HOUR
    system.capture(recheck("first", at=NOON + HOUR))
    assert system.item("first").checked_at > NOON + HOUR > system.item("first").read_at
    [result] = system.capture(report("first", at=NOON + HOUR / 2, completed_at=ENDED))
    assert (result.outcome, system.names("first")) == ("captured", ["entered after the leg's reading"])


def test_a_recheck_moves_no_time_of_a_full_reading(system: System) -> None:
    system.connect.contacts["a"] = [{"Attachment": {"Name": "f", "Status": "PROCESSING"}}]
    system.capture(completion("a"))
    before = system.item("a")
    system.clock.advance(hours=1)
    system.connect.contacts["a"] = [{"Attachment": {"Name": "f", "Status": "APPROVED"}}]
    system.capture(recheck("a", at=NOON + HOUR))
    after = system.item("a")
    assert (after.read_at, after.checked_at > before.checked_at) == (before.read_at, True)
    assert after.capture_id != before.capture_id


def test_a_leg_that_connect_does_not_know_is_recorded_empty_and_read_again_in_full_after_a_quarter_of_an_hour(
    system: System,
) -> None:
    system.connect.contacts["first"] = [url("on first")]
    leg, first = system.capture(completion("leg", initial_contact_id="first"))
    assert (leg.outcome, leg.reference_count, first.reference_count) == ("captured", 0, 1)
    assert [item["sk"] for item in system.items("leg")] == ["CONTACT"]
    item = system.item("leg")
    due = item.read_at + timedelta(minutes=15)
    assert (item.is_unknown, item.full_recheck_at, item.due_at) == (True, due, due)
    assert system.items("leg")[0]["due_key"] == f"RECHECK#{INSTANCE_ID}"

    system.connect.contacts["leg"] = [url("on leg")]
    system.clock.now = due + timedelta(seconds=5)
    system.connect.calls.clear()
    [result] = system.capture(recheck("leg", at=due))
    assert [len(types) for _, types in system.connect.calls] == [5, 6]
    assert (result.reason, system.names("leg")) == ("changed", ["on leg"])
    item = system.item("leg")
    assert (item.is_unknown, item.full_recheck_at, item.due_at) == (False, None, None)
    assert system.items("leg")[0].keys().isdisjoint({"is_unknown", "full_recheck_at", "due_key", "due_at"})


def test_a_leg_that_is_still_unknown_at_its_recheck_stays_empty(system: System) -> None:
    system.connect.contacts["first"] = []
    system.capture(completion("leg", initial_contact_id="first"))
    due = system.item("leg").due_at
    assert due is not None
    system.clock.now = due + timedelta(seconds=5)
    [result] = system.capture(recheck("leg", at=due))
    assert (result.outcome, result.reason) == ("captured", "unchanged")
    assert (system.item("leg").is_unknown, system.item("leg").due_at) == (True, None)


def test_whatever_a_leg_that_connect_did_not_know_is_rechecked_for_it_is_read_in_full(system: System) -> None:
    system.connect.contacts["first"] = []
    system.capture(completion("leg", initial_contact_id="first", is_analyzed=True))
    due = system.item("leg").due_at
    full_recheck_at = system.item("leg").full_recheck_at
    assert due is not None
    assert full_recheck_at is not None
    system.clock.now = due
    assert due < system.clock.now + 10 * MILLISECOND < full_recheck_at
    system.connect.contacts["leg"] = [url("on leg")]
    system.capture(recheck("leg", at=due))
    assert system.names("leg") == ["on leg"]


def test_a_leg_that_another_report_finds_unknown_once_more_stays_due_as_it_was(system: System) -> None:
    system.connect.contacts["first"] = []
    system.capture(completion("leg", initial_contact_id="first"))
    before = system.item("leg")
    system.clock.advance(minutes=5)
    [result, _] = system.capture(completion("leg", initial_contact_id="first", at=LATER, completed_at=ENDED))
    assert result.reason == "unchanged"
    after = system.item("leg")
    assert (after.due_at, after.full_recheck_at) == (before.due_at, before.full_recheck_at)
    assert after.read_at > before.read_at


def test_a_leg_whose_initial_contact_was_captured_before_and_is_covered_is_recorded_empty(system: System) -> None:
    system.connect.contacts["first"] = []
    system.capture(completion("first"))
    system.clock.advance(minutes=5)
    leg, _ = system.capture(completion("leg", initial_contact_id="first", at=NOON - HOUR, completed_at=ENDED))
    assert (leg.outcome, system.item("leg").is_unknown) == ("captured", True)


@pytest.mark.parametrize("held", [[url("on leg")], []], ids=["with references", "without any"])
def test_a_passing_404_takes_no_references_from_a_contact_that_was_read_before(
    system: System, held: list[Member]
) -> None:
    system.connect.contacts |= {"first": [url("x")], "leg": held}
    system.capture(completion("leg", initial_contact_id="first"))
    before = system.items("leg")
    system.clock.advance(minutes=5)
    del system.connect.contacts["leg"]
    leg, first = system.capture(completion("leg", initial_contact_id="first", at=LATER))
    assert isinstance(leg, ContactNotFoundError)
    assert isinstance(first, Result)
    assert system.items("leg") == before


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
    [result] = system.capture(completion("a"))
    assert type(result) is error
    leg, _ = system.capture(completion("leg", initial_contact_id="first"))
    assert type(leg) is error
    assert system.items("leg") == system.items("a") == []


@pytest.mark.parametrize("minutes", [0, 61])
def test_an_initial_contact_that_connect_does_not_know_is_no_failure_of_its_leg(system: System, minutes: int) -> None:
    system.clock.advance(minutes=minutes)
    system.connect.contacts["leg"] = [url("on leg")]
    leg, first = system.capture(completion("leg", initial_contact_id="first"))
    assert (leg.outcome, system.names("leg")) == ("captured", ["on leg"])
    assert (first.outcome, first.reason) == ("skipped", "Connect does not know this initial contact")
    assert system.items("first") == []


def test_an_initial_contact_that_was_captured_and_gets_unknown_is_retried_for_an_hour_only(system: System) -> None:
    system.connect.contacts |= {"first": [url("x")], "leg": [url("on leg")]}
    system.capture(completion("first"))
    del system.connect.contacts["first"]
    system.clock.advance(minutes=5)
    leg, first = system.capture(completion("leg", initial_contact_id="first", at=LATER))
    assert (type(leg), type(first)) == (Result, ContactNotFoundError)
    system.clock.advance(minutes=61)
    leg, first = system.capture(completion("leg", initial_contact_id="first", at=LATER))
    assert (leg.outcome, first.outcome, system.names("first")) == ("skipped", "skipped", ["x"])


def test_an_initial_contact_s_own_event_is_not_skipped_for_its_leg_s_sake(system: System) -> None:
    system.connect.contacts["leg"] = []
    system.clock.advance(minutes=61)
    results = system.capture(completion("leg", initial_contact_id="first"), completion("first"))
    assert [type(result) for result in results] == [Result, PermanentError]


def test_an_event_without_a_time_to_reckon_with_is_retried_and_stops_nobody(system: System) -> None:
    system.connect.contacts["b"] = []
    odd = replace(completion("a"), event_time=None)
    failed, captured = system.capture(odd, completion("b"))
    assert (type(failed), captured.outcome) == (ContactNotFoundError, "captured")
    system.connect.contacts["a"] = [url("x")]
    [result] = system.capture(replace(odd, event_id="another"))
    assert result.outcome == "captured"
    system.clock.advance(days=1)
    [again] = system.capture(replace(odd, event_id="a third"))
    assert again.reason == "unchanged"


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


def test_members_newer_than_the_sdk_are_as_many_as_each_answer_has_after_a_recheck_too(system: System) -> None:
    three, four = [{"Mood": {"Name": "tone", "Score": score}} for score in (3, 4)]
    processing = {"Attachment": {"Name": "f", "Status": "PROCESSING"}}
    system.connect.answers_unknown_always = True
    system.connect.contacts["a"] = [three, three, four, processing]
    system.capture(completion("a"))
    ids = {row["reference_id"] for row in system.items("a")[1:]}
    assert len(ids) == 4

    system.clock.advance(hours=1)
    [result] = system.capture(recheck("a", at=NOON + HOUR))
    assert (result.reason, result.reference_count) == ("unchanged", 4)

    system.clock.advance(hours=1)
    system.connect.contacts["a"] = [three, three, three, four, processing]
    [result] = system.capture(recheck("a", at=NOON + 2 * HOUR))
    after = {row["reference_id"] for row in system.items("a")[1:]}
    assert (result.reference_count, after >= ids) == (5, True)


def test_members_newer_than_the_sdk_that_are_gone_go_with_the_next_full_reading_not_with_a_recheck(
    system: System,
) -> None:
    processing = {"Attachment": {"Name": "f", "Status": "PROCESSING"}}
    system.connect.contacts["a"] = [{"Mood": {"Name": "tone"}}, processing]
    system.capture(completion("a"))
    system.connect.contacts["a"] = [processing]
    system.clock.advance(hours=1)
    [result] = system.capture(recheck("a", at=NOON + HOUR))
    assert result.reference_count == 2
    [result] = system.capture(completion("a", at=NOON + HOUR))
    assert (result.reference_count, system.names()) == (1, ["f"])


def test_a_batch_is_one_lake_object_for_each_day_and_one_reading_for_each_contact(system: System) -> None:
    system.connect.contacts = {name: [url(name)] for name in "abc"}
    yesterday = NOON - timedelta(days=1)
    system.capture(
        completion("a"), completion("b", completed_at=yesterday), completion("a", event_id="again"), completion("c")
    )
    days = ["2026-02-28", "2026-03-01"]
    assert sorted(key.split("/")[1] for key in system.lake()) == [f"completed_date={day}" for day in days]
    assert sorted(system.days()) == days
    assert len(system.connect.calls) == 6


def test_the_rows_of_a_batch_share_requests(system: System) -> None:
    system.connect.contacts = {name: [url(f"{name}{number}") for number in range(3)] for name in "abcdefgh"}
    system.capture(*map(completion, "abcdefgh"))
    written = [of["RequestItems"]["ledger"] for operation, of in system.fake.calls if operation == "BatchWriteItem"]
    assert [len(requests) for requests in written] == [24]
    assert all(len(system.names(name)) == 3 for name in "abcdefgh")


def test_contacts_do_not_wait_for_the_others_once_their_rows_fill_a_request(system: System) -> None:
    system.connect.contacts = {name: [url(f"{name}{number}") for number in range(13)] for name in "abcd"}
    committed = {}
    system.connect.before_answer = lambda name: committed.update({name: [c for c in "abcd" if system.items(c)]})
    system.capture(*map(completion, "abcd"))
    assert committed == {"a": [], "b": ["a"], "c": ["a", "b"], "d": ["a", "b", "c"]}


@pytest.mark.parametrize(("references", "requests"), [(5, 5), (4, 5), (25, 25), (1, 1)])
def test_rows_take_as_few_requests_as_hold_whole_contacts(system: System, references: int, requests: int) -> None:
    names = [f"contact {number}" for number in range(25)]
    system.connect.contacts |= {name: [url(str(number)) for number in range(references)] for name in names}
    system.capture(*map(completion, names))
    assert [name for name, _ in system.fake.calls].count("BatchWriteItem") == requests


def test_contacts_of_a_small_batch_do_not_wait_for_the_pace_of_the_others(system: System) -> None:
    system.seconds = lambda: 0.0  # there is never a token left
    system.use()
    names = [f"contact {number}" for number in range(20)]
    system.connect.contacts |= {name: [url(name)] for name in names}
    committed = {}
    system.connect.before_answer = lambda name: committed.update({name: sum(map(bool, map(system.items, names)))})
    system.capture(*map(completion, names[:19]))
    assert [committed[name] for name in names[:19]] == list(range(19))
    system.fake.items.clear()
    system.capture(*map(completion, names))
    assert set(committed.values()) == {0}  # of a backlog, it is the number of requests that counts


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
    system.use(retention=month)
    for at in (NOON - month, NOON - month + MILLISECOND):
        [old] = system.capture(completion("a", completed_at=at))
        assert (old.outcome, old.reason, system.connect.calls) == ("skipped", "past its retention", [])
    system.capture(completion("a", completed_at=NOON))
    assert {item["expires_at"] for item in system.items("a")} == {str(int((NOON + month).timestamp()))}


def test_retention_counts_from_the_reading_while_no_completion_is_known(system: System) -> None:
    system.connect.contacts |= {"first": [url("x")], "leg": []}
    system.use(retention=timedelta(days=30))
    system.capture(completion("leg", initial_contact_id="first", completed_at=NOON - timedelta(days=2)))
    expiries = {name: {item["expires_at"] for item in system.items(name)} for name in ("first", "leg")}
    days = {name: (int(of.pop()) - NOON.timestamp()) / 86400 for name, of in expiries.items()}
    assert days == {"first": 30, "leg": 28}


def test_what_does_not_fit_before_the_deadline_is_not_begun(system: System) -> None:
    system.connect.contacts = {name: [] for name in "abc"}
    left = iter([100.0, 100.0, 49.9, *[100.0] * 9])
    results = system.capturer.capture([completion(name) for name in "abc"], time_left=lambda: next(left))
    assert [type(result).__name__ for result in results.values()] == ["Result", "Result", "RetriableError"]
    assert "NotStarted" in str(results[key("c")])
    assert (system.items("a") != [], system.items("c")) == (True, [])


def test_what_can_not_be_committed_before_the_deadline_is_handed_back(system: System) -> None:
    system.connect.contacts = {name: [url(name)] for name in "ab"}
    left = iter([50.0, 50.0, 15.0, 14.9])
    results = system.capturer.capture([completion(name) for name in "ab"], time_left=lambda: next(left))
    assert [type(result).__name__ for result in results.values()] == ["Result", "RetriableError"]
    assert system.items("b")[0]["sk"] != "CONTACT"
    assert system.lake_snapshot().keys() == {"a"}


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
    times = 3 if is_throttling else 13 if error is PermanentError else 1  # for its parameters, type by type as well
    system.connect.failures = [(status, code)] * times
    failed, captured = system.capture(completion("a"), completion("b"))
    assert isinstance(failed, error)
    assert "secret" not in str(failed)
    assert captured.outcome == "captured"
    assert (system.items("a"), system.refused) == ([], [])
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
    assert len(system.names()) == 7
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


def test_a_large_contact_is_captured_whole_replaced_whole_and_emptied(system: System) -> None:
    for count, at in ((210, NOON), (110, LATER), (0, LATER + timedelta(minutes=5))):
        system.clock.now = at
        system.connect.contacts["a"] = [url(str(number), f"https://example.com/{at}") for number in range(count)]
        system.capture(completion("a", at=at))
        assert len(system.names()) == count
        assert len(system.items("a")) == count + 1
        assert_ledger_is_lake(system)


def test_a_row_too_large_is_refused_alone_while_its_neighbours_are_captured(system: System) -> None:
    system.connect.contacts = {"a": [{"Mood": {"Text": "x" * 410_000}}], "b": [url("y")], "c": []}
    large, *others = system.capture(completion("a"), completion("b"), completion("c"))
    assert isinstance(large, PermanentError)
    assert large.error == "RowTooLarge"
    assert "409600" in large.reason
    assert [result.outcome for result in others] == ["captured", "captured"]
    assert system.items("a") == []


def test_a_contact_id_may_hold_what_keys_are_put_together_with(system: System) -> None:
    system.connect.contacts["a#b#c"] = [url("x")]
    system.capture(completion("a#b#c"))
    system.clock.advance(minutes=5)
    [result] = system.capture(completion("a#b#c", at=NOON - timedelta(minutes=1), event_id="another"))
    assert (result.outcome, result.reason) == ("skipped", "captured since the event")


def test_a_row_that_dynamodb_just_takes_is_captured(system: System) -> None:
    system.connect.contacts["a"] = [{"Mood": {"Text": "x"}}]
    system.capture(completion("a"))
    [row] = [item for item in system.items("a") if item["record_type"] == "REFERENCE"]
    others = sum(len(name) + (len(value) if isinstance(value, str) else 1) for name, value in row.items())
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [{"Mood": {"Text": "x" * (409_600 - others - 100)}}]
    [result] = system.capture(completion("a", at=system.clock.now))
    assert result.outcome == "captured"


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
