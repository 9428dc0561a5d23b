"""`rebuild`: what was lost comes back, nothing that is there is changed, and any end is one to go on from."""

import gzip
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import typer
from botocore.exceptions import ReadTimeoutError
from moto import mock_aws
from typer.testing import CliRunner, Result

from contact_references.aws.day_folders import DayFolders
from contact_references.aws.days import Days, Lease
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.worklist import Opened, Worklist
from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact, ContactKey, Instance
from contact_references.model.errors import CaptureError, RetriableError
from contact_references.model.reference import normalize_references
from contact_references.model.timestamps import format_time, parse_iso
from contact_references.tables.commands import InvalidCommandError, Period, parse_rebuild
from contact_references.tables.run import Tables
from ops import rebuild as module
from ops.clients import Clients
from ops.deployment import Deployment
from ops.errors import OpsError
from ops.rebuild import LedgerCopy, rebuild_lake, rebuild_tables, register, write_tables
from tests.unit.conftest import INSTANCE_ID, create_ledger

Json = dict[str, Any]

DAY = datetime(2026, 10, 1, 9, 30, tzinfo=UTC)
PERIOD = Period("2026-10-01", "2026-10-03")
DATES = ("--from", PERIOD.start, "--to", PERIOD.end)
URL = {"Url": {"Name": "CRM", "Value": "https://crm.example.com/1"}}
NOTE = {"String": {"Name": "note", "Value": "Jane.Doe@example.com"}}
OUTPUTS = {"TableName": "ledger", "BucketName": "lake", "TablesFunctionName": "tables"}


class TablesFunction:
    """The deployed function's answers from its own parts: moto runs no function without a container."""

    class exceptions:  # noqa: N801 - as the client has them
        class TooManyRequestsException(Exception):  # noqa: N818
            pass

    def __init__(self, dynamodb: Any, s3: Any) -> None:
        self.days = Days(dynamodb, "ledger")
        unheard: Any = defaultdict(lambda: lambda *_, **__: None)
        told = ("written", "failed", "behind", "deleted", "unreadable")
        report: Any = SimpleNamespace(**{name: unheard[name] for name in told})
        self.tables = Tables(
            days=self.days,
            folders=DayFolders(s3, "lake"),
            report=report,
            memory_megabytes=200,
            retention=None,
            clock=lambda: datetime.now(UTC),
        )
        self.commands: list[Json] = []
        self.seconds = 900.0
        self.before: Callable[[], object] = lambda: None

    def invoke(self, *, FunctionName: str, Payload: bytes) -> Json:  # noqa: N803 - the operation's own names
        assert FunctionName == "tables"
        command = json.loads(Payload)
        self.commands.append(command)
        self.before()
        try:
            return {"Payload": io.BytesIO(json.dumps(self._answer(command)).encode())}
        except (CaptureError, InvalidCommandError) as error:
            failure = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(failure).encode())}

    def _answer(self, command: Json) -> Json:
        if command:
            return {"days": self.tables.mark(parse_rebuild(command))}
        written = self.tables.run(holder="run", time_left=lambda: self.seconds)
        return {"outcome": "another run is at work" if written is None else "written", "written": written or 0}


@cache  # what a session reads of the services it keeps
def _session() -> boto3.Session:
    return boto3.Session("test", "test", region_name="us-east-1")


