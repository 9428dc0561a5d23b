"""What a person types into the search box, looked up: as a contact's id, and as a value of each type."""

from collections.abc import Collection
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime

from contact_references.aws.ledger import Ledger
from contact_references.lookup.reader import PAGE_SIZE
from contact_references.model.capture import ContactItem
from contact_references.model.contact import ContactKey
from contact_references.model.reference import KNOWN_TYPES, normalize_value
from ops.contacts import Matches, find_value
from ops.deployment import Deployment
from ops.errors import OpsError

LONGEST = 8192
"""Characters that are looked up: Connect's own values have 4,096 at most."""
_LONGEST_ID = 256


@dataclass(frozen=True)
class OfType:
    """References of one type that have the value, of the latest contacts first: a page of them."""

    reference_type: str
    matches: Matches


@dataclass(frozen=True)
class Found:
    """What a text is: the id of contacts of these instances, and a value of these types, the latest contact's first."""

    contacts: tuple[ContactKey, ...] = ()
    values: tuple[OfType, ...] = ()


def may_be_id(text: str) -> bool:
    r"""Whether a text can be a contact's id, and a part of an address.

    >>> may_be_id("10000000-0000-4000-8000-000000000001"), may_be_id("a" * 257), may_be_id("\0"), may_be_id("..")
    (True, False, False, False)
    """
    return len(text) <= _LONGEST_ID and text.isprintable() and any(map(str.isalnum, text))


def find_contacts(deployment: Deployment, contact_ids: Collection[str]) -> list[ContactKey]:
    """Return which contacts of these ids there is a page of, of captured ones above all; raises a CaptureError."""
    ids = [contact_id for contact_id in dict.fromkeys(contact_ids) if may_be_id(contact_id)]
    if not ids:
        return []
    keys = [ContactKey(each.instance_id, contact_id) for each in deployment.instances() for contact_id in ids]
    items = Ledger(deployment.clients.dynamodb, deployment.output("TableName")).find_items(keys)
    now = datetime.now(UTC)
    return [key for key, item in items.items() if not (isinstance(item, ContactItem) and item.is_expired(now))]


def search(deployment: Deployment, text: str, *, pool: Executor) -> Found:
    """Look a text up as a contact's id and as a value of each type, all at once.

    A value that no type takes for one is looked up all the same: captures keep what is not valid, too. Raises OpsError
    or a CaptureError.
    """
    contacts = pool.submit(find_contacts, deployment, [text.strip()])
    types = [name for name in KNOWN_TYPES if normalize_value(name, text).canonical_value]
    pages = pool.map(lambda name: find_value(deployment, name, text, limit=PAGE_SIZE), types)
    found = [OfType(name, page) for name, page in zip(types, pages, strict=True) if page.found or page.after]
    found.sort(key=lambda of: _latest(of.matches), reverse=True)
    return Found(tuple(contacts.result()), tuple(found))


def search_type(deployment: Deployment, reference_type: str, text: str, *, after: str) -> Found:
    """Return the following page of one type; raises OpsError if `after` is not from an answer for this value."""
    try:
        page = find_value(deployment, reference_type, text, limit=PAGE_SIZE, after=after)
    except OpsError:
        raise OpsError("this address is not one that a search here gave: search again") from None
    return Found(values=(OfType(reference_type, page),))


def _latest(matches: Matches) -> str:
    moments = (match.contact.completed_at or match.captured_at for match in matches.found)
    return max((moment.isoformat() for moment in moments), default="")
