"""The tables of a local system: brought up to the lake, and asked with the queries of docs/data.md."""

import json
import re
import time

from local.emulator import ROOT, LocalSystemError
from local.system import Json, System

_RECENT = "BETWEEN current_date - INTERVAL '7' DAY AND current_date"
_QUERY = re.compile(r"^\*\*(.+?)\.\*\*.*?```sql\n(.+?)```", re.MULTILINE | re.DOTALL)


def documented_queries() -> dict[str, str]:
    """The queries of docs/data.md over the tables, by their titles."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = text.split("\n## Eight queries\n", 1)[1].split("\n## ", 1)[0]
    return dict(_QUERY.findall(section))


def over_dates(sql: str, first: str, last: str) -> str:
    """Return a documented query over other dates than the last seven days."""
    return sql.replace(_RECENT, f"BETWEEN DATE '{first}' AND DATE '{last}'")


def write_tables(system: System, payload: Json | None = None) -> Json:
    """Invoke the tables function, with what its schedule sends if there is nothing else.

    Raises:
        LocalSystemError: it failed.
    """
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["TablesFunctionName"], Payload=json.dumps(payload or {})
    )
    content: Json = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise LocalSystemError(f"the tables function failed: {content.get('errorMessage')}")
    return content


def query(system: System, sql: str) -> list[list[str | None]]:
    """Ask Athena; returns the rows as text, the columns' names first.

    Raises:
        LocalSystemError: the query failed.
    """
    athena = system.clients.athena
    started = athena.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Database": system.outputs["DatabaseName"]},
        WorkGroup=system.outputs["WorkGroupName"],
    )
    identity = started["QueryExecutionId"]
    while True:
        status = athena.get_query_execution(QueryExecutionId=identity)["QueryExecution"]["Status"]
        if status["State"] not in ("QUEUED", "RUNNING"):
            break
        time.sleep(0.05)
    if status["State"] != "SUCCEEDED":
        raise LocalSystemError(f"the query failed: {status.get('StateChangeReason')}")
    pages = athena.get_paginator("get_query_results").paginate(QueryExecutionId=identity)
    return [[value.get("VarCharValue") for value in row["Data"]] for page in pages for row in page["ResultSet"]["Rows"]]
