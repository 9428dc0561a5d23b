"""Every completed contact is accounted for: runs on a virtual clock, with the services' limits around them."""

import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from contact_references.aws.worklist import Opened
from contact_references.model.contact import Instance
from contact_references.model.errors import ConfigurationError, PermanentError, RetriableError
from contact_references.model.timestamps import parse_iso
from contact_references.reconcile.report import Gauges
from tests.unit.conftest import NOON, create_ledger, make_client
from tests.unit.reconciling import DAY, HOUR, INSTANCE, MINUTE, OTHER, KilledError, World

THIRD = Instance("us-east-1", "111122223333", "third")
START = NOON - 2 * HOUR
"""The start of the hour that is due first at noon."""


def opened_to(world: World, instance: Instance = INSTANCE) -> datetime:
    item = world.table.items[f"HOURS#{instance.instance_id}", "OPENED"]
    return parse_iso(item["opened_to"]["S"])


def killed_in(world: World, call: int) -> None:
    """Make a run that is killed before that call, and be another environment after it."""
    world.calls_left = call
    with pytest.raises(KilledError):
        world.run()
    world.calls_left = None
    world.build()


# Hours are opened


def test_an_instance_that_is_seen_for_the_first_time_begins_with_the_last_day() -> None:
    world = World(now=NOON + 20 * MINUTE)
    world.run()
    assert list(world.all_hours()) == [NOON - DAY + n * HOUR for n in range(23)]
    assert opened_to(world) == NOON - HOUR


def test_an_hour_is_due_an_hour_after_its_end() -> None:
    world = World()
    world.run()
    world.now = NOON + HOUR - timedelta(milliseconds=1)
    world.run()
    assert NOON - HOUR not in world.all_hours()
    world.now = NOON + HOUR
    world.run()
    assert world.hour(NOON - HOUR).visits == 1


def test_the_hours_of_seventy_days_without_a_run_are_opened_and_recover_by_themselves() -> None:
    world = World()
    world.run()
    world.now = NOON + 70 * DAY
    lost = {f"{day}": NOON + day * DAY - 30 * MINUTE for day in range(71)}
    for name, at in lost.items():
        world.have(name, at)
    for hour_after in (world.now - DAY - 2 * HOUR, world.now - DAY - 3 * HOUR):
        world.worklist.save_opened(INSTANCE, Opened(hour_after))
        world.hours.open(INSTANCE)
    first, second = world.now - DAY - 3 * HOUR, world.now - DAY - 2 * HOUR
    assert (world.hour(first).is_backfill, world.hour(second).is_backfill) == (True, False), "more than a day late"
    world.worklist.save_opened(INSTANCE, Opened(NOON - HOUR))
    world.run()
    assert list(world.all_hours()) == [NOON - DAY + n * HOUR for n in range(71 * 24 - 1)]
    world.run_for(HOUR)
    assert all(world.item(name) for name in lost if name != "70")
    assert world.gauges[INSTANCE.instance_id].backfill_hours_open == 0


def test_hours_that_are_there_are_not_opened_again() -> None:
    world = World()
    world.run()
    before = world.all_hours()
    assert any(hour.closed_at for hour in before.values())
    world.worklist.save_opened(INSTANCE, Opened(NOON - DAY))  # as a run left it that was killed then
    world.hours.open(INSTANCE)
    assert world.all_hours() == before
    assert opened_to(world) == NOON - HOUR


