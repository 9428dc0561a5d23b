"""DynamoDB's items as Python dictionaries, and reads of many of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from contact_references.aws_errors import translated_errors
from contact_references.errors import RetriableError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import UniversalAttributeValueTypeDef

    Attributes = dict[str, UniversalAttributeValueTypeDef]

_ITEMS_A_GET = 100
_ATTEMPTS = 5


def serialize(record: Mapping[str, object]) -> "Attributes":
    """Return a dictionary as the attributes of an item or key, or as the values of an expression."""
    # Most are texts, of which the SDK makes the same by way of seven questions.
    other = TypeSerializer().serialize
    return {name: {"S": value} if isinstance(value, str) else other(value) for name, value in record.items()}


def deserialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's attributes as a dictionary; numbers are decimals."""
    other = TypeDeserializer().deserialize
    return {name: value["S"] if "S" in value else other(value) for name, value in item.items()}


def get_items(client: "DynamoDBClient", table_name: str, keys: "Sequence[Attributes]") -> Iterator[dict[str, Any]]:
    """Yield the items that exist of these keys, as they are now, in any order.

    Raises RetriableError or ConfigurationError.
    """
    for start in range(0, len(keys), _ITEMS_A_GET):
        request: Any = {table_name: {"Keys": keys[start : start + _ITEMS_A_GET], "ConsistentRead": True}}
        for _ in range(_ATTEMPTS):
            with translated_errors("BatchGetItem", {}):
                answer = client.batch_get_item(RequestItems=request)
            yield from map(deserialize, answer["Responses"].get(table_name, []))
            request = answer.get("UnprocessedKeys")
            if not request:
                break
        else:
            raise RetriableError("UnprocessedKeys", "BatchGetItem did not get to all keys")
