"""A completed contact, as contact events and capture requests tell of it.

Contact events are best effort, unordered and delivered at least once; the casing of their keys and of some
values varies, and new fields and types appear without notice
(https://docs.aws.amazon.com/connect/latest/adminguide/contact-events.html). So parsing looks keys up in any
casing, reads what it needs and passes over the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self
from uuid import NAMESPACE_URL, uuid5

from contact_references.errors import PermanentError
from contact_references.timestamps import format_time, parse_iso

_CONTACT_EVENT = ("aws.connect", "Amazon Connect Contact Event")
_CAPTURE_REQUEST = ("contact-references", "Contact Capture Request")

MISSED = "missed"
"""Reason of a capture request: no event told of the contact, or none that was captured."""
UNSETTLED = "unsettled"
"""Reason of a capture request: the contact is captured, and some of its references may have changed since."""

# The partition may be empty or followed by a stray colon: AWS's own samples have `arn:aws::connect:…`.
_INSTANCE_ARN = re.compile(
    r"arn:(?P<partition>[\w-]*):+connect:(?P<region>[^:/]+):(?P<account>\d{12}):instance/(?P<instance_id>[\w-]{1,100})"
    r"(?:/.*)?",
    re.ASCII,
)
_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
# With a letter or digit in it: a path of dots alone would name another resource of the API.
_CONTACT_ID = re.compile(r"(?=.*[^\W_])[^\x00-\x1f\x7f]{1,256}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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
    def initial_key(self) -> ContactKey:
        """What names the first contact of the chain, which may be this one."""
        return replace(self.key, contact_id=self.initial_contact_id)

    def known_since(self, earlier: "Contact") -> "Contact":
        """Add what an earlier report said, which stays: the first known value of each fact is the one kept.

        The same reports in any order and number give the same contact, but for facts on which a contact's
        own events contradict each other.

        >>> key = ContactKey("instance", "a")
        >>> own = Contact(key=key, initial_contact_id="a", channel="VOICE", completion_seen=True)
        >>> own.known_since(Contact.unseen(key)) == Contact.unseen(key).known_since(own) == own
        True
        """
        first, then = (earlier, self) if earlier.completion_seen >= self.completion_seen else (self, earlier)
        names_itself = first.initial_contact_id == first.key.contact_id
        return replace(
            first,
            # A report without an initial contact was taken to name the contact itself: another one knows more.
            initial_contact_id=then.initial_contact_id if names_itself else first.initial_contact_id,
            channel=first.channel or then.channel,
            initiation_method=first.initiation_method or then.initiation_method,
            completed_at=first.completed_at or then.completed_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One report that a contact has completed: a contact event, or a request to capture it all the same.

    `requested` is the reason that a capture request gives; None says that it is a contact event. `redelivered`
    says that it was tried before: the attempt failed, or was cut off anywhere. `is_analyzed` says that Contact Lens
    is on, whose analysis comes later.
    """

    contact: Contact
    event_id: str | None
    event_time: datetime | None
    requested: str | None = None
    redelivered: bool = False
    is_analyzed: bool = False

    @property
    def contacts(self) -> list[Contact]:
        """The contact and, if that is another one, the first of its chain: it is captured again, as itself."""
        initial_key = self.contact.initial_key
        return [self.contact] if initial_key == self.contact.key else [self.contact, Contact.unseen(initial_key)]


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """A contact event of a type that does not mean completion: nothing to capture."""

    contact_id: str | None


