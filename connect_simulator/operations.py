"""What the API's operations do to the contacts of one simulated account and Region."""

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from connect_simulator.contacts import LIFE, Contact, Reference, make_reference, parse_contact
from connect_simulator.events import contact_event
from connect_simulator.files import describe_file
from connect_simulator.model import ServiceError, reference_members
from connect_simulator.search import MOST_RESULTS, SearchFlaws, search, summarize

Parameters = Mapping[str, Any]
Item = TypeVar("Item")


class ContactCenter:
    """All contacts, and the operations on them, by the names the API gives them in ``operations``.

    Not thread-safe: the simulator calls it under its lock. Where the API reference leaves open which error a rule has,
    it is InvalidRequestException.

    Args:
        instance_arn: exists from the start; imported contacts add their instances, in the same account and Region.
        settle_seconds: how long an attachment that arrives as PROCESSING stays so.
        page_size: references in a page of ListContactReferences; None is all in one, as documented.
        clock: epoch seconds.
    """

    def __init__(
        self, instance_arn: str, *, settle_seconds: float, page_size: int | None, clock: Callable[[], float]
    ) -> None:
        self._account_arn = instance_arn.partition(":instance/")[0]
        # ARN, and when the instance was created: before all of its contacts.
        self._instances = {instance_arn: clock()}
        self._settle_seconds = settle_seconds
        self._page_size = page_size
        self._clock = clock
        self._contacts: dict[str, Contact] = {}
        self._answered: dict[tuple[str, str], tuple[Parameters, dict[str, Any]]] = {}
        self._tokens: dict[str, tuple[str, Parameters, int]] = {}
        self._events: list[dict[str, Any]] = []
        self.search_flaws = SearchFlaws()
        self.operations: dict[str, Callable[[Parameters], dict[str, Any]]] = {
            "StartTaskContact": lambda parameters: self._once("StartTaskContact", parameters, self._start_task),
            "CreateContact": lambda parameters: self._once("CreateContact", parameters, self._create_contact),
            "UpdateContact": self._update_contact,
            "StopContact": self._stop_contact,
            "DescribeContact": lambda parameters: {"Contact": self._find(parameters).describe()},
            "ListContactReferences": self._list_references,
            "GetAttachedFile": self._get_attached_file,
            "SearchContacts": self._search_contacts,
            "ListInstances": self._list_instances,
        }

    def take_events(self) -> list[dict[str, Any]]:
        """Return the events since the last call, oldest first, as entries of PutEvents."""
        events, self._events = self._events, []
        return events

    def contacts(self) -> list[dict[str, Any]]:
        """Return each contact as DescribeContact does, with its events so far and the number of its references."""
        return [
            contact.describe() | {"Reached": list(contact.reached), "ReferenceCount": len(contact.references)}
            for contact in self._contacts.values()
        ]

    def find_channel(self, contact_id: str | None) -> str | None:
        """Return a contact's channel, None for a contact that does not exist."""
        contact = self._contacts.get(contact_id or "")
        return contact.channel if contact else None

    def import_contacts(self, seeds: Sequence[Mapping[str, Any]], *, settle_seconds: float | None = None) -> None:
        """Put contacts in place, without events; one whose id exists is replaced. All or none.

        Args:
            seeds: in the form that `parse_contact` takes.
            settle_seconds: how long from now their attachments stay PROCESSING; None is as for all others.

        Raises:
            ServiceError: see `parse_contact`.
        """
        now = self._clock()
        settle_seconds = self._settle_seconds if settle_seconds is None else settle_seconds
        contacts = [
            parse_contact(seed, account_arn=self._account_arn, now=now, settle_seconds=settle_seconds) for seed in seeds
        ]
        for contact in contacts:
            created_at = self._instances.get(contact.instance_arn, now)
            self._instances[contact.instance_arn] = min(created_at, contact.reached["INITIATED"])
            self._contacts[contact.id] = contact

    def complete(self, contact_id: str) -> None:
        """Live a contact's life to its end; a completed contact's COMPLETED event is sent again, as EventBridge may.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        contact = self._get(contact_id)
        last = max(LIFE.index(stage) for stage in contact.reached)
        self._reach(contact, *LIFE[min(last + 1, len(LIFE) - 1) :])

    def transfer(self, contact_id: str) -> str:
        """Transfer a live contact: return the id of the new leg, which is INITIATED; the old one completes.

        Raises:
            ServiceError: ResourceNotFoundException, or ConflictException for a contact that has ended.
        """
        contact = self._get(contact_id)
        if contact.is_ended:
            raise ServiceError("ConflictException", f"contact {contact_id} has ended; only a live one is transferred")
        leg = self._add(contact.instance_arn, contact.channel, "TRANSFER", previous=contact)
        self._reach(leg, "INITIATED")
        self.complete(contact_id)
        return leg.id

    def _once(self, operation: str, parameters: Parameters, create: Callable[[Parameters], Contact]) -> dict[str, Any]:
        """Answer a repeated ClientToken as the first time; refuse it with other parameters."""
        token = parameters.get("ClientToken")
        if token is not None and (operation, token) in self._answered:
            first, response = self._answered[operation, token]
            if first != parameters:
                code = "IdempotencyException" if operation == "CreateContact" else "InvalidRequestException"
                raise ServiceError(code, "the ClientToken was used with other parameters")
            return response
        contact = create(parameters)
        response = {"ContactId": contact.id}
        if operation == "CreateContact":
            response["ContactArn"] = contact.arn
        if token is not None:
            self._answered[operation, token] = (parameters, response)
        return response

    def _start_task(self, parameters: Parameters) -> Contact:
        instance_arn = self._instance(parameters)
        given = [name for name in ("ContactFlowId", "QuickConnectId", "TaskTemplateId") if name in parameters]
        if len(given) != 1:
            raise _refused(f"one of ContactFlowId, QuickConnectId, TaskTemplateId is needed, not {given or 'none'}")
        previous = self._linked(parameters, "PreviousContactId")
        if previous and sum(contact.previous_contact_id == previous.id for contact in self._contacts.values()) >= 12:
            raise ServiceError("ServiceQuotaExceededException", f"contact {previous.id} has 12 linked tasks already")
        related = self._linked(parameters, "RelatedContactId")
        scheduled_at = parameters.get("ScheduledTime")
        if scheduled_at is not None and not 0 < scheduled_at - self._clock() <= 6 * 86400:
            raise _refused("ScheduledTime must be in the future, within 6 days, in epoch seconds")
        references = self._created("StartTaskContact", "TASK", parameters)
        contact = self._add(instance_arn, "TASK", "API", previous=previous)
        contact.related_contact_id = related.id if related else None
        contact.name, contact.description = parameters["Name"], parameters.get("Description")
        contact.scheduled_at = scheduled_at
        contact.attributes = (related.attributes if related else {}) | parameters.get("Attributes", {})
        contact.segment_attributes = parameters.get("SegmentAttributes", {})
        contact.references = references + [
            self._attached(contact, attachment["FileName"]) for attachment in parameters.get("Attachments", [])
        ]
        # A flow runs at once unless the task is scheduled, and leads no further without an agent.
        self._reach(contact, *LIFE[: 1 if scheduled_at else 2])
        return contact

    def _create_contact(self, parameters: Parameters) -> Contact:
        instance_arn = self._instance(parameters)
        channel, method = parameters["Channel"], parameters["InitiationMethod"]
        allowed = {"VOICE": ("TRANSFER",), "EMAIL": ("OUTBOUND", "AGENT_REPLY", "FLOW"), "TASK": ("API",)}
        if method not in allowed.get(channel, ()):
            raise _refused(f"Channel {channel} with InitiationMethod {method}; supported: {allowed}")
        if method in {"OUTBOUND", "AGENT_REPLY"} and "UserInfo" not in parameters:
            raise _refused(f"UserInfo is required for EMAIL contacts with InitiationMethod {method}")
        state = parameters.get("InitiateAs")
        if state == "COMPLETED" and channel != "TASK":
            raise _refused(f"InitiateAs COMPLETED is for TASK contacts, not {channel}")
        if "PreviousContactId" in parameters and channel != "VOICE":
            raise _refused(f"PreviousContactId is for external audio (VOICE) contacts, not {channel}")
        previous = self._linked(parameters, "PreviousContactId")
        related = self._linked(parameters, "RelatedContactId")
        references = self._created("CreateContact", channel, parameters)
        contact = self._add(instance_arn, channel, method, previous=previous)
        contact.related_contact_id = related.id if related else None
        contact.name, contact.description = parameters.get("Name"), parameters.get("Description")
        contact.attributes = parameters.get("Attributes", {})
        subtypes = {"VOICE": "connect:ExternalAudio", "TASK": "connect:ExternalTask", "EMAIL": "connect:Email"}
        subtype = {"connect:Subtype": {"ValueString": subtypes[channel]}}
        contact.segment_attributes = subtype | parameters.get("SegmentAttributes", {})
        contact.references = references
        lives = {"COMPLETED": ("DISCONNECTED", "COMPLETED"), "CONNECTED_TO_USER": ("CONNECTED_TO_AGENT",)}
        self._reach(contact, "INITIATED", *lives.get(str(state), ()))
        return contact

    def _update_contact(self, parameters: Parameters) -> dict[str, Any]:
        """Update a live or ended contact. A change of references, name or description makes no event.

        CONTACT_DATA_UPDATED is documented for attributes, tags, schedules, routing and Contact Lens only.
        """
        contact = self._find(parameters)
        fields = set(parameters) - {"InstanceId", "ContactId"}
        if not fields:
            raise _refused("at least one field to be updated is needed, for example References")
        external = fields & {"QueueInfo", "UserInfo", "CustomerEndpoint", "SystemEndpoint"}
        if external:
            raise _refused(f"{', '.join(sorted(external))}: for external audio contacts, and not simulated")
        if "References" in parameters:
            entered = self._created("UpdateContact", contact.channel, parameters)
            replaced = {(True, reference.content["Name"]) for reference in entered}
            kept = [
                reference
                for reference in contact.references
                if (_is_entered(reference), reference.content.get("Name")) not in replaced
            ]
            _check_size([*kept, *entered])
            contact.references = [*kept, *entered]
        contact.name = parameters.get("Name", contact.name)
        contact.description = parameters.get("Description", contact.description)
        contact.updated_at = self._clock()
        if "SegmentAttributes" in parameters:
            contact.segment_attributes = contact.segment_attributes | parameters["SegmentAttributes"]
            self._emit(contact, "CONTACT_DATA_UPDATED", updated=["SegmentAttributes"])
        return {}

    def _stop_contact(self, parameters: Parameters) -> dict[str, Any]:
        try:
            contact = self._find(parameters)
        except ServiceError as error:
            raise ServiceError("ContactNotFoundException", error.message) from error
        if contact.is_ended:
            raise ServiceError("ContactNotFoundException", f"contact {contact.id} has already ended")
        excluded = {"DISCONNECT", "TRANSFER", "QUEUE_TRANSFER", "EXTERNAL_OUTBOUND", "MONITOR"}
        if contact.channel == "VOICE" and contact.initiation_method in excluded:
            raise _refused(f"a VOICE contact with InitiationMethod {contact.initiation_method} can't be stopped")
        self._reach(contact, "DISCONNECTED", "COMPLETED")
        return {}

    def _list_references(self, parameters: Parameters) -> dict[str, Any]:
        """List references of the types asked for.

        Those of a type newer than the SDK come along with ATTACHMENT, so that one of the two calls which eleven types
        need returns them.
        """
        contact = self._find(parameters)
        asked = set(parameters["ReferenceTypes"])
        members = reference_members()
        hidden = {member for reference_type, member in members.items() if reference_type not in asked}
        shown = [
            reference
            for reference in contact.references
            if reference.member not in hidden and (reference.member in members.values() or "ATTACHMENT" in asked)
        ]
        start = 0
        if "NextToken" in parameters:
            token = str(parameters["NextToken"])
            start = int(token) if re.fullmatch("[0-9]{1,9}", token) else 0
            if not 0 < start < len(shown):
                raise ServiceError("InvalidParameterException", "NextToken is none that this operation returned")
        end = start + (self._page_size or len(shown))
        now = self._clock()
        return {
            "ReferenceSummaryList": [reference.summary(now) for reference in shown[start:end]],
            "NextToken": str(end) if end < len(shown) else None,
        }

    def _get_attached_file(self, parameters: Parameters) -> dict[str, Any]:
        """Describe a file of a contact, with a link to it once it is approved, a new one each time.

        The reference names cases, emails and tasks as what files belong to: a contact of another channel is refused.
        """
        instance_arn = self._instance(parameters)
        resource_arn = parameters["AssociatedResourceArn"]
        if not re.fullmatch(r"arn:[\w-]+:[\w-]+:[\w-]*:[0-9]*:.+", resource_arn):
            raise _refused("AssociatedResourceArn must be a valid ARN, such as a contact's")
        contact = next((contact for contact in self._contacts.values() if contact.arn == resource_arn), None)
        if contact is None or contact.instance_arn != instance_arn:
            raise ServiceError("ResourceNotFoundException", f"no AssociatedResourceArn of a contact in {instance_arn}")
        if contact.channel not in {"EMAIL", "TASK"}:
            raise _refused(f"files of a {contact.channel} contact can't be had, only those of EMAIL and TASK contacts")
        now = self._clock()
        for reference in contact.references:
            file = describe_file(reference.summary(now), contact, now, parameters.get("UrlExpiryInSeconds", 300))
            if file is not None and file["FileId"] == parameters["FileId"]:
                return file
        raise ServiceError("ResourceNotFoundException", f"no file {parameters['FileId']} of contact {contact.id}")

    def _search_contacts(self, parameters: Parameters) -> dict[str, Any]:
        instance_arn = self._instance(parameters)
        found = search(
            self._contacts.values(),
            parameters,
            instance_arn=instance_arn,
            now=self._clock(),
            lag_seconds=self.search_flaws.lag_seconds,
        )
        # That a page without MaxResults has as many as can be asked for is a guess.
        size = parameters.get("MaxResults", 100)
        page, next_token = self._page("SearchContacts", parameters, found[:MOST_RESULTS], size=size)
        total_count = {"TotalCount": len(found)} if self.search_flaws.total_count else {}
        return {"Contacts": [summarize(contact) for contact in page]} | total_count | next_token

    def _list_instances(self, parameters: Parameters) -> dict[str, Any]:
        instances = [
            {
                "Id": arn.rpartition("/")[2],
                "Arn": arn,
                "IdentityManagementType": "CONNECT_MANAGED",
                "CreatedTime": created_at,
                "InstanceStatus": "ACTIVE",
                "InboundCallsEnabled": True,
                "OutboundCallsEnabled": True,
            }
            for arn, created_at in self._instances.items()
        ]
        # The default is a guess, as in SearchContacts.
        page, next_token = self._page("ListInstances", parameters, instances, size=parameters.get("MaxResults", 10))
        return {"InstanceSummaryList": page} | next_token

    def _page(
        self, operation: str, parameters: Parameters, items: Sequence[Item], *, size: int
    ) -> tuple[Sequence[Item], dict[str, str]]:
        """Return the page that a request's NextToken asks for, and the NextToken after it when there is more.

        A token is good for the request it answered, as often as wanted, and for no other. It is a place in the items
        as they are when it is used: what comes in between moves them, as the service promises no snapshot.
        """
        asked = {name: value for name, value in parameters.items() if name != "NextToken"}
        start = 0
        if "NextToken" in parameters:
            *bound_to, start = self._tokens.get(parameters["NextToken"], ("", {}, 0))
            if bound_to != [operation, asked]:
                raise ServiceError(
                    "InvalidParameterException", f"NextToken is none that {operation} returned for these parameters"
                )
        end = start + size
        if end >= len(items):
            return items[start:], {}
        token = str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([operation, asked, end], sort_keys=True)))
        self._tokens[token] = (operation, asked, end)
        return items[start:end], {"NextToken": token}

    def _instance(self, parameters: Parameters) -> str:
        instance_arn = f"{self._account_arn}:instance/{parameters['InstanceId']}"
        if instance_arn not in self._instances:
            raise ServiceError("ResourceNotFoundException", f"no instance {parameters['InstanceId']}")
        return instance_arn

    def _get(self, contact_id: str) -> Contact:
        if contact_id not in self._contacts:
            raise ServiceError("ResourceNotFoundException", f"no contact {contact_id}")
        return self._contacts[contact_id]

    def _find(self, parameters: Parameters) -> Contact:
        instance_arn = self._instance(parameters)
        contact = self._get(parameters["ContactId"])
        if contact.instance_arn != instance_arn:
            raise ServiceError("ResourceNotFoundException", f"no contact {contact.id} in {instance_arn}")
        return contact

    def _linked(self, parameters: Parameters, member: str) -> Contact | None:
        if member not in parameters:
            return None
        return self._find({"InstanceId": parameters["InstanceId"], "ContactId": parameters[member]})

    def _add(self, instance_arn: str, channel: str, method: str, *, previous: Contact | None) -> Contact:
        contact = Contact(str(uuid.uuid4()), instance_arn, channel, method, reached={})
        if previous:
            contact.initial_contact_id = previous.initial_contact_id or previous.id
            contact.previous_contact_id = previous.id
        self._contacts[contact.id] = contact
        return contact

    def _created(self, operation: str, channel: str, parameters: Parameters) -> list[Reference]:
        """Return the references a request creates, within what its operation and channel allow."""
        allowed = ["URL", "NUMBER", "STRING", "DATE"]
        if channel != "EMAIL":
            allowed += ["EMAIL", "ATTACHMENT"] if operation == "CreateContact" else ["EMAIL"]
        references = []
        for name, given in parameters.get("References", {}).items():
            if given["Type"] not in allowed:
                raise _refused(
                    f"References.{name[:50]}.Type {given['Type']}: {operation} on {channel} takes {', '.join(allowed)}"
                )
            # "DATE must be of type Epoch timestamp", says the API's Reference structure.
            if given["Type"] == "DATE" and not re.fullmatch("-?[0-9]+", given.get("Value", "")):
                raise _refused(f"References.{name[:50]}.Value: a DATE is an epoch timestamp such as 1772443800")
            members = ("Value", "Arn", "Status") if given["Type"] == "ATTACHMENT" else ("Value",)
            content = {"Name": name} | {member: given[member] for member in members if member in given}
            approved_at = self._clock() + self._settle_seconds
            references.append(make_reference(reference_members()[given["Type"]], content, approved_at=approved_at))
        _check_size(references)
        return references

    def _attached(self, contact: Contact, file_name: str) -> Reference:
        """Return the reference of a file that is fetched and scanned."""
        file_id = uuid.uuid4()
        content = {
            "Name": file_name,
            "Value": f"s3://amazon-connect-example/Attachments/{contact.id}/{file_id}_{file_name}",
            "Status": "PROCESSING",
            "Arn": f"{contact.instance_arn}/file/{file_id}",
        }
        return make_reference("Attachment", content, approved_at=self._clock() + self._settle_seconds)

    def _reach(self, contact: Contact, *stages: str) -> None:
        """Let events of a contact's life happen now, but for a queue, which outbound contacts don't see."""
        for stage in stages:
            if stage == "QUEUED" and contact.initiation_method == "OUTBOUND":
                continue
            contact.reached.setdefault(stage, self._clock())
            contact.updated_at = self._clock()
            self._emit(contact, stage)

    def _emit(self, contact: Contact, event_type: str, *, updated: Sequence[str] = ()) -> None:
        self._events.append(contact_event(contact, event_type, self._clock(), updated=updated))


def _is_entered(reference: Reference) -> bool:
    """Whether people, flows and API calls make references of this kind; the service makes the others."""
    return reference.member in {"Url", "Number", "String", "Date", "Email"}


def _check_size(references: Sequence[Reference]) -> None:
    """Refuse more than the 4,096 UTF-8 bytes of names and values that can be created on one contact."""
    size = sum(
        len(str(reference.content.get(member, "")).encode("utf-8", "surrogatepass"))
        for reference in references
        if _is_entered(reference)
        for member in ("Name", "Value")
    )
    if size > 4096:
        raise _refused(f"References have {size} UTF-8 bytes in names and values; a contact takes 4096")


def _refused(message: str) -> ServiceError:
    return ServiceError("InvalidRequestException", message)
