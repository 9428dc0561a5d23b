"""Draws the dashboard with made-up numbers: `python -m local.dashboard TEMPLATE PICTURE`.

TEMPLATE is the one of the stack `Monitoring`, as `npx cdk synth` writes it: what is drawn is what is deployed, each
widget in its place. Only the numbers are made up: of a day in which somebody else used the quota at eleven.
"""

import json
import sys
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.dates import DateFormatter, HourLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

mpl.use("Agg")  # no window: it is a file

Json = dict[str, Any]
_START = datetime(2026, 3, 2, tzinfo=UTC)
_CONTACTS_A_DAY = 80_000
_COLUMNS, _ROW_INCHES, _COLUMN_INCHES = 24, 0.55, 0.78
_TITLE_SIZE, _TEXT_SIZE = 10, 7.5


def read_widgets(template: Json) -> list[Json]:
    """Return the widgets of the template's dashboard, with a word in place of each name that only AWS knows."""
    [dashboard] = [each for each in template["Resources"].values() if each["Type"] == "AWS::CloudWatch::Dashboard"]
    widgets: list[Json] = json.loads(_resolve(dashboard["Properties"]["DashboardBody"]))["widgets"]
    return widgets


def _resolve(value: Any) -> str:
    match value:
        case str():
            return value
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(map(_resolve, parts))
        case {"Fn::GetAtt": [name, _]}:
            return str(name)
        case _:
            return "name"


def draw(widgets: Sequence[Json], file: Path) -> None:
    """Draw the widgets as the console lays them out."""
    rows = max(widget["y"] + widget["height"] for widget in widgets)
    figure = plt.figure(figsize=(_COLUMNS * _COLUMN_INCHES, (rows + 1) * _ROW_INCHES), layout="none")
    figure.text(0.012, 1 - 0.5 / (rows + 1), "Made-up numbers of one day", va="center", size=12, color="#b2182b")
    for widget in widgets:
        # Room for ticks and titles within the widget's own place.
        left, right = widget["x"] / _COLUMNS, (widget["x"] + widget["width"]) / _COLUMNS
        top, bottom = (1 - (widget["y"] + 1 + at) / (rows + 1) for at in (0, widget["height"]))
        place = (left + 0.03, bottom + 0.035, right - left - 0.062, top - bottom - 0.062)
        kind = widget["type"]
        if kind == "text":
            text = widget["properties"]["markdown"].lstrip("# ")
            figure.text(0.012, (top + bottom) / 2, text, size=14, weight="bold", va="center")
        elif kind == "alarm":
            _draw_alarms(figure.add_axes((0.012, bottom, 0.976, top - bottom - 0.01)), widget["properties"])
        else:
            axes = figure.add_axes(place)
            axes.set_title(widget["properties"]["title"], size=_TITLE_SIZE, loc="left", weight="bold")
            (_draw_graph if kind == "metric" else _draw_query)(axes, widget["properties"])
    figure.savefig(file, dpi=80)
    plt.close(figure)


