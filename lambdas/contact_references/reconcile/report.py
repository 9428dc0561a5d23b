"""What operators see of reconciling: log lines, metrics counted in each invocation, and gauges by instance."""

from typing import NamedTuple

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from contact_references.model.contact import ContactKey, Instance
from contact_references.model.coverage import Hour
from contact_references.model.errors import CaptureError, ConfigurationError

COUNTS = (
    "CaptureRequests",
    "SearchCalls",
    "ThrottledSearchCalls",
    "HoursClosed",
    "HoursGivenUp",
    "RechecksGivenUp",
    "ConfigurationErrors",
)
"""Metrics counted in each invocation, without zeros but for its calls."""

GAUGES = ("ContactsMissing", "HoursOpen", "BackfillHoursOpen", "RechecksDue")
"""Metrics by `instance_id` of each run, whose latest value is right; in the order of Gauges."""

TOTAL = "ContactsMissing"
"""The gauge that each run also has without `instance_id`: the sum over the instances that it could measure."""


class Gauges(NamedTuple):
    """How far an instance is accounted for: contacts missing of hours outside the backfill, and what is open or due."""

    contacts_missing: int
    hours_open: int
    backfill_hours_open: int
    rechecks_due: int


class ReconcileReport:
    """Writes log lines and gauges at once, an invocation's other metrics at its end."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics
        self._counts = dict.fromkeys(COUNTS, 0)
        self._total: int | None = None

    def hour(self, hour: Hour) -> None:
        """Tell of an hour whose visit has ended by closing it."""
        if hour.closed_at is None:
            return
        line = {"instance_id": hour.instance_id, "hour": hour.start, "completed": hour.completed}
        if hour.is_given_up:
            self._counts["HoursGivenUp"] += 1
            self._logger.error("hour given up", extra=line | {"missing": hour.missing})
        else:
            self._counts["HoursClosed"] += 1
            self._logger.info("hour closed", extra=line)

    def damaged(self, error: CaptureError) -> None:
        """Tell of an item that cannot be read, and is passed over."""
        self._logger.error("damaged item left out", extra={"error": error.error, "reason": error.reason})

    def recheck_given_up(self, key: ContactKey) -> None:
        """Tell of a contact that was to be read again, and was not for a week."""
        self._counts["RechecksGivenUp"] += 1
        line = {"instance_id": key.instance_id, "contact_id": key.contact_id}
        self._logger.error("recheck given up", extra=line)

    def failed(self, instance: Instance, error: CaptureError) -> None:
        """Tell of what failed of one instance."""
        self.ended(error)
        line = {"instance_id": instance.instance_id, "error": error.error, "reason": error.reason}
        self._logger.error("instance not reconciled", extra=line)

    def ended(self, error: CaptureError) -> None:
        """Note what failed a run or a part of it: a run that met configuration errors counts as one."""
        if isinstance(error, ConfigurationError):
            self._counts["ConfigurationErrors"] = 1

    def gauges(self, instance: Instance, gauges: Gauges) -> None:
        """Write an instance's gauges."""
        self._total = (self._total or 0) + gauges.contacts_missing
        metrics = EphemeralMetrics()
        metrics.add_dimension("instance_id", instance.instance_id)
        for name, value in zip(GAUGES, gauges, strict=True):
            metrics.add_metric(name, MetricUnit.Count, value)
        metrics.flush_metrics()

    def publish(self, *, requests: int, calls: int, throttled_calls: int) -> None:
        """Add the counts to the metrics of this invocation, and start again."""
        self._counts |= {"CaptureRequests": requests, "SearchCalls": calls, "ThrottledSearchCalls": throttled_calls}
        for name, count in self._counts.items():
            if count or name == "SearchCalls":
                self._metrics.add_metric(name, MetricUnit.Count, count)
        if self._total is not None:
            self._metrics.add_metric(TOTAL, MetricUnit.Count, self._total)
        self._counts = dict.fromkeys(COUNTS, 0)
        self._total = None
