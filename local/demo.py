"""A small day of a contact center, from deployment to rows, with a check that nothing is missing."""

import json
import re
import textwrap
import time
import urllib.error
import urllib.parse
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.delivery import read_event
from local.emulator import INSTANCE_ARN, ROOT, LocalSystemError, direct_open
from local.progress import show_drain
from local.system import Json, System, current_records, sample_contacts, start
from local.tables import documented_queries, query, write_tables
from ops.backfill import reconcile
from ops.console import make_console
from ops.coverage import find_coverage, show_coverage
from ops.dead_letters import DeadLetter
from ops.periods import whole_hours

_INSTANCE_ID = INSTANCE_ARN.rpartition("/")[2]
_DRAIN_SECONDS = 120
# Attachments stay in PROCESSING to the end of the demo, which compares what was captured with what Connect then says.
_SETTLE_SECONDS = 3600

_EVENTS = {
    "completed-voice.json": "a call ends",
    "completed-chat.json": "a chat ends, with an attachment that is still being scanned",
    "completed-task.json": "a task ends",
    "completed-email.json": "an email is dealt with",
    "completed-transferred-leg.json": "the later leg of a transferred call ends",
    "completed-minimal.json": "a call without references ended hours ago, its event comes late",
    "completed-malformed-arn.json": "a call ends whose event spells the ARN as AWS's samples do",
    "completed-sentinel-timestamps.json": "a chat ends whose event has no real timestamps",
    "completed-unknown-fields.json": "a call ends with a reference of a type nobody knows yet",
    "public-voice-connected-to-agent.json": "a call reaches an agent: nothing to capture",
}
# Whole hours that a late event's call, and those below, ended before now: long enough that their hour is due.
_ENDED_AGO = timedelta(hours=20)
# Calls that end like the others, but Connect's events of them are lost, as real ones sometimes are.
_LOST = ("80000000-0000-4000-8000-000000000008", "c0000000-0000-4000-8000-00000000000c")

_VALUE_WIDTH = 46

# The members that a reference has in the API's answer and in a row.
_COMPARED = {"Name": "reference_name", "Value": "reference_value", "Arn": "arn"}


def run_demo(directory: Path) -> int:
    """Start a system, play the day, show what came of it, stop. Returns 0 only if every contact is accounted for."""
    console = make_console()
    context = {"announce": "true"}
    with start(directory, context=context, report=lambda step: console.print(escape(step), highlight=False)) as system:
        announcements = _receive_announcements(system)
        malformed = _play(system, console)
        show_drain(system, console, what="Capturing at the API's pace", seconds=_DRAIN_SECONDS)
        _reconcile(system, console)
        calls = system.control_connect("statistics")["operations"]["ListContactReferences"]
        ledger, lake, letters = system.ledger(), system.lake(), system.dead_letters()
        _show_ledger(console, ledger)
        _show_lake(console, lake)
        _show_lookup(system, console)
        _show_announcement(system, console, announcements)
        _show_tables(system, console)
        _show_dead_letters(console, letters)
        contact_ids = [contact["Id"] for contact in system.control_connect("contacts")["contacts"]]
        missing = find_missing(
            system, contact_ids=contact_ids, malformed=malformed, ledger=ledger, lake=lake, letters=letters
        )
        _show_verdict(console, ledger, calls, missing)
    return 1 if missing else 0


def _receive_announcements(system: System) -> str:
    """Deploy the rule and the queue that docs/data.md has as an example; returns the queue's URL."""
    section = (ROOT / "docs" / "data.md").read_text(encoding="utf-8").partition("\n## Be told\n")[2]
    template = section.partition("```yaml\n")[2].partition("```")[0]
    cloudformation = system.clients.cloudformation
    cloudformation.create_stack(StackName="Announcements", TemplateBody=template)
    cloudformation.get_waiter("stack_create_complete").wait(StackName="Announcements", WaiterConfig={"Delay": 1})
    queue = cloudformation.describe_stack_resource(StackName="Announcements", LogicalResourceId="Queue")
    return queue["StackResourceDetail"]["PhysicalResourceId"]


