"""What a running system knows of the hours of its instances: whether each is accounted for, and what is missing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from local.emulator import LocalSystemError
from local.system import System

HOUR = timedelta(hours=1)
_OPEN_AFTER = timedelta(hours=1)  # from an hour's end until it is due


@dataclass(frozen=True, kw_only=True)
class Hour:
    """What the table says of an hour of an instance, as its last visit left it."""

    instance_id: str
    start: datetime
    completed: int
    captured: int
    missing: int
    missing_ids: tuple[str, ...]
    visits: int
    searched_to: datetime | None
    closed_at: datetime | None
    due_at: datetime | None

    @property
    def state(self) -> str:
        """Whether it is accounted for: `open` until it is `closed`, or `given up` with contacts missing."""
        if self.closed_at is None:
            return "open"
        return "given up" if self.missing else "closed"

    def is_due(self, now: datetime) -> bool:
        """Whether the next run visits it."""
        return self.due_at is not None and self.due_at <= now


@dataclass(frozen=True)
class Row:
    """Hours in a row of which the same is known; without an `hour` none of them is in the table."""

    start: datetime
    end: datetime
    hour: Hour | None


def list_instances(system: System, arn: str | None = None) -> list[str]:
    """Return the ids of the simulator's instances, or of the one that is named.

    Raises:
        LocalSystemError: there is none with that ARN.
    """
    pages = system.clients.connect.get_paginator("list_instances").paginate()
    ids = {summary["Arn"]: summary["Id"] for page in pages for summary in page["InstanceSummaryList"]}
    if arn is None:
        return sorted(ids.values())
    if arn not in ids:
        raise LocalSystemError(f"there is no instance {arn}: give one that is there, such as {min(ids)}")
    return [ids[arn]]


def find_hours(system: System, instance_id: str, start: datetime, end: datetime) -> list[Hour]:
    """Return the hours from `start` until before `end` that the table has of an instance, the oldest first.

    Raises:
        LocalSystemError: the item of one cannot be read.
    """
    pages = system.clients.dynamodb.get_paginator("query").paginate(
        TableName=system.outputs["TableName"],
        KeyConditionExpression="pk = :pk AND sk BETWEEN :start AND :end",
        ExpressionAttributeValues={
            ":pk": {"S": f"HOURS#{instance_id}"},
            ":start": {"S": f"{start:%Y-%m-%dT%H}"},
            ":end": {"S": f"{end - timedelta(microseconds=1):%Y-%m-%dT%H}"},
        },
        ConsistentRead=True,
    )
    return [_read_hour(instance_id, item) for page in pages for item in page["Items"]]


def find_opened_to(system: System, instance_id: str) -> datetime | None:
    """Return up to where runs opened an instance's hours; None before the first."""
    key = {"pk": {"S": f"HOURS#{instance_id}"}, "sk": {"S": "OPENED"}}
    answer = system.clients.dynamodb.get_item(TableName=system.outputs["TableName"], Key=key, ConsistentRead=True)
    return datetime.fromisoformat(answer["Item"]["opened_to"]["S"]) if "Item" in answer else None


def count_captured_since(system: System, hours: Iterable[Hour]) -> int:
    """Return how many of the contacts that the last visits found missing have been captured by now."""
    missing = {f"{hour.instance_id}#{contact_id}" for hour in hours for contact_id in hour.missing_ids}
    items = system.ledger() if missing else []
    return sum(item["pk"] in missing and item["sk"] == "CONTACT" and item["completion_seen"] for item in items)


