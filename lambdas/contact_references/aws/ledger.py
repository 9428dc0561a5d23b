"""The ledger: one DynamoDB item for each captured contact, and one row for each reference of a capture.

Rows are put under their capture's id, where nobody looks. The CONTACT item says which capture counts: putting it, on
the condition that it is still the one that was looked at, is the commit.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from contact_references.aws.items import Attributes, deserialize, get_items, serialize, write_items
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.capture import REFERENCE_COLUMNS, Capture, ContactItem, Record, Tombstone
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.errors import CaptureError, PermanentError, RetriableError
from contact_references.model.reference import Reference
from contact_references.model.timestamps import format_time, parse_iso, to_millisecond

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_MAX_ITEM_BYTES = 400 * 1024
_CONTACT = "CONTACT"
_READS = 5

_REACTIONS: Mapping[str, type[CaptureError]] = {"ValidationException": PermanentError}


@dataclass(frozen=True, slots=True)
class Rows:
    """A contact's REFERENCE rows of all its captures: those that count, and every row's key."""

    references: dict[str, tuple[Reference, ...]]
    """By the id of their capture."""
    sort_keys: frozenset[str]

    def of(self, item: ContactItem | None) -> tuple[Reference, ...]:
        """Return the references that count by the item; fewer than its count if rows are missing."""
        return self.references.get(item.capture_id, ()) if item else ()


NO_ROWS = Rows({}, frozenset())

FoundItem = ContactItem | Tombstone | PermanentError
"""What the ledger has as a contact's item; the error if that cannot be read."""


@dataclass(frozen=True, slots=True)
class RowOfValue:
    """A row that the index `by_value` finds. It counts only while its contact's item has its `capture_id`."""

    key: ContactKey
    capture_id: str
    reference: Reference