def _play(system: System, console: Console) -> str:
    """Let the day happen; returns the id of the malformed event."""
    console.print("\n[bold]The day[/bold]")

    def tell(what: str) -> None:
        console.print(f"  {escape(what)}", highlight=False)

    contacts = {contact["Id"]: contact for contact in sample_contacts()}
    earlier = (datetime.now(UTC) - _ENDED_AGO).replace(minute=0, second=0, microsecond=0)
    ended_at = {"completed-minimal.json": earlier + timedelta(minutes=5)}
    for name, what in _EVENTS.items():
        event = read_event(ROOT / "events" / name)
        contact = contacts.pop(event["detail"]["contactId"], None)
        if contact:
            event = _move_times(event, _end(system, contact, ended_at.get(name)))
        system.send(_now(event))
        tell(f"{what} (events/{name})")
        if name == "completed-voice.json":
            _deliver_twice(system, event)
            tell("the call's event comes once more, and that one twice")
    for minutes, contact_id in enumerate(_LOST, start=10):
        _end(system, contacts.pop(contact_id), earlier + timedelta(minutes=minutes))
    tell(f"{len(_LOST)} calls ended in the same hour, and no event came")
    for contact in contacts.values():
        _end(system, contact)
        system.control_connect(f"contacts/{contact['Id']}/complete", {})
        tell(f"a contact of the channel {contact['Channel']} ends (simulator)")
    _work_on_tasks(system)
    tell("three tasks are started, one updated, one transferred, all stopped (Connect API, boto3)")
    malformed = system.send(read_event(ROOT / "events" / "missing-contact-id.json"))
    tell("a completion without a contact id (events/missing-contact-id.json)")
    return malformed


def _deliver_twice(system: System, event: Json) -> None:
    """Put an event on the queue as EventBridge does: with an id of its own, which a repetition keeps."""
    body = json.dumps(_now(event) | {"id": str(uuid.uuid4())})
    for _ in range(2):
        system.clients.sqs.send_message(QueueUrl=system.outputs["QueueUrl"], MessageBody=body)


def _now(event: Json) -> Json:
    return event | {"time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")}


def _end(system: System, contact: Json, ended_at: datetime | None = None) -> timedelta:
    """Let a contact of the sample end now, or have it ended before; returns by how much its times moved."""
    times = [datetime.fromisoformat(value) for name, value in contact.items() if name.endswith("Timestamp")]
    moved_by = (ended_at or datetime.now(UTC)) - max(times)
    contacts = [_move_times(contact, moved_by)]
    system.control_connect("contacts", {"contacts": contacts, "settle_seconds": _SETTLE_SECONDS})
    return moved_by


def _move_times(content: Json, moved_by: timedelta) -> Json:
    """Move every timestamp of a contact or an event. One of 1970 is none: it means "not set"."""

    def move(members: Json) -> Json:
        return {
            name: _later(value, moved_by) if name.lower().endswith("timestamp") else value
            for name, value in members.items()
        }

    return dict(json.loads(json.dumps(content), object_hook=move))


def _later(timestamp: str, moved_by: timedelta) -> str:
    if timestamp.startswith("1970"):
        return timestamp
    return (datetime.fromisoformat(timestamp) + moved_by).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _work_on_tasks(system: System) -> None:
    """Start tasks with references, and end them, as an integration does with boto3."""
    connect = system.clients.connect
    references: dict[str, Any] = {
        "order": {"Type": "URL", "Value": "https://shop.example.com/orders/1042?b=2&a=1#items"},
        "amount": {"Type": "NUMBER", "Value": "129.90"},
        "due": {"Type": "DATE", "Value": "1772443800"},
        "reply to": {"Type": "EMAIL", "Value": "Pat.Doe@Example.com"},
    }
    tasks = [
        connect.start_task_contact(
            InstanceId=_INSTANCE_ID, ContactFlowId=str(uuid.uuid4()), Name=name, References=references
        )["ContactId"]
        for name in ("Refund", "Address change", "Call back")
    ]
    note: dict[str, Any] = {"note": {"Type": "STRING", "Value": "added while the task was open"}}
    connect.update_contact(InstanceId=_INSTANCE_ID, ContactId=tasks[0], References=note)
    leg = system.control_connect(f"contacts/{tasks[2]}/transfer", {})["ContactId"]
    for contact_id in (tasks[0], tasks[1], leg):
        connect.stop_contact(InstanceId=_INSTANCE_ID, ContactId=contact_id)


