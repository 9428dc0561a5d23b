"""How reconciling fares by a virtual clock: its searches, whether it ends, and what live contacts notice of a backfill.

The real code decides: hours, rechecks, feeder, search and capture path, on services in memory. A search takes what its
pace makes it take; what it finds is indexed at once. Live contacts beside a backfill are those of
`benchmarks.simulation`, whose approximations are these too.
"""

import argparse
import io
import json
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger, Metrics

from benchmarks.days import OURS, deployment_at
from benchmarks.report import Section, table, tell, verdict
from benchmarks.simulation import MIDNIGHT, Plan, World, live_id
from benchmarks.traffic import ALL_TYPES
from contact_references.aws.pacing import TokenBucket
from contact_references.model.contact import Instance, Scope
from contact_references.model.coverage import Hour
from contact_references.model.errors import CaptureError
from contact_references.model.periods import parse_backfill
from contact_references.model.reference_types import OTHER_CHANNELS, TypeLists
from contact_references.reconcile.report import Gauges, ReconcileReport
from local.in_memory.connect import ConnectSearch
from local.in_memory.environment import Services, start_environment, start_reconcile_environment
from local.in_memory.events import as_messages, completion_event
from local.in_memory.service import RefusedError
from local.in_memory.sqs import SQS

RATE = 8.0
SHARE = 0.5
SEARCH_RATE = 0.25
_SEARCHES_PER_STEP = 7
_HOUR = 3600.0
_BATCH = 25
_WARM_UP = 2 * _HOUR
_LISTS = TypeLists({OTHER_CHANNELS: tuple(ALL_TYPES)})
_SCOPE = Scope("us-east-1", "111122223333")
FIRST = Instance("us-east-1", "111122223333", "12345678-1234-1234-1234-123456789012")
OTHER = Instance("us-east-1", "111122223333", "87654321-4321-4321-4321-210987654321")

Contacts = list[tuple[float, str]]
"""When contacts complete, in seconds from MIDNIGHT, in order, and their ids."""


def _moment(seconds: float) -> datetime:
    return MIDNIGHT + timedelta(seconds=seconds)


class _Report(ReconcileReport):
    """Keeps the gauges, which would be written to the log."""

    def __init__(self) -> None:
        super().__init__(Logger(service="reconcile", level="CRITICAL", stream=io.StringIO()), Metrics(namespace="x"))
        self.latest: dict[Instance, Gauges] = {}

    def gauges(self, instance: Instance, gauges: Gauges) -> None:
        self.latest[instance] = gauges


class ReconcileFunction:
    """The function, wired as its handler does it, with contacts to search.

    A run begins at a second and has a clock of its own, which its searches advance. `send` is told of each message: its
    body, and the second it shows.
    """

    def __init__(
        self, services: Services, contacts: dict[Instance, Contacts], send: Callable[[str, float], None]
    ) -> None:
        self._instances = list(contacts)
        self._at = 0.0
        self._runs = 0
        self.search = ConnectSearch(clock=self._clock)
        for instance, completed in contacts.items():
            for moment, name in completed:
                self.search.have(instance.instance_id, name, _moment(moment))
        self.sqs = SQS(clock=self._clock)
        self.sqs.on_sent = lambda body, at: send(body, (at - MIDNIGHT).total_seconds())
        self.report = _Report()
        self._parts = start_reconcile_environment(
            services.dynamodb,
            self.search,
            self.sqs,
            self.report,
            type_lists=_LISTS,
            requests_per_second=RATE,
            share=SHARE,
            bucket=TokenBucket(SEARCH_RATE, clock=lambda: self._at, sleep=self._sleep),
            seconds_per_step=_SEARCHES_PER_STEP / SEARCH_RATE,
            clock=self._clock,
            sleep=self._sleep,
        )

    def run(self, at: float, *, seconds: float) -> None:
        """Run once, from a second on, for so many at the most; what fails of an instance is its own."""
        self._at = max(at, self._at)
        self._runs += 1
        end = at + seconds
        try:
            self._parts.reconciler.run(self._instances, holder=str(self._runs), time_left=lambda: end - self._at)
        except CaptureError:
            if not self.report.latest:
                raise

    def mark(self, start: datetime, end: datetime, at: float) -> None:
        """Mark a period to be searched."""
        event = {"from": start.isoformat(), "to": end.isoformat()}
        self._parts.hours.mark(parse_backfill(event, instances=self._instances, now=_moment(at), retention=None))

    def is_closed(self, instance: Instance, start: datetime) -> bool:
        """Whether an hour is accounted for."""
        return any(
            isinstance(hour, Hour) and hour.closed_at is not None
            for hour in self._parts.worklist.find_hours(instance, [start])
        )

    def _clock(self) -> datetime:
        return _moment(self._at)

    def _sleep(self, seconds: float) -> None:
        self._at += seconds


