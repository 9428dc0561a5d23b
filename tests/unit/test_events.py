import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from connect_simulator import ConnectSimulator

ROOT = Path(__file__).parents[2]
EVENTS = sorted((ROOT / "events").glob("*.json"))
README = (ROOT / "events" / "README.md").read_text(encoding="utf-8")
ACCOUNT = "111122223333"
INSTANCE_ARN = f"arn:aws:connect:us-east-1:{ACCOUNT}:instance/12345678-1234-1234-1234-123456789012"


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def contacts() -> dict[str, dict[str, Any]]:
    return {contact["Id"]: contact for contact in load(ROOT / "local" / "contacts.json")["contacts"]}


def detail_of(name: str) -> dict[str, Any]:
    """An event's detail with its keys in one casing."""
    detail = load(ROOT / "events" / name)["detail"]
    return {key[0].lower() + key[1:]: value for key, value in detail.items()}


def test_every_event_has_a_row_in_the_readme_and_every_row_its_event() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \|$", README, re.MULTILINE)

    assert sorted(name for name, _, _ in rows) == [path.name for path in EVENTS]
    for name, _, origin in rows:
        assert (origin == "synthetic") == (not name.startswith("public-")), name


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.name)
def test_an_event_is_one_that_can_be_sent_as_it_is(path: Path) -> None:
    event = load(path)

    if path.name == "sqs-batch.json":
        assert list(event) == ["Records"]
    else:
        assert {"source", "detail-type", "time", "id", "detail"} <= set(event)


def test_event_and_contact_ids_of_synthetic_events_are_distinct() -> None:
    synthetic = [load(path) for path in EVENTS if not path.name.startswith(("public-", "sqs-"))]
    event_ids = [event["id"] for event in synthetic]
    contact_ids = [value for event in synthetic for key, value in event["detail"].items() if key.lower() == "contactid"]

    assert len(set(event_ids)) == len(event_ids)
    assert len(set(contact_ids)) == len(contact_ids) == len(synthetic) - 1  # one has none


def test_every_completed_contact_of_the_own_account_is_seeded() -> None:
    seeded = contacts()
    for path in EVENTS:
        if not path.name.startswith("completed-") or path.name == "completed-foreign-account.json":
            continue
        event, detail = load(path), detail_of(path.name)
        contact = seeded[detail["contactId"]]
        arn = next(value for key, value in detail.items() if key.lower() == "instancearn")
        assert arn.replace("aws::", "aws:") == INSTANCE_ARN, path.name
        assert (event["account"], event["region"]) == (ACCOUNT, "us-east-1")
        assert contact["Channel"] == detail["channel"].upper()
        assert contact["InitiationMethod"] == detail["initiationMethod"].upper()
        assert contact.get("InitialContactId", contact["Id"]) == detail.get("initialContactId", contact["Id"])
    assert load(ROOT / "events" / "capture-request.json")["detail"]["contactId"] in seeded


def test_each_situation_is_what_it_says() -> None:
    assert set(load(ROOT / "events" / "completed-minimal.json")["detail"]) == {
        "contactId",
        "channel",
        "instanceArn",
        "initiationMethod",
        "eventType",
    }
    leg = detail_of("completed-transferred-leg.json")
    assert leg["contactId"] != leg["initialContactId"]
    assert leg["initialContactId"] in contacts()
    assert detail_of("completed-malformed-arn.json")["instanceArn"].startswith("arn:aws::connect:")
    assert detail_of("completed-sentinel-timestamps.json")["disconnectTimestamp"] == "1970-01-01T00:00:00.001Z"
    pascal = load(ROOT / "events" / "completed-pascal-case.json")["detail"]
    assert {"ContactId", "InstanceARN"} <= set(pascal)
    assert pascal["Channel"] == "Voice"
    assert load(ROOT / "events" / "completed-foreign-account.json")["account"] != ACCOUNT
    assert "contactId" not in detail_of("missing-contact-id.json")


def test_the_batch_is_of_sqs_form_and_holds_the_other_files() -> None:
    records = load(ROOT / "events" / "sqs-batch.json")["Records"]
    others = [load(path) for path in EVENTS if path.name != "sqs-batch.json"]

    assert len(records) == 10
    assert len({record["messageId"] for record in records}) == 10
    for record in records:
        assert json.loads(record["body"]) in others
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode(), usedforsecurity=False).hexdigest()
        assert int(record["attributes"]["ApproximateReceiveCount"]) >= 1
        assert {"receiptHandle", "messageAttributes", "eventSource", "eventSourceARN", "awsRegion"} <= set(record)


def test_the_seeded_contacts_have_every_kind_of_reference() -> None:
    seeds = list(contacts().values())
    members = {member for contact in seeds for reference in contact["References"] for member in reference}
    texts = [json.dumps(reference) for contact in seeds for reference in contact["References"]]

    assert members == {
        "Url",
        "Number",
        "String",
        "Date",
        "Email",
        "Attachment",
        "ContactAnalysis",
        "EmailMessage",
        "EmailMessagePlainText",
        "EmailMessageRedacted",
        "EmailMessagePlainTextRedacted",
        "Signature",
    }
    assert any(contact["References"] == [] for contact in seeds)
    assert any('"PROCESSING"' in text for text in texts)
    assert any('"n/a"' in text for text in texts)
    assert any('"not a url"' in text for text in texts)
    assert any("X-Amz-Credential=AKIAIOSFODNN7EXAMPLE" in text for text in texts)
    task = [
        reference["Url"]["Name"]
        for reference in contacts()[detail_of("completed-task.json")["contactId"]]["References"]
        if "Url" in reference
    ]
    assert len(task) > len(set(task))
    assert "synthetic" in load(ROOT / "local" / "contacts.json")["about"].lower()


def test_the_seeded_contacts_can_be_imported() -> None:
    seeds = list(contacts().values())
    with ConnectSimulator() as simulator:
        simulator.import_contacts(seeds)
        assert [contact["Id"] for contact in simulator.contacts()] == [contact["Id"] for contact in seeds]


def test_no_personal_data_but_fictitious() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in [*EVENTS, ROOT / "local" / "contacts.json"])

    assert set(re.findall(r"[\w.]+@([\w.]+)", text)) == {"example.com"}
    for number in re.findall(r"\+1[\d -]{10,}", text):
        digits = re.sub(r"\D", "", number)
        assert digits == "11234567890" or re.fullmatch(r"1\d{3}55501\d\d", digits), number
