"""What a million contacts cost, counted: ours and the baseline, line by line, at list prices.

The functions' own handlers run, with the SDK's real clients; what the clients send is answered and counted in this
process. Ours gets the batches that the simulated day really makes at 1,000, 10,000 and 100,000 contacts, and from that
simulation comes what the pace makes of Lambda's time, and the queue's requests, empty receives included; and full
batches, as a backlog makes them. The baseline is invoked once for each contact; its time is its calls' time, with the
same latencies, no cold start and no throttling.
"""

import argparse
import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.handlers import BUILTIN_HANDLERS

from benchmarks.days import OURS, Scenario, completions, deployment_at
from benchmarks.prices import (
    GB_SECONDS,
    INVOCATIONS,
    KEY_MONTHS,
    KEY_REQUESTS,
    LOG_BYTES,
    METRIC_MONTHS,
    POLLS,
    PRICES,
    TRACES,
    price,
    sampled_traces,
    used_by_the_month,
)
from benchmarks.report import Section, table, tell
from benchmarks.simulation import DAY, MEMORY_GB, Figures, Latency, Plan, simulate
from benchmarks.traffic import ALL_TYPES, as_batch, function_settings, make_event
from contact_references.model.reference_types import OTHER_CHANNELS
from local.emulator import ACCOUNT, INSTANCE_ARN, REGION
from local.in_memory.connect import Member
from local.in_memory.environment import Services
from local.in_memory.usage import QUEUE_REQUESTS, Usage

REFERENCES = (0, 1, 5)
BARS = {0: 0.68, 1: 0.72, 5: 0.80}
"""Ours over the baseline at the largest number of contacts a day, by references a contact."""
BARS_ON_FULL_BATCHES = {0: 0.50, 1: 0.58, 5: 0.72}
CONTACTS_A_DAY = (1_000, 10_000, 100_000)
QUOTA = 10.0
_SAMPLE = 400  # contacts that are run through the handlers
_BACKLOG = 2_000  # contacts, of which all batches are full
# What Lambda itself writes for an invocation, START, END and REPORT (assumed), and what CloudWatch adds to each event.
_LAMBDA_LOG_BYTES = 400
_EVENT_LOG_BYTES = 26
_BY_THE_MONTH = (METRIC_MONTHS, KEY_MONTHS, KEY_REQUESTS, POLLS)

_MEMBERS: list[Member] = [
    {"Url": {"Name": "CRM", "Value": "https://crm.example.com/accounts/004217/contacts/000001"}},
    {"String": {"Name": "Case", "Value": "CASE-000001"}},
    {"Number": {"Name": "Amount due", "Value": "1250.50"}},
    {"Email": {"Name": "Reply to", "Value": "someone@example.com"}},
    {
        "Attachment": {
            "Name": "contract.pdf",
            "Value": "https://example-bucket.s3.us-east-1.amazonaws.com/connect/example/Attachments/contract.pdf",
            "Status": "AVAILABLE",
            "Arn": f"{INSTANCE_ARN}/file/00000000-0000-4000-8000-000000000001",
        }
    },
]


