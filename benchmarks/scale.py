"""How long contacts wait and what they cost from one thousand to one million a day, in a campaign and in an outage.

Each scenario is a day of the deployed system (`benchmarks.simulation`) at the numbers that `infra` deploys. Results
are kept in .local/scale, so that an interrupted run goes on with --keep.
"""

import argparse
import gc
import itertools
import json
import random
import time
from bisect import bisect
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.prices import LOG_BYTES, price, used_by_the_month
from benchmarks.report import DOCS, Section, table, tell
from benchmarks.simulation import DAY, Deployment, Figures, Latency, Plan, simulate
from benchmarks.traffic import ALL_TYPES, SIX_TYPES
from local.emulator import ROOT

RESULTS = ROOT / ".local" / "scale"
DOCUMENT = DOCS / "scale.md"
OURS = 0.8
"""Our share of the account's quota, as by default: 8 of 10 requests a second."""

# Contacts that complete in each hour of a weekday, relative: a mid-morning peak of a tenth of the day, a dip at noon, a
# second peak in the afternoon, little at night (assumed; the shape is that of published call-centre data).
_NIGHT, _EVENING = (0.2, 0.1, 0.1, 0.1, 0.2, 0.5, 1.5, 3), (4.5, 3.5, 2.5, 1.3, 0.8, 0.2)
SHAPE = (*_NIGHT, 6.5, 9.5, 10.5, 9.5, 7.5, 8, 8.5, 8, 7.5, 6, *_EVENING)
_HOUR = 3600.0
MORNING = (8, 12)
# What the function writes, counted by `benchmarks.cost`.
_CONTACT_LOG_BYTES, _INVOCATION_LOG_BYTES = 715, 925
_CAMPAIGN = (10.5 * _HOUR, 600.0, 5000)
_OUTAGE = (10 * _HOUR, 11 * _HOUR)
_WINDOWS = (1.0, 2.0, 3.0, 5.0, 10.0)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A day: what completes, at which quota of the account (requests a second), and what goes wrong."""

    kind: str
    contacts: int
    quota: float
    calls: int = 2
    """Calls a contact: two for all types, one for six or fewer."""
    hours: tuple[int, int] = (0, 24)
    """What is simulated of the day; until the last contact is captured if it is all of it."""
    window: float | None = None
    """Seconds of the batching window, if not what is deployed."""

    @property
    def name(self) -> str:
        """Return a name for files and progress."""
        name = f"{self.kind}-{self.contacts}-{self.quota:g}-{self.calls}"
        return name if self.window is None else f"{name}-{self.window:g}"

    @property
    def rate(self) -> float:
        """Requests a second that are ours."""
        return self.quota * OURS

    @property
    def is_possible(self) -> bool:
        """Whether the rate serves the calls of the day."""
        return self.contacts * self.calls <= self.rate * DAY


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A scenario's figures: seconds, numbers of captured contacts; `backlog` is the longest."""

    scenario: Scenario
    contacts: int
    p50: float
    p99: float
    backlog: int
    seconds: float
    calls: int
    throttled: int
    mean_batch: float
    most_busy: int
    mean_busy: float
    usage: dict[str, float]
    invocations: int
    metric_hours: int
    busy_minutes: int

    @property
    def cost(self) -> dict[str, float]:
        """US dollars a million contacts, by what they are paid for."""
        overheads = used_by_the_month(
            metric_hours=self.metric_hours,
            busy_minutes=self.busy_minutes,
            concurrency=deployment_at(self.scenario.rate).concurrency,
            days=self.seconds / DAY,
        )
        overheads[LOG_BYTES] = self.contacts * _CONTACT_LOG_BYTES + self.invocations * _INVOCATION_LOG_BYTES
        return {name: dollars * 1e6 / self.contacts for name, dollars in price(self.usage | overheads).items()}


def deployment_at(rate: float) -> Deployment:
    """Return what the stack deploys for so many requests a second."""
    # Here, because it starts the CDK's Node process, which a simulation of something else does not need.
    from infra.capture import (  # noqa: PLC0415 - see above
        _BATCH_SIZE,
        _BATCHING_WINDOW_SECONDS,
        share_rate,
    )

    return Deployment(*share_rate(rate), _BATCH_SIZE, _BATCHING_WINDOW_SECONDS)


