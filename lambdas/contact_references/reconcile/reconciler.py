"""Accounts for every completed contact: a run works what is due, one run at a time.

Contact events are best effort, references change after completion, and contacts completed before the first
deployment. Each hour that is not accounted for and each contact that may still change is an item with a due time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from contact_references.aws.worklist import Opened, Worklist, recheck_key
from contact_references.model.contact import Instance
from contact_references.model.errors import CaptureError, RetriableError
from contact_references.reconcile.feeding import Feeder
from contact_references.reconcile.hours import Hours, Steps
from contact_references.reconcile.rechecks import Rechecks
from contact_references.reconcile.report import Gauges, ReconcileReport


@dataclass(slots=True)
class Run:
    """A run: until when there is time to begin a step, and what failed of which instance, and hindered no other."""

    has_time: Callable[[], bool]
    had_turns: set[Instance] = field(default_factory=set)
    failures: list[tuple[Instance, CaptureError]] = field(default_factory=list)

    @contextmanager
    def failing_alone(self, instance: Instance) -> Iterator[None]:
        """Let a failure within be that of one instance."""
        try:
            yield
        except CaptureError as error:
            self.failures.append((instance, error))
        except Exception as error:  # noqa: BLE001 - a defect met in one instance must not stop the others
            self.failures.append((instance, RetriableError(type(error).__name__, "unexpected")))

    def take_turns(self, works: Iterable[tuple[Instance, Steps]]) -> None:
        """Do all works, step by step in turns."""
        waiting = deque(works)
        while waiting and self.has_time():
            instance, steps = waiting.popleft()
            with self.failing_alone(instance):
                for _ in steps:
                    self.had_turns.add(instance)
                    waiting.append((instance, steps))
                    break


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciler:
    """Works what is due; `seconds_per_step` is about how long the longest step takes."""

    hours: Hours
    rechecks: Rechecks
    worklist: Worklist
    feeder: Feeder
    report: ReconcileReport
    seconds_per_step: float
    clock: Callable[[], datetime]

    def run(self, instances: Sequence[Instance], *, holder: str, time_left: Callable[[], float]) -> bool:
        """Work what is due until there is no more of it, no slot for a request or no time; False if another run does.

        Instances take turns, the one searched least recently first: with their hours and rechecks, and when all that is
        done, with their hours of the past. Raises the first error, when all else is done.
        """
        now = self.clock()
        lease = self.worklist.take_lease(holder, now=now, until=now + timedelta(seconds=time_left()))
        if lease is None:
            return False
        enough = min(self.seconds_per_step, time_left() / 2)
        run = Run(has_time=lambda: time_left() > enough)
        try:
            self.feeder.begin(lease)
            self._work(instances, run)
        finally:
            self.feeder.end()
        for instance, error in run.failures:
            self.report.failed(instance, error)
        if run.failures:
            raise run.failures[0][1]
        return True

    def _work(self, instances: Sequence[Instance], run: Run) -> None:
        opened: dict[Instance, Opened] = {}
        for instance in instances:
            with run.failing_alone(instance):
                opened[instance] = self.hours.open(instance)
        turns = sorted(opened, key=lambda instance: str(opened[instance].searched_at or ""))
        run.take_turns(
            (instance, steps)
            for instance in turns
            for steps in (self.hours.visit_due(instance, is_backfill=False), self.rechecks.ask_for_due(instance))
        )
        run.take_turns((instance, self.hours.visit_due(instance, is_backfill=True)) for instance in turns)
        for instance in turns:
            with run.failing_alone(instance):
                if instance in run.had_turns:
                    self.worklist.save_opened(instance, replace(opened[instance], searched_at=self.clock()))
                self.report.gauges(instance, self._measure(instance))

    def _measure(self, instance: Instance) -> Gauges:
        missing, hours_open, past_hours_open = self.hours.measure(instance)
        rechecks_due = self.worklist.count_due(recheck_key(instance), until=self.clock())
        return Gauges(missing, hours_open, past_hours_open, rechecks_due)
