"""Whether the operator's role may do all that erasing needs, tried before anything is changed: half of it is worse."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from contact_references.aws.day_folders import CONTACTS, LAKE, REFERENCES
from contact_references.aws.items import serialize
from ops.deployment import Deployment
from ops.errors import DENIED, OpsError

_NO_ITEM: Any = serialize({"pk": "RIGHTS", "sk": "PROBE"})
_NO_OBJECT = "rights-probe"
_NO_HANDLE = "rights-probe"


def check_rights(deployment: Deployment) -> None:
    """Try each right that erasing needs, by a call that changes nothing.

    Last an empty object is put beside the lake's days, where no reader looks, and that version of it is deleted: the
    right to delete it is tried before, so that none is left behind.

    Raises:
        OpsError: a right is missing; the message names the first.
        ClientError, BotoCoreError: AWS cannot be asked.
    """
    _try_functions(deployment)
    _try_ledger(deployment)
    _try_dead_letters(deployment)
    _try_bucket(deployment)


@contextmanager
def _needing(right: str, to: str, *refusals: str, ending: str = "nothing was changed") -> Iterator[None]:
    """Say which right is missing if the call within is denied; `refusals` are answers to one that is not."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in DENIED:
            raise OpsError(f"your AWS role may not {to}: ask for {right}; {ending}") from None
        if code not in refusals:
            raise


def _try_functions(deployment: Deployment) -> None:
    functions = deployment.clients.functions
    capture, tables = deployment.output("CaptureFunctionName"), deployment.output("TablesFunctionName")
    with _needing("lambda:GetFunctionConfiguration", f"read how the function {capture} is configured"):
        functions.get_function_configuration(FunctionName=capture)
    with _needing("lambda:InvokeFunction", f"invoke the function {tables}"):
        # Where that runs it all the same, it does what its schedule has it do.
        functions.invoke(FunctionName=tables, InvocationType="DryRun", Payload=b"{}")


def _try_ledger(deployment: Deployment) -> None:
    client, table = deployment.clients.dynamodb, deployment.output("TableName")
    refusal, there = "ConditionalCheckFailedException", "attribute_exists(pk)"
    for index, key in ((None, "pk"), ("by_value", "value_key"), ("by_due", "due_key")):
        of: Any = {"IndexName": index} if index else {}
        with _needing("dynamodb:Query", f"query the table {table}" + (f" by its index {index}" if index else "")):
            client.query(
                TableName=table,
                KeyConditionExpression=f"{key} = :key",
                ExpressionAttributeValues=serialize({":key": "RIGHTS"}),
                Limit=1,
                **of,
            )
    with _needing("dynamodb:BatchGetItem", f"read items of the table {table}"):
        client.batch_get_item(RequestItems={table: {"Keys": [_NO_ITEM]}})
    with _needing("dynamodb:PutItem", f"put items into the table {table}", refusal):
        client.put_item(TableName=table, Item=_NO_ITEM, ConditionExpression=there)
    with _needing("dynamodb:UpdateItem", f"update items of the table {table}", refusal):
        client.update_item(TableName=table, Key=_NO_ITEM, UpdateExpression="REMOVE probe", ConditionExpression=there)
    with _needing("dynamodb:BatchWriteItem", f"delete items of the table {table}"):
        client.batch_write_item(RequestItems={table: [{"DeleteRequest": {"Key": _NO_ITEM}}]})


def _try_dead_letters(deployment: Deployment) -> None:
    client, url = deployment.clients.sqs, deployment.output("DeadLetterQueueUrl")
    queue = url.rpartition("/")[2]
    with _needing("sqs:GetQueueAttributes", f"count the messages of the queue {queue}"):
        deployment.count_messages("DeadLetterQueueUrl")
    with _needing("sqs:ReceiveMessage", f"receive messages of the queue {queue}"):
        client.receive_message(QueueUrl=url, MaxNumberOfMessages=1, VisibilityTimeout=0)
    # A handle that is none fails by itself, within an answer that only those get who may.
    with _needing("sqs:ChangeMessageVisibility", f"give messages back to the queue {queue}"):
        entry: Any = {"Id": "0", "ReceiptHandle": _NO_HANDLE, "VisibilityTimeout": 0}
        client.change_message_visibility_batch(QueueUrl=url, Entries=[entry])
    with _needing("sqs:DeleteMessage", f"delete messages of the queue {queue}"):
        client.delete_message_batch(QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": _NO_HANDLE}])


def _try_bucket(deployment: Deployment) -> None:
    client, bucket = deployment.clients.s3, deployment.output("BucketName")
    # First, as S3 tells only those who may list that there is no such object.
    with _needing("s3:ListBucket", f"list the objects of the bucket {bucket}"):
        client.list_objects_v2(Bucket=bucket, Prefix=f"{LAKE}/", MaxKeys=1)
    with _needing("s3:ListBucketVersions", f"list the versions of objects in the bucket {bucket}"):
        client.list_object_versions(Bucket=bucket, Prefix=f"{LAKE}/", MaxKeys=1)
    for kind in (LAKE, CONTACTS, REFERENCES):
        of: Any = {"Bucket": bucket, "Key": f"{kind}/{_NO_OBJECT}"}
        where = f"{kind}/ of the bucket {bucket}"
        with _needing("s3:GetObject", f"read objects in {where}", "NoSuchKey"):
            client.get_object(**of)
        with _needing("s3:GetObjectVersion", f"read versions of objects in {where}", "NoSuchVersion"):
            client.get_object(**of, VersionId="null")
        with _needing("s3:DeleteObjectVersion", f"delete versions of objects in {where}"):
            client.delete_object(**of, VersionId="null")
    _try_object(client, bucket, f"{LAKE}/{_NO_OBJECT}")


def _try_object(client: Any, bucket: str, name: str) -> None:
    """Put an empty object, read it and delete it: only one that is there tells of the key that encrypts it."""
    where = f"{LAKE}/ of the bucket {bucket}"
    with _needing("s3:PutObject, and kms:GenerateDataKey of the bucket's key", f"put objects into {where}"):
        version_id = client.put_object(Bucket=bucket, Key=name, Body=b"").get("VersionId", "null")
    try:
        # Another erasure that tries its rights at the same moment may have deleted it.
        with _needing("kms:Decrypt of the bucket's key", f"read what is put into {where}", "NoSuchVersion"):
            client.get_object(Bucket=bucket, Key=name, VersionId=version_id)["Body"].close()
    finally:
        with _needing(
            "s3:DeleteObjectVersion",
            f"delete versions of objects in {where}",
            ending=f"the empty object {name} is left there",
        ):
            # What a process left that was killed here goes too.
            for version in client.list_object_versions(Bucket=bucket, Prefix=name).get("Versions", []):
                client.delete_object(Bucket=bucket, Key=name, VersionId=version["VersionId"])