def parse_completion(event: object, *, scope: Scope, completion_types: frozenset[str]) -> Completion | OtherEvent:
    """Read an EventBridge event that reports or requests a contact, or another contact event.

    An event of another type is no more than that, whatever else it says or lacks.
    Raises PermanentError, naming the field, for what is neither a contact event nor a capture request, has no
    usable contact or instance id, or belongs to another account or instance.
    """
    if not isinstance(event, Mapping):
        raise PermanentError("InvalidEvent", "the event is not a JSON object")
    envelope = _Fields(event)
    kind = (envelope.text("source"), envelope.text("detail-type"))
    if kind not in (_CONTACT_EVENT, _CAPTURE_REQUEST):
        raise PermanentError(
            "InvalidEvent", "source and detail-type are neither a contact event's nor a capture request's"
        )
    detail = _Fields(envelope.mapping("detail"))
    if kind == _CONTACT_EVENT:
        event_type = (detail.text("eventType") or "").upper()
        if not event_type:
            raise PermanentError("InvalidEvent", "detail.eventType is missing")
        if event_type not in completion_types:
            return OtherEvent(detail.text("contactId"))
    key = _contact_key(envelope, detail, scope)
    event_time = envelope.time("time")
    requested = None if kind == _CONTACT_EVENT else detail.text("reason") or "unspecified"
    fallback = event_time if requested is None else None
    initial_contact_id = detail.text("initialContactId")
    return Completion(
        contact=Contact(
            key=key,
            initial_contact_id=_checked_id(initial_contact_id, "initialContactId")
            if initial_contact_id
            else key.contact_id,
            channel=_upper(detail.text("channel")),
            initiation_method=_upper(detail.text("initiationMethod")),
            completed_at=detail.time("disconnectTimestamp") or fallback,
            # A re-read of unsettled references knows the contact from the ledger, not from its completion.
            completion_seen=requested != UNSETTLED,
        ),
        event_id=envelope.text("id"),
        event_time=event_time,
        requested=requested,
        is_analyzed=detail.at("contactLens").at("conversationalAnalytics").at("configuration").is_true("enabled"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """A request to capture a contact: what reconcile puts on the queue, and `parse_completion` reads.

    `reason` is MISSED or UNSETTLED. A reading after `time` makes the request unnecessary. The same request made
    again has the same `id`, so that it is found to be done.
    """

    instance_arn: str
    contact: Contact
    reason: str
    time: datetime

    @property
    def id(self) -> str:
        """The request's id, a UUID."""
        key = self.contact.key
        return str(uuid5(NAMESPACE_URL, f"{self.reason}/{key.instance_id}/{key.contact_id}/{format_time(self.time)}"))

    def event(self) -> dict[str, Any]:
        """Return the request in the form of an event."""
        source, detail_type = _CAPTURE_REQUEST
        contact = self.contact
        detail = {
            "instanceArn": self.instance_arn,
            "contactId": contact.key.contact_id,
            "initialContactId": contact.initial_contact_id,
            "channel": contact.channel,
            "initiationMethod": contact.initiation_method,
            "disconnectTimestamp": format_time(contact.completed_at) if contact.completed_at else None,
            "reason": self.reason,
        }
        return {
            "source": source,
            "detail-type": detail_type,
            "time": format_time(self.time),
            "id": self.id,
            "detail": {name: value for name, value in detail.items() if value is not None},
        }


def _contact_key(envelope: "_Fields", detail: "_Fields", scope: Scope) -> ContactKey:
    contact_id = _checked_id(detail.text("contactId"), "contactId")
    arn = detail.text("instanceArn")
    if not arn:
        raise PermanentError("InvalidEvent", "detail.instanceArn is missing")
    try:
        instance = Instance.from_arn(arn)
    except ValueError as error:
        raise PermanentError("InvalidEvent", f"detail.instanceArn is {error}") from None
    refusal = scope.refusal(instance)
    account = envelope.text("account") or ""
    if refusal is None and _ACCOUNT.fullmatch(account) and account != scope.account:
        refusal = "the event is of another account"
    if refusal is not None:
        raise PermanentError("ForeignContact", refusal)
    return ContactKey(instance.instance_id, contact_id)


def _checked_id(value: str | None, field: str) -> str:
    if value is None:
        raise PermanentError("InvalidEvent", f"detail.{field} is missing")
    if _CONTACT_ID.fullmatch(value) is None:
        raise PermanentError("InvalidEvent", f"detail.{field} is not an id of 1 to 256 characters")
    return value


def _upper(value: str | None) -> str | None:
    return value.upper() if value is not None else None


class _Fields:
    """The fields of a JSON object by their names in any casing; the documented casing wins where both are."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._exact = fields
        self._folded = {str(name).lower(): value for name, value in fields.items()}

    def _get(self, name: str) -> object:
        value = self._exact.get(name)
        return value if value is not None else self._folded.get(name.lower())

    def text(self, name: str) -> str | None:
        """A string that is not blank and that every store accepts; None for anything else."""
        value = self._get(name)
        if not isinstance(value, str) or not value.strip() or _LONE_SURROGATE.search(value):
            return None
        return value

    def is_true(self, name: str) -> bool:
        return self._get(name) is True

    def at(self, name: str) -> "_Fields":
        """The fields of the object within; none where there is no object."""
        value = self._get(name)
        return _Fields(value if isinstance(value, Mapping) else {})

    def mapping(self, name: str) -> Mapping[str, object]:
        value = self._get(name)
        if not isinstance(value, Mapping):
            raise PermanentError("InvalidEvent", f"{name} is missing or not a JSON object")
        return value

    def time(self, name: str) -> datetime | None:
        """A moment; None for none and for the service's "not set", `1970-01-01T00:00:00.001Z`."""
        try:
            moment = parse_iso((self.text(name) or "").strip())
        except ValueError:
            return None
        return moment if moment.year > 1970 else None
