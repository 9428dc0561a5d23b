import json
from typing import Any

import pytest

HELD = ["AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::SQS::Queue"]


def test_the_ledger_has_the_contract_s_keys_and_indexes(default: Any) -> None:
    table = default.only("AWS::DynamoDB::Table")["Properties"]

    assert table["KeySchema"] == [
        {"AttributeName": "pk", "KeyType": "HASH"},
        {"AttributeName": "sk", "KeyType": "RANGE"},
    ]
    assert table["GlobalSecondaryIndexes"] == [
        {
            "IndexName": "by_value",
            "KeySchema": [
                {"AttributeName": "value_key", "KeyType": "HASH"},
                {"AttributeName": "value_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "ALL"},
        },
        {
            "IndexName": "by_due",
            "KeySchema": [
                {"AttributeName": "due_key", "KeyType": "HASH"},
                {"AttributeName": "due_at", "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        },
    ]
    assert {each["AttributeType"] for each in table["AttributeDefinitions"]} == {"S"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def test_the_ledger_can_be_restored_to_a_point_in_time(default: Any) -> None:
    table = default.only("AWS::DynamoDB::Table")["Properties"]

    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_ledger_and_lake_are_encrypted_with_one_rotated_key(default: Any) -> None:
    (key_id,) = default.all("AWS::KMS::Key")
    arn = default.resolve({"Fn::GetAtt": [key_id, "Arn"]})
    table = default.resolve(default.only("AWS::DynamoDB::Table")["Properties"])
    bucket = default.resolve(default.only("AWS::S3::Bucket")["Properties"])

    assert default.only("AWS::KMS::Key")["Properties"]["EnableKeyRotation"] is True
    assert table["SSESpecification"] == {"KMSMasterKeyId": arn, "SSEEnabled": True, "SSEType": "KMS"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [
        {
            "BucketKeyEnabled": True,
            "ServerSideEncryptionByDefault": {"KMSMasterKeyID": arn, "SSEAlgorithm": "aws:kms"},
        }
    ]


def test_the_lake_is_versioned_and_private_and_refuses_plain_http(default: Any) -> None:
    bucket = default.only("AWS::S3::Bucket")["Properties"]
    (statement,) = default.only("AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]["Statement"]

    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_without_retention_nothing_in_the_lake_expires(default: Any) -> None:
    rules = default.only("AWS::S3::Bucket")["Properties"]["LifecycleConfiguration"]["Rules"]

    assert rules[0] == {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}, "Status": "Enabled"}
    assert {rule["Prefix"] for rule in rules[1:]} == {"contacts/", "contact_references/", "query-results/"}


@pytest.mark.parametrize("name", ["default", "production"])
def test_what_a_table_s_object_was_goes_after_a_day_and_what_a_query_found_after_a_week(
    name: str, request: pytest.FixtureRequest
) -> None:
    bucket = request.getfixturevalue(name).only("AWS::S3::Bucket")["Properties"]
    rules = {rule["Prefix"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"] if "Prefix" in rule}
    a_day_later = {"NoncurrentVersionExpiration": {"NoncurrentDays": 1}, "Status": "Enabled"}

    for table in ("contacts/", "contact_references/"):
        assert rules.pop(table) == {"Prefix": table, **a_day_later}
    assert rules == {"query-results/": {"Prefix": "query-results/", "ExpirationInDays": 7, **a_day_later}}


def test_with_retention_objects_expire_and_their_versions_follow(production: Any) -> None:
    rules = production.only("AWS::S3::Bucket")["Properties"]["LifecycleConfiguration"]["Rules"]

    assert {
        "ExpirationInDays": 365,
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        "Status": "Enabled",
    } in rules
    assert {"ExpiredObjectDeleteMarker": True, "Status": "Enabled"} in rules


@pytest.mark.parametrize("kind", HELD)
def test_in_production_data_outlives_its_stack(production: Any, kind: str) -> None:
    for resource in production.all(kind, stack="storage").values():
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_in_production_table_and_stack_are_protected_from_deletion(production: Any) -> None:
    assert production.only("AWS::DynamoDB::Table")["Properties"]["DeletionProtectionEnabled"] is True
    assert production.app.node.find_child("ContactReferences-prod-Storage").termination_protection is True


@pytest.mark.parametrize("kind", HELD)
def test_elsewhere_data_goes_with_its_stack(default: Any, kind: str) -> None:
    for resource in default.all(kind, stack="storage").values():
        assert resource["DeletionPolicy"] == "Delete"
        assert not resource["Properties"].get("DeletionProtectionEnabled")


def test_all_that_holds_data_is_in_the_storage_stack_which_depends_on_no_other(production: Any) -> None:
    storage = production.app.node.find_child("ContactReferences-prod-Storage")

    assert [len(production.all(kind, stack="storage")) for kind in HELD] == [1, 1, 1, 2]
    for other in ("capture", "reconcile", "tables"):
        assert [len(production.all(kind, stack=other)) for kind in HELD] == [0, 0, 0, 0]
        resources = getattr(production, other)["Resources"].values()
        assert {each.get("DeletionPolicy", "Delete") for each in resources} == {"Delete"}
    assert storage.dependencies == []
    assert "Fn::ImportValue" not in json.dumps(production.storage)


def test_names_are_cloudformation_s_and_tags_say_whose_they_are(default: Any) -> None:
    named = {"TableName", "BucketName", "QueueName", "FunctionName", "LogGroupName", "RoleName", "Name"}

    for resource in [*default.storage["Resources"].values(), *default.capture["Resources"].values()]:
        is_reference = resource["Type"] == "AWS::Lambda::EventSourceMapping"  # whose FunctionName points to one
        assert is_reference or not named & set(resource["Properties"]), resource["Type"]
    assert {"Key": "stage", "Value": "dev"} in default.only("AWS::DynamoDB::Table")["Properties"]["Tags"]
    assert {"Key": "project", "Value": "contact-references"} in default.only("AWS::S3::Bucket")["Properties"]["Tags"]


def test_outputs_have_the_contract_s_names(default: Any) -> None:
    assert {name for name, output in default.outputs.items() if "Export" not in output} == {
        "TableName",
        "BucketName",
        "QueueUrl",
        "QueueArn",
        "DeadLetterQueueUrl",
        "DeadLetterQueueArn",
        "CaptureFunctionName",
        "ReconcileFunctionName",
        "LookupFunctionName",
        "TablesFunctionName",
        "DatabaseName",
        "WorkGroupName",
        "ReaderPolicyArn",
        "AlarmTopicArn",
        "DashboardUrl",
    }


def test_outputs_of_the_queues_are_their_urls_and_arns(default: Any) -> None:
    (queue,) = [name for name, each in default.all("AWS::SQS::Queue").items() if "RedrivePolicy" in each["Properties"]]
    (dead,) = set(default.all("AWS::SQS::Queue")) - {queue}
    outputs = {name: output["Value"] for name, output in default.outputs.items()}

    assert [outputs["QueueUrl"], outputs["DeadLetterQueueUrl"]] == [{"Ref": queue}, {"Ref": dead}]
    assert [outputs["QueueArn"], outputs["DeadLetterQueueArn"]] == [
        {"Fn::GetAtt": [id_, "Arn"]} for id_ in (queue, dead)
    ]


def test_templates_are_the_same_for_every_account_and_region(default: Any) -> None:
    for path in default.template_files:
        assert "111122223333" not in path.read_text()
        assert "us-east-1" not in path.read_text()
