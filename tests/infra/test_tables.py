import re
from pathlib import Path
from typing import Any

import pytest

from contact_references.model.capture import REFERENCE_COLUMNS
from contact_references.tables.settings import TablesSettings
from tests.infra.test_reconcile import environment, function_of

SQL = (Path(__file__).parents[2] / "lambdas/contact_references/tables/tables.sql").read_text()
TABLES = {"contacts": "contacts", "contact_references": "references"}
"""What a table is called, and how its file is in the SQL that writes it."""


def tables(deployment: Any) -> dict[str, dict[str, Any]]:
    found = [each["Properties"]["TableInput"] for each in deployment.all("AWS::Glue::Table").values()]
    return {table["Name"]: deployment.resolve(table) for table in found}


def columns(table: dict[str, Any]) -> dict[str, str]:
    return {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}


def selected(file: str) -> list[str]:
    """The columns that the SQL writes into a file, in order."""
    select = SQL.split(f"/{file}.parquet'", 1)[0].rpartition("COPY (")[2]
    lines = select.partition("SELECT")[2].partition("\n    FROM lines")[0].splitlines()
    names = [re.search(r"(?:^ {8}|AS )([a-z_]+),?$", line) for line in lines]
    return [name[1] for name in names if name]


def test_the_function_has_duckdb_and_room_for_a_large_day(default: Any) -> None:
    function, capture = function_of(default, "tables"), function_of(default, "capture")

    assert function["Handler"] == "tables.handler.handler"
    assert function["Code"] != capture["Code"]
    assert (function["Runtime"], function["Architectures"]) == (capture["Runtime"], ["x86_64"])
    assert (function["MemorySize"], function["EphemeralStorage"], function["Timeout"]) == (1769, {"Size": 4096}, 900)


@pytest.mark.parametrize(("name", "days"), [("default", "0"), ("production", "365")])
def test_the_function_is_told_the_stores_and_the_retention(
    name: str, days: str, request: pytest.FixtureRequest
) -> None:
    deployment = request.getfixturevalue(name)
    given = environment(deployment, "tables")
    capture = environment(deployment, "capture")

    assert {name: value for name, value in given.items() if not name.startswith("POWERTOOLS_")} == {
        "TABLE_NAME": capture["TABLE_NAME"],
        "BUCKET_NAME": capture["BUCKET_NAME"],
        "DUCKDB_MEMORY_MEGABYTES": "900",
        "RETENTION_DAYS": days,
    }
    assert (
        TablesSettings.from_environment(given).memory_megabytes + 300 < function_of(deployment, "tables")["MemorySize"]
    )


def test_it_runs_each_hour_and_what_fails_is_left_to_the_next(default: Any) -> None:
    schedule = default.resolve(default.only("AWS::Scheduler::Schedule", stack="tables")["Properties"])
    left = {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0}

    assert (schedule["ScheduleExpression"], schedule["Target"]["Input"]) == ("rate(1 hour)", "{}")
    assert schedule["Target"]["RetryPolicy"] == left
    invoked = default.only("AWS::Lambda::EventInvokeConfig", stack="tables")["Properties"]
    assert {name: invoked[name] for name in left} == left


@pytest.mark.parametrize("name", TABLES)
def test_the_catalog_has_the_columns_that_are_written(name: str, default: Any) -> None:
    assert list(columns(tables(default)[name])) == selected(TABLES[name])


def test_columns_have_the_contract_s_types(default: Any) -> None:
    types = columns(tables(default)["contact_references"]) | columns(tables(default)["contacts"])

    assert {name: kind for name, kind in types.items() if kind != "string"} == {
        "completed_at": "timestamp",
        "captured_at": "timestamp",
        "date_value": "timestamp",
        "reference_count": "int",
        "number_value": "decimal(38,9)",
        "is_valid": "boolean",
        "is_redacted": "boolean",
    }


def test_the_lake_is_a_table_of_its_records_columns(default: Any) -> None:
    lake = columns(tables(default)["captures"])

    assert set(REFERENCE_COLUMNS) | set(columns(tables(default)["contacts"])) <= set(lake)
    assert set(lake.values()) == {"string", "int", "boolean"}


@pytest.mark.parametrize("name", ["contacts", "contact_references", "captures"])
def test_each_column_has_a_comment_and_dates_are_found_by_projection(name: str, default: Any) -> None:
    table = tables(default)[name]
    (bucket,) = default.all("AWS::S3::Bucket")
    [date] = table["PartitionKeys"]

    assert all(column.get("Comment") for column in [*table["StorageDescriptor"]["Columns"], date])
    assert (date["Name"], date["Type"]) == ("completed_date", "date")
    location = f"s3://{bucket}/{name}/"
    assert table["StorageDescriptor"]["Location"] == location
    parameters = table["Parameters"]
    assert parameters["storage.location.template"] == location + "completed_date=${completed_date}/"
    assert {key: value for key, value in parameters.items() if key.startswith("projection.")} == {
        "projection.enabled": "true",
        "projection.completed_date.type": "date",
        "projection.completed_date.format": "yyyy-MM-dd",
        "projection.completed_date.range": "2020-01-01,NOW+1DAYS",
    }


def test_the_work_group_encrypts_results_and_bounds_what_a_query_scans(default: Any) -> None:
    (bucket,) = default.all("AWS::S3::Bucket")
    (key,) = default.all("AWS::KMS::Key")
    work_group = default.resolve(default.only("AWS::Athena::WorkGroup")["Properties"])
    configuration = work_group["WorkGroupConfiguration"]

    assert configuration["EnforceWorkGroupConfiguration"] is True
    assert configuration["BytesScannedCutoffPerQuery"] == 100 * 2**30
    assert configuration["ResultConfiguration"] == {
        "OutputLocation": f"s3://{bucket}/query-results/",
        "EncryptionConfiguration": {
            "EncryptionOption": "SSE_KMS",
            "KmsKey": f"arn:aws:kms:us-east-1:111122223333:key/{key}",
        },
    }


def test_readers_may_query_in_the_work_group_and_read_and_write_nothing_else(default: Any) -> None:
    (bucket,) = default.all("AWS::S3::Bucket")
    policy = default.resolve(default.only("AWS::IAM::ManagedPolicy")["Properties"])
    granted: dict[str, set[str]] = {}
    for statement in policy["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
            resources = statement["Resource"]
            granted.setdefault(action, set()).update([resources] if isinstance(resources, str) else resources)

    folders = {f"arn:aws:s3:::{bucket}/{name}/*" for name in ("contacts", "contact_references", "captures")}
    results = {f"arn:aws:s3:::{bucket}/query-results/*"}
    assert granted["s3:GetObject"] == folders | results
    assert granted["s3:PutObject"] == results
    assert granted["athena:StartQueryExecution"] == {
        "arn:aws:athena:us-east-1:111122223333:workgroup/contact-references-dev"
    }
    assert not {action for action in granted if "Delete" in action or "Create" in action or "*" in action}
    assert "Users" not in policy
    assert "Roles" not in policy


def test_the_outputs_name_what_there_is(default: Any) -> None:
    outputs = {
        name: default.resolve(output["Value"])
        for name, output in default.tables["Outputs"].items()
        if not name.startswith("ExportsOutput")
    }
    (function,) = default.all("AWS::Lambda::Function", stack="tables")
    (policy,) = default.all("AWS::IAM::ManagedPolicy")

    assert outputs == {
        "TablesFunctionName": function,
        "DatabaseName": "contact_references_dev",
        "WorkGroupName": "contact-references-dev",
        "ReaderPolicyArn": policy,
    }
