from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_references.capture.settings import CaptureSettings
from infra.capture import share_rate

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"


def queues(deployment: Any) -> tuple[str, str]:
    """Logical ids of the queue and the dead-letter queue."""
    (queue,) = [
        name for name, each in deployment.all("AWS::SQS::Queue").items() if "RedrivePolicy" in each["Properties"]
    ]
    (dead,) = set(deployment.all("AWS::SQS::Queue")) - {queue}
    return queue, dead


def environment(deployment: Any) -> dict[str, str]:
    function = deployment.only("AWS::Lambda::Function", stack="capture")["Properties"]
    variables: dict[str, str] = deployment.resolve(function["Environment"]["Variables"])
    return variables


def arn(deployment: Any, logical_id: str) -> Any:
    return deployment.resolve({"Fn::GetAtt": [logical_id, "Arn"]})


def policy_of(deployment: Any, queue: str) -> list[dict[str, Any]]:
    policies = deployment.resolve([each["Properties"] for each in deployment.all("AWS::SQS::QueuePolicy").values()])
    (policy,) = [each for each in policies if each["Queues"] == [queue]]
    statements: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return statements


def test_the_rule_matches_completions_of_the_own_account(default: Any) -> None:
    assert default.resolve(default.only("AWS::Events::Rule")["Properties"]["EventPattern"]) == {
        "source": ["aws.connect"],
        "detail-type": ["Amazon Connect Contact Event"],
        "account": ["111122223333"],
        "detail": {"eventType": ["COMPLETED"]},
    }


def test_the_rule_matches_configured_instances_in_both_spellings(production: Any) -> None:
    assert production.only("AWS::Events::Rule")["Properties"]["EventPattern"]["detail"] == {
        "eventType": ["COMPLETED", "DISCONNECTED"],
        "instanceArn": [INSTANCE_ARN, INSTANCE_ARN.replace("arn:aws:", "arn:aws::")],
    }


def test_an_event_that_cannot_be_delivered_is_retried_for_a_day_and_then_kept(default: Any) -> None:
    queue, dead = queues(default)
    (target,) = default.resolve(default.only("AWS::Events::Rule")["Properties"]["Targets"])

    assert target["Arn"] == arn(default, queue)
    assert target["DeadLetterConfig"] == {"Arn": arn(default, dead)}
    assert target["RetryPolicy"] == {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}


def test_only_rules_of_the_capture_stack_may_send_to_either_queue(default: Any, production: Any) -> None:
    for deployment, stage in ((default, "dev"), (production, "prod")):
        for queue in queues(deployment):
            (allowed,) = [each for each in policy_of(deployment, queue) if each["Effect"] == "Allow"]
            rules = f"arn:aws:events:us-east-1:111122223333:rule/ContactReferences-{stage}-Capture-*"

            assert allowed["Action"] == "sqs:SendMessage"
            assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
            assert allowed["Resource"] == arn(deployment, queue)
            assert allowed["Condition"] == {
                "ArnLike": {"aws:SourceArn": rules},
            }


def test_the_rule_s_name_begins_with_its_stack_s_for_every_stage(default: Any) -> None:
    (rule,) = default.all("AWS::Events::Rule", stack="capture")
    longest_stage = "a23456789-123456"
    suffix_of_cloudformation = "-ABCDEFGHIJKLM"

    assert "Name" not in default.only("AWS::Events::Rule")["Properties"]
    assert len(f"ContactReferences-{longest_stage}-Capture-{rule}{suffix_of_cloudformation}") <= 64


def test_queues_refuse_plain_http_and_encrypt_with_sqs_s_own_key(default: Any) -> None:
    for queue in queues(default):
        (denied,) = [each for each in policy_of(default, queue) if each["Effect"] == "Deny"]
        properties = default.all("AWS::SQS::Queue")[queue]["Properties"]

        assert (denied["Action"], denied["Condition"]) == ("sqs:*", {"Bool": {"aws:SecureTransport": "false"}})
        assert properties["SqsManagedSseEnabled"] is True
        assert "KmsMasterKeyId" not in properties


