"""Has a deployment account for a period of the past, and shows how far it is."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError

from contact_references.model.contact import Instance
from contact_references.model.coverage import HOUR, Hour, floor_to_hour
from contact_references.model.environment import read_retention
from contact_references.model.periods import InvalidPeriodError, parse_backfill
from contact_references.model.timestamps import format_time
from ops.console import JsonOption, YesOption, ask, make_console, make_progress, print_json
from ops.coverage import find_captured, find_hours
from ops.deployment import Deployment, InstanceOption, deployment_of, program_of
from ops.errors import OpsError
from ops.periods import FromOption, ToOption

Json = dict[str, Any]

_LOOK_SECONDS = 0.5
_HOURS_A_SECOND = 200  # that are looked at, at most
# Between runs: until another that is at work has ended, and until there is room for more requests.
_BUSY_SECONDS = 2
_FULL_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a backfill is: of its hours, those that runs have visited and closed; contacts asked for, and missing.

    `missing` are contacts that the last visits found missing and that are not captured by now, `found_missing` all of
    them; of an hour with over a hundred, a hundred. The next visit of an open hour is at `next_visit_at`.
    """

    hours: int
    visited: int = 0
    closed: int = 0
    requested: int = 0
    found_missing: int = 0
    missing: int = 0
    next_visit_at: datetime | None = None
    last_visit_at: datetime | None = None

    @property
    def open(self) -> int:
        """Hours that are to be visited again."""
        return self.hours - self.closed


def reconcile(deployment: Deployment, payload: Mapping[str, str] | None = None) -> Json:
    """Invoke the reconcile function and return its answer.

    Args:
        deployment: whose function it is.
        payload: `{"from": …, "to": …}` of a backfill, perhaps with `instanceArn`; nothing works what is due.

    Raises:
        OpsError: the function failed, or refuses what it was given; the message is its own.
    """
    answer = deployment.clients.functions.invoke(
        FunctionName=deployment.output("ReconcileFunctionName"), Payload=json.dumps(dict(payload or {})).encode()
    )
    result: Json = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise OpsError(f"the reconcile function failed: {result.get('errorMessage', result)}")
    return result


def has_run(answer: Json) -> bool:
    """Whether a run worked what was due: False if another one was at work already."""
    return not answer["outcome"].startswith("another run")


def find_period(
    deployment: Deployment, instances: Sequence[Instance], start: datetime, end: datetime, *, now: datetime
) -> tuple[datetime, datetime]:
    """Return the ends of the hours of a period that are due; the same if there is none.

    Raises:
        OpsError: the period is reversed, in the future, or beyond what is kept.
    """
    event = {name: _spell(moment) for name, moment in (("from", start), ("to", end))}
    try:
        found = parse_backfill(event, instances=instances, now=now, retention=read_retention(deployment.settings))
    except InvalidPeriodError as error:
        raise OpsError(str(error)) from None
    first = floor_to_hour(start)
    return first, found.hours[-1] + HOUR if found.hours else first


def _spell(moment: datetime) -> str:
    """Return a time as short as a person would give it."""
    text = format_time(moment)
    return text.removesuffix("T00:00:00.000Z").replace(":00.000Z", "Z")


def follow_backfill(
    deployment: Deployment,
    instances: Sequence[Instance],
    start: datetime,
    end: datetime,
    *,
    seconds: float,
    report: Callable[[Progress], None],
) -> Progress:
    """Mark hours, start runs until each was visited, and wait until what they asked for is captured; return how far.

    Ended in between, the hours stay due: any run goes on with them, in AWS the next that the schedule starts.

    Args:
        deployment: that runs.
        instances: whose hours.
        start: a whole hour.
        end: likewise.
        seconds: to wait at most for what was asked for, after the last visit; no longer than the queue has messages.
        report: told how far it is, some times a second.

    Raises:
        OpsError: the function refuses the period, or a run failed.
    """
    period = {"from": format_time(start), "to": format_time(end)}
    payloads = [period | {"instanceArn": instance.arn} for instance in instances]
    marked = sum(int(reconcile(deployment, payload)["hours"]) for payload in payloads)
    requested = 0
    pause = max(_LOOK_SECONDS, (end - start) / HOUR * len(instances) / _HOURS_A_SECOND)

    def look() -> tuple[Progress, bool]:
        hours = [hour for instance in instances for hour in find_hours(deployment, instance, start, end)]
        now = datetime.now(UTC)
        is_due = any(hour.due_at is not None and hour.due_at <= now for hour in hours)
        progress = _measure(deployment, hours, marked, requested, now)
        report(progress)
        return progress, is_due

    while look()[1]:
        run = _Run(deployment)
        while run.is_at_work:
            look()
            time.sleep(pause)
        answer = run.answer()
        requested += answer["requested"]
        pause_until = time.monotonic() + (_FULL_SECONDS if has_run(answer) else _BUSY_SECONDS)
        while look()[1] and time.monotonic() < pause_until:
            time.sleep(pause)
    deadline = time.monotonic() + seconds
    while True:
        # Before the look: what leaves the queue is captured then.
        is_queued = any(deployment.count_messages("QueueUrl"))
        progress, _ = look()
        if not progress.missing or not is_queued or time.monotonic() > deadline:
            return progress
        time.sleep(pause)


