"""The commit protocol, rule by rule: each test is the shortest interleaving that a broken rule gets wrong.

And every interleaving of two deliveries with few switches, and every fault of one, in the smallest world.
"""

import itertools
from collections.abc import Callable, Iterator

import pytest

from local.in_memory.connect import Member
from tests.unit.world import (
    ANSWER_LOST,
    APPEND,
    COMMIT,
    DIES_BEFORE,
    HALF_DONE,
    PUT_ROWS,
    READ,
    UNAVAILABLE,
    UPDATE,
    Faults,
    Letter,
    World,
    file,
    said_by_connect,
    url,
)


@pytest.fixture
def world() -> World:
    return World()


def captured(world: World, *entered: Member) -> None:
    """Let the contact be captured by its completion, and some time pass."""
    world.hold("voice", entered=list(entered))
    world.complete("voice")
    world.delivery().finish()
    world.clock.advance(minutes=5)


def assert_all_is_well(world: World, contact_id: str = "voice") -> None:
    """Nothing was wrong at any moment, nothing is outstanding, both stores say what Connect says."""
    assert not world.problems
    assert (world.queue, world.dead_letters) == ([], [])
    world.check_quiet(contact_id)
    assert world.shown(contact_id) == world.held(contact_id)


def test_rows_that_a_later_attempt_is_putting_are_not_cleaned_up(world: World) -> None:
    captured(world, url("first"))
    world.hold("voice", entered=[url("second")])
    earlier = world.delivery(world.request("voice", "missed")).run_over(COMMIT)
    world.clock.advance(minutes=5)
    world.hold("voice", entered=[url("third")])
    later = world.delivery(world.request("voice", "missed")).run_to(COMMIT)
    earlier.finish()
    later.finish()
    assert_all_is_well(world)


