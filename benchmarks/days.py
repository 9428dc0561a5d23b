"""Days of contacts: when they complete, at which quota, and what came of one that was simulated."""

import itertools
import random
from bisect import bisect
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.prices import LOG_BYTES, price, used_by_the_month
from benchmarks.simulation import DAY, Deployment, Figures
from ops.plan import SHAPE

OURS = 0.8
"""Our share of the account's quota, as by default: 8 of 10 requests a second."""

HOUR = 3600.0
MORNING = (8, 12)
# What the function writes, counted by `benchmarks.cost`.
_CONTACT_LOG_BYTES, _INVOCATION_LOG_BYTES = 715, 925
CAMPAIGN = (10.5 * HOUR, 600.0, 5000)
OUTAGE = (10 * HOUR, 11 * HOUR)


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
        return self.figures.ended_at - self.scenario.hours[0] * HOUR

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


def completions(scenario: Scenario) -> list[float]:
    """Return the seconds of the day at which contacts complete; the same scenario gives the same ones."""
    draw = random.Random(scenario.contacts)  # noqa: S311 - a simulation
    ends = list(itertools.accumulate(SHAPE))
    moments = []
    first, last = scenario.hours
    for _ in range(scenario.contacts):
        hour = bisect(ends, draw.random() * ends[-1])
        moment = (min(hour, len(SHAPE) - 1) + draw.random()) * HOUR
        if first * HOUR <= moment < last * HOUR:
            moments.append(moment)
    if scenario.kind == "campaign":
        start, seconds, contacts = CAMPAIGN
        moments += [start + draw.random() * seconds for _ in range(contacts)]
    return sorted(moments)
