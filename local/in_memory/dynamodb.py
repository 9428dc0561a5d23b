"""DynamoDB: one table in memory with its two indexes, as strict as the service, and the units that it would bill."""

import itertools
import math
import re
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from local.in_memory.expressions import Change, Item, apply_update, holds, read_update, used_values
from local.in_memory.service import ConditionalCheckFailedError, Parameters, RefusedError, Service
from local.in_memory.usage import INDEX_UNITS, READ_UNITS, WRITE_UNITS, Usage

Key = tuple[str, str]
"""A partition key and a sort key."""

Entry = tuple[str, Key]
"""An entry of `by_due` under its key: when it is due, and what."""

MEGABYTE = 1024 * 1024
_LARGEST_ITEM, _LARGEST_BATCH = 400 * 1024, 16 * MEGABYTE
_MOST_WRITES, _MOST_GETS = 25, 100
_LONGEST_PARTITION_KEY, _LONGEST_SORT_KEY = 2048, 1024
_MOST_DIGITS = 38
_DUE_ENTRY_BYTES = 150


class Index(NamedTuple):
    """A global secondary index: items that have both keys are in it."""

    partition_key: str
    sort_key: str
    has_all_attributes: bool


INDEXES = (
    Index("value_key", "value_at", has_all_attributes=True),
    Index("due_key", "due_at", has_all_attributes=False),
)
INDEX_KEYS = frozenset(name for index in INDEXES for name in (index.partition_key, index.sort_key))


class Items(MutableMapping[Key, Item]):
    """Items by key, by partition, and by the value that the index `by_value` has them under."""

    def __init__(self) -> None:
        self._partitions: dict[str, dict[str, Item]] = {}
        self._values: dict[str, dict[Key, Item]] = {}

    def partition(self, partition_key: str) -> Mapping[str, Item]:
        """Return a partition's items by sort key, in no order."""
        return self._partitions.get(partition_key, {})

    def with_value(self, value_key: str) -> Iterable[Item]:
        """Return the items of a value, in no order."""
        return self._values.get(value_key, {}).values()

    def __getitem__(self, key: Key) -> Item:
        return self._partitions[key[0]][key[1]]

    def __setitem__(self, key: Key, item: Item) -> None:
        partition = self._partitions.setdefault(key[0], {})
        self._take_out(key, partition.get(key[1]))
        partition[key[1]] = item
        if "value_key" in item:
            self._values.setdefault(item["value_key"]["S"], {})[key] = item

    def __delitem__(self, key: Key) -> None:
        partition = self._partitions[key[0]]
        self._take_out(key, partition.pop(key[1]))
        if not partition:
            del self._partitions[key[0]]

    def _take_out(self, key: Key, item: Item | None) -> None:
        """Take an item out of the index."""
        if item is not None and "value_key" in item:
            value = item["value_key"]["S"]
            del self._values[value][key]
            if not self._values[value]:
                del self._values[value]

    def __iter__(self) -> Iterator[Key]:
        return ((pk, sk) for pk, partition in self._partitions.items() for sk in partition)

    def __len__(self) -> int:
        return sum(map(len, self._partitions.values()))


