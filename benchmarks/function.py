"""What the capture function takes, beside the baseline's: its asset, its start, its work a contact.

Both assets are built, and each runs in interpreters that see nothing else, against the services in memory, on
loopback with TLS and a full bundle of certificates. Processor time is the function's process alone, user and system.
"""

import argparse
import json
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.baseline import build as build_baseline
from benchmarks.report import ProcessorTime, Section, table, tell, verdict
from benchmarks.traffic import ALL_TYPES, Event, as_batch, function_settings, make_event
from contact_references.model.reference import PRODUCED_TYPES
from contact_references.model.reference_types import OTHER_CHANNELS
from infra.asset import LAMBDAS
from infra.asset import build as build_ours
from local.in_memory.connect import Connect, Member
from local.in_memory.server import Server

REFERENCES = (1, 5, 25)
BATCH = 10
_BATCHES = 5  # that are measured; one more comes first, to warm up
_STACK = 128  # frames, about as many as the interpreter gets memory for at once
_KINDS = ("Url", "Attachment", "String", "EmailMessage", "Number", "ContactAnalysis", "Date", "Email")
_VALUES = {"Number": "12.50", "Date": "2026-03-02", "Email": "agent@example.com", "EmailMessage": None}
_DRIVER = """
import resource, sys
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
sys.path[:0] = [sys.argv[1]]
handler = None
def start(depth):
    exec(sys.argv[2], globals()) if depth == 0 else start(depth - 1)
start(int(sys.argv[3]))
ready = cpu()
with open("/proc/self/statm") as file:
    resident = int(file.read().split()[1]) * resource.getpagesize()
import json, types
context = types.SimpleNamespace(
    function_name="capture",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:capture",
    aws_request_id="00000000-0000-4000-8000-000000000000",
    get_remaining_time_in_millis=lambda: 600_000,
)
seconds = []
for events in json.load(sys.stdin):
    begin = cpu()
    answers = [handler(event, context) for event in events]
    seconds.append(cpu() - begin)
    if any(answer and answer.get("batchItemFailures") for answer in answers):
        sys.exit(f"not captured: {answers}")
print(json.dumps({"ready": ready, "resident": resident, "seconds": seconds}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Program:
    """Something that is started: an asset, what to import of it, and how it is told types and handed a batch."""

    asset: Path
    code: str
    pack: Callable[[list[Event]], list[Event]] = list
    write_types: Callable[[Sequence[str]], str] = ",".join


@dataclass
class Sample:
    """One process: processor seconds until it was ready, bytes in memory then, and seconds for each step."""

    ready: float
    resident: float
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """A row of the report: a figure of ours over the same of another program, process by process."""

    what: str
    of: str
    bar: float | None
    figure: Callable[[Sample], float]
    unit: str = "ms"
    scale: float = 1000.0


def _per_contact(position: int) -> Callable[[Sample], float]:
    def figure(sample: Sample) -> float:
        begin = 1 + position * (1 + _BATCHES) + 1  # the first event, and each size's warming up
        return statistics.median(sample.seconds[begin : begin + _BATCHES]) / BATCH

    return figure


_BOTO3 = "boto3 and three clients"
LINES = [
    Line("start, CPU", _BOTO3, 0.70, lambda sample: sample.ready),
    Line("start, CPU", "baseline", None, lambda sample: sample.ready),
    Line("start and first event, CPU", "baseline", None, lambda sample: sample.ready + sample.seconds[0]),
    Line("memory when ready", _BOTO3, 0.64, lambda sample: sample.resident, "MiB", 1 / 2**20),
    Line("memory when ready", "baseline", None, lambda sample: sample.resident, "MiB", 1 / 2**20),
    *(
        Line(f"CPU a contact, {BATCH} in a batch, N = {count}", "baseline", bar, _per_contact(position))
        for position, (count, bar) in enumerate(zip(REFERENCES, (0.60, 0.40, 0.16), strict=True))
    ),
]


def contact_id(references: int, serial: int) -> str:
    """Return the id of a contact with so many references."""
    return f"{references:08}-0000-4000-8000-{serial:012}"


def find_references(name: str) -> list[Member]:
    """Return a contact's references: as many as its id says."""
    return [_reference(_KINDS[number % len(_KINDS)], number) for number in range(int(name.partition("-")[0]))]


def _reference(kind: str, number: int) -> Member:
    value = _VALUES.get(kind, f"https://crm.example.com/{number}")
    content = {"Name": f"Reference {number}", **({} if value is None else {"Value": value})}
    if kind in PRODUCED_TYPES:
        content["Arn"] = f"arn:aws:connect:us-east-1:111122223333:instance/i/contact/c/{kind}/{number}"
    if kind in {"Attachment", "ContactAnalysis"}:
        content["Status"] = "AVAILABLE"
    return {kind: content}


def _by_channel(types: Sequence[str]) -> str:
    return json.dumps({OTHER_CHANNELS: types})


def _steps(pack: Callable[[list[Event]], list[Event]]) -> Iterator[list[Event]]:
    """Yield what each process is given: one event, then batches of contacts with one, five, 25 references."""
    serials = iter(range(10**6))

    def batch(references: int, size: int) -> list[Event]:
        return pack([make_event(contact_id(references, next(serials)), "event") for _ in range(size)])

    yield batch(REFERENCES[1], 1)
    for references in REFERENCES:
        for _ in range(1 + _BATCHES):
            yield batch(references, BATCH)


