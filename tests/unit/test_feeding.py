"""Requests take turns in time: how wide their slots are, how far ahead they go, and what that does to live contacts."""

import heapq
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from contact_references.model.contact import Contact, ContactKey
from contact_references.model.errors import RetriableError
from contact_references.model.events import MISSED, RECHECK, CaptureRequest
from contact_references.model.reference_types import TypeLists
from tests.unit.conftest import ALL_TYPES, NOON
from tests.unit.reconciling import ENVIRONMENT_SECONDS, HOUR, INSTANCE, MINUTE, KilledError, World


def request(name: str = "a", *, initial: str | None = None, reason: str = MISSED, channel: str | None = None) -> Any:
    contact = Contact(key=ContactKey(INSTANCE.instance_id, name), initial_contact_id=initial or name, channel=channel)
    return CaptureRequest(instance_arn=INSTANCE.arn, contact=contact, reason=reason, time=NOON)


def many(count: int) -> list[CaptureRequest]:
    return [request(str(n)) for n in range(count)]


def begin(world: World) -> None:
    until = world.now + timedelta(seconds=ENVIRONMENT_SECONDS[world.minutes])
    lease = world.worklist.take_lease(f"at {world.now}", now=world.now, until=until)
    assert lease is not None
    world.feeder.begin(lease)


def run(world: World, requests: Sequence[CaptureRequest]) -> int:
    """Feed requests as a run that does nothing else."""
    begin(world)
    fed = world.feeder.feed(requests)
    world.feeder.end()
    return fed


def delays(world: World) -> list[float]:
    """The seconds from noon to each message."""
    return [(at - NOON).total_seconds() for at, _, _ in world.queue.messages]


def lease_item(world: World) -> dict[str, str]:
    item = world.table.items["RECONCILE", "LEASE"]
    return {name: next(iter(value.values())) for name, value in item.items()}


def widths(world: World, *requests: CaptureRequest) -> list[float]:
    """How many seconds each request's slot takes."""
    begin(world)
    found = []
    for one in requests:
        before = lease_item(world).get("fed_until", "2026-03-01T12:00:00.000Z")
        world.feeder.feed([one])
        found.append(round((_seconds(lease_item(world)["fed_until"]) - _seconds(before)), 3))
    return found


def _seconds(time: str) -> float:
    return sum(float(part) * unit for part, unit in zip(time[11:-1].split(":"), (3600, 60, 1), strict=True))


def test_a_slot_is_as_wide_as_the_calls_take_at_the_share_of_the_rate() -> None:
    lists = TypeLists({"VOICE": ("URL",), "CHAT": ("URL", "ATTACHMENT"), "*": ALL_TYPES})
    world = World(type_lists=lists)  # four calls a second, of eight
    assert widths(world, request(), request(initial="b"), request(channel="VOICE")) == [0.5, 1.0, 0.25]
    assert widths(World(type_lists=lists), request(channel="VOICE", initial="b"), request(channel="CHAT")) == [
        0.5,
        0.25,
    ]
    assert widths(World(type_lists=lists, share=1), request()) == [0.25]


def test_a_recheck_takes_one_call_of_a_leg_too() -> None:
    assert widths(World(), request(reason=RECHECK), request(reason=RECHECK, initial="b")) == [0.25, 0.25]


def test_requests_are_delayed_to_their_slots_in_order() -> None:
    world = World()
    assert run(world, many(5)) == 5
    assert delays(world) == [0, 0, 1, 1, 2]
    assert world.asked() == ["0", "1", "2", "3", "4"]
    assert lease_item(world)["fed_until"] == "2026-03-01T12:00:02.500Z"


def test_feeding_stops_where_a_slot_is_over_a_quarter_of_an_hour_ahead() -> None:
    world = World()
    assert run(world, many(5000)) == 1802, "two a second, to 900 seconds and a fraction"
    assert (max(delays(world)), len(set(world.asked()))) == (900, 1802)
    world.now += MINUTE
    assert run(world, many(5000)) == 120
    assert run(world, many(1)) == 0
    assert max(delays(world)) == 960


def test_the_next_run_goes_on_where_feeding_has_got_and_wastes_no_slot_of_the_past() -> None:
    world = World()
    run(world, many(100))
    world.build()
    run(world, many(100))
    assert delays(world)[100] == 50
    world.now += HOUR
    run(world, many(1))
    assert delays(world)[-1] == 3600


