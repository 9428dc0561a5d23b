"""What reconciling remembers between its runs, in the ledger's table; nothing of what a contact is about.

| pk | sk | what |
|---|---|---|
| `RECONCILE` | `LEASE` | who searches now, and when contacts may be fed in again |
| `RECONCILE` | `RECENT#<instance_id>` | until when the scheduled runs have searched |
| `REQUEST#<instance_id>#<contact_id>` | `REQUEST` | that a contact was asked for, for a day |
| `BACKFILL#<name>` | `SUMMARY`, `WINDOW#<from>` | how far a backfill is, in all and in each window |
| `COVERAGE#<instance_id>` | `<hour>` | the contacts that completed in an hour, and what became of them |
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from contact_references.aws_errors import translated_errors
from contact_references.contact import CaptureRequest, Instance
from contact_references.errors import RetriableError
from contact_references.items import deserialize, get_items, serialize
from contact_references.ledger import Entry
from contact_references.timestamps import format_time, parse_iso

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_REQUEST_STANDS = timedelta(hours=24)
_LEASE_LASTS = timedelta(minutes=2)  # renewed between two spans of a search, which take seconds

Key = tuple[str, str]
Columns = Mapping[str, object]

_LEASE: Key = ("RECONCILE", "LEASE")


class HeldError(RetriableError):
    """Somebody else has the lease, or was faster to write a record."""


_REACTIONS = {"ConditionalCheckFailedException": HeldError, "TransactionCanceledException": HeldError}


@dataclass(slots=True)
class Tally:
    """Contacts that completed in a time, and what became of them.

    `captured` are those whose own completion was seen and that were read after it; `unsettled` those of them that
    are to be looked at again, `given_up` those whose last look still found something in PROCESSING. The other
    completed ones are `missing`.
    """

    completed: int = 0
    captured: int = 0
    missing: int = 0
    unsettled: int = 0
    given_up: int = 0

    def add(self, entry: Entry | None) -> None:
        """Count a contact that completed; `entry` is its capture, None for a missing one."""
        self.completed += 1
        if entry is None:
            self.missing += 1
            return
        self.captured += 1
        self.unsettled += entry.settling.look_again_at is not None
        self.given_up += entry.settling.is_given_up


@dataclass(slots=True)
class Period:
    """A time of which an instance's contacts are still to be searched.

    `tally` is of the hour that `start` is in, from the hour's beginning on; None if it was not counted from there.
    """

    instance: Instance
    start: datetime
    end: datetime
    tally: Tally | None = None


@dataclass(slots=True)
class Lease:
    """The right to search and to feed, which one function has at a time.

    By `feed_again_at`, what was fed so far has had its share of the rate. `keep` renews the lease; it raises
    HeldError when the lease was lost because too much time passed.
    """

    feed_again_at: datetime
    keep: Callable[[], object]


class Journal:
    """Reads and writes the records; its methods raise RetriableError or ConfigurationError."""

    def __init__(self, client: "DynamoDBClient", table_name: str, *, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._table_name = table_name
        self._clock = clock

    @contextmanager
    def lease(self, holder: str) -> Iterator[Lease]:
        """Be the only one to search. Raises HeldError when another is: one that died, for two minutes."""
        item = self._hold(holder)
        feed_again_at = parse_iso(item["feed_again_at"]) if "feed_again_at" in item else self._clock()
        lease = Lease(feed_again_at, keep=partial(self._hold, holder))
        try:
            yield lease
        finally:
            free = {"held_until": format_time(self._clock()), "feed_again_at": format_time(lease.feed_again_at)}
            self._set(_LEASE, free, condition="held_by = :holder", values={":holder": holder})

    def _hold(self, holder: str) -> dict[str, Any]:
        now = self._clock()
        return self._set(
            _LEASE,
            {"held_by": holder, "held_until": format_time(now + _LEASE_LASTS)},
            condition="attribute_not_exists(pk) OR held_until <= :now OR held_by = :held_by",
            values={":now": format_time(now)},
        )

    def find_searched_until(self, instance: Instance) -> datetime | None:
        """Return until when the scheduled runs have searched an instance; None before the first."""
        item = self._get(("RECONCILE", f"RECENT#{instance.instance_id}"))
        return parse_iso(item["searched_until"]) if item else None

    def note_searched_until(self, instance: Instance, until: datetime) -> None:
        """Note until when the scheduled runs have searched an instance."""
        self._set(("RECONCILE", f"RECENT#{instance.instance_id}"), {"searched_until": format_time(until)})

    def find_standing(self, requests: Iterable[CaptureRequest]) -> set[str]:
        """Return the ids of those requests that stand: they were made within a day.

        By then their contacts are captured, or their messages dead letters, or near it.
        """
        since = format_time(self._clock() - _REQUEST_STANDS)
        keys = [_key_attributes(_request_key(request)) for request in requests]
        items = get_items(self._client, self._table_name, keys)
        return {item["request_id"] for item in items if item["requested_at"] > since}

    def note_requests(self, requests: Iterable[CaptureRequest]) -> None:
        """Note that the requests were made, now."""
        now = self._clock()
        made = {"requested_at": format_time(now), "expires_at": int((now + _REQUEST_STANDS).timestamp())}
        for request in requests:
            self._put(_request_key(request), {"request_id": request.id, **made})

    def begin_backfill(self, name: str, *, start: datetime, end: datetime, windows: int) -> None:
        """Begin a backfill's summary; one that has begun stays as it is."""
        summary = {"from": format_time(start), "to": format_time(end), "windows": windows}
        zero = dict.fromkeys(("windows_done", "seen", "queued", "already_there"), 0)
        with suppress(HeldError):  # an attempt that was cut off had begun
            self._put(_summary_key(name), summary | zero, condition="attribute_not_exists(pk)")

    def find_window(self, name: str, window: str) -> tuple[list[Period], Counter[str]] | None:
        """Return what is left of a backfill's window, and its counts so far; None if it has not begun."""
        item = self._get(_window_key(name, window))
        if item is None:
            return None
        return [_read_period(each) for each in item["left"]], Counter(_whole_numbers(item["counts"]))

    def note_window(self, name: str, window: str, *, left: Sequence[Period], counts: Counter[str]) -> None:
        """Note how far a backfill's window is; once nothing is left, add its counts to the summary, once."""
        now = format_time(self._clock())
        record = {"left": [_write_period(period) for period in left], "counts": dict(counts), "updated_at": now}
        if left:
            self._put(_window_key(name, window), record)
            return
        done = serialize({**_key_columns(_window_key(name, window)), **record, "done_at": now})
        sums = {"windows_done": 1, **counts}
        added = {
            "TableName": self._table_name,
            "Key": _key_attributes(_summary_key(name)),
            "UpdateExpression": "SET updated_at = :now ADD " + ", ".join(f"{each} :{each}" for each in sums),
            "ExpressionAttributeValues": serialize({":now": now, **{f":{each}": sums[each] for each in sums}}),
        }
        put = {"TableName": self._table_name, "Item": done, "ConditionExpression": "attribute_not_exists(done_at)"}
        changes: Any = [{"Put": put}, {"Update": added}]
        try:
            with translated_errors("TransactWriteItems", _REACTIONS):
                self._client.transact_write_items(TransactItems=changes)
        except HeldError:
            if "done_at" not in (self._get(_window_key(name, window)) or {}):
                raise

    def note_coverage(self, instance: Instance, hour: datetime, tally: Tally, *, until: datetime) -> bool:
        """Note what became of the contacts of an hour, counted until a moment; return whether that is news.

        A count that reaches less far than the one that is there is not taken.
        """
        counts = asdict(tally)
        columns = counts | {"counted_until": format_time(until), "counted_at": format_time(self._clock())}
        try:
            old = self._put(
                (f"COVERAGE#{instance.instance_id}", format_time(hour)),
                columns,
                condition="attribute_not_exists(pk) OR counted_until <= :until",
                values={":until": columns["counted_until"]},
            )
        except HeldError:
            return False
        return any(old.get(name) != count for name, count in counts.items())

    def _get(self, key: Key) -> dict[str, Any] | None:
        return next(get_items(self._client, self._table_name, [_key_attributes(key)]), None)

    def _put(
        self,
        key: Key,
        columns: Columns,
        *,
        condition: str = "",
        values: Columns | None = None,
    ) -> dict[str, Any]:
        """Put an item and return the one that was there, or nothing."""
        with translated_errors("PutItem", _REACTIONS):
            answer = self._client.put_item(
                TableName=self._table_name,
                Item=serialize({**_key_columns(key), **columns}),
                ReturnValues="ALL_OLD",
                **_condition(condition, values or {}),
            )
        return deserialize(answer.get("Attributes", {}))

    def _set(self, key: Key, columns: Columns, *, condition: str = "", values: Columns | None = None) -> dict[str, Any]:
        """Set attributes of an item, which may not be there yet, and return it."""
        with translated_errors("UpdateItem", _REACTIONS):
            answer = self._client.update_item(
                TableName=self._table_name,
                Key=_key_attributes(key),
                UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in columns),
                ReturnValues="ALL_NEW",
                **_condition(condition, {**{f":{name}": value for name, value in columns.items()}, **(values or {})}),
            )
        return deserialize(answer["Attributes"])


