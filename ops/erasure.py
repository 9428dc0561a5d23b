"""Erases contacts from every store, in an order in which nothing can come back, and shows that nothing is left.

1. A tombstone takes the place of each contact's item: from then on no capture of it begins.
2. What was being captured by then is over once the capture function's timeout is.
3. So the contacts' rows can go, and what the lake has of them, version by version, a day at a time, under the lease
   of the tables; and the tables of those days are made anew, and their earlier versions go.
4. Dead letters that name one of the contacts go.
5. Every store is searched.

Each step can be done again, and all of them are: whoever is killed starts anew. The tombstones still say which days
had the contacts, and a list which of them are not erased to the end, as their values may not find them any more.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from contact_references.aws.day_folders import CONTACTS, LAKE, REFERENCES, DayFolders
from contact_references.aws.days import Days
from contact_references.aws.ledger import FoundItem, Ledger
from contact_references.model.capture import ContactItem, Tombstone
from contact_references.model.contact import ContactKey
from contact_references.model.errors import PermanentError, RetriableError
from contact_references.model.timestamps import format_time
from ops.activity import read_settings
from ops.contacts import Value
from ops.dead_letters import delete_letters
from ops.deployment import Deployment
from ops.errors import OpsError
from ops.lake_versions import LakeVersions, RecordsOfContacts, RecordsWithValue, Searched, Version
from ops.lease import TablesLease
from ops.rebuild import write_tables
from ops.rights import check_rights
from ops.unfinished import Unfinished

T = TypeVar("T")
U = TypeVar("U")

_WORKERS = 8
_CONTACTS_A_DELETE = 25  # at once, by one worker: so that requests are full, whatever the contacts' rows
_SPARE = timedelta(seconds=5)  # a function's end may come a moment after its timeout
_CLOCKS_DIFFER = timedelta(minutes=15)  # S3's and ours, at most
_AT_ONCE = 500  # objects of a day, before the lease is lengthened
_INDEX_PAGE = 1000
_INDEX_LOOKS = 10  # a second apart: the index is a moment behind
_LETTER_LOOKS = 19  # for a minute and a half: the queue's own counts are up to a minute behind
_SECONDS_BETWEEN_LETTER_LOOKS = 5.0
_TABLES = (CONTACTS, REFERENCES)

OnProgress = Callable[[str, int, int], object]
"""Gets what is done, how much of it, and of how much."""


@dataclass(frozen=True)
class Target:
    """A contact to erase: the day that lake and tables have it at, if they do, and what the ledger has.

    `other_dates` are further days at which the lake was seen to have it: a contact that was lost from the ledger, and
    captured again, may have come to another day.
    """

    key: ContactKey
    completed_date: str | None
    item: FoundItem | None
    other_dates: frozenset[str] = frozenset()

    @property
    def reference_count(self) -> int:
        """How many references count, as far as the item says."""
        return self.item.reference_count if isinstance(self.item, ContactItem) else 0


@dataclass
class Erased:
    """What an erasure did, and what it found when it searched every store at its end.

    `removed` counts by what was removed, `found` by where something still is. `unreadable` are objects of the lake that
    are no gzip, so that nobody can tell what they have: of those days, or of all where a value was sought. `chain` are
    contacts that continue an erased one, or are continued by it, and were not erased with it: as far as the ledger and
    those days of the lake tell.
    """

    tombstones: list[Tombstone] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    unreadable: set[str] = field(default_factory=set)
    chain: set[ContactKey] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Whether the search of every store found nothing, and could read everything."""
        return not self.found.total() and not self.unreadable