class World:
    """A deployment on moto, and the command line that finds it."""

    def __init__(self) -> None:
        self.clients = Clients(_session())
        self.dynamodb, self.s3 = self.clients.dynamodb, self.clients.s3
        create_ledger(self.dynamodb)
        self.s3.create_bucket(Bucket="lake")
        self.s3.put_bucket_versioning(Bucket="lake", VersioningConfiguration={"Status": "Enabled"})
        self.ledger, self.lake = Ledger(self.dynamodb, "ledger"), Lake(self.s3, "lake")
        self.function: Any = TablesFunction(self.dynamodb, self.s3)
        self.clients.__dict__["functions"] = self.function
        self.deployment = Deployment("dev", self.clients, OUTPUTS)

    def run(self, *arguments: str, answer: str = "") -> Result:
        app = typer.Typer()

        @app.callback()
        def choose(context: typer.Context) -> None:
            context.obj = lambda: self.deployment

        register(app)
        return CliRunner().invoke(app, ["rebuild", *arguments], input=answer)

    def refusal(self, *arguments: str) -> str:
        """The sentence with which a command is to end."""
        result = self.run(*arguments)
        assert isinstance(result.exception, OpsError), result.output
        assert result.stdout == ""
        return str(result.exception)

    def commit(
        self,
        contact_id: str,
        *answered: Json,
        at: datetime | None = DAY,
        number: int = 1,
        table: str = "ledger",
        retention: timedelta | None = None,
        initial: str | None = None,
    ) -> Capture:
        """Put a contact's capture of a number into a ledger, as capturing does."""
        contact = Contact(
            key=ContactKey(INSTANCE_ID, contact_id),
            initial_contact_id=initial or contact_id,
            channel="VOICE",
            completed_at=at,
            completion_seen=True,
        )
        captured_at = DAY + timedelta(minutes=number)
        captured = Capture(
            contact=contact,
            capture_id=f"capture-{contact_id}-{number}",
            captured_at=captured_at,
            references=normalize_references(answered),
        )
        item = ContactItem(
            contact=contact,
            capture_id=captured.capture_id,
            captured_at=captured_at,
            reference_count=len(captured.references),
            event_id=f"event-{number}",
            read_at=captured_at,
            checked_at=captured_at,
            version=number,
        )
        ledger = Ledger(self.dynamodb, table, retention=retention)
        over = ledger.find_items([contact.key]).get(contact.key)
        assert over is None or isinstance(over, ContactItem)
        assert ledger.put_rows({captured.capture_id: ledger.make_rows(captured)}) == {}
        assert ledger.commit(item, over=over)
        return captured

    def items(self, table: str = "ledger") -> dict[tuple[str, str], Json]:
        found = self.dynamodb.scan(TableName=table)["Items"]
        return {(item["pk"]["S"], item["sk"]["S"]): item for item in found}

    def put(self, table: str, **attributes: str) -> None:
        self.dynamodb.put_item(TableName=table, Item={name: {"S": value} for name, value in attributes.items()})

    def delete_rows(self, contact_id: str, table: str = "ledger", *, item_too: bool = False) -> None:
        for pk, sk in self.items(table):
            if pk == pk_of(contact_id) and (item_too or sk != "CONTACT"):
                self.dynamodb.delete_item(TableName=table, Key={"pk": {"S": pk}, "sk": {"S": sk}})

    def objects(self) -> dict[str, list[Json]]:
        """The lake's records by object."""
        listed = self.s3.list_objects_v2(Bucket="lake", Prefix="captures/").get("Contents", [])
        bodies = {each["Key"]: self.s3.get_object(Bucket="lake", Key=each["Key"])["Body"].read() for each in listed}
        return {key: list(map(json.loads, gzip.decompress(body).splitlines())) for key, body in bodies.items()}

    def records(self) -> dict[str, list[Json]]:
        """The lake's records by date."""
        by_date: dict[str, list[Json]] = defaultdict(list)
        for key, records in self.objects().items():
            by_date[key.split("=")[1][:10]] += records
        return by_date

    def marked(self) -> list[str]:
        return sorted(self.function.days.find_marked())


def pk_of(contact_id: str) -> str:
    return f"{INSTANCE_ID}#{contact_id}"


@pytest.fixture
def world() -> Iterator[World]:
    with mock_aws():
        yield World()


# Tables


def append(world: World, *captures: Capture) -> None:
    for captured in captures:
        assert captured.contact.completed_at is not None
        date = format_time(captured.contact.completed_at)[:10]
        world.lake.append(date, [captured])
        world.ledger.mark_day(date)


def test_tables_are_made_anew_for_the_days_of_the_period(world: World) -> None:
    append(world, *(world.commit(f"c{day}", URL, at=DAY + timedelta(days=day)) for day in range(4)))
    world.function.invoke(FunctionName="tables", Payload=b"{}")
    assert world.marked() == []
    result = world.run("tables", *DATES, "--yes", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"from": PERIOD.start, "to": PERIOD.end, "days": 2, "written": 2}
    assert world.marked() == []
    assert world.function.commands[1:] == [{"rebuild": {"from": PERIOD.start, "to": PERIOD.end}}, {}]
    assert "2 days of the period made anew" in world.run("tables", *DATES, "--yes").stdout


def test_runs_follow_each_other_until_no_day_of_the_period_is_waiting(world: World) -> None:
    append(world, *(world.commit(f"c{day}", URL, at=DAY + timedelta(days=day)) for day in range(2)))
    world.function.invoke(FunctionName="tables", Payload=b"{}")
    world.function.seconds = 0  # so a run begins with one day only
    seen: list[tuple[int, int]] = []
    rebuilt = rebuild_tables(world.deployment, PERIOD, on_progress=lambda *at: seen.append(at))

    assert (rebuilt.days, rebuilt.written) == (2, 2)
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_a_run_that_is_at_work_is_waited_for(world: World) -> None:
    append(world, world.commit("a", URL))
    now = datetime.now(UTC)
    lease = world.function.days.take_lease("another", now=now, until=now + timedelta(hours=1))
    assert lease is not None
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            world.function.days.return_lease(lease, now=now)

    assert rebuild_tables(world.deployment, PERIOD, sleep=sleep).written == 1
    assert len(slept) == 2


def test_a_day_that_gets_something_new_all_the_time_does_not_keep_the_command(world: World) -> None:
    append(world, world.commit("a", URL))
    put_object = "provide-client-params.s3.PutObject"
    world.s3.meta.events.register(put_object, lambda **_: world.ledger.mark_day("2026-10-01"))
    rebuilt = rebuild_tables(world.deployment, PERIOD)

    assert rebuilt.written == 1
    assert world.marked() == ["2026-10-01"]


