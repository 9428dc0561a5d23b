"""The reconcile function: accounts for the completed contacts of the last hours, or of a period of the past."""

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

from contact_references.backfill import Backfill, summarize
from contact_references.connect import group_types
from contact_references.contact import Instance
from contact_references.feeding import Feeder
from contact_references.journal import Journal
from contact_references.ledger import Ledger
from contact_references.pacing import TokenBucket
from contact_references.periods import InvalidPeriodError
from contact_references.reconcile import Reconciler
from contact_references.reconcile_report import ReconcileReport
from contact_references.search import ContactSearch, find_instances
from contact_references.settings import ReconcileSettings

_SEARCHES_PER_SECOND = 0.5  # the quota of SearchContacts, for the whole account and Region

logger = Logger()
metrics = Metrics()


class _Wiring(NamedTuple):
    find_instances: Callable[[], list[Instance]]
    search: ContactSearch
    feeder: Feeder
    reconciler: Reconciler
    journal: Journal
    report: ReconcileReport
    settings: ReconcileSettings


@cache
def _wire() -> _Wiring:
    settings = ReconcileSettings.from_environment(os.environ)
    session = boto3.session.Session()
    # Every search is paid for from the bucket, so the SDK must not repeat one by itself.
    once = Config(connect_timeout=2, read_timeout=15, retries={"total_max_attempts": 1})
    patient = Config(connect_timeout=2, read_timeout=4, retries={"mode": "standard", "total_max_attempts": 3})
    dynamodb = session.client("dynamodb", config=patient)
    listing = session.client("connect", config=patient)

    def find() -> list[Instance]:
        return sorted(settings.instances or find_instances(listing), key=lambda instance: instance.instance_id)

    search = ContactSearch(session.client("connect", config=once), bucket=TokenBucket(_SEARCHES_PER_SECOND))
    journal = Journal(dynamodb, settings.table_name, clock=_now)
    report = ReconcileReport(logger, metrics)
    feeder = Feeder(
        session.client("sqs", config=patient),
        settings.queue_url,
        requests_per_second=settings.requests_per_second,
        calls_a_contact=len(group_types(settings.reference_types)),
        share=settings.backfill_share,
    )
    reconciler = Reconciler(
        search=search,
        ledger=Ledger(dynamodb, settings.table_name),
        journal=journal,
        feeder=feeder,
        holder=str(uuid4()),
        retention=settings.retention,
        report_hour=report.hour,
        clock=_now,
    )
    return _Wiring(find, search, feeder, reconciler, journal, report, settings)


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Find completed contacts that no good capture covers, and put them on the capture queue.

    `{}` is the last hours and the looks that are due, `{"from", "to", "instanceArn"?}` a period; both wait for room
    in the queue until the work is done or the time is over. A backfill asks for `{"plan": period, "backfill": name}`,
    then again and again for each of the windows in the answer, which do not wait.

    Returns `{"done", "wait_seconds", "seen", "already_there", "queued", …}`. Raises InvalidPeriodError at once for a
    period that can't be reconciled, and a CaptureError for what may succeed later; what was done then is done.
    """
    find, search, feeder, reconciler, journal, report, settings = _wire()
    sent, calls, throttled_calls = feeder.sent, search.calls, search.throttled_calls

    def time_left() -> float:
        return context.get_remaining_time_in_millis() / 1000

    try:
        if event == {}:
            work = reconciler.recent_work(find(), settings.window)
            reconciler.run(work, time_left=time_left)
            result = summarize(work)
        else:
            backfill = Backfill(reconciler=reconciler, journal=journal, find_instances=find, clock=_now)
            result = _reconcile_past(event, backfill, time_left)
        report.result(result)
    finally:
        report.counts(
            requests=feeder.sent - sent,
            calls=search.calls - calls,
            throttled_calls=search.throttled_calls - throttled_calls,
        )
    return result


def _reconcile_past(event: Any, backfill: Backfill, time_left: Callable[[], float]) -> dict[str, Any]:
    period = dict(event) if isinstance(event, dict) else {}
    name, is_plan = period.pop("backfill", None), "plan" in period
    if is_plan:
        period = period["plan"]
    if not isinstance(period, dict) or not period:
        raise InvalidPeriodError('give {}, or a period such as {"from": "2026-01-01", "to": "2026-02-01"}')
    if name is None:
        return backfill.run_period(period, time_left=time_left)
    return backfill.plan(name, period) if is_plan else backfill.advance_window(name, period, time_left=time_left)


def _now() -> datetime:
    return datetime.now(UTC)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # During Lambda's init, where a wrong environment stops the first deployment.
    _wire()
