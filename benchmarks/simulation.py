"""The deployed system by a virtual clock: Connect, EventBridge, queue and execution environments in SimPy.

What decides is the real code: intake, capturer, reader, token bucket, ledger, lake, report and the queue's back-off.
Around it stand services in memory (`local.in_memory`) whose calls take time by the virtual clock.

What this approximates:

- An execution environment works through a batch at once, by a clock of its own that runs ahead; SimPy waits for it
  afterwards. What another environment does meanwhile it can't see. They share nothing but Connect's quota, and that is
  kept for each second of the clock, whoever comes first.
- The quota is a number of calls in each whole second. The service's own way of counting is not published.
- A call takes the same time whenever it is made. A completed contact is reported once, and has no transfer.
- The event source has up to five pollers that each gather a batch; those beyond (more concurrency) start when a full
  batch waits. AWS documents five batches at a time to begin with, and up to 300 more a minute:
  https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
"""

import random
from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import simpy

from benchmarks.prices import GB_SECONDS, INVOCATIONS
from contact_references.aws.capture_queue import Message
from contact_references.aws.pacing import TokenBucket
from contact_references.model.contact import Scope
from contact_references.model.reference_types import OTHER_CHANNELS, TypeLists
from local.in_memory.environment import Environment, Services, start_environment
from local.in_memory.events import INSTANCE_ARN, completion_event
from local.in_memory.service import RefusedError
from local.in_memory.usage import QUEUE_REQUESTS, Usage

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 86400.0
MOST_RECEIVES = 200
MEMORY_GB = 0.25
LONG_POLL = 20.0

_SCOPE = Scope("us-east-1", "111122223333")
_FIRST_POLLERS = 5

_Process = Generator[simpy.Event, Any, None]


class Deployment(NamedTuple):
    """What `infra.capture` deploys; `requests_per_second` is an execution environment's share."""

    concurrency: int
    requests_per_second: float
    timeout_seconds: float
    batch_size: int
    window_seconds: float

    @property
    def visibility_seconds(self) -> float:
        """How long the queue hides a message that was received."""
        return 6 * self.timeout_seconds + self.window_seconds


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds that things take.

    All are assumptions but the processor's share in `call_overhead`: 1 ms of CPU for a call of the SDK (measured), at
    256 MB on 256/1769 of a processor.
    """

    event: float = 1.0
    """From completion to the message on the queue."""
    connect: float = 0.1
    dynamodb: float = 0.01
    s3: float = 0.05
    sqs: float = 0.01
    call_overhead: float = 0.007
    invocation: float = 0.01
    cold_start: float = 1.0
    kept_warm: float = 600.0
    """An execution environment that has been idle for longer is gone."""

    def of(self, service: str) -> float:
        """Return the seconds of a call."""
        seconds: float = getattr(self, service)
        return seconds + self.call_overhead


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is simulated; `outage` are the seconds of the day in which Connect answers 500."""

    deployment: Deployment
    quota: float
    reference_types: Sequence[str]
    references: int = 2
    outage: tuple[float, float] | None = None
    latency: Latency = field(default_factory=Latency)
    seed: int = 5


@dataclass(kw_only=True)
class Figures:
    """What came out: seconds, numbers of contacts, and a value for each minute in the lists."""

    contacts: int
    captured: int = 0
    waits: "array[float]" = field(default_factory=lambda: array("d"))
    """Completion to ledger, of each contact in the order of its capture."""
    backlog: list[int] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)
    """Execution environments at work."""
    batches: list[int] = field(default_factory=list)
    """Messages in each batch."""
    calls: int = 0
    throttled: int = 0
    most_busy: int = 0
    billed_seconds: float = 0.0
    metric_hours: set[tuple[int, str]] = field(default_factory=set)
    """Hours, and the metrics that got data in them."""
    dead: int = 0
    ended_at: float = 0.0
    usage: Usage = field(default_factory=Usage)

    def wait(self, share: float) -> float:
        """Return the seconds within which this share of the captured contacts was in the ledger."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class _Letter:
    """A message on the queue: a contact's completion by its number, or one that was sent."""

    __slots__ = ("body", "number", "receives", "visible_at")

    def __init__(self, number: int, body: str | None = None) -> None:
        self.number = number
        self.body = body
        self.receives = 0
        self.visible_at = 0.0


