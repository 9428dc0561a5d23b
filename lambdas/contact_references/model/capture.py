"""What was captured of a contact: the capture itself, its records, and the contact item that makes it count."""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal

from contact_references.model.contact import Contact, ContactKey
from contact_references.model.reference import Reference
from contact_references.model.timestamps import format_time

SCHEMA_VERSION = 2

Record = dict[str, str | int | bool | Decimal]
"""A row by the contract's columns; a column that is absent is null."""

REFERENCE_COLUMNS = tuple(field.name for field in fields(Reference))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What Connect said of a contact at one moment.

    `capture_id` names it; no two attempts share one. `captured_at` is when Connect was read, to the millisecond, and
    later than the contact's previous capture's: the later capture is the true one. `is_first` says that there was none.
    """

    contact: Contact
    capture_id: str
    captured_at: datetime
    references: tuple[Reference, ...]
    is_first: bool = False

    def contact_record(self) -> Record:
        """Return the capture's CONTACT record."""
        return _columns("CONTACT", self) | {"reference_count": len(self.references)}

    def reference_records(self) -> list[Record]:
        """Return a REFERENCE record for each reference."""
        columns = _columns("REFERENCE", self)
        return [columns | _present(reference) for reference in self.references]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactItem:
    """What the ledger's CONTACT item says of a contact: which capture counts, and how far it can be relied on.

    `event_id` is that of the report that the capture came from. `read_at` and `checked_at` are the starts of the last
    reading of all its types and of any reading. Every write raises `version`. `is_first` says that the contact had no
    capture before this one, `may_change` that what services
    produce was awaited once, `is_unknown` that Connect did not know the contact, a leg, which therefore counts as
    empty, `is_found_by_search` that only a search reported its completion. All its types are to be read again at
    `full_recheck_at`, and something is to be read again at `due_at`, which was asked for since `recheck_asked_since` in
    vain. `expires_at` is in seconds since 1970. What is None is not due, or never.
    """

    contact: Contact
    capture_id: str
    captured_at: datetime
    reference_count: int
    event_id: str
    read_at: datetime
    checked_at: datetime
    version: int
    is_first: bool = False
    may_change: bool = False
    is_unknown: bool = False
    is_found_by_search: bool = False
    full_recheck_at: datetime | None = None
    due_at: datetime | None = None
    recheck_asked_since: datetime | None = None
    expires_at: int | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether the item is gone for readers, though the table may still have it."""
        return self.expires_at is not None and self.expires_at <= now.timestamp()

    def contact_record(self) -> Record:
        """Return the CONTACT record of the capture that counts."""
        return _columns("CONTACT", self) | {"reference_count": self.reference_count}

    def capture_of(self, references: tuple[Reference, ...]) -> Capture:
        """Return the capture that counts, given its references."""
        return Capture(
            contact=self.contact,
            capture_id=self.capture_id,
            captured_at=self.captured_at,
            references=references,
            is_first=self.is_first,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What the ledger's CONTACT item says of a contact that was erased: it counts as captured, and is never again.

    `completed_date`, `YYYY-MM-DD`, is the day that lake and tables had it at; None if they never had it.
    """

    key: ContactKey
    erased_at: datetime
    version: int
    completed_date: str | None = None

    def record(self) -> Record:
        """Return the CONTACT record that takes the place of all others."""
        columns: Record = {
            "schema_version": SCHEMA_VERSION,
            "record_type": "CONTACT",
            "instance_id": self.key.instance_id,
            "contact_id": self.key.contact_id,
            "erased_at": format_time(self.erased_at),
            "version": self.version,
        }
        return columns | ({"completed_date": self.completed_date} if self.completed_date else {})


def _columns(record_type: str, capture: Capture | ContactItem) -> Record:
    contact = capture.contact
    columns: dict[str, str | int | None] = {
        "schema_version": SCHEMA_VERSION,
        "record_type": record_type,
        "instance_id": contact.key.instance_id,
        "contact_id": contact.key.contact_id,
        "initial_contact_id": contact.initial_contact_id,
        "channel": contact.channel,
        "initiation_method": contact.initiation_method,
        "completed_at": None if contact.completed_at is None else format_time(contact.completed_at),
        "capture_id": capture.capture_id,
        "captured_at": format_time(capture.captured_at),
    }
    return {name: value for name, value in columns.items() if value is not None}


def _present(reference: Reference) -> Record:
    values = ((name, getattr(reference, name)) for name in REFERENCE_COLUMNS)
    return {name: value for name, value in values if value is not None}
