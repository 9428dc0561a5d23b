"""When a contact is to be read again: what services produce may appear or change after the contact has ended."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from contact_references.model.reference import Reference

_CHANGING = (timedelta(minutes=15), timedelta(hours=24))
_PROCESSING = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))
_UNKNOWN_LEG = timedelta(minutes=15)
_FOUND_BY_SEARCH = timedelta(hours=24)


def is_processing(references: Iterable[Reference]) -> bool:
    """Whether the service has not got through with some of the references."""
    return any(reference.status == "PROCESSING" for reference in references)


def next_recheck(
    references: Iterable[Reference], *, since: datetime, checked_at: datetime, may_change: bool
) -> datetime | None:
    """Return when to read what may have changed, of a contact that was read at `checked_at`; None for no more.

    Contacts that `may_change`, as Contact Lens was on, an email or something in PROCESSING was seen: 15 minutes and 24
    hours after `since`, their completion; while something is in PROCESSING also after 1 and 6 hours.

    >>> from contact_references.model.timestamps import parse_iso
    >>> noon = parse_iso("2026-03-01T12:00Z")
    >>> after = noon + timedelta(minutes=15)
    >>> next_recheck([], since=noon, checked_at=after, may_change=True).isoformat()
    '2026-03-02T12:00:00+00:00'
    >>> waiting = [Reference(reference_id="1", reference_type="ATTACHMENT", status="PROCESSING")]
    >>> next_recheck(waiting, since=noon, checked_at=after, may_change=True).isoformat()
    '2026-03-01T13:00:00+00:00'
    >>> next_recheck([], since=noon, checked_at=after, may_change=False)
    """
    delays = (_PROCESSING if is_processing(references) else _CHANGING) if may_change else ()
    return next((since + delay for delay in delays if since + delay > checked_at), None)


def full_recheck(
    *, since: datetime, read_at: datetime, is_recorded_empty: bool, is_found_by_search: bool
) -> datetime | None:
    """Return when to read all types of a contact again that was read at `read_at`; None where there is no need.

    A leg that is recorded empty, because Connect does not know it: 15 minutes after `since`, its completion, or after
    it was read if that was late. A contact that only a search reported may have been in after-contact work: 24 hours
    after completion, if that is still ahead.

    >>> from contact_references.model.timestamps import parse_iso
    >>> noon = parse_iso("2026-03-01T12:00Z")
    >>> hour = timedelta(hours=1)
    >>> full_recheck(since=noon, read_at=noon + hour, is_recorded_empty=True, is_found_by_search=True).isoformat()
    '2026-03-01T13:15:00+00:00'
    >>> full_recheck(since=noon, read_at=noon + hour, is_recorded_empty=False, is_found_by_search=True).isoformat()
    '2026-03-02T12:00:00+00:00'
    >>> full_recheck(since=noon, read_at=noon + hour, is_recorded_empty=False, is_found_by_search=False)
    """
    times = [max(since, read_at) + _UNKNOWN_LEG] * is_recorded_empty + [since + _FOUND_BY_SEARCH] * is_found_by_search
    return next((time for time in times if time > read_at), None)
