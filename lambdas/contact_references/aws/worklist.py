"""The list of what is due: hours to search and contacts to recheck, as items with a due time in one index.

Beside it the lease that lets one run work it at a time, and says how far feeding has got.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from contact_references.aws.items import Attributes, deserialize, get_items, serialize, write_items
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.contact import ContactKey, Instance
from contact_references.model.coverage import Hour
from contact_references.model.errors import PermanentError, RetriableError
from contact_references.model.timestamps import format_time, parse_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_LEASE = {"pk": "RECONCILE", "sk": "LEASE"}
_OPENED = "OPENED"
_HOUR_FORMAT = "%Y-%m-%dT%H"
_COUNTS = ("completed", "captured", "missing", "visits")
_TIMES = ("searched_to", "searched_at", "asked_since", "closed_at", "due_at")


@dataclass(frozen=True, slots=True)
class Lease:
    """What one run at a time has: until when, how far feeding has got, and how much wider its slots are than needed."""

    holder: str
    held_until: datetime
    fed_until: datetime
    stretch: float = 1.0


@dataclass(frozen=True, slots=True)
class Opened:
    """Up to where an instance's hours were opened, and when it was searched last."""

    until: datetime
    searched_at: datetime | None = None


class Worklist:
    """Reads and writes hours, and finds what is due. Hours that are closed expire after `retention`, None for never.

    Its methods raise RetriableError or ConfigurationError.
    """

    def __init__(self, client: "DynamoDBClient", table_name: str, *, retention: timedelta | None = None) -> None:
        self._client = client
        self._table_name = table_name
        self._retention = retention

    def take_lease(self, holder: str, *, now: datetime, until: datetime) -> Lease | None:
        """Return the lease, or None while another run has it."""
        item = self._update_lease(
            {"holder": holder, "held_until": until},
            condition="attribute_not_exists(pk) OR held_until <= :now OR holder = :me",
            values={":me": holder, ":now": now},
        )
        if item is None:
            return None
        fed_until = parse_iso(item["fed_until"]) if "fed_until" in item else now
        return Lease(holder, until, fed_until, float(item.get("stretch", 1)))

    def save_lease(self, lease: Lease) -> bool:
        """Note how far feeding has got, and until when the lease is held; return whether it still was."""
        columns = {
            "held_until": lease.held_until,
            "fed_until": lease.fed_until,
            "stretch": str(round(lease.stretch, 6)),
        }
        return self._update_lease(columns, condition="holder = :me", values={":me": lease.holder}) is not None

    def _update_lease(
        self, columns: Mapping[str, object], *, condition: str, values: Mapping[str, object]
    ) -> Mapping[str, Any] | None:
        """Return the lease's item after it, None if the condition does not hold."""
        values = {**values, **{f":{name}": value for name, value in columns.items()}}
        with translated_errors("UpdateItem", {}):
            try:
                answer = self._client.update_item(
                    TableName=self._table_name,
                    Key=serialize(_LEASE),
                    UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in columns),
                    ConditionExpression=condition,
                    ExpressionAttributeValues=serialize(_written(values)),
                    ReturnValues="ALL_NEW",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return None
        return deserialize(answer["Attributes"])

    def find_opened(self, instance: Instance) -> Opened | None:
        """Return up to where the instance's hours were opened; None for one that was never seen."""
        key = serialize({"pk": _hours_key(instance.instance_id), "sk": _OPENED})
        for item in get_items(self._client, self._table_name, [key]):
            return Opened(
                parse_iso(item["opened_to"]), parse_iso(item["searched_at"]) if "searched_at" in item else None
            )
        return None

    def save_opened(self, instance: Instance, opened: Opened) -> None:
        """Note up to where hours were opened: after writing them."""
        columns = _written({"opened_to": opened.until, "searched_at": opened.searched_at})
        item = {"pk": _hours_key(instance.instance_id), "sk": _OPENED, **columns}
        with translated_errors("PutItem", {}):
            self._client.put_item(TableName=self._table_name, Item=serialize(item))

    def find_hours(self, instance: Instance, starts: Collection[datetime]) -> list[Hour | PermanentError]:
        """Return those of the hours that there are; of one that cannot be read as such, the error."""
        keys = [_hour_key(instance.instance_id, start) for start in starts]
        return [_read_hour(item) for item in get_items(self._client, self._table_name, keys)]

    def find_open_hours(self, due_key: str, *, until: datetime | None = None) -> Iterator[datetime]:
        """Yield the starts of the hours that have a due key and, if that is given, are due by then, as of a moment ago.

        Those due last come first.
        """
        for _, sort_key in self._find_due(due_key, until=until, forward=False):
            yield _parse_hour(sort_key)

    def find_rechecks(self, instance: Instance, now: datetime) -> Iterator[ContactKey]:
        """Yield the contacts that are due to be rechecked, the longest due first, as of a moment ago."""
        for partition_key, _ in self._find_due(recheck_key(instance), until=now):
            yield ContactKey(*partition_key.split("#", 1))

    def count_due(self, due_key: str, *, until: datetime | None = None) -> int:
        """Return how many items have a due key and, if that is given, are due by then, as of a moment ago."""
        pages = self._query_due(due_key, until=until, Select="COUNT")
        with translated_errors("Query", {}):
            return sum(page["Count"] for page in pages)

    def save_hours(self, hours: Collection[Hour]) -> None:
        """Put hours as they are now."""
        puts = [{"PutRequest": {"Item": serialize(self._item(hour))}} for hour in hours]
        if write_items(self._client, self._table_name, puts):
            raise RetriableError("UnprocessedItems", "BatchWriteItem did not get to all hours")

    def _find_due(
        self, due_key: str, *, until: datetime | None = None, forward: bool = True
    ) -> Iterator[tuple[str, str]]:
        with translated_errors("Query", {}):
            for page in self._query_due(due_key, until=until, ScanIndexForward=forward):
                for item in page["Items"]:
                    yield str(item["pk"]["S"]), str(item["sk"]["S"])

    def _query_due(self, due_key: str, *, until: datetime | None, **options: Any) -> Iterable[Any]:
        values = {":key": due_key} | ({":until": format_time(until)} if until else {})
        return self._client.get_paginator("query").paginate(
            TableName=self._table_name,
            IndexName="by_due",
            KeyConditionExpression="due_key = :key AND due_at <= :until" if until else "due_key = :key",
            ExpressionAttributeValues=serialize(values),
            **options,
        )

    def _item(self, hour: Hour) -> Mapping[str, object]:
        columns: dict[str, object] = {name: getattr(hour, name) for name in (*_COUNTS, "missing_ids", *_TIMES)}
        if hour.due_at is not None:
            columns["due_key"] = _due_key(hour.instance_id, is_backfill=hour.is_backfill)
        if hour.closed_at is not None and self._retention is not None:
            columns["expires_at"] = int((hour.end + self._retention).timestamp())
        return {"pk": _hours_key(hour.instance_id), "sk": hour.start.strftime(_HOUR_FORMAT), **_written(columns)}