class Accounting:
    """Contacts that are captured as they complete, but for some, and runs that account for them.

    `lost` never get an event; what is `hopeless` can't be captured either.
    """

    def __init__(
        self,
        contacts: dict[Instance, Contacts],
        *,
        lost: Iterable[str] = (),
        hopeless: Iterable[str] = (),
        refused: Instance | None = None,
    ) -> None:
        self._now = 0.0
        self._hopeless = set(hopeless)
        self._lost = {*lost, *self._hopeless}
        self._events = sorted(
            (moment, name, instance.arn) for instance in contacts for moment, name in contacts[instance]
        )
        self._next = 0
        self.sent: list[tuple[float, str]] = []
        self.asked: dict[str, float] = {}
        services = Services()
        services.connect.find = self._find
        self._intake = start_environment(
            services,
            type_lists=_LISTS,
            bucket=TokenBucket(1, clock=lambda: 0.0, sleep=lambda _: None),
            clock=lambda: _moment(self._now),
            sleep=lambda _: None,
        ).intake
        self.function = ReconcileFunction(services, contacts, self._send)
        if refused:
            self.function.search.refused[refused.instance_id] = "AccessDeniedException"

    @property
    def searches(self) -> int:
        """How often SearchContacts was called."""
        return len(self.function.search.calls)

    def run(
        self, until: float, *, minutes: int = 15, done: Callable[[], bool] = lambda: False
    ) -> list[tuple[float, int]]:
        """Run every so many minutes; return when each run began, and the searches that were made before it."""
        runs = []
        at = 0.0
        while at < until and not done():
            self._capture_completed(at)
            runs.append((at, self.searches))
            self.function.run(at, seconds=minutes * 60 - 5)
            at += minutes * 60
            self._deliver(at)
        return runs

    def _capture_completed(self, until: float) -> None:
        bodies = []
        while self._next < len(self._events) and self._events[self._next][0] < until:
            moment, name, arn = self._events[self._next]
            self._next += 1
            if name not in self._lost:
                bodies.append(completion_event(name, completed=_moment(moment), event_id=name, instance_arn=arn))
            self._now = moment + 2
            if len(bodies) == _BATCH:
                self._take(bodies)
                bodies = []
        self._take(bodies)

    def _deliver(self, until: float) -> None:
        due = sorted(letter for letter in self.sent if letter[0] < until)
        self.sent = [letter for letter in self.sent if letter[0] >= until]
        for start in range(0, len(due), _BATCH):
            self._now = due[start][0]
            self._take([body for _, body in due[start : start + _BATCH]])

    def _take(self, bodies: Sequence[str]) -> None:
        if bodies:
            self._intake.take_messages(as_messages(bodies), scope=_SCOPE, time_left=lambda: 900.0)

    def _find(self, contact_id: str) -> list[Any]:
        if contact_id in self._hopeless:
            raise RefusedError("InternalServiceException", "ListContactReferences", 500)
        return []

    def _send(self, body: str, at: float) -> None:
        self.sent.append((at, body))
        self.asked.setdefault(json.loads(body)["detail"]["contactId"], at)


