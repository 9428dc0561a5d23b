"""Who is told of what: the alarms, the topic they go to, and the dashboard.

One cause must not wake a person five times. So alarms on causes come within minutes, those on what they lead to (a
contact, an hour or a day of tables that waits too long) after one to three hours, which is when nobody acted or no
cause was seen. Which waits for which stands in docs/runbook.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.function import SERVICE
from infra.settings import Settings
from infra.storage import StorageStack

RUNBOOK = "docs/runbook.md"

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_BREACHING = cloudwatch.TreatMissingData.BREACHING
_NOT_BREACHING = cloudwatch.TreatMissingData.NOT_BREACHING
_IGNORE = cloudwatch.TreatMissingData.IGNORE
_IS_ABOVE = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
_IS_BELOW = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD


class Functions(NamedTuple):
    """The functions that are watched."""

    capture: lambda_.Function
    reconcile: lambda_.Function
    tables: lambda_.Function
    lookup: lambda_.Function


class Urgency(StrEnum):
    """When a person has to act on an alarm."""

    NOW = "now"
    """A cause that grows: at night too."""
    OVERDUE = "overdue"
    """What a cause leads to: nobody acted on it in time, or no alarm saw it."""
    ALONE = "alone"
    """At once too. It may be on for days, or is about callers, not contacts: so none hides another."""
    SOON = "soon"
    """In working hours: nothing gets worse until then."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """An alarm, which is on when the metric was above `above` in `periods` of the latest `of` periods.

    Without `of` they are as many as `periods`. With `above` None it is on only where data is missing. `heading` is the
    one of the runbook that says what to do; `missing` is what a period without data counts as.
    """

    name: str
    heading: str
    meaning: str
    metric: cloudwatch.Metric
    above: float | None = 0
    periods: int = 1
    of: int | None = None
    missing: cloudwatch.TreatMissingData
    urgency: Urgency

    @property
    def description(self) -> str:
        """What is read in the message: what it means, and where it stands what to do."""
        return f"{self.meaning} What to do: {RUNBOOK}#{self.heading.lower().replace(' ', '-')}"


def list_watches(
    *, settings: Settings, storage: StorageStack, functions: Functions, rule: events.IRule
) -> Iterator[Watch]:
    """Yield each alarm there is: what a person must act on, first what causes, last what it leads to."""
    now, overdue, alone, soon = Urgency.NOW, Urgency.OVERDUE, Urgency.ALONE, Urgency.SOON
    yield Watch(
        name="WrongDeployment",
        heading="Access denied or wrong configuration",
        meaning="A call was refused because the deployment is wrong; the contacts wait on the queue.",
        # An hourly run and what comes until it ends: a shorter time would be over, and begin again, between two tries.
        metric=_ours("ConfigurationErrors", "Sum", 75 * _MINUTE),
        missing=_NOT_BREACHING,  # zeros are not written
        urgency=now,
    )
    yield Watch(
        name="DeadLetters",
        heading="Dead letters",
        meaning="Messages cannot be processed as things are; their contacts are not captured.",
        metric=_queue("ApproximateNumberOfMessagesVisible", storage.dead_letters.queue_name),
        # SQS stops reporting on a queue that nobody used for six hours, whatever is in it: as it was, so it is.
        missing=_IGNORE,
        urgency=alone,
    )
    for name, metric_name, meaning in (
        ("EventsNotDelivered", "FailedInvocations", "EventBridge gave up delivering events to the queue."),
        ("EventsLost", "InvocationsFailedToBeSentToDlq", "EventBridge could not even make dead letters of events."),
    ):
        yield Watch(
            name=name,
            heading="Events not delivered",
            meaning=meaning,
            metric=_aws("Events", metric_name, "Sum", 5 * _MINUTE, RuleName=rule.rule_name),
            missing=_NOT_BREACHING,  # EventBridge writes no zeros
            urgency=now,
        )
    yield from _watch_functions(settings, functions)
    every = settings.reconcile_every_minutes * _MINUTE
    yield Watch(
        name="ReconcileNotRunning",
        heading="Reconcile has not run",
        meaning="Reconciling has not run three times on end; nobody looks for contacts that are missing.",
        # Each run that ends writes its calls, zeros too, so there is data or it did not run.
        metric=_ours("SearchCalls", "SampleCount", max(5 * _MINUTE, every)),
        above=None,
        periods=3,
        missing=_BREACHING,  # this is what it is about
        urgency=now,
    )
    yield Watch(
        name="OldestMessage",
        heading="Oldest message older than an hour",
        meaning="A contact has waited on the queue for more than an hour.",
        metric=_queue("ApproximateAgeOfOldestMessage", storage.queue.queue_name),
        above=_HOUR,
        missing=_NOT_BREACHING,  # an empty queue has no oldest message, and after six hours no data
        urgency=overdue,
    )
    yield Watch(
        name="CaptureKeepsFailing",
        heading="Contacts fail again and again",
        meaning="For an hour contacts have gone back to the queue: Connect, a store or the network fails.",
        # The oldest message says nothing of them: SQS leaves out what was received three times.
        # One contact that fails by itself is tried three times at most in 20 minutes; many fail together.
        metric=_ours("ContactsFailed", "Sum", 20 * _MINUTE),
        above=10,
        periods=3,
        missing=_NOT_BREACHING,  # zeros are not written
        urgency=overdue,
    )
    yield Watch(
        name="EventsMissing",
        heading="Events not delivered",
        meaning="In each of six hours contacts were found by searching whose events never came.",
        # What is found is captured within the hour, so no least value tells of it; an event lost now and then does not
        # last for six hours.
        metric=_ours("ContactsMissing", "Maximum", _HOUR),
        periods=6,
        missing=_IGNORE,  # as below
        urgency=overdue,
    )
    for name, dimensions in _instances(settings).items():
        yield Watch(
            name=name,
            heading="Contacts missing for two hours",
            meaning="Contacts that Connect knows have been missing from the ledger for two hours on end.",
            # What an event did not tell of is asked for, and looked up after half an hour: so the least value of each
            # half-hour is 0 as long as all goes well.
            metric=_ours("ContactsMissing", "Minimum", 30 * _MINUTE, **dimensions),
            periods=4,
            missing=_IGNORE,  # without a run nobody knows: as it was; that it did not run has its own alarm
            urgency=overdue,
        )
    yield Watch(
        name="TablesBehind",
        heading="Tables three hours behind",
        meaning="For three hours Athena has not seen contacts that are captured, or the tables function did not run.",
        # A day behind by more than an hour, three hourly runs on end, is behind by more than three hours.
        metric=_ours("SecondsBehind", "Maximum", _HOUR),
        above=_HOUR,
        periods=3,
        missing=_BREACHING,  # each run writes it, zeros too, so without data none ended well
        urgency=overdue,
    )
    for name, heading, meaning in (
        ("HoursGivenUp", "Given up", "An hour was closed with contacts missing, a week after they were asked for."),
        ("RechecksGivenUp", "Given up", "Contacts that were to be read again were not for a week."),
        ("RefusedTypes", "Refused or unlisted types", "Connect refuses a reference type; it is not captured."),
        ("UnlistedReferences", "Refused or unlisted types", "A channel has references of types not asked for."),
        ("UnknownReferences", "Unknown references", "References are of a type newer than the SDK; kept as `raw`."),
    ):
        yield Watch(
            name=name,
            heading=heading,
            meaning=meaning,
            metric=_ours(name, "Sum", _DAY),  # a day: so that it tells once a day at most
            missing=_NOT_BREACHING,  # zeros are not written
            urgency=soon,
        )


def _watch_functions(settings: Settings, functions: Functions) -> Iterator[Watch]:
    # Once is bad luck, which a retry or the next run mends. A failed batch is delivered again after 12 minutes, so
    # twice in 20 minutes is no luck; the scheduled functions are watched run by run. A flow's question is not asked
    # again, and at night there are few: twice in an hour.
    every = max(5 * _MINUTE, settings.reconcile_every_minutes * _MINUTE)
    for name, function, heading, period, of in (
        ("Capture", functions.capture, "Capture fails", 5 * _MINUTE, 4),
        ("Reconcile", functions.reconcile, "Reconcile fails", every, 3),
        ("Tables", functions.tables, "Tables fail", _HOUR, 2),
        ("Lookup", functions.lookup, "Lookup fails", 5 * _MINUTE, 12),
    ):
        aws = partial(_aws, "Lambda", statistic="Sum", seconds=period, FunctionName=function.function_name)
        # Lambda writes zeros with each invocation, and nothing without any: that is no failure of the function.
        urgency = Urgency.ALONE if name == "Lookup" else Urgency.NOW
        watch = partial(Watch, periods=2, of=of, missing=_NOT_BREACHING, urgency=urgency)
        yield watch(
            name=f"{name}Errors",
            heading=heading,
            meaning=f"Invocations of the {name.lower()} function fail: a defect, a timeout, or a run that failed.",
            metric=aws(metric_name="Errors"),
        )
        yield watch(
            name=f"{name}Throttles",
            heading="Function throttled",
            meaning=f"Lambda refuses to run the {name.lower()} function: the account's concurrency is used up.",
            metric=aws(metric_name="Throttles"),
        )


def _instances(settings: Settings) -> dict[str, dict[str, str]]:
    """Return alarm to dimension: one for each instance that is named, or one over all that there will be."""
    if not settings.instance_arns:
        return {"ContactsMissing": {}}
    ids = [arn.rpartition("/")[2] for arn in settings.instance_arns]
    return {f"ContactsMissing{number}": {"instance_id": instance} for number, instance in enumerate(ids)}


class MonitoringStack(cdk.Stack):
    """The stack that can be thrown away and deployed again: alarms, their topic, the dashboard.

    Where nobody is named in `alarmEmail`, each alarm tells the topic, and who subscribes to it. Where somebody is, that
    person is to be told once of a cause: alarms of urgency NOW and OVERDUE are silent, and ActNowStack speaks for them.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        storage: StorageStack,
        functions: Functions,
        rule: events.IRule,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: alarms and dashboard",
        )
        self.topic = AlarmTopic(self, "Topic", settings=settings).topic
        watches = list(list_watches(settings=settings, storage=storage, functions=functions, rule=rule))
        self.alarms = {watch: self._add(watch, settings) for watch in watches}
        dashboard = Dashboard(
            self, "Overview", settings=settings, storage=storage, functions=functions, alarms=self.alarms.values()
        ).dashboard
        cdk.CfnOutput(self, "AlarmTopicArn", value=self.topic.topic_arn)
        page = f"https://{cdk.Aws.REGION}.console.aws.amazon.com/cloudwatch/home?region={cdk.Aws.REGION}"
        cdk.CfnOutput(self, "DashboardUrl", value=f"{page}#dashboards/dashboard/{dashboard.dashboard_name}")

    def _add(self, watch: Watch, settings: Settings) -> cloudwatch.Alarm:
        alarm = watch.metric.create_alarm(
            self,
            watch.name,
            alarm_description=watch.description,
            comparison_operator=_IS_BELOW if watch.above is None else _IS_ABOVE,
            threshold=1 if watch.above is None else watch.above,
            evaluation_periods=watch.of or watch.periods,
            datapoints_to_alarm=watch.periods,
            treat_missing_data=watch.missing,
            actions_enabled=watch.urgency in (Urgency.ALONE, Urgency.SOON) or not settings.alarm_email,
        )
        tell = actions.SnsAction(self.topic)
        alarm.add_alarm_action(tell)
        if watch.urgency is not Urgency.SOON:
            alarm.add_ok_action(tell)
        return alarm


