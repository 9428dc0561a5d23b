"""What the reconcile function is told by its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from contact_references.model.contact import Instance
from contact_references.model.environment import (
    read_instances,
    read_positive,
    read_retention,
    read_text,
    read_type_lists,
)
from contact_references.model.reference_types import TypeLists


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileSettings:
    """The reconcile function's environment, read and checked.

    `requests_per_second` is what all capture functions together may ask of Connect, `backfill_share` the most of it
    that fed requests take, `searches_per_second` this function's share of SearchContacts' quota.
    """

    table_name: str
    queue_url: str
    instances: frozenset[Instance]
    type_lists: TypeLists
    requests_per_second: float
    searches_per_second: float
    backfill_share: float
    retention: timedelta | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; raises SettingsError for the first that is missing or malformed."""
        return cls(
            table_name=read_text(environment, "TABLE_NAME", example="contact-references"),
            queue_url=read_text(environment, "QUEUE_URL", example="https://sqs.us-east-1.amazonaws.com/111122223333/q"),
            instances=read_instances(environment),
            type_lists=read_type_lists(environment),
            requests_per_second=read_positive(environment, "CONNECT_REQUESTS_PER_SECOND", example="8"),
            searches_per_second=read_positive(environment, "SEARCH_REQUESTS_PER_SECOND", example="0.25"),
            backfill_share=read_positive(environment, "BACKFILL_SHARE", example="0.5", most=1),
            retention=read_retention(environment),
        )
