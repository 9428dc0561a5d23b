"""Reconciling at request: a period by hand, or a backfill that walks months of them a window at a time."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from contact_references.contact import Instance
from contact_references.journal import Journal
from contact_references.periods import InvalidPeriodError, parse_period, split_windows
from contact_references.reconcile import Reconciler, Work
from contact_references.timestamps import format_time

Answer = dict[str, Any]


class Backfill:
    """Plans a backfill and works on its windows; `find_instances` returns those that may be asked for."""

    def __init__(
        self,
        *,
        reconciler: Reconciler,
        journal: Journal,
        find_instances: Callable[[], Sequence[Instance]],
        clock: Callable[[], datetime],
    ) -> None:
        self._reconciler = reconciler
        self._journal = journal
        self._find_instances = find_instances
        self._clock = clock

    def plan(self, name: str, period: Mapping[str, object]) -> Answer:
        """Begin the record of a backfill and return its windows, `{"windows": [{"from", "to", …}, …]}`.

        Each of them is an event for the function. Raises InvalidPeriodError.
        """
        start, end = parse_period(period, now=self._clock())
        self._choose_instances(period)
        windows = [
            {**period, "from": format_time(first), "to": format_time(last), "backfill": name}
            for first, last in split_windows(start, end)
        ]
        self._journal.begin_backfill(name, start=start, end=end, windows=len(windows))
        return {"windows": windows}

    def advance_window(self, name: str, period: Mapping[str, object], *, time_left: Callable[[], float]) -> Answer:
        """Do one round's work on a window, from where the last round got to, whether that ended or was cut off.

        Raises InvalidPeriodError, and what `Reconciler.advance` does.
        """
        window = str(period.get("from"))
        # Its plan was checked: by a window's turn its beginning may be beyond what Connect keeps.
        work = self._period_work(period, is_checked=True)
        begun = self._journal.find_window(name, window)
        if begun is not None:
            work.left, work.counts = begun
        save = partial(self._journal.note_window, name, window, left=work.left, counts=work.counts)
        work.save = lambda _: save()
        if begun is None:
            save()
        seconds = self._reconciler.advance(work, time_left=time_left) if work.left else 0
        return summarize(work, wait_seconds=seconds)

    def run_period(self, period: Mapping[str, object], *, time_left: Callable[[], float]) -> Answer:
        """Work on a period until it is done or the time is over; raises as `advance_window` does."""
        work = self._period_work(period)
        self._reconciler.run(work, time_left=time_left)
        return summarize(work)

    def _period_work(self, period: Mapping[str, object], *, is_checked: bool = False) -> Work:
        start, end = parse_period(period, now=self._clock(), is_checked=is_checked)
        instances = self._choose_instances(period)
        return self._reconciler.past_work(instances, start, end)

    def _choose_instances(self, period: Mapping[str, object]) -> Sequence[Instance]:
        """Return the instance that is asked for, or all; raises InvalidPeriodError for one that is not known."""
        known = ("from", "to", "instanceArn")
        if unknown := [name for name in period if name not in known]:
            raise InvalidPeriodError(f"{', '.join(map(repr, unknown))}: give {', '.join(known)}, nothing else")
        instances = self._find_instances()
        if "instanceArn" not in period:
            return instances
        arn = period["instanceArn"]
        try:
            instance = Instance.from_arn(str(arn))
        except ValueError as error:
            raise InvalidPeriodError(f"instanceArn ({arn}) is {error}") from None
        if instance not in instances:
            ids = ", ".join(sorted(each.instance_id for each in instances)) or "none"
            raise InvalidPeriodError(f"instanceArn ({arn}) is not an instance of this deployment; those are: {ids}")
        return [instance]


def summarize(work: Work, *, wait_seconds: int = 0) -> Answer:
    """Return what the function answers about work: whether it is done, when to go on, the counts, what is left."""
    left = [
        {"instanceId": period.instance.instance_id, "from": format_time(period.start), "to": format_time(period.end)}
        for period in work.left
    ]
    return {"done": work.is_done, "wait_seconds": wait_seconds, **work.counts, **({"left": left} if left else {})}
