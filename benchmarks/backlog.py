"""Measures processor time and memory for each contact as one process drains ever larger backlogs.

The real intake, reader, ledger and lake drain 1,000, 10,000 and 100,000 contacts in batches of 25; Connect, DynamoDB,
S3 and SQS answer in memory and keep nothing of a contact once its batch is done. Each drain is a process of its own,
backlogs alternate, and the first batches are left out: imports and caches are not the backlog's.
"""

import argparse
import gc
import io
import multiprocessing
import statistics
import sys
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from aws_lambda_powertools import Logger
from rich.console import Console

from benchmarks.prices import Usage
from benchmarks.report import table, write_section
from benchmarks.simulation import INSTANCE_ARN, MIDNIGHT, contact_event
from benchmarks.stand_ins import Clients
from benchmarks.traffic import ALL_TYPES
from benchmarks.wiring import start_environment
from contact_references.aws.capture_queue import Message
from contact_references.aws.pacing import TokenBucket
from contact_references.capture.intake import Intake
from contact_references.model.contact import Scope
from contact_references.model.reference_types import OTHER_CHANNELS, TypeLists

_BATCH = 25
_FIRST = 500  # contacts that are not measured
_INSTANCE = INSTANCE_ARN.rpartition("/")[2]
_SCOPE = Scope("us-east-1", "111122223333")


class Drain(NamedTuple):
    """One process's figures: microseconds of processor time a contact, and memory gained meanwhile."""

    microseconds: float
    resident_kilobytes: float
    allocated_kilobytes: float
    """As tracemalloc counts Python's own; 0 if it was not asked, as it slows everything down."""


class _NoMetrics:
    def add_metric(self, *_: object) -> None:
        """Throw it away: Powertools' buffer would be emptied by the handler."""


def drain(contacts: int, *, counts_allocations: bool = False) -> Drain:
    """Drain so many contacts in this process."""
    clients = _clients()
    intake = _intake(clients)
    _take(intake, clients, range(-_FIRST, 0))
    gc.collect()
    resident = _resident_kilobytes()
    if counts_allocations:
        tracemalloc.start()
    begin = time.process_time()
    _take(intake, clients, range(contacts))
    seconds = time.process_time() - begin
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0] / 1024 if counts_allocations else 0.0
    return Drain(seconds / contacts * 1e6, _resident_kilobytes() - resident, allocated)


def _take(intake: Intake, clients: Clients, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, _BATCH):
        batch = range(start, min(start + _BATCH, numbers.stop))
        failed = intake.take_messages([_message(n) for n in batch], scope=_SCOPE, time_left=lambda: 120.0)
        if failed:
            raise RuntimeError(f"{len(failed)} contacts failed")
        for number in batch:
            clients.table.forget(f"{_INSTANCE}#contact-{number}")


def _clients() -> Clients:
    members = [
        {"Url": {"Name": "CRM", "Value": "https://crm.example.com/1"}},
        {"String": {"Name": "Case", "Value": "1"}},
    ]
    return Clients(
        Usage(), references=lambda _: members, change_visibility=lambda *_: _refuse(), send=lambda _: _refuse()
    )


def _refuse() -> None:
    raise RuntimeError("a message failed")


def _intake(clients: Clients) -> Intake:
    environment = start_environment(
        clients,
        type_lists=TypeLists({OTHER_CHANNELS: tuple(ALL_TYPES)}),
        bucket=TokenBucket(1, clock=lambda: 0.0, sleep=lambda _: None),
        logger=Logger(service="backlog", stream=_Nowhere()),
        metrics=_NoMetrics(),
        clock=lambda: datetime.now(UTC),
        sleep=time.sleep,
    )
    return environment.intake


class _Nowhere(io.StringIO):
    """Where log lines go: a stream that keeps them would grow with the backlog."""

    def write(self, text: str) -> int:
        """Take the text and drop it."""
        return len(text)


def _message(number: int) -> Message:
    event = contact_event(f"contact-{number}", completed=MIDNIGHT, event_id=str(number))
    return Message(message_id=str(number), receipt_handle=str(number), body=event, receive_count=1, origin="queue")


def _resident_kilobytes() -> float:
    """Return the process's resident memory; Linux tells."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Drain, print the table and with --write put it into docs/benchmarks.md."""
    options = _parse(arguments)
    console = Console(stderr=True)
    rounds = {contacts: list[Drain]() for contacts in options.contacts}
    allocated = {}
    for number in range(options.rounds):
        for contacts in options.contacts:
            rounds[contacts].append(_in_a_process(contacts, counts_allocations=False))
            console.print(
                f"round {number + 1}/{options.rounds}, {contacts:,} contacts: "
                f"{rounds[contacts][-1].microseconds:.0f} µs each"
            )
    for contacts in options.contacts:
        allocated[contacts] = _in_a_process(contacts, counts_allocations=True).allocated_kilobytes
        console.print(f"allocations, {contacts:,} contacts: {allocated[contacts]:.0f} KB")
    body = _describe(rounds, allocated)
    print(body)
    if options.write:
        sizes = " ".join(map(str, options.contacts))
        write_section(
            "backlog",
            title="Processor time and memory as the backlog grows",
            command=f"python -m benchmarks.backlog --contacts {sizes} --rounds {options.rounds} --write",
            body=body,
        )
    return 0


def _in_a_process(contacts: int, *, counts_allocations: bool) -> Drain:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(drain, contacts, counts_allocations=counts_allocations).result()


def _describe(rounds: dict[int, list[Drain]], allocated: dict[int, float]) -> str:
    smallest = min(rounds)
    header = ["backlog", "CPU a contact", "over the smallest", "resident memory gained", "allocated at the end"]
    rows = []
    for contacts, drains in rounds.items():
        ratios = [one.microseconds / base.microseconds for one, base in zip(drains, rounds[smallest], strict=True)]
        rows.append(
            [
                f"{contacts:,}",
                _spread([one.microseconds for one in drains], "{:.0f} µs"),
                _spread(ratios, "{:.2f}"),
                _spread([one.resident_kilobytes for one in drains], "{:.0f} KB"),
                f"{allocated[contacts]:.0f} KB",
            ]
        )
    return (
        f"One process, two references a contact, batches of {_BATCH}, clients in memory; the first {_FIRST} contacts "
        f"are not measured. {len(drains)} alternating rounds: median (least to most). Allocations are Python's own, as "
        f"tracemalloc counts them in a drain of their own.\n\n{table(header, rows)}"
    )


def _spread(values: Sequence[float], form: str) -> str:
    least, most = form.format(min(values)), form.format(max(values))
    return f"{form.format(statistics.median(values))} ({least} to {most})"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backlog", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--contacts", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="backlogs (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="drains of each (%(default)s); one takes about a minute")
    parser.add_argument("--write", action="store_true", help="write the table to docs/benchmarks.md too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
