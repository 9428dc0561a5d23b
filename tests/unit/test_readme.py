"""What README.md says, held against the code."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from contact_references.contact import Completion, Scope, parse_completion
from contact_references.reconcile_report import HOUR_COUNTS, RECONCILE_COUNTS
from contact_references.report import COUNTS, SECONDS_TO_CAPTURE
from tests.unit.conftest import System

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def table_names(header: str) -> set[str]:
    """Return the names in the first column of the table with this header."""
    rows = README.split(f"| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def commands() -> list[list[str]]:
    """Return the commands in code blocks and in the text."""
    blocks = [block.replace("\\\n", " ") for block in README.split("```")[1::2]]
    texts = [line for block in blocks for line in block.splitlines()] + re.findall(r"(?<!`)`([^`\n]+)`(?!`)", README)
    parts = [part.strip() for text in texts for part in text.split(" && ")]
    return [shlex.split(part, comments=True) for part in parts if re.match(r"(make|python|cdk|aws) [a-z-]", part)]


def test_context_keys_are_those_of_the_app() -> None:
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    assert table_names("context key") == {key for key in context if not key.startswith("@")}


def test_outputs_are_those_of_the_stacks() -> None:
    source = "".join(path.read_text() for path in (ROOT / "infra").glob("*.py"))
    assert table_names("output") - {"error", "reason", "origin"} == set(re.findall(r'CfnOutput\(self, "(\w+)"', source))


def test_metrics_are_those_of_the_reports() -> None:
    assert table_names("metric") == {*COUNTS, SECONDS_TO_CAPTURE, *RECONCILE_COUNTS, *HOUR_COUNTS}


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
    completion = parse_completion(
        event, scope=Scope("us-east-1", "111122223333"), completion_types=frozenset({"COMPLETED"})
    )
    assert isinstance(completion, Completion)
    system.capture(completion)
    _, captured = system.items(row["contact_id"])
    assert captured | {"captured_at": ""} == row | {"captured_at": "", "schema_version": "1"}
