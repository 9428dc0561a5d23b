"""Visits hours: searches Connect for the contacts that completed in them, and asks for those that are missing."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from contact_references.aws.ledger import FoundItem, Ledger
from contact_references.aws.search import ContactSearch
from contact_references.aws.worklist import Opened, Worklist, hours_due_key
from contact_references.model.capture import ContactItem, Tombstone
from contact_references.model.contact import Contact, ContactKey, Instance
from contact_references.model.coverage import HOUR, LATE_AFTER, OPEN_AFTER, Hour, floor_to_hour, group_adjacent
from contact_references.model.errors import PermanentError
from contact_references.model.events import MISSED, CaptureRequest
from contact_references.model.periods import Backfill
from contact_references.reconcile.feeding import Feeder
from contact_references.reconcile.report import ReconcileReport

_FIRST_REACH = timedelta(days=1)  # of an instance that is seen for the first time
_HOURS_AT_ONCE = 7 * 24

Steps = Iterator[None]
"""Work that others may take turns with: what a step did is written when it ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hours:
    """Opens, visits and closes the hours of instances; those that end past the retention are left alone.

    Its methods raise RetriableError, PermanentError or ConfigurationError.
    """

    search: ContactSearch
    ledger: Ledger
    worklist: Worklist
    feeder: Feeder
    report: ReconcileReport
    retention: timedelta | None
    clock: Callable[[], datetime]

    def open(self, instance: Instance) -> Opened:
        """Make the hours due that ended since the last run, however long ago that was."""
        now = self.clock()
        until = floor_to_hour(now - OPEN_AFTER)
        opened = self.worklist.find_opened(instance) or Opened(floor_to_hour(now - _FIRST_REACH))
        starts = [start for start in _hours_between(opened.until, until) if not self._is_past_retention(start + HOUR)]
        for part in _parts(starts, _HOURS_AT_ONCE):
            self._make_due(instance, part, now)
            self.worklist.save_opened(instance, replace(opened, until=part[-1] + HOUR))
        return replace(opened, until=max(until, opened.until))

    def mark(self, backfill: Backfill) -> int:
        """Make the hours of a period due, but for those that are open already; return how many it has."""
        for instance in backfill.instances:
            for starts in _parts(backfill.hours, _HOURS_AT_ONCE):
                hours = self.worklist.find_hours(instance, starts)
                is_open = {hour.start for hour in hours if isinstance(hour, Hour) and hour.due_at is not None}
                new = [start for start in starts if start not in is_open]
                self.worklist.save_hours(
                    [
                        Hour(instance_id=instance.instance_id, start=start, due_at=start, is_backfill=True)
                        for start in new
                    ]
                )
        return len(backfill.hours) * len(backfill.instances)

    def visit_due(self, instance: Instance, *, is_backfill: bool) -> Steps:
        """Visit what is due of the last days or of the backfill, the newest first."""
        starts = self.worklist.find_open_hours(hours_due_key(instance, is_backfill=is_backfill), until=self.clock())
        while part := list(islice(starts, _HOURS_AT_ONCE)):
            yield from self._visit(instance, part)
            if is_backfill and not self.feeder.has_room:
                return

    def measure(self, instance: Instance) -> tuple[int, int, int]:
        """Return how many contacts are missing, hours open, and hours of the backfill open, as of a moment ago."""
        starts = list(self.worklist.find_open_hours(hours_due_key(instance, is_backfill=False)))
        found = self.worklist.find_hours(instance, starts)
        hours = [hour for hour in found if isinstance(hour, Hour) and hour.due_at is not None]
        past = self.worklist.count_due(hours_due_key(instance, is_backfill=True))
        return sum(hour.missing for hour in hours), len(hours), past

    def _make_due(self, instance: Instance, starts: Sequence[datetime], now: datetime) -> None:
        there = {hour.start for hour in self.worklist.find_hours(instance, starts) if isinstance(hour, Hour)}
        hours = []
        for start in starts:
            due_at = start + HOUR + OPEN_AFTER
            if start not in there:
                is_late = now > due_at + LATE_AFTER
                hours.append(Hour(instance_id=instance.instance_id, start=start, due_at=due_at, is_backfill=is_late))
        self.worklist.save_hours(hours)

    def _visit(self, instance: Instance, starts: Sequence[datetime]) -> Steps:
        now = self.clock()
        hours: list[Hour] = []
        for hour in self.worklist.find_hours(instance, starts):
            if isinstance(hour, PermanentError):
                self.report.damaged(hour)
            elif hour.due_at is not None and hour.due_at <= now:
                hours.append(hour)
        expired = [hour for hour in hours if self._is_past_retention(hour.end)]
        self.worklist.save_hours([replace(hour, closed_at=now, due_at=None) for hour in expired])
        hours = [hour for hour in hours if hour not in expired]
        for hour in hours:
            if not hour.needs_search:
                self._save([hour.look_up(self._find_missing(instance, hour), now)])
                yield
        for group in group_adjacent([hour for hour in hours if hour.needs_search]):
            if not self.feeder.has_room:
                return
            yield from self._search_hours(instance, [hour.begin_search(now) for hour in group])

    def _search_hours(self, instance: Instance, hours: list[Hour]) -> Steps:
        start = hours[0].searched_to or hours[0].start
        for found in self.search.find_disconnected(instance, start, hours[-1].end):
            captured = self._captured(found.contacts)
            contacts = [c for c in found.contacts if not self._is_past_retention(_completed_at(c))]
            missing = [contact for contact in contacts if contact.key not in captured]
            asking = {hour.start for hour in hours if hour.asks}
            asked = [contact for contact in missing if floor_to_hour(_completed_at(contact)) in asking]
            sent = self.feeder.feed([self._request(instance, contact) for contact in asked])
            has_room = sent == len(asked)
            until = found.until if has_room else _completed_at(asked[sent])
            # Written after the requests are queued: cut off in between, they are found missing and asked for again.
            hours = self._count(hours, contacts, missing, until=until)
            yield
            if not has_room:
                return

    def _count(
        self, hours: Sequence[Hour], found: Sequence[Contact], missing: Sequence[Contact], *, until: datetime
    ) -> list[Hour]:
        """Add what was found to its hours, and write them; return those that are not searched to their ends."""
        touched = []
        for hour in hours:
            if hour.start < until:
                end = min(hour.end, until)
                ids, missing_ids = (
                    [c.key.contact_id for c in contacts if hour.start <= _completed_at(c) < end]
                    for contacts in (found, missing)
                )
                counted = hour.count(ids, missing_ids, until=end)
                touched.append(counted.end_visit(self.clock()) if end == hour.end else counted)
        self._save(touched)
        unfinished = [hour for hour in touched if hour.searched_to is not None]
        return unfinished + [hour for hour in hours if hour.start >= until]

    def _save(self, hours: Sequence[Hour]) -> None:
        self.worklist.save_hours(hours)
        for hour in hours:
            self.report.hour(hour)

    def _find_missing(self, instance: Instance, hour: Hour) -> set[str]:
        keys = [ContactKey(instance.instance_id, name) for name in hour.missing_ids]
        items = self.ledger.find_items(keys)
        return {key.contact_id for key in keys if not self._counts(items.get(key), since=hour.start)}

    def _captured(self, contacts: Collection[Contact]) -> set[ContactKey]:
        items = self.ledger.find_items([contact.key for contact in contacts])
        return {c.key for c in contacts if self._counts(items.get(c.key), since=_completed_at(c))}

    def _counts(self, item: FoundItem | None, *, since: datetime) -> bool:
        """Whether the contact has a capture because of its own completion and after it, or was erased."""
        if isinstance(item, Tombstone):
            return True
        if not isinstance(item, ContactItem) or item.is_expired(self.clock()):
            return False
        return item.contact.completion_seen and item.read_at >= max(since, item.contact.completed_at or since)

    def _request(self, instance: Instance, contact: Contact) -> CaptureRequest:
        return CaptureRequest(instance_arn=instance.arn, contact=contact, reason=MISSED, time=self.clock())

    def _is_past_retention(self, completed_at: datetime) -> bool:
        return self.retention is not None and completed_at + self.retention <= self.clock()


def _completed_at(contact: Contact) -> datetime:
    """Return when a contact that a search found completed: it was searched by that."""
    if contact.completed_at is None:
        raise ValueError("a contact that was found by its completion has one")
    return contact.completed_at


def _hours_between(start: datetime, end: datetime) -> list[datetime]:
    return [start + n * HOUR for n in range(max(0, (end - start) // HOUR))]


def _parts(starts: Sequence[datetime], size: int) -> Iterator[Sequence[datetime]]:
    return (starts[first : first + size] for first in range(0, len(starts), size))
