"""How a backlog drains through the deployed system at Connect's quota, what gets lost, and how the baseline fares.

All contacts' completions wait in the queue before the function may take the first. What is measured: the time to
drain over the ideal time (served calls over the rate set), calls and refused calls a contact, contacts lost and
contacts doubled. Then the same contacts by the baseline, in the same run.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.baseline import create_stores
from benchmarks.baseline.asynchronous import play
from benchmarks.report import ProcessorTime, Section, table, tell
from benchmarks.traffic import (
    ALL_TYPES,
    OPERATION,
    PHASE_SECONDS,
    SIX_TYPES,
    OtherCaller,
    ideal_seconds,
    make_contacts,
    make_event,
)
from local.emulator import child_environment
from local.system import System, start

ENVIRONMENTS = 1000  # Lambda's default concurrency of an account and Region

Seed = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked for; the account's quota is a quarter above the rate set, as it is by default."""

    contacts: int
    rate: float
    reference_types: str

    @property
    def quota(self) -> float:
        """Requests a second that the account has."""
        return self.rate * 1.25


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One scenario's figures; `note` is what else there is to say.

    `seconds` to drain include the `start_seconds` in which no execution environment had made its first call yet
    (None: unknown).
    """

    name: str
    contacts: int
    seconds: float
    start_seconds: float | None
    ideal_seconds: float
    calls: int
    throttled: int
    lost: int
    doubled: int
    processors: str
    note: str = ""

    def row(self) -> list[str]:
        """Return the table's row."""
        return [
            self.name,
            f"{self.seconds:.1f} s",
            f"{self.seconds / self.ideal_seconds:.3f}",
            "" if self.start_seconds is None else f"{self.start_seconds:.1f} s",
            f"{self.calls / self.contacts:.3f}",
            f"{self.throttled / self.contacts:.3f}",
            str(self.lost),
            str(self.doubled),
            self.processors,
        ]


HEADER = [
    *("scenario", "drained in", "over ideal", "until the first call", "calls a contact"),
    *("throttled calls a contact", "lost", "doubled", "processors"),
]


@contextmanager
def _deployed(load: Load) -> Iterator[System]:
    context = {"connectRequestsPerSecond": f"{load.rate:g}", "referenceTypes": load.reference_types}
    with (
        tempfile.TemporaryDirectory() as directory,
        start(Path(directory), context=context, quotas={OPERATION: load.quota}, report=tell) as system,
    ):
        yield system


