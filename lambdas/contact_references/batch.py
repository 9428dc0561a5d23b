"""Captures a batch of completed contacts: reads what is new of them, appends it to the lake, commits it.

A contact's commit to the ledger is what makes it captured, and it comes last. Cut off at any point before, the
batch is delivered again, and the newer reading takes the place of what the older one left.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from contact_references.capture import Capture
from contact_references.connect import ReferenceReader
from contact_references.contact import UNSETTLED, Completion, Contact, ContactKey
from contact_references.errors import CaptureError, ContactNotFoundError, PermanentError, RetriableError
from contact_references.lake import Lake
from contact_references.ledger import ContendedError, Entry, Holding, Ledger
from contact_references.reference import normalize_references, take_over
from contact_references.settling import SETTLED, Settling, settle
from contact_references.timestamps import to_millisecond

_MILLISECOND = timedelta(milliseconds=1)
_WHOLE_SECOND = timedelta(seconds=1)  # EventBridge cuts an event's time to it
_VISIBLE_AFTER = timedelta(hours=1)  # a contact that Connect does not know by then, it does not know
_ATTEMPTS = 5

# Seconds that must be left to begin with one more contact: the clients' time-outs of its reading, of the lake
# and of a commit, added up.
_TIME_TO_READ = 50.0
_TIME_TO_COMMIT = 15.0


class Outcome(StrEnum):
    """What became of a contact that did not fail."""

    CAPTURED = "captured"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one contact and why; `capture` is the one that was committed or confirmed here.

    `seconds_to_capture` runs from a contact's completion to the reading that first captured it, of contacts
    that an event of their own reported. `is_given_up` says that this was the last look and found something in
    PROCESSING.
    """

    outcome: Outcome
    reason: str
    reference_count: int = 0
    capture: Capture | None = None
    seconds_to_capture: float | None = None
    is_given_up: bool = False


@dataclass(slots=True)
class _Target:
    """A contact to capture: what a batch says of it, what the ledger has of it, and how far it got.

    `is_partly_read` says that `reading` has only the types that may still change.
    """

    contact: Contact
    completions: list[Completion] = field(default_factory=list)
    entry: Entry | None = None
    reading: Capture | None = None
    is_partly_read: bool = False
    in_lake: Capture | None = None
    result: Result | CaptureError | None = None

    @property
    def is_open(self) -> bool:
        return self.result is None

    def add(self, contact: Contact, completion: Completion) -> None:
        self.contact = contact.known_since(self.contact)
        self.completions.append(completion)

    @property
    def latest(self) -> Completion:
        return max(self.completions, key=lambda completion: completion.event_time or datetime.min.replace(tzinfo=UTC))

    @property
    def is_redelivered(self) -> bool:
        return any(completion.redelivered for completion in self.completions)

    @property
    def is_looked_at_again(self) -> bool:
        """Whether nothing is asked for but what may have changed since the contact was captured."""
        return all(completion.requested == UNSETTLED for completion in self.completions)

    def is_covered_by(self, entry: Entry) -> bool:
        """Whether the ledger's reading is because of all that was reported here, or from after it.

        Of an event that was tried before, only the former: the lake may have what that attempt left.
        """
        return entry.is_complete and all(
            (completion.event_id is not None and completion.event_id == entry.event_id)
            or (
                completion.event_time is not None
                and completion.event_time + _WHOLE_SECOND <= entry.checked_at
                and not completion.redelivered
            )
            for completion in self.completions
        )

    def may_have_overtaken(self, entry: Entry) -> bool:
        """Whether the lake may have a newer capture than the ledger: of this attempt, or of one that was cut off."""
        if self.in_lake is not None:
            return entry.captured_at < self.in_lake.captured_at
        return self.is_redelivered and self.reading is not None and entry.captured_at < self.reading.captured_at

    def is_newer_than(self, entry: Entry) -> bool:
        """Whether the reading is newer than the ledger's, or is the one that the ledger has begun to take."""
        if self.reading is None:
            return False
        is_begun = not entry.is_complete and self.in_lake is not None and entry.captured_at == self.in_lake.captured_at
        return is_begun or entry.checked_at < self.reading.captured_at

    def skip(self, reason: str) -> None:
        count = self.entry.reference_count if self.entry else 0
        self.result = Result(outcome=Outcome.SKIPPED, reason=reason, reference_count=count)

    def named_apart(self, capture: Capture) -> Capture:
        """Give the capture a name that in the lake does not yet stand for something else."""
        if self.in_lake is None:
            return capture
        capture = replace(capture, captured_at=max(capture.captured_at, self.in_lake.captured_at))
        if capture.captured_at == self.in_lake.captured_at and capture != self.in_lake:
            capture = replace(capture, captured_at=capture.captured_at + _MILLISECOND)
        return capture

    def settle(self, capture: Capture, *, checked_at: datetime) -> Settling:
        """When to look again, of a capture that was read or confirmed at `checked_at`."""
        was_awaited = self.entry is not None and self.entry.settling.look_again_at is not None
        is_awaited = was_awaited or any(completion.is_analyzed for completion in self.completions)
        return settle(capture, checked_at=checked_at, is_awaited=is_awaited)

    def succeed(self, capture: Capture, reason: str, settling: Settling) -> None:
        known_before = self.entry is not None and self.entry.contact.completion_seen
        live = [completion for completion in self.completions if completion.contact.key == capture.contact.key]
        seconds = None
        if capture.contact.completed_at and not known_before and any(c.requested is None for c in live):
            seconds = (capture.captured_at - capture.contact.completed_at).total_seconds()
        self.result = Result(
            outcome=Outcome.CAPTURED,
            reason=reason,
            reference_count=len(capture.references),
            capture=capture,
            seconds_to_capture=seconds,
            is_given_up=settling.is_given_up and not (self.entry is not None and self.entry.settling.is_given_up),
        )

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        """Make a failure within this contact's result, so that it is handed back and no other is touched."""
        try:
            yield
        except CaptureError as error:
            self.result = error
        except Exception as error:  # noqa: BLE001 - a defect met by one contact must not stop the batch's others
            # Where it was raised, but not its text: that may quote a value.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.result = RetriableError(type(error).__name__, f"unexpected, at {frame.name}:{frame.lineno}")


