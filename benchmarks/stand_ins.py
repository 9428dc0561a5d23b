"""Connect's API and a DynamoDB table in memory, as strict as the services and cheap to call a million times.

Both take and give what travels on the wire, so that they stand behind the SDK's clients (`benchmarks.cost`) as well as
in their place (`Clients`). The table counts the units that the service would bill.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from benchmarks.prices import INDEX_UNITS, PUTS, QUEUE_REQUESTS, READ_UNITS, WRITE_UNITS, Usage
from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES

Item = dict[str, dict[str, Any]]
Key = tuple[str, str]
Parameters = Mapping[str, Any]

_TYPES = ENTERED_TYPES | PRODUCED_TYPES


class RefusedError(ClientError):
    """A service refused a request."""

    def __init__(self, code: str, operation: str, status: int = 400, **more: object) -> None:
        answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
        super().__init__(answer, operation)


class ConditionFailedError(RefusedError):
    """The item is not what a write's condition asks for."""

    def __init__(self, operation: str, item: Item | None = None) -> None:
        more = {} if item is None else {"Item": item}
        super().__init__("ConditionalCheckFailedException", operation, 400, **more)


class Index(NamedTuple):
    """A global secondary index: items that have both keys are in it."""

    partition_key: str
    sort_key: str
    has_all_attributes: bool


INDEXES = {
    "by_value": Index("value_key", "value_at", has_all_attributes=True),
    "by_due": Index("due_key", "due_at", has_all_attributes=False),
}
_LONGEST_PARTITION_KEY, _LONGEST_SORT_KEY = 2048, 1024
_LARGEST_ITEM, _LARGEST_REQUEST = 400 * 1024, 16 << 20
_ROWS_A_REQUEST = 25
_DUE_ENTRY_BYTES = 150


