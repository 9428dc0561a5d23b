"""Faults of the service and of the wire, for a time: what a client has to live with."""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

from local.connect.model import ServiceError

# What the service refuses with, by kind of fault; the others never get that far.
_REFUSALS = {
    "throttle": "ThrottlingException",
    "500": "InternalServiceException",
    "access_denied": "AccessDeniedException",
}
_ON_THE_WIRE = ("503", "hang", "reset", "truncated", "not_json")
KINDS = (*_REFUSALS, *_ON_THE_WIRE)


class WireFault(Exception):  # noqa: N818 - not an error: what to do to the connection instead of answering
    """The request gets no answer of the service; `kind` is what it gets."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Faults:
    """The faults in force. A request that meets one changes nothing, and costs nothing of the quota.

    The first that is left for an operation is the one that a request of it meets.
    """

    def __init__(self, operations: Collection[str]) -> None:
        self._operations = operations
        self._lock = threading.Lock()
        self._faults: list[dict[str, Any]] = []
        self._lifted = threading.Event()

    def inject(self, fault: Mapping[str, Any]) -> None:
        """Add `{"operation": …, "kind": …}`, with `count` for that many requests, without it until lifted.

        Raises:
            ServiceError: InvalidRequestException, it is none.
        """
        operation, kind, count = fault.get("operation"), fault.get("kind"), fault.get("count")
        is_count = count is None or (isinstance(count, int) and not isinstance(count, bool) and count > 0)
        if not (operation in self._operations and kind in KINDS and is_count and len(fault) <= 3):
            raise ServiceError(
                "InvalidRequestException",
                'give {"operation": "ListContactReferences", "kind": "throttle", "count": 1}, or leave out the count; '
                f"operations are {', '.join(self._operations)}; kinds are {', '.join(KINDS)}",
            )
        with self._lock:
            self._lifted.clear()
            self._faults.append({"operation": operation, "kind": kind, "count": count, "hits": 0})

    def lift(self) -> list[dict[str, Any]]:
        """End all faults, let go of who hangs, and return what there was, with `hits`."""
        with self._lock:
            lifted, self._faults = self._faults, []
            self._lifted.set()
        return lifted

    def show(self) -> list[dict[str, Any]]:
        """Return the faults that were not lifted, used up ones too, with `hits`, oldest first."""
        with self._lock:
            return [dict(fault) for fault in self._faults]

    def meet(self, operation: str) -> None:
        """Take the fault that an operation's request meets.

        Raises:
            ServiceError: the service refuses.
            WireFault: something else happens to it.
        """
        with self._lock:
            fault = next((each for each in self._faults if each["operation"] == operation and _is_left(each)), None)
            if fault is None:
                return
            fault["hits"] += 1
        kind = str(fault["kind"])
        if kind in _REFUSALS:
            raise ServiceError(_REFUSALS[kind], f"{operation}: an injected fault")
        raise WireFault(kind)

    def hang(self, is_given_up: Callable[[], bool]) -> None:
        """Return when the faults are lifted, or the client has given up."""
        while not self._lifted.wait(0.1) and not is_given_up():
            pass


def _is_left(fault: Mapping[str, Any]) -> bool:
    return fault["count"] is None or fault["hits"] < fault["count"]
