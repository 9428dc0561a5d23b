"""The tables: equal to a reading of the lake by its rules, whatever the lake holds, and however runs come and go."""

import gzip
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import uuid4

import duckdb
import pytest
from aws_lambda_powertools import Logger
from hypothesis import given, settings
from hypothesis import strategies as st

from contact_references.aws.day_folders import CONTACTS, LAKE, REFERENCES, DayFolders
from contact_references.aws.days import Days
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.model.capture import REFERENCE_COLUMNS, Capture
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.environment import SettingsError
from contact_references.model.errors import CaptureError, ConfigurationError, RetriableError
from contact_references.model.reference import normalize_references
from contact_references.model.timestamps import parse_iso
from contact_references.tables import day as day_module
from contact_references.tables.commands import InvalidCommandError, Period
from contact_references.tables.day import DayTables, MalformedLine, make_tables
from contact_references.tables.report import TablesReport
from contact_references.tables.run import Tables
from tests.unit.conftest import INSTANCE_ID, NOON, Clock, create_ledger, make_client
from tests.unit.strategies import members

Json = dict[str, Any]

DATE = "2026-03-01"
CONTACT_COLUMNS = (
    "instance_id",
    "contact_id",
    "initial_contact_id",
    "channel",
    "initiation_method",
    "completed_at",
    "capture_id",
    "captured_at",
)
TABLES = {CONTACTS: "contacts", REFERENCES: "references"}
TIMES = ("completed_at", "captured_at", "date_value")
URL = {"Url": {"Name": "CRM", "Value": "https://crm.example.com/1"}}
VALUE = "Jane.Doe@example.com; DROP TABLE contacts"


def capture(contact_id: str, number: int, *answered: Json, instance_id: str = INSTANCE_ID) -> Capture:
    """Make a contact's capture of a number: a later one has a higher."""
    contact = Contact(
        key=ContactKey(instance_id, contact_id),
        initial_contact_id=contact_id,
        channel="VOICE",
        initiation_method=None,
        completed_at=NOON,
        completion_seen=True,
    )
    return Capture(
        contact=contact,
        capture_id=f"capture-{contact_id}-{number}",
        captured_at=NOON + timedelta(seconds=number),
        references=normalize_references(answered),
    )


def records_of(captured: Capture) -> list[Json]:
    """The capture's records as the lake has them."""
    records = (captured.contact_record(), *captured.reference_records())
    return [{k: format(v, "f") if isinstance(v, Decimal) else v for k, v in record.items()} for record in records]


def dump(records: Iterable[Json | str]) -> bytes:
    """An object of the lake; what is no record is a line as it is."""
    lines = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in records]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))


def read(file: Path | bytes) -> list[Json]:
    """The rows of a Parquet file."""
    if isinstance(file, bytes):
        with tempfile.NamedTemporaryFile() as copy:
            copy.write(file)
            copy.flush()
            return read(Path(copy.name))
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_parquet($file)", {"file": str(file)})
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def brute_force(records: Iterable[Json]) -> tuple[list[Json], list[Json], int]:
    """Contacts, references and the number of incomplete newest captures, by the lake's reading rules, one by one."""
    of_contact: dict[tuple[str, str], dict[tuple[str, str], dict[str | None, Json]]] = {}
    for record in records:
        capture_key = (record["captured_at"], record["capture_id"])
        held = of_contact.setdefault((record["instance_id"], record["contact_id"]), {}).setdefault(capture_key, {})
        held[record.get("reference_id")] = record
    contacts: list[Json] = []
    references: list[Json] = []
    incomplete = 0
    for captures in of_contact.values():
        whole = [
            key for key, held in captures.items() if None in held and held[None]["reference_count"] == len(held) - 1
        ]
        incomplete += max(captures) not in whole
        if whole:
            for reference_id, record in captures[max(whole)].items():
                (contacts if reference_id is None else references).append(typed(record))
    return contacts, references, incomplete


