"""What a deployment knows of the hours of its instances: whether each is accounted for, and what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contact_references.aws.ledger import Ledger
from contact_references.aws.worklist import Worklist
from contact_references.model.capture import ContactItem, Tombstone
from contact_references.model.contact import ContactKey, Instance
from contact_references.model.coverage import HOUR, OPEN_AFTER, Hour
from contact_references.model.errors import CaptureError
from contact_references.model.timestamps import format_time
from ops.console import JsonOption, make_console, print_json
from ops.deployment import Deployment, InstanceOption, deployment_of, program_of
from ops.errors import OpsError
from ops.periods import parse_moment, whole_hours

_BESIDE_BARS = 94  # columns of a terminal
_BAR_WIDTHS = (6, 40)
_MOST_HOURS = 24 * 366


@dataclass(frozen=True)
class Coverage:
    """Hours of an instance that were opened, the oldest first, and which contacts they miss that are captured since."""

    instance: Instance
    start: datetime
    end: datetime
    opened_to: datetime | None
    hours: tuple[Hour, ...]
    captured_since: frozenset[str]

    @property
    def missing(self) -> int:
        """How many contacts were missing when their hours were visited."""
        return sum(hour.missing for hour in self.hours)


@dataclass(frozen=True)
class Row:
    """Hours in a row of which the same is known; without an `hour` none of them was opened."""

    start: datetime
    end: datetime
    hour: Hour | None


def find_coverage(deployment: Deployment, instance: Instance, start: datetime, end: datetime) -> Coverage:
    """Return what is known of an instance's hours from `start` until before `end`, both whole hours.

    Raises:
        OpsError: the period is longer than a year, or the item of an hour cannot be read.
        CaptureError: the ledger cannot be read.
    """
    if end - start > _MOST_HOURS * HOUR:
        raise OpsError("that are more hours than a year has: give a shorter period with --from and --to")
    worklist = Worklist(deployment.clients.dynamodb, deployment.output("TableName"))
    hours = find_hours(deployment, instance, start, end)
    opened = worklist.find_opened(instance)
    captured = find_captured(deployment, [hour for hour in hours if hour.missing])
    until = None if opened is None else opened.until
    return Coverage(instance, start, end, until, tuple(hours), frozenset(captured))


def find_hours(deployment: Deployment, instance: Instance, start: datetime, end: datetime) -> list[Hour]:
    """Return the hours of a period that were opened, the oldest first; raises OpsError if one cannot be read."""
    worklist = Worklist(deployment.clients.dynamodb, deployment.output("TableName"))
    number = -(-(end - start) // HOUR)
    hours = []
    for hour in worklist.find_hours(instance, [start + n * HOUR for n in range(number)]):
        if isinstance(hour, CaptureError):
            raise OpsError(f"{hour.reason}: a `backfill` of that hour writes it anew")
        hours.append(hour)
    return sorted(hours, key=lambda hour: hour.start)


def find_captured(deployment: Deployment, hours: Sequence[Hour]) -> set[str]:
    """Return which of the contacts that the hours' last visits found missing are captured by now, or erased."""
    starts = {ContactKey(hour.instance_id, contact_id): hour.start for hour in hours for contact_id in hour.missing_ids}
    if not starts:
        return set()
    items = Ledger(deployment.clients.dynamodb, deployment.output("TableName")).find_items(list(starts))
    return {
        key.contact_id
        for key, item in items.items()
        if isinstance(item, Tombstone)
        or (isinstance(item, ContactItem) and item.contact.completion_seen and item.read_at >= starts[key])
    }


def state_of(hour: Hour) -> str:
    """Return whether an hour is accounted for: `open` until it is `closed`, or `given up` with contacts missing."""
    if hour.closed_at is None:
        return "open"
    return "given up" if hour.is_given_up else "closed"


