"""When an hour is visited, how, and when that ends; which periods of the past may be asked for."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from contact_references.model.coverage import Hour, floor_to_hour, group_adjacent
from contact_references.model.periods import InvalidPeriodError, parse_backfill
from tests.unit.conftest import NOON
from tests.unit.reconciling import DAY, HOUR, INSTANCE, MINUTE, OTHER

START = NOON - 2 * HOUR


def searched(missing: int = 0, *, captured: int = 1, at: datetime = NOON, hour: Hour | None = None) -> Hour:
    """Make a search of an hour that found so many contacts."""
    names = [f"m{n}" for n in range(missing)]
    hour = (hour or Hour(instance_id="i", start=START)).begin_search(at)
    return hour.count([*names, *(f"c{n}" for n in range(captured))], names, until=START + HOUR).end_visit(at)


def test_an_hour_with_something_missing_is_looked_up_at_growing_pauses_and_given_up_after_seven_days() -> None:
    hour, pauses, now = searched(1), [], NOON
    while hour.due_at is not None:
        pauses.append((hour.due_at - now) / MINUTE)
        now = hour.due_at
        hour = hour.look_up(["m0"], now)
    assert pauses[:6] == [30, 60, 120, 240, 480, 960]
    assert max(pauses) == 1440
    assert now - NOON == timedelta(days=7, hours=3.5)  # asked for anew by the second search
    assert (hour.is_given_up, hour.missing, hour.missing_ids, hour.closed_at) == (True, 1, ("m0",), now)


def test_seven_days_are_counted_from_when_all_of_it_was_asked_for() -> None:
    begun = Hour(instance_id="i", start=START).begin_search(NOON + 3 * HOUR)
    hour = begun.count(["a"], ["a"], until=START + HOUR / 2)
    later = NOON + 3 * DAY
    hour = hour.count(["b"], ["b"], until=START + HOUR).end_visit(later)
    assert hour.asked_since == later
    assert hour.look_up(["a"], NOON + 7 * DAY).closed_at is None
    assert hour.look_up(["a"], later + 7 * DAY).is_given_up


def test_what_was_missing_and_came_is_captured() -> None:
    hour = searched(3, captured=2).look_up(["m1"], NOON + HOUR)
    assert (hour.completed, hour.captured, hour.missing, hour.missing_ids) == (5, 4, 1, ("m1",))


@pytest.mark.parametrize(("missing", "is_search"), [(0, True), (1, False), (100, False), (101, True)])
def test_an_hour_is_searched_again_if_nothing_or_more_than_can_be_named_is_missing(
    missing: int, is_search: bool
) -> None:
    hour = searched(missing)
    assert (hour.missing, len(hour.missing_ids)) == (missing, min(missing, 100))
    assert hour.needs_search is is_search


@pytest.mark.parametrize(
    ("searched_at", "due_at"),
    [
        (NOON, NOON + 3 * HOUR),
        (NOON + HOUR, NOON + 4 * HOUR),
        (NOON + 3 * HOUR - MINUTE, NOON + 6 * HOUR - MINUTE),
        (NOON + 3 * HOUR, None),
        (NOON + 90 * DAY, None),
    ],
)
def test_an_hour_with_nothing_missing_is_closed_by_a_search_that_began_when_all_was_indexed(
    searched_at: datetime, due_at: datetime | None
) -> None:
    hour = searched(at=searched_at)
    assert (hour.due_at, hour.closed_at) == (due_at, None if due_at else searched_at)
    assert not hour.is_given_up


def test_an_hour_all_of_whose_contacts_came_is_still_searched_once_more() -> None:
    hour = searched(2).look_up([], NOON + HOUR)
    assert (hour.due_at, hour.needs_search, hour.asks) == (NOON + 3 * HOUR, True, True)
    late = searched(2, at=NOON + 4 * HOUR).look_up([], NOON + 5 * HOUR)
    assert late.closed_at == NOON + 5 * HOUR, "what it was searched for was indexed by then"


def test_a_visit_that_goes_on_keeps_its_counts_and_its_beginning() -> None:
    begun = Hour(instance_id="i", start=START, visits=3, missing=200).begin_search(NOON)
    half = begun.count(["a", "b"], ["b"], until=START + HOUR / 2)
    assert half.begin_search(NOON + HOUR) == half
    assert (half.completed, half.captured, half.missing_ids, half.searched_at) == (2, 1, ("b",), NOON)
    whole = half.count(["c"], [], until=START + HOUR).end_visit(NOON + HOUR)
    assert (whole.completed, whole.captured, whole.missing, whole.visits) == (3, 2, 1, 4)
    assert whole.searched_to is None


def test_adjacent_hours_are_searched_together_a_day_at_most() -> None:
    hours = [Hour(instance_id="i", start=START + n * HOUR) for n in (*range(30), 40)]
    assert [len(group) for group in group_adjacent(hours[::-1])] == [1, 6, 24]
    unfinished = replace(hours[3], searched_to=START + 3.5 * HOUR)
    groups = group_adjacent([*hours[:3], unfinished, *hours[4:6]])
    assert [group[0].start for group in groups] == [START + 3 * HOUR, START]
    assert [len(group) for group in groups] == [3, 3]
    assert group_adjacent([]) == []


def test_an_hour_has_its_first_moment_and_not_its_last() -> None:
    assert floor_to_hour(NOON) == NOON
    assert floor_to_hour(NOON - timedelta(microseconds=1)) == NOON - HOUR


def read(event: object, retention: timedelta | None = None) -> Any:
    return parse_backfill(event, instances=[INSTANCE, OTHER], now=NOON + 30 * MINUTE, retention=retention)


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (None, "give {}"),
        ([], "give {}"),
        ("2026-01-01", "give {}"),
        ({"from": "2026-02-01"}, "give {}"),
        ({"to": "2026-02-01"}, "give {}"),
        ({"source": "aws.scheduler"}, "give {}"),
        ({"from": "2026-02-01", "to": "2026-02-02", "name": "march"}, "give {}"),
        ({"from": "2026-02-01", "to": "2026-02-02", "instanceARN": INSTANCE.arn}, "give {}"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "swap them"),
        ({"from": "2026-02-02", "to": "2026-02-02"}, "swap them"),
        ({"from": "2026-02-01", "to": "2026-03-01T12:30:00.001Z"}, "is in the future: now it is 2026-03-01T12:30Z"),
        ({"from": "2024-03-01T12:29:59Z", "to": "2026-02-01"}, "give 2024-03-01T13:00Z or later"),
        ({"from": "0001-01-01", "to": "2026-02-01"}, "beyond the two years"),
        ({"from": "yesterday", "to": "2026-02-01"}, "from is 'yesterday': give a date or time such as"),
        ({"from": 1767225600, "to": "2026-02-01"}, "from is 1767225600: give a date or time such as"),
        ({"from": "2026-01-01", "to": None}, "to is None: give a date or time such as"),
        ({"from": "2026-02-30", "to": "2026-03-01"}, "give a date or time such as"),
        ({"from": "2026-02-01", "to": "2026-02-02", "instanceArn": "first"}, f"such as {INSTANCE.arn}"),
        ({"from": "2026-02-01", "to": "2026-02-02", "instanceArn": 7}, f"such as {INSTANCE.arn}"),
        (
            {"from": "2026-02-01", "to": "2026-02-02", "instanceArn": INSTANCE.arn.replace("first", "third")},
            f"not captured here: give one that is, such as {INSTANCE.arn}",
        ),
    ],
)
def test_what_is_no_period_of_the_past_is_refused_with_a_sentence_and_an_example(event: object, says: str) -> None:
    with pytest.raises(InvalidPeriodError) as refused:
        read(event)
    assert says in str(refused.value)


def test_a_period_beyond_the_retention_is_refused() -> None:
    event = {"from": "2026-02-01", "to": "2026-02-02"}
    with pytest.raises(InvalidPeriodError, match="beyond the retention: give 2026-02-19T13:00Z or later"):
        read(event, 10 * DAY)
    assert len(read(event, 1000 * DAY).hours) == 24
    assert len(read({"from": "2024-03-01T13:00Z", "to": "2024-03-01T14:00Z"}, 1000 * DAY).hours) == 1


def test_a_period_has_every_hour_that_it_touches_and_that_is_due() -> None:
    hours = read({"from": "2026-03-01T08:59:59.999Z", "to": "2026-03-01T09:00:00.001Z"}).hours
    assert hours == (NOON - 4 * HOUR, NOON - 3 * HOUR)
    recent = read({"from": "2026-03-01T08:00Z", "to": "2026-03-01T12:30Z"})
    assert recent.hours[-1] == NOON - 2 * HOUR, "the hour after is still to be opened by a run"
    assert recent.instances == (INSTANCE, OTHER)


def test_a_period_may_be_of_one_instance_however_its_arn_is_written() -> None:
    event = {"from": "2026-02-01", "to": "2026-02-02"}
    assert read(event | {"instanceArn": OTHER.arn}).instances == (OTHER,)
    assert read(event | {"instanceArn": OTHER.arn.replace("arn:aws:", "arn:aws::")}).instances == (OTHER,)
