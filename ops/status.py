"""How a deployment is: red where a person should act, with the command that helps."""

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich import box
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from contact_references.aws.items import get_items, serialize
from contact_references.aws.worklist import Worklist, hours_due_key, recheck_key
from contact_references.model.contact import Instance
from contact_references.model.coverage import HOUR, Hour, floor_to_hour
from contact_references.model.errors import CaptureError, PermanentError
from contact_references.model.timestamps import format_time, parse_iso
from ops.activity import (
    LIVE_MINUTES,
    FunctionSettings,
    Log,
    count_calls,
    describe_function,
    read_invocations,
    read_log,
    read_oldest_seconds,
    read_settings,
)
from ops.console import JsonOption, make_console, print_json
from ops.coverage import find_captured
from ops.dead_letters import count_dead_letters, group_letters, read_dead_letters
from ops.deployment import Deployment, account_options_of, deployment_of, program_of
from ops.errors import OpsError, explain
from ops.judgement import (
    Alarm,
    Calls,
    DeadLetters,
    Facts,
    Finding,
    InstanceFacts,
    Level,
    Missing,
    Queue,
    Reason,
    Reconcile,
    Tables,
    judge,
    worst,
)

T = TypeVar("T")
U = TypeVar("U")

FUNCTIONS = ("capture", "reconcile", "tables", "lookup")

_DEAD_LETTERS_LOOKED_AT = 200
_KNOWN_DAYS = 30  # of hours: one that is given up is told of for about three weeks
_MOST_BACKFILL_HOURS = 500
_SPARE = timedelta(seconds=5)  # a reconcile run ends so long before the next begins
_MARKS = {
    Level.GREEN: "[green]ok[/green]",
    Level.YELLOW: "[yellow]watch[/yellow]",
    Level.RED: "[bold red]act[/bold red]",
}


def gather(deployment: Deployment, now: datetime) -> Facts:
    """Read all that there is to know, at once; what AWS refuses, such as a table that throttles, is told of as such.

    Raises:
        OpsError: the deployment lacks an output.
    """
    clients = deployment.clients
    # Clients of one session cannot be made in threads.
    _ = (clients.functions, clients.logs, clients.cloudwatch, clients.sqs, clients.dynamodb, clients.connect)
    unreadable: dict[str, str] = {}

    def known(future: "Future[T]", subject: str, otherwise: U) -> T | U:
        try:
            return future.result()
        except (CaptureError, ClientError, BotoCoreError) as error:
            unreadable[subject] = explain(error)
            return otherwise

    with ThreadPoolExecutor(16) as threads:
        settings = {name: threads.submit(read_settings, deployment, name) for name in FUNCTIONS}
        logs = {
            name: threads.submit(lambda of: read_log(deployment, of.result(), now=now), settings[name])
            for name in FUNCTIONS
        }
        queue = threads.submit(_read_queue, deployment, now)
        dead_letters = threads.submit(_read_dead_letters, deployment)
        alarms = threads.submit(_read_alarms, deployment)
        reconcile, tables = threads.submit(_read_reconcile, deployment), threads.submit(_read_tables, deployment)
        found: list[Instance] = known(threads.submit(deployment.instances), "instances", [])
        instances = [(each, threads.submit(_read_instance, deployment, each, now)) for each in found]
        deployed = [function for name in FUNCTIONS if (function := known(settings[name], f"function {name}", None))]
        counts = threads.submit(read_invocations, deployment, deployed, now=now)
        read = {function.name: known(logs[function.name], f"log of {function.name}", Log()) for function in deployed}
        counted = known(counts, "metrics", {})
        facts = _put_together(
            deployment,
            now,
            deployed,
            read,
            counted,
            queue=known(queue, "queue", Queue()),
            dead_letters=known(dead_letters, "dead letters", DeadLetters()),
            alarms=known(alarms, "alarms", ()),
            reconcile=known(reconcile, "reconcile", None),
            tables=known(tables, "tables", Tables()),
            instances=tuple(
                known(future, f"instance {each.instance_id}", InstanceFacts(instance_id=each.instance_id))
                for each, future in instances
            ),
        )
    return replace(facts, unreadable=tuple(unreadable.items()))


def _put_together(
    deployment: Deployment,
    now: datetime,
    known: Sequence[FunctionSettings],
    logs: Mapping[str, Log],
    counts: Mapping[str, Mapping[str, Mapping[datetime, float]]],
    *,
    queue: Queue,
    dead_letters: DeadLetters,
    alarms: tuple[Alarm, ...],
    reconcile: datetime | None,
    tables: Tables,
    instances: tuple[InstanceFacts, ...],
) -> Facts:
    reconciling = next((settings for settings in known if settings.name == "reconcile"), None)
    share = float(reconciling.environment.get("CONNECT_REQUESTS_PER_SECOND", "8")) if reconciling else Calls.share
    every = reconciling.timeout + _SPARE if reconciling else Reconcile.every
    log = logs.get("capture", Log())
    minutes = LIVE_MINUTES if log.since is None else max(1, round((now - log.since) / timedelta(minutes=1)))
    return Facts(
        now=now,
        stage=deployment.stage,
        queue=queue,
        dead_letters=dead_letters,
        calls=count_calls(log.lines, share=share, minutes=minutes),
        functions=tuple(describe_function(of, logs[of.name], counts.get(of.name, {}), now=now) for of in known),
        instances=instances,
        reconcile=Reconcile(held_until=reconcile, every=every),
        tables=tables,
        alarms=alarms,
    )