def test_slots_are_taken_before_anything_is_sent() -> None:
    world = World()
    begin(world)
    world.operations.clear()
    world.calls_left = 1
    with pytest.raises(KilledError):
        world.feeder.feed(many(10))
    assert world.operations == ["UpdateItem", "SendMessageBatch"]
    assert (world.queue.messages, lease_item(world)["fed_until"]) == ([], "2026-03-01T12:00:05.000Z")
    world.calls_left = None
    world.now += 15 * MINUTE  # the run that died has had the lease until then
    world.build()
    run(world, many(1))
    assert delays(world) == [900]


def test_a_run_wastes_no_slot_of_its_own_past() -> None:
    world = World()
    begin(world)
    world.feeder.feed(many(2))
    world.now += MINUTE
    world.feeder.feed(many(2))
    assert delays(world) == [0, 0, 60, 60]
    assert lease_item(world)["fed_until"] == "2026-03-01T12:01:01.000Z"


def test_nothing_to_feed_costs_no_call() -> None:
    world = World()
    begin(world)
    world.operations.clear()
    assert world.feeder.feed([]) == 0
    assert world.operations == []


def test_slots_double_in_width_while_messages_wait_and_shrink_by_a_twentieth_down_to_theirs() -> None:
    world = World()
    stretches = []
    for waiting in (12, 13, 13, 13, 0, 0, *[13] * 7):
        world.queue.waiting = waiting
        run(world, many(1))
        stretches.append(float(lease_item(world)["stretch"]))
    assert stretches[:6] == [1, 2, 4, 8, 7.6, 7.22]
    assert stretches[-3:] == [64, 64, 64]
    world.queue.waiting = 0
    for _ in range(90):
        run(world, [])
    assert float(lease_item(world)["stretch"]) == 1


def test_a_stretched_slot_is_so_much_wider() -> None:
    world = World()
    world.queue.waiting = 13
    run(world, many(3))
    assert lease_item(world)["fed_until"] == "2026-03-01T12:00:03.000Z"


def test_the_service_that_refuses_a_message_fails_the_feeding() -> None:
    world = World()
    world.queue.refuses_from = 7
    begin(world)
    with pytest.raises(RetriableError, match="InternalError"):
        world.feeder.feed(many(20))
    assert (len(world.asked()), world.requests.sent) == (7, 7)


def test_a_run_that_lost_its_lease_feeds_nothing() -> None:
    world = World()
    begin(world)
    world.table.items["RECONCILE", "LEASE"]["holder"] = {"S": "another"}
    with pytest.raises(RetriableError, match="LeaseLost"):
        world.feeder.feed(many(1))
    world.feeder.end()
    assert world.queue.messages == []
    assert lease_item(world)["holder"] == "another"
    assert "fed_until" not in lease_item(world)


def live_latencies(
    *, load: float, minutes: int | None, first: float = 3600, until: float = 3 * 3600
) -> tuple[float, float, float]:
    """Let live contacts and fed ones be captured one after the other, two calls each at eight a second.

    Returns the median and the 99th percentile of the seconds of live contacts that come after the `first` ones, and
    the part that fed contacts have of the calls.
    """
    random.seed(4)
    world, requests, takes = World(minutes=minutes or 15), many(2000), 0.25
    arrivals: list[tuple[float, bool]] = []
    at = 0.0
    while (at := at + random.expovariate(load / takes)) < until:
        arrivals.append((at, False))
    heapq.heapify(arrivals)
    free, next_run = 0.0, 0.0 if minutes else until
    begun: list[tuple[float, float]] = []
    latencies: list[float] = []
    count = 0
    while arrivals:
        if next_run < until and next_run <= arrivals[0][0]:
            world.now = NOON + timedelta(seconds=next_run)
            world.queue.waiting = sum(came <= next_run < started for came, started in begun[-5000:])
            run(world, requests)
            for seconds in delays(world):
                heapq.heappush(arrivals, (seconds, True))
            world.queue.messages.clear()
            next_run += 60 * world.minutes
            continue
        came, is_request = heapq.heappop(arrivals)
        started = max(came, free)
        free = started + takes
        begun.append((came, started))
        count += is_request and came < until
        if not is_request and came >= first:
            latencies.append(free - came)
    latencies.sort()
    return latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100], count * takes / until


@pytest.mark.parametrize("minutes", [1, 15])
@pytest.mark.parametrize(("load", "least_share"), [(0.4, 0.85), (0.7, 0.2)])
def test_live_contacts_hardly_notice_a_backfill(load: float, least_share: float, minutes: int) -> None:
    median, slow, _ = live_latencies(load=load, minutes=None)
    median_beside, slow_beside, share = live_latencies(load=load, minutes=minutes)
    assert median_beside <= median + 1
    assert slow_beside <= slow + 6
    assert share / 0.5 >= least_share
