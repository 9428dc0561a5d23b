import json
from typing import Any

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"


def function_arn(deployment: Any) -> Any:
    (function,) = deployment.all("AWS::Lambda::Function", stack="reconcile")
    return deployment.resolve({"Fn::GetAtt": [function, "Arn"]})


def definition(deployment: Any) -> dict[str, Any]:
    machine = deployment.resolve(deployment.only("AWS::StepFunctions::StateMachine")["Properties"])
    states: dict[str, Any] = json.loads(machine["DefinitionString"])
    return states


def test_the_function_runs_what_the_asset_holds_for_as_long_as_lambda_allows(default: Any) -> None:
    function = default.only("AWS::Lambda::Function", stack="reconcile")["Properties"]
    capture = default.only("AWS::Lambda::Function", stack="capture")["Properties"]

    assert function["Handler"] == "reconcile.handler.handler"
    assert (function["Timeout"], function["MemorySize"]) == (900, 256)
    for same in ("Code", "Runtime", "Architectures", "TracingConfig"):
        assert function[same] == capture[same]


def test_the_function_is_told_the_stores_and_the_settings(default: Any, production: Any) -> None:
    for deployment, settings in (
        (
            default,
            {
                "INSTANCE_ARNS": "",
                "CONNECT_REQUESTS_PER_SECOND": "8",
                "BACKFILL_SHARE": "0.5",
                "RECONCILE_WINDOW_HOURS": "3",
                "RETENTION_DAYS": "0",
            },
        ),
        (
            production,
            {
                "INSTANCE_ARNS": INSTANCE_ARN,
                "CONNECT_REQUESTS_PER_SECOND": "40",
                "BACKFILL_SHARE": "0.25",
                "RECONCILE_WINDOW_HOURS": "24",
                "RETENTION_DAYS": "365",
            },
        ),
    ):
        function, capture = (
            deployment.resolve(deployment.only("AWS::Lambda::Function", stack=stack)["Properties"])["Environment"]
            for stack in ("reconcile", "capture")
        )
        shared = {
            name: value
            for name, value in capture["Variables"].items()
            if name in {"TABLE_NAME", "QUEUE_URL", "REFERENCE_TYPES"} or name.startswith("POWERTOOLS_")
        }

        assert len(shared) == 6
        assert function["Variables"] == shared | settings


