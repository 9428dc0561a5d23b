"""`erase` on the deployed system, with captures in flight: every store is searched byte by byte for what must be gone.

Fifty contacts are erased at once. Meanwhile each is reported, asked for or captured by hand, at a random moment.
"""

import gzip
import io
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Event
from typing import Any
from uuid import uuid4

import duckdb
import pytest

from local.__main__ import main
from local.emulator import INSTANCE_ARN
from local.system import Json, System
from local.tables import query, write_tables
from ops import erasure
from ops.activity import read_settings
from tests.system.conftest import INSTANCE_ID, Contacts, configured

DATES = ("2024-06-01", "2024-06-02")
"""Dates of completion that no other test's contacts have."""

MARK = f"quuxley{uuid4().hex}"  # it is in every text that must be gone
NUMBER, DATE = 918273645.125, "1987-06-05"
NEEDLES = (MARK, str(NUMBER), DATE)
IN_FLIGHT = 50
OTHERS: list[Json] = [
    {"Url": {"Name": "CRM", "Value": "https://crm.example.com/1"}},
    {"Number": {"Name": "number", "Value": "12.5"}},
]
_TYPES = '{"*": ["URL", "STRING", "NUMBER", "DATE", "EMAIL", "ATTACHMENT"]}'  # one call a contact, not two
_WAIT = timedelta(seconds=5)  # in place of the function's timeout: captures take a second here, not minutes
_SLOW = 2.0  # seconds, in which an erasure that does not wait has cleaned the lake
_FOREIGN = INSTANCE_ARN.replace("us-east-1", "eu-west-1")  # no delivery can capture what is there
_SPAN = 10.0  # seconds that an erasure takes, about

Stores = dict[str, bytes]
"""All that a deployment keeps, by where: as it is stored, and readable."""


def references(number: int, version: int = 1) -> list[Json]:
    """What a contact has that is to be erased; each text is one contact's own, and of one version."""
    own = f"{MARK}-{number}-{version}"
    arn = f"{INSTANCE_ARN}/file/{own}"
    return [
        {"Url": {"Name": f"url of {own}", "Value": f"HTTPS://{own}.example/path?{own}"}},
        {"Email": {"Name": "email", "Value": f"{own.title()}@Example.com"}},
        {"String": {"Name": "string", "Value": f"ü {own} 😀"}},
        {"Number": {"Name": "number", "Value": str(NUMBER)}},
        {"Date": {"Name": "date", "Value": DATE}},
        {"Attachment": {"Name": f"{own}.pdf", "Arn": arn, "Status": "APPROVED", "Value": f"https://f.example/{own}"}},
    ]


@dataclass
class Erasure:
    """What was before and after an erasure, and what it said.

    `sent` says when something was sent about each contact but one, in seconds since its tombstone; that one's capture
    was committed before, and ended at `slow_ended`.
    """

    ids: Sequence[str]
    sent: Mapping[str, float]
    slow_ended: float
    record: Json
    before: Stores
    after: Stores
    others_before: Sequence[object]
    others_after: Sequence[object]


@pytest.fixture(scope="module")
def erased(system: System, directory: Path) -> Iterator[Erasure]:
    with configured(system, "CaptureFunctionName", REFERENCE_TYPES=_TYPES):
        yield erase_with_captures_in_flight(system, directory)


def erase_with_captures_in_flight(system: System, directory: Path) -> Erasure:
    contacts = Contacts(system)
    ids = have_contacts(system, contacts)
    bystander = contacts.create(*OTHERS, DisconnectTimestamp=at(0))
    before, others_before = read_everything(system), read_others(system, {*ids, bystander})
    over, slow = Event(), ids[-1]
    fault = {"operation": "ListContactReferences", "kind": "hang", "contact": bystander, "count": 1}
    system.control_connect("faults", fault)
    with ThreadPoolExecutor(3) as pool:
        try:
            capturing = pool.submit(capture_slowly, system, slow, bystander)
            wait_until(lambda: system.control_connect("faults")["faults"][0]["hits"])
            letting_go = pool.submit(let_go, system, slow)
            sending = pool.submit(send_at_random, system, ids[:-1], over)
            record = run_erase(system, directory, ids)
        finally:
            over.set()
            system.control_connect("faults", method="DELETE")
    letting_go.result()
    assert system.wait_until_drained(60)
    erased_at = {each["contact_id"]: datetime.fromisoformat(each["erased_at"]) for each in record["erased"]}
    return Erasure(
        ids=ids,
        sent={of: (moment - erased_at[of]).total_seconds() for of, moment in sending.result().items()},
        slow_ended=(capturing.result() - erased_at[slow]).total_seconds(),
        record=record,
        before=before,
        after=read_everything(system),
        others_before=others_before,
        others_after=read_others(system, {*ids, bystander}),
    )


