"""Feeds capture requests to the queue so slowly that live contacts hardly notice."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from contact_references.aws_errors import translated_errors
from contact_references.contact import UNSETTLED, CaptureRequest
from contact_references.errors import RetriableError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

LONGEST_DELAY_SECONDS = 30
"""The most that what is fed in may delay a live contact."""

ROOM_SECONDS = 20
"""How long the quota may need for all that waits at a time; the rest of the delay is for slowness."""

_A_BATCH = 10
_COUNTS: "list[QueueAttributeNameType]" = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
]


class Feeder:
    """Puts capture requests on the queue, counted in `sent`, and tells how many more may go there.

    `requests_per_second` is what the capture functions together may ask of Connect, `calls_a_contact` the requests
    that one contact takes, `share` the most of the rate that fed contacts take over time.
    """

    def __init__(
        self,
        client: "SQSClient",
        queue_url: str,
        *,
        requests_per_second: float,
        calls_a_contact: int,
        share: float,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._most_calls = max(ROOM_SECONDS * requests_per_second, 1)
        self._calls_a_contact = calls_a_contact
        self._calls_per_second = share * requests_per_second
        self.sent = 0

    def measure_room(self, *, ahead: float) -> float:
        """Return how many calls may be fed in now, when feeding is so many seconds `ahead` of its share.

        Everything in the queue counts, live or fed, waiting, being worked on or delayed after a failure. The
        queue's counts are approximate, within about a minute.
        """
        with translated_errors("GetQueueAttributes", {}):
            answer = self._client.get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=_COUNTS)
        waiting = sum(int(answer["Attributes"][name]) for name in _COUNTS)
        return self._most_calls - max(waiting * self._calls_a_contact, ahead * self._calls_per_second)

    def is_worth_a_search(self, room: float) -> bool:
        """Whether so many calls are worth looking for: a search finds hundreds of contacts, or all are there."""
        return room >= self._most_calls / 3

    def calls_for(self, request: CaptureRequest) -> int:
        """Return how many calls of ListContactReferences a request costs at most."""
        if request.reason == UNSETTLED:
            return 1
        is_leg = request.contact.initial_key != request.contact.key  # its initial contact is captured again
        return self._calls_a_contact * (2 if is_leg else 1)

    def send(self, requests: Sequence[CaptureRequest]) -> float:
        """Put the requests on the queue; return how many seconds they take at fed contacts' share of the rate.

        Raises RetriableError, some of them sent, or ConfigurationError.
        """
        for start in range(0, len(requests), _A_BATCH):
            batch = requests[start : start + _A_BATCH]
            with translated_errors("SendMessageBatch", {}):
                answer = self._client.send_message_batch(
                    QueueUrl=self._queue_url,
                    Entries=[
                        {"Id": str(index), "MessageBody": json.dumps(request.event())}
                        for index, request in enumerate(batch)
                    ],
                )
            self.sent += len(answer.get("Successful", []))
            if failed := answer.get("Failed"):
                raise RetriableError(failed[0]["Code"], f"the queue refused {len(failed)} of {len(batch)} messages")
        return sum(map(self.calls_for, requests)) / self._calls_per_second
