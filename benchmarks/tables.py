"""What making tables of the lake takes, and what they save whoever queries.

The function's own code runs in a process of its own and reads a synthetic day from a local store over HTTP, which takes
its share of the same processors. Of each contact six references, twelve and a half contacts an object, as after a busy
hour; each hour's run of the costs reads the batches that are measured elsewhere.
"""

import argparse
import gzip
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
import duckdb
from botocore.config import Config

from benchmarks.report import ProcessorTime, Section, table, tell, verdict
from contact_references.aws.day_folders import READERS, DayFolders
from contact_references.aws.days import Lease, Mark
from contact_references.tables.run import Tables
from ops import prices

DATE = "2026-03-02"
TYPES = ("URL", "NUMBER", "STRING", "DATE", "EMAIL", "ATTACHMENT")
CONTACTS_AN_OBJECT = 12.5
MEMORY_MEGABYTES = 900
_LAKE = f"captures/completed_date={DATE}"
_PAGE = 1000

_VOLUMES = {1_000: 1.0, 10_000: 1.0, 100_000: 2.5}
"""Contacts a day, and how many of them an object has: as in docs/operations.md."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take what a run can be told."""
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement, in turns")
    parser.add_argument("--contacts", type=int, default=100_000, help="of the smaller day; the larger has three times")
    parser.add_argument("--parts", nargs="+", choices=("day", "query", "cost"), default=("day", "query", "cost"))
    parser.add_argument("--days", type=int, default=30, help="that are queried")


def run(options: argparse.Namespace) -> Iterator[Section]:
    """Measure, and yield what came of it."""
    processors = ProcessorTime()
    with TemporaryDirectory() as name:
        folder = Path(name)
        sizes = (options.contacts, 3 * options.contacts) if "day" in options.parts else (options.contacts,)
        days = {contacts: folder / str(contacts) for contacts in sizes if set(options.parts) != {"cost"}}
        for contacts, day in days.items():
            tell(f"writing a day of {contacts:,} contacts")
            write_day(day / _LAKE, contacts, CONTACTS_AN_OBJECT)
        if "day" in options.parts:
            yield _whole_days(days, options.rounds, processors)
        if "query" in options.parts:
            yield _queries(days[options.contacts], options.days, options.rounds)
        if "cost" in options.parts:
            yield _costs(folder)


def _whole_days(days: dict[int, Path], rounds: int, processors: ProcessorTime) -> Section:
    measured: dict[int, list[dict[str, float]]] = {contacts: [] for contacts in days}
    for round_ in range(rounds):
        for contacts, day in days.items():
            measured[contacts].append(measure_run(day))
            tell(f"round {round_ + 1}, {contacts:,} contacts: {measured[contacts][-1]}")
    small, large = sorted(days)
    rows = []
    for contacts, of in measured.items():
        seconds = [each["seconds"] for each in of]
        rows.append(
            [
                f"{contacts:,}",
                f"{len(list((days[contacts] / _LAKE).iterdir())):,}",
                f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})",
                f"{max(each['megabytes'] for each in of):,.0f} MB",
                f"{max(each['disk_megabytes'] for each in of):,.0f} MB",
            ]
        )
    first = statistics.median(each["seconds"] for each in measured[small])
    memory = max(each["megabytes"] for of in measured.values() for each in of)
    growth = statistics.median(
        b["seconds"] / a["seconds"] for a, b in zip(measured[small], measured[large], strict=True)
    )
    bars = [
        [f"time of {small:,} contacts", "≤ 60 s", f"{first:.1f} s", verdict(first <= 60)],
        ["memory, of both days", "≤ 1,500 MB", f"{memory:,.0f} MB", verdict(memory <= 1500)],
        [f"time of {large:,} over {small:,}, of each round", "≤ 3.5", f"{growth:.2f}", verdict(growth <= 3.5)],
    ]
    header = ["contacts", "objects", "time, median and range", "memory at most", "spilled at most"]
    text = (
        f"A whole day read from the store, its tables made and put back; DuckDB has {MEMORY_MEGABYTES} MB, one thread."
        f" {rounds} rounds in turns; processors {processors}."
    )
    body = "\n\n".join([text, table(header, rows), table(["what", "bar", "measured", ""], bars)])
    return Section("tables", "The tables of a day", body)