def scenarios() -> list[Scenario]:
    """Return every scenario of the table, the longest to simulate first."""
    small = [Scenario(kind="day", contacts=n, quota=q) for n in (10**3, 10**4) for q in (2, 10, 50, 100)]
    large = [Scenario(kind="day", contacts=10**5, quota=q) for q in (2, 5, 10, 50, 100)]
    # Of the largest day its morning: all of it takes a quarter of an hour for each quota.
    largest = [Scenario(kind="day", contacts=10**6, quota=q, hours=MORNING) for q in (2, 10, 50, 100)]
    trimmed = Scenario(kind="day", contacts=10**6, quota=50, calls=1, hours=MORNING)
    six = [Scenario(kind="day", contacts=n, quota=q, calls=1) for n, q in ((10**4, 2), (10**5, 5), (10**5, 10))]
    campaign = [Scenario(kind="campaign", contacts=10**4, quota=q) for q in (2, 10, 50)]
    outage = [Scenario(kind="outage", contacts=n, quota=q) for n, q in ((10**4, 2), (10**4, 10), (10**5, 50))]
    windows = [
        Scenario(kind="window", contacts=n, quota=10, calls=calls, window=window)
        for n in (10**3, 10**4, 10**5)
        for calls in (2, 1)
        for window in _WINDOWS
    ]
    every = [*small, *large, *largest, *six, trimmed, *campaign, *outage, *windows]
    return sorted(every, key=lambda one: -one.contacts)


def completions(scenario: Scenario) -> list[float]:
    """Return the seconds of the day at which contacts complete; the same scenario gives the same ones."""
    draw = random.Random(scenario.contacts)  # noqa: S311 - a simulation
    ends = list(itertools.accumulate(SHAPE))
    moments = []
    first, last = scenario.hours
    for _ in range(scenario.contacts):
        hour = bisect(ends, draw.random() * ends[-1])
        moment = (min(hour, len(SHAPE) - 1) + draw.random()) * _HOUR
        if first * _HOUR <= moment < last * _HOUR:
            moments.append(moment)
    if scenario.kind == "campaign":
        start, seconds, contacts = _CAMPAIGN
        moments += [start + draw.random() * seconds for _ in range(contacts)]
    return sorted(moments)


def run_day(scenario: Scenario, deployment: Deployment) -> Outcome:
    """Simulate the scenario until its last contact is captured."""
    gc.disable()  # the simulation makes no cycles worth collecting, and a million contacts many objects
    if scenario.window is not None:
        deployment = deployment._replace(window_seconds=scenario.window)
    plan = Plan(
        deployment=deployment,
        quota=scenario.quota,
        reference_types=ALL_TYPES if scenario.calls == 2 else SIX_TYPES,
        outage=_OUTAGE if scenario.kind == "outage" else None,
    )
    until = None if scenario.hours[1] == 24 else scenario.hours[1] * _HOUR
    figures = simulate(plan, completions(scenario), until=until)
    return summarize(scenario, figures)


def summarize(scenario: Scenario, figures: Figures) -> Outcome:
    """Reduce a simulation's figures to what the table and the plots show."""
    return Outcome(
        scenario=scenario,
        contacts=figures.captured,
        p50=figures.wait(0.5),
        p99=figures.wait(0.99),
        backlog=max(figures.backlog),
        seconds=figures.ended_at - scenario.hours[0] * _HOUR,
        calls=figures.calls,
        throttled=figures.throttled,
        mean_batch=sum(figures.batches) / len(figures.batches),
        most_busy=figures.most_busy,
        mean_busy=figures.billed_seconds / (figures.ended_at - scenario.hours[0] * _HOUR),
        usage=figures.usage,
        invocations=len(figures.batches),
        metric_hours=len(figures.metric_hours),
        busy_minutes=sum(map(bool, figures.busy)),
    )


HEADER = [
    *("contacts a day", "quota, requests/s", "calls a contact", "p50", "p99", "largest backlog", "calls", "throttled"),
    *("contacts a batch", "busy at most (mean)", "USD a million"),
]


def row(outcome: Outcome) -> list[str]:
    """Return the table's row."""
    scenario = outcome.scenario
    return [
        _contacts(scenario),
        f"{scenario.quota:g}",
        str(scenario.calls),
        duration(outcome.p50),
        duration(outcome.p99),
        f"{outcome.backlog:,}",
        f"{outcome.calls:,}",
        f"{outcome.throttled:,}",
        f"{outcome.mean_batch:.1f}",
        f"{outcome.most_busy} ({outcome.mean_busy:.2f})",
        f"{sum(outcome.cost.values()):.2f}",
    ]


def _impossible_row(scenario: Scenario) -> list[str]:
    cells = [_contacts(scenario), f"{scenario.quota:g}", str(scenario.calls)]
    served = scenario.rate * DAY / scenario.calls
    return [*cells, f"serves {served:,.0f} a day", *[""] * (len(HEADER) - 4)]


def _contacts(scenario: Scenario) -> str:
    first, last = scenario.hours
    return f"{scenario.contacts:,}" + ("" if last - first == 24 else f", {first} to {last} o'clock")


