"""`erase`: nothing of a contact is left in any store, whatever else happens; the others are as they were."""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from tempfile import NamedTemporaryFile
from typing import Any

import duckdb
import pytest
import typer
from botocore.exceptions import ClientError
from moto import mock_aws
from typer.testing import CliRunner, Result

from contact_references.aws.days import Days
from contact_references.aws.ledger import Ledger
from contact_references.model.capture import Capture, Tombstone
from contact_references.model.contact import ContactKey
from contact_references.model.errors import RetriableError
from ops import dead_letters, erasure
from ops.contacts import read_value
from ops.deployment import Deployment, Messages
from ops.erase import register
from ops.erasure import Erased, Erasure, find_contacts, find_contacts_with
from ops.errors import OpsError
from ops.lake_versions import LakeVersions, Version
from tests.ops.test_rebuild import DAY, TablesFunction, World, append, pk_of
from tests.unit.conftest import INSTANCE_ARN, INSTANCE_ID

Json = dict[str, Any]
Run = Callable[..., Result]
TIMEOUT = 120
DATE = "2026-10-01"
SECRET = "jane.doe@secret.example"  # noqa: S105 - what must be gone
EMAIL = {"Email": {"Name": "reply to secret", "Value": SECRET}}
OTHER = {"Email": {"Name": "reply to", "Value": "john@example.com"}}


class DeployedFunctions(TablesFunction):
    """The tables function, and what Lambda says of the capture function."""

    timeout = TIMEOUT

    def invoke(self, *, FunctionName: str, InvocationType: str = "", Payload: bytes = b"") -> Json:  # noqa: N803
        return {} if InvocationType == "DryRun" else super().invoke(FunctionName=FunctionName, Payload=Payload)

    def get_function_configuration(self, *, FunctionName: str) -> Json:  # noqa: N803 - the operation's own names
        return {
            "FunctionName": FunctionName,
            "Timeout": self.timeout,
            "Environment": {"Variables": {"INSTANCE_ARNS": INSTANCE_ARN}},
        }


