"""References that appear or change after their contact has ended."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contact_references.capture.targets import Result
from contact_references.model.contact import Contact, ContactKey, Scope
from contact_references.model.events import RECHECK, CaptureRequest, ContactReport, parse_event
from contact_references.model.reference_types import TypeLists
from local.in_memory.connect import Member
from tests.unit.conftest import INSTANCE_ID, NOON, System, completion, missed, recheck

ENDED = NOON - timedelta(seconds=2)
EVENTS = Path(__file__).parents[2] / "events"
INSTANCE_ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
KEY = ContactKey(INSTANCE_ID, "a")
SCOPE = Scope("us-east-1", "111122223333")
MINUTES = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def url(name: str) -> Member:
    return {"Url": {"Name": name, "Value": "https://example.com/"}}


def attachment(status: str, name: str = "photo.jpg") -> Member:
    return {"Attachment": {"Name": name, "Value": f"s3://bucket/{name}", "Status": status, "Arn": f"arn:{name}"}}


def due_after(system: System) -> timedelta | None:
    """How long after its completion the contact is due."""
    due_at = system.item("a").due_at
    return due_at - ENDED if due_at else None


def recheck_when_due(system: System, contact_id: str = "a") -> Result:
    """Let the time come when the contact is to be rechecked, and recheck it."""
    due = system.item(contact_id).due_at
    assert due is not None
    system.clock.now = due + timedelta(seconds=5)
    [result] = system.capture(recheck(contact_id, at=due))
    assert isinstance(result, Result)
    return result


def statuses(system: System) -> list[str | None]:
    capture = system.ledger.find_capture(KEY)
    assert capture is not None
    return [reference.status for reference in capture.references if reference.reference_type == "ATTACHMENT"]


def test_a_request_is_read_as_it_was_made() -> None:
    request = CaptureRequest(
        instance_arn=INSTANCE_ARN, contact=Contact.unseen(KEY), reason=RECHECK, time=NOON + 15 * MINUTES
    )
    event = json.loads(json.dumps(request.event()))
    report = parse_event(event, scope=SCOPE, completion_types=frozenset(), now=NOON + HOUR)
    assert isinstance(report, ContactReport)
    assert report.is_recheck
    assert report.contacts == [Contact.unseen(KEY)]
    assert (report.event_id, report.event_time) == (request.id, NOON + 15 * MINUTES)


def test_an_attachment_that_is_processed_after_twenty_minutes_ends_with_its_final_status(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM"), attachment("PROCESSING")]
    system.capture(completion("a"))
    due = [due_after(system)]
    first = recheck_when_due(system)
    due.append(due_after(system))
    system.connect.contacts["a"] = [url("CRM"), attachment("APPROVED")]
    second = recheck_when_due(system)

    assert [first.reason, second.reason] == ["unchanged", "changed"]
    assert [*due, due_after(system)] == [15 * MINUTES, HOUR, DAY]
    assert statuses(system) == ["APPROVED"]
    [(contact, rows)] = system.lake_snapshot().values()
    assert contact["reference_count"] == 2
    assert {row.get("status") for row in rows} == {None, "APPROVED"}
    assert len(system.lake()) == 2


def test_a_contact_that_is_due_is_in_the_index_of_its_instance(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    item = system.items("a")[0]
    assert (item["due_key"], item["due_at"]) == (f"RECHECK#{INSTANCE_ID}", "2026-03-01T12:14:58.000Z")


@pytest.mark.parametrize("last", [[attachment("PROCESSING")], [attachment("APPROVED")]], ids=["unchanged", "changed"])
def test_a_contact_that_is_not_due_any_more_is_not_in_the_index(system: System, last: list[Member]) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    while due_after(system) != DAY:
        recheck_when_due(system)
    system.connect.contacts["a"] = last
    recheck_when_due(system)
    assert system.items("a")[0].keys().isdisjoint({"due_key", "due_at"})


def test_a_recheck_asks_once_for_what_can_change_and_keeps_the_rest(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM"), attachment("PROCESSING"), {"Mood": {"Name": "tone"}}]
    system.capture(completion("a"))
    system.connect.calls.clear()
    system.connect.contacts["a"] = [attachment("AVAILABLE"), attachment("AVAILABLE", "second.jpg")]
    result = recheck_when_due(system)
    [(_, types)] = system.connect.calls
    assert len(types) == 6
    assert "URL" not in types
    assert result.reference_count == 4
    assert system.names() == ["CRM", "photo.jpg", "second.jpg", "tone"]


def test_a_recheck_that_finds_nothing_new_moves_only_the_time_of_the_check(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    before, objects = system.items("a"), system.lake()
    recheck_when_due(system)
    after = system.items("a")
    changed = {name for name in after[0] if after[0][name] != before[0].get(name)}
    assert changed == {"checked_at", "due_at", "version"}
    assert after[1:] == before[1:]
    assert system.lake() == objects


def test_what_is_still_processing_at_the_last_recheck_is_given_up_and_counted(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    due, is_still_processing = [], []
    for _ in range(4):
        due.append(due_after(system))
        is_still_processing.append(recheck_when_due(system).is_still_processing)
    assert due == [15 * MINUTES, HOUR, 6 * HOUR, DAY]
    assert is_still_processing == [False, False, False, True]
    assert due_after(system) is None
    [again] = system.capture(completion("a", at=system.clock.now, completed_at=ENDED))
    assert not again.is_still_processing  # it was, once


@pytest.mark.parametrize(
    ("reported", "found"),
    [
        ({"is_analyzed": True}, [15 * MINUTES, DAY]),
        ({"channel": "EMAIL"}, [15 * MINUTES, DAY]),
        ({"members": [attachment("PROCESSING")]}, [15 * MINUTES, DAY]),
        ({}, []),
    ],
    ids=["Contact Lens is on", "an email", "something in processing", "anything else"],
)
def test_contacts_of_which_more_is_to_come_are_rechecked_twice(
    system: System, reported: dict[str, Any], found: list[timedelta]
) -> None:
    system.connect.contacts["a"] = reported.pop("members", [])
    system.capture(completion("a", **reported))
    system.connect.contacts["a"] = []
    rechecked = []
    while due := due_after(system):
        rechecked.append(due)
        assert not recheck_when_due(system).is_still_processing
    assert rechecked == found


def test_a_late_capture_is_due_only_for_what_is_still_ahead(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.clock.now = ENDED + 2 * HOUR
    system.capture(completion("a", at=ENDED + 2 * HOUR, completed_at=ENDED))
    assert due_after(system) == 6 * HOUR


def test_an_analysis_that_appears_later_is_captured(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", is_analyzed=True))
    analysis = {"Name": "Contact Lens", "Value": "s3://b/a.json", "Status": "AVAILABLE", "AnalyticsMode": "PostContact"}
    system.connect.contacts["a"] = [url("CRM"), {"ContactAnalysis": analysis}]
    assert recheck_when_due(system).reference_count == 2


@pytest.mark.parametrize("event_id", ["the same", "another"])
def test_a_covered_event_that_says_contact_lens_is_on_leaves_a_recheck_and_costs_no_call(
    system: System, event_id: str
) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", event_id="the same"))
    before, calls = system.item("a"), len(system.connect.calls)
    covered = completion("a", at=NOON - MINUTES, event_id=event_id, completed_at=ENDED, is_analyzed=True)
    [result] = system.capture(covered)
    after = system.item("a")
    assert (result.outcome, len(system.connect.calls)) == ("skipped", calls)
    assert (after.due_at, after.version) == (ENDED + 15 * MINUTES, 2)
    assert (after.capture_id, after.read_at, after.event_id) == (before.capture_id, before.read_at, before.event_id)
    system.capture(covered)
    assert system.item("a") == after
    assert recheck_when_due(system).outcome == "captured"
    assert due_after(system) == DAY


def test_that_contact_lens_is_on_is_not_forgotten_by_a_report_that_does_not_say_so(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", is_analyzed=True))
    for members in ([url("CRM")], [url("changed")]):
        system.connect.contacts["a"] = members
        system.clock.advance(minutes=1)
        system.capture(completion("a", at=system.clock.now, completed_at=ENDED))
        assert due_after(system) == 15 * MINUTES


def test_a_leg_s_contact_lens_is_not_its_initial_contact_s(system: System) -> None:
    system.connect.contacts |= {"first": [], "leg": []}
    system.capture(completion("leg", initial_contact_id="first", is_analyzed=True))
    assert system.item("leg").due_at == ENDED + 15 * MINUTES
    assert system.item("first").due_at is None


def test_contact_lens_is_seen_in_the_events_that_have_it_on() -> None:
    event = json.loads((EVENTS / "public-chat-data-updated-contact-lens.json").read_text())
    event["detail"] |= {"contactId": "a", "instanceArn": INSTANCE_ARN}
    types = frozenset({"CONTACT_DATA_UPDATED"})
    on = parse_event(event, scope=SCOPE, completion_types=types, now=NOON)
    event["detail"]["contactLens"]["conversationalAnalytics"]["configuration"]["enabled"] = False
    off = parse_event(event, scope=SCOPE, completion_types=types, now=NOON)
    event["detail"]["contactLens"] = "on"
    strange = parse_event(event, scope=SCOPE, completion_types=types, now=NOON)
    assert [seen.is_analyzed for seen in (on, off, strange) if isinstance(seen, ContactReport)] == [True, False, False]


def test_a_recheck_delivered_twice_or_late_costs_one_call(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    due = system.item("a").due_at
    assert due is not None
    recheck_when_due(system)
    calls = len(system.connect.calls)
    [again] = system.capture(recheck("a", at=due))
    assert (again.outcome, len(system.connect.calls)) == ("skipped", calls)


@pytest.mark.parametrize(("before_reading", "calls"), [(timedelta(0), 0), (-timedelta(milliseconds=1), 1)])
def test_any_reading_that_did_not_begin_before_a_recheck_covers_it(
    system: System, before_reading: timedelta, calls: int
) -> None:
    system.connect.contacts["a"] = []
    system.capture(completion("a", is_analyzed=True))
    system.connect.calls.clear()
    system.capture(recheck("a", at=system.item("a").checked_at - before_reading))
    assert len(system.connect.calls) == calls


def test_a_recheck_of_a_contact_that_is_gone_brings_nothing_back(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    [result] = system.capture(recheck("a", at=NOON))
    assert (result.outcome, result.reason, result.reference_count) == ("skipped", "no longer in the ledger", 0)
    assert (system.items("a"), system.connect.calls) == ([], [])


def test_a_recheck_together_with_the_contact_s_own_event_reads_everything(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM"), attachment("PROCESSING")]
    system.capture(completion("a"))
    due = system.item("a").due_at
    assert due is not None
    system.clock.now = due + timedelta(seconds=5)
    system.connect.contacts["a"] = [url("changed"), attachment("APPROVED")]
    [result] = system.capture(recheck("a", at=due), completion("a", at=due + timedelta(seconds=4)))
    assert result.reference_count == 2
    assert system.names() == ["changed", "photo.jpg"]


def test_without_types_that_change_nothing_is_due_or_rechecked(system: System) -> None:
    system.use(type_lists=TypeLists({"*": ("URL", "DATE")}))
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", is_analyzed=True))
    assert due_after(system) is None
    system.connect.calls.clear()
    [result] = system.capture(recheck("a", at=system.clock.now))
    assert (result.outcome, result.reason, system.connect.calls) == ("skipped", "nothing can change", [])


def test_a_contact_whose_completion_is_still_to_be_reported_is_due_for_nothing_until_it_is(system: System) -> None:
    system.connect.contacts |= {"a": [attachment("PROCESSING")], "leg": []}
    system.clock.advance(minutes=1)
    system.capture(completion("leg", initial_contact_id="a"))
    assert due_after(system) is None
    system.capture(completion("a"))  # covered by that reading
    assert due_after(system) == 15 * MINUTES


# In full.


def search_finds(system: System, *, after: timedelta = HOUR) -> None:
    system.clock.now = ENDED + after
    system.capture(missed("a", at=ENDED + after, completed_at=ENDED))


def test_a_contact_that_only_a_search_reported_is_read_again_in_full_a_day_after_its_completion(
    system: System,
) -> None:
    system.connect.contacts["a"] = [url("at completion")]
    search_finds(system)
    assert system.item("a").full_recheck_at == ENDED + DAY
    assert due_after(system) == DAY
    system.connect.contacts["a"] = [url("after-contact work")]
    system.connect.calls.clear()
    assert recheck_when_due(system).reason == "changed"
    assert [len(types) for _, types in system.connect.calls] == [5, 6]
    assert (system.names(), due_after(system)) == (["after-contact work"], None)
    assert system.item("a").full_recheck_at is None


def test_a_contact_that_a_search_found_after_a_day_is_not_read_again(system: System) -> None:
    system.connect.contacts["a"] = []
    search_finds(system, after=DAY)
    assert (due_after(system), system.item("a").full_recheck_at) == (None, None)


def test_a_full_recheck_outlasts_rechecks_before_it(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    search_finds(system, after=5 * MINUTES)
    due = []
    while after := due_after(system):
        due.append(after)
        system.connect.calls.clear()
        recheck_when_due(system)
        assert len(system.connect.calls) == (2 if after == DAY else 1)
    assert due == [15 * MINUTES, HOUR, 6 * HOUR, DAY]


def test_a_full_recheck_is_not_put_off_by_another_request(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    search_finds(system)
    system.clock.advance(hours=1)
    system.capture(missed("a", at=system.clock.now, completed_at=ENDED))
    assert system.item("a").full_recheck_at == ENDED + DAY


@pytest.mark.parametrize("together", [True, False])
def test_a_contact_whose_own_event_came_is_not_read_again_for_the_search_s_sake(system: System, together: bool) -> None:
    system.connect.contacts["a"] = [url("x")]
    own, found = (
        completion("a", at=ENDED + HOUR, completed_at=ENDED),
        missed("a", at=ENDED + HOUR, completed_at=ENDED),
    )
    system.clock.now = ENDED + HOUR
    if together:
        system.capture(own, found)
    else:
        system.capture(own)
        system.clock.advance(minutes=1)
        system.capture(found)
    assert (due_after(system), system.item("a").full_recheck_at) == (None, None)


@pytest.mark.parametrize("is_covered", [False, True])
def test_an_event_of_its_own_that_comes_after_the_search_s_find_makes_a_full_recheck_needless(
    system: System, is_covered: bool
) -> None:
    system.connect.contacts["a"] = [url("x")]
    search_finds(system)
    system.clock.advance(minutes=1)
    at = NOON if is_covered else system.clock.now
    system.capture(completion("a", at=at, completed_at=ENDED))
    assert (due_after(system), system.item("a").full_recheck_at) == (None, None)


def test_a_contact_read_for_its_leg_s_sake_that_a_search_reports_is_read_again_in_full(system: System) -> None:
    system.connect.contacts |= {"a": [url("x")], "leg": []}
    system.clock.now = NOON + HOUR
    system.capture(completion("leg", initial_contact_id="a", at=NOON + HOUR))
    system.capture(missed("a", at=NOON + HOUR / 2, completed_at=ENDED))  # covered by that reading
    assert system.item("a").contact.completion_seen
    assert system.item("a").full_recheck_at == ENDED + DAY
