"""The dead-letter queue: messages that no delivery can bring to a capture, each with its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.deployment import Deployment

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_LOOK_SECONDS = 10
NO_REASON = "given back too often, or never delivered: its own log lines say why"


@dataclass(frozen=True)
class DeadLetter:
    """A message of the dead-letter queue: its body, and the attributes that say why it is there."""

    message_id: str
    body: str
    attributes: Mapping[str, str]

    @property
    def error(self) -> str:
        """The code to count and search by."""
        return self.attributes.get("error") or self.attributes.get("ERROR_CODE") or "none"

    @property
    def reason(self) -> str:
        """The sentence that says why it is there."""
        return self.attributes.get("reason") or self.attributes.get("ERROR_MESSAGE") or NO_REASON


def read_dead_letters(deployment: Deployment, limit: int) -> list[DeadLetter]:
    """Return up to `limit` messages, about, of the dead-letter queue; they stay there, and are visible again after it.

    SQS shows a sample at a time: what others are looking at just now is not among them.
    """
    sqs, url = deployment.clients.sqs, deployment.output("DeadLetterQueueUrl")
    found: dict[str, MessageTypeDef] = {}
    try:
        while len(found) < limit:
            answer = sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                VisibilityTimeout=_LOOK_SECONDS,
            )
            messages = {message["MessageId"]: message for message in answer.get("Messages", [])}
            is_new = bool(messages.keys() - found.keys())
            found |= messages
            if not is_new:
                break
    finally:
        handles = [message["ReceiptHandle"] for message in found.values()]
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(index), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for index, handle in enumerate(handles[start : start + 10])
            ]
            sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]  # built above
    return [
        DeadLetter(
            message["MessageId"],
            message["Body"],
            {name: value.get("StringValue", "") for name, value in message.get("MessageAttributes", {}).items()},
        )
        for message in found.values()
    ]
