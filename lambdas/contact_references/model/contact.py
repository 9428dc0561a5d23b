"""A contact: what names it, whose it is, and what is known about it apart from its references."""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

# The partition may be empty or followed by a stray colon: AWS's own samples have `arn:aws::connect:…`.
_INSTANCE_ARN = re.compile(
    r"arn:(?P<partition>[\w-]*):+connect:(?P<region>[^:/]+):(?P<account>\d{12}):instance/(?P<instance_id>[\w-]{1,100})"
    r"(?:/.*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Instance:
    """A Connect instance: where it is, whose it is, and its id."""

    region: str
    account: str
    instance_id: str
    partition: str = field(default="aws", compare=False)

    @classmethod
    def from_arn(cls, arn: str) -> Self:
        """Read an instance's ARN, or that of something in it; raises ValueError for any other text.

        >>> Instance.from_arn("arn:aws::connect:us-west-2:123456789012:instance/12345678-1234")
        Instance(region='us-west-2', account='123456789012', instance_id='12345678-1234', partition='aws')
        """
        match = _INSTANCE_ARN.fullmatch(arn.strip())
        if match is None:
            raise ValueError("not the ARN of a Connect instance")
        return cls(**match.groupdict())

    @property
    def arn(self) -> str:
        """The instance's ARN."""
        return f"arn:{self.partition}:connect:{self.region}:{self.account}:instance/{self.instance_id}"


@dataclass(frozen=True, slots=True)
class Scope:
    """The contacts that are this deployment's: its account and Region, and if any are named, its instances."""

    region: str
    account: str
    instances: frozenset[Instance] = frozenset()

    def refusal(self, instance: Instance) -> str | None:
        """Why an instance's contacts are not captured here, as a sentence; None when they are."""
        if (instance.region, instance.account) != (self.region, self.account):
            return "the instance is of another account or Region"
        if self.instances and instance not in self.instances:
            return "the instance is not one of those configured"
        return None


@dataclass(frozen=True, slots=True)
class ContactKey:
    """What names a contact: its instance and its own id."""

    instance_id: str
    contact_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """What is known about a contact itself, apart from its references.

    `completion_seen` says that its own completion was reported, not only that of a later leg of its chain;
    `completed_at`, `channel` and `initiation_method` are None until a report of its own names them.
    """

    key: ContactKey
    initial_contact_id: str
    channel: str | None = None
    initiation_method: str | None = None
    completed_at: datetime | None = None
    completion_seen: bool = False

    @classmethod
    def unseen(cls, key: ContactKey) -> Self:
        """Return a contact of which only another contact's event has told."""
        return cls(key=key, initial_contact_id=key.contact_id)

    @property
    def is_leg(self) -> bool:
        """Whether the contact continues another one: a transfer, for example."""
        return self.initial_contact_id != self.key.contact_id

    @property
    def initial_key(self) -> ContactKey:
        """What names the first contact of the chain, which may be this one."""
        return replace(self.key, contact_id=self.initial_contact_id)

    def known_since(self, earlier: "Contact") -> "Contact":
        """Add what an earlier report said, which stays: the first known value of each fact is the one kept.

        >>> key = ContactKey("instance", "a")
        >>> own = Contact(key=key, initial_contact_id="a", channel="VOICE", completion_seen=True)
        >>> own.known_since(Contact.unseen(key)) == Contact.unseen(key).known_since(own) == own
        True
        """
        return Contact(
            key=self.key,
            # A report without an initial contact was taken to name the contact itself: another one knows more.
            initial_contact_id=earlier.initial_contact_id if earlier.is_leg else self.initial_contact_id,
            channel=earlier.channel or self.channel,
            initiation_method=earlier.initiation_method or self.initiation_method,
            completed_at=earlier.completed_at or self.completed_at,
            completion_seen=earlier.completion_seen or self.completion_seen,
        )