class Table:
    """The calls that ledgers make, with the service's refusals, and the units that they cost in `usage`.

    On-demand units: a write is 1 for each KB of the item, of the larger one of old and new, whether its condition holds
    or not; an index is written where its entry changes, once more if its key does.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._items: dict[str, dict[str, Item]] = {}
        self._due: dict[str, dict[Key, str]] = {}
        self.on_put: Callable[[Item], None] = lambda _: None

    def forget(self, partition_key: str) -> None:
        """Drop a partition that nobody will ask for again: no service does that, but memory stays flat."""
        for sort_key, item in self._items.pop(partition_key, {}).items():
            if "due_key" in item:
                del self._due[item["due_key"]["S"]][partition_key, sort_key]

    def call(self, operation: str, parameters: Parameters) -> dict[str, Any]:
        """Do what one operation asks for; raises RefusedError as the service does."""
        match operation:
            case "BatchGetItem":
                return self._batch_get(parameters)
            case "BatchWriteItem":
                return self._batch_write(parameters)
            case "PutItem":
                return self._put_item(parameters)
            case "Query":
                return self._query(parameters)
            case "UpdateItem":
                return self._update_item(parameters)
            case _:
                raise NotImplementedError(operation)

    def _batch_get(self, parameters: Parameters) -> dict[str, Any]:
        [(table, request)] = parameters["RequestItems"].items()
        keys = [_key(key, "BatchGetItem") for key in request["Keys"]]
        if not 0 < len(set(keys)) == len(keys) <= 100:
            raise RefusedError("ValidationException", "BatchGetItem")
        found = [item for pk, sk in keys if (item := self._items.get(pk, {}).get(sk))]
        units = sum(map(_read_units, found)) + len(keys) - len(found)
        self._usage.add(READ_UNITS, units if request.get("ConsistentRead") else units / 2)
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def _batch_write(self, parameters: Parameters) -> dict[str, Any]:
        operation = "BatchWriteItem"
        [(_, requests)] = parameters["RequestItems"].items()
        puts = [request["PutRequest"]["Item"] for request in requests if "PutRequest" in request]
        deletes = [
            _key(request["DeleteRequest"]["Key"], operation) for request in requests if "PutRequest" not in request
        ]
        sizes = [_checked_size(item, operation) for item in puts]
        keys = [_key(item, operation) for item in puts] + deletes
        if not 0 < len(set(keys)) == len(keys) <= _ROWS_A_REQUEST or sum(sizes) > _LARGEST_REQUEST:
            raise RefusedError("ValidationException", operation)
        for item in puts:
            self._put(item)
        for pk, sk in deletes:
            self._count(self._items.get(pk, {}).pop(sk, None), None)  # rows, which are never due
        return {"UnprocessedItems": {}}

    def _put_item(self, parameters: Parameters) -> dict[str, Any]:
        item = parameters["Item"]
        _checked_size(item, "PutItem")
        self._check_condition(_key(item, "PutItem"), item, parameters, "PutItem")
        self._put(item)
        return {}

    def _update_item(self, parameters: Parameters) -> dict[str, Any]:
        pk, sk = key = _key(parameters["Key"], "UpdateItem")
        old = self._items.get(pk, {}).get(sk)
        self._check_condition(key, old, parameters, "UpdateItem")
        item = update(old or parameters["Key"], parameters)
        _checked_size(item, "UpdateItem")
        self._put(item)
        return {"Attributes": item} if parameters.get("ReturnValues") == "ALL_NEW" else {}

    def _check_condition(self, key: Key, new: Item | None, parameters: Parameters, operation: str) -> None:
        pk, sk = key
        old = self._items.get(pk, {}).get(sk)
        if holds(old, parameters):
            return
        self._usage.add(WRITE_UNITS, max(_write_units(old), _write_units(new)))
        is_asked_for = parameters.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
        raise ConditionFailedError(operation, old if is_asked_for else None)

    def _query(self, parameters: Parameters) -> dict[str, Any]:
        values = parameters["ExpressionAttributeValues"]
        if parameters.get("IndexName") == "by_due":
            return self._query_due(values[":key"]["S"], values.get(":until", {}).get("S"), parameters)
        if parameters["KeyConditionExpression"] != "pk = :pk AND begins_with(sk, :rows)":
            raise NotImplementedError(parameters["KeyConditionExpression"])
        rows = self._items.get(values[":pk"]["S"], {})
        found = [rows[sk] for sk in sorted(rows) if sk.startswith(values[":rows"]["S"])]
        self._usage.add(READ_UNITS, max(1, math.ceil(sum(map(item_size, found)) / 4096)))
        return {"Items": found, "Count": len(found), "ScannedCount": len(found)}

    def _query_due(self, due_key: str, until: str | None, parameters: Parameters) -> dict[str, Any]:
        due = sorted(
            (due_at, key) for key, due_at in self._due.get(due_key, {}).items() if until is None or due_at <= until
        )
        self._usage.add(READ_UNITS, max(0.5, len(due) * _DUE_ENTRY_BYTES / 8192))
        if parameters.get("Select") == "COUNT":
            return {"Count": len(due)}
        ordered = due if parameters.get("ScanIndexForward", True) else due[::-1]
        return {"Items": [{"pk": {"S": pk}, "sk": {"S": sk}} for _, (pk, sk) in ordered]}

    def _put(self, item: Item) -> None:
        pk, sk = key = _key(item, "PutItem")
        rows = self._items.setdefault(pk, {})
        old = rows.get(sk)
        self._count(old, item)
        rows[sk] = item
        if old is not None and "due_key" in old:
            del self._due[old["due_key"]["S"]][key]
        if "due_key" in item:
            self._due.setdefault(item["due_key"]["S"], {})[key] = item["due_at"]["S"]
        self.on_put(item)

    def _count(self, old: Item | None, new: Item | None) -> None:
        self._usage.add(WRITE_UNITS, max(_write_units(old), _write_units(new)))
        for index in INDEXES.values():
            self._usage.add(INDEX_UNITS, _index_units(index, old, new))


def update(item: Item, parameters: Parameters) -> Item:
    """Return the item as an UpdateExpression of the kinds that the ledger uses makes it.

    Raises RefusedError for values that no expression names, as the service does, and NotImplementedError for others.

    >>> expression = "SET a = :a, b = if_not_exists(b, :a) REMOVE c ADD n :one"
    >>> values = {":a": {"S": "new"}, ":one": {"N": "1"}}
    >>> old = {"b": {"S": "old"}, "c": {"S": "gone"}, "n": {"N": "2"}}
    >>> update(old, {"UpdateExpression": expression, "ExpressionAttributeValues": values})
    {'b': {'S': 'old'}, 'n': {'N': '3'}, 'a': {'S': 'new'}}
    """
    values = parameters["ExpressionAttributeValues"]
    expressions = (parameters["UpdateExpression"], parameters.get("ConditionExpression", ""))
    if {name for text in expressions for name in re.findall(r":\w+", text)} != values.keys():
        raise RefusedError("ValidationException", "UpdateItem")
    changed = dict(item)
    _, *clauses = re.split(r"\s*\b(SET|REMOVE|ADD)\s+", expressions[0])
    for kind, actions in zip(clauses[::2], clauses[1::2], strict=True):
        for action in re.split(r",\s*(?![^(]*\))", actions):
            match kind, re.split(r"[\s=(),]+", action.rstrip(")")):
                case "SET", [name, value]:
                    changed[name] = values[value]
                case "SET", [name, "if_not_exists", held, value]:
                    changed[name] = item.get(held, values[value])
                case "REMOVE", [name]:
                    changed.pop(name, None)
                case "ADD", [name, value]:
                    number = int(item.get(name, {"N": "0"})["N"]) + int(values[value]["N"])
                    changed[name] = {"N": str(number)}
                case _:
                    raise NotImplementedError(action)
    return changed


def _checked_size(item: Item, operation: str) -> int:
    """Return an item's size in bytes; raises RefusedError if it or one of its keys is not what the service takes."""
    size = item_size(item)
    keys = {"pk": _LONGEST_PARTITION_KEY, "sk": _LONGEST_SORT_KEY}
    for index in INDEXES.values():
        keys |= {index.partition_key: _LONGEST_PARTITION_KEY, index.sort_key: _LONGEST_SORT_KEY}
    for name, longest in keys.items():
        if name in item and not 0 < len(item[name].get("S", "").encode()) <= longest:
            raise RefusedError("ValidationException", operation)
    if size > _LARGEST_ITEM:
        raise RefusedError("ValidationException", operation)
    return size


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


