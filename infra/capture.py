"""What captures: the rule, the queue with its dead letters, the function between the queue and the stores."""

import math
from typing import NamedTuple

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

_BATCH_SIZE = 25
_BATCHING_WINDOW_SECONDS = 10


class RateShare(NamedTuple):
    """How the requests a second that Connect allows us are divided among execution environments."""

    concurrency: int
    requests_per_second: float
    """Of one execution environment."""
    timeout_seconds: int
    """In which an execution environment gets through a full batch at that rate."""


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
    RateShare(concurrency=2, requests_per_second=0.5, timeout_seconds=400)
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

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: what captures them",
        )
        rate = share_rate(settings.connect_requests_per_second)
        self.queues = ContactQueue(self, "Queue", consumer_timeout_seconds=rate.timeout_seconds)
        CompletionRule(self, "Rule", settings=settings, queues=self.queues)
        capture = CaptureFunction(self, "Capture", settings=settings, storage=storage, queues=self.queues, rate=rate)
        cdk.CfnOutput(self, "QueueUrl", value=self.queues.queue.queue_url)
        cdk.CfnOutput(self, "DeadLetterQueueUrl", value=self.queues.dead_letters.queue_url)
        cdk.CfnOutput(self, "CaptureFunctionName", value=capture.function.function_name)


class ContactQueue(Construct):
    """Completed contacts waiting for their turn, and one queue for those that nobody can take."""

    def __init__(self, scope: Construct, construct_id: str, *, consumer_timeout_seconds: int) -> None:
        super().__init__(scope, construct_id)
        # SQS's own key: EventBridge can't use the account's AWS-managed one.
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
        )
        self.queue = sqs.Queue(
            self,
            "Contacts",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
            # What Lambda asks for: six times the function's timeout and the batching window.
            visibility_timeout=cdk.Duration.seconds(6 * consumer_timeout_seconds + _BATCHING_WINDOW_SECONDS),
            # The function hands a failed contact back for 7.5 to 15 minutes once its back-off has grown: 200
            # receives are 25 to 50 hours, twice a 12-hour outage, and well within the 14 days of retention.
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=200),
        )


class CompletionRule(Construct):
    """EventBridge's part: contact events that mean completion go to the queue."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, queues: ContactQueue) -> None:
        super().__init__(scope, construct_id)
        detail: dict[str, list[str]] = {"eventType": list(settings.completion_event_types)}
        if settings.instance_arns:
            detail["instanceArn"] = [spelling for arn in settings.instance_arns for spelling in (arn, _misspell(arn))]
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
                    queues.queue,
                    dead_letter_queue=queues.dead_letters,
                    max_event_age=cdk.Duration.hours(24),
                    retry_attempts=185,
                )
            ],
        )


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
        queues: ContactQueue,
        rate: RateShare,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            handler="capture.handler.handler",
            timeout=cdk.Duration.seconds(rate.timeout_seconds),
            statements=_statements(settings=settings, storage=storage, queues=queues),
            environment={
                "TABLE_NAME": storage.table.table_name,
                "BUCKET_NAME": storage.bucket.bucket_name,
                "QUEUE_URL": queues.queue.queue_url,
                "DEAD_LETTER_QUEUE_URL": queues.dead_letters.queue_url,
                "INSTANCE_ARNS": ",".join(settings.instance_arns),
                "COMPLETION_EVENT_TYPES": ",".join(settings.completion_event_types),
                "REFERENCE_TYPES": ",".join(settings.reference_types),
                "REQUESTS_PER_SECOND": f"{rate.requests_per_second:g}",
                "RETENTION_DAYS": str(settings.retention_days),
            },
        )
        lambda_.EventSourceMapping(
            self,
            "Source",
            target=self.function,
            event_source_arn=queues.queue.queue_arn,
            batch_size=_BATCH_SIZE,
            max_batching_window=cdk.Duration.seconds(_BATCHING_WINDOW_SECONDS),
            max_concurrency=rate.concurrency,
            report_batch_item_failures=True,
        )


def _statements(*, settings: Settings, storage: StorageStack, queues: ContactQueue) -> list[iam.PolicyStatement]:
    return [
        allow(["connect:ListContactReferences"], *(f"{instance}/contact/*" for instance in instance_arns(settings))),
        allow(
            [
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ChangeMessageVisibility",
            ],
            queues.queue.queue_arn,
        ),
        allow(["sqs:SendMessage"], queues.dead_letters.queue_arn),
        allow(["s3:PutObject"], storage.bucket.arn_for_objects("captures/*")),
        allow(["kms:GenerateDataKey", "kms:Decrypt"], storage.key.key_arn, via="s3"),
        # A transaction is authorized as the item actions in it.
        allow(
            [
                "dynamodb:BatchGetItem",
                "dynamodb:Query",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
                "dynamodb:DeleteItem",
                "dynamodb:ConditionCheckItem",
            ],
            storage.table.table_arn,
        ),
        allow_ledger_key(storage),
    ]
