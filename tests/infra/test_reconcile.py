from typing import Any

import pytest

from contact_references.reconcile.settings import ReconcileSettings

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"


def function_of(deployment: Any, stack: str = "reconcile") -> dict[str, Any]:
    properties: dict[str, Any] = deployment.resolve(deployment.only("AWS::Lambda::Function", stack=stack)["Properties"])
    return properties


def environment(deployment: Any, stack: str = "reconcile") -> dict[str, str]:
    variables: dict[str, str] = function_of(deployment, stack)["Environment"]["Variables"]
    return variables


def schedule(deployment: Any) -> dict[str, Any]:
    properties: dict[str, Any] = deployment.resolve(
        deployment.only("AWS::Scheduler::Schedule", stack="reconcile")["Properties"]
    )
    return properties


def test_the_function_runs_what_the_asset_holds_as_the_capture_function_does(default: Any) -> None:
    function, capture = function_of(default), function_of(default, "capture")

    assert function["Handler"] == "reconcile.handler.handler"
    for same in ("Code", "Runtime", "Architectures", "MemorySize"):
        assert function[same] == capture[same]


@pytest.mark.parametrize(("name", "rate", "seconds"), [("default", "15 minutes", 900), ("production", "1 minute", 60)])
def test_a_run_is_over_before_the_next_is_due(
    name: str, rate: str, seconds: int, request: pytest.FixtureRequest
) -> None:
    deployment = request.getfixturevalue(name)
    due = schedule(deployment)

    assert (due["ScheduleExpression"], due["State"]) == (f"rate({rate})", "ENABLED")
    assert due["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert function_of(deployment)["Timeout"] == seconds - 5


def test_the_schedule_starts_the_function_with_what_means_work_what_is_due(default: Any) -> None:
    (function,) = default.all("AWS::Lambda::Function", stack="reconcile")
    target = schedule(default)["Target"]

    assert target["Arn"] == default.resolve({"Fn::GetAtt": [function, "Arn"]})
    assert target["Input"] == "{}"


def test_a_run_that_failed_or_could_not_start_is_left_to_the_next(default: Any) -> None:
    (function,) = default.all("AWS::Lambda::Function", stack="reconcile")
    left = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}

    assert schedule(default)["Target"]["RetryPolicy"] == left
    assert default.resolve(default.only("AWS::Lambda::EventInvokeConfig", stack="reconcile")["Properties"]) == left | {
        "FunctionName": function,
        "Qualifier": "$LATEST",
    }


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "default",
            {
                "INSTANCE_ARNS": "",
                "AUDIT_SHARE": "0.01",
                "CONNECT_REQUESTS_PER_SECOND": "8",
                "SEARCH_REQUESTS_PER_SECOND": "0.25",
                "BACKFILL_SHARE": "0.5",
                "RETENTION_DAYS": "0",
            },
        ),
        (
            "production",
            {
                "INSTANCE_ARNS": INSTANCE_ARN,
                "AUDIT_SHARE": "0.125",
                "CONNECT_REQUESTS_PER_SECOND": "40",
                "SEARCH_REQUESTS_PER_SECOND": "0.5",
                "BACKFILL_SHARE": "0.25",
                "RETENTION_DAYS": "365",
            },
        ),
    ],
)
def test_the_function_is_told_the_stores_the_queue_and_the_settings(
    name: str, settings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    deployment = request.getfixturevalue(name)
    shared = {
        name: value
        for name, value in environment(deployment, "capture").items()
        if name in {"TABLE_NAME", "QUEUE_URL", "REFERENCE_TYPES"} or name.startswith("POWERTOOLS_")
    }

    assert len(shared) == 6
    assert environment(deployment) == shared | settings


@pytest.mark.parametrize("name", ["default", "production"])
def test_the_function_can_read_the_environment_that_it_is_given(name: str, request: pytest.FixtureRequest) -> None:
    assert ReconcileSettings.from_environment(environment(request.getfixturevalue(name)))


def test_logs_are_kept_longer_in_production(default: Any, production: Any) -> None:
    for deployment, days in ((default, 30), (production, 365)):
        (log_group,) = deployment.all("AWS::Logs::LogGroup", stack="reconcile")

        assert function_of(deployment)["LoggingConfig"] == {"LogGroup": log_group}
        assert deployment.only("AWS::Logs::LogGroup", stack="reconcile")["Properties"]["RetentionInDays"] == days


def test_the_stack_is_a_function_and_its_schedule_and_nothing_else(default: Any) -> None:
    kinds = {each["Type"] for each in default.reconcile["Resources"].values()}

    assert kinds - {"AWS::CDK::Metadata"} == {
        "AWS::Lambda::Function",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Logs::LogGroup",
        "AWS::Scheduler::Schedule",
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
    }


def test_the_output_names_the_function(default: Any) -> None:
    (function,) = default.all("AWS::Lambda::Function", stack="reconcile")

    assert default.resolve(default.reconcile["Outputs"]["ReconcileFunctionName"]["Value"]) == function
