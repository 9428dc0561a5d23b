"""`rebuild` on the deployed system: a day that the lake lost comes back from the ledger, and its tables with it."""

import json
from typing import Any

import boto3
import pytest
import typer
from typer.testing import CliRunner

from local.system import System
from local.tables import query, write_tables
from ops.clients import Clients
from ops.deployment import Deployment
from ops.rebuild import register
from tests.system.conftest import Contacts

DATE = "2024-04-01"
"""A date of completion that no other test's contacts have."""

Json = dict[str, Any]


@pytest.fixture
def deployment(system: System) -> Deployment:
    session = boto3.Session("test", "test", region_name="us-east-1")
    return Deployment("dev", Clients(session, aws_url=system.aws_url, connect_url=system.connect_url), system.outputs)


def run(deployment: Deployment, *arguments: str) -> Json:
    app = typer.Typer()

    @app.callback()
    def choose(context: typer.Context) -> None:
        context.obj = lambda: deployment

    register(app)
    period = ("--from", DATE, "--to", "2024-04-02", "--yes", "--json")
    result = CliRunner().invoke(app, ["rebuild", *arguments, *period])
    assert result.exit_code == 0, (result.output, result.exception)
    answer: Json = json.loads(result.stdout)
    return answer


def captured(system: System) -> list[list[str | None]]:
    sql = f"SELECT contact_id, reference_count FROM contacts WHERE completed_date = DATE '{DATE}' ORDER BY 1"  # noqa: S608
    return query(system, sql)[1:]


def test_a_day_that_the_lake_lost_comes_back_from_the_ledger(
    system: System, contacts: Contacts, deployment: Deployment
) -> None:
    url = {"Url": {"Name": "CRM", "Value": "https://crm.example.com/1"}}
    ids = sorted(contacts.create(*[url] * (n % 2), DisconnectTimestamp=f"{DATE}T09:00:0{n}.000Z") for n in range(4))
    contacts.complete(*ids)
    write_tables(system)
    before = captured(system)
    assert [row[0] for row in before] == ids

    s3, bucket = system.clients.s3, system.outputs["BucketName"]
    folder = f"captures/completed_date={DATE}/"
    for each in s3.list_objects_v2(Bucket=bucket, Prefix=folder)["Contents"]:
        s3.delete_object(Bucket=bucket, Key=each["Key"])
    assert run(deployment, "tables")["days"] == 1
    assert captured(system) == []

    rebuilt = run(deployment, "lake")
    assert (rebuilt["captures"], rebuilt["days"], rebuilt["damaged"]) == (4, [DATE], [])
    assert run(deployment, "tables")["written"] >= 1
    assert captured(system) == before

    again = run(deployment, "lake")
    assert again["captures"] == 4
    run(deployment, "tables")
    assert captured(system) == before
