"""The reconcile function as Lambda calls it: its answers, its metrics and log lines, its environment."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError

from contact_references.model.environment import SettingsError
from contact_references.model.errors import ConfigurationError
from contact_references.model.periods import InvalidPeriodError
from contact_references.reconcile.report import ReconcileReport
from contact_references.reconcile.settings import ReconcileSettings
from tests.unit.conftest import NOON, create_ledger, make_client
from tests.unit.reconciling import DAY, HOUR, INSTANCE, MINUTE, OTHER, World, refusal

ENVIRONMENT = {
    "TABLE_NAME": "ledger",
    "QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/queue",
    "INSTANCE_ARNS": INSTANCE.arn,
    "REFERENCE_TYPES": '{"VOICE": ["URL"], "*": ["URL", "ATTACHMENT"]}',
    "AUDIT_SHARE": "0.01",
    "CONNECT_REQUESTS_PER_SECOND": "8",
    "SEARCH_REQUESTS_PER_SECOND": "0.25",
    "BACKFILL_SHARE": "0.5",
    "RETENTION_DAYS": "0",
    "POWERTOOLS_SERVICE_NAME": "contact-references",
    "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
CONTEXT = SimpleNamespace(
    function_name="reconcile",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:reconcile",
    aws_request_id="00000000-0000-0000-0000-000000000000",
    get_remaining_time_in_millis=lambda: 895_000,
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED", raising=False)
    sys.modules.pop("reconcile.handler", None)
    yield
    sys.modules.pop("reconcile.handler", None)


@pytest.fixture
def module(environment: None) -> ModuleType:  # noqa: ARG001 - stands around it
    return importlib.import_module("reconcile.handler")


class Function:
    """The function's handler on a world; its lines as CloudWatch has them."""

    def __init__(self, module: ModuleType, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self._module = module
        self._capsys = capsys
        self.world = world
        self.find_instances: Callable[[], Any] = lambda: world.instances
        self._log = StringIO()
        logger = Logger(service=f"reconcile {id(self)}", stream=self._log)
        world.build(ReconcileReport(logger, module.metrics))

    def __call__(self, event: object = None) -> dict[str, Any]:
        world = self.world
        settings = ReconcileSettings.from_environment(ENVIRONMENT)
        app = self._module.App(
            find_instances=self.find_instances,
            hours=world.hours,
            reconciler=world.reconciler,
            search=world.search,
            queue=world.requests,
            report=world.report,
            settings=settings,
            clock=world.clock,
        )
        answer: dict[str, Any] = self._module.handler({} if event is None else event, CONTEXT, app=app)
        return answer

    def lines(self) -> list[dict[str, Any]]:
        text = self._log.getvalue() + self._capsys.readouterr().out
        self._log.seek(self._log.truncate(0))
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def function(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> Function:
    return Function(module, World(instances=[INSTANCE, OTHER]), capsys)


def numbers(lines: list[dict[str, Any]], *dimensions: str) -> list[dict[str, Any]]:
    """The metrics that have these dimensions, as one dictionary a line, with the dimensions."""
    found = []
    for line in lines:
        if "_aws" in line:
            [of] = line["_aws"]["CloudWatchMetrics"]
            assert of["Namespace"] == "ContactReferences"
            if of["Dimensions"] == [sorted(dimensions)]:
                values = {metric["Name"]: sum(line[metric["Name"]]) for metric in of["Metrics"]}
                found.append(values | {name: line[name] for name in dimensions if name != "service"})
    return found


def test_a_run_answers_how_many_requests_it_made(function: Function) -> None:
    for n in range(3):
        function.world.have(f"{n}", NOON - 2 * HOUR)
    assert function() == {"outcome": "what was due is done, or queued", "requested": 3}
    assert function()["requested"] == 0


def test_a_run_beside_another_answers_so(function: Function) -> None:
    function.world.worklist.take_lease("another", now=NOON, until=NOON + HOUR)
    assert function() == {"outcome": "another run is at work", "requested": 0}


def test_a_run_counts_what_it_did_and_gauges_each_instance(function: Function) -> None:
    for n in range(3):
        function.world.have(f"{n}", NOON - 2 * HOUR)
    function()
    lines = function.lines()
    totals = {"CaptureRequests": 3, "SearchCalls": 2, "HoursClosed": 40, "ContactsMissing": 3}
    assert numbers(lines, "service") == [totals]
    gauges = {found.pop("instance_id"): found for found in numbers(lines, "service", "instance_id")}
    assert gauges == {
        "first": {"ContactsMissing": 3, "HoursOpen": 3, "BackfillHoursOpen": 0, "RechecksDue": 0},
        "other": {"ContactsMissing": 0, "HoursOpen": 3, "BackfillHoursOpen": 0, "RechecksDue": 0},
    }
    function()
    assert numbers(function.lines(), "service") == [{"SearchCalls": 0, "ContactsMissing": 3}]


def test_refused_searches_are_counted_and_fail_the_run_with_its_instance_in_the_log(function: Function) -> None:
    function.world.searches.refused = {"first": "ThrottlingException"}
    with pytest.raises(Exception, match="ThrottlingException"):
        function()
    lines = function.lines()
    [counts] = numbers(lines, "service")
    assert (counts["SearchCalls"], counts["ThrottledSearchCalls"]) == (4, 3)
    [failed] = [line for line in lines if line.get("message") == "instance not reconciled"]
    assert (failed["level"], failed["instance_id"], failed["error"]) == ("ERROR", "first", "ThrottlingException")


def test_what_is_given_up_is_counted_and_logged_as_an_error(function: Function) -> None:
    world = function.world
    world.have("hopeless", NOON - 2 * HOUR)
    world.put_item("recheck", NOON - DAY, due_at=NOON)
    function()
    function.lines()
    world.queue.messages.clear()
    world.now = NOON + 8 * DAY
    world.worklist.save_hours(
        [hour for hour in world.all_hours().values() if hour.closed_at or (hour.due_at and hour.missing)]
    )
    function()
    lines = function.lines()
    [counts] = numbers(lines, "service")
    assert (counts["HoursGivenUp"], counts["RechecksGivenUp"]) == (1, 1)
    errors = {line["message"]: line for line in lines if line.get("level") == "ERROR"}
    assert set(errors) == {"hour given up", "recheck given up"}
    assert (errors["hour given up"]["instance_id"], errors["hour given up"]["missing"]) == ("first", 1)
    assert errors["recheck given up"]["contact_id"] == "recheck"


def test_a_damaged_hour_is_logged(function: Function) -> None:
    function()
    function.lines()
    damaged = {"pk": "HOURS#first", "sk": "2026-01-01T00", "due_key": "HOUR#first", "due_at": "2026-01-01T02"}
    function.world.table.put({name: {"S": value} for name, value in damaged.items()})
    function()
    [line] = [line for line in function.lines() if line.get("message") == "damaged item left out"]
    assert line["reason"] == "the hour's item HOURS#first 2026-01-01T00 cannot be read"


def test_what_services_say_is_not_repeated(function: Function) -> None:
    world = function.world
    world.have("a", NOON - 2 * HOUR)
    world.searches.refused = {"other": "ValidationException"}

    def refuse(**_: Any) -> None:
        raise refusal("AccessDenied", "SendMessageBatch")

    world.queue.send_message_batch = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(ConfigurationError) as failed:
        function()
    assert not isinstance(failed.value.__cause__, ClientError)
    assert "secret" not in json.dumps(function.lines())
    assert "secret" not in str(failed.value)


def test_a_backfill_marks_its_hours_and_answers_at_once(function: Function) -> None:
    event = {"from": "2026-01-01", "to": "2026-01-02T12:30Z"}
    assert function(event) == {"hours": 2 * 37}
    assert function(event | {"instanceArn": OTHER.arn}) == {"hours": 37}
    assert function.world.searches.calls == []
    assert {hour.is_backfill for hour in function.world.all_hours().values()} == {True}
    function()
    assert {hour.closed_at is not None for hour in function.world.all_hours(OTHER).values() if hour.is_backfill} <= {
        True
    }


def test_a_backfill_is_marked_while_a_run_is_at_work(function: Function) -> None:
    function.world.worklist.take_lease("another", now=NOON, until=NOON + HOUR)
    assert function({"from": "2026-01-01", "to": "2026-01-02"}) == {"hours": 48}


@pytest.mark.parametrize(
    "event",
    [
        [],
        "2026-01-01",
        {"source": "aws.scheduler"},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"from": "2026-01-01", "to": "2027-01-01"},
        {"from": "2023-01-01", "to": "2026-01-01"},
        {"from": "2026-01-01", "to": "2026-01-02", "instanceArn": "third"},
        {"from": "2026-01-01", "to": "2026-01-02", "name": "january"},
    ],
)
def test_what_is_no_period_is_refused_with_an_example_and_nothing_is_marked(function: Function, event: object) -> None:
    with pytest.raises(InvalidPeriodError, match=r"give|swap|now it is"):
        function(event)
    assert function.world.table.items == {}
    assert function.world.searches.calls == []


def test_instances_that_cannot_be_listed_fail_the_run(function: Function) -> None:
    def fail() -> None:
        raise ConfigurationError("AccessDeniedException", "ListInstances answered 400 AccessDeniedException")

    function.find_instances = fail
    with pytest.raises(ConfigurationError):
        function()
    assert numbers(function.lines(), "service") == [{"SearchCalls": 0, "ConfigurationErrors": 1}]


def test_a_run_that_a_wrong_deployment_fails_counts_once_however_many_instances_it_hinders(function: Function) -> None:
    function.world.searches.refused = {"first": "AccessDeniedException", "other": "AccessDeniedException"}
    with pytest.raises(ConfigurationError):
        function()
    [counts] = numbers(function.lines(), "service")
    assert counts["ConfigurationErrors"] == 1
    function.world.searches.refused = {}
    function()
    [counts] = numbers(function.lines(), "service")
    assert "ConfigurationErrors" not in counts


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABLE_NAME", None),
        ("QUEUE_URL", ""),
        ("INSTANCE_ARNS", "12345678"),
        ("INSTANCE_ARNS", None),
        ("REFERENCE_TYPES", "URL"),
        ("REFERENCE_TYPES", '{"VOICE": ["URL"]}'),
        ("AUDIT_SHARE", "2"),
        ("CONNECT_REQUESTS_PER_SECOND", "0"),
        ("SEARCH_REQUESTS_PER_SECOND", "nan"),
        ("BACKFILL_SHARE", "1.5"),
        ("BACKFILL_SHARE", "0"),
        ("RETENTION_DAYS", "-1"),
    ],
)
def test_a_wrong_environment_stops_the_function_at_its_start_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "reconcile")
    with pytest.raises(SettingsError, match=name):
        importlib.import_module("reconcile.handler")


