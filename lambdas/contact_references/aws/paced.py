"""Calls of one of Connect's operations, each of them paid for."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from contact_references.aws.pacing import TokenBucket
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.errors import CaptureError, RetriableError, ThrottledError

Request = dict[str, Any]
Page = Mapping[str, Any]

_MOST_PAGES = 100
_TRIES = 3  # of a call that is refused for its rate: handed back, what was asked before would be paid for again


class PacedOperation:
    """Asks one operation; counts its requests in `calls` and the refused ones in `throttled_calls`.

    `send` makes one attempt: every request, a repeated one too, is one to pay for from `bucket`. A refusal makes
    the bucket yield. `reactions` are those of `translated_errors`.
    """

    def __init__(
        self,
        operation: str,
        send: Callable[[Request], Page],
        *,
        reactions: Mapping[str, type[CaptureError]],
        bucket: TokenBucket,
    ) -> None:
        self._operation = operation
        self._send = send
        self._reactions = reactions
        self._bucket = bucket
        self.calls = 0
        self.throttled_calls = 0

    @property
    def must_wait(self) -> bool:
        """Whether the next request has to wait for its token."""
        return self._bucket.is_empty

    def pages(self, request: Request) -> Iterator[Page]:
        """Yield the pages of an answer. Raises RetriableError, also for an endless list, or what `reactions` say."""
        tokens: set[str] = set()
        while len(tokens) < _MOST_PAGES:
            page = self._ask(request)
            yield page
            token = page.get("NextToken")
            if not token:
                return
            if token in tokens:
                raise RetriableError("RepeatedNextToken", f"{self._operation} repeated a NextToken")
            tokens.add(token)
            request = {**request, "NextToken": token}
        raise RetriableError("TooManyPages", f"{self._operation} gave more than {_MOST_PAGES} pages")

    def _ask(self, request: Request) -> Page:
        for tries_left in reversed(range(_TRIES)):
            self._bucket.take()
            self.calls += 1
            try:
                with translated_errors(self._operation, self._reactions):
                    return self._send(request)
            except ThrottledError:
                self.throttled_calls += 1
                self._bucket.yield_rate()
                if not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")
