"""References that appear or change after their contact has ended."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contact_references.batch import Capturer, Result
from contact_references.connect import ReferenceReader
from contact_references.contact import (
    UNSETTLED,
    CaptureRequest,
    Completion,
    Contact,
    ContactKey,
    Scope,
    parse_completion,
)
from contact_references.pacing import TokenBucket
from contact_references.settling import SETTLED, Settling
from tests.unit.conftest import INSTANCE_ID, NOON, Member, System, completion

ENDED = NOON - timedelta(seconds=2)
EVENTS = Path(__file__).parent.parent.parent / "events"
INSTANCE_ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
KEY = ContactKey(INSTANCE_ID, "a")


def url(name: str) -> Member:
    return {"Url": {"Name": name, "Value": "https://example.com/"}}


def attachment(status: str, name: str = "photo.jpg") -> Member:
    return {"Attachment": {"Name": name, "Value": f"s3://bucket/{name}", "Status": status, "Arn": f"arn:{name}"}}


def look(contact_id: str, at: datetime) -> Completion:
    """The request to look again that was due at a moment, as it comes off the queue."""
    contact = Contact.unseen(ContactKey(INSTANCE_ID, contact_id))
    request = CaptureRequest(instance_arn=INSTANCE_ARN, contact=contact, reason=UNSETTLED, time=at)
    scope = Scope("us-east-1", "111122223333")
    parsed = parse_completion(json.loads(json.dumps(request.event())), scope=scope, completion_types=frozenset())
    assert isinstance(parsed, Completion)
    return parsed


def settling(system: System) -> Settling:
    return system.ledger.find_entries([KEY])[KEY].settling


def statuses(system: System) -> list[str | None]:
    capture = system.ledger.find_capture(KEY)
    assert capture is not None
    return [reference.status for reference in capture.references if reference.reference_type == "ATTACHMENT"]


def look_when_due(system: System) -> Result:
    """Let the time come when the contact is to be looked at again, and look."""
    due = settling(system).look_again_at
    assert due is not None
    system.clock.now = due + timedelta(seconds=5)
    [result] = system.capture(look("a", due))
    assert isinstance(result, Result)
    return result


def test_an_attachment_that_settles_after_twenty_minutes_ends_with_its_final_status(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM"), attachment("PROCESSING")]
    system.capture(completion("a"))
    assert settling(system).look_again_at == ENDED + timedelta(minutes=15)

    first = look_when_due(system)
    system.connect.contacts["a"] = [url("CRM"), attachment("APPROVED")]
    second = look_when_due(system)
    third = look_when_due(system)

    assert [first.reason, second.reason, third.reason] == ["unchanged", "changed", "unchanged"]
    assert system.clock.now == ENDED + timedelta(hours=24, seconds=5, milliseconds=system.clock.now.microsecond // 1000)
    assert settling(system) == SETTLED
    assert statuses(system) == ["APPROVED"]
    [(contact, rows)] = system.lake_snapshot().values()
    assert contact["reference_count"] == 2
    assert {row.get("status") for row in rows} == {None, "APPROVED"}
    assert len(system.lake()) == 2


def test_looking_again_asks_once_for_what_can_change_and_keeps_the_rest(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM"), attachment("PROCESSING"), {"Mood": {"Name": "tone"}}]
    system.capture(completion("a"))
    calls = len(system.connect.calls)
    system.connect.contacts["a"] = [attachment("AVAILABLE"), attachment("AVAILABLE", "second.jpg")]

    result = look_when_due(system)

    [(_, types)] = system.connect.calls[calls:]
    assert len(types) == 6
    assert "URL" not in types
    assert result.reference_count == 4
    capture = system.ledger.find_capture(KEY)
    assert capture is not None
    assert sorted(str(reference.reference_name) for reference in capture.references) == [
        "CRM",
        "photo.jpg",
        "second.jpg",
        "tone",
    ]


def test_a_look_that_finds_nothing_new_moves_only_the_time_it_was_checked(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    before, objects = system.items("a"), system.lake()

    look_when_due(system)

    after = system.items("a")
    changed = {name for name in after[0] if after[0][name] != before[0].get(name)}
    assert changed == {"checked_at", "look_again_at"}
    assert after[1:] == before[1:]
    assert system.lake() == objects


def test_what_is_still_processing_at_the_last_look_is_given_up_and_counted(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    results = [look_when_due(system) for _ in range(4)]

    assert system.clock.now - ENDED > timedelta(hours=24)
    assert [result.is_given_up for result in results] == [False, False, False, True]
    assert settling(system) == Settling(None, is_given_up=True)
    assert "look_again_at" not in system.items("a")[0]


@pytest.mark.parametrize(
    ("reported", "looks"),
    [
        ({"is_analyzed": True}, [timedelta(minutes=15), timedelta(hours=24)]),
        ({"channel": "EMAIL"}, [timedelta(minutes=15), timedelta(hours=24)]),
        ({}, []),
    ],
    ids=["Contact Lens is on", "an email", "anything else"],
)
def test_contacts_of_which_more_is_to_come_are_looked_at_twice(
    system: System, reported: dict[str, Any], looks: list[timedelta]
) -> None:
    system.connect.contacts["a"] = []
    system.capture(completion("a", **reported))
    found = []
    while due := settling(system).look_again_at:
        found.append(due - ENDED)
        look_when_due(system)

    assert found == looks


def test_an_analysis_that_appears_later_is_captured(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    system.capture(completion("a", is_analyzed=True))
    analysis = {"Name": "Contact Lens", "Value": "s3://b/a.json", "Status": "AVAILABLE", "AnalyticsMode": "PostContact"}
    system.connect.contacts["a"] = [url("CRM"), {"ContactAnalysis": analysis}]

    assert look_when_due(system).reference_count == 2


def test_contact_lens_is_seen_in_the_events_that_have_it_on() -> None:
    event = json.loads((EVENTS / "public-chat-data-updated-contact-lens.json").read_text())
    event["detail"] |= {
        "contactId": "a",
        "instanceArn": f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}",
    }
    scope, types = Scope("us-east-1", "111122223333"), frozenset({"CONTACT_DATA_UPDATED"})

    on = parse_completion(event, scope=scope, completion_types=types)
    event["detail"]["contactLens"]["conversationalAnalytics"]["configuration"]["enabled"] = False
    off = parse_completion(event, scope=scope, completion_types=types)
    event["detail"]["contactLens"] = "on"
    strange = parse_completion(event, scope=scope, completion_types=types)

    assert [seen.is_analyzed for seen in (on, off, strange) if isinstance(seen, Completion)] == [True, False, False]


def test_a_look_delivered_twice_or_late_costs_one_call(system: System) -> None:
    system.connect.contacts["a"] = [attachment("PROCESSING")]
    system.capture(completion("a"))
    due = settling(system).look_again_at
    assert due is not None
    look_when_due(system)
    calls = len(system.connect.calls)

    [again] = system.capture(look("a", due))

    assert (again.outcome, len(system.connect.calls)) == ("skipped", calls)


def test_a_look_at_a_contact_that_is_gone_brings_nothing_back(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]

    [result] = system.capture(look("a", NOON))

    assert (result.outcome, result.reason) == ("skipped", "no longer in the ledger")
    assert (system.items("a"), system.connect.calls) == ([], [])


def test_a_look_together_with_the_contacts_own_event_reads_everything(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM"), attachment("PROCESSING")]
    system.capture(completion("a"))
    due = settling(system).look_again_at
    assert due is not None
    system.clock.now = due + timedelta(seconds=5)
    system.connect.contacts["a"] = [url("changed"), attachment("APPROVED")]

    [result] = system.capture(look("a", due), completion("a", at=due + timedelta(seconds=4)))

    assert result.reference_count == 2
    capture = system.ledger.find_capture(KEY)
    assert capture is not None
    assert {reference.reference_name for reference in capture.references} == {"changed", "photo.jpg"}


def test_a_look_that_meets_a_newer_capture_does_not_put_the_old_back(system: System) -> None:
    system.connect.contacts["a"] = [url("old"), attachment("PROCESSING")]
    system.capture(completion("a"))
    due = settling(system).look_again_at
    assert due is not None
    system.clock.now = due + timedelta(seconds=5)

    def meanwhile(_: str) -> None:
        system.connect.before_answer = lambda _: None
        system.connect.contacts["a"] = [url("new"), attachment("APPROVED")]
        system.capture(completion("a", at=system.clock.now + timedelta(seconds=1)))

    system.connect.before_answer = meanwhile
    system.capture(look("a", due))

    capture = system.ledger.find_capture(KEY)
    assert capture is not None
    assert {reference.reference_name for reference in capture.references} == {"new", "photo.jpg"}


def test_without_types_that_change_nothing_is_looked_at_again(system: System) -> None:
    system.connect.contacts["a"] = [url("CRM")]
    bucket = TokenBucket(1000, clock=lambda: 0, sleep=lambda _: None)
    reader = ReferenceReader(system.connect.client, reference_types=("URL", "DATE"), bucket=bucket)
    capturer = Capturer(reader=reader, ledger=system.ledger, lake=system.lake_store, clock=system.clock)

    capturer.capture([completion("a", is_analyzed=True)], time_left=lambda: 900)

    assert settling(system) == SETTLED


def test_due_contacts_are_found_in_the_order_in_which_they_are_due(system: System) -> None:
    for name, minute in (("b", 3), ("a", 1), ("c", 2)):
        system.connect.contacts[name] = [attachment("PROCESSING")]
        ended = NOON + timedelta(minutes=minute)
        system.capture(completion(name, completed_at=ended))
    system.connect.contacts["settled"] = []
    system.capture(completion("settled"))

    def find(*, minutes: int, most: int = 10, since: datetime = NOON) -> list[str]:
        due = system.ledger.find_due(NOON + timedelta(minutes=minutes), since=since, most=most)
        return [key.contact_id for key, _ in due]

    assert find(minutes=15) == []
    assert find(minutes=17) == ["a", "c"]
    assert find(minutes=60) == ["a", "c", "b"]
    assert find(minutes=60, most=2) == ["a", "c"]
    assert find(minutes=60, since=NOON + timedelta(minutes=17)) == ["c", "b"]
