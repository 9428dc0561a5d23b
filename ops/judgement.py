"""What is known of a deployment, and what of it a person has to act on: facts, and the pure judgement over them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

HARD_SHARE = 0.2
"""Of its calls: throttled as often, capturing hardly gets on."""

_OLD_MESSAGE = timedelta(hours=1)
_MISSING_FOR = timedelta(hours=2)
_TABLES_BEHIND = timedelta(hours=3)
_MISSED_RUNS = 3
_FEW_FAILURES = 3
_FAILED_SHARE = 0.1
_RECENTLY = timedelta(minutes=5)
_MINUTE = timedelta(minutes=1)
# What happens now and then, and passes by itself: others were faster, the deadline near, the contact not visible yet.
_PASSING = {"Overtaken", "Contended", "NotStarted", "NotCommitted", "ResourceNotFoundException", "LeaseLost"}


class Level(StrEnum):
    """How bad a finding is: a person acts on what is red, and watches what is yellow."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@dataclass(frozen=True)
class Finding:
    """What is to be said of one subject; `command` helps, and one of the toolkit's own begins with `ops`."""

    level: Level
    subject: str
    sentence: str
    command: str | None = None


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Messages of the capture queue, about; `in_flight` are worked on, or wait after a failure."""

    waiting: int = 0
    in_flight: int = 0
    delayed: int = 0
    oldest_seconds: float | None = None

    @property
    def total(self) -> int:
        """All of them."""
        return self.waiting + self.in_flight + self.delayed


@dataclass(frozen=True)
class Reason:
    """Why dead letters are there, and how many of those that were looked at."""

    error: str
    reason: str
    count: int


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """How many there are, about, and the reasons of those that were looked at, the most frequent first."""

    count: int = 0
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Calls of ListContactReferences in so many minutes, what came of contacts, and the most calls a second.

    `throttled_at` and `captured_at` are when an invocation last ended that met a throttled call, and one that captured.
    """

    minutes: int
    calls: int = 0
    throttled: int = 0
    done: int = 0
    failed: int = 0
    throttled_at: datetime | None = None
    captured_at: datetime | None = None
    share: float = 8.0

    @property
    def throttled_share(self) -> float:
        """How much of the calls was refused for its rate."""
        return self.throttled / self.calls if self.calls else 0.0

    def has_captured_since(self, at: datetime | None) -> bool:
        """Whether a contact was captured after a moment."""
        return at is not None and self.captured_at is not None and self.captured_at > at


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Log lines of a function that say the same of a failure."""

    message: str
    error: str
    reason: str
    is_error: bool
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function's last minutes: invocations, those that failed and those refused, and what its log tells of failures.

    `failed_at` is the begin of the minute of the last invocation that failed, `throttled_periods` in how many periods
    of five minutes at least one was refused. Of a log that says very much, failures are those since `log_since`.
    """

    name: str
    log_group: str
    minutes: int
    invocations: int = 0
    errors: int = 0
    throttles: int = 0
    throttled_periods: int = 0
    failed_at: datetime | None = None
    failures: tuple[Failure, ...] = ()
    log_since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Contacts of an hour that its last visit found missing, all asked for since a moment, and not captured by now."""

    hour: datetime
    count: int
    asked_since: datetime | None = None
    is_given_up: bool = False
    is_backfill: bool = False


@dataclass(frozen=True, kw_only=True)
class InstanceFacts:
    """How far an instance's contacts are accounted for; `found_missing` are those of its open hours' last visits.

    Of the `damaged` hours nothing is known: their items cannot be read.
    """

    instance_id: str
    hours_open: int = 0
    backfill_hours_open: int = 0
    rechecks_due: int = 0
    found_missing: int = 0
    missing: tuple[Missing, ...] = ()
    damaged: tuple[datetime, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reconcile:
    """When the last run ended, or, while one is at work, when it has to; None before the first."""

    held_until: datetime | None = None
    every: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Days of which the lake has something that the tables do not, and since when."""

    days_behind: int = 0
    oldest_date: str | None = None
    behind_since: datetime | None = None


