"""Contact events and capture requests, read as they come."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_references.model.contact import Contact, ContactKey, Instance, Scope
from contact_references.model.errors import PermanentError
from contact_references.model.events import CaptureRequest, ContactReport, OtherEvent, parse_event
from contact_references.model.timestamps import format_time, parse_iso

EVENTS = Path(__file__).parents[2] / "events"
HERE = Scope("us-east-1", "111122223333")
COMPLETED = frozenset({"COMPLETED"})
NOW = parse_iso("2026-03-03T12:00:00Z")


def load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def parse(event: object, scope: Scope = HERE) -> ContactReport:
    report = parse_event(event, scope=scope, completion_types=COMPLETED, now=NOW)
    assert isinstance(report, ContactReport)
    return report


def recase(value: object, to: Any) -> object:
    """Return a JSON object with all its keys in another case."""
    return {to(name): recase(item, to) for name, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("to", [str.upper, str.lower, str.title, lambda name: name[:1].upper() + name[1:]])
def test_keys_are_read_in_any_casing(to: Any) -> None:
    event = load("completed-transferred-leg")
    assert parse(recase(event, to)) == parse(event)


def test_what_an_event_says_of_its_contact() -> None:
    report = parse(load("completed-transferred-leg"))
    contact = report.contact
    assert contact.initial_contact_id != contact.key.contact_id
    own, initial = report.contacts
    assert (own, initial.key.contact_id) == (contact, contact.initial_contact_id)
    assert (contact.completion_seen, initial.completion_seen) == (True, False)
    assert contact.channel is not None
    assert contact.channel == contact.channel.upper()
    assert report.requested is None


@pytest.mark.parametrize(
    "name", ["completed-malformed-arn", "completed-pascal-case", "completed-minimal", "completed-unknown-fields"]
)
def test_odd_events_are_as_good_as_others(name: str) -> None:
    contact = parse(load(name)).contact
    assert contact.key.instance_id == "12345678-1234-1234-1234-123456789012"
    assert contact.channel in ("VOICE", "CHAT", "TASK", "EMAIL")


def test_a_time_that_is_not_set_gives_way_to_the_event_s() -> None:
    event = load("completed-sentinel-timestamps")
    completed_at = parse(event).contact.completed_at
    assert completed_at is not None
    assert format_time(completed_at) == event["time"].replace("Z", ".000Z")


@pytest.mark.parametrize("path", sorted(EVENTS.glob("public-*.json")), ids=lambda path: path.stem)
def test_public_samples_are_other_events_and_as_completions_parse_too(path: Path) -> None:
    event = json.loads(path.read_text())
    if event["detail-type"] != "Amazon Connect Contact Event":
        with pytest.raises(PermanentError, match="neither a contact event's nor a capture request's"):
            parse(event)
        return
    assert isinstance(parse_event(event, scope=HERE, completion_types=COMPLETED, now=NOW), OtherEvent)
    event["detail"]["eventType"] = "COMPLETED"
    # The documentation has placeholders for ids, in backticks.
    event = json.loads(json.dumps(event).replace("`your-region`", "us-west-2").replace("`", ""))
    for placeholder, real in {"the account ID": "123456789012", "the instance ID": "instance-1"}.items():
        event = json.loads(json.dumps(event).replace(placeholder, real))
    instance = Instance.from_arn(event["detail"]["instanceArn"])
    event["account"] = instance.account
    report = parse(event, Scope(instance.region, instance.account, frozenset({instance})))
    assert report.contact.key.contact_id == event["detail"]["contactId"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"contactId": None}, "detail.contactId is missing"),
        ({"contactId": ""}, "detail.contactId is missing"),
        ({"contactId": 7}, "detail.contactId is missing"),
        ({"contactId": ".."}, "detail.contactId is not an id"),
        ({"contactId": "x" * 257}, "detail.contactId is not an id"),
        ({"contactId": "\ud800"}, "detail.contactId is missing"),
        ({"initialContactId": "\x00a"}, "detail.initialContactId is not an id"),
        ({"instanceArn": None}, "detail.instanceArn is missing"),
        ({"instanceArn": "arn:aws:s3:::bucket"}, "detail.instanceArn is not the ARN of a Connect instance"),
        ({"eventType": None}, "detail.eventType is missing"),
        (
            {"instanceArn": "arn:aws:connect:us-east-1:999999999999:instance/12345678"},
            "the instance is of another account or Region",
        ),
        (
            {"instanceArn": "arn:aws:connect:eu-west-1:111122223333:instance/12345678"},
            "the instance is of another account or Region",
        ),
    ],
)
def test_an_unusable_event_names_what_is_wrong(change: dict[str, Any], reason: str) -> None:
    event = load("completed-voice")
    event["detail"] |= change
    with pytest.raises(PermanentError, match=reason):
        parse(event)


@pytest.mark.parametrize(
    "event", [None, [], "text", {}, {"source": "aws.connect"}, load("completed-voice") | {"detail": []}]
)
def test_what_is_no_contact_event_is_refused(event: object) -> None:
    with pytest.raises(PermanentError):
        parse(event)


def test_events_of_another_account_or_an_instance_not_configured_are_refused() -> None:
    event = load("completed-voice")
    with pytest.raises(PermanentError, match="the event is of another account"):
        parse(event | {"account": "999999999999"})
    elsewhere = Scope(HERE.region, HERE.account, frozenset({Instance(HERE.region, HERE.account, "other")}))
    with pytest.raises(PermanentError, match="not one of those configured"):
        parse(event, elsewhere)


def test_a_capture_request_is_a_completion_without_an_event_s_time() -> None:
    request = load("capture-request")
    report = parse(request)
    assert report.requested == request["detail"]["reason"]
    assert report.contact.completion_seen
    del request["detail"]["disconnectTimestamp"]
    assert parse(request).contact.completed_at is None
    request["detail"]["reason"] = "recheck"
    assert not parse(request).contact.completion_seen


def test_reports_in_any_order_make_the_same_contact() -> None:
    own = parse(load("completed-transferred-leg")).contact
    event = load("completed-transferred-leg")
    for name in ("initialContactId", "channel", "initiationMethod"):
        del event["detail"][name]
    reports = [own, type(own).unseen(own.key), parse(event).contact]
    outcomes = set()
    for one, two, three in permutations(reports):
        outcomes.add(three.known_since(two.known_since(one)))
    assert outcomes == {own}


@pytest.mark.parametrize(
    ("time", "is_reckoned_with"),
    [
        ("2026-03-04T12:00:00Z", True),
        ("2026-03-04T12:00:00.001Z", False),
        ("9999-12-31T23:59:59Z", False),
        ("1970-01-01T00:00:00.001Z", False),
        ("1971-01-01T00:00:00Z", True),
        ("yesterday", False),
    ],
)
def test_a_time_is_reckoned_with_if_it_is_set_and_at_most_a_day_ahead(time: str, is_reckoned_with: bool) -> None:
    event = load("completed-voice")
    event_time = parse(event).event_time
    assert (parse(event | {"time": time}).event_time == parse_iso(time)) if is_reckoned_with else True
    assert is_reckoned_with or parse(event | {"time": time}).event_time is None
    event["detail"]["disconnectTimestamp"] = time
    assert parse(event).contact.completed_at == (parse_iso(time) if is_reckoned_with else event_time)


def test_a_recheck_asks_for_its_contact_alone_and_says_nothing_of_a_completion() -> None:
    leg = Contact(key=ContactKey("instance-1", "leg"), initial_contact_id="first", channel="VOICE", completed_at=NOW)
    arn = "arn:aws:connect:us-east-1:111122223333:instance/instance-1"
    recheck, missed = (
        parse(CaptureRequest(instance_arn=arn, contact=leg, reason=reason, time=NOW).event())
        for reason in ("recheck", "missed")
    )
    assert (recheck.is_recheck, recheck.contacts, recheck.contact) == (True, [leg], leg)
    assert (missed.is_recheck, len(missed.contacts), missed.contact.completion_seen) == (False, 2, True)
    assert recheck.event_id != missed.event_id


def test_a_request_made_again_is_the_same_one_and_at_another_time_another() -> None:
    def id_of(time: str = "2026-03-01T12:00:00Z", contact_id: str = "a", reason: str = "missed") -> str:
        contact = Contact.unseen(ContactKey("instance-1", contact_id))
        return CaptureRequest(instance_arn="arn", contact=contact, reason=reason, time=parse_iso(time)).id

    assert id_of() == id_of()
    others = {id_of("2026-03-01T12:00:01Z"), id_of(contact_id="b"), id_of(reason="recheck")}
    assert len(others | {id_of()}) == 4


def test_a_person_s_own_reason_is_that_of_a_missed_contact() -> None:
    event = load("capture-request")
    for reason in ("a person asked", None, ""):
        event["detail"]["reason"] = reason
        report = parse(event)
        assert (report.is_recheck, report.contact.completion_seen) == (False, True)
        assert report.requested is not None


def test_an_event_without_an_id_is_known_again_by_what_it_says() -> None:
    event = load("completed-voice")
    del event["id"]
    again = dict(reversed(event.items()))
    another = event | {"detail": event["detail"] | {"channel": "CHAT"}}
    assert parse(event).event_id == parse(again).event_id != parse(another).event_id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_whatever_stands_in_an_event_only_the_declared_error_comes_out(data: st.DataObject) -> None:
    event = load(data.draw(st.sampled_from(["completed-voice", "completed-transferred-leg", "capture-request"])))
    parts = [event, event["detail"]]
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(parts))
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(json_values)
    try:
        parse_event(event, scope=HERE, completion_types=COMPLETED, now=NOW)
    except PermanentError as error:
        assert error.reason  # noqa: PT017 - that it is raised is not required
