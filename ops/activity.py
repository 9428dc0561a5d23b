"""What the functions did lately: their log lines, and AWS's own count of invocations, of which those that die tell."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ops.deployment import Deployment
from ops.judgement import Calls, Failure, Function

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

LIVE_MINUTES = 15
SCHEDULED_MINUTES = 130
"""Of functions on a schedule, so that two runs of each are in it."""

_PATTERN = '{ $.level = "ERROR" || $.level = "CRITICAL" || $.level = "WARNING" || $.ApiCalls[0] >= 0 }'
_PAGES = 10  # of up to a megabyte each: a storm of failures says the same again and again
_SHORTEST = timedelta(minutes=1)
_THROTTLED_SECONDS = 300  # as alarms watch it: a moment's burst is none's fault, and passes
_METRICS = ("Invocations", "Errors", "Throttles")


@dataclass(frozen=True)
class FunctionSettings:
    """A deployed function: its name here and in AWS, its environment, timeout and log group."""

    name: str
    function_name: str
    environment: Mapping[str, str]
    timeout: timedelta
    log_group: str

    @property
    def minutes(self) -> int:
        """How far back to look."""
        return LIVE_MINUTES if self.name in ("capture", "lookup") else SCHEDULED_MINUTES


def read_settings(deployment: Deployment, name: str) -> FunctionSettings:
    """Return how a function is deployed: `capture`, `reconcile`, `tables` or `lookup`."""
    function_name = deployment.output(f"{name.capitalize()}FunctionName")
    answer = deployment.clients.functions.get_function_configuration(FunctionName=function_name)
    return FunctionSettings(
        name,
        function_name,
        answer.get("Environment", {}).get("Variables", {}),
        timedelta(seconds=answer["Timeout"]),
        answer.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{function_name}"),
    )


@dataclass(frozen=True)
class Log:
    """A function's log lines that tell of a failure, or of calls; `since` a moment if earlier ones were too many."""

    lines: Sequence[Mapping[str, Any]] = ()
    since: datetime | None = None


def read_log(deployment: Deployment, settings: FunctionSettings, *, now: datetime) -> Log:
    """Return what a function's log says of its last minutes; of very many lines those of the newest part.

    AWS tells the oldest lines first, so that part is found by halving.
    """
    span = timedelta(minutes=settings.minutes)
    lines, is_all = _read_lines(deployment, settings, since=now - span)
    if is_all:
        return Log(lines)
    while not is_all and span > _SHORTEST:
        span = max(span / 2, _SHORTEST)
        lines, is_all = _read_lines(deployment, settings, since=now - span)
    return Log(lines, now - span)


def _read_lines(
    deployment: Deployment, settings: FunctionSettings, *, since: datetime
) -> tuple[list[Mapping[str, Any]], bool]:
    """Return log lines since a moment, and whether these are all.

    What a pattern leaves in that it should not, as some emulators do, is left out here. Pages may be empty while more
    follow: those are not counted.
    """
    pages = deployment.clients.logs.get_paginator("filter_log_events").paginate(
        logGroupName=settings.log_group,
        startTime=int(since.timestamp() * 1000),
        filterPattern=_PATTERN,
    )
    lines: list[Mapping[str, Any]] = []
    number = 0
    try:
        for page in pages:
            number += bool(page["events"])
            if number > _PAGES:
                return lines, False
            found = [event for event in page["events"] if event["message"].startswith("{")]
            lines += [line for event in found if (line := _read_line(event["message"], event["timestamp"]))]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":  # deployed, and never invoked
            raise
    return lines, True


def _read_line(message: str, timestamp: int) -> Mapping[str, Any]:
    try:
        line = json.loads(message)
    except ValueError:
        return {}
    is_of_interest = line.get("level") in ("WARNING", "ERROR", "CRITICAL") or "ApiCalls" in line
    return line | {"at": _moment(line.get("timestamp"), timestamp)} if is_of_interest else {}


def _moment(text: object, timestamp: int) -> datetime:
    """Return when a line was written, by itself if it says so."""
    try:
        return datetime.strptime(str(text), "%Y-%m-%d %H:%M:%S,%f%z").astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(timestamp / 1000, UTC)