def _condition(expression: str, values: Columns) -> dict[str, Any]:
    condition = {"ConditionExpression": expression} if expression else {}
    return condition | ({"ExpressionAttributeValues": serialize(values)} if values else {})


def _key_columns(key: Key) -> dict[str, object]:
    return {"pk": key[0], "sk": key[1]}


def _key_attributes(key: Key) -> Any:
    return serialize(_key_columns(key))


def _request_key(request: CaptureRequest) -> Key:
    contact = request.contact.key
    return f"REQUEST#{contact.instance_id}#{contact.contact_id}", "REQUEST"


def _summary_key(name: str) -> Key:
    return f"BACKFILL#{name}", "SUMMARY"


def _window_key(name: str, window: str) -> Key:
    return f"BACKFILL#{name}", f"WINDOW#{window}"


def _write_period(period: Period) -> dict[str, Any]:
    written = {"instance": asdict(period.instance), "from": format_time(period.start), "to": format_time(period.end)}
    return written | ({"tally": asdict(period.tally)} if period.tally else {})


def _read_period(written: Mapping[str, Any]) -> Period:
    return Period(
        instance=Instance(**written["instance"]),
        start=parse_iso(written["from"]),
        end=parse_iso(written["to"]),
        tally=Tally(**_whole_numbers(written["tally"])) if "tally" in written else None,
    )


def _whole_numbers(columns: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in columns.items()}