def _reconcile(system: System, console: Console) -> None:
    """Find and capture what no event told of, as a run does that nobody starts by hand."""
    console.print("\n[bold]Reconciling[/bold]: the hours of the last day that are due are searched")
    answer = reconcile(system.deployment)
    console.print(f"  {answer['requested']} contacts have no capture and are asked for", highlight=False)
    show_drain(system, console, what="Capturing what was missed", seconds=_DRAIN_SECONDS)
    now = datetime.now(UTC)
    [instance] = system.deployment.instances(INSTANCE_ARN)
    coverage = find_coverage(system.deployment, instance, *whole_hours(None, None, now=now))
    show_coverage(console, coverage, now=now, program="python -m local")


def _show_ledger(console: Console, ledger: list[Json]) -> None:
    table = Table(
        title="The ledger (DynamoDB): contacts, when they were captured, and their references",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("contact, type", width=16, overflow="fold")
    table.add_column("name", width=13, overflow="fold")
    table.add_column("value, → canonical if it differs", width=_VALUE_WIDTH)
    table.add_column("valid", width=5)
    table.add_column("status", width=10)
    entries = [row for row in ledger if row["record_type"] == "CONTACT"]
    for entry in sorted(entries, key=lambda entry: str(entry["captured_at"])):
        table.add_section()
        count = int(entry["reference_count"])
        counted = "1 reference" if count == 1 else f"{count} references"
        table.add_row(_shown_kind(entry), counted, _shown_capture(entry), style="bold")
        for row in ledger:
            if row["pk"] == entry["pk"] and row["record_type"] == "REFERENCE":
                valid = "yes" if row["is_valid"] else "no"
                name = escape(row.get("reference_name", ""))
                table.add_row(row["reference_type"], name, _shown_value(row), valid, row.get("status"))
    console.print()
    console.print(table)


def _shown_kind(record: Json) -> str:
    """Say what kind of contact a record is of; the two are absent while only a later leg was seen."""
    return f"{record.get('channel', '?')} {record.get('initiation_method', '?')}"


def _shown_capture(entry: Json) -> str:
    """Say when a contact was captured, and how long after it ended."""
    captured_at = datetime.fromisoformat(entry["captured_at"])
    at = f"{captured_at:%Y-%m-%d %H:%M:%S}Z"
    if "completed_at" not in entry:
        return f"{at}, not known to have ended"
    seconds = (captured_at - datetime.fromisoformat(entry["completed_at"])).total_seconds()
    if seconds >= 2 * 3600:
        span = f"{seconds / 3600:.0f} h"
    else:
        span = f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
    return f"{at}, {span} after it ended"


def _shown_value(row: Json) -> str:
    """Return a line with the value, or what there is in its place, and one with its canonical spelling."""
    value = row.get("reference_value") or row.get("raw") or ("(a file of the instance)" if "arn" in row else "")
    lines = [value]
    if row.get("canonical_value") not in (None, value):
        lines.append(f"→ {row['canonical_value']}")
    half = _VALUE_WIDTH // 2
    return escape("\n".join(line if len(line) <= 2 * half else f"{line[: half - 1]}…{line[-half:]}" for line in lines))


def _show_lake(console: Console, lake: dict[str, list[Json]]) -> None:
    table = Table(title="The lake (S3)", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("object, and its records by contact")
    for key, records in sorted(lake.items()):
        table.add_section()
        table.add_row(key, style="bold")
        for capture_id in dict.fromkeys(record["capture_id"] for record in records):
            of_capture = [record for record in records if record["capture_id"] == capture_id]
            kinds = Counter(str(record.get("reference_type", record["record_type"])) for record in of_capture)
            counts = ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())
            text = f"  {_shown_kind(of_capture[0]):<16}  {counts}"
            table.add_row(textwrap.fill(text, 98, subsequent_indent=" " * 20))
    console.print()
    console.print(table)


def _show_lookup(system: System, console: Console) -> None:
    """Ask as a contact flow's Lambda block does: who has an address, and what came of it last."""
    parameters = {"type": "EMAIL", "value": "pat.doe@example.com", "limit": "1"}
    contact = {"ContactId": str(uuid.uuid4()), "InstanceARN": INSTANCE_ARN}
    event = {"Name": "ContactFlowEvent", "Details": {"ContactData": contact, "Parameters": parameters}}
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["LookupFunctionName"], Payload=json.dumps(event).encode()
    )
    console.print(f"A contact flow asks for {json.dumps(parameters)}, and gets", highlight=False)
    console.print(textwrap.indent(json.dumps(json.loads(answer["Payload"].read()), indent=1)[2:-2], " "), markup=False)


