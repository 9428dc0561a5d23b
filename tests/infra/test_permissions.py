import json
import warnings
from typing import Any

import pytest

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"
HERE = "us-east-1:111122223333"
PRINCIPALS = {
    "capture": "lambda.amazonaws.com",
    "reconcile": "lambda.amazonaws.com",
    "lookup": "lambda.amazonaws.com",
    "schedule": "scheduler.amazonaws.com",
    "tables": "lambda.amazonaws.com",
    "hourly schedule": "scheduler.amazonaws.com",
}
STACKS = {"schedule": "reconcile", "hourly schedule": "tables"}
Grant = tuple[str, str, str]


def role_of(deployment: Any, name: str) -> str:
    """Logical id of the one role of this part: a function's, or the schedule's."""
    roles: dict[str, Any] = deployment.all("AWS::IAM::Role", stack=STACKS.get(name, name))
    (role,) = [
        logical_id
        for logical_id, each in roles.items()
        if each["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": PRINCIPALS[name]}
    ]
    return role


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def grants(deployment: Any, name: str) -> set[Grant]:
    """Action, resource and the service through which, of all that the role may do."""
    found = set()
    for statement in deployment.policy(role_of(deployment, name))["Statement"]:
        assert statement["Effect"] == "Allow"
        via = statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService", "")
        for action in as_list(statement["Action"]):
            found |= {(action, resource, via) for resource in as_list(statement["Resource"])}
    return found


def queues(deployment: Any) -> tuple[str, str]:
    """Logical ids of the queue and the dead-letter queue."""
    properties = {name: each["Properties"] for name, each in deployment.all("AWS::SQS::Queue").items()}
    (queue,) = [name for name in properties if "RedrivePolicy" in properties[name]]
    (dead,) = set(properties) - {queue}
    return queue, dead


def expected_ledger_key(deployment: Any) -> set[Grant]:
    (key,) = deployment.all("AWS::KMS::Key")
    return {
        (f"kms:{action}", f"arn:aws:kms:{HERE}:key/{key}", "dynamodb.us-east-1.amazonaws.com")
        for action in (
            "Encrypt",
            "Decrypt",
            "ReEncryptFrom",
            "ReEncryptTo",
            "GenerateDataKey",
            "GenerateDataKeyWithoutPlaintext",
            "DescribeKey",
        )
    }


def expected_log(deployment: Any, name: str) -> set[Grant]:
    function = deployment.only("AWS::Lambda::Function", stack=name)["Properties"]
    log_group = deployment.resolve(function["LoggingConfig"]["LogGroup"])
    return {
        *(
            (f"logs:{action}", f"arn:aws:logs:{HERE}:log-group:{log_group}:*", "")
            for action in ("CreateLogStream", "PutLogEvents")
        ),
    }


def test_the_capture_role_may_do_exactly_what_the_function_does(default: Any) -> None:
    (table,) = default.all("AWS::DynamoDB::Table")
    (bucket,) = default.all("AWS::S3::Bucket")
    (key,) = default.all("AWS::KMS::Key")
    queue, dead = queues(default)

    assert grants(default, "capture") == {
        ("connect:ListContactReferences", f"arn:aws:connect:{HERE}:instance/*/contact/*", ""),
        *((f"sqs:{action}", f"arn:aws:sqs:{HERE}:{queue}", "") for action in ("ReceiveMessage", "DeleteMessage")),
        ("sqs:GetQueueAttributes", f"arn:aws:sqs:{HERE}:{queue}", ""),
        ("sqs:ChangeMessageVisibility", f"arn:aws:sqs:{HERE}:{queue}", ""),
        ("sqs:SendMessage", f"arn:aws:sqs:{HERE}:{dead}", ""),
        ("s3:PutObject", f"arn:aws:s3:::{bucket}/captures/*", ""),
        *(
            (f"kms:{action}", f"arn:aws:kms:{HERE}:key/{key}", "s3.us-east-1.amazonaws.com")
            for action in ("GenerateDataKey", "Decrypt")
        ),
        *expected_ledger_key(default),
        *(
            (f"dynamodb:{action}", f"arn:aws:dynamodb:{HERE}:table/{table}", "")
            for action in ("BatchGetItem", "Query", "BatchWriteItem", "PutItem", "UpdateItem")
        ),
        *expected_log(default, "capture"),
    }


def test_the_reconcile_role_may_do_exactly_what_the_function_does(default: Any) -> None:
    (table,) = default.all("AWS::DynamoDB::Table")
    queue, _ = queues(default)

    assert grants(default, "reconcile") == {
        ("connect:SearchContacts", f"arn:aws:connect:{HERE}:instance/*", ""),
        ("connect:DescribeContact", f"arn:aws:connect:{HERE}:instance/*/contact/*", ""),
        ("connect:ListInstances", "*", ""),
        ("ds:DescribeDirectories", "*", ""),
        *(
            (f"dynamodb:{action}", f"arn:aws:dynamodb:{HERE}:table/{table}", "")
            for action in ("BatchGetItem", "BatchWriteItem", "PutItem", "UpdateItem")
        ),
        ("dynamodb:Query", f"arn:aws:dynamodb:{HERE}:table/{table}/index/by_due", ""),
        *expected_ledger_key(default),
        *((f"sqs:{action}", f"arn:aws:sqs:{HERE}:{queue}", "") for action in ("SendMessage", "GetQueueAttributes")),
        *expected_log(default, "reconcile"),
    }


