"""Make anew what was lost or damaged: the tables of days, the lake's days from the ledger, the ledger from a restore.

Each of them can be ended anywhere and started again: what is done is done, and doing it twice changes nothing.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError, ReadTimeoutError
from rich.console import Console
from rich.progress import Progress

from contact_references.aws.day_folders import CONTACTS, LAKE, REFERENCES, DayFolders
from contact_references.aws.days import Days
from contact_references.aws.items import Attributes, deserialize, get_items, serialize, write_items
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.capture import Capture
from contact_references.model.contact import ContactKey
from contact_references.model.errors import PermanentError, RetriableError
from contact_references.model.timestamps import format_time, parse_iso
from contact_references.tables.commands import InvalidCommandError, Period, parse_rebuild
from ops import prices
from ops.console import JsonOption, YesOption, ask, make_console, make_progress, print_json
from ops.deployment import Deployment, deployment_of
from ops.errors import OpsError
from ops.lease import TablesLease

_READERS = 8  # a client has ten connections
_CONTACTS_AN_OBJECT = 500
_RECORDS_AN_OBJECT = 10_000
_MOST_KEYS = 200_000  # that wait for others of their day: some 50 MB
_SECONDS_BETWEEN_LOOKS = 5.0
_PATIENCE_SECONDS = 20 * 60  # for the tables: nobody has their lease for longer than 15 minutes
_SCANNED_BYTES_A_UNIT = 8192  # read as of a moment ago
_NAMED_CONTACTS = 20

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


# Tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TablesRebuilt:
    """How many days were marked, and how many of these and other days the runs wrote meanwhile."""

    days: int
    written: int


def rebuild_tables(
    deployment: Deployment,
    period: Period,
    *,
    on_progress: Callable[[int, int], object] = lambda _done, _days: None,
    sleep: Callable[[float], object] = time.sleep,
) -> TablesRebuilt:
    """Mark the days of a period that the lake or a table has, and run the tables function until all are made anew.

    While another run is at work it waits. `on_progress` gets the days that are done, and all of them. Raises OpsError
    if the function fails or does not get to it, or a CaptureError.
    """
    folders = DayFolders(deployment.clients.s3, deployment.output("BucketName"))
    command = {"rebuild": {"from": period.start, "to": period.end}}
    marked = int(_invoke_tables(deployment, command)["days"])
    kinds = (LAKE, CONTACTS, REFERENCES)
    dates = {date for kind in kinds for date in folders.find_dates(kind) if date in period}
    return TablesRebuilt(marked, write_tables(deployment, dates, on_progress=on_progress, sleep=sleep))


def write_tables(
    deployment: Deployment,
    dates: Collection[str],
    *,
    on_progress: Callable[[int, int], object] = lambda _done, _days: None,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run the tables function until none of these dates, all marked anew, waits any more; return how many it wrote.

    Other days that are marked are written too. Whoever has the tables' lease returns it first: while another has it
    this waits, and gives up once nothing was done for longer than that can be. `on_progress` gets the dates that are
    done, and all of them. Raises OpsError, the dates that are not made still marked, or a CaptureError.
    """
    days = Days(deployment.clients.dynamodb, deployment.output("TableName"))
    waiting = {date for date in dates if _is_waiting(days, date)}
    written, idle_since = 0, clock()
    while waiting:
        on_progress(len(dates) - len(waiting), len(dates))
        before = {*days.find_marked(), *waiting}
        try:
            answer = _invoke_tables(deployment, {})
        except OpsError:  # a run ends with the first day that failed, when the others are done
            if any(_is_waiting(days, date) for date in waiting):
                raise
            break
        written += int(answer["written"])
        if int(answer["written"]) >= len(before):  # each of them, though its lake may have got something new since
            break
        if not answer["written"]:  # another run is at work
            sleep(_SECONDS_BETWEEN_LOOKS)
        left = {date for date in waiting if _is_waiting(days, date)}
        if answer["written"] or left != waiting:
            idle_since = clock()
        elif clock() - idle_since > _PATIENCE_SECONDS:
            raise OpsError(
                f"no tables were written for {_PATIENCE_SECONDS // 60} minutes: Lambda is busy, or others are at work "
                f"on them, a rebuild of the lake perhaps. What is left ({_count(len(left), 'day')}) stays marked, and "
                "the hourly runs go on with it; or try again later"
            )
        waiting = left
    on_progress(len(dates), len(dates))
    return written


