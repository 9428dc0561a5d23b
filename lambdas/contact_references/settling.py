"""When to look at a contact again: what services produce may appear or change after the contact has ended."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from contact_references.capture import Capture

_LOOKS = (timedelta(minutes=15), timedelta(hours=24))
_LOOKS_WHILE_PROCESSING = (timedelta(minutes=15), timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))


@dataclass(frozen=True, slots=True)
class Settling:
    """How far a contact's references are settled.

    `look_again_at` None says that nothing more is awaited: they are settled or, if `is_given_up`, something was
    still in PROCESSING when it was last looked at.
    """

    look_again_at: datetime | None = None
    is_given_up: bool = False


SETTLED = Settling()


def settle(capture: Capture, *, checked_at: datetime, is_awaited: bool) -> Settling:
    """Return when to look again at a contact that was read at `checked_at`.

    Emails, contacts with something in PROCESSING and those that `is_awaited` speaks for (Contact Lens is on, or
    an earlier reading said to look again) are looked at 15 minutes and 24 hours after completion, while
    something is in PROCESSING also after 1 and 6 hours.

    >>> from contact_references.contact import Contact, ContactKey
    >>> from contact_references.timestamps import parse_iso
    >>> contact = Contact(
    ...     key=ContactKey("instance", "a"), initial_contact_id="a", completed_at=parse_iso("2026-03-01T12:00Z")
    ... )
    >>> read = Capture(contact=contact, captured_at=parse_iso("2026-03-01T12:16Z"), references=())
    >>> settle(read, checked_at=read.captured_at, is_awaited=True).look_again_at.isoformat()
    '2026-03-02T12:00:00+00:00'
    >>> settle(read, checked_at=read.captured_at, is_awaited=False) == SETTLED
    True
    """
    is_processing = any(reference.status == "PROCESSING" for reference in capture.references)
    if not (is_processing or is_awaited or capture.contact.channel == "EMAIL"):
        return SETTLED
    since = capture.contact.completed_at or capture.captured_at
    looks = (since + delay for delay in (_LOOKS_WHILE_PROCESSING if is_processing else _LOOKS))
    look_again_at = next((look for look in looks if look > checked_at), None)
    return Settling(look_again_at, is_given_up=is_processing and look_again_at is None)
