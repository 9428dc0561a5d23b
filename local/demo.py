"""A small day of a contact center, from deployment to rows, with a check that nothing is missing."""

import json
import re
import textwrap
import time
import urllib.error
import urllib.parse
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.delivery import read_event
from local.emulator import INSTANCE_ARN, ROOT, LocalSystemError, direct_open
from local.progress import make_console, show_drain
from local.reconciling import reconcile
from local.system import DeadLetter, Json, System, start

_INSTANCE_ID = INSTANCE_ARN.rpartition("/")[2]
_DRAIN_SECONDS = 120

_EVENTS = {
    "completed-voice.json": "a call ends",
    "completed-chat.json": "a chat ends, with an attachment that is still being scanned",
    "completed-task.json": "a task ends",
    "completed-email.json": "an email is dealt with",
    "completed-transferred-leg.json": "the later leg of a transferred call ends",
    "completed-minimal.json": "a call without references ends",
    "completed-malformed-arn.json": "a call ends whose event spells the ARN as AWS's samples do",
    "completed-sentinel-timestamps.json": "a chat ends whose event has no real timestamps",
    "completed-unknown-fields.json": "a call ends with a reference of a type nobody knows yet",
    "public-voice-connected-to-agent.json": "a call reaches an agent: nothing to capture",
}

_DAY = {"from": "2026-03-02", "to": "2026-03-03"}

# Calls of that day that end like the others, but Connect's event is lost, as real ones sometimes are.
_LOST = ("80000000-0000-4000-8000-000000000008", "c0000000-0000-4000-8000-00000000000c")

_VALUE_WIDTH = 37

# The members that a reference has in the API's answer and in a row.
_COMPARED = {"Name": "reference_name", "Value": "reference_value", "Arn": "arn"}


def run_demo(directory: Path) -> int:
    """Start a system, play the day, show what came of it, stop. Returns 0 only if every contact is accounted for."""
    console = make_console()
    with start(directory, report=lambda step: console.print(escape(step), highlight=False)) as system:
        malformed = _play(system, console)
        show_drain(system, console, what="Capturing at the API's pace", seconds=_DRAIN_SECONDS)
        _reconcile(system, console)
        calls = system.control_connect("statistics")["operations"]["ListContactReferences"]
        ledger, lake, letters = system.ledger(), system.lake(), system.dead_letters()
        _show_ledger(console, ledger)
        _show_lake(console, lake)
        _show_dead_letters(console, letters)
        contact_ids = [contact["Id"] for contact in system.control_connect("contacts")["contacts"]]
        missing = find_missing(
            system, contact_ids=contact_ids, malformed=malformed, ledger=ledger, lake=lake, letters=letters
        )
        _show_verdict(console, ledger, calls, missing)
    return 1 if missing else 0


