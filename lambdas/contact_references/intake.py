"""Takes in what the capture function is given: a delivery of queue messages, or one event by hand."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from contact_references.batch import Capturer, Outcome, Result
from contact_references.contact import Completion, ContactKey, OtherEvent, Scope, parse_completion
from contact_references.errors import CaptureError, PermanentError
from contact_references.queue import CaptureQueue, Message
from contact_references.report import Report

_OFTEN_RECEIVED = 3

DirectResult = dict[str, str | int | None]


class Intake:
    """Turns events into captures, and failures into what the queue does next."""

    def __init__(
        self, *, capturer: Capturer, queue: CaptureQueue, report: Report, completion_types: frozenset[str]
    ) -> None:
        self._capturer = capturer
        self._queue = queue
        self._report = report
        self._completion_types = completion_types

    def take_messages(self, messages: Sequence[Message], *, scope: Scope, time_left: Callable[[], float]) -> list[str]:
        """Capture what the messages report; return the ids of those that go back to the queue.

        Hopeless ones have been moved to the dead-letter queue by then. Messages that have failed again and
        again come after the others are captured: one that kills the process takes no newcomer along.
        """
        failed: list[str] = []
        newcomers = [message for message in messages if message.receive_count <= _OFTEN_RECEIVED]
        stayers = [message for message in messages if message.receive_count > _OFTEN_RECEIVED]
        for group in (newcomers, stayers):
            failed += self._take_group(group, scope, time_left)
        return failed

    def take_event(self, event: object, *, scope: Scope, time_left: Callable[[], float]) -> DirectResult:
        """Capture what one event reports and return what became of its contact; raises CaptureError."""
        completion = parse_completion(event, scope=scope, completion_types=self._completion_types)
        if isinstance(completion, OtherEvent):
            self._report.other_event(completion.contact_id)
            return _direct_result(completion.contact_id, Result(outcome=Outcome.SKIPPED, reason="not a completion"))
        results = self._capture([completion], time_left)
        result = _result_of(completion, results)
        if isinstance(result, CaptureError):
            raise result
        return _direct_result(completion.contact.key.contact_id, result)

    def _take_group(self, messages: Sequence[Message], scope: Scope, time_left: Callable[[], float]) -> list[str]:
        completions: list[tuple[Message, Completion]] = []
        failures: list[tuple[Message, CaptureError]] = []
        for message in messages:
            try:
                completion = parse_completion(
                    _read_json(message.body), scope=scope, completion_types=self._completion_types
                )
            except PermanentError as error:
                self._report.unusable_message(message.message_id, error)
                failures.append((message, error))
            else:
                if isinstance(completion, Completion):
                    completions.append((message, replace(completion, redelivered=message.receive_count > 1)))
                else:
                    self._report.other_event(completion.contact_id)
        if completions:
            results = self._capture([completion for _, completion in completions], time_left)
            for message, completion in completions:
                result = _result_of(completion, results)
                if isinstance(result, CaptureError):
                    failures.append((message, result))
        return [message.message_id for message, error in failures if not self._let_go(message, error)]

    def _capture(
        self, completions: Sequence[Completion], time_left: Callable[[], float]
    ) -> dict[ContactKey, Result | CaptureError]:
        results: dict[ContactKey, Result | CaptureError]
        try:
            results = self._capturer.capture(completions, time_left=time_left)
        except CaptureError as error:
            results = {contact.key: error for completion in completions for contact in completion.contacts}
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


def _result_of(completion: Completion, results: dict[ContactKey, Result | CaptureError]) -> Result | CaptureError:
    """Return its contact's result, or a failure of it or its initial contact; one that may pass comes first."""
    own, *others = (results[contact.key] for contact in completion.contacts)
    failures = [result for result in (own, *others) if isinstance(result, CaptureError)]
    return min(failures, key=lambda error: isinstance(error, PermanentError), default=own)


def _direct_result(contact_id: str | None, result: Result) -> DirectResult:
    return {
        "contact_id": contact_id,
        "outcome": result.outcome,
        "reference_count": result.reference_count,
        "reason": result.reason,
    }
