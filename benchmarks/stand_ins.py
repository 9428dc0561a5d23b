"""Connect's API and a DynamoDB table in memory, as strict as the services and cheap to call a million times.

Both take and give what travels on the wire, so that they stand behind the SDK's clients (`benchmarks.cost`) as well as
in their place (`Clients`). The table counts the units that the service would bill.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from benchmarks.prices import INDEX_UNITS, PUTS, QUEUE_REQUESTS, READ_UNITS, WRITE_UNITS, Usage
from contact_references.reference import ENTERED_TYPES, PRODUCED_TYPES

Item = dict[str, dict[str, Any]]
Key = tuple[str, str]
Parameters = Mapping[str, Any]

_TYPES = ENTERED_TYPES | PRODUCED_TYPES


class RefusedError(ClientError):
    """A service refused a request."""

    def __init__(self, code: str, operation: str, status: int = 400, **more: object) -> None:
        answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
        super().__init__(answer, operation)


class CanceledError(RefusedError):
    """A transaction was canceled: of what it asked for, nothing was done."""


class Index(NamedTuple):
    """A global secondary index: items that have both keys are in it."""

    partition_key: str
    sort_key: str
    has_all_attributes: bool


INDEXES = {
    "by_value": Index("value_key", "completed_at", has_all_attributes=True),
    "by_due": Index("settle_state", "look_again_at", has_all_attributes=False),
}


class Table:
    """The calls that ledgers make, with the service's refusals, and the units that they cost in `usage`.

    On-demand units: a write is 1 for each KB of the item, of the larger one of old and new, twice that in a
    transaction; an index is written where its entry changes, once more if its key does. That a transaction does not
    double an index's units is inferred: indexes follow asynchronously.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._items: dict[str, dict[str, Item]] = {}
        self.on_put: Callable[[Item], None] = lambda _: None

    def forget(self, partition_key: str) -> None:
        """Drop a partition that nobody will ask for again: no service does that, but memory stays flat."""
        self._items.pop(partition_key, None)

    def call(self, operation: str, parameters: Parameters) -> dict[str, Any]:
        """Do what one operation asks for; raises RefusedError as the service does."""
        match operation:
            case "BatchGetItem":
                return self._batch_get(parameters)
            case "Query":
                return self._query(parameters)
            case "PutItem":
                self._write([{"Put": parameters}], operation, factor=1)
            case "UpdateItem":
                self._update(parameters)
            case "TransactWriteItems":
                self._write(parameters["TransactItems"], operation, factor=2)
            case _:
                raise NotImplementedError(operation)
        return {}

    def _batch_get(self, parameters: Parameters) -> dict[str, Any]:
        [(table, request)] = parameters["RequestItems"].items()
        keys = [_key(key) for key in request["Keys"]]
        if not 0 < len(set(keys)) == len(keys) <= 100:
            raise RefusedError("ValidationException", "BatchGetItem")
        found = [item for pk, sk in keys if (item := self._items.get(pk, {}).get(sk))]
        units = sum(map(_read_units, found)) + len(keys) - len(found)
        self._usage.add(READ_UNITS, units if request.get("ConsistentRead") else units / 2)
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def _query(self, parameters: Parameters) -> dict[str, Any]:
        if parameters["KeyConditionExpression"] != "pk = :pk AND begins_with(sk, :rows)":
            raise NotImplementedError(parameters["KeyConditionExpression"])
        values = parameters["ExpressionAttributeValues"]
        rows = self._items.get(values[":pk"]["S"], {})
        found = [rows[sk] for sk in sorted(rows) if sk.startswith(values[":rows"]["S"])]
        self._usage.add(READ_UNITS, max(1, math.ceil(sum(map(item_size, found)) / 4096)))
        return {"Items": found, "Count": len(found), "ScannedCount": len(found)}

    def _update(self, parameters: Parameters) -> None:
        pk, sk = _key(parameters["Key"])
        values = parameters["ExpressionAttributeValues"]
        sets, _, removes = parameters["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
        changes = {name: values[value] for name, value in re.findall(r"(\w+) = (:\w+)", sets)}
        old = self._items.get(pk, {}).get(sk)
        if old is None or not _holds(old, parameters):
            self._usage.add(WRITE_UNITS, 1)
            raise RefusedError("ConditionalCheckFailedException", "UpdateItem")
        gone = removes.split(", ")
        self._put({name: value for name, value in (old | changes).items() if name not in gone}, factor=1)

    def _write(self, actions: Sequence[Parameters], operation: str, *, factor: int) -> None:
        keys = [_key(of.get("Key") or of["Item"]) for action in actions for of in action.values()]
        sizes = [item_size(action["Put"]["Item"]) for action in actions if "Put" in action]
        if len(set(keys)) < len(keys) or len(keys) > 100 or max(sizes, default=0) > 400 * 1024 or sum(sizes) > 4 << 20:
            raise RefusedError("ValidationException", operation)
        held = [
            _holds(self._items.get(pk, {}).get(sk), of)
            for (pk, sk), action in zip(keys, actions, strict=True)
            for of in action.values()
        ]
        if not all(held):
            self._usage.add(WRITE_UNITS, factor * len(actions))
            if operation == "PutItem":
                raise RefusedError("ConditionalCheckFailedException", operation)
            reasons = [{"Code": "None" if is_held else "ConditionalCheckFailed"} for is_held in held]
            raise CanceledError("TransactionCanceledException", operation, CancellationReasons=reasons)
        for (pk, sk), action in zip(keys, actions, strict=True):
            if "Put" in action:
                self._put(action["Put"]["Item"], factor=factor)
            elif "Delete" in action:
                old = self._items.get(pk, {}).pop(sk, None)
                self._count(old, None, factor)
            else:
                self._usage.add(WRITE_UNITS, factor)

    def _put(self, item: Item, *, factor: int) -> None:
        pk, sk = _key(item)
        rows = self._items.setdefault(pk, {})
        self._count(rows.get(sk), item, factor)
        rows[sk] = item
        self.on_put(item)

    def _count(self, old: Item | None, new: Item | None, factor: int) -> None:
        self._usage.add(WRITE_UNITS, factor * max(_write_units(old), _write_units(new)))
        for index in INDEXES.values():
            self._usage.add(INDEX_UNITS, _index_units(index, old, new))


def item_size(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Return an item's size in bytes, as the service counts names and values.

    >>> item_size({"pk": {"S": "é"}, "n": {"N": "12.50"}, "is": {"BOOL": True}})
    11
    """
    size = 0
    for name, value in item.items():
        [(kind, content)] = value.items()
        size += len(name)  # the ledger's names are ASCII
        if kind == "S":
            size += len(content) if content.isascii() else len(content.encode())
        elif kind == "N":
            digits = re.sub(r"[eE].*|[^0-9]", "", content).strip("0")
            size += math.ceil(len(digits) / 2) + 1
        else:
            size += 1
    return size


def _write_units(item: Item | None) -> int:
    return max(1, math.ceil(item_size(item) / 1024)) if item else 1


def _read_units(item: Item) -> int:
    return max(1, math.ceil(item_size(item) / 4096))


def _index_units(index: Index, old: Item | None, new: Item | None) -> int:
    before, after = _entry(index, old), _entry(index, new)
    if before == after:
        return 0
    if before and after and any(before[name] != after[name] for name in (index.partition_key, index.sort_key)):
        return _write_units(before) + _write_units(after)
    return max(_write_units(before), _write_units(after))


def _entry(index: Index, item: Item | None) -> Item | None:
    if item is None or not {index.partition_key, index.sort_key} <= item.keys():
        return None
    if index.has_all_attributes:
        return item
    return {name: item[name] for name in ("pk", "sk", index.partition_key, index.sort_key)}


def _key(item: Mapping[str, Any]) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _holds(item: Item | None, action: Parameters) -> bool:
    expression = action.get("ConditionExpression")
    if expression is None or expression == "attribute_not_exists(pk)":
        return expression is None or item is None
    values = action["ExpressionAttributeValues"]
    terms = [re.fullmatch(r"(\w+) = (:\w+)", term) for term in expression.split(" AND ")]
    if not all(terms):
        raise NotImplementedError(expression)
    return item is not None and all(item.get(term[1]) == values[term[2]] for term in terms if term)


def list_references(members: Collection[Mapping[str, Any]], parameters: Parameters) -> dict[str, Any]:
    """Answer ListContactReferences with those of the contact's references that are asked for.

    >>> url = {"Url": {"Name": "CRM", "Value": "https://crm.example.com"}}
    >>> list_references([url], {"ReferenceTypes": ["NUMBER"]})["ReferenceSummaryList"]
    []
    """
    types = parameters["ReferenceTypes"]
    if not 0 < len(types) <= 6:
        raise RefusedError("InvalidParameterException", "ListContactReferences")
    asked = [member for member in members if _TYPES[next(iter(member))] in types]
    answer: dict[str, Any] = {"ReferenceSummaryList": asked}
    # The reader looks at the body of an answer without references.
    return answer if asked else answer | {"Body": json.dumps(answer).encode()}


class Clients:
    """Boto3's clients as the function's adapters use them, answered in memory.

    `spend` is told the service and the operation of each call before it is answered: it passes the time that the
    call takes, or raises what it fails of. `references` gives a contact's members of the union by its id.
    """

    def __init__(
        self,
        usage: Usage,
        *,
        references: Callable[[str], Collection[Mapping[str, Any]]],
        change_visibility: Callable[[str, int], None],
        send: Callable[[str], None],
        spend: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._usage, self._spend = usage, spend
        self._references, self._change_visibility, self._send = references, change_visibility, send
        self.table = Table(usage)
        self.connect: Any = SimpleNamespace(
            meta=SimpleNamespace(events=SimpleNamespace(register=lambda *_: None)),
            list_contact_references=self._list_references,
        )
        self.dynamodb: Any = SimpleNamespace(
            batch_get_item=lambda **of: self._ask_table("BatchGetItem", of),
            put_item=lambda **of: self._ask_table("PutItem", of),
            update_item=lambda **of: self._ask_table("UpdateItem", of),
            transact_write_items=lambda **of: self._ask_table("TransactWriteItems", of),
            get_paginator=lambda _: SimpleNamespace(paginate=self._pages),
            exceptions=SimpleNamespace(TransactionCanceledException=CanceledError),
        )
        self.s3: Any = SimpleNamespace(put_object=self._put_object)
        self.sqs: Any = SimpleNamespace(
            change_message_visibility=self._change_message_visibility, send_message=self._send_message
        )

    def _list_references(self, **of: Any) -> dict[str, Any]:
        self._spend("connect", "ListContactReferences")
        return list_references(self._references(of["ContactId"]), of)

    def _ask_table(self, operation: str, parameters: Parameters) -> dict[str, Any]:
        self._spend("dynamodb", operation)
        return self.table.call(operation, parameters)

    def _pages(self, **of: Any) -> Iterator[dict[str, Any]]:
        yield self._ask_table("Query", of)

    def _put_object(self, **_: Any) -> dict[str, Any]:
        self._spend("s3", "PutObject")
        self._usage.add(PUTS)
        return {}

    def _change_message_visibility(self, **of: Any) -> None:
        self._spend("sqs", "ChangeMessageVisibility")
        self._usage.add(QUEUE_REQUESTS)
        self._change_visibility(of["ReceiptHandle"], of["VisibilityTimeout"])

    def _send_message(self, **of: Any) -> None:
        self._spend("sqs", "SendMessage")
        self._usage.add(QUEUE_REQUESTS)
        self._send(of["MessageBody"])
