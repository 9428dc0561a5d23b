"""What erasing contacts takes, in time and requests, and what that grows with: days, or contacts.

`find_contacts` and `Erasure`, the command's own code, run against services in memory; the function that writes the
tables too, in the same process. Each request takes some milliseconds on its way, and is counted by the SDK's events.
The wait for captures under way is left out: it lasts as long as the capture function's timeout, whatever is erased.
"""

import argparse
import io
import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from benchmarks.bucket import Bucket
from benchmarks.ledger import INSTANCE_ID
from benchmarks.prices import price
from benchmarks.report import ProcessorTime, Section, spread, table, tell, verdict
from contact_references.aws.day_folders import DayFolders
from contact_references.aws.days import Days
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.reference import normalize_references
from contact_references.tables.run import Tables
from local.in_memory.dynamodb import DynamoDB
from local.in_memory.service import read_body, respond
from ops import prices
from ops.clients import Clients
from ops.deployment import Deployment
from ops.erasure import Erasure, find_contacts

_DAYS = 30
_FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)
_REFERENCES = 6
_BAR = 2.0
_NOTE = """\
Of a day all objects are read, by the erasure and then by the tables function, however few contacts it is about. The
ledger takes somewhat more than three requests a contact of six references, however few objects the days have: the
smaller those are, the larger is its part."""
_OUTPUTS = {
    "TableName": "ledger",
    "BucketName": "lake",
    "CaptureFunctionName": "capture",
    "TablesFunctionName": "tables",
    "DeadLetterQueueUrl": "https://sqs.us-east-1.amazonaws.com/111122223333/dead",
}
_CONFIGURATION = {
    "Timeout": 120,
    "Environment": {"Variables": {"INSTANCE_ARNS": f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"}},
}


class Case(NamedTuple):
    """So many contacts, evenly of so many days; together or one after the other."""

    contacts: int
    days: int
    one_by_one: bool = False

    def __str__(self) -> str:
        """Name it.

        >>> print(Case(1, 1), Case(1000, 30), Case(10, 1, one_by_one=True), sep="; ")
        1 contact, 1 day; 1,000 contacts, 30 days; 10 contacts, 1 day, one by one
        """
        contacts = f"{self.contacts:,} contact" + ("" if self.contacts == 1 else "s")
        days = f"{self.days} day" + ("" if self.days == 1 else "s")
        return f"{contacts}, {days}" + (", one by one" if self.one_by_one else "")


_MANY, _FEW, _NARROW = Case(1000, 30), Case(100, 30), Case(1000, 3)
_TOGETHER, _ONE_BY_ONE = Case(10, 1), Case(10, 1, one_by_one=True)
_CASES = (_MANY, _FEW, _NARROW, Case(1, 1), _TOGETHER, _ONE_BY_ONE)


class Measured(NamedTuple):
    """What a case took: seconds, those in the tables function, requests by operation, and US dollars of all requests.

    `function_requests` are those of the tables function.
    """

    seconds: float
    tables_seconds: float
    requests: Counter[str]
    function_requests: Counter[str]
    dollars: float

    @property
    def total(self) -> int:
        """All requests."""
        return self.requests.total() + self.function_requests.total()


class _Requests(NamedTuple):
    """What is counted together, what it grows with, and US dollars for each; DynamoDB bills units instead."""

    what: str
    operations: tuple[str, ...]
    growth: str
    dollars: float = 0.0

    def count(self, measured: Measured) -> int:
        """Return how many of them a case made itself."""
        return sum(measured.requests[operation] for operation in self.operations)


_REQUESTS = (
    _Requests("S3 lists", ("ListObjectVersions", "ListObjectsV2"), "days", prices.S3_PUT),
    _Requests("S3 GET", ("GetObject",), "objects of the days, and again those rewritten", prices.S3_GET),
    _Requests("S3 PUT", ("PutObject",), "objects that have any of the contacts", prices.S3_PUT),
    _Requests("S3 deletes", ("DeleteObject", "DeleteObjects"), "days"),
    _Requests("DynamoDB `UpdateItem`", ("UpdateItem",), "days"),
    _Requests("DynamoDB `BatchGetItem`", ("BatchGetItem",), "days; contacts, 100 a request"),
    _Requests("DynamoDB `PutItem`", ("PutItem",), "contacts"),
    _Requests("DynamoDB `Query`", ("Query",), "contacts, twice"),
    _Requests("DynamoDB `BatchWriteItem`", ("BatchWriteItem",), "contacts' rows, 25 a request"),
    _Requests(
        "SQS",
        ("GetQueueAttributes", "ReceiveMessage", "ChangeMessageVisibilityBatch", "DeleteMessageBatch"),
        "dead letters, of which there are none",
        prices.SQS_REQUEST,
    ),
    _Requests("Lambda", ("Invoke", "GetFunctionConfiguration"), "nothing"),
)


class World:
    """A deployment in memory with days of captured contacts, of which each is to be erased once."""

    def __init__(self, contacts_a_day: int, objects_a_day: int, request_seconds: float) -> None:
        self._request_seconds = request_seconds
        self._lock = threading.Lock()
        self._passed = timedelta()
        self._requests: Counter[str] = Counter()
        self._function_requests: Counter[str] = Counter()
        self._tables_seconds = 0.0
        self._bucket = Bucket(self._clock)
        self._dynamodb = DynamoDB(keeps_calls=False)
        session = boto3.Session("synthetic", "synthetic", region_name="us-east-1")
        clients: Any = Clients(session)
        of_function = Clients(session)
        for name in ("dynamodb", "s3", "sqs"):
            self._serve(getattr(clients, name), self._requests)
            self._serve(getattr(of_function, name), self._function_requests)
        unheard = {name: lambda *_, **__: None for name in ("written", "failed", "behind", "deleted", "unreadable")}
        report: Any = SimpleNamespace(**unheard)
        self._tables = Tables(
            days=Days(of_function.dynamodb, "ledger"),
            folders=DayFolders(of_function.s3, "lake"),
            report=report,
            memory_megabytes=900,
            retention=None,
            clock=self._clock,
        )
        clients.functions = SimpleNamespace(
            invoke=self._invoke,
            get_function_configuration=self._configuration,
            exceptions=SimpleNamespace(TooManyRequestsException=RuntimeError),
        )
        self._deployment = Deployment("dev", clients, _OUTPUTS)
        self._left = [self._fill(day, contacts_a_day, objects_a_day) for day in range(_DAYS)]
        self._invoke()

    def measure(self, case: Case) -> Measured:
        """Erase contacts that were not erased yet, of days that have the most of them; raises if any is left."""
        days = sorted(self._left, key=len, reverse=True)[: case.days]
        chosen = [days[number % case.days].pop() for number in range(case.contacts)]
        self._passed += timedelta(hours=1)  # what was put before is older than clocks may differ, as it will be
        self._tables_seconds = 0.0
        for counted in (self._requests, self._function_requests, self._dynamodb.usage):
            counted.clear()
        began = time.monotonic()
        for contact_ids in [[each] for each in chosen] if case.one_by_one else [chosen]:
            targets = find_contacts(self._deployment, contact_ids)
            erased = Erasure(self._deployment, targets, clock=self._clock, sleep=lambda _: None).run()
            if not erased.is_complete or erased.removed["rows"] != len(contact_ids) * _REFERENCES:
                raise RuntimeError(f"not everything is erased: {erased.removed}, {erased.found}")
        seconds = time.monotonic() - began
        requests, of_function = self._requests.copy(), self._function_requests.copy()
        dollars = _price(requests + of_function) + sum(price(self._dynamodb.usage).values())
        return Measured(seconds, self._tables_seconds, requests, of_function, dollars)

    def _clock(self) -> datetime:
        return datetime.now(UTC) + self._passed

    def _fill(self, day: int, contacts: int, objects: int) -> list[str]:
        """Have a day's contacts captured; return their ids, in no order."""
        client: Any = self._bucket
        table: Any = self._dynamodb
        lake, ledger = Lake(client, "lake"), Ledger(table, "ledger")
        date = (_FIRST_DAY + timedelta(days=day)).date().isoformat()
        captures = [_capture(day, number) for number in range(contacts)]
        for number in range(objects):
            lake.append(date, captures[number * contacts // objects : (number + 1) * contacts // objects])
        for capture in captures:
            if ledger.put_rows({capture.capture_id: ledger.make_rows(capture)}) or not ledger.commit(
                _item(capture), over=None
            ):
                raise RuntimeError("the contact could not be put")
        ledger.mark_day(date)
        ids = [capture.contact.key.contact_id for capture in captures]
        random.Random(day).shuffle(ids)  # noqa: S311 - no secret
        return ids

    def _serve(self, client: Any, counted: Counter[str]) -> None:
        def answer(request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
            operation = event_name.rpartition(".")[2]
            time.sleep(self._request_seconds)
            with self._lock:
                counted[operation] += 1
                return self._answer(client.meta.service_model.service_name, operation, request)

        client.meta.events.register_first("before-send", answer)

    def _answer(self, service: str, operation: str, request: AWSPreparedRequest) -> AWSResponse:
        if service == "s3":
            return self._bucket.answer(request, operation)
        if service == "sqs":
            names = ("", "NotVisible", "Delayed")
            empty = {"Attributes": {f"ApproximateNumberOfMessages{name}": "0" for name in names}}
            return respond(request, 200, empty if operation == "GetQueueAttributes" else {})
        if b'"RIGHTS"' in read_body(request):  # whoever tries a right has it
            return respond(request, 200, {})
        return self._dynamodb.answer(request)

    def _configuration(self, **_: object) -> dict[str, Any]:
        self._requests["GetFunctionConfiguration"] += 1
        return _CONFIGURATION

    def _invoke(self, *, InvocationType: str = "", **_: object) -> dict[str, Any]:  # noqa: N803 - as a client has it
        self._requests["Invoke"] += 1
        if InvocationType == "DryRun":
            return {}
        began = time.monotonic()
        written = self._tables.run(holder="run", time_left=lambda: 900.0)
        self._tables_seconds += time.monotonic() - began
        return {"Payload": io.BytesIO(json.dumps({"outcome": "written", "written": written}).encode())}


def _price(requests: Counter[str]) -> float:
    """Return the US dollars of requests; raises KeyError for an operation that no table would show."""
    dollars = {operation: each.dollars for each in _REQUESTS for operation in each.operations}
    return sum(dollars[operation] * count for operation, count in requests.items())


def _capture(day: int, number: int) -> Capture:
    """Return the synthetic capture of a day's contact, the same each time."""
    name = f"{day:08}-0000-4000-8000-{number:012}"
    at = _FIRST_DAY + timedelta(days=day, seconds=number * 86_400 / 100_000)
    answered: list[dict[str, Any]] = [
        {"Url": {"Name": "CRM", "Value": f"https://crm.example.com/cases/{day}-{number}"}},
        {"Number": {"Name": "amount", "Value": f"{number}.25"}},
        {"String": {"Name": "note", "Value": f"note {day} {number}"}},
        {"Date": {"Name": "due", "Value": "2026-03-31"}},
        {"Email": {"Name": "reply to", "Value": f"customer{day}.{number}@example.com"}},
        {"Url": {"Name": "order", "Value": f"https://shop.example.com/orders/{number % 97}"}},
    ]
    contact = Contact(key=ContactKey(INSTANCE_ID, name), initial_contact_id=name, channel="VOICE", completed_at=at)
    return Capture(contact=contact, capture_id=name, captured_at=at, references=normalize_references(answered))


def _item(capture: Capture) -> ContactItem:
    return ContactItem(
        contact=capture.contact,
        capture_id=capture.capture_id,
        captured_at=capture.captured_at,
        reference_count=len(capture.references),
        event_id=capture.capture_id,
        read_at=capture.captured_at,
        checked_at=capture.captured_at,
        version=1,
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the rounds, and how large the days are."""
    parser.add_argument("--rounds", type=int, default=3, help="of each case, in turns (default: %(default)s)")
    parser.add_argument("--contacts", type=int, default=1000, help="that each day has (default: %(default)s)")
    parser.add_argument("--objects", type=int, default=200, help="that each day of the lake has (default: %(default)s)")
    parser.add_argument(
        "--milliseconds", type=float, default=20, help="that each request takes on its way (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> list[Section]:
    """Measure all cases in each round, forwards and backwards."""
    tell(f"{_DAYS} days of {options.contacts:,} contacts are put")
    world = World(options.contacts, options.objects, options.milliseconds / 1000)
    processors = ProcessorTime()
    measured: dict[Case, list[Measured]] = {case: [] for case in _CASES}
    for number in range(options.rounds):
        for case in _CASES if number % 2 == 0 else reversed(_CASES):
            measured[case].append(world.measure(case))
            tell(f"round {number + 1}, {case}: {measured[case][-1].seconds:.1f} s")
    note = (
        f"{_DAYS} days of {options.contacts:,} contacts with {_REFERENCES} references each, in {options.objects:,} "
        f"objects of the lake a day; each request takes {options.milliseconds:g} ms on its way. The wait for captures "
        "under way, the capture function's timeout, is left out, and what Lambda takes for the tables function. Ratios "
        f"are over *{_FEW}* in the same round; {options.rounds} rounds in turns, each with contacts of its own; "
        f"processors {processors}."
    )
    body = "\n\n".join([note, _times(measured), _bars(measured), _requests(measured), _NOTE])
    return [Section("erase", "Erasing contacts", body)]


def _over(measured: dict[Case, list[Measured]], case: Case, base: Case) -> tuple[list[float], list[float]]:
    """Return a case's times and requests over those of another one in the same round."""
    rounds = list(zip(measured[case], measured[base], strict=True))
    return [mine.seconds / other.seconds for mine, other in rounds], [
        mine.total / other.total for mine, other in rounds
    ]


def _times(measured: dict[Case, list[Measured]]) -> str:
    rows = []
    for case, of in measured.items():
        seconds, requests = _over(measured, case, _FEW)
        rows.append(
            [
                str(case),
                spread([each.seconds for each in of], ".1f") + " s",
                f"{statistics.median(each.tables_seconds for each in of):.1f} s",
                spread(seconds, ".2f"),
                f"{statistics.median(each.total for each in of):,.0f}",
                f"{statistics.median(requests):.2f}",
                f"{statistics.median(each.dollars for each in of):.4f}",
            ]
        )
    header = ["erased", "time", "of it the tables function", "ratio", "requests", "ratio", "their USD"]
    return table(header, rows)


def _bars(measured: dict[Case, list[Measured]]) -> str:
    rows = []
    for what, case, base, bar in (
        ("ten times the contacts, of 30 days", _MANY, _FEW, f"≤ {_BAR:g}"),
        ("ten times the days, of 1,000 contacts", _MANY, _NARROW, ""),
        ("10 contacts of a day one by one, over together", _ONE_BY_ONE, _TOGETHER, ""),
    ):
        seconds, requests = _over(measured, case, base)
        is_met = max(statistics.median(seconds), statistics.median(requests)) <= _BAR
        rows.append(
            [what, spread(seconds, ".2f"), f"{statistics.median(requests):.2f}", bar, verdict(is_met) if bar else ""]
        )
    return table(["what it takes", "time", "requests", "bar", ""], rows)


def _requests(measured: dict[Case, list[Measured]]) -> str:
    cases = (_MANY, _FEW, _NARROW)

    def row(what: str, count: Callable[[Measured], int], growth: str) -> list[str]:
        return [what, *(f"{statistics.median(map(count, measured[case])):,.0f}" for case in cases), growth]

    rows = [row(each.what, each.count, each.growth) for each in _REQUESTS]
    rows.append(row("the tables function, all", lambda each: each.function_requests.total(), "objects of the days"))
    return table(["requests", *map(str, cases), "grow with"], rows)
