"""One reading of a contact's references, and the records that the ledger and the lake keep of it."""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal

from contact_references.contact import Contact
from contact_references.reference import Reference
from contact_references.timestamps import format_time

SCHEMA_VERSION = 1

Record = dict[str, str | int | bool | Decimal]
"""A row by the contract's columns; a column that is absent is null."""

REFERENCE_COLUMNS = tuple(field.name for field in fields(Reference))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What Connect said of a contact at one moment.

    `captured_at` is when the reading began, to the millisecond: what changed before it is in. It names the
    capture; of two captures of a contact the one with the later name is true.
    """

    contact: Contact
    captured_at: datetime
    references: tuple[Reference, ...]
    event_id: str | None = None

    def says_the_same_as(self, other: "Capture") -> bool:
        """Whether the two differ in nothing but the moment and the signatures of presigned URLs."""
        return self.contact == other.contact and _unsigned(self) == _unsigned(other)

    def contact_record(self) -> Record:
        """Return the capture's CONTACT record."""
        return self._columns("CONTACT") | {"reference_count": len(self.references)}

    def reference_records(self) -> list[Record]:
        """Return a REFERENCE record for each reference."""
        columns = self._columns("REFERENCE")
        return [columns | _present(reference) for reference in self.references]

    def _columns(self, record_type: str) -> Record:
        contact = self.contact
        columns: dict[str, str | int | None] = {
            "schema_version": SCHEMA_VERSION,
            "record_type": record_type,
            "instance_id": contact.key.instance_id,
            "contact_id": contact.key.contact_id,
            "initial_contact_id": contact.initial_contact_id,
            "channel": contact.channel,
            "initiation_method": contact.initiation_method,
            "completed_at": None if contact.completed_at is None else format_time(contact.completed_at),
            "captured_at": format_time(self.captured_at),
        }
        return {name: value for name, value in columns.items() if value is not None}


def _present(reference: Reference) -> Record:
    values = ((name, getattr(reference, name)) for name in REFERENCE_COLUMNS)
    return {name: value for name, value in values if value is not None}


def _unsigned(capture: Capture) -> set[Reference]:
    return {reference.unsigned() for reference in capture.references}