def duration(seconds: float) -> str:
    """Write seconds in the unit that reads best.

    >>> [duration(seconds) for seconds in (12.3, 599, 7200)]
    ['12.3 s', '10.0 min', '2.0 h']
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take how much to simulate, and how many days at once."""
    parser.add_argument("--most", type=int, help="leave out days of more contacts: 10000 takes two minutes")
    parser.add_argument("--keep", action="store_true", help="simulate only what .local/scale does not have")
    parser.add_argument(
        "--processes", type=int, default=1, help="so many at once (%(default)s); with 2 it takes 15 minutes"
    )


def run(options: argparse.Namespace) -> list[Section]:
    """Simulate all days, and with --write plot them."""
    outcomes = _saved() if options.keep else {}
    wanted = [one for one in scenarios() if one.is_possible and one.name not in outcomes]
    if options.most:
        wanted = [one for one in wanted if one.contacts <= options.most]
    begin = time.monotonic()
    with ProcessPoolExecutor(options.processes) as executor:
        futures = [executor.submit(run_day, one, deployment_at(one.rate)) for one in wanted]
        for number, future in enumerate(as_completed(futures), 1):
            outcome = future.result()
            outcomes[outcome.scenario.name] = outcome
            _save(outcome)
            tell(f"{number}/{len(futures)} {outcome.scenario.name}, {time.monotonic() - begin:.0f} s: {row(outcome)}")
    if options.write:
        from benchmarks.plots import plot_costs, plot_waits  # noqa: PLC0415 - Matplotlib takes a second to import

        days = [outcome for outcome in outcomes.values() if outcome.scenario.kind == "day"]
        plot_waits(days, DOCS / "scale-waits.png")
        plot_costs(days, DOCS / "scale-cost.png")
    return [
        Section("scale", "The figures", _describe(outcomes), DOCUMENT),
        Section("windows", "What a longer batching window would cost and save", _describe_windows(outcomes), DOCUMENT),
        _describe_latency(),
    ]


def _describe(outcomes: dict[str, Outcome]) -> str:
    parts = []
    titles = {
        "day": "A weekday",
        "campaign": f"A campaign: {_CAMPAIGN[2]:,} contacts more, completing in ten minutes from 10:30",
        "outage": "An outage: Connect answers 500 from 10:00 to 11:00",
    }
    for kind, title in titles.items():
        ordered = sorted(
            (one for one in scenarios() if one.kind == kind), key=lambda one: (-one.calls, one.contacts, one.quota)
        )
        rows = [
            row(outcomes[one.name]) if one.name in outcomes else _impossible_row(one)
            for one in ordered
            if one.name in outcomes or not one.is_possible
        ]
        parts.append(f"**{title}**\n\n{table(HEADER, rows)}")
    return "\n\n".join(parts)


_WINDOW_HEADER = ["contacts a day", "calls a contact", "", *(f"{window:g} s" for window in _WINDOWS)]


def _describe_windows(outcomes: dict[str, Outcome]) -> str:
    days = dict.fromkeys((one.contacts, one.calls) for one in scenarios() if one.kind == "window")
    rows = []
    for contacts, calls in sorted(days, key=lambda day: (day[0], -day[1])):
        names = [
            Scenario(kind="window", contacts=contacts, quota=10, calls=calls, window=window).name for window in _WINDOWS
        ]
        if any(name not in outcomes for name in names):
            continue
        by_window = [outcomes[name] for name in names]
        lines = {
            "p50 / p99": [f"{one.p50:.1f} / {one.p99:.1f} s" for one in by_window],
            "contacts a batch": [f"{one.mean_batch:.1f}" for one in by_window],
            "USD a million": [f"{sum(one.cost.values()):.2f}" for one in by_window],
            "USD a month": [f"{sum(one.cost.values()) * contacts * 30 / 1e6:.2f}" for one in by_window],
        }
        rows += [[f"{contacts:,}", str(calls), what, *cells] for what, cells in lines.items()]
    return table(_WINDOW_HEADER, rows)


def _describe_latency() -> Section:
    """See at how many calls a second a backlog drains, by how long Connect takes to answer."""
    quota, contacts = 100.0, 20_000
    rows = []
    for seconds in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
        plan = Plan(
            deployment=deployment_at(quota * OURS),
            quota=quota,
            reference_types=ALL_TYPES,
            latency=Latency(connect=seconds),
        )
        figures = simulate(plan, [0.0] * contacts)
        rows.append([f"{seconds * 1000:.0f} ms", f"{figures.calls / figures.ended_at:.1f}"])
    title = f"Calls a second of {quota * OURS:g} allowed, by how long Connect takes to answer"
    return Section("latency", title, table(["an answer takes", "calls a second"], rows), DOCUMENT)


def _save(outcome: Outcome) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{outcome.scenario.name}.json").write_text(json.dumps(asdict(outcome)))


def _saved() -> dict[str, Outcome]:
    found: list[dict[str, Any]] = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    outcomes = [Outcome(**fields | {"scenario": Scenario(**fields["scenario"])}) for fields in found]
    return {outcome.scenario.name: outcome for outcome in outcomes}
