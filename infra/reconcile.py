"""What accounts for every contact: the function that compares Connect with the ledger, its schedule, the backfill."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from infra.capture import ContactQueue
from infra.function import PythonFunction, allow, allow_ledger_key, instance_arns, make_log_group
from infra.settings import Settings
from infra.storage import StorageStack

_FUNCTION_TIMEOUT = cdk.Duration.minutes(15)


class ReconcileStack(cdk.Stack):
    """The stack that can be thrown away: what finds contacts that no good capture covers, and queues them."""

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack, queues: ContactQueue
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: what finds those not captured",
        )
        reconcile = ReconcileFunction(self, "Reconcile", settings=settings, storage=storage, queues=queues)
        Schedule(self, "Schedule", settings=settings, function=reconcile.function)
        backfill = Backfill(self, "Backfill", settings=settings, function=reconcile.function)
        cdk.CfnOutput(self, "ReconcileFunctionName", value=reconcile.function.function_name)
        cdk.CfnOutput(self, "BackfillStateMachineArn", value=backfill.state_machine.state_machine_arn)


class ReconcileFunction(PythonFunction):
    """The Lambda function that searches Connect, asks the ledger and feeds the queue of captures."""

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack, queues: ContactQueue
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            handler="reconcile.handler.handler",
            timeout=_FUNCTION_TIMEOUT,
            retry_attempts=0,  # the schedule's next run sees the same contacts
            statements=_statements(settings=settings, storage=storage, queues=queues),
            environment={
                "TABLE_NAME": storage.table.table_name,
                "QUEUE_URL": queues.queue.queue_url,
                "INSTANCE_ARNS": ",".join(settings.instance_arns),
                "REFERENCE_TYPES": ",".join(settings.reference_types),
                "CONNECT_REQUESTS_PER_SECOND": f"{settings.connect_requests_per_second:g}",
                "BACKFILL_SHARE": f"{settings.backfill_share:g}",
                "RECONCILE_WINDOW_HOURS": str(settings.reconcile_window_hours),
                "RETENTION_DAYS": str(settings.retention_days),
            },
        )


class Schedule(Construct):
    """EventBridge Scheduler's part: the recent past is looked at again and again."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, function: lambda_.IFunction) -> None:
        super().__init__(scope, construct_id)
        scheduler.Schedule(
            self,
            "Recent",
            description="Reconcile the recent past",
            schedule=scheduler.ScheduleExpression.rate(cdk.Duration.minutes(settings.reconcile_every_minutes)),
            target=targets.LambdaInvoke(
                function,
                input=scheduler.ScheduleTargetInput.from_object({}),
                # A late run is of no use: the next one has its work.
                retry_attempts=0,
                max_event_age=cdk.Duration.minutes(1),
            ),
        )