class Ledger:
    """Reads and commits captures; `retention` counts from completion, None keeps rows for ever.

    Its methods raise RetriableError, PermanentError or ConfigurationError.
    """

    def __init__(
        self,
        client: "DynamoDBClient",
        table_name: str,
        *,
        retention: timedelta | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table_name = table_name
        self._retention = retention
        self._clock = clock
        self._sleep = sleep

    def find_items(self, keys: Collection[ContactKey]) -> dict[ContactKey, FoundItem]:
        """Return the CONTACT items that exist of these contacts, as they are now, expired ones included.

        Of one that was erased, its tombstone; of one that cannot be read as such, the error.
        """
        wanted = [_item_key(key, _CONTACT) for key in keys]
        items = get_items(self._client, self._table_name, wanted, sleep=self._sleep)
        return {_read_key(item): _read_item(item) for item in items}

    def find_rows(self, key: ContactKey) -> Rows:
        """Return the contact's rows, as they are now."""
        return _read_rows(list(self._query(key, "REFERENCE#")))

    def find_capture(self, key: ContactKey) -> Capture | None:
        """Return the capture that counts, whole, or None while there is none, or none any more, as of who was erased.

        One query reads the contact's item and its rows. A capture is committed while it reads now and then: it is made
        again. Raises RetriableError if that goes on, PermanentError if rows are missing: the contact's next reading
        puts them back.
        """
        seen: ContactItem | None = None
        for _ in range(_READS):
            found = list(self._query(key))
            item = next((_read_item(each) for each in found if each["sk"] == _CONTACT), None)
            if isinstance(item, PermanentError):
                raise item
            if item is None or isinstance(item, Tombstone) or item.is_expired(self._clock()):
                return None
            references = _read_rows(found).of(item)
            if len(references) == item.reference_count:
                return item.capture_of(references)
            if item == seen:
                raise PermanentError("DamagedContact", "rows of the contact's capture are missing from the ledger")
            seen = item
        raise RetriableError("Contended", "the contact's rows change while they are read")

    def find_rows_of_value(
        self, reference_type: str, canonical_value: str, *, limit: int, after: Attributes | None = None
    ) -> tuple[list[RowOfValue], Attributes | None]:
        """Return rows that have a value, the latest first, and what to go on after; None at the end.

        As the index has them: a moment behind, those that do not count included. One request, `limit` rows.
        """
        start: Any = {"ExclusiveStartKey": after} if after else {}
        with translated_errors("Query", _REACTIONS):
            page = self._client.query(
                TableName=self._table_name,
                IndexName="by_value",
                KeyConditionExpression="value_key = :value",
                ExpressionAttributeValues=serialize({":value": value_key(reference_type, canonical_value)}),
                ScanIndexForward=False,
                Limit=limit,
                **start,
            )
        rows = [
            RowOfValue(_read_key(row), row["capture_id"], reference)
            for row in map(deserialize, page["Items"])
            if (reference := _read_reference(row)) is not None
        ]
        return rows, page.get("LastEvaluatedKey")

    def make_rows(self, capture: Capture) -> list[Attributes]:
        """Return the capture's rows for `put_rows`; raises PermanentError if one is too large for DynamoDB."""
        value_at = format_time(capture.contact.completed_at or capture.captured_at)
        rows = []
        for record in capture.reference_records():
            row = {"pk": _partition_key(capture.contact.key), "sk": _row_sort_key(record), **record}
            row |= self._expiry(capture.contact, capture.captured_at)
            if canonical := record.get("canonical_value"):
                row |= {"value_key": value_key(str(record["reference_type"]), str(canonical)), "value_at": value_at}
            rows.append(_checked(row))
        return rows

    def put_rows(self, rows: Mapping[str, Sequence[Attributes]]) -> dict[str, CaptureError]:
        """Put rows by their captures' ids, where no reader looks yet; return the failures by the same ids.

        Rows of all captures share requests. What the service refuses of one capture, or does not get to, is that one's
        failure alone.
        """
        rows = {name: of_capture for name, of_capture in rows.items() if of_capture}
        puts = [{"PutRequest": {"Item": row}} for of_capture in rows.values() for row in of_capture]
        try:
            unprocessed = self._write(puts)
        except PermanentError as error:
            if len(rows) == 1:
                return dict.fromkeys(rows, error)
            failures = [self.put_rows({name: of_capture}) for name, of_capture in rows.items()]
            return {name: error for of_capture in failures for name, error in of_capture.items()}
        except CaptureError as error:
            return dict.fromkeys(rows, error)
        unfinished = {put["PutRequest"]["Item"]["capture_id"]["S"] for put in unprocessed}
        return {name: _unprocessed() for name in unfinished}

    def delete_rows(self, sort_keys: Mapping[ContactKey, Iterable[str]]) -> None:
        """Delete rows of contacts, by their sort keys."""
        keys = [_item_key(key, sort_key) for key, names in sort_keys.items() for sort_key in names]
        if self._write([{"DeleteRequest": {"Key": key}} for key in keys]):
            raise _unprocessed()

    def commit(self, item: ContactItem, *, over: ContactItem | None) -> bool:
        """Put the CONTACT item in the place of `over`, if the ledger still has that; return whether it has.

        The put may be refused although it took effect: its answer was lost, and the SDK made it a second time. Then
        what it met is its own capture. Raises RetriableError if the outcome is not known.
        """
        with translated_errors("PutItem", _REACTIONS):
            try:
                self._client.put_item(
                    TableName=self._table_name,
                    Item=_checked(self._contact_attributes(item)),
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **_unless_changed(over),
                )
            except self._client.exceptions.ConditionalCheckFailedException as refusal:
                met: Any = refusal.response.get("Item") or {}
                return bool(met.get("capture_id") == {"S": item.capture_id})
        return True

    def confirm(self, item: ContactItem, *, over: ContactItem) -> bool:
        """Note how far the capture can be relied on and what is due; return whether the item still was `over`."""
        noted = _noted_attributes(item)
        gone = [name for name in _noted_attributes(over) if name not in noted]
        update = "SET " + ", ".join(f"{name} = :{name}" for name in noted)
        condition = _unless_changed(over)
        condition["ExpressionAttributeValues"] |= serialize({f":{name}": value for name, value in noted.items()})
        with translated_errors("UpdateItem", _REACTIONS):
            try:
                self._client.update_item(
                    TableName=self._table_name,
                    Key=_item_key(item.contact.key, _CONTACT),
                    UpdateExpression=update + (f" REMOVE {', '.join(gone)}" if gone else ""),
                    **condition,
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def erase(
        self, key: ContactKey, *, seen: ContactItem | None = None, completed_date: str | None = None
    ) -> Tombstone:
        """Put a tombstone in the place of the contact's item, whatever that says; return it, or that of before.

        If the item still is the one that was `seen`, nothing is read. Where the item says no completion, or none that
        can be read, `completed_date` is what else is known of it. Rows are left: a capture that is about to be refused
        may be putting its own. Raises RetriableError if others keep writing the item.
        """
        item_keys = [_item_key(key, _CONTACT)]
        over: Mapping[str, Any] | None = self._contact_attributes(seen) if seen else None
        for _ in range(_READS):
            if over is None:
                over = next(get_items(self._client, self._table_name, item_keys, sleep=self._sleep), {})
            if "erased_at" in over:
                return _read_tombstone(over)
            tombstone = Tombstone(
                key=key,
                erased_at=to_millisecond(self._clock()),
                version=int(over.get("version", 0)) + 1,
                completed_date=_read_date(over) or completed_date,
            )
            if self._put_tombstone(tombstone, over):
                return tombstone
            over = None
        raise RetriableError("Contended", "others keep writing the contact's item")

    def _put_tombstone(self, tombstone: Tombstone, over: Mapping[str, Any]) -> bool:
        """Put it, if the ledger still has the item that was looked at, damaged perhaps; return whether it has."""
        seen = {name: over[name] for name in ("sk", "version", "capture_id") if name in over}
        condition: Any = {"ConditionExpression": "attribute_not_exists(pk)"}
        if seen:
            condition = {
                "ConditionExpression": " AND ".join(f"{name} = :{name}" for name in seen),
                "ExpressionAttributeValues": serialize({f":{name}": value for name, value in seen.items()}),
            }
        item = {"pk": _partition_key(tombstone.key), "sk": _CONTACT, **tombstone.record()}
        with translated_errors("PutItem", _REACTIONS):
            try:
                self._client.put_item(TableName=self._table_name, Item=serialize(item), **condition)
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def mark_day(self, date: str) -> None:
        """Note that the lake has something new of this date of completion, `YYYY-MM-DD`."""
        values = {":one": 1, ":due": "DAY", ":now": format_time(self._clock())}
        with translated_errors("UpdateItem", _REACTIONS):
            self._client.update_item(
                TableName=self._table_name,
                Key=serialize({"pk": "DAYS", "sk": date}),
                # The time of a day that is marked already stays: it says since when its tables are behind, and the
                # index needs no write.
                UpdateExpression="SET due_key = :due, due_at = if_not_exists(due_at, :now) ADD version :one",
                ExpressionAttributeValues=serialize(values),
            )

    def _query(self, key: ContactKey, prefix: str = "") -> "Iterator[dict[str, Any]]":
        values = {":pk": _partition_key(key)} | ({":rows": prefix} if prefix else {})
        with translated_errors("Query", _REACTIONS):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :rows)" if prefix else "pk = :pk",
                ExpressionAttributeValues=serialize(values),
                ConsistentRead=True,
            )
            for page in pages:
                yield from map(deserialize, page["Items"])

    def _write(self, requests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return write_items(self._client, self._table_name, requests, sleep=self._sleep)

    def _contact_attributes(self, item: ContactItem) -> Record:
        return {
            "pk": _partition_key(item.contact.key),
            "sk": _CONTACT,
            **item.contact_record(),
            "completion_seen": item.contact.completion_seen,
            "event_id": item.event_id,
            **({"is_first": True} if item.is_first else {}),
            **_noted_attributes(item),
            **self._expiry(item.contact, item.captured_at),
        }

    def _expiry(self, contact: Contact, captured_at: datetime) -> Record:
        if self._retention is None:
            return {}
        # A contact whose completion is not known yet must not stay for ever: it was over when it was read.
        return {"expires_at": int(((contact.completed_at or captured_at) + self._retention).timestamp())}


def value_key(reference_type: str, canonical_value: str) -> str:
    """Return the key by which the index `by_value` finds a value, however long it is."""
    return f"{reference_type}#{hashlib.sha256(canonical_value.encode()).hexdigest()}"


def _partition_key(key: ContactKey) -> str:
    return f"{key.instance_id}#{key.contact_id}"


def _item_key(key: ContactKey, sort_key: str) -> Attributes:
    return serialize({"pk": _partition_key(key), "sk": sort_key})


def _row_prefix(capture_id: str) -> str:
    return f"REFERENCE#{capture_id}#"


def _row_sort_key(record: Record) -> str:
    return f"{_row_prefix(str(record['capture_id']))}{record['reference_type']}#{record['reference_id']}"


def _unless_changed(over: ContactItem | None) -> dict[str, Any]:
    """Return the condition that the CONTACT item still is this one, or still is not there."""
    if over is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        # The capture too: an item that expired and came anew counts its versions from the beginning.
        "ConditionExpression": "version = :seen AND capture_id = :capture",
        "ExpressionAttributeValues": serialize({":seen": over.version, ":capture": over.capture_id}),
    }


