"""Contact events: how the service words them, and their way to the event bus."""

import hashlib
import http.client
import json
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from connect_simulator.contacts import Contact
from connect_simulator.model import ServiceError


def contact_event(contact: Contact, event_type: str, now: float, *, updated: Sequence[str] = ()) -> dict[str, Any]:
    """Return a contact event as an entry of PutEvents: ``Detail`` is JSON text, ``Time`` has whole seconds.

    Args:
        contact: as it is after what happened; a part of its life it has not reached yet is not in the event.
        event_type: INITIATED, … COMPLETED, CONTACT_DATA_UPDATED.
        now: epoch seconds.
        updated: what a CONTACT_DATA_UPDATED updated.
    """
    instance_id = contact.instance_arn.rpartition("/")[2]
    detail: dict[str, Any] = {
        "eventType": event_type,
        "contactId": contact.id,
        "initialContactId": contact.initial_contact_id,
        "previousContactId": contact.previous_contact_id,
        "relatedContactId": contact.related_contact_id,
        "channel": contact.channel,
        "instanceArn": contact.instance_arn,
        "initiationMethod": contact.initiation_method,
        "initiationTimestamp": _timestamp(contact.reached.get("INITIATED")),
        "connectedToSystemTimestamp": _timestamp(contact.reached.get("CONNECTED_TO_SYSTEM")),
        "disconnectTimestamp": _timestamp(contact.reached.get("DISCONNECTED")),
        "scheduledTimestamp": _timestamp(contact.scheduled_at),
        "updatedProperties": list(updated) or None,
        "tags": {"aws:connect:instanceId": instance_id},
    }
    if "QUEUED" in contact.reached:
        detail["queueInfo"] = {
            "queueArn": f"{contact.instance_arn}/queue/{uuid.uuid5(uuid.NAMESPACE_OID, 'queue')}",
            "queueType": "STANDARD",
            "enqueueTimestamp": _timestamp(contact.reached["QUEUED"]),
        }
    if "CONNECTED_TO_AGENT" in contact.reached:
        detail["agentInfo"] = {
            "agentArn": f"{contact.instance_arn}/agent/{uuid.uuid5(uuid.NAMESPACE_OID, 'agent')}",
            "connectedToAgentTimestamp": _timestamp(contact.reached["CONNECTED_TO_AGENT"]),
        }
    return {
        "Source": "aws.connect",
        "DetailType": "Amazon Connect Contact Event",
        "Time": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Resources": [contact.instance_arn, contact.arn],
        "Detail": json.dumps({name: value for name, value in detail.items() if value is not None}),
    }


def _timestamp(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class EventBus:
    """Keeps the events it puts on the bus, and delivers each to an endpoint when there is one.

    Best effort as the service's own: what can't be delivered is reported on standard error, counted, and not tried
    again; and `disturb` makes it lose and repeat events.

    Args:
        endpoint: takes ``{"Entries": […]}`` as POST and answers as PutEvents does; None keeps events only.

    Raises:
        ValueError: the endpoint is no http URL.
    """

    def __init__(self, endpoint: str | None) -> None:
        self.entries: list[dict[str, Any]] = []
        self.counts = {"emitted": 0, "undelivered": 0, "dropped": 0, "repeated": 0}
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._drop = self._repeat = 0.0
        self._seen: Counter[str] = Counter()
        if endpoint and not endpoint.startswith("http://"):
            raise ValueError(f"events endpoint {endpoint}: give an http URL, for example http://127.0.0.1:4566/events")

    def disturb(self, *, drop: object, repeat: object) -> None:
        """From now on lose a share of the events, and put a share of the others on the bus twice.

        Which ones depends on nothing but an event's contact, its type, and how many such the contact had before: a run
        with the same contacts repeats, whatever their order.

        Raises:
            ServiceError: InvalidRequestException, a share is not a number from 0 to 1.
        """
        if not (_is_share(drop) and _is_share(repeat)):
            raise ServiceError(
                "InvalidRequestException", 'drop and repeat are shares from 0 to 1: give {"drop": 0.3, "repeat": 0.1}'
            )
        with self._lock:
            self._drop, self._repeat = float(drop), float(repeat)

    def disturbance(self) -> dict[str, float]:
        """Return the shares in force, ``drop`` and ``repeat``; zeros when there is no disturbance."""
        with self._lock:
            return {"drop": self._drop, "repeat": self._repeat}

    def put(self, entries: list[dict[str, Any]]) -> None:
        """Put entries on the bus in their order, after those of earlier calls, as far as the disturbance lets them.

        Repetitions follow after the last of them, as late as the service's own may come.
        """
        with self._lock:
            self.counts["emitted"] += len(entries)
            kept, repeated = self._disturbed(entries)
            self.counts["dropped"] += len(entries) - len(kept)
            self.counts["repeated"] += len(repeated)
            entries = kept + repeated
            self.entries += entries
            if self._endpoint:
                for start in range(0, len(entries), 10):  # as many as PutEvents takes
                    self._deliver(entries[start : start + 10])

    def _disturbed(self, entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the entries that are not lost, and those of them that come twice."""
        kept, repeated = [], []
        for entry in entries:
            detail = json.loads(entry["Detail"])
            kind = f"{detail['eventType']} {detail['contactId']}"
            self._seen[kind] += 1
            digest = hashlib.sha256(f"{kind} {self._seen[kind]}".encode("utf-8", "surrogatepass")).digest()
            # Two independent numbers, from 0 to just below 1.
            fate, second_fate = (int.from_bytes(digest[at : at + 4]) / 2**32 for at in (0, 4))
            if fate >= self._drop:
                kept.append(entry)
                if second_fate < self._repeat:
                    repeated.append(entry)
        return kept, repeated

    def _deliver(self, entries: list[dict[str, Any]]) -> None:
        try:
            failed, problem = self._post(entries)
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            failed, problem = len(entries), repr(error)
        self.counts["undelivered"] += failed
        if failed:
            print(
                f"connect simulator: {failed} of {len(entries)} contact events not delivered to {self._endpoint}: "
                f"{problem}",
                file=sys.stderr,
                flush=True,
            )

    def _post(self, entries: list[dict[str, Any]]) -> tuple[int, str]:
        """Return how many entries the bus refused, and why."""
        url = urlsplit(self._endpoint or "")
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=10)
        try:
            body = json.dumps({"Entries": entries})
            connection.request("POST", url.path or "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            return len(entries), f"HTTP status {response.status}"
        result = json.loads(answer)
        errors = {entry.get("ErrorCode") for entry in result.get("Entries", []) if entry.get("ErrorCode")}
        return int(result["FailedEntryCount"]), ", ".join(sorted(errors))


def _is_share(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
