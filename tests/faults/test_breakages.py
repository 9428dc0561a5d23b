"""The runbook's worked example: the deployed system is broken, seen in `status`, and brought back to nothing missing.

Each time by what a person types who has `status` and docs/runbook.md, and nothing else. With `--full-matrix` all seven
breakages are gone through, and what was typed and printed becomes the runbook's worked example.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.emulator import ROOT
from ops.judgement import Finding, Level, judge, worst
from ops.status import gather
from tests.faults.rig import INSTANCE_ID, Fault, Rig, Verdict, Work, make_references
from tests.system.conftest import configured, run_command

RUNBOOK = ROOT / "docs" / "runbook.md"
_SECONDS = 90.0
_CONTACTS = 6


@dataclass(frozen=True)
class Breakage:
    """A way to break the system.

    `fault` breaks it until it is left; contacts complete meanwhile. `subject` is what `status` is to be red about,
    `heading` the runbook's, whose `commands` are typed once the cause is mended.
    """

    name: str
    told: str
    subject: str
    heading: str
    mended: str
    fault: Callable[[Rig, Work], AbstractContextManager[object]]
    commands: tuple[str, ...] = ()
    level: Level = Level.RED


def _calls_fail(operation: str, kind: str) -> Callable[[Rig, Work], AbstractContextManager[object]]:
    @contextmanager
    def fail(rig: Rig, work: Work) -> Iterator[None]:
        rig.inject(Fault(operation, kind))
        try:
            _complete_some(work)
            yield
        finally:
            rig.lift()

    return fail


@contextmanager
def _refuse_contacts(rig: Rig, work: Work) -> Iterator[None]:
    contact_ids = [work.put(*make_references(2)) for _ in range(_CONTACTS)]
    for contact_id in contact_ids:
        fault = {"operation": "ListContactReferences", "kind": "invalid_parameter", "contact": contact_id}
        rig.system.control_connect("faults", fault)
    try:
        work.complete(contact_ids)
        # No earlier: what is refused for a moment only looks like a type that the channel cannot have.
        assert rig.drain(_SECONDS)
        yield
    finally:
        rig.lift()


@contextmanager
def _lose_events(rig: Rig, work: Work) -> Iterator[None]:
    ended_at = datetime.now(UTC) - timedelta(hours=4)
    for _ in range(_CONTACTS):
        work.put(*make_references(2), DisconnectTimestamp=ended_at.isoformat(timespec="milliseconds")[:23] + "Z")
    rig.system.clients.functions.invoke(FunctionName=rig.system.outputs["ReconcileFunctionName"], Payload=b"{}")
    yield


@contextmanager
def _break_tables(rig: Rig, work: Work) -> Iterator[None]:
    _complete_some(work)
    assert rig.drain(60)
    with configured(rig.system, "TablesFunctionName", DUCKDB_MEMORY_MEGABYTES="none"):
        rig.system.clients.functions.invoke(FunctionName=rig.system.outputs["TablesFunctionName"], Payload=b"{}")
        yield


def _complete_some(work: Work) -> None:
    work.complete([work.put(*make_references(2)) for _ in range(_CONTACTS)])


BREAKAGES = (
    Breakage(
        "connect-throttles",
        "Another program uses the account's quota up: Connect throttles every call.",
        "Connect API",
        "Contacts fail again and again",
        "The other program is stopped. What waits comes back by itself, within a quarter of an hour.",
        _calls_fail("ListContactReferences", "throttle"),
    ),
    Breakage(
        "role-without-a-right",
        "Somebody has taken `dynamodb:PutItem` from the capture function's role.",
        "function capture",
        "Access denied or wrong configuration",
        "`npx cdk deploy --revert-drift` brings the right back. What waits comes within a quarter of an hour.",
        _calls_fail("PutItem", "access_denied"),
    ),
    Breakage(
        "poisoned-messages",
        f"Connect refuses {_CONTACTS} contacts, whatever is asked of them: their messages become dead letters.",
        "dead letters",
        "Dead letters",
        "Connect answers for these contacts again, so their messages go back to the queue.",
        _refuse_contacts,
        ("dead-letters list", "dead-letters redrive --yes"),
    ),
    Breakage(
        "table-throttled",
        "DynamoDB throttles every write of rows.",
        "function capture",
        "Contacts fail again and again",
        "The table's limit is raised. What waits comes back by itself, within a quarter of an hour.",
        _calls_fail("BatchWriteItem", "throttle"),
    ),
    Breakage(
        "events-dropped",
        f"{_CONTACTS} contacts have ended, and no event came; reconciling has run since.",
        f"instance {INSTANCE_ID}",
        "Contacts missing for two hours",
        "Reconciling has asked for them.",
        _lose_events,
        ("coverage",),
        level=Level.YELLOW,
    ),
    Breakage(
        "lake-refuses",
        "The lake's bucket refuses objects.",
        "function capture",
        "Access denied or wrong configuration",
        "The bucket's policy is mended. What waits comes back by itself, within a quarter of an hour.",
        _calls_fail("PutObject", "access_denied"),
    ),
    Breakage(
        "tables-function-dies",
        "Somebody has changed the tables function's settings by hand: it ends before it begins.",
        "function tables",
        "Tables fail",
        "The settings are as deployed again, and the tables are brought up to the lake.",
        _break_tables,
        ("rebuild tables --from 2026-03-02 --to 2026-03-03 --yes",),
    ),
)
IN_EVERY_RUN = ("role-without-a-right", "poisoned-messages", "tables-function-dies")


@dataclass
class Person:
    """Somebody who types commands; `transcript` has what was typed and printed."""

    directory: Path
    transcript: list[str] = field(default_factory=list)

    def run(self, command: str, *, status: int = 0) -> None:
        done = run_command(self.directory, *command.split(), timeout=_SECONDS)
        assert done.returncode == status, done.stdout + done.stderr
        # Where this system keeps its files is nothing to a reader.
        printed = done.stdout.replace(f" --directory {self.directory}", "").strip()
        printed = "\n".join(line.rstrip() for line in printed.splitlines())
        self.transcript.append(f"$ python -m local {command}\n{printed}\n")


def wait_until(rig: Rig, is_seen: Callable[[list[Finding]], bool], *, ending_delays: bool = False) -> None:
    """Wait until what `status` would say is as it should be."""
    deadline = time.monotonic() + _SECONDS
    while not is_seen(findings := judge(gather(rig.system.deployment, datetime.now(UTC)))):
        assert time.monotonic() < deadline, findings
        time.sleep(0.2)
        if ending_delays:
            rig.end_delays()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "breakage" in metafunc.fixturenames:
        is_full = metafunc.config.getoption("--full-matrix")
        chosen = [breakage for breakage in BREAKAGES if is_full or breakage.name in IN_EVERY_RUN]
        metafunc.parametrize("breakage", chosen, ids=[breakage.name for breakage in chosen])


@pytest.fixture(scope="module")
def chapters(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What was typed and printed, by breakage: all of it goes into the runbook."""
    written: dict[str, str] = {}
    yield written
    if request.config.getoption("--full-matrix") and written.keys() == {breakage.name for breakage in BREAKAGES}:
        text = RUNBOOK.read_text(encoding="utf-8")
        start, end = "<!-- worked example -->\n", "<!-- /worked example -->"
        example = "\n".join(written[breakage.name] for breakage in BREAKAGES)
        before, _, rest = text.partition(start)
        RUNBOOK.write_text(before + start + example + end + rest.partition(end)[2], encoding="utf-8")