def run_capture(load: Load, *, with_other: bool) -> Outcome:
    """Drain the backlog by the production stacks, alone on the quota or beside another caller."""
    seeds = make_contacts(load.contacts)
    with _deployed(load) as system:
        functions = system.clients.functions
        [source] = functions.list_event_source_mappings()["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=source["UUID"], Enabled=False)
        _fill_queue(system, seeds)
        processors = ProcessorTime()
        other = OtherCaller(system.connect_url, seeds[0]["Id"], quota=load.quota)
        with other if with_other else nullcontext():
            begin, start_seconds = time.monotonic(), None
            functions.update_event_source_mapping(UUID=source["UUID"], Enabled=True)
            while system.queued():
                if start_seconds is None and _statistics(system)["calls"] > other.calls:
                    start_seconds = time.monotonic() - begin
                time.sleep(0.25)
            seconds = time.monotonic() - begin
        usage = str(processors)
        counts = _statistics(system)
        served = counts["outcomes"].get("OK", 0) - (other.calls - other.refused)
        lost, doubled = find_losses(seeds, system.ledger(), system.lake().values())
        refused = f"{other.refused} of the other caller's {other.calls} calls were refused." if with_other else ""
        return Outcome(
            name=f"ours{', beside another caller' if with_other else ', alone on the quota'}",
            contacts=load.contacts,
            seconds=seconds,
            start_seconds=start_seconds,
            ideal_seconds=ideal_seconds(served, rate=load.rate, quota=load.quota, with_other=with_other),
            calls=counts["calls"] - other.calls,
            throttled=counts["throttled"] - other.refused,
            lost=lost,
            doubled=doubled,
            processors=usage,
            note=refused + (f" {len(system.dead_letters())} dead letters." if lost else ""),
        )


def run_baseline(load: Load) -> Outcome:
    """Capture the same contacts by the baseline, whose events are all there at once too."""
    seeds = make_contacts(load.contacts)
    with _deployed(load) as deployed:
        system = replace(deployed, outputs=create_stores(deployed.clients))
        system.control_connect("contacts", {"contacts": seeds})
        environment = {
            **{name: value for name, value in child_environment(system.aws_url).items() if name.startswith("AWS_")},
            "AWS_ENDPOINT_URL_CONNECT": system.connect_url,
            "TABLE_NAME": system.outputs["TableName"],
            "BUCKET_NAME": system.outputs["BucketName"],
            "REFERENCE_TYPES": load.reference_types,
            "POWERTOOLS_SERVICE_NAME": "baseline",
        }
        events = [make_event(seed["Id"], f"event-of-{seed['Id']}") for seed in seeds]
        processors = ProcessorTime()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
            fates = executor.submit(play, events, environment, environments=ENVIRONMENTS).result()
        usage = str(processors)
        counts = _statistics(system)
        lost, doubled = find_losses(seeds, system.ledger(), system.lake().values())
        first, second, third = fates.captured_at_try
        errors = ", ".join(f"{count} {name}" for name, count in sorted(fates.errors.items()))
        return Outcome(
            name="baseline, alone on the quota",
            contacts=load.contacts,
            seconds=fates.seconds,
            start_seconds=None,  # threads start at once
            ideal_seconds=counts["outcomes"].get("OK", 0) / load.quota,
            calls=counts["calls"],
            throttled=counts["throttled"],
            lost=lost,
            doubled=doubled,
            processors=usage,
            note=f"The baseline captured {first} contacts at the first invocation, {second} at the second, {third} "
            f"at the third and gave {fates.given_up} up. Invocations failed with {errors or 'nothing'}.",
        )


def _fill_queue(system: System, seeds: Sequence[Seed]) -> None:
    """Have Connect report all contacts' completion, and wait until the queue holds the events."""
    system.control_connect("contacts", {"contacts": seeds})
    for seed in seeds:
        system.control_connect(f"contacts/{seed['Id']}/complete", {})
    deadline = time.monotonic() + 60 + len(seeds) / 50
    while (queued := system.queued()) < len(seeds):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{queued} of {len(seeds)} events are in the queue")
        time.sleep(0.25)


def find_losses(seeds: Iterable[Seed], ledger: Iterable[dict[str, Any]], lake: Iterable[list[Any]]) -> tuple[int, int]:
    """Return how many contacts are not completely and rightly in both stores, and how many are there twice."""
    entries, rows = {}, dict[str, list[tuple[str, str, str]]]()
    for item in ledger:
        if item["sk"] == "CONTACT":
            entries[item["contact_id"]] = item
        elif "contact_id" in item:  # not an hour, a day or the lease
            row = (item["capture_id"], item["reference_name"], item["reference_value"])
            rows.setdefault(item["contact_id"], []).append(row)
    captures = Counter[str]()
    lake_rows = Counter[tuple[str, str, str]]()
    for record in (record for records in lake for record in records):
        if record["record_type"] == "CONTACT":
            captures[record["contact_id"]] += 1
        else:
            lake_rows[record["contact_id"], record["reference_name"], record["reference_value"]] += 1
    lost = doubled = 0
    for seed in seeds:
        contact_id = seed["Id"]
        expected = {(c["Name"], c["Value"]) for reference in seed["References"] for c in reference.values()}
        entry, found = entries.get(contact_id, {}), rows.get(contact_id, [])
        counting = {(name, value) for capture_id, name, value in found if capture_id == entry.get("capture_id")}
        is_there = (
            entry.get("reference_count") == len(expected)
            and counting == expected
            and captures[contact_id] > 0
            and all(lake_rows[contact_id, name, value] for name, value in expected)
        )
        lost += not is_there
        doubled += (
            len(found) > len(expected)
            or captures[contact_id] > 1
            or any(lake_rows[contact_id, name, value] > 1 for name, value in expected)
        )
    return lost, doubled


def _statistics(system: System) -> dict[str, Any]:
    return dict(system.control_connect("statistics")["operations"][OPERATION])


_SCENARIOS = {
    "alone": lambda load: run_capture(load, with_other=False),
    "other": lambda load: run_capture(load, with_other=True),
    "baseline": run_baseline,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the load, and scenarios to leave it at."""
    parser.add_argument("--contacts", type=int, default=300, help="a quick look by default (%(default)s)")
    parser.add_argument("--rate", type=float, default=40, help="connectRequestsPerSecond; the quota is 1.25 of it (40)")
    parser.add_argument("--all-types", action="store_true", help="ask for all types: two calls a contact, not one")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=_SCENARIOS,
        default=[],
        help="one of them, repeatable (all)",
    )


def run(options: argparse.Namespace) -> list[Section]:
    """Run the scenarios."""
    types = ",".join(ALL_TYPES if options.all_types else SIX_TYPES)
    load = Load(contacts=options.contacts, rate=options.rate, reference_types=types)
    outcomes = []
    for name in options.scenario or _SCENARIOS:
        outcomes.append(_SCENARIOS[name](load))
        tell(" | ".join(outcomes[-1].row()))
    title = f"A backlog at a quota of {load.quota:g} requests a second"
    return [Section(f"load {load.rate:g}", title, _describe(load, outcomes))]


def _describe(load: Load, outcomes: Sequence[Outcome]) -> str:
    calls = "two calls" if load.reference_types == ",".join(ALL_TYPES) else "one call"
    setting = f"""\
{load.contacts} contacts of two references, {calls} a contact, all queued before the first is taken; a quota of
{load.quota:g} requests a second, of which {load.rate:g} are ours (`connectRequestsPerSecond`). The other caller takes a
third of the quota in {PHASE_SECONDS:g} of {2 * PHASE_SECONDS:g} seconds. The ideal time is the served calls over our
rate; beside the other caller over what it leaves of that; for the baseline, which knows no rate, over the quota. The
time to drain includes the start of the execution environments. The baseline is invoked by a stand-in for Lambda's
asynchronous invocation with {ENVIRONMENTS} execution environments, Lambda's default
(`benchmarks/baseline/asynchronous.py` says what it leaves out). Idle is the whole machine's, whoever else used it."""
    notes = [outcome.note.strip() for outcome in outcomes if outcome.note]
    return "\n\n".join([setting, table(HEADER, [outcome.row() for outcome in outcomes]), *notes])
