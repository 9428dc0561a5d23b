"""Faults of the service and of the wire, for a time: what a client has to live with.

A fault is met by the requests of an operation, or narrowed to some of them: a contact that is not visible yet is
`not_found` for its first calls, a type that an older Region does not know, or that a channel cannot have, is
`invalid_parameter` for each request that asks for it, and an instance that is not for the caller is `access_denied`.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.model import StructureShape

from connect_simulator.model import ServiceError, reference_members, service_model

# What the service refuses with, by kind of fault; the others never get that far.
_REFUSALS = {
    "throttle": "ThrottlingException",
    "500": "InternalServiceException",
    "access_denied": "AccessDeniedException",
    "not_found": "ResourceNotFoundException",
    "invalid_parameter": "InvalidParameterException",
}
_ON_THE_WIRE = ("503", "hang", "reset", "truncated", "not_json")
KINDS = (*_REFUSALS, *_ON_THE_WIRE)

# The one whose requests carry what a fault can be narrowed to, beside the instance.
_NARROWED_OPERATION = "ListContactReferences"
_NARROWING = ("contact", "channels", "types")


class WireFault(Exception):  # noqa: N818 - not an error: what to do to the connection instead of answering
    """The request gets no answer of the service; `kind` is what it gets."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class Request:
    """What decides which fault a request meets.

    `instance_id`, `contact_id` and `types` are what it asks for, `channel` is that contact's; None and nothing where
    they don't apply.
    """

    operation: str
    instance_id: str | None = None
    contact_id: str | None = None
    channel: str | None = None
    types: frozenset[str] = frozenset()


class Faults:
    """The faults in force. A request that meets one changes nothing, and costs nothing of the quota.

    A request meets the first that is left for it.
    """

    def __init__(self, operations: Collection[str]) -> None:
        self._operations = operations
        self._lock = threading.Lock()
        self._faults: list[dict[str, Any]] = []
        self._lifted = threading.Event()

    def inject(self, fault: Mapping[str, Any]) -> None:
        """Add `{"operation": …, "kind": …}`, with `count` for that many requests, without it until lifted.

        It may be narrowed to one `instance` by its id, for an operation that asks for one, and for
        ListContactReferences to one `contact` by its id, to contacts of some `channels`, to requests that ask for any
        of some `types`. All that is given has to hold.

        Raises:
            ServiceError: InvalidRequestException, it is none.
        """
        if not (self._is_fault(fault) and _is_narrowed_well(fault)):
            raise ServiceError(
                "InvalidRequestException",
                'give {"operation": "ListContactReferences", "kind": "throttle", "count": 1}, or leave out the count; '
                f"operations are {', '.join(self._operations)}; kinds are {', '.join(KINDS)}; "
                'all but ListInstances also take "instance": "…"; '
                f'{_NARROWED_OPERATION} also takes "contact": "…", "channels": ["VOICE"] and "types": ["URL"]',
            )
        with self._lock:
            self._lifted.clear()
            self._faults.append({**fault, "count": fault.get("count"), "hits": 0})

    def _is_fault(self, fault: Mapping[str, Any]) -> bool:
        operation, kind, count = fault.get("operation"), fault.get("kind"), fault.get("count")
        is_count = count is None or (isinstance(count, int) and not isinstance(count, bool) and count > 0)
        is_known = fault.keys() <= {"operation", "kind", "count", "instance", *_NARROWING}
        return operation in self._operations and kind in KINDS and is_count and is_known

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

    def meet(self, request: Request) -> None:
        """Take the fault that a request meets.

        Raises:
            ServiceError: the service refuses.
            WireFault: something else happens to it.
        """
        with self._lock:
            fault = next((each for each in self._faults if _is_left(each) and _is_for(each, request)), None)
            if fault is None:
                return
            fault["hits"] += 1
        kind = str(fault["kind"])
        if kind in _REFUSALS:
            raise ServiceError(_REFUSALS[kind], f"{request.operation}: an injected fault")
        raise WireFault(kind)

    def hang(self, is_given_up: Callable[[], bool]) -> None:
        """Return when the faults are lifted, or the client has given up."""
        while not self._lifted.wait(0.1) and not is_given_up():
            pass


def _is_narrowed_well(fault: Mapping[str, Any]) -> bool:
    """Whether what a fault is narrowed to can be met: a misspelt type would leave a test without its fault."""
    if not fault.keys().isdisjoint(_NARROWING) and fault.get("operation") != _NARROWED_OPERATION:
        return False
    if "instance" in fault and not (isinstance(fault["instance"], str) and _asks_for_instance(str(fault["operation"]))):
        return False
    known = {"channels": service_model().shape_for("Channel").metadata["enum"], "types": list(reference_members())}
    return isinstance(fault.get("contact", ""), str) and all(
        isinstance(fault[name], list) and fault[name] and all(value in known[name] for value in fault[name])
        for name in fault.keys() & known.keys()
    )


def _asks_for_instance(operation: str) -> bool:
    shape = service_model().operation_model(operation).input_shape
    return isinstance(shape, StructureShape) and "InstanceId" in shape.members


def _is_for(fault: Mapping[str, Any], request: Request) -> bool:
    return (
        fault["operation"] == request.operation
        and fault.get("instance", request.instance_id) == request.instance_id
        and fault.get("contact", request.contact_id) == request.contact_id
        and ("channels" not in fault or request.channel in fault["channels"])
        and ("types" not in fault or not request.types.isdisjoint(fault["types"]))
    )


def _is_left(fault: Mapping[str, Any]) -> bool:
    return fault["count"] is None or fault["hits"] < fault["count"]
