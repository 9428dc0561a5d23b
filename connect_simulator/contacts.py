"""Contacts and their references, and the form in which they are seeded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.model import StructureShape

from connect_simulator.model import ServiceError, reference_members, service_model, validate

# The events of a contact's life, in order. A contact may skip some; it never goes back.
LIFE = ("INITIATED", "CONNECTED_TO_SYSTEM", "QUEUED", "CONNECTED_TO_AGENT", "DISCONNECTED", "COMPLETED")


@dataclass
class Reference:
    """One reference: its member of the ReferenceSummary union, and that member's content as seeded or created.

    ``approved_at`` is when an attachment that arrived as PROCESSING is through its scan, in epoch seconds.
    """

    member: str
    content: dict[str, Any]
    approved_at: float | None = None

    def summary(self, now: float) -> dict[str, Any]:
        """Return the union as ListContactReferences has it."""
        if self.approved_at is not None and now >= self.approved_at:
            return {self.member: self.content | {"Status": "APPROVED"}}
        return {self.member: self.content}


def make_reference(member: str, content: dict[str, Any], *, approved_at: float) -> Reference:
    """Return a reference; an attachment in PROCESSING is APPROVED from ``approved_at`` on."""
    is_scanned = member == "Attachment" and content.get("Status") == "PROCESSING"
    return Reference(member, content, approved_at if is_scanned else None)


@dataclass
class Contact:
    """One contact. ``reached`` has the epoch seconds of each event of its life so far, INITIATED at least."""

    id: str
    instance_arn: str
    channel: str
    initiation_method: str
    reached: dict[str, float]
    initial_contact_id: str | None = None
    previous_contact_id: str | None = None
    related_contact_id: str | None = None
    name: str | None = None
    description: str | None = None
    scheduled_at: float | None = None
    updated_at: float | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    segment_attributes: dict[str, Any] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)

    @property
    def arn(self) -> str:
        """The contact's ARN."""
        return f"{self.instance_arn}/contact/{self.id}"

    @property
    def is_ended(self) -> bool:
        """Whether the contact was disconnected; after-contact work may still go on."""
        return "DISCONNECTED" in self.reached

    def describe(self) -> dict[str, Any]:
        """Return the Contact structure of DescribeContact; timestamps are epoch seconds, as REST-JSON has them."""
        described = {
            "Arn": self.arn,
            "Id": self.id,
            "InitialContactId": self.initial_contact_id,
            "PreviousContactId": self.previous_contact_id,
            "RelatedContactId": self.related_contact_id,
            "InitiationMethod": self.initiation_method,
            "Channel": self.channel,
            "Name": self.name,
            "Description": self.description,
            "Attributes": self.attributes or None,
            "SegmentAttributes": self.segment_attributes or None,
            "InitiationTimestamp": self.reached["INITIATED"],
            "ConnectedToSystemTimestamp": self.reached.get("CONNECTED_TO_SYSTEM"),
            "DisconnectTimestamp": self.reached.get("DISCONNECTED"),
            "ScheduledTimestamp": self.scheduled_at,
            "LastUpdateTimestamp": self.updated_at,
            "Tags": {"aws:connect:instanceId": self.instance_arn.rpartition("/")[2]},
        }
        return {name: value for name, value in described.items() if value is not None}


def parse_contact(seed: Mapping[str, Any], *, account_arn: str, now: float, settle_seconds: float) -> Contact:
    """Return a contact from its seeded form: members of DescribeContact, and References in ListContactReferences' form.

    Members: Id, InstanceId, Channel, InitiationMethod; optional InitialContactId, PreviousContactId, RelatedContactId,
    Name, Description, InitiationTimestamp, ConnectedToSystemTimestamp, DisconnectTimestamp (ISO 8601 with an offset),
    References. A contact with a DisconnectTimestamp has everything behind it but its COMPLETED event. Without an
    InitiationTimestamp it began when the first thing known of it happened, else now.

    Args:
        seed: the contact, from JSON.
        account_arn: what comes before ``instance/``: ``arn:aws:connect:us-east-1:111122223333``.
        now: epoch seconds; attachments in PROCESSING settle from here.
        settle_seconds: after which time.

    Raises:
        ServiceError: a member is missing, unknown, or not what the API could have returned, such as a timestamp in the
            future.
    """
    shapes = {
        "Id": "ContactId",
        "InstanceId": "InstanceId",
        "Channel": "Channel",
        "InitiationMethod": "ContactInitiationMethod",
        "InitialContactId": "ContactId",
        "PreviousContactId": "ContactId",
        "RelatedContactId": "ContactId",
        "Name": "Name",
        "Description": "Description",
    }
    stages = {
        "InitiationTimestamp": "INITIATED",
        "ConnectedToSystemTimestamp": "CONNECTED_TO_SYSTEM",
        "DisconnectTimestamp": "DISCONNECTED",
    }
    name = f"contact {seed.get('Id', 'without Id')}"
    for required in ("Id", "InstanceId", "Channel", "InitiationMethod"):
        if required not in seed:
            raise ServiceError("InvalidRequestException", f"{name}: {required} is required")
    reached = {"INITIATED": now}
    for member, value in seed.items():
        if member in shapes:
            validate(service_model().shape_for(shapes[member]), value, f"{name}: {member}")
        elif member in stages:
            reached[stages[member]] = _parse_timestamp(value, f"{name}: {member}", now=now)
        elif member != "References":
            known = ", ".join([*shapes, *stages, "References"])
            raise ServiceError("InvalidRequestException", f"{name}: {member} is none of {known}")
    if "InitiationTimestamp" not in seed:
        reached["INITIATED"] = min(reached.values())
    return Contact(
        id=seed["Id"],
        instance_arn=f"{account_arn}:instance/{seed['InstanceId']}",
        channel=seed["Channel"],
        initiation_method=seed["InitiationMethod"],
        reached=reached,
        initial_contact_id=seed.get("InitialContactId"),
        previous_contact_id=seed.get("PreviousContactId"),
        related_contact_id=seed.get("RelatedContactId"),
        name=seed.get("Name"),
        description=seed.get("Description"),
        references=[
            _parse_reference(summary, f"{name}: References[{index}]", approved_at=now + settle_seconds)
            for index, summary in enumerate(seed.get("References", []))
        ],
    )


def _parse_timestamp(value: object, name: str, *, now: float) -> float:
    problem = ServiceError("InvalidRequestException", f"{name}: give ISO 8601 such as 2026-03-02T09:30:00.000Z")
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise problem from None
    if moment.tzinfo is None:
        raise problem
    if moment.timestamp() > now:
        raise ServiceError("InvalidRequestException", f"{name} is in the future, where nothing has happened yet")
    return moment.timestamp()


def _parse_reference(summary: object, name: str, *, approved_at: float) -> Reference:
    if not isinstance(summary, dict) or len(summary) != 1:
        raise ServiceError(
            "InvalidRequestException", f'{name}: give one union member, {{"Url": {{"Name": "…", "Value": "…"}}}}'
        )
    [(member, content)] = summary.items()
    if member in reference_members().values():
        union = service_model().shape_for("ReferenceSummary")
        if isinstance(union, StructureShape):
            validate(union.members[member], content, f"{name}.{member}")
    return make_reference(member, content, approved_at=approved_at)
