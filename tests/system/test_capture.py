"""What only the deployed system shows: from a contact event on the bus to rows in both stores."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from local.delivery import read_event
from local.emulator import INSTANCE_ARN, ROOT
from local.system import Json, System, current_records
from tests.system.conftest import INSTANCE_ID, Contacts

_URL = {"Url": {"Name": "account", "Value": "HTTPS://CRM.example.com/1?b=2&a=1"}}
_NUMBER = {"Number": {"Name": "amount", "Value": "129.90"}}
_STRING = {"String": {"Name": "case", "Value": "CASE-1"}}


def completion(contact_id: str, **detail: str) -> Json:
    """A COMPLETED event of now, as EventBridge delivers it."""
    return {
        "version": "0",
        "id": str(uuid4()),
        "source": "aws.connect",
        "detail-type": "Amazon Connect Contact Event",
        "account": "111122223333",
        "region": "us-east-1",
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "detail": {
            "eventType": "COMPLETED",
            "contactId": contact_id,
            "channel": "VOICE",
            "instanceArn": INSTANCE_ARN,
            "initiationMethod": "INBOUND",
            **detail,
        },
    }


def enqueue(system: System, event: Json) -> None:
    """Deliver an event to the queue with its own id and time, as EventBridge does, and wait until it is done with."""
    system.clients.sqs.send_message(QueueUrl=system.outputs["QueueUrl"], MessageBody=json.dumps(event))
    assert system.wait_until_drained(60)


def invoke(system: System, payload: Json) -> Json:
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["CaptureFunctionName"], Payload=json.dumps(payload).encode()
    )
    result: Json = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, result
    return result


def test_a_completed_contact_becomes_rows_in_the_ledger_and_the_lake(system: System, contacts: Contacts) -> None:
    contact_id = contacts.create(_URL, _NUMBER, _STRING)
    contacts.complete(contact_id)

    entry, rows = contacts.rows(contact_id)
    assert entry is not None
    assert entry["pk"] == f"{INSTANCE_ID}#{contact_id}"
    assert (entry["reference_count"], entry["channel"], entry["completion_seen"]) == (3, "VOICE", True)
    assert entry["completed_at"] == "2026-03-02T09:30:00.000Z"
    assert {row["reference_type"]: row["reference_value"] for row in rows} == {
        "URL": "HTTPS://CRM.example.com/1?b=2&a=1",
        "NUMBER": "129.90",
        "STRING": "CASE-1",
    }
    for row in rows:
        assert row["sk"] == f"REFERENCE#{entry['capture_id']}#{row['reference_type']}#{row['reference_id']}"
    [number] = [row for row in rows if row["reference_type"] == "NUMBER"]
    assert number["number_value"] == Decimal("129.90")

    objects = {
        key: found
        for key, records in system.lake().items()
        if (found := [record for record in records if record["contact_id"] == contact_id])
    }
    [(key, records)] = objects.items()
    assert key.startswith("captures/completed_date=2026-03-02/")
    assert records[0] == _as_in_lake(entry)
    by_id = {record["reference_id"]: record for record in records[1:]}
    assert by_id == {row["reference_id"]: _as_in_lake(row) for row in rows}


def _as_in_lake(item: Json) -> Json:
    """The record of a ledger's item: without what only the ledger has, and with JSON's types."""
    keys = {"pk", "sk", "value_key", "value_at", "due_key", "due_at"}
    only_in_ledger = keys | {"event_id", "is_first", "completion_seen", "read_at", "checked_at", "version"}
    record = {name: value for name, value in item.items() if name not in only_in_ledger}
    return {
        name: value if not isinstance(value, Decimal) else str(value) if name == "number_value" else int(value)
        for name, value in record.items()
    }


def test_a_contact_without_references_is_still_recorded(contacts: Contacts) -> None:
    contact_id = contacts.create()
    contacts.complete(contact_id)
    entry, rows = contacts.rows(contact_id)
    assert entry is not None
    assert (entry["reference_count"], rows) == (0, [])


def test_an_event_delivered_again_costs_no_api_call_and_changes_nothing(system: System, contacts: Contacts) -> None:
    event = completion(contacts.create(_URL, _STRING))
    enqueue(system, event)
    stored, calls = (system.ledger(), sorted_records(system)), system.connect_calls()
    assert contacts.rows(event["detail"]["contactId"])[0] is not None

    enqueue(system, event)
    enqueue(system, event)
    assert (system.ledger(), sorted_records(system)) == stored
    assert system.connect_calls() == calls


def sorted_records(system: System) -> list[Json]:
    """What the lake says: an event delivered again may append its capture again, which changes none of it."""
    return sorted(current_records(system.lake()), key=lambda record: json.dumps(record, sort_keys=True))


@pytest.mark.parametrize(
    ("file", "error"),
    [("missing-contact-id.json", "InvalidEvent"), ("completed-foreign-account.json", "ForeignContact")],
)
def test_an_event_that_no_delivery_can_capture_is_dead_lettered_at_once_with_its_reason(
    system: System, file: str, error: str
) -> None:
    event = read_event(ROOT / "events" / file)
    event_id = system.send(event)
    assert system.wait_until_drained(60)

    [letter] = [letter for letter in system.dead_letters() if letter.event_id == event_id]
    assert json.loads(letter.body)["detail"] == event["detail"]
    assert letter.attributes["error"] == error
    assert letter.attributes["reason"]
    assert letter.attributes["origin"] == system.outputs["QueueArn"]


def test_a_body_that_is_no_json_is_dead_lettered_as_it_is(system: System) -> None:
    body = f"not JSON {uuid4()}"
    system.clients.sqs.send_message(QueueUrl=system.outputs["QueueUrl"], MessageBody=body)
    assert system.wait_until_drained(60)
    [letter] = [letter for letter in system.dead_letters() if letter.body == body]
    assert letter.attributes["reason"]


def test_events_that_mean_no_completion_are_not_asked_for_and_skipped_if_they_come(
    system: System, contacts: Contacts
) -> None:
    contact_id, later = contacts.create(_URL), contacts.create(_URL)
    calls, letters = system.connect_calls(), len(system.dead_letters())
    event = completion(contact_id, eventType="CONNECTED_TO_AGENT")
    system.send(event)
    enqueue(system, event)
    enqueue(system, read_event(ROOT / "events" / "unknown-event-type.json"))
    assert (system.connect_calls(), len(system.dead_letters())) == (calls, letters)

    contacts.complete(later)  # the same way works for a completion
    assert contacts.rows(contact_id) == (None, [])
    assert contacts.rows(later)[0] is not None


def test_a_transferred_contact_is_captured_leg_by_leg_under_its_own_ids(contacts: Contacts) -> None:
    first = contacts.create(_URL)
    leg = contacts.create(_STRING, InitialContactId=first, PreviousContactId=first, InitiationMethod="TRANSFER")
    contacts.complete(leg)

    leg_entry, leg_rows = contacts.rows(leg)
    first_entry, first_rows = contacts.rows(first)
    assert leg_entry is not None
    assert first_entry is not None
    assert (leg_entry["initial_contact_id"], leg_entry["initiation_method"]) == (first, "TRANSFER")
    assert [row["reference_name"] for row in leg_rows] == ["case"]
    assert [row["reference_name"] for row in first_rows] == ["account"]
    assert first_entry["completion_seen"] is False
    assert "initiation_method" not in first_entry

    contacts.complete(first)
    assert (contacts.rows(first)[0] or {})["completion_seen"] is True


def test_a_reference_of_a_type_newer_than_the_sdk_is_kept_whole(contacts: Contacts) -> None:
    content = {"Signature": {"Name": "consent", "Value": "signed", "Strength": 3}}
    contact_id = contacts.create(content, _URL)
    contacts.complete(contact_id)
    rows = {row["reference_type"]: row for row in contacts.rows(contact_id)[1]}
    assert rows.keys() == {"UNKNOWN", "URL"}
    assert json.loads(rows["UNKNOWN"]["raw"]) == content


def test_changed_references_replace_the_rows_exactly(system: System, contacts: Contacts) -> None:
    contact_id = contacts.create(_URL, _NUMBER, channel="TASK")
    contacts.complete(contact_id)
    before = {row["reference_name"]: row for row in contacts.rows(contact_id)[1]}

    changes: dict[str, Any] = {
        "amount": {"Type": "STRING", "Value": "unknown"},
        "due": {"Type": "DATE", "Value": "1772443800"},
    }
    system.clients.connect.update_contact(InstanceId=INSTANCE_ID, ContactId=contact_id, References=changes)
    contacts.complete(contact_id)

    entry, rows = contacts.rows(contact_id)
    assert entry is not None
    assert sorted((row["reference_name"], row["reference_type"]) for row in rows) == [
        ("account", "URL"),
        ("amount", "STRING"),
        ("due", "DATE"),
    ]
    assert entry["reference_count"] == 3
    stored = [item for item in system.items() if item["pk"] == entry["pk"]]
    assert {item["capture_id"] for item in stored} == {entry["capture_id"]}  # the replaced capture's are deleted
    assert entry["captured_at"] > before["account"]["captured_at"]
    assert {row["reference_name"]: row["reference_id"] for row in rows}["account"] == before["account"]["reference_id"]


def test_a_contact_with_something_in_processing_is_due_for_a_recheck_that_reads_only_what_can_still_change(
    system: System, contacts: Contacts
) -> None:
    ended_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    attachment = {"Name": "scan.pdf", "Value": "s3://example/scan.pdf"}
    processing, approved = ({"Attachment": attachment | {"Status": status}} for status in ("PROCESSING", "APPROVED"))
    contact_id = contacts.create(_URL, processing, DisconnectTimestamp=ended_at)
    contacts.complete(contact_id)

    entry, _ = contacts.rows(contact_id)
    assert entry is not None
    due = {"pk": entry["pk"], "sk": "CONTACT", "due_key": f"RECHECK#{INSTANCE_ID}", "due_at": entry["due_at"]}
    assert due in find_due(system, due["due_key"])

    contacts.create(_URL, approved, Id=contact_id, DisconnectTimestamp=ended_at)
    calls = system.connect_calls()
    system.send(recheck_request(contact_id))
    assert system.wait_until_drained(60)
    assert system.connect_calls() - calls == 1
    rechecked, rows = contacts.rows(contact_id)
    assert rechecked is not None
    assert {row["reference_type"]: row.get("status") for row in rows} == {"ATTACHMENT": "APPROVED", "URL": None}
    assert rechecked["read_at"] == entry["read_at"]
    assert rechecked["checked_at"] > entry["checked_at"]
    assert due in find_due(system, due["due_key"])  # nothing is in PROCESSING now; that something was is not forgotten


def find_due(system: System, due_key: str) -> list[Json]:
    """What the index says is due, the keys only."""
    answer = system.clients.dynamodb.query(
        TableName=system.outputs["TableName"],
        IndexName="by_due",
        KeyConditionExpression="due_key = :key",
        ExpressionAttributeValues={":key": {"S": due_key}},
    )
    return [{name: value["S"] for name, value in item.items()} for item in answer["Items"]]


def recheck_request(contact_id: str) -> Json:
    event = read_event(ROOT / "events" / "capture-request.json")
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    about = {"instanceArn": INSTANCE_ARN, "contactId": contact_id, "reason": "recheck"}
    return event | {"id": str(uuid4()), "time": now, "detail": about}


def test_a_type_that_connect_refuses_for_a_channel_is_left_out_and_fails_no_contact(
    system: System, contacts: Contacts
) -> None:
    # Of a channel and a type that no other test here has together: the function remembers what was refused.
    refused = {"channels": ["EMAIL"], "types": ["CONTACT_ANALYSIS"]}
    first, second = (contacts.create(_URL, _STRING, channel="EMAIL") for _ in range(2))
    other = contacts.create(_URL)
    letters = system.dead_letters()
    system.control_connect("faults", {"operation": "ListContactReferences", "kind": "invalid_parameter"} | refused)
    try:
        contacts.complete(first)
        contacts.complete(second, other)
    finally:
        [fault] = system.control_connect("faults", method="DELETE")["faults"]

    counts = [(contacts.rows(contact_id)[0] or {}).get("reference_count") for contact_id in (first, second, other)]
    assert counts == [2, 2, 1]
    assert fault["hits"] >= 1
    assert system.dead_letters() == letters


def test_a_busy_minute_is_captured_whole_at_the_api_s_pace(system: System, contacts: Contacts) -> None:
    contact_ids = [contacts.create(_URL, _STRING) for _ in range(25)]
    throttled = system.control_connect("statistics")["operations"]["ListContactReferences"]["throttled"]
    contacts.complete(*contact_ids)

    captured = {item["contact_id"] for item in system.ledger() if item["sk"] == "CONTACT"}
    assert set(contact_ids) <= captured
    now_throttled = system.control_connect("statistics")["operations"]["ListContactReferences"]["throttled"]
    assert now_throttled - throttled <= 5


def test_the_function_run_by_hand_returns_what_became_of_the_contact(system: System, contacts: Contacts) -> None:
    contact_id = contacts.create(_URL, _STRING)
    event = completion(contact_id)
    first, second = invoke(system, event), invoke(system, event)
    assert first.keys() == {"contact_id", "outcome", "reference_count", "reason"}
    assert (first["contact_id"], first["outcome"], first["reference_count"]) == (contact_id, "captured", 2)
    assert second["outcome"] == "skipped"
    assert second["reason"]


@pytest.mark.parametrize(
    ("file", "key"), [("completed-pascal-case.json", "ContactId"), ("capture-request.json", "contactId")]
)
def test_the_function_run_by_hand_captures_events_in_other_casing_and_requests(
    system: System, contacts: Contacts, file: str, key: str
) -> None:
    event = read_event(ROOT / "events" / file)
    # A contact of its own: other tests have the files' contacts captured, in whatever order they run.
    event["detail"] = {name: value for name, value in event["detail"].items() if name.lower() != "initialcontactid"}
    event["detail"][key] = contacts.create(_URL)
    assert invoke(system, event)["outcome"] == "captured"