class Counting:
    """Answers what the SDK's clients of this process send, and counts it."""

    def __init__(self) -> None:
        self.references = 0
        self.reset()

    def reset(self) -> None:
        """Start counting, with empty stores."""
        self.calls = Counter[str]()
        self.usage = Usage()
        self._services = Services(self.usage)
        self._services.connect.find = lambda _: _MEMBERS[: self.references]

    def answer(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        """Answer a request, as a handler of botocore's `before-send`."""
        service, operation = event_name.split(".")[1:]
        self.calls[operation] += 1
        answer: AWSResponse = getattr(self._services, service).answer(request)
        return answer


class Output(io.StringIO):
    """What a function writes: its size as logs are billed, and the metrics that are in it."""

    def read_usage(self, invocations: int) -> tuple[float, set[str]]:
        """Return the bytes to pay for and the metrics' names, and start again."""
        lines = [line for line in self.getvalue().splitlines() if line]
        self.seek(0)
        self.truncate()
        size = sum(len(line.encode()) + 1 + _EVENT_LOG_BYTES for line in lines)
        metrics = {
            metric["Name"]
            for line in lines
            if "_aws" in (record := json.loads(line))
            for directive in record["_aws"]["CloudWatchMetrics"]
            for metric in directive["Metrics"]
        }
        return size + invocations * (_LAMBDA_LOG_BYTES + 3 * _EVENT_LOG_BYTES), metrics


@dataclass(frozen=True, kw_only=True)
class Day:
    """A simulated day: what it says of batches and time."""

    contacts: int
    moments: Sequence[float]
    figures: Figures


class Functions:
    """Both functions, with real clients; `output` is what they write."""

    def __init__(self, services: Counting, output: Output) -> None:
        self._services, self._output = services, output
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
        queue_url = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/contacts"
        os.environ.update(credentials | function_settings(",".join(ALL_TYPES), queue_url=queue_url))
        os.environ |= {"POWERTOOLS_LOG_LEVEL": "INFO", "POWERTOOLS_TRACE_DISABLED": "true"}
        self._baseline = import_module("benchmarks.baseline.handler").handler
        # Each has read what it is told by then, in a form of its own.
        os.environ["REFERENCE_TYPES"] = json.dumps({OTHER_CHANNELS: ALL_TYPES})
        self._ours = import_module("capture.handler").handler

    def run_ours(self, batches: Sequence[int]) -> tuple[Usage, set[str], int]:
        """Invoke ours with batches of these sizes; return what it used, its metrics and the contacts."""
        numbers = iter(range(sum(batches)))
        return self._run(
            (as_batch([_event(next(numbers)) for _ in range(size)])[0] for size in batches),
            self._ours,
            invocations=len(batches),
            contacts=sum(batches),
        )

    def run_baseline(self, contacts: int) -> tuple[Usage, set[str], int]:
        """Invoke the baseline once for each contact; return the same."""
        return self._run(map(_event, range(contacts)), self._baseline, invocations=contacts, contacts=contacts)

    def _run(
        self, events: Iterator[dict[str, Any]], handler: Callable[..., Any], *, invocations: int, contacts: int
    ) -> tuple[Usage, set[str], int]:
        self._services.reset()
        for event in events:
            answer = handler(event, _context())
            if answer and answer["batchItemFailures"]:
                raise RuntimeError("contacts failed: see the log")
        log_bytes, metrics = self._output.read_usage(invocations)
        self._services.usage.add(LOG_BYTES, log_bytes)
        return self._services.usage, metrics, contacts

    @property
    def calls(self) -> Counter[str]:
        """What was called in the last run."""
        return self._services.calls


def _event(number: int) -> dict[str, Any]:
    return make_event(f"00000000-0000-4000-8000-{number:012}", f"00000000-0000-4000-9000-{number:012}")


def _context() -> Any:
    return SimpleNamespace(
        function_name="ContactReferences-prod-Capture-CaptureFunction12345678-abcdefghijkl",
        memory_limit_in_mb="256",
        invoked_function_arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:capture",
        aws_request_id="00000000-0000-4000-b000-000000000000",
        get_remaining_time_in_millis=lambda: 120_000,
    )


def simulate_day(moments: Sequence[float]) -> Day:
    """Simulate contacts that complete at these moments, at the default quota."""
    deployment = deployment_at(QUOTA * OURS)
    plan = Plan(deployment=deployment, quota=QUOTA, reference_types=ALL_TYPES, references=1)
    return Day(contacts=len(moments), moments=moments, figures=simulate(plan, moments))


def sample_batches(batches: Sequence[int], contacts: int) -> list[int]:
    """Return batches taken evenly from the day's, with about so many contacts in them.

    >>> sample_batches([1, 2, 3, 4, 5, 6], 12)
    [1, 3, 5]
    """
    step = max(1, round(sum(batches) / contacts))
    return list(batches[::step])


def cost_ours(day: Day, functions: Functions, *, batched_as: Day | None = None) -> Usage:
    """Return what a million contacts of the day use by ours, if need be with the batches of another one."""
    batched = batched_as or day
    counted, metrics, contacts = functions.run_ours(sample_batches(batched.figures.batches, _SAMPLE))
    usage = _scaled(counted, 1e6 / contacts)
    for name in (GB_SECONDS, INVOCATIONS, QUEUE_REQUESTS):  # the rest of ours is counted above; it is not traced
        usage.add(name, batched.figures.usage[name] * 1e6 / batched.contacts)
    monthly = used_by_the_month(
        metric_hours=len(metrics) * len({hour for hour, _ in day.figures.metric_hours}),
        busy_minutes=sum(map(bool, day.figures.busy)),
        concurrency=deployment_at(QUOTA * OURS).concurrency,
        days=day.figures.ended_at / DAY,
    )
    return Usage(usage | _scaled(monthly, 1e6 / day.contacts))


def cost_baseline(day: Day, functions: Functions) -> Usage:
    """Return what a million contacts use by the baseline."""
    counted, metrics, contacts = functions.run_baseline(_SAMPLE)
    latency, calls = Latency(), functions.calls
    seconds = latency.invocation * contacts
    for operation, number in calls.items():
        service = {"ListContactReferences": "connect", "PutObject": "s3"}.get(operation, "dynamodb")
        seconds += latency.of(service) * number
    usage = _scaled(counted, day.contacts / contacts)
    usage.add(GB_SECONDS, seconds * MEMORY_GB * day.contacts / contacts)
    usage.add(INVOCATIONS, day.contacts)
    hours = {int(moment // 3600) for moment in day.moments}
    # Neither a key of its own nor pollers.
    usage |= used_by_the_month(metric_hours=len(metrics) * len(hours), busy_minutes=0, concurrency=5, days=0)
    usage[TRACES] = sampled_traces(day.moments)
    return _scaled(usage, 1e6 / day.contacts)


def _scaled(usage: Mapping[str, float], factor: float) -> Usage:
    return Usage({name: amount * factor for name, amount in usage.items()})


class Count(NamedTuple):
    """What a million contacts use."""

    ours: Usage
    ours_on_full_batches: Usage
    baseline: Usage


Costs = dict[tuple[int, int], Count]
"""By contacts a day and references a contact."""


def count(days: Sequence[Day], backlog: Day) -> Costs:
    """Run both functions for each day and number of references."""
    counting, output = Counting(), Output()
    BUILTIN_HANDLERS.append(("before-send", counting.answer))  # for every client of every session
    costs: Costs = {}
    with contextlib.redirect_stdout(output):
        functions = Functions(counting, output)
        for day in days:
            for references in REFERENCES:
                counting.references = references
                costs[day.contacts, references] = Count(
                    ours=cost_ours(day, functions),
                    ours_on_full_batches=cost_ours(day, functions, batched_as=backlog),
                    baseline=cost_baseline(day, functions),
                )
                tell(f"{day.contacts:,} contacts a day, {references} references: counted")
    return costs


def _ratio(ours: Usage, baseline: Usage, without: Sequence[str] = ()) -> float:
    mine, other = (
        sum(dollars for name, dollars in price(usage).items() if name not in without) for usage in (ours, baseline)
    )
    return mine / other


def _verdicts(costs: Costs) -> str:
    header = [
        *("contacts a day", "references", "ours over baseline", "without metrics, key and polls"),
        *("neither traced", "no key of its own", "bar", ""),
    ]
    rows = []
    for (contacts, references), (ours, _, baseline) in costs.items():
        bar = BARS[references] if contacts == max(CONTACTS_A_DAY) else None
        rows.append([f"{contacts:,}", str(references), *_verdict(ours, baseline, bar)])
    for (contacts, references), (_, full, baseline) in costs.items():
        if contacts == max(CONTACTS_A_DAY):
            verdict = _verdict(full, baseline, BARS_ON_FULL_BATCHES[references])
            rows.append([f"{contacts:,}, on full batches", str(references), *verdict])
    return table(header, rows)


def _verdict(ours: Usage, baseline: Usage, bar: float | None) -> list[str]:
    keyless = Usage(ours | dict.fromkeys((KEY_MONTHS, KEY_REQUESTS), 0))
    ratio = _ratio(ours, baseline)
    others = [_ratio(ours, baseline, _BY_THE_MONTH), _ratio(ours, baseline, (TRACES,)), _ratio(keyless, baseline)]
    verdict = ["", ""] if bar is None else [f"≤ {bar:g}", "met" if ratio <= bar else f"missed by {ratio - bar:.2f}"]
    return [f"{ratio:.2f}", *(f"{other:.2f}" for other in others), *verdict]


def _lines(day: Day, counts: Mapping[int, Count]) -> str:
    header = ["USD a million contacts", *(f"{who}, N = {n}" for n in counts for who in ("ours", "baseline"))]
    prices = [price(usage) for one in counts.values() for usage in (one.ours, one.baseline)]
    names = [name for name in PRICES if any(one.get(name) for one in prices)]
    rows = [[name, *(f"{one.get(name, 0):.2f}" for one in prices)] for name in names]
    total = ["**sum**", *(f"**{sum(one.values()):.2f}**" for one in prices)]
    batch = sum(day.figures.batches) / len(day.figures.batches)
    return f"**{day.contacts:,} contacts a day**: {batch:.1f} contacts a batch.\n\n{table(header, [*rows, total])}"


def add_options(_: argparse.ArgumentParser) -> None:
    """Take none."""


def run(_: argparse.Namespace) -> list[Section]:
    """Simulate the days, and count."""
    days = []
    for contacts in CONTACTS_A_DAY:
        days.append(simulate_day(completions(Scenario(kind="day", contacts=contacts, quota=QUOTA))))
        tell(f"{contacts:,} contacts simulated")
    costs = count(days, simulate_day([0.0] * _BACKLOG))
    lines = [_lines(day, {n: costs[day.contacts, n] for n in REFERENCES}) for day in days]
    body = "\n\n".join([_verdicts(costs), *lines])
    return [Section("cost", "Cost of a million contacts, by counting", body)]