def test_a_contact_outlives_a_twelve_hour_outage_on_the_queue(default: Any) -> None:
    queue, dead = queues(default)
    properties = default.resolve(default.all("AWS::SQS::Queue")[queue]["Properties"])
    redrive = properties["RedrivePolicy"]
    longest, shortest = 15 * 60, 7.5 * 60  # of the function's back-off, once it has grown

    assert redrive["deadLetterTargetArn"] == arn(default, dead)
    assert redrive["maxReceiveCount"] * shortest >= 2 * 12 * 3600
    assert redrive["maxReceiveCount"] * longest < properties["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert default.all("AWS::SQS::Queue")[dead]["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600


@pytest.mark.parametrize("name", ["default", "production"])
def test_a_message_stays_hidden_for_six_invocations(name: str, request: pytest.FixtureRequest) -> None:
    deployment = request.getfixturevalue(name)
    queue, _ = queues(deployment)
    function = deployment.only("AWS::Lambda::Function", stack="capture")["Properties"]
    source = deployment.only("AWS::Lambda::EventSourceMapping")["Properties"]
    visibility = deployment.all("AWS::SQS::Queue")[queue]["Properties"]["VisibilityTimeout"]

    assert visibility >= 6 * function["Timeout"] + source["MaximumBatchingWindowInSeconds"]


def test_the_queue_feeds_the_function_in_batches_that_fail_in_part(default: Any) -> None:
    queue, _ = queues(default)
    (function,) = default.all("AWS::Lambda::Function", stack="capture")
    source = default.resolve(default.only("AWS::Lambda::EventSourceMapping")["Properties"])

    assert (source["EventSourceArn"], source["FunctionName"]) == (arn(default, queue), function)
    assert (source["BatchSize"], source["MaximumBatchingWindowInSeconds"]) == (6, 1)
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize(("name", "rate", "concurrency"), [("default", 8, 2), ("production", 40, 10)])
def test_the_execution_environments_share_the_rate(
    name: str, rate: float, concurrency: int, request: pytest.FixtureRequest
) -> None:
    deployment = request.getfixturevalue(name)
    function = deployment.only("AWS::Lambda::Function", stack="capture")["Properties"]
    source = deployment.only("AWS::Lambda::EventSourceMapping")["Properties"]

    assert source["ScalingConfig"] == {"MaximumConcurrency": concurrency}
    assert float(function["Environment"]["Variables"]["REQUESTS_PER_SECOND"]) * concurrency == rate
    assert "ReservedConcurrentExecutions" not in function


@given(st.floats(min_value=1, max_value=500))
def test_the_shares_never_exceed_the_rate_and_a_full_batch_fits_its_timeout(rate: float) -> None:
    share = share_rate(rate)

    assert share.concurrency * share.requests_per_second <= rate + 1e-9
    assert share.concurrency * share.requests_per_second > rate - share.concurrency / 1000 - 1e-9
    assert 2 <= share.concurrency <= 1000
    assert 120 <= share.timeout_seconds <= 900
    assert share.timeout_seconds * share.requests_per_second >= 2 * 6 * 2 * 2 - 1e-6


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "default",
            {
                "INSTANCE_ARNS": "",
                "COMPLETION_EVENT_TYPES": "COMPLETED",
                "REFERENCE_TYPES": '{"*":["URL","NUMBER","STRING","DATE","EMAIL","ATTACHMENT","CONTACT_ANALYSIS",'
                '"EMAIL_MESSAGE","EMAIL_MESSAGE_PLAIN_TEXT","EMAIL_MESSAGE_REDACTED",'
                '"EMAIL_MESSAGE_PLAIN_TEXT_REDACTED"]}',
                "AUDIT_SHARE": "0.01",
                "REQUESTS_PER_SECOND": "4",
                "RETENTION_DAYS": "0",
            },
        ),
        (
            "production",
            {
                "INSTANCE_ARNS": INSTANCE_ARN,
                "COMPLETION_EVENT_TYPES": "COMPLETED,DISCONNECTED",
                "REFERENCE_TYPES": '{"VOICE":["URL"],"*":["URL","ATTACHMENT"]}',
                "AUDIT_SHARE": "0.125",
                "REQUESTS_PER_SECOND": "4",
                "RETENTION_DAYS": "365",
            },
        ),
    ],
)
def test_the_function_is_told_the_stores_the_queues_and_the_settings(
    name: str, settings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    deployment = request.getfixturevalue(name)
    queue, dead = queues(deployment)
    (table,) = deployment.all("AWS::DynamoDB::Table")
    (bucket,) = deployment.all("AWS::S3::Bucket")

    assert environment(deployment) == settings | {
        "TABLE_NAME": table,
        "BUCKET_NAME": bucket,
        "QUEUE_URL": queue,
        "DEAD_LETTER_QUEUE_URL": dead,
        "POWERTOOLS_SERVICE_NAME": "contact-references",
        "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


@pytest.mark.parametrize("name", ["default", "production"])
def test_the_function_can_read_the_environment_that_it_is_given(name: str, request: pytest.FixtureRequest) -> None:
    assert CaptureSettings.from_environment(environment(request.getfixturevalue(name)))


def test_the_function_runs_what_the_asset_holds(default: Any) -> None:
    function = default.only("AWS::Lambda::Function", stack="capture")["Properties"]

    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
    assert function["Handler"] == "capture.handler.handler"
    assert "TracingConfig" not in function


def test_logs_are_kept_longer_in_production(default: Any, production: Any) -> None:
    for deployment, days in ((default, 30), (production, 365)):
        (log_group,) = deployment.all("AWS::Logs::LogGroup", stack="capture")
        function = deployment.resolve(deployment.only("AWS::Lambda::Function", stack="capture")["Properties"])

        assert function["LoggingConfig"] == {"LogGroup": log_group}
        assert deployment.only("AWS::Logs::LogGroup", stack="capture")["Properties"]["RetentionInDays"] == days
