"""Every call that the function makes, failing in every way, and the function's process killed: is anything lost?"""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

from local.delivery import read_event
from local.emulator import ROOT
from tests.faults.rig import SERVICES, UNPROCESSED, Fault, Reader, Rig, Verdict, Work, make_references

_KINDS = ("throttle", "500", "503", "hang", "reset", "access_denied")
_BODY_KINDS = ("truncated", "not_json")
# S3's answer to PutObject has no body to cut off, which is how microburst loses an answer.
_ANSWERS_LOST_OF = ("BatchWriteItem", "PutItem", "UpdateItem", "SendMessage")
_BATCHES = ("BatchGetItem", "BatchWriteItem")
_LARGE = 120  # references: rows for five requests
_LONGEST_DRAIN = 180.0


@dataclass(frozen=True)
class Cell:
    """One fault, once or until it is lifted, while contacts complete."""

    operation: str
    kind: str
    once: bool

    @property
    def faults(self) -> list[Fault]:
        """What to inject. Nothing is delayed unless something fails: that call's faults need another."""
        fault = Fault(self.operation, self.kind, 1 if self.once else None)
        if self.operation == "ChangeMessageVisibility":
            return [fault, Fault("ListContactReferences", "500", 3 if self.once else None)]
        return [fault]


@dataclass(frozen=True)
class CellResult:
    """What became of a cell's contacts."""

    cell: Cell
    hits: int
    contacts: int
    reads: int
    seconds: float
    verdict: Verdict


def matrix() -> list[Cell]:
    """Return all cells."""
    kinds = {operation: list(_KINDS) for operation in SERVICES}
    kinds["ListContactReferences"] += _BODY_KINDS
    for operation in _ANSWERS_LOST_OF:
        kinds[operation].append("answer_lost")
    for operation in _BATCHES:
        kinds[operation].append(UNPROCESSED)
    return [Cell(operation, kind, once) for operation in kinds for kind in kinds[operation] for once in (True, False)]


class FaultTrial:
    """Runs cells on a rig: each changes and re-reads contacts that were captured before, and brings new ones."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._known = self._capture_some()

    def run(self, cell: Cell, *, seconds: float) -> CellResult:
        """Run one cell; a fault that lasts is lifted after so many seconds, but not before it was met twice."""
        work = self._make_work()
        started = time.monotonic()
        self._rig.inject(*cell.faults)
        with Reader(self._rig, work) as reader:
            hopeless = self._rig.system.send(read_event(ROOT / "events" / "missing-contact-id.json"))
            work.complete(work.versions)
            hits = self._wait_for_hits(cell, seconds)
            self._rig.lift()
            drained = self._rig.drain(_LONGEST_DRAIN)
        verdict = self._rig.judge(work, hopeless=[hopeless])
        verdict += reader.verdict
        verdict.add("lost", not drained, "messages stay in the queue")
        if not verdict.is_good:
            self._known = self._capture_some()  # what this cell broke is not the next one's fault
        return CellResult(cell, hits, len(work.versions), reader.reads, time.monotonic() - started, verdict)

    def _capture_some(self) -> Work:
        work = Work(self._rig.system)
        for number in (2, 2, 2, _LARGE):
            work.put(*make_references(number))
        work.complete(work.versions)
        if not self._rig.drain(_LONGEST_DRAIN):
            raise RuntimeError("contacts are not captured even without faults")
        return work

    def _make_work(self) -> Work:
        work = Work(self._rig.system)
        # With the very lists of versions, so that the next cell knows of this one's.
        *_, changed, large = work.versions = self._known.versions.copy()
        work.put(*make_references(3), contact_id=changed)
        # Half of the names are new; all rows are put anew, in more than one request.
        kept = list(work.versions[large][-1])[: _LARGE // 2]
        work.put(*kept, *make_references(_LARGE)[_LARGE // 2 :], contact_id=large)
        work.put()
        work.put(*make_references(2))
        work.put(*make_references(4))
        first = work.put(*make_references(2))
        work.put(*make_references(1), InitialContactId=first, PreviousContactId=first)
        work.put(*make_references(_LARGE))
        return work

    def _wait_for_hits(self, cell: Cell, seconds: float) -> int:
        """Wait until the fault was met, again and again if it lasts; returns how often."""
        started = time.monotonic()
        while True:
            hits: int = self._rig.hits(cell.operation)
            lasted = time.monotonic() - started
            if lasted > 90 or (hits >= 1 if cell.once else hits >= 2 and lasted > seconds):
                return hits
            self._rig.end_delays()
            time.sleep(0.1)


@dataclass(frozen=True)
class KillResult:
    """What became of the contacts of a trial with kills.

    A kill `hit` if the process had not answered yet: what it was doing is lost with it.
    """

    kills: int
    hit: int
    contacts: int
    reads: int
    seconds: float
    verdict: Verdict


def kill_functions(rig: Rig, *, kills: int, draw: random.Random) -> KillResult:
    """Kill processes at work at random moments, while contacts complete and are changed; then let all settle."""
    work = Work(rig.system)
    started = time.monotonic()
    hit_before = rig.killed_invocations()
    # As slow as to lie in the way of as many kills as the reading does, which the pace makes slow.
    for operation in ("BatchWriteItem", "PutItem", "PutObject", "UpdateItem"):
        rig.slow(operation, 300)
    with Reader(rig, work) as reader:
        killed = 0
        while killed < kills:
            if time.monotonic() - started > 60 + 10 * kills:
                raise RuntimeError(f"only {killed} processes were at work")
            if rig.system.queued() < 25:
                _bring_contacts(work, draw)
            rig.end_delays()
            time.sleep(draw.uniform(0.1, 1.5))
            killed += rig.kill()
        rig.lift()
        drained = rig.drain(_LONGEST_DRAIN)
    verdict = rig.judge(work)
    verdict += reader.verdict
    verdict.add("lost", not drained, "messages stay in the queue")
    return KillResult(
        kills=kills,
        hit=rig.killed_invocations() - hit_before,
        contacts=len(work.versions),
        reads=reader.reads,
        seconds=time.monotonic() - started,
        verdict=verdict,
    )


def _bring_contacts(work: Work, draw: random.Random) -> None:
    known = draw.sample(list(work.versions), min(4, len(work.versions)))
    for contact_id in known[:2]:
        work.put(*make_references(3), contact_id=contact_id)
    new = [work.put(*make_references(number)) for number in (0, 1, 2, 3, 2, 3, 4, draw.choice([2, 5, _LARGE]))]
    leg = work.put(*make_references(1), InitialContactId=new[-1], PreviousContactId=new[-1])
    work.complete([*new, leg, *known])


def describe(results: Iterable[CellResult], kills: KillResult, *, seconds: float) -> str:
    """Return docs/faults.md."""
    rows = [_row(result) for result in results]
    return f"""\
