"""What README.md and the pages of docs/ promise, held against the code."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jmespath  # type: ignore[import-untyped]  # what the AWS CLI and boto3 read --query with
import pytest
import typer

from contact_references.aws.announcements import describe
from contact_references.capture.report import COUNTS, SECONDS_TO_CAPTURE
from contact_references.model.contact import ContactKey
from contact_references.model.events import ContactReport, parse_event
from contact_references.model.timestamps import parse_iso
from contact_references.reconcile import report as reconcile_report
from contact_references.tables import report as tables_report
from infra.catalog import CAPTURES
from infra.settings import Settings
from ops.__main__ import app as ops_commands
from tests.unit.conftest import SCOPE, System

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
OPERATIONS, DATA, BEFORE, ARCHITECTURE = (
    (ROOT / "docs" / f"{name}.md").read_text() for name in ("operations", "data", "before-you-deploy", "architecture")
)
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
PAGES = (README, OPERATIONS, DATA, BEFORE)
"""Whose commands people copy."""
SOURCES = ("", "lambdas", "lambdas/contact_references")
"""Where a file that is named may be."""
OUTPUTS = set(
    re.findall(r'CfnOutput\(self, "(\w+)"', "".join(path.read_text() for path in (ROOT / "infra").glob("*.py")))
)

WITH_SERVICE = {
    *(*COUNTS, SECONDS_TO_CAPTURE),
    *(*reconcile_report.COUNTS, reconcile_report.TOTAL),
    *(*tables_report.COUNTS, tables_report.SECONDS_BEHIND),
}
"""Metrics whose only dimension is `service`."""


def table_names(page: str, header: str) -> set[str]:
    """Return the names in the first column of the page's table with this header."""
    rows = page.split(f"| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}


def commands() -> list[list[str]]:
    """Return the commands in code blocks, which may go over several lines, and in the text."""
    texts: list[str] = []
    for page in PAGES:
        blocks = [block.replace("\\\n", " ") for block in page.split("```")[1::2]]
        texts += [text for block in blocks for text in whole_commands(block)]
        texts += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page)
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
    return re.match(r"(make|python|npx cdk|aws) [a-z-]", text) is not None


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 120


def test_context_keys_are_those_of_the_app() -> None:
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    assert table_names(README, "context key") == {key for key in context if not key.startswith("@")}


def test_outputs_are_those_of_the_stacks() -> None:
    assert table_names(OPERATIONS, "output") == OUTPUTS


def test_commands_of_the_operator_are_those_of_the_toolkit() -> None:
    commands = typer.main.get_command(ops_commands)
    assert isinstance(commands, typer.core.TyperGroup)
    assert table_names(OPERATIONS, "command") == set(commands.commands)


def test_metrics_are_those_of_the_reports() -> None:
    assert table_names(OPERATIONS, "metric") == WITH_SERVICE | set(reconcile_report.GAUGES)


def test_the_metrics_that_are_paid_for_are_counted() -> None:
    [(with_service, by_instance)] = re.findall(
        r"metrics: (\d+) with `service`, and (\d+) for each instance", OPERATIONS
    )
    assert int(with_service) == len(WITH_SERVICE)
    assert int(by_instance) == len(reconcile_report.GAUGES)
    [always] = re.findall(r"that always have data: (\d+)", OPERATIONS)
    [sometimes] = re.findall(r"that have data sometimes: (\d+)", OPERATIONS)
    assert int(always) + int(sometimes) == int(with_service) + int(by_instance)


def test_make_s_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {arguments[1] for arguments in commands() if arguments[0] == "make"}
    assert {"demo", "test", "setup"} <= named <= targets


@pytest.mark.parametrize("page", PAGES, ids=("readme", "operations", "data", "before-you-deploy"))
def test_files_that_it_names_exist(page: str) -> None:
    named = set(re.findall(r"(?<![\w/.])(?:\w+/)+[\w.-]*\.(?:json|py|md)", page)) - set(
        re.findall(r"\]\(([^)#]+)", page)
    )
    assert {name for name in named if not any((ROOT / part / name).exists() for part in SOURCES)} == set()


@pytest.mark.parametrize("command", sorted({c[3] for c in commands() if c[:3] == ["python", "-m", "local"]}))
def test_the_local_system_s_commands_exist(command: str) -> None:
    help_ = subprocess.run(
        [sys.executable, "-m", "local", command, "--help"], cwd=ROOT, capture_output=True, check=False
    )
    assert help_.returncode == 0


def test_variables_in_commands_are_outputs_or_set_before() -> None:
    used = {name for page in PAGES for name in re.findall(r'"\$(\w+)"', page)}
    set_here = {
        name for page in PAGES for name in re.findall(r"(?:^|; |while |for )(\w+)(?:=| in )", page, re.MULTILINE)
    }
    assert used <= OUTPUTS | set_here
    assert {"TableName", "BucketName", "QueueArn", "DeadLetterQueueArn"} <= used


def test_variables_in_the_runbook_s_commands_are_outputs_or_explained_there() -> None:
    used = set(re.findall(r'"\$(\w+)(?:-\w+)?"', "".join(RUNBOOK.split("```")[1::2])))
    [explained] = re.findall(r"^In the commands .+\n.+", RUNBOOK, re.MULTILINE)
    own = set(re.findall(r"`\$([A-Z]+)`", explained))

    assert used - OUTPUTS - {"CONTACT_REFERENCES_STAGE"} == own
    assert "export CONTACT_REFERENCES_STAGE=" in RUNBOOK