@pytest.mark.parametrize("minutes", [15, 60])
def test_a_run_that_is_at_work_for_longer_than_a_run_can_be_is_a_sentence(minutes: int, world: World) -> None:
    append(world, world.commit("a", URL))
    clock, now = Clock(), datetime.now(UTC)
    lease = world.function.days.take_lease("another", now=now, until=now + timedelta(hours=2))
    assert lease is not None
    world.function.days.mark_anew("2026-10-01", now=now)

    def end() -> None:
        if clock.now >= DAY + timedelta(minutes=minutes):
            world.function.days.return_lease(lease, now=now)

    clock.at_sleep = end
    told = pytest.raises(OpsError, match=r"no tables were written for 20 minutes: .*What is left \(1 day\)")
    with nullcontext() if minutes == 15 else told:
        write_tables(world.deployment, ["2026-10-01"], sleep=clock.sleep, clock=lambda: clock().timestamp())
    assert world.marked() == ([] if minutes == 15 else ["2026-10-01"])


def test_others_that_are_at_work_are_waited_for_as_long_as_something_gets_done(world: World) -> None:
    append(world, *(world.commit(f"c{day}", URL, at=DAY + timedelta(days=day)) for day in range(3)))
    world.function.invoke(FunctionName="tables", Payload=b"{}")
    clock, dates, days = Clock(), ["2026-10-01", "2026-10-02", "2026-10-03"], world.function.days
    for date in dates:
        days.mark_anew(date, now=DAY)
    now = datetime.now(UTC)
    assert days.take_lease("another", now=now, until=now + timedelta(hours=2)) is not None

    def write_one_in_two_looks() -> None:
        clock.advance(minutes=7)
        if clock.slept % 2 == 0:
            mark = days.read_mark(world.marked()[0])
            assert mark is not None
            assert days.clear(mark, read_to=DAY)

    clock.at_sleep = write_one_in_two_looks
    assert write_tables(world.deployment, dates, sleep=clock.sleep, clock=lambda: clock().timestamp()) == 0
    assert clock.now >= DAY + timedelta(minutes=42)


def test_of_dates_those_that_are_marked_anew_are_written(world: World) -> None:
    append(world, *(world.commit(f"c{day}", URL, at=DAY + timedelta(days=day)) for day in range(3)))
    world.function.invoke(FunctionName="tables", Payload=b"{}")
    dates = ["2026-10-01", "2026-10-02", "2026-10-03"]
    for date in dates[:2]:
        world.function.days.mark_anew(date, now=DAY)
    seen: list[tuple[int, int]] = []

    assert write_tables(world.deployment, dates, on_progress=lambda *at: seen.append(at)) == 2
    assert seen == [(1, 3), (3, 3)]
    assert world.function.commands == [{}, {}]
    assert write_tables(world.deployment, []) == 0
    assert world.function.commands == [{}, {}]


@pytest.mark.parametrize(
    "error", [TablesFunction.exceptions.TooManyRequestsException(), ReadTimeoutError(endpoint_url="https://lambda")]
)
def test_an_answer_that_does_not_come_is_waited_for(error: Exception, world: World) -> None:
    append(world, world.commit("a", URL))
    slept: list[float] = []

    def refuse_once() -> None:
        if len(world.function.commands) == 2:
            raise error

    world.function.before = refuse_once
    assert rebuild_tables(world.deployment, PERIOD, sleep=slept.append).written == 1
    assert len(slept) == 1


def test_a_busy_lambda_is_a_sentence(world: World) -> None:
    def refuse() -> None:
        raise TablesFunction.exceptions.TooManyRequestsException

    world.function.before = refuse
    assert "as Lambda is busy: try again in a minute" in world.refusal("tables", *DATES, "--yes")


def test_a_function_that_fails_is_a_sentence(world: World) -> None:
    append(world, world.commit("a", URL))
    world.function.tables = replace(world.function.tables, folders=DayFolders(world.s3, "gone"))

    refusal = world.refusal("tables", *DATES, "--yes")
    assert refusal.startswith("the tables function failed (ConfigurationError: NoSuchBucket")
    assert "stay marked" in refusal


def test_a_period_without_anything_is_said(world: World) -> None:
    assert "Neither the lake nor the tables have anything" in world.run("tables", *DATES, "--yes").stdout


@pytest.mark.parametrize("what", ["tables", "lake"])
@pytest.mark.parametrize(
    ("start", "end", "sentence"),
    [
        ("yesterday", "2026-10-03", "--from 'yesterday' is no date: give one such as 2026-10-01"),
        ("2026-10-01", "2026-10-32", "--to '2026-10-32' is no date: give one such as 2026-10-01"),
        ("2026-10-01T09:00Z", "2026-10-03", "--from '2026-10-01T09:00Z' is no date: give one such as 2026-10-01"),
        ("2026-10-03", "2026-10-01", "from (2026-10-03) is not before to (2026-10-01): swap them"),
        ("2026-10-03", "2026-10-03", "from (2026-10-03) is not before to (2026-10-03): swap them"),
    ],
)
def test_a_period_that_is_none_is_a_sentence(what: str, start: str, end: str, sentence: str, world: World) -> None:
    assert world.refusal(what, "--from", start, "--to", end, "--yes") == sentence


