"""The reconcile function as Lambda calls it: its environment, and what it refuses; searches are in test_reconcile."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from contact_references.periods import InvalidPeriodError
from contact_references.settings import ReconcileSettings, SettingsError
from tests.unit.conftest import INSTANCE_ID, System

ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
ENVIRONMENT = {
    "TABLE_NAME": "ledger",
    "QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/111122223333/queue",
    "INSTANCE_ARNS": ARN,
    "REFERENCE_TYPES": "URL,ATTACHMENT",
    "CONNECT_REQUESTS_PER_SECOND": "8",
    "BACKFILL_SHARE": "0.5",
    "RECONCILE_WINDOW_HOURS": "3",
    "RETENTION_DAYS": "0",
    "POWERTOOLS_SERVICE_NAME": "contact-references",
    "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
    "POWERTOOLS_METRICS_DISABLED": "false",
}
CONTEXT = SimpleNamespace(
    function_name="reconcile",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:reconcile",
    aws_request_id="00000000-0000-0000-0000-000000000000",
    get_remaining_time_in_millis=lambda: 900_000,
)

Handler = Callable[[Any, Any], dict[str, Any]]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    sys.modules.pop("reconcile.handler", None)
    yield
    sys.modules.pop("reconcile.handler", None)


@pytest.fixture
def handler(environment: None, system: System) -> Handler:  # noqa: ARG001 - both stand around it
    found: Handler = importlib.import_module("reconcile.handler").handler
    return found


def test_a_plan_begins_the_record_and_names_the_windows(
    handler: Handler, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first, middle, last = (f"{today - timedelta(days=days):%Y-%m-%d}" for days in (9, 8, 7))
    period = {"from": f"{first}T12:00Z", "to": last, "instanceArn": ARN}

    answer = handler({"plan": period, "backfill": "march"}, CONTEXT)

    shared = {"instanceArn": ARN, "backfill": "march"}
    assert answer["windows"] == [
        {"from": f"{middle}T00:00:00.000Z", "to": f"{last}T00:00:00.000Z", **shared},
        {"from": f"{first}T12:00:00.000Z", "to": f"{middle}T00:00:00.000Z", **shared},
    ]
    [record] = system.dynamodb.scan(TableName="ledger")["Items"]
    assert (record["pk"], record["windows"]) == ({"S": "BACKFILL#march"}, {"N": "2"})
    metrics = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line]
    assert [line["SearchCalls"] for line in metrics] == [[0.0]]
    assert not {"CaptureRequests", "ThrottledSearchCalls"} & metrics[0].keys()


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "2026-01-01",
        {"plan": None, "backfill": "b"},
        {"plan": "x", "backfill": "b"},
        {"plan": {}, "backfill": "b"},
        {"backfill": "b"},
        {"source": "aws.scheduler"},
        {"from": "2026-01-02", "to": "2026-01-01"},
    ],
)
def test_an_event_that_is_no_period_is_refused_with_a_sentence(handler: Handler, event: object) -> None:
    with pytest.raises(InvalidPeriodError, match=r"give|swap"):
        handler(event, CONTEXT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABLE_NAME", None),
        ("QUEUE_URL", ""),
        ("INSTANCE_ARNS", "12345678"),
        ("REFERENCE_TYPES", "PHONE"),
        ("CONNECT_REQUESTS_PER_SECOND", "0"),
        ("BACKFILL_SHARE", "1.5"),
        ("BACKFILL_SHARE", "0"),
        ("RECONCILE_WINDOW_HOURS", "long"),
        ("RETENTION_DAYS", "-1"),
    ],
)
@pytest.mark.usefixtures("environment", "system")
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
    settings = ReconcileSettings.from_environment(ENVIRONMENT | {"RETENTION_DAYS": "30", "RECONCILE_WINDOW_HOURS": "6"})

    assert (settings.window, settings.retention) == (timedelta(hours=6), timedelta(days=30))
    assert (settings.requests_per_second, settings.backfill_share) == (8, 0.5)
    assert [instance.arn for instance in settings.instances] == [ARN]
