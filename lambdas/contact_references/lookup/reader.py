"""Reads the ledger: contacts' captures, and the contacts that have a value.

Nothing of a capture that does not count is ever given, nor half of one that does, nor what has expired.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from contact_references.aws.items import Attributes
from contact_references.aws.ledger import FoundItem, Ledger, RowOfValue
from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact, ContactKey
from contact_references.model.reference import Reference, normalize_value

PAGE_SIZE = 20

_Items = dict[ContactKey, FoundItem]


@dataclass(frozen=True, slots=True)
class Match:
    """A reference that has a value, and its contact."""

    contact: Contact
    captured_at: datetime
    reference: Reference


@dataclass(frozen=True, slots=True)
class Page:
    """References that have a value, of the latest contacts first; `following` asks for those after them, if any.

    A page may have fewer than asked for, or none, and be followed by others all the same.
    """

    matches: tuple[Match, ...]
    following: Attributes | None = None


class Reader:
    """Reads what counts. Its methods raise RetriableError, PermanentError or ConfigurationError."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._ledger = ledger
        self._clock = clock

    def references_of(self, *contacts: ContactKey) -> list[Capture]:
        """Return what was captured of contacts, each whole, the one that completed last first.

        A contact that was not captured, or whose time is over, is left out. One request for each contact, another one
        for one that is captured at the same moment, or that is larger than a megabyte. A contact of whose rows some are
        missing is a PermanentError.
        """
        captures = [capture for key in contacts if (capture := self._ledger.find_capture(key)) is not None]
        return sorted(captures, key=lambda capture: capture.contact.completed_at or capture.captured_at, reverse=True)

    def contacts_with(
        self, reference_type: str, value: str, *, limit: int = PAGE_SIZE, after: Attributes | None = None
    ) -> Page:
        """Return the references of a type that have a value, in any spelling of it: a page, at most 100.

        Two requests, two more if a contact is captured at the same moment. By an index that is a moment behind: what
        was captured within the last second may not be found yet. A contact that has the value twice is there twice.
        """
        canonical_value = normalize_value(reference_type, value).canonical_value
        if not canonical_value:  # what is empty is in no index
            return Page(())
        for _ in range(2):
            rows, following = self._ledger.find_rows_of_value(reference_type, canonical_value, limit=limit, after=after)
            items = self._ledger.find_items({row.key for row in rows}) if rows else {}
            if not _is_overtaken(rows, items):
                break
        return Page(self._match(rows, items), following)

    def _match(self, rows: Collection[RowOfValue], items: _Items) -> tuple[Match, ...]:
        now, matches = self._clock(), []
        for row in rows:
            item = items.get(row.key)
            if isinstance(item, ContactItem) and item.capture_id == row.capture_id and not item.is_expired(now):
                matches.append(Match(item.contact, item.captured_at, row.reference))
        return tuple(matches)


def _is_overtaken(rows: Sequence[RowOfValue], items: _Items) -> bool:
    """Whether another capture may have taken the place of one in between, and have the value too.

    Rows that an attempt left behind when it died look the same: of those the second answer is like the first.
    """
    counting = {item.capture_id for item in items.values() if isinstance(item, ContactItem)}
    found = {row.capture_id for row in rows}
    return any(
        isinstance(item := items.get(row.key), ContactItem)
        and row.capture_id not in counting
        and item.capture_id not in found
        for row in rows
    )