def _queries(day: Path, days: int, rounds: int) -> Section:
    measure_run(day)
    links = day / "links"
    for number in range(days):
        date = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)).date()
        for kind in ("captures", "contact_references"):
            target = links / kind / f"completed_date={date}"
            target.mkdir(parents=True)
            for file in (day / kind / f"completed_date={DATE}").iterdir():
                os.link(file, target / file.name)
    parquet = f"read_parquet('{links}/contact_references/*/*.parquet', hive_partitioning = true)"
    columns = "{record_type: 'VARCHAR', channel: 'VARCHAR', reference_type: 'VARCHAR'}"
    raw = f"read_json('{links}/captures/*/*.jsonl.gz', format = 'newline_delimited', columns = {columns})"
    select = "SELECT channel, reference_type, count(*) FROM {} GROUP BY ALL ORDER BY ALL"
    queries = {
        "tables": select.format(parquet),
        "raw lake": select.format(f"{raw} WHERE record_type = 'REFERENCE'"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in queries}
    answers = set()
    for round_ in range(rounds):
        for name, sql in queries.items():
            with duckdb.connect(config={"threads": 2, "memory_limit": "4GB"}) as database:
                begin = time.monotonic()
                answers.add(repr(database.execute(sql).fetchall()))
                seconds[name].append(time.monotonic() - begin)
            tell(f"round {round_ + 1}, {name}: {seconds[name][-1]:.2f} s")
    if len(answers) != 1:
        raise RuntimeError("the tables and the lake give different answers")
    with duckdb.connect() as database:
        [(scanned,)] = database.execute(
            "SELECT sum(total_compressed_size) FROM parquet_metadata($glob) "
            "WHERE path_in_schema IN ('channel', 'reference_type')",
            {"glob": f"{links}/contact_references/*/*.parquet"},
        ).fetchall()
    lake = sum(file.stat().st_size for file in links.glob("captures/*/*"))
    ratios = [a / b for a, b in zip(seconds["tables"], seconds["raw lake"], strict=True)]
    rows = [
        [
            name,
            f"{size / 1e6:,.1f} MB",
            f"{statistics.median(seconds[name]):.2f} s ({min(seconds[name]):.2f} to {max(seconds[name]):.2f})",
        ]
        for name, size in (("tables", scanned), ("raw lake", lake))
    ]
    ratio, size = statistics.median(ratios), scanned / lake
    bars = [
        ["bytes", "≤ 1/20", f"1/{1 / size:,.0f}", verdict(size <= 1 / 20)],
        ["time", "≤ 1/50", f"1/{1 / ratio:,.0f}", verdict(ratio <= 1 / 50)],
    ]
    text = (
        f"References by channel and type, two columns, over {days} days of {len(list((day / _LAKE).iterdir())):,} "
        f"objects each, by DuckDB from the local disk; {rounds} rounds in turns. The baseline is the lake as it is, "
        "without dropping repeats; what a query of the tables scans are the two columns."
    )
    header = ["over", "read", "time, median and range"]
    body = "\n\n".join([text, table(header, rows), table(["tables over raw lake", "bar", "measured", ""], bars)])
    return Section("tables query", "A query of the tables, and of the lake", body)


def _costs(folder: Path) -> Section:
    """Count a month: 24 runs a day for this day, and as many for yesterday, whose rechecks append to it."""
    bars = (0.5, 1.5, 6.0)
    lines: dict[str, list[float]] = {}
    assumed = []
    for contacts, contacts_an_object in _VOLUMES.items():
        day = folder / f"cost {contacts}"
        tell(f"writing a day of {contacts:,} contacts in objects of {contacts_an_object}")
        write_day(day / _LAKE, contacts, contacts_an_object)
        measure_run(day)
        objects = contacts / contacts_an_object + contacts / 10  # a recheck's capture is an object of its own
        an_hour = round(contacts / contacts_an_object / 24)
        seconds = measure_run(day, newest=an_hour)["seconds"]
        size = sum(file.stat().st_size for file in day.glob("contact*/*/*.parquet"))
        assumed.append(f"{seconds:.1f} s a run at {contacts:,}")
        runs = 48 * 30
        gb_second = 1.769 * prices.LAMBDA_X86_GB_SECOND + 3.5 * prices.LAMBDA_DISK_GB_SECOND
        of = {
            "Lambda": runs * seconds * gb_second + 720 * prices.LAMBDA_REQUEST,
            "S3 GET: each object, a quarter of them twice, and the tables before": 30
            * (1.25 * objects + 4 * 48)
            * prices.S3_GET,
            "S3 LIST, and PUT of the tables": 30 * (24 * 1.55 * objects / _PAGE + 48 * 3 + 48 * 2) * prices.S3_PUT,
            "DynamoDB, Scheduler": runs * 6 * prices.DYNAMODB_WRITE_UNIT + 720 * prices.SCHEDULED_INVOCATION,
            "S3 storage: a month of tables, and a day of what they were": (30 + 36) * size / 1e9 * prices.S3_GB_MONTH,
            "metric `SecondsBehind`": prices.METRIC_MONTH,
        }
        for name, dollars in of.items():
            lines.setdefault(name, []).append(dollars)
    sums = [sum(column) for column in zip(*lines.values(), strict=True)]
    rows = [[name, *(f"{dollars:.2f}" for dollars in of)] for name, of in lines.items()]
    rows.append(["**sum**", *(f"**{total:.2f}**" for total in sums)])
    rows.append(["bar", *(f"{bar:.2f}, {verdict(total <= bar)}" for bar, total in zip(bars, sums, strict=True))])
    text = (
        f"US dollars a month; rechecks after 24 hours on a tenth of the contacts. Measured, with a full day's tables "
        f"before and an hour's objects new: {', '.join(assumed)}. Queries are Athena's 5 dollars a terabyte scanned."
    )
    body = "\n\n".join([text, table(["contacts a day", *(f"{contacts:,}" for contacts in _VOLUMES)], rows)])
    return Section("tables cost", "Cost of the tables", body)


def measure_run(day: Path, *, newest: int | None = None) -> dict[str, float]:
    """Run the function over a day in a process of its own; with `newest` it has the tables before and so many objects.

    Returns seconds, megabytes of memory and of temporary files at most.
    """
    with serve(day, newest=newest) as url, TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "benchmarks.tables", url, str(int(newest is not None))]
        finished = subprocess.run(
            command, env={**os.environ, "TMPDIR": temporary}, capture_output=True, text=True, check=True
        )
    measured: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def _run_function(url: str, *, has_tables: bool) -> None:
    now = datetime.now(UTC)
    mark = Mark(DATE, 1, now + timedelta(hours=1) if has_tables else None)
    days: Any = SimpleNamespace(
        take_lease=lambda holder, **_: Lease(holder, has_marked_all=True),
        return_lease=lambda *_, **__: None,
        find_marked=lambda: {DATE: now},
        read_mark=lambda _: mark,
        clear=lambda *_, **__: True,
    )
    report: Any = SimpleNamespace(written=lambda *_, **__: None, behind=lambda *_, **__: None)
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - nobody checks
        config=Config(max_pool_connections=READERS, proxies={}, s3={"addressing_style": "path"}),
    )
    tables = Tables(
        days=days,
        folders=DayFolders(client, "lake"),
        report=report,
        memory_megabytes=MEMORY_MEGABYTES,
        retention=None,
        clock=lambda: now,
    )
    peak, has_ended = [0.0], threading.Event()

    def watch() -> None:
        while not has_ended.wait(0.2):
            files = list(Path(os.environ["TMPDIR"]).rglob("*.tmp"))
            everything = sum(size_of(path) for path in [*files, *Path(os.environ["TMPDIR"]).glob("*/*.parquet")])
            peak[0] = max(peak[0], everything / 1e6)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    begin = time.monotonic()
    written = tables.run(holder="benchmark", time_left=lambda: 900)
    seconds = time.monotonic() - begin
    has_ended.set()
    watcher.join()
    if written != 1:
        raise RuntimeError("the day is not written")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "megabytes": memory, "disk_megabytes": peak[0]}))


