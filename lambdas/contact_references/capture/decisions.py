"""What to do with a contact, and what to write of it: decided from what is known, without asking anybody.

`choose_step` comes before Connect is asked, `choose_write` after. docs/architecture.md says why the rules are as they
are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact
from contact_references.model.events import ContactReport
from contact_references.model.rechecks import full_recheck, is_processing, next_recheck
from contact_references.model.reference import UNKNOWN, Reference, take_over

_WHOLE_SECOND = timedelta(seconds=1)  # EventBridge cuts an event's time to it
_MILLISECOND = timedelta(milliseconds=1)


class Step(StrEnum):
    """What is to be done with a contact.

    KEEP asks Connect nothing: what became known is taken over, and the capture appended again if it may not be there.
    """

    SKIP = "skip"
    KEEP = "keep the references"
    READ_CHANGING = "read what can change"
    READ_ALL = "read all"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step, and of a skip why."""

    step: Step
    reason: str = ""

    @property
    def asks_connect(self) -> bool:
        """Whether the step needs a reading."""
        return self.step in (Step.READ_CHANGING, Step.READ_ALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What Connect answered: from when on, of which types.

    `is_full` says that the types are all that the contact is to be asked for. `is_unknown` says that Connect does not
    know the contact, a leg whose initial contact it does know, and that it counts as empty.
    """

    started_at: datetime
    types: frozenset[str]
    references: tuple[Reference, ...] = ()
    is_full: bool = True
    is_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """What the CONTACT item is to say next; `capture` is None if it stays the one that the ledger has."""

    item: ContactItem
    capture: Capture | None = None


def choose_step(
    contact: Contact,
    reports: Sequence[ContactReport],
    item: ContactItem | None,
    *,
    now: datetime,
    retention: timedelta | None = None,
    can_change: bool = True,
) -> Decision:
    """Choose what to do with a contact.

    `contact` is all that reports and item say of it, `item` is None if there is none, or none that still counts.
    `can_change` says that types can be asked for that may change after completion.

    >>> from contact_references.model.contact import ContactKey
    >>> noon = datetime(2026, 3, 1, 12)
    >>> second, hour = timedelta(seconds=1), timedelta(hours=1)
    >>> known = Contact(
    ...     key=ContactKey("instance", "a"), initial_contact_id="a", completed_at=noon, completion_seen=True
    ... )
    >>> def report(id, time, requested=None, **more):
    ...     return ContactReport(contact=known, event_id=id, event_time=time, requested=requested, **more)
    >>> item = ContactItem(
    ...     contact=known,
    ...     capture_id="1",
    ...     captured_at=noon,
    ...     reference_count=2,
    ...     event_id="event",
    ...     read_at=noon,
    ...     checked_at=noon + hour,
    ...     version=1,
    ... )
    >>> def decide(*reports, contact=known, item=item, **more):
    ...     decision = choose_step(contact, reports, item, now=noon + 2 * hour, **more)
    ...     return f"{decision.step}: {decision.reason}" if decision.reason else str(decision.step)

    Without an item:

    >>> decide(report("other", noon), item=None)
    'read all'
    >>> decide(report("other", noon, "recheck"), item=None)
    'skip: no longer in the ledger'
    >>> decide(report("other", noon), item=None, retention=2 * hour)
    'skip: past its retention'
    >>> decide(report("other", noon), item=None, retention=3 * hour)
    'read all'

    A completion is covered by a reading of all types that began a second after it, or was made because of it. Nothing
    else covers one: not a recheck, however late.

    >>> decide(report("other", noon - second))
    'skip: captured since the event'
    >>> decide(report("other", noon - second / 2))
    'read all'
    >>> decide(report("other", noon + hour / 2, "missed"))
    'read all'
    >>> decide(report("other", None))
    'read all'
    >>> decide(report("event", noon + hour))
    'keep the references'

    A recheck is covered by any reading that did not begin before it; else it asks for what can change, unless all is to
    be read again, and by now.

    >>> decide(report("other", noon + hour, "recheck"))
    'skip: captured since the event'
    >>> decide(report("other", noon + 2 * hour, "recheck"))
    'read what can change'
    >>> decide(report("other", noon + 2 * hour, "recheck"), can_change=False)
    'skip: nothing can change'
    >>> decide(report("other", noon + 2 * hour, "recheck"), item=replace(item, full_recheck_at=noon + 2 * hour))
    'read all'
    >>> decide(report("other", noon + 2 * hour, "recheck"), item=replace(item, full_recheck_at=noon + 3 * hour))
    'read what can change'
    >>> decide(report("other", noon + 2 * hour, "recheck"), report("another", noon))
    'read all'

    What a covered report says besides is taken over without a call.

    >>> decide(report("other", noon - second), contact=replace(known, channel="VOICE"))
    'keep the references'
    >>> decide(report("event", noon), contact=replace(known, channel="VOICE"))
    'keep the references'
    >>> decide(report("other", noon - second, is_analyzed=True))
    'keep the references'
    >>> decide(report("other", noon - second, is_analyzed=True), item=replace(item, may_change=True))
    'skip: captured since the event'
    """
    if retention is not None and contact.completed_at is not None and contact.completed_at + retention <= now:
        return Decision(Step.SKIP, "past its retention")
    if item is None:
        if all(report.is_recheck for report in reports):
            return Decision(Step.SKIP, "no longer in the ledger")
        return Decision(Step.READ_ALL)
    return _choose_over(item, contact, reports, now=now, can_change=can_change)


def _choose_over(
    item: ContactItem, contact: Contact, reports: Sequence[ContactReport], *, now: datetime, can_change: bool
) -> Decision:
    uncovered = [report for report in reports if not is_covered(report, item)]
    is_all_due = item.is_unknown or (item.full_recheck_at is not None and item.full_recheck_at <= now)
    if any(is_all_due or not report.is_recheck for report in uncovered):
        return Decision(Step.READ_ALL)
    if uncovered and can_change:
        return Decision(Step.READ_CHANGING)
    is_awaited_now = _is_analyzed(contact, reports) and not item.may_change
    is_reported_now = item.is_found_by_search and _is_from_event(contact, reports)
    if contact != item.contact or is_awaited_now or is_reported_now or is_of_same_event(reports, item):
        return Decision(Step.KEEP)
    return Decision(Step.SKIP, "nothing can change" if uncovered else "captured since the event")


def is_covered(report: ContactReport, item: ContactItem) -> bool:
    """Whether what the report is about is in the capture: it came from this very report, or was read after it."""
    if report.event_id == item.event_id:
        return True
    if report.event_time is None:
        return False
    if report.is_recheck:
        return report.event_time <= item.checked_at
    return report.event_time + _WHOLE_SECOND <= item.read_at


def is_of_same_event(reports: Sequence[ContactReport], item: ContactItem) -> bool:
    """Whether the capture came from one of the reports: delivered again, its append may have failed."""
    return any(report.event_id == item.event_id for report in reports)


def choose_write(
    contact: Contact,
    reports: Sequence[ContactReport],
    item: ContactItem | None,
    *,
    capture_id: str,
    held: tuple[Reference, ...] = (),
    reading: Reading | None = None,
    replaced: ContactItem | None = None,
    can_change: bool = True,
) -> Write | None:
    """Choose what the ledger is to say next of a contact; None if nothing new is to be said.

    `held` are the references that count by `item`, `reading` is what was read since, if anything was. `replaced` is
    the item that the write takes the place of, which may be one that no longer counts; `item` if not given.
    `can_change` says that the contact is to be asked for types that may change.

    >>> from contact_references.model.contact import ContactKey
    >>> noon = datetime(2026, 3, 1, 12)
    >>> hour = timedelta(hours=1)
    >>> known = Contact(
    ...     key=ContactKey("instance", "a"), initial_contact_id="a", completed_at=noon, completion_seen=True
    ... )
    >>> url = Reference(reference_id="1", reference_type="URL", reference_value="https://b.example/k?X-Amz-Date=1")
    >>> signed_later = replace(url, reference_value="https://b.example/k?X-Amz-Date=2")
    >>> analysis = Reference(reference_id="2", reference_type="CONTACT_ANALYSIS")
    >>> event = ContactReport(contact=known, event_id="other", event_time=noon)
    >>> item = ContactItem(
    ...     contact=known,
    ...     capture_id="1",
    ...     captured_at=noon,
    ...     reference_count=1,
    ...     event_id="event",
    ...     read_at=noon,
    ...     checked_at=noon,
    ...     version=1,
    ... )
    >>> def read(*references, at=noon + hour, types=("URL", "CONTACT_ANALYSIS"), **more):
    ...     return Reading(started_at=at, types=frozenset(types), references=references, **more)
    >>> def write(reading, *, contact=known, item=item, report=event, **more):
    ...     return choose_write(contact, [report], item, held=(url,), reading=reading, capture_id="2", **more)

    A first capture:

    >>> first = choose_write(known, [event], None, reading=read(url), capture_id="2")
    >>> first.capture.capture_id, first.item.captured_at == first.item.read_at == noon + hour, first.item.version
    ('2', True, 1)

    The same again, signatures aside: the capture stays, and it is known how far it can be relied on.

    >>> same = write(read(signed_later))
    >>> same.capture, same.item.capture_id, same.item.event_id, same.item.read_at == noon + hour, same.item.version
    (None, '1', 'event', True, 2)

    Something else, or more known of the contact: another capture, later than the one before, by a clock that is behind
    too. What was held of types that were not asked for is carried over.

    >>> [len(write(read(url, analysis)).capture.references), len(write(read()).capture.references)]
    [2, 0]
    >>> recheck = write(read(analysis, types=["CONTACT_ANALYSIS"], is_full=False))
    >>> [reference.reference_type for reference in recheck.capture.references]
    ['URL', 'CONTACT_ANALYSIS']
    >>> recheck.item.read_at == noon, recheck.item.checked_at == noon + hour
    (True, True)
    >>> write(read(at=noon - hour)).item.captured_at - noon
    datetime.timedelta(microseconds=1000)
    >>> more = write(None, contact=replace(known, channel="VOICE"))
    >>> more.capture.references == (url,), more.item.captured_at - noon, more.item.read_at == noon, more.item.event_id
    (True, datetime.timedelta(microseconds=1000), True, 'other')

    Only what is due, or nothing:

    >>> analyzed = write(None, report=replace(event, is_analyzed=True))
    >>> analyzed.capture, analyzed.item.due_at - noon
    (None, datetime.timedelta(seconds=900))
    >>> write(None)
    """
    replaced = replaced or item
    references = _merge(held, reading)
    if item is not None and _says_the_same(item, held, contact, references):
        confirmed = _with_reading(item, reading) if reading is not None else item
        confirmed = _with_what_is_due(confirmed, reports, item, references, can_change=can_change)
        return None if confirmed == item else Write(item=replace(confirmed, version=item.version + 1))
    read_at = reading.started_at if reading else None
    earliest = replaced.captured_at + _MILLISECOND if replaced else None
    captured_at = max(moment for moment in (read_at, earliest) if moment)
    following = ContactItem(
        contact=contact,
        capture_id=capture_id,
        captured_at=captured_at,
        reference_count=len(references),
        event_id=latest_report(reports).event_id,
        read_at=item.read_at if item else captured_at,
        checked_at=item.checked_at if item else captured_at,
        version=replaced.version + 1 if replaced else 1,
        is_first=item is None,
        may_change=item is not None and item.may_change,
        is_unknown=item is not None and item.is_unknown,
    )
    if reading is not None:
        following = _with_reading(following, reading, is_first=item is None)
    following = _with_what_is_due(following, reports, item, references, can_change=can_change)
    return Write(item=following, capture=following.capture_of(references))


def latest_report(reports: Sequence[ContactReport]) -> ContactReport:
    """Return the report by whose id a capture is known: the latest, one without a time before all others."""
    return max(reports, key=lambda report: report.event_time.timestamp() if report.event_time else 0.0)


def _merge(held: tuple[Reference, ...], reading: Reading | None) -> tuple[Reference, ...]:
    if reading is None:
        return held
    # A type newer than the SDK can't be asked for, so that a part of the types brings no news of it being gone.
    replaced_types: Collection[str] = reading.types | {UNKNOWN} if reading.is_full else reading.types
    return take_over(reading.references, held=held, replaced_types=replaced_types)


def _says_the_same(
    item: ContactItem, held: tuple[Reference, ...], contact: Contact, references: tuple[Reference, ...]
) -> bool:
    """Whether nothing has changed but signatures; never of a capture that has lost rows: it is put again, whole."""
    if len(held) != item.reference_count or contact != item.contact:
        return False
    return {reference.unsigned() for reference in references} == {reference.unsigned() for reference in held}


def _with_reading(item: ContactItem, reading: Reading, *, is_first: bool = False) -> ContactItem:
    started_at = reading.started_at
    checked_at = started_at if is_first else max(started_at, item.checked_at)
    item = replace(item, checked_at=checked_at, recheck_asked_since=None)
    return replace(item, read_at=started_at, is_unknown=reading.is_unknown) if reading.is_full else item


def _with_what_is_due(
    following: ContactItem,
    reports: Sequence[ContactReport],
    item: ContactItem | None,
    references: Sequence[Reference],
    *,
    can_change: bool,
) -> ContactItem:
    contact = following.contact
    was_seen = item is not None and item.contact.completion_seen
    was_found_by_search = item is not None and item.is_found_by_search
    is_awaited = _is_analyzed(contact, reports) or contact.channel == "EMAIL" or is_processing(references)
    following = replace(
        following,
        may_change=following.may_change or (can_change and is_awaited),
        is_found_by_search=not _is_from_event(contact, reports)
        and (was_found_by_search if was_seen else contact.completion_seen),
    )
    since = contact.completed_at
    if since is None:  # its own completion is still to be reported, and then it is read
        return replace(following, full_recheck_at=None, due_at=None)
    afresh = full_recheck(
        since=since,
        read_at=following.read_at,
        is_recorded_empty=following.is_unknown and not (item is not None and item.is_unknown),
        is_found_by_search=following.is_found_by_search,
    )
    before = item.full_recheck_at if item is not None and following.is_unknown else None
    is_pending = before is not None and before > following.read_at
    full_recheck_at = _earliest(afresh, before if is_pending else None)
    recheck_at = next_recheck(
        references, since=since, checked_at=following.checked_at, may_change=can_change and following.may_change
    )
    return replace(following, full_recheck_at=full_recheck_at, due_at=_earliest(recheck_at, full_recheck_at))


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _own(contact: Contact, reports: Sequence[ContactReport]) -> list[ContactReport]:
    """Return the reports about the contact itself, without those of later legs of its chain."""
    return [report for report in reports if report.contact.key == contact.key]


def _is_from_event(contact: Contact, reports: Sequence[ContactReport]) -> bool:
    return any(report.requested is None for report in _own(contact, reports))


def _is_analyzed(contact: Contact, reports: Sequence[ContactReport]) -> bool:
    return any(report.is_analyzed for report in _own(contact, reports))
