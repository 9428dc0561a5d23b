"""DynamoDB: the days whose tables are behind the lake, and the lease of a run that writes them."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from contact_references.aws.items import get_items, serialize
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.timestamps import format_time, parse_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_LEASE = {"pk": "TABLES", "sk": "LEASE"}
_DUE_KEY = "DAY"


@dataclass(frozen=True, slots=True)
class Mark:
    """That the lake has something of a day which its tables do not have; each time that is so raises `version`.

    `read_to` is when the lake was listed that the tables were made of: what was appended since is new to them.
    """

    date: str
    version: int
    read_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """What one run at a time has; `has_marked_all` says that a run has marked every day that the lake had."""

    holder: str
    has_marked_all: bool


class Days:
    """Finds days that are marked, marks them, and clears marks; capturing marks by `Ledger.mark_day`.

    The lease is what one run at a time has, and whoever else changes a day's objects. Its methods raise RetriableError
    or ConfigurationError.
    """

    def __init__(self, client: "DynamoDBClient", table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def take_lease(self, holder: str, *, now: datetime, until: datetime) -> Lease | None:
        """Return the lease, or None while another has it."""
        values = {":holder": holder, ":until": format_time(until), ":now": format_time(now)}
        with translated_errors("UpdateItem", {}):
            try:
                answer = self._client.update_item(
                    TableName=self._table_name,
                    Key=serialize(_LEASE),
                    UpdateExpression="SET holder = :holder, held_until = :until",
                    ConditionExpression="attribute_not_exists(pk) OR held_until <= :now OR holder = :holder",
                    ExpressionAttributeValues=serialize(values),
                    ReturnValues="ALL_NEW",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return None
        return Lease(holder, has_marked_all="marked_all_at" in answer["Attributes"])

    def return_lease(self, lease: Lease, *, now: datetime) -> None:
        """Let the next run begin, if the lease is still held."""
        with translated_errors("UpdateItem", {}):
            try:
                self._client.update_item(
                    TableName=self._table_name,
                    Key=serialize(_LEASE),
                    UpdateExpression="SET held_until = :now",
                    ConditionExpression="holder = :holder",
                    ExpressionAttributeValues=serialize({":holder": lease.holder, ":now": format_time(now)}),
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return

    def note_all_marked(self, now: datetime) -> None:
        """Note that every day that the lake had is marked."""
        with translated_errors("UpdateItem", {}):
            self._client.update_item(
                TableName=self._table_name,
                Key=serialize(_LEASE),
                UpdateExpression="SET marked_all_at = :now",
                ExpressionAttributeValues=serialize({":now": format_time(now)}),
            )

    def find_marked(self) -> dict[str, datetime]:
        """Return the dates that are marked, as of a moment ago, and since when: behind for longest first."""
        with translated_errors("Query", {}):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
                IndexName="by_due",
                KeyConditionExpression="due_key = :key",
                ExpressionAttributeValues=serialize({":key": _DUE_KEY}),
            )
            items = [item for page in pages for item in page["Items"]]
        return {item["sk"]["S"]: parse_iso(item["due_at"]["S"]) for item in items}

    def read_mark(self, date: str) -> Mark | None:
        """Return a day's mark as it is now; None if it is not marked."""
        for item in get_items(self._client, self._table_name, [serialize({"pk": "DAYS", "sk": date})]):
            if "due_key" in item:
                return Mark(date, int(item["version"]), parse_iso(item["read_to"]) if "read_to" in item else None)
        return None

    def mark_anew(self, date: str, *, now: datetime) -> None:
        """Mark a day whose tables are to be made of the whole lake again: what is not in it any more has to go."""
        values = {":one": 1, ":due": _DUE_KEY, ":now": format_time(now)}
        with translated_errors("UpdateItem", {}):
            self._client.update_item(
                TableName=self._table_name,
                Key=serialize({"pk": "DAYS", "sk": date}),
                UpdateExpression="SET due_key = :due, due_at = if_not_exists(due_at, :now) "
                "REMOVE read_to ADD version :one",
                ExpressionAttributeValues=serialize(values),
            )

    def clear(self, mark: Mark, *, read_to: datetime | None) -> bool:
        """Take a day's mark away, and note how far the lake was read; return False if it was marked again since.

        Then the mark stays, as one made at that reading: what was there before is in the tables.
        """
        update = "REMOVE due_key, due_at, read_to"
        values: dict[str, object] = {":version": mark.version}
        if read_to is not None:
            update = "SET read_to = :read_to REMOVE due_key, due_at"
            values |= {":read_to": format_time(read_to)}
        with translated_errors("UpdateItem", {}):
            try:
                self._client.update_item(
                    TableName=self._table_name,
                    Key=serialize({"pk": "DAYS", "sk": mark.date}),
                    UpdateExpression=update,
                    ConditionExpression="version = :version",
                    ExpressionAttributeValues=serialize(values),
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                if read_to is not None:
                    self._client.update_item(
                        TableName=self._table_name,
                        Key=serialize({"pk": "DAYS", "sk": mark.date}),
                        UpdateExpression="SET due_at = :read_to",
                        ExpressionAttributeValues=serialize({":read_to": format_time(read_to)}),
                    )
                return False
        return True
