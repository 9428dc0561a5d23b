"""Mutated events, requests and references: whatever comes in, only the declared errors come out.

The long run of the same is `pytest tests/unit/test_fuzz.py --hypothesis-profile=fuzz`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contact_references.aws.capture_queue import Message
from contact_references.model.errors import PermanentError
from contact_references.model.events import ContactReport, OtherEvent, parse_event
from contact_references.model.reference import normalize_references
from local.in_memory.connect import Member
from tests.unit.conftest import INSTANCE_ARN, INSTANCE_ID, NOON, SCOPE, Deliveries
from tests.unit.strategies import junk, members, mutated, texts

EVENTS = [
    json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[2] / "events").glob("*.json"))
    if path.name != "sqs-batch.json"
]
COMPLETED = frozenset({"COMPLETED"})
PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))

odd_members = (members() | mutated(members())).filter(lambda member: isinstance(member, dict) and member != {})


def report_of(contact_id: str, **of: object) -> dict[str, Any]:
    """Make a completion event with as little in it as there may be."""
    detail = {"eventType": "COMPLETED", "contactId": contact_id, "instanceArn": INSTANCE_ARN}
    kind = {"source": "aws.connect", "detail-type": "Amazon Connect Contact Event", "time": "2026-03-01T12:00:00Z"}
    return kind | {"id": str(of), "detail": detail | of}


# Ids that are any text, lone surrogates too: sound in all else, they get further than a mutated event mostly does.
odd_ids = st.sampled_from(["\ud83d x", "x" * 256, "é" * 257, ".", "x/../y", " x ", "x\x00", "x#CONTACT"]) | texts
odd_reports = st.builds(report_of, odd_ids, initialContactId=odd_ids, channel=texts, disconnectTimestamp=junk)
events = st.sampled_from(EVENTS) | mutated(st.sampled_from(EVENTS)) | odd_reports
bodies = events.map(json.dumps) | junk.map(json.dumps) | texts | st.just("[" * 100_000)


@PATIENT
@given(event=events | junk)
def test_any_event_is_a_completion_another_event_or_permanently_unusable(event: object) -> None:
    try:
        found = parse_event(event, scope=SCOPE, completion_types=COMPLETED, now=NOON)
    except PermanentError:
        return
    assert isinstance(found, ContactReport | OtherEvent)


@PATIENT
@given(
    record=st.fixed_dictionaries(
        {"messageId": texts, "body": bodies},
        optional={
            "receiptHandle": texts,
            "eventSourceARN": texts,
            "attributes": st.fixed_dictionaries(
                {}, optional={"ApproximateReceiveCount": st.integers(1, 10**6).map(str)}
            ),
        },
    )
)
def test_any_record_of_a_queue_is_a_message(record: dict[str, Any]) -> None:
    message = Message.from_record(record)
    assert (message.message_id, message.body) == (record["messageId"], record["body"])


@PATIENT
@given(read=st.lists(odd_members, max_size=8), data=st.data())
def test_any_members_become_as_many_references_whatever_their_order(read: list[Member], data: st.DataObject) -> None:
    references = normalize_references(read)
    assert len({reference.reference_id for reference in references}) == len(read)
    json.dumps([repr(reference) for reference in references]).encode()
    assert normalize_references(data.draw(st.permutations(read))) == references


@PATIENT
@given(
    batch=st.lists(bodies, min_size=1, max_size=6),
    held=st.lists(odd_members, max_size=4),
    answer=st.none()
    | mutated(st.just({"ReferenceSummaryList": [{"Url": {"Name": "n", "Value": "v"}}], "NextToken": None})),
)
def test_every_message_is_let_go_dead_lettered_or_handed_back(
    batch: list[str], held: list[Member], answer: object
) -> None:
    deliveries = Deliveries()
    connect = deliveries.system.connect
    ids = [found.contact.key.contact_id for body in batch if (found := report_in(body))]
    connect.contacts |= dict.fromkeys(ids, held)
    if answer is not None:
        connect.rewrite = lambda _: json.dumps(answer).encode()
    deliveries.post(*batch)
    letters = list(deliveries.queue)
    deliveries.deliver()
    if answer is None:
        # The SDK refuses a page with a member that is no object; all else is expected, and handled by name.
        assert not [problem for problem in deliveries.problems if "ResponseParserError" not in problem]
    for letter in letters:
        found = report_in(letter.body)
        is_kept = letter in deliveries.queue or letter.body in deliveries.dead_letters
        assert is_kept or found is None or is_held(deliveries, found)


def report_in(body: str) -> ContactReport | None:
    try:
        found = parse_event(json.loads(body), scope=SCOPE, completion_types=COMPLETED, now=NOON)
    except (PermanentError, ValueError, RecursionError):
        return None
    return found if isinstance(found, ContactReport) else None


def is_held(deliveries: Deliveries, report: ContactReport) -> bool:
    is_gone = report.is_recheck  # of a contact that was never captured
    return is_gone or (f"{INSTANCE_ID}#{report.contact.key.contact_id}", "CONTACT") in deliveries.system.fake.items


@pytest.mark.parametrize("first_report", [{"initialContactId": "first"}, {}])
def test_a_leg_whose_reports_differ_about_its_chain_stops_no_other_contact(first_report: dict[str, Any]) -> None:
    deliveries = Deliveries()
    contacts = deliveries.system.connect.contacts
    contacts |= {"first": [], "leg": [], "other": []}
    deliveries.deliver(report_of("leg", initialContactId="first"), report_of("other", again=True))
    deliveries.system.clock.advance(minutes=5)
    del contacts["leg"]
    deliveries.deliver(report_of("leg", **first_report) | {"time": "2026-03-01T12:04:59Z"}, report_of("other"))
    assert all("other" not in letter.body for letter in deliveries.queue)


def test_a_report_with_a_wrong_time_stops_no_other_contact() -> None:
    deliveries = Deliveries()
    deliveries.system.connect.contacts["other"] = []
    deliveries.deliver(report_of("unknown") | {"time": "9999-12-31T23:59:59.999Z"}, report_of("other"))
    [letter] = deliveries.queue
    assert "unknown" in letter.body
    assert (deliveries.problems, deliveries.dead_letters) == ([], [])