def hours_due_key(instance: Instance, *, is_backfill: bool) -> str:
    """Return the key by which an instance's open hours are found in the index."""
    return _due_key(instance.instance_id, is_backfill=is_backfill)


def recheck_key(instance: Instance) -> str:
    """Return the key by which an instance's contacts that are to be rechecked are found in the index."""
    return f"RECHECK#{instance.instance_id}"


def _written(columns: Mapping[str, object]) -> dict[str, object]:
    """Return columns as they are written: times as text, without those that have no value."""
    return {
        name: format_time(value) if isinstance(value, datetime) else value
        for name, value in columns.items()
        if value is not None
    }


def _hours_key(instance_id: str) -> str:
    return f"HOURS#{instance_id}"


def _hour_key(instance_id: str, start: datetime) -> Attributes:
    return serialize({"pk": _hours_key(instance_id), "sk": start.strftime(_HOUR_FORMAT)})


def _due_key(instance_id: str, *, is_backfill: bool) -> str:
    return f"{'BACKFILL' if is_backfill else 'HOUR'}#{instance_id}"


def _parse_hour(sort_key: str) -> datetime:
    return parse_iso(f"{sort_key}:00Z")


def _read_hour(item: Mapping[str, Any]) -> Hour | PermanentError:
    try:
        columns: dict[str, Any] = {name: int(item[name]) for name in _COUNTS}
        columns |= {name: parse_iso(item[name]) for name in _TIMES if name in item}
        return Hour(
            instance_id=item["pk"].partition("#")[2],
            start=_parse_hour(item["sk"]),
            missing_ids=tuple(item["missing_ids"]),
            is_backfill=str(item.get("due_key", "")).startswith("BACKFILL#"),
            **columns,
        )
    except (KeyError, TypeError, ValueError):
        return PermanentError("DamagedItem", f"the hour's item {item['pk']} {item['sk']} cannot be read")