def _noted_attributes(item: ContactItem) -> Record:
    """Return what may change of a CONTACT item while its capture stays."""
    noted: dict[str, str | int | bool | None] = {
        "read_at": format_time(item.read_at),
        "checked_at": format_time(item.checked_at),
        "version": item.version,
        "may_change": item.may_change or None,
        "is_unknown": item.is_unknown or None,
        "is_found_by_search": item.is_found_by_search or None,
        "full_recheck_at": format_time(item.full_recheck_at) if item.full_recheck_at else None,
        "recheck_asked_since": format_time(item.recheck_asked_since) if item.recheck_asked_since else None,
        "due_key": f"RECHECK#{item.contact.key.instance_id}" if item.due_at else None,
        "due_at": format_time(item.due_at) if item.due_at else None,
    }
    return {name: value for name, value in noted.items() if value is not None}


def _checked(record: Record) -> Attributes:
    """Return a record as DynamoDB takes it; raises PermanentError if it is too large for an item."""
    # Nearly all rows are so small that their bytes need not be counted: a character has four at most.
    if 4 * len(repr(record)) <= _MAX_ITEM_BYTES:
        return serialize(record)
    size = sum(len(name) + (len(value.encode()) if isinstance(value, str) else 21) for name, value in record.items())
    if size > _MAX_ITEM_BYTES:
        raise PermanentError("RowTooLarge", f"a {record['record_type']} row has {size} bytes, DynamoDB takes 409600")
    return serialize(record)