def _is_waiting(days: Days, date: str) -> bool:
    """Whether a day's tables are still to be made of all of its lake: making them notes how far it was read."""
    mark = days.read_mark(date)
    return mark is not None and mark.read_to is None


def _invoke_tables(deployment: Deployment, command: dict[str, Any]) -> dict[str, Any]:
    functions = deployment.clients.functions
    try:
        answer = functions.invoke(
            FunctionName=deployment.output("TablesFunctionName"), Payload=json.dumps(command).encode()
        )
    except functions.exceptions.TooManyRequestsException:
        if command:
            raise OpsError("the tables function is not invoked, as Lambda is busy: try again in a minute") from None
        return {"written": 0}
    except ReadTimeoutError:
        if command:
            raise
        return {"written": 0}  # the run may still be at work
    content: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise OpsError(
            f"the tables function failed ({content.get('errorType')}: {content.get('errorMessage')}). The days that "
            "are not made stay marked, and its hourly runs go on with them; its log names the day that failed"
        )
    return content


# Lake ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damaged:
    """A contact of whose capture something is missing from the ledger, and what."""

    key: ContactKey
    error: str

    @property
    def repair(self) -> str:
        """The command that reads the contact anew."""
        return f"capture {self.key.contact_id} --instance {self.key.instance_id}"


@dataclass
class LakeRebuilt:
    """What was appended to the lake; `gone` are contacts that have expired, or went while they were read."""

    captures: int = 0
    objects: int = 0
    dates: set[str] = field(default_factory=set)
    gone: int = 0
    damaged: list[Damaged] = field(default_factory=list)


def rebuild_lake(
    deployment: Deployment,
    period: Period,
    *,
    on_scanned: Callable[[int], object] = lambda _items: None,
    on_waiting: Callable[[], object] = lambda: None,
    clock: Clock = _now,
    sleep: Callable[[float], object] = time.sleep,
) -> LakeRebuilt:
    """Append every whole capture that counts, of contacts completed in the period, to the lake again.

    A contact is read right before it is appended, so that what is appended is as new as what a capture appends; and
    both are done under the tables' lease, so that nothing of a contact comes back that is erased in between. While
    another has that, it waits: `on_waiting` is told once each time. Each object's day is marked anew right after it: a
    run may have made the day's tables since the last one, and a process that is killed marks nothing at its end. A
    mark that fails is tried once more at the end. Raises a CaptureError.
    """
    client, table_name = deployment.clients.dynamodb, deployment.output("TableName")
    lake = Lake(deployment.clients.s3, deployment.output("BucketName"))
    days = Days(client, table_name)
    lease = TablesLease(days, "rebuild lake", on_waiting=on_waiting, clock=clock, sleep=sleep)
    with ThreadPoolExecutor(_READERS) as pool:
        copy = _LakeCopy(Ledger(client, table_name, clock=clock), lake, days, lease, pool, clock)
        try:
            for date, keys in _of_one_day(_find_completed(client, table_name, period, on_scanned)):
                copy.append(date, keys)
        finally:
            for date in copy.unmarked:
                days.mark_anew(date, now=clock())
    return copy.rebuilt