def find_contacts(deployment: Deployment, contact_ids: Iterable[str], *, instance: str | None = None) -> list[Target]:
    """Return the contacts of these ids: of the instance that is named by ARN or id, one that is gone too, or of any.

    Those whose retention is over and those that are erased already are among them: something of them may be left. For
    one whose item is damaged the lake is searched, as the item may not say its day.

    Raises:
        OpsError: the ledger lacks one of them, or several instances have one.
        CaptureError: the ledger, or Connect, cannot be asked.
    """
    named = [instance.rpartition("/")[2]] if instance else [each.instance_id for each in deployment.instances()]
    keys = [ContactKey(name, contact_id) for contact_id in dict.fromkeys(contact_ids) for name in named]
    items = _ledger(deployment).find_items(keys)
    of_ids = Counter(key.contact_id for key in items)
    if several := [contact_id for contact_id, count in of_ids.items() if count > 1]:
        raise OpsError(
            f"more than one instance has a contact {several[0]}: name its instance with --instance. Nothing was changed"
        )
    if missing := [key.contact_id for key in keys if key.contact_id not in of_ids]:
        others = f" and {len(set(missing)) - 1} others" if len(set(missing)) > 1 else ""
        raise OpsError(
            f"the ledger does not have contact {missing[0]}{others}: check the ids, and --instance. If the ledger lost "
            "it, `capture` brings it back, or --value finds it in the lake. Nothing was changed"
        )
    damaged = [key for key, item in items.items() if isinstance(item, PermanentError)]
    dates = _find_dates(deployment, damaged) if damaged else {}
    return [_target(key, item, dates.get(key, set())) for key, item in items.items()]


def _find_dates(deployment: Deployment, keys: Sequence[ContactKey]) -> dict[ContactKey, set[str]]:
    """Return the days at which the lake has contacts: all of it is read."""
    lake, search = _lake_versions(deployment), RecordsOfContacts(keys).search
    dates: dict[ContactKey, set[str]] = {}
    for date in _folders(deployment).find_dates(LAKE):
        for searched in lake.search(lake.find(date), search).values():
            for key in filter(None, searched.found if searched else ()):
                dates.setdefault(key, set()).add(date)
    return dates


def find_contacts_with(
    deployment: Deployment,
    value: Value,
    *,
    on_progress: OnProgress = lambda *_: None,
    on_unreadable: Callable[[str], object] = lambda _: None,
) -> list[Target]:
    """Return the contacts that have a value, and those that had it before, by any capture that the lake has.

    The index says the first; for the others all of the lake is read: `on_unreadable` is told the objects that nobody
    can read. With them come those whose erasure has begun, and has not ended: they may have had it. Raises OpsError if
    it is nobody's, or a CaptureError.
    """
    dates: dict[ContactKey, set[str]] = {key: set() for key in _find_in_index(_ledger(deployment), value)}
    lake = _lake_versions(deployment)
    days = list(_folders(deployment).find_dates(LAKE))
    unreadable: set[str] = set()
    for number, date in enumerate(days):
        on_progress("Searching the lake, days", number, len(days))
        for version, searched in lake.search(lake.find(date), RecordsWithValue(value).search).items():
            if searched is None:
                unreadable.add(version.key)
                on_unreadable(version.key)
                continue
            for key in filter(None, searched.found):
                dates.setdefault(key, set()).add(date)
    on_progress("Searching the lake, days", len(days), len(days))
    begun = _ledger(deployment).find_items(_unfinished(deployment).find())
    dates |= {key: dates.get(key, set()) for key, item in begun.items() if isinstance(item, Tombstone)}
    if not dates:
        blind = (
            f"; but {len(unreadable):,} of the lake's objects cannot be read: {min(unreadable)}" if unreadable else ""
        )
        raise OpsError(f"no contact has this value, or had it before{blind}. Nothing was changed")
    items = _ledger(deployment).find_items(dates)
    return [_target(key, items.get(key), seen) for key, seen in dates.items()]


