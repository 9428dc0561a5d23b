"""EventBridge: who wants to be told of captures is told, on the default event bus; never a value, nor a name."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.capture import Capture
from contact_references.model.errors import RetriableError

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

SOURCE = "contact-references"
DETAIL_TYPE = "Contact References Captured"
_EVENTS_PER_REQUEST = 10
_LONGEST_TEXT = 256  # what is longer names neither a contact nor a channel
_COLUMNS = ("instance_id", "contact_id", "initial_contact_id", "channel", "completed_at", "captured_at", "capture_id")


class Announcer:
    """Announces captures that are in the lake, each at least once: a receiver drops repeats by `capture_id`."""

    def __init__(self, client: "EventBridgeClient") -> None:
        self._client = client

    def announce(self, captures: Sequence[Capture]) -> None:
        """Put an event for each capture on the bus.

        Raises RetriableError, some of them announced, or ConfigurationError.
        """
        for start in range(0, len(captures), _EVENTS_PER_REQUEST):
            entries: Any = [
                {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(describe(capture))}
                for capture in captures[start : start + _EVENTS_PER_REQUEST]
            ]
            with translated_errors("PutEvents", {}):
                answer = self._client.put_events(Entries=entries)
            if failed := [entry["ErrorCode"] for entry in answer["Entries"] if "ErrorCode" in entry]:
                raise RetriableError(failed[0], f"EventBridge refused {len(failed)} of {len(entries)} events")


def describe(capture: Capture) -> dict[str, Any]:
    """Return what an event says of a capture: at most a few KB."""
    record = capture.contact_record()
    counts = Counter(reference.reference_type for reference in capture.references)
    columns = {
        name: record[name]
        for name in _COLUMNS
        if name in record and (name == "contact_id" or len(str(record[name])) <= _LONGEST_TEXT)
    }
    return {
        **columns,
        "change": "first" if capture.is_first else "changed",
        "reference_count": len(capture.references),
        "reference_counts": dict(sorted(counts.items())),
    }