@dataclass
class _LakeCopy:
    """Appends contacts' captures to the lake; `unmarked` are days of which an object is not marked."""

    ledger: Ledger
    lake: Lake
    days: Days
    lease: TablesLease
    pool: ThreadPoolExecutor
    clock: Clock
    rebuilt: LakeRebuilt = field(default_factory=LakeRebuilt)
    unmarked: set[str] = field(default_factory=set)

    def append(self, date: str, keys: list[ContactKey]) -> None:
        """Append the captures of contacts that completed on a date."""
        while keys:
            with self.lease.take():
                keys = self._append_in_turn(date, keys)

    def _append_in_turn(self, date: str, keys: list[ContactKey]) -> list[ContactKey]:
        """Return the contacts that are to be read again, as the lease ended before they were appended."""
        found = list(self.pool.map(lambda key: _find_capture(self.ledger, key), keys))
        self.rebuilt.damaged += [each for each in found if isinstance(each, Damaged)]
        self.rebuilt.gone += found.count(None)
        captures = [each for each in found if isinstance(each, Capture)]
        appended = 0
        for part in _bounded(captures):
            if not self.lease.lengthen():
                break
            self.lake.append(date, part)
            self.unmarked.add(date)
            appended += len(part)
            self.rebuilt.dates.add(date)
            self.rebuilt.captures += len(part)
            self.rebuilt.objects += 1
            self.days.mark_anew(date, now=self.clock())
            self.unmarked.remove(date)
        return [capture.contact.key for capture in captures[appended:]]


def _find_completed(
    client: Any, table_name: str, period: Period, on_scanned: Callable[[int], object]
) -> Iterator[tuple[str, ContactKey]]:
    """Yield the dates and keys of the contacts that the ledger has of a period, in any order."""
    values = {":contact": "CONTACT", ":start": period.start, ":end": period.end}
    pages = client.get_paginator("scan").paginate(
        TableName=table_name,
        FilterExpression="sk = :contact AND completed_at >= :start AND completed_at < :end",
        ProjectionExpression="pk, completed_at",
        ExpressionAttributeValues=serialize(values),
    )
    with translated_errors("Scan", {}):
        for page in pages:
            for item in map(deserialize, page["Items"]):
                yield item["completed_at"][:10], ContactKey(*item["pk"].split("#", 1))
            on_scanned(page["ScannedCount"])


def _of_one_day(found: Iterable[tuple[str, ContactKey]]) -> Iterator[tuple[str, list[ContactKey]]]:
    """Yield dates with contacts of that date, as many as an object is to have, or as memory allows."""
    waiting: dict[str, list[ContactKey]] = {}
    count = 0
    for date, key in found:
        waiting.setdefault(date, []).append(key)
        count += 1
        if len(waiting[date]) >= _CONTACTS_AN_OBJECT:
            full = date
        elif count >= _MOST_KEYS:
            full = max(waiting, key=lambda each: len(waiting[each]))
        else:
            continue
        count -= len(waiting[full])
        yield full, waiting.pop(full)
    yield from waiting.items()


def _find_capture(ledger: Ledger, key: ContactKey) -> Capture | Damaged | None:
    try:
        return ledger.find_capture(key)
    except PermanentError as error:
        return Damaged(key, error.error)


def _bounded(captures: Iterable[Capture]) -> Iterator[list[Capture]]:
    """Split captures so that no object has many more records than it should."""
    part: list[Capture] = []
    records = 0
    for capture in captures:
        part.append(capture)
        records += 1 + len(capture.references)
        if records >= _RECORDS_AN_OBJECT:
            yield part
            part, records = [], 0
    if part:
        yield part


# Ledger ----------------------------------------------------------------------------------------------------------


COUNTED = ("contacts", "completed", "rows", "hours", "days", "left", "kept", "expired")
"""Of a rebuilt ledger: contacts that it lacked and those that lacked rows; the rows, hours and days copied; contacts
left as they are, those kept as the ledger has another capture of them, and what has expired."""


@dataclass
class LedgerRebuilt:
    """What was copied from a restored table, and what was not: by the names of COUNTED."""

    counts: Counter[str] = field(default_factory=Counter)
    damaged: list[Damaged] = field(default_factory=list)


