"""A run: the days that are marked, one by one, and the days that are past their retention.

Every step can be done again. A run that dies leaves the day's mark, and the next run makes the day anew; the mark is
cleared only if nothing was appended since it was read, so an object that appears meanwhile is the next run's.

What a day's tables say, and what was appended since they were made, is all that the day's lake says of its contacts as
they are now: so an object is read once or twice, and not each hour. A day is read whole when it is marked anew.
"""

import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

from contact_references.aws.day_folders import CONTACTS, LAKE, REFERENCES, DayFolders
from contact_references.aws.days import Days
from contact_references.model.errors import CaptureError, RetriableError
from contact_references.model.timestamps import parse_iso
from contact_references.tables.commands import EVERY_DAY, Period
from contact_references.tables.day import make_tables
from contact_references.tables.report import TablesReport

_TABLES = (CONTACTS, REFERENCES)
_KINDS = (*_TABLES, LAKE)
_DAY = timedelta(days=1)
_OVERLAP = timedelta(minutes=15)  # S3's clock may not be ours, and an object's time is when its request began


@dataclass(slots=True)
class Run:
    """A run: whether there is time to begin with another day, how many were written, and what failed."""

    report: TablesReport
    has_time: Callable[[], bool]
    written: int = 0
    errors: list[CaptureError] = field(default_factory=list)

    @contextmanager
    def failing_alone(self, date: str) -> Iterator[None]:
        """Let a failure within be that of one day."""
        try:
            yield
        except CaptureError as error:
            self._fail(date, error)
        except Exception as error:  # noqa: BLE001 - a defect met in one day must not stop the others
            self._fail(date, RetriableError(type(error).__name__, "unexpected"))

    def _fail(self, date: str, error: CaptureError) -> None:
        self.errors.append(error)
        self.report.failed(date, error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """Writes the tables of days that changed; DuckDB takes `memory_megabytes`.

    `retention` is counted from the end of a day, None for ever: so long its last contact is kept.
    """

    days: Days
    folders: DayFolders
    report: TablesReport
    memory_megabytes: int
    retention: timedelta | None
    clock: Callable[[], datetime]

    def mark(self, period: Period = EVERY_DAY) -> int:
        """Mark the days of a period that the lake or a table has anything of; return how many."""
        found = {date for kind in _KINDS for date in self.folders.find_dates(kind) if date in period}
        for date in sorted(found):
            self.days.mark_anew(date, now=self.clock())
        return len(found)

    def run(self, *, holder: str, time_left: Callable[[], float]) -> int | None:
        """Write the tables of the days that are marked, while there is time; return how many, None if another run does.

        The first run marks every day. A day that fails hinders no other; raises the first error when the others are
        done.
        """
        now = self.clock()
        lease = self.days.take_lease(holder, now=now, until=now + timedelta(seconds=time_left()))
        if lease is None:
            return None
        enough = time_left() / 2
        run = Run(self.report, has_time=lambda: time_left() > enough)
        try:
            if not lease.has_marked_all:
                self.mark()
                self.days.note_all_marked(now)
            self._work(run)
        finally:
            self.days.return_lease(lease, now=self.clock())
        if run.errors:
            raise run.errors[0]
        return run.written

    def _work(self, run: Run) -> None:
        marked = self.days.find_marked()
        expired = {date for date in marked if self._is_expired(date)} | self._find_expired()
        for date in sorted(expired):
            with run.failing_alone(date):
                self._delete(date)
        waiting = [date for date in marked if date not in expired]
        behind = {date: marked[date] for date in waiting}
        for date in waiting:
            if run.written and not run.has_time():
                break
            with run.failing_alone(date):
                listed_at = self._write(date)
                if listed_at is None:
                    del behind[date]
                else:
                    behind[date] = listed_at
                run.written += 1
        longest = max((self.clock() - since for since in behind.values()), default=timedelta())
        self.report.behind(len(behind), seconds=round(longest.total_seconds()))

    def _write(self, date: str) -> datetime | None:
        """Write a day's tables; return None, or since when they are behind if the lake got more meanwhile."""
        mark = self.days.read_mark(date)
        if mark is None:
            return None
        began, listed_at = time.monotonic(), self.clock()
        with TemporaryDirectory() as name:
            folder = Path(name)
            lake, before = folder / LAKE, folder / "before"
            lake.mkdir()
            before.mkdir()
            since, previous = None, None
            if mark.read_to is not None:
                files = [*self.folders.read(CONTACTS, date, before), *self.folders.read(REFERENCES, date, before)]
                if len(files) == len(_TABLES):
                    since, previous = mark.read_to - _OVERLAP, before
            copied = self.folders.read(LAKE, date, lake, since=since)
            objects = [path for path in copied if self._is_readable(date, path)]
            tables = make_tables(objects, folder, previous=previous, memory_megabytes=self.memory_megabytes)
            # References first: who finds a contact finds its references.
            self.folders.put(REFERENCES, date, tables.references_file)
            self.folders.put(CONTACTS, date, tables.contacts_file)
        self.report.written(date, tables, objects=len(objects), seconds=time.monotonic() - began)
        return None if self.days.clear(mark, read_to=listed_at) else listed_at

    def _is_readable(self, date: str, path: Path) -> bool:
        content = path.read_bytes()
        try:
            gzip.decompress(content)
            is_whole = content != b""
        except (OSError, EOFError, zlib.error):
            is_whole = False
        if not is_whole:
            self.report.unreadable(date, path.name)
        return is_whole

    def _find_expired(self) -> set[str]:
        if self.retention is None:
            return set()
        # Dates come in order, so one request a folder says that there is none.
        return {date for kind in _KINDS for date in takewhile(self._is_expired, self.folders.find_dates(kind))}

    def _is_expired(self, date: str) -> bool:
        return self.retention is not None and parse_iso(date) + _DAY + self.retention <= self.clock()

    def _delete(self, date: str) -> None:
        mark = self.days.read_mark(date)
        for kind in _KINDS:
            self.folders.delete(kind, date)
        if mark is not None:
            self.days.clear(mark, read_to=None)
        self.report.deleted(date)
