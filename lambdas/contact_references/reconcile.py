"""Accounts for every completed contact: finds those that no good capture covers, and has them captured.

Contact events are best effort, references change after completion, and contacts completed before the first
deployment. One answer to all three: search a period, compare with the ledger, put capture requests on the queue.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from contact_references.contact import MISSED, UNSETTLED, CaptureRequest, Contact, ContactKey, Instance
from contact_references.feeding import LONGEST_DELAY_SECONDS, Feeder
from contact_references.journal import HeldError, Journal, Lease, Period, Tally
from contact_references.ledger import Entry, Ledger
from contact_references.periods import SEARCHABLE
from contact_references.search import ContactSearch, Found

COMPLETE_AFTER = timedelta(hours=1)
"""How long after its disconnect a contact counts as complete: its after-contact work is over, or not waited for."""

_HOUR = timedelta(hours=1)
_DUE_AT_MOST = timedelta(days=7)  # then a look that fails again and again is no longer asked for
_MOST_LOOKS = 1000
_SECONDS_FOR_A_SPAN = 60.0  # of a search, with its questions to the ledger and its requests


@dataclass(slots=True)
class Work:
    """What is to be done, and how far it is.

    `left` are the periods to search, `looks_left` the instances whose due looks are to be asked for. `counts` has
    `seen` (completed contacts), of them `already_there` (captured) and `queued` (asked for, now or within a day),
    and `looks`. `save` is called with the period at hand whenever a part of it is done.
    """

    left: list[Period]
    looks_left: Sequence[Instance] = ()
    counts: Counter[str] = field(default_factory=lambda: Counter(seen=0, already_there=0, queued=0))
    save: Callable[[Period], None] = lambda _: None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return not self.left and not self.looks_left


class Reconciler:
    """Does work in rounds, between which others may search, and live contacts get their turn.

    `holder` tells this execution environment from others, contacts older than `retention` are passed over, and
    `report_hour` is told what is new about an hour's contacts.
    """

    def __init__(
        self,
        *,
        search: ContactSearch,
        ledger: Ledger,
        journal: Journal,
        feeder: Feeder,
        holder: str,
        retention: timedelta | None = None,
        report_hour: Callable[[Instance, datetime, Tally], None] = lambda *_: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._search = search
        self._ledger = ledger
        self._journal = journal
        self._feeder = feeder
        self._holder = holder
        self._retention = retention
        self._report_hour = report_hour
        self._clock = clock
        self._sleep = sleep

    def recent_work(self, instances: Sequence[Instance], window: timedelta) -> Work:
        """Return a scheduled run's work: the last hours, from further back if the runs before did not get so far."""
        end = self._clock() - COMPLETE_AFTER
        reached = {instance: self._journal.find_searched_until(instance) or end for instance in instances}
        periods = [Period(instance, _hour_of(min(end - window, reached[instance])), end) for instance in instances]
        work = Work(periods, looks_left=instances)
        work.save = lambda period: self._journal.note_searched_until(period.instance, period.start)
        return work

    def past_work(self, instances: Iterable[Instance], start: datetime, end: datetime) -> Work:
        """Return the work of searching a period of the past, as far as its contacts are complete."""
        end = min(end, self._clock() - COMPLETE_AFTER)
        return Work([Period(instance, start, end) for instance in instances if start < end])

    def run(self, work: Work, *, time_left: Callable[[], float]) -> None:
        """Do the work, waiting between rounds, until it is done or there is no time for more."""
        while True:
            seconds = self.advance(work, time_left=time_left)
            if work.is_done or time_left() < seconds + _SECONDS_FOR_A_SPAN:
                return
            self._sleep(seconds)

    def advance(self, work: Work, *, time_left: Callable[[], float]) -> int:
        """Do one round: as much as there is room for in the queue, and time; return the seconds until the next.

        That is when fed contacts have had their share of the rate, and time enough for a queue to empty. Raises
        RetriableError, PermanentError or ConfigurationError; what was saved before is done.
        """
        ahead = 0.0
        # Another searches, or took over because this took too long: what is left waits for the next round.
        with suppress(HeldError), self._journal.lease(self._holder) as lease:
            self._search.wake()
            self._ask_for_looks(work, lease)
            while work.left and time_left() > _SECONDS_FOR_A_SPAN and self._feeder.is_worth_a_search(self._room(lease)):
                self._search_on(work, lease, time_left)
            ahead = self._ahead(lease)
        return 0 if work.is_done else max(math.ceil(ahead), LONGEST_DELAY_SECONDS)

    def _search_on(self, work: Work, lease: Lease, time_left: Callable[[], float]) -> None:
        """Search the first period that is left, span by span, until a contact has no room or there is no time."""
        period = work.left[0]
        oldest = _hour_of(self._clock() - SEARCHABLE) + _HOUR
        if self._retention is not None:
            oldest = max(oldest, _hour_of(self._clock() - self._retention))
        if period.start < oldest:
            period.start, period.tally = min(oldest, period.end), None
        for found in self._search.find_disconnected(period.instance, period.start, period.end):
            until = self._account_for(work, period, found, lease)
            period.start = until
            work.save(period)
            lease.keep()
            if until < found.until or time_left() < _SECONDS_FOR_A_SPAN:
                return
        work.left.pop(0)
        work.save(period)

    def _account_for(self, work: Work, period: Period, found: Found, lease: Lease) -> datetime:
        """Ask for the missing contacts of those found; return until when all are captured or asked for."""
        contacts = [contact for contact in found.contacts if not self._is_past_retention(contact)]
        entries = self._ledger.find_entries([contact.key for contact in contacts])
        captured = {contact.key for contact in contacts if _is_captured(contact, entries.get(contact.key))}
        missing = [contact for contact in contacts if contact.key not in captured]
        refused = self._ask_for([self._missed(period.instance, contact) for contact in missing], lease)
        until = _ended_at(refused[0].contact) if refused else found.until
        done = [contact for contact in contacts if _ended_at(contact) < until]
        there = sum(contact.key in captured for contact in done)
        work.counts.update(seen=len(done), already_there=there, queued=len(done) - there)
        self._tally(period, done, {key: entries[key] for key in captured}, until)
        return until

    def _ask_for_looks(self, work: Work, lease: Lease) -> None:
        """Ask for the looks that are due, with half of the room: contacts never captured matter more."""
        if not work.looks_left:
            return
        instances = {instance.instance_id: instance for instance in work.looks_left}
        now = self._clock()
        due = self._ledger.find_due(now, since=now - _DUE_AT_MOST, most=_MOST_LOOKS)
        requests = [
            self._request(instances[key.instance_id], Contact.unseen(key), UNSETTLED, look_again_at)
            for key, look_again_at in due
            if key.instance_id in instances
        ]
        refused = self._ask_for(requests, lease, share_of_room=0.5)
        work.counts["looks"] = len(requests) - len(refused)
        if not refused:
            work.looks_left = ()

    def _missed(self, instance: Instance, contact: Contact) -> CaptureRequest:
        # A reading from after the contact counted as complete will do.
        return self._request(instance, contact, MISSED, _ended_at(contact) + COMPLETE_AFTER)

    def _request(self, instance: Instance, contact: Contact, reason: str, at: datetime) -> CaptureRequest:
        return CaptureRequest(instance_arn=instance.arn, contact=contact, reason=reason, time=at)

    def _ask_for(
        self, requests: Sequence[CaptureRequest], lease: Lease, *, share_of_room: float = 1.0
    ) -> list[CaptureRequest]:
        """Put requests on the queue, in this order, while there is room; return those that there was none for.

        One that stands is not made again: its message is on its way, or a dead letter.
        """
        standing = self._journal.find_standing(requests)
        new = [request for request in requests if request.id not in standing]
        if not new:
            return []
        room = self._room(lease) * share_of_room
        count = 0
        while count < len(new) and room > 0:
            room -= self._feeder.calls_for(new[count])
            count += 1
        if count:
            # Sent, then noted: cut off in between, they are sent twice, not never.
            seconds = self._feeder.send(new[:count])
            self._journal.note_requests(new[:count])
            lease.feed_again_at = max(lease.feed_again_at, self._clock()) + timedelta(seconds=seconds)
        return new[count:]

    def _room(self, lease: Lease) -> float:
        return self._feeder.measure_room(ahead=self._ahead(lease))

    def _ahead(self, lease: Lease) -> float:
        return max(0.0, (lease.feed_again_at - self._clock()).total_seconds())

    def _is_past_retention(self, contact: Contact) -> bool:
        return self._retention is not None and _ended_at(contact) + self._retention <= self._clock()

    def _tally(
        self, period: Period, contacts: Iterable[Contact], captured: Mapping[ContactKey, Entry], until: datetime
    ) -> None:
        """Count contacts by the hour; note each hour that is counted from its beginning, as far as it is."""
        first = _hour_of(period.start)
        tallies = {first: Tally() if period.start == first else period.tally}
        while (hour := max(tallies) + _HOUR) < until:
            tallies[hour] = Tally()
        for contact in contacts:
            tally = tallies[_hour_of(_ended_at(contact))]
            if tally is not None:
                tally.add(captured.get(contact.key))
        for hour, tally in tallies.items():
            end = min(until, hour + _HOUR)
            if tally is None or end not in (hour + _HOUR, period.end):
                continue
            if self._journal.note_coverage(period.instance, hour, tally, until=end):
                self._report_hour(period.instance, hour, tally)
        period.tally = tallies.get(_hour_of(until))


def _is_captured(contact: Contact, entry: Entry | None) -> bool:
    """Whether a good capture covers the contact: because of its own completion, and read after it."""
    return (
        entry is not None
        and entry.is_complete
        and entry.contact.completion_seen
        and entry.checked_at >= _ended_at(contact)
    )


def _ended_at(contact: Contact) -> datetime:
    """When a contact that was found by the time of its disconnect disconnected."""
    if contact.completed_at is None:
        raise ValueError("the contact was not found by its disconnect")
    return contact.completed_at


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
