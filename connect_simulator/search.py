"""SearchContacts: which contacts a time range finds, and in which order.

The API reference leaves most rules open. What is guessed here is strict where a guess that is too lenient would let a
caller pass who fails at the service; each guess says so.
"""

import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connect_simulator.contacts import Contact
from connect_simulator.model import ServiceError

# The console's limits; whether the API has the same is a guess. Two years is taken as its shortest reading.
_LONGEST_RANGE = 8 * 7 * 86400
_FARTHEST_BACK = 2 * 365 * 86400
MOST_RESULTS = 10_000
"""Contacts that a search gives, on all its pages; TotalCount says how many there are."""

# By time range type, which is also the name of the field to sort by.
_TIMESTAMPS: dict[str, Callable[[Contact], float | None]] = {
    "INITIATION_TIMESTAMP": lambda contact: contact.reached.get("INITIATED"),
    "SCHEDULED_TIMESTAMP": lambda contact: contact.scheduled_at,
    "CONNECTED_TO_AGENT_TIMESTAMP": lambda contact: contact.reached.get("CONNECTED_TO_AGENT"),
    "DISCONNECT_TIMESTAMP": lambda contact: contact.reached.get("DISCONNECTED"),
}

_SUMMARY = (
    "Arn",
    "Id",
    "InitialContactId",
    "PreviousContactId",
    "InitiationMethod",
    "Channel",
    "InitiationTimestamp",
    "DisconnectTimestamp",
    "ScheduledTimestamp",
    "Name",
    "Tags",
)


@dataclass(frozen=True, kw_only=True)
class SearchFlaws:
    """How a search falls short, as the service's may: finds contacts late, does not say how many there are.

    Raises:
        ServiceError: InvalidRequestException, one is not what `bad_search_flaws` says.
    """

    lag_seconds: float = 0.0
    total_count: bool = True

    def __post_init__(self) -> None:
        is_number = isinstance(self.lag_seconds, int | float) and not isinstance(self.lag_seconds, bool)
        if not (is_number and 0 <= self.lag_seconds < math.inf and isinstance(self.total_count, bool)):
            raise bad_search_flaws()


def bad_search_flaws() -> ServiceError:
    """Return the refusal of flaws that are none."""
    return ServiceError(
        "InvalidRequestException", 'give {"lag_seconds": 120, "total_count": false}, or one of them; seconds from 0'
    )


def search(
    contacts: Iterable[Contact], parameters: Mapping[str, Any], *, instance_arn: str, now: float, lag_seconds: float
) -> list[Contact]:
    """Return the instance's contacts in a time range, ordered as Sort says.

    Both ends of the range belong to it (a guess). Without Sort the service promises no order: here it is a fixed one
    that no time or id explains, so that nobody relies on any. A contact without the timestamp that is sorted by counts
    as the earliest (a guess).

    Args:
        contacts: of any instance.
        parameters: of SearchContacts, valid by the model.
        instance_arn: the instance whose contacts are asked for.
        now: epoch seconds.
        lag_seconds: how long after its end, or its beginning while it lives, a contact is found.

    Raises:
        ServiceError: InvalidParameterException, the range is not one the service takes, or more than is simulated is
            asked for.
    """
    time_range, sort = parameters["TimeRange"], parameters.get("Sort")
    _check_range(time_range, now)
    if parameters.get("SearchCriteria"):
        raise _invalid(f"SearchCriteria.{next(iter(parameters['SearchCriteria']))} is not simulated, only TimeRange is")
    timestamp, start, end = _timestamp(time_range["Type"]), time_range["StartTime"], time_range["EndTime"]
    found = [
        contact
        for contact in contacts
        if (moment := timestamp(contact)) is not None
        and start <= moment <= end
        and contact.instance_arn == instance_arn
        and contact.reached.get("DISCONNECTED", contact.reached["INITIATED"]) <= now - lag_seconds
    ]
    if sort:
        sorted_by = _timestamp(sort["FieldName"])
        found.sort(key=lambda contact: sorted_by(contact) or -math.inf, reverse=sort["Order"] == "DESCENDING")
    else:
        found.sort(key=lambda contact: zlib.crc32(contact.id.encode("utf-8", "surrogatepass")))
    return found


def summarize(contact: Contact) -> dict[str, Any]:
    """Return the ContactSearchSummary of a contact: the members it shares with DescribeContact's Contact."""
    described = contact.describe()
    return {member: described[member] for member in _SUMMARY if member in described}


def _check_range(time_range: Mapping[str, Any], now: float) -> None:
    start, end = time_range["StartTime"], time_range["EndTime"]
    if not start < end:
        raise _invalid("TimeRange.StartTime must be before TimeRange.EndTime")
    if end - start > _LONGEST_RANGE:
        raise _invalid("TimeRange must not be longer than 8 weeks")
    if start < now - _FARTHEST_BACK:
        raise _invalid("TimeRange.StartTime must not be more than two years ago")


def _timestamp(name: str) -> Callable[[Contact], float | None]:
    if name not in _TIMESTAMPS:
        raise _invalid(f"{name} is not simulated, only {', '.join(_TIMESTAMPS)}")
    return _TIMESTAMPS[name]


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message)
