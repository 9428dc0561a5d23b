"""What other services still hold of erased contacts: said with an end, and where it cannot be known, that."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from ops.clients import Clients
from ops.deployment import Deployment
from ops.holdings import Holding, find_holdings
from tests.unit.conftest import create_ledger

NOW = datetime.now(UTC) + timedelta(hours=1)  # moto's backups are of the real time, whenever a test runs
NAMES = ("capture", "reconcile", "tables", "lookup")
ALWAYS = ["copies that were made elsewhere", "Amazon Connect"]


class Functions:
    """How functions are deployed: moto would need their code."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}

    def get_function_configuration(self, FunctionName: str) -> dict[str, object]:  # noqa: N803 - boto3's name
        logging = {} if FunctionName == "lookup" else {"LoggingConfig": {"LogGroup": f"/{FunctionName}"}}
        return {"Environment": {"Variables": self.variables}, "Timeout": 60, **logging}


@cache  # what a session reads of the services it keeps
def _session() -> boto3.Session:
    return boto3.Session("test", "test", region_name="us-east-1")


@pytest.fixture
def clients() -> Iterator[Any]:
    with mock_aws():
        made = Clients(_session())
        made.__dict__["functions"] = Functions()
        yield made


@pytest.fixture
def deployment(clients: Any) -> Deployment:
    """A deployment as it is in AWS, without backups and announcements."""
    create_ledger(clients.dynamodb)
    clients.dynamodb.update_continuous_backups(
        TableName="ledger", PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    clients.s3.create_bucket(Bucket="lake")
    keep(clients, {"Filter": {"Prefix": "query-results/"}, **after(7, 1)})
    results = {"ResultConfiguration": {"OutputLocation": "s3://lake/query-results/"}}
    clients.athena.create_work_group(Name="queries", Configuration=results)
    for name in NAMES:
        clients.logs.create_log_group(logGroupName=log_group_of(name))
        clients.logs.put_retention_policy(logGroupName=log_group_of(name), retentionInDays=30)
    outputs = {f"{name.capitalize()}FunctionName": name for name in NAMES}
    outputs |= {"TableName": "ledger", "BucketName": "lake", "WorkGroupName": "queries"}
    for name in ("Queue", "DeadLetterQueue"):
        seconds = {"MessageRetentionPeriod": str(14 * 86_400 if name == "Queue" else 3600)}
        outputs[f"{name}Url"] = clients.sqs.create_queue(QueueName=name, Attributes=seconds)["QueueUrl"]
    return Deployment("dev", clients, outputs)


def log_group_of(name: str) -> str:
    return "/aws/lambda/lookup" if name == "lookup" else f"/{name}"


def after(days: int, noncurrent_days: int) -> dict[str, Any]:
    return {"Expiration": {"Days": days}, "NoncurrentVersionExpiration": {"NoncurrentDays": noncurrent_days}}


def keep(clients: Any, *rules: dict[str, Any]) -> None:
    clients.s3.put_bucket_lifecycle_configuration(
        Bucket="lake", LifecycleConfiguration={"Rules": [{"Status": "Enabled", **rule} for rule in rules]}
    )


def find(deployment: Deployment, start: str) -> Holding:
    """Return the one holding whose name begins so."""
    [holding] = [each for each in find_holdings(deployment, now=NOW) if each.what.startswith(start)]
    return holding


def test_each_holding_of_a_deployment_has_its_end(deployment: Deployment) -> None:
    found = find_holdings(deployment, now=NOW)
    assert [(each.what, each.until and each.until - NOW) for each in found] == [
        ("point-in-time recovery of the ledger", timedelta(days=35)),
        ("results of queries, in s3://lake/query-results/", timedelta(days=10)),
        ("logs of the functions (/capture, /reconcile, /tables, /aws/lambda/lookup)", timedelta(days=30)),
        ("messages on the queues", timedelta(days=14)),
        *((name, None) for name in ALWAYS),
    ]


def test_recovery_ends_after_its_own_period(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    recovery = {"PointInTimeRecoveryStatus": "ENABLED", "RecoveryPeriodInDays": 3}
    answer = {"ContinuousBackupsDescription": {"PointInTimeRecoveryDescription": recovery}}
    monkeypatch.setattr(deployment.clients.dynamodb, "describe_continuous_backups", lambda **_: answer)
    assert find(deployment, "point-in-time").until == NOW + timedelta(days=3)

    recovery["PointInTimeRecoveryStatus"] = "DISABLED"
    assert not any("point-in-time" in each.what for each in find_holdings(deployment, now=NOW))


def test_backups_are_named_with_their_end_or_that_they_have_none(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.clients.dynamodb.create_backup(TableName="ledger", BackupName="before a change")
    by_hand = find(deployment, "backup before a change of the ledger")
    assert by_hand.until is None
    assert "has the data until it is deleted by hand" in by_hand.note

    made = {"BackupCreationDateTime": NOW - timedelta(days=1), "BackupExpiryDateTime": NOW + timedelta(days=5)}
    later = {"BackupCreationDateTime": NOW + timedelta(seconds=1)}
    backups = [
        {"BackupName": "SystemBackup", "BackupStatus": "AVAILABLE", **made},
        {"BackupName": "gone", "BackupStatus": "DELETED", **made},
        {"BackupName": "after", "BackupStatus": "AVAILABLE", **later},
    ]
    asked: list[dict[str, Any]] = []

    def answer(**of: object) -> list[object]:
        asked.append(of)
        return [{"BackupSummaries": backups}]

    monkeypatch.setattr(deployment.clients.dynamodb, "get_paginator", lambda _: SimpleNamespace(paginate=answer))
    [holding] = [each for each in find_holdings(deployment, now=NOW) if each.what.startswith("backup")]
    assert (holding.what, holding.until) == ("backup SystemBackup of the ledger", NOW + timedelta(days=5))
    assert asked == [{"TableName": "ledger", "BackupType": "ALL"}]


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([{"Filter": {"Prefix": "query-results/"}, **after(7, 1)}], 10),
        ([{"Filter": {"Prefix": "query-results/"}, **after(7, 1)}, {"Filter": {"Prefix": ""}, **after(3, 2)}], 7),
        ([{"Filter": {"Prefix": "query-results/"}, "Expiration": {"Days": 7}}], None),  # each keeps its last version
        ([{"Filter": {"Prefix": "contacts/"}, **after(7, 1)}], None),
        ([{"Filter": {"Prefix": "query-results/"}, **after(7, 1), "Status": "Disabled"}], None),
        ([{"Filter": {"Tag": {"Key": "a", "Value": "b"}}, **after(7, 1)}], None),
        ([{"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}], None),
    ],
)
def test_results_of_queries_are_kept_as_long_as_the_bucket_keeps_them(
    rules: list[dict[str, Any]], days: int | None, deployment: Deployment
) -> None:
    keep(deployment.clients, *rules)
    holding = find(deployment, "results of queries")
    assert holding.until == (None if days is None else NOW + timedelta(days=days))
    assert ("Nothing deletes it but a person" in holding.note) == (days is None)


def test_a_bucket_without_rules_keeps_results_for_ever(deployment: Deployment) -> None:
    deployment.clients.s3.delete_bucket_lifecycle(Bucket="lake")
    assert find(deployment, "results of queries").until is None


def test_logs_that_are_kept_for_ever_are_named(deployment: Deployment) -> None:
    deployment.clients.logs.delete_log_group(logGroupName="/tables")
    deployment.clients.logs.create_log_group(logGroupName="/tables of another")
    assert find(deployment, "logs").what == "logs of the functions (/capture, /reconcile, /aws/lambda/lookup)"

    deployment.clients.logs.delete_retention_policy(logGroupName="/capture")
    holding = find(deployment, "logs")
    assert holding.until is None
    assert holding.note.endswith("Kept for ever, unless they are given a retention: /capture.")


def test_announcements_are_told_where_there_are_any(deployment: Deployment) -> None:
    deployment.clients.functions.variables["ANNOUNCE"] = "true"  # type: ignore[attr-defined]  # the stub's
    holding = find(deployment, "announcements")
    assert holding.until is None
    assert "Ask the receivers" in holding.note


def test_parts_that_are_not_deployed_hold_nothing(deployment: Deployment) -> None:
    outputs = {
        name: value
        for name, value in deployment.outputs.items()
        if name == "CaptureFunctionName" or ("Function" not in name and name != "WorkGroupName")
    }
    found = [each.what for each in find_holdings(replace(deployment, outputs=outputs), now=NOW)]
    assert "logs of the functions (/capture)" in found
    assert not any("queries" in what for what in found)


@pytest.mark.parametrize("code", ["AccessDeniedException", "UnknownOperationException"])
@pytest.mark.parametrize(
    ("service", "method", "operation", "what"),
    [
        ("dynamodb", "describe_continuous_backups", "DescribeContinuousBackups", "point-in-time recovery"),
        ("dynamodb", "get_paginator", "ListBackups", "backups of the ledger"),
        ("athena", "get_work_group", "GetWorkGroup", "results of queries"),
        ("s3", "get_bucket_lifecycle_configuration", "GetBucketLifecycleConfiguration", "results of queries"),
        ("functions", "get_function_configuration", "GetFunctionConfiguration", "logs of the functions"),
        ("functions", "get_function_configuration", "GetFunctionConfiguration", "announcements of captures"),
        ("logs", "get_paginator", "DescribeLogGroups", "logs of the functions"),
        ("sqs", "get_queue_attributes", "GetQueueAttributes", "messages on the queues"),
    ],
)
def test_what_cannot_be_asked_for_says_so_and_all_else_is_told(
    *,
    code: str,
    service: str,
    method: str,
    operation: str,
    what: str,
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "jane@example.com"}}, operation)

    affected = ("logs", "announcements") if service == "functions" else (what,)
    others = [each for each in find_holdings(replace(deployment), now=NOW) if not each.what.startswith(affected)]
    monkeypatch.setattr(getattr(deployment.clients, service), method, refuse)
    found = find_holdings(deployment, now=NOW)
    [holding] = [each for each in found if each.what.startswith(what)]
    assert holding.until is None
    assert "is not known: " in holding.note
    assert operation in holding.note
    assert ("may not do this" in holding.note) == (code == "AccessDeniedException")
    assert "jane" not in str(found)
    assert set(others) <= set(found)


def test_settings_that_are_hidden_or_an_output_that_lacks_end_no_search(clients: Any, deployment: Deployment) -> None:
    hidden = {"Environment": {"Error": {"ErrorCode": "AccessDeniedException", "Message": "kms"}}, "Timeout": 60}
    clients.functions.get_function_configuration = lambda FunctionName: hidden  # noqa: ARG005, N803 - boto3's name
    outputs = {name: value for name, value in deployment.outputs.items() if name != "QueueUrl"}
    found = {each.what: each.note for each in find_holdings(replace(deployment, outputs=outputs), now=NOW)}
    assert "ask for kms:Decrypt" in found["announcements of captures"]
    assert "no output QueueUrl" in found["messages on the queues"]