class AlarmTopic(Construct):
    """The topic that alarms tell. It has no key, so that they are heard when the key is what failed."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings) -> None:
        super().__init__(scope, construct_id)
        self.topic = sns.Topic(self, "Alarms", enforce_ssl=True)
        cdk.Validations.of(self.topic).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-SNS2",
                reason="Messages name alarms and counts, nothing of contacts; a key that fails must not silence them",
            )
        )
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
            )
        )
        if settings.alarm_email:
            self.topic.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))


class ActNowStack(cdk.Stack):
    """What tells the person in `alarmEmail`: one message when the first cause is there, one when all are gone.

    And the same for what is overdue. While one alarm of a group is on, another one of it is not told of.
    """

    def __init__(self, scope: Construct, construct_id: str, *, monitoring: MonitoringStack) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: who is called, and once",
        )
        for name, heading, urgency, meaning in (
            ("ActNow", "Act now", Urgency.NOW, "Something fails that a person has to mend."),
            ("Overdue", "Overdue", Urgency.OVERDUE, "Contacts or tables have waited too long."),
        ):
            alarms = [alarm for watch, alarm in monitoring.alarms.items() if watch.urgency is urgency]
            are_on = [cloudwatch.AlarmRule.from_alarm(alarm, cloudwatch.AlarmState.ALARM) for alarm in alarms]
            composite = cloudwatch.CompositeAlarm(
                self,
                name,
                alarm_description=f"{meaning} What to do: {RUNBOOK}#{heading.lower().replace(' ', '-')}",
                alarm_rule=cloudwatch.AlarmRule.any_of(*are_on),
            )
            tell = actions.SnsAction(monitoring.topic)
            composite.add_alarm_action(tell)
            composite.add_ok_action(tell)


class Dashboard(Construct):
    """A page in two parts: what the business asks, and what the operator does."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        storage: StorageStack,
        functions: Functions,
        alarms: Iterable[cloudwatch.Alarm],
    ) -> None:
        super().__init__(scope, construct_id)
        self.dashboard = cloudwatch.Dashboard(self, "Dashboard", default_interval=cdk.Duration.days(1))
        states = cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(alarms), width=24, height=4)
        self.dashboard.add_widgets(states)
        self.dashboard.add_widgets(_title("What the business asks"))
        self.dashboard.add_widgets(*_business_widgets(settings, functions))
        self.dashboard.add_widgets(_title("What the operator asks"))
        first, second = _operator_widgets(settings, storage, functions)
        self.dashboard.add_widgets(*first)
        self.dashboard.add_widgets(*second)


