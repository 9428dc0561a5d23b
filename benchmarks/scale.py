"""How long contacts wait and what they cost from one thousand to one million a day, in a campaign and in an outage.

Each scenario is a day of the deployed system (`benchmarks.simulation`) at the numbers that `infra` deploys.
"""

import argparse
import gc
import itertools
import random
import time
from bisect import bisect
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.prices import LOG_BYTES, price, used_by_the_month
from benchmarks.report import DOCS, Section, table, tell
from benchmarks.simulation import DAY, Deployment, Figures, Plan, simulate
from benchmarks.traffic import ALL_TYPES, SIX_TYPES

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

    @property
    def name(self) -> str:
        """Return a name for files and progress."""
        return f"{self.kind}-{self.contacts}-{self.quota:g}-{self.calls}"

    @property
    def rate(self) -> float:
        """Requests a second that are ours."""
        return self.quota * OURS

    @property
    def is_possible(self) -> bool:
        """Whether the rate serves the calls of the day."""
        return self.contacts * self.calls <= self.rate * DAY


class Outcome(NamedTuple):
    """A scenario, and what came of it."""

    scenario: Scenario
    figures: Figures

    @property
    def seconds(self) -> float:
        """How long was simulated."""
        return self.figures.ended_at - self.scenario.hours[0] * _HOUR

    @property
    def cost(self) -> dict[str, float]:
        """US dollars a million contacts, by what they are paid for."""
        figures = self.figures
        overheads = used_by_the_month(
            metric_hours=len(figures.metric_hours),
            busy_minutes=sum(map(bool, figures.busy)),
            concurrency=deployment_at(self.scenario.rate).concurrency,
            days=self.seconds / DAY,
        )
        overheads[LOG_BYTES] = figures.captured * _CONTACT_LOG_BYTES + len(figures.batches) * _INVOCATION_LOG_BYTES
        return {name: dollars * 1e6 / figures.captured for name, dollars in price(figures.usage | overheads).items()}


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
    every = [*small, *large, *largest, *six, trimmed, *campaign, *outage]
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
    plan = Plan(
        deployment=deployment,
        quota=scenario.quota,
        reference_types=ALL_TYPES if scenario.calls == 2 else SIX_TYPES,
        outage=_OUTAGE if scenario.kind == "outage" else None,
    )
    until = None if scenario.hours[1] == 24 else scenario.hours[1] * _HOUR
    return Outcome(scenario, simulate(plan, completions(scenario), until=until))


HEADER = [
    *("contacts a day", "quota, requests/s", "calls a contact", "p50", "p99", "largest backlog", "calls", "throttled"),
    *("contacts a batch", "busy at most (mean)", "USD a million"),
]


def row(outcome: Outcome) -> list[str]:
    """Return the table's row."""
    scenario, figures = outcome
    return [
        _contacts(scenario),
        f"{scenario.quota:g}",
        str(scenario.calls),
        duration(figures.wait(0.5)),
        duration(figures.wait(0.99)),
        f"{max(figures.backlog):,}",
        f"{figures.calls:,}",
        f"{figures.throttled:,}",
        f"{sum(figures.batches) / len(figures.batches):.1f}",
        f"{figures.most_busy} ({figures.billed_seconds / outcome.seconds:.2f})",
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
    parser.add_argument(
        "--most", type=int, default=10**6, help="leave out days of more contacts: 10000 takes two minutes"
    )
    parser.add_argument(
        "--processes", type=int, default=1, help="so many at once (%(default)s); with 2 it takes 15 minutes"
    )


def run(options: argparse.Namespace) -> list[Section]:
    """Simulate all days, and with --write plot them."""
    outcomes: dict[str, Outcome] = {}
    wanted = [one for one in scenarios() if one.is_possible and one.contacts <= options.most]
    begin = time.monotonic()
    with ProcessPoolExecutor(options.processes) as executor:
        futures = [executor.submit(run_day, one, deployment_at(one.rate)) for one in wanted]
        for number, future in enumerate(as_completed(futures), 1):
            outcome = future.result()
            outcomes[outcome.scenario.name] = outcome
            tell(f"{number}/{len(futures)} {outcome.scenario.name}, {time.monotonic() - begin:.0f} s: {row(outcome)}")
    if options.write:
        from benchmarks.plots import plot_costs, plot_waits  # noqa: PLC0415 - Matplotlib takes a second to import

        days = [outcome for outcome in outcomes.values() if outcome.scenario.kind == "day"]
        plot_waits(days, DOCS / "scale-waits.png")
        plot_costs(days, DOCS / "scale-cost.png")
    return [Section("scale", "The figures", _describe(outcomes), DOCUMENT)]


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
