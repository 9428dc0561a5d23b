"""Pacing compared: this project's token bucket against the SDK's adaptive retry mode, on the reader alone.

`python -m benchmarks.pacing` drains the same contacts again and again by either, in turns.
"""

import argparse
import math
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.report import ProcessorTime, table, write_section
from benchmarks.traffic import INSTANCE_ID, OPERATION, OtherCaller, connect_client, ideal_seconds, make_contacts
from connect_simulator import ConnectSimulator
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.errors import RetriableError
from contact_references.model.reference_types import OTHER_CHANNELS, TypeLists
from local.emulator import ROOT

if TYPE_CHECKING:
    from mypy_boto3_connect import ConnectClient

_TYPES = ("URL", "STRING", "NUMBER", "DATE", "EMAIL", "ATTACHMENT")  # six: one call a contact

DOCUMENT = ROOT / "docs" / "decisions" / "own-pacing.md"


class _UnyieldingBucket(TokenBucket):
    """The bucket without its own answer to refusals, which is left to the SDK."""

    def yield_rate(self) -> None:
        pass


def _yielding_reader(url: str, rate: float) -> ReferenceReader:
    return _make_reader(connect_client(url, total_max_attempts=1), TokenBucket(rate))


def _adaptive_reader(url: str, rate: float) -> ReferenceReader:
    return _make_reader(connect_client(url, mode="adaptive"), _UnyieldingBucket(rate))


def _make_reader(client: "ConnectClient", bucket: TokenBucket) -> ReferenceReader:
    def refuse(channel: str | None, name: str) -> None:
        raise RuntimeError(f"{name} was refused for {channel}")

    return ReferenceReader(
        client, type_lists=TypeLists({OTHER_CHANNELS: _TYPES}), bucket=bucket, on_refused_type=refuse
    )


_READERS = {"bucket that yields (ours)": _yielding_reader, "SDK's adaptive mode": _adaptive_reader}


class Drain(NamedTuple):
    """One drain: its time over the ideal one, refused calls a contact, readings that ended in an error."""

    over_ideal: float
    throttled: float
    failed: float
    other_refused: float
    """Of the other caller's calls, the share that was refused."""


def drain(
    make_reader: Callable[[str, float], ReferenceReader], *, contacts: int, rate: float, quota: float, with_other: bool
) -> Drain:
    """Read all contacts by as many environments as a deployment at this rate has, each a thread of its own here."""
    environments = max(2, math.ceil(rate / 4))
    seeds = make_contacts(contacts)
    contacts_left = deque(Contact.unseen(ContactKey(INSTANCE_ID, seed["Id"])) for seed in seeds)
    failures: list[RetriableError] = []
    with ConnectSimulator(quotas={OPERATION: quota}) as simulator:
        simulator.import_contacts(seeds)
        other = OtherCaller(simulator.url, seeds[0]["Id"], quota=quota)
        readers = [make_reader(simulator.url, rate / environments) for _ in range(environments)]
        threads = [threading.Thread(target=_read_all, args=(reader, contacts_left, failures)) for reader in readers]
        with ExitStack() as stack:
            if with_other:
                stack.enter_context(other)
            start = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.monotonic() - start
        counts = simulator.statistics()["operations"][OPERATION]
    ideal = ideal_seconds(contacts, rate=rate, quota=quota, with_other=with_other)
    return Drain(
        over_ideal=seconds / ideal,
        throttled=(counts["throttled"] - other.refused) / contacts,
        failed=len(failures) / contacts,
        other_refused=other.refused / max(1, other.calls),
    )


def _read_all(reader: ReferenceReader, waiting: deque[Contact], failures: list[RetriableError]) -> None:
    while True:
        try:
            contact = waiting.popleft()
        except IndexError:
            return
        try:
            reader.read(contact)
        except RetriableError as error:
            failures.append(error)
            waiting.append(contact)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all rounds and print the table; with --write it is put into docs/decisions/own-pacing.md too."""
    options = _parse(arguments)
    results: dict[tuple[bool, str], list[Drain]] = {}
    processors = ProcessorTime()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} drains"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("pacing", total=options.rounds * 2 * len(_READERS))
        for number in range(options.rounds):
            for with_other in (False, True):
                turns = list(_READERS.items())
                for name, make_reader in turns if number % 2 == 0 else reversed(turns):
                    progress.update(task, description=f"{name}{', with the other caller' if with_other else ''}")
                    result = drain(
                        make_reader,
                        contacts=options.contacts if with_other else options.contacts // 3,
                        rate=options.rate,
                        quota=options.rate * 1.25,
                        with_other=with_other,
                    )
                    results.setdefault((with_other, name), []).append(result)
                    progress.advance(task)
    rows = [_row(name, drains, with_other=with_other) for (with_other, name), drains in sorted(results.items())]
    body = table(
        [
            "on the quota",
            "paced by",
            "drain / ideal",
            "throttled calls a contact",
            "readings handed back",
            "other's calls refused",
        ],
        rows,
    )
    note = (
        f"{options.contacts // 3} contacts alone and {options.contacts} with the other caller, {options.rate:g} "
        f"requests a second of a quota of {options.rate * 1.25:g}, {options.rounds} alternating rounds: median (least "
        "to most). Beside the other caller less than 1 is possible: the quota lends what it saved in one second to "
        f"each of its phases. Processors: {processors}."
    )
    print(f"{body}\n\n{note}")
    if options.write:
        rate = f"{options.rate:g}"
        command = f"python -m benchmarks.pacing --contacts {options.contacts} --rate {rate} --rounds {options.rounds}"
        write_section(
            f"pacing {rate}",
            title=f"At {rate} requests a second",
            command=f"{command} --write",
            body=f"{body}\n\n{note}",
            file=DOCUMENT,
        )
    return 0


def _row(name: str, drains: Sequence[Drain], *, with_other: bool) -> list[str]:
    def spread(values: Sequence[float], form: str) -> str:
        low, middle, high = (format(value, form) for value in (min(values), statistics.median(values), max(values)))
        return f"{middle} ({low} to {high})"

    return [
        "with another caller" if with_other else "alone",
        name,
        spread([one.over_ideal for one in drains], ".3f"),
        spread([one.throttled for one in drains], ".3f"),
        spread([one.failed for one in drains], ".1%"),
        spread([one.other_refused for one in drains], ".1%") if with_other else "",
    ]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument(
        "--contacts", type=int, default=1467, help="with the other caller; a third of it alone (%(default)s)"
    )
    parser.add_argument("--rate", type=float, default=40, help="requests a second that are ours (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each drain (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write the table to docs/decisions/own-pacing.md too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
