"""Times, read tolerantly and written in one form: ISO 8601, UTC, milliseconds, `Z`.

In that form, text order is time order.
"""

import re
from datetime import UTC, datetime

_ISO = re.compile(
    r"(\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)? ?([Zz]|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
)


def parse_iso(text: str) -> datetime:
    """Read an ISO 8601 date or date-time, in UTC and to the millisecond; without a zone it is UTC.

    Finer fractions are cut, not rounded. Raises ValueError for anything else, dates that do not exist and
    moments that fall outside the years 1 to 9999 in UTC included.

    >>> parse_iso("2026-03-01T09:30:00.1239+02:00").isoformat()
    '2026-03-01T07:30:00.123000+00:00'
    >>> parse_iso("2026-03-01").isoformat()
    '2026-03-01T00:00:00+00:00'
    >>> parse_iso("2026-02-30")
    Traceback (most recent call last):
    ValueError: not an ISO 8601 date or date-time
    """
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError("not an ISO 8601 date or date-time")
    day, minute, second, fraction, zone = match.groups()
    offset = "+00:00" if zone is None or zone in "Zz" else zone
    milliseconds = (fraction or "").ljust(3, "0")[:3]
    try:
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}.{milliseconds}{offset}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        # The library's text would quote the value, which may be personal data.
        raise ValueError("not an ISO 8601 date or date-time") from None


def format_time(moment: datetime) -> str:
    """Write an aware datetime as the contract does; what is finer than a millisecond is cut.

    >>> format_time(parse_iso("0987-03-01 07:30Z"))
    '0987-03-01T07:30:00.000Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def to_millisecond(moment: datetime) -> datetime:
    """Cut what a record can't hold, so that a time read back equals the time that was written."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