def _draw_alarms(axes: "Axes", properties: Json) -> None:
    names = [arn.rpartition(":")[2] if ":" in arn else arn for arn in properties["alarms"]]
    columns, lines = 8, -(-len(names) // 8)
    axes.set(xlim=(0, columns), ylim=(lines, -0.35))
    axes.axis("off")
    axes.text(0, -0.15, properties["title"], size=_TITLE_SIZE, weight="bold")
    for at, name in enumerate(names):
        word = name[:-8]  # without the hash that the CDK adds
        is_on = word == "DeadLetters"
        box = {"boxstyle": "round,pad=0.35", "facecolor": "#d62728" if is_on else "#d9ead3", "edgecolor": "none"}
        axes.text(
            at % columns + 0.05, at // columns + 0.55, word, size=9, color="white" if is_on else "#274e13", bbox=box
        )


def _draw_graph(axes: "Axes", properties: Json) -> None:
    other = None
    handles = []
    for at, (_, name, *rest) in enumerate(properties["metrics"]):
        options = rest[-1]
        period = options.get("period", 300)
        moments, values = _series(name, options["label"], options["stat"], period)
        target = axes
        if options.get("yAxis") == "right":
            other = other or axes.twinx()
            target = other
        [line] = target.plot(moments, values, color=f"C{at}", linewidth=1.3, label=options["label"])
        handles.append(line)
    for annotation in properties.get("annotations", {}).get("horizontal", []):
        axes.axhline(annotation["value"], color=annotation["color"], linestyle="--", linewidth=1.2)
        axes.annotate(
            annotation["label"],
            (0.02, annotation["value"]),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            size=_TEXT_SIZE,
            color=annotation["color"],
        )
    _finish(axes)
    if other is not None:
        other.set_ylim(0, other.get_ylim()[1] * 1.9)
        other.ticklabel_format(axis="y", style="plain")
        other.tick_params(labelsize=_TEXT_SIZE)
        other.spines["top"].set_visible(False)
    axes.legend(handles=handles, fontsize=_TEXT_SIZE, ncols=2, loc="upper left", frameon=False)


def _draw_query(axes: "Axes", properties: Json) -> None:
    names = [part.split(" as ")[1].split()[0].rstrip(",") for part in properties["query"].split("sum(")[1:]]
    shares = {"URL": 0.3, "CONTACT_ANALYSIS": 0.22, "STRING": 0.16, "NUMBER": 0.12, "ATTACHMENT": 0.08, "DATE": 0.06}
    moments, contacts = _series("ContactsCaptured", "", "Sum", 3600)
    known = sorted(names, key=lambda name: -shares.get(name, 0.01))
    stacked = [contacts * 5 * shares.get(name, 0.012 if name != "UNKNOWN" else 0) for name in known]
    axes.stackplot(moments, *stacked, labels=[name.lower().replace("_", " ") for name in known], alpha=0.85)
    _finish(axes)
    axes.set_ylim(0, 1.9 * float(np.sum(stacked, axis=0).max()))
    axes.legend(fontsize=5.5, ncols=2, loc="upper left", frameon=False)


def _finish(axes: "Axes") -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(0, max(high, 1) * 1.5 if low >= -high else 1)  # room for the legend
    axes.xaxis.set_major_locator(HourLocator(byhour=range(0, 24, 6)))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.tick_params(labelsize=_TEXT_SIZE)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _series(name: str, label: str, statistic: str, period: int) -> "tuple[NDArray[Any], NDArray[Any]]":
    """Return a day of made-up values of a metric, the same each time."""
    hours = np.arange(0, 24, period / 3600)
    noise = np.random.default_rng(zlib.crc32(f"{name} {label} {statistic}".encode())).normal(size=len(hours))
    day = np.exp(-((hours - 13.5) ** 2) / 18) + 0.02
    contacts = _CONTACTS_A_DAY * day / (day.sum() * period / 3600) * period / 3600  # in each period
    incident = (hours >= 11) & (hours < 12.5)
    after = np.clip(hours - 11, 0, 1.5) * (hours >= 11) * (hours < 13.5) * np.clip(13.5 - hours, 0, 1)
    shapes: dict[str, Callable[[], Any]] = {
        "ContactsCaptured": lambda: contacts * np.where(incident, 0.75, 1) * (1 + 0.03 * noise),
        "ContactsMissing": lambda: np.where((hours % 3 < 0.5) & (hours > 6), 2, 0) + np.where(incident, 4, 0),
        "SecondsToCapture": lambda: (
            (6 if statistic == "p99" else 2) * (1 + 0.1 * noise) + after * (400 if statistic == "p99" else 150)
        ),
        "ApproximateAgeOfOldestMessage": lambda: 2 + 700 * after + noise**2,
        "ApproximateNumberOfMessagesVisible": lambda: (
            np.where(hours > 15.2, 2, 0) if label == "dead letters" else 3 + 500 * after + noise**2
        ),
        "ApiCalls": lambda: np.minimum(480, contacts * 2 * (1 + 0.12 * noise)) * np.where(incident, 0.75, 1),
        "ThrottledApiCalls": lambda: np.where(incident, 25 + 6 * noise, 0),
        "ThrottledSearchCalls": lambda: np.where(np.abs(hours - 11.75) < 0.05, 3, 0),
        "SecondsBehind": lambda: np.where(np.abs(hours - 16) < 0.6, 4200, 6 + noise),
        "Duration": lambda: (
            {"capture": 2600, "reconcile": 30000, "tables": 9000, "lookup": 130}[label]
            * (1 + 0.2 * noise)
            * np.where(incident & (label == "capture"), 6, 1)
            if label in ("capture", "reconcile", "tables", "lookup")
            else contacts * 190
        ),
        "Errors": lambda: np.where((np.abs(hours - 15.5) < 0.05) & (label == "tables"), 1, 0),
        "ConsumedWriteCapacityUnits": lambda: contacts * {"writes": 16, "writes, by value": 12}.get(label, 3),
        "ConsumedReadCapacityUnits": lambda: contacts * 4 * (1 + 0.05 * noise),
    }
    values = np.clip(np.asarray(shapes.get(name, lambda: np.zeros_like(hours))(), dtype=float), 0, None)
    moments = np.array([_START + timedelta(hours=float(hour)) for hour in hours])
    return moments, values


if __name__ == "__main__":
    template_file, picture = map(Path, sys.argv[1:])
    draw(read_widgets(json.loads(template_file.read_text(encoding="utf-8"))), picture)