class ErasureWorld(World):
    """A deployment on moto with queues, and the clock that an erasure sleeps by."""

    def __init__(self) -> None:
        super().__init__()
        self.function = DeployedFunctions(self.dynamodb, self.s3)
        self.function.tables = replace(self.function.tables, clock=self.clock)
        self.clients.__dict__["functions"] = self.function
        self.sqs = self.clients.sqs
        urls = {name: self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("queue", "dead")}
        self.outputs = {
            "TableName": "ledger",
            "BucketName": "lake",
            "TablesFunctionName": "tables",
            "CaptureFunctionName": "capture",
            "QueueUrl": urls["queue"],
            "DeadLetterQueueUrl": urls["dead"],
        }
        self.deployment = Deployment("dev", self.clients, self.outputs)
        self.slept = 0.0
        self.while_asleep: Callable[[float], object] = lambda _: None

    def clock(self) -> datetime:
        """Tell the time as if an erasure's sleep took any."""
        return datetime.now(UTC) + timedelta(seconds=self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.while_asleep(self.slept)

    def have(self, contact_id: str, *answered: Json, **of: Any) -> Capture:
        """Let a contact be captured: in the ledger, the lake, and a mark for the tables."""
        captured = self.commit(contact_id, *answered, **of)
        if captured.contact.completed_at is not None:
            append(self, captured)
        return captured

    def write_tables(self) -> None:
        self.function.invoke(FunctionName="tables", Payload=b"{}")

    def bury(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.outputs["DeadLetterQueueUrl"], MessageBody=body)

    def erase(self, *contact_ids: str, **of: Any) -> Erased:
        targets = of.pop("targets", None) or find_contacts(self.deployment, contact_ids)
        self.slept = 0
        return Erasure(self.deployment, targets, clock=self.clock, sleep=self.sleep, **of).run()

    def lake_record(self, captured: Capture) -> Json:
        """A capture's CONTACT record as it is read from the lake."""
        record: Json = json.loads(json.dumps(captured.contact_record()))
        return record

    def items_of_others(self, *contact_ids: str) -> dict[tuple[str, str], Json]:
        """The ledger's items of all contacts but these."""
        names = {"DAYS", "TABLES", *map(pk_of, contact_ids)}
        return {key: item for key, item in self.items().items() if key[0] not in names}

    def run_erase(self, *arguments: str) -> Result:
        app = typer.Typer()

        @app.callback()
        def choose(context: typer.Context) -> None:
            context.obj = lambda: self.deployment

        register(app)
        return CliRunner().invoke(app, ["erase", *arguments])

    def everything(self) -> str:
        """All that the stores hold, as text: each version of each object decompressed, each table read."""
        texts = [json.dumps(list(self.items().values()))]
        listed = self.s3.list_object_versions(Bucket="lake")
        for version in listed.get("Versions", []):
            body = self.s3.get_object(Bucket="lake", Key=version["Key"], VersionId=version["VersionId"])["Body"].read()
            texts.append(read_object(version["Key"], body))
        for url in (self.outputs["QueueUrl"], self.outputs["DeadLetterQueueUrl"]):
            texts += [json.dumps(message, default=str) for message in self.messages(url)]
        return "\n".join(texts)

    def messages(self, url: str) -> list[Json]:
        found: Any = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        messages: list[Json] = found.get("Messages", [])
        for message in messages:
            self.sqs.change_message_visibility(
                QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
            )
        return messages

    def markers(self) -> list[str]:
        return [each["Key"] for each in self.s3.list_object_versions(Bucket="lake").get("DeleteMarkers", [])]


def read_object(key: str, body: bytes) -> str:
    """What an object holds, as text."""
    if not body or body.startswith(b"no gzip"):
        return body.decode()
    if key.endswith(".gz"):
        return gzip.decompress(body).decode()
    with NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as database:
        file.write(body)
        file.flush()
        rows = database.execute("SELECT * FROM read_parquet($file)", {"file": file.name}).fetchall()
    return json.dumps(rows, default=str)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[ErasureWorld]:
    monkeypatch.setattr(dead_letters, "_WAIT_SECONDS", 0)
    with mock_aws():
        yield ErasureWorld()


# What is removed, and what stays


def test_nothing_of_an_erased_contact_is_left_anywhere_and_the_others_are_as_they_were(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    kept = world.have("b", OTHER)
    both = [world.commit("a", EMAIL, OTHER, number=2), world.commit("b", OTHER, number=2)]
    world.lake.append(DATE, both)
    world.have("only a", EMAIL, at=DAY + timedelta(days=1))
    world.ledger.mark_day(DATE)
    world.write_tables()
    world.have("later", OTHER)
    world.write_tables()  # there are earlier versions of tables now
    world.bury(json.dumps({"detail": {"contactId": "a", "note": SECRET}}))
    world.bury(json.dumps({"detail": {"contactId": "b"}}))
    before = world.items_of_others("a", "only a")
    assert SECRET in world.everything()

    erased = world.erase("a", "only a")

    text = world.everything()
    assert SECRET not in text
    assert "secret" not in text
    assert erased.is_complete
    assert erased.removed == {
        "rows": 4,
        "records of the lake": 7,
        "versions of the lake's objects": 3,
        "versions of tables": 4 + 2,
        "dead letters": 1,
    }
    assert world.items_of_others("a", "only a") == before
    lines = {json.dumps(record) for records in world.objects().values() for record in records}
    assert json.dumps(world.lake_record(kept)) in lines
    assert world.markers() == []
    assert [message["Body"] for message in world.messages(world.outputs["DeadLetterQueueUrl"])] == [
        json.dumps({"detail": {"contactId": "b"}})
    ]


def test_the_other_lines_of_an_object_stay_to_the_byte(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    odd = b'{"instance_id": "x" ,"contact_id":"b"}\nno record\n'
    key = f"captures/completed_date={DATE}/odd.jsonl.gz"
    ours = json.dumps({"instance_id": INSTANCE_ID, "contact_id": "a", "reference_value": SECRET}).encode()
    broken = (
        b'{"instance_id": "' + INSTANCE_ID.encode() + b'", "contact_id": "a", "reference_value": "' + SECRET.encode()
    )
    world.s3.put_object(Bucket="lake", Key=key, Body=gzip.compress(odd + ours + b"\n" + broken))
    assert world.erase("a").is_complete
    assert gzip.decompress(world.s3.get_object(Bucket="lake", Key=key)["Body"].read()) == odd


def test_earlier_versions_go_and_an_object_without_records_goes_with_its_markers(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    [key] = world.objects()
    body = world.s3.get_object(Bucket="lake", Key=key)["Body"].read()
    world.s3.put_object(Bucket="lake", Key=key, Body=body)
    world.s3.delete_object(Bucket="lake", Key=key)
    deleted = f"captures/completed_date={DATE}/deleted.jsonl.gz"
    world.s3.put_object(Bucket="lake", Key=deleted, Body=body)
    world.s3.put_object(Bucket="lake", Key=deleted, Body=gzip.compress(b'{"contact_id": "b"}\n'))
    assert world.erase("a").is_complete
    listed = world.s3.list_object_versions(Bucket="lake", Prefix="captures/")
    assert [each["Key"] for each in listed["Versions"]] == [deleted]
    assert world.markers() == []


def test_a_contact_of_another_instance_with_the_same_id_stays(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    other = {"record_type": "CONTACT", "instance_id": "other", "contact_id": "a", "initial_contact_id": "a"}
    key = f"captures/completed_date={DATE}/other.jsonl.gz"
    world.s3.put_object(Bucket="lake", Key=key, Body=gzip.compress(json.dumps(other).encode()))
    assert world.erase("a").is_complete
    assert world.objects() == {key: [other]}


@pytest.mark.parametrize("contact_id", ['quo"ted', "back\\slash", "lettér", "a#b/c"])
def test_an_id_that_json_or_a_key_writes_otherwise_is_found_everywhere(world: ErasureWorld, contact_id: str) -> None:
    world.have(contact_id, EMAIL)
    world.write_tables()
    world.bury(json.dumps({"detail": {"contactId": contact_id, "note": SECRET}}))
    assert world.erase(contact_id).is_complete
    assert SECRET not in world.everything()


def test_a_contact_whose_completion_is_not_known_is_erased_from_the_ledger(world: ErasureWorld) -> None:
    world.have("a", EMAIL, at=None)
    erased = world.erase("a")
    assert erased.is_complete
    assert [tombstone.completed_date for tombstone in erased.tombstones] == [None]
    assert SECRET not in world.everything()


def test_rows_of_attempts_that_died_go_too(world: ErasureWorld) -> None:
    captured = world.have("a", EMAIL)
    row = world.ledger.make_rows(captured)[0]
    row["sk"] = {"S": row["sk"]["S"].replace("capture-a-1", "died")}
    world.dynamodb.put_item(TableName="ledger", Item=row)
    assert world.erase("a").removed["rows"] == 2
    assert SECRET not in world.everything()


def test_many_contacts_of_a_day_take_no_more_reads_of_the_lake_than_one(world: ErasureWorld) -> None:
    names = [f"c{number}" for number in range(31)]
    captures = [world.commit(name, EMAIL) for name in names]
    for start in (0, 10, 20):
        world.lake.append(DATE, captures[start : start + 10] + captures[30:])
    world.ledger.mark_day(DATE)
    requests: Counter[str] = Counter()
    for client in (world.s3, world.dynamodb):
        client.meta.events.register_first("before-call.*.*", lambda model, **_: requests.update([model.name]))
    world.erase("c30")
    of_one = requests.copy()
    requests.clear()

    world.erase(*names[:30])

    of_many = requests
    reads = ("ListObjectVersions", "ListObjectsV2", "GetObject", "BatchGetItem")
    assert all(of_many[operation] <= of_one[operation] for operation in reads), (of_one, of_many)
    more = {operation: of_many[operation] - of_one[operation] for operation in ("PutItem", "Query", "BatchWriteItem")}
    assert more == {"PutItem": 29, "Query": 2 * 29, "BatchWriteItem": 3}


def test_a_damaged_contact_is_found_in_the_lake_though_its_item_does_not_say_its_day(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    key = {"pk": {"S": pk_of("a")}, "sk": {"S": "CONTACT"}}
    world.dynamodb.update_item(TableName="ledger", Key=key, UpdateExpression="REMOVE completed_at, captured_at")
    assert world.erase("a").is_complete
    assert SECRET not in world.everything()


def test_a_damaged_contact_is_erased_with_the_others_though_its_item_spoils_its_day(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    world.have("b", EMAIL, at=DAY + timedelta(days=1))
    world.dynamodb.update_item(
        TableName="ledger",
        Key={"pk": {"S": pk_of("b")}, "sk": {"S": "CONTACT"}},
        UpdateExpression="SET completed_at = :nonsense",
        ExpressionAttributeValues={":nonsense": {"S": "yesterday"}},
    )
    assert world.erase("a", "b").is_complete
    assert SECRET not in world.everything()


def test_a_table_that_another_erasure_deletes_after_it_was_listed_ends_nothing(
    world: ErasureWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.have("a", EMAIL)
    read = LakeVersions.read

    def delete_and_read(lake: LakeVersions, version: Version) -> bytes:
        if not version.key.startswith("captures/"):
            lake.delete([version])
        return read(lake, version)

    monkeypatch.setattr(LakeVersions, "read", delete_and_read)
    assert world.erase("a").is_complete


def test_an_object_that_nobody_can_read_is_told(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    key = f"captures/completed_date={DATE}/broken.jsonl.gz"
    world.s3.put_object(Bucket="lake", Key=key, Body=b"no gzip")
    erased = world.erase("a")
    assert (erased.is_complete, erased.unreadable, erased.found.total()) == (False, {key}, 0)


def test_contacts_of_the_same_chain_that_are_not_erased_are_named(world: ErasureWorld) -> None:
    world.have("first", EMAIL)
    world.have("leg", EMAIL, initial="first")
    world.have("erased before", initial="first")
    world.ledger.erase(ContactKey(INSTANCE_ID, "erased before"))
    assert {key.contact_id for key in world.erase("first").chain} == {"leg"}
    world.have("second", OTHER)
    world.have("last", EMAIL, initial="second")
    assert {key.contact_id for key in world.erase("last").chain} == {"second"}


def test_a_count_of_dead_letters_that_is_a_minute_behind_is_waited_for(
    world: ErasureWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.have("a", EMAIL)
    world.bury(json.dumps({"detail": {"contactId": "a"}}))
    at_the_start = world.deployment.count_messages("DeadLetterQueueUrl")
    count = Deployment.count_messages

    def count_late(deployment: Deployment, queue: str) -> Messages:
        return count(deployment, queue) if world.slept > TIMEOUT + 70 else at_the_start

    monkeypatch.setattr(Deployment, "count_messages", count_late)
    assert world.erase("a").is_complete


# By value


def test_who_has_a_value_or_had_it_before_is_erased_and_who_has_it_as_another_type_is_not(world: ErasureWorld) -> None:
    world.have("has", EMAIL)
    world.have("had", EMAIL, at=DAY + timedelta(days=1))
    world.have("had", OTHER, at=DAY + timedelta(days=1), number=2)
    world.have("lost", EMAIL)
    world.delete_rows("lost", item_too=True)
    world.have("as text", {"String": {"Name": "note", "Value": SECRET}})
    world.have("other", OTHER)
    world.have("not dated", EMAIL, at=None)
    value = read_value(" email ", SECRET.upper())
    targets = find_contacts_with(world.deployment, value)
    assert {target.key.contact_id: target.completed_date for target in targets} == {
        "has": DATE,
        "had": "2026-10-02",
        "lost": DATE,
        "not dated": None,
    }
    erased = world.erase(targets=targets, value=value)
    assert erased.is_complete
    found = [line for line in world.everything().splitlines() if SECRET in line]
    assert all("as text" in line for line in found)
    assert found


def test_an_object_of_any_day_that_nobody_can_read_may_have_the_value(world: ErasureWorld, run: Run) -> None:
    key = "captures/completed_date=2026-10-05/broken.jsonl.gz"
    world.s3.put_object(Bucket="lake", Key=key, Body=b"no gzip")
    nobody = run("--value", "EMAIL", SECRET)
    assert "but 1 of the lake's objects cannot be read" in str(nobody.exception)
    world.have("a", EMAIL)
    result = run("--value", "EMAIL", SECRET, "--yes", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["unreadable_objects"] == [key]
    assert SECRET not in world.everything()


def test_an_object_that_comes_meanwhile_and_that_nobody_can_read_is_told(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    key = f"captures/completed_date={DATE}/broken.jsonl.gz"
    invoke = world.function.invoke

    def put(**of: Any) -> Json:
        if of.get("InvocationType") != "DryRun":
            world.s3.put_object(Bucket="lake", Key=key, Body=b"no gzip")
        answer: Json = invoke(**of)
        return answer

    world.function.invoke = put
    erased = world.erase("a")
    assert (erased.is_complete, erased.unreadable) == (False, {key})


def test_a_contact_that_the_lake_has_at_two_days_goes_from_both(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    world.delete_rows("a", item_too=True)
    world.have("a", EMAIL, at=DAY + timedelta(days=1), number=2)
    value = read_value("EMAIL", SECRET)
    erased = world.erase(targets=find_contacts_with(world.deployment, value), value=value)
    assert erased.is_complete, erased.found
    assert SECRET not in world.everything()


def test_by_value_the_earlier_tables_of_other_days_are_left_and_are_nothing_that_is_left(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    world.have("b", OTHER, at=DAY + timedelta(days=1))
    world.write_tables()
    for date in (DATE, "2026-10-02"):
        world.ledger.mark_day(date)
    world.write_tables()
    value = read_value("EMAIL", SECRET)
    erased = world.erase(targets=find_contacts_with(world.deployment, value), value=value)
    assert erased.is_complete, erased.found
    listed = world.s3.list_object_versions(Bucket="lake", Prefix="contacts/")["Versions"]
    assert {each["Key"].split("/")[1] for each in listed if not each["IsLatest"]} == {"completed_date=2026-10-02"}


def test_a_contact_that_gets_the_value_meanwhile_is_told(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    value = read_value("EMAIL", SECRET)
    targets = find_contacts_with(world.deployment, value)
    world.while_asleep = lambda slept: world.have("new", EMAIL) if slept == 1 else None
    erased = world.erase(targets=targets, value=value)
    assert not erased.is_complete
    assert erased.found["entries of the index"] == 1
    assert erased.found["versions of the lake's objects"] == 1
    world.while_asleep = lambda _: None
    targets = find_contacts_with(world.deployment, value)
    assert world.erase(targets=targets, value=value).is_complete


# Others at the same time, and ends


def test_captures_under_way_are_waited_for_and_what_they_leave_is_removed(world: ErasureWorld) -> None:
    captured = world.have("a", EMAIL)

    def end_of_a_capture(slept: float) -> None:
        if slept == TIMEOUT:
            append(world, captured)
            world.ledger.put_rows({"late": world.ledger.make_rows(captured)})

    world.while_asleep = end_of_a_capture
    assert world.erase("a").is_complete
    assert SECRET not in world.everything()
    assert world.slept >= TIMEOUT


def test_tables_that_a_run_makes_meanwhile_of_what_it_read_before_are_made_anew(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    world.while_asleep = lambda slept: world.write_tables() if slept in {1, TIMEOUT} else None
    assert world.erase("a").is_complete
    assert SECRET not in world.everything()


def test_versions_of_tables_that_runs_make_meanwhile_are_searched_and_not_taken_for_rests(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    world.have("b", OTHER)
    world.write_tables()
    writes: list[str] = []

    def write_again(**_: object) -> None:
        if world.marked() == [] and not writes:  # the erasure's tables are written: a live contact is appended
            writes.append("again")
            world.have("c", OTHER)
            world.write_tables()

    world.sqs.meta.events.register_first("before-call.sqs.GetQueueAttributes", write_again)
    erased = world.erase("a")
    assert writes
    assert erased.is_complete
    assert SECRET not in world.everything()


def test_a_version_that_was_not_deleted_is_found(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    [key] = world.objects()

    def keep(params: Json, **_: object) -> None:
        params["Delete"]["Objects"] = [each for each in params["Delete"]["Objects"] if each["Key"] != key] or [
            {"Key": "nothing", "VersionId": "null"}
        ]

    world.s3.meta.events.register("provide-client-params.s3.DeleteObjects", keep)
    erased = world.erase("a")
    assert not erased.is_complete
    assert erased.found["versions of the lake's objects"] == 1


def test_a_day_that_takes_longer_than_the_lease_is_cleaned_while_nobody_else_has_it(
    world: ErasureWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "_AT_ONCE", 1)
    for number in range(4):
        world.lake.append(DATE, [world.commit("a", EMAIL, number=number + 1), world.commit("b", OTHER, number=9)])
        world.delete_rows("b", item_too=True)
    world.ledger.mark_day(DATE)
    others = Days(world.dynamodb, "ledger")
    calls = 0

    def slowly(act: Callable[..., Any]) -> Callable[..., Any]:
        def act_slowly(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            assert calls < 50, "it goes on for ever"
            if isinstance(erasing.erased.removed.get("versions of tables"), int):
                return act(*arguments)
            world.slept += 10 * 60
            assert others.take_lease("run", now=world.clock(), until=world.clock() + timedelta(hours=1)) is None
            return act(*arguments)

        return act_slowly

    targets = find_contacts(world.deployment, ["a"])
    for name in ("search", "replace"):
        monkeypatch.setattr(LakeVersions, name, slowly(getattr(LakeVersions, name)))
    world.slept = 0
    erasing = Erasure(world.deployment, targets, clock=world.clock, sleep=world.sleep)
    assert erasing.run().is_complete
    assert world.slept > 8 * 10 * 60


def test_another_day_that_cannot_be_written_hinders_no_erasure(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    world.have("b", OTHER, at=DAY + timedelta(days=1))
    put = world.function.tables.folders.put

    def refuse(kind: str, date: str, file: Any) -> None:
        if date != DATE:
            raise RetriableError("InternalError", "PutObject answered 500 InternalError")
        put(kind, date, file)

    world.function.tables.folders.put = refuse
    assert world.erase("a").is_complete


class KilledError(BaseException):
    """The end of the process."""


def test_killed_anywhere_it_ends_the_same_when_started_again(world: ErasureWorld) -> None:
    calls = 0
    kill_at: int | None = None

    def count(model: Any, **_: object) -> None:
        nonlocal calls
        calls += not model.name.startswith(("Get", "List", "BatchGet", "Query", "Describe"))
        if calls == kill_at:
            calls += 1  # once
            raise KilledError

    world.have("kept", OTHER)
    for client in (world.dynamodb, world.s3, world.sqs):
        client.meta.events.register_first("before-call.*.*", count)
    for number in range(4, 200, 6):
        name = f"contact {number}"
        world.lake.append(DATE, [world.commit(name, EMAIL), world.commit("kept", OTHER, number=2 * number)])
        world.ledger.mark_day(DATE)
        world.write_tables()
        world.bury(json.dumps({"detail": {"contactId": name, "note": SECRET}}))
        world.dynamodb.delete_item(TableName="ledger", Key={"pk": {"S": "TABLES"}, "sk": {"S": "LEASE"}})
        calls, kill_at = 0, number
        try:
            world.erase(name)
            is_killed = False
        except KilledError:
            is_killed = True
        kill_at = None
        assert world.erase(name).is_complete
        assert SECRET not in world.everything()
        if not is_killed:
            break
    assert number > 20
    assert not is_killed


def test_by_value_a_contact_that_is_half_erased_is_found_when_it_is_started_again(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    world.have("kept", OTHER)
    world.write_tables()
    world.bury(json.dumps({"detail": {"contactId": "a", "note": SECRET}}))
    value = read_value("EMAIL", SECRET)
    invoke = world.function.invoke

    def end(**of: Any) -> Json:
        if of.get("InvocationType") != "DryRun":
            raise KilledError
        return {}

    world.function.invoke = end
    with pytest.raises(KilledError):
        world.erase(targets=find_contacts_with(world.deployment, value), value=value)
    world.function.invoke = invoke
    assert SECRET in world.everything()

    targets = find_contacts_with(world.deployment, value)
    assert [target.key.contact_id for target in targets] == ["a"]
    assert world.erase(targets=targets, value=value).is_complete
    assert SECRET not in world.everything()
    with pytest.raises(OpsError, match="no contact has this value"):
        find_contacts_with(world.deployment, value)


def test_one_that_was_given_up_before_anything_was_erased_is_not_erased_with_others(
    world: ErasureWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.have("a", EMAIL)
    world.have("b", OTHER)

    def end(*_: object, **__: object) -> None:
        raise KilledError

    monkeypatch.setattr(Ledger, "erase", end)
    with pytest.raises(KilledError):
        world.erase("b")
    assert ("ERASURES", pk_of("b")) in world.items()
    value = read_value("EMAIL", SECRET)
    assert [target.key.contact_id for target in find_contacts_with(world.deployment, value)] == ["a"]


def test_started_again_when_it_is_done_it_searches_again_and_changes_nothing(world: ErasureWorld) -> None:
    world.have("a", EMAIL)
    first = world.erase("a")
    again = world.erase("a")
    assert again.is_complete
    assert again.tombstones == first.tombstones
    assert isinstance(world.ledger.find_items([ContactKey(INSTANCE_ID, "a")])[ContactKey(INSTANCE_ID, "a")], Tombstone)
    assert not again.removed.total() - again.removed["versions of tables"]


# The command line


@pytest.fixture
def run(world: ErasureWorld, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(erasure, "_SPARE", timedelta(0))
    world.function.timeout = 0
    return world.run_erase


def test_without_yes_it_says_what_it_would_do_and_changes_nothing(world: ErasureWorld, run: Run) -> None:
    world.have("a", EMAIL)
    before = world.everything()
    result = run("a")
    assert result.exit_code == 0, result.output
    assert "Would erase 1 contact of 1 day, with 1 reference now" in result.stdout
    assert "Nothing was changed: say --yes" in result.stdout
    assert json.loads(run("a", "--json").stdout) == {
        "would_erase": [{"instance_id": INSTANCE_ID, "contact_id": "a", "completed_date": DATE}],
        "references": 1,
        "days": {DATE: 1},
        "waits_seconds": 0,
    }
    assert world.everything() == before


def test_with_yes_it_ends_with_what_was_removed_and_what_others_hold(world: ErasureWorld, run: Run) -> None:
    world.have("a", EMAIL)
    result = run("a", "--yes")
    assert result.exit_code == 0, result.output
    for words in ("1 contact erased", "Searched again, and found nothing", "What others still hold", "Amazon Connect"):
        assert words in result.stdout
    assert SECRET not in result.output
    record = json.loads(run("a", "--yes", "--json").stdout)
    assert record["is_complete"]
    assert [each["contact_id"] for each in record["erased"]] == ["a"]


def test_by_value_on_the_command_line(world: ErasureWorld, run: Run) -> None:
    world.have("a", EMAIL)
    assert "Would erase 1 contact" in run("--value", "EMAIL", SECRET).stdout
    result = run("--value", "EMAIL", SECRET, "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    assert json.loads(result.stdout)["is_complete"]


def test_what_is_left_is_told_with_exit_status_1(world: ErasureWorld, run: Run) -> None:
    world.have("a", EMAIL)
    world.s3.put_object(Bucket="lake", Key=f"captures/completed_date={DATE}/broken.jsonl.gz", Body=b"no gzip")
    result = run("a", "--yes")
    assert result.exit_code == 1
    assert "Not everything is gone" in result.stdout
    assert "broken.jsonl.gz is no gzip file" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["unknown"], "the ledger does not have contact unknown"),
        (["a", "unknown", "other"], "the ledger does not have contact unknown and 1 others"),
        (["a", "--instance", "another"], "the ledger does not have contact a"),
        (["--value", "EMAIL", "nobody@example.com"], "no contact has this value"),
        (["--value", "EMAIL", " "], "the value is empty"),
        (["--value", "MOOD", "good"], "there is no such type"),
    ],
)
def test_what_cannot_be_erased_is_a_sentence_and_nothing_is_changed(
    world: ErasureWorld, run: Run, arguments: list[str], words: str
) -> None:
    world.have("a", EMAIL)
    before = world.everything()
    result = run(*arguments, "--yes")
    assert isinstance(result.exception, OpsError), result.output
    assert words in str(result.exception)
    assert world.everything() == before


@pytest.mark.parametrize(
    "arguments", [[], ["a", "--value", "EMAIL", "b"], [" "], ["--value", "URL", "b", "--instance", "i"]]
)
def test_a_command_that_says_too_little_or_too_much_is_refused(run: Run, arguments: list[str]) -> None:
    assert run(*arguments, "--yes").exit_code == 2


def test_without_the_right_to_delete_nothing_is_changed(world: ErasureWorld, run: Run) -> None:
    world.have("a", EMAIL)
    before = world.everything()

    def deny(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "DeleteObjects")

    world.s3.meta.events.register_first("before-call.s3.DeleteObjects", deny)
    world.s3.meta.events.register_first("before-call.s3.DeleteObject", deny)
    result = run("a", "--yes")
    assert isinstance(result.exception, OpsError), result.output
    assert "s3:DeleteObjectVersion" in str(result.exception)
    assert world.everything() == before