def size_of(path: Path) -> int:
    """Return a file's size, 0 if it has gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Store(BaseHTTPRequestHandler):
    """S3's listing, GetObject and PutObject over a folder; tells of `newest` objects that they are new."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, newest: int | None, *arguments: Any) -> None:
        self._folder = folder
        self._newest = newest
        super().__init__(*arguments)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if "list-type" in url.query:
            self._answer(self._list(parse_qs(url.query)).encode())
        else:
            self._answer((self._folder / unquote(url.path).removeprefix("/lake/")).read_bytes())

    def do_PUT(self) -> None:
        path = self._folder / unquote(urlsplit(self.path).path).removeprefix("/lake/")
        path.parent.mkdir(parents=True, exist_ok=True)
        body = self._read_chunks() if self.headers.get("transfer-encoding") else None
        content = body if body is not None else self.rfile.read(int(self.headers["content-length"]))
        if "aws-chunked" in self.headers.get("content-encoding", ""):
            content = _unwrap(content)
        path.write_bytes(content)
        self._answer(b"")

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _list(self, query: dict[str, list[str]]) -> str:
        prefix = query["prefix"][0]
        names = sorted(path.name for path in (self._folder / prefix).glob("*"))
        start = int(query.get("continuation-token", ["0"])[0])
        entries = []
        for number in range(start, min(start + _PAGE, len(names))):
            is_new = self._newest is None or number < self._newest
            moment = "2099-01-01T00:00:00.000Z" if is_new else "2000-01-01T00:00:00.000Z"
            key = escape(prefix + names[number])
            entries.append(f"<Contents><Key>{key}</Key><LastModified>{moment}</LastModified><Size>1</Size></Contents>")
        end = start + _PAGE
        more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"
        last = "<IsTruncated>false</IsTruncated>"
        return f"<ListBucketResult>{''.join(entries)}{more if end < len(names) else last}</ListBucketResult>"

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _unwrap(content: bytes) -> bytes:
    """Return what is in a body of chunks that have their sizes before them."""
    parts = []
    while match := re.match(rb"([0-9a-fA-F]+)[^\r]*\r\n", content):
        size = int(match[1], 16)
        if size == 0:
            break
        parts.append(content[match.end() : match.end() + size])
        content = content[match.end() + size + 2 :]
    return b"".join(parts)


