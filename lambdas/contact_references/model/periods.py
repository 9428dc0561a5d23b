"""Periods of the past that a person asks to have captured: a backfill."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from contact_references.model.contact import Instance
from contact_references.model.coverage import HOUR, OPEN_AFTER, floor_to_hour
from contact_references.model.timestamps import parse_iso

_SEARCHABLE = timedelta(days=730)  # Connect keeps contacts for two years
_KEYS = {"from", "to", "instanceArn"}
_EXAMPLE = '{"from": "2026-01-01", "to": "2026-02-01"}'


class InvalidPeriodError(ValueError):
    """What is asked for is not a period of an instance's past; the message says what is wrong, and what is right."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """Hours to search, by their starts, and whose."""

    hours: tuple[datetime, ...]
    instances: tuple[Instance, ...]


def parse_backfill(
    event: object, *, instances: Collection[Instance], now: datetime, retention: timedelta | None
) -> Backfill:
    """Return the hours that `{"from", "to", "instanceArn"?}` names, those that are not due yet left out.

    Raises InvalidPeriodError for anything else, for a period reversed, in the future, beyond two years or the
    retention, and for an instance that is not one of `instances`.

    >>> now, instance = parse_iso("2026-03-01T12:00Z"), Instance("us-east-1", "111122223333", "12345678-1234")
    >>> def read(event, retention=None):
    ...     return parse_backfill(event, instances=[instance], now=now, retention=retention)
    >>> len(read({"from": "2026-02-01", "to": "2026-02-02"}).hours)
    24
    >>> read({"from": "2026-02-02", "to": "2026-02-01"})
    Traceback (most recent call last):
    contact_references.model.periods.InvalidPeriodError: from (2026-02-02) is not before to (2026-02-01): swap them
    """
    if not isinstance(event, Mapping) or not {"from", "to"} <= event.keys() or event.keys() - _KEYS:
        raise InvalidPeriodError(
            f"give {{}} for what is due, or a period and perhaps an instanceArn, such as {_EXAMPLE}"
        )
    start, end = _moment(event, "from"), _moment(event, "to")
    if start >= end:
        raise InvalidPeriodError(f"from ({event['from']}) is not before to ({event['to']}): swap them")
    if end > now:
        raise InvalidPeriodError(f"to ({event['to']}) is in the future: now it is {now:%Y-%m-%dT%H:%MZ}")
    earliest = now - min(_SEARCHABLE, retention or _SEARCHABLE)
    if start < earliest:
        kept = "the retention" if retention and retention < _SEARCHABLE else "the two years that Connect keeps contacts"
        raise InvalidPeriodError(
            f"from ({event['from']}) is beyond {kept}: give {earliest + HOUR:%Y-%m-%dT%H:00Z} or later"
        )
    hours, hour = [], floor_to_hour(start)
    while hour < end and hour + HOUR + OPEN_AFTER <= now:
        hours.append(hour)
        hour += HOUR
    return Backfill(tuple(hours), _instances(event.get("instanceArn"), instances))


def _moment(event: Mapping[str, object], name: str) -> datetime:
    value = event.get(name)
    try:
        return parse_iso(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidPeriodError(f"{name} is {value!r}: give a date or time such as 2026-01-31T00:00:00Z") from None


def _instances(arn: object, known: Collection[Instance]) -> tuple[Instance, ...]:
    if arn is None:
        return tuple(known)
    example = min((instance.arn for instance in known), default="none, as there is no instance here")
    try:
        instance = Instance.from_arn(arn if isinstance(arn, str) else "")
    except ValueError:
        raise InvalidPeriodError(f"instanceArn is {arn!r}: give an instance's ARN, such as {example}") from None
    if instance not in known:
        raise InvalidPeriodError(
            f"instanceArn is {arn!r}, which is not captured here: give one that is, such as {example}"
        )
    return (instance,)
