"""The tables' lease, for commands that change what tables are made of: one at a time, or a run of the tables."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from contact_references.aws.days import Days, Lease

_LENGTH = timedelta(minutes=15)
"""As long as a tables run's at most, and longer than the SDK tries to put an object (five times, each of which waits a
minute to connect and a minute for the answer)."""
_CLOCKS_DIFFER = timedelta(minutes=1)  # at most, of those who take the lease
_SECONDS_BETWEEN_LOOKS = 5.0


class TablesLease:
    """The lease, taken for a piece of work and returned after it, so that others get their turn.

    `on_waiting` is told once each time that another has it. Its methods raise RetriableError or ConfigurationError.
    """

    def __init__(
        self,
        days: Days,
        what_for: str,
        *,
        on_waiting: Callable[[], object] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._days = days
        self._holder = f"{what_for} {uuid4()}"
        self._on_waiting = on_waiting
        self._clock = clock
        self._sleep = sleep
        self._ends_at = datetime.min.replace(tzinfo=UTC)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Wait for the lease; it is returned at the end, whatever it is."""
        try:
            if not self._take():
                self._on_waiting()
                self._sleep(_SECONDS_BETWEEN_LOOKS)
                while not self._take():
                    self._sleep(_SECONDS_BETWEEN_LOOKS)
            yield
        finally:
            self._days.return_lease(Lease(self._holder, has_marked_all=False), now=self._clock())

    def lengthen(self) -> bool:
        """Whether nobody else can have had the lease since it was taken; then it has its whole length again.

        Taking it again does not tell: who had it in between may have returned it.
        """
        return self._clock() < self._ends_at - _CLOCKS_DIFFER and self._take()

    def _take(self) -> bool:
        now = self._clock()
        if self._days.take_lease(self._holder, now=now, until=now + _LENGTH) is None:
            return False
        self._ends_at = now + _LENGTH
        return True
