"""Periods of the past that a person asks to have reconciled."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from contact_references.timestamps import parse_iso

_DAY = timedelta(days=1)
SEARCHABLE = timedelta(days=730)
"""How far back contacts can be searched: Connect keeps them for two years."""


class InvalidPeriodError(ValueError):
    """What is asked for is not a period of an instance's past; the message says what is wrong, and what is right."""


def parse_period(event: Mapping[str, object], *, now: datetime, is_checked: bool = False) -> tuple[datetime, datetime]:
    """Return the period that `from` and `to` name.

    Raises InvalidPeriodError if they don't, or it is not past, or (unless it `is_checked`) too long ago.

    >>> now = parse_iso("2026-03-01T12:00Z")
    >>> [moment.isoformat() for moment in parse_period({"from": "2026-01-01", "to": "2026-02-01"}, now=now)]
    ['2026-01-01T00:00:00+00:00', '2026-02-01T00:00:00+00:00']
    >>> parse_period({"from": "2026-02-01", "to": "2026-01-01"}, now=now)
    Traceback (most recent call last):
    contact_references.periods.InvalidPeriodError: from (2026-02-01) is not before to (2026-01-01): swap them
    """
    start, end = _moment(event, "from"), _moment(event, "to")
    if start >= end:
        raise InvalidPeriodError(f"from ({event['from']}) is not before to ({event['to']}): swap them")
    if end > now:
        raise InvalidPeriodError(f"to ({event['to']}) is in the future: now it is {now:%Y-%m-%dT%H:%MZ}")
    if start < now - SEARCHABLE and not is_checked:
        first = now - SEARCHABLE + _DAY
        raise InvalidPeriodError(
            f"from ({event['from']}) is beyond the two years that Connect keeps contacts for: "
            f"give {first:%Y-%m-%d} or later"
        )
    return start, end


def _moment(event: Mapping[str, object], name: str) -> datetime:
    value = event.get(name)
    try:
        return parse_iso(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidPeriodError(f"{name} is {value!r}: give a date or time such as 2026-01-31T00:00:00Z") from None


def split_windows(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """Split a period at midnight UTC, into windows of a day at most, the newest first.

    >>> windows = split_windows(parse_iso("2026-01-01T22:00Z"), parse_iso("2026-01-03T01:00Z"))
    >>> [f"{first:%d %H:%M} to {last:%d %H:%M}" for first, last in windows]
    ['03 00:00 to 03 01:00', '02 00:00 to 03 00:00', '01 22:00 to 02 00:00']
    """
    windows = []
    while start < end:
        midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
        first = max(start, midnight if midnight < end else end - _DAY)
        windows.append((first, end))
        end = first
    return windows
