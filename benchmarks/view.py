"""How long the page takes to answer a search among 100,000 contacts, beside the same search among 1,000.

The page runs as `view` starts it; it is asked over HTTP, and the time is its own `Server-Timing`. The ledger is in
memory behind a server on loopback, over TLS, in the same process: what it takes is in the time, what AWS takes is not.
Each round asks both, in turns.
"""

import argparse
import http.client
import re
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import boto3
import botocore.session

from benchmarks.ledger import INSTANCE_ID, put_contact
from benchmarks.report import ProcessorTime, Section, spread, table, tell, verdict
from contact_references.aws.ledger import value_key
from local.in_memory.connect import Connect
from local.in_memory.dynamodb import DynamoDB
from local.in_memory.server import Server
from ops.clients import Clients
from ops.deployment import Deployment
from ops.view import listen, make_server

_BAR_MILLISECONDS = 200
_MANY, _FEW = 100_000, 1000
_INSTANCE_ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
_OUTPUTS = {"TableName": "ledger", "CaptureFunctionName": "capture"}
_SHARED_BY = 100  # contacts that have the value that many have
_SEARCHES = {
    "a value that 100 contacts have": "Jane@Example.com",
    "a value that one contact has": "value-500@example.com",
    "a value that none has": "nobody@example.com",
    "a contact's id": "00000000-0000-4000-8000-000000000500",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the rounds."""
    parser.add_argument("--rounds", type=int, default=200, help="of each search (default: %(default)s)")


def run(options: argparse.Namespace) -> list[Section]:
    """Measure: medians and 95th percentiles of the rounds, and the ratio to the small ledger's in the same round."""
    times: dict[tuple[str, int], list[float]] = {(name, count): [] for name in _SEARCHES for count in (_MANY, _FEW)}
    with ExitStack() as stack:
        ports = {}
        for count in (_MANY, _FEW):
            tell(f"{count:,} contacts are put")
            ports[count] = stack.enter_context(_open_page(count))
        for _ in range(3):  # clients connect, templates are compiled
            for name, count in times:
                _ask(ports[count], _SEARCHES[name])
        processors = ProcessorTime()
        for number in range(options.rounds):
            for name, text in _SEARCHES.items():
                for count in (_MANY, _FEW) if number % 2 else (_FEW, _MANY):
                    times[name, count].append(_ask(ports[count], text))
        idle = str(processors)
    rows = []
    for name in _SEARCHES:
        mine, few = times[name, _MANY], times[name, _FEW]
        late = statistics.quantiles(mine, n=20, method="inclusive")[-1]
        ratios = [one / other for one, other in zip(mine, few, strict=True)]
        row = [name, f"{statistics.median(mine):.0f} ms", f"{late:.0f} ms", f"{max(mine):.0f} ms"]
        rows.append(
            [
                *row,
                spread(sorted(ratios)[len(ratios) // 20 : -len(ratios) // 20], ".2f"),
                verdict(late <= _BAR_MILLISECONDS),
            ]
        )
    header = ["a search for", "median", "95 % within", "all within", "over the same among 1,000 (9 of 10 rounds)"]
    body = table([*header, f"bar of {_BAR_MILLISECONDS} ms for 95 % is"], rows)
    return [Section("view", "A search on the page", f"{body}\n\n{options.rounds} rounds in turns; processors {idle}.")]


@contextmanager
def _open_page(count: int) -> Iterator[int]:
    """Serve the page of a ledger with so many contacts, each with one reference; yields the port."""
    with Server(Connect()) as ledger, listen(0) as listening:
        _fill(ledger.dynamodb, count)
        server = make_server(Deployment("dev", _make_clients(ledger), _OUTPUTS), listening, program="ops")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def _make_clients(ledger: Server) -> Any:
    session = botocore.session.get_session()
    session.set_config_variable("ca_bundle", str(ledger.certificate))
    session.set_config_variable("region", "us-east-1")
    session.set_credentials("synthetic", "synthetic")
    clients: Any = Clients(boto3.Session(botocore_session=session), aws_url=ledger.url, connect_url=ledger.url)
    configuration = {"Environment": {"Variables": {"INSTANCE_ARNS": _INSTANCE_ARN}}}
    clients.functions = SimpleNamespace(get_function_configuration=lambda **_: configuration)
    return clients


def _fill(dynamodb: DynamoDB, count: int) -> None:
    """Put contacts: one as a capture does, and copies of it with ids and values of their own."""
    put_contact(dynamodb, "model", references=1)
    model = list(dynamodb.items.values())
    dynamodb.forget(model[0]["pk"]["S"])
    for number in range(count):
        contact_id = f"00000000-0000-4000-8000-{number:012}"
        value = "jane@example.com" if number < _SHARED_BY else f"value-{number}@example.com"
        at = f"2026-03-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"
        own = {
            "pk": {"S": f"{INSTANCE_ID}#{contact_id}"},
            "contact_id": {"S": contact_id},
            "initial_contact_id": {"S": contact_id},
            "completed_at": {"S": at},
        }
        for item in model:
            of_value = {
                "reference_value": {"S": value},
                "canonical_value": {"S": value},
                "value_key": {"S": value_key("EMAIL", value)},
                "value_at": {"S": at},
            }
            dynamodb.put(item | own | (of_value if "value_key" in item else {}))


def _ask(port: int, text: str) -> float:
    """Return the milliseconds that the page took for a search."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"/search?q={quote(text)}")
        answer = connection.getresponse()
        html = answer.read().decode()
        is_found = answer.status == 303 or "A value of type EMAIL" in html
        if answer.status not in (200, 303) or is_found == ("nobody" in text):
            raise RuntimeError(f"not the expected answer: {answer.status}")
        timing = re.fullmatch(r"total;dur=([\d.]+)", answer.headers["Server-Timing"])
        if timing is None:
            raise RuntimeError("the page does not say how long it took")
        return float(timing[1])
    finally:
        connection.close()
