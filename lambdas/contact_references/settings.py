"""What the functions are told by their environment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from contact_references.contact import Instance
from contact_references.reference import ENTERED_TYPES, PRODUCED_TYPES


class SettingsError(ValueError):
    """An environment variable is missing or malformed; the message has its name, its value and an example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSettings:
    """The capture function's environment, read and checked.

    `requests_per_second` is this execution environment's share; `retention` None keeps records for ever.
    """

    table_name: str
    bucket_name: str
    queue_url: str
    dead_letter_queue_url: str
    instances: frozenset[Instance]
    completion_types: frozenset[str]
    reference_types: tuple[str, ...]
    requests_per_second: float
    retention: timedelta | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; raises SettingsError for the first that is missing or malformed."""
        return cls(
            table_name=_text(environment, "TABLE_NAME", example="contact-references"),
            bucket_name=_text(environment, "BUCKET_NAME", example="contact-references"),
            queue_url=_text(environment, "QUEUE_URL", example="https://sqs.us-east-1.amazonaws.com/111122223333/q"),
            dead_letter_queue_url=_text(
                environment, "DEAD_LETTER_QUEUE_URL", example="https://sqs.us-east-1.amazonaws.com/111122223333/dlq"
            ),
            instances=_instances(environment),
            completion_types=frozenset(
                name.upper() for name in _names(environment, "COMPLETION_EVENT_TYPES", example="COMPLETED")
            ),
            reference_types=_reference_types(environment),
            requests_per_second=_positive(environment, "REQUESTS_PER_SECOND", example="4"),
            retention=_retention(environment),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileSettings:
    """The reconcile function's environment, read and checked.

    `requests_per_second` is what all capture functions together may ask of Connect, `backfill_share` the most of it
    that contacts fed in by reconciling take; `window` is how far back a scheduled run looks.
    """

    table_name: str
    queue_url: str
    instances: frozenset[Instance]
    reference_types: tuple[str, ...]
    requests_per_second: float
    backfill_share: float
    window: timedelta
    retention: timedelta | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; raises SettingsError for the first that is missing or malformed."""
        return cls(
            table_name=_text(environment, "TABLE_NAME", example="contact-references"),
            queue_url=_text(environment, "QUEUE_URL", example="https://sqs.us-east-1.amazonaws.com/111122223333/q"),
            instances=_instances(environment),
            reference_types=_reference_types(environment),
            requests_per_second=_positive(environment, "CONNECT_REQUESTS_PER_SECOND", example="8"),
            backfill_share=_positive(environment, "BACKFILL_SHARE", example="0.5", most=1),
            window=timedelta(hours=_positive(environment, "RECONCILE_WINDOW_HOURS", example="3")),
            retention=_retention(environment),
        )


def _text(environment: Mapping[str, str], name: str, *, example: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is missing or empty: set it, for example to {example}")
    return value


def _names(environment: Mapping[str, str], name: str, *, example: str) -> list[str]:
    names = [part.strip() for part in _text(environment, name, example=example).split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise SettingsError(f"{name} is {environment[name]!r}: give names with commas between, for example {example}")
    return names


def _instances(environment: Mapping[str, str]) -> frozenset[Instance]:
    name, example = (
        "INSTANCE_ARNS",
        "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012",
    )
    if name not in environment:
        raise SettingsError(
            f"{name} is missing: leave it empty for every instance, or set it, for example to {example}"
        )
    arns = [part.strip() for part in environment[name].split(",") if part.strip()]
    try:
        return frozenset(map(Instance.from_arn, arns))
    except ValueError:
        raise SettingsError(f"{name} is {environment[name]!r}: give instances' ARNs, for example {example}") from None


def _reference_types(environment: Mapping[str, str]) -> tuple[str, ...]:
    name, known = "REFERENCE_TYPES", {*ENTERED_TYPES.values(), *PRODUCED_TYPES.values()}
    names = [part.upper() for part in _names(environment, name, example="URL,ATTACHMENT")]
    if unknown := [part for part in names if part not in known]:
        raise SettingsError(f"{name} has {', '.join(unknown)}: the types are {', '.join(sorted(known))}")
    return tuple(names)


def _positive(environment: Mapping[str, str], name: str, *, example: str, most: float = math.inf) -> float:
    value = _text(environment, name, example=example)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not (0 < number <= most and number < math.inf):
        bound = f" and at most {most}" if most < math.inf else ""
        raise SettingsError(f"{name} is {value!r}: give a number above 0{bound}, for example {example}")
    return number


def _retention(environment: Mapping[str, str]) -> timedelta | None:
    name = "RETENTION_DAYS"
    value = _text(environment, name, example="0 to keep everything, or 365")
    if not (value.isascii() and value.isdigit() and len(value) <= 5):
        raise SettingsError(f"{name} is {value!r}: give a whole number of days, 0 to keep everything, or 365")
    return timedelta(days=int(value)) if int(value) else None
