"""Finds completed contacts with Amazon Connect's SearchContacts, at a given pace."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from contact_references.aws.paced import PacedOperation, Page, Request
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.contact import Contact, ContactKey, Instance
from contact_references.model.errors import PermanentError, RetriableError
from contact_references.model.timestamps import to_millisecond

if TYPE_CHECKING:
    from mypy_boto3_connect import ConnectClient

_RESULTS_PER_PAGE = 100
_MAX_RESULTS = 10_000  # that a search gives, however many there are
_MAX_PER_SPAN = 500  # contacts: what a search that is cut off repeats
_AIM_PER_SPAN = 450  # so that the next span seldom has too many
_SECOND = timedelta(seconds=1)
_REACTIONS = {"InvalidRequestException": PermanentError, "InvalidParameterException": PermanentError}


class Found(NamedTuple):
    """All contacts that disconnected before `until`, from where the last ones ended: by time."""

    until: datetime
    contacts: list[Contact]


class ContactSearch(PacedOperation):
    """Searches contacts, with a boto3 Connect client that makes one attempt a call.

    The quota of SearchContacts is 0.5 requests a second for the whole account and Region. Raises RetriableError,
    PermanentError for what the service refuses, or ConfigurationError.
    """

    def __init__(self, client: "ConnectClient", *, bucket: TokenBucket) -> None:
        super().__init__("SearchContacts", self._search_once, reactions=_REACTIONS, bucket=bucket)
        self._client = client
        self._bucket = bucket

    def find_disconnected(self, instance: Instance, start: datetime, end: datetime) -> Iterator[Found]:
        """Yield the contacts that disconnected from `start` until before `end`, span by span, the oldest first.

        Spans are split by the number of contacts in them, down to a second. A span is yielded when all its pages
        were read, so a search that is cut off goes on from the last `until`: nothing depends on the order of
        results, or on how long a page's token lasts.
        """
        length = end - start
        while start < end:
            until = min(end, start + length)
            contacts = self._search(instance, start, until)
            if isinstance(contacts, int):
                length = max(_SECOND, _whole_seconds((until - start) * min(0.5, _AIM_PER_SPAN / contacts)))
                continue
            yield Found(until, sorted(contacts, key=lambda contact: contact.completed_at or start))
            length = max(_SECOND, _whole_seconds((until - start) * min(4, _AIM_PER_SPAN / max(1, len(contacts)))))
            start = until

    def _search(self, instance: Instance, start: datetime, until: datetime) -> list[Contact] | int:
        """Return the contacts of a span or, if they are too many for one and it can be split, their number."""
        request: dict[str, Any] = {
            "InstanceId": instance.instance_id,
            # Whether the service counts the ends in is not documented, and the SDK cuts them to whole seconds: ask for
            # more.
            "TimeRange": {"Type": "DISCONNECT_TIMESTAMP", "StartTime": start - _SECOND, "EndTime": until + _SECOND},
            "MaxResults": _RESULTS_PER_PAGE,
        }
        can_split = until - start > _SECOND
        found: dict[str, Contact] = {}
        total = 0
        for page in self.pages(request):
            total = max(total, page.get("TotalCount") or 0)
            if can_split and max(total, len(found)) > _MAX_PER_SPAN:
                return max(total, len(found))
            for summary in page["Contacts"]:
                found[summary["Id"]] = _read_contact(instance, summary)
        if len(found) < total or len(found) >= _MAX_RESULTS:
            raise RetriableError("IncompleteSearch", f"SearchContacts gave {len(found)} of {total} contacts")
        return [contact for contact in found.values() if contact.completed_at and start <= contact.completed_at < until]

    def _search_once(self, request: Request) -> Page:
        try:
            return cast("Page", self._client.search_contacts(**request))
        finally:
            # The quota saves one request: however long this one was on its way, the next must not come sooner
            # after it than one is given back.
            self._bucket.start_over()


def find_instances(client: "ConnectClient") -> list[Instance]:
    """Return the active instances of the account and Region; raises RetriableError or ConfigurationError."""
    with translated_errors("ListInstances", {}):
        pages = client.get_paginator("list_instances").paginate()
        summaries = [summary for page in pages for summary in page["InstanceSummaryList"]]
    return [Instance.from_arn(summary["Arn"]) for summary in summaries if summary["InstanceStatus"] == "ACTIVE"]


def _read_contact(instance: Instance, summary: dict[str, Any]) -> Contact:
    disconnected_at = summary.get("DisconnectTimestamp")
    return Contact(
        key=ContactKey(instance.instance_id, summary["Id"]),
        initial_contact_id=summary.get("InitialContactId") or summary["Id"],
        channel=summary.get("Channel"),
        initiation_method=summary.get("InitiationMethod"),
        completed_at=to_millisecond(disconnected_at.astimezone(UTC)) if disconnected_at else None,
        completion_seen=True,
    )


def _whole_seconds(length: timedelta) -> timedelta:
    return timedelta(seconds=math.floor(length.total_seconds()))
