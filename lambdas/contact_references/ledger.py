"""The ledger: one DynamoDB item for each captured contact and one for each of its references.

The CONTACT item says that the contact is captured, and by which capture: a row counts only when its
`captured_at` is that of a `complete` CONTACT item. Every write compares and swaps on that item, so that of
captures at the same time the newest reading stays and nothing of the others does.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from contact_references.aws_errors import translated_errors
from contact_references.capture import REFERENCE_COLUMNS, Capture, Record
from contact_references.contact import Contact, ContactKey
from contact_references.errors import CaptureError, PermanentError, RetriableError
from contact_references.items import deserialize, get_items, serialize
from contact_references.reference import Reference
from contact_references.settling import SETTLED, Settling
from contact_references.timestamps import format_time, parse_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef, UniversalAttributeValueTypeDef

    Attributes = dict[str, UniversalAttributeValueTypeDef]

_CONTACT = "CONTACT"
_UNSETTLED, _GIVEN_UP = "unsettled", "given_up"
_CHANGES_A_TRANSACTION = 99  # of 100 items: one is the CONTACT item, put or checked
_BYTES_A_TRANSACTION = 3_500_000  # of 4 MB: the estimate leaves room for what the service adds
_ATTEMPTS = 5


class ContendedError(RetriableError):
    """The CONTACT item is not the one that was looked at: another capture was faster. Look again."""


_REACTIONS: Mapping[str, type[CaptureError]] = {
    "ConditionalCheckFailedException": ContendedError,
    "TransactionConflictException": ContendedError,
    "ValidationException": PermanentError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A CONTACT item. `checked_at` is when Connect was last read, at or after `captured_at`."""

    contact: Contact
    captured_at: datetime
    checked_at: datetime
    reference_count: int
    is_complete: bool
    event_id: str | None
    settling: Settling


@dataclass(frozen=True, slots=True)
class Holding:
    """What the ledger holds of a contact: its entry, the references that count, and every row's sort key."""

    entry: Entry
    references: tuple[Reference, ...]
    sort_keys: frozenset[str]

    @property
    def is_whole(self) -> bool:
        """Whether the rows are all there: reads of many items may fall between two writes."""
        return self.entry.is_complete and len(self.references) == self.entry.reference_count

    @property
    def capture(self) -> Capture:
        """The capture that the ledger holds; it is one only if the holding is whole."""
        entry = self.entry
        return Capture(
            contact=entry.contact,
            captured_at=entry.captured_at,
            references=self.references,
            event_id=entry.event_id,
        )