def have_contacts(system: System, contacts: Contacts) -> list[str]:
    """Let contacts be captured, some of them twice, and be in the tables; return the ids of those to erase.

    One is a dead letter, as is one of the others; what the last has now is not captured yet.
    """
    ids = [contacts.create(*references(number), DisconnectTimestamp=at(number)) for number in range(IN_FLIGHT)]
    kept = [contacts.create(*OTHERS, DisconnectTimestamp=at(number)) for number in range(3)]
    system.send(request(ids[0], "missed", instance_arn=_FOREIGN, note=MARK))
    system.send(request(kept[0], "missed", instance_arn=_FOREIGN))
    contacts.complete(*ids, *kept)
    write_tables(system)
    for number in range(5):
        contacts.create(*references(number, version=2), DisconnectTimestamp=at(number), Id=ids[number])
    contacts.complete(*ids[:5])
    write_tables(system)  # there are earlier versions of tables now
    late = [{"String": {"Name": f"late {number}", "Value": f"{MARK} {number}"}} for number in range(20)]
    contacts.create(*late, DisconnectTimestamp=at(IN_FLIGHT - 1), Id=ids[-1])
    return ids


def at(number: int) -> str:
    return f"{DATES[number % 2]}T09:00:{number:02}.000Z"


def request(contact_id: str, reason: str, *, instance_arn: str = INSTANCE_ARN, **detail: str) -> Json:
    return {
        "source": "contact-references",
        "detail-type": "Contact Capture Request",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "id": str(uuid4()),
        "detail": {"instanceArn": instance_arn, "contactId": contact_id, "reason": reason} | detail,
    }


# What happens while the erasure runs


def run_erase(system: System, directory: Path, ids: Sequence[str]) -> Json:
    """Run the command; it waits for captures as if the function's timeout were shorter."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setattr(signal, "signal", lambda *_: None)  # this process is the test's, and ends as it does
        patch.setattr(erasure, "_SPARE", _WAIT - read_settings(system.deployment, "capture").timeout)
        status = main(["--directory", str(directory), "erase", *ids, "--yes", "--json"])
    record: Json = json.loads(output.getvalue())
    assert status == 0, record
    return record


def invoke(system: System, payload: Json) -> None:
    """Run the capture function by hand."""
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["CaptureFunctionName"], Payload=json.dumps(payload).encode()
    )
    assert "FunctionError" not in answer, answer["Payload"].read()


def capture_slowly(system: System, contact_id: str, other: str) -> datetime:
    """Capture two contacts in one batch; return when that ended.

    The first is committed, as its rows fill a request, before the second is read, which hangs, and appended after.
    """
    records = [
        {
            "messageId": str(uuid4()),
            "receiptHandle": "handle",
            "body": json.dumps(request(each, "missed")),
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "eventSourceARN": system.outputs["QueueArn"],
        }
        for each in (contact_id, other)
    ]
    invoke(system, {"Records": records})
    return datetime.now(UTC)


def let_go(system: System, contact_id: str) -> None:
    """Let the capture that hangs go on, a while after its contact's tombstone is there."""
    wait_until(lambda: any("erased_at" in item for item in system.items() if item.get("contact_id") == contact_id))
    time.sleep(_SLOW)
    system.control_connect("faults", method="DELETE")


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def send_at_random(system: System, ids: Sequence[str], over: Event) -> dict[str, datetime]:
    """Report, ask for or capture each contact at a moment of the erasure; return when."""
    ways: list[Callable[[str], object]] = [
        lambda contact_id: system.control_connect(f"contacts/{contact_id}/complete", {}),
        lambda contact_id: system.send(request(contact_id, "missed")),
        lambda contact_id: system.send(request(contact_id, "recheck")),
        lambda contact_id: invoke(system, request(contact_id, "missed")),
    ]
    draw, began = random.Random(1), time.monotonic()  # noqa: S311 - the same moments each time
    plan = sorted((draw.uniform(0, _SPAN), contact_id, draw.randrange(len(ways))) for contact_id in ids)
    sent, results = {}, []
    with ThreadPoolExecutor(3) as pool:
        for moment, contact_id, way in plan:
            over.wait(max(0.0, began + moment - time.monotonic()))
            sent[contact_id] = datetime.now(UTC)
            results.append(pool.submit(ways[way], contact_id))
    for result in results:
        result.result()
    return sent


# What is looked at


