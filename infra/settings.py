"""What a deployment can be told: the CDK context, checked before anything is built from it."""

import difflib
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping
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
_CHANNELS = ("VOICE", "CHAT", "TASK", "EMAIL")
_OTHER_CHANNELS = "*"
_LEAST_SEARCHES = 8  # a run: the pages of a span of contacts, and what is asked to find its length


class InvalidSettingsError(ValueError):
    """The context does not describe a deployment. The message names every problem, one a line."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One deployment. The fields are the context keys of cdk.json, which holds the defaults.

    `stage` names and tags the stacks. No `instance_arns` means every Connect instance of the account and Region.
    `reference_types` are those to ask for, by channel, under `*` for channels not named; `audit_share` (0 to 1) is
    the share of contacts that are asked for all of `*` although their channel has a list of its own.
    `connect_requests_per_second` (0.1 to 8000) is this system's share of the account's quota, `backfill_share` (above
    0, at most 1) the most of it that reconciling feeds. `search_requests_per_second` (0.01 to 100) is the share of
    SearchContacts' quota; a run of reconciling, each `reconcile_every_minutes` (1 to 15), has time for 8 searches at
    least. `announce` is whether the default event bus is told of each capture. `retention_days` (at most 3650) is 0 to
    keep everything. `alarm_email` is who hears of alarms, or empty.
    """

    stage: str
    instance_arns: tuple[str, ...]
    completion_event_types: tuple[str, ...]
    reference_types: Mapping[str, tuple[str, ...]]
    audit_share: float
    connect_requests_per_second: float
    search_requests_per_second: float
    backfill_share: float
    reconcile_every_minutes: int
    announce: bool
    retention_days: int
    alarm_email: str

    @property
    def is_production(self) -> bool:
        """Whether the data outlives its stack and is protected from deletion."""
        return self.stage == "prod"

    @classmethod
    def from_context(cls, context: Mapping[str, Any], *, defaults: Mapping[str, Any]) -> Self:
        """Return the settings in a CDK context, `defaults` being the context of cdk.json alone.

        A key has the value given with `-c`, else the one that `stages` has for the stage, else its default. The CDK
        merges `-c` into cdk.json's context before an app sees it, as a string always: a value that is not cdk.json's
        was given. So `-c retentionDays=0` is told from the default `0`, but a default that is itself a string, as
        only `alarmEmail`'s is, can't be given over a stage's value by repeating it to the character; a blank before
        it makes the difference.

        Raises:
            InvalidSettingsError: Keys are unknown or missing, or their values out of bounds, in any stage's object
                too; or stage `prod` has no `retentionDays` but the default; or a run has time for too few searches.
        """
        values, problems = _read_values({key: value for key, value in context.items() if _is_ours(key)})
        problems += [_describe_missing(key) for key in _KEYS if key not in context]
        stages, problems_of_stages = _read_stages(context.get(_STAGES, {}))
        problems += problems_of_stages
        if problems:
            raise InvalidSettingsError("\n".join(problems))
        given = {key: value for key, value in values.items() if context[key] != defaults.get(key)}
        chosen = stages.get(values["stage"], {}) | given
        if values["stage"] == "prod" and "retentionDays" not in chosen:
            problems.append(_describe_default_retention(context["retentionDays"]))
        settings = cls(**{_KEYS[key].field: value for key, value in (values | chosen).items()})
        if settings.search_requests_per_second * 60 * settings.reconcile_every_minutes < _LEAST_SEARCHES:
            problems.append(_describe_too_few_searches(settings))
        if problems:
            raise InvalidSettingsError("\n".join(problems))
        return settings


def _is_ours(key: str) -> bool:
    # Others are what the CDK, its CLI, its recorded look-ups and cdk-nag keep in the same context.
    others = r"@?aws-cdk|aws:|cdk[-_]nag|acknowledged-issue-numbers$|cli-telemetry$|[a-z-]+:(.+:)?account=\d+"
    return key != _STAGES and re.match(others, key) is None