class Ledger:
    """Reads and commits captures; `retention` counts from completion, None keeps rows for ever.

    Its methods raise RetriableError, ContendedError among them, PermanentError or ConfigurationError.
    """

    def __init__(self, client: "DynamoDBClient", table_name: str, *, retention: timedelta | None = None) -> None:
        self._client = client
        self._table_name = table_name
        self._retention = retention

    def find_entries(self, keys: Collection[ContactKey]) -> dict[ContactKey, Entry]:
        """Return the entries that exist of these contacts, as they are now."""
        wanted = [_item_key(key) for key in keys]
        entries = map(_read_entry, get_items(self._client, self._table_name, wanted))
        return {entry.contact.key: entry for entry in entries}

    def find_capture(self, key: ContactKey) -> Capture | None:
        """Return the contact's capture, whole, or None while there is none that is complete.

        A capture is committed in between the reads of its rows now and then: it is read again, and
        RetriableError raised if that goes on.
        """
        for _ in range(_ATTEMPTS):
            entry = self.find_entries([key]).get(key)
            if entry is None or not entry.is_complete:
                return None
            holding = self.find_holding(entry)
            if holding.is_whole:
                return holding.capture
        raise RetriableError("Contended", "the contact's rows change while they are read")

    def find_holding(self, entry: Entry) -> Holding:
        """Return the contact's rows, and which of them count by this entry."""
        rows = list(self._query_rows(entry.contact.key))
        captured_at = format_time(entry.captured_at)
        references = [_read_reference(row) for row in rows if row["captured_at"] == captured_at]
        return Holding(entry, tuple(references), frozenset(row["sk"] for row in rows))

    def find_due(self, now: datetime, *, since: datetime, most: int) -> list[tuple[ContactKey, datetime]]:
        """Return contacts that were to be looked at again between `since` and `now`, and when: longest due first.

        The index is a moment behind the table: some may have been looked at meanwhile.
        """
        with translated_errors("Query", _REACTIONS):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
                IndexName="by_due",
                KeyConditionExpression="settle_state = :state AND look_again_at BETWEEN :since AND :now",
                ExpressionAttributeValues=serialize(
                    {":state": _UNSETTLED, ":since": format_time(since), ":now": format_time(now)}
                ),
                PaginationConfig={"MaxItems": most},
            )
            items = [deserialize(item) for page in pages for item in page["Items"]]
        return [(ContactKey(*item["pk"].split("#", 1)), parse_iso(item["look_again_at"])) for item in items]

    def confirm(self, entry: Entry, checked_at: datetime, *, settling: Settling) -> None:
        """Note that Connect was read again and says the same, and when to look again."""
        now = {"checked_at": format_time(checked_at), **_settling_columns(settling)}
        gone = [name for name in _settling_columns(entry.settling) if name not in now]
        update = "SET " + ", ".join(f"{name} = :{name}" for name in now)
        condition = _unless_changed(entry)
        condition["ExpressionAttributeValues"] |= serialize({f":{name}": value for name, value in now.items()})
        with translated_errors("UpdateItem", _REACTIONS):
            self._client.update_item(
                TableName=self._table_name,
                Key=_item_key(entry.contact.key),
                UpdateExpression=update + (f" REMOVE {', '.join(gone)}" if gone else ""),
                **condition,
            )

    def commit(self, capture: Capture, *, over: Holding | None, settling: Settling = SETTLED) -> None:
        """Put the capture in the place of what the ledger holds; rows that it does not have are deleted.

        Raises ContendedError if the ledger no longer holds what `over` says, and then nothing is written. A
        capture too large for one transaction is `writing` until its last row is there. If that is cut short,
        no reader sees any of it, and the contact's next capture takes its place.
        """
        entry = over.entry if over else None
        rows = self._rows(capture)
        contact = self._contact_item(capture, "complete", settling)
        gone = (over.sort_keys if over else frozenset()) - {str(row["sk"]) for row in rows}
        parts = list(_parts(rows, gone))
        if len(parts) > 1 or (entry is not None and not entry.is_complete):
            self._commit_in_parts(capture, rows, entry, settling)
        elif rows or gone:
            put_contact = {"TableName": self._table_name, "Item": serialize(contact), **_unless_changed(entry)}
            self._transact([{"Put": cast("Any", put_contact)}, *self._changes(capture.contact.key, rows, gone)])
        else:
            self._put(contact, over=entry)

    def _commit_in_parts(
        self, capture: Capture, rows: Sequence[Record], entry: Entry | None, settling: Settling
    ) -> None:
        key = capture.contact.key
        writing = self._contact_item(capture, "writing", settling)
        self._put(writing, over=entry)
        # From here on no other writer gets a row in, so these are all that will ever have to go.
        gone = {row["sk"] for row in self._query_rows(key)} - {row["sk"] for row in rows}
        mine = _read_entry(writing)
        check = {"TableName": self._table_name, "Key": _item_key(key), **_unless_changed(mine)}
        for part_rows, part_gone in _parts(rows, gone):
            self._transact([{"ConditionCheck": cast("Any", check)}, *self._changes(key, part_rows, part_gone)])
        self._put(self._contact_item(capture, "complete", settling), over=mine)

    def _contact_item(self, capture: Capture, capture_state: str, settling: Settling) -> Record:
        item = self._keyed(capture, capture.contact_record(), _CONTACT)
        item |= {
            "capture_state": capture_state,
            "completion_seen": capture.contact.completion_seen,
            "checked_at": format_time(capture.captured_at),
            **_settling_columns(settling),
        }
        return item | ({"event_id": capture.event_id} if capture.event_id else {})

    def _rows(self, capture: Capture) -> list[Record]:
        rows = []
        for record in capture.reference_records():
            sort_key = f"REFERENCE#{record['reference_type']}#{record['reference_id']}"
            row = self._keyed(capture, record, sort_key)
            if canonical := record.get("canonical_value"):
                row["value_key"] = value_key(str(record["reference_type"]), str(canonical))
            rows.append(row)
        return rows

    def _keyed(self, capture: Capture, record: Record, sort_key: str) -> Record:
        item: Record = {"pk": _partition_key(capture.contact.key), "sk": sort_key, **record}
        if self._retention is not None:
            # A contact whose completion is not known yet must not stay for ever: it was over when it was read.
            completed_at = capture.contact.completed_at or capture.captured_at
            item["expires_at"] = int((completed_at + self._retention).timestamp())
        return item

    def _put(self, contact: Record, *, over: Entry | None) -> None:
        with translated_errors("PutItem", _REACTIONS):
            self._client.put_item(TableName=self._table_name, Item=serialize(contact), **_unless_changed(over))

    def _changes(
        self, key: ContactKey, rows: Iterable[Record], gone: Iterable[str]
    ) -> "list[TransactWriteItemTypeDef]":
        table = {"TableName": self._table_name}
        puts = [{"Put": {**table, "Item": serialize(row)}} for row in rows]
        deletes = [{"Delete": {**table, "Key": _item_key(key, sort_key)}} for sort_key in gone]
        return cast("list[TransactWriteItemTypeDef]", puts + deletes)

    def _transact(self, changes: "Sequence[TransactWriteItemTypeDef]") -> None:
        with translated_errors("TransactWriteItems", _REACTIONS):
            try:
                self._client.transact_write_items(TransactItems=changes)
            except self._client.exceptions.TransactionCanceledException as error:
                reasons = error.response.get("CancellationReasons", [])
                raise _cancellation({reason.get("Code", "None") for reason in reasons}) from None

    def _query_rows(self, key: ContactKey) -> "Iterator[dict[str, Any]]":
        with translated_errors("Query", _REACTIONS):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :rows)",
                ExpressionAttributeValues=serialize({":pk": _partition_key(key), ":rows": "REFERENCE#"}),
                ConsistentRead=True,
            )
            for page in pages:
                yield from map(deserialize, page["Items"])


