"""All that erasing needs is tried before it begins: what is denied is named, and nothing is left of a try."""

import io
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from ops.clients import Clients
from ops.deployment import Deployment
from ops.errors import OpsError
from ops.rights import check_rights
from tests.unit.conftest import create_ledger

OUTPUTS = {
    "TableName": "ledger",
    "BucketName": "lake",
    "CaptureFunctionName": "capture",
    "TablesFunctionName": "tables",
}


class Functions:
    """Lambda for those that may: moto invokes nothing, not even dry, without a container."""

    def get_function_configuration(self, *, FunctionName: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert FunctionName == "capture"
        return {"Timeout": 60}

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        assert (FunctionName, InvocationType, json.loads(Payload)) == ("tables", "DryRun", {})
        return {"StatusCode": 204, "Payload": io.BytesIO()}


@cache  # what a session reads of the services it keeps
def _session() -> boto3.Session:
    return boto3.Session("test", "test", region_name="us-east-1")


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with mock_aws():
        clients = Clients(_session())
        clients.__dict__["functions"] = Functions()
        create_ledger(clients.dynamodb)
        clients.s3.create_bucket(Bucket="lake")
        clients.s3.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})
        url = clients.sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        clients.sqs.send_message(QueueUrl=url, MessageBody="a dead letter")
        yield Deployment("dev", clients, OUTPUTS | {"DeadLetterQueueUrl": url})


def left_behind(deployment: Deployment) -> list[object]:
    """All that the stores have but what was there."""
    clients = deployment.clients
    listed = clients.s3.list_object_versions(Bucket="lake")
    messages = deployment.count_messages("DeadLetterQueueUrl")
    return [
        *clients.dynamodb.scan(TableName="ledger")["Items"],
        *listed.get("Versions", []),
        *listed.get("DeleteMarkers", []),
        *([] if messages == (1, 0, 0) else [messages]),
    ]


def deny(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, call: str, code: str, **of: object) -> None:
    """Answer a client's calls by a name, or those with some parameters, as AWS does to who has not the right."""
    service, _, method = call.partition(".")
    client = getattr(deployment.clients, service)
    allowed = getattr(client, method)

    def answer(**asked: Any) -> Any:
        if all(asked.get(name) == value for name, value in of.items()):
            raise ClientError({"Error": {"Code": code, "Message": "User: arn:… is not authorized"}}, method)
        return allowed(**asked)

    monkeypatch.setattr(client, method, answer)


def test_who_has_every_right_may_erase_and_nothing_is_left_of_the_tries(deployment: Deployment) -> None:
    for _ in range(2):
        check_rights(deployment)
    assert left_behind(deployment) == []


@pytest.mark.parametrize(
    ("call", "of", "right"),
    [
        ("functions.get_function_configuration", {}, "lambda:GetFunctionConfiguration"),
        ("functions.invoke", {}, "lambda:InvokeFunction"),
        ("dynamodb.query", {"IndexName": None}, "dynamodb:Query"),
        ("dynamodb.query", {"IndexName": "by_value"}, "dynamodb:Query"),
        ("dynamodb.query", {"IndexName": "by_due"}, "dynamodb:Query"),
        ("dynamodb.batch_get_item", {}, "dynamodb:BatchGetItem"),
        ("dynamodb.put_item", {}, "dynamodb:PutItem"),
        ("dynamodb.update_item", {}, "dynamodb:UpdateItem"),
        ("dynamodb.batch_write_item", {}, "dynamodb:BatchWriteItem"),
        ("sqs.get_queue_attributes", {}, "sqs:GetQueueAttributes"),
        ("sqs.receive_message", {}, "sqs:ReceiveMessage"),
        ("sqs.change_message_visibility_batch", {}, "sqs:ChangeMessageVisibility"),
        ("sqs.delete_message_batch", {}, "sqs:DeleteMessage"),
        ("s3.list_objects_v2", {}, "s3:ListBucket"),
        ("s3.list_object_versions", {}, "s3:ListBucketVersions"),
        ("s3.get_object", {"VersionId": None}, "s3:GetObject"),
        ("s3.get_object", {"VersionId": "null"}, "s3:GetObjectVersion"),
        ("s3.get_object", {"Key": "contacts/rights-probe"}, "s3:GetObject"),
        ("s3.delete_object", {}, "s3:DeleteObjectVersion"),
        ("s3.delete_object", {"Key": "contact_references/rights-probe"}, "s3:DeleteObjectVersion"),
        ("s3.put_object", {}, "s3:PutObject, and kms:GenerateDataKey of the bucket's key"),
    ],
)
def test_a_right_that_is_missing_is_named_and_nothing_was_changed(
    call: str, of: dict[str, object], right: str, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        code = "AccessDenied" if call.startswith("s3") else "AccessDeniedException"
        deny(deployment, patch, call, code, **of)
        with pytest.raises(OpsError) as refusal:
            check_rights(deployment)
    said = str(refusal.value)
    assert said.startswith("your AWS role may not ")
    assert said.endswith(f": ask for {right}; nothing was changed")
    assert "authorized" not in said
    assert left_behind(deployment) == []


def test_a_key_that_may_not_be_used_is_named_and_the_try_is_deleted(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_object = deployment.clients.s3.get_object

    def get(**asked: Any) -> Any:
        if asked.get("VersionId") not in {None, "null"}:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "kms"}}, "GetObject")
        return get_object(**asked)

    monkeypatch.setattr(deployment.clients.s3, "get_object", get)
    with pytest.raises(OpsError, match=r"ask for kms:Decrypt of the bucket's key; nothing was changed"):
        check_rights(deployment)
    assert left_behind(deployment) == []


def test_what_is_left_after_all_is_told(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a bucket does that wants a second factor for it."""
    delete_object = deployment.clients.s3.delete_object

    def delete(**asked: Any) -> Any:
        if asked["VersionId"] != "null":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "mfa"}}, "DeleteObject")
        return delete_object(**asked)

    monkeypatch.setattr(deployment.clients.s3, "delete_object", delete)
    with pytest.raises(OpsError, match=r"s3:DeleteObjectVersion; the empty object captures/rights-probe is left there"):
        check_rights(deployment)


def test_the_object_of_the_try_is_in_no_day_s_folder(deployment: Deployment) -> None:
    keys: list[str] = []
    deployment.clients.s3.meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: keys.append(params["Key"])
    )
    check_rights(deployment)
    assert len(keys) == 1
    assert "completed_date=" not in keys[0]


@pytest.mark.parametrize(
    "call", ["dynamodb.put_item", "sqs.delete_message_batch", "s3.get_object", "s3.put_object", "functions.invoke"]
)
def test_what_is_no_denial_is_raised_as_it_is(
    call: str, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny(deployment, monkeypatch, call, "InternalError")
    with pytest.raises(ClientError, match="InternalError"):
        check_rights(deployment)


def test_two_that_try_their_rights_at_once_hinder_each_other_in_nothing(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = deployment.clients.s3.get_object
    others = iter([lambda: check_rights(deployment)])

    def get_after_another(**of: Any) -> Any:
        if of.get("VersionId", "null") != "null":
            next(others, lambda: None)()
        return get(**of)

    monkeypatch.setattr(deployment.clients.s3, "get_object", get_after_another)
    check_rights(deployment)
    assert not left_behind(deployment)