def typed(record: Json) -> Json:
    """A record as a row of its table."""
    is_contact = record["record_type"] == "CONTACT"
    columns = (*CONTACT_COLUMNS, *(("reference_count",) if is_contact else REFERENCE_COLUMNS))
    row: Json = {name: record.get(name) for name in columns}
    for name in TIMES:
        if row.get(name) is not None:
            row[name] = parse_iso(row[name]).replace(tzinfo=None)
    if row.get("number_value") is not None:
        number = Decimal(row["number_value"])
        with localcontext(prec=200):
            rounded = round(number, 9)
            row["number_value"] = rounded if rounded == number and abs(number) < Decimal(10) ** 29 else None
    return row


def in_order(rows: Iterable[Json]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@st.composite
def lakes(draw: st.DrawFn) -> tuple[list[list[Json | str]], list[Json]]:
    """Objects of a day, and the records in them: captures, torn and repeated, among lines that are no records."""
    records: list[Json] = []
    for contact_id in draw(st.sampled_from([["a"], ["a", "b"], ["a", "b", "o'c\"; --"]])):
        for number in range(draw(st.integers(1, 3))):
            of_capture = records_of(capture(contact_id, number, *draw(st.lists(members(), max_size=4))))
            if draw(st.integers(0, 3)) == 0:
                of_capture.remove(draw(st.sampled_from(of_capture)))
            records += of_capture * draw(st.sampled_from([1, 1, 2]))
    lines: list[Json | str] = list(draw(st.permutations(records)))
    for _ in range(draw(st.integers(0, 2))):
        junk = draw(st.sampled_from(["{", "[1]", "17", "null", '{"record_type": "CONTACT"}', '"text"', "{}", "\udcff"]))
        lines.insert(draw(st.integers(0, len(lines))), junk)
    objects: list[list[Json | str]] = [[] for _ in range(draw(st.integers(1, 3)))]
    for line in lines:
        draw(st.sampled_from(objects)).append(line)
    return objects, records


def write_tables(objects: Iterable[bytes], folder: Path, *, previous: Path | None = None) -> DayTables:
    files = []
    for number, content in enumerate(objects):
        file = folder / f"{number}.jsonl.gz"
        file.write_bytes(content)
        files.append(file)
    return make_tables(files, folder, previous=previous, memory_megabytes=200)


@settings(max_examples=40, deadline=None)
@given(lakes())
def test_tables_are_what_a_reading_of_the_lake_one_by_one_gives(
    lake: tuple[list[list[Json | str]], list[Json]],
) -> None:
    objects, records = lake
    contacts, references, incomplete = brute_force(records)
    with tempfile.TemporaryDirectory() as name:
        tables = write_tables(map(dump, objects), Path(name))
        assert in_order(read(tables.contacts_file)) == in_order(contacts)
        assert in_order(read(tables.references_file)) == in_order(references)
    assert (tables.contacts, tables.references) == (len(contacts), len(references))
    assert tables.incomplete == incomplete
    expected = [
        (f"{number}.jsonl.gz", at)
        for number, lines in enumerate(objects)
        for at, line in enumerate(lines, start=1)
        if isinstance(line, str)
    ]
    assert list(tables.malformed) == expected


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_tables_made_of_the_ones_before_and_what_is_new_are_those_made_of_all(data: st.DataObject) -> None:
    captures = [
        records_of(capture(contact_id, number, *data.draw(st.lists(members(), max_size=3))))
        for contact_id in "ab"
        for number in range(3)
    ]
    torn = [of if data.draw(st.integers(0, 3)) else of[:-1] or of for of in captures]
    appended = data.draw(st.permutations(torn * 2))
    contacts, references, _ = brute_force(record for of in appended for record in of)
    with tempfile.TemporaryDirectory() as name:
        previous = None
        for number in range(0, len(appended), 4):
            folder = Path(name) / str(number)
            folder.mkdir()
            tables = write_tables(map(dump, appended[number : number + 4]), folder, previous=previous)
            previous = folder
        assert in_order(read(tables.contacts_file)) == in_order(contacts)
        assert in_order(read(tables.references_file)) == in_order(references)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12.50", "12.5"),
        ("-0.000000001", "-0.000000001"),
        ("1e28", "1" + "0" * 28),
        ("1.2345678901", None),
        ("9" * 29, "9" * 29),
        ("9" * 30, None),
        ("1e-10", None),
        ("0.10000000000", "0.1"),
    ],
)
def test_a_number_is_exact_or_not_there(text: str, number: str | None, tmp_path: Path) -> None:
    of_number = capture("a", 1, {"Number": {"Name": "amount", "Value": text}})
    [row] = read(write_tables([dump(records_of(of_number))], tmp_path).references_file)

    assert row["number_value"] == (None if number is None else Decimal(number))
    assert row["reference_value"] == text