@dataclass(frozen=True, slots=True)
class _Plan:
    """A capture to commit, what the ledger must still hold for it to be right, and when to look again."""

    capture: Capture
    over: Holding | None
    settling: Settling


class Capturer:
    """Captures batches of completions.

    `clock` tells the time in UTC; `retention`, counted from completion, is how old a contact may be.
    """

    def __init__(
        self,
        *,
        reader: ReferenceReader,
        ledger: Ledger,
        lake: Lake,
        retention: timedelta | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._lake = lake
        self._retention = retention
        self._clock = clock

    def capture(
        self, completions: Sequence[Completion], *, time_left: Callable[[], float]
    ) -> dict[ContactKey, Result | CaptureError]:
        """Capture each completed contact and, where it is another one, its chain's initial contact.

        Returns what became of every one of them; nothing is raised for a single contact. `time_left` gives the
        seconds until the function's deadline: what can't be done before it is a RetriableError. Raises
        RetriableError or ConfigurationError if the ledger can't be asked at all.
        """
        targets = _targets(completions)
        entries = self._ledger.find_entries(targets)
        for key, target in targets.items():
            target.entry = entries.get(key)
            with target.failing_alone():
                self._take_up(target, time_left)
        _accept_unknown_legs(targets)
        self._commit(targets.values(), time_left)
        return {key: self._final(target) for key, target in targets.items()}

    def _take_up(self, target: _Target, time_left: Callable[[], float]) -> None:
        """Read the contact's references, unless the ledger or the clock say that there is no need to."""
        entry = target.entry
        if entry is not None:
            target.contact = target.contact.known_since(entry.contact)
        completed_at = target.contact.completed_at
        if self._retention and completed_at and completed_at + self._retention <= self._clock():
            target.skip("past its retention")
        elif entry is not None and target.is_covered_by(entry):
            if target.contact == entry.contact:
                target.skip("captured since the event")
        elif entry is None and target.is_looked_at_again:
            target.skip("no longer in the ledger")
        else:
            if time_left() < _TIME_TO_READ:
                raise RetriableError("NotStarted", "the function's deadline was too near")
            # What changes from here on may not be in the reading.
            captured_at = to_millisecond(self._clock())
            target.reading = Capture(
                contact=target.contact, captured_at=captured_at, references=(), event_id=target.latest.event_id
            )
            is_captured = entry is not None and entry.is_complete
            target.is_partly_read = is_captured and target.is_looked_at_again and bool(self._reader.changing_types)
            members = self._reader.read(target.contact.key, only_changing=target.is_partly_read)
            target.reading = replace(target.reading, references=normalize_references(members))

    def _commit(self, targets: Iterable[_Target], time_left: Callable[[], float]) -> None:
        """Append what is new to the lake, then commit it; look again at what others committed meanwhile."""
        for _ in range(_ATTEMPTS):
            plans = []
            for target in targets:
                if target.is_open:
                    with target.failing_alone():
                        plans += self._plan(target)
            self._append_to_lake(plans)
            for target, plan in plans:
                if target.is_open:
                    with target.failing_alone():
                        if time_left() < _TIME_TO_COMMIT:
                            raise RetriableError("NotCommitted", "the function's deadline was too near")
                        self._ledger.commit(plan.capture, over=plan.over, settling=plan.settling)
                        target.succeed(plan.capture, "changed" if plan.over else "captured", plan.settling)
            contended = [target for target in targets if isinstance(target.result, ContendedError)]
            if not contended:
                return
            entries = self._ledger.find_entries([target.contact.key for target in contended])
            for target in contended:
                target.entry = entries.get(target.contact.key)
                target.result = None

    def _plan(self, target: _Target) -> "list[tuple[_Target, _Plan]]":
        """Choose what the ledger has to hold next: the reading, or what it holds with more known about it.

        Nothing, if the reading is older than the ledger's or says nothing new: then that is the result.
        """
        entry, reading = target.entry, target.reading
        if entry is None:
            if reading is None or target.is_partly_read:
                raise ContendedError("Contended", "the contact's entry is gone")
            return [(target, self._plan_of(target, reading, None))]
        target.contact = target.contact.known_since(entry.contact)
        if reading is not None and target.is_newer_than(entry):
            capture = replace(reading, contact=target.contact)
            holding = self._ledger.find_holding(entry)
            if target.is_partly_read:
                if not holding.is_whole:
                    raise ContendedError("Contended", "the contact is being captured")
                references = take_over(
                    reading.references, held=holding.references, read_types=self._reader.changing_types
                )
                capture = replace(capture, references=references)
            is_known = holding.is_whole and capture.says_the_same_as(holding.capture)
            if is_known and not target.may_have_overtaken(entry):
                settling = self._settling(target, holding.capture, checked_at=capture.captured_at)
                self._ledger.confirm(entry, capture.captured_at, settling=settling)
                target.succeed(capture, "unchanged", settling)
                return []
        elif entry.is_complete and target.contact == entry.contact and not target.may_have_overtaken(entry):
            target.skip("a newer capture is there")
            return []
        else:
            holding = self._ledger.find_holding(entry)
            if not holding.is_whole:
                raise ContendedError("Contended", "the contact is being captured")
            # The references stay as they were read, but with more known this is another capture, and takes
            # the next name.
            name = entry.checked_at + _MILLISECOND
            event_id = target.latest.event_id
            capture = replace(holding.capture, contact=target.contact, captured_at=name, event_id=event_id)
        return [(target, self._plan_of(target, capture, holding))]

    def _plan_of(self, target: _Target, capture: Capture, over: Holding | None) -> _Plan:
        capture = target.named_apart(capture)
        return _Plan(capture, over, self._settling(target, capture, checked_at=capture.captured_at))

    def _settling(self, target: _Target, capture: Capture, *, checked_at: datetime) -> Settling:
        # Without a type asked for that may still change, there is nothing to look for.
        return target.settle(capture, checked_at=checked_at) if self._reader.changing_types else SETTLED

    def _append_to_lake(self, plans: "Sequence[tuple[_Target, _Plan]]") -> None:
        fresh = [(target, plan) for target, plan in plans if plan.capture != target.in_lake]
        try:
            self._lake.append(plan.capture for _, plan in fresh)
        except CaptureError as error:
            for target, _ in fresh:
                target.result = error
        else:
            for target, plan in fresh:
                target.in_lake = plan.capture

    def _final(self, target: _Target) -> Result | CaptureError:
        result, event_time = target.result, target.latest.event_time
        if isinstance(result, ContactNotFoundError) and event_time and event_time + _VISIBLE_AFTER <= self._clock():
            return PermanentError(result.error, "Connect does not know the contact, an hour after its event")
        return result or RetriableError("Contended", "the contact's captures overtake each other")


def _targets(completions: Iterable[Completion]) -> dict[ContactKey, _Target]:
    targets: dict[ContactKey, _Target] = {}
    for completion in completions:
        for contact in completion.contacts:
            targets.setdefault(contact.key, _Target(contact)).add(contact, completion)
    return targets


def _accept_unknown_legs(targets: Mapping[ContactKey, _Target]) -> None:
    """Let a leg that Connect does not know, but whose initial contact it does, have no references of its own."""
    for target in targets.values():
        if not isinstance(target.result, ContactNotFoundError):
            continue
        initial = targets.get(target.contact.initial_key)
        if initial is None or initial is target:
            continue
        if initial.is_open or (isinstance(initial.result, Result) and initial.entry is not None):
            target.result = None