def _read_values(given: Mapping[str, Any], *, stage: str | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return each key's value, and what is wrong with the others; of the object of a stage if one is named."""
    values, problems = {}, []
    known = [key for key in _KEYS if stage is None or key != "stage"]
    for key, value in given.items():
        if key not in known:
            problems.append(_describe_unknown(key, value, known=known, stage=stage))
            continue
        try:
            values[key] = _KEYS[key].read(value)
        except ValueError as error:
            problems.append(f"{_locate(key, stage)}: {json.dumps(value)} {error}; for example {_show(key, stage)}")
    return values, problems


def _read_stages(value: object) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the values that each stage overrides the defaults with, and what is wrong with them."""
    try:
        overrides_by_stage = _read_object(value)
    except ValueError as error:
        return {}, [f"{_STAGES}: {json.dumps(value)} {error}; for example {_EXAMPLE_OF_STAGES}"]
    stages, problems = {}, []
    for stage, overrides in overrides_by_stage.items():
        stages[stage], problems_of_stage = _read_overrides(stage, overrides)
        problems += problems_of_stage
    return stages, problems


def _read_overrides(stage: str, overrides: object) -> tuple[dict[str, Any], list[str]]:
    if not re.fullmatch(_STAGE, stage):
        return {}, [f"{_STAGES}: {json.dumps(stage)} cannot name a stage; for example {_EXAMPLE_OF_STAGES}"]
    if not isinstance(overrides, dict):
        found = json.dumps(overrides)
        return {}, [f"{_STAGES}.{stage}: {found} is not an object; for example {_EXAMPLE_OF_STAGES}"]
    return _read_values(overrides, stage=stage)


def _describe_missing(key: str) -> str:
    return f"{key}: missing; cdk.json holds the default; for example {_show(key)}"


def _describe_unknown(key: str, value: object, *, known: list[str], stage: str | None) -> str:
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {nearest[0]}" if nearest else f"known are {', '.join(known)}"
    example = _show(nearest[0] if nearest else known[0], stage)
    return f"{_locate(key, stage)}: unknown key, value {json.dumps(value)}; {hint}; for example {example}"


def _describe_default_retention(value: object) -> str:
    return (
        f"retentionDays: {json.dumps(value)} is the default, which stage prod does not take: choose, 0 to keep "
        f"everything; for example {_show('retentionDays')} or {_EXAMPLE_OF_STAGES}"
    )


def _describe_too_few_searches(settings: Settings) -> str:
    rate, minutes = settings.search_requests_per_second, settings.reconcile_every_minutes
    enough = math.ceil(_LEAST_SEARCHES / (60 * minutes) * 100) / 100
    long_enough = math.ceil(_LEAST_SEARCHES / (60 * rate))
    return (
        f"searchRequestsPerSecond: {rate:g} allows {rate * 60 * minutes:g} searches a run with reconcileEveryMinutes "
        f"{minutes}, and a run needs {_LEAST_SEARCHES}; for example -c searchRequestsPerSecond={enough:g} or "
        f"-c reconcileEveryMinutes={long_enough}"
    )


def _locate(key: str, stage: str | None) -> str:
    return key if stage is None else f"{_STAGES}.{stage}.{key}"


def _show(key: str, stage: str | None = None) -> str:
    """Return the key with a valid value, as an option or, of the object of a stage, as it stands in cdk.json.

    >>> print(_show("retentionDays"), _show("retentionDays", "prod"))
    -c retentionDays=730 "retentionDays": 730
    """
    example = _KEYS[key].example
    if stage is not None:
        return f"{json.dumps(key)}: {json.dumps(example)}"
    return f"-c {key}={shlex.quote(example if isinstance(example, str) else json.dumps(example))}"


def _parse_json(value: object) -> object:
    # With -c, lists and objects are JSON in a string.
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        raise ValueError("is not valid JSON") from None


def _read_object(value: object) -> dict[str, Any]:
    parsed = _parse_json(value)
    if not isinstance(parsed, dict):
        raise ValueError("is not an object")
    return parsed


def _read_text(value: object, *, pattern: str, meaning: str) -> str:
    text = value.strip() if isinstance(value, str) else None
    if text is None or not re.fullmatch(pattern, text):
        raise ValueError(f"is not {meaning}")
    return text


def _read_list(value: object) -> tuple[str, ...]:
    parsed = _parse_json(value)
    items = parsed.split(",") if isinstance(parsed, str) else parsed
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


def _read_reference_types(value: object) -> dict[str, tuple[str, ...]]:
    """Return channel to types, `*` for the others, of a list for all channels or an object of lists.

    >>> _read_reference_types("URL,DATE")
    {'*': ('URL', 'DATE')}
    >>> _read_reference_types('{"VOICE": ["URL"], "*": ["URL", "DATE"]}')
    {'VOICE': ('URL',), '*': ('URL', 'DATE')}
    """
    parsed = _parse_json(value)
    if not isinstance(parsed, dict):
        return {_OTHER_CHANNELS: _read_choices(parsed, known=_REFERENCE_TYPES)}
    channels = (*_CHANNELS, _OTHER_CHANNELS)
    if unknown := [channel for channel in parsed if channel not in channels]:
        raise ValueError(f"has the channel {unknown[0]!r}, which is none of {', '.join(channels)}")
    if _OTHER_CHANNELS not in parsed:
        raise ValueError(f"has no {_OTHER_CHANNELS!r} for the other channels")
    return {channel: _read_choices(types, known=_REFERENCE_TYPES) for channel, types in parsed.items()}


def _read_number(value: object, *, at_least: float, at_most: float) -> float:
    try:
        # JSON's true is no number here, although Python's is.
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else float("nan")
    except ValueError:
        number = float("nan")
    if not at_least <= number <= at_most:  # which nan fails too
        raise ValueError(f"is not a number from {at_least} to {at_most}")
    return number


def _read_whole_number(value: object, *, at_least: int, at_most: int) -> int:
    number = _read_number(value, at_least=at_least, at_most=at_most)
    if number != int(number):
        raise ValueError("is not a whole number")
    return int(number)


def _read_positive_share(value: object) -> float:
    share = _read_number(value, at_least=0, at_most=1)
    if not share:
        raise ValueError("is not above 0")
    return share


def _read_flag(value: object) -> bool:
    text = value.strip() if isinstance(value, str) else json.dumps(value)
    if text not in {"true", "false"}:
        raise ValueError("is neither true nor false")
    return text == "true"


class _Key(NamedTuple):
    field: str
    read: Callable[[object], object]
    """Raises ValueError, whose message goes on where the value ended."""
    example: object


_STAGE = r"[a-z][a-z0-9-]{0,15}"
_KEYS = {
    "stage": _Key(
        "stage", partial(_read_text, pattern=_STAGE, meaning="1 to 16 of a-z, 0-9 and -, a letter first"), "dev"
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
    "referenceTypes": _Key(
        "reference_types",
        _read_reference_types,
        {"VOICE": ["URL", "CONTACT_ANALYSIS"], "*": ["URL", "STRING", "ATTACHMENT"]},
    ),
    "auditShare": _Key("audit_share", partial(_read_number, at_least=0, at_most=1), 0.01),
    "connectRequestsPerSecond": _Key(
        "connect_requests_per_second", partial(_read_number, at_least=0.1, at_most=8000), 8
    ),
    "searchRequestsPerSecond": _Key(
        "search_requests_per_second", partial(_read_number, at_least=0.01, at_most=100), 0.25
    ),
    "backfillShare": _Key("backfill_share", _read_positive_share, 0.5),
    "reconcileEveryMinutes": _Key("reconcile_every_minutes", partial(_read_whole_number, at_least=1, at_most=15), 15),
    "announce": _Key("announce", _read_flag, True),
    "retentionDays": _Key("retention_days", partial(_read_whole_number, at_least=0, at_most=3650), 730),
    "alarmEmail": _Key(
        "alarm_email",
        partial(_read_text, pattern=r"|[^@\s,]+@[^@\s,]+\.[^@\s,]+", meaning="an e-mail address, or empty"),
        "contact-centre@example.com",
    ),
}

_STAGES = "stages"
_EXAMPLE_OF_STAGES = '"stages": {"prod": {"retentionDays": 730}} in cdk.json'