@contextmanager
def serve(folder: Path, *, newest: int | None) -> Iterator[str]:
    """Serve a day's folder from this process; yield where."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Store, folder, newest))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_day(folder: Path, contacts: int, contacts_an_object: float) -> None:
    """Write a synthetic day of the lake, the same each time."""
    folder.mkdir(parents=True)
    draw = random.Random(contacts)  # noqa: S311 - no secret
    objects = round(contacts / contacts_an_object)
    begin = 0
    for number in range(1, objects + 1):
        end = round(number * contacts / objects)
        lines = [json.dumps(record, separators=(",", ":")) for _ in range(begin, end) for record in _records(draw)]
        content = gzip.compress(("\n".join(lines) + "\n").encode(), 6)
        (folder / f"{_uuid(draw)}.jsonl.gz").write_bytes(content)
        begin = end


def _records(draw: random.Random) -> Sequence[dict[str, Any]]:
    contact_id, seconds = _uuid(draw), draw.randrange(86_400)
    moment = f"{DATE}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{draw.randrange(1000):03}Z"
    contact = {
        "schema_version": 2,
        "record_type": "CONTACT",
        "instance_id": "12345678-1234-1234-1234-123456789012",
        "contact_id": contact_id,
        "initial_contact_id": contact_id,
        "channel": draw.choice(("VOICE", "CHAT", "EMAIL", "TASK")),
        "initiation_method": draw.choice(("INBOUND", "OUTBOUND")),
        "completed_at": moment,
        "capture_id": f"{draw.getrandbits(128):032x}",
        "captured_at": moment,
    }
    values = {
        "URL": f"https://crm.example.com/cases/{draw.randrange(10**9)}",
        "NUMBER": f"{draw.randrange(10**7) / 100}",
        "STRING": f"note {draw.randrange(10**6)}",
        "DATE": DATE,
        "EMAIL": f"customer{draw.randrange(10**6)}@example.com",
        "ATTACHMENT": f"https://files.example.com/{_uuid(draw)}",
    }
    references = []
    for reference_type, value in values.items():
        reference: dict[str, Any] = contact | {
            "record_type": "REFERENCE",
            "reference_id": f"{draw.getrandbits(128):032x}",
            "reference_type": reference_type,
            "reference_name": f"name {draw.randrange(20)}",
            "reference_value": value,
            "canonical_value": value,
            "is_valid": draw.random() > 0.01,
        }
        if reference_type == "NUMBER":
            reference["number_value"] = value
        if reference_type == "DATE":
            reference["date_value"] = f"{DATE}T00:00:00.000Z"
        if reference_type == "ATTACHMENT":
            reference |= {"arn": f"arn:aws:connect:us-east-1:111122223333:file/{_uuid(draw)}", "status": "APPROVED"}
        references.append(reference)
    return [contact | {"reference_count": len(references)}, *references]


def _uuid(draw: random.Random) -> str:
    return str(uuid.UUID(int=draw.getrandbits(128)))


if __name__ == "__main__":
    _run_function(sys.argv[1], has_tables=sys.argv[2] == "1")
