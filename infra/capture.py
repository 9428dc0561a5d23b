"""What captures: the rule that fills the queue, and the function between the queue and the stores."""

import json
import math
from typing import NamedTuple, cast

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.function import PythonFunction, allow, allow_ledger_key, instance_arns
from infra.settings import Settings
from infra.storage import StorageStack

# What an environment reads in three seconds. In batches of 25 a contact waits for others in its own batch
# while the other environment idles: beside a backfill, the slowest of live contacts took 14 seconds, not 6.
_BATCH_SIZE = 6
_BATCHING_WINDOW_SECONDS = 1


class RateShare(NamedTuple):
    """How the requests a second that Connect allows us are divided among execution environments."""

    concurrency: int
    requests_per_second: float
    """Of one execution environment."""
    timeout_seconds: int
    """In which an execution environment gets through a full batch at that rate."""

    @property
    def visibility_timeout_seconds(self) -> int:
        """For which the queue hides a message: what Lambda asks for, six times its timeout and the batching window."""
        return 6 * self.timeout_seconds + _BATCHING_WINDOW_SECONDS


def share_rate(requests_per_second: float) -> RateShare:
    """Divide the system's requests a second.

    At most 4 a second each, which one environment reaches with one call at a time as long as Connect answers within
    a fifth of a second (docs/scale.md). An event source has from 2 to 1,000 environments. Shares are rounded
    down: together they never exceed the whole.

    >>> share_rate(8)
    RateShare(concurrency=2, requests_per_second=4.0, timeout_seconds=120)
    >>> share_rate(100)
    RateShare(concurrency=25, requests_per_second=4.0, timeout_seconds=120)
    >>> share_rate(1)
    RateShare(concurrency=2, requests_per_second=0.5, timeout_seconds=120)
    """
    concurrency = min(1000, max(2, math.ceil(requests_per_second / 4)))
    share = math.floor(requests_per_second / concurrency * 1000) / 1000
    # A contact costs a call for each group of reference types (two), a transferred one asks for two contacts.
    calls = _BATCH_SIZE * 2 * 2
    # As long again for slow answers and the writes. Lambda allows 900 seconds; what a batch has not begun with by
    # then, it hands back.
    return RateShare(concurrency, share, min(900, max(120, math.ceil(2 * calls / share))))


class CaptureStack(cdk.Stack):
    """The stack that can be thrown away and deployed again: from a completed contact to the stores."""

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack, rate: RateShare
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: what captures them",
        )
        self.rule = CompletionRule(self, "Rule", settings=settings, storage=storage).rule
        self.function = CaptureFunction(self, "Capture", settings=settings, storage=storage, rate=rate).function
        cdk.CfnOutput(self, "CaptureFunctionName", value=self.function.function_name)


class CompletionRule(Construct):
    """EventBridge's part: contact events that mean completion go to the queue."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(scope, construct_id)
        detail: dict[str, list[str]] = {"eventType": list(settings.completion_event_types)}
        if settings.instance_arns:
            detail["instanceArn"] = [spelling for arn in settings.instance_arns for spelling in (arn, _misspell(arn))]
        # Imported: a target writes its rule's name into the policy of any other queue, and so the storage stack would
        # depend on this one. What the policy allows instead stands in infra/queues.py.
        queue = sqs.Queue.from_queue_arn(self, "Contacts", storage.queue.queue_arn)
        dead_letters = sqs.Queue.from_queue_arn(self, "DeadLetters", storage.dead_letters.queue_arn)
        self.rule = events.Rule(
            self,
            "Completed",
            event_pattern=events.EventPattern(
                source=["aws.connect"],
                detail_type=["Amazon Connect Contact Event"],
                account=[cdk.Aws.ACCOUNT_ID],
                detail=detail,
            ),
            targets=[
                targets.SqsQueue(
                    queue,
                    dead_letter_queue=dead_letters,
                    max_event_age=cdk.Duration.hours(24),
                    retry_attempts=185,
                )
            ],
        )
        # Short, so that the rule's name begins with all of the stack's, by which the queues' policy knows it:
        # EventBridge allows 64 characters, and CloudFormation makes a longer name fit by cutting either part.
        cast("events.CfnRule", self.rule.node.default_child).override_logical_id("Rule")


def _misspell(instance_arn: str) -> str:
    """Return the ARN as contact events in AWS's own documentation spell it.

    >>> _misspell("arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012")
    'arn:aws::connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012'
    """
    return instance_arn.replace(":connect:", "::connect:", 1)


class CaptureFunction(PythonFunction):
    """The Lambda function between the queue and the stores, and the event source that feeds it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        storage: StorageStack,
        rate: RateShare,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            handler="capture.handler.handler",
            timeout=cdk.Duration.seconds(rate.timeout_seconds),
            statements=_statements(settings=settings, storage=storage),
            environment={
                "TABLE_NAME": storage.table.table_name,
                "BUCKET_NAME": storage.bucket.bucket_name,
                "QUEUE_URL": storage.queue.queue_url,
                "DEAD_LETTER_QUEUE_URL": storage.dead_letters.queue_url,
                "INSTANCE_ARNS": ",".join(settings.instance_arns),
                "COMPLETION_EVENT_TYPES": ",".join(settings.completion_event_types),
                "REFERENCE_TYPES": json.dumps(settings.reference_types, separators=(",", ":")),
                "AUDIT_SHARE": f"{settings.audit_share:g}",
                "REQUESTS_PER_SECOND": f"{rate.requests_per_second:g}",
                "RETENTION_DAYS": str(settings.retention_days),
                **({"ANNOUNCE": "true"} if settings.announce else {}),
            },
        )
        lambda_.EventSourceMapping(
            self,
            "Source",
            target=self.function,
            event_source_arn=storage.queue.queue_arn,
            batch_size=_BATCH_SIZE,
            max_batching_window=cdk.Duration.seconds(_BATCHING_WINDOW_SECONDS),
            max_concurrency=rate.concurrency,
            report_batch_item_failures=True,
        )


def _statements(*, settings: Settings, storage: StorageStack) -> list[iam.PolicyStatement]:
    statements = [
        allow(["connect:ListContactReferences"], *(f"{instance}/contact/*" for instance in instance_arns(settings))),
        allow(
            [
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ChangeMessageVisibility",
            ],
            storage.queue.queue_arn,
        ),
        allow(["sqs:SendMessage"], storage.dead_letters.queue_arn),
        allow(["s3:PutObject"], storage.bucket.arn_for_objects("captures/*")),
        allow(["kms:GenerateDataKey", "kms:Decrypt"], storage.key.key_arn, via="s3"),
        # A batch is an action of its own, for what it deletes too.
        allow(
            [
                "dynamodb:BatchGetItem",
                "dynamodb:Query",
                "dynamodb:BatchWriteItem",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
            ],
            storage.table.table_arn,
        ),
        allow_ledger_key(storage),
    ]
    if settings.announce:
        bus = f"arn:{cdk.Aws.PARTITION}:events:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:event-bus/default"
        statements.append(allow(["events:PutEvents"], bus))
    return statements