def _business_widgets(settings: Settings, functions: Functions) -> list[cloudwatch.IWidget]:
    took = partial(_ours, "SecondsToCapture", seconds=15 * _MINUTE)
    # No metric a type: the function's own log has the numbers, and a query of it is paid only when somebody looks.
    sums = ", ".join(f"sum(references_by_type.{each}) as {each}" for each in sorted(_types(settings)))
    return [
        _graph(
            "Contacts captured, an hour",
            [_labelled("captured", _ours("ContactsCaptured", "Sum", _HOUR))],
        ),
        cloudwatch.LogQueryWidget(
            title="References by type, an hour",
            log_group_names=[functions.capture.log_group.log_group_name],
            view=cloudwatch.LogQueryVisualizationType.STACKEDAREA,
            query_lines=["filter @message like /references_by_type/", f"stats {sums} by bin(1h)"],
            width=6,
            height=6,
        ),
        _graph(
            "Contacts missing",
            [_labelled("missing", _ours("ContactsMissing", "Maximum", 15 * _MINUTE))],
        ),
        _graph(
            "From completion to capture, seconds",
            [_labelled("half are faster", took("p50")), _labelled("99 of 100 are faster", took("p99"))],
        ),
    ]


def _operator_widgets(
    settings: Settings, storage: StorageStack, functions: Functions
) -> tuple[list[cloudwatch.GraphWidget], list[cloudwatch.GraphWidget]]:
    queue, dead_letters = storage.queue.queue_name, storage.dead_letters.queue_name
    rate = settings.connect_requests_per_second

    def of_functions(metric: str, statistic: str) -> list[cloudwatch.IMetric]:
        return [
            _labelled(name, _aws("Lambda", metric, statistic, 5 * _MINUTE, FunctionName=function.function_name))
            for name, function in functions._asdict().items()
        ]

    def units(label: str, kind: str, **index: str) -> cloudwatch.IMetric:
        name, table = f"Consumed{kind}CapacityUnits", storage.table.table_name
        return _labelled(label, _aws("DynamoDB", name, "Sum", _HOUR, TableName=table, **index))

    first = [
        _graph(
            "Queue: messages, and age of the oldest",
            [_labelled("messages", _queue("ApproximateNumberOfMessagesVisible", queue))],
            right=[_labelled("age, s", _queue("ApproximateAgeOfOldestMessage", queue))],
        ),
        _graph(
            "Calls of Connect a minute, and their quota",
            [_labelled("calls", _ours("ApiCalls", "Sum", _MINUTE))],
            line=(60 * rate, f"our share of the quota: {rate:g} a second"),
        ),
        _graph(
            "Throttled",
            [
                _labelled("Connect: references", _ours("ThrottledApiCalls", "Sum", 5 * _MINUTE)),
                _labelled("Connect: search", _ours("ThrottledSearchCalls", "Sum", 5 * _MINUTE)),
                *of_functions("Throttles", "Sum"),
            ],
        ),
        _graph(
            "Errors",
            [
                _labelled("wrong deployment", _ours("ConfigurationErrors", "Sum", 5 * _MINUTE)),
                *of_functions("Errors", "Sum"),
            ],
        ),
    ]
    second = [
        _graph("Slowest invocations, ms", of_functions("Duration", "Maximum")),
        _graph(
            "Dead letters (nothing drawn: nobody asked for six hours)",
            [_labelled("dead letters", _queue("ApproximateNumberOfMessagesVisible", dead_letters))],
        ),
        _graph(
            "Tables behind the lake, seconds",
            [_labelled("behind", _ours("SecondsBehind", "Maximum", _HOUR))],
            line=(3 * _HOUR, "three hours"),
        ),
        _graph(
            "What costs: units and ms an hour",
            [
                units("writes", "Write"),
                units("writes, by value", "Write", GlobalSecondaryIndexName="by_value"),
                units("writes, by due", "Write", GlobalSecondaryIndexName="by_due"),
                units("reads", "Read"),
            ],
            right=[
                _labelled(
                    "capture, ms",
                    _aws("Lambda", "Duration", "Sum", _HOUR, FunctionName=functions.capture.function_name),
                )
            ],
        ),
    ]
    return first, second


