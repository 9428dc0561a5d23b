"""A token bucket: keeps one execution environment at its share of the API's quota."""

import time
from collections.abc import Callable

_SAVED_SECONDS = 1.0
_SHORT_REST = 1.5  # seconds: the queue's batching window, and what is around it
_SAVED_BY_A_REST = 2.0  # tokens: the calls of one contact, which need not wait for them
_YIELD = 0.7
_LEAST = 0.1
_RECOVERY_SECONDS = 20.0


class TokenBucket:
    """Gives out `rate` tokens a second, and saves at most one second's worth while nobody asks.

    Other callers share the account's quota. When the service refuses a call all the same, the rate yields to
    them, and comes back within about twenty seconds of the last refusal.

    A bucket starts empty, and has saved no more than two tokens after its execution environment was frozen: new
    environments add nothing to what the others save. So all of them together never spend more than the sum of their
    rates and, at one moment, one second's worth beyond. Not thread-safe: an environment reads one contact at a time.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._share = rate
        self._rate = rate
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
        self._fill()
        self._tokens -= 1
        if self._tokens < 0:
            self._sleep(-self._tokens / self._rate)

    @property
    def is_empty(self) -> bool:
        """Whether the next token has to be waited for."""
        self._fill()
        return self._tokens < 1

    def yield_rate(self) -> None:
        """Slow down: the service refused a call although there was a token for it."""
        self._fill()
        self._rate = max(self._rate * _YIELD, self._share * _LEAST)
        self._tokens = min(self._tokens, 0.0)

    def start_over(self) -> None:
        """Give out the next token a token's time from now at the earliest, with nothing saved."""
        self._fill()
        self._tokens = min(self._tokens, 0.0)

    def rest(self) -> None:
        """Note that the environment may be frozen from here on."""
        self._fill()

    def wake(self) -> None:
        """Go on after a rest; unless it was short, little of what was saved is left."""
        is_short = self._clock() - self._filled_at <= _SHORT_REST
        self._fill()
        if not is_short:
            self._tokens = min(self._tokens, _SAVED_BY_A_REST)

    def _fill(self) -> None:
        now = self._clock()
        elapsed = now - self._filled_at
        self._filled_at = now
        most = max(1.0, self._rate * _SAVED_SECONDS)
        self._tokens = min(most, self._tokens + elapsed * self._rate)
        self._rate = min(self._share, self._rate + self._share * elapsed / _RECOVERY_SECONDS)