@dataclass(frozen=True)
class Alarm:
    """An alarm that is in the state ALARM."""

    name: str
    description: str
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known at a moment."""

    now: datetime
    stage: str = "dev"
    queue: Queue = field(default_factory=Queue)
    dead_letters: DeadLetters = field(default_factory=DeadLetters)
    calls: Calls = field(default_factory=lambda: Calls(minutes=15))
    functions: tuple[Function, ...] = ()
    instances: tuple[InstanceFacts, ...] = ()
    reconcile: Reconcile = field(default_factory=Reconcile)
    tables: Tables = field(default_factory=Tables)
    alarms: tuple[Alarm, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    """What could not be read, and why: what else is said of it is not known."""


def judge(facts: Facts) -> list[Finding]:
    """Return at least one finding for each subject, in the order a person looks.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> quiet = Facts(now=noon, reconcile=Reconcile(held_until=noon - timedelta(minutes=5)))
    >>> sorted({finding.level.value for finding in judge(quiet)})
    ['green']
    """
    return [
        *(Finding(Level.RED, name, f"cannot be read: {why}", "ops status") for name, why in facts.unreadable),
        *_judge_alarms(facts),
        *_judge_queue(facts),
        *_judge_dead_letters(facts),
        *_judge_calls(facts),
        *_judge_contacts(facts),
        *_judge_reconcile(facts),
        *_judge_tables(facts),
        *_judge_functions(facts),
    ]


def worst(findings: Collection[Finding]) -> Level:
    """Return the worst level of findings.

    >>> worst([Finding(Level.GREEN, "queue", "is empty"), Finding(Level.YELLOW, "tables", "are behind")]).value
    'yellow'
    """
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.GREEN)


def _judge_alarms(facts: Facts) -> Iterator[Finding]:
    for alarm in facts.alarms:
        address = next((word for word in alarm.description.split() if "runbook" in word), None)
        sentence = f"{alarm.name} is in ALARM since {_at(alarm.since, facts.now)}"
        yield Finding(Level.RED, "alarm", sentence, address)


def _judge_queue(facts: Facts) -> Iterator[Finding]:
    queue = facts.queue
    said = f"{queue.waiting} waiting, {queue.in_flight} in flight or backing off, {queue.delayed} delayed"
    drained = timedelta(seconds=queue.waiting * 2 / facts.calls.share)
    if queue.oldest_seconds is not None and queue.oldest_seconds > _OLD_MESSAGE.total_seconds():
        said += f"; the oldest is there for {_span(timedelta(seconds=queue.oldest_seconds))}"
        yield Finding(Level.RED, "queue", said, "ops status --watch")
    elif drained > timedelta(minutes=15):
        yield Finding(Level.YELLOW, "queue", f"{said}; at the rate it takes {_span(drained)} to get through")
    else:
        yield Finding(Level.GREEN, "queue", said)


def _judge_dead_letters(facts: Facts) -> Iterator[Finding]:
    letters = facts.dead_letters
    if not letters.count and not letters.reasons:
        yield Finding(Level.GREEN, "dead letters", "none")
        return
    seen = sum(reason.count for reason in letters.reasons)
    total = max(letters.count, seen)
    yield Finding(
        Level.RED,
        "dead letters",
        f"{total} messages cannot be captured as they are: mend what their reasons name, then redrive",
        "ops dead-letters list",
    )
    for reason in letters.reasons:
        yield Finding(Level.RED, "dead letters", f"{reason.count} of {reason.error}: {reason.reason}")


def _judge_calls(facts: Facts) -> Iterator[Finding]:
    calls = facts.calls
    rate = calls.calls / (60 * calls.minutes)
    said = (
        f"{calls.calls} calls in {calls.minutes} min, {rate:.1f} a second of the {calls.share:g} that are this "
        f"system's; {calls.throttled} throttled"
    )
    if calls.throttled < 5 or calls.throttled_share < 0.05:
        yield Finding(Level.GREEN, "Connect API", said)
        return
    said += f" ({calls.throttled_share:.0%})"
    if calls.throttled_share >= HARD_SHARE and facts.queue.total and not calls.has_captured_since(calls.throttled_at):
        yield Finding(
            Level.RED,
            "Connect API",
            f"{said}: others use the account's quota up, or it is smaller than connectRequestsPerSecond says",
            "aws service-quotas list-service-quotas --service-code connect",
        )
    else:
        yield Finding(Level.YELLOW, "Connect API", f"{said}; the pace gives way by itself")


def _judge_contacts(facts: Facts) -> Iterator[Finding]:
    for instance in facts.instances:
        name = f"instance {instance.instance_id}"
        live = [part for part in instance.missing if not part.is_backfill and not part.is_given_up]
        late = [part for part in live if facts.now - part.hour - timedelta(hours=1) >= _MISSING_FOR]
        given_up = [part for part in instance.missing if part.is_given_up]
        past = [part for part in instance.missing if part.is_backfill and not part.is_given_up]
        said = f"{instance.hours_open} hours open, {instance.backfill_hours_open} of the backfill, "
        said += f"{instance.rechecks_due} rechecks due"
        if late:
            yield Finding(
                Level.RED,
                name,
                f"{_count(late)} contacts completed over two hours ago and are not captured",
                _look_at(facts, late),
            )
        elif live:
            yield Finding(Level.YELLOW, name, f"{_count(live)} contacts are missing, and asked for", "ops coverage")
        elif instance.found_missing:
            yield Finding(
                Level.YELLOW,
                name,
                f"no event told of {instance.found_missing} contacts; they were found by searching, and are captured",
                "ops coverage",
            )
        if given_up:
            yield Finding(
                Level.RED,
                name,
                f"{_count(given_up)} contacts were asked for and not captured in seven days: given up",
                f"ops backfill {_period(given_up)}",
            )
        for hour in instance.damaged:
            said_of_hour = f"the hour from {hour:%Y-%m-%d %H:%MZ} on cannot be read: no run visits it"
            command = f"ops backfill {_hours([hour])} --instance {instance.instance_id}"
            yield Finding(Level.RED, name, said_of_hour, command)
        held_up = [part for part in past if part.asked_since and facts.now - part.asked_since >= _MISSING_FOR]
        if held_up:
            yield Finding(
                Level.RED,
                name,
                f"{_count(held_up)} contacts of the past were asked for over two hours ago and are not captured",
                _look_at(facts, held_up),
            )
        level = Level.YELLOW if past else Level.GREEN
        yield Finding(level, name, said + (f"; {_count(past)} missing in hours of the past" if past else ""))


def _look_at(facts: Facts, parts: Collection[Missing]) -> str:
    """Return the command that shows what holds contacts up that were asked for: to ask again would do nothing."""
    return "ops dead-letters list" if facts.dead_letters.count else f"ops coverage {_period(parts)}"


def _judge_reconcile(facts: Facts) -> Iterator[Finding]:
    run = facts.reconcile
    function = next((function for function in facts.functions if function.name == "reconcile"), None)
    if run.held_until is None:
        level = Level.RED if function and function.errors else Level.YELLOW
        yield Finding(level, "reconcile", "has not run yet", _invoke(facts.now))
    elif run.held_until > facts.now:
        yield Finding(Level.GREEN, "reconcile", f"a run is at work, until {_at(run.held_until, facts.now)} at most")
    else:
        ago = facts.now - run.held_until
        said = f"the last run ended {_span(ago)} ago; it runs every {_span(run.every)}"
        if ago > _MISSED_RUNS * run.every:
            yield Finding(Level.RED, "reconcile", f"does not run: {said}", _invoke(facts.now))
        else:
            yield Finding(Level.GREEN, "reconcile", said)


def _judge_tables(facts: Facts) -> Iterator[Finding]:
    tables = facts.tables
    if tables.behind_since is None or tables.oldest_date is None:
        yield Finding(Level.GREEN, "tables", "have all that the lake has")
        return
    ago = facts.now - tables.behind_since
    days = "a day is" if tables.days_behind == 1 else f"{tables.days_behind} days are"
    said = f"{days} behind the lake, {tables.oldest_date} for {_span(ago)}"
    if ago > _TABLES_BEHIND:
        after = f"{datetime.fromisoformat(tables.oldest_date) + timedelta(days=1):%Y-%m-%d}"
        command = f"ops rebuild tables --from {tables.oldest_date} --to {after}"
        yield Finding(Level.RED, "tables", f"{said}: they are not written", command)
    else:
        yield Finding(Level.GREEN, "tables", f"{said}; they are written each hour")


def _judge_functions(facts: Facts) -> Iterator[Finding]:
    for function in facts.functions:
        subject = f"function {function.name}"
        found = list(_judge_function(facts, function, subject))
        if not found:
            said = f"{function.invocations} invocations in {_span(timedelta(minutes=function.minutes))}, no failure"
            found.append(Finding(Level.GREEN, subject, said))
        yield from found


def _judge_function(facts: Facts, function: Function, subject: str) -> Iterator[Finding]:
    tail = f"aws logs tail {function.log_group} --since {function.minutes}m"
    if function.log_since is not None:
        since = f"{function.log_since:%H:%M:%SZ}"
        yield Finding(Level.YELLOW, subject, f"its log says very much: counts of it are partial, those since {since}")
    past = []
    for failure in function.failures:
        level = _judge_failure(facts, function, failure)
        if level is Level.YELLOW:
            past.append(f"{failure.count} of {failure.error or failure.message}")
        elif level is Level.RED:
            said = f"{failure.message}: {failure.count} of {failure.error}: {failure.reason}"
            is_denied = "Denied" in failure.error
            help_ = f"npx cdk deploy --all --revert-drift -c stage={facts.stage}" if is_denied else tail
            yield Finding(level, subject, f"{said}, last {_at(failure.last_at, facts.now)}", help_)
    if past:
        yield Finding(Level.YELLOW, subject, f"failures that are over, or few, or pass: {', '.join(past)}")
    if function.errors and function.failed_at is not None:
        is_often = _is_often(function.errors, function.invocations)
        is_failing = _fails_still(facts, function, function.failed_at, is_often=is_often, is_minute=True)
        said = f"{function.errors} of {function.invocations} invocations failed, last {_at(function.failed_at)}"
        yield Finding(Level.RED if is_failing else Level.YELLOW, subject, said, tail if is_failing else None)
    if function.throttles:
        is_often = _is_often(function.throttles, function.invocations + function.throttles)
        said = f"{function.throttles} invocations were refused: the account's concurrency is used up"
        if is_often or function.throttled_periods > 1:
            yield Finding(Level.RED, subject, said, "aws lambda get-account-settings")
        else:
            yield Finding(Level.YELLOW, subject, f"{said}, once for a moment")


def _judge_failure(facts: Facts, function: Function, failure: Failure) -> Level:
    """Judge a failure: what is over, rare or passing is watched; a dead letter's is told of with the dead letters."""
    dead = {(reason.error, reason.reason) for reason in facts.dead_letters.reasons}
    if (failure.error, failure.reason) in dead:
        return Level.GREEN
    contacts = facts.calls.done + facts.calls.failed
    is_often = _is_often(failure.count, contacts)
    if (
        not failure.error
        or failure.error in _PASSING
        or not _fails_still(facts, function, failure.last_at, is_often=is_often, is_minute=False)
    ):
        return Level.YELLOW
    if failure.is_error:
        return Level.RED
    is_much = facts.calls.failed >= _FAILED_SHARE * contacts
    return Level.RED if failure.count >= _FEW_FAILURES and is_much else Level.YELLOW