def group_hours(hours: Sequence[Hour], start: datetime, end: datetime) -> list[Row]:
    """Put hours without contacts that follow each other on the same day, and say the same, into one row each.

    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> hours = [Hour(instance_id="i", start=noon + n * HOUR, visits=1, closed_at=noon) for n in (0, 1)]
    >>> [
    ...     (row.start.hour, row.end.hour, row.hour and state_of(row.hour))
    ...     for row in group_hours(hours, noon, noon + 4 * HOUR)
    ... ]
    [(12, 14, 'closed'), (14, 16, None)]
    """
    by_start = {hour.start: hour for hour in hours}
    starts = [start + n * HOUR for n in range((end - start) // HOUR)]
    rows = []
    for _, group in groupby(starts, key=lambda moment: (moment.date(), _said_of(by_start.get(moment)))):
        alike = list(group)
        rows.append(Row(alike[0], alike[-1] + HOUR, by_start.get(alike[0])))
    return rows


def _said_of(hour: Hour | None) -> object:
    """Return what a row would say, so that hours that say the same are one row; one with contacts is its own."""
    if hour is None:
        return None
    if hour.completed:
        return hour.start
    return state_of(hour), hour.visits, hour.searched_to, f"{hour.due_at:%Y-%m-%d %H:%M}" if hour.due_at else None


def show_coverage(console: Console, coverage: Coverage, *, now: datetime, program: str) -> None:
    """Print an instance's hours as a table with bars, and below it what is to be known beside it."""
    console.print()
    if not coverage.hours:
        console.print(_say_none(coverage, now=now, program=program), highlight=False, markup=False)
        return
    table = Table(
        title=f"Instance {coverage.instance.instance_id}: completed contacts by hour (UTC)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("hours", no_wrap=True)
    for name in ("completed", "captured", "missing", "visits"):
        table.add_column(name, justify="right")
    table.add_column("state")
    table.add_column("next visit")
    table.add_column("", no_wrap=True)
    shortest, longest = _BAR_WIDTHS
    width = min(longest, max(shortest, console.width - _BESIDE_BARS))
    most = max(hour.completed for hour in coverage.hours)
    for row in group_hours(coverage.hours, coverage.start, coverage.end):
        bar = Text() if row.hour is None else make_bar(row.hour.captured, row.hour.missing, most, width)
        table.add_row(*describe_row(row, now=now, opened_to=coverage.opened_to), bar)
    console.print(table)
    if coverage.missing:
        since = len(coverage.captured_since)
        line = f"{coverage.missing} missing when their hours were visited, {since} of them captured since."
        console.print(line, highlight=False)
    if any(hour.is_given_up for hour in coverage.hours):
        line = "Given up: asked for, and not captured in seven days. A backfill of the hours asks again."
        console.print(line, highlight=False)


def make_bar(captured: int, missing: int, most: int, width: int) -> Text:
    """Return a bar for an hour: as long as its contacts are many, and its end, red, as long as many are missing.

    What is there is seen: a single contact of many too.

    >>> make_bar(9, 1, 10, 16).plain, make_bar(1, 0, 1000, 16).plain, make_bar(0, 0, 10, 16).plain
    ('██████████████░░', '█', '')
    """
    full = -(-(captured + missing) * width // max(1, most))
    lost = min(full, -(-missing * width // max(1, most)))
    return Text.assemble(("█" * (full - lost), "green"), ("░" * lost, "red"))


def describe_row(row: Row, *, now: datetime, opened_to: datetime | None) -> tuple[str, ...]:
    """Return a row's hours, completed, captured, missing, visits, state and next visit, empty where not known."""
    hour, end = row.hour, f"{row.end:%H:%M}".replace("00:00", "24:00")
    span = f"{row.start:%Y-%m-%d %H:%M} to {end}"
    if hour is None:
        is_to_come = row.end + OPEN_AFTER > now or (opened_to is not None and row.start >= opened_to)
        due = f"from {row.start + HOUR + OPEN_AFTER:%H:%M}" if is_to_come else ""
        return (span, "", "", "", "", "not due yet" if is_to_come else "never opened", due)
    state = state_of(hour)
    if hour.searched_to is not None:
        state = f"{state}, searched to {hour.searched_to:%H:%M:%S}"
    counts = (str(count) for count in (hour.completed, hour.captured, hour.missing, hour.visits))
    return (span, *counts, state, _say_due(hour.due_at, now))


def _say_due(due_at: datetime | None, now: datetime) -> str:
    if due_at is None:
        return ""
    if due_at <= now:
        return "the next run"
    return f"{due_at:%H:%M}" if due_at.date() == now.date() else f"{due_at:%m-%d %H:%M}"


def _say_none(coverage: Coverage, *, now: datetime, program: str) -> str:
    start, end, opened_to = coverage.start, coverage.end, coverage.opened_to
    is_day = end - start == 24 * HOUR and start.hour == 0
    span = f"{start:%Y-%m-%d}" if is_day else f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
    nothing = f"Instance {coverage.instance.instance_id}, {span}: no hour was opened, so nothing is known."
    if start > now:
        return f"{nothing} That is still to come."
    if opened_to is None and end > now - 24 * HOUR:
        return f"{nothing} The first run opens those of the last day."
    if opened_to is not None and start >= opened_to:
        return f"{nothing} An hour is due an hour after its end."
    ends = f"{start:%Y-%m-%d}", f"{end:%Y-%m-%d}"
    if not is_day:
        ends = f"{start:%Y-%m-%dT%H:%MZ}", f"{end:%Y-%m-%dT%H:%MZ}"
    return f"{nothing} A backfill opens them: `{program} backfill --from {ends[0]} --to {ends[1]}`."


def hour_as_json(hour: Hour, captured_since: "frozenset[str] | set[str]" = frozenset()) -> dict[str, Any]:
    """Return an hour as JSON has it, with how many of its missing contacts are captured since."""
    times: Mapping[str, datetime | None] = {
        name: getattr(hour, name) for name in ("searched_to", "searched_at", "asked_since", "closed_at", "due_at")
    }
    return {
        "hour": format_time(hour.start),
        "state": state_of(hour),
        "completed": hour.completed,
        "captured": hour.captured,
        "missing": hour.missing,
        "missing_ids": list(hour.missing_ids),
        "captured_since": len(captured_since.intersection(hour.missing_ids)),
        "visits": hour.visits,
        "is_backfill": hour.is_backfill,
        **{name: format_time(moment) if moment else None for name, moment in times.items()},
    }


def coverage(
    context: typer.Context,
    *,
    start: Annotated[
        datetime | None,
        typer.Option("--from", parser=parse_moment, metavar="TIME", help="Begin: date or time, UTC. [last day]"),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", parser=parse_moment, metavar="TIME", help="End, likewise.")
    ] = None,
    instance: InstanceOption = None,
    as_document: JsonOption = False,
) -> None:
    """Show which hours are accounted for, and what is missing.

    Of each hour: completed contacts, those captured, those missing when it was visited last. An hour is open until
    nothing is missing and late entries had their time; it is given up if something asked for is missing for seven days.
    """
    deployment, now = deployment_of(context), datetime.now(UTC)
    first, last = whole_hours(start, end, now=now)
    found = [find_coverage(deployment, each, first, last) for each in deployment.instances(instance)]
    if as_document:
        print_json(
            [
                {
                    "instance_id": each.instance.instance_id,
                    "from": format_time(first),
                    "to": format_time(last),
                    "opened_to": format_time(each.opened_to) if each.opened_to else None,
                    "hours": [hour_as_json(hour, each.captured_since) for hour in each.hours],
                }
                for each in found
            ]
        )
        return
    console = make_console()
    for each in found:
        show_coverage(console, each, now=now, program=program_of(context, deployment))


def register(app: typer.Typer) -> None:
    """Add `coverage`."""
    app.command(epilog="Example: python -m ops coverage --from 2026-10-01 --to 2026-10-03")(coverage)
