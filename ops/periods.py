"""Periods as a person names them: dates or times, UTC unless they say otherwise."""

from datetime import datetime, timedelta
from typing import Annotated

import typer

from contact_references.model.coverage import HOUR, floor_to_hour
from contact_references.model.timestamps import parse_iso


def parse_moment(text: str) -> datetime:
    """Read a date or time that was given to a command.

    >>> parse_moment("2026-03-02T10:30+01:00").isoformat()
    '2026-03-02T09:30:00+00:00'
    """
    try:
        moment = parse_iso(text)
    except (ValueError, OverflowError):
        moment = None
    # Far enough from the ends of the calendar that a day more or less is a time too.
    if moment is None or not 1970 <= moment.year < 9999:
        raise typer.BadParameter(f"{text}: give a date or time such as 2026-10-01T09:30Z") from None
    return moment


_WHAT = "date or time, UTC unless it says otherwise"
FromOption = Annotated[
    datetime, typer.Option("--from", parser=parse_moment, metavar="TIME", show_default=False, help=f"Begin: {_WHAT}.")
]
ToOption = Annotated[
    datetime, typer.Option("--to", parser=parse_moment, metavar="TIME", show_default=False, help="End, likewise.")
]


def whole_hours(start: datetime | None, end: datetime | None, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the ends of the whole hours that a period touches, a day of it where one of its ends is not given.

    The last day is from this hour of yesterday to the end of the present one: what a first run begins with.

    >>> noon = parse_iso("2026-03-02T12:34Z")
    >>> [f"{end:%d %H:%M}" for end in whole_hours(None, None, now=noon)]
    ['01 12:00', '02 13:00']
    >>> [f"{end:%d %H:%M}" for end in whole_hours(parse_iso("2026-02-01"), None, now=noon)]
    ['01 00:00', '02 00:00']
    """
    if start is None and end is None:
        return floor_to_hour(now) - 24 * HOUR, floor_to_hour(now) + HOUR
    if end is None and start is not None:
        end = start + timedelta(days=1)
    elif start is None and end is not None:
        start = end - timedelta(days=1)
    if start is None or end is None or start >= end:
        raise typer.BadParameter("--from is not before --to: swap them")
    return floor_to_hour(start), _ceil_to_hour(end)


def _ceil_to_hour(moment: datetime) -> datetime:
    floor = floor_to_hour(moment)
    return floor if floor == moment else floor + HOUR