def _is_often(failures: int, tries: int) -> bool:
    return failures >= _FEW_FAILURES and failures >= _FAILED_SHARE * tries


def _fails_still(facts: Facts, function: Function, at: datetime, *, is_often: bool, is_minute: bool) -> bool:
    """Whether nothing shows that the function got through its work since it failed, in the minute or moment `at`.

    What a capture failed with is on the queue until it is captured, and other contacts show whether that goes again,
    but for a while not if much fails: some go through a storm. A run of reconcile that has failed tells so after it
    gave the lease back; a run of tables that got through leaves no older mark.
    """
    if function.name == "capture":
        is_storm = is_often and facts.now - at <= _RECENTLY
        return facts.queue.total > 0 and (is_storm or not facts.calls.has_captured_since(at))
    if function.name == "reconcile":
        run = facts.reconcile
        if run.held_until is None:
            return True
        if run.held_until <= facts.now:
            return at >= run.held_until
        # The run that is at work took the lease for the time it had; what failed before, it may get through.
        return at + (_MINUTE if is_minute else timedelta()) >= run.held_until - run.every
    if function.name == "tables":
        since = facts.tables.behind_since
        return since is not None and since <= at + (_MINUTE if is_minute else timedelta())
    return function.errors >= _FAILED_SHARE * function.invocations


