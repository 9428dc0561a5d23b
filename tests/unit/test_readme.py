"""What README.md says, held against the code."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contact_references.capture.report import COUNTS, SECONDS_TO_CAPTURE
from contact_references.model.events import ContactReport, parse_event
from contact_references.model.timestamps import parse_iso
from contact_references.reconcile import report as reconcile_report
from tests.unit.conftest import SCOPE, System

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def table_names(header: str) -> set[str]:
    """Return the names in the first column of the table with this header."""
    rows = README.split(f"| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def commands() -> list[list[str]]:
    """Return the commands in code blocks, which may go over several lines, and in the text."""
    blocks = [block.replace("\\\n", " ") for block in README.split("```")[1::2]]
    texts = [text for block in blocks for text in whole_commands(block)] + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README)
    parts = [part.strip() for text in texts for part in text.split(" && ")]
    return [shlex.split(part, comments=True) for part in parts if is_command(part)]


def whole_commands(block: str) -> Iterator[str]:
    """Yield a block's lines, those of one command together: until its quotes are closed."""
    command = ""
    for line in block.splitlines():
        command = f"{command} {line}".strip()
        if not is_command(command) or is_whole(command):
            yield command
            command = ""


def is_whole(command: str) -> bool:
    try:
        return bool(shlex.split(command, comments=True))
    except ValueError:
        return False


def is_command(text: str) -> bool:
    return re.match(r"(make|python|cdk|aws) [a-z-]", text) is not None


def test_context_keys_are_those_of_the_app() -> None:
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    assert table_names("context key") == {key for key in context if not key.startswith("@")}


def test_outputs_are_those_of_the_stacks() -> None:
    source = "".join(path.read_text() for path in (ROOT / "infra").glob("*.py"))
    assert table_names("output") - {"error", "reason", "origin"} == set(re.findall(r'CfnOutput\(self, "(\w+)"', source))


def test_metrics_are_those_of_the_reports() -> None:
    assert table_names("metric") == {*COUNTS, SECONDS_TO_CAPTURE, *reconcile_report.COUNTS, *reconcile_report.GAUGES}


def test_make_s_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {arguments[1] for arguments in commands() if arguments[0] == "make"}
    assert {"demo", "test", "setup"} <= named <= targets


def test_files_that_it_names_exist() -> None:
    named = set(re.findall(r"(?<![\w/])(?:\w+/)+[\w.-]*\.(?:json|py|md)", README))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("command", sorted({c[3] for c in commands() if c[:3] == ["python", "-m", "local"]}))
def test_the_local_system_s_commands_exist(command: str) -> None:
    help_ = subprocess.run(
        [sys.executable, "-m", "local", command, "--help"], cwd=ROOT, capture_output=True, check=False
    )
    assert help_.returncode == 0


def test_the_costs_add_up() -> None:
    costs = [float(cost) for cost in re.findall(r"\| (\d+\.\d\d) \|$", README, re.MULTILINE)]
    [total] = re.findall(r"\| \*\*(\d+\.\d\d)\*\* \|$", README, re.MULTILINE)
    assert sum(costs) == pytest.approx(float(total))


def test_its_row_is_what_is_captured(system: System) -> None:
    [text] = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    row = json.loads(text)
    seeds = json.loads((ROOT / "local" / "contacts.json").read_text())["contacts"]
    system.connect.contacts = {seed["Id"]: seed["References"] for seed in seeds}
    event = json.loads((ROOT / "events" / "completed-malformed-arn.json").read_text())
    now = system.clock.now = parse_iso("2026-03-03T12:00:00Z")
    report = parse_event(event, scope=SCOPE, completion_types=frozenset({"COMPLETED"}), now=now)
    assert isinstance(report, ContactReport)
    system.capture(report)
    _, captured = system.items(row["contact_id"])
    of_one_run = {"capture_id": "", "captured_at": "", "sk": ""}
    assert captured | of_one_run == row | of_one_run | {"schema_version": "2"}