def _evenly(count: int, start: float, end: float, prefix: str) -> Contacts:
    step = (end - start) / count
    return [(start + number * step, f"{prefix}-0000-4000-8000-{number:012}") for number in range(count)]


class Row(NamedTuple):
    """A row of the report."""

    what: str
    bar: str
    measured: str
    is_met: bool


def _searches_a_contact(hourly: int, hours: int, hopeless: Iterable[str] = ()) -> float:
    """Return the searches for 100 contacts, from the hour on in which the first one is searched for the last time."""
    accounting = Accounting({FIRST: _evenly(hourly * hours, 0, hours * _HOUR, "10000000")}, hopeless=hopeless)
    settled = 7 * _HOUR
    runs = accounting.run(hours * _HOUR)
    before = next(calls for at, calls in runs if at >= settled)
    return (accounting.searches - before) / (hourly * (hours - settled / _HOUR)) * 100


def count_searches() -> list[Row]:
    """Count what ordinary running searches, alone and with a contact an hour that cannot be captured."""
    ordinary = _searches_a_contact(1_000, 19)
    hourly, hours = 7_500, 13
    without = _searches_a_contact(hourly, hours)
    hopeless = [name for _, name in _evenly(hourly * hours, 0, 1, "10000000")[::hourly]]
    beside = _searches_a_contact(hourly, hours, hopeless)
    return [
        Row("SearchContacts calls for 100 contacts, 1,000 an hour", "≤ 4", f"{ordinary:.2f}", ordinary <= 4),
        Row(
            "the same at 7,500 an hour, one contact an hour that cannot be captured, over without it",
            "≤ 1.1",
            f"{beside / without:.3f} ({beside:.2f} / {without:.2f})",
            beside / without <= 1.1,
        ),
    ]


def close_a_large_hour() -> Row:
    """Have runs of a minute account for an hour of 60,000 contacts."""
    accounting = Accounting({FIRST: _evenly(60_000, 0, _HOUR, "10000000")})

    def is_closed() -> bool:
        return accounting.function.is_closed(FIRST, MIDNIGHT)

    runs = accounting.run(24 * _HOUR, minutes=1, done=is_closed)
    hours = runs[-1][0] / _HOUR
    measured = f"after {hours:.1f} h and {accounting.searches:,} searches" if is_closed() else "open after a day"
    return Row("an hour of 60,000 contacts, runs of a minute", "closed in the end", measured, is_closed())


def share_between_instances(*, refuses: bool) -> Row:
    """See when the one missing contact is asked for of an instance beside a busy or refusing one."""
    busy = _evenly(15_000 * 4, 0, 4 * _HOUR, "10000000")
    name = "20000000-0000-4000-8000-000000000000"
    missing = [(1.5 * _HOUR, name)]
    accounting = Accounting({FIRST: busy, OTHER: missing}, lost=[name], refused=FIRST if refuses else None)
    runs = accounting.run(5 * _HOUR)
    due = next(at for at, _ in runs if at >= 3 * _HOUR)
    asked = accounting.asked.get(name)
    is_met = asked is not None and due <= asked < due + 900
    measured = "never" if asked is None else f"{asked - due:.0f} s after the begin of the first run in which it is due"
    what = "refuses" if refuses else "has 15,000 contacts an hour, all captured"
    return Row(f"the other instance {what}: a missing contact is asked for", "in the same run", measured, is_met)


class Live(NamedTuple):
    """Seconds from completion to ledger, and calls a second that the backfill got meanwhile."""

    p50: float
    p99: float
    fed: float


