"""The AWS CLI's own commands, as far as docs/ have them, by the SDK: there is no AWS CLI on every machine.

What the CLI refuses is refused: an unknown service, operation or option, an option that is missing, a bad value.
"""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jmespath  # type: ignore[import-untyped]  # what the AWS CLI reads --query with
from botocore.client import BaseClient
from botocore.model import Shape

MakeClient = Callable[[str], BaseClient]
"""Makes the client of a service, by the name that it has in the CLI and in the SDK."""

_OF_THE_CLI = {"query", "output", "cli-binary-format", "cli-read-timeout"}
_ENDS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def run_aws(command: str, make_client: MakeClient, variables: Mapping[str, str]) -> Any:
    """Run `aws SERVICE OPERATION --option value …` and return its answer, or what `--query` finds in it.

    Variables are put in, and `$(aws …)` is run first, as a shell does.

    Raises:
        KeyError: a variable, service, operation or option that there is not.
        ParamValidationError, ClientError: as the SDK.
    """
    command = re.sub(r'"\$\((aws .+?)\)"', lambda inner: str(run_aws(inner[1], make_client, variables)), command)
    words = shlex.split(re.sub(r"\$(\w+)", lambda name: variables[name[1]], _hide_quoted(command)).replace("\0", "$"))
    _, service, operation, *rest = words
    if [service, operation] == ["logs", "tail"]:
        return _tail(make_client("logs"), *rest)
    client = make_client(service)
    if operation == "wait":
        waiter = client.get_waiter(rest[0].replace("-", "_"))
        waiter.wait(**_read_options(client, "DescribeTable", rest[1:]))
        return None
    names = {_dashed(name): name for name in client.meta.service_model.operation_names}
    api_name = names[operation]
    given = _read_options(client, api_name, rest)
    query = given.pop("--query", None)
    method = next(method for method, name in client.meta.method_to_api_mapping.items() if name == api_name)
    answer = getattr(client, method)(**given)
    return answer if query is None else jmespath.search(query, answer)


def _hide_quoted(command: str) -> str:
    """Return a command whose dollars in single quotes a shell leaves alone are hidden."""
    return re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("$", "\0"), command)


def _read_options(client: BaseClient, operation: str, words: list[str]) -> dict[str, Any]:
    shape = client.meta.service_model.operation_model(operation).input_shape
    members = {_dashed(name): (name, member) for name, member in shape.members.items()} if shape else {}
    given: dict[str, Any] = {}
    options: list[tuple[str, list[str]]] = []
    for word in words:
        if word.startswith("--"):
            options.append((word.removeprefix("--"), []))
        elif options:
            options[-1][1].append(word)
    for option, values in options:
        if option == "query":
            given["--query"] = values[0]
        elif option not in _OF_THE_CLI:
            name, member = members[option]
            given[name] = _read_value(member, values)
    return given


def _read_value(shape: Shape, values: list[str]) -> Any:
    if shape.type_name == "list":
        return values
    if shape.type_name in {"map", "structure"}:
        return json.loads(values[0])
    return int(values[0]) if shape.type_name in {"integer", "long"} else values[0]


def _tail(logs: BaseClient, group: str, *options: str) -> list[str]:
    """Do what `aws logs tail` does, which is no operation."""
    given = dict(zip(options[::2], options[1::2], strict=True))
    number, unit = re.fullmatch(r"(\d+)([smhd])", given.pop("--since")).groups()  # type: ignore[union-attr]
    since = datetime.now(UTC) - timedelta(**{_ENDS[unit]: int(number)})
    pattern = {"filterPattern": given.pop("--filter-pattern")} if "--filter-pattern" in given else {}
    assert not given
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group,
        startTime=int(since.timestamp() * 1000),
        **pattern,
    )
    return [event["message"] for page in pages for event in page["events"]]


def _dashed(name: str) -> str:
    """Write an API's name as the CLI does.

    >>> _dashed("StartMessageMoveTask"), _dashed("logGroupName"), _dashed("SourceTableName")
    ('start-message-move-task', 'log-group-name', 'source-table-name')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