def test_a_deployment_without_tables_is_a_sentence(world: World) -> None:
    world.deployment = replace(world.deployment, outputs={"TableName": "ledger"})
    assert "has no output TablesFunctionName" in world.refusal("tables", *DATES, "--yes")


@pytest.mark.parametrize("arguments", [["tables", *DATES], ["lake", *DATES], ["ledger", "--from-table", "restored"]])
def test_nothing_is_done_without_a_yes(arguments: list[str], world: World) -> None:
    create_restored(world)
    append(world, world.commit("a", URL))
    before = world.items(), world.objects()
    for answer in ("n\n", ""):
        result = world.run(*arguments, answer=answer)
        assert result.exit_code == 1
        assert "?" in result.stderr
        assert result.stdout.strip() == answer.strip()  # which the runner echoes
    assert (world.items(), world.objects()) == before
    assert world.function.commands == []


# Lake


def test_the_lake_s_days_come_from_the_ledger(world: World) -> None:
    within = [
        world.commit("a", URL, NOTE),
        world.commit("b", at=DAY),
        world.commit("c", NOTE, at=datetime(2026, 10, 2, 23, 59, 59, 999000, tzinfo=UTC)),
    ]
    world.commit("before", URL, at=datetime(2026, 9, 30, 23, 59, 59, 999000, tzinfo=UTC))
    world.commit("after", URL, at=datetime(2026, 10, 3, tzinfo=UTC))
    world.commit("unknown", URL, at=None)
    result = world.run("lake", *DATES, "--yes", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "from": PERIOD.start,
        "to": PERIOD.end,
        "captures": 3,
        "objects": 2,
        "days": ["2026-10-01", "2026-10-02"],
        "gone": 0,
        "damaged": [],
    }
    assert world.marked() == ["2026-10-01", "2026-10-02"]
    records = world.records()
    for date, captures in {"2026-10-01": within[:2], "2026-10-02": within[2:]}.items():
        expected = [record for each in captures for record in (each.contact_record(), *each.reference_records())]
        assert sorted(map(str, records[date])) == sorted(map(str, expected))


def test_tables_of_a_lake_that_lost_its_days_are_whole_again(world: World) -> None:
    append(world, *(world.commit(name, URL) for name in "abc"))
    world.function.invoke(FunctionName="tables", Payload=b"{}")
    for key in world.objects():
        world.s3.delete_object(Bucket="lake", Key=key)
    assert world.run("lake", *DATES, "--yes").exit_code == 0
    assert world.function.days.read_mark("2026-10-01").read_to is None
    assert world.run("tables", *DATES, "--yes").exit_code == 0

    assert {record["contact_id"] for record in world.records()["2026-10-01"]} == {"a", "b", "c"}
    assert world.marked() == []


def test_expired_contacts_are_left_out_and_damaged_ones_named(world: World) -> None:
    world.commit("whole", URL)
    world.commit("expired", URL, retention=timedelta(days=-10_000))
    world.commit("damaged", URL, NOTE)
    world.delete_rows("damaged")
    key = {"pk": {"S": pk_of("strange")}, "sk": {"S": "CONTACT"}}
    world.dynamodb.put_item(TableName="ledger", Item=key | {"completed_at": {"S": format_time(DAY)}})
    result = world.run("lake", *DATES, "--yes", "--json")

    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["captures"], answer["gone"]) == (1, 1)
    assert sorted((each["contact_id"], each["error"], each["repair"]) for each in answer["damaged"]) == [
        ("damaged", "DamagedContact", f"capture damaged --instance {INSTANCE_ID}"),
        ("strange", "DamagedItem", f"capture strange --instance {INSTANCE_ID}"),
    ]
    assert "Jane" not in result.output
    shown = world.run("lake", *DATES, "--yes")
    assert "1 capture of 1 day appended in 1 object. 1 contact left out, expired. The days are marked" in " ".join(
        shown.stdout.split()
    )
    assert "2 contacts damaged" in shown.stderr
    assert f"capture damaged --instance {INSTANCE_ID}" in shown.stderr


def test_a_period_of_which_the_ledger_has_nothing_is_said(world: World) -> None:
    assert "Nothing is appended" in world.run("lake", *DATES, "--yes").stdout
    assert world.marked() == []


def test_the_question_says_what_it_costs(world: World) -> None:
    world.commit("a", URL)
    result = world.run("lake", *DATES, answer="y\n")

    assert result.exit_code == 0, result.output
    assert "The whole ledger is scanned: about 2 items" in result.stderr
    assert "USD" in result.stderr