class _Running(NamedTuple):
    """An execution environment, and since when it has been idle."""

    parts: Environment
    idle_since: list[float]


def simulate(plan: Plan, completions: Sequence[float], *, until: float | None = None) -> Figures:
    """Let contacts complete at these seconds, in order, and run until they are captured or `until` has come.

    The same plan and completions give the same figures. A backlog drains at the pace, in full batches, and no call is
    refused; with a quota below the rate some are, and no contact is lost; those of an outage are captured after it.

    >>> deployment = Deployment(2, 4.0, 120, 25, 1)
    >>> types = ("URL", "NUMBER", "STRING", "DATE", "EMAIL", "ATTACHMENT", "CONTACT_ANALYSIS")
    >>> backlog = simulate(Plan(deployment=deployment, quota=10, reference_types=types), [0.0] * 400)
    >>> backlog.captured, backlog.calls, backlog.throttled, backlog.dead, max(backlog.batches)
    (400, 800, 0, 0, 25)
    >>> 100 <= backlog.ended_at <= 105
    True
    >>> refused = simulate(Plan(deployment=deployment, quota=3, reference_types=types), [0.0] * 100)
    >>> refused.captured, refused.throttled > 0, refused.calls - refused.throttled <= 3 * (refused.ended_at + 1)
    (100, True, True)
    >>> outage = Plan(deployment=deployment, quota=10, reference_types=types, outage=(0.0, 1800.0))
    >>> after = simulate(outage, [60.0 * minute for minute in range(30)])
    >>> after == simulate(outage, [60.0 * minute for minute in range(30)])
    True
    >>> after.captured, after.dead, min(after.waits) > 60, after.ended_at < 1800 + 900 + 120
    (30, 0, True, True)
    """
    return World(plan, completions).run(until)


