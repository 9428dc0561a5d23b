"""Sends an event to a running system and tells what became of it."""

import json
from dataclasses import dataclass
from pathlib import Path

from local.emulator import LocalSystemError
from local.system import Json, System


@dataclass(frozen=True)
class Delivery:
    """What became of an event; `is_settled` says that nothing is left to do about it."""

    is_settled: bool
    text: str


def read_event(path: Path) -> Json:
    """Read a file with one EventBridge event.

    Raises:
        LocalSystemError: the file is not there, or holds something else.
    """
    example = "events/completed-voice.json"
    try:
        event = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LocalSystemError(f"{path}: no such file; an example is {example}") from None
    except ValueError as error:
        raise LocalSystemError(f"{path} is not JSON ({error}); an example is {example}") from None
    if isinstance(event, dict) and "Records" in event:
        raise LocalSystemError(f"{path} is a batch of the queue, not an event: try `python -m local invoke {path}`")
    texts = isinstance(event, dict) and all(isinstance(event.get(key), str) for key in ("source", "detail-type"))
    if not texts or not isinstance(event.get("detail"), dict):
        raise LocalSystemError(
            f"{path} is no EventBridge event: it needs the texts source and detail-type and the object detail; "
            f"an example is {example}"
        )
    return dict(event)


def deliver(system: System, event: Json, *, seconds: float) -> Delivery:
    """Send one event and wait for its end: rows in the ledger, the dead-letter queue, or nothing to do.

    Args:
        system: that runs.
        event: as `read_event` returns it.
        seconds: to wait for the queue to drain.
    """
    contact_id = event["detail"].get("contactId")
    before = _contact(system, contact_id)
    asked_for = event["source"] == "contact-references" or system.matches_rule(event)
    event_id = system.send(event)
    if not asked_for:
        return Delivery(True, f"on the bus as {event_id}; no rule asks for it, so nothing else happens")
    drained = system.wait_until_drained(seconds)
    for letter in system.dead_letters():
        if letter.event_id == event_id:
            why = " ".join(f"{name}={value!r}" for name, value in sorted(letter.attributes.items()))
            return Delivery(False, f"in the dead-letter queue as {event_id}: {why}")
    after = _contact(system, contact_id)
    if after and (before is None or after["capture_id"] != before["capture_id"]):
        text = f"captured contact {contact_id} with {after['reference_count']} references at {after['captured_at']}"
    elif after and before and after["checked_at"] != before["checked_at"]:
        text = f"read contact {contact_id} again at {after['checked_at']}: nothing new"
    elif drained:
        text = "skipped: the contact was read after this event, or erased, or the event means no completion"
    else:
        return Delivery(False, f"in the queue as {event_id} after {seconds:g} s: it failed and is tried again")
    return Delivery(True, text)


def _contact(system: System, contact_id: object) -> Json | None:
    return next(
        (item for item in system.ledger() if item["sk"] == "CONTACT" and item["contact_id"] == contact_id), None
    )
