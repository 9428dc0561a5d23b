"""The commands about hours and contacts: `coverage`, `backfill`, `capture`."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import typer
from botocore.stub import Stubber
from moto import mock_aws
from typer.testing import CliRunner, Result

from contact_references.aws.worklist import Opened, Worklist
from contact_references.model.contact import Instance
from contact_references.model.coverage import HOUR, Hour
from ops import backfill, capture, coverage
from ops.deployment import Deployment
from ops.errors import OpsError

Json = dict[str, Any]
Run = Callable[..., Result]

FIRST, SECOND = (Instance("us-east-1", "111122223333", f"{digit * 8}-1234-1234-1234-123456789012") for digit in "12")
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
START = TODAY - timedelta(days=3)


class Functions:
    """What Lambda says of functions and their answers: moto would run them in containers."""

    def __init__(self, instances: list[Instance]) -> None:
        self.environment = {"INSTANCE_ARNS": ",".join(instance.arn for instance in instances), "RETENTION_DAYS": "0"}
        self.answers: list[Json] = []
        self.payloads: list[Json] = []

    def get_function_configuration(self, FunctionName: str) -> Json:  # noqa: N803 - boto3's name
        assert FunctionName == "capture"
        return {"Environment": {"Variables": self.environment}}

    def invoke(self, FunctionName: str, Payload: bytes) -> Json:  # noqa: N803 - boto3's names
        assert FunctionName in {"capture", "reconcile"}
        self.payloads.append(json.loads(Payload))
        answer = self.answers.pop(0)
        error = {"FunctionError": "Unhandled"} if "errorMessage" in answer else {}
        return {"Payload": io.BytesIO(json.dumps(answer).encode()), **error}


@pytest.fixture
def functions() -> Functions:
    return Functions([FIRST])


@pytest.fixture
def deployment(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    for name, value in (("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        dynamodb, sqs = session.client("dynamodb"), session.client("sqs")
        dynamodb.create_table(
            TableName="ledger",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        )
        outputs = {
            "TableName": "ledger",
            "QueueUrl": sqs.create_queue(QueueName="contacts")["QueueUrl"],
            "CaptureFunctionName": "capture",
            "ReconcileFunctionName": "reconcile",
        }
        clients = SimpleNamespace(
            dynamodb=dynamodb, sqs=sqs, functions=functions, connect=session.client("connect", endpoint_url=None)
        )
        yield Deployment("dev", clients, outputs)  # type: ignore[arg-type]  # the clients that these commands use


@pytest.fixture
def run(deployment: Deployment) -> Run:
    app = typer.Typer()

    @app.callback()
    def choose(context: typer.Context) -> None:
        context.obj = lambda: deployment

    for part in (coverage, backfill, capture):
        part.register(app)
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="ops")


@pytest.fixture
def worklist(deployment: Deployment) -> Worklist:
    return Worklist(deployment.clients.dynamodb, "ledger")


@pytest.fixture
def contact(deployment: Deployment) -> Iterator[Stubber]:
    """What Connect says of contacts: moto has no DescribeContact."""
    with Stubber(deployment.clients.connect) as stub:
        yield stub


def hour(number: int, **columns: Any) -> Hour:
    return Hour(instance_id=FIRST.instance_id, start=START + number * HOUR, **columns)


PERIOD = ("--from", f"{START:%Y-%m-%d}", "--to", f"{START + timedelta(days=1):%Y-%m-%d}")


def test_coverage_shows_hours_with_bars_and_what_is_missing(run: Run, worklist: Worklist) -> None:
    counts = {"completed": 10, "captured": 8, "missing": 2, "missing_ids": ("a", "b"), "visits": 1}
    worklist.save_hours([hour(0, visits=2, closed_at=NOW), hour(1, due_at=TODAY, **counts)])
    worklist.save_opened(FIRST, Opened(TODAY))
    result = run("coverage", *PERIOD)
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if " 10 " in line]
    assert line.split()[5:9] == ["8", "2", "1", "open"]
    assert line.rstrip().endswith("████░░")
    assert "2 missing when their hours were visited, 0 of them captured since." in result.output
    assert max(map(len, result.output.splitlines())) <= 100


def test_coverage_as_json_has_each_hour(run: Run, worklist: Worklist) -> None:
    worklist.save_hours([hour(1, visits=1, missing=1, missing_ids=("a",), closed_at=NOW)])
    [document] = json.loads(run("coverage", *PERIOD, "--json").stdout)
    assert document["instance_id"] == FIRST.instance_id
    [found] = document["hours"]
    assert (found["state"], found["missing_ids"], found["captured_since"]) == ("given up", ["a"], 0)
    assert found["hour"] == f"{START:%Y-%m-%d}T01:00:00.000Z"


def test_coverage_of_a_period_that_was_never_opened_names_the_backfill(run: Run) -> None:
    text = " ".join(run("coverage", *PERIOD).output.split())
    assert "no hour was opened" in text
    assert f"ops backfill {' '.join(PERIOD)}" in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "soon"), "give a date or time such as"),
        (("--from", "2026-03-02", "--to", "2026-03-01"), "--from is not before --to"),
    ],
)
def test_coverage_refuses_a_time_that_is_none(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run("coverage", *arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.replace("│", " ").split())


def test_coverage_refuses_an_hour_that_cannot_be_read(run: Run, deployment: Deployment) -> None:
    item = {"pk": {"S": f"HOURS#{FIRST.instance_id}"}, "sk": {"S": f"{START:%Y-%m-%dT%H}"}}
    deployment.clients.dynamodb.put_item(TableName="ledger", Item=item)
    result = run("coverage", *PERIOD)
    assert isinstance(result.exception, OpsError)
    assert "cannot be read: a `backfill` of that hour writes it anew" in str(result.exception)


def test_a_backfill_asks_first_and_says_how_many_hours(run: Run, functions: Functions) -> None:
    result = run("backfill", *PERIOD)
    assert result.exit_code == 1
    assert "Search 24 hours of instance 11111111" in result.output
    assert functions.payloads == []


def test_a_backfill_ends_when_its_hours_are_visited_and_says_what_is_missing(
    run: Run, functions: Functions, worklist: Worklist
) -> None:
    functions.answers = [{"hours": 24}]
    closed = [hour(number, visits=1, closed_at=NOW) for number in range(23)]
    later = NOW + timedelta(minutes=30)
    waiting = hour(23, visits=1, completed=1, missing=1, missing_ids=("a",), due_at=later)
    worklist.save_hours([*closed, waiting])
    result = run("backfill", *PERIOD, "--yes")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "24 hours visited, 0 contacts asked for. 23 hours are closed." in text
    assert "1 are open: 1 contacts were missing in them, 0 of which are captured by now." in text
    assert "`ops status` says what holds them up" in text
    assert [payload["instanceArn"] for payload in functions.payloads] == [FIRST.arn]

    functions.answers = [{"hours": 24}]
    worklist.save_hours([replace(waiting, missing=0, missing_ids=(), due_at=None, closed_at=NOW)])
    result = run("backfill", *PERIOD, "--yes", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["visited"], document["closed"], document["open"], document["missing"]) == (24, 24, 0, 0)


def test_a_backfill_does_not_count_an_hour_that_no_run_visited(
    run: Run, functions: Functions, worklist: Worklist
) -> None:
    functions.answers = [{"hours": 24}]
    closed = [hour(number, visits=1, closed_at=NOW) for number in range(23)]
    worklist.save_hours([*closed, hour(23, due_at=NOW + timedelta(minutes=30))])
    document = json.loads(run("backfill", *PERIOD, "--yes", "--json").stdout)
    assert (document["visited"], document["closed"], document["open"]) == (23, 23, 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--from", "2026-03-02", "--to", "2026-03-01"), "from (2026-03-02) is not before to (2026-03-01): swap them"),
        (("--from", "2020-03-01", "--to", "2026-03-01"), "beyond the two years that Connect keeps contacts"),
        ((*PERIOD, "--instance", "none"), "instance none is not captured: there are 11111111"),
        (
            ("--from", f"{NOW:%Y-%m-%dT%H:00Z}", "--to", f"{NOW + HOUR:%Y-%m-%dT%H:00Z}"),
            "no hour of that period is due",
        ),
    ],
)
def test_a_backfill_refuses_what_cannot_be_searched(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    result = run("backfill", *arguments, "--yes")
    assert isinstance(result.exception, OpsError)
    assert sentence in str(result.exception)


def test_a_backfill_tells_what_the_function_failed_with(run: Run, functions: Functions) -> None:
    functions.answers = [{"errorMessage": "AccessDenied: no"}]
    result = run("backfill", *PERIOD, "--yes")
    assert str(result.exception) == "the reconcile function failed: AccessDenied: no"


def test_capture_sends_what_connect_says_of_the_contact_and_tells_what_became_of_it(
    run: Run, functions: Functions, contact: Stubber
) -> None:
    described = {"Id": "c", "InitialContactId": "b", "Channel": "CHAT", "DisconnectTimestamp": START}
    contact.add_response("describe_contact", {"Contact": described})
    functions.answers = [{"contact_id": "c", "outcome": "captured", "reference_count": 2, "reason": "captured"}]
    result = run("capture", "c", "--yes", "--reason", "ticket 7")
    assert result.exit_code == 0, result.output
    assert "c: captured with 2 references (captured)" in result.output
    [payload] = functions.payloads
    assert payload["detail"] == {
        "instanceArn": FIRST.arn,
        "contactId": "c",
        "initialContactId": "b",
        "channel": "CHAT",
        "disconnectTimestamp": f"{START:%Y-%m-%d}T00:00:00.000Z",
        "reason": "ticket 7",
    }


def test_capture_fails_for_a_contact_that_is_unknown_not_over_or_not_captured(
    run: Run, functions: Functions, contact: Stubber
) -> None:
    contact.add_client_error("describe_contact", "ResourceNotFoundException")
    contact.add_response("describe_contact", {"Contact": {"Id": "b"}})
    contact.add_response("describe_contact", {"Contact": {"Id": "c", "DisconnectTimestamp": START}})
    functions.answers = [{"errorMessage": "AccessDenied: no"}]
    result = run("capture", "a", "b", "c", "--yes", "--json")
    assert result.exit_code == 1
    found = {each["contact_id"]: (each["outcome"], each["reason"]) for each in json.loads(result.stdout)}
    assert found == {
        "a": ("failed", f"instance {FIRST.instance_id} has no such contact"),
        "b": ("failed", "the contact has not completed: its completion has it captured"),
        "c": ("failed", "AccessDenied: no"),
    }


def test_capture_asks_first(run: Run, functions: Functions) -> None:
    result = run("capture", "a", "b")
    assert result.exit_code == 1
    assert "Read 2 contacts of instance 11111111" in result.output
    assert functions.payloads == []


def test_capture_needs_to_know_which_instance(run: Run, functions: Functions) -> None:
    functions.environment["INSTANCE_ARNS"] = f"{FIRST.arn},{SECOND.arn}"
    result = run("capture", "a", "--yes")
    assert isinstance(result.exception, OpsError)
    assert "name the contacts' instance with --instance: there are 11111111" in str(result.exception)


def test_capture_takes_no_recheck_for_a_person_s_word(run: Run) -> None:
    assert run("capture", "a", "--yes", "--reason", "recheck").exit_code == 2
