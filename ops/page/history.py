"""A contact's captures over time, as the lake has them, and what changed from each to the next."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

from contact_references.aws.day_folders import LAKE, DayFolders
from contact_references.model.capture import REFERENCE_COLUMNS
from contact_references.model.contact import ContactKey
from contact_references.model.reference import Reference
from ops.deployment import Deployment

FEW_OBJECTS = 300
"""Of a day: what is read at once, in about a second. A capture says its date of completion, but not its object."""
_MOST_COUNTED = 5000  # in five requests
_READERS = 8  # a client has ten connections
_AT_ONCE = 100

_ABOUT_CONTACT = ("initial_contact_id", "channel", "initiation_method", "completed_at")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A column that is another one than before; None where it is absent."""

    column: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Changed:
    """A reference that an earlier capture has too, with other columns."""

    reference: Reference
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Difference:
    """What is different in a capture from the one before it."""

    of_contact: tuple[Change, ...]
    added: tuple[Reference, ...]
    removed: tuple[Reference, ...]
    changed: tuple[Changed, ...]

    @property
    def is_none(self) -> bool:
        """Whether both say the same."""
        return not (self.of_contact or self.added or self.removed or self.changed)


@dataclass(frozen=True, kw_only=True)
class PastCapture:
    """A capture in the lake, and what is different from the one before, if both are whole.

    `is_whole` says whether the lake has all of its records.
    """

    capture_id: str
    captured_at: str
    reference_count: int
    is_whole: bool
    is_first: bool
    difference: Difference | None


@dataclass(frozen=True)
class Day:
    """Objects of a day of the lake; `has_more` says that there are more than these."""

    date: str
    keys: tuple[str, ...]
    has_more: bool = False

    @property
    def is_small(self) -> bool:
        """Whether to read it takes about a second."""
        return len(self.keys) <= FEW_OBJECTS


@dataclass
class _Seen:
    """What was found of a capture so far."""

    contact: Record | None = None
    references: dict[str, Reference] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return self.contact is not None and len(self.references) == self.contact["reference_count"]


def list_day(deployment: Deployment, date: str, *, is_all: bool) -> Day:
    """Return a day's objects, all of them or as many as are counted before it is asked; raises a CaptureError."""
    keys = iter(_folders(deployment).find_keys(LAKE, date))
    if is_all:
        return Day(date, tuple(keys))
    counted = tuple(islice(keys, _MOST_COUNTED))
    return Day(date, counted, has_more=next(keys, None) is not None)


def read_history(deployment: Deployment, key: ContactKey, day: Day) -> list[PastCapture]:
    """Return a contact's captures of a day's objects, the newest first; what is no record is left out.

    Raises a CaptureError.
    """
    folders = _folders(deployment)
    found: list[Record] = []
    with ThreadPoolExecutor(_READERS) as pool:
        # In parts: a pool reads all that it was given before the program can end.
        for start in range(0, len(day.keys), _AT_ONCE):
            bodies = pool.map(folders.read_object, day.keys[start : start + _AT_ONCE])
            found += [record for body in bodies for record in _find_records(body, key)]
    return compare(found)


def _folders(deployment: Deployment) -> DayFolders:
    return DayFolders(deployment.clients.s3, deployment.output("BucketName"))


def _find_records(body: bytes, key: ContactKey) -> Iterator[Record]:
    """Yield a contact's records of an object; other contacts' lines are not even parsed."""
    wanted = json.dumps(key.contact_id, ensure_ascii=False).encode()
    try:
        content = gzip.decompress(body)
    except (OSError, EOFError, zlib.error):
        return
    if wanted not in content:
        return
    for line in content.splitlines():
        if wanted not in line:
            continue
        try:
            record = json.loads(line)
            if (record["instance_id"], record["contact_id"]) == (key.instance_id, key.contact_id):
                yield record
        except (ValueError, KeyError, TypeError):
            continue


def compare(records: Iterable[Record]) -> list[PastCapture]:
    """Return the captures that a contact's records are of, the newest first, each against the one before.

    Records come in any order, and more than once.
    """
    seen: dict[tuple[str, str], _Seen] = {}
    for record in records:
        try:
            capture = seen.setdefault((str(record["captured_at"]), str(record["capture_id"])), _Seen())
            if record["record_type"] == "CONTACT":
                capture.contact = record
            else:
                reference = _read_reference(record)
                capture.references[reference.reference_id] = reference
        except (KeyError, TypeError, ValueError, ArithmeticError):
            continue
    ordered = sorted(seen.items())
    befores = [None, *(capture for _, capture in ordered)]
    return [
        PastCapture(
            capture_id=capture_id,
            captured_at=captured_at,
            reference_count=len(capture.references) if capture.contact is None else capture.contact["reference_count"],
            is_whole=capture.is_whole,
            is_first=before is None,
            difference=_compare(before, capture) if before is not None else None,
        )
        for ((captured_at, capture_id), capture), before in reversed([*zip(ordered, befores, strict=False)])
    ]


def _read_reference(record: Record) -> Reference:
    columns = {name: record[name] for name in REFERENCE_COLUMNS if name in record}
    if "number_value" in columns:
        columns["number_value"] = Decimal(columns["number_value"])
    return Reference(**columns).unsigned()


def _compare(before: _Seen, after: _Seen) -> Difference | None:
    if before.contact is None or after.contact is None or not (before.is_whole and after.is_whole):
        return None
    old, new = before.references, after.references
    return Difference(
        of_contact=_changes(before.contact, after.contact, _ABOUT_CONTACT),
        added=tuple(new[each] for each in new if each not in old),
        removed=tuple(old[each] for each in old if each not in new),
        changed=tuple(
            Changed(new[each], changes)
            for each in new
            if each in old and (changes := _changes(_columns(old[each]), _columns(new[each]), REFERENCE_COLUMNS))
        ),
    )


def _columns(reference: Reference) -> Record:
    return {name: getattr(reference, name) for name in REFERENCE_COLUMNS}


def _changes(before: Record, after: Record, columns: Iterable[str]) -> tuple[Change, ...]:
    texts = ((column, before.get(column), after.get(column)) for column in columns)
    return tuple(
        Change(column, None if old is None else str(old), None if new is None else str(new))
        for column, old, new in texts
        if old != new
    )
