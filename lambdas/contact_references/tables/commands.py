"""What the tables function can be asked for besides its schedule's work: to make the tables of a period anew."""

from collections.abc import Mapping
from dataclasses import dataclass

from contact_references.model.timestamps import format_time, parse_iso

_EXAMPLE = '{"rebuild": {"from": "2026-01-01", "to": "2026-02-01"}}'


class InvalidCommandError(ValueError):
    """What is asked for is no command; the message says what is wrong, and what is right."""


@dataclass(frozen=True, slots=True)
class Period:
    """Dates of completion, `start` included and `end` not."""

    start: str = "0001-01-01"
    end: str = "9999-12-31"

    def __contains__(self, date: str) -> bool:
        return self.start <= date < self.end


EVERY_DAY = Period()


def parse_rebuild(event: object) -> Period:
    """Return the period that `{"rebuild": {"from"?, "to"?}}` names; without an end it has none.

    Raises InvalidCommandError for anything else, and for a period reversed.

    >>> parse_rebuild({"rebuild": {"from": "2026-01-01", "to": "2026-02-01"}})
    Period(start='2026-01-01', end='2026-02-01')
    >>> parse_rebuild({"rebuild": {}}) == EVERY_DAY
    True
    """
    period = event.get("rebuild") if isinstance(event, Mapping) and len(event) == 1 else None
    if not isinstance(period, Mapping) or not period.keys() <= {"from", "to"}:
        raise InvalidCommandError(f"give {{}} for the days that changed, or days to make anew, such as {_EXAMPLE}")
    start, end = _date(period, "from", EVERY_DAY.start), _date(period, "to", EVERY_DAY.end)
    if start >= end:
        raise InvalidCommandError(f"from ({start}) is not before to ({end}): swap them")
    return Period(start, end)


def _date(period: Mapping[object, object], name: str, default: str) -> str:
    value = period.get(name, default)
    try:
        date = format_time(parse_iso(value if isinstance(value, str) else ""))[:10]
    except ValueError:
        date = ""
    if date != value:
        raise InvalidCommandError(f"{name} is {value!r}: give a date such as 2026-01-31")
    return date