def test_the_lookup_role_may_read_the_ledger_and_nothing_else(default: Any) -> None:
    (table,) = default.all("AWS::DynamoDB::Table")
    (key,) = default.all("AWS::KMS::Key")

    assert grants(default, "lookup") == {
        ("dynamodb:Query", f"arn:aws:dynamodb:{HERE}:table/{table}", ""),
        ("dynamodb:BatchGetItem", f"arn:aws:dynamodb:{HERE}:table/{table}", ""),
        ("dynamodb:Query", f"arn:aws:dynamodb:{HERE}:table/{table}/index/by_value", ""),
        ("kms:Decrypt", f"arn:aws:kms:{HERE}:key/{key}", "dynamodb.us-east-1.amazonaws.com"),
        *expected_log(default, "lookup"),
    }


def expected_of_tables(deployment: Any) -> set[Grant]:
    (table,) = deployment.all("AWS::DynamoDB::Table")
    (bucket,) = deployment.all("AWS::S3::Bucket")
    (key,) = deployment.all("AWS::KMS::Key")
    return {
        *((f"dynamodb:{a}", f"arn:aws:dynamodb:{HERE}:table/{table}", "") for a in ("BatchGetItem", "UpdateItem")),
        ("dynamodb:Query", f"arn:aws:dynamodb:{HERE}:table/{table}/index/by_due", ""),
        *expected_ledger_key(deployment),
        *((f"s3:{action}", f"arn:aws:s3:::{bucket}", "") for action in ("ListBucket", "ListBucketVersions")),
        *(
            ("s3:GetObject", f"arn:aws:s3:::{bucket}/{folder}/*", "")
            for folder in ("captures", "contacts", "contact_references")
        ),
        *(("s3:PutObject", f"arn:aws:s3:::{bucket}/{folder}/*", "") for folder in ("contacts", "contact_references")),
        *(
            (f"kms:{action}", f"arn:aws:kms:{HERE}:key/{key}", "s3.us-east-1.amazonaws.com")
            for action in ("GenerateDataKey", "Decrypt")
        ),
        *expected_log(deployment, "tables"),
    }


def test_the_tables_role_may_do_exactly_what_the_function_does(default: Any) -> None:
    assert grants(default, "tables") == expected_of_tables(default)


def test_only_with_a_retention_may_the_tables_role_delete(production: Any) -> None:
    (bucket,) = production.all("AWS::S3::Bucket")

    assert grants(production, "tables") - expected_of_tables(production) == {
        (f"s3:{action}", f"arn:aws:s3:::{bucket}/{folder}/*", "")
        for action in ("DeleteObject", "DeleteObjectVersion")
        for folder in ("captures", "contacts", "contact_references")
    }


@pytest.mark.parametrize("name", ["schedule", "hourly schedule"])
def test_a_schedule_may_invoke_its_function_and_nothing_else(default: Any, name: str) -> None:
    (function,) = default.all("AWS::Lambda::Function", stack=STACKS[name])

    assert grants(default, name) == {
        ("lambda:InvokeFunction", f"arn:aws:lambda:{HERE}:function:{function}{versions}", "") for versions in ("", ":*")
    }


def test_every_role_is_one_of_these_and_no_managed_policy_adds_to_it(default: Any) -> None:
    roles = default.all("AWS::IAM::Role")

    assert set(roles) == {role_of(default, name) for name in PRINCIPALS}
    assert not any("ManagedPolicyArns" in role["Properties"] for role in roles.values())


def test_configured_instances_are_the_only_ones_that_may_be_asked(production: Any) -> None:
    capture, reconcile = (
        {grant[:2] for grant in grants(production, name) if grant[0].startswith(("connect:", "ds:"))}
        for name in ("capture", "reconcile")
    )

    assert capture == {("connect:ListContactReferences", f"{INSTANCE_ARN}/contact/*")}
    assert reconcile == {
        ("connect:SearchContacts", INSTANCE_ARN),
        ("connect:DescribeContact", f"{INSTANCE_ARN}/contact/*"),
    }


def test_only_where_captures_are_announced_may_the_default_bus_be_told_of_them(default: Any, production: Any) -> None:
    def on_events(deployment: Any) -> set[Grant]:
        return {grant for name in PRINCIPALS for grant in grants(deployment, name) if grant[0].startswith("events:")}

    assert on_events(default) == set()
    assert on_events(production) == {("events:PutEvents", f"arn:aws:events:{HERE}:event-bus/default", "")}
    assert {grant[0] for grant in grants(production, "capture")} > {"events:PutEvents"}


@pytest.mark.parametrize("deployment", ["default", "production"])
@pytest.mark.parametrize("name", PRINCIPALS)
def test_every_action_exists_and_takes_the_resource_it_is_granted_on(
    deployment: str, name: str, request: pytest.FixtureRequest
) -> None:
    deployed = request.getfixturevalue(deployment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parliament reads its policy database through the old pkg_resources
        # The warnings come at import; parliament has no types.
        from parliament import analyze_policy_string  # type: ignore[import-untyped]  # noqa: PLC0415

        findings = analyze_policy_string(json.dumps(deployed.policy(role_of(deployed, name)))).findings

    assert [str(finding) for finding in findings] == []
