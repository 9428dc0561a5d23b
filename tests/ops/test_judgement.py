"""What a person has to act on: a truth table over facts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ops.judgement import (
    Alarm,
    Calls,
    DeadLetters,
    Facts,
    Failure,
    Finding,
    Function,
    InstanceFacts,
    Level,
    Missing,
    Queue,
    Reason,
    Reconcile,
    Tables,
    judge,
    worst,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BUSY = Queue(in_flight=3)
QUIET = Facts(now=NOON, reconcile=Reconcile(held_until=NOON - 5 * MINUTE))


def failure(error: str, reason: str, *, is_error: bool = True, count: int = 5, last_at: datetime = NOON) -> Failure:
    return Failure(
        message="not done",
        error=error,
        reason=reason,
        is_error=is_error,
        count=count,
        first_at=last_at,
        last_at=last_at,
    )


def function(name: str, *failures: Failure, errors: int = 0, failed_at: datetime | None = None) -> Function:
    return Function(
        name=name,
        log_group=f"/log/{name}",
        minutes=15,
        invocations=10,
        errors=errors,
        failed_at=failed_at,
        failures=failures,
    )


def past(*, asked_since: datetime) -> InstanceFacts:
    missing = Missing(hour=NOON - 90 * HOUR, count=500, asked_since=asked_since, is_backfill=True)
    return InstanceFacts(instance_id="i", missing=(missing,))


DENIED = failure("AccessDeniedException", "BatchWriteItem answered 400 AccessDeniedException")
BUCKET = failure("AccessDenied", "PutObject answered 403 AccessDenied")
TABLE = failure("ThrottlingException", "BatchWriteItem answered 400 ThrottlingException", is_error=False)
CONNECT = failure("TooManyRequestsException", "ListContactReferences answered 429", is_error=False)
FAILING = Calls(minutes=15, calls=40, done=2, failed=5)
THROTTLED = replace(FAILING, throttled=20)
LOST = InstanceFacts(instance_id="i", missing=(Missing(hour=NOON - 4 * HOUR, count=3),))
DYING = function("tables", errors=1, failed_at=NOON - MINUTE)
BEHIND = Tables(days_behind=1, oldest_date="2026-03-02", behind_since=NOON - 5 * MINUTE)

BROKEN = {
    "Connect throttles hard": replace(QUIET, queue=BUSY, calls=THROTTLED, functions=(function("capture", CONNECT),)),
    "a role lacks a right": replace(QUIET, queue=BUSY, functions=(function("capture", DENIED),)),
    "messages are poisoned": replace(QUIET, dead_letters=DeadLetters(count=2)),
    "others were captured before": replace(
        QUIET,
        queue=BUSY,
        calls=replace(FAILING, captured_at=NOON - MINUTE),
        functions=(function("capture", DENIED),),
    ),
    "one of very many was captured since": replace(
        QUIET,
        queue=BUSY,
        calls=Calls(minutes=15, calls=3000, done=1500, failed=1500, captured_at=NOON - timedelta(seconds=2)),
        functions=(function("capture", replace(DENIED, count=1500, last_at=NOON - timedelta(seconds=8))),),
    ),
    "many invocations die, and others go on": replace(
        QUIET,
        queue=BUSY,
        calls=replace(FAILING, captured_at=NOON),
        functions=(function("capture", errors=5, failed_at=NOON - 2 * MINUTE),),
    ),
    "a half of the calls is throttled": replace(
        QUIET, queue=BUSY, calls=replace(THROTTLED, throttled_at=NOON, captured_at=NOON)
    ),
    "the table throttles": replace(QUIET, queue=BUSY, calls=FAILING, functions=(function("capture", TABLE),)),
    "events are dropped": replace(QUIET, instances=(LOST,)),
    "the bucket refuses": replace(QUIET, queue=BUSY, functions=(function("capture", BUCKET),)),
    "tables dies": replace(QUIET, functions=(DYING,), tables=BEHIND),
    "an alarm is on": replace(QUIET, alarms=(Alarm("a", "see docs/runbook.md#missing now", NOON),)),
    "the ledger cannot be read": replace(QUIET, unreadable=(("ledger", "Query answered 400 ThrottlingException"),)),
    "messages are old": replace(QUIET, queue=Queue(waiting=1, oldest_seconds=3601)),
    "reconcile stands still": replace(QUIET, reconcile=Reconcile(held_until=NOON - HOUR)),
    "reconcile is denied": replace(QUIET, functions=(function("reconcile", DENIED),)),
    "reconcile dies": replace(QUIET, functions=(function("reconcile", errors=1, failed_at=NOON - MINUTE),)),
    "reconcile never got through": replace(
        QUIET, reconcile=Reconcile(), functions=(function("reconcile", errors=1, failed_at=NOON),)
    ),
    "tables are long behind": replace(QUIET, tables=replace(BEHIND, behind_since=NOON - 4 * HOUR)),
    "lookup fails": replace(QUIET, functions=(function("lookup", errors=3, failed_at=NOON),)),
    "a run at work dies": replace(
        QUIET,
        reconcile=Reconcile(held_until=NOON + 10 * MINUTE),
        functions=(function("reconcile", errors=1, failed_at=NOON - 5 * MINUTE),),
    ),
    "a function is refused again": replace(
        QUIET, functions=(replace(function("lookup"), invocations=900, throttles=2, throttled_periods=2),)
    ),
    "a function is refused more than it runs": replace(
        QUIET, functions=(replace(function("lookup"), throttles=20, throttled_periods=1),)
    ),
    "the backfill does not get on": replace(QUIET, instances=(past(asked_since=NOON - 3 * HOUR),)),
    "an hour is damaged": replace(QUIET, instances=(InstanceFacts(instance_id="i", damaged=(NOON - 5 * HOUR,)),)),
    "contacts are given up": replace(
        QUIET,
        instances=(
            InstanceFacts(instance_id="i", missing=(Missing(hour=NOON - 9 * HOUR, count=1, is_given_up=True),)),
        ),
    ),
}
WATCHED = {
    "what failed is captured since": replace(QUIET, functions=(function("capture", DENIED),)),
    "others are captured since": replace(
        QUIET,
        queue=BUSY,
        calls=replace(FAILING, captured_at=NOON),
        functions=(
            function("capture", replace(DENIED, last_at=NOON - 6 * MINUTE), replace(TABLE, last_at=NOON - 6 * MINUTE)),
        ),
    ),
    "few of many are denied, and others captured since": replace(
        QUIET,
        queue=BUSY,
        calls=replace(FAILING, done=900, captured_at=NOON + MINUTE),
        functions=(function("capture", DENIED),),
    ),
    "many failed, and all is captured since": replace(
        QUIET,
        calls=replace(FAILING, captured_at=NOON),
        functions=(function("capture", replace(DENIED, last_at=NOON - MINUTE)),),
    ),
    "throttled hard, and captured since": replace(
        QUIET, queue=BUSY, calls=replace(THROTTLED, throttled_at=NOON, captured_at=NOON + MINUTE)
    ),
    "few passing failures": replace(
        QUIET, queue=BUSY, calls=FAILING, functions=(function("capture", replace(TABLE, count=2)),)
    ),
    "many, but of very many": replace(
        QUIET, queue=BUSY, calls=replace(FAILING, done=1000), functions=(function("capture", TABLE),)
    ),
    "others were faster": replace(
        QUIET, queue=BUSY, calls=FAILING, functions=(function("capture", failure("Overtaken", "others")),)
    ),
    "throttled a little": replace(QUIET, calls=replace(THROTTLED, calls=200)),
    "throttled hard, and all is captured": replace(QUIET, calls=THROTTLED),
    "reconcile ran since": replace(
        QUIET, functions=(function("reconcile", replace(DENIED, last_at=NOON - 6 * MINUTE)),)
    ),
    "reconcile failed two hours ago, and runs": replace(
        QUIET,
        reconcile=Reconcile(held_until=NOON + 10 * MINUTE),
        functions=(
            function("reconcile", replace(DENIED, last_at=NOON - 2 * HOUR), errors=1, failed_at=NOON - 2 * HOUR),
        ),
    ),
    "a function is refused once": replace(
        QUIET, functions=(replace(function("lookup"), invocations=900, throttles=1, throttled_periods=1),)
    ),
    "tables were written since": replace(QUIET, functions=(DYING,), tables=Tables()),
    "missing, and just asked for": replace(
        QUIET, instances=(InstanceFacts(instance_id="i", missing=(Missing(hour=NOON - 2 * HOUR, count=1),)),)
    ),
    "found by searching": replace(QUIET, instances=(InstanceFacts(instance_id="i", found_missing=2),)),
    "missing in the backfill": replace(
        QUIET,
        instances=(
            InstanceFacts(instance_id="i", missing=(Missing(hour=NOON - 90 * HOUR, count=1, is_backfill=True),)),
        ),
    ),
    "missing in the backfill, and just asked for": replace(QUIET, instances=(past(asked_since=NOON - HOUR),)),
    "a log says very much": replace(QUIET, functions=(replace(function("capture"), log_since=NOON - MINUTE),)),
    "a long queue": replace(QUIET, queue=Queue(waiting=4000)),
    "reconcile has not run yet": replace(QUIET, reconcile=Reconcile()),
}
QUIETLY = {
    "all is quiet": replace(QUIET, functions=tuple(map(function, ("capture", "reconcile", "tables", "lookup")))),
    "a run is at work": replace(QUIET, reconcile=Reconcile(held_until=NOON + MINUTE)),
    "tables are to be written": replace(QUIET, tables=BEHIND),
    "a queue in work": replace(QUIET, queue=Queue(waiting=5, in_flight=2, delayed=9)),
}
TABLE_OF_TRUTH = {
    f"{name}: {level.value}": (facts, level)
    for level, cases in ((Level.RED, BROKEN), (Level.YELLOW, WATCHED), (Level.GREEN, QUIETLY))
    for name, facts in cases.items()
}


@pytest.mark.parametrize(("facts", "level"), TABLE_OF_TRUTH.values(), ids=TABLE_OF_TRUTH)
def test_facts_are_judged(facts: Facts, level: Level) -> None:
    assert worst(judge(facts)) is level


@pytest.mark.parametrize("facts", BROKEN.values(), ids=BROKEN)
def test_each_subject_that_is_red_says_what_helps(facts: Facts) -> None:
    red = [finding for finding in judge(facts) if finding.level is Level.RED]
    helped = {finding.subject for finding in red if finding.command}
    assert {finding.subject for finding in red} == helped


def test_a_failure_that_a_dead_letter_tells_of_is_told_once() -> None:
    dead = failure("InvalidEvent", "detail.contactId is missing")
    letters = DeadLetters(count=1, reasons=(Reason(dead.error, dead.reason, 1),))
    facts = replace(QUIET, queue=BUSY, dead_letters=letters, functions=(function("capture", dead),))
    assert [finding.subject for finding in judge(facts) if dead.reason in finding.sentence] == ["dead letters"]


def test_what_helps_is_named() -> None:
    def commands(name: str) -> list[str | None]:
        return [finding.command for finding in judge(BROKEN[name]) if finding.level is Level.RED]

    assert commands("messages are poisoned") == ["ops dead-letters list"]
    assert commands("a role lacks a right") == ["npx cdk deploy --all --revert-drift -c stage=dev"]
    assert commands("events are dropped") == ["ops coverage --from 2026-03-02T08:00Z --to 2026-03-02T09:00Z"]
    assert commands("the backfill does not get on") == ["ops coverage --from 2026-02-26T18:00Z --to 2026-02-26T19:00Z"]
    assert commands("an hour is damaged") == [
        "ops backfill --from 2026-03-02T07:00Z --to 2026-03-02T08:00Z --instance i"
    ]
    with_letters = judge(replace(BROKEN["events are dropped"], dead_letters=DeadLetters(count=1)))
    assert {finding.command for finding in with_letters if finding.level is Level.RED} == {"ops dead-letters list"}
    assert commands("contacts are given up") == ["ops backfill --from 2026-03-02T03:00Z --to 2026-03-02T04:00Z"]
    assert commands("tables dies") == ["aws logs tail /log/tables --since 15m"]
    assert commands("tables are long behind") == ["ops rebuild tables --from 2026-03-02 --to 2026-03-03"]
    assert commands("an alarm is on") == ["docs/runbook.md#missing"]


def test_the_worst_of_nothing_is_green() -> None:
    assert worst([]) is Level.GREEN
    assert worst([Finding(Level.RED, "a", "b"), Finding(Level.GREEN, "a", "b")]) is Level.RED
