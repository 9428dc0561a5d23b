"""The plots of docs/scale.md: how long a contact waits, and what it costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter

from benchmarks import prices
from benchmarks.days import Outcome
from benchmarks.prices import GB_SECONDS, INVOCATIONS, LOG_BYTES, POLLS
from local.in_memory.usage import INDEX_UNITS, PUTS, QUEUE_REQUESTS, READ_UNITS, WRITE_UNITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        axes.plot(
            contacts, [one.figures.wait(0.99) for one in found], "o-", color=colour, label=f"quota {quota}/s, 99 of 100"
        )
        axes.plot(
            contacts,
            [one.figures.wait(0.5) for one in found],
            "s--",
            color=colour,
            label=f"quota {quota}/s, half",
            alpha=0.6,
        )
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


_PARTS = {
    "DynamoDB": (WRITE_UNITS, INDEX_UNITS, READ_UNITS),
    "Lambda": (GB_SECONDS, INVOCATIONS),
    "S3": (PUTS,),
    "SQS": (QUEUE_REQUESTS, POLLS),
    "logs": (LOG_BYTES,),
    "metrics and key": (prices.METRIC_MONTHS, prices.KEY_MONTHS, prices.KEY_REQUESTS),
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


def _save(figure: "Figure", file: Path) -> None:
    figure.tight_layout()
    # Without the date and the version that Matplotlib would write: the same figures give the same file.
    figure.savefig(file, dpi=100, metadata={"Software": None})
    plt.close(figure)
