"""How often each operation may be called."""

from collections.abc import Callable, Mapping


def default_quotas() -> dict[str, float]:
    """Return requests a second for the account and Region, by operation: a public listing of Service Quotas' defaults.

    Codes: ListContactReferences L-6840C932, UpdateContact L-40C15531, DescribeContact L-371095B8, StopContact
    L-650BD10F, StartTaskContact L-E704D621, ListInstances L-98C95556. None was found for CreateContact and
    GetAttachedFile: they have the default of the API, 2; and none for SearchContacts, whose 0.5 (burst 1) others
    report.
    """
    return {
        "StartTaskContact": 2.0,
        "CreateContact": 2.0,
        "UpdateContact": 10.0,
        "StopContact": 10.0,
        "DescribeContact": 10.0,
        "ListContactReferences": 10.0,
        "GetAttachedFile": 2.0,
        "SearchContacts": 0.5,
        "ListInstances": 2.0,
    }


def make_buckets(overrides: Mapping[str, float], clock: Callable[[], float]) -> dict[str, "TokenBucket"]:
    """Return a bucket for each operation, at its default quota unless overridden.

    Raises:
        ValueError: an override names no simulated operation, or its rate is not above zero.
    """
    quotas = default_quotas()
    for operation, rate in overrides.items():
        if operation not in quotas or not rate > 0:
            raise ValueError(
                f"quota {operation}={rate:g}: name one of {', '.join(quotas)} and a rate above 0, "
                "for example ListContactReferences=10"
            )
        quotas[operation] = rate
    return {operation: TokenBucket(rate, clock) for operation, rate in quotas.items()}


class TokenBucket:
    """A token bucket that starts full.

    The service's bursts are not published for these operations; here a bucket holds one second's worth, at least 1.

    Args:
        rate: tokens that return a second.
        clock: seconds; only differences matter.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._capacity = max(1.0, rate)
        self._tokens = self._capacity
        self._filled_at = clock()

    def take(self) -> bool:
        """Take one token; False when there is none. Not thread-safe: the simulator calls it under its lock."""
        now = self._clock()
        # A wall clock can be set back; time never takes tokens away.
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._capacity, self._tokens + elapsed * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