def _types(settings: Settings) -> set[str]:
    return {each for types in settings.reference_types.values() for each in types} | {"UNKNOWN"}


def _title(text: str) -> cloudwatch.TextWidget:
    return cloudwatch.TextWidget(markdown=f"## {text}", width=24, height=1)


def _graph(
    title: str,
    left: Sequence[cloudwatch.IMetric],
    *,
    right: Sequence[cloudwatch.IMetric] = (),
    line: tuple[float, str] | None = None,
) -> cloudwatch.GraphWidget:
    lines = [cloudwatch.HorizontalAnnotation(value=line[0], label=line[1], color="#d62728")] if line else []
    from_zero = cloudwatch.YAxisProps(min=0, show_units=False)
    return cloudwatch.GraphWidget(
        title=title,
        left=list(left),
        right=list(right),
        left_annotations=lines,
        left_y_axis=from_zero,
        right_y_axis=from_zero if right else None,
        width=6,
        height=6,
    )


def _labelled(label: str, metric: cloudwatch.Metric) -> cloudwatch.Metric:
    return metric.with_(label=label)


def _ours(name: str, statistic: str, seconds: int, **dimensions: str) -> cloudwatch.Metric:
    """Return a metric that the functions write; docs/operations.md lists them."""
    return cloudwatch.Metric(
        namespace="ContactReferences",
        metric_name=name,
        dimensions_map={"service": SERVICE, **dimensions},
        statistic=statistic,
        period=cdk.Duration.seconds(seconds),
    )


def _aws(service: str, metric_name: str, statistic: str, seconds: int, **dimensions: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=f"AWS/{service}",
        metric_name=metric_name,
        dimensions_map=dimensions,
        statistic=statistic,
        period=cdk.Duration.seconds(seconds),
    )


def _queue(name: str, queue: str) -> cloudwatch.Metric:
    return _aws("SQS", name, "Maximum", 5 * _MINUTE, QueueName=queue)
