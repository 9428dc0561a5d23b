"""Captures contacts that a person names, now."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape

from contact_references.model.contact import Contact, ContactKey, Instance
from contact_references.model.events import RECHECK, CaptureRequest
from contact_references.model.timestamps import to_millisecond
from ops.console import JsonOption, YesOption, ask, make_console, print_json
from ops.deployment import Deployment, deployment_of
from ops.errors import OpsError, explain


@dataclass(frozen=True)
class Captured:
    """What became of a contact: `captured`, `skipped` or `failed`, and why."""

    contact_id: str
    outcome: str
    reference_count: int | None
    reason: str


def capture_contact(deployment: Deployment, instance: Instance, contact_id: str, reason: str) -> Captured:
    """Have the capture function read a contact; what Connect says of the contact itself goes with the request.

    A contact that AWS cannot be asked about has failed, and hinders no other.
    """
    try:
        return _capture(deployment, instance, contact_id, reason)
    except (ClientError, BotoCoreError) as error:
        return Captured(contact_id, "failed", None, explain(error))


def _capture(deployment: Deployment, instance: Instance, contact_id: str, reason: str) -> Captured:
    connect = deployment.clients.connect
    try:
        found = connect.describe_contact(InstanceId=instance.instance_id, ContactId=contact_id)["Contact"]
    except connect.exceptions.ResourceNotFoundException:
        return Captured(contact_id, "failed", None, f"instance {instance.instance_id} has no such contact")
    completed_at = found.get("DisconnectTimestamp")
    if completed_at is None:
        return Captured(contact_id, "failed", None, "the contact has not completed: its completion has it captured")
    contact = Contact(
        key=ContactKey(instance.instance_id, contact_id),
        initial_contact_id=found.get("InitialContactId") or contact_id,
        channel=found.get("Channel"),
        initiation_method=found.get("InitiationMethod"),
        completed_at=to_millisecond(completed_at.astimezone(UTC)),
        completion_seen=True,
    )
    request = CaptureRequest(instance_arn=instance.arn, contact=contact, reason=reason, time=datetime.now(UTC))
    answer = deployment.clients.functions.invoke(
        FunctionName=deployment.output("CaptureFunctionName"), Payload=json.dumps(request.event()).encode()
    )
    result = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        return Captured(contact_id, "failed", None, str(result.get("errorMessage", "the function ended")))
    return Captured(contact_id, result["outcome"], result["reference_count"], result["reason"])


def capture(
    context: typer.Context,
    *,
    contacts: Annotated[list[str], typer.Argument(metavar="CONTACT", help="Ids of contacts that have completed.")],
    instance: Annotated[
        str | None, typer.Option(metavar="ARN|ID", help="Their Connect instance; needed if there are several.")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="WORD", help="What the function's log says it was for.")] = "by hand",
    is_answered: YesOption = False,
    as_document: JsonOption = False,
) -> None:
    """Capture contacts now, and tell what became of them.

    A contact that was captured before is read again: only what is new is written. Exit status 1 if one is not captured.
    """
    deployment = deployment_of(context)
    if reason.strip().lower() == RECHECK or not reason.strip():
        raise typer.BadParameter("give a word of your own, such as a ticket's name", param_hint="--reason")
    if not all(contact_id.strip() for contact_id in contacts):
        raise typer.BadParameter("a contact's id is empty", param_hint="CONTACT")
    instances = deployment.instances(instance)
    if len(instances) != 1:
        there = ", ".join(each.instance_id for each in instances) or "none"
        raise OpsError(f"name the contacts' instance with --instance: there are {there}")
    what = f"contact {contacts[0]}" if len(contacts) == 1 else f"{len(contacts)} contacts"
    ask(f"Read {what} of instance {instances[0].instance_id} from Connect now?", is_answered=is_answered)
    console, results = make_console(), []
    for contact_id in dict.fromkeys(contacts):
        result = capture_contact(deployment, instances[0], contact_id, reason)
        results.append(result)
        if not as_document:
            count = "" if result.reference_count is None else f" with {result.reference_count} references"
            colour = "red" if result.outcome == "failed" else "green"
            name = escape(contact_id)
            console.print(f"{name}: [{colour}]{result.outcome}[/{colour}]{count} ({escape(result.reason)})")
    if as_document:
        print_json([asdict(result) for result in results])
    if any(result.outcome == "failed" for result in results):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add `capture`."""
    contact, instance = "80000000-0000-4000-8000-000000000008", "12345678-1234-1234-1234-123456789012"
    app.command(epilog=f"Example: python -m ops capture {contact} --instance {instance}")(capture)
