"""Contacts in a ledger in memory, put as a capture does."""

from datetime import UTC, datetime
from typing import Any

from contact_references.aws.ledger import Ledger
from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.reference import normalize_references
from local.in_memory.dynamodb import DynamoDB

INSTANCE_ID = "12345678-1234-1234-1234-123456789012"
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def put_contact(table: DynamoDB, contact_id: str, references: int) -> None:
    """Put a contact into the ledger, as a capture does."""
    members = [{"Email": {"Name": f"n{number}", "Value": "jane@example.com"}} for number in range(references)]
    contact = Contact(key=ContactKey(INSTANCE_ID, contact_id), initial_contact_id=contact_id, completed_at=_NOON)
    capture = Capture(
        contact=contact, capture_id=contact_id, captured_at=_NOON, references=normalize_references(members)
    )
    item = ContactItem(
        contact=contact,
        capture_id=contact_id,
        captured_at=_NOON,
        reference_count=references,
        event_id=contact_id,
        read_at=_NOON,
        checked_at=_NOON,
        version=1,
    )
    client: Any = table
    ledger = Ledger(client, "ledger")
    if ledger.put_rows({contact_id: ledger.make_rows(capture)}) or not ledger.commit(item, over=None):
        raise RuntimeError("the contact could not be put")
