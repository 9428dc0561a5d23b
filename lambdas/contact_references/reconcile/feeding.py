"""Feeds capture requests to the queue, each in a slot of its own in time, so that live contacts hardly notice."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from contact_references.aws.capture_queue import RequestQueue
from contact_references.aws.worklist import Lease, Worklist
from contact_references.model.errors import RetriableError
from contact_references.model.events import RECHECK, CaptureRequest
from contact_references.model.reference_types import TypeLists, changing, group_types

_FARTHEST_SECONDS = 900  # that a message can be delayed
_WIDEST = 64.0
_SHRINK = 0.95
_WAITING_SECONDS = 3.0  # of calls that wait at a run's start, for live contacts to count as waiting


@dataclass(kw_only=True)
class Feeder:
    """Gives each request the next slot, as wide as its calls take at a share of the rate, and delays it to it.

    `requests_per_second` is what all capture functions together may ask of Connect, `share` the most of it that fed
    requests take. Slots double in width while messages wait at a run's start, and shrink by a twentieth otherwise.
    There are none beyond a third of the next run, which knows whether messages wait, or a quarter of an hour.

    How far feeding has got is kept in the lease, before anything is sent: a run that dies has wasted slots, not used
    them twice.
    """

    queue: RequestQueue
    worklist: Worklist
    type_lists: TypeLists
    requests_per_second: float
    share: float
    clock: Callable[[], datetime]
    _lease: Lease = field(init=False)
    _end: datetime = field(init=False)

    @property
    def has_room(self) -> bool:
        """Whether there is a slot for a request."""
        return self._delay(self._lease.fed_until) is not None

    def begin(self, lease: Lease) -> None:
        """Begin a run that has the lease."""
        self._lease = lease
        self._end = lease.held_until + (lease.held_until - self.clock()) / 3
        is_busy = self.queue.count_waiting() * 2 / self.requests_per_second > _WAITING_SECONDS
        stretch = min(lease.stretch * 2, _WIDEST) if is_busy else max(lease.stretch * _SHRINK, 1.0)
        self._lease = replace(lease, stretch=stretch)

    def end(self) -> None:
        """Give the lease back."""
        self.worklist.save_lease(replace(self._lease, held_until=self.clock()))

    def feed(self, requests: Sequence[CaptureRequest]) -> int:
        """Put requests on the queue, in order; return how many, as those beyond a quarter of an hour have no slot.

        Raises RetriableError, also if another run has taken over, or ConfigurationError: some may have been sent.
        """
        now = self.clock()
        slot = max(now, self._lease.fed_until)
        slotted: list[tuple[CaptureRequest, int]] = []
        for request in requests:
            delay = self._delay(slot)
            if delay is None:
                break
            slotted.append((request, delay))
            seconds = self._count_calls(request) / (self.requests_per_second * self.share) * self._lease.stretch
            slot += timedelta(seconds=seconds)
        if slotted:
            self._lease = replace(self._lease, fed_until=slot)
            if not self.worklist.save_lease(self._lease):
                raise RetriableError("LeaseLost", "another run has taken over")
            self.queue.send(slotted)
        return len(slotted)

    def _delay(self, slot: datetime) -> int | None:
        """Return by how many seconds to delay what has a slot; None if that lies too far ahead."""
        delay = max(0, math.floor((slot - self.clock()).total_seconds()))
        return delay if slot <= self._end and delay <= _FARTHEST_SECONDS else None

    def _count_calls(self, request: CaptureRequest) -> int:
        """Return how many calls of ListContactReferences a request costs at most, its initial contact's included."""
        types = self.type_lists.to_ask(request.contact)
        if request.reason == RECHECK and not request.is_full:
            return len(group_types(changing(types)))
        return len(group_types(types)) * (2 if request.contact.is_leg and request.reason != RECHECK else 1)