class Erasure:
    """Erases contacts from a deployment.

    `value` is what they were found by, if they were: by a search that `began_at` a moment, and could not read objects
    of the lake that are `unreadable`.
    """

    def __init__(
        self,
        deployment: Deployment,
        targets: Sequence[Target],
        *,
        value: Value | None = None,
        began_at: datetime | None = None,
        unreadable: Iterable[str] = (),
        on_progress: OnProgress = lambda *_: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._deployment = deployment
        self._targets = targets
        self._keys = [target.key for target in targets]
        self._value = value
        self._on_progress = on_progress
        self._clock = clock
        self._sleep = sleep
        self._ledger = Ledger(deployment.clients.dynamodb, deployment.output("TableName"), clock=clock)
        self._lake = _lake_versions(deployment)
        self._days = Days(deployment.clients.dynamodb, deployment.output("TableName"))
        self._unfinished = _unfinished(deployment)
        self._records = RecordsOfContacts(self._keys)
        self._read_until = (began_at or clock()) - _CLOCKS_DIFFER
        self._deleted: set[tuple[str, str]] = set()
        """Versions that had something, by their keys and ids."""
        self.erased = Erased(unreadable=set(unreadable))

    def run(self) -> Erased:
        """Erase, and search every store.

        Raises:
            OpsError: the operator lacks a right, and nothing is changed; or tables cannot be written.
            CaptureError, ClientError, BotoCoreError: AWS fails. Run it again then: it ends the same.
        """
        check_rights(self._deployment)
        known_dates = self._note_beginning()
        self._put_tombstones()
        self._wait_for_captures()
        self._delete_rows()
        noted = {each.completed_date for each in self.erased.tombstones if each.completed_date}
        dates = sorted(noted | known_dates)
        self._clean_lake(dates)
        self._write_tables(dates)
        self._delete_letters(self.erased.removed)
        self._search_everything(dates)
        self._find_chain()
        if self.erased.is_complete:
            self._unfinished.forget(self._keys)
        return self.erased

    # Steps ---------------------------------------------------------------------------------------------------------

    def _note_beginning(self) -> set[str]:
        """Note the contacts until all is gone; return the days that may have something of them."""
        noted = self._unfinished.find()
        dates = {
            target.key: {
                *noted.get(target.key, ()),
                *target.other_dates,
                *([target.completed_date] if target.completed_date else []),
            }
            for target in self._targets
        }
        self._unfinished.note(dates)
        return set().union(*dates.values())

    def _put_tombstones(self) -> None:
        def erase(target: Target) -> Tombstone:
            seen = target.item if isinstance(target.item, ContactItem) else None
            return self._ledger.erase(target.key, seen=seen, completed_date=target.completed_date)

        self.erased.tombstones = self._for_each("Contacts", erase, self._targets)

    def _wait_for_captures(self) -> None:
        """Wait until whoever looked at a contact before its tombstone was there has ended."""
        timeout = read_settings(self._deployment, "capture").timeout + _SPARE
        seconds = round(timeout.total_seconds())
        for second in range(seconds):
            self._on_progress("Waiting for captures under way, seconds", second, seconds)
            self._sleep(1)
        self._on_progress("Waiting for captures under way, seconds", seconds, seconds)

    def _delete_rows(self) -> None:
        found = self._for_each("Rows of contacts", self._ledger.find_rows, self._keys)
        rows = [(key, rows.sort_keys) for key, rows in zip(self._keys, found, strict=True) if rows.sort_keys]
        parts = [dict(rows[start : start + _CONTACTS_A_DELETE]) for start in range(0, len(rows), _CONTACTS_A_DELETE)]
        self._for_each("Deleting rows", self._ledger.delete_rows, parts)
        self.erased.removed["rows"] = sum(len(sort_keys) for _, sort_keys in rows)

    def _clean_lake(self, dates: Sequence[str]) -> None:
        lease = TablesLease(
            self._days,
            "erase",
            on_waiting=lambda: self._on_progress("Waiting for a run of the tables, days", 0, len(dates)),
            clock=self._clock,
            sleep=self._sleep,
        )
        for number, date in enumerate(dates):
            self._on_progress("Lake, days", number, len(dates))
            is_clean = False
            while not is_clean:
                with lease.take():
                    is_clean = self._clean_day(date, lease)
        self._on_progress("Lake, days", len(dates), len(dates))

    def _clean_day(self, date: str, lease: TablesLease) -> bool:
        """Take the contacts out of all versions of a day's objects, and have the day's tables made anew.

        Return whether the lease was held all the while. Who had it in between may have changed what was read here, or
        may put back what it had read before: then it is all to be done again.
        """
        versions = self._lake.find(date)
        searched: dict[Version, Searched | None] = {}
        for start in range(0, len(versions), _AT_ONCE):
            searched |= self._lake.search(versions[start : start + _AT_ONCE], self._records.search)
            if not lease.lengthen():
                return False
        rest, to_delete, records = _plan_rewrite(versions, searched)
        self._deleted |= {(version.key, version.version_id) for version in to_delete}
        names = list(rest)
        for start in range(0, len(names), _AT_ONCE):
            self._lake.replace({name: rest[name] for name in names[start : start + _AT_ONCE]})
            if not lease.lengthen():
                return False
        self._lake.delete(to_delete)
        self._days.mark_anew(date, now=self._clock())
        self.erased.removed["records of the lake"] += records
        self.erased.removed["versions of the lake's objects"] += len(to_delete)
        self.erased.unreadable |= {version.key for version, has in searched.items() if has is None}
        self.erased.chain |= {leg for has in searched.values() if has for leg in has.legs}
        return lease.lengthen()

    def _write_tables(self, dates: Sequence[str]) -> None:
        write_tables(
            self._deployment,
            dates,
            on_progress=lambda done, of: self._on_progress("Tables, days", done, of),
            sleep=self._sleep,
        )
        deleted = self._for_each("Tables' earlier versions, days", self._delete_earlier_tables, dates)
        self.erased.removed["versions of tables"] = sum(deleted)

    def _delete_earlier_tables(self, date: str) -> int:
        earlier = [each for kind in _TABLES for each in self._lake.find(date, kind) if not each.is_latest]
        self._lake.delete(earlier)
        return len(earlier)

    def _delete_letters(self, counts: Counter[str], *, looks: int = 1) -> None:
        """Delete the dead letters, and look again while there seem to be some that could not be read."""
        ids = frozenset(key.contact_id for key in self._keys)
        counts["dead letters"] = 0
        for look in range(looks):
            self._on_progress("Dead letters", look, looks)
            if look:
                self._sleep(_SECONDS_BETWEEN_LETTER_LOOKS)
            deleted = delete_letters(self._deployment, lambda letter: letter.is_about(ids))
            counts["dead letters"] += deleted.deleted
            left = deleted.unread + sum(deleted.refused.values())
            self.erased.found["dead letters that cannot be read or deleted"] = left
            if not left:
                break
        self._on_progress("Dead letters", looks, looks)

    # The proof -----------------------------------------------------------------------------------------------------

    def _search_everything(self, dates: Sequence[str]) -> None:
        found = self.erased.found
        rows = self._for_each("Searching the ledger, contacts", self._ledger.find_rows, self._keys)
        found["rows of the ledger"] = sum(len(each.sort_keys) for each in rows)
        items = self._ledger.find_items(self._keys)
        found["items of the ledger"] = sum(not isinstance(items.get(key), Tombstone) for key in self._keys)
        days = dates
        if self._value is not None:
            found["entries of the index"] = self._count_in_index(self._value)
            folders = _folders(self._deployment)
            days = sorted({*dates, *(date for kind in (LAKE, *_TABLES) for date in folders.find_dates(kind))})
        for number, date in enumerate(days):
            self._on_progress("Searching lake and tables, days", number, len(days))
            found["versions of the lake's objects"] += self._count_in_lake(date)
            found["rows of the tables"] += self._count_in_tables(date)
        self._on_progress("Searching lake and tables, days", len(days), len(days))
        self._delete_letters(found, looks=_LETTER_LOOKS)

    def _find_chain(self) -> None:
        """Find those that the erased contacts continue, and keep of the chain who is captured still."""
        contacts = [target.item.contact for target in self._targets if isinstance(target.item, ContactItem)]
        keys = (self.erased.chain | {contact.initial_key for contact in contacts}) - set(self._keys)
        items = self._ledger.find_items(keys) if keys else {}
        self.erased.chain = {key for key, item in items.items() if not isinstance(item, Tombstone)}

    def _count_in_index(self, value: Value) -> int:
        for _ in range(_INDEX_LOOKS):
            if not (count := len(_find_in_index(self._ledger, value))):
                return 0
            self._sleep(1)
        return count

    def _count_in_lake(self, date: str) -> int:
        """Count the versions that have something; those from before this began were read: a version never changes."""
        versions = self._lake.find(date)
        new = [version for version in versions if version.put_at >= self._read_until]
        found = {version for version in versions if (version.key, version.version_id) in self._deleted}
        for search in (self._records.search, *([RecordsWithValue(self._value).search] if self._value else [])):
            searched = self._lake.search(new, search)
            found |= {version for version, has in searched.items() if has and has.found}
            self.erased.unreadable |= {version.key for version, has in searched.items() if has is None}
        return len(found)

    def _count_in_tables(self, date: str) -> int:
        """Count the rows that all versions of a day's tables have of the contacts, or with the value."""
        count = 0
        with TemporaryDirectory() as name:
            file = Path(name) / "table.parquet"
            for kind in _TABLES:
                for version in self._lake.find(date, kind):
                    if version.is_marker:
                        continue
                    try:
                        file.write_bytes(self._lake.read(version))
                    except PermanentError:  # deleted since it was listed, by another erasure perhaps
                        continue
                    count += _count_in_table(file, self._keys, self._value if kind == REFERENCES else None)
        return count

    def _for_each(self, what: str, act: Callable[[T], U], items: Sequence[T]) -> list[U]:
        results = []
        with ThreadPoolExecutor(_WORKERS) as pool:
            for result in pool.map(act, items):
                results.append(result)
                self._on_progress(what, len(results), len(items))
        return results


def _count_in_table(file: Path, keys: Sequence[ContactKey], value: Value | None) -> int:
    import duckdb  # noqa: PLC0415 - a tenth of a second, which no other command is to wait for

    question = (
        "SELECT count(*) FROM read_parquet($file) WHERE instance_id || '#' || contact_id IN (SELECT unnest($keys))"
    )
    values: dict[str, object] = {"file": str(file), "keys": [f"{key.instance_id}#{key.contact_id}" for key in keys]}
    if value is not None:
        question += " OR (reference_type = $type AND canonical_value = $value)"
        values |= {"type": value.reference_type, "value": value.canonical_value}
    try:
        with duckdb.connect() as database:
            [(count,)] = database.execute(question, values).fetchall()
    except duckdb.Error as error:
        raise RetriableError(type(error).__name__, "DuckDB cannot search the day's tables") from None
    return int(count)


def _find_in_index(ledger: Ledger, value: Value) -> set[ContactKey]:
    """Return the contacts of the rows that have a value, of those that do not count too, as of a moment ago."""
    found: set[ContactKey] = set()
    after = None
    while True:
        rows, after = ledger.find_rows_of_value(*value, limit=_INDEX_PAGE, after=after)
        found |= {row.key for row in rows}
        if after is None:
            return found


def _target(key: ContactKey, item: FoundItem | None, dates: Collection[str]) -> Target:
    """Return a contact as one to erase; the lake has it at these dates, as far as it was searched."""
    return Target(key, _date_of(item) or max(dates, default=None), item, frozenset(dates))


def _date_of(item: FoundItem | None) -> str | None:
    if isinstance(item, Tombstone):
        return item.completed_date
    if isinstance(item, ContactItem) and item.contact.completed_at is not None:
        return format_time(item.contact.completed_at)[:10]
    return None


def _plan_rewrite(
    versions: Sequence[Version], searched: Mapping[Version, Searched | None]
) -> tuple[dict[str, bytes], list[Version], int]:
    """Return what is left of objects by their keys, the versions to delete, and how many records the latest have."""
    rest: dict[str, bytes] = {}
    to_delete: list[Version] = []
    records = 0
    for of_key in _group_by_key(versions):
        has_any = [version for version in of_key if (has := searched.get(version)) and has.found]
        if not has_any:
            continue
        latest = next((version for version in has_any if version.is_latest), None)
        if latest is not None and (has := searched[latest]):
            records += sum(has.found.values())
            rest |= {latest.key: has.rest} if has.rest else {}
        # Nothing is left of an object of which nothing is shown any more.
        is_gone = latest.key not in rest if latest else all(v.is_marker or v in has_any for v in of_key)
        to_delete += of_key if is_gone else has_any
    return rest, to_delete, records


def _group_by_key(versions: Collection[Version]) -> Iterable[Sequence[Version]]:
    groups: dict[str, list[Version]] = {}
    for version in versions:
        groups.setdefault(version.key, []).append(version)
    return groups.values()


def _ledger(deployment: Deployment) -> Ledger:
    return Ledger(deployment.clients.dynamodb, deployment.output("TableName"))


def _unfinished(deployment: Deployment) -> Unfinished:
    return Unfinished(deployment.clients.dynamodb, deployment.output("TableName"))


def _folders(deployment: Deployment) -> DayFolders:
    return DayFolders(deployment.clients.s3, deployment.output("BucketName"))


def _lake_versions(deployment: Deployment) -> LakeVersions:
    return LakeVersions(deployment.clients.s3, deployment.output("BucketName"))