@dataclass(frozen=True)
class _Copied:
    """What became of a contact of the restored table."""

    outcome: str
    rows: int = 0
    damaged: Damaged | None = None


class LedgerCopy:
    """Copies to the ledger what it lacks of a restored table, of which nobody writes anything.

    A contact's rows come first and its item after, on the condition that there is none, as in a capture. What the
    ledger has stays: above all another capture of the contact, and the item that says that a contact was erased. Only
    up to where an instance's hours were opened becomes the earlier of both: if a run has opened those of the last day
    since the loss, the hours before them would never be opened; the next run leaves out those that are there.
    """

    def __init__(self, client: Any, *, source: str, ledger: str, clock: Clock = _now) -> None:
        self._client = client
        self._source = source
        self._ledger = ledger
        self._clock = clock

    def run(self, *, on_scanned: Callable[[int], object] = lambda _items: None) -> LedgerRebuilt:
        """Copy everything; what is copied already is found, and left. Raises a CaptureError."""
        rebuilt = LedgerRebuilt()
        with ThreadPoolExecutor(_READERS) as pool:
            for page in self._scan():
                items = [item for item in page["Items"] if not self._is_expired(item)]
                rebuilt.counts["expired"] += len(page["Items"]) - len(items)
                contacts = [item for item in items if item["sk"]["S"] == "CONTACT"]
                held = self._find_held(contacts)
                for copied in pool.map(self._copy_contact, contacts, [held.get(item["pk"]["S"]) for item in contacts]):
                    rebuilt.counts[copied.outcome] += 1
                    rebuilt.counts["rows"] += copied.rows
                    rebuilt.damaged += [copied.damaged] if copied.damaged else []
                for item in items:
                    if item["sk"]["S"] == "CONTACT":
                        continue
                    if self._put_if_absent(item) is None or self._open_earlier(item):
                        rebuilt.counts["days" if item["pk"]["S"] == "DAYS" else "hours"] += 1
                on_scanned(page["ScannedCount"])
        return rebuilt

    def _scan(self) -> Iterator[Any]:
        values = {":contact": "CONTACT", ":hours": "HOURS#", ":days": "DAYS"}
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._source,
            FilterExpression="sk = :contact OR begins_with(pk, :hours) OR pk = :days",
            ExpressionAttributeValues=serialize(values),
            ConsistentRead=True,
        )
        with translated_errors("Scan", {}):
            yield from pages

    def _is_expired(self, item: Attributes) -> bool:
        return "expires_at" in item and int(item["expires_at"]["N"]) <= self._clock().timestamp()

    def _find_held(self, contacts: Sequence[Attributes]) -> dict[str, str]:
        """Return the ids of the captures that count in the ledger now, by partition key; of an erased one, nothing."""
        keys = [{"pk": item["pk"], "sk": item["sk"]} for item in contacts]
        found = get_items(self._client, self._ledger, keys)
        return {item["pk"]: str(item.get("capture_id", "")) for item in found}

    def _copy_contact(self, item: Attributes, held: str | None) -> _Copied:
        capture_id = item.get("capture_id", {}).get("S", "")
        if held not in {None, capture_id}:
            if not held:  # erased: what a copy that was killed had put by then is no longer to be there
                self._delete(self._find_rows(self._ledger, item["pk"]["S"], capture_id, only_keys=True))
            return _Copied("kept")
        count = int(item.get("reference_count", {}).get("N", 0))
        pk = item["pk"]["S"]
        there = {row["sk"]["S"] for row in self._find_rows(self._ledger, pk, capture_id, only_keys=True)}
        if held is not None and len(there) >= count:
            return _Copied("left")
        restored = list(self._find_rows(self._source, pk, capture_id))
        rows = [row for row in restored if row["sk"]["S"] not in there]
        self._write([{"PutRequest": {"Item": row}} for row in rows])
        # What took its place in between, an erasure perhaps, did not know of these rows.
        now = self._put_if_absent(item) if held is None else self._find_held([item]).get(pk, "")
        if now not in {None, capture_id}:
            self._delete(rows)
            return _Copied("kept")
        missing = len(there) + len(rows) < count
        damaged = Damaged(ContactKey(*pk.split("#", 1)), "DamagedContact") if missing else None
        outcome = "contacts" if now is None else "completed" if rows else "left"
        return _Copied(outcome, len(rows), damaged)

    def _find_rows(self, table_name: str, pk: str, capture_id: str, *, only_keys: bool = False) -> Iterator[Attributes]:
        options: dict[str, Any] = {"ProjectionExpression": "pk, sk"} if only_keys else {}
        with translated_errors("Query", {}):
            pages = self._client.get_paginator("query").paginate(
                TableName=table_name,
                KeyConditionExpression="pk = :pk AND begins_with(sk, :rows)",
                ExpressionAttributeValues=serialize({":pk": pk, ":rows": f"REFERENCE#{capture_id}#"}),
                ConsistentRead=True,
                **options,
            )
            for page in pages:
                yield from page["Items"]

    def _put_if_absent(self, item: Attributes) -> str | None:
        """Put an item that the ledger lacks; return None if it did, else the id of the capture that is there."""
        with translated_errors("PutItem", {}):
            try:
                self._client.put_item(
                    TableName=self._ledger,
                    Item=item,
                    ConditionExpression="attribute_not_exists(pk)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except self._client.exceptions.ConditionalCheckFailedException as refusal:
                met: Any = refusal.response.get("Item") or {}
                return str(met.get("capture_id", {}).get("S", ""))
        return None

    def _open_earlier(self, item: Attributes) -> bool:
        """Take over from where hours are to be opened, if that is earlier; return whether it was. Not of other items.

        In a scan it follows its instance's hours, so that these are there.
        """
        if item["sk"]["S"] != "OPENED" or "opened_to" not in item:
            return False
        with translated_errors("UpdateItem", {}):
            try:
                self._client.update_item(
                    TableName=self._ledger,
                    Key={"pk": item["pk"], "sk": item["sk"]},
                    UpdateExpression="SET opened_to = :restored",
                    ConditionExpression="opened_to > :restored",
                    ExpressionAttributeValues={":restored": item["opened_to"]},
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def _delete(self, rows: Iterable[Attributes]) -> None:
        self._write([{"DeleteRequest": {"Key": {"pk": row["pk"], "sk": row["sk"]}}} for row in rows])

    def _write(self, requests: Sequence[Any]) -> None:
        if write_items(self._client, self._ledger, requests):
            raise RetriableError("UnprocessedItems", "BatchWriteItem did not get to all rows")


# Commands --------------------------------------------------------------------------------------------------------

FromOption = Annotated[str, typer.Option("--from", metavar="DATE", help="First date of completion, in UTC.")]
ToOption = Annotated[str, typer.Option("--to", metavar="DATE", help="The date after the last one.")]
TableOption = Annotated[str, typer.Option("--from-table", metavar="TABLE", help="The table that was restored.")]

rebuild = typer.Typer(
    help="Make anew what was lost or damaged: the tables, the lake, the ledger.", no_args_is_help=True
)


@rebuild.command(epilog="Example: python -m ops rebuild tables --from 2026-10-01 --to 2026-11-01")
def tables(
    context: typer.Context, start: FromOption, end: ToOption, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Make the tables of a period's days anew from the whole lake, and wait until they are written."""
    period = _read_period(start, end)
    deployment = deployment_of(context)
    deployment.output("TablesFunctionName")
    ask(
        f"Make the tables of {start} to {end} (not included) anew? Each day is read from the lake as a whole.",
        is_answered=yes,
    )
    with make_progress(make_console(stderr=True)) as progress:
        task = progress.add_task("days", total=None)
        rebuilt = rebuild_tables(
            deployment, period, on_progress=lambda done, days: progress.update(task, completed=done, total=days)
        )
    if as_json:
        print_json({"from": start, "to": end, "days": rebuilt.days, "written": rebuilt.written})
        return
    console = make_console()
    if not rebuilt.days:
        console.print("Neither the lake nor the tables have anything of these days.")
        return
    console.print(f"{_count(rebuilt.days, 'day')} of the period made anew, {rebuilt.written:,} written in all.")


@rebuild.command(epilog="Example: python -m ops rebuild lake --from 2026-10-01 --to 2026-11-01")
def lake(
    context: typer.Context, start: FromOption, end: ToOption, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Append what the ledger has of a period to the lake again, and mark its days, so that their tables are made anew.

    Nothing is taken from the lake: its readers drop repeats. Ended anywhere, it can be started again.
    """
    period = _read_period(start, end)
    deployment = deployment_of(context)
    name = deployment.output("TableName")
    items, size = _measure(deployment, name)
    units = math.ceil(size / _SCANNED_BYTES_A_UNIT)
    ask(
        f"Append the contacts completed from {start} to {end} (not included) to the lake again? The whole ledger is "
        f"scanned: about {items:,} items, {units:,} read units, {units * prices.DYNAMODB_READ_UNIT:.2f} USD; and "
        "each contact of the period read, about 2 read units.",
        is_answered=yes,
    )
    console = make_console(stderr=True)
    with make_progress(console) as progress:
        rebuilt = rebuild_lake(
            deployment,
            period,
            on_scanned=_scanning(progress, items),
            on_waiting=lambda: progress.console.print("Waiting: a run of the tables, or an erasure, is at work."),
        )
    if as_json:
        print_json(
            {
                "from": start,
                "to": end,
                "captures": rebuilt.captures,
                "objects": rebuilt.objects,
                "days": sorted(rebuilt.dates),
                "gone": rebuilt.gone,
                "damaged": _as_json(rebuilt.damaged),
            }
        )
    else:
        _tell_of_lake(rebuilt, start, end)
    _end_with(rebuilt.damaged, console)


@rebuild.command(epilog="Example: python -m ops rebuild ledger --from-table contact-references-restored")
def ledger(context: typer.Context, source: TableOption, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Copy to the ledger what it lacks of a table that was restored from point-in-time recovery.

    Nothing that the ledger has is changed, but for the hour up to which hours were opened: the earlier of both counts.
    Ended anywhere, it can be started again, and goes on.
    """
    deployment = deployment_of(context)
    name = deployment.output("TableName")
    if source.rpartition("/")[2] == name:
        raise OpsError(f"{source} is the ledger itself: name the table that was restored beside it")
    items, size = _measure(deployment, source)
    ledger_items, _ = _measure(deployment, name)
    units = math.ceil(size / _SCANNED_BYTES_A_UNIT * 2)
    ask(
        f"Copy to the ledger what it lacks of {source}? All of that table is read: about {units:,} read units, "
        f"{units * prices.DYNAMODB_READ_UNIT:.2f} USD; the ledger, about 2 read units a contact; and written only what "
        "is missing.",
        is_answered=yes,
    )
    console = make_console(stderr=True)
    copy = LedgerCopy(deployment.clients.dynamodb, source=source, ledger=name)
    with make_progress(console) as progress:
        rebuilt = copy.run(on_scanned=_scanning(progress, items or ledger_items))
    counts = {name: rebuilt.counts[name] for name in COUNTED}
    if as_json:
        print_json({"from_table": source, **counts, "damaged": _as_json(rebuilt.damaged)})
    else:
        make_console().print(
            f"Copied: {_count(counts['contacts'], 'contact')} that the ledger lacked, the missing rows of "
            f"{_count(counts['completed'], 'contact')}, {_count(counts['rows'], 'row')} in all, "
            f"{_count(counts['hours'], 'hour')}, {_count(counts['days'], 'day')}.\n"
            f"Left as they are: {_count(counts['left'], 'contact')} that the ledger has, and {counts['kept']:,} of "
            f"which it has another capture. Not copied, as they have expired: {counts['expired']:,}."
        )
    _end_with(rebuilt.damaged, console)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(rebuild, name="rebuild")


def _read_period(start: str, end: str) -> Period:
    for name, text in (("--from", start), ("--to", end)):
        try:
            is_date = format_time(parse_iso(text))[:10] == text
        except ValueError:
            is_date = False
        if not is_date:
            raise OpsError(f"{name} {text!r} is no date: give one such as 2026-10-01")
    try:
        return parse_rebuild({"rebuild": {"from": start, "to": end}})
    except InvalidCommandError as error:
        raise OpsError(str(error)) from None


def _measure(deployment: Deployment, table_name: str) -> tuple[int, int]:
    """Return a table's items and bytes, as counted within the last six hours; raises OpsError if it is not a ledger."""
    client = deployment.clients.dynamodb
    try:
        table = client.describe_table(TableName=table_name)["Table"]
    except client.exceptions.ResourceNotFoundException:
        raise OpsError(
            f"there is no table {table_name} here: `aws dynamodb list-tables` names those that there are"
        ) from None
    except ClientError as error:
        if error.response["Error"].get("Code") != "ValidationException":
            raise
        raise OpsError(f"{table_name!r} is no table's name: `aws dynamodb list-tables` names them") from None
    if [key["AttributeName"] for key in table["KeySchema"]] != ["pk", "sk"]:
        raise OpsError(f"{table_name} is no copy of the ledger: its key is not pk and sk")
    if table["TableStatus"] not in {"ACTIVE", "UPDATING"}:
        raise OpsError(f"{table_name} is {table['TableStatus'].lower()}: wait until it is active")
    return table.get("ItemCount", 0), table.get("TableSizeBytes", 0)


def _tell_of_lake(rebuilt: LakeRebuilt, start: str, end: str) -> None:
    told = [
        f"{_count(rebuilt.captures, 'capture')} of {_count(len(rebuilt.dates), 'day')} appended in "
        f"{_count(rebuilt.objects, 'object')}."
        if rebuilt.captures
        else "Nothing is appended: the ledger has no whole capture of these days."
    ]
    if rebuilt.gone:
        told.append(f"{_count(rebuilt.gone, 'contact')} left out, expired.")
    if rebuilt.captures:
        told.append(
            "The days are marked: the next hourly runs make their tables anew, or at once "
            f"`rebuild tables --from {start} --to {end}`."
        )
    make_console().print(" ".join(told))


def _scanning(progress: Progress, items: int) -> Callable[[int], None]:
    """Return what shows how far a scan is; the items of a table are an estimate."""
    task = progress.add_task("items, of about", total=items or None)

    def advance(scanned: int) -> None:
        progress.advance(task, scanned)
        done = progress.tasks[task].completed
        total = progress.tasks[task].total
        if total is not None and done > total:
            progress.update(task, total=done)

    return advance


def _as_json(damaged: Iterable[Damaged]) -> list[dict[str, str]]:
    return [
        {
            "instance_id": each.key.instance_id,
            "contact_id": each.key.contact_id,
            "error": each.error,
            "repair": each.repair,
        }
        for each in damaged
    ]


def _end_with(damaged: Sequence[Damaged], console: Console) -> None:
    """Name the contacts that are damaged, with what repairs them; then the command has not done everything."""
    if not damaged:
        return
    console.print(f"[red]{_count(len(damaged), 'contact')} damaged[/red], to be read anew:")
    for each in damaged[:_NAMED_CONTACTS]:
        console.print(f"  {each.repair}", markup=False, soft_wrap=True)
    if len(damaged) > _NAMED_CONTACTS:
        console.print(f"  and {len(damaged) - _NAMED_CONTACTS:,} more, which --json names")
    raise typer.Exit(1)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
