"""What the capture function is told by its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from contact_references.model.contact import Instance
from contact_references.model.environment import (
    read_instances,
    read_names,
    read_positive,
    read_retention,
    read_switch,
    read_text,
    read_type_lists,
)
from contact_references.model.reference_types import TypeLists


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSettings:
    """The capture function's environment, read and checked.

    `requests_per_second` is this execution environment's share; `retention` None keeps records for ever; `announces`
    says that the default event bus is told of captures.
    """

    table_name: str
    bucket_name: str
    queue_url: str
    dead_letter_queue_url: str
    instances: frozenset[Instance]
    completion_types: frozenset[str]
    type_lists: TypeLists
    requests_per_second: float
    retention: timedelta | None
    announces: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; raises SettingsError for the first that is missing or malformed."""
        return cls(
            table_name=read_text(environment, "TABLE_NAME", example="contact-references"),
            bucket_name=read_text(environment, "BUCKET_NAME", example="contact-references"),
            queue_url=read_text(environment, "QUEUE_URL", example="https://sqs.us-east-1.amazonaws.com/111122223333/q"),
            dead_letter_queue_url=read_text(
                environment, "DEAD_LETTER_QUEUE_URL", example="https://sqs.us-east-1.amazonaws.com/111122223333/dlq"
            ),
            instances=read_instances(environment),
            completion_types=frozenset(
                name.upper() for name in read_names(environment, "COMPLETION_EVENT_TYPES", example="COMPLETED")
            ),
            type_lists=read_type_lists(environment),
            requests_per_second=read_positive(environment, "REQUESTS_PER_SECOND", example="4"),
            retention=read_retention(environment),
            announces=read_switch(environment, "ANNOUNCE"),
        )
