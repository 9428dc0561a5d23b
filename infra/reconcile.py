"""What accounts for every completed contact: the function that works what is due, and the schedule that starts it."""

import json

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from constructs import Construct

from infra.function import PythonFunction, allow, allow_ledger_key, instance_arns
from infra.settings import Settings
from infra.storage import StorageStack

_SPARE_SECONDS = 5


class ReconcileStack(cdk.Stack):
    """The stack that can be thrown away and deployed again: what finds missing contacts, and queues them."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: what accounts for every contact",
        )
        self.function = ReconcileFunction(self, "Reconcile", settings=settings, storage=storage).function
        Schedule(self, "Schedule", settings=settings, function=self.function)
        cdk.CfnOutput(self, "ReconcileFunctionName", value=self.function.function_name)


class ReconcileFunction(PythonFunction):
    """The Lambda function that searches Connect, asks the ledger, and puts capture requests on the queue."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            handler="reconcile.handler.handler",
            # A run holds its lease for as long at most, so the lease ends before the next run is due.
            timeout=cdk.Duration.seconds(60 * settings.reconcile_every_minutes - _SPARE_SECONDS),
            statements=_statements(settings=settings, storage=storage),
            environment={
                "TABLE_NAME": storage.table.table_name,
                "QUEUE_URL": storage.queue.queue_url,
                "INSTANCE_ARNS": ",".join(settings.instance_arns),
                "REFERENCE_TYPES": json.dumps(settings.reference_types, separators=(",", ":")),
                "AUDIT_SHARE": f"{settings.audit_share:g}",
                "CONNECT_REQUESTS_PER_SECOND": f"{settings.connect_requests_per_second:g}",
                "SEARCH_REQUESTS_PER_SECOND": f"{settings.search_requests_per_second:g}",
                "BACKFILL_SHARE": f"{settings.backfill_share:g}",
                "RETENTION_DAYS": str(settings.retention_days),
            },
        )
        # What a run that failed, or could not be started, leaves due, the next one sees.
        self.function.configure_async_invoke(retry_attempts=0, max_event_age=cdk.Duration.minutes(1))


class Schedule(Construct):
    """EventBridge Scheduler's part: what is due is worked again and again."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, function: lambda_.IFunction) -> None:
        super().__init__(scope, construct_id)
        scheduler.Schedule(
            self,
            "Due",
            description="Account for completed contacts",
            schedule=scheduler.ScheduleExpression.rate(cdk.Duration.minutes(settings.reconcile_every_minutes)),
            target=targets.LambdaInvoke(
                function,
                input=scheduler.ScheduleTargetInput.from_object({}),
                # A late run is of no use: the next one has its work.
                retry_attempts=0,
                max_event_age=cdk.Duration.minutes(1),
            ),
        )


def _statements(*, settings: Settings, storage: StorageStack) -> list[iam.PolicyStatement]:
    instances = instance_arns(settings)
    statements = [
        # A search asks for the right to describe what it finds.
        allow(["connect:SearchContacts"], *instances),
        allow(["connect:DescribeContact"], *(f"{instance}/contact/*" for instance in instances)),
        allow(
            ["dynamodb:BatchGetItem", "dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
            storage.table.table_arn,
        ),
        allow(["dynamodb:Query"], f"{storage.table.table_arn}/index/by_due"),
        allow_ledger_key(storage),
        allow(["sqs:SendMessage", "sqs:GetQueueAttributes"], storage.queue.queue_arn),
    ]
    if not settings.instance_arns:
        # Neither can be granted on less; Connect keeps its instances as directories.
        statements.append(allow(["connect:ListInstances", "ds:DescribeDirectories"], "*"))
    return statements
