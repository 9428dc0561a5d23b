"""DynamoDB's items as Python dictionaries, and reads of many of them."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.errors import CaptureError, PermanentError, RetriableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Attributes = dict[str, Any]
"""An item or a key as DynamoDB takes it: `{name: {kind: value}}`."""

_ITEMS_PER_GET = 100
MAX_ROWS_PER_REQUEST = 25
_TRIES = 6  # of what DynamoDB did not get to
_FIRST_PAUSE_SECONDS = 0.1
_REACTIONS: Mapping[str, type[CaptureError]] = {"ValidationException": PermanentError}


def serialize(record: Mapping[str, object]) -> Attributes:
    """Return a dictionary as the attributes of an item or key, or as the values of an expression.

    boto3 does the same, for more kinds; but a twentieth of a function's start is to import it.

    >>> serialize({"name": "CRM", "count": 2, "is_valid": True, "ids": ["a"]})
    {'name': {'S': 'CRM'}, 'count': {'N': '2'}, 'is_valid': {'BOOL': True}, 'ids': {'L': [{'S': 'a'}]}}
    """
    return {name: _write(value) for name, value in record.items()}


def _write(value: object) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int() | Decimal():
            return {"N": str(value)}
        case list() | tuple():
            return {"L": [_write(part) for part in value]}
        case _:
            raise TypeError(f"{type(value).__name__} is not a column's type")


def deserialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's attributes as a dictionary; numbers are decimals."""
    return {name: _read(attribute) for name, attribute in item.items()}


def _read(attribute: Mapping[str, Any]) -> Any:
    [(kind, value)] = attribute.items()
    if kind == "N":
        return Decimal(value)
    return [_read(part) for part in value] if kind == "L" else value


def get_items(
    client: "DynamoDBClient",
    table_name: str,
    keys: Sequence[Attributes],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[dict[str, Any]]:
    """Yield the items that exist of these keys, as they are now, in any order.

    Raises RetriableError or ConfigurationError.
    """
    for start in range(0, len(keys), _ITEMS_PER_GET):
        request: Any = {table_name: {"Keys": keys[start : start + _ITEMS_PER_GET], "ConsistentRead": True}}
        for _ in _tries(sleep):
            with translated_errors("BatchGetItem", {}):
                answer = client.batch_get_item(RequestItems=request)
            yield from map(deserialize, answer["Responses"].get(table_name, []))
            request = answer.get("UnprocessedKeys")
            if not request:
                break
        else:
            raise RetriableError("UnprocessedKeys", "BatchGetItem did not get to all keys")


def write_items(
    client: "DynamoDBClient",
    table_name: str,
    requests: Sequence[Mapping[str, Any]],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Mapping[str, Any]]:
    """Do BatchWriteItem's requests; return those that the service did not get to, though asked again and again.

    Raises RetriableError, PermanentError for an item that the service refuses, or ConfigurationError; some may be done.
    """
    waiting = list(requests)
    for _ in _tries(sleep):
        unprocessed: list[Any] = []
        for start in range(0, len(waiting), MAX_ROWS_PER_REQUEST):
            part: Any = {table_name: waiting[start : start + MAX_ROWS_PER_REQUEST]}
            with translated_errors("BatchWriteItem", _REACTIONS):
                answer = client.batch_write_item(RequestItems=part)
            unprocessed += answer.get("UnprocessedItems", {}).get(table_name, [])
        waiting = unprocessed
        if not waiting:
            break
    return waiting


def _tries(sleep: Callable[[float], None]) -> Iterator[None]:
    """Yield for each try, with pauses in between that double: about five seconds in all."""
    for tries in range(_TRIES):
        if tries:
            longest = _FIRST_PAUSE_SECONDS * 2**tries
            sleep(random.uniform(longest / 2, longest))  # noqa: S311 - jitter
        yield