def test_the_first_capture_cleans_up_what_was_left_and_not_what_is_being_put(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    letter = world.complete("voice")
    world.delivery(letter, faults={(COMMIT, 1): DIES_BEFORE}).finish()
    assert world.rows("voice")
    earlier = world.delivery(letter).run_over(COMMIT)
    world.clock.advance(minutes=5)
    world.hold("voice", entered=[url("second")])
    later = world.delivery(world.request("voice", "missed")).run_to(COMMIT)
    earlier.finish()
    later.finish()
    assert_all_is_well(world)


def test_a_reading_that_was_overtaken_is_not_used_again(world: World) -> None:
    captured(world, url("first"))
    world.hold("voice", entered=[url("second")])
    slower = world.delivery(world.request("voice", "missed")).run_to(COMMIT)
    world.hold("voice", entered=[url("third")])
    world.delivery(world.request("voice", "missed")).finish()
    slower.finish()
    assert_all_is_well(world)


def test_a_reading_that_began_after_what_overtook_it_is_not_used_again_either(world: World) -> None:
    captured(world, url("first"))
    recheck = world.delivery(world.request("voice", "recheck")).run_to(READ)
    world.hold("voice", entered=[url("first")], produced=[file(1)])
    world.clock.advance(seconds=10)
    whole = world.delivery(world.request("voice", "missed")).run_to(COMMIT)
    world.hold("voice", entered=[url("first")], produced=[file(2)])
    recheck.finish()
    whole.finish()
    assert_all_is_well(world)


def test_a_commit_whose_answer_was_lost_is_known_by_what_refuses_its_repetition(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    world.complete("voice")
    delivery = world.delivery(faults={(COMMIT, 1): ANSWER_LOST}).finish()
    assert (delivery.calls[COMMIT], delivery.calls[READ]) == (2, 2)  # it was not read again
    assert len(world.committed) == 1
    assert_all_is_well(world)


def test_after_a_commit_whose_outcome_is_not_known_its_rows_stay(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    letter = world.complete("voice")
    world.delivery(faults={(COMMIT, 1): ANSWER_LOST, (COMMIT, 2): ANSWER_LOST}).finish()
    assert not world.problems
    assert world.shown("voice") == said_by_connect([url("first")])
    assert (world.queue, world.lake) == ([letter], [])
    again = world.delivery().finish()
    assert READ not in again.calls
    assert_all_is_well(world)


def test_what_a_covered_report_adds_reaches_the_lake_though_its_process_died(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    world.hold("leg", entered=[])
    own = world.complete("voice")
    world.clock.advance(minutes=5)
    world.delivery(world.complete("leg")).finish()
    assert world.newest_in_lake("voice") is None  # nobody knows yet when it was completed
    dying = world.delivery(own, faults={(APPEND, 1): DIES_BEFORE}).finish()
    assert READ not in dying.calls
    world.delivery(own).finish()
    assert_all_is_well(world)


def test_a_capture_whose_process_died_before_the_lake_is_appended_by_its_event_delivered_again(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    world.complete("voice")
    world.delivery(faults={(APPEND, 1): DIES_BEFORE}).finish()
    assert world.lake == []
    again = world.delivery().finish()
    assert (again.calls[READ], again.calls[COMMIT], again.calls[APPEND]) == (0, 0, 1)
    assert_all_is_well(world)


def test_it_is_appended_too_if_the_event_comes_again_with_one_that_brings_nothing_new(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    world.complete("voice")
    world.delivery(faults={(APPEND, 1): DIES_BEFORE}).finish()
    world.clock.advance(minutes=5)
    world.request("voice", "missed")
    again = world.delivery().finish()
    assert (again.calls[READ], again.calls[COMMIT]) == (2, 0)
    assert_all_is_well(world)


def test_a_day_that_was_not_marked_is_marked_by_the_event_delivered_again(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    world.complete("voice")
    world.delivery(faults={(UPDATE, 1): DIES_BEFORE}).finish()
    assert world.marked == set()
    world.delivery().finish()
    assert_all_is_well(world)


def test_a_capture_does_not_take_the_place_of_what_was_only_noted_since_it_looked(world: World) -> None:
    captured(world, url("first"))
    world.hold("voice", entered=[url("second")])
    slower = world.delivery(world.request("voice", "missed")).run_to(COMMIT)
    covered = world.complete("voice", number=2, is_analyzed=True)
    covered.body = covered.body.replace(covered.event["time"], "2026-03-01T11:59:00.000Z")
    world.delivery(covered).finish()
    item = world.item("voice")
    assert item is not None
    assert (item["version"], "due_at" in item) == ("2", True)
    slower.finish()
    item = world.item("voice")
    assert item is not None
    assert "due_at" in item
    assert_all_is_well(world)


def test_a_reading_that_says_the_same_as_before_does_not_confirm_another_capture(world: World) -> None:
    captured(world, url("first"))
    world.hold("voice", entered=[url("second")])
    faster = world.delivery(world.request("voice", "missed")).run_to(COMMIT)
    world.clock.advance(minutes=5)
    world.hold("voice", entered=[url("first")])
    slower = world.delivery(world.request("voice", "missed")).run_to(UPDATE)
    faster.finish()
    slower.finish()
    assert_all_is_well(world)


def test_an_attempt_that_lost_the_race_leaves_no_rows(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    slower = world.delivery(world.complete("voice")).run_to(COMMIT)
    world.delivery(world.request("voice", "missed")).finish()
    slower.finish()
    assert {row["capture_id"] for row in world.rows("voice")} == set(world.committed)
    assert_all_is_well(world)


def test_two_environments_that_are_given_one_event_make_one_capture_of_it(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    letter = world.complete("voice")
    twins = [world.delivery(letter), world.delivery(letter)]
    world.run(twins, [0, 1] * 20)
    assert len(world.committed) == 1
    assert_all_is_well(world)


def test_a_completion_that_a_recheck_came_after_is_read(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    world.hold("leg", entered=[])
    world.delivery(world.complete("leg")).finish()
    world.clock.advance(minutes=5)
    world.hold("voice", entered=[url("second")])
    own = world.complete("voice")
    world.clock.advance(minutes=5)
    world.delivery(world.request("voice", "recheck")).finish()
    world.delivery(own).finish()
    assert_all_is_well(world)


def test_a_completion_in_the_very_second_of_a_reading_is_read(world: World) -> None:
    captured(world, url("first"))
    world.clock.now = world.clock.now.replace(microsecond=0)
    world.delivery(world.request("voice", "missed")).finish()
    world.hold("voice", entered=[url("second")])
    world.delivery(world.complete("voice", number=2)).finish()
    assert_all_is_well(world)


def test_the_later_capture_is_the_later_one_by_a_clock_that_is_behind_too(world: World) -> None:
    captured(world, url("first"))
    world.hold("voice", entered=[url("second")])
    world.delivery(world.request("voice", "missed"), behind=3600).finish()
    assert_all_is_well(world)


def test_rows_of_a_dead_attempt_are_deleted_by_the_first_capture_of_its_event_delivered_again(world: World) -> None:
    world.hold("voice", entered=[url("first")])
    world.complete("voice")
    world.delivery(faults={(COMMIT, 1): DIES_BEFORE}).finish()
    world.delivery().finish()
    assert {row["capture_id"] for row in world.rows("voice")} == set(world.committed)
    assert_all_is_well(world)


@pytest.mark.parametrize(
    "faults",
    [
        {(PUT_ROWS, 1): UNAVAILABLE, (PUT_ROWS, 2): UNAVAILABLE},
        {(PUT_ROWS, 1): HALF_DONE},
        {(PUT_ROWS, number): HALF_DONE for number in range(1, 20)},
    ],
    ids=["unavailable", "half done", "never done"],
)
def test_nothing_counts_before_all_its_rows_are_there(world: World, faults: Faults) -> None:
    world.hold("voice", entered=[url(str(number)) for number in range(4)])
    world.complete("voice")
    world.delivery(faults=faults).finish()
    world.delivery().finish()
    assert_all_is_well(world)


def test_a_contact_that_connect_forgets_keeps_what_was_read(world: World) -> None:
    captured(world, url("first"))
    world.hold("voice", is_known=False)
    letter = world.request("voice", "missed")
    world.delivery(letter).finish()
    assert world.shown("voice") == said_by_connect([url("first")])
    world.hold("voice", entered=[url("second")])
    world.delivery(letter).finish()
    assert_all_is_well(world)


# The smallest worlds in which two deliveries meet, and how each is prepared.


def _one_event_twice(world: World) -> tuple[Letter, Letter]:
    letter = world.complete("voice")
    return letter, letter


def _completion_and_request(world: World) -> tuple[Letter, Letter]:
    return world.complete("voice"), world.request("voice", "missed")


def _completion_and_recheck(world: World) -> tuple[Letter, Letter]:
    captured(world, url("earlier"))
    return world.complete("voice", number=2), world.request("voice", "recheck")


def _completion_and_leg(world: World) -> tuple[Letter, Letter]:
    return world.complete("voice"), world.complete("leg")


Meeting = Callable[[World], tuple[Letter, Letter]]
MEETINGS: list[Meeting] = [_one_event_twice, _completion_and_request, _completion_and_recheck, _completion_and_leg]


def _schedules(calls: int) -> Iterator[list[int]]:
    """Yield orders of two processes' calls: some of the one's, some of the other's, then the rest of either."""
    for first, second in itertools.product(range(calls + 1), repeat=2):
        yield [0] * first + [1] * second + [0] * calls + [1] * calls


def _meet(meeting: Meeting, schedule: list[int], faults: Faults, change_at: int) -> None:
    world = World()
    world.hold("voice", entered=[url("first")], produced=[file(1)])
    world.hold("leg", entered=[url("of the leg")])
    letters = meeting(world)
    processes = [world.delivery(letters[0], faults=faults), world.delivery(letters[1])]
    for number, which in enumerate(schedule):
        if number == change_at:
            world.hold("voice", entered=[url("second")], produced=[file(2)])
        if not processes[which].is_done:
            processes[which].step()
    world.run(processes)
    world.settle()
    world.check_quiet("voice")
    world.request("voice", "missed")
    world.settle()
    world.check_quiet("voice")
    assert world.shown("voice") == world.held("voice")


@pytest.mark.parametrize("meeting", MEETINGS)
def test_two_deliveries_may_meet_in_any_way_while_the_contact_changes(
    meeting: Meeting,
) -> None:
    for schedule in _schedules(8):
        for change_at in (3, 7):
            _meet(meeting, schedule, {}, change_at)


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("fault", [DIES_BEFORE, ANSWER_LOST])
def test_any_call_of_one_of_two_deliveries_may_fail(meeting: Meeting, fault: str) -> None:
    calls = [(READ, 1), (READ, 2), (PUT_ROWS, 1), (COMMIT, 1), (PUT_ROWS, 2), (APPEND, 1), (UPDATE, 1)]
    for call, first in itertools.product(calls, range(9)):
        _meet(meeting, [0] * first + [1] * 20, {call: fault}, change_at=first)