def run_beside_live(share: float, *, has_backfill: bool, hours: float) -> Live:
    """Let live contacts take a share of the rate, and measure so many hours of it after the first two."""
    draw = random.Random(1)  # noqa: S311 - a simulation
    warm_up, end = _WARM_UP, _WARM_UP + hours * _HOUR
    moments: list[float] = []
    while not moments or moments[-1] < end:
        moments.append((moments[-1] if moments else 0.0) + draw.expovariate(RATE * share / 2))
    plan = Plan(deployment=deployment_at(RATE), quota=RATE / OURS, reference_types=ALL_TYPES)
    world = World(plan, moments)
    world.keeps_items = True
    fed: list[float] = []
    world.on_other_capture = fed.append
    past = _evenly(100_000, -6 * 24 * _HOUR, -2 * 24 * _HOUR, "30000000")
    live = [(moment, live_id(number)) for number, moment in enumerate(moments)]
    function = ReconcileFunction(world.services, {FIRST: past + live}, world.send)
    if has_backfill:
        function.mark(_moment(past[0][0]), _moment(past[-1][0]), at=0.0)

    def reconcile() -> Any:
        while True:
            function.sqs.waiting = world.count_waiting()
            function.run(world.environment.now, seconds=895)
            yield world.environment.timeout(900)

    world.environment.process(reconcile())
    figures = world.run(end)
    waits = sorted(list(figures.waits)[int(len(figures.waits) * warm_up / end) :])
    during = sum(warm_up <= at < end for at in fed)
    return Live(waits[len(waits) // 2], waits[int(len(waits) * 0.99)], during * 2 / (end - warm_up))


def compare_live(hours: float) -> list[Row]:
    """Compare live contacts without and with a backfill."""
    rows = []
    for share in (0.4, 0.7):
        without, beside = (run_beside_live(share, has_backfill=is_there, hours=hours) for is_there in (False, True))
        is_met = beside.p50 <= without.p50 + 1 and beside.p99 <= without.p99 + 6
        measured = f"{without.p50:.1f} / {without.p99:.1f} s, {beside.p50:.1f} / {beside.p99:.1f} s"
        what = f"live contacts at {share:.0%} of the rate, p50 / p99 without, with a backfill"
        rows.append(Row(what, "≤ 1 / 6 s more", measured, is_met))
        got = beside.fed / (RATE * SHARE)
        bar = "≥ 0.85" if share == 0.4 else ""
        rows.append(
            Row("what the backfill gets of `backfillShare` meanwhile", bar, f"{got:.2f}", got >= 0.85 or not bar)
        )
    return rows


_NOTE = f"""\
Runs every 15 minutes if nothing else is said, {SEARCH_RATE:g} searches a second, {RATE:g} requests a second of
ListContactReferences, two a contact, of which fed contacts take {SHARE:.0%} at the most (`backfillShare`). Searches are
counted once hours are as often closed as opened. Live contacts complete at random; the backfill has more missing
contacts than it can get through. The first two hours are left out: where live contacts take 70% of the rate, a
backfill's first two runs, which know nothing of them yet, make them wait for up to three minutes for half an hour."""
_PARTS = ("searches", "large", "instances", "live")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the hours of live contacts, and parts to leave it at."""
    parser.add_argument("--hours", type=float, default=4, help="of live contacts that are measured (%(default)s)")
    parser.add_argument("--part", action="append", choices=_PARTS, default=[], help="one of them, repeatable (all)")


def run(options: argparse.Namespace) -> list[Section]:
    """Simulate, all parts or some."""
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "searches": count_searches,
        "large": lambda: [close_a_large_hour()],
        "instances": lambda: [share_between_instances(refuses=refuses) for refuses in (False, True)],
        "live": lambda: compare_live(options.hours),
    }
    if options.write and options.part:
        raise SystemExit("--write writes all parts: leave --part out")
    rows: list[Row] = []
    for name in options.part or parts:
        rows += parts[name]()
        tell(f"{name}: {[row.measured for row in rows]}")
    cells = [[row.what, row.bar, row.measured, verdict(row.is_met) if row.bar else ""] for row in rows]
    body = f"{_NOTE}\n\n{table(['what', 'bar', 'simulated', 'bar is'], cells)}"
    return [Section("reconcile", "Reconciling, simulated", body)]
