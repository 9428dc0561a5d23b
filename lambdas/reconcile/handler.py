"""The reconcile function: accounts for every completed contact, or marks a period of the past to be searched."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from contact_references.aws.capture_queue import RequestQueue
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.search import ContactSearch, find_instances
from contact_references.aws.worklist import Worklist
from contact_references.model.contact import Instance
from contact_references.model.errors import CaptureError
from contact_references.model.periods import parse_backfill
from contact_references.reconcile.feeding import Feeder
from contact_references.reconcile.hours import Hours
from contact_references.reconcile.rechecks import Rechecks
from contact_references.reconcile.reconciler import Reconciler
from contact_references.reconcile.report import ReconcileReport
from contact_references.reconcile.settings import ReconcileSettings

_SEARCHES_PER_STEP = 7  # the pages of a span, and those that find it too large

logger = Logger()
metrics = Metrics()


class App(NamedTuple):
    """What an execution environment makes once: the parts of reconciling, wired."""

    find_instances: Callable[[], list[Instance]]
    hours: Hours
    reconciler: Reconciler
    search: ContactSearch
    queue: RequestQueue
    report: ReconcileReport
    settings: ReconcileSettings
    clock: Callable[[], datetime]


def wire(settings: ReconcileSettings, *, clock: Callable[[], datetime]) -> App:
    """Make the parts by the settings, with clients of the SDK's own session."""
    session = boto3.session.Session()
    # Every search is paid for from the bucket, so the SDK must not repeat one by itself.
    once = Config(connect_timeout=2, read_timeout=15, retries={"total_max_attempts": 1})
    patient = Config(connect_timeout=2, read_timeout=4, retries={"mode": "standard", "total_max_attempts": 3})
    dynamodb, listing = session.client("dynamodb", config=patient), session.client("connect", config=patient)

    def find() -> list[Instance]:
        return sorted(settings.instances or find_instances(listing), key=lambda instance: instance.arn)

    search = ContactSearch(session.client("connect", config=once), bucket=TokenBucket(settings.searches_per_second))
    ledger = Ledger(dynamodb, settings.table_name, retention=settings.retention, clock=clock)
    worklist = Worklist(dynamodb, settings.table_name, retention=settings.retention)
    report = ReconcileReport(logger, metrics)
    queue = RequestQueue(session.client("sqs", config=patient), settings.queue_url)
    feeder = Feeder(
        queue=queue,
        worklist=worklist,
        type_lists=settings.type_lists,
        requests_per_second=settings.requests_per_second,
        share=settings.backfill_share,
        clock=clock,
    )
    hours = Hours(
        search=search,
        ledger=ledger,
        worklist=worklist,
        feeder=feeder,
        report=report,
        retention=settings.retention,
        clock=clock,
    )
    reconciler = Reconciler(
        hours=hours,
        rechecks=Rechecks(ledger=ledger, worklist=worklist, feeder=feeder, report=report, clock=clock),
        worklist=worklist,
        feeder=feeder,
        report=report,
        seconds_per_step=_SEARCHES_PER_STEP / settings.searches_per_second,
        clock=clock,
    )
    return App(find, hours, reconciler, search, queue, report, settings, clock)


@cache
def _wire() -> App:
    return wire(ReconcileSettings.from_environment(os.environ), clock=lambda: datetime.now(UTC))


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: Any, context: LambdaContext, *, app: App | None = None) -> dict[str, Any]:
    """Work what is due, or mark a period of the past to be searched.

    `{}` is what the schedule sends; returns `{"outcome", "requested"}`, the number of capture requests, or as outcome
    that another run is at work. `{"from", "to", "instanceArn"?}` is a backfill: returns `{"hours"}`, their number, and
    the next runs work them. Raises InvalidPeriodError for anything else, and a CaptureError if something failed: what
    was done then is done.
    """
    app = app or _wire()
    sent, calls, throttled_calls = app.queue.sent, app.search.calls, app.search.throttled_calls
    try:
        instances = app.find_instances()
        if event != {}:
            now, retention = app.clock(), app.settings.retention
            backfill = parse_backfill(event, instances=instances, now=now, retention=retention)
            return {"hours": app.hours.mark(backfill)}
        has_run = app.reconciler.run(
            instances, holder=str(uuid4()), time_left=lambda: context.get_remaining_time_in_millis() / 1000
        )
    except CaptureError as error:
        app.report.ended(error)
        raise
    finally:
        app.report.publish(
            requests=app.queue.sent - sent,
            calls=app.search.calls - calls,
            throttled_calls=app.search.throttled_calls - throttled_calls,
        )
    outcome = "what was due is done, or queued" if has_run else "another run is at work"
    return {"outcome": outcome, "requested": app.queue.sent - sent}


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # During Lambda's init, where a wrong environment stops the first deployment.
    _wire()