class World:
    """The deployed system while contacts complete. Others may send messages too, and look at the table."""

    def __init__(self, plan: Plan, completions: Sequence[float]) -> None:
        self._plan = plan
        self._completions = completions
        self._simpy = simpy.Environment()
        self._queue: simpy.Store = simpy.Store(self._simpy)
        self._full_batch = self._simpy.event()
        self._in_batch: dict[str, _Letter] = {}
        self._warm: list[_Running] = []
        self._busy = 0
        self._unfinished = len(completions)
        self._arrived = 0
        self._done = self._simpy.event()
        self._served: dict[int, int] = {}
        self._now = 0.0  # where the environment at work is, ahead of SimPy's time
        self._sent = 0
        self.keeps_items = False
        self.on_other_capture: Callable[[float], None] = lambda _: None
        self._figures = Figures(contacts=len(completions))
        urls = [{"Name": f"CRM {n}", "Value": f"https://crm.example.com/{n}"} for n in range(plan.references)]
        members = [{"Url": url} for url in urls]
        self.services = Services(self._figures.usage)
        """What the function sees of AWS, for others that use the same table, too; their calls take no time."""
        self.services.connect.find = lambda _: members
        self.services.sqs.on_visibility = self._change_visibility
        self.services.dynamodb.on_put = self._note_put
        self.services.before_calls(self._spend)

    def run(self, until: float | None) -> Figures:
        """Run until every completed contact is captured, or `until` has come."""
        random.seed(self._plan.seed)  # the queue's back-off draws from it
        self._simpy.process(self._complete())
        self._simpy.process(self._sample())
        for number in range(self._plan.deployment.concurrency):
            self._simpy.process(self._poll(is_extra=number >= _FIRST_POLLERS))
        end: Any = self._done if until is None else self._done | self._simpy.timeout(until)
        self._simpy.run(end)
        self._figures.ended_at = self._simpy.now
        self._figures.captured = len(self._figures.waits)
        self._figures.dead = len(self.services.sqs.dead_letters)
        return self._figures

    @property
    def environment(self) -> simpy.Environment:
        """Where processes of others may be added."""
        return self._simpy

    def count_waiting(self) -> int:
        """Return how many messages wait to be received."""
        return len(self._queue.items)

    def send(self, body: str, at: float) -> None:
        """Put a message on the queue that shows at a second to come; `on_other_capture` is told of its capture."""
        self._sent += 1
        letter = _Letter(-self._sent, body)
        letter.visible_at = at
        self._simpy.process(self._show_later(letter))

    def _complete(self) -> _Process:
        for number, moment in enumerate(self._completions):
            yield self._simpy.timeout(max(0.0, moment + self._plan.latency.event - self._simpy.now))
            self._arrived += 1
            self._figures.usage.add(QUEUE_REQUESTS)
            self._show(_Letter(number))

    def _show(self, letter: _Letter) -> None:
        self._queue.put(letter)
        if len(self._queue.items) >= self._plan.deployment.batch_size:
            self._full_batch.succeed()
            self._full_batch = self._simpy.event()

    def _show_later(self, letter: _Letter) -> _Process:
        yield self._simpy.timeout(max(0.0, letter.visible_at - self._simpy.now))
        self._show(letter)

    def _sample(self) -> _Process:
        while True:
            self._figures.backlog.append(self._arrived - len(self._completions) + self._unfinished)
            self._figures.busy.append(self._busy)
            yield self._simpy.timeout(60)

    def _poll(self, *, is_extra: bool) -> _Process:
        while True:
            if is_extra and len(self._queue.items) < self._plan.deployment.batch_size:
                yield self._full_batch
                continue
            batch = yield from self._gather()
            yield from self._invoke(batch)

    def _gather(self) -> Generator[simpy.Event, Any, list[_Letter]]:
        """Receive until the batch is full or the window, which the first message opens, is over."""
        deployment = self._plan.deployment
        begin = self._simpy.now
        first: _Letter = yield self._queue.get()
        self._figures.usage.add(QUEUE_REQUESTS, int((self._simpy.now - begin) / LONG_POLL))  # answered empty
        batch = [first]
        closing = self._simpy.timeout(deployment.window_seconds)
        while len(batch) < deployment.batch_size:
            if self._queue.items:
                batch.append((yield self._queue.get()))
                continue
            more = self._queue.get()
            yield more | closing
            if more.triggered:
                batch.append(cast("_Letter", more.value))
            else:
                more.cancel()
                break
        return batch

    def _invoke(self, batch: list[_Letter]) -> _Process:
        deployment, figures = self._plan.deployment, self._figures
        begin = self._now = self._simpy.now
        environment = self._take_environment()
        self._busy += 1
        figures.most_busy = max(figures.most_busy, self._busy)
        figures.batches.append(len(batch))
        failed = self._capture(environment, batch)
        seconds = self._now - begin
        if seconds > deployment.timeout_seconds + 1:
            raise RuntimeError("Lambda would have ended the function: the simulation does not know what follows")
        figures.billed_seconds += seconds
        figures.usage.add(GB_SECONDS, seconds * MEMORY_GB)
        figures.usage.add(INVOCATIONS)
        # The source receives and deletes ten at a time.
        figures.usage.add(QUEUE_REQUESTS, -(-len(batch) // 10) - (-(len(batch) - len(failed)) // 10))
        yield self._simpy.timeout(seconds)
        self._busy -= 1
        environment.idle_since[0] = self._simpy.now
        self._warm.append(environment)
        for letter in batch:
            if str(letter.number) in failed:
                self._simpy.process(self._show_later(letter))
            else:
                self._finish(letter)

    def _capture(self, environment: _Running, batch: list[_Letter]) -> set[str]:
        """Invoke the function's code; return the messages that it hands back."""
        deadline = self._now + self._plan.deployment.timeout_seconds
        self._in_batch = {str(letter.number): letter for letter in batch}
        hidden_until = self._now + self._plan.deployment.visibility_seconds
        for letter in batch:
            letter.receives += 1
            letter.visible_at = hidden_until
        self._pass(self._plan.latency.invocation)
        bucket, reader, _, _, intake, report = environment.parts
        calls, throttled = reader.calls, reader.throttled_calls
        bucket.wake()
        failed = intake.take_messages(
            [self._message(letter) for letter in batch], scope=_SCOPE, time_left=lambda: deadline - self._now
        )
        bucket.rest()
        calls, throttled = reader.calls - calls, reader.throttled_calls - throttled
        self._figures.calls += calls
        self._figures.throttled += throttled
        report.api_calls(calls, throttled)
        report.publish()
        return set(failed)

    def _finish(self, letter: _Letter) -> None:
        if letter.body is not None:
            return
        if not self.keeps_items:
            self.services.dynamodb.forget(f"{INSTANCE_ARN.rpartition('/')[2]}#{live_id(letter.number)}")
        self._unfinished -= 1
        if not self._unfinished:
            self._done.succeed()

    def _take_environment(self) -> _Running:
        latency = self._plan.latency
        if self._warm and self._simpy.now - self._warm[-1].idle_since[0] <= latency.kept_warm:
            return self._warm.pop()
        self._warm.clear()  # the last one is the one that was used last
        self._pass(latency.cold_start)
        return self._start_environment()

    def _start_environment(self) -> _Running:
        parts = start_environment(
            self.services,
            type_lists=TypeLists({OTHER_CHANNELS: tuple(self._plan.reference_types)}),
            bucket=TokenBucket(self._plan.deployment.requests_per_second, clock=lambda: self._now, sleep=self._pass),
            clock=self._tell_time,
            sleep=self._pass,
            on_metric=self._note_metric,
        )
        return _Running(parts, [0.0])

    def _tell_time(self) -> datetime:
        return MIDNIGHT + timedelta(seconds=self._now)

    def _message(self, letter: _Letter) -> Message:
        event = letter.body or completion_event(
            live_id(letter.number),
            completed=MIDNIGHT + timedelta(seconds=self._completions[letter.number]),
            event_id=str(letter.number),
        )
        return Message(
            message_id=str(letter.number),
            receipt_handle=str(letter.number),
            body=event,
            receive_count=letter.receives,
            origin="queue",
        )

    def _pass(self, seconds: float) -> None:
        self._now += seconds

    def _spend(self, service: str, operation: str) -> None:
        self._pass(self._plan.latency.of(service))
        if service != "connect":
            return
        outage = self._plan.outage
        if outage and outage[0] <= self._now < outage[1]:
            raise RefusedError("InternalServiceException", operation, status=500)
        second = int(self._now)
        if self._served.get(second, 0) >= self._plan.quota:
            raise RefusedError("ThrottlingException", operation, status=429)
        self._served[second] = self._served.get(second, 0) + 1

    def _note_put(self, item: dict[str, dict[str, Any]]) -> None:
        if item["sk"]["S"] == "CONTACT":
            contact_id = item["contact_id"]["S"]
            number = int(contact_id.rpartition("-")[2])
            if contact_id != live_id(number):
                self.on_other_capture(self._now)
                return
            self._figures.waits.append(self._now - self._completions[number])

    def _note_metric(self, name: str) -> None:
        self._figures.metric_hours.add((int(self._now // 3600), name))

    def _change_visibility(self, receipt: str, seconds: int) -> None:
        letter = self._in_batch[receipt]
        letter.visible_at = self._now + seconds
        if letter.receives >= MOST_RECEIVES:
            raise RuntimeError("a message would be dead-lettered: the simulation does not go so far")


def live_id(number: int) -> str:
    """Return the id of the contact that completes at this place of the list."""
    return f"00000000-0000-4000-8000-{number:012}"
