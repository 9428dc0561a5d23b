"""What operators see of the tables: log lines, metrics counted in each invocation, and what is behind at its end."""

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from contact_references.model.errors import CaptureError, ConfigurationError
from contact_references.tables.day import DayTables

COUNTS = ("DaysBehind", "MalformedLines", "IncompleteCaptures", "ConfigurationErrors")
"""Metrics of each run, without zeros."""

SECONDS_BEHIND = "SecondsBehind"
"""Metric of each run: for how long the lake has had what the tables do not have; zeros too, which say that it ran."""

_NAMED_LINES = 20


class TablesReport:
    """Writes log lines at once, an invocation's metrics at its end."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics
        self._counts = dict.fromkeys(COUNTS, 0)
        self._seconds_behind: int | None = None

    def written(self, date: str, tables: DayTables, *, objects: int, seconds: float) -> None:
        """Tell of a day whose tables are written: of how many objects, with how much in them, and what was left out."""
        self._counts["MalformedLines"] += len(tables.malformed)
        self._counts["IncompleteCaptures"] += tables.incomplete
        line = {
            "date": date,
            "objects": objects,
            "contacts": tables.contacts,
            "references": tables.references,
            "malformed_lines": len(tables.malformed),
            "incomplete_captures": tables.incomplete,
            "seconds": round(seconds, 1),
        }
        self._logger.info("day written", extra=line)
        for malformed in tables.malformed[:_NAMED_LINES]:
            self._logger.error("malformed line left out", extra={"date": date, **malformed._asdict()})

    def unreadable(self, date: str, object_name: str) -> None:
        """Tell of an object of the lake that is no whole gzip file: it counts as one malformed line."""
        self._counts["MalformedLines"] += 1
        self._logger.error("unreadable object left out", extra={"date": date, "object_name": object_name})

    def deleted(self, date: str) -> None:
        """Tell of a day that is past its retention, and gone from the lake and the tables."""
        self._logger.info("day deleted", extra={"date": date})

    def failed(self, date: str, error: CaptureError) -> None:
        """Tell of a day whose tables are not written, or which is not deleted: the next run has it again."""
        self.ended(error)
        self._logger.error("day failed", extra={"date": date, "error": error.error, "reason": error.reason})

    def ended(self, error: CaptureError) -> None:
        """Note what failed a run or a part of it: a run that met configuration errors counts as one."""
        if isinstance(error, ConfigurationError):
            self._counts["ConfigurationErrors"] = 1

    def behind(self, days: int, *, seconds: int) -> None:
        """Tell how many days are marked still when a run ends, and for how long the one that is for longest."""
        self._counts["DaysBehind"], self._seconds_behind = days, seconds

    def publish(self) -> None:
        """Write the metrics of this invocation, if there are any, and start again."""
        if self._seconds_behind is not None:
            self._metrics.add_metric(SECONDS_BEHIND, MetricUnit.Seconds, self._seconds_behind)
        counts = {name: count for name, count in self._counts.items() if count}
        for name, count in counts.items():
            self._metrics.add_metric(name, MetricUnit.Count, count)
        if counts or self._seconds_behind is not None:
            self._metrics.flush_metrics()
        self._counts = dict.fromkeys(COUNTS, 0)
        self._seconds_behind = None
