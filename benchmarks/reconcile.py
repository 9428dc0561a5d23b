"""Shows on the deployed local system that every completed contact is accounted for, and what that costs.

`dropped`: events are lost and doubled, then the recent past is reconciled. `backfill`: a month is walked while the
reconcile function is killed and its searches are throttled, then walked again. `live`: contacts complete at a steady
rate, in turns without and with a backfill that has more to do than it can.
"""

import argparse
import itertools
import json
import math
import os
import random
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.deployment import Site, deploy, start
from benchmarks.load import find_losses
from benchmarks.report import ProcessorTime, table, write_section
from benchmarks.traffic import INSTANCE_ID, OPERATION, make_contacts
from contact_references.feeding import LONGEST_DELAY_SECONDS, ROOM_SECONDS
from local.emulator import REGION
from local.system import Json, System

RATE = 40.0  # connectRequestsPerSecond; the account's quota is a quarter above it, as it is by default
QUOTA = 1.25 * RATE
CALLS_A_CONTACT = 2  # of all reference types
DROPPED, REPEATED = 0.3, 0.1
DAYS = 30
KILLS = 3
THROTTLES = 5  # in a row: more than the function repeats by itself
LIVE_SHARE = 0.4  # of the rate
BACKFILL_SHARE = 0.5  # cdk.json's backfillShare
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_POLL_SECONDS = 0.5
_LONGEST_DRAIN = 600.0


@dataclass
class Report:
    """A section: `body` without its title, and what is not as it should be."""

    title: str
    body: str
    problems: list[str] = field(default_factory=list)


class Counts(NamedTuple):
    """Calls so far, and captures that failed and were tried again, whose calls come twice.

    `refused` are searches refused for their rate, but for those that a fault refused.
    """

    readings: int
    searches: int
    refused: int
    failures: int


@dataclass(frozen=True)
class Step:
    """What one step did: `calls` of Connect, and the contacts that are rightly in the ledger after it."""

    name: str
    seconds: float
    calls: Counts
    expected_readings: int
    queued: int
    already_there: int
    captured: int
    processors: str

    def row(self) -> list[str]:
        """Return the table's row."""
        seen = self.queued + self.already_there
        return [
            self.name,
            f"{self.seconds:.0f} s",
            str(self.queued),
            str(self.already_there),
            str(self.captured),
            str(self.calls.readings),
            str(self.expected_readings),
            str(self.calls.failures),
            str(self.calls.searches),
            f"{100 * self.calls.searches / seen:.1f}" if seen else "",
            str(self.calls.refused),
            self.processors,
        ]


HEADER = [
    "step",
    "took",
    "queued",
    "already there",
    "in the ledger after it",
    f"{OPERATION} calls",
    "expected",
    "captures tried again",
    "SearchContacts calls",
    "for 100 contacts",
    "refused for their rate",
    "processors",
]