def _key(item: Mapping[str, Any], operation: str) -> Key:
    try:
        return item["pk"]["S"], item["sk"]["S"]
    except KeyError:
        raise RefusedError("ValidationException", operation) from None


def holds(item: Item | None, parameters: Parameters) -> bool:
    """Whether a write's condition holds of the item that is there, if any.

    >>> condition = {
    ...     "ConditionExpression": "attribute_not_exists(pk) OR a = :a AND b <= :b",
    ...     "ExpressionAttributeValues": {":a": {"S": "1"}, ":b": {"S": "2"}},
    ... }
    >>> items = ({"a": {"S": "1"}, "b": {"S": "2"}}, {"a": {"S": "1"}, "b": {"S": "3"}}, {"a": {"S": "1"}}, None)
    >>> [holds(item, condition) for item in items]
    [True, False, False, True]
    """
    expression = parameters.get("ConditionExpression")
    if expression is None:
        return True
    values = parameters.get("ExpressionAttributeValues", {})
    return any(
        all(_term_holds(item, term, values) for term in every.split(" AND ")) for every in expression.split(" OR ")
    )


def _term_holds(item: Item | None, term: str, values: Mapping[str, Any]) -> bool:
    if term == "attribute_not_exists(pk)":
        return item is None
    parts = re.fullmatch(r"(\w+) (=|<=) (:\w+)", term)
    if parts is None:
        raise NotImplementedError(term)
    name, comparison, value = parts[1], parts[2], values[parts[3]]
    if item is None or name not in item:
        return False
    return bool(item[name] == value if comparison == "=" else item[name]["S"] <= value["S"])


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
            batch_write_item=lambda **of: self._ask_table("BatchWriteItem", of),
            put_item=lambda **of: self._ask_table("PutItem", of),
            update_item=lambda **of: self._ask_table("UpdateItem", of),
            get_paginator=lambda _: SimpleNamespace(paginate=self._pages),
            exceptions=SimpleNamespace(ConditionalCheckFailedException=ConditionFailedError),
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
