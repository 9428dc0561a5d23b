"""Captures a batch of completed contacts: looks, decides, reads Connect, puts the rows, commits, cleans up, appends.

If it is to, it announces what it appended.

The commit is one conditional put of the CONTACT item: before it, no reader sees anything of a capture; after it,
everything. `decisions` has the rules, docs/architecture.md the reasons for this order.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from contact_references.aws.announcements import Announcer
from contact_references.aws.items import MAX_ROWS_PER_REQUEST
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.references import ReferenceReader
from contact_references.capture.decisions import (
    Decision,
    Reading,
    Step,
    Write,
    choose_step,
    choose_write,
    is_of_same_event,
)
from contact_references.capture.targets import Result, Target, make_targets
from contact_references.model.capture import ContactItem
from contact_references.model.contact import ContactKey
from contact_references.model.errors import CaptureError, ContactNotFoundError, RetriableError
from contact_references.model.events import ContactReport
from contact_references.model.reference import normalize_answers
from contact_references.model.reference_types import changing
from contact_references.model.timestamps import format_time, to_millisecond

_LARGE_BATCH = 20
_ATTEMPTS = 5  # to be faster than others that capture the same contact

# Seconds that must be left to begin with one more contact: the clients' time-outs of its reading, of its writes and
# of the lake, added up.
_TIME_TO_READ = 50.0
_TIME_TO_COMMIT = 15.0

Targets = Mapping[ContactKey, Target]
TimeLeft = Callable[[], float]
"""Seconds until the function's deadline: what can't be done before it is a RetriableError."""


class Capturer:
    """Captures batches of reports.

    `clock` tells the time in UTC; `retention`, counted from completion, is how old a contact may be. `on_leftover` is
    told of rows that could not be deleted: nobody sees them, and the contact's next capture deletes them. Without an
    `announcer` nobody is told of captures.
    """

    def __init__(
        self,
        *,
        reader: ReferenceReader,
        ledger: Ledger,
        lake: Lake,
        on_leftover: Callable[[CaptureError], None],
        announcer: Announcer | None = None,
        retention: timedelta | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._lake = lake
        self._on_leftover = on_leftover
        self._announcer = announcer
        self._retention = retention
        self._clock = clock

    def capture(
        self, reports: Sequence[ContactReport], *, time_left: TimeLeft
    ) -> dict[ContactKey, Result | CaptureError]:
        """Capture each reported contact and, where it is another one, its chain's initial contact.

        Returns what became of every one of them; nothing is raised for a single contact.
        """
        targets = make_targets(reports)
        # Initial contacts first: by what is known of them, a leg is judged that Connect does not know.
        waiting = sorted(targets.values(), key=lambda target: target.reported.is_leg)
        for _ in range(_ATTEMPTS):
            if waiting:
                waiting = self._capture_once(waiting, targets, time_left)
        self._append([target for target in targets.values() if target.has_succeeded])
        return {key: target.final(self._clock()) for key, target in targets.items()}

    def _capture_once(self, waiting: Sequence[Target], batch: Targets, time_left: TimeLeft) -> list[Target]:
        """Capture contacts; return those with which another capture was faster, to begin again with."""
        self._look(waiting)
        overtaken: list[Target] = []
        pending: list[tuple[Target, Write]] = []
        for target in waiting:
            if pending and self._is_time_to_write(pending, waiting):
                overtaken += self._write(pending, time_left)
                pending = []
            with target.failing_alone():
                write = None if target.has_failed else self._prepare(target, batch, time_left)
                if write is not None:
                    pending.append((target, write))
        return overtaken + self._write(pending, time_left)

    def _is_time_to_write(self, pending: Sequence[tuple[Target, Write]], batch: Sequence[Target]) -> bool:
        """Whether what was read should not wait for the rest of the batch: its rows fill a request, or there is time.

        Another contact like the last would take a second request. In a large batch, which only an invocation by hand
        has (the queue delivers less), the number of requests counts, and a second more or less does not.
        """
        rows = sum(len(target.new_rows) for target, _ in pending) + len(pending[-1][0].new_rows)
        return rows > MAX_ROWS_PER_REQUEST or (len(batch) < _LARGE_BATCH and self._reader.must_wait)

    def _look(self, targets: Sequence[Target]) -> None:
        try:
            found = self._ledger.find_items([target.key for target in targets])
        except CaptureError as error:
            for target in targets:
                target.result = error
            return
        now = self._clock()
        for target in targets:
            with target.failing_alone():
                target.begin(found.get(target.key), now)

    def _prepare(self, target: Target, batch: Targets, time_left: TimeLeft) -> Write | None:
        """Return what is to be written of a contact, if anything is: ask Connect if that is necessary."""
        if target.is_erased:
            target.skip("erased")
            return None
        item, contact, reports = target.item, target.contact, target.reports
        types = self._reader.types_of(contact)
        decision = choose_step(
            contact, reports, item, now=self._clock(), retention=self._retention, can_change=bool(changing(types))
        )
        if decision.step is Step.SKIP:
            target.skip(decision.reason)
            return None
        if target.replaced is not None or target.is_redelivered:
            # Before the commit: rows that are put after it may be those of an attempt that is going to count.
            target.rows = self._ledger.find_rows(target.key)
        held = target.rows.of(item)
        is_damaged = item is not None and len(held) < item.reference_count
        if is_damaged or (item is not None and not set(types) <= set(self._reader.types_of(item.contact))):
            # What is missing can't be carried over; nor is what the contact's channel has, and was not asked for.
            decision = Decision(Step.READ_ALL)
        if decision.asks_connect:
            if time_left() < _TIME_TO_READ:
                raise RetriableError("NotStarted", "the function's deadline was too near")
            initial = batch.get(contact.initial_key)
            target.reading = self._read(target, is_full=decision.step is Step.READ_ALL, initial=initial)
        write = choose_write(
            contact,
            reports,
            item,
            capture_id=uuid4().hex,
            held=held,
            reading=target.reading,
            replaced=target.replaced,
            can_change=self._reader.can_change(contact),
        )
        if item is not None and is_of_same_event(reports, item) and not is_damaged:
            target.to_append = item.capture_of(held)  # unless another capture takes its place
        if write is None:
            target.keep()
        elif write.capture is not None:
            target.new_rows = self._ledger.make_rows(write.capture)
        return write

    def _read(self, target: Target, *, is_full: bool, initial: Target | None) -> Reading:
        started_at = to_millisecond(self._clock())  # what changes from here on may not be in the answer
        try:
            answer = self._reader.read(target.contact, only_changing=not is_full)
        except ContactNotFoundError:
            if not target.counts_as_empty(initial):
                raise
            return Reading(started_at=started_at, types=frozenset(), is_full=is_full, is_unknown=True)
        references = normalize_answers(answer.members)
        return Reading(started_at=started_at, types=answer.types, references=references, is_full=is_full)

    def _write(self, pending: Sequence[tuple[Target, Write]], time_left: TimeLeft) -> list[Target]:
        """Put the rows of all, commit each, and delete what is of no use; return those that were overtaken."""
        failures = self._ledger.put_rows({write.item.capture_id: target.new_rows for target, write in pending})
        overtaken: list[Target] = []
        useless: dict[ContactKey, Iterable[str]] = {}
        for target, write in pending:
            with target.failing_alone():
                if write.item.capture_id in failures:
                    raise failures[write.item.capture_id]
                if time_left() < _TIME_TO_COMMIT:
                    raise RetriableError("NotCommitted", "the function's deadline was too near")
                if not self._commit(write, over=target.replaced):
                    overtaken.append(target)
                    useless[target.key] = [row["sk"]["S"] for row in target.new_rows]
                    continue
                target.succeed(write)
                if write.capture is not None:
                    useless[target.key] = target.rows.sort_keys
        try:
            self._ledger.delete_rows(useless)
        except CaptureError as error:
            self._on_leftover(error)
        return overtaken

    def _commit(self, write: Write, *, over: ContactItem | None) -> bool:
        if write.capture is None and over is not None:
            return self._ledger.confirm(write.item, over=over)
        return self._ledger.commit(write.item, over=over)

    def _append(self, targets: Iterable[Target]) -> None:
        """Append what was committed to the lake, mark its days, and announce it.

        What fails comes back: it is appended and announced again.
        """
        by_date: dict[str, list[Target]] = {}
        for target in targets:
            if target.to_append is not None and target.to_append.contact.completed_at is not None:
                date = format_time(target.to_append.contact.completed_at)[:10]
                by_date.setdefault(date, []).append(target)
        for date, of_date in by_date.items():
            captures = [target.to_append for target in of_date if target.to_append]
            try:
                self._lake.append(date, captures)
                self._ledger.mark_day(date)
                if self._announcer is not None:
                    self._announcer.announce(captures)
            except CaptureError as error:
                for target in of_date:
                    target.result = error