def _show_announcement(system: System, console: Console, queue_url: str) -> None:
    """Show what the default event bus was told of one capture.

    Raises:
        LocalSystemError: nothing of which the queue's rule would have heard.
    """
    messages = system.clients.sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=5).get("Messages")
    if not messages:
        raise LocalSystemError("the rule for captures with attachments (docs/data.md) has sent nothing to its queue")
    event = json.loads(messages[0]["Body"])
    console.print("\nThe event bus was told, and a queue for contacts with attachments received", highlight=False)
    console.print(textwrap.indent(json.dumps(event["detail"], indent=1)[2:-2], " "), markup=False)


def _show_tables(system: System, console: Console) -> None:
    """Bring the tables up to the lake, and ask Athena."""
    write_tables(system)
    queries = documented_queries()
    for title in ("References of a period by type and channel", "References by day"):
        names, *rows = query(system, queries[title])
        table = Table(title=f"{title} (Athena)", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for name in names:
            table.add_column(name or "")
        for row in rows:
            table.add_row(*(escape(value or "") for value in row))
        console.print()
        console.print(table)


def _show_dead_letters(console: Console, letters: list[DeadLetter]) -> None:
    table = Table(title="The dead-letter queue (SQS)", title_justify="left")
    for name in ("event", "error", "reason"):
        table.add_column(name, overflow="fold")
    for letter in letters:
        attributes = letter.attributes
        reason = escape(attributes.get("reason", ""))
        table.add_row(letter.event_id or "no event", attributes.get("error", ""), reason)
    console.print()
    console.print(table)


def _show_verdict(console: Console, ledger: list[Json], calls: Json, missing: list[str]) -> None:
    kinds = Counter(row["record_type"] for row in ledger)
    types = {row["reference_type"] for row in ledger if "reference_type" in row}
    console.print(
        f"\n{calls['calls']} calls of ListContactReferences, {calls['throttled']} throttled.\n"
        "To look further: `python -m local up` keeps a system running and prints how to reach it.",
        highlight=False,
    )
    if missing:
        console.print("\n[bold red]Not everything is accounted for:[/bold red]")
        for line in missing:
            console.print(f"  {escape(line)}", highlight=False)
    else:
        console.print(
            f"\n[bold green]Every contact is accounted for[/bold green]: {kinds['CONTACT']} contacts with "
            f"{kinds['REFERENCE']} references of {len(types)} types.\nLedger and lake have them as Connect has them.",
            highlight=False,
        )


def find_missing(
    system: System,
    *,
    contact_ids: list[str],
    malformed: str,
    ledger: list[Json],
    lake: dict[str, list[Json]],
    letters: list[DeadLetter],
) -> list[str]:
    """Compare what was stored with what the simulator holds; returns what is wrong, a sentence each.

    Each contact needs a CONTACT item and exactly its references, in the ledger and, once it is known when the contact
    completed, in the lake. The dead-letter queue needs the event with the id `malformed`, with a reason, and nothing
    else.
    """
    problems = []
    records = current_records(lake)
    for contact_id in contact_ids:
        rows = [row for row in ledger if row["contact_id"] == contact_id]
        entry = next((row for row in rows if row["record_type"] == "CONTACT"), None)
        if entry is None:
            problems.append(f"contact {contact_id} has no CONTACT item in the ledger")
            continue
        held = _held_references(system, contact_id)
        in_lake = [record for record in records if record["contact_id"] == contact_id]
        problems += _find_differences(f"contact {contact_id} in the ledger", entry, rows, held)
        if "completed_at" in entry:
            problems += _find_differences(f"contact {contact_id} in the lake", entry, in_lake, held)
        elif in_lake:
            problems.append(f"contact {contact_id} is in the lake, but not known to have completed")
    reasons = {letter.event_id: letter.attributes.get("reason") for letter in letters}
    if not reasons.pop(malformed, None):
        problems.append("the malformed event is not in the dead-letter queue with its reason")
    problems += [f"event {event_id} is in the dead-letter queue: {reason}" for event_id, reason in reasons.items()]
    return problems


def _find_differences(where: str, entry: Json, rows: list[Json], held: Counter[tuple[str, ...]]) -> list[str]:
    """Compare the current rows that one store has of a contact with its CONTACT item and with what Connect holds."""
    problems = []
    current = [row for row in rows if row["capture_id"] == entry["capture_id"]]
    references = [row for row in current if row["record_type"] == "REFERENCE"]
    counts = [row["reference_count"] for row in current if row["record_type"] == "CONTACT"]
    if counts != [len(references)]:
        problems.append(f"{where}: no CONTACT record that counts these {len(references)} references")
    stored = Counter(map(_from_row, references))
    if stored != held:
        lost, surplus = (held - stored).total(), (stored - held).total()
        problems.append(f"{where}: {lost} references missing, {surplus} too many")
    return problems


def _held_references(system: System, contact_id: str) -> Counter[tuple[str, ...]]:
    """Read a contact's references from the simulator, in all types, unknown ones included.

    Without the SDK, which drops members that it does not know.
    """
    model = system.clients.connect.meta.service_model.shape_for("ReferenceType")
    types = list(getattr(model, "enum", []))
    held: Counter[tuple[str, ...]] = Counter()
    for group in (types[:6], types[6:]):
        query = urllib.parse.urlencode({"referenceTypes": group}, doseq=True)
        url = f"{system.connect_url}/contact/references/{_INSTANCE_ID}/{contact_id}?{query}"
        for summary in _get_at_quota(url)["ReferenceSummaryList"]:
            [(member, content)] = summary.items()
            held[_from_member(member, content, types)] += 1
    return held


def _get_at_quota(url: str) -> Json:
    """Get from the simulator, as often as its quota needs it."""
    while True:
        try:
            with direct_open(url, timeout=10) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            if error.code != 429:
                raise LocalSystemError(f"the Connect simulator refuses {url}: {error}") from error
            time.sleep(0.1)


def _from_member(member: str, content: Json, types: list[str]) -> tuple[str, ...]:
    reference_type = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", member).upper()
    if reference_type not in types:
        return ("UNKNOWN", json.dumps({member: content}, sort_keys=True))
    return (reference_type, *(str(content.get(name)) for name in _COMPARED))


def _from_row(row: Json) -> tuple[str, ...]:
    if row["reference_type"] == "UNKNOWN":
        return ("UNKNOWN", json.dumps(json.loads(row["raw"]), sort_keys=True))
    return (row["reference_type"], *(str(row.get(column)) for column in _COMPARED.values()))
