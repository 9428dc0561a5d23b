"""How far an hour of an instance's contacts is accounted for, and when to visit it again."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

HOUR = timedelta(hours=1)
OPEN_AFTER = timedelta(hours=1)
"""From an hour's end until it is due: time for after-contact work, and for the search to know its contacts."""
LATE_AFTER = timedelta(days=1)
"""An hour that is opened so much later than it was due joins the backfill."""
MAX_MISSING_IDS = 100

_INDEXED_AFTER = timedelta(hours=4)  # a search so long after an hour's end finds what was indexed late
_FIRST_PAUSE = timedelta(minutes=30)
_LONGEST_PAUSE = timedelta(days=1)
_GIVE_UP_AFTER = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """The contacts of an instance that completed in the hour from `start` on, as they were counted last.

    `missing` of the `completed` ones have no capture that their own completion brought about; `missing_ids` names up to
    100 of them. `visits` are those that ended; `searched_to` is how far an unfinished one got, with its counts so far.
    `searched_at` is when the last search of all of it began, `asked_since` when all that is missing had been asked
    for. `due_at` is None once it is closed; `is_backfill` says that it waits until everything else is done.
    """

    instance_id: str
    start: datetime
    completed: int = 0
    captured: int = 0
    missing: int = 0
    missing_ids: tuple[str, ...] = ()
    visits: int = 0
    searched_to: datetime | None = None
    searched_at: datetime | None = None
    asked_since: datetime | None = None
    closed_at: datetime | None = None
    due_at: datetime | None = None
    is_backfill: bool = False

    @property
    def end(self) -> datetime:
        """The end of the hour, which is not in it."""
        return self.start + HOUR

    @property
    def needs_search(self) -> bool:
        """Whether the ledger alone can't tell: a visit is unfinished, nothing is missing, or not all ids are known."""
        return self.searched_to is not None or self.searched_at is None or not 0 < self.missing <= len(self.missing_ids)

    @property
    def asks(self) -> bool:
        """Whether what is found missing is to be asked for: once it was, its message is tried for days."""
        return self.asked_since is None

    @property
    def is_given_up(self) -> bool:
        """Whether it was closed with contacts missing."""
        return self.closed_at is not None and self.missing > 0

    def begin_search(self, now: datetime) -> "Hour":
        """Begin a visit, or go on with the one that was not finished."""
        if self.searched_to is not None:
            return self
        return replace(
            self, searched_to=self.start, searched_at=now, completed=0, captured=0, missing=0, missing_ids=()
        )

    def count(self, found: Collection[str], missing: Collection[str], *, until: datetime) -> "Hour":
        """Add contacts of a visit, found up to `until`."""
        ids = (*self.missing_ids, *missing)[:MAX_MISSING_IDS]
        return replace(
            self,
            completed=self.completed + len(found),
            captured=self.captured + len(found) - len(missing),
            missing=self.missing + len(missing),
            missing_ids=ids,
            searched_to=until,
        )

    def look_up(self, still_missing: Collection[str], now: datetime) -> "Hour":
        """Visit without a search: what was missing is looked up in the ledger."""
        ids = tuple(name for name in self.missing_ids if name in still_missing)
        captured = self.captured + self.missing - len(ids)
        return replace(self, captured=captured, missing=len(ids), missing_ids=ids).end_visit(now)

    def end_visit(self, now: datetime) -> "Hour":
        """End a visit: close the hour, or say when to look again.

        With nothing missing it is searched once more three hours later, for what was indexed late, and then closed.
        Else it is due after 30 minutes, doubling up to a day, and given up seven days after all of it was asked for.

        >>> noon = datetime(2026, 3, 1, 12)
        >>> first = Hour(instance_id="i", start=noon).begin_search(noon + 2 * HOUR)
        >>> nothing_missing = first.count(["a"], [], until=noon + HOUR).end_visit(noon + 2 * HOUR)
        >>> nothing_missing.due_at - noon, nothing_missing.needs_search
        (datetime.timedelta(seconds=18000), True)
        >>> second = nothing_missing.begin_search(noon + 5 * HOUR).count(["a"], [], until=noon + HOUR)
        >>> second.end_visit(noon + 5 * HOUR).due_at is None
        True
        >>> missing = first.count(["a", "b"], ["b"], until=noon + HOUR).end_visit(noon + 2 * HOUR)
        >>> missing.due_at - noon, missing.needs_search, missing.asks
        (datetime.timedelta(seconds=9000), False, False)
        >>> again = missing.look_up(["b"], noon + 3 * HOUR)
        >>> again.due_at - noon, again.visits
        (datetime.timedelta(seconds=14400), 2)
        >>> missing.look_up([], noon + 3 * HOUR).due_at - noon
        datetime.timedelta(seconds=18000)
        >>> missing.look_up(["b"], noon + timedelta(days=8)).is_given_up
        True
        """
        ended = replace(self, visits=self.visits + 1, searched_to=None)
        searched_at = ended.searched_at or now
        if not ended.missing:
            ended = replace(ended, asked_since=None)
            if searched_at >= ended.end + _INDEXED_AFTER:
                return replace(ended, closed_at=now, due_at=None)
            return replace(ended, due_at=max(now, searched_at + _INDEXED_AFTER - OPEN_AFTER))
        asked_since = ended.asked_since or now
        if now >= asked_since + _GIVE_UP_AFTER:
            return replace(ended, asked_since=asked_since, closed_at=now, due_at=None)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(ended.visits - 1, 6))
        due_at = min(now + pause, asked_since + _GIVE_UP_AFTER)
        if searched_at < ended.end + _INDEXED_AFTER <= due_at:
            # Searched once more then, and all that is missing asked for: what was indexed late never was.
            return replace(ended, searched_at=None, asked_since=None, due_at=due_at)
        return replace(ended, asked_since=asked_since, due_at=due_at)


def floor_to_hour(moment: datetime) -> datetime:
    """Return the start of the hour that a moment is in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def group_adjacent(hours: Collection[Hour]) -> list[list[Hour]]:
    """Group hours of an instance to be searched together: adjacent ones, a day at most, the newest group first.

    An unfinished visit goes on in the middle of its hour, so that its hour begins a group.

    >>> noon = datetime(2026, 3, 1, 12)
    >>> hours = [Hour(instance_id="i", start=noon + n * HOUR) for n in (3, 0, 1, 4)]
    >>> [[hour.start.hour for hour in group] for group in group_adjacent(hours)]
    [[15, 16], [12, 13]]
    """
    groups: list[list[Hour]] = []
    for hour in sorted(hours, key=lambda hour: hour.start):
        group = groups[-1] if groups else []
        if group and group[-1].end == hour.start and len(group) < 24 and hour.searched_to is None:
            group.append(hour)
        else:
            groups.append([hour])
    return groups[::-1]