def last_day(now: datetime) -> tuple[datetime, datetime]:
    """Return the ends of the hours from this one of yesterday to the present one: what a first run begins with.

    >>> [f"{end:%d %H:%M}" for end in last_day(datetime(2026, 3, 2, 12, 34, tzinfo=UTC))]
    ['01 12:00', '02 13:00']
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    return hour - 24 * HOUR, hour + HOUR


def group_hours(hours: Sequence[Hour], start: datetime, end: datetime) -> list[Row]:
    """Put hours without contacts that follow each other on the same day, and say the same, into one row each.

    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> counts = {"completed": 0, "captured": 0, "missing": 0, "missing_ids": (), "visits": 1}
    >>> times = {"searched_to": None, "closed_at": noon, "due_at": None}
    >>> hours = [Hour(instance_id="i", start=noon + n * HOUR, **counts, **times) for n in (0, 1)]
    >>> [
    ...     (row.start.hour, row.end.hour, row.hour and row.hour.state)
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


def show_coverage(system: System, console: Console, *, instance_id: str, start: datetime, end: datetime) -> None:
    """Print a table of an instance's hours, and below it what is to be known beside it."""
    now, opened_to = datetime.now(UTC), find_opened_to(system, instance_id)
    hours = find_hours(system, instance_id, start, end)
    if not hours:
        console.print(f"\n{_say_none(instance_id, start, end, now=now, opened_to=opened_to)}", highlight=False)
        return
    table = Table(
        title=f"Instance {instance_id}: completed contacts by hour (UTC)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("hours")
    for name in ("completed", "captured", "missing", "visits"):
        table.add_column(name, justify="right")
    table.add_column("state")
    table.add_column("next visit")
    for row in group_hours(hours, start, end):
        table.add_row(*_cells(row, now=now, opened_to=opened_to))
    console.print()
    console.print(table)
    lines = []
    if missing := sum(hour.missing for hour in hours):
        since = count_captured_since(system, hours)
        lines.append(f"{missing} missing when their hours were visited, {since} of them captured since.")
    if any(hour.state == "given up" for hour in hours):
        lines.append("Given up: asked for, and not captured in seven days. A backfill of the hours asks again.")
    for line in lines:
        console.print(line, highlight=False)


def _cells(row: Row, *, now: datetime, opened_to: datetime | None) -> tuple[str, ...]:
    hour, end = row.hour, f"{row.end:%H:%M}".replace("00:00", "24:00")
    span = f"{row.start:%Y-%m-%d %H:%M} to {end}"
    if hour is None:
        is_to_come = row.end + _OPEN_AFTER > now or (opened_to is not None and row.start >= opened_to)
        due = f"from {row.start + HOUR + _OPEN_AFTER:%H:%M}" if is_to_come else ""
        return (span, "", "", "", "", "not due yet" if is_to_come else "never opened", due)
    state = hour.state
    if hour.searched_to is not None:
        state = f"{state}, searched to {hour.searched_to:%H:%M:%S}"
    return (
        span,
        *(str(count) for count in (hour.completed, hour.captured, hour.missing, hour.visits)),
        state,
        _say_due(hour.due_at, now),
    )


def _say_due(due_at: datetime | None, now: datetime) -> str:
    if due_at is None:
        return ""
    if due_at <= now:
        return "the next run"
    return f"{due_at:%H:%M}" if due_at.date() == now.date() else f"{due_at:%m-%d %H:%M}"


def _say_none(instance_id: str, start: datetime, end: datetime, *, now: datetime, opened_to: datetime | None) -> str:
    span = f"{start:%Y-%m-%d}" if end - start == 24 * HOUR and start.hour == 0 else f"{start:%Y-%m-%d %H:%M} to now"
    nothing = f"Instance {instance_id}, {span}: no hour was opened, so nothing is known."
    if start > now:
        return f"{nothing} That day is still to come."
    if opened_to is None:
        return f"{nothing} The first run opens those of the last day: `python -m local reconcile`."
    if start >= opened_to:
        return f"{nothing} An hour is due an hour after its end."
    return f"{nothing} A backfill opens them: `python -m local backfill --from {start:%Y-%m-%d} --to {end:%Y-%m-%d}`."


def _said_of(hour: Hour | None) -> object:
    """Return what a row would say, so that hours that say the same are one row; one with contacts is its own."""
    if hour is None:
        return None
    if hour.completed:
        return hour.start
    return hour.state, hour.visits, hour.searched_to, f"{hour.due_at:%Y-%m-%d %H:%M}" if hour.due_at else None


def _read_hour(instance_id: str, item: Mapping[str, Any]) -> Hour:
    def moment(name: str) -> datetime | None:
        return datetime.fromisoformat(item[name]["S"]) if name in item else None

    try:
        return Hour(
            instance_id=instance_id,
            start=datetime.fromisoformat(f"{item['sk']['S']}:00Z"),
            completed=int(item["completed"]["N"]),
            captured=int(item["captured"]["N"]),
            missing=int(item["missing"]["N"]),
            missing_ids=tuple(name["S"] for name in item["missing_ids"]["L"]),
            visits=int(item["visits"]["N"]),
            searched_to=moment("searched_to"),
            closed_at=moment("closed_at"),
            due_at=moment("due_at"),
        )
    except (KeyError, ValueError):
        raise LocalSystemError(
            f"the item HOURS#{instance_id} {item['sk']['S']} is no hour: delete or mend it"
        ) from None
