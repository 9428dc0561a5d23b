"""Counts what a million contacts cost: ours and the baseline, line by line, at list prices.

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
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError
from botocore.handlers import BUILTIN_HANDLERS
from rich.console import Console

from benchmarks.prices import (
    GB_SECONDS,
    INDEX_UNITS,
    INVOCATIONS,
    KEY_MONTHS,
    KEY_REQUESTS,
    LOG_BYTES,
    METRIC_MONTHS,
    POLLS,
    PRICES,
    PUTS,
    QUEUE_REQUESTS,
    READ_UNITS,
    TRACES,
    WRITE_UNITS,
    Usage,
    price,
    sampled_traces,
    used_by_the_month,
)
from benchmarks.report import table, write_section
from benchmarks.scale import OURS, Scenario, completions, deployment_at
from benchmarks.simulation import DAY, MEMORY_GB, Deployment, Figures, Latency, Plan, simulate
from benchmarks.stand_ins import Table, list_references
from benchmarks.traffic import ALL_TYPES
from contact_references.model.reference_types import OTHER_CHANNELS

REFERENCES = (0, 1, 5)
BARS = {0: 0.68, 1: 0.72, 5: 0.80}
"""Ours over the baseline at the largest number of contacts a day, by references a contact."""
BARS_ON_FULL_BATCHES = {0: 0.50, 1: 0.58, 5: 0.72}
CONTACTS_A_DAY = (1_000, 10_000, 100_000)
QUOTA = 10.0
LONGER_WINDOW = 10.0
"""Seconds of the batching window that the table of alternatives tries."""
_SAMPLE = 400  # contacts that are run through the handlers
_BACKLOG = 2_000  # contacts, of which all batches are full
_ACCOUNT, _REGION = "111122223333", "us-east-1"
_INSTANCE_ARN = f"arn:aws:connect:{_REGION}:{_ACCOUNT}:instance/12345678-1234-1234-1234-123456789012"
# What Lambda itself writes for an invocation, START, END and REPORT (assumed), and what CloudWatch adds to each event.
_LAMBDA_LOG_BYTES = 400
_EVENT_LOG_BYTES = 26
_BY_THE_MONTH = (METRIC_MONTHS, KEY_MONTHS, KEY_REQUESTS, POLLS)

_MEMBERS: list[dict[str, Any]] = [
    {"Url": {"Name": "CRM", "Value": "https://crm.example.com/accounts/004217/contacts/000001"}},
    {"String": {"Name": "Case", "Value": "CASE-000001"}},
    {"Number": {"Name": "Amount due", "Value": "1250.50"}},
    {"Email": {"Name": "Reply to", "Value": "someone@example.com"}},
    {
        "Attachment": {
            "Name": "contract.pdf",
            "Value": "https://example-bucket.s3.us-east-1.amazonaws.com/connect/example/Attachments/contract.pdf",
            "Status": "AVAILABLE",
            "Arn": f"{_INSTANCE_ARN}/file/00000000-0000-4000-8000-000000000001",
        }
    },
]


class Services:
    """Answers what the SDK's clients send, and counts it."""

    def __init__(self) -> None:
        self.references = 0
        self.reset()

    def reset(self) -> None:
        """Start counting, with empty stores."""
        self.usage = Usage()
        self.calls = Counter[str]()
        self._table = Table(self.usage)

    def answer(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        """Answer a request, as a handler of botocore's `before-send`."""
        service, operation = event_name.split(".")[1:]
        self.calls[operation] += 1
        try:
            return _respond(request, 200, self._do(service, operation, request))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            refusal: dict[str, Any] = {"__type": code}
            refusal.update(error.response)
            return _respond(request, 400, refusal, code)

    def _do(self, service: str, operation: str, request: AWSPreparedRequest) -> Mapping[str, Any]:
        if service == "connect":
            types = parse_qs(urlsplit(request.url).query)["referenceTypes"]
            answer = list_references(_MEMBERS[: self.references], {"ReferenceTypes": types})
            return {name: value for name, value in answer.items() if name != "Body"}
        if service == "dynamodb":
            return self._table.call(operation, json.loads(request.body))  # type: ignore[arg-type]  # JSON, here
        if operation == "PutObject":
            self.usage.add(PUTS)
            return {}
        raise NotImplementedError(operation)


def _respond(request: AWSPreparedRequest, status: int, body: Mapping[str, Any], code: str = "") -> AWSResponse:
    raw = io.BytesIO(json.dumps(body).encode() if body else b"")
    raw.stream = lambda **_: iter([raw.getvalue()])  # type: ignore[attr-defined]  # as urllib3's answers have it
    headers: Any = {"content-type": "application/json", **({"x-amzn-errortype": code} if code else {})}
    return AWSResponse(request.url, status, headers, raw)


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

    def __init__(self, services: Services, output: Output) -> None:
        self._services, self._output = services, output
        os.environ.update(_environment())
        self._baseline = import_module("benchmarks.baseline.handler").handler
        # Each has read what it is told by then, in a form of its own.
        os.environ["REFERENCE_TYPES"] = json.dumps({OTHER_CHANNELS: ALL_TYPES})
        self._ours = import_module("capture.handler").handler

    def run_ours(self, batches: Sequence[int]) -> tuple[Usage, set[str], int]:
        """Invoke ours with batches of these sizes; return what it used, its metrics and the contacts."""
        numbers = iter(range(sum(batches)))
        return self._run(
            ({"Records": [_record(next(numbers)) for _ in range(size)]} for size in batches),
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
    detail = {
        "eventType": "COMPLETED",
        "contactId": f"00000000-0000-4000-8000-{number:012}",
        "initialContactId": f"00000000-0000-4000-8000-{number:012}",
        "instanceArn": _INSTANCE_ARN,
        "channel": "VOICE",
        "initiationMethod": "INBOUND",
        "disconnectTimestamp": "2026-03-02T09:30:00.000Z",
    }
    return {
        "version": "0",
        "id": f"00000000-0000-4000-9000-{number:012}",
        "detail-type": "Amazon Connect Contact Event",
        "source": "aws.connect",
        "account": _ACCOUNT,
        "time": "2026-03-02T09:30:00Z",
        "region": _REGION,
        "resources": [],
        "detail": detail,
    }


def _record(number: int) -> dict[str, Any]:
    return {
        "messageId": f"00000000-0000-4000-a000-{number:012}",
        "receiptHandle": str(number),
        "body": json.dumps(_event(number)),
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:contacts",
    }


def _context() -> Any:
    return SimpleNamespace(
        function_name="ContactReferences-prod-Capture-CaptureFunction12345678-abcdefghijkl",
        memory_limit_in_mb="256",
        invoked_function_arn=f"arn:aws:lambda:{_REGION}:{_ACCOUNT}:function:capture",
        aws_request_id="00000000-0000-4000-b000-000000000000",
        get_remaining_time_in_millis=lambda: 120_000,
    )


def _environment() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": _REGION,
        "TABLE_NAME": "ledger",
        "BUCKET_NAME": "lake",
        "QUEUE_URL": f"https://sqs.{_REGION}.amazonaws.com/{_ACCOUNT}/contacts",
        "DEAD_LETTER_QUEUE_URL": f"https://sqs.{_REGION}.amazonaws.com/{_ACCOUNT}/dead-letters",
        "INSTANCE_ARNS": "",
        "COMPLETION_EVENT_TYPES": "COMPLETED",
        "REFERENCE_TYPES": ",".join(ALL_TYPES),
        "AUDIT_SHARE": "0.01",
        "REQUESTS_PER_SECOND": "1000000",  # the pace costs time, which the simulation counts
        "RETENTION_DAYS": "0",
        "POWERTOOLS_SERVICE_NAME": "contact-references",
        "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }


def simulate_day(contacts: int, *, window_seconds: float | None = None) -> Day:
    """Simulate a weekday at the default quota, with another batching window than the deployed one if one is given."""
    moments = completions(Scenario(kind="day", contacts=contacts, quota=QUOTA))
    deployment = deployment_at(QUOTA * OURS)
    if window_seconds is not None:
        deployment = deployment._replace(window_seconds=window_seconds)
    return _simulate(moments, deployment)


def simulate_backlog() -> Day:
    """Simulate contacts that all wait at once."""
    return _simulate([0.0] * _BACKLOG, deployment_at(QUOTA * OURS))


def _simulate(moments: Sequence[float], deployment: Deployment) -> Day:
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
    ours_with_longer_window: Usage
    ours_on_full_batches: Usage
    baseline: Usage


Costs = dict[tuple[int, int], Count]
"""By contacts a day and references a contact."""


def count(days: Sequence[tuple[Day, Day]], backlog: Day, console: Console) -> Costs:
    """Run both functions for each day (at the deployed window, at a longer one) and number of references."""
    services, output = Services(), Output()
    BUILTIN_HANDLERS.append(("before-send", services.answer))  # for every client of every session
    costs: Costs = {}
    with contextlib.redirect_stdout(output):
        functions = Functions(services, output)
        for day, longer in days:
            for references in REFERENCES:
                services.references = references
                costs[day.contacts, references] = Count(
                    ours=cost_ours(day, functions),
                    ours_with_longer_window=cost_ours(longer, functions),
                    ours_on_full_batches=cost_ours(day, functions, batched_as=backlog),
                    baseline=cost_baseline(day, functions),
                )
                console.print(f"{day.contacts:,} contacts a day, {references} references: counted")
    return costs


def without_traces(usage: Usage) -> Usage:
    """Return what is used without Lambda's active tracing."""
    return Usage(usage | {TRACES: 0})


def without_key(usage: Usage) -> Usage:
    """Return what is used with the services' own keys, which cost nothing."""
    return Usage(usage | {KEY_MONTHS: 0, KEY_REQUESTS: 0})


def _describe(costs: Costs, days: Sequence[Day]) -> str:
    lines = [_lines(day, {n: costs[day.contacts, n] for n in REFERENCES}) for day in days]
    return "\n\n".join([_verdicts(costs), _differences(costs), *lines, _alternatives(costs)])


def _alternatives(costs: Costs) -> str:
    header = [
        "contacts a day",
        "references",
        "as it is",
        "baseline without its traces too",
        "no key of its own",
        f"window of {LONGER_WINDOW:g} s",
        "window and no key",
        "both, but for metrics and polls",
        "full batches",
        "full batches, baseline without its traces too",
    ]
    rows = []
    for (contacts, references), (ours, longer, full, baseline) in costs.items():
        untraced, both = without_traces(baseline), without_key(longer)
        ratios = [_ratio(ours, baseline), _ratio(ours, untraced), _ratio(without_key(ours), baseline)]
        ratios += [_ratio(longer, baseline), _ratio(both, baseline), _ratio(both, baseline, _BY_THE_MONTH)]
        ratios += [_ratio(full, baseline), _ratio(full, untraced)]
        rows.append([f"{contacts:,}", str(references), *(f"{ratio:.2f}" for ratio in ratios)])
    return f"**Ratios to the baseline, and what else there is to choose**\n\n{table(header, rows)}"


def _ratio(ours: Usage, baseline: Usage, without: Sequence[str] = ()) -> float:
    mine, other = (
        sum(dollars for name, dollars in price(usage).items() if name not in without) for usage in (ours, baseline)
    )
    return mine / other


def _verdicts(costs: Costs) -> str:
    header = ["contacts a day", "references", "ours over baseline", "without metrics, key and polls", "bar", ""]
    rows = []
    for (contacts, references), (ours, _, _, baseline) in costs.items():
        bar = BARS[references] if contacts == max(CONTACTS_A_DAY) else None
        rows.append([f"{contacts:,}", str(references), *_verdict(ours, baseline, bar)])
    for references, bar in BARS_ON_FULL_BATCHES.items():
        _, _, full, baseline = costs[max(CONTACTS_A_DAY), references]
        rows.append([f"{max(CONTACTS_A_DAY):,}, on full batches", str(references), *_verdict(full, baseline, bar)])
    return table(header, rows)


def _verdict(ours: Usage, baseline: Usage, bar: float | None) -> list[str]:
    ratio, by_use = _ratio(ours, baseline), _ratio(ours, baseline, _BY_THE_MONTH)
    verdict = ["", ""] if bar is None else [f"≤ {bar:g}", "met" if ratio <= bar else f"missed by {ratio - bar:.2f}"]
    return [f"{ratio:.2f}", f"{by_use:.2f}", *verdict]


_REASONS = {
    "key": (KEY_MONTHS, KEY_REQUESTS),
    "metrics": (METRIC_MONTHS,),
    "queue and its pollers": (QUEUE_REQUESTS, POLLS),
    "writes": (WRITE_UNITS, INDEX_UNITS),
    "Lambda's time": (GB_SECONDS,),
    "look-up": (READ_UNITS,),
    "PUTs": (PUTS,),
    "traces": (TRACES,),
    "requests and logs": (INVOCATIONS, LOG_BYTES),
}


def _differences(costs: Costs) -> str:
    header = ["contacts a day", "references", *_REASONS, "sum", "sum, USD a month"]
    rows = []
    for (contacts, references), (ours, _, _, baseline) in costs.items():
        mine, other = price(ours), price(baseline)
        more = [sum(mine.get(name, 0) - other.get(name, 0) for name in names) for names in _REASONS.values()]
        a_month = sum(more) * contacts * 30 / 1e6
        cells = [f"{dollars:+.2f}" for dollars in (*more, sum(more), a_month)]
        rows.append([f"{contacts:,}", str(references), *cells])
    return f"**Ours less the baseline, USD a million contacts**\n\n{table(header, rows)}"


def _lines(day: Day, counts: Mapping[int, Count]) -> str:
    header = ["USD a million contacts", *(f"{who}, N = {n}" for n in counts for who in ("ours", "baseline"))]
    prices = [price(usage) for one in counts.values() for usage in (one.ours, one.baseline)]
    names = [name for name in PRICES if any(one.get(name) for one in prices)]
    rows = [[name, *(f"{one.get(name, 0):.2f}" for one in prices)] for name in names]
    total = ["**sum**", *(f"**{sum(one.values()):.2f}**" for one in prices)]
    batch = sum(day.figures.batches) / len(day.figures.batches)
    return f"**{day.contacts:,} contacts a day**: {batch:.1f} contacts a batch.\n\n{table(header, [*rows, total])}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate the days, count, print the tables and with --write put them into docs/benchmarks.md."""
    options = _parse(arguments)
    console = Console(stderr=True)
    days = []
    for contacts in CONTACTS_A_DAY:
        days.append((simulate_day(contacts), simulate_day(contacts, window_seconds=LONGER_WINDOW)))
        console.print(f"{contacts:,} contacts simulated, twice")
    costs = count(days, simulate_backlog(), console)
    body = _describe(costs, [day for day, _ in days])
    print(body)
    if options.write:
        write_section(
            "cost",
            title="Cost of a million contacts, by counting",
            command="python -m benchmarks.cost --write",
            body=f"{_NOTES}\n\n{body}\n\n{_ADVICE}",
        )
    return 0


_NOTES = f"""\
Both functions' handlers ran on the SDK's clients with {_SAMPLE} contacts for each column, all types, and every request
was counted. Ours had batches as a simulated weekday makes them at a quota of {QUOTA:g} requests a second; that
simulation also gives Lambda's time, in which ours waits for its pace, and the queue's requests. List prices of
us-east-1 without free tiers, from public third-party lists: **to be re-checked before quoting.** Storage is left out.

- Not the baseline's: the queue (its messages, and five pollers that ask it day and night), the key of its own, the
  look-up that keeps duplicates from costing calls, one or two of its metrics. Metrics are those that the run emitted,
  by name, in the hours that have contacts.
- The baseline is traced (X-Ray's default rule: the first invocation of each second and a twentieth of the others), as
  Powertools' examples are; ours is not, by decision. What the ratios are with neither traced is in the last table.
- In the baseline's favour: the processor time of its parser and tracer, its cold starts and its retries are free.
- The baseline's index costs the same: the same rows with the same `value_key`. It marks no days and has nothing due.
- A contact that is rechecked costs an index unit when the mark comes and one when it goes, and for each recheck a call,
  a read, and a write of one unit if nothing has changed. None is in these figures.
- Reconciling is not in these figures: it reads every contact's item twice again, and the baseline has no such thing.
- In the free tiers (ten metrics, a million SQS requests, 100,000 traces, 5 GB of logs a month), if nothing else in the
  account uses them, ours at 1,000 contacts a day pays for the key and what it writes."""

_ADVICE = """\
**With few contacts a day ours is dearer**: contacts come alone, so that ours makes the baseline's PUT and invocation
for each as well, and what is paid by the month falls on few. At 1,000 a day it is less than two dollars a month.

What makes the difference, why it stays, and what would be cheaper:

- **Key, $1 a month**: at 1,000 a day half of the difference. The services' own keys encrypt as well and cost nothing,
  but not as safely: who may read table or bucket then reads personal data, with no second policy, no revoking, no trail
  of its use.
- **Metrics**: more than the baseline's two, though zeros are not emitted: `ApiCalls` says that capturing runs,
  `SecondsToCapture` how late. Counted from the logs by query they would cost little and raise no alarm.
- **Queue and pollers**: what keeps contacts through outages and throttling. Without it the function loses contacts
  after two retries; a poller that sleeps is not to be had.
- **Writes**: each row and item once, as the baseline; and the day's mark, once for each object of the lake.
- **Lambda's time**: the wait for the pace, paid for. It is what keeps calls from being throttled.
- **Traces** are the baseline's dearest part where contacts come alone. Ours does without: its log and metrics say
  of each contact what a trace would.
- **The window of one second**: contacts are in the ledger after about two seconds, at the price of smaller batches.
  A longer one is cheaper and as safe, but a flow that looks up a caller's last contact waits for it: docs/scale.md
  has both by the window."""


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write the tables to docs/benchmarks.md too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