def test_columns_have_types(tmp_path: Path) -> None:
    tables = write_tables([dump(records_of(capture("a", 1, URL)))], tmp_path)
    with duckdb.connect() as database:
        types = {
            name: kind
            for file in (tables.contacts_file, tables.references_file)
            for name, kind, *_ in database.execute(
                "DESCRIBE SELECT * FROM read_parquet($file)", {"file": str(file)}
            ).fetchall()
        }

    assert {name: kind for name, kind in types.items() if kind != "VARCHAR"} == {
        "completed_at": "TIMESTAMP",
        "captured_at": "TIMESTAMP",
        "date_value": "TIMESTAMP",
        "reference_count": "INTEGER",
        "number_value": "DECIMAL(38,9)",
        "is_valid": "BOOLEAN",
        "is_redacted": "BOOLEAN",
    }


def test_the_same_lake_gives_the_same_bytes(tmp_path: Path) -> None:
    objects = [dump(records_of(capture(f"c{n}", m, URL))) for n in range(20) for m in range(2)]
    files = []
    for number, order in enumerate((objects, objects[::-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        tables = write_tables(order, folder)
        files.append((tables.contacts_file.read_bytes(), tables.references_file.read_bytes()))

    assert files[0] == files[1]


def test_many_small_objects_take_little_memory(tmp_path: Path) -> None:
    objects = (dump(records_of(capture(f"{number}", 1, URL))) for number in range(500))
    files = [tmp_path / f"{number}.jsonl.gz" for number in range(500)]
    for file, content in zip(files, objects, strict=True):
        file.write_bytes(content)

    assert make_tables(files, tmp_path, memory_megabytes=80).references == 500


def test_what_duckdb_says_of_a_failure_goes_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = tmp_path / "failing.sql"
    sql.write_text(f"SELECT cast('{VALUE}' AS INTEGER)")
    monkeypatch.setattr(day_module, "_TABLES_SQL", sql)

    with pytest.raises(RetriableError) as raised:
        make_tables([], tmp_path, memory_megabytes=200)

    assert raised.value.error == "ConversionException"
    assert VALUE not in f"{raised.value}{raised.value.__cause__}"
    assert raised.value.__suppress_context__


class World:
    """The function's parts on moto, with a lake to append to."""

    def __init__(self, *, retention: timedelta | None = None) -> None:
        self.dynamodb, self.s3 = make_client("dynamodb"), make_client("s3")
        create_ledger(self.dynamodb)
        self.s3.create_bucket(Bucket="lake")
        self.s3.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})
        self.clock = Clock()
        self.log = StringIO()
        self.metrics: dict[str, float] = {}
        counting: Any = SimpleNamespace(
            add_metric=lambda name, _, value: self.metrics.__setitem__(name, value), flush_metrics=lambda: None
        )
        self.report = TablesReport(Logger(service=f"tables {uuid4()}", stream=self.log), counting)
        self.ledger = Ledger(self.dynamodb, "ledger", clock=self.clock)
        self.days = Days(self.dynamodb, "ledger")
        self.lake = Lake(self.s3, "lake")
        self.tables = Tables(
            days=self.days,
            folders=DayFolders(self.s3, "lake"),
            report=self.report,
            memory_megabytes=200,
            retention=retention,
            clock=self.clock,
        )

    def append(self, *captures: Capture, date: str = DATE) -> None:
        """Append as the capture function does: then mark the day."""
        self.lake.append(date, captures)
        self.ledger.mark_day(date)

    def put(self, body: bytes, *, name: str = "object.jsonl.gz", date: str = DATE) -> None:
        self.s3.put_object(Bucket="lake", Key=f"{LAKE}/completed_date={date}/{name}", Body=body)
        self.ledger.mark_day(date)

    def run(self, *, seconds: float = 900) -> int | None:
        return self.tables.run(holder="run", time_left=lambda: seconds)

    def marked(self) -> list[str]:
        return sorted(self.days.find_marked())

    def table(self, kind: str = CONTACTS, *, date: str = DATE) -> list[Json]:
        key = f"{kind}/completed_date={date}/{TABLES[kind]}.parquet"
        return read(self.s3.get_object(Bucket="lake", Key=key)["Body"].read())

    def versions(self) -> set[str]:
        listing = self.s3.list_object_versions(Bucket="lake")
        return {each["Key"] for kind in ("Versions", "DeleteMarkers") for each in listing.get(kind, [])}

    def lines(self, message: str) -> list[Json]:
        return [line for line in map(json.loads, self.log.getvalue().splitlines()) if line["message"] == message]

    def counted(self) -> dict[str, float]:
        self.metrics.clear()
        self.report.publish()
        return dict(self.metrics)

    def before(self, operation: str, act: Callable[[], object]) -> None:
        """Do something, once, before the next call of an operation of S3."""
        acts = iter([act])
        self.s3.meta.events.register(f"before-call.s3.{operation}", lambda **_: next(acts, lambda: None)())


@pytest.fixture
def world(moto: None) -> World:  # noqa: ARG001 - stands around it
    return World()


def test_a_run_writes_the_days_that_changed_and_no_others(world: World) -> None:
    world.append(capture("a", 1, URL))
    world.append(capture("b", 1), date="2026-03-02")

    assert world.run() == 2

    assert [row["contact_id"] for row in world.table()] == ["a"]
    assert [row["reference_name"] for row in world.table(REFERENCES)] == ["CRM"]
    assert [row["contact_id"] for row in world.table(date="2026-03-02")] == ["b"]
    assert world.table(REFERENCES, date="2026-03-02") == []
    assert world.marked() == []
    assert world.counted() == {"SecondsBehind": 0}
    assert world.run() == 0
    assert world.counted() == {"SecondsBehind": 0}


def test_references_come_first_so_that_whoever_finds_a_contact_finds_them(world: World) -> None:
    world.append(capture("a", 1, URL))
    order: list[str] = []
    world.s3.meta.events.register(
        "before-parameter-build.s3.PutObject", lambda params, **_: order.append(params["Key"].partition("/")[0])
    )

    world.run()

    assert order == [REFERENCES, CONTACTS]


def test_a_contact_that_lost_its_references_is_there_without_them(world: World) -> None:
    world.append(capture("a", 1, URL))
    world.run()
    world.append(capture("a", 2))
    world.run()

    assert [row["reference_count"] for row in world.table()] == [0]
    assert world.table(REFERENCES) == []


def test_an_incomplete_newest_capture_is_left_out_and_the_one_before_stands(world: World) -> None:
    world.append(capture("a", 1, URL))
    world.put(dump(records_of(capture("a", 2, URL, {"String": {"Name": "note", "Value": VALUE}}))[:-1]))
    world.run()

    assert [row["capture_id"] for row in world.table()] == ["capture-a-1"]
    assert [row["capture_id"] for row in world.table(REFERENCES)] == ["capture-a-1"]
    assert world.counted()["IncompleteCaptures"] == 1

    world.append(capture("a", 2, URL, {"String": {"Name": "note", "Value": VALUE}}))
    world.run()

    assert [row["capture_id"] for row in world.table(REFERENCES)] == ["capture-a-2"] * 2
    assert "IncompleteCaptures" not in world.counted()


def test_a_malformed_line_is_skipped_counted_and_named_but_not_quoted(world: World) -> None:
    whole = records_of(capture("a", 1, URL))
    world.put(dump([whole[0], f'{{"reference_value": "{VALUE}', whole[1], json.dumps({"reference_value": VALUE})]))
    world.run()

    assert [row["contact_id"] for row in world.table()] == ["a"]
    assert len(world.table(REFERENCES)) == 1
    assert world.counted()["MalformedLines"] == 2
    named = [(line["object_name"], line["line"]) for line in world.lines("malformed line left out")]
    assert named == [("object.jsonl.gz", 2), ("object.jsonl.gz", 4)]
    assert "Jane" not in world.log.getvalue()


@pytest.mark.parametrize("body", [b"", b"no gzip", dump(records_of(capture("b", 1)))[:-9]])
def test_an_object_that_is_no_whole_file_is_left_out(body: bytes, world: World) -> None:
    world.append(capture("a", 1, URL))
    world.put(body, name="torn.jsonl.gz")
    world.run()

    assert [row["contact_id"] for row in world.table()] == ["a"]
    assert world.marked() == []
    assert [line["object_name"] for line in world.lines("unreadable object left out")] == ["torn.jsonl.gz"]
    assert world.counted()["MalformedLines"] == 1


def test_an_object_is_read_again_only_if_it_may_be_new(world: World) -> None:
    world.append(capture("a", 1, URL))
    world.clock.now = datetime(2100, 1, 1, tzinfo=UTC)  # S3's is another, so all that it has now is old
    world.run()
    got: list[str] = []
    world.s3.meta.events.register("before-parameter-build.s3.GetObject", lambda params, **_: got.append(params["Key"]))
    world.append(capture("b", 1))
    world.run()

    assert got == [f"{kind}/completed_date={DATE}/{name}.parquet" for kind, name in TABLES.items()]
    assert [row["contact_id"] for row in world.table()] == ["a"]
    assert len(world.table(REFERENCES)) == 1

    world.tables.mark()
    world.run()
    assert [row["contact_id"] for row in world.table()] == ["a", "b"]
    world.s3.delete_object(Bucket="lake", Key=got[1])
    world.append(capture("c", 1))
    world.run()
    assert [row["contact_id"] for row in world.table()] == ["a", "b", "c"]


@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject", "PutObject"])
def test_an_object_that_appears_meanwhile_is_there_after_the_next_run(operation: str, world: World) -> None:
    world.append(capture("a", 1, URL))
    world.before(operation, lambda: World.append(other, capture("b", 1, URL)))
    other: World = SimpleNamespace(lake=Lake(make_client("s3"), "lake"), ledger=world.ledger)  # type: ignore[assignment]

    world.run()
    assert world.counted()["DaysBehind"] == 1
    assert world.marked() == [DATE]
    world.run()

    assert [row["contact_id"] for row in world.table()] == ["a", "b"]
    assert world.marked() == []


def test_of_two_runs_at_once_one_works(world: World) -> None:
    world.append(capture("a", 1))
    lease = world.days.take_lease("another", now=NOON, until=NOON + timedelta(minutes=15))
    assert lease is not None

    assert world.run() is None
    assert world.marked() == [DATE]

    world.days.return_lease(lease, now=world.clock())
    assert world.run() == 1


@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject", "PutObject"])
def test_after_a_run_that_died_the_next_one_writes_the_day(operation: str, world: World) -> None:
    world.append(capture("a", 1, URL))

    def die() -> None:
        raise KeyboardInterrupt

    world.before(operation, die)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    # Killed for good, it could not return the lease either.
    world.days.take_lease("run", now=NOON, until=world.clock() + timedelta(minutes=15))
    assert world.tables.run(holder="next", time_left=lambda: 900) is None
    world.clock.advance(minutes=16)

    assert world.tables.run(holder="next", time_left=lambda: 900) == 1
    assert [row["contact_id"] for row in world.table()] == ["a"]
    assert len(world.table(REFERENCES)) == 1


def test_a_run_that_is_out_of_time_leaves_days_to_the_next_the_longest_behind_first(world: World) -> None:
    dates = [f"2026-02-{day}" for day in (11, 10, 12)]
    for date in dates:
        world.append(capture(date, 1), date=date)
    seconds = [900]
    world.before("PutObject", lambda: seconds.append(100))

    assert world.tables.run(holder="run", time_left=lambda: seconds[-1]) == 1

    assert world.marked() == sorted(dates[1:])
    assert world.counted()["DaysBehind"] == 2
    assert world.run() == 2


def test_a_day_that_fails_hinders_no_other(world: World) -> None:
    world.append(capture("a", 1))
    world.append(capture("b", 1), date="2026-03-02")

    def fail() -> None:
        raise ValueError(VALUE)

    world.before("GetObject", fail)
    with pytest.raises(CaptureError, match="unexpected") as raised:
        world.run()

    assert [row["contact_id"] for row in world.table(date="2026-03-02")] == ["b"]
    assert world.marked() == [DATE]
    assert [line["date"] for line in world.lines("day failed")] == [DATE]
    assert VALUE not in f"{raised.value}{world.log.getvalue()}"
    assert world.run() == 1


def test_a_run_tells_for_how_long_the_tables_have_been_behind(world: World) -> None:
    world.append(capture("a", 1))
    world.clock.advance(minutes=60)
    world.append(capture("b", 1))
    world.append(capture("c", 1), date="2026-03-02")
    world.clock.advance(minutes=90)

    def fail() -> None:
        raise ValueError(VALUE)

    world.before("GetObject", fail)
    with pytest.raises(CaptureError):
        world.run()

    assert world.counted() == {"DaysBehind": 1, "SecondsBehind": 150 * 60}


def test_a_day_that_grows_while_it_is_written_is_behind_since_it_was_listed(world: World) -> None:
    world.append(capture("a", 1))
    world.clock.advance(minutes=60)

    def append() -> None:
        world.clock.advance(minutes=5)
        World.append(other, capture("b", 1, URL))

    other: World = SimpleNamespace(lake=Lake(make_client("s3"), "lake"), ledger=world.ledger)  # type: ignore[assignment]
    world.before("PutObject", append)

    world.run()

    assert world.counted() == {"DaysBehind": 1, "SecondsBehind": 5 * 60}
    [since] = world.days.find_marked().values()
    assert since - NOON == pytest.approx(timedelta(minutes=60), abs=timedelta(seconds=1))


def test_the_first_run_marks_every_day_that_the_lake_has(world: World) -> None:
    world.lake.append(DATE, [capture("a", 1)])
    world.put(b"", name="stray", date="no-date")
    world.days.clear(world.days.read_mark("no-date"), read_to=None)  # type: ignore[arg-type]  # it is marked

    assert world.run() == 1
    assert [row["contact_id"] for row in world.table()] == ["a"]
    world.lake.append("2026-03-02", [capture("b", 1)])
    assert world.run() == 0


def test_a_rebuild_marks_the_days_of_a_period(world: World) -> None:
    dates = [f"2026-02-{day:02}" for day in range(1, 5)]
    for date in dates:
        world.append(capture(date, 1), date=date)
    world.run()

    assert world.tables.mark(Period("2026-02-02", "2026-02-04")) == 2
    assert world.marked() == dates[1:3]
    assert world.run() == 2
    assert world.tables.mark() == 4


def test_a_day_without_objects_has_empty_tables(world: World) -> None:
    world.append(capture("a", 1, URL))
    world.run()
    [entry] = world.s3.list_objects_v2(Bucket="lake", Prefix=LAKE)["Contents"]
    world.s3.delete_object(Bucket="lake", Key=entry["Key"])
    world.tables.mark()
    world.run()

    assert world.table() == world.table(REFERENCES) == []


def test_days_past_their_retention_are_deleted_with_every_version(moto: None) -> None:  # noqa: ARG001
    world = World(retention=timedelta(days=10))
    kept, past = "2026-02-19", "2026-02-18"
    for date in (kept, past):
        world.append(capture(date, 1, URL), date=date)
    world.run()
    assert {key.split("=")[1][:10] for key in world.versions()} == {kept}  # past's never came to be

    world.tables.mark()
    world.run()
    world.clock.now = datetime(2026, 3, 2, 0, 0, tzinfo=UTC) - timedelta(milliseconds=5)
    world.run()
    assert len(world.versions()) == 3
    world.clock.advance(seconds=1)
    world.append(capture("late", 1), date=kept)
    world.run()

    assert world.versions() == set()
    assert world.marked() == []
    assert [line["date"] for line in world.lines("day deleted")] == [past, kept]


ENVIRONMENT = {
    "TABLE_NAME": "ledger",
    "BUCKET_NAME": "lake",
    "DUCKDB_MEMORY_MEGABYTES": "200",
    "RETENTION_DAYS": "0",
    "POWERTOOLS_SERVICE_NAME": "contact-references",
    "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_VALUE_ACCESS_KEY": "test",
}
CONTEXT = SimpleNamespace(
    function_name="tables",
    memory_limit_in_mb=2048,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:tables",
    aws_request_id="00000000-0000-0000-0000-000000000000",
    get_remaining_time_in_millis=lambda: 895_000,
)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("POWERTOOLS_METRICS_DISABLED", raising=False)
    sys.modules.pop("tables.handler", None)
    yield
    sys.modules.pop("tables.handler", None)


@pytest.fixture
def module(environment: None, world: World) -> ModuleType:  # noqa: ARG001 - stand around it
    return importlib.import_module("tables.handler")


def test_the_function_answers_what_it_did(module: ModuleType, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.append(capture("a", 1))

    assert module.handler({}, CONTEXT) == {"outcome": "the days that changed are written", "written": 1}
    [line] = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line]
    assert (line["SecondsBehind"], line["service"]) == ([0], "contact-references")
    assert module.handler({"rebuild": {"from": DATE}}, CONTEXT) == {"days": 1}
    world.days.take_lease("another", now=datetime.now(UTC), until=datetime.now(UTC) + timedelta(hours=1))
    assert module.handler({}, CONTEXT) == {"outcome": "another run is at work", "written": 0}


@pytest.mark.parametrize(
    "event",
    [
        None,
        {"rebuild": None},
        {"rebuild": {}, "more": 1},
        {"rebuild": {"since": DATE}},
        {"rebuild": {"from": "2026-02-30"}},
        {"rebuild": {"from": "2026-03-01T10:00Z"}},
        {"rebuild": {"from": 1}},
        {"rebuild": {"from": "2026-03-02", "to": "2026-03-02"}},
    ],
)
def test_what_is_no_command_is_refused_with_an_example(event: Any, module: ModuleType) -> None:
    with pytest.raises(InvalidCommandError, match=r"2026-01-|swap them"):
        module.handler(event, CONTEXT)


def test_a_run_that_a_wrong_deployment_fails_is_counted_as_that(
    module: ModuleType, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.append(capture("a", 1))
    world.run()  # the first run lists the lake before any day
    world.append(capture("b", 1))
    for version in world.s3.list_object_versions(Bucket="lake")["Versions"]:
        world.s3.delete_object(Bucket="lake", Key=version["Key"], VersionId=version["VersionId"])
    world.s3.delete_bucket(Bucket="lake")
    with pytest.raises(ConfigurationError):
        module.handler({}, CONTEXT)
    world.dynamodb.delete_table(TableName="ledger")
    with pytest.raises(ConfigurationError):
        module.handler({}, CONTEXT)

    lines = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line]
    assert [line["ConfigurationErrors"] for line in lines] == [[1], [1]]
    assert [line.get("DaysBehind") for line in lines] == [[1], None]


@pytest.mark.parametrize("name", ["TABLE_NAME", "BUCKET_NAME", "DUCKDB_MEMORY_MEGABYTES", "RETENTION_DAYS"])
def test_a_variable_that_is_missing_stops_the_first_deployment(
    name: str,
    environment: None,  # noqa: ARG001 - stands around it
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "tables")
    monkeypatch.delenv(name)

    with pytest.raises(SettingsError, match=name):
        importlib.import_module("tables.handler")


def test_only_some_malformed_lines_are_named(world: World) -> None:
    world.put(dump(["{"] * 30))
    world.run()

    assert len(world.lines("malformed line left out")) == 20
    assert world.counted()["MalformedLines"] == 30
    assert world.lines("day written")[0]["malformed_lines"] == 30
    assert MalformedLine("object.jsonl.gz", 1)._asdict() == {"object_name": "object.jsonl.gz", "line": 1}
