"""A contact's completion as EventBridge reports it, and messages as the capture queue hands them over."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from contact_references.aws.capture_queue import Message
from contact_references.model.timestamps import format_time

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"


def completion_event(
    contact_id: str,
    *,
    completed: datetime,
    event_id: str,
    instance_arn: str = INSTANCE_ARN,
    is_analyzed: bool = False,
) -> str:
    """Return the event of a voice contact's completion, as a message's body; `is_analyzed`: Contact Lens is on."""
    detail: dict[str, Any] = {
        "eventType": "COMPLETED",
        "contactId": contact_id,
        "instanceArn": instance_arn,
        "channel": "VOICE",
        "initiationMethod": "INBOUND",
        "disconnectTimestamp": format_time(completed),
    }
    if is_analyzed:
        detail["contactLens"] = {"conversationalAnalytics": {"configuration": {"enabled": True}}}
    kind = {"source": "aws.connect", "detail-type": "Amazon Connect Contact Event"}
    time = completed.strftime("%Y-%m-%dT%H:%M:%SZ")  # as EventBridge cuts it
    return json.dumps(kind | {"id": event_id, "time": time, "detail": detail})


def as_messages(bodies: Iterable[str]) -> list[Message]:
    """Return bodies as messages that are received for the first time."""
    return [
        Message(message_id=str(n), receipt_handle=str(n), body=body, receive_count=1, origin="queue")
        for n, body in enumerate(bodies)
    ]