class Rig:
    """The assets and the services, ready to run programs."""

    def __init__(self, folder: Path, services: Server) -> None:
        self._services = services
        ours, baseline = folder / "ours", folder / "baseline"
        build_ours(source=LAMBDAS, target=ours)
        build_baseline(baseline)
        clients = "import boto3\nfor name in ('connect', 'dynamodb', 's3'):\n    boto3.client(name)"
        self.programs = {
            "ours": Program(ours, "from capture.handler import handler", as_batch, _by_channel),
            _BOTO3: Program(baseline, clients),
            "baseline": Program(baseline, "from handler import handler"),
        }
        self._bundle = folder / "bundle.pem"
        everybody = (baseline / "botocore" / "cacert.pem").read_bytes()
        self._bundle.write_bytes(everybody + services.certificate.read_bytes())

    def run(self, name: str, steps: Sequence[Sequence[Event]], *, depth: int) -> Sample:
        """Run the program in a process of its own and hand it the steps; the services know nothing of before.

        `depth` is how many calls deep it is imported.
        """
        self._services.reset()
        program = self.programs[name]
        finished = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", _DRIVER, str(program.asset), program.code, str(depth)],
            input=json.dumps(steps),
            env=self._environment(program),
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            raise RuntimeError(f"{name} failed:\n{finished.stdout}{finished.stderr}")
        return Sample(**json.loads(finished.stderr.splitlines()[-1]))

    def _environment(self, program: Program) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "synthetic",
            "AWS_SECRET_ACCESS_KEY": "synthetic",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._services.url,
            "AWS_CA_BUNDLE": str(self._bundle),
            "AWS_LAMBDA_FUNCTION_NAME": "capture",
            # As in Lambda with active tracing, which the baseline has, in an invocation that is not sampled, as most
            # are not. Nobody listens to the daemon's address: what is sent there is one datagram.
            "LAMBDA_TASK_ROOT": str(program.asset),
            "_X_AMZN_TRACE_ID": "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0",
            "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:9",
            **function_settings(program.write_types(ALL_TYPES), queue_url=f"{self._services.url}/queue"),
        }


def zipped_size(folder: Path) -> int:
    """Return the folder's size in bytes as a zip file."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive.stat().st_size


def measure(rig: Rig, rounds: int) -> dict[str, list[Sample]]:
    """Run the programs in turn, again and again."""
    samples: dict[str, list[Sample]] = {name: [] for name in rig.programs}
    for number, name in ((number, name) for number in range(rounds) for name in rig.programs):
        tell(f"round {number + 1} of {rounds}: {name}")
        program = rig.programs[name]
        steps = list(_steps(program.pack)) if "handler" in program.code else []
        # Where the interpreter's stack crosses a page, each call makes the system give and take memory: how often
        # depends on the depth of the imports, and is evened out over the rounds.
        samples[name].append(rig.run(name, steps, depth=number * _STACK // rounds))
    return samples


def describe_size(rig: Rig) -> list[list[str]]:
    """Return the rows of the asset."""
    ours, baseline = (zipped_size(rig.programs[name].asset) for name in ("ours", "baseline"))
    size, ratio = ours / 2**20, ours / baseline
    both = f"{size:.2f} / {baseline / 2**20:.2f} MiB"
    return [
        ["asset, zipped", "2.5 MiB", f"{size:.2f} MiB", both, verdict(size <= 2.5)],
        ["asset, zipped", "0.15 of baseline", f"{ratio:.3f}", both, verdict(ratio <= 0.15)],
    ]


def describe_line(line: Line, samples: dict[str, list[Sample]]) -> list[str]:
    """Return a row: the median of the rounds' ratios with the least and the most, and both programs' medians."""
    ours, others = ([line.figure(sample) * line.scale for sample in samples[name]] for name in ("ours", line.of))
    ratios = [mine / theirs for mine, theirs in zip(ours, others, strict=True)]
    ratio = statistics.median(ratios)
    return [
        line.what,
        f"of {line.of}" if line.bar is None else f"{line.bar} of {line.of}",
        f"{ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        f"{statistics.median(ours):.1f} / {statistics.median(others):.1f} {line.unit}",
        "" if line.bar is None else verdict(ratio <= line.bar),
    ]


@contextmanager
def open_rig() -> Iterator[Rig]:
    """Build the assets and serve."""
    connect = Connect(keeps_calls=False)
    connect.find = find_references
    with TemporaryDirectory() as folder, Server(connect) as services:
        yield Rig(Path(folder), services)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the number of rounds."""
    parser.add_argument("--rounds", type=int, default=15, help="processes of each program (default: %(default)s)")


def run(options: argparse.Namespace) -> list[Section]:
    """Measure."""
    if options.rounds < 1 or not Path("/proc/self/statm").exists():
        raise SystemExit("--rounds is at least 1, for example 15, and memory is measured through /proc, on Linux")
    processors = ProcessorTime()
    tell("building both assets …")
    with open_rig() as rig:
        rows = describe_size(rig)
        samples = measure(rig, options.rounds)
        rows += [describe_line(line, samples) for line in LINES]
    header = ["what", "bar", "measured", "ours / the other's, medians", "bar is"]
    note = f"{options.rounds} rounds, {_BATCHES} batches a process. Processors: {processors}."
    return [Section("function", "The function: size, start and work", f"{table(header, rows)}\n\n{note}")]