class Rig:
    """A deployed system of its own, whose events are delivered only by `deliver`."""

    def __init__(self, site: Site) -> None:
        self.site = site
        outputs = deploy(site, context={"connectRequestsPerSecond": f"{RATE:g}"})
        self.system = System(0, site.aws_url, site.connect.url, outputs)
        self._machines: Any = boto3.client(
            "stepfunctions",
            endpoint_url=site.aws_url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator takes any
        )

    @contextmanager
    def holding_captures(self) -> Iterator[None]:
        """Let the capture function take nothing off the queue meanwhile."""
        functions = self.site.clients.functions
        [source] = functions.list_event_source_mappings()["EventSourceMappings"]
        functions.update_event_source_mapping(UUID=source["UUID"], Enabled=False)
        yield
        functions.update_event_source_mapping(UUID=source["UUID"], Enabled=True)

    def deliver(self, entries: Iterable[Json]) -> None:
        """Put contact events, as the simulator words them, on the bus."""
        for entry in entries:
            event = {"source": entry["Source"], "detail-type": entry["DetailType"], "resources": entry["Resources"]}
            self.system.send(event | {"detail": json.loads(entry["Detail"])})

    def counts(self) -> Counts:
        """Return the calls so far."""
        operations = self.site.connect.statistics()["operations"]
        searches = operations["SearchContacts"]
        injected = sum(fault["hits"] for fault in self.site.connect.faults.show())
        failures = (self.site.directory / "emulator.log").read_text(errors="replace").count("contact not captured")
        return Counts(operations[OPERATION]["calls"], searches["calls"], searches["throttled"] - injected, failures)

    def answered_searches(self) -> int:
        """Return how many searches were not refused so far."""
        return int(self.site.connect.statistics()["operations"]["SearchContacts"]["outcomes"].get("OK", 0))

    def reconcile(self) -> Json:
        """Reconcile the recent past until it is done; returns the counts of all invocations."""
        sums = {"queued": 0, "already_there": 0}
        while True:
            answer = self.site.clients.functions.invoke(
                FunctionName=self.system.outputs["ReconcileFunctionName"], Payload=b"{}"
            )
            content = json.load(answer["Payload"])
            if "FunctionError" in answer:
                raise RuntimeError(f"the reconcile function failed: {content.get('errorType')}")
            sums = {name: count + content[name] for name, count in sums.items()}
            if content["done"]:
                return sums

    def begin_backfill(self, start: datetime, end: datetime) -> str:
        """Start the state machine and return the execution's ARN."""
        return str(
            self._machines.start_execution(
                stateMachineArn=self.system.outputs["BackfillStateMachineArn"],
                name=str(uuid.uuid4()),
                input=json.dumps({"from": start.isoformat(), "to": end.isoformat()}),
            )["executionArn"]
        )

    def backfill_status(self, execution: str) -> str:
        """Return `RUNNING`, `SUCCEEDED` or how it failed."""
        return str(self._machines.describe_execution(executionArn=execution)["status"])

    def wait_for_backfill(self, execution: str, *, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Return how a backfill ended, once its contacts are through the queue too."""
        while (status := self.backfill_status(execution)) == "RUNNING":
            meanwhile()
            time.sleep(_POLL_SECONDS)
        self.drain()
        return status

    def find_progress(self, execution: str) -> Json:
        """Return a backfill's progress record."""
        item = self._find_item(f"BACKFILL#{execution.rpartition(':')[2]}", "SUMMARY")
        names = ("windows", "windows_done", "seen", "queued", "already_there")
        return {name: int(item[name]["N"]) for name in names}

    def drain(self) -> None:
        """Wait until the queue is empty."""
        if not self.system.wait_until_drained(_LONGEST_DRAIN):
            raise RuntimeError(f"{self.system.queued()} messages stay in the queue")

    def kill_reconcile(self) -> bool:
        """Kill the reconcile function's processes; returns whether that ended an invocation which had the lease.

        One that ends by itself gives the lease back.
        """
        wanted = {
            f"AWS_LAMBDA_FUNCTION_NAME={self.system.outputs['ReconcileFunctionName']}",
            f"AWS_ENDPOINT_URL={self.site.aws_url}",  # no other system's
        }
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                if wanted <= set(environment):
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:  # ended, or another user's
                continue
        lease = self._find_item("RECONCILE", "LEASE")
        return datetime.fromisoformat(lease["held_until"]["S"]) > datetime.now(UTC)

    def _find_item(self, pk: str, sk: str) -> Any:
        key = {"pk": {"S": pk}, "sk": {"S": sk}}
        answer = self.site.clients.dynamodb.get_item(
            TableName=self.system.outputs["TableName"], Key=key, ConsistentRead=True
        )
        return answer["Item"]

    def judge(self, seeds: Sequence[Json]) -> tuple[int, list[str]]:
        """Return how many contacts' own completion is in the ledger, complete; and what is wrong in the stores."""
        items = [item for item in self.system.ledger() if "record_type" in item]
        entries = {item["contact_id"]: item for item in items if item["sk"] == "CONTACT"}
        wanted = [entries.get(seed["Id"], {}) for seed in seeds]
        captured = sum(entry.get("capture_state") == "complete" and entry["completion_seen"] for entry in wanted)
        lake = list(self.system.lake().values())
        newest: dict[str, str] = {}
        for record in itertools.chain.from_iterable(lake):
            if record["record_type"] == "CONTACT":
                name = record["contact_id"]
                newest[name] = max(newest.get(name, ""), record["captured_at"])
        apart = sum(
            newest.get(seed["Id"]) != entry.get("captured_at") for seed, entry in zip(seeds, wanted, strict=True)
        )
        lost, doubled = find_losses(seeds, items, lake)
        wrong = {
            "contacts are not in the ledger": len(seeds) - captured,
            "contacts differ between ledger and lake": apart,
            "contacts' references are not as Connect has them": lost,
            "contacts are in a store twice": doubled,
            "dead letters": len(self.system.dead_letters()),
        }
        return captured, [f"{number} {what}" for what, number in wrong.items() if number]


@contextmanager
def start_rig(progress: Progress, task: TaskID) -> Iterator[Rig]:
    """Start and deploy a system, and stop it at the end."""
    progress.update(task, description=f"{progress.tasks[task].description}: deploying")
    with start(quota=QUOTA) as site:
        yield Rig(site)


class Watch:
    """Measures the steps of a scenario."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.problems: list[str] = []
        self.steps: list[Step] = []

    def run(self, name: str, work: Callable[[], Json], *, captured: Sequence[Json], read: int) -> None:
        """Do a step's work, which returns `queued` and `already_there`, and judge it once the queue is empty.

        By then these contacts are to be captured, and so many were to be read for it, each once.
        """
        before, began, processors = self._rig.counts(), time.monotonic(), ProcessorTime()
        answer = work()
        self._rig.drain()
        seconds, usage = time.monotonic() - began, str(processors)
        calls = Counts(*(now - then for now, then in zip(self._rig.counts(), before, strict=True)))
        number, problems = self._rig.judge(captured)
        expected = CALLS_A_CONTACT * read
        if calls.readings != expected:
            problems.append(
                f"{calls.readings} calls of {OPERATION} where {expected} were expected, "
                f"{calls.failures} captures tried again"
            )
        if calls.refused:
            problems.append(f"{calls.refused} searches were refused for their rate")
        self.problems += [f"{name}: {problem}" for problem in problems]
        queued, there = answer["queued"], answer["already_there"]
        self.steps.append(Step(name, seconds, calls, expected, queued, there, number, usage))


def run_dropped(options: argparse.Namespace, progress: Progress, task: TaskID) -> Report:
    """Lose and double events of the last hours, deliver the others, then reconcile."""
    latest = datetime.now(UTC) - _HOUR - timedelta(minutes=2)
    seeds = _make_seeds(options.contacts, latest - 3 * _HOUR, latest)
    with start_rig(progress, task) as rig:
        connect = rig.site.connect
        connect.import_contacts(seeds)
        connect.disturb_events(drop=DROPPED, repeat=REPEATED)
        for seed in seeds:
            connect.complete(seed["Id"])
        events, repetitions = _split_repetitions(connect.events)
        reported = [seed for seed in seeds if seed["Id"] in events]
        # First those that come twice, so that they are captured before they come again: of two deliveries at one
        # moment, in two execution environments, neither can know of the other's reading.
        firsts = sorted(events, key=lambda contact_id: contact_id not in repetitions)
        missing = len(seeds) - len(reported)
        watch = Watch(rig)

        def deliver() -> Json:
            # EventBridge repeats an event with its own time, the emulator gives the repetition the time of its
            # delivery, which would be after the capture: a reason to read again.
            with rig.holding_captures():
                rig.deliver([*(events[contact_id] for contact_id in firsts), *repetitions.values()])
            return {"queued": 0, "already_there": 0}

        progress.update(task, description="dropped: events")
        watch.run("events", deliver, captured=reported, read=len(reported))
        progress.update(task, description="dropped: reconcile")
        watch.run("reconcile", rig.reconcile, captured=seeds, read=missing)
        progress.update(task, description="dropped: reconcile again")
        watch.run("reconcile again", rig.reconcile, captured=seeds, read=0)
        counts = connect.statistics()["events"]
        body = f"""\
{len(seeds)} contacts of two references completed over three hours, until an hour ago. Of their {counts["emitted"]}
COMPLETED events {counts["dropped"]} are dropped and {counts["repeated"]} of the others come twice; so
{len(reported)} contacts are reported and {missing} are not. What comes twice comes again once it is captured: when
both are in work at one moment, both are read. Then `{{}}`, what the schedule asks for, and the same again.
{_SETTING}"""
        return _make_report("Events that never came", body, watch)


def _split_repetitions(entries: Iterable[Json]) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return the first event of each contact, and the second where there is one, by the contact's id."""
    firsts: dict[str, Json] = {}
    repetitions: dict[str, Json] = {}
    for entry in entries:
        contact_id = json.loads(entry["Detail"])["contactId"]
        (repetitions if contact_id in firsts else firsts)[contact_id] = entry
    return firsts, repetitions


def run_backfill(options: argparse.Namespace, progress: Progress, task: TaskID) -> Report:
    """Walk a month while the function is killed and throttled; then walk it again."""
    end = (datetime.now(UTC) - _HOUR).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = end - DAYS * _DAY
    seeds = _make_seeds(options.contacts, begin, end)
    with start_rig(progress, task) as rig:
        rig.site.connect.import_contacts(seeds)
        watch = Watch(rig)
        harm = Harm(rig)
        executions: list[str] = []

        def walk(meanwhile: Callable[[], None]) -> Json:
            executions.append(rig.begin_backfill(begin, end))

            def look() -> None:
                meanwhile()
                progress.update(
                    task, total=len(seeds), completed=min(len(seeds), rig.counts().readings // CALLS_A_CONTACT)
                )

            if (status := rig.wait_for_backfill(executions[-1], meanwhile=look)) != "SUCCEEDED":
                watch.problems.append(f"a backfill ended as {status}")
            found = rig.find_progress(executions[-1])
            good = found["windows"] == found["windows_done"] == DAYS and found["seen"] == len(seeds)
            if not good or found["queued"] + found["already_there"] != len(seeds):
                watch.problems.append(f"a progress record is wrong: {found}")
            return found

        progress.update(task, description="backfill: with harm")
        # Some are counted as already there: asked for by an invocation that was killed before it noted how far it was.
        watch.run("backfill", lambda: walk(harm.do), captured=seeds, read=len(seeds))
        if harm.kills < KILLS or harm.is_throttling_due:
            watch.problems.append(f"only {harm.kills} kills hit an invocation")
        progress.update(task, description="backfill: again")
        watch.run("backfill again", lambda: walk(lambda: None), captured=seeds, read=0)
        records = "; ".join(
            ", ".join(f"{name} {count}" for name, count in rig.find_progress(execution).items())
            for execution in executions
        )
        body = f"""\
{len(seeds)} contacts of two references, of {DAYS} past days, a window each. During the first walk the reconcile
function's process is ended by SIGKILL {harm.kills} times in mid-invocation ({harm.misses} more kills met no invocation
and don't count), and {THROTTLES} of its searches in a row are throttled.
Progress records: {records}. {_SETTING}"""
        return _make_report(f"A backfill of {DAYS} days under kills", body, watch)


class Harm:
    """What is done to the first backfill: kills, and throttled searches after the first of them."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._next = rig.answered_searches() + 3
        self._draw = random.Random()  # noqa: S311 - moments
        self.kills = self.misses = 0
        self.is_throttling_due = True

    def do(self) -> None:
        """Kill the function if it has searched on since the last time, some moment between this search and the next."""
        if self.kills == KILLS or self._rig.answered_searches() < self._next:
            return
        if self.kills and self.is_throttling_due:
            self._rig.site.connect.faults.inject(
                {"operation": "SearchContacts", "kind": "throttle", "count": THROTTLES}
            )
            self.is_throttling_due = False
            self._next += 3
            return
        time.sleep(self._draw.uniform(0, 2))
        if self._rig.kill_reconcile():
            self.kills += 1
            self._next = self._rig.answered_searches() + 5
        else:
            self.misses += 1


@dataclass(frozen=True)
class Phase:
    """Minutes of live contacts; `delays` are the seconds from an event to the ledger, sorted."""

    name: str
    delays: list[float]
    longest_queue: int
    backfill_shares: list[float]
    calls: Counts
    processors: str

    def quantile(self, share: float) -> float:
        """Return the delay that so many of the contacts don't exceed."""
        return self.delays[math.ceil(share * len(self.delays)) - 1]

    def row(self) -> list[str]:
        """Return the table's row."""
        delays = [self.quantile(0.5), self.quantile(0.99), self.quantile(1)]
        shares = " ".join(f"{share:.2f}" for share in self.backfill_shares)
        return [
            self.name,
            str(len(self.delays)),
            *(f"{delay:.1f} s" for delay in delays),
            str(self.longest_queue),
            shares if any(self.backfill_shares) else "",
            str(self.calls.searches),
            str(self.calls.refused),
            self.processors,
        ]


def run_live(options: argparse.Namespace, progress: Progress, task: TaskID) -> Report:
    """Let contacts complete at a steady rate, in turns without and with a backfill."""
    phases: list[Phase] = []
    problems: list[str] = []
    searches = past = 0
    # What a backfill takes in that time, what it may have waiting beyond it, and a quarter more.
    share = BACKFILL_SHARE * RATE * options.seconds + ROOM_SECONDS * RATE
    missing = math.ceil(1.25 * share / CALLS_A_CONTACT)
    with start_rig(progress, task) as rig:
        _play(rig, seconds=10, name="the start of the execution environments")
        progress.update(task, total=2 * options.rounds * options.seconds)
        advance = partial(progress.advance, task)
        for number in range(1, options.rounds + 1):
            progress.update(task, description=f"live {number}: without")
            phases.append(_play(rig, seconds=options.seconds, name=f"{number}, without", advance=advance))
            end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - 2 * number * _DAY
            begin = end - 2 * _DAY
            seeds = _make_seeds(missing, begin, end, fresh=True)
            rig.site.connect.import_contacts(seeds)
            before = rig.counts()
            execution = rig.begin_backfill(begin, end)
            while not rig.system.queued():
                time.sleep(_POLL_SECONDS)
            progress.update(task, description=f"live {number}: with a backfill")
            phases.append(_play(rig, seconds=options.seconds, name=f"{number}, with", advance=advance))
            if rig.backfill_status(execution) != "RUNNING":
                problems.append(f"round {number}: the backfill was over before the live contacts were")
            progress.update(task, description=f"live {number}: the backfill's end")
            if (status := rig.wait_for_backfill(execution)) != "SUCCEEDED":
                problems.append(f"round {number}: the backfill ended as {status}")
            _, wrong = rig.judge(seeds)
            problems += [f"round {number}: {each}" for each in wrong]
            searches, past = searches + rig.counts().searches - before.searches, past + len(seeds)
        refused = rig.counts().refused
    if refused:
        problems.append(f"{refused} searches were refused for their rate")
    return _describe_live(options, phases, problems, missing=missing, searches=100 * searches / past)


def _play(rig: Rig, *, seconds: float, name: str, advance: Callable[[float], None] = lambda _: None) -> Phase:
    """Complete contacts at the live rate and time each until a reader of the ledger sees it."""
    before, processors, began_at = rig.counts(), ProcessorTime(), datetime.now(UTC)
    began = looked = time.monotonic()
    waiting: dict[str, float] = {}
    delays: list[float] = []
    longest_queue = sent = 0
    while (now := time.monotonic()) < began + seconds or waiting:
        if now > began + seconds + _LONGEST_DRAIN:
            raise RuntimeError(f"{len(waiting)} live contacts are not captured")
        if now > looked + _POLL_SECONDS:
            found = _find_complete(rig, list(waiting))
            delays += [time.monotonic() - waiting.pop(contact_id) for contact_id in found]
            longest_queue = max(longest_queue, rig.system.queued())
            advance(max(0, min(now, began + seconds) - looked))
            looked = now
        elif now < began + seconds and now >= began + sent * CALLS_A_CONTACT / (LIVE_SHARE * RATE):
            contact_id, moment = _complete_one(rig)
            waiting[contact_id] = moment
            sent += 1
        else:
            time.sleep(0.01)
    calls = Counts(*(after - then for after, then in zip(rig.counts(), before, strict=True)))
    shares = _backfill_shares(rig, began_at, seconds)
    return Phase(name, sorted(delays), longest_queue, shares, calls, str(processors))


def _complete_one(rig: Rig) -> tuple[str, float]:
    """Let a contact complete now; returns its id and when its event was sent."""
    now = datetime.now(UTC)
    [seed] = _make_seeds(1, now, now, fresh=True)
    rig.site.connect.import_contacts([seed])
    rig.site.connect.complete(seed["Id"])
    moment = time.monotonic()
    rig.deliver(rig.site.connect.events[-1:])
    return seed["Id"], moment


def _find_complete(rig: Rig, contact_ids: Sequence[str]) -> list[str]:
    """Return which of the contacts a reader of the ledger sees."""
    table_name = rig.system.outputs["TableName"]
    found = []
    for start_at in range(0, len(contact_ids), 100):  # as many as BatchGetItem takes
        keys = [
            {"pk": {"S": f"{INSTANCE_ID}#{contact_id}"}, "sk": {"S": "CONTACT"}}
            for contact_id in contact_ids[start_at : start_at + 100]
        ]
        answer = rig.site.clients.dynamodb.batch_get_item(
            RequestItems={table_name: {"Keys": keys, "ConsistentRead": True}}
        )
        items = answer["Responses"][table_name]
        found += [item["contact_id"]["S"] for item in items if item["capture_state"]["S"] == "complete"]
    return found


def _backfill_shares(rig: Rig, began_at: datetime, seconds: float) -> list[float]:
    """Return the share of the rate that contacts of the past took, for each whole minute."""
    taken = Counter[int]()
    for item in rig.system.ledger():
        if item["sk"] == "CONTACT" and datetime.fromisoformat(item["completed_at"]) < began_at - _HOUR:
            taken[(datetime.fromisoformat(item["captured_at"]) - began_at) // timedelta(minutes=1)] += CALLS_A_CONTACT
    return [taken[minute] / (60 * RATE) for minute in range(int(seconds // 60))]


def _make_seeds(count: int, begin: datetime, end: datetime, *, fresh: bool = False) -> list[Json]:
    """Return contacts that ended evenly between two times; `fresh` ones have ids that none had before."""
    return [
        seed
        | ({"Id": str(uuid.uuid4())} if fresh else {})
        | {"DisconnectTimestamp": (begin + (end - begin) * number / count).isoformat(timespec="milliseconds")}
        for number, seed in enumerate(make_contacts(count))
    ]


_SETTING = f"""\
All types of references are asked for: {CALLS_A_CONTACT} calls a contact. `connectRequestsPerSecond` is {RATE:g} of a
quota of {QUOTA:g}; SearchContacts has its own, 0.5 a second. A contact counts as in the ledger if it is complete there
with its own completion seen; besides, after each step ledger, lake and Connect are compared: the newest record of each
contact in the lake is the ledger's, all references are there, none twice. Refused for their rate does not count
injected faults. Idle is the whole machine's, whoever else used it."""


def _make_report(title: str, setting: str, watch: Watch) -> Report:
    body = "\n\n".join([setting, table(HEADER, [step.row() for step in watch.steps])])
    return Report(title, body, watch.problems)


def _describe_live(
    options: argparse.Namespace, phases: Sequence[Phase], problems: list[str], *, missing: int, searches: float
) -> Report:
    differences = [
        (beside.quantile(0.99) - alone.quantile(0.99), beside.quantile(1) - alone.quantile(1))
        for alone, beside in zip(phases[::2], phases[1::2], strict=True)
    ]
    at_p99, at_most = (max(values) for values in zip(*differences, strict=True))
    if at_most > LONGEST_DELAY_SECONDS:
        problems.append(
            f"a backfill delayed live contacts by {at_most:.1f} s; the bound is {LONGEST_DELAY_SECONDS:g} s"
        )
    header = ["round", "live contacts", "p50", "p99", "longest", "most in the queue", "backfill's share, by minute"]
    header += ["SearchContacts calls", "refused for their rate", "processors"]
    body = f"""\
Live contacts complete at {LIVE_SHARE * RATE / CALLS_A_CONTACT:g} a second, which takes {LIVE_SHARE:.0%} of
`connectRequestsPerSecond` ({RATE:g}, {CALLS_A_CONTACT} calls a contact), for {options.seconds:g} seconds at a time, in
turns without and with a backfill of {missing} missing contacts in two past days, which is more than it may take
meanwhile. Times are from the moment a contact's event is put on the bus until a consistent read of the ledger finds its
`CONTACT` item complete, looked for every {_POLL_SECONDS:g} s: so they are that much too long at the most. The queue's
batching window of up to 10 s, which the emulator ignores, is not in them. The share is of `connectRequestsPerSecond`:
`backfillShare` is {BACKFILL_SHARE:g}, and what {ROOM_SECONDS:g} seconds take may be fed in beyond it, once.
Idle is the whole machine's, whoever else used it.

{table(header, [phase.row() for phase in phases])}

The backfill made p99 {at_p99:.1f} s and the longest {at_most:.1f} s longer (the worse of the rounds); the stated bound
is {LONGEST_DELAY_SECONDS:g} s. It took {searches:.1f} SearchContacts calls for 100 contacts."""
    return Report("Live contacts beside a backfill", body, problems)


_SCENARIOS = {"dropped": run_dropped, "backfill": run_backfill, "live": run_live}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios, print their sections, with --write into docs/benchmarks.md too; 0 if nothing is wrong."""
    options = _parse(arguments)
    problems = 0
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for name in options.scenario or _SCENARIOS:
            report = _SCENARIOS[name](options, progress, progress.add_task(name, total=None))
            problems += len(report.problems)
            body = "\n\n".join([report.body, *(f"**Wrong:** {problem}." for problem in report.problems)])
            print(body, flush=True)
            if options.write:
                size = f"--seconds {options.seconds:g} --rounds {options.rounds}"
                size = size if name == "live" else f"--contacts {options.contacts}"
                command = f"python -m benchmarks.reconcile --scenario {name} {size} --write"
                write_section(f"reconcile {name}", title=report.title, command=command, body=body)
    return 1 if problems else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reconcile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contacts", type=int, default=2000, help="of dropped and of backfill (%(default)s)")
    parser.add_argument("--seconds", type=float, default=180, help="that live contacts come at a time (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of live contacts without and with it (%(default)s)")
    parser.add_argument(
        "--scenario", action="append", choices=_SCENARIOS, default=[], help="one of them, repeatable (all)"
    )
    parser.add_argument("--write", action="store_true", help="write the sections to docs/benchmarks.md too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
