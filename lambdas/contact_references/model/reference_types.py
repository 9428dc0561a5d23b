"""Which types of references a contact is asked for, and in which requests."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from contact_references.model.contact import Contact
from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES, UNKNOWN, Reference

OTHER_CHANNELS = "*"
"""Stands for every channel that has no list of its own, and for the channel of a contact of which none is known."""

_FAMILIES = (tuple(ENTERED_TYPES.values()), tuple(PRODUCED_TYPES.values()))
_MOST_TYPES = 6  # that one request takes: the service refuses more, the SDK does not


@dataclass(frozen=True, slots=True)
class TypeLists:
    """The types to ask for, by channel.

    `by_channel` has a list for `OTHER_CHANNELS`. Of the contacts whose channel has a shorter list than that, a share
    is asked for all of both (`audit_share`, from 0 to 1): what is found beyond the channel's list tells that the list
    is too short.
    """

    by_channel: Mapping[str, tuple[str, ...]]
    audit_share: float = 0.0

    def listed(self, channel: str | None) -> tuple[str, ...]:
        """Return the types that contacts of a channel are to have."""
        return self.by_channel.get(channel or OTHER_CHANNELS, self.by_channel[OTHER_CHANNELS])

    def to_ask(self, contact: Contact) -> tuple[str, ...]:
        """Return the types to ask a contact for: its channel's, or all of them if it is audited.

        >>> from contact_references.model.contact import ContactKey
        >>> lists = TypeLists({"VOICE": ("URL",), "*": ("URL", "DATE")}, audit_share=0.5)
        >>> keys = [ContactKey("instance", name) for name in "abcd"]
        >>> voice = [Contact(key=key, initial_contact_id=key.contact_id, channel="VOICE") for key in keys]
        >>> [lists.to_ask(contact) for contact in voice]
        [('URL',), ('URL', 'DATE'), ('URL', 'DATE'), ('URL', 'DATE')]
        >>> lists.to_ask(Contact.unseen(keys[0]))
        ('URL', 'DATE')
        """
        listed, others = self.listed(contact.channel), self.by_channel[OTHER_CHANNELS]
        if len(listed) >= len(others) or not _is_drawn(contact.key.contact_id, self.audit_share):
            return listed
        return (*listed, *(name for name in others if name not in listed))

    def count_unlisted(self, contact: Contact, references: Iterable[Reference]) -> int:
        """Count references of types that the list of the contact's channel does not have."""
        listed = {*self.listed(contact.channel), UNKNOWN}
        return sum(reference.reference_type not in listed for reference in references)


def changing(types: Iterable[str]) -> tuple[str, ...]:
    """Return those of the types that may change after the contact has ended: what services produce."""
    return tuple(name for name in types if name in _FAMILIES[1])


def group_types(types: Collection[str]) -> list[tuple[str, ...]]:
    """Split types into as few requests as the service's limit of six types allows.

    More than six are split into what people enter and what services produce.

    >>> group_types(["URL", "ATTACHMENT", "DATE"])
    [('URL', 'ATTACHMENT', 'DATE')]
    >>> [len(group) for group in group_types([*ENTERED_TYPES.values(), *PRODUCED_TYPES.values()])]
    [5, 6]
    """
    if len(types) <= _MOST_TYPES:
        return [tuple(types)]
    return [tuple(name for name in types if name in family) for family in _FAMILIES]


def _is_drawn(contact_id: str, share: float) -> bool:
    """Draw a share of contacts by a hash of their ids: the same ones whenever they are captured."""
    return int.from_bytes(hashlib.sha256(contact_id.encode()).digest()[:8]) < share * 2**64
