"""The plots of docs/scale.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

from benchmarks.prices import (
    GB_SECONDS,
    INDEX_UNITS,
    INVOCATIONS,
    KEY_MONTHS,
    KEY_REQUESTS,
    LOG_BYTES,
    METRIC_MONTHS,
    POLLS,
    PUTS,
    QUEUE_REQUESTS,
    READ_UNITS,
    WRITE_UNITS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from benchmarks.scale import Outcome

mpl.use("Agg")  # no window: the plots are files

_COLOURS = {2: "#b2182b", 10: "#e08214", 50: "#2166ac", 100: "#1b7837"}


def plot_waits(days: Sequence[Outcome], file: Path) -> None:
    """Plot completion to ledger over contacts a day, a line for each quota."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for quota, colour in _COLOURS.items():
        found = sorted(
            (one for one in days if one.scenario.quota == quota and one.scenario.calls == 2),
            key=lambda one: one.scenario.contacts,
        )
        contacts = [one.scenario.contacts for one in found]
        axes.plot(contacts, [one.p99 for one in found], "o-", color=colour, label=f"quota {quota}/s, 99 of 100")
        axes.plot(contacts, [one.p50 for one in found], "s--", color=colour, label=f"quota {quota}/s, half", alpha=0.6)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("contacts a day (of 1,000,000: its morning)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_yticks([10, 60, 600, 3600, 6 * 3600], ["10 s", "1 min", "10 min", "1 h", "6 h"])
    axes.set_ylabel("completion to ledger")
    axes.set_title("How long a contact waits, all reference types (two calls a contact)")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=8, ncols=2)
    _save(figure, file)


def plot_backlogs(outcomes: Mapping[str, Outcome], file: Path) -> None:
    """Plot the queue's length over the day where it matters."""
    panels = {
        "100,000 contacts a day": {
            "quota 5/s": "day-100000-5-2",
            "quota 5/s, six types": "day-100000-5-1",
            "quota 10/s": "day-100000-10-2",
        },
        "The morning of 1,000,000 contacts a day": {
            "quota 50/s": "day-1000000-50-2",
            "quota 50/s, six types": "day-1000000-50-1",
            "quota 100/s": "day-1000000-100-2",
        },
        "10,000 a day and a campaign, 5,000 in ten minutes": {
            f"quota {quota}/s": f"campaign-10000-{quota}-2" for quota in (2, 10, 50)
        },
        "Connect is out from 10 to 11": {
            "10,000 a day, quota 2/s": "outage-10000-2-2",
            "10,000 a day, quota 10/s": "outage-10000-10-2",
            "100,000 a day, quota 50/s": "outage-100000-50-2",
        },
    }
    figure, grid = plt.subplots(2, 2, figsize=(11, 7))
    spans = ((0, 24), (8, 12), (9, 14), (9, 13))
    for axes, span, (title, lines) in zip(grid.flat, spans, panels.items(), strict=True):
        for (label, name), colour in zip(lines.items(), ("#b2182b", "#e08214", "#2166ac"), strict=True):
            if name in outcomes:
                backlog = outcomes[name].backlog
                axes.plot([minute / 60 for minute in range(len(backlog))], backlog, color=colour, label=label, lw=1.3)
        _dress_day(axes, title, span)
    figure.suptitle("Contacts that have completed and are not captured yet")
    _save(figure, file)


def _dress_day(axes: Axes, title: str, span: tuple[int, int]) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("hour of the day")
    first, last = span
    axes.set_xlim(first, last)
    axes.set_xticks(range(first, last + 1, 3 if last - first > 12 else 1))
    axes.set_ylabel("backlog, contacts")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


_PARTS = {
    "DynamoDB": (WRITE_UNITS, INDEX_UNITS, READ_UNITS),
    "Lambda": (GB_SECONDS, INVOCATIONS),
    "S3": (PUTS,),
    "SQS": (QUEUE_REQUESTS, POLLS),
    "logs": (LOG_BYTES,),
    "metrics and key": (METRIC_MONTHS, KEY_MONTHS, KEY_REQUESTS),
}


def plot_costs(days: Sequence[Outcome], file: Path) -> None:
    """Plot the cost of a million contacts over contacts a day, at the quota that each needs."""
    quotas = {1_000: 10, 10_000: 10, 100_000: 10, 1_000_000: 50}
    found = [
        one
        for n, quota in quotas.items()
        for one in days
        if (one.scenario.contacts, one.scenario.quota, one.scenario.calls) == (n, quota, 2)
    ]
    figure, axes = plt.subplots(figsize=(8, 4.5))
    bottoms = [0.0] * len(found)
    labels = [f"{one.scenario.contacts:,}\nquota {one.scenario.quota:g}/s" for one in found]
    for (part, names), colour in zip(_PARTS.items(), plt.get_cmap("tab10").colors, strict=False):  # type: ignore[attr-defined]  # a ListedColormap
        heights = [sum(one.cost.get(name, 0) for name in names) for one in found]
        axes.bar(labels, heights, bottom=bottoms, label=part, color=colour, width=0.6)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    for number, total in enumerate(bottoms):
        axes.annotate(f"${total:,.2f}", (number, total), ha="center", va="bottom")
    axes.set_xlabel("contacts a day")
    axes.set_ylabel("US dollars a million contacts")
    axes.set_title("Cost by what is paid for, two references a contact, list prices")
    axes.margins(y=0.12)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=9)
    _save(figure, file)


def plot_latency(latencies: Sequence[float], rates: Sequence[float], allowed: float, file: Path) -> None:
    """Plot the calls a second of a backlog's drain over the time that Connect takes to answer."""
    figure, axes = plt.subplots(figsize=(8, 4))
    axes.plot(
        [latency * 1000 for latency in latencies], rates, "o-", color="#2166ac", label="calls a second, simulated"
    )
    axes.axhline(allowed, color="#b2182b", ls="--", label=f"allowed: {allowed:g} a second")
    axes.set_xlabel("time that Connect takes to answer, milliseconds")
    axes.set_ylabel("calls a second")
    axes.set_ylim(0, allowed * 1.15)
    axes.set_title("An execution environment makes one call at a time")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    figure.tight_layout()
    # Without the date and the version that Matplotlib would write: the same figures give the same file.
    figure.savefig(file, dpi=100, metadata={"Software": None})
    plt.close(figure)