def _measure(deployment: Deployment, hours: Sequence[Hour], marked: int, requested: int, now: datetime) -> Progress:
    captured = find_captured(deployment, hours)
    found_missing = [contact_id for hour in hours for contact_id in hour.missing_ids]
    due = [hour.due_at for hour in hours if hour.due_at is not None]
    return Progress(
        hours=marked,
        # An hour that was open before is visited when it is due, which may be after this backfill.
        visited=sum(hour.visits > 0 and (hour.due_at is None or hour.due_at > now) for hour in hours),
        closed=max(0, marked - len(due)),
        requested=requested,
        found_missing=len(found_missing),
        missing=sum(contact_id not in captured for contact_id in found_missing),
        next_visit_at=min(due, default=None),
        last_visit_at=max(due, default=None),
    )


class _Run:
    """A run that was started, and that may take a quarter of an hour; this process can end before it."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._outcome: Json | OpsError | ClientError | BotoCoreError | None = None
        self._thread = threading.Thread(target=self._invoke, daemon=True)
        self._thread.start()

    @property
    def is_at_work(self) -> bool:
        return self._thread.is_alive()

    def answer(self) -> Json:
        """Return the function's answer; raises what made it fail."""
        self._thread.join()
        if self._outcome is None:
            raise OpsError("a run of the reconcile function gave no answer: its log says why")
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def _invoke(self) -> None:
        try:
            self._outcome = reconcile(self._deployment)
        except (OpsError, ClientError, BotoCoreError) as error:
            self._outcome = error


def describe(progress: Progress, program: str) -> list[str]:
    """Return what is to be said at the end, a sentence each."""
    lines = [
        f"{progress.visited} hours visited, {progress.requested} contacts asked for.",
        f"{progress.closed} hours are closed.",
    ]
    if progress.open and progress.next_visit_at and progress.last_visit_at:
        since = progress.found_missing - progress.missing
        lines.append(
            f"{progress.open} are open: {progress.found_missing} contacts were missing in them, {since} of which are "
            f"captured by now. Runs from {progress.next_visit_at:%H:%M}Z to {progress.last_visit_at:%H:%M}Z find that, "
            "and close them."
        )
    if progress.missing:
        lines.append(f"{progress.missing} contacts are not captured yet: `{program} status` says what holds them up.")
    return lines


def backfill(
    context: typer.Context,
    *,
    start: FromOption,
    end: ToOption,
    instance: InstanceOption = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="For what was asked for to be captured.")] = 900,
    is_answered: YesOption = False,
    as_document: JsonOption = False,
) -> None:
    """Find and capture contacts of a period of the past, and show progress.

    The period's hours are marked as due, and runs of the reconcile function started until each was visited and what was
    asked for is captured. Hours with nothing missing close at once, or if they ended less than four hours ago by a
    later search. Ctrl-C ends only this command: the hours stay due, and any run goes on with them. The same period
    again costs searches only, as what is captured is not asked for.

    Exit status 1 if the period is refused, a run failed, or contacts are missing still.
    """
    deployment, now = deployment_of(context), datetime.now(UTC)
    program = program_of(context, deployment)
    instances = deployment.instances(instance)
    if not instances:
        raise OpsError("there is no Connect instance in this account and Region")
    # Up to tomorrow is what a person says who means up to now.
    first, last = find_period(deployment, instances, start, min(end, now) if start < now else end, now=now)
    number = (last - first) // HOUR * len(instances)
    if number == 0:
        raise OpsError("no hour of that period is due: each is an hour after its end")
    whose = f"instance {instances[0].instance_id}" if len(instances) == 1 else f"{len(instances)} instances"
    ask(f"Search {number} hours of {whose}, and capture what is missing?", is_answered=is_answered)
    progress = Progress(hours=number)
    errors = make_console(stderr=True)
    try:
        with make_progress(errors) as bar:
            task = bar.add_task("Marking the hours", total=None)

            def report(progress: Progress) -> None:
                text = f"{progress.closed} closed, {progress.missing} contacts to be captured; hours visited"
                bar.update(task, description=text, total=progress.hours, completed=progress.visited)

            progress = follow_backfill(deployment, instances, first, last, seconds=wait, report=report)
    except KeyboardInterrupt:
        what = "The hours that are marked stay due: any run, such as the schedule's next, goes on with them."
        (errors if as_document else make_console()).print(what)
        raise
    if as_document:
        print_json(_as_json(progress))
    else:
        for line in describe(progress, program):
            make_console().print(line, markup=False)
    if progress.missing:
        raise typer.Exit(1)


def _as_json(progress: Progress) -> Json:
    return {
        "hours": progress.hours,
        "visited": progress.visited,
        "closed": progress.closed,
        "open": progress.open,
        "requested": progress.requested,
        "found_missing": progress.found_missing,
        "missing": progress.missing,
        "next_visit_at": format_time(progress.next_visit_at) if progress.next_visit_at else None,
        "last_visit_at": format_time(progress.last_visit_at) if progress.last_visit_at else None,
    }


def register(app: typer.Typer) -> None:
    """Add `backfill`."""
    app.command(epilog="Example: python -m ops backfill --from 2026-10-01T08:00Z --to 2026-10-03")(backfill)