def test_a_rebuild_that_fails_midway_marks_what_it_appended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CONTACTS_AN_OBJECT", 2)
    for number in range(7):
        world.commit(f"c{number}", URL)
    puts: list[str] = []

    def fail_the_second(params: Json, **_: object) -> None:
        puts.append(params["Key"])
        if len(puts) == 2:
            raise KeyboardInterrupt

    world.s3.meta.events.register("provide-client-params.s3.PutObject", fail_the_second)
    with pytest.raises(KeyboardInterrupt):
        rebuild_lake(world.deployment, PERIOD)
    assert world.marked() == ["2026-10-01"]
    rebuilt = rebuild_lake(world.deployment, PERIOD)

    assert (rebuilt.captures, rebuilt.objects) == (7, 4)
    contacts = {each["contact_id"] for each in world.records()["2026-10-01"]}
    assert contacts == {f"c{number}" for number in range(7)}


def test_each_object_s_day_is_marked_before_the_next_object(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed does nothing at its end, and a run may have taken the mark of the last object away."""
    monkeypatch.setattr(module, "_CONTACTS_AN_OBJECT", 2)
    for number in range(5):
        world.commit(f"c{number}", URL)
    days = world.function.days
    marked: list[list[str]] = []

    def look(**_: object) -> None:
        marked.append(world.marked())
        for date in marked[-1]:
            mark = days.read_mark(date)
            assert mark is not None
            assert days.clear(mark, read_to=DAY)

    world.s3.meta.events.register("provide-client-params.s3.PutObject", look)
    rebuild_lake(world.deployment, PERIOD)

    assert marked == [[], ["2026-10-01"], ["2026-10-01"]]
    assert world.marked() == ["2026-10-01"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_day_that_cannot_be_marked_is_tried_again_and_told(
    times: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit("a", URL)
    mark_anew, tried = Days.mark_anew, []

    def fail_at_first(days: Days, date: str, *, now: datetime) -> None:
        tried.append(date)
        if len(tried) <= times:
            raise RetriableError("InternalServerError", "UpdateItem answered 500")
        mark_anew(days, date, now=now)

    monkeypatch.setattr(Days, "mark_anew", fail_at_first)
    with pytest.raises(RetriableError):
        rebuild_lake(world.deployment, PERIOD)
    assert tried == ["2026-10-01"] * 2
    assert world.marked() == ["2026-10-01"][: 2 - times]


def test_objects_are_bounded_by_records_and_keys_by_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECORDS_AN_OBJECT", 4)
    monkeypatch.setattr(module, "_MOST_KEYS", 3)
    for number in range(6):
        world.commit(f"c{number}", URL, at=DAY + timedelta(days=number % 2))
    rebuilt = rebuild_lake(world.deployment, PERIOD)

    assert rebuilt.captures == 6
    assert all(len(records) <= 4 for records in world.objects().values())


def test_every_page_of_a_large_ledger_is_read(world: World) -> None:
    long = [{"String": {"Name": f"note {number}", "Value": "x" * 30_000}} for number in range(4)]
    for number in range(20):
        world.commit(f"c{number}", *long)
    scanned: list[int] = []
    rebuilt = rebuild_lake(world.deployment, PERIOD, on_scanned=scanned.append)

    assert rebuilt.captures == 20
    assert len(scanned) > 1
    assert sum(scanned) == 100


class Erasure:
    """Another process that takes the tables' lease, and puts in place of a contact's item that it was erased."""

    def __init__(self, world: World) -> None:
        self.dynamodb = boto3.client("dynamodb", region_name="us-east-1")
        self.days = Days(self.dynamodb, "ledger")
        self.world = world

    def take(self, now: datetime, *, minutes: float = 15) -> Lease | None:
        return self.days.take_lease("erasure", now=now, until=now + timedelta(minutes=minutes))

    def bury(self, contact_id: str) -> None:
        key = {"pk": {"S": pk_of(contact_id)}, "sk": {"S": "CONTACT"}}
        self.dynamodb.put_item(TableName="ledger", Item=key | {"erased_at": {"S": format_time(DAY)}})
        self.world.delete_rows(contact_id)


class Clock:
    """A clock that moves when it is told to, and sleeps at once."""

    def __init__(self) -> None:
        self.now = DAY
        self.slept = 0
        self.at_sleep: Callable[[], object] = lambda: None

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)

    def sleep(self, seconds: float) -> None:
        self.advance(seconds=seconds)
        self.slept += 1
        self.at_sleep()


def before(world: World, service: str, operation: str, *acts: Callable[[], object]) -> None:
    """Do each thing once, before the calls of an operation, one after the other."""
    waiting = iter(acts)

    def act(**_: object) -> None:
        next(waiting, lambda: None)()

    client = getattr(world, service)
    client.meta.events.register(f"provide-client-params.{service}.{operation}", act)


def appended(world: World) -> list[str]:
    records = [record for records in world.records().values() for record in records]
    return sorted(record["contact_id"] for record in records if record["record_type"] == "CONTACT")


def is_lease_free(world: World, now: datetime) -> bool:
    return Erasure(world).take(now) is not None


def test_the_lake_waits_for_an_erasure_and_never_appends_what_it_erased(world: World) -> None:
    erasure, clock = Erasure(world), Clock()
    for name in "ab":
        world.commit(name, URL)
    lease = erasure.take(clock.now)
    assert lease is not None
    told: list[int] = []

    def erase() -> None:
        assert world.objects() == {}
        if clock.slept == 2:
            erasure.bury("a")
            erasure.days.return_lease(lease, now=clock.now)

    clock.at_sleep = erase
    rebuild_lake(world.deployment, PERIOD, on_waiting=lambda: told.append(clock.slept), clock=clock, sleep=clock.sleep)

    assert clock.slept == 2
    assert told == [0], "once, before it waits"
    assert appended(world) == ["b"]
    assert is_lease_free(world, clock.now)


def test_an_erasure_waits_for_a_batch_and_others_get_their_turn_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CONTACTS_AN_OBJECT", 2)
    erasure, clock = Erasure(world), Clock()
    for number in range(4):
        world.commit(f"c{number}", URL)
    taken: list[Lease | None] = []
    before(world, "s3", "PutObject", lambda: taken.append(erasure.take(clock.now)))
    ends = Days.return_lease

    def take_at_the_end(days: Days, lease: Lease, *, now: datetime) -> None:
        ends(days, lease, now=now)
        if len(taken) == 1:
            taken.append(erasure.take(now, minutes=1))

    monkeypatch.setattr(Days, "return_lease", take_at_the_end)
    rebuilt = rebuild_lake(world.deployment, PERIOD, clock=clock, sleep=clock.sleep)

    assert taken == [None, Lease("erasure", has_marked_all=False)]
    assert clock.now >= DAY + timedelta(minutes=1)
    assert (rebuilt.captures, rebuilt.objects) == (4, 2)


@pytest.mark.parametrize("minutes", [14, 14.5, 15, 60])
def test_what_was_read_too_slowly_is_read_again(minutes: float, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may have erased in between, and have returned the lease: then it is free, and was not ours throughout."""
    erasure, clock = Erasure(world), Clock()
    for name in "ab":
        world.commit(name, URL)

    def read_slowly() -> None:
        clock.advance(minutes=minutes)
        lease = erasure.take(clock.now)
        assert (lease is None) == (minutes < 15)
        if lease is not None:
            erasure.bury("a")
            erasure.days.return_lease(lease, now=clock.now)

    find_capture, found = Ledger.find_capture, list[str]()

    def find(ledger: Ledger, key: ContactKey) -> Capture | None:
        found.append(key.contact_id)
        capture = find_capture(ledger, key)
        if len(found) == 2:
            read_slowly()
        return capture

    monkeypatch.setattr(Ledger, "find_capture", find)
    monkeypatch.setattr(module, "_READERS", 1)
    rebuilt = rebuild_lake(world.deployment, PERIOD, clock=clock, sleep=clock.sleep)

    assert sorted(found) == ["a", "a", "b", "b"]
    assert appended(world) == (["a", "b"] if minutes < 15 else ["b"])
    assert rebuilt.captures == len(appended(world))
    assert is_lease_free(world, clock.now)


def test_only_what_was_not_appended_yet_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECORDS_AN_OBJECT", 2)
    erasure, clock = Erasure(world), Clock()
    for name in "abc":
        world.commit(name, URL)
    world.commit("damaged", URL)
    world.delete_rows("damaged")

    def put_slowly() -> None:
        clock.advance(minutes=16)
        lease = erasure.take(clock.now)
        assert lease is not None
        [[first]] = [[record["contact_id"] for record in records[:1]] for records in world.objects().values()]
        for name in {"a", "b", "c"} - {first}:
            erasure.bury(name)
        erasure.days.return_lease(lease, now=clock.now)

    monkeypatch.setattr(Days, "mark_anew", lambda *_, **__: put_slowly() if len(world.objects()) == 1 else None)
    rebuilt = rebuild_lake(world.deployment, PERIOD, clock=clock, sleep=clock.sleep)

    assert rebuilt.captures == 1
    assert len(appended(world)) == 1
    assert [each.key.contact_id for each in rebuilt.damaged].count("damaged") == 1


def test_a_long_batch_keeps_the_lease_from_append_to_append(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECORDS_AN_OBJECT", 2)
    erasure, clock = Erasure(world), Clock()
    for number in range(5):
        world.commit(f"c{number}", URL)
    taken: list[Lease | None] = []

    def append_slowly() -> None:
        clock.advance(minutes=10)
        taken.append(erasure.take(clock.now))

    before(world, "s3", "PutObject", *[append_slowly] * 5)
    rebuilt = rebuild_lake(world.deployment, PERIOD, clock=clock, sleep=clock.sleep)

    assert taken == [None] * 5
    assert (rebuilt.captures, rebuilt.objects) == (5, 5)


@pytest.mark.parametrize(
    ("service", "operation", "skip"),
    [("dynamodb", "Query", 0), ("s3", "PutObject", 0), *(("dynamodb", "UpdateItem", skip) for skip in range(3))],
    ids=["read", "append", "take the lease", "lengthen it", "mark the day"],
)
def test_the_lease_is_free_whatever_failed(service: str, operation: str, skip: int, world: World) -> None:
    clock = Clock()
    world.commit("a", URL)

    def fail() -> None:
        raise RetriableError("InternalServerError", "it answered 500")

    before(world, service, operation, *[lambda: None] * skip, fail)
    with pytest.raises(RetriableError):
        rebuild_lake(world.deployment, PERIOD, clock=clock, sleep=clock.sleep)
    assert is_lease_free(world, clock.now)


def test_the_command_says_that_it_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LOOKS", 0.01)
    world.commit("a", URL)
    erasure, now = Erasure(world), datetime.now(UTC)
    lease = erasure.take(now, minutes=60)
    assert lease is not None
    before(world, "dynamodb", "UpdateItem", lambda: None, lambda: erasure.days.return_lease(lease, now=now))

    result = world.run("lake", *DATES, "--yes")
    assert result.exit_code == 0
    assert "Waiting: a run of the tables, or an erasure, is at work." in " ".join(result.stderr.split())
    assert appended(world) == ["a"]


# Ledger


def create_restored(world: World) -> None:
    """A table as a restore makes it, beside the ledger."""
    create: Any = world.dynamodb.create_table
    described = world.dynamodb.describe_table(TableName="ledger")["Table"]
    create(
        TableName="restored",
        KeySchema=described["KeySchema"],
        AttributeDefinitions=[
            each for each in described["AttributeDefinitions"] if each["AttributeName"] in {"pk", "sk"}
        ],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.fixture
def restored(world: World) -> World:
    """A ledger with a restored table beside it."""
    create_restored(world)
    return world


def copy(world: World) -> Json:
    result = world.run("ledger", "--from-table", "restored", "--yes", "--json")
    assert result.exit_code == 0, result.output
    answer: Json = json.loads(result.stdout)
    assert answer.pop("from_table") == "restored"
    assert answer.pop("damaged") == []
    return {name: count for name, count in answer.items() if count}


def test_what_the_ledger_lacks_is_copied_once(restored: World) -> None:
    world = restored
    for name in ("lost", "partly", "there"):
        world.commit(name, URL, NOTE, table="restored")
    for name in ("partly", "there"):
        world.commit(name, URL, NOTE)
    world.delete_rows("partly")
    hours = f"HOURS#{INSTANCE_ID}"
    world.put("restored", pk=hours, sk="2026-10-01T09", closed_at="then")
    world.put("restored", pk=hours, sk="OPENED", opened_to="then")
    world.put("restored", pk="DAYS", sk="2026-10-01", version="1")
    world.put("restored", pk="RECONCILE", sk="LEASE", holder="gone")
    world.put("restored", pk="TABLES", sk="LEASE", holder="gone")
    world.put("ledger", pk=hours, sk="OPENED", opened_to="now")

    assert copy(world) == {"contacts": 1, "completed": 1, "rows": 4, "hours": 1, "days": 1, "left": 1}
    leases = {("RECONCILE", "LEASE"), ("TABLES", "LEASE")}
    expected = {key: item for key, item in world.items("restored").items() if key not in leases}
    expected[hours, "OPENED"] = world.items()[hours, "OPENED"]
    assert world.items() == expected
    assert expected[hours, "OPENED"]["opened_to"] == {"S": "now"}
    for name in ("lost", "partly", "there"):
        assert world.ledger.find_capture(ContactKey(INSTANCE_ID, name)) is not None

    assert copy(world) == {"left": 3}
    assert world.items() == expected


@pytest.mark.parametrize("searched_at", [None, "2026-10-05T10:20:00.000Z"])
def test_hours_are_opened_from_where_they_were_before_the_loss(searched_at: str | None, restored: World) -> None:
    world = restored
    instance = Instance("us-east-1", "123456789012", INSTANCE_ID)
    lost_to, opened_to = datetime(2026, 10, 1, 9, tzinfo=UTC), datetime(2026, 10, 5, 10, tzinfo=UTC)
    worklist = Worklist(world.dynamodb, "ledger")
    worklist.save_opened(instance, Opened(opened_to, parse_iso(searched_at) if searched_at else None))
    Worklist(world.dynamodb, "restored").save_opened(instance, Opened(lost_to, lost_to))

    assert copy(world) == {"hours": 1}
    expected = Opened(lost_to, parse_iso(searched_at) if searched_at else None)
    assert worklist.find_opened(instance) == expected
    assert copy(world) == {}

    Worklist(world.dynamodb, "restored").save_opened(instance, Opened(opened_to))
    assert copy(world) == {}
    assert worklist.find_opened(instance) == expected, "never later than what is there"


def test_rows_of_another_capture_never_come_back(restored: World) -> None:
    world = restored
    for name in ("newer", "erased"):
        world.commit(name, URL, NOTE, table="restored")
    world.commit("newer", NOTE, number=2)
    world.put("ledger", pk=pk_of("erased"), sk="CONTACT", erased_at="now")
    before = world.items()

    assert copy(world) == {"kept": 2}
    assert world.items() == before


def test_rows_that_a_killed_copy_put_of_a_contact_that_was_erased_meanwhile_go(restored: World) -> None:
    world = restored
    captured = world.commit("erased", URL, NOTE, table="restored")
    world.put("ledger", pk=pk_of("erased"), sk="CONTACT", erased_at="now")
    before = world.items()
    world.ledger.put_rows({captured.capture_id: world.ledger.make_rows(captured)[:1]})

    assert copy(world) == {"kept": 1}
    assert world.items() == before


def test_rows_that_no_capture_counted_stay_behind(restored: World) -> None:
    world = restored
    world.commit("a", URL, table="restored")
    world.put("restored", pk=pk_of("a"), sk="REFERENCE#dead#URL#1", capture_id="dead")

    assert copy(world) == {"contacts": 1, "rows": 1}
    assert (pk_of("a"), "REFERENCE#dead#URL#1") not in world.items()


def test_what_has_expired_stays_gone(restored: World) -> None:
    world = restored
    world.commit("expired", URL, table="restored", retention=timedelta(days=-10_000))

    assert copy(world) == {"expired": 1}
    assert world.items() == {}


@pytest.mark.parametrize("operation", ["BatchWriteItem", "PutItem"])
def test_a_contact_that_is_erased_meanwhile_keeps_no_rows(operation: str, restored: World) -> None:
    world = restored
    world.commit("a", URL, NOTE, table="restored")
    other = boto3.client("dynamodb", region_name="us-east-1")
    erased = {"pk": {"S": pk_of("a")}, "sk": {"S": "CONTACT"}, "erased_at": {"S": "now"}}
    world.dynamodb.meta.events.register(
        f"provide-client-params.dynamodb.{operation}",
        lambda **_: other.put_item(TableName="ledger", Item=erased) and None,
    )

    assert copy(world) == {"kept": 1}
    assert world.items() == {(pk_of("a"), "CONTACT"): erased}


def test_rows_that_were_missing_go_again_if_another_capture_takes_the_place(restored: World) -> None:
    world = restored
    world.commit("a", URL, NOTE, table="restored")
    world.commit("a", URL, NOTE)
    world.delete_rows("a")
    other = boto3.client("dynamodb", region_name="us-east-1")
    erased = {"pk": {"S": pk_of("a")}, "sk": {"S": "CONTACT"}, "erased_at": {"S": "now"}}
    world.dynamodb.meta.events.register(
        "provide-client-params.dynamodb.BatchWriteItem",
        lambda **_: other.put_item(TableName="ledger", Item=erased) and None,
    )

    assert copy(world) == {"kept": 1}
    assert world.items() == {(pk_of("a"), "CONTACT"): erased}


@pytest.mark.parametrize("skip", range(3))
def test_a_copy_that_was_killed_goes_on(skip: int, restored: World) -> None:
    world = restored
    for number in range(3):
        world.commit(f"c{number}", URL, NOTE, table="restored")
    calls: list[str] = []

    def die(**_: object) -> None:
        calls.append("PutItem")
        if len(calls) > skip:
            raise KeyboardInterrupt

    event = "provide-client-params.dynamodb.PutItem"
    world.dynamodb.meta.events.register(event, die)
    with pytest.raises(KeyboardInterrupt):
        LedgerCopy(world.dynamodb, source="restored", ledger="ledger").run()
    world.dynamodb.meta.events.unregister(event, die)
    copy(world)

    assert world.items() == world.items("restored")


def test_a_contact_that_was_damaged_when_it_was_kept_is_copied_and_named(restored: World) -> None:
    world = restored
    world.commit("a", URL, NOTE, table="restored")
    [_, row, _] = sorted(world.items("restored"))
    world.dynamodb.delete_item(TableName="restored", Key={"pk": {"S": row[0]}, "sk": {"S": row[1]}})
    result = world.run("ledger", "--from-table", "restored", "--yes")

    assert result.exit_code == 1
    assert "Copied: 1 contact that the ledger lacked" in result.stdout
    assert f"capture a --instance {INSTANCE_ID}" in result.stderr
    assert world.items() == world.items("restored")


def test_every_page_of_a_restored_table_is_copied(restored: World) -> None:
    world = restored
    long = [{"String": {"Name": f"note {number}", "Value": "x" * 30_000}} for number in range(4)]
    for number in range(20):
        world.commit(f"c{number}", *long, table="restored")

    assert copy(world) == {"contacts": 20, "rows": 80}
    assert world.items() == world.items("restored")


def test_a_table_that_is_no_restored_ledger_is_a_sentence(world: World) -> None:
    world.dynamodb.create_table(
        TableName="other",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert "there is no table nowhere here" in world.refusal("ledger", "--from-table", "nowhere", "--yes")
    assert "other is no copy of the ledger" in world.refusal("ledger", "--from-table", "other", "--yes")
    assert "ledger is the ledger itself" in world.refusal("ledger", "--from-table", "ledger", "--yes")


@pytest.mark.parametrize("command", ["tables", "lake", "ledger"])
def test_the_help_has_an_example(command: str, world: World) -> None:
    assert f"Example: python -m ops rebuild {command}" in " ".join(world.run(command, "--help").stdout.split())