def _play(system: System, console: Console) -> str:
    """Let the day happen; returns the id of the malformed event."""
    console.print("\n[bold]The day[/bold]")

    def tell(what: str) -> None:
        console.print(f"  {escape(what)}", highlight=False)

    named = set(_LOST)
    for name, what in _EVENTS.items():
        event = read_event(ROOT / "events" / name)
        system.send(event)
        named.add(event["detail"]["contactId"])
        tell(f"{what} (events/{name})")
    again = read_event(ROOT / "events" / "completed-voice.json")
    again |= {"id": str(uuid.uuid4()), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    for _ in range(2):
        system.clients.sqs.send_message(QueueUrl=system.outputs["QueueUrl"], MessageBody=json.dumps(again))
    tell("the call's event once more, which EventBridge delivers twice")
    for contact in system.control_connect("contacts")["contacts"]:
        if contact["Id"] not in named:
            system.control_connect(f"contacts/{contact['Id']}/complete", {})
            tell(f"{contact['Channel'].lower()} contact {contact['Id']} ends (simulator)")
    tell(f"{len(_LOST)} calls end, and no event comes")
    _work_on_tasks(system)
    tell("three tasks are started, one updated, one transferred, all stopped (Connect API, boto3)")
    malformed = system.send(read_event(ROOT / "events" / "missing-contact-id.json"))
    tell("a completion without a contact id (events/missing-contact-id.json)")
    return malformed


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
    """Find and capture what no event told of."""
    found = reconcile(system, _DAY)
    console.print(
        f"\nReconciling {_DAY['from']}: Connect has {found['seen']} contacts that ended that day, the ledger "
        f"{found['already_there']}.\nThe other {found['queued']} are queued.",
        highlight=False,
    )
    show_drain(system, console, what="Capturing what was missed", seconds=_DRAIN_SECONDS)


def _show_ledger(console: Console, ledger: list[Json]) -> None:
    table = Table(
        title="The ledger (DynamoDB)", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("contact", width=7)
    table.add_column("type", width=16, overflow="fold")
    table.add_column("name", width=13, overflow="fold")
    table.add_column("value, → canonical if it differs", width=_VALUE_WIDTH)
    table.add_column("valid", width=5)
    table.add_column("status", width=10)
    entries = [row for row in ledger if row["record_type"] == "CONTACT"]
    for entry in sorted(entries, key=lambda entry: entry.get("completed_at", "")):
        about = f"{entry['reference_count']} references, ended {entry.get('completed_at', '?')[:16]}Z"
        contact = f"…{entry['contact_id'][-6:]}"  # enough to tell these few apart
        table.add_section()
        table.add_row(contact, "CONTACT", entry.get("channel"), about, "", entry["capture_state"], style="bold")
        for row in ledger:
            if row["pk"] == entry["pk"] and row["record_type"] == "REFERENCE":
                valid = "yes" if row["is_valid"] else "no"
                name = escape(row.get("reference_name", ""))
                table.add_row("", row["reference_type"], name, _shown_value(row), valid, row.get("status"))
    console.print()
    console.print(table)


def _shown_value(row: Json) -> str:
    """Return a line with the value, or what there is in its place, and one with its canonical spelling."""
    value = row.get("reference_value") or row.get("raw") or row.get("arn") or ""
    lines = [value]
    if row.get("canonical_value") not in (None, value):
        lines.append(f"→ {row['canonical_value']}")
    half = _VALUE_WIDTH // 2
    return escape("\n".join(line if len(line) <= 2 * half else f"{line[: half - 1]}…{line[-half:]}" for line in lines))


def _show_lake(console: Console, lake: dict[str, list[Json]]) -> None:
    table = Table(title="The lake (S3)", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("object, and its rows by contact")
    for key, records in sorted(lake.items()):
        table.add_section()
        table.add_row(_shown_key(key), style="bold")
        for contact_id in dict.fromkeys(record["contact_id"] for record in records):
            kinds = Counter[str](
                str(record.get("reference_type", record["record_type"]))
                for record in records
                if record["contact_id"] == contact_id
            )
            rows = ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())
            table.add_row(textwrap.fill(f"  …{contact_id[-6:]}  {rows}", 98, subsequent_indent=" " * 11))
    console.print()
    console.print(table)


def _shown_key(key: str) -> str:
    """Shorten the unique part of an object's name, so that it fits on a line."""
    return re.sub(r"-[0-9a-f]{24}", "-…", key)


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

    Each contact needs a complete CONTACT item, and exactly its references, in both stores. The dead-letter queue needs
    the event with the id `malformed`, with a reason, and nothing else.
    """
    problems = []
    records = [record for content in lake.values() for record in content]
    for contact_id in contact_ids:
        rows = [row for row in ledger if row["contact_id"] == contact_id]
        entry = next((row for row in rows if row["record_type"] == "CONTACT"), None)
        if entry is None or entry["capture_state"] != "complete":
            problems.append(f"contact {contact_id} has no complete CONTACT item in the ledger")
            continue
        held = _held_references(system, contact_id)
        stores = {"ledger": rows, "lake": [record for record in records if record["contact_id"] == contact_id]}
        for store, found in stores.items():
            current = [row for row in found if row["captured_at"] == entry["captured_at"]]
            stored = Counter(map(_from_row, (row for row in current if row["record_type"] == "REFERENCE")))
            if not any(row["record_type"] == "CONTACT" for row in current):
                problems.append(f"contact {contact_id} has no CONTACT record of its capture in the {store}")
            if stored != held:
                lost, surplus = (held - stored).total(), (stored - held).total()
                problems.append(f"contact {contact_id} in the {store}: {lost} references missing, {surplus} too many")
    reasons = {letter.event_id: letter.attributes.get("reason") for letter in letters}
    if not reasons.pop(malformed, None):
        problems.append("the malformed event is not in the dead-letter queue with its reason")
    problems += [f"event {event_id} is in the dead-letter queue: {reason}" for event_id, reason in reasons.items()]
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
