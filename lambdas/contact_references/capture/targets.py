"""The contacts of a batch: what is reported of each, what the ledger has of it, and what became of it."""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from contact_references.aws.items import Attributes
from contact_references.aws.ledger import NO_ROWS, FoundItem, Rows
from contact_references.capture.decisions import Reading, Write, latest_report
from contact_references.model.capture import Capture, ContactItem, Tombstone
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.errors import (
    CaptureError,
    ContactNotFoundError,
    PermanentError,
    RefusedError,
    RetriableError,
)
from contact_references.model.events import ContactReport
from contact_references.model.rechecks import is_processing
from contact_references.model.reference import Reference

_VISIBLE_AFTER = timedelta(hours=1)  # a contact that Connect does not know by then, it does not know


class Outcome(StrEnum):
    """What became of a contact that did not fail."""

    CAPTURED = "captured"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one contact and why; `references` are those of the capture that was made or confirmed here.

    `seconds_to_capture` runs from a contact's completion to the reading that first captured it, of contacts
    that an event of their own reported. `is_still_processing` says that this was the last recheck and found something
    in PROCESSING.
    """

    outcome: Outcome
    reason: str
    contact: Contact
    reference_count: int = 0
    references: tuple[Reference, ...] = ()
    seconds_to_capture: float | None = None
    is_still_processing: bool = False


@dataclass(slots=True)
class Target:
    """A contact to capture, and how far that got.

    `replaced` is what a write takes the place of: `item`, or one that is expired. Of one that `is_erased` nothing is
    ever written. `rows` were in the ledger before
    the commit, `new_rows` are put by it. `to_append` is committed, and not yet appended to the lake as far as is known.
    """

    reported: Contact
    reports: list[ContactReport] = field(default_factory=list)
    item: ContactItem | None = None
    replaced: ContactItem | None = None
    is_erased: bool = False
    rows: Rows = NO_ROWS
    reading: Reading | None = None
    new_rows: list[Attributes] = field(default_factory=list)
    to_append: Capture | None = None
    result: Result | CaptureError | None = None

    @property
    def key(self) -> ContactKey:
        """What names the contact."""
        return self.reported.key

    @property
    def contact(self) -> Contact:
        """All that is known of the contact."""
        return self.reported.known_since(self.replaced.contact) if self.replaced else self.reported

    @property
    def is_redelivered(self) -> bool:
        """Whether an attempt may have died after it put rows."""
        return any(report.is_redelivered for report in self.reports)

    @property
    def has_failed(self) -> bool:
        """Whether the contact is handed back."""
        return isinstance(self.result, CaptureError)

    @property
    def is_known_to_connect(self) -> bool:
        """Whether Connect knows the contact, as far as is known here."""
        return self.item is not None or self.is_erased or (self.reading is not None and not self.reading.is_unknown)

    @property
    def has_succeeded(self) -> bool:
        """Whether the contact is captured, or need not be."""
        return isinstance(self.result, Result)

    def add(self, contact: Contact, report: ContactReport) -> None:
        """Add what a report of the batch says."""
        self.reported = contact.known_since(self.reported)
        self.reports.append(report)

    def begin(self, found: FoundItem | None, now: datetime) -> None:
        """Begin, or begin again, with what the ledger has now: nothing that was read before is used again."""
        self.item = self.replaced = self.reading = self.to_append = None
        self.rows, self.new_rows = NO_ROWS, []
        if isinstance(found, PermanentError):
            raise found
        self.is_erased = isinstance(found, Tombstone)
        self.replaced = None if isinstance(found, Tombstone) else found
        self.item = None if self.replaced is None or self.replaced.is_expired(now) else self.replaced

    def counts_as_empty(self, initial: "Target | None") -> bool:
        """Whether the contact has no references of its own as far as is known, now that Connect does not know it.

        It is a leg whose initial contact Connect does know, and nothing was ever read of it: a passing 404 must not
        take the place of references.
        """
        if self.item is not None:
            return self.item.is_unknown
        return self.contact.is_leg and initial is not None and initial.is_known_to_connect

    def skip(self, reason: str) -> None:
        """End with nothing captured here, and nothing to capture."""
        count = self.item.reference_count if self.item else 0
        self.result = Result(outcome=Outcome.SKIPPED, reason=reason, contact=self.contact, reference_count=count)

    def keep(self) -> None:
        """End with nothing captured here, as the capture that is there covers what is reported."""
        self.skip("captured by this event, and appended again" if self.to_append else "captured since the event")

    def succeed(self, write: Write) -> None:
        """End with what was committed, or confirmed."""
        if write.capture is not None:
            self.to_append = write.capture
        elif self.reading is None:
            self.keep()
            return
        references = write.capture.references if write.capture else self.rows.of(self.item)
        reason = "unchanged" if write.capture is None else "changed" if self.item else "captured"
        was_due = self.item is None or self.item.due_at is not None
        self.result = Result(
            outcome=Outcome.CAPTURED,
            reason=reason if self.reading else "more became known",
            contact=write.item.contact,
            reference_count=write.item.reference_count,
            references=references,
            seconds_to_capture=self._seconds_to_capture(write.item),
            is_still_processing=was_due and write.item.due_at is None and is_processing(references),
        )

    def final(self, now: datetime) -> Result | CaptureError:
        """Return what became of the contact; one that Connect does not know may be a failure of nobody, or for good."""
        is_reported_by_legs = all(report.contact.key != self.key for report in self.reports)
        if isinstance(self.result, RefusedError) and is_reported_by_legs:
            self.skip("Connect refuses this initial contact")
        elif isinstance(self.result, ContactNotFoundError):
            event_time = latest_report(self.reports).event_time
            is_old = event_time is not None and event_time + _VISIBLE_AFTER <= now
            if is_reported_by_legs and (is_old or self.item is None):
                self.skip("Connect does not know this initial contact")
            elif is_old:
                return PermanentError(self.result.error, "Connect does not know the contact, an hour after its event")
        return self.result or RetriableError("Overtaken", "others keep capturing the contact at the same time")

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

    def _seconds_to_capture(self, item: ContactItem) -> float | None:
        was_seen = self.item is not None and self.item.contact.completion_seen
        is_live = any(report.requested is None and report.contact.key == self.key for report in self.reports)
        if was_seen or not is_live or item.contact.completed_at is None:
            return None
        return (item.captured_at - item.contact.completed_at).total_seconds()


def make_targets(reports: Iterable[ContactReport]) -> dict[ContactKey, Target]:
    """Return a target for each reported contact and, where it is another one, its chain's initial contact."""
    targets: dict[ContactKey, Target] = {}
    for report in reports:
        for contact in report.contacts:
            targets.setdefault(contact.key, Target(contact)).add(contact, report)
    return targets