class DynamoDB(Service):
    """The calls that ledger and worklist make of their table.

    On-demand units are counted in `usage`: a write is 1 for each KB of the item, of the larger one of old and new,
    whether its condition holds or not; an index is written where its entry changes, once more if its key does.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """

    operations = frozenset({"BatchGetItem", "BatchWriteItem", "PutItem", "Query", "UpdateItem"})

    def __init__(
        self,
        usage: Usage | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.min.replace(tzinfo=UTC),
        keeps_calls: bool = True,
    ) -> None:
        super().__init__(usage)
        self._clock = clock
        self._keeps_calls = keeps_calls
        self.items: MutableMapping[Key, Item] = (items := Items())
        self._partition, self._with_value = items.partition, items.with_value
        self.calls: list[tuple[str, Parameters]] = []
        """All calls with their parameters, if they are kept."""
        self.rows_a_page = 60
        """The service's pages end at a megabyte; shorter ones are met more often."""
        self.due_page = 50
        self.index_lag = timedelta(0)
        """How far `by_due` is behind the table."""
        self.gets_to: Callable[[int], int] = lambda count: count
        """To how many of a BatchWriteItem's requests it gets; the others are unprocessed."""
        self.refuses: Callable[[str, Parameters], str | None] = lambda *_: None
        """With which error's code an operation with these parameters is refused."""
        self.on_put: Callable[[Item], None] = lambda _: None
        self._indexed: dict[Key, tuple[str, str]] = {}
        self._by_due: dict[str, list[Entry]] = defaultdict(list)
        self._behind: deque[tuple[datetime, Key, tuple[str, str] | None]] = deque()

    def call(self, operation: str, parameters: Parameters) -> dict[str, Any]:
        """Do what one operation asks for; raises RefusedError as the service does."""
        if self._keeps_calls:
            self.calls.append((operation, parameters))
        if code := self.refuses(operation, parameters):
            raise RefusedError(code, operation)
        return super().call(operation, parameters)

    def put(self, item: Item) -> None:
        """Put an item past all conditions."""
        self._write(_key(item), item)

    def forget(self, partition_key: str) -> None:
        """Drop a partition that nobody will ask for again: no service does that, but memory stays flat."""
        for sort_key in [*self._partition(partition_key)]:
            del self.items[partition_key, sort_key]
            self._index((partition_key, sort_key), None)

    def _batch_get_item(self, parameters: Parameters) -> dict[str, Any]:
        [(table, request)] = parameters["RequestItems"].items()
        if request.get("ConsistentRead") is not True:
            raise NotImplementedError("reads by key are strongly consistent here")
        keys = [_key(key, is_alone=True) for key in request["Keys"]]
        _require(0 < len(keys) <= _MOST_GETS and len(set(keys)) == len(keys), "BatchGetItem")
        found: list[Item] = []
        size = 0
        for number, key in enumerate(keys):
            if (item := self.items.get(key)) is None:
                self.usage.add(READ_UNITS)
                continue
            size += item_size(item)
            if size > _LARGEST_BATCH:
                left = {table: {**request, "Keys": request["Keys"][number:]}}
                return {"Responses": {table: found}, "UnprocessedKeys": left}
            self.usage.add(READ_UNITS, _units(item, 4096))
            found.append(item)
        return {"Responses": {table: found}, "UnprocessedKeys": {}}

    def _batch_write_item(self, parameters: Parameters) -> dict[str, Any]:
        [(table, requests)] = parameters["RequestItems"].items()
        _require(0 < len(requests) <= _MOST_WRITES, "BatchWriteItem")
        writes: dict[Key, Item | None] = {}
        size = 0
        for request in requests:
            [(kind, of)] = request.items()
            _require(kind in ("PutRequest", "DeleteRequest"), "BatchWriteItem")
            key = _key(of["Key"], is_alone=True) if kind == "DeleteRequest" else _key(of["Item"])
            _require(key not in writes, "BatchWriteItem")
            writes[key] = of.get("Item")
            size += _checked_size(of["Item"], "BatchWriteItem") if kind == "PutRequest" else 0
        _require(size <= _LARGEST_BATCH, "BatchWriteItem")
        done = self.gets_to(len(requests))
        for key, item in itertools.islice(writes.items(), done):
            self._write(key, item)
        return {"UnprocessedItems": {table: requests[done:]} if requests[done:] else {}}

    def _put_item(self, parameters: Parameters) -> dict[str, Any]:
        item = parameters["Item"]
        key = _key(item)
        _checked_size(item, "PutItem")
        self._check_condition(key, item, parameters, "PutItem")
        self._write(key, item)
        return {}

    def _update_item(self, parameters: Parameters) -> dict[str, Any]:
        key = _key(parameters["Key"], is_alone=True)
        changes = read_update(parameters["UpdateExpression"])
        names = [change.name for change in changes]
        _require(0 < len(set(names)) == len(names) and not {"pk", "sk"} & set(names), "UpdateItem")
        old = self.items.get(key)
        self._check_condition(key, old, parameters, "UpdateItem", changes=changes)
        item = apply_update(old or parameters["Key"], changes, parameters.get("ExpressionAttributeValues", {}))
        _checked_size(item, "UpdateItem")
        self._write(key, item)
        return {"Attributes": item} if parameters.get("ReturnValues") == "ALL_NEW" else {}

    def _check_condition(
        self,
        key: Key,
        new: Item | None,
        parameters: Parameters,
        operation: str,
        *,
        changes: tuple[Change, ...] = (),
    ) -> None:
        """Refuse if the condition does not hold, and as the service does, values that nothing uses."""
        expression, values = parameters.get("ConditionExpression"), parameters.get("ExpressionAttributeValues", {})
        _require(set(values) == set(used_values(changes, expression)), operation)
        returned = parameters.get("ReturnValuesOnConditionCheckFailure", "NONE")
        _require(returned in ("NONE", "ALL_OLD"), operation)
        old = self.items.get(key)
        if expression is None or holds(old, expression, values):
            return
        self.usage.add(WRITE_UNITS, max(_units(old), _units(new)))
        more: Any = {"Item": old} if old and returned == "ALL_OLD" else {}
        raise ConditionalCheckFailedError("ConditionalCheckFailedException", operation, **more)

    def _query(self, parameters: Parameters) -> dict[str, Any]:
        if "IndexName" in parameters:
            indexes = {"by_due": self._query_due, "by_value": self._query_value}
            return indexes[parameters["IndexName"]](parameters)
        expression, values = parameters["KeyConditionExpression"], parameters["ExpressionAttributeValues"]
        known = {"pk = :pk": {":pk"}, "pk = :pk AND begins_with(sk, :rows)": {":pk", ":rows"}}
        if expression not in known or parameters.get("ConsistentRead") is not True:
            raise NotImplementedError(expression)
        _require(set(values) == known[expression] and all(value["S"] for value in values.values()), "Query")
        _, start = _key(parameters["ExclusiveStartKey"]) if "ExclusiveStartKey" in parameters else ("", "")
        pk, prefix = values[":pk"]["S"], values.get(":rows", {"S": ""})["S"]
        rows = self._partition(pk)
        found = sorted(sort_key for sort_key in rows if sort_key.startswith(prefix) and sort_key > start)
        items = [rows[sort_key] for sort_key in found[: self.rows_a_page]]
        self.usage.add(READ_UNITS, max(1, math.ceil(sum(map(item_size, items)) / 4096)))
        page = {"Items": items, "Count": len(items)}
        if len(found) <= self.rows_a_page:
            return page
        return page | {"LastEvaluatedKey": {"pk": {"S": pk}, "sk": {"S": found[self.rows_a_page - 1]}}}

    def _query_value(self, parameters: Parameters) -> dict[str, Any]:
        """Answer from the index `by_value`, which has all columns, the latest first, and here never a moment behind."""
        if parameters["KeyConditionExpression"] != "value_key = :value" or parameters.get("ScanIndexForward", True):
            raise NotImplementedError(parameters["KeyConditionExpression"])
        _require("ConsistentRead" not in parameters and parameters["Limit"] > 0, "Query")
        [wanted] = parameters["ExpressionAttributeValues"].values()
        found = list(self._with_value(wanted["S"]))
        found.sort(key=lambda item: (item["value_at"]["S"], *_key(item)), reverse=True)
        keys = [{name: item[name] for name in ("pk", "sk", "value_key", "value_at")} for item in found]
        start = keys.index(parameters["ExclusiveStartKey"]) + 1 if "ExclusiveStartKey" in parameters else 0
        end = start + parameters["Limit"]
        items = found[start:end]
        self.usage.add(READ_UNITS, max(0.5, math.ceil(sum(map(item_size, items)) / 4096) / 2))
        page: dict[str, Any] = {"Items": items, "Count": len(items)}
        # As the service does, a page that is full has a key to go on after, even if nothing comes after it.
        return page | ({"LastEvaluatedKey": keys[end - 1]} if end <= len(found) else {})

    def _query_due(self, parameters: Parameters) -> dict[str, Any]:
        self._catch_up()
        values = parameters["ExpressionAttributeValues"]
        known = {"due_key = :key": {":key"}, "due_key = :key AND due_at <= :until": {":key", ":until"}}
        expression = parameters["KeyConditionExpression"]
        if expression not in known:
            raise NotImplementedError(expression)
        _require("ConsistentRead" not in parameters and set(values) == known[expression], "Query")
        entries = self._by_due[values[":key"]["S"]]
        first, last = 0, len(entries)
        if ":until" in values:
            last = bisect_left(entries, (values[":until"]["S"], ("\U0010ffff", "")))
        is_forward = parameters.get("ScanIndexForward", True)
        if start := parameters.get("ExclusiveStartKey"):
            entry = (start["due_at"]["S"], (start["pk"]["S"], start["sk"]["S"]))
            first, last = (bisect_right(entries, entry), last) if is_forward else (0, bisect_left(entries, entry))
        page = entries[first:last][: self.due_page] if is_forward else entries[first:last][::-1][: self.due_page]
        self.usage.add(READ_UNITS, max(0.5, len(page) * _DUE_ENTRY_BYTES / 8192))
        answer: dict[str, Any] = {"Count": len(page)}
        if parameters.get("Select") != "COUNT":
            answer["Items"] = [_due_keys(values[":key"], entry) for entry in page]
        if last - first > self.due_page:
            answer["LastEvaluatedKey"] = _due_keys(values[":key"], page[-1])
        return answer

    def _write(self, key: Key, new: Item | None) -> None:
        old = self.items.get(key)
        self.usage.add(WRITE_UNITS, max(_units(old), _units(new)))
        for index in INDEXES:
            if units := _index_units(index, old, new):
                self.usage.add(INDEX_UNITS, units)
        if new is None:
            self.items.pop(key, None)
        else:
            self.items[key] = new
        is_due = new is not None and {"due_key", "due_at"} <= new.keys()
        self._index(key, (new["due_key"]["S"], new["due_at"]["S"]) if new and is_due else None)
        if new is not None:
            self.on_put(new)

    def _index(self, key: Key, due: tuple[str, str] | None) -> None:
        if due is None and key not in self._indexed and not self._behind:
            return
        self._behind.append((self._clock() + self.index_lag, key, due))
        self._catch_up()

    def _catch_up(self) -> None:
        while self._behind and self._behind[0][0] <= self._clock():
            _, key, due = self._behind.popleft()
            if key in self._indexed:
                due_key, due_at = self._indexed.pop(key)
                entries = self._by_due[due_key]
                del entries[bisect_left(entries, (due_at, key))]
            if due is not None:
                self._indexed[key] = due
                insort(self._by_due[due[0]], (due[1], key))


