"""EventBridge: what is put on the default bus, as strict as the service on the number and size of entries."""

import json
from typing import Any

from local.in_memory.service import Parameters, RefusedError, Service
from local.in_memory.usage import Usage

_MOST_ENTRIES = 10
_LARGEST_REQUEST = 256 * 1024


class EventBridge(Service):
    """`PutEvents`; entries name no bus, so that they go to the default one."""

    operations = frozenset({"PutEvents"})

    def __init__(self, usage: Usage | None = None) -> None:
        super().__init__(usage)
        self.events: list[dict[str, Any]] = []
        self.requests: list[int] = []
        """How many entries each request had."""
        self.refuses: set[int] = set()
        """Which entries of the next request are refused."""
        self.failures: list[tuple[int, str]] = []
        """With which status and code the next requests fail."""

    def _put_events(self, parameters: Parameters) -> dict[str, Any]:
        entries = parameters["Entries"]
        self.requests.append(len(entries))
        if self.failures:
            status, code = self.failures.pop(0)
            raise RefusedError(code, "PutEvents", status)
        size = sum(len(json.dumps(entry)) for entry in entries)
        if not 0 < len(entries) <= _MOST_ENTRIES or size > _LARGEST_REQUEST:
            raise RefusedError("ValidationException", "PutEvents")
        if any(set(entry) != {"Source", "DetailType", "Detail"} for entry in entries):
            raise NotImplementedError("an entry with something else")
        refused, self.refuses = self.refuses, set()
        results: list[dict[str, str]] = []
        for number, entry in enumerate(entries):
            if number in refused:
                results.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "secret value"})
            else:
                results.append({"EventId": str(number)})
                self.events.append(entry | {"Detail": json.loads(entry["Detail"])})
        return {"FailedEntryCount": len(refused), "Entries": results}