def read_everything(system: System) -> Stores:
    """Return what the table and its indexes, the bucket, the queues and the tables have."""
    table, bucket, clients = system.outputs["TableName"], system.outputs["BucketName"], system.clients
    stores: Stores = {}
    for index in ("", "by_value", "by_due"):
        of: Any = {"IndexName": index} if index else {}
        pages = clients.dynamodb.get_paginator("scan").paginate(TableName=table, **of)
        stores[f"table {index}"] = as_bytes([item for page in pages for item in page["Items"]])
    for page in clients.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for version in page.get("Versions", []):
            key, version_id = version["Key"], version["VersionId"]
            if key.startswith("query-results/"):  # of the queries here: the command tells how long they stay
                continue
            body = clients.s3.get_object(Bucket=bucket, Key=key, VersionId=version_id)["Body"].read()
            stores[f"{key} {version_id}"] = key.encode() + body + decode(key, body)
    assert system.queued() == 0
    stores["dead letters"] = as_bytes([[letter.body, letter.attributes] for letter in system.dead_letters()])
    for name in ("contacts", "contact_references"):
        stores[f"Athena {name}"] = as_bytes(ask_athena(system, name))
    return stores


def decode(key: str, body: bytes) -> bytes:
    """Return what an object holds, readable."""
    if key.endswith(".gz"):
        return gzip.decompress(body)
    if not key.endswith(".parquet"):
        return b""
    with NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as database:
        file.write(body)
        file.flush()
        return as_bytes(database.execute("SELECT * FROM read_parquet($file)", {"file": file.name}).fetchall())


def as_bytes(content: object) -> bytes:
    return json.dumps(content, default=str, ensure_ascii=False).encode()


def ask_athena(system: System, table: str) -> list[list[str | None]]:
    sql = f"SELECT * FROM {table} WHERE completed_date BETWEEN DATE '{DATES[0]}' AND DATE '{DATES[1]}'"  # noqa: S608
    return sorted(query(system, sql), key=str)


def read_others(system: System, ids: Set[str]) -> list[object]:
    """Return what ledger, lake and tables have of other contacts."""
    listed = (system.items(), system.ledger())
    items = [item for of in listed for item in of if item.get("contact_id") not in {*ids, None}]
    lines = Counter(
        json.dumps(record) for of in system.lake().values() for record in of if record["contact_id"] not in ids
    )
    rows = [row for name in ("contacts", "contact_references") for row in ask_athena(system, name)]
    return [items, lines, [row for row in rows if ids.isdisjoint(row)]]


def has_any(store: bytes) -> bool:
    return any(needle.encode() in store.lower() for needle in NEEDLES)


def test_no_byte_of_a_value_is_left_in_any_store(erased: Erasure) -> None:
    before = {where.partition("/")[0] for where, store in erased.before.items() if has_any(store)}
    tables = {"contact_references", "Athena contact_references"}
    assert before == {"table ", "table by_value", "captures", "dead letters", *tables}
    for needle in NEEDLES:
        assert any(needle.encode() in store for store in erased.before.values())
    assert [where for where, store in erased.after.items() if has_any(store)] == []


def test_their_ids_are_in_their_tombstones_and_nowhere_else(erased: Erasure) -> None:
    ids = [contact_id.encode() for contact_id in erased.ids]
    assert {where for where, store in erased.after.items() if any(each in store for each in ids)} == {"table "}
    items = [item for item in json.loads(erased.after["table "]) if item["pk"]["S"].split("#")[-1] in erased.ids]
    assert {item["pk"]["S"] for item in items} == {f"{INSTANCE_ID}#{contact_id}" for contact_id in erased.ids}
    assert [item["sk"]["S"] for item in items] == ["CONTACT"] * IN_FLIGHT
    assert all("erased_at" in item for item in items)


def test_other_contacts_are_exactly_as_before(erased: Erasure) -> None:
    assert all(erased.others_before)
    assert erased.others_after == erased.others_before


def test_what_was_in_flight_was_so_from_before_the_tombstones_to_the_end(erased: Erasure) -> None:
    moments = sorted(erased.sent.values())
    assert len(moments) == IN_FLIGHT - 1
    assert moments[0] < 0
    assert moments[-1] > _WAIT.total_seconds()
    assert _SLOW < erased.slow_ended < _WAIT.total_seconds()


def test_the_command_tells_what_it_removed_and_that_nothing_is_left(erased: Erasure) -> None:
    assert erased.record["is_complete"]
    assert {each["contact_id"] for each in erased.record["erased"]} == {*erased.ids}
    removed = erased.record["removed"]
    assert removed["dead letters"] == 1
    # What each had, what five had later, and what was appended while the erasure waited.
    assert removed["records of the lake"] >= 7 * IN_FLIGHT + 7 * 5 + 21
    assert "results of queries" in json.dumps(erased.record["still_held"])
    assert not has_any(json.dumps(erased.record).encode())
