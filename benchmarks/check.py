"""How far the simulation is off the system deployed on the local emulator, at three points.

The simulation is set to what the emulator does: no window, and as many pollers as concurrency. Its
latencies are those of the loopback; the start of an execution environment is taken from the real run.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.days import OURS, deployment_at
from benchmarks.report import ProcessorTime, Section, table, tell
from benchmarks.scale import DOCUMENT
from benchmarks.simulation import Figures, Latency, Plan, simulate
from benchmarks.traffic import ALL_TYPES, OPERATION, SIX_TYPES, make_contacts
from local.emulator import INSTANCE_ARN
from local.in_memory.events import completion_event
from local.system import System, start

_LOOK_SECONDS = 0.2
_LOOPBACK = 0.01  # a call of the SDK to the emulator, its CPU included


@dataclass(frozen=True)
class Point:
    """Contacts that complete evenly within `seconds`, at a rate of requests a second and calls a contact."""

    contacts: int
    seconds: float
    rate: float
    calls: int

    @property
    def moments(self) -> list[float]:
        """When each contact completes."""
        return [number * self.seconds / self.contacts for number in range(self.contacts)]

    def __str__(self) -> str:
        arrival = f"within {self.seconds:g} s" if self.seconds else "at once"
        return f"{self.contacts} {arrival}, {self.rate:g} requests/s, {self.calls} a contact"


POINTS = (Point(200, 0.0, 8.0, 1), Point(300, 0.0, 40.0, 2), Point(240, 60.0, 16.0, 2))


@dataclass(frozen=True)
class Measures:
    """Seconds from completion to ledger, seconds to the last contact, and calls."""

    p50: float
    p99: float
    drained: float
    calls: int

    @classmethod
    def of(cls, waits: Iterable[float], drained: float, calls: int) -> "Measures":
        """Reduce the contacts' waits."""
        ordered = sorted(waits)
        return cls(ordered[len(ordered) // 2], ordered[int(0.99 * len(ordered))], drained, calls)


def run_for_real(point: Point) -> tuple[Measures, float]:
    """Run the point on the emulator; return its measures and the seconds until the first call."""
    types = ",".join(ALL_TYPES if point.calls == 2 else SIX_TYPES)
    context = {"connectRequestsPerSecond": f"{point.rate:g}", "referenceTypes": types}
    with (
        tempfile.TemporaryDirectory() as directory,
        start(Path(directory), context=context, quotas={OPERATION: point.rate / OURS}, report=tell) as system,
    ):
        seeds = make_contacts(point.contacts)
        system.control_connect("contacts", {"contacts": seeds})
        return _play(point, system, [seed["Id"] for seed in seeds])


def _play(point: Point, system: System, ids: Sequence[str]) -> tuple[Measures, float]:
    functions = system.clients.functions
    [source] = functions.list_event_source_mappings()["EventSourceMappings"]
    if not point.seconds:  # they all wait before the first is taken
        functions.update_event_source_mapping(UUID=source["UUID"], Enabled=False)
        _send(system, ids)
        functions.update_event_source_mapping(UUID=source["UUID"], Enabled=True)
    begin = time.monotonic()
    completed = dict(zip(ids, point.moments, strict=True))
    captured: dict[str, float] = {}
    waiting, first_call = list(ids) if point.seconds else [], 0.0
    while len(captured) < point.contacts:
        now = time.monotonic() - begin
        due = [one for one in waiting if completed[one] <= now]
        if due:
            _send(system, due)
            waiting = waiting[len(due) :]
        if not first_call and system.connect_calls():
            first_call = time.monotonic() - begin
        for one in _captured(system):
            captured.setdefault(one, time.monotonic() - begin)
        time.sleep(_LOOK_SECONDS)
    waits = [captured[one] - completed[one] for one in ids]
    return Measures.of(waits, max(captured.values()), system.connect_calls()), first_call


def _send(system: System, ids: Sequence[str]) -> None:
    """Put completions on the queue, as the bus does: the emulator's bus would take a call for each."""
    for number in range(0, len(ids), 10):
        entries: list[Any] = [
            {"Id": str(index), "MessageBody": _completion(one)} for index, one in enumerate(ids[number : number + 10])
        ]
        system.clients.sqs.send_message_batch(QueueUrl=system.outputs["QueueUrl"], Entries=entries)


def _completion(contact_id: str) -> str:
    return completion_event(contact_id, completed=datetime.now(UTC), event_id=contact_id, instance_arn=INSTANCE_ARN)


def _captured(system: System) -> list[str]:
    pages = system.clients.dynamodb.get_paginator("scan").paginate(
        TableName=system.outputs["TableName"], ProjectionExpression="sk, contact_id", ConsistentRead=True
    )
    items = [item for page in pages for item in page["Items"]]
    return [item["contact_id"]["S"] for item in items if item["sk"]["S"] == "CONTACT"]


def run_by_simulation(point: Point, *, first_call: float) -> Measures:
    """Simulate the point with the emulator's parameters."""
    deployment = deployment_at(point.rate)._replace(window_seconds=0.0)
    # The first call is made when the environment has started and the bucket, empty at first, has a token.
    start_seconds = max(0.0, first_call - 1 / deployment.requests_per_second - _LOOPBACK)
    latency = Latency(
        event=0.0,
        connect=_LOOPBACK,
        dynamodb=_LOOPBACK,
        s3=_LOOPBACK,
        sqs=_LOOPBACK,
        call_overhead=0.0,
        cold_start=start_seconds,
    )
    plan = Plan(
        deployment=deployment,
        quota=point.rate / OURS,
        reference_types=ALL_TYPES if point.calls == 2 else SIX_TYPES,
        latency=latency,
    )
    figures: Figures = simulate(plan, point.moments)
    return Measures.of(figures.waits, figures.ended_at, figures.calls)


def add_options(_: argparse.ArgumentParser) -> None:
    """Take none."""


def run(_: argparse.Namespace) -> list[Section]:
    """Run both at each point."""
    rows = []
    for point in POINTS:
        processors = ProcessorTime()
        real, first_call = run_for_real(point)
        simulated = run_by_simulation(point, first_call=first_call)
        rows.append(_row(point, real, simulated, first_call, str(processors)))
        tell(" | ".join(rows[-1]))
    header = ["contacts", "until the first call", "p50", "p99", "drained", "calls", "processors"]
    return [Section("check", "Held against a real run", f"{_NOTE}\n\n{table(header, rows)}", DOCUMENT)]


_NOTE = f"""\
The deployed system on the local emulator, and the simulation with the emulator's parameters (no
window, {_LOOPBACK * 1000:.0f} ms a call); the start of the execution environments is taken from
the real run. Each cell: real, simulated, and by how much the simulation is off. The real times are seen by looking at
the ledger every {_LOOK_SECONDS:g} s; those and the emulator's own polling are most of a short wait."""


def _row(point: Point, real: Measures, simulated: Measures, first_call: float, processors: str) -> list[str]:
    pairs = [(real.p50, simulated.p50), (real.p99, simulated.p99), (real.drained, simulated.drained)]
    times = [f"{was:.1f} s, {says:.1f} s ({says - was:+.1f} s, {says / was - 1:+.0%})" for was, says in pairs]
    return [str(point), f"{first_call:.1f} s", *times, f"{real.calls}, {simulated.calls}", processors]
