"""What functions are told by their environment: variables read and checked.

All of it raises SettingsError for a variable that is missing or malformed, with its name, its value and an example.
"""

import json
import math
from collections.abc import Mapping
from datetime import timedelta

from contact_references.model.contact import Instance
from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES
from contact_references.model.reference_types import OTHER_CHANNELS, TypeLists


class SettingsError(ValueError):
    """An environment variable is missing or malformed; the message has its name, its value and an example."""


def read_text(environment: Mapping[str, str], name: str, *, example: str) -> str:
    """Return a variable that has to be there."""
    value = environment.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is missing or empty: set it, for example to {example}")
    return value


def read_names(environment: Mapping[str, str], name: str, *, example: str) -> list[str]:
    """Return names with commas between, each once."""
    names = [part.strip() for part in read_text(environment, name, example=example).split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise SettingsError(f"{name} is {environment[name]!r}: give names with commas between, for example {example}")
    return names


def read_instances(environment: Mapping[str, str]) -> frozenset[Instance]:
    """Return the instances of `INSTANCE_ARNS`; none stand for every instance."""
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


def read_type_lists(environment: Mapping[str, str]) -> TypeLists:
    """Return the types to ask for by channel, `REFERENCE_TYPES` as JSON, with the share to audit, `AUDIT_SHARE`."""
    name, example = "REFERENCE_TYPES", '{"VOICE": ["URL", "DATE"], "*": ["URL", "DATE", "ATTACHMENT"]}'
    value = read_text(environment, name, example=example)
    try:
        lists = json.loads(value)
    except ValueError:
        lists = None
    is_complete = isinstance(lists, dict) and OTHER_CHANNELS in lists
    if not is_complete or not all(isinstance(types, list) and types for types in lists.values()):
        raise SettingsError(f"{name} is {value!r}: give lists by channel, * for all others, for example {example}")
    known = {*ENTERED_TYPES.values(), *PRODUCED_TYPES.values()}
    if unknown := [str(part) for types in lists.values() for part in types if str(part) not in known]:
        raise SettingsError(f"{name} has {', '.join(unknown)}: the types are {', '.join(sorted(known))}")
    by_channel = {channel: tuple(dict.fromkeys(types)) for channel, types in lists.items()}
    return TypeLists(by_channel, audit_share=_read_share(environment))


def _read_share(environment: Mapping[str, str]) -> float:
    name, example = "AUDIT_SHARE", "0.01"
    value = read_text(environment, name, example=example)
    try:
        share = float(value)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise SettingsError(f"{name} is {value!r}: give a number from 0 to 1, for example {example}")
    return share


def read_positive(environment: Mapping[str, str], name: str, *, example: str, most: float = math.inf) -> float:
    """Return a number above 0, and at most `most`."""
    value = read_text(environment, name, example=example)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf or number > most:
        bound = f" and at most {most:g}" if most < math.inf else ""
        raise SettingsError(f"{name} is {value!r}: give a number above 0{bound}, for example {example}")
    return number


def read_retention(environment: Mapping[str, str]) -> timedelta | None:
    """Return `RETENTION_DAYS`, None for 0."""
    name = "RETENTION_DAYS"
    value = read_text(environment, name, example="0 to keep everything, or 365")
    if not (value.isascii() and value.isdigit() and len(value) <= 5):
        raise SettingsError(f"{name} is {value!r}: give a whole number of days, 0 to keep everything, or 365")
    return timedelta(days=int(value)) if int(value) else None


def read_switch(environment: Mapping[str, str], name: str) -> bool:
    """Return whether something is to be done that is only done if a variable says so."""
    value = environment.get(name, "false")
    if value not in ("true", "false"):
        raise SettingsError(f"{name} is {value!r}: leave it out, or set it to true or false")
    return value == "true"
