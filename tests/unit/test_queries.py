"""The queries of docs/data.md: Athena's dialect, over columns that the tables have, and dates always named."""

import re
from pathlib import Path

import pytest
import sqlglot
from sqlglot import expressions

from infra.catalog import CAPTURES, CONTACTS, PARTITION, REFERENCES
from local.tables import documented_queries, over_dates

DATA = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
QUERIES = documented_queries()
COLUMNS = {
    table.name: {column.name for column in (*table.columns, PARTITION)} for table in (CONTACTS, REFERENCES, CAPTURES)
}


def test_there_are_eight() -> None:
    assert len(QUERIES) == 8


@pytest.mark.parametrize("sql", re.findall(r"```sql\n(.+?)```", DATA, re.DOTALL))
def test_each_statement_of_the_page_is_athena_s(sql: str) -> None:
    [statement] = sqlglot.parse(sql, read="athena")

    assert isinstance(statement, expressions.Select)
    assert not list(statement.find_all(expressions.Command))


@pytest.mark.parametrize("title", QUERIES)
def test_each_query_names_its_dates_and_columns_that_there_are(title: str) -> None:
    statement = sqlglot.parse_one(QUERIES[title], read="athena")
    tables = {table.name for table in statement.find_all(expressions.Table)}
    aliases = {alias.alias for alias in statement.find_all(expressions.Alias)}
    named = {column.name for column in statement.find_all(expressions.Column)}

    assert tables <= {"contacts", "contact_references"}
    assert named <= set().union(*(COLUMNS[table] for table in tables)) | aliases
    assert PARTITION.name in named
    assert over_dates(QUERIES[title], "2026-03-01", "2026-03-02") != QUERIES[title]
