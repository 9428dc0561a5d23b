import json
import warnings
from typing import Any

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"


def policy_document(deployment: Any) -> dict[str, Any]:
    document: dict[str, Any] = deployment.resolve(deployment.only("AWS::IAM::Policy")["Properties"]["PolicyDocument"])
    return document


def grants(deployment: Any) -> set[tuple[str, str, str]]:
    """Action, resource and the service through which, of all that the function's role may do."""
    found = set()
    for statement in policy_document(deployment)["Statement"]:
        assert statement["Effect"] == "Allow"
        via = statement.get("Condition", {}).get("StringEquals", {}).get("kms:ViaService", "")
        for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
            found.add((action, statement["Resource"], via))
    return found


def test_the_role_may_do_exactly_what_the_function_does(default: Any) -> None:
    (table,) = default.all("AWS::DynamoDB::Table")
    (bucket,) = default.all("AWS::S3::Bucket")
    (key,) = default.all("AWS::KMS::Key")
    (log_group,) = default.all("AWS::Logs::LogGroup")
    properties = {name: each["Properties"] for name, each in default.all("AWS::SQS::Queue").items()}
    (queue,) = [name for name in properties if "RedrivePolicy" in properties[name]]
    (dead,) = set(properties) - {queue}
    here = "us-east-1:111122223333"
    expected = {
        ("connect:ListContactReferences", f"arn:aws:connect:{here}:instance/*/contact/*", ""),
        *((f"sqs:{action}", f"arn:aws:sqs:{here}:{queue}", "") for action in ("ReceiveMessage", "DeleteMessage")),
        ("sqs:GetQueueAttributes", f"arn:aws:sqs:{here}:{queue}", ""),
        ("sqs:ChangeMessageVisibility", f"arn:aws:sqs:{here}:{queue}", ""),
        ("sqs:SendMessage", f"arn:aws:sqs:{here}:{dead}", ""),
        ("s3:PutObject", f"arn:aws:s3:::{bucket}/captures/*", ""),
        *(
            (f"kms:{action}", f"arn:aws:kms:{here}:key/{key}", "s3.us-east-1.amazonaws.com")
            for action in ("GenerateDataKey", "Decrypt")
        ),
        *(
            (f"kms:{action}", f"arn:aws:kms:{here}:key/{key}", "dynamodb.us-east-1.amazonaws.com")
            for action in (
                "Encrypt",
                "Decrypt",
                "ReEncryptFrom",
                "ReEncryptTo",
                "GenerateDataKey",
                "GenerateDataKeyWithoutPlaintext",
                "DescribeKey",
            )
        ),
        *(
            (f"dynamodb:{action}", f"arn:aws:dynamodb:{here}:table/{table}", "")
            for action in (
                "BatchGetItem",
                "Query",
                "PutItem",
                "UpdateItem",
                "DeleteItem",
                "ConditionCheckItem",
            )
        ),
        *(
            (f"logs:{action}", f"arn:aws:logs:{here}:log-group:{log_group}:*", "")
            for action in ("CreateLogStream", "PutLogEvents")
        ),
        *((f"xray:{action}", "*", "") for action in ("PutTraceSegments", "PutTelemetryRecords")),
    }

    assert grants(default) == expected
    assert "ManagedPolicyArns" not in default.only("AWS::IAM::Role")["Properties"]


def test_configured_instances_are_the_only_ones_that_may_be_asked(production: Any) -> None:
    asked = {resource for action, resource, _ in grants(production) if action.startswith("connect:")}

    assert asked == {f"{INSTANCE_ARN}/contact/*"}


def test_every_action_exists_and_takes_the_resource_it_is_granted_on(default: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parliament reads its policy database through the old pkg_resources
        # The warnings come at import; parliament has no types.
        from parliament import analyze_policy_string  # type: ignore[import-untyped]  # noqa: PLC0415

        findings = analyze_policy_string(json.dumps(policy_document(default))).findings

    assert [str(finding) for finding in findings] == []
