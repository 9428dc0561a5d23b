"""What the lookup function takes: its start beside boto3's, and the time to a cold answer in AWS's runtime client.

The ledger is in memory behind a server on loopback, over TLS and with a full bundle of certificates. Each round runs
every program in a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import certifi

from benchmarks.ledger import INSTANCE_ID, put_contact
from benchmarks.report import Section, spread, table, verdict
from infra.asset import LAMBDAS, build
from local.in_memory.connect import Connect
from local.in_memory.server import Server

MEMORY = 256
_WHOLE_PROCESSOR = 1769  # MB of memory, for which Lambda gives a whole one
_RUNTIME_CLIENT = "awslambdaric==4.2.2"
_STACK = 128  # frames: where the interpreter's stack crosses a page imports are slower, and rounds even that out
_START = """
import resource, sys
sys.path[:0] = [sys.argv[1]]
def start(depth):
    exec(sys.argv[2], globals()) if depth == 0 else start(depth - 1)
start(int(sys.argv[3]))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_utime + usage.ru_stime)
"""
_RUN = """
import sys
sys.path[:0] = [sys.argv[1]]
sys.path.append(sys.argv[2])
from awslambdaric.__main__ import main
main(["awslambdaric", "lookup.handler.handler"])
"""
_QUESTIONS = {
    "a chain of three contacts": {},
    "a value that 20 contacts have": {"type": "EMAIL", "value": "jane@example.com"},
}
_CHAIN = ("previous", "related", "initial")


class ColdAnswer(NamedTuple):
    """Seconds of one process: until it asked for its first event, from there to its answer, and of processor there."""

    start: float
    answer: float
    processor: float

    def at(self, memory: int) -> float:
        """Seconds to the answer with so much memory: only the start has a whole processor, whatever the memory."""
        return self.start + self.answer + self.processor * (_WHOLE_PROCESSOR / memory - 1)


def serve(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """Return a server on a free port of the loopback address, to be started."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    return server


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[int]:
    """Serve in a thread; yields the port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Rig:
    """What is measured: the asset, boto3 as it is installed, the runtime client, and the ledger."""

    def __init__(self, folder: Path, ledger: Server) -> None:
        self._asset, self._boto3, self._runtime = folder / "asset", folder / "boto3", folder / "runtime"
        self._bundle = folder / "bundle.pem"
        self._bundle.write_bytes(Path(certifi.where()).read_bytes() + ledger.certificate.read_bytes())
        self._url = ledger.url
        build(source=LAMBDAS, target=self._asset)
        _install(self._boto3, "--no-deps", "--requirement", str(LAMBDAS / "requirements.txt"))
        _install(self._runtime, _RUNTIME_CLIENT)

    def start(self, *, is_ours: bool, depth: int) -> float:
        """Return the processor seconds of a start: of the function, or of boto3 with a client of DynamoDB."""
        code = "import lookup.handler" if is_ours else "import boto3; boto3.client('dynamodb')"
        folder = self._asset if is_ours else self._boto3
        command = [sys.executable, "-I", "-S", "-B", "-c", _START, str(folder), code, str(depth)]
        finished = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=True)
        return float(finished.stdout)

    def answer(self, parameters: dict[str, str]) -> ColdAnswer:
        """Return the seconds of a cold answer to a flow's question."""
        runtime = _Runtime(parameters)
        server = serve(runtime.handler())
        command = [sys.executable, "-I", "-S", "-B", "-c", _RUN, str(self._asset), str(self._runtime)]
        with running(server) as port:
            environment = self._environment() | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"}
            begin = time.monotonic()
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
                runtime.pid = process.pid
                try:
                    if not runtime.is_answered.wait(timeout=30):
                        raise RuntimeError("the function did not answer within 30 seconds")
                finally:
                    process.kill()
        if runtime.result.get("found") != "true":
            raise RuntimeError(f"not the expected answer: {runtime.result}")
        (asked, before), (answered, after) = runtime.asked, runtime.answered
        return ColdAnswer(asked - begin, answered - asked, after - before)

    def _environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "synthetic",
            "AWS_SECRET_ACCESS_KEY": "synthetic",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._url,
            "AWS_CA_BUNDLE": str(self._bundle),
            "AWS_LAMBDA_FUNCTION_NAME": "lookup",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY),
            "LAMBDA_TASK_ROOT": str(self._asset),
            "TABLE_NAME": "ledger",
            "POWERTOOLS_SERVICE_NAME": "lookup",
        }


