"""What operators see of a capture: a log line for each contact, and metrics for each invocation.

Ids, counts, codes and sentences of this package's own; never a value or another part of a contact.
"""

from collections import Counter

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from contact_references.capture.targets import Outcome, Result
from contact_references.model.contact import ContactKey
from contact_references.model.errors import CaptureError, ConfigurationError, PermanentError
from contact_references.model.reference import UNKNOWN
from contact_references.model.reference_types import TypeLists

COUNTS = (
    "ContactsCaptured",
    "ContactsSkipped",
    "ContactsFailed",
    "ReferencesCaptured",
    "UnknownReferences",
    "InvalidReferences",
    "UnlistedReferences",
    "RefusedTypes",
    "ContactsStillProcessing",
    "ConfigurationErrors",
    "ApiCalls",
    "ThrottledApiCalls",
)
"""Metrics counted in each invocation. Zeros are charged for and left out, but for calls: they say that it ran."""

SECONDS_TO_CAPTURE = "SecondsToCapture"
"""Metric: seconds from a contact's completion to the reading that first captured it."""


class Report:
    """Writes log lines at once and metrics when asked to."""

    def __init__(self, logger: Logger, metrics: Metrics, type_lists: TypeLists) -> None:
        self._logger = logger
        self._metrics = metrics
        self._type_lists = type_lists
        self._counts: Counter[str] = Counter()
        self._types: Counter[str] = Counter()

    def contact(self, key: ContactKey, result: Result | CaptureError) -> None:
        """Tell what became of a contact."""
        ids = {"instance_id": key.instance_id, "contact_id": key.contact_id}
        if isinstance(result, CaptureError):
            self._failure("contact not captured", result, ids)
            return
        self._counts["ContactsCaptured" if result.outcome is Outcome.CAPTURED else "ContactsSkipped"] += 1
        line = ids | {"outcome": result.outcome, "reason": result.reason, "reference_count": result.reference_count}
        if result.is_still_processing:
            self._counts["ContactsStillProcessing"] += 1
            line |= {"still_processing": True}
        if result.outcome is Outcome.CAPTURED:
            references = result.references
            counts = {
                "unknown_references": sum(reference.reference_type == UNKNOWN for reference in references),
                "invalid_references": sum(not reference.is_valid for reference in references),
                "unlisted_references": self._type_lists.count_unlisted(result.contact, references),
            }
            self._counts.update(
                ReferencesCaptured=len(references),
                UnknownReferences=counts["unknown_references"],
                InvalidReferences=counts["invalid_references"],
                UnlistedReferences=counts["unlisted_references"],
            )
            self._types.update(reference.reference_type for reference in references)
            line |= counts
        if result.seconds_to_capture is not None:
            self._metrics.add_metric(SECONDS_TO_CAPTURE, MetricUnit.Seconds, result.seconds_to_capture)
            line |= {"seconds_to_capture": result.seconds_to_capture}
        self._logger.info("contact done", extra=line)

    def other_event(self, contact_id: str | None) -> None:
        """Tell of a contact event that does not mean completion."""
        self._counts["ContactsSkipped"] += 1
        line = {"contact_id": contact_id, "outcome": Outcome.SKIPPED, "reason": "not a completion"}
        self._logger.info("contact done", extra=line)

    def unprocessable_message(self, message_id: str, error: CaptureError) -> None:
        """Tell of a message from which no contact could be read."""
        self._failure("message cannot be processed", error, {"message_id": message_id})

    def undelivered(self, message_id: str, error: CaptureError) -> None:
        """Tell that the queue could not be told what to do with a message that was not captured."""
        self._count_configuration(error)
        line = {"message_id": message_id, "error": error.error, "reason": error.reason}
        self._logger.warning("message stays on the queue", extra=line)

    def refused_type(self, channel: str | None, reference_type: str) -> None:
        """Tell that Connect refuses a type for a channel, so that it is left out from now on."""
        self._counts["RefusedTypes"] += 1
        line = {"channel": channel, "reference_type": reference_type}
        self._logger.error("reference type refused, left out", extra=line)

    def leftover(self, error: CaptureError) -> None:
        """Tell of rows that could not be deleted: they don't count, and the contact's next capture deletes them."""
        self._count_configuration(error)
        self._logger.warning("rows left over", extra={"error": error.error, "reason": error.reason})

    def api_calls(self, calls: int, throttled_calls: int) -> None:
        """Count ListContactReferences calls, and those of them that were refused for their rate."""
        self._counts.update(ApiCalls=calls, ThrottledApiCalls=throttled_calls)

    def publish(self) -> None:
        """Add the counts to the metrics of this invocation, and start again."""
        for name, count in self._counts.items():
            if count or name == "ApiCalls":
                self._metrics.add_metric(name, MetricUnit.Count, count)
        if self._types:
            # Beside the metrics, for queries over the log: a metric a type would be paid for by the month.
            self._metrics.add_metadata("references_by_type", dict(self._types))
        self._counts.clear()
        self._types.clear()

    def _failure(self, what: str, error: CaptureError, ids: dict[str, str]) -> None:
        self._counts["ContactsFailed"] += 1
        self._count_configuration(error)
        needs_attention = isinstance(error, PermanentError | ConfigurationError)
        log = self._logger.error if needs_attention else self._logger.warning
        log(what, extra=ids | {"outcome": "failed", "error": error.error, "reason": error.reason})

    def _count_configuration(self, error: CaptureError) -> None:
        self._counts["ConfigurationErrors"] += isinstance(error, ConfigurationError)
