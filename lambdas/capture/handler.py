"""The capture function: takes completed contacts off the queue, or one event by hand, and captures them."""

import gc
import os
from functools import cache, partial
from typing import Any, NamedTuple

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from contact_references.aws.announcements import Announcer
from contact_references.aws.capture_queue import CaptureQueue, Message
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.capture.capturer import Capturer
from contact_references.capture.intake import Intake
from contact_references.capture.report import Report
from contact_references.capture.settings import CaptureSettings
from contact_references.model.contact import Instance, Scope

logger = Logger()
metrics = Metrics()


class App(NamedTuple):
    """What an execution environment makes once: the parts of a capture, wired."""

    intake: Intake
    bucket: TokenBucket
    reader: ReferenceReader
    report: Report
    instances: frozenset[Instance]


@cache
def _wire() -> App:
    settings = CaptureSettings.from_environment(os.environ)
    session = boto3.session.Session()
    # Every request to Connect is paid for from the bucket, so the SDK must not repeat one by itself. The
    # time-outs keep one hanging call from eating the time of the batch.
    # The SDK puts its own user agent together anew for each call, which is a sixth of a small contact's processor time.
    named = Config(user_agent="contact-references")
    once = named.merge(Config(connect_timeout=2, read_timeout=6, retries={"total_max_attempts": 1}))
    patient = named.merge(
        Config(connect_timeout=2, read_timeout=4, retries={"mode": "standard", "total_max_attempts": 2})
    )
    # The ledger makes its requests itself, of known types: to check each attribute of each row again is a fourth
    # of a large contact's processor time. Contacts' ids, which come from outside, are checked.
    unchecked = patient.merge(Config(parameter_validation=False))
    report = Report(logger, metrics, settings.type_lists)
    bucket = TokenBucket(settings.requests_per_second)
    reader = ReferenceReader(
        session.client("connect", config=once),
        type_lists=settings.type_lists,
        bucket=bucket,
        on_refused_type=report.refused_type,
    )
    capturer = Capturer(
        reader=reader,
        ledger=Ledger(session.client("dynamodb", config=unchecked), settings.table_name, retention=settings.retention),
        lake=Lake(session.client("s3", config=patient), settings.bucket_name),
        on_leftover=report.leftover,
        announcer=Announcer(session.client("events", config=patient)) if settings.announces else None,
        retention=settings.retention,
    )
    queue = CaptureQueue(
        session.client("sqs", config=patient),
        queue_url=settings.queue_url,
        dead_letter_queue_url=settings.dead_letter_queue_url,
    )
    intake = Intake(capturer=capturer, queue=queue, report=report, completion_types=settings.completion_types)
    return App(intake, bucket, reader, report, settings.instances)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: Any, context: LambdaContext, *, app: App | None = None) -> dict[str, Any]:
    """Capture what an SQS batch or one bare event reports.

    Of a batch, returns the messages that go back to the queue, `{"batchItemFailures": …}`. Of one contact event
    or capture request, returns what became of its contact, `{"contact_id", "outcome", "reference_count",
    "reason"}`, or raises a CaptureError. `app` is made from the environment if it is not given.
    """
    intake, bucket, reader, report, instances = app or _wire()
    _, _, _, region, account, *_ = context.invoked_function_arn.split(":")
    scope = Scope(region, account, instances)
    time_left = partial(_seconds_left, context)
    calls, throttled_calls = reader.calls, reader.throttled_calls
    bucket.wake()
    try:
        if isinstance(event, dict) and "Records" in event:
            messages = [Message.from_record(record) for record in event["Records"]]
            failed = intake.take_messages(messages, scope=scope, time_left=time_left)
            return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
        return dict(intake.take_event(event, scope=scope, time_left=time_left))
    finally:
        bucket.rest()
        report.api_calls(reader.calls - calls, reader.throttled_calls - throttled_calls)
        report.publish()


def _seconds_left(context: LambdaContext) -> float:
    return context.get_remaining_time_in_millis() / 1000


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # During Lambda's init, where the processor is fast and a wrong environment stops the first deployment.
    _wire()

gc.freeze()  # what is there now stays, and need not be looked through
gc.enable()