def test_what_is_broken_is_seen_in_status_and_brought_back_to_nothing_missing(
    rig: Rig, breakage: Breakage, chapters: dict[str, str]
) -> None:
    person, work = Person(rig.directory), Work(rig.system)

    def is_seen(findings: list[Finding]) -> bool:
        return (breakage.subject, breakage.level) in {(finding.subject, finding.level) for finding in findings}

    with breakage.fault(rig, work):
        wait_until(rig, is_seen)
        person.run("status", status=int(breakage.level is Level.RED))
        broken = "\n".join(person.transcript)
    person.transcript.clear()
    for command in breakage.commands:
        person.run(command)
    wait_until(rig, lambda findings: worst(findings) is not Level.RED, ending_delays=True)
    assert rig.drain(60)
    person.run("status")
    mended = "\n".join(person.transcript)

    assert rig.judge(work) == Verdict()
    chapters[breakage.name] = (
        f"### {breakage.name.replace('-', ' ').capitalize()}\n\n{breakage.told}\n\n```\n{broken}```\n\n"
        f"{_refer_to(breakage.heading)} {breakage.mended}\n\n```\n{mended}```\n"
    )


def _refer_to(heading: str) -> str:
    return f"The runbook's [{heading}](#{re.sub('[^a-z -]', '', heading.lower()).replace(' ', '-')})."


def test_each_breakage_has_its_heading_in_the_runbook() -> None:
    headings = set(re.findall(r"^#+ (.+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE))
    assert {breakage.heading for breakage in BREAKAGES} <= headings
