"""What `status` does where a part of AWS refuses, and how it is shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import boto3
import pytest
import typer
from botocore.exceptions import EndpointConnectionError
from moto import mock_aws
from rich.console import Console
from typer.testing import CliRunner, Result

from contact_references.aws.worklist import Worklist
from contact_references.model.coverage import Hour
from ops.__main__ import choose
from ops.activity import FunctionSettings, Log, describe_function, read_log
from ops.deployment import Deployment, account_options_of, program_of
from ops.errors import OpsError
from ops.judgement import DeadLetters, Facts, Level, Reason, Reconcile, judge, worst
from ops.status import FUNCTIONS, as_json, gather, register, show, spell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CLIENTS = ("functions", "logs", "cloudwatch", "sqs", "dynamodb", "connect")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BROKEN = Facts(
    now=NOON,
    stage="prod",
    reconcile=Reconcile(held_until=NOON - timedelta(minutes=5)),
    dead_letters=DeadLetters(count=1, reasons=(Reason("[red]", "a\x1b[2J", 1),)),
)


class Functions:
    """How functions are deployed: moto would need their code."""

    def get_function_configuration(self, FunctionName: str) -> dict[str, object]:  # noqa: N803 - boto3's name
        arn = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"
        variables = {"INSTANCE_ARNS": arn, "CONNECT_REQUESTS_PER_SECOND": "8"}
        return {
            "Environment": {"Variables": variables},
            "Timeout": 895,
            "LoggingConfig": {"LogGroup": f"/{FunctionName}"},
        }


def test_what_aws_refuses_is_red_and_all_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        session = boto3.Session(region_name="us-east-1")
        clients = SimpleNamespace(
            functions=Functions(), **{name: session.client(name) for name in ("logs", "cloudwatch", "sqs", "connect")}
        )
        clients.dynamodb = session.client("dynamodb")  # without a table
        outputs = {f"{name.capitalize()}FunctionName": name for name in FUNCTIONS} | {"TableName": "none"}
        for name in ("Queue", "DeadLetterQueue"):
            outputs[f"{name}Url"] = clients.sqs.create_queue(QueueName=name)["QueueUrl"]
        facts = gather(Deployment("dev", clients, outputs), datetime.now(UTC))  # type: ignore[arg-type]  # those it uses
    assert {name.split()[0] for name, _ in facts.unreadable} == {"reconcile", "tables", "instance"}
    findings = judge(facts)
    assert {finding.subject for finding in findings if finding.level is Level.GREEN} >= {"queue", "dead letters"}
    assert any("ResourceNotFoundException" in finding.sentence for finding in findings if finding.level is Level.RED)


class Unreachable:
    """A client, or a part of one, that gets no answer: nothing that stands in for AWS hangs up."""

    def __getattr__(self, name: str) -> "Unreachable":
        return self

    def __call__(self, *_: object, **__: object) -> "Unreachable":
        raise EndpointConnectionError(endpoint_url="https://example.com")


@pytest.fixture
def unreachable() -> Deployment:
    names = [f"{name.capitalize()}FunctionName" for name in FUNCTIONS]
    outputs = dict.fromkeys([*names, "TableName", "QueueUrl", "DeadLetterQueueUrl"], "a")
    return Deployment("dev", Unreachable(), outputs)  # type: ignore[arg-type]  # what it uses of clients


def test_what_does_not_answer_is_red_and_status_goes_on(unreachable: Deployment) -> None:
    facts = gather(unreachable, NOON)
    names = {f"function {name}" for name in FUNCTIONS}
    rest = {"instances", "metrics", "queue", "dead letters", "alarms", "reconcile", "tables"}
    assert {subject for subject, _ in facts.unreadable} == names | rest
    assert ("queue", "AWS cannot be reached: is the network up, and the Region right?") in facts.unreadable
    assert worst(judge(facts)) is Level.RED


def run_status(deployment: Deployment, *arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["status", *arguments], obj=lambda: deployment)


def test_watching_goes_on_after_a_look_that_failed(unreachable: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[object] = [OpsError("the deployment dev has no output QueueUrl"), BROKEN, KeyboardInterrupt()]
    looks = iter(outcomes)

    def look(*_: object) -> Facts:
        found = next(looks)
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, Facts)
        return found

    monkeypatch.setattr("ops.status.gather", look)
    monkeypatch.setattr("ops.status.time.sleep", lambda _: None)
    result = run_status(unreachable, "--watch")
    assert result.exit_code == 1
    assert next(looks, None) is None
    assert "Stage prod" in result.stdout


def test_watching_and_a_document_are_refused_together(unreachable: Deployment) -> None:
    result = run_status(unreachable, "--watch", "--json")
    assert result.exit_code == 2
    assert "leave one of them out" in " ".join(result.output.replace("│", " ").split())


def test_alarms_are_those_of_the_stage_alone_and_not_of_one_whose_name_begins_alike(
    unreachable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        cloudwatch = boto3.Session(region_name="us-east-1").client("cloudwatch")
        for name in ("ContactReferences-dev-Monitoring-a", "ContactReferences-dev-jane-Monitoring-a"):
            cloudwatch.put_metric_alarm(
                AlarmName=name,
                ComparisonOperator="GreaterThanThreshold",
                EvaluationPeriods=1,
                MetricName="Errors",
                Namespace="AWS/Lambda",
                Period=60,
                Statistic="Sum",
                Threshold=1,
            )
            cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
        clients = SimpleNamespace(**{name: Unreachable() for name in CLIENTS} | {"cloudwatch": cloudwatch})
        facts = gather(replace(unreachable, clients=clients), NOON)  # type: ignore[arg-type]  # those it uses
    assert [alarm.name for alarm in facts.alarms] == ["ContactReferences-dev-Monitoring-a"]


def test_an_hour_that_cannot_be_read_is_named(unreachable: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        dynamodb = boto3.Session(region_name="us-east-1").client("dynamodb")
        dynamodb.create_table(
            TableName="a",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "due_key", "due_at")
            ],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "by_due",
                    "KeySchema": [
                        {"AttributeName": "due_key", "KeyType": "HASH"},
                        {"AttributeName": "due_at", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
        )
        instance_id = "12345678-1234-1234-1234-123456789012"
        damaged = (NOON - timedelta(hours=300), NOON - timedelta(hours=5))
        for hour in damaged:
            key = {"pk": {"S": f"HOURS#{instance_id}"}, "sk": {"S": f"{hour:%Y-%m-%dT%H}"}}
            dynamodb.put_item(TableName="a", Item=key)
        whole = Hour(instance_id=instance_id, start=NOON - timedelta(hours=6), closed_at=NOON)
        Worklist(dynamodb, "a").save_hours([whole])
        unread = {name: Unreachable() for name in CLIENTS}
        clients = SimpleNamespace(**unread | {"dynamodb": dynamodb, "functions": Functions()})
        facts = gather(replace(unreachable, clients=clients), NOON)  # type: ignore[arg-type]  # those it uses
    assert [instance.damaged for instance in facts.instances] == [damaged]


class Logs:
    """A log that answers as AWS may: the oldest first, pages without lines in between. Emulators have one page.

    It has a page of a line for each of the seconds before noon that are given.
    """

    def __init__(self, *seconds: float) -> None:
        self.moments = sorted(NOON.timestamp() - second for second in seconds)
        self.asked: list[float] = []

    def get_paginator(self, name: str) -> "Logs":
        assert name == "filter_log_events"
        return self

    def paginate(self, *, startTime: int, **_: str) -> "Iterator[dict[str, object]]":  # noqa: N803 - boto3's name
        self.asked.append(NOON.timestamp() - startTime / 1000)
        for moment in self.moments:
            yield {"events": []}
            if moment * 1000 >= startTime:
                yield {"events": [{"message": '{"level": "ERROR"}', "timestamp": int(moment * 1000)}]}


@pytest.mark.parametrize(
    ("seconds", "lines", "asked"),
    [
        ((800, 600, 400), 3, [900]),
        ((*range(800, 900, 5), 30, 20), 2, [900, 450]),
        ((*range(100, 130), 30), 1, [900, 450, 225, 112.5, 60]),
        (range(60), 10, [900, 450, 225, 112.5, 60]),
    ],
)
def test_of_a_log_that_says_very_much_the_newest_part_is_read(
    unreachable: Deployment, seconds: "Sequence[int]", lines: int, asked: list[float]
) -> None:
    logs = Logs(*seconds)
    settings = FunctionSettings("capture", "capture", {}, timedelta(seconds=3), "/capture")
    log = read_log(replace(unreachable, clients=SimpleNamespace(logs=logs)), settings, now=NOON)  # type: ignore[arg-type]  # those it uses
    assert len(log.lines) == lines
    assert logs.asked == asked
    assert log.since == (None if len(asked) == 1 else NOON - timedelta(seconds=asked[-1]))


def test_invocations_that_were_refused_are_counted_by_periods_of_five_minutes() -> None:
    settings = FunctionSettings("lookup", "lookup", {}, timedelta(seconds=3), "/lookup")
    refused = {NOON - timedelta(minutes=minutes): 1.0 for minutes in (11, 12, 3)}
    function = describe_function(settings, Log(), {"Throttles": refused}, now=NOON)
    assert (function.throttles, function.throttled_periods) == (3, 2)


def test_status_is_shown_with_what_helps_and_nothing_a_terminal_would_obey() -> None:
    console = Console(width=100, record=True)
    with console.capture() as captured:
        console.print(show(judge(BROKEN), BROKEN, "ops --stage prod"))
    text = captured.get()
    assert "1 of [red]: a\\u001b[2J" in text
    assert "\x1b[2J" not in text
    assert "ops --stage prod dead-letters list" in text
    assert "a person should act" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "ops --stage dev list / aws logs"),
        (
            ["--stage", "prod", "--profile", "a b", "--region", "aa-b-1"],
            "ops --stage prod --profile 'a b' --region aa-b-1 list / aws logs --profile 'a b' --region aa-b-1",
        ),
    ],
)
def test_a_command_that_is_told_acts_on_the_deployment_that_was_asked_of(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    app = typer.Typer()
    app.callback()(choose)

    @app.command()
    def tell(context: typer.Context) -> None:
        deployment = Deployment(str(context.find_root().params["stage"]), SimpleNamespace(), {})  # type: ignore[arg-type]  # unused
        program, options = program_of(context, deployment), account_options_of(context)
        print(" / ".join(spell(command, program, options) for command in ("ops list", "aws logs")))

    monkeypatch.setenv("AWS_PROFILE", "the shell's")
    result = CliRunner().invoke(app, [*arguments, "tell"], prog_name="ops")
    assert result.stdout == f"{told}\n"


def test_status_as_json_has_times_and_spans_as_the_contract_has_them() -> None:
    document = as_json(judge(BROKEN), BROKEN, "ops")
    assert document["level"] == "red"
    assert document["facts"]["now"] == "2026-03-02T12:00:00.000Z"
    assert document["facts"]["reconcile"] == {"held_until": "2026-03-02T11:55:00.000Z", "every_seconds": 900.0}
