"""Contact events and capture requests, read as they come."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_references.contact import Completion, Instance, OtherEvent, Scope, parse_completion
from contact_references.errors import PermanentError
from contact_references.timestamps import format_time

EVENTS = Path(__file__).parents[2] / "events"
HERE = Scope("us-east-1", "111122223333")
COMPLETED = frozenset({"COMPLETED"})


def load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def parse(event: object, scope: Scope = HERE) -> Completion:
    completion = parse_completion(event, scope=scope, completion_types=COMPLETED)
    assert isinstance(completion, Completion)
    return completion


def recase(value: object, to: Any) -> object:
    """Return a JSON object with all its keys in another case."""
    return {to(name): recase(item, to) for name, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("to", [str.upper, str.lower, str.title, lambda name: name[:1].upper() + name[1:]])
def test_keys_are_read_in_any_casing(to: Any) -> None:
    event = load("completed-transferred-leg")
    assert parse(recase(event, to)) == parse(event)


def test_what_an_event_says_of_its_contact() -> None:
    completion = parse(load("completed-transferred-leg"))
    contact = completion.contact
    assert contact.initial_contact_id != contact.key.contact_id
    own, initial = completion.contacts
    assert (own, initial.key.contact_id) == (contact, contact.initial_contact_id)
    assert (contact.completion_seen, initial.completion_seen) == (True, False)
    assert contact.channel is not None
    assert contact.channel == contact.channel.upper()
    assert completion.requested is None


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
    assert isinstance(parse_completion(event, scope=HERE, completion_types=COMPLETED), OtherEvent)
    event["detail"]["eventType"] = "COMPLETED"
    # The documentation has placeholders for ids, in backticks.
    event = json.loads(json.dumps(event).replace("`your-region`", "us-west-2").replace("`", ""))
    for placeholder, real in {"the account ID": "123456789012", "the instance ID": "instance-1"}.items():
        event = json.loads(json.dumps(event).replace(placeholder, real))
    instance = Instance.from_arn(event["detail"]["instanceArn"])
    event["account"] = instance.account
    completion = parse(event, Scope(instance.region, instance.account, frozenset({instance})))
    assert completion.contact.key.contact_id == event["detail"]["contactId"]


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
    completion = parse(request)
    assert completion.requested == request["detail"]["reason"]
    assert completion.contact.completion_seen
    del request["detail"]["disconnectTimestamp"]
    assert parse(request).contact.completed_at is None
    request["detail"]["reason"] = "unsettled"
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
        parse_completion(event, scope=HERE, completion_types=COMPLETED)
    except PermanentError as error:
        assert error.reason  # noqa: PT017 - that it is raised is not required
