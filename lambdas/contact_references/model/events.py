"""What contact events and capture requests report of a contact.

Contact events are best effort, unordered and delivered at least once; the casing of their keys and of some
values varies, and new fields and types appear without notice
(https://docs.aws.amazon.com/connect/latest/adminguide/contact-events.html). So parsing looks keys up in any
casing, reads what it needs and passes over the rest.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from contact_references.model.contact import Contact, ContactKey, Instance, Scope
from contact_references.model.errors import PermanentError
from contact_references.model.timestamps import format_time, parse_iso, to_millisecond

_CONTACT_EVENT = ("aws.connect", "Amazon Connect Contact Event")
_CAPTURE_REQUEST = ("contact-references", "Contact Capture Request")

MISSED = "missed"
"""Reason of a capture request: no event told of the contact, or none that was captured."""
RECHECK = "recheck"
"""Reason of a capture request: the contact is captured, and some of its references may have changed since."""

_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
# With a letter or digit in it: a path of dots alone would name another resource of the API.
_CONTACT_ID = re.compile(r"(?=.*[^\W_])[^\x00-\x1f\x7f]{1,256}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_FARTHEST_AHEAD = timedelta(days=1)  # a clock that is wrong by more, or a placeholder: no time to reckon with


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactReport:
    """One report that a contact has completed, or a request to capture or to recheck it.

    `requested` is the reason that a capture request gives; None says that it is a contact event. `event_time` is
    None where none can be reckoned with. `is_redelivered` says that it was tried before: the attempt failed, or was
    cut off anywhere. `is_analyzed` says that Contact Lens is on, whose analysis comes later.
    """

    contact: Contact
    event_id: str
    event_time: datetime | None
    requested: str | None = None
    is_redelivered: bool = False
    is_analyzed: bool = False

    @property
    def is_recheck(self) -> bool:
        """Whether nothing is asked for but what may have changed since the contact was captured."""
        return self.requested == RECHECK

    @property
    def contacts(self) -> list[Contact]:
        """The contact and, of a leg's completion, the first of its chain: it is captured again, as itself."""
        if self.is_recheck or not self.contact.is_leg:
            return [self.contact]
        return [self.contact, Contact.unseen(self.contact.initial_key)]


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """A contact event of a type that does not mean completion: nothing to capture."""

    contact_id: str | None


def parse_event(
    event: object, *, scope: Scope, completion_types: frozenset[str], now: datetime
) -> ContactReport | OtherEvent:
    """Read an EventBridge event that reports or requests a contact, or another contact event.

    An event of another type is no more than that, whatever else it says or lacks. Times over a day ahead of `now`
    count as absent. Raises PermanentError, naming the field, for what is neither a contact event nor a capture
    request, has no usable contact or instance id, or belongs to another account or instance.
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
    latest = now + _FARTHEST_AHEAD
    event_time = envelope.time("time", latest)
    requested = None if kind == _CONTACT_EVENT else detail.text("reason") or "unspecified"
    completed_at = detail.time("disconnectTimestamp", latest)
    if requested is None:  # a completion, and it came now if it does not say when
        completed_at = completed_at or event_time or to_millisecond(now)
    initial_contact_id = detail.text("initialContactId")
    return ContactReport(
        contact=Contact(
            key=key,
            initial_contact_id=_checked_id(initial_contact_id, "initialContactId")
            if initial_contact_id
            else key.contact_id,
            channel=_upper(detail.text("channel")),
            initiation_method=_upper(detail.text("initiationMethod")),
            completed_at=completed_at,
            # A recheck knows the contact from the ledger, not from its completion. A request that does not say when
            # the contact completed leaves that to be found by a search.
            completion_seen=requested != RECHECK and completed_at is not None,
        ),
        event_id=envelope.text("id") or _content_id(event),
        event_time=event_time,
        requested=requested,
        is_analyzed=detail.at("contactLens").at("conversationalAnalytics").at("configuration").is_true("enabled"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """A request to capture a contact: what reconcile puts on the queue, and `parse_event` reads.

    `reason` is MISSED or RECHECK; a recheck that `is_full` is known to read all types. A reading after `time` makes the
    request unnecessary. The same request made again has the same `id`, so that it is found to be done.
    """

    instance_arn: str
    contact: Contact
    reason: str
    time: datetime
    is_full: bool = False

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


def _content_id(event: Mapping[str, object]) -> str:
    """Name an event that has no id by what it says: delivered again, it is known for the same one."""
    return hashlib.sha256(json.dumps(event, sort_keys=True, default=repr).encode()).hexdigest()


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

    def time(self, name: str, latest: datetime) -> datetime | None:
        """A moment up to `latest`; None for none and for the service's "not set", `1970-01-01T00:00:00.001Z`."""
        try:
            moment = parse_iso((self.text(name) or "").strip())
        except ValueError:
            return None
        return moment if moment.year > 1970 and moment <= latest else None