def _invoke(now: datetime) -> str:
    """Return the command that starts runs: a backfill of the last hours, which also works all else that is due."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    return f"ops backfill --from {hour - timedelta(hours=24):%Y-%m-%dT%H:00Z} --to {hour:%Y-%m-%dT%H:00Z}"


def _count(parts: Collection[Missing]) -> int:
    return sum(part.count for part in parts)


def _period(parts: Collection[Missing]) -> str:
    return _hours([part.hour for part in parts])


def _hours(hours: Collection[datetime]) -> str:
    return f"--from {min(hours):%Y-%m-%dT%H:00Z} --to {max(hours) + timedelta(hours=1):%Y-%m-%dT%H:00Z}"


def _at(moment: datetime, now: datetime | None = None) -> str:
    """Return a time of the day, with its date if that is not today's.

    >>> _at(datetime(2026, 3, 2, 9, 30), datetime(2026, 3, 2, 12)), _at(datetime(2026, 3, 1), datetime(2026, 3, 2))
    ('09:30Z', '03-01 00:00Z')
    """
    return f"{moment:%H:%MZ}" if now is None or moment.date() == now.date() else f"{moment:%m-%d %H:%MZ}"


def _span(span: timedelta) -> str:
    """Return a length of time in the unit that says enough.

    >>> [_span(timedelta(seconds=seconds)) for seconds in (5, 90, 600, 7200, 200_000)]
    ['5 s', '90 s', '10 min', '2 h', '55 h']
    """
    seconds = max(0, round(span.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
