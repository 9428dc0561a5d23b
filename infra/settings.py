"""What a deployment can be told: the CDK context, checked before anything is built from it."""

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

_REFERENCE_TYPES = (
    "URL",
    "NUMBER",
    "STRING",
    "DATE",
    "EMAIL",
    "ATTACHMENT",
    "CONTACT_ANALYSIS",
    "EMAIL_MESSAGE",
    "EMAIL_MESSAGE_PLAIN_TEXT",
    "EMAIL_MESSAGE_REDACTED",
    "EMAIL_MESSAGE_PLAIN_TEXT_REDACTED",
)


class InvalidSettingsError(ValueError):
    """The context does not describe a deployment. The message names every problem, one a line."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One deployment. The fields are the context keys of cdk.json, which holds the defaults.

    `stage` names and tags the stacks. No `instance_arns` means every Connect instance of the account and
    Region. `connect_requests_per_second` (0.1 to 8000) is this system's share of the account's quota.
    `retention_days` (at most 3650) is 0 to keep everything. `alarm_email` is empty or who will hear about alarms.

    Reconcile runs every `reconcile_every_minutes` (1 to 1440) and looks `reconcile_window_hours` (1 to 168) back
    beyond the hour after which a contact counts as complete. `backfill_share` (above 0, at most 1) is the most of
    `connect_requests_per_second` that contacts take which reconcile and backfill fed in.
    """

    stage: str
    instance_arns: tuple[str, ...]
    completion_event_types: tuple[str, ...]
    reference_types: tuple[str, ...]
    connect_requests_per_second: float
    retention_days: int
    alarm_email: str
    reconcile_every_minutes: int
    reconcile_window_hours: int
    backfill_share: float

    @property
    def is_production(self) -> bool:
        """Whether the data outlives its stack and is protected from deletion."""
        return self.stage == "prod"

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> Self:
        """Return the settings in a CDK context, where `-c` makes every value a string and cdk.json does not.

        Raises:
            InvalidSettingsError: Some keys are unknown or missing, or their values out of bounds.
        """
        problems = [_describe_unknown(key, value) for key, value in context.items() if not _is_known(key)]
        values: dict[str, Any] = {}
        for key, known in _KEYS.items():
            try:
                values[known.field] = known.read(context[key])
            except KeyError:
                problems.append(f"{key}: missing; cdk.json holds the default, for example {known.example}")
            except ValueError as error:
                problems.append(f"{key}: {json.dumps(context[key])} {error}; for example {_option(key)}")
        if not problems:
            settings = cls(**values)
            problems = list(_find_contradictions(settings))
        if problems:
            raise InvalidSettingsError("\n".join(problems))
        return settings


def _find_contradictions(settings: Settings) -> Iterator[str]:
    # A run that fails is not repeated: the next one has to see the same contacts.
    hours = math.ceil(2 * settings.reconcile_every_minutes / 60)
    if settings.reconcile_window_hours < hours:
        yield (
            f"reconcileWindowHours: {settings.reconcile_window_hours} is too short for two runs, one every "
            f"{settings.reconcile_every_minutes} minutes, to see each contact; for example "
            f"-c reconcileWindowHours={hours}"
        )


def _is_known(key: str) -> bool:
    # What the CDK, its CLI, its recorded look-ups and cdk-nag keep in the same context.
    others = r"@?aws-cdk|aws:|cdk[-_]nag|acknowledged-issue-numbers$|cli-telemetry$|[a-z-]+:(.+:)?account=\d+"
    return key in _KEYS or re.match(others, key) is not None


def _describe_unknown(key: str, value: object) -> str:
    nearest = difflib.get_close_matches(key, _KEYS, n=1)
    hint = f"did you mean {nearest[0]}" if nearest else f"known are {', '.join(_KEYS)}"
    return f"{key}: unknown key, value {json.dumps(value)}; {hint}; for example {_option(*nearest or ('stage',))}"


def _option(key: str) -> str:
    return f"-c {key}={_KEYS[key].example}"


def _read_text(value: object, *, pattern: str, meaning: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"is not {meaning}")
    return value


def _read_list(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("is neither a list of strings nor one string with commas")
    texts = tuple(item.strip() for item in items)
    texts = () if texts == ("",) else texts
    if twice := [text for text, count in Counter(texts).items() if count > 1]:
        raise ValueError(f"names {twice[0]} twice")
    return texts


def _read_instance_arns(value: object) -> tuple[str, ...]:
    where = r"arn:aws(-[a-z]+)*:connect:[a-z]{2}(-[a-z]+)+-\d:\d{12}"
    which = r"instance/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    arns = _read_list(value)
    if malformed := [arn for arn in arns if not re.fullmatch(f"{where}:{which}", arn)]:
        raise ValueError(f"holds {malformed[0]!r}, which is not a Connect instance ARN")
    return arns


def _read_choices(value: object, *, known: tuple[str, ...]) -> tuple[str, ...]:
    choices = _read_list(value)
    if unknown := [choice for choice in choices if choice not in known]:
        raise ValueError(f"holds {unknown[0]!r}, which is none of {', '.join(known)}")
    if not choices:
        raise ValueError(f"is empty; choose from {', '.join(known)}")
    return choices


def _read_number(value: object, *, at_least: float, at_most: float) -> float:
    # JSON's true is no number here, although Python's is; and nan fails the comparison, so it is refused too.
    number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else float("nan")
    if not at_least <= number <= at_most:
        raise ValueError(f"is not a number from {at_least} to {at_most}")
    return number


def _read_whole_number(value: object, *, at_least: int, at_most: int) -> int:
    number = _read_number(value, at_least=at_least, at_most=at_most)
    if number != int(number):
        raise ValueError("is not a whole number")
    return int(number)


def _read_share(value: object) -> float:
    share = _read_number(value, at_least=0, at_most=1)
    if not share:
        raise ValueError("is not above 0")
    return share


class _Key(NamedTuple):
    field: str
    read: Callable[[object], object]
    """Raises ValueError, whose message goes on where the value ended."""
    example: str


_KEYS = {
    "stage": _Key(
        "stage",
        partial(_read_text, pattern=r"[a-z][a-z0-9-]{0,15}", meaning="1 to 16 of a-z, 0-9 and -, a letter first"),
        "dev",
    ),
    "instanceArns": _Key(
        "instance_arns",
        _read_instance_arns,
        "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012",
    ),
    "completionEventTypes": _Key(
        "completion_event_types",
        partial(_read_choices, known=("COMPLETED", "DISCONNECTED")),
        "COMPLETED,DISCONNECTED",
    ),
    "referenceTypes": _Key("reference_types", partial(_read_choices, known=_REFERENCE_TYPES), "URL,ATTACHMENT"),
    "connectRequestsPerSecond": _Key(
        "connect_requests_per_second", partial(_read_number, at_least=0.1, at_most=8000), "8"
    ),
    "retentionDays": _Key("retention_days", partial(_read_whole_number, at_least=0, at_most=3650), "365"),
    "alarmEmail": _Key(
        "alarm_email",
        partial(_read_text, pattern=r"|[^@\s,]+@[^@\s,]+\.[^@\s,]+", meaning="an e-mail address, or empty"),
        "contact-centre@example.com",
    ),
    "reconcileEveryMinutes": _Key(
        "reconcile_every_minutes", partial(_read_whole_number, at_least=1, at_most=1440), "15"
    ),
    "reconcileWindowHours": _Key("reconcile_window_hours", partial(_read_whole_number, at_least=1, at_most=168), "3"),
    "backfillShare": _Key("backfill_share", _read_share, "0.5"),
}
