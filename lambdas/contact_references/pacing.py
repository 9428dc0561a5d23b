"""A token bucket: keeps one execution environment at its share of the API's quota."""

import time
from collections.abc import Callable


class TokenBucket:
    """Gives out `rate` tokens a second, and saves up at most one second's worth while nobody asks.

    It starts empty, so that a new execution environment adds no burst to what the others spend. Not
    thread-safe: one environment reads one contact at a time.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._capacity = max(1.0, rate)
        self._clock = clock
        self._sleep = sleep
        self._tokens = 0.0
        self._filled_at = clock()

    def take(self) -> None:
        """Take one token; sleep until there is one.

        >>> now = [0.0]
        >>> bucket = TokenBucket(4, clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
        >>> [(bucket.take(), now[0])[1] for _ in range(4)]
        [0.25, 0.5, 0.75, 1.0]
        """
        now = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        self._tokens -= 1
        if self._tokens < 0:
            self._sleep(-self._tokens / self._rate)
