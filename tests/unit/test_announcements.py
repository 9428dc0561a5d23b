"""Announcements: what the default event bus is told of captures, and when."""

import json
from datetime import timedelta
from typing import Any

import pytest

from contact_references.aws.announcements import Announcer
from contact_references.capture.capturer import Capturer
from contact_references.capture.settings import CaptureSettings
from contact_references.model.environment import SettingsError
from contact_references.model.errors import ConfigurationError, RetriableError
from local.in_memory.connect import Member
from local.in_memory.eventbridge import EventBridge
from tests.unit.conftest import (
    INSTANCE_ID,
    NOON,
    System,
    completion,
    make_client,
)
from tests.unit.test_handler import ENVIRONMENT

MARKER = "do-not-tell-this"
HOUR = timedelta(hours=1)


class Announced:
    """A system whose captures are announced."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.bus = EventBridge()
        system.capturer = Capturer(
            reader=system.reader,
            ledger=system.ledger,
            lake=system.lake_store,
            on_leftover=system.leftovers.append,
            announcer=Announcer(make_client("events", answered_by=self.bus)),
            clock=system.clock,
        )

    @property
    def details(self) -> list[dict[str, Any]]:
        return [event["Detail"] for event in self.bus.events]

    def changes(self) -> list[tuple[str, str, bool]]:
        """Of each event the contact, the kind of change, and whether its capture counts now."""
        return [
            (each["contact_id"], each["change"], each["capture_id"] == self.system.item(each["contact_id"]).capture_id)
            for each in self.details
        ]


@pytest.fixture
def announced(system: System) -> Announced:
    return Announced(system)


def url(name: str) -> Member:
    return {"Url": {"Name": name, "Value": f"https://example.com/{name}"}}


def test_a_capture_is_announced_without_values_and_names(announced: Announced) -> None:
    system = announced.system
    system.connect.contacts |= {"leg": [url(MARKER), url(MARKER + "2"), {"String": {"Name": "n", "Value": MARKER}}]}
    system.connect.contacts["a"] = []
    system.capture(completion("leg", initial_contact_id="a", channel="CHAT"))
    [event] = announced.bus.events  # the initial contact's completion is not known: it is not in the lake
    item = system.item("leg")
    assert event == {
        "Source": "contact-references",
        "DetailType": "Contact References Captured",
        "Detail": {
            "instance_id": INSTANCE_ID,
            "contact_id": "leg",
            "initial_contact_id": "a",
            "channel": "CHAT",
            "completed_at": "2026-03-01T11:59:58.000Z",
            "captured_at": item.captured_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "capture_id": item.capture_id,
            "change": "first",
            "reference_count": 3,
            "reference_counts": {"STRING": 1, "URL": 2},
        },
    }
    assert MARKER not in str(announced.bus.events)


def test_each_capture_is_announced_as_the_first_or_as_a_change(announced: Announced) -> None:
    system = announced.system
    system.connect.contacts["a"] = [url("x")]
    system.capture(completion("a"))
    system.connect.contacts["a"] = []
    system.clock.advance(hours=1)
    system.capture(completion("a", at=NOON + HOUR, completed_at=NOON))
    assert announced.changes() == [("a", "first", False), ("a", "changed", True)]
    assert [each["reference_count"] for each in announced.details] == [1, 0]


def test_what_captures_nothing_announces_nothing(announced: Announced) -> None:
    system = announced.system
    system.connect.contacts["a"] = [url("x")]
    system.capture(completion("a"))
    system.capture(completion("a", event_id="covered"))
    system.clock.advance(hours=1)
    system.capture(completion("a", at=NOON + HOUR, completed_at=NOON))  # read, and found unchanged
    assert len(announced.bus.events) == 1


def test_a_report_that_is_delivered_again_announces_again_as_the_same(announced: Announced) -> None:
    system = announced.system
    system.connect.contacts["a"] = [url("x")]
    for _ in range(2):
        system.capture(completion("a"))
    assert announced.details[0] == announced.details[1]
    system.clock.advance(hours=1)
    system.capture(completion("a", at=NOON + HOUR, completed_at=NOON))  # a write to its item in between
    system.capture(completion("a"))
    assert announced.details[0] == announced.details[2]


def test_what_was_not_appended_is_not_announced(announced: Announced, monkeypatch: pytest.MonkeyPatch) -> None:
    system = announced.system
    system.connect.contacts["a"] = [url("x")]

    def fail(*_: object) -> None:
        raise RetriableError("SlowDown", "PutObject answered 503 SlowDown")

    monkeypatch.setattr(system.lake_store, "append", fail)
    [result] = system.capture(completion("a"))
    assert isinstance(result, RetriableError)
    assert announced.bus.requests == []


def test_announcements_go_by_ten(announced: Announced) -> None:
    names = [f"c{number}" for number in range(23)]
    announced.system.connect.contacts |= {name: [] for name in names}
    announced.system.capture(*map(completion, names))
    assert announced.bus.requests == [10, 10, 3]
    assert sorted(each["contact_id"] for each in announced.details) == sorted(names)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [((500, "InternalException"), RetriableError), ((400, "AccessDeniedException"), ConfigurationError)],
)
def test_what_could_not_be_announced_comes_back_and_is_announced_then(
    announced: Announced, failure: tuple[int, str], kind: type[Exception]
) -> None:
    system = announced.system
    system.connect.contacts["a"] = [url("x")]
    announced.bus.failures = [failure]
    [result] = system.capture(completion("a"))
    assert isinstance(result, kind)
    assert announced.bus.events == []
    calls = len(system.connect.calls)
    [result] = system.capture(completion("a"))
    assert (result.outcome, len(system.connect.calls)) == ("skipped", calls)
    assert announced.changes() == [("a", "first", True)]


def test_one_refused_event_of_several_sends_their_messages_back(announced: Announced) -> None:
    system = announced.system
    system.connect.contacts |= {"a": [], "b": [], "c": []}
    reports = [completion(name) for name in "abc"]
    announced.bus.refuses = {1}
    results = system.capture(*reports)
    assert {type(result) for result in results} == {RetriableError}
    assert {result.error for result in results} == {"ThrottlingException"}
    assert "secret value" not in str(results)
    system.capture(*reports)
    assert {each["contact_id"] for each in announced.details} == {"a", "b", "c"}
    assert len({each["capture_id"] for each in announced.details}) == 3


def test_an_event_s_size_is_bounded_whatever_a_report_says(announced: Announced) -> None:
    system = announced.system
    names = [f"{number}" + "c" * 1900 for number in range(10)]
    system.connect.contacts |= {name: [url(str(number)) for number in range(200)] for name in names}
    system.capture(*(completion(name, channel="X" * 100_000) for name in names))
    assert len(announced.details) == 10
    assert all(len(json.dumps(each)) < 4096 and "channel" not in each for each in announced.details)


def test_nobody_is_told_unless_it_is_asked_for() -> None:
    assert not CaptureSettings.from_environment(ENVIRONMENT).announces
    assert not CaptureSettings.from_environment(ENVIRONMENT | {"ANNOUNCE": "false"}).announces
    assert CaptureSettings.from_environment(ENVIRONMENT | {"ANNOUNCE": "true"}).announces
    with pytest.raises(SettingsError, match="ANNOUNCE is 'yes'"):
        CaptureSettings.from_environment(ENVIRONMENT | {"ANNOUNCE": "yes"})
