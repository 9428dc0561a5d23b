"""Has the deployed function account for a running system's contacts: what is due now, or a period of the past."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from local.coverage import Hour, find_hours, list_instances
from local.emulator import LocalSystemError
from local.system import Json, System

_LOOK_SECONDS = 0.5
# Between runs: until another that is at work has ended, and until there is room for more requests.
_BUSY_SECONDS = 2
_FULL_SECONDS = 60


@dataclass(frozen=True)
class Progress:
    """How far a backfill is: its hours, how many of them are open and due, contacts asked for, and messages queued."""

    hours: int
    open: int
    due: int
    requested: int
    queued: int


def reconcile(system: System, payload: Mapping[str, str] | None = None) -> Json:
    """Invoke the deployed reconcile function and return its answer.

    Args:
        system: that runs.
        payload: `{"from": …, "to": …}` of a backfill, perhaps with `instanceArn`; nothing works what is due.

    Raises:
        LocalSystemError: the function failed, or refuses what it was given; the message is its own.
    """
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["ReconcileFunctionName"], Payload=json.dumps(dict(payload or {})).encode()
    )
    result: Json = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise LocalSystemError(f"the reconcile function failed: {result.get('errorMessage', result)}")
    return result


def has_run(answer: Json) -> bool:
    """Whether a run worked what was due: False if another one was at work already."""
    return not answer["outcome"].startswith("another run")


def follow_backfill(
    system: System, period: Mapping[str, str], *, report: Callable[[Progress], None]
) -> tuple[Progress, list[Hour]]:
    """Mark a period, then start runs until each of its hours was visited; return how far it got, and the hours.

    Ended in between, the hours stay due: any run goes on with them.

    Args:
        system: that runs.
        period: as `reconcile` takes it.
        report: told how far it is, some times a second.

    Raises:
        LocalSystemError: the function refuses the period, or a run failed.
    """
    marked = int(reconcile(system, period)["hours"])
    instances = list_instances(system, period.get("instanceArn"))
    start, end = (read_moment(period[name]) for name in ("from", "to"))
    requested = 0

    def look() -> tuple[Progress, list[Hour]]:
        hours = [hour for instance_id in instances for hour in find_hours(system, instance_id, start, end)]
        now = datetime.now(UTC)
        is_open, due = sum(hour.due_at is not None for hour in hours), sum(hour.is_due(now) for hour in hours)
        progress = Progress(marked, is_open, due, requested, system.queued())
        report(progress)
        return progress, hours

    while look()[0].due:
        run = _Run(system)
        while run.is_at_work:
            look()
            time.sleep(_LOOK_SECONDS)
        answer = run.answer()
        requested += answer["requested"]
        pause_until = time.monotonic() + (_FULL_SECONDS if has_run(answer) else _BUSY_SECONDS)
        while look()[0].due and time.monotonic() < pause_until:
            time.sleep(_LOOK_SECONDS)
    return look()


def read_moment(text: str) -> datetime:
    """Read a date or time in ISO 8601; without a zone it is UTC. Raises ValueError for anything else.

    >>> read_moment("2026-03-02T10:30+01:00").isoformat()
    '2026-03-02T09:30:00+00:00'
    """
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class _Run:
    """A run that was started, and that may take a quarter of an hour; this process can end before it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._outcome: Json | LocalSystemError | None = None
        self._thread = threading.Thread(target=self._invoke, daemon=True)
        self._thread.start()

    @property
    def is_at_work(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> Json:
        """Return the function's answer; raises LocalSystemError if it failed."""
        self._thread.join()
        if self._outcome is None:
            raise LocalSystemError("the emulator gave no answer to a run of the reconcile function; see its log")
        if isinstance(self._outcome, LocalSystemError):
            raise self._outcome
        return self._outcome

    def _invoke(self) -> None:
        try:
            self._outcome = reconcile(self._system)
        except LocalSystemError as error:
            self._outcome = error
