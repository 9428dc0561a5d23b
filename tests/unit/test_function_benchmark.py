"""What the function's benchmark rests on: services that refuse, calls that are counted, bars that can be missed."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.function import Line, Sample, describe_line
from benchmarks.services import Services, contact_id
from benchmarks.stand_ins import RefusedError

INSTANCE_ID = "12345678-1234-1234-1234-123456789012"


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as running:
        yield running


def client(services: Services, service: Any) -> Any:
    return boto3.client(
        service,
        endpoint_url=services.url,
        verify=str(services.certificate),
        region_name="us-east-1",
        aws_access_key_id="synthetic",
        aws_secret_access_key="synthetic",  # noqa: S106 - the stand-in takes any
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def item(sort_key: str) -> dict[str, Any]:
    return {"pk": {"S": "contact"}, "sk": {"S": sort_key}}


def test_the_services_answer_an_sdk_over_tls_and_count_its_calls(services: Services) -> None:
    connect, dynamodb, s3 = (client(services, name) for name in ("connect", "dynamodb", "s3"))
    ask = {"InstanceId": INSTANCE_ID, "ContactId": contact_id(8, 0)}

    entered = connect.list_contact_references(**ask, ReferenceTypes=["URL", "NUMBER", "STRING", "DATE", "EMAIL"])
    dynamodb.put_item(TableName="ledger", Item=item("CONTACT"))
    s3.put_object(Bucket="lake", Key="key", Body=b"\x1f\x8b rows")
    found = dynamodb.batch_get_item(RequestItems={"ledger": {"Keys": [item("CONTACT"), item("other")]}})

    assert len(entered["ReferenceSummaryList"]) == 5
    assert found["Responses"] == {"ledger": [item("CONTACT")]}
    assert services.calls == {"ListContactReferences": 1, "PutItem": 1, "PutObject": 1, "BatchGetItem": 1}
    services.reset()
    assert services.calls == {}


def test_an_operation_that_is_not_simulated_is_refused_and_counted(services: Services) -> None:
    with pytest.raises(ClientError, match="UnknownOperationException"):
        client(services, "dynamodb").scan(TableName="ledger")

    assert services.calls == {"Scan": 1}


@pytest.mark.parametrize(
    ("method", "path", "target", "body"),
    [
        ("GET", f"/contact/references/{INSTANCE_ID}/{contact_id(1, 0)}?{'&referenceTypes=URL' * 7}", "", ""),
        ("PUT", "/lake/key", "", "4\r\nrows\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"),
        ("POST", "/", "DynamoDB_20120810.BatchGetItem", {"RequestItems": {"ledger": {"Keys": [item("a")] * 2}}}),
        (
            "POST",
            "/",
            "DynamoDB_20120810.BatchWriteItem",
            {"RequestItems": {"ledger": [{"PutRequest": {"Item": item("a")}}] * 2}},
        ),
        ("POST", "/", "DynamoDB_20120810.PutItem", {"Item": {"pk": {"S": "contact"}}}),
    ],
)
def test_what_the_real_services_refuse_is_refused(
    services: Services, method: str, path: str, target: str, body: Any
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)

    with pytest.raises(RefusedError):
        services.answer(method, path, target, content.encode())


def test_a_condition_holds_once(services: Services) -> None:
    dynamodb = client(services, "dynamodb")
    put = {"TableName": "ledger", "Item": item("CONTACT"), "ConditionExpression": "attribute_not_exists(pk)"}

    dynamodb.put_item(**put)

    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException) as refusal:
        dynamodb.put_item(**put, ReturnValuesOnConditionCheckFailure="ALL_OLD")
    assert refusal.value.response["Item"] == item("CONTACT")


@pytest.mark.parametrize(("bar", "verdict"), [(0.5, "met"), (0.49, "**missed**")])
def test_a_bar_is_held_against_the_median_of_the_rounds_ratios(bar: float, verdict: str) -> None:
    line = Line("start", "baseline", bar, lambda sample: sample.ready)
    ours = [Sample(ready, 0) for ready in (0.1, 0.2, 0.9)]
    baseline = [Sample(ready, 0) for ready in (0.4, 0.4, 0.9)]

    row = describe_line(line, {"ours": ours, "baseline": baseline})

    assert row[2:] == ["0.500 (0.250 to 1.000)", "200.0 / 400.0 ms", verdict]
