"""How long contacts wait and what they cost from one thousand to one million a day, in a campaign and in an outage.

Each scenario is a day of the deployed system (`benchmarks.simulation`) at the numbers that `infra` deploys.
"""

import argparse
import gc
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from benchmarks.days import CAMPAIGN, HOUR, MORNING, OUTAGE, Outcome, Scenario, completions, deployment_at
from benchmarks.plots import plot_costs, plot_waits
from benchmarks.report import DOCS, Section, table, tell
from benchmarks.simulation import DAY, Deployment, Plan, simulate
from benchmarks.traffic import ALL_TYPES, SIX_TYPES

DOCUMENT = DOCS / "scale.md"


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


def run_day(scenario: Scenario, deployment: Deployment) -> Outcome:
    """Simulate the scenario until its last contact is captured."""
    gc.disable()  # the simulation makes no cycles worth collecting, and a million contacts many objects
    plan = Plan(
        deployment=deployment,
        quota=scenario.quota,
        reference_types=ALL_TYPES if scenario.calls == 2 else SIX_TYPES,
        outage=OUTAGE if scenario.kind == "outage" else None,
    )
    until = None if scenario.hours[1] == 24 else scenario.hours[1] * HOUR
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
        days = [outcome for outcome in outcomes.values() if outcome.scenario.kind == "day"]
        plot_waits(days, DOCS / "scale-waits.png")
        plot_costs(days, DOCS / "scale-cost.png")
    return [Section("scale", "The figures", _describe(outcomes), DOCUMENT)]


def _describe(outcomes: dict[str, Outcome]) -> str:
    parts = []
    titles = {
        "day": "A weekday",
        "campaign": f"A campaign: {CAMPAIGN[2]:,} contacts more, completing in ten minutes from 10:30",
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