def test_an_invocation_that_failed_is_left_to_the_next_run(default: Any) -> None:
    (function,) = default.all("AWS::Lambda::Function", stack="reconcile")
    asynchronous = default.resolve(default.only("AWS::Lambda::EventInvokeConfig")["Properties"])
    schedule = default.only("AWS::Scheduler::Schedule")["Properties"]

    assert asynchronous == {"FunctionName": function, "MaximumRetryAttempts": 0, "Qualifier": "$LATEST"}
    assert schedule["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}


def test_the_recent_past_is_reconciled_as_often_as_configured(default: Any, production: Any) -> None:
    for deployment, rate in ((default, "rate(15 minutes)"), (production, "rate(1 hour)")):
        schedule = deployment.resolve(deployment.only("AWS::Scheduler::Schedule")["Properties"])

        assert (schedule["ScheduleExpression"], schedule["State"]) == (rate, "ENABLED")
        assert (schedule["Target"]["Arn"], schedule["Target"]["Input"]) == (function_arn(deployment), "{}")


def test_the_plan_is_asked_for_the_period_under_the_execution_s_name(default: Any) -> None:
    states = definition(default)
    plan = states["States"]["Plan"]

    assert states["StartAt"] == "Plan"
    assert plan["Resource"] == function_arn(default)
    assert plan["Parameters"] == {"plan.$": "$$.Execution.Input", "backfill.$": "$$.Execution.Name"}
    assert plan["Next"] == "Windows"


def test_a_period_that_cannot_be_walked_fails_at_once_and_what_may_pass_is_tried_again(default: Any) -> None:
    plan = definition(default)["States"]["Plan"]
    (retry,) = plan["Retry"]

    # States.ALL and States.TaskFailed would match InvalidPeriodError too.
    assert not {"InvalidPeriodError", "States.ALL", "States.TaskFailed"} & set(retry["ErrorEquals"])
    assert {
        "Lambda.ServiceException",
        "Lambda.TooManyRequestsException",
        "Lambda.Unknown",
        "Sandbox.Timedout",
        "States.Timeout",
        "RetriableError",
    } <= set(retry["ErrorEquals"])
    assert retry["MaxAttempts"] >= 3
    assert retry["BackoffRate"] == 2
    assert "Catch" not in plan


def test_each_window_is_an_execution_of_its_own_one_after_the_other(default: Any) -> None:
    windows = definition(default)["States"]["Windows"]

    assert (windows["Type"], windows["ItemsPath"], windows["End"]) == ("Map", "$.windows", True)
    assert windows["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert windows["MaxConcurrency"] == 1
    assert not [name for name in windows if name.startswith("Tolerated")]


def test_a_window_is_searched_and_waited_for_until_it_is_done(default: Any) -> None:
    windows = definition(default)["States"]["Windows"]
    window = windows["ItemProcessor"]
    search, wait, done = (window["States"][name] for name in ("Search", "Wait", "Done"))
    choice = window["States"][search["Next"]]

    assert windows["ItemSelector"] == {"window.$": "$$.Map.Item.Value"}
    assert window["StartAt"] == "Search"
    # The window, as the plan made it, in every round: the answer lies beside it.
    assert (search["InputPath"], search["ResultPath"]) == ("$.window", "$.answer")
    assert (search["Resource"], "Parameters" in search) == (function_arn(default), False)
    assert choice["Choices"] == [{"Variable": "$.answer.done", "BooleanEquals": True, "Next": "Done"}]
    assert choice["Default"] == "Wait"
    assert (wait["SecondsPath"], wait["Next"]) == ("$.answer.wait_seconds", "Search")
    assert (done["Type"], done["OutputPath"]) == ("Succeed", "$.answer")


def test_a_search_outlasts_hours_of_failures(default: Any) -> None:
    search = definition(default)["States"]["Windows"]["ItemProcessor"]["States"]["Search"]
    (retry,) = search["Retry"]
    longest = [
        min(retry["MaxDelaySeconds"], retry["IntervalSeconds"] * retry["BackoffRate"] ** attempt)
        for attempt in range(retry["MaxAttempts"])
    ]
    on_average = sum(longest) / 2  # full jitter

    assert (retry["ErrorEquals"], retry["JitterStrategy"]) == (["States.ALL"], "FULL")
    assert max(longest) == 300
    assert on_average > 3 * 3600
    # An attempt is three events of the child execution's history.
    assert retry["MaxAttempts"] * 3 < 25_000 / 10


def test_no_task_waits_for_an_answer_that_never_comes(default: Any) -> None:
    states = definition(default)["States"]
    timeout = default.only("AWS::Lambda::Function", stack="reconcile")["Properties"]["Timeout"]

    for task in (states["Plan"], states["Windows"]["ItemProcessor"]["States"]["Search"]):
        assert timeout < task["TimeoutSeconds"] <= timeout + 60


def test_the_state_machine_logs_its_course_without_its_data_and_is_traced(default: Any) -> None:
    machine = default.resolve(default.only("AWS::StepFunctions::StateMachine")["Properties"])
    (destination,) = machine["LoggingConfiguration"]["Destinations"]
    log_groups = default.all("AWS::Logs::LogGroup", stack="reconcile")
    function = default.resolve(default.only("AWS::Lambda::Function", stack="reconcile")["Properties"])
    (own,) = set(log_groups) - {function["LoggingConfig"]["LogGroup"]}

    assert destination["CloudWatchLogsLogGroup"]["LogGroupArn"].endswith(f":log-group:{own}:*")
    assert machine["LoggingConfiguration"]["Level"] == "ALL"
    assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False
    assert machine["TracingConfiguration"] == {"Enabled": True}
    assert machine.get("StateMachineType", "STANDARD") == "STANDARD"


def test_logs_are_kept_longer_in_production(default: Any, production: Any) -> None:
    for deployment, days in ((default, 30), (production, 365)):
        log_groups = deployment.all("AWS::Logs::LogGroup", stack="reconcile").values()

        assert [each["Properties"]["RetentionInDays"] for each in log_groups] == [days, days]


def test_outputs_name_the_function_and_the_state_machine(default: Any) -> None:
    outputs = {name: default.resolve(output["Value"]) for name, output in default.reconcile["Outputs"].items()}
    (function,) = default.all("AWS::Lambda::Function", stack="reconcile")
    (machine,) = default.all("AWS::StepFunctions::StateMachine")

    assert outputs == {
        "ReconcileFunctionName": function,
        "BackfillStateMachineArn": f"arn:aws:states:us-east-1:111122223333:stateMachine:{machine}",
    }


def test_what_it_runs_on_can_be_thrown_away(default: Any, production: Any) -> None:
    for deployment in (default, production):
        resources = deployment.reconcile["Resources"].values()

        assert not [each["Type"] for each in resources if each.get("DeletionPolicy", "Delete") != "Delete"]
        assert not {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::KMS::Key"} & {each["Type"] for each in resources}
