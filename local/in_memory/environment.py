"""Execution environments of the functions, wired as their handlers do it, on services in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from io import StringIO
from types import SimpleNamespace
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger

from contact_references.aws.capture_queue import CaptureQueue, RequestQueue
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.aws.search import ContactSearch
from contact_references.aws.worklist import Worklist
from contact_references.capture.capturer import Capturer
from contact_references.capture.intake import Intake
from contact_references.capture.report import Report
from contact_references.model.reference_types import TypeLists
from contact_references.reconcile.feeding import Feeder
from contact_references.reconcile.hours import Hours
from contact_references.reconcile.rechecks import Rechecks
from contact_references.reconcile.reconciler import Reconciler
from contact_references.reconcile.report import ReconcileReport
from local.in_memory.connect import Connect
from local.in_memory.dynamodb import DynamoDB
from local.in_memory.s3 import S3
from local.in_memory.sqs import SQS
from local.in_memory.usage import Usage


@dataclass
class Services:
    """All that a capture calls, with one count of what it uses; nothing of a call is kept but its effect."""

    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self.connect = Connect(self.usage, keeps_calls=False)
        self.dynamodb = DynamoDB(self.usage, keeps_calls=False)
        self.s3 = S3(self.usage, keeps_objects=False)
        self.sqs = SQS(self.usage)

    def before_calls(self, act: Callable[[str, str], None]) -> None:
        """Tell of each call before it is done: the service and the operation."""
        for name in ("connect", "dynamodb", "s3", "sqs"):
            getattr(self, name).before_call = lambda operation, name=name: act(name, operation)


class Environment(NamedTuple):
    """What the function keeps from one invocation to the next."""

    bucket: TokenBucket
    reader: ReferenceReader
    ledger: Ledger
    capturer: Capturer
    intake: Intake
    report: Report


def start_environment(
    services: Services,
    *,
    type_lists: TypeLists,
    bucket: TokenBucket,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
    on_metric: Callable[[str], None] = lambda _: None,
) -> Environment:
    """Wire the parts; `clock` tells the time in UTC, `sleep` waits for what DynamoDB did not get to."""
    logger = Logger(service="in memory", level="CRITICAL", stream=StringIO())
    metrics: Any = SimpleNamespace(add_metric=lambda name, *_: on_metric(name))
    connect, dynamodb, s3, sqs = _as_clients(services)
    report = Report(logger, metrics, type_lists)
    reader = ReferenceReader(connect, type_lists=type_lists, bucket=bucket, on_refused_type=report.refused_type)
    ledger = Ledger(dynamodb, "ledger", clock=clock, sleep=sleep)
    capturer = Capturer(reader=reader, ledger=ledger, lake=Lake(s3, "lake"), on_leftover=report.leftover, clock=clock)
    intake = Intake(
        capturer=capturer,
        queue=CaptureQueue(sqs, queue_url="queue", dead_letter_queue_url="dead-letters"),
        report=report,
        completion_types=frozenset({"COMPLETED"}),
        clock=clock,
    )
    return Environment(bucket, reader, ledger, capturer, intake, report)


class ReconcileEnvironment(NamedTuple):
    """What the reconcile function keeps from one run to the next."""

    worklist: Worklist
    hours: Hours
    reconciler: Reconciler


def start_reconcile_environment(
    dynamodb: Any,
    search: Any,
    sqs: Any,
    report: ReconcileReport,
    *,
    type_lists: TypeLists,
    requests_per_second: float,
    share: float,
    bucket: TokenBucket,
    seconds_per_step: float,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> ReconcileEnvironment:
    """Wire the parts on services in their clients' places; `bucket` paces searches, `share` is `backfillShare`."""
    worklist = Worklist(dynamodb, "ledger")
    ledger = Ledger(dynamodb, "ledger", clock=clock, sleep=sleep)
    feeder = Feeder(
        queue=RequestQueue(sqs, "queue"),
        worklist=worklist,
        type_lists=type_lists,
        requests_per_second=requests_per_second,
        share=share,
        clock=clock,
    )
    hours = Hours(
        search=ContactSearch(search, bucket=bucket),
        ledger=ledger,
        worklist=worklist,
        feeder=feeder,
        report=report,
        retention=None,
        clock=clock,
    )
    reconciler = Reconciler(
        hours=hours,
        rechecks=Rechecks(ledger=ledger, worklist=worklist, feeder=feeder, report=report, clock=clock),
        worklist=worklist,
        feeder=feeder,
        report=report,
        seconds_per_step=seconds_per_step,
        clock=clock,
    )
    return ReconcileEnvironment(worklist, hours, reconciler)


def _as_clients(services: Services) -> tuple[Any, Any, Any, Any]:
    """Return the services as the clients whose places they take."""
    return services.connect, services.dynamodb, services.s3, services.sqs
