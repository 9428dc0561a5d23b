"""What other services may still hold of contacts that were erased, and until when: what an erasure cannot reach."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from contact_references.model.environment import read_switch
from ops.activity import read_settings
from ops.deployment import Deployment
from ops.errors import OpsError, explain

_RECOVERY_DAYS = 35  # DynamoDB's, where it does not say
_LIFECYCLE_DAY = timedelta(days=1)  # S3 deletes at the midnight after, and may take its time
_FUNCTIONS = ("capture", "reconcile", "tables", "lookup")
_ERASE_AGAIN = (
    "Where the ledger itself was lost and comes from such a copy, run `erase` again for these contacts: right after "
    "`rebuild ledger`, before `rebuild lake`."
)


@dataclass(frozen=True)
class Holding:
    """What may still hold something of an erased contact; `until` is None where that has no end, or is not known."""

    what: str
    until: datetime | None
    note: str


def find_holdings(deployment: Deployment, *, now: datetime) -> list[Holding]:
    """Return what may still hold something of contacts that are erased `now`; what cannot be asked for says so."""
    finders: Mapping[str, Callable[[Deployment, datetime], list[Holding]]] = {
        "point-in-time recovery of the ledger": _find_recovery,
        "backups of the ledger": _find_backups,
        "results of queries": _find_results,
        "logs of the functions": _find_logs,
        "messages on the queues": _find_messages,
        "announcements of captures": _find_announcements,
    }
    found: list[Holding] = []
    for what, find in finders.items():
        try:
            found += find(deployment, now)
        except (OpsError, ClientError, BotoCoreError) as error:
            found.append(Holding(what, None, f"This could not be asked for, and is not known: {explain(error)}."))
    return [*found, *_UNKNOWN]


_UNKNOWN = (
    Holding(
        "copies that were made elsewhere",
        None,
        "Tables that were restored beside the ledger, recovery points in AWS Backup's vaults, exports, archives of the "
        "event bus, and what people downloaded cannot be found from here: delete them by hand.",
    ),
    Holding(
        "Amazon Connect",
        None,
        "Connect still has the contact, its references and attachments: nothing is erased there.",
    ),
)


def _find_recovery(deployment: Deployment, now: datetime) -> list[Holding]:
    answer = deployment.clients.dynamodb.describe_continuous_backups(TableName=deployment.output("TableName"))
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    if recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
        return []
    days = recovery.get("RecoveryPeriodInDays", _RECOVERY_DAYS)
    return [
        Holding(
            "point-in-time recovery of the ledger",
            now + timedelta(days=days),
            "Until then the ledger can be restored, as a table of its own, to a moment before the erasure; that table "
            "has the data until it is deleted. `rebuild ledger` copies no contact from it that the ledger knows as "
            f"erased. {_ERASE_AGAIN}",
        )
    ]


def _find_backups(deployment: Deployment, now: datetime) -> list[Holding]:
    pages = deployment.clients.dynamodb.get_paginator("list_backups").paginate(
        TableName=deployment.output("TableName"), BackupType="ALL"
    )
    backups = [
        backup for page in pages for backup in page["BackupSummaries"] if backup.get("BackupStatus") != "DELETED"
    ]
    return [
        Holding(
            f"backup {backup['BackupName']} of the ledger",
            backup.get("BackupExpiryDateTime"),
            f"It is of {backup['BackupCreationDateTime']:%Y-%m-%d}, and has the data until it "
            f"{'expires' if 'BackupExpiryDateTime' in backup else 'is deleted by hand'}. {_ERASE_AGAIN}",
        )
        for backup in backups
        if backup["BackupCreationDateTime"] <= now
    ]


def _find_results(deployment: Deployment, now: datetime) -> list[Holding]:
    if "WorkGroupName" not in deployment.outputs:
        return []
    group = deployment.clients.athena.get_work_group(WorkGroup=deployment.output("WorkGroupName"))["WorkGroup"]
    location = group.get("Configuration", {}).get("ResultConfiguration", {}).get("OutputLocation", "")
    bucket, _, folder = location.removeprefix("s3://").partition("/")
    if not bucket:
        return []
    kept = [length for rule in _read_rules(deployment, bucket) if (length := _read_length(rule, folder)) is not None]
    return [
        Holding(
            f"results of queries, in {location}",
            now + min(kept) if kept else None,
            "What people asked Athena for may have the contact's references; an erasure does not look into it. "
            + ("S3 deletes it by then." if kept else "Nothing deletes it but a person."),
        )
    ]


def _read_rules(deployment: Deployment, bucket: str) -> Sequence[Mapping[str, Any]]:
    try:
        return deployment.clients.s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchLifecycleConfiguration":
            raise
    return []


def _read_length(rule: Mapping[str, Any], folder: str) -> timedelta | None:
    """Return for how long a lifecycle rule keeps a folder's objects, their old versions included; None if for ever."""
    chosen_by = rule.get("Filter") or {"Prefix": rule.get("Prefix", "")}
    is_for_all = chosen_by.keys() <= {"Prefix"} and folder.startswith(chosen_by.get("Prefix", ""))
    current = rule.get("Expiration", {}).get("Days")
    noncurrent = rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays")
    if rule["Status"] != "Enabled" or not is_for_all or current is None or noncurrent is None:
        return None
    return timedelta(days=current) + timedelta(days=noncurrent) + 2 * _LIFECYCLE_DAY


def _find_logs(deployment: Deployment, now: datetime) -> list[Holding]:
    names = [name for name in _FUNCTIONS if f"{name.capitalize()}FunctionName" in deployment.outputs]
    groups = [read_settings(deployment, name).log_group for name in names]
    days = {group: kept for group in groups if (kept := _find_retention(deployment, group)) is not None}
    endless = [group for group, kept in days.items() if kept == 0]
    if not days:
        return []
    return [
        Holding(
            f"logs of the functions ({', '.join(days)})",
            None if endless else now + timedelta(days=max(days.values())),
            "They name contacts by their ids, with outcomes and counts; never a reference's value. Metrics have no ids."
            + (f" Kept for ever, unless they are given a retention: {', '.join(endless)}." if endless else ""),
        )
    ]


def _find_retention(deployment: Deployment, log_group: str) -> int | None:
    """Return how many days a log group keeps what it has, 0 for ever; None if there is no such group."""
    pages = deployment.clients.logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=log_group)
    for page in pages:
        for group in page["logGroups"]:
            if group["logGroupName"] == log_group:
                return group.get("retentionInDays", 0)
    return None


def _find_messages(deployment: Deployment, now: datetime) -> list[Holding]:
    seconds = []
    for queue in ("QueueUrl", "DeadLetterQueueUrl"):
        answer = deployment.clients.sqs.get_queue_attributes(
            QueueUrl=deployment.output(queue), AttributeNames=["MessageRetentionPeriod"]
        )
        seconds.append(int(answer["Attributes"]["MessageRetentionPeriod"]))
    return [
        Holding(
            "messages on the queues",
            now + timedelta(seconds=max(seconds)),
            "Connect's events that are still on their way have the contact's ids, times and tags, no references. They "
            "go when they are processed, which captures nothing of an erased contact, and by then at the latest.",
        )
    ]


def _find_announcements(deployment: Deployment, _now: datetime) -> list[Holding]:
    if not read_switch(deployment.settings, "ANNOUNCE"):
        return []
    return [
        Holding(
            "announcements of captures",
            None,
            "Captures are announced on the default event bus: who received these has the contact's ids, channel, times "
            "and counts by type, never a reference's name or value. Ask the receivers.",
        )
    ]
