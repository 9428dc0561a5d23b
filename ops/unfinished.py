"""Contacts whose erasure has begun, and is not known to have ended.

A contact that is half erased is not found by its value any more: so they are noted in the ledger, by their ids and the
days that had them, until a search of every store has found nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from contact_references.aws.items import deserialize, serialize, write_items
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.contact import ContactKey
from contact_references.model.errors import RetriableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PARTITION = "ERASURES"


class Unfinished:
    """The list of them. Its methods raise RetriableError, PermanentError or ConfigurationError."""

    def __init__(self, client: "DynamoDBClient", table_name: str) -> None:
        self._client = client
        self._table_name = table_name

    def find(self) -> dict[ContactKey, frozenset[str]]:
        """Return the contacts, and the days that had them, `YYYY-MM-DD`."""
        with translated_errors("Query", {}):
            pages = self._client.get_paginator("query").paginate(
                TableName=self._table_name,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues=serialize({":pk": _PARTITION}),
                ConsistentRead=True,
            )
            items = [deserialize(item) for page in pages for item in page["Items"]]
        return {ContactKey(*item["sk"].split("#", 1)): frozenset(item["dates"]) for item in items}

    def note(self, dates: Mapping[ContactKey, Collection[str]]) -> None:
        """Note contacts, and the days that have them."""
        items = [_item_key(key) | serialize({"dates": sorted(of_key)}) for key, of_key in dates.items()]
        self._write([{"PutRequest": {"Item": item}} for item in items])

    def forget(self, keys: Collection[ContactKey]) -> None:
        """Take contacts off the list."""
        self._write([{"DeleteRequest": {"Key": _item_key(key)}} for key in keys])

    def _write(self, requests: Sequence[Mapping[str, Any]]) -> None:
        if write_items(self._client, self._table_name, requests):
            raise RetriableError("UnprocessedItems", "BatchWriteItem did not get to all contacts")


def _item_key(key: ContactKey) -> dict[str, Any]:
    return serialize({"pk": _PARTITION, "sk": f"{key.instance_id}#{key.contact_id}"})