def test_how_far_hours_were_opened_is_noted_after_they_are_written() -> None:
    for call in range(1, 30):
        world = World()
        world.run()
        world.now = NOON + 4 * DAY
        world.calls_left = call
        with suppress(KilledError):
            world.hours.open(INSTANCE)
        world.calls_left = None
        opened = [NOON - DAY + n * HOUR for n in range((opened_to(world) - NOON + DAY) // HOUR)]
        assert set(opened) <= world.all_hours().keys(), call
    assert opened_to(world) == NOON + 4 * DAY - HOUR


def test_nothing_past_the_retention_is_opened() -> None:
    world = World(retention=3 * DAY)
    world.run()
    for name, at in (("old", NOON + 5 * DAY), ("kept", NOON + 8 * DAY)):
        world.have(name, at)
    world.now = NOON + 10 * DAY
    world.run()
    opened = [start for start in world.all_hours() if start >= NOON]
    assert min(opened) == NOON + 7 * DAY
    assert world.asked() == ["kept"]
    assert opened_to(world) == NOON + 10 * DAY - HOUR


def test_an_hour_whose_retention_ends_while_it_is_open_is_closed_without_a_search() -> None:
    world = World(retention=3 * DAY)
    world.searches.refused[INSTANCE.instance_id] = "AccessDeniedException"
    with pytest.raises(ConfigurationError):
        world.run()
    world.searches.refused.clear()
    world.now = START + HOUR + 3 * DAY
    world.run()
    assert world.hour(START).closed_at == START + HOUR + 3 * DAY
    assert world.hour(START).visits == 0


def test_no_contact_past_the_retention_is_asked_for() -> None:
    world = World(now=NOON + 30 * MINUTE, retention=DAY)
    world.have("old", NOON - DAY + 29 * MINUTE)
    world.have("kept", NOON - DAY + 31 * MINUTE)
    world.put_item("recheck", NOON - 2 * DAY, due_at=NOON - DAY)
    world.mark(NOON - DAY + 30 * MINUTE, NOON - DAY + HOUR)
    world.run()
    assert world.asked() == ["kept"]


def test_a_closed_hour_expires_and_an_open_one_does_not() -> None:
    world = World(retention=30 * DAY)
    world.have("hopeless", START)
    world.run()
    items = {key[1]: item for key, item in world.table.items.items() if key[0] == "HOURS#first"}
    closed, still_open = items["2026-02-28T12"], items["2026-03-01T10"]
    assert closed["expires_at"]["N"] == str(int((NOON - DAY + HOUR + 30 * DAY).timestamp()))
    assert "due_key" not in closed
    assert "expires_at" not in still_open
    assert "expires_at" not in items["OPENED"]


# Anything may end a run


def test_wherever_a_run_is_killed_the_next_ones_make_it_right() -> None:
    def make() -> World:
        world = World(instances=[INSTANCE, OTHER])
        for name, at in {"a": START, "b": START + HOUR - timedelta(milliseconds=1), "c": NOON - 3 * HOUR}.items():
            world.have(name, at)
        world.have_captured("d", NOON - 3 * HOUR)
        world.have("e", START, OTHER)
        world.have("f", NOON - 40 * DAY)
        world.put_item("r", NOON - DAY, due_at=NOON - HOUR)
        world.mark(NOON - 41 * DAY, NOON - 39 * DAY)
        return world

    world = make()
    world.operations.clear()
    world.run()
    for call in range(len(world.operations)):  # about fifty
        world = make()
        killed_in(world, call)
        last = opened_to(world) if ("HOURS#first", "OPENED") in world.table.items else NOON - DAY
        assert set(world.all_hours()) >= {NOON - DAY + n * HOUR for n in range((last - NOON + DAY) // HOUR)}
        world.deliver(NOON + 15 * MINUTE)
        world.run_for(6 * HOUR)
        assert world.references.calls.count("r") == 1, call
        captured = {name: world.references.calls.count(name) for name in "abcdef"}
        assert captured == {"a": 2, "b": 2, "c": 2, "d": 0, "e": 2, "f": 2}, call
        for instance in world.instances:
            old = [hour for start, hour in world.all_hours(instance).items() if start <= START]
            assert all(hour.closed_at and not hour.missing for hour in old), call
        assert sum(hour.completed for hour in world.all_hours().values()) == 5, call


def test_killed_between_queueing_and_writing_an_hour_a_contact_is_asked_for_again_and_captured_once() -> None:
    world = World()
    world.have("a", START)
    world.operations.clear()
    world.run()
    sent = world.operations.index("SendMessageBatch")
    assert world.operations[sent - 1 : sent + 2] == ["UpdateItem", "SendMessageBatch", "BatchWriteItem"]
    world = World()
    world.have("a", START)
    killed_in(world, sent + 1)
    assert (world.asked(), world.hour(START).visits) == (["a"], 0)
    world.now += 15 * MINUTE
    world.run()
    assert world.asked() == ["a", "a"]
    world.deliver(world.now + 15 * MINUTE)
    assert world.references.calls == ["a", "a"], "one capture: a call for each group of types"
    assert world.hour(START).missing_ids == ("a",)


# An hour is visited until it is accounted for


def test_an_hour_with_nothing_missing_is_searched_once_more_three_hours_later_and_closed() -> None:
    world = World()
    world.have_captured("a", START)
    world.have("late", START + 59 * MINUTE, indexed_at=NOON + 2 * HOUR)
    world.run()
    assert (world.hour(START).due_at, world.hour(START).closed_at) == (NOON + 3 * HOUR, None)
    world.now = NOON
    world.run_for(3 * HOUR + 15 * MINUTE)
    assert world.item("late") is not None
    assert (world.hour(START).completed, world.hour(START).captured) == (2, 1), "as they were counted last"
    world.run_for(90 * MINUTE)
    assert (world.hour(START).captured, world.hour(START).missing) == (2, 0)
    assert world.hour(START).closed_at is not None


def test_up_to_a_hundred_missing_contacts_are_looked_up_without_a_search() -> None:
    world = World()
    for n in range(100):
        world.have(f"{n}", START + n * MINUTE / 2)
    world.run()
    searches = len(world.searches.calls)
    assert (world.hour(START).missing, world.hour(START).captured) == (100, 0)
    world.deliver(NOON + 31 * MINUTE)
    world.run()
    assert len(world.searches.calls) == searches
    assert (world.hour(START).missing, world.hour(START).captured) == (0, 100)


def test_more_than_a_hundred_missing_contacts_are_searched_and_not_asked_for_again_at_once() -> None:
    world = World()
    for n in range(101):
        world.have(f"{n}", START + n * MINUTE / 2)
    world.run()
    searches = len(world.searches.calls)
    assert (len(world.asked()), world.hour(START).missing) == (101, 101)
    world.deliver(NOON + 40 * MINUTE)
    world.run()
    assert len(world.searches.calls) > searches
    assert (world.asked(), world.hour(START).missing, world.hour(START).captured) == ([], 0, 101)


def test_a_contact_that_cannot_be_captured_is_given_up_counted_and_told() -> None:
    world = World()
    world.have("hopeless", START)
    world.references.failures["hopeless"] = "AccessDeniedException"
    world.run_for(9 * DAY, until=lambda: world.hour(START).closed_at is not None if world.runs else False)
    assert world.now - NOON >= 7 * DAY
    assert [start for what, start in world.told if what == "given up"] == [START]
    hour = world.hour(START)
    assert (hour.is_given_up, hour.missing, hour.missing_ids, hour.due_at) == (True, 1, ("hopeless",), None)
    world.run()
    assert world.gauges[INSTANCE.instance_id].contacts_missing == 0, "of hours that are open"


@pytest.mark.parametrize("missing", [1, 150])
def test_what_was_indexed_late_is_asked_for_though_others_of_its_hour_are_or_were_missing(missing: int) -> None:
    world = World()
    for n in range(missing):
        world.have(f"{n}", START + timedelta(seconds=n))
    if missing == 1:
        world.references.failures["0"] = "AccessDeniedException"
    world.have("late", START + 30 * MINUTE, indexed_at=NOON + 10 * MINUTE)
    world.run_for(8 * HOUR)
    assert world.item("late") is not None


def test_a_capture_that_only_a_leg_brought_about_does_not_count() -> None:
    world = World()
    world.have_captured("leg only", START, completion_seen=False)
    world.have_captured("before it ended", START, read_at=START - MINUTE)
    world.have_captured("of its own", START)
    world.run()
    assert sorted(world.asked()) == ["before it ended", "leg only"]
    assert (world.hour(START).captured, world.hour(START).missing) == (1, 2)


def test_a_capture_past_its_retention_does_not_count() -> None:
    world = World(retention=30 * DAY)
    world.have_captured("a", START)
    world.table.items["first#a", "CONTACT"]["expires_at"] = {"N": str(int(NOON.timestamp()) - 1)}
    world.run()
    assert world.asked() == ["a"]


# Searches are as the service has them


@pytest.mark.parametrize("ends_count", [True, False])
@pytest.mark.parametrize("counts_total", [True, False])
def test_every_contact_is_counted_once_in_its_hour(ends_count: bool, counts_total: bool) -> None:
    world = World()
    world.searches.ends_count, world.searches.counts_total = ends_count, counts_total
    moments = [START + timedelta(seconds=1.7 * n) for n in range(1500)]
    edges = [NOON - n * HOUR for n in range(2, 24)]
    edges += [edge + timedelta(milliseconds=n) for edge in edges for n in (-1000, -999, -1, 1, 999, 1000)]
    together = [START + 50 * MINUTE] * 700
    ended = [at for at in (*moments, *edges, *together) if NOON - DAY <= at < NOON - HOUR]
    for n, at in enumerate(ended):
        world.have_captured(f"{n}", at)
    world.have_captured("after", NOON - HOUR)
    world.run(seconds=5000)
    counted = {start: hour.completed for start, hour in world.all_hours().items()}
    assert counted == Counter(at.replace(minute=0, second=0, microsecond=0) for at in ended)
    assert {start: hour.captured for start, hour in world.all_hours().items()} == counted


def test_a_visit_that_goes_on_between_two_seconds_counts_every_contact_once() -> None:
    world = World()
    world.searches.ends_count = False
    world.run()
    half = timedelta(milliseconds=500)
    world.worklist.save_hours([replace(world.hour(START), searched_to=START + half, due_at=NOON, visits=0)])
    for n in range(14_400):
        world.have_captured(f"{n}", START + n * half / 2)
    world.run()
    assert world.hour(START).completed == 14_398


def test_contacts_of_the_same_millisecond_that_have_no_slot_are_asked_for_by_the_next_run() -> None:
    world = World()
    for n in range(2500):
        world.have(f"{n}", START)
    world.run_for(HOUR)
    assert set(world.references.calls) == {f"{n}" for n in range(2500)}
    world.run_for(5 * HOUR)
    assert (world.hour(START).completed, world.hour(START).captured, world.hour(START).missing) == (2500, 2500, 0)


@pytest.mark.parametrize("counts_total", [True, False])
def test_more_contacts_in_a_second_than_a_search_gives_are_never_counted_as_searched(counts_total: bool) -> None:
    world = World()
    world.searches.counts_total = counts_total
    for n in range(10_001):
        world.have(f"{n}", START)
    with pytest.raises(RetriableError, match="IncompleteSearch"):
        world.run(seconds=2000)
    hour = world.hour(START)
    assert (hour.visits, hour.closed_at, hour.due_at) == (0, None, NOON)


def test_a_page_that_fails_leaves_its_hours_due() -> None:
    world = World()
    for n in range(300):
        world.have(f"{n}", START + n * MINUTE / 5)
    real, answers = world.searches.search_contacts, iter([True, True])

    def search(**request: Any) -> dict[str, Any]:
        if "NextToken" in request and next(answers, False):
            world.searches.refused[INSTANCE.instance_id] = "InternalServiceException"
        return real(**request)

    world.searches.search_contacts = search  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError, match="InternalServiceException"):
        world.run()
    assert (world.asked(), world.hour(START).due_at, world.hour(START).visits) == ([], NOON, 0)
    world.searches.search_contacts = real  # type: ignore[method-assign]
    world.searches.refused.clear()
    world.run_for(HOUR)
    assert len({*world.references.calls}) == 300


def test_an_hour_of_many_contacts_with_one_minute_runs_is_closed() -> None:
    world = World(minutes=1)
    world.run()
    world.now = NOON + HOUR
    for n in range(6000):
        add = world.have if n % 10 == 0 else world.have_captured
        add(f"{n}", NOON - HOUR + n * timedelta(milliseconds=600))
    counts = []

    def note() -> bool:
        hour = world.all_hours().get(NOON - HOUR)
        counts.append((hour.searched_to, hour.completed, hour.captured + hour.missing) if hour else None)
        return hour is not None and hour.closed_at is not None

    world.run_for(7 * HOUR, until=note)
    hour = world.hour(NOON - HOUR)
    assert (hour.completed, hour.captured, hour.missing, hour.closed_at is None) == (6000, 6000, 0, False)
    partial = [count for count in counts if count and count[0]]
    assert len({count[0] for count in partial}) > 4, "visits that go on where the last run ended"
    for searched_to, completed, of_them in partial:
        assert searched_to is not None
        assert completed == of_them == -(-(searched_to - NOON + HOUR) // timedelta(milliseconds=600))
    assert world.requests.sent == 600


def test_an_hour_of_many_contacts_is_closed_though_the_service_gives_no_total() -> None:
    world = World()
    world.searches.counts_total = False
    world.run()
    world.now = NOON + HOUR
    for n in range(6000):
        world.have_captured(f"{n}", NOON - HOUR + n * timedelta(milliseconds=600))
    world.run_for(6 * HOUR)
    assert world.hour(NOON - HOUR).completed == 6000


# Rechecks


def test_a_due_recheck_is_asked_for_and_not_again_for_six_hours() -> None:
    world = World()
    world.put_item("due", NOON - DAY, due_at=NOON)
    world.put_item("not yet", NOON - DAY, due_at=NOON + timedelta(milliseconds=1))
    world.ask_for_rechecks()
    assert world.asked() == ["due"]
    assert world.queue.messages[0][2]["detail"]["reason"] == "recheck"
    item = world.item("due")
    assert item is not None
    assert (item.due_at, item.recheck_asked_since, item.version) == (NOON + 6 * HOUR, NOON, 2)
    world.now = NOON + 6 * HOUR - timedelta(milliseconds=1)
    world.ask_for_rechecks()
    assert world.asked() == ["due", "not yet"]
    world.now = NOON + 6 * HOUR
    world.ask_for_rechecks()
    assert world.asked() == ["due", "not yet", "due"]
    item = world.item("due")
    assert item is not None
    assert (item.due_at, item.recheck_asked_since) == (NOON + 12 * HOUR, NOON)


def test_a_recheck_that_is_done_is_due_when_the_capture_says_so() -> None:
    world = World()
    world.put_item("a", NOON - HOUR, due_at=NOON, may_change=True)
    world.run_for(15 * MINUTE)
    item = world.item("a")
    assert item is not None
    assert (item.due_at, item.recheck_asked_since) == (NOON + 23 * HOUR, None)
    assert world.references.calls == ["a"]


def test_a_full_recheck_reads_all_types_and_its_slot_is_as_wide() -> None:
    world = World()
    world.put_item("a", NOON - DAY, due_at=NOON, full_recheck_at=NOON)
    world.ask_for_rechecks()
    assert world.table.items["RECONCILE", "LEASE"]["fed_until"]["S"] == "2026-03-01T12:00:00.500Z"
    world.deliver(NOON + MINUTE)
    assert world.references.calls == ["a", "a"]
    item = world.item("a")
    assert item is not None
    assert (item.due_at, item.full_recheck_at) == (None, None)


def test_a_recheck_that_is_never_done_is_given_up_after_seven_days_and_counted() -> None:
    world = World()
    world.put_item("a", NOON - DAY, due_at=NOON)
    world.references.failures["a"] = "AccessDeniedException"
    world.run_for(8 * DAY)
    assert [name for what, name in world.told if what == "recheck given up"] == ["a"]
    assert world.requests.sent == 28
    item = world.item("a")
    assert item is not None
    assert (item.due_at, world.gauges["first"].rechecks_due) == (None, 0)


@pytest.mark.parametrize("asked_since", [None, NOON - 8 * DAY])
def test_a_capture_that_comes_between_wins(asked_since: datetime | None) -> None:
    world = World()
    item = world.put_item("a", NOON - 9 * DAY, due_at=NOON, recheck_asked_since=asked_since)
    captured = replace(item, version=2, due_at=NOON + 9 * HOUR, recheck_asked_since=None)
    real = world.ledger.confirm
    calls = []

    def confirm(noted: Any, *, over: Any) -> bool:
        calls.append(noted)
        assert real(captured, over=item)
        return real(noted, over=over)

    world.ledger.confirm = confirm  # type: ignore[assignment, method-assign]
    world.ask_for_rechecks()
    assert len(calls) == 1
    assert world.item("a") == captured
    assert not [told for told in world.told if told[0] == "recheck given up"]


def test_more_rechecks_than_there_are_slots_wait() -> None:
    world = World()
    for n in range(4000):
        world.put_item(f"{n:04}", NOON - DAY, due_at=NOON - DAY + timedelta(seconds=n))
    world.ask_for_rechecks()
    assert len(world.asked()) == 3604, "four a second"
    assert set(world.asked()) >= {f"{n:04}" for n in range(3600)}, "the longest due first"
    world.deliver(NOON + 15 * MINUTE)
    world.run()
    assert world.gauges["first"].rechecks_due == 0
    assert set(Counter(world.asked()).values()) == {1}


def test_a_damaged_contact_hinders_no_recheck() -> None:
    world = World()
    for n in range(3):
        world.put_item(f"{n}", NOON - DAY, due_at=NOON)
    del world.table.items["first#1", "CONTACT"]["capture_id"]
    world.run()
    assert world.asked() == ["0", "2"]
    assert ("damaged", "the contact's item in the ledger lacks capture_id") in world.told


# Instances take turns


@pytest.mark.parametrize("busy", [INSTANCE, OTHER])
def test_a_busy_instance_keeps_no_other_waiting(busy: Instance) -> None:
    world = World(instances=[INSTANCE, OTHER])
    world.run()
    world.now = NOON + HOUR
    idle = OTHER if busy == INSTANCE else INSTANCE
    for n in range(15_000):
        world.have(f"{n}", NOON - HOUR + n * timedelta(milliseconds=240), busy)
    world.have("missing", NOON - MINUTE, idle)
    world.put_item("due", NOON - DAY, idle, due_at=NOON)
    world.run()
    assert {"missing", "due"} <= set(world.asked())


def test_with_one_minute_runs_instances_take_turns_from_run_to_run() -> None:
    world = World(minutes=1, instances=[INSTANCE, OTHER, THIRD])
    world.run_for(3 * MINUTE)
    world.now = NOON + HOUR
    for n in range(6000):
        for instance in (INSTANCE, OTHER):
            world.have_captured(f"{instance.instance_id}{n}", NOON - HOUR + n * timedelta(milliseconds=600), instance)
    world.have("missing", NOON - MINUTE, THIRD)
    world.run_for(3 * MINUTE)
    assert "missing" in world.references.calls


@pytest.mark.parametrize("code", ["AccessDeniedException", "InvalidRequestException", "ThrottlingException"])
def test_an_instance_whose_search_is_refused_hinders_no_other_and_fails_the_run_at_its_end(code: str) -> None:
    world = World(instances=[INSTANCE, OTHER, THIRD])
    world.searches.refused = {"first": code, "third": "AccessDeniedException"}
    world.have("missing", START, OTHER)
    world.put_item("due", NOON - DAY, due_at=NOON)
    world.mark(NOON - 40 * DAY, NOON - 39 * DAY)
    world.have("past", NOON - 40 * DAY, OTHER)
    with pytest.raises((ConfigurationError, PermanentError, RetriableError), match=code):
        world.run()
    assert sorted(world.asked()) == ["due", "missing", "past"]
    assert {what for kind, what in world.told if kind == "failed"} == {
        ("first", code),
        ("third", "AccessDeniedException"),
    }
    assert set(world.gauges) == {"first", "other", "third"}


def test_an_answer_of_another_form_is_one_instances_failure() -> None:
    world = World(instances=[INSTANCE, OTHER])
    world.have("broken", START)
    world.have("missing", START, OTHER)
    real = world.searches.search_contacts

    def search(**request: Any) -> dict[str, Any]:
        page = real(**request)
        return page if request["InstanceId"] == "other" else {}

    world.searches.search_contacts = search  # type: ignore[method-assign]
    with suppress(Exception):  # which one is not of interest here
        world.run()
    assert world.asked() == ["missing"]


def test_an_instance_that_is_gone_hinders_nobody_and_is_gone_on_with_when_it_is_back() -> None:
    world = World(instances=[INSTANCE, OTHER])
    world.run()
    for n in range(1000):
        world.put_item(f"{n}", NOON - DAY, due_at=NOON)
    world.put_item("due", NOON - DAY, OTHER, due_at=NOON)
    world.have("away", NOON + HOUR)
    world.instances.remove(INSTANCE)
    world.now = NOON + 4 * HOUR
    searches = world.searches.calls.count("first")
    world.run()
    assert (world.asked(), world.searches.calls.count("first")) == (["due"], searches)
    world.instances.append(INSTANCE)
    world.run()
    assert "away" in world.asked()
    assert len(world.asked()) == 1002


# One run at a time


def test_while_a_run_is_at_work_another_does_nothing_and_says_so() -> None:
    world = World()
    world.have("a", START)
    assert world.worklist.take_lease("another", now=NOON, until=NOON + 10 * MINUTE)
    before = dict(world.table.items)
    assert not world.run()
    assert (world.table.items, world.asked(), world.searches.calls) == (before, [], [])
    world.now = NOON + 10 * MINUTE
    assert world.run()
    assert world.asked() == ["a"]


def test_a_run_gives_its_lease_back_also_when_it_fails() -> None:
    world = World()
    assert world.run()
    world.searches.refused["first"] = "AccessDeniedException"
    world.now += 3 * HOUR
    with pytest.raises(ConfigurationError):
        world.run()
    world.searches.refused.clear()
    assert world.run()


def test_a_lease_whose_answer_was_lost_is_taken() -> None:
    world = World()
    real = world.table.call

    def call(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if ":until" in parameters.get("ExpressionAttributeValues", {}) and "held_until <= :now" in str(parameters):
            real(operation, parameters)  # the SDK makes the call again
        return real(operation, parameters)

    world.table.call = call  # type: ignore[method-assign]
    assert world.run()


def test_a_run_that_lost_its_lease_sends_nothing_more() -> None:
    world = World(instances=[INSTANCE, OTHER])
    for n in range(600):
        world.have(f"{n}", START + n * timedelta(seconds=5))
        world.have(f"other{n}", START + n * timedelta(seconds=5), OTHER)
    sent: list[str] = []

    def lose() -> None:
        if world.asked() and not sent:
            sent.extend(world.asked())
            world.table.items["RECONCILE", "LEASE"]["holder"] = {"S": "another"}

    world.searches.takes = lose
    with pytest.raises(RetriableError, match="LeaseLost"):
        world.run()
    assert world.asked() == sent


# Damage


def test_an_hour_that_cannot_be_read_is_told_of_and_passed_over() -> None:
    world = World()
    world.run()
    world.have("a", NOON - MINUTE)
    world.have("b", NOON - HOUR - MINUTE)
    world.now = NOON + 3 * HOUR
    item = world.table.items["HOURS#first", "2026-03-01T10"]
    world.table.put({**item, "completed": {"S": "many"}, "due_key": {"S": "HOUR#first"}, "due_at": {"S": "2026"}})
    world.run()
    assert world.asked() == ["a"]
    assert [what for what in world.told if what[0] == "damaged"] == [
        ("damaged", "the hour's item HOURS#first 2026-03-01T10 cannot be read")
    ]
    world.mark(NOON - 2 * HOUR, NOON - HOUR)
    world.run()
    assert "b" in world.asked(), "a backfill of the hour repairs it"


@pytest.mark.parametrize(
    "item",
    [
        {"sk": {"S": "2026-03-01Txx"}, "due_key": {"S": "HOUR#first"}, "due_at": {"S": "2026-03-01T00:00:00.000Z"}},
        {"sk": {"S": "OPENED"}, "opened_to": {"S": "soon"}},
    ],
)
def test_damage_to_one_instances_items_hinders_no_other(item: dict[str, Any]) -> None:
    world = World(instances=[INSTANCE, OTHER])
    world.have("missing", START, OTHER)
    world.table.put({"pk": {"S": "HOURS#first"}, **item})
    with suppress(Exception):  # which one is not of interest here
        world.run()
    assert world.asked() == ["missing"]


# Backfill


def test_thirty_days_of_two_instances_through_kills_and_refusals_and_again_at_no_cost() -> None:
    world = World(instances=[INSTANCE, OTHER])
    world.run()
    chance = random.Random(1)  # noqa: S311 - traffic
    contacts = {f"{n}": (NOON - 31 * DAY + chance.random() * 30 * DAY, world.instances[n % 2]) for n in range(3000)}
    for name, (at, instance) in contacts.items():
        (world.have_captured if chance.random() < 0.2 else world.have)(name, at, instance)
    assert world.mark(NOON - 31 * DAY, NOON - DAY) == 2 * 30 * 24
    killed_in(world, 200)
    world.deliver(NOON + 20 * MINUTE)
    world.killed_after = ("SendMessageBatch", "BatchWriteItem")
    with pytest.raises(KilledError):
        world.run()
    world.calls_left = world.killed_after = None
    world.build()
    world.deliver(NOON + 40 * MINUTE)
    world.searches.refused = {"first": "ThrottlingException"}
    with pytest.raises(RetriableError):
        world.run()
    world.searches.refused.clear()
    world.deliver(NOON + HOUR)
    killed_in(world, 90)
    world.deliver(NOON + 80 * MINUTE)
    world.run_for(DAY, until=lambda: all(g.backfill_hours_open == 0 for g in world.gauges.values()) and world.runs > 8)
    assert all(world.item(name, instance) for name, (_, instance) in contacts.items())
    counted = [hour for instance in world.instances for hour in world.all_hours(instance).values()]
    assert sum(hour.completed for hour in counted if hour.start < NOON - DAY) == 3000
    assert all(hour.closed_at and not hour.missing for hour in counted if hour.start < NOON - DAY)
    world.references.calls.clear()
    world.mark(NOON - 31 * DAY, NOON - DAY)
    world.run_for(2 * HOUR)
    assert world.references.calls == []
    assert world.gauges["first"].backfill_hours_open == world.gauges["other"].backfill_hours_open == 0


def test_what_has_no_slot_is_not_searched_for() -> None:
    world = World()
    world.run()
    for day in range(2, 32):
        for n in range(400):
            world.have(f"{day}-{n}", NOON - day * DAY + n * MINUTE)
    world.mark(NOON - 31 * DAY, NOON - DAY)
    world.run()
    searches = len(world.searches.calls)
    world.run()
    assert len(world.asked()) > 1800
    assert len(world.searches.calls) - searches <= 12


def test_the_past_waits_until_all_else_is_done_the_newest_first() -> None:
    world = World()
    world.have("due", START)
    for day in (2, 20, 40):
        world.have(f"{day}", NOON - day * DAY)
    world.mark(NOON - 41 * DAY, NOON - DAY)
    world.run()
    assert world.asked() == ["due", "2", "20", "40"]


def test_a_backfill_leaves_open_hours_as_they_are_and_takes_up_closed_ones() -> None:
    world = World()
    world.have("hopeless", START)
    world.run()
    before = world.hour(START)
    assert world.mark(NOON - DAY, NOON - HOUR) == 23
    assert world.hour(START) == before
    again = world.hour(NOON - DAY)
    assert (again.is_backfill, again.closed_at, again.due_at) == (True, None, NOON - DAY)
    assert world.mark(NOON - DAY, NOON - HOUR) == 23
    assert world.hour(NOON - DAY) == again


def test_a_given_up_hour_is_asked_for_again_by_a_backfill() -> None:
    world = World()
    world.have("a", START)
    world.run()
    world.worklist.save_hours([replace(world.hour(START), closed_at=NOON, due_at=None)])
    world.queue.messages.clear()
    world.now = NOON + 8 * DAY
    world.mark(START, START + HOUR)
    world.run()
    assert "a" in world.asked()


# Gauges


def test_gauges_say_what_is_open_missing_and_due_at_the_runs_end() -> None:
    world = World(instances=[INSTANCE, OTHER])
    world.have("a", START)
    world.have("b", START - HOUR)
    world.have("past", NOON - 40 * DAY)
    world.put_item("due", NOON - DAY, due_at=NOON)
    world.mark(NOON - 40 * DAY, NOON - 39 * DAY)
    world.run()
    # Searched so shortly after their ends, three hours are searched once more.
    assert world.gauges["first"] == Gauges(2, 3, 1, 0)
    assert world.gauges["other"] == Gauges(0, 3, 0, 0)
    world.deliver(NOON + 31 * MINUTE)
    world.run()
    assert world.gauges["first"] == Gauges(0, 3, 0, 0)


def test_gauges_do_not_count_what_the_index_is_late_with() -> None:
    world = World()
    world.have("a", START)
    world.run()
    world.table.index_lag = timedelta(minutes=1)
    world.worklist.save_hours([replace(world.hour(START), closed_at=NOON, due_at=None)])
    assert world.hours.measure(INSTANCE) == (0, 2, 0)


def test_an_index_that_is_behind_makes_nothing_done_twice() -> None:
    world = World(instances=[INSTANCE])
    world.table.index_lag = timedelta(minutes=20)
    for n in range(30):
        world.have(f"{n}", START + n * MINUTE)
        world.put_item(f"r{n}", NOON - DAY, due_at=NOON - HOUR)
    world.run_for(4 * HOUR)
    assert Counter(world.references.calls) == {f"{n}": 2 for n in range(30)} | {f"r{n}": 1 for n in range(30)}


# What it must show


def test_two_thousand_contacts_of_which_a_third_was_not_told_of_are_all_captured() -> None:
    world = World(instances=[INSTANCE, OTHER])
    chance = random.Random(1)  # noqa: S311 - traffic
    told = set()
    for n in range(2000):
        at, instance = NOON - 4 * HOUR + chance.random() * 3 * HOUR, world.instances[n % 2]
        if chance.random() < 0.3:
            world.have(f"{n}", at, instance)
        else:
            world.complete(f"{n}", at, instance, times=2 if chance.random() < 0.1 else 1)
            told.add(f"{n}")
    world.references.calls.clear()
    world.now = NOON
    world.run_for(6 * HOUR)
    assert all(world.item(f"{n}", world.instances[n % 2]) for n in range(2000))
    assert not told & set(world.references.calls)
    assert set(Counter(world.references.calls).values()) == {2}
    assert {gauges.contacts_missing for gauges in world.gauges.values()} == {0}


def test_ordinary_running_costs_few_searches() -> None:
    world = World(now=NOON)
    world.run()
    before = len(world.searches.calls)
    for n in range(8000):
        world.have_captured(f"{n}", NOON + n * timedelta(seconds=3.6))
    world.run_for(14 * HOUR)
    hours = [hour for start, hour in world.all_hours().items() if NOON <= start < NOON + 8 * HOUR]
    assert [(hour.completed, hour.closed_at is not None) for hour in hours] == [(1000, True)] * 8
    assert (len(world.searches.calls) - before) / 80 <= 4


def test_a_contact_an_hour_that_cannot_be_captured_costs_no_searches() -> None:
    counts = []
    for hopeless in (0, 1):
        world = World()
        world.run()
        for n in range(6000):
            world.have_captured(f"{n}", NOON + n * timedelta(seconds=1.8))
        for n in range(3 * hopeless):
            world.have(f"hopeless{n}", NOON + n * HOUR + MINUTE)
            world.references.failures[f"hopeless{n}"] = "AccessDeniedException"
        world.run_for(3 * DAY)
        counts.append(len(world.searches.calls))
    assert counts[1] <= counts[0] * 1.1


def test_messages_that_back_off_do_not_stop_anything() -> None:
    world = World()
    for n in range(100):
        world.have(f"{n}", START)
        world.references.failures[f"{n}"] = "AccessDeniedException"
    world.run_for(HOUR)
    world.have("later", world.now - 3 * HOUR - MINUTE)
    world.have("new", world.now - HOUR - MINUTE)
    world.run_for(HOUR)
    assert "new" in world.references.calls


@pytest.mark.usefixtures("moto")
def test_moto_agrees_on_every_expression() -> None:
    dynamodb = make_client("dynamodb")
    create_ledger(dynamodb)
    world = World(instances=[INSTANCE, OTHER], retention=60 * DAY, dynamodb=dynamodb)
    for n in range(30):
        world.have(f"{n}", START + n * MINUTE)
    world.have("past", NOON - 40 * DAY, OTHER)
    world.put_item("due", NOON - DAY, due_at=NOON)
    world.mark(NOON - 41 * DAY, NOON - 39 * DAY)
    assert world.worklist.take_lease("another", now=NOON - HOUR, until=NOON - MINUTE)
    assert world.run()
    assert world.gauges["first"] == Gauges(30, 3, 0, 0)
    world.deliver(NOON + 31 * MINUTE)
    assert world.run()
    assert world.gauges["first"] == Gauges(0, 3, 0, 0)
    assert world.item("past", OTHER) is not None
    assert (world.hour(NOON - 40 * DAY, OTHER).captured, world.hour(START).captured) == (1, 30)