def group_failures(lines: Sequence[Mapping[str, Any]]) -> tuple[Failure, ...]:
    """Return failures that say the same as one each, the most frequent first.

    >>> at = datetime(2026, 3, 2, tzinfo=UTC)
    >>> line = {"level": "ERROR", "message": "contact not captured", "error": "AccessDenied", "reason": "no", "at": at}
    >>> [(failure.error, failure.count) for failure in group_failures([line, line, {"ApiCalls": [2.0], "at": at}])]
    [('AccessDenied', 2)]
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        if "level" in line:
            key = (str(line.get("message", "")), str(line.get("error", "")), str(line.get("reason", "")))
            groups.setdefault(key, []).append(line)
    failures = [
        Failure(
            message=message,
            error=error,
            reason=reason,
            is_error=any(line["level"] != "WARNING" for line in group),
            count=len(group),
            first_at=min(line["at"] for line in group),
            last_at=max(line["at"] for line in group),
        )
        for (message, error, reason), group in groups.items()
    ]
    return tuple(sorted(failures, key=lambda failure: (-failure.count, failure.message, failure.error)))


def count_calls(lines: Sequence[Mapping[str, Any]], *, share: float, minutes: int = LIVE_MINUTES) -> Calls:
    """Return the sums of what capture's invocations counted in so many minutes.

    >>> at = datetime(2026, 3, 2, tzinfo=UTC)
    >>> calls = count_calls([{"ApiCalls": [8.0], "ThrottledApiCalls": [2.0], "ContactsFailed": 1.0, "at": at}], share=8)
    >>> calls.calls, calls.throttled, calls.failed, calls.throttled_share
    (8, 2, 1, 0.25)
    """

    def total(*names: str) -> int:
        return round(sum(sum(_numbers(line.get(name))) for line in lines if "ApiCalls" in line for name in names))

    def latest(name: str) -> datetime | None:
        return max((line["at"] for line in lines if sum(_numbers(line.get(name)))), default=None)

    return Calls(
        minutes=minutes,
        calls=total("ApiCalls"),
        throttled=total("ThrottledApiCalls"),
        done=total("ContactsCaptured", "ContactsSkipped"),
        failed=total("ContactsFailed"),
        throttled_at=latest("ThrottledApiCalls"),
        captured_at=latest("ContactsCaptured"),
        share=share,
    )


def _numbers(value: object) -> Iterator[float]:
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, int | float):
            yield part


def read_invocations(
    deployment: Deployment, functions: Sequence[FunctionSettings], *, now: datetime
) -> dict[str, dict[str, dict[datetime, float]]]:
    """Return AWS's counts by function, metric and minute; they are a minute or two behind."""
    queries: list[MetricDataQueryTypeDef] = []
    names = {}
    for index, (function, metric) in enumerate((function, metric) for function in functions for metric in _METRICS):
        names[f"m{index}"] = (function.name, metric)
        dimensions = [{"Name": "FunctionName", "Value": function.function_name}]
        queries.append(_query(f"m{index}", "AWS/Lambda", metric, dimensions, "Sum"))
    found: dict[str, dict[str, dict[datetime, float]]] = {function.name: {} for function in functions}
    for name, values in _read_metrics(deployment, queries, minutes=SCHEDULED_MINUTES, now=now).items():
        function_name, metric = names[name]
        found[function_name][metric] = values
    return found


def read_oldest_seconds(deployment: Deployment, *, now: datetime) -> float | None:
    """Return the age of the queue's oldest message as AWS measured it last; None where nothing measures it."""
    name = deployment.output("QueueArn").rpartition(":")[2]
    dimensions = [{"Name": "QueueName", "Value": name}]
    query = _query("age", "AWS/SQS", "ApproximateAgeOfOldestMessage", dimensions, "Maximum")
    values = _read_metrics(deployment, [query], minutes=10, now=now).get("age", {})
    return values[max(values)] if values else None


def _query(
    identity: str, namespace: str, metric: str, dimensions: list[dict[str, str]], statistic: str
) -> "MetricDataQueryTypeDef":
    of = {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": identity, "MetricStat": {"Metric": of, "Period": 60, "Stat": statistic}}  # type: ignore[misc, typeddict-item]  # ambiguous


def _read_metrics(
    deployment: Deployment, queries: Sequence["MetricDataQueryTypeDef"], *, minutes: int, now: datetime
) -> dict[str, dict[datetime, float]]:
    found: dict[str, dict[datetime, float]] = {}
    pages = deployment.clients.cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=queries,
        StartTime=now - timedelta(minutes=minutes),
        EndTime=now + timedelta(minutes=1),
    )
    for page in pages:
        for result in page["MetricDataResults"]:
            values = zip(result["Timestamps"], result["Values"], strict=True)
            found.setdefault(result["Id"], {}).update({moment.astimezone(UTC): value for moment, value in values})
    return found


def describe_function(
    settings: FunctionSettings,
    log: Log,
    counts: Mapping[str, Mapping[datetime, float]],
    *,
    now: datetime,
) -> Function:
    """Return what a function did in its last minutes."""
    since = now - timedelta(minutes=settings.minutes)

    def total(metric: str) -> int:
        return round(sum(value for moment, value in counts.get(metric, {}).items() if moment >= since))

    def moments(metric: str) -> list[datetime]:
        return [moment for moment, value in counts.get(metric, {}).items() if value and moment >= since]

    return Function(
        name=settings.name,
        log_group=settings.log_group,
        minutes=settings.minutes,
        invocations=total("Invocations"),
        errors=total("Errors"),
        throttles=total("Throttles"),
        throttled_periods=len({moment.timestamp() // _THROTTLED_SECONDS for moment in moments("Throttles")}),
        failed_at=max(moments("Errors"), default=None),
        failures=group_failures(log.lines),
        log_since=log.since,
    )