# Faults and kills

Made by `pytest tests/faults --full-matrix` on the deployed system.

While the fault lasts ({seconds:g} s or more), ten contacts complete: two captured before and still the same,
one changed, one of {_LARGE} references with half of them replaced, and new ones: one without references, one with
{_LARGE}, four small ones, one of them transferred; and an event that nobody can use. Then the fault is lifted.
*Hits* is how many calls met it; *lost* and *doubled* count references in the ledger and in the newest capture of the
lake against what Connect holds, and rows of other captures that another capture does not delete; *half visible* counts
readings, during the fault and after, of a set of references that Connect never held, or with rows missing; *dead
letters* counts those besides the unusable event. *Left over* are rows that attempts put and never committed: no reader
sees them, and the contact's next capture, made here for each of these contacts, deletes them.
`answer_lost`: the call is carried out, but its answer is not received. `unprocessed`: the first half of the batch is
carried out, and the answer names the rest.

| call | fault | how long | hits | readings meanwhile | lost | doubled | half visible | dead letters | left over |
|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

{_kill_text(kills)}
"""


def _row(result: CellResult) -> str:
    cell, verdict = result.cell, result.verdict
    values = (
        cell.operation,
        cell.kind,
        "once" if cell.once else "until lifted",
        result.hits,
        result.reads,
        verdict.lost,
        verdict.doubled,
        verdict.half_visible,
        verdict.dead_letters,
        verdict.left_over,
    )
    return f"| {' | '.join(map(str, values))} |"


def _kill_text(result: KillResult) -> str:
    verdict = result.verdict
    return (
        f"SIGKILL of processes at work, at random moments: {result.kills} kills, {result.hit} of which ended an "
        f"invocation that had not answered, while {result.contacts} contacts completed, some of them changed or "
        f"transferred ({result.seconds:.0f} s, {result.reads} readings meanwhile). Lost {verdict.lost}, doubled "
        f"{verdict.doubled}, half visible {verdict.half_visible}, dead letters {verdict.dead_letters}, "
        f"left over {verdict.left_over}."
    )