def item_size(item: Item) -> int:
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
            size += math.ceil(len(_digits(content)) / 2) + 1
        elif kind == "L":
            size += 3 + sum(1 + item_size({"": element}) for element in content)
        else:
            size += 1
    return size


def _digits(number: str) -> str:
    return re.sub(r"[eE].*|[^0-9]", "", number).strip("0")


def _checked_size(item: Item, operation: str) -> int:
    """Return an item's size in bytes; raises RefusedError if it, a number or an index's key is none that may be."""
    for name, value in item.items():
        [(kind, content)] = value.items()
        if kind == "N":
            _require(len(_digits(content)) <= _MOST_DIGITS, operation)
        if name in INDEX_KEYS:
            _require(kind == "S" and 0 < len(content.encode()) <= _LONGEST_SORT_KEY, operation)
    size = item_size(item)
    _require(size <= _LARGEST_ITEM, operation)
    return size


def _key(item: Mapping[str, Any], *, is_alone: bool = False) -> Key:
    _require({"pk", "sk"} <= item.keys() and not (is_alone and len(item) > 2), "a key")
    pk, sk = key = (item["pk"]["S"], item["sk"]["S"])
    _require(
        0 < len(pk.encode()) <= _LONGEST_PARTITION_KEY and 0 < len(sk.encode()) <= _LONGEST_SORT_KEY,
        "a key",
    )
    return key


def _require(is_met: bool, operation: str) -> None:
    if not is_met:
        raise RefusedError("ValidationException", operation)


def _units(item: Item | None, size: int = 1024) -> int:
    return max(1, math.ceil(item_size(item) / size)) if item else 1


def _index_units(index: Index, old: Item | None, new: Item | None) -> int:
    before, after = _entry(index, old), _entry(index, new)
    if before == after:
        return 0
    if before and after and any(before[name] != after[name] for name in (index.partition_key, index.sort_key)):
        return _units(before) + _units(after)
    return max(_units(before), _units(after))


def _entry(index: Index, item: Item | None) -> Item | None:
    if item is None or index.partition_key not in item or index.sort_key not in item:
        return None
    if index.has_all_attributes:
        return item
    return {name: item[name] for name in ("pk", "sk", index.partition_key, index.sort_key)}


def _due_keys(due_key: Mapping[str, str], entry: Entry) -> dict[str, Any]:
    due_at, (pk, sk) = entry
    return {"due_key": due_key, "due_at": {"S": due_at}, "pk": {"S": pk}, "sk": {"S": sk}}
