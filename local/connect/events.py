"""Contact events: how the service words them, and their way to the event bus."""

import http.client
import json
import sys
import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from local.connect.contacts import Contact


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
    """Keeps every event, and puts each on the bus behind an endpoint when there is one.

    Best effort as the service's own: what can't be delivered is reported on standard error, counted, and not tried
    again.

    Args:
        endpoint: takes ``{"Entries": […]}`` as POST and answers as PutEvents does; None keeps events only.

    Raises:
        ValueError: the endpoint is no http URL.
    """

    def __init__(self, endpoint: str | None) -> None:
        self.entries: list[dict[str, Any]] = []
        self.undelivered = 0
        self._endpoint = endpoint
        self._lock = threading.Lock()
        if endpoint and not endpoint.startswith("http://"):
            raise ValueError(f"events endpoint {endpoint}: give an http URL, for example http://127.0.0.1:4566/events")

    def put(self, entries: list[dict[str, Any]]) -> None:
        """Keep these entries, at most ten, and deliver them in one request, after those of earlier calls."""
        with self._lock:
            self.entries += entries
            if not self._endpoint or not entries:
                return
            try:
                failed, problem = self._post(entries)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                failed, problem = len(entries), repr(error)
            self.undelivered += failed
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