class _Runtime:
    """Lambda's runtime API for one invocation, and when the runtime client came to it.

    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
    """

    def __init__(self, parameters: dict[str, str]) -> None:
        arn = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
        contact = {"ContactId": "live", "InstanceARN": arn}
        contact |= {f"{name.capitalize()}ContactId": name for name in _CHAIN}
        event = {"Name": "ContactFlowEvent", "Details": {"ContactData": contact, "Parameters": parameters}}
        self._event = json.dumps(event).encode()
        self.pid = 0
        self.asked = self.answered = (0.0, 0.0)
        self.result: dict[str, str] = {}
        self.is_answered = threading.Event()

    def now(self) -> tuple[float, float]:
        """Return the time, and the processor time that the function's process has had; in seconds."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return time.monotonic(), sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers."""
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if runtime.asked[0]:
                    runtime.is_answered.wait()  # there is no second event: the process is killed
                    return
                runtime.asked = runtime.now()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "00000000-0000-4000-8000-000000000000")
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 8000))
                arn = "arn:aws:lambda:us-east-1:111122223333:function:lookup"
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", arn)
                # Without these two the runtime client crashes.
                self.send_header("Content-Type", "application/json")
                self.send_header("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0")
                self.send_header("Content-Length", str(len(runtime._event)))
                self.end_headers()
                self.wfile.write(runtime._event)

            def do_POST(self) -> None:
                runtime.answered = runtime.now()
                runtime.result = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                runtime.is_answered.set()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


def _install(target: Path, *what: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", str(target), *what]
    subprocess.run(command, check=True, env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}, stderr=subprocess.DEVNULL)


@contextmanager
def open_rig() -> Iterator[Rig]:
    """Build what is measured, and serve a ledger with a chain of contacts, and more that have its value."""
    with TemporaryDirectory() as folder, Server(Connect()) as ledger:
        for name in _CHAIN:
            put_contact(ledger.dynamodb, name, references=5)
        for number in range(17):  # 20 with those of the chain
            put_contact(ledger.dynamodb, f"c{number}", references=1)
        yield Rig(Path(folder), ledger)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the rounds."""
    parser.add_argument("--rounds", type=int, default=15, help="processes of each program (default: %(default)s)")


def run(options: argparse.Namespace) -> list[Section]:
    """Measure: medians of the rounds, with the least and the most."""
    ratios: list[float] = []
    ours: list[float] = []
    answers: dict[str, list[ColdAnswer]] = {name: [] for name in _QUESTIONS}
    with open_rig() as rig:
        for number in range(options.rounds):
            depth = number * _STACK // options.rounds
            mine, theirs = rig.start(is_ours=True, depth=depth), rig.start(is_ours=False, depth=depth)
            ours.append(mine * 1000)
            ratios.append(mine / theirs)
            for name, parameters in _QUESTIONS.items():
                answers[name].append(rig.answer(parameters))
    is_met = statistics.median(ratios) <= 0.8
    rows = [
        [
            "start, CPU",
            "0.8 of boto3 with one client",
            spread(ratios, ".3f"),
            f"{spread(ours, '.0f')} ms",
            verdict(is_met),
        ]
    ]
    for name, cold in answers.items():
        seconds = [each.at(MEMORY) for each in cold]
        parts = ", ".join(
            f"{what} {spread([1000 * getattr(each, field) for each in cold], '.0f')} ms"
            for what, field in (("start", "start"), ("answer", "answer"), ("its CPU", "processor"))
        )
        is_met = statistics.median(seconds) <= 1
        rows.append(
            [f"cold answer at {MEMORY} MB, {name}", "1 s", f"{spread(seconds, '.2f')} s", parts, verdict(is_met)]
        )
    body = table(["what", "bar", "measured", "of which, on a whole processor", "bar is"], rows)
    return [Section("lookup", "The lookup function: start and answer", f"{body}\n\n{options.rounds} rounds.")]