def _read_queue(deployment: Deployment, now: datetime) -> Queue:
    queue = Queue(**deployment.count_messages("QueueUrl")._asdict())
    # What was measured minutes ago says nothing of a queue that is empty by now.
    return replace(queue, oldest_seconds=read_oldest_seconds(deployment, now=now)) if queue.total else queue


def _read_dead_letters(deployment: Deployment) -> DeadLetters:
    count = count_dead_letters(deployment)
    letters = read_dead_letters(deployment, _DEAD_LETTERS_LOOKED_AT) if count else []
    return DeadLetters(count=count, reasons=tuple(Reason(*group) for group in group_letters(letters)))


def _read_alarms(deployment: Deployment) -> tuple[Alarm, ...]:
    pages = deployment.clients.cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNamePrefix=f"ContactReferences-{deployment.stage}-Monitoring-", StateValue="ALARM"
    )
    return tuple(
        Alarm(alarm["AlarmName"], alarm.get("AlarmDescription", ""), alarm["StateUpdatedTimestamp"])
        for page in pages
        for alarm in page.get("MetricAlarms", [])
    )


def _read_reconcile(deployment: Deployment) -> datetime | None:
    key = serialize({"pk": "RECONCILE", "sk": "LEASE"})
    for item in get_items(deployment.clients.dynamodb, deployment.output("TableName"), [key]):
        return parse_iso(item["held_until"])
    return None


def _read_tables(deployment: Deployment) -> Tables:
    dynamodb, table_name = deployment.clients.dynamodb, deployment.output("TableName")
    condition = {
        "TableName": table_name,
        "IndexName": "by_due",
        "KeyConditionExpression": "due_key = :key",
        "ExpressionAttributeValues": serialize({":key": "DAY"}),
    }
    pages = dynamodb.get_paginator("query").paginate(**condition)  # type: ignore[arg-type]  # built above
    dates = [item["sk"]["S"] for page in pages for item in page["Items"]]
    # The index has keys alone: by key it is read for how long.
    oldest = [serialize({"pk": "DAYS", "sk": date}) for date in dates[:1]]
    for item in get_items(dynamodb, table_name, oldest):
        if "due_at" in item:
            since = parse_iso(item["due_at"])
            return Tables(days_behind=len(dates), oldest_date=dates[0], behind_since=since)
    return Tables()


def _read_instance(deployment: Deployment, instance: Instance, now: datetime) -> InstanceFacts:
    worklist = Worklist(deployment.clients.dynamodb, deployment.output("TableName"))
    live = list(worklist.find_open_hours(hours_due_key(instance, is_backfill=False)))
    past = list(worklist.find_open_hours(hours_due_key(instance, is_backfill=True)))
    first = floor_to_hour(now) - timedelta(days=_KNOWN_DAYS)
    lately = (first + n * HOUR for n in range(24 * _KNOWN_DAYS + 1))
    starts = list(dict.fromkeys([*live, *past[:_MOST_BACKFILL_HOURS], *lately]))
    found = worklist.find_hours(instance, starts)
    hours = [hour for hour in found if isinstance(hour, Hour) and hour.missing]
    captured = find_captured(deployment, hours)
    missing = [
        Missing(
            hour=hour.start,
            count=hour.missing - len(captured & set(hour.missing_ids)),
            asked_since=hour.asked_since,
            is_given_up=hour.is_given_up,
            is_backfill=hour.is_backfill,
        )
        for hour in sorted(hours, key=lambda hour: hour.start)
    ]
    return InstanceFacts(
        instance_id=instance.instance_id,
        hours_open=len(live),
        backfill_hours_open=len(past),
        rechecks_due=worklist.count_due(recheck_key(instance), until=now),
        found_missing=sum(hour.missing for hour in hours if hour.due_at is not None and not hour.is_backfill),
        missing=tuple(part for part in missing if part.count),
        damaged=tuple(sorted(_find_damaged(worklist, instance, starts, found))),
    )


def _find_damaged(
    worklist: Worklist, instance: Instance, starts: Sequence[datetime], found: Sequence[Hour | PermanentError]
) -> Iterator[datetime]:
    """Yield which hours cannot be read: what was found of several does not tell, so these are halved."""
    if all(isinstance(hour, Hour) for hour in found):
        return
    if len(starts) == 1:
        yield from starts
        return
    middle = len(starts) // 2
    for half in (starts[:middle], starts[middle:]):
        yield from _find_damaged(worklist, instance, half, worklist.find_hours(instance, half))