STANDS_FOR_AWS = """\
import sys, jmespath
stack, query = (sys.argv[sys.argv.index(name) + 1] for name in ("--stack-name", "--query"))
outputs = [{"OutputKey": stack.split("-")[2] + n, "OutputValue": f"https://{stack}/?a={n}&b=c d"} for n in "12"]
print(*jmespath.search(query, {"Stacks": [{"StackName": stack, "Outputs": outputs}]}), sep="\\t")
"""


def test_one_line_sets_a_variable_for_each_output_of_all_stacks(tmp_path: Path) -> None:
    [line] = [line for line in README.splitlines() if line.startswith("stage=prod; eval ")]
    (tmp_path / "aws.py").write_text(STANDS_FOR_AWS)
    aws = f'aws() {{ {shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / "aws.py"))} "$@"; }}'
    names = [
        f"{stack}{number}"
        for stack in ("Storage", "Capture", "Reconcile", "Lookup", "Tables", "Monitoring")
        for number in "12"
    ]
    script = "\n".join([aws, line, *(f'echo "${name}"' for name in names)])
    answer = subprocess.run(["bash", "-euc", script], capture_output=True, check=True, text=True)
    assert answer.stdout.splitlines() == [
        f"https://ContactReferences-prod-{name[:-1]}/?a={name[-1]}&b=c d" for name in names
    ]


def test_the_stacks_are_those_that_the_line_asks_for() -> None:
    built = set(re.findall(r'f"\{prefix\}-(\w+)"', (ROOT / "app.py").read_text()))
    [named] = re.findall(r"for part in ([\w ]+); do", README)
    assert set(named.split()) == built - {"FlowDesigner", "ActNow"}, "which have no outputs, and are not always there"


def query_of(command: str, page: str) -> str:
    """Return what the page's only command of this name selects of its answer."""
    [query] = re.findall(rf"{command} [^\n]*?--query (?:'([^']+)'|\"([^\"]+)\")", page)
    return str(query[0] or query[1])


def test_emptying_the_bucket_takes_versions_and_delete_markers() -> None:
    query = query_of("list-object-versions", OPERATIONS)
    first, second = {"Key": "a", "VersionId": "1"}, {"Key": "a", "VersionId": "2"}

    def selected(**listing: Any) -> Any:
        return jmespath.search(query, listing)["Objects"]

    assert selected(Versions=[first | {"Size": 9}], DeleteMarkers=[second | {"IsLatest": True}]) == [first, second]
    assert selected(DeleteMarkers=[second]) == [second]
    assert selected() == []


def test_the_quotas_are_found_by_name() -> None:
    names = ["Rate of ListContactReferences API requests", "Rate of SearchContacts API requests", "Queues per instance"]
    listing = {"Quotas": [{"QuotaName": name, "QuotaCode": "L-1", "Value": 10.0} for name in names]}
    found = jmespath.search(query_of("list-service-quotas", BEFORE), listing)
    assert [name for name, _, _ in found] == names[:2]


def test_the_settings_of_the_example_are_taken() -> None:
    defaults = json.loads((ROOT / "cdk.json").read_text())["context"]
    [example] = re.findall(r"```json\n(.*?)```", BEFORE, re.DOTALL)
    context = defaults | json.loads(f"{{{example}}}") | {"stage": "prod"}
    settings = Settings.from_context(context, defaults=defaults)
    assert (settings.connect_requests_per_second, settings.retention_days) == (6, 730)


def test_the_costs_add_up() -> None:
    table = OPERATIONS.split("## What it costs", 1)[1].split("**Rechecks", 1)[0]
    rows = [row.split("|")[1:-1] for row in table.splitlines() if row.startswith("| ")][1:]
    *parts, total = [[float(cell.strip(" *")) for cell in cells] for _, *cells in rows]
    assert [sum(column) for column in zip(*parts, strict=True)] == pytest.approx(total)


def test_its_row_is_what_is_captured_and_its_event_what_is_announced(system: System) -> None:
    text, announced = re.findall(r"```json\n(.*?)```", DATA, re.DOTALL)
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
    capture = system.ledger.find_capture(ContactKey(row["instance_id"], row["contact_id"]))
    assert capture is not None
    detail = json.loads(announced)["detail"]
    assert describe(capture) | of_one_run == detail | of_one_run


def test_the_walk_to_the_committed_row_names_at_most_nine_files() -> None:
    files = re.findall(r"^\d+\. `([\w/]+\.py)` ", ARCHITECTURE, re.MULTILINE)
    assert 0 < len(files) <= 9
    assert files[0] == "capture/handler.py"
    assert "def commit(" in (ROOT / "lambdas" / files[-1]).read_text()
    assert [name for name in files if not (ROOT / "lambdas" / name).exists()] == []


def test_columns_are_those_of_the_records() -> None:
    text = "".join(
        (ROOT / "lambdas/contact_references/model" / name).read_text() for name in ("capture.py", "reference.py")
    )
    assert {
        name for name in table_names(DATA, "column") if f'"{name}"' not in text and f"    {name}:" not in text
    } == set()
    assert {column.name for column in CAPTURES.columns} == table_names(DATA, "column")
