"""A day's tables, made of its lake's objects: DuckDB does the work, the `.sql` files beside this one say which."""

import gzip
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb

from contact_references.model.errors import RetriableError

_READ_SQL, _PREVIOUS_SQL, _TABLES_SQL = (
    Path(__file__).with_name(name) for name in ("read.sql", "previous.sql", "tables.sql")
)


class MalformedLine(NamedTuple):
    """A line of the lake that is no record: in the object of this name, by its number, from 1."""

    object_name: str
    line: int


@dataclass(frozen=True, slots=True)
class DayTables:
    """A day's tables as files, and what is not in them: lines that are no records, newer captures that are not whole.

    `incomplete` counts contacts whose newest capture the lake has in part. The one before, if there is one, stands.
    """

    contacts_file: Path
    references_file: Path
    contacts: int
    references: int
    malformed: Sequence[MalformedLine]
    incomplete: int


def make_tables(
    objects: Sequence[Path], folder: Path, *, previous: Path | None = None, memory_megabytes: int
) -> DayTables:
    """Write the tables of a day into a folder, out of the files of its lake: gzipped JSON Lines, in any order.

    `previous` is a folder with the tables that were made of the rest of the lake before, if any were. An object holds
    captures with all of their records, so nothing is needed of those that the tables left out.

    The same files give the same tables. DuckDB takes so much memory at most, beyond which it writes into the folder;
    besides it, buffers outside its count take up to 300 MB. Raises RetriableError, without DuckDB's own words: they
    may quote a value.
    """
    # What it could look for elsewhere is in the package; nothing is fetched.
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_megabytes}MB",
        # With more, each of thousands of small files takes megabytes, and no less time: out of memory at ten thousand.
        "threads": 1,
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with closing(duckdb.connect(config=config)) as database:
            return _make(database, objects, folder, previous)
    except duckdb.Error as error:
        raise RetriableError(type(error).__name__, "DuckDB cannot make the day's tables") from None


def _make(
    database: duckdb.DuckDBPyConnection, objects: Sequence[Path], folder: Path, previous: Path | None
) -> DayTables:
    # A day without objects has tables too: empty ones, whose columns are those of an empty object.
    names = [str(path) for path in objects] or [str(_empty_object(folder))]
    database.execute("SET VARIABLE objects = $objects", {"objects": names})
    database.execute("SET VARIABLE folder = $folder", {"folder": str(folder)})
    database.execute("SET VARIABLE previous = $previous", {"previous": str(previous)})
    for file in (_READ_SQL, *([_PREVIOUS_SQL] if previous else []), _TABLES_SQL):
        for statement in database.extract_statements(file.read_text(encoding="utf-8")):
            database.execute(statement)
    malformed = database.execute("SELECT object, line FROM malformed").fetchall()
    [(incomplete,)] = database.execute("SELECT count(*) FROM incomplete").fetchall()
    contacts, references = folder / "contacts.parquet", folder / "references.parquet"
    return DayTables(
        contacts_file=contacts,
        references_file=references,
        contacts=_count(database, contacts),
        references=_count(database, references),
        malformed=[MalformedLine(Path(name).name, line) for name, line in malformed],
        incomplete=incomplete,
    )


def _count(database: duckdb.DuckDBPyConnection, file: Path) -> int:
    [(count,)] = database.execute("SELECT count(*) FROM read_parquet($file)", {"file": str(file)}).fetchall()
    return int(count)


def _empty_object(folder: Path) -> Path:
    path = folder / "empty.jsonl.gz"
    path.write_bytes(gzip.compress(b""))
    return path