def value_key(reference_type: str, canonical_value: str) -> str:
    """Return the key by which the index `by_value` finds a value, however long it is."""
    return f"{reference_type}#{hashlib.sha256(canonical_value.encode()).hexdigest()}"


def _partition_key(key: ContactKey) -> str:
    return f"{key.instance_id}#{key.contact_id}"


def _item_key(key: ContactKey, sort_key: str = _CONTACT) -> "Attributes":
    return serialize({"pk": _partition_key(key), "sk": sort_key})


def _unless_changed(entry: Entry | None) -> dict[str, Any]:
    """Return the condition that the CONTACT item still is this one, or still is not there."""
    if entry is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    values: Record = {
        ":captured": format_time(entry.captured_at),
        ":checked": format_time(entry.checked_at),
        ":state": "complete" if entry.is_complete else "writing",
    }
    return {
        "ConditionExpression": "captured_at = :captured AND checked_at = :checked AND capture_state = :state",
        "ExpressionAttributeValues": serialize(values),
    }


def _settling_columns(settling: Settling) -> dict[str, str]:
    """Return what the index `by_due` finds a contact by, while it is to be looked at again."""
    if settling.look_again_at is not None:
        return {"settle_state": _UNSETTLED, "look_again_at": format_time(settling.look_again_at)}
    return {"settle_state": _GIVEN_UP} if settling.is_given_up else {}


def _cancellation(codes: set[str]) -> CaptureError:
    if codes & {"ConditionalCheckFailed", "TransactionConflict"}:
        return ContendedError("Contended", "another capture of the contact was faster")
    reason = f"the transaction was canceled: {', '.join(sorted(codes - {'None'}))}"
    if codes & {"ValidationError", "ItemCollectionSizeLimitExceeded"}:
        return PermanentError("TransactionCanceledException", reason)
    return RetriableError("TransactionCanceledException", reason)


def _parts(rows: Iterable[Record], gone: Iterable[str]) -> Iterator[tuple[list[Record], list[str]]]:
    """Split changes into what one transaction takes each, besides one item more."""
    part_rows: list[Record] = []
    part_gone: list[str] = []
    size = 0
    changes = [*((row, None) for row in rows), *((None, sort_key) for sort_key in gone)]
    for row, sort_key in changes:
        added = _size(row) if row else len(sort_key or "")
        if len(part_rows) + len(part_gone) == _CHANGES_A_TRANSACTION or size + added > _BYTES_A_TRANSACTION:
            yield part_rows, part_gone
            part_rows, part_gone, size = [], [], 0
        if row:
            part_rows.append(row)
        elif sort_key:
            part_gone.append(sort_key)
        size += added
    if part_rows or part_gone:
        yield part_rows, part_gone


def _size(record: Record) -> int:
    """Return an upper bound of an item's size in bytes."""
    return sum(len(name) + (len(value.encode()) if isinstance(value, str) else 40) for name, value in record.items())


def _read_entry(item: Mapping[str, Any]) -> Entry:
    completed_at = item.get("completed_at")
    return Entry(
        contact=Contact(
            key=ContactKey(item["instance_id"], item["contact_id"]),
            initial_contact_id=item["initial_contact_id"],
            channel=item.get("channel"),
            initiation_method=item.get("initiation_method"),
            completed_at=None if completed_at is None else parse_iso(completed_at),
            completion_seen=item["completion_seen"],
        ),
        captured_at=parse_iso(item["captured_at"]),
        checked_at=parse_iso(item["checked_at"]),
        reference_count=int(item["reference_count"]),
        is_complete=item["capture_state"] == "complete",
        event_id=item.get("event_id"),
        settling=Settling(
            parse_iso(item["look_again_at"]) if "look_again_at" in item else None,
            is_given_up=item.get("settle_state") == _GIVEN_UP,
        ),
    )


def _read_reference(row: Mapping[str, Any]) -> Reference:
    return Reference(**{name: row[name] for name in REFERENCE_COLUMNS if name in row})
