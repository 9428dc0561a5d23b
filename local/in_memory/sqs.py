"""SQS: what the functions ask of the capture queue and of its dead-letter queue, in memory."""

import json
from bisect import insort
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

from local.in_memory.service import Parameters, RefusedError, Service
from local.in_memory.usage import QUEUE_REQUESTS, Usage

_MOST_ENTRIES = 10
_LONGEST_DELAY = 900
_LONGEST_INVISIBILITY = 43_200


class SQS(Service):
    """What captures send back or away, and what reconciling sends.

    `on_visibility` is told of each message that is handed back: its receipt handle, and the seconds to wait; `on_sent`
    of each that is sent in a batch: its body, and when it can be seen.
    """

    operations = frozenset({"ChangeMessageVisibility", "GetQueueAttributes", "SendMessage", "SendMessageBatch"})

    def __init__(
        self,
        usage: Usage | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.min.replace(tzinfo=UTC),
    ) -> None:
        super().__init__(usage)
        self._clock = clock
        self.dead_letters: list[str] = []
        """Bodies sent one by one: the capture function sends only dead letters."""
        self.messages: list[tuple[datetime, int, dict[str, Any]]] = []
        """Messages sent in batches: when each can be seen, its number, the event that its body is."""
        self.delays: list[int] = []
        """For how many seconds each message was handed back."""
        self.waiting = 0
        """How many messages seem to wait."""
        self.refuses_from: int | None = None
        """From which message of a batch on it refuses."""
        self.count = 0
        self.on_visibility: Callable[[str, int], None] = lambda *_: None
        self.on_sent: Callable[[str, datetime], None] = lambda *_: None

    def call(self, operation: str, parameters: Parameters) -> dict[str, Any]:
        """Do what one operation asks for; raises RefusedError as the service does."""
        answer = super().call(operation, parameters)
        self.usage.add(QUEUE_REQUESTS)
        return answer

    def _send_message(self, parameters: Parameters) -> dict[str, Any]:
        body = parameters["MessageBody"]
        _require(0 < len(body.encode(errors="surrogatepass")) <= 1024 * 1024, "InvalidMessageContents", "SendMessage")
        self.dead_letters.append(body)
        checksum = md5(body.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()
        return {"MessageId": "m", "MD5OfMessageBody": checksum}

    def _change_message_visibility(self, parameters: Parameters) -> dict[str, Any]:
        seconds = parameters["VisibilityTimeout"]
        _require(0 <= seconds <= _LONGEST_INVISIBILITY, "InvalidParameterValue", "ChangeMessageVisibility")
        self.delays.append(seconds)
        self.on_visibility(parameters["ReceiptHandle"], seconds)
        return {}

    def _get_queue_attributes(self, parameters: Parameters) -> dict[str, Any]:
        if parameters["AttributeNames"] != ["ApproximateNumberOfMessages"]:
            raise NotImplementedError(parameters["AttributeNames"])
        return {"Attributes": {"ApproximateNumberOfMessages": str(self.waiting)}}

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        """Send messages, as a client of boto3 does."""
        return self.call("SendMessageBatch", request)

    def _send_message_batch(self, parameters: Parameters) -> dict[str, Any]:
        entries = parameters["Entries"]
        operation = "SendMessageBatch"
        _require(len(entries) > 0, "AWS.SimpleQueueService.EmptyBatchRequest", operation)
        _require(len(entries) <= _MOST_ENTRIES, "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", operation)
        ids = {entry["Id"] for entry in entries}
        _require(len(ids) == len(entries), "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", operation)
        taken = entries if self.refuses_from is None else entries[: self.refuses_from]
        for entry in taken:
            _require(0 <= entry["DelaySeconds"] <= _LONGEST_DELAY, "InvalidParameterValue", operation)
            self.count += 1
            visible_at = self._clock() + timedelta(seconds=entry["DelaySeconds"])
            message = (visible_at, self.count, json.loads(entry["MessageBody"]))
            insort(self.messages, message, key=lambda message: message[:2])
            self.on_sent(entry["MessageBody"], visible_at)
        failed = [{"Id": entry["Id"], "Code": "InternalError", "SenderFault": False} for entry in entries[len(taken) :]]
        return {"Successful": [{"Id": entry["Id"]} for entry in taken], "Failed": failed}


def _require(is_met: bool, code: str, operation: str) -> None:
    if not is_met:
        raise RefusedError(code, operation)