class Backfill(Construct):
    """The state machine that walks a past period, newest first, a day at most at a time.

    Started with `{"from", "to", "instanceArn"?}`. It fails at once if that is no period to walk. One that failed
    later can be redriven: it goes on with the windows that are not done.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, function: lambda_.IFunction) -> None:
        super().__init__(scope, construct_id)
        windows = sfn.DistributedMap(
            self,
            "Windows",
            comment=(
                "One window after the other, each an execution of its own: an execution's history holds 25,000 "
                "events, which months of searching and waiting exceed and a window does not"
            ),
            items_path="$.windows",
            # Beside the answer and apart from it: each search gets the window as the plan made it.
            item_selector={"window": sfn.JsonPath.object_at("$$.Map.Item.Value")},
            max_concurrency=1,
        )
        windows.item_processor(self._search_window(function))
        self.state_machine = sfn.StateMachine(
            self,
            "StateMachine",
            comment="Find the contacts of a past period that no good capture covers, and queue them",
            definition_body=sfn.DefinitionBody.from_chainable(self._plan(function).next(windows)),
            # What it logs is the course of executions: its data is left out.
            logs=sfn.LogOptions(
                destination=make_log_group(self, settings=settings),
                level=sfn.LogLevel.ALL,
                include_execution_data=False,
            ),
            tracing_enabled=True,
        )

    def _plan(self, function: lambda_.IFunction) -> sfn.TaskStateBase:
        # Only what may pass by itself is tried again: a period that can't be walked, a person's mistake, fails at once.
        return self._invoke(
            "Plan",
            function,
            comment="Check the period and divide it into windows, newest first",
            payload={"plan": sfn.JsonPath.execution_input, "backfill": sfn.JsonPath.execution_name},
        ).add_retry(
            errors=[
                "Lambda.ClientExecutionTimeoutException",
                "Lambda.ServiceException",
                "Lambda.AWSLambdaException",
                "Lambda.SdkClientException",
                "Lambda.TooManyRequestsException",
                "Lambda.Unknown",
                "Sandbox.Timedout",
                "Runtime.ExitError",
                "States.Timeout",
                "RetriableError",
                "ConfigurationError",
            ],
            interval=cdk.Duration.seconds(5),
            backoff_rate=2,
            max_attempts=6,
            jitter_strategy=sfn.JitterType.FULL,
        )

    def _search_window(self, function: lambda_.IFunction) -> sfn.IChainable:
        # All errors: whatever it is, a fix may come while this waits, for some four hours on average. After that, a
        # redrive goes on from here.
        search = self._invoke(
            "Search",
            function,
            comment="Search on from where the last invocation for this window ended, and queue what is missing",
            input_path="$.window",
            result_path="$.answer",
        ).add_retry(
            errors=["States.ALL"],
            interval=cdk.Duration.seconds(5),
            backoff_rate=2,
            max_delay=cdk.Duration.minutes(5),
            max_attempts=100,
            jitter_strategy=sfn.JitterType.FULL,
        )
        wait = sfn.Wait(
            self,
            "Wait",
            comment="As long as the function says: until live contacts leave room for more, or the searcher is free",
            time=sfn.WaitTime.seconds_path("$.answer.wait_seconds"),
        )
        # The results of all windows, up to two years of them, share the 256 KiB of one state's output.
        done = sfn.Succeed(self, "Done", comment="The window's counts", output_path="$.answer")
        return search.next(
            sfn.Choice(self, "Is done")
            .when(sfn.Condition.boolean_equals("$.answer.done", True), done)
            .otherwise(wait.next(search))
        )

    def _invoke(
        self,
        name: str,
        function: lambda_.IFunction,
        *,
        comment: str,
        payload: dict[str, str] | None = None,
        input_path: str | None = None,
        result_path: str | None = None,
    ) -> tasks.LambdaInvoke:
        return tasks.LambdaInvoke(
            self,
            name,
            comment=comment,
            lambda_function=function,
            payload=sfn.TaskInput.from_object(payload) if payload else None,
            payload_response_only=True,
            input_path=input_path,
            result_path=result_path,
            retry_on_service_exceptions=False,
            # Beyond the function's own: for an answer that never comes.
            task_timeout=sfn.Timeout.duration(_FUNCTION_TIMEOUT.plus(cdk.Duration.minutes(1))),
        )


def _statements(*, settings: Settings, storage: StorageStack, queues: ContactQueue) -> list[iam.PolicyStatement]:
    instances = instance_arns(settings)
    statements = [
        # A search asks for the right to describe what it finds.
        allow(["connect:SearchContacts"], *instances),
        allow(["connect:DescribeContact"], *(f"{instance}/contact/*" for instance in instances)),
        allow(["dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], storage.table.table_arn),
        allow(["dynamodb:Query"], f"{storage.table.table_arn}/index/by_due"),
        allow_ledger_key(storage),
        allow(["sqs:SendMessage", "sqs:GetQueueAttributes"], queues.queue.queue_arn),
    ]
    if not settings.instance_arns:
        # Neither can be granted on less; Connect keeps its instances as directories.
        statements.append(allow(["connect:ListInstances", "ds:DescribeDirectories"], "*"))
    return statements
