"""The capture queue: what becomes of messages that were not captured, and requests that are put on it."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.errors import PermanentError, RetriableError
from contact_references.model.events import CaptureRequest

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_FIRST_DELAY = 15
_LONGEST_DELAY = 900
_MESSAGES_PER_REQUEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of the queue, as a Lambda event has it."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    origin: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read a record of an SQS event."""
        return cls(
            message_id=record["messageId"],
            receipt_handle=record.get("receiptHandle", ""),
            body=record["body"],
            receive_count=int(record.get("attributes", {}).get("ApproximateReceiveCount", 1)),
            origin=record.get("eventSourceARN", ""),
        )


def retry_delay(receive_count: int, *, draw: float) -> int:
    """Return how many seconds a message that failed waits: doubling with each receive, up to 15 minutes.

    Half of it is jitter (`draw` is from 0 to 1), so that what failed together does not come back together.

    >>> [retry_delay(count, draw=1) for count in (1, 2, 3, 7, 200)]
    [15, 30, 60, 900, 900]
    >>> retry_delay(200, draw=0)
    450
    """
    longest = min(_LONGEST_DELAY, _FIRST_DELAY << min(receive_count - 1, 10))
    return round(longest / 2 + draw * longest / 2)


class CaptureQueue:
    """Delays messages that failed, and moves permanent failures to the dead-letter queue."""

    def __init__(self, client: "SQSClient", *, queue_url: str, dead_letter_queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url
        self._dead_letter_queue_url = dead_letter_queue_url

    def retry_later(self, message: Message) -> None:
        """Let a message that is handed back come again after its `retry_delay`, not at once.

        Raises RetriableError or ConfigurationError if that fails: then it comes when the queue shows it again.
        """
        seconds = retry_delay(message.receive_count, draw=random.random())  # noqa: S311 - jitter
        with translated_errors("ChangeMessageVisibility", {}):
            self._client.change_message_visibility(
                QueueUrl=self._queue_url, ReceiptHandle=message.receipt_handle, VisibilityTimeout=seconds
            )

    def dead_letter(self, message: Message, error: PermanentError) -> None:
        """Put the body, intact, on the dead-letter queue, with the reason beside it.

        Raises RetriableError or ConfigurationError if that fails: then the message has to stay on the queue.
        """
        attributes = {"error": error.error, "reason": error.reason, "origin": message.origin or "unknown"}
        with translated_errors("SendMessage", {}):
            self._client.send_message(
                QueueUrl=self._dead_letter_queue_url,
                MessageBody=message.body,
                MessageAttributes={
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            )


class RequestQueue:
    """Puts capture requests on the queue, each after a delay; counts them in `sent`."""

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url
        self.sent = 0

    def count_waiting(self) -> int:
        """Return about how many messages wait to be taken: not those delayed, being worked on or backing off."""
        with translated_errors("GetQueueAttributes", {}):
            answer = self._client.get_queue_attributes(
                QueueUrl=self._queue_url, AttributeNames=["ApproximateNumberOfMessages"]
            )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def send(self, requests: Sequence[tuple[CaptureRequest, int]]) -> None:
        """Put requests on the queue, each with its delay in seconds, up to 900.

        Raises RetriableError, some of them sent, or ConfigurationError.
        """
        for start in range(0, len(requests), _MESSAGES_PER_REQUEST):
            batch = requests[start : start + _MESSAGES_PER_REQUEST]
            with translated_errors("SendMessageBatch", {}):
                answer = self._client.send_message_batch(
                    QueueUrl=self._queue_url,
                    Entries=[
                        {"Id": str(index), "MessageBody": json.dumps(request.event()), "DelaySeconds": delay}
                        for index, (request, delay) in enumerate(batch)
                    ],
                )
            self.sent += len(answer.get("Successful", []))
            if failed := answer.get("Failed"):
                raise RetriableError(failed[0]["Code"], f"the queue refused {len(failed)} of {len(batch)} messages")