def _read_key(item: Mapping[str, Any]) -> ContactKey:
    return ContactKey(*item["pk"].split("#", 1))


def _read_tombstone(item: Mapping[str, Any]) -> Tombstone:
    return Tombstone(
        key=_read_key(item),
        erased_at=parse_iso(item["erased_at"]),
        version=int(item["version"]),
        completed_date=item.get("completed_date"),
    )


def _read_date(item: Mapping[str, Any]) -> str | None:
    """Return the date at which lake and tables have the contact, if the item says one that can be read."""
    try:
        return format_time(parse_iso(item["completed_at"]))[:10]
    except (KeyError, TypeError, ValueError):
        return None


def _read_item(item: Mapping[str, Any]) -> FoundItem:
    def moment(name: str) -> datetime | None:
        return parse_iso(item[name]) if name in item else None

    try:
        if "erased_at" in item:
            return _read_tombstone(item)
        return ContactItem(
            contact=Contact(
                key=_read_key(item),
                initial_contact_id=item["initial_contact_id"],
                channel=item.get("channel"),
                initiation_method=item.get("initiation_method"),
                completed_at=moment("completed_at"),
                completion_seen=item["completion_seen"],
            ),
            capture_id=item["capture_id"],
            captured_at=parse_iso(item["captured_at"]),
            reference_count=int(item["reference_count"]),
            event_id=item["event_id"],
            read_at=parse_iso(item["read_at"]),
            checked_at=parse_iso(item["checked_at"]),
            version=int(item["version"]),
            is_first=item.get("is_first", False),
            may_change=item.get("may_change", False),
            is_unknown=item.get("is_unknown", False),
            is_found_by_search=item.get("is_found_by_search", False),
            full_recheck_at=moment("full_recheck_at"),
            due_at=moment("due_at"),
            recheck_asked_since=moment("recheck_asked_since"),
            expires_at=int(item["expires_at"]) if "expires_at" in item else None,
        )
    except KeyError as missing:
        return PermanentError("DamagedItem", f"the contact's item in the ledger lacks {missing.args[0]}")
    except (TypeError, ValueError):
        return PermanentError("DamagedItem", "the contact's item in the ledger has an attribute of another form")


def _read_rows(found: Iterable[Mapping[str, Any]]) -> Rows:
    """Return the rows among a contact's items."""
    captures: dict[str, list[Reference]] = {}
    sort_keys = set()
    for row in found:
        if row["sk"] == _CONTACT:
            continue
        sort_keys.add(row["sk"])
        if (reference := _read_reference(row)) is not None:
            captures.setdefault(row["capture_id"], []).append(reference)
    return Rows({name: tuple(of_capture) for name, of_capture in captures.items()}, frozenset(sort_keys))


def _read_reference(row: Mapping[str, Any]) -> Reference | None:
    """Return a row's reference; None if the row lacks what each has: it counts as missing, and is put again."""
    if "capture_id" not in row or "reference_id" not in row or "reference_type" not in row:
        return None
    return Reference(**{name: row[name] for name in REFERENCE_COLUMNS if name in row})


def _unprocessed() -> RetriableError:
    return RetriableError("UnprocessedItems", "BatchWriteItem did not get to all rows")
