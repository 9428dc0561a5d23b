"""Takes in what the capture function is given: a delivery of queue messages, or one event by hand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from contact_references.aws.capture_queue import CaptureQueue, Message
from contact_references.capture.capturer import Capturer
from contact_references.capture.report import Report
from contact_references.capture.targets import Outcome, Result
from contact_references.model.contact import ContactKey, Scope
from contact_references.model.errors import CaptureError, PermanentError
from contact_references.model.events import ContactReport, OtherEvent, parse_event

_OFTEN_RECEIVED = 3

DirectResult = dict[str, str | int | None]


class Intake:
    """Turns events into captures, and failures into what the queue does next."""

    def __init__(
        self,
        *,
        capturer: Capturer,
        queue: CaptureQueue,
        report: Report,
        completion_types: frozenset[str],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._capturer = capturer
        self._queue = queue
        self._report = report
        self._completion_types = completion_types
        self._clock = clock

    def take_messages(self, messages: Sequence[Message], *, scope: Scope, time_left: Callable[[], float]) -> list[str]:
        """Capture what the messages report; return the ids of those that go back to the queue.

        Permanent failures have been moved to the dead-letter queue by then. Messages that have failed again and
        again come after the others are captured: one that kills the process takes no newcomer along.
        """
        failed: list[str] = []
        seldom_received = [message for message in messages if message.receive_count <= _OFTEN_RECEIVED]
        often_received = [message for message in messages if message.receive_count > _OFTEN_RECEIVED]
        for group in (seldom_received, often_received):
            failed += self._take_group(group, scope, time_left)
        return failed

    def take_event(self, event: object, *, scope: Scope, time_left: Callable[[], float]) -> DirectResult:
        """Capture what one event reports and return what became of its contact; raises CaptureError."""
        report = self._parse(event, scope)
        if isinstance(report, OtherEvent):
            return _direct_result(report.contact_id, Outcome.SKIPPED, "not a completion")
        result = _result_of(report, self._capture([report], time_left))
        if isinstance(result, CaptureError):
            raise result
        return _direct_result(report.contact.key.contact_id, result.outcome, result.reason, result.reference_count)

    def _take_group(self, messages: Sequence[Message], scope: Scope, time_left: Callable[[], float]) -> list[str]:
        reports: list[tuple[Message, ContactReport]] = []
        failures: list[tuple[Message, CaptureError]] = []
        for message in messages:
            try:
                report = self._parse(_read_json(message.body), scope)
            except PermanentError as error:
                self._report.unprocessable_message(message.message_id, error)
                failures.append((message, error))
            else:
                if isinstance(report, ContactReport):
                    reports.append((message, replace(report, is_redelivered=message.receive_count > 1)))
        results = self._capture([report for _, report in reports], time_left) if reports else {}
        for message, report in reports:
            result = _result_of(report, results)
            if isinstance(result, CaptureError):
                failures.append((message, result))
        return [message.message_id for message, error in failures if not self._let_go(message, error)]

    def _parse(self, event: object, scope: Scope) -> ContactReport | OtherEvent:
        report = parse_event(event, scope=scope, completion_types=self._completion_types, now=self._clock())
        if isinstance(report, OtherEvent):
            self._report.other_event(report.contact_id)
        return report

    def _capture(
        self, reports: Sequence[ContactReport], time_left: Callable[[], float]
    ) -> dict[ContactKey, Result | CaptureError]:
        results = self._capturer.capture(reports, time_left=time_left)
        for key, result in results.items():
            self._report.contact(key, result)
        return results

    def _let_go(self, message: Message, error: CaptureError) -> bool:
        """Do with a failed message what its error asks for; return whether it may leave the queue."""
        try:
            if isinstance(error, PermanentError):
                self._queue.dead_letter(message, error)
                return True
            self._queue.retry_later(message)
        except CaptureError as queue_error:
            # The message comes back all the same: at the latest when the queue shows it again by itself.
            self._report.undelivered(message.message_id, queue_error)
        return False


def _read_json(body: str) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):  # the latter from a body of brackets
        raise PermanentError("InvalidEvent", "the message's body is not JSON") from None


def _result_of(report: ContactReport, results: dict[ContactKey, Result | CaptureError]) -> Result | CaptureError:
    """Return its contact's result, or a failure of it or its initial contact; one that may pass comes first."""
    own, *others = (results[contact.key] for contact in report.contacts)
    failures = [result for result in (own, *others) if isinstance(result, CaptureError)]
    return min(failures, key=lambda error: isinstance(error, PermanentError), default=own)


def _direct_result(contact_id: str | None, outcome: Outcome, reason: str, reference_count: int = 0) -> DirectResult:
    return {"contact_id": contact_id, "outcome": outcome, "reference_count": reference_count, "reason": reason}