def show(findings: Sequence[Finding], facts: Facts, program: str, account_options: Sequence[str] = ()) -> Group:
    """Return findings as a table, the commands that help below it."""
    level = worst(findings)
    what = {
        Level.GREEN: "[green]nothing to do[/green]",
        Level.YELLOW: "[yellow]nothing to do, something to watch[/yellow]",
        Level.RED: "[bold red]a person should act[/bold red]",
    }[level]
    table = Table(
        title=f"Stage {escape(facts.stage)}, {facts.now:%Y-%m-%d %H:%M:%SZ}: {what}",
        title_justify="left",
        title_style="none",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    table.add_column("subject", overflow="fold", max_width=24)
    table.add_column("what is known", overflow="fold")
    subject = ""
    for finding in findings:
        name = "" if finding.subject == subject else escape(finding.subject)
        subject = finding.subject
        style = {Level.RED: "bold red", Level.YELLOW: "yellow"}.get(finding.level, "")
        table.add_row(_MARKS[finding.level], name, Text(_make_visible(finding.sentence), style))
    commands = dict.fromkeys(finding.command for finding in findings if finding.command is not None)
    if not commands:
        return Group(table)
    helps = Table(title="What helps", title_justify="left", box=None, pad_edge=False, show_header=False)
    helps.add_column(overflow="fold")
    for command in commands:
        helps.add_row(Text(f"  {spell(command, program, account_options)}"))
    return Group(table, helps)


def _make_visible(text: str) -> str:
    r"""Return a text whose control and direction characters are spelled out: a dead letter's reason may be any.

    >>> _make_visible("a\x1b[2Jb\u202e")
    'a\\u001b[2Jb\\u202e'
    """
    return "".join(part if part.isprintable() else f"\\u{ord(part):04x}" for part in text)


def spell(command: str, program: str, account_options: Sequence[str] = ()) -> str:
    """Return a finding's command as it is typed here, with the options that choose AWS's account and Region.

    >>> [
    ...     spell(command, "ops --stage a", ["--profile", "b"])
    ...     for command in ("ops coverage", "aws logs", "npx cdk list")
    ... ]
    ['ops --stage a coverage', 'aws logs --profile b', 'npx cdk list --profile b']
    """
    if command.startswith("ops "):
        return f"{program} {command.removeprefix('ops ')}"
    if command.startswith(("aws ", "npx cdk ")):
        return " ".join([command, *map(shlex.quote, account_options)])
    return command


def as_json(
    findings: Sequence[Finding], facts: Facts, program: str, account_options: Sequence[str] = ()
) -> dict[str, Any]:
    """Return findings and facts as JSON can have them."""
    return {
        "level": worst(findings),
        "findings": [
            asdict(finding) | {"command": finding.command and spell(finding.command, program, account_options)}
            for finding in findings
        ],
        "facts": _plain(asdict(facts)),
    }


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return format_time(value)
        case timedelta():
            return value.total_seconds()
        case dict():
            return {
                f"{name}_seconds" if isinstance(part, timedelta) else name: _plain(part) for name, part in value.items()
            }
        case list() | tuple():
            return [_plain(part) for part in value]
    return value


def status(
    context: typer.Context,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Between two looks, with --watch.")] = 5,
    as_document: JsonOption = False,
) -> None:
    """Tell how the deployment is: red where a person should act, with the command that helps.

    Exit status 1 if anything is red. Log lines and failed invocations are those of the last quarter of an hour, of the
    functions on a schedule those of the last two hours.
    """
    if watch and as_document:
        raise typer.BadParameter("--json prints one document, and --watch never ends: leave one of them out")
    deployment = deployment_of(context)
    program, options = program_of(context, deployment), account_options_of(context)
    if watch:
        level = _watch(deployment, program, options, interval)
    else:
        facts = gather(deployment, datetime.now(UTC))
        findings = judge(facts)
        level = worst(findings)
        if as_document:
            print_json(as_json(findings, facts, program, options))
        else:
            make_console().print(show(findings, facts, program, options))
    if level is Level.RED:
        raise typer.Exit(1)


def _watch(deployment: Deployment, program: str, account_options: Sequence[str], interval: float) -> Level:
    """Show how a deployment is until Ctrl-C, which is how it ends; return the level of the last look."""
    level = Level.RED
    try:
        with Live(console=make_console(), auto_refresh=False) as live:
            while True:
                try:
                    facts = gather(deployment, datetime.now(UTC))
                except (OpsError, CaptureError, ClientError, BotoCoreError) as error:
                    level = Level.RED
                    shown = Group(Text(f"{datetime.now(UTC):%H:%M:%SZ} {explain(error)}; looking again", "bold red"))
                else:
                    findings = judge(facts)
                    level, shown = worst(findings), show(findings, facts, program, account_options)
                live.update(shown, refresh=True)
                time.sleep(interval)
    except KeyboardInterrupt:
        return level


def register(app: typer.Typer) -> None:
    """Add `status`."""
    app.command(epilog="Example: python -m ops status --watch --interval 10")(status)
