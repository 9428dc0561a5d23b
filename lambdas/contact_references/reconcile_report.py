"""What operators see of reconciling: a log line for each invocation, and metrics."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from contact_references.contact import Instance
from contact_references.journal import Tally

HOUR_COUNTS = ("HourCompleted", "HourCaptured", "HourMissing", "HourUnsettled", "HourGivenUp")
"""Metrics of an instance's contacts that completed in an hour, with the hour's time; in the order of a Tally."""

RECONCILE_COUNTS = ("CaptureRequests", "SearchCalls", "ThrottledSearchCalls")
"""Metrics counted in each invocation of the reconcile function, without zeros but for its calls."""

_METRICS_REACH_BACK = timedelta(days=14)  # CloudWatch takes no older ones


class ReconcileReport:
    """Writes log lines and the metrics of hours at once, an invocation's other metrics at its end."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics

    def hour(self, instance: Instance, hour: datetime, tally: Tally) -> None:
        """Tell what is new about the contacts that completed in an hour. Older than two weeks, there is no metric."""
        if hour < datetime.now(UTC) - _METRICS_REACH_BACK:
            return
        metrics = EphemeralMetrics()
        metrics.add_dimension("instance_id", instance.instance_id)
        metrics.set_timestamp(hour)
        for name, count in zip(HOUR_COUNTS, asdict(tally).values(), strict=True):
            metrics.add_metric(name, MetricUnit.Count, count)
        metrics.flush_metrics()

    def result(self, result: Mapping[str, object]) -> None:
        """Tell what an invocation answers, but for a backfill's list of windows."""
        line = {name: value for name, value in result.items() if name != "windows"}
        self._logger.info("reconciled", extra=line)

    def counts(self, *, requests: int, calls: int, throttled_calls: int) -> None:
        """Count capture requests that were queued, SearchContacts calls, and the calls refused for their rate."""
        for name, count in zip(RECONCILE_COUNTS, (requests, calls, throttled_calls), strict=True):
            if count or name == "SearchCalls":
                self._metrics.add_metric(name, MetricUnit.Count, count)
