"""An execution environment of the capture function, wired as its handler does it, on clients in memory."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger

from benchmarks.stand_ins import Clients
from contact_references.aws.capture_queue import CaptureQueue
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.capture.capturer import Capturer
from contact_references.capture.intake import Intake
from contact_references.capture.report import Report
from contact_references.model.reference_types import TypeLists


class Environment(NamedTuple):
    """What the function keeps from one invocation to the next."""

    bucket: TokenBucket
    reader: ReferenceReader
    ledger: Ledger
    capturer: Capturer
    intake: Intake
    report: Report


def start_environment(
    clients: Clients,
    *,
    type_lists: TypeLists,
    bucket: TokenBucket,
    logger: Logger,
    metrics: Any,
    clock: Callable[[], datetime],
    sleep: Callable[[float], None],
) -> Environment:
    """Wire the parts; `clock` tells the time in UTC, `sleep` waits for what DynamoDB did not get to."""
    report = Report(logger, metrics, type_lists)
    reader = ReferenceReader(clients.connect, type_lists=type_lists, bucket=bucket, on_refused_type=report.refused_type)
    ledger = Ledger(clients.dynamodb, "ledger", clock=clock, sleep=sleep)
    capturer = Capturer(
        reader=reader, ledger=ledger, lake=Lake(clients.s3, "lake"), on_leftover=report.leftover, clock=clock
    )
    intake = Intake(
        capturer=capturer,
        queue=CaptureQueue(clients.sqs, queue_url="queue", dead_letter_queue_url="dead-letters"),
        report=report,
        completion_types=frozenset({"COMPLETED"}),
        clock=clock,
    )
    return Environment(bucket, reader, ledger, capturer, intake, report)