def test_settings_are_those_of_the_environment() -> None:
    settings = ReconcileSettings.from_environment(ENVIRONMENT | {"RETENTION_DAYS": "30"})
    assert (settings.table_name, settings.queue_url) == ("ledger", ENVIRONMENT["QUEUE_URL"])
    assert (settings.requests_per_second, settings.searches_per_second, settings.backfill_share) == (8, 0.25, 0.5)
    assert (settings.retention, settings.instances) == (timedelta(days=30), frozenset({INSTANCE}))
    assert settings.type_lists.by_channel == {"VOICE": ("URL",), "*": ("URL", "ATTACHMENT")}
    assert ReconcileSettings.from_environment(ENVIRONMENT).retention is None


@pytest.mark.usefixtures("moto")
def test_the_wired_function_works_what_is_due_and_marks_what_is_asked_for(module: ModuleType) -> None:
    create_ledger(make_client("dynamodb"))
    queue_url = make_client("sqs").create_queue(QueueName="queue")["QueueUrl"]
    period = {"from": "2026-01-01", "to": "2026-01-03", "instanceArn": INSTANCE.arn}

    def call(event: object, **environment: str) -> Any:
        settings = ReconcileSettings.from_environment(ENVIRONMENT | {"QUEUE_URL": queue_url} | environment)
        return module.handler(event, CONTEXT, app=module.wire(settings, clock=lambda: NOON))

    assert call({}, INSTANCE_ARNS="") == {"outcome": "what was due is done, or queued", "requested": 0}
    assert call(period) == {"hours": 48}
    with pytest.raises(InvalidPeriodError, match="no instance here"):
        call(period, INSTANCE_ARNS="")


def test_the_lease_ends_with_the_functions_time(function: Function) -> None:
    leases = []
    real = function.world.feeder.begin

    def begin(lease: Any) -> None:
        leases.append(lease)
        real(lease)

    function.world.feeder.begin = begin  # type: ignore[method-assign]
    function()
    assert leases[0].held_until == NOON + 15 * MINUTE - timedelta(seconds=5)
    assert len({lease.holder for lease in leases}) == len(leases)
