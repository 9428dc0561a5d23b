"""A day with a twelve-hour outage, by a simulated clock, queue and event source: nothing is dead-lettered.

Intake, queue, pacing, reader and ledger are the real ones; below them stand clients that answer from memory and
take time by the simulated clock.
"""

import gzip
import io
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, ReadTimeoutError

from contact_references.aws.capture_queue import CaptureQueue, Message
from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.capture.capturer import Capturer
from contact_references.capture.intake import Intake
from contact_references.capture.report import Report
from contact_references.model.timestamps import format_time
from tests.unit.conftest import ALL_LISTS, INSTANCE_ARN, INSTANCE_ID, NOON, SCOPE, FakeDynamoDB

INFRASTRUCTURE = "".join(path.read_text() for path in sorted((Path(__file__).parents[2] / "infra").glob("*.py")))
HOUR = 3600.0
OUTAGE = (1 * HOUR, 13 * HOUR)
TIMEOUT = 120.0
ENVIRONMENTS = 2
TIME_TO_BEGIN = 50.0
VISIBILITY = 6 * TIMEOUT + 10
# After an outage: the longest delay of a retry, the invocation that is under way, and the backlog at its rate.
RECOVERY = 900 + TIMEOUT + 180


def infrastructure_says(setting: str) -> int:
    """Read a number out of the stack's source: synthesizing it takes longer than a simulated day."""
    [number] = re.findall(rf"\b{setting}\s*=\s*(\d+)", INFRASTRUCTURE)
    return int(number)


MOST_RECEIVES = infrastructure_says("max_receive_count")
BATCH_SIZE = infrastructure_says("_BATCH_SIZE")


class Letter:
    """A message on the simulated queue."""

    def __init__(self, contact_id: str, sent_at: float) -> None:
        self.contact_id = contact_id
        self.sent_at = self.visible_at = sent_at
        self.receives = 0

    @property
    def event(self) -> str:
        time = format_time(NOON + timedelta(seconds=int(self.sent_at)))
        detail = {
            "eventType": "COMPLETED",
            "contactId": self.contact_id,
            "instanceArn": INSTANCE_ARN,
        }
        kind = {"source": "aws.connect", "detail-type": "Amazon Connect Contact Event"}
        return json.dumps(kind | {"id": self.contact_id, "time": time, "detail": detail})


class Outage(NamedTuple):
    """Which service fails, and how: with an error's code and status, or by not answering for some seconds.

    The service "time" leaves an invocation too little of it to begin with any contact.
    """

    service: str
    code: str = ""
    status: int = 0
    seconds: float = 0.0


class Simulation:
    """SQS, the event source and two execution environments, each at its own place in time."""

    def __init__(self, *, contacts: int, outage: Outage, most_receives: int = MOST_RECEIVES) -> None:
        self.now = 0.0
        self.outage = outage
        self.most_receives = most_receives
        # They complete evenly from before the outage until after it.
        self.letters = [Letter(f"contact-{n}", 14 * HOUR * n / contacts) for n in range(contacts)]
        self.by_id = {letter.contact_id: letter for letter in self.letters}
        self.waiting = list(self.letters)
        self.dead: list[Letter] = []
        self.dead_by_function = 0
        self.done_at: dict[str, float] = {}
        """When the message of each contact left the queue."""
        self.lake: set[str] = set()
        self.readings = 0
        self.dynamodb = FakeDynamoDB()
        self.intakes = [self._environment() for _ in range(ENVIRONMENTS)]

    def run(self) -> None:
        """Let the environments take batches, the one that is free first, until the queue is empty."""
        free_at = [0.0] * len(self.intakes)
        while self.waiting:
            environment = min(range(len(free_at)), key=free_at.__getitem__)
            self.now = max(free_at[environment], min(letter.visible_at for letter in self.waiting))
            if batch := self._receive():
                self._invoke(self.intakes[environment], batch)
            free_at[environment] = self.now

    def holds(self, contact_id: str) -> bool:
        """Whether the contact is in the ledger."""
        return (f"{INSTANCE_ID}#{contact_id}", "CONTACT") in self.dynamodb.items

    def _receive(self) -> list[Letter]:
        batch = []
        for letter in [letter for letter in self.waiting if letter.visible_at <= self.now][:BATCH_SIZE]:
            letter.receives += 1
            if letter.receives > self.most_receives:
                self.waiting.remove(letter)
                self.dead.append(letter)
            else:
                letter.visible_at = self.now + VISIBILITY
                batch.append(letter)
        return batch

    def _invoke(self, environment: tuple[TokenBucket, Intake], batch: list[Letter]) -> None:
        bucket, intake = environment
        has_time = not self._is_out("time")
        deadline = self.now + (TIMEOUT if has_time else TIME_TO_BEGIN - 1)
        messages = [
            Message(
                message_id=letter.contact_id,
                receipt_handle=letter.contact_id,
                body=letter.event,
                receive_count=letter.receives,
                origin="queue",
            )
            for letter in batch
        ]
        bucket.wake()
        failed = set(intake.take_messages(messages, scope=SCOPE, time_left=lambda: deadline - self.now))
        bucket.rest()
        assert self.now <= deadline + 1, "Lambda would have ended the function"
        self.done_at |= {letter.contact_id: self.now for letter in batch if letter.contact_id not in failed}
        self.waiting = [letter for letter in self.waiting if letter.contact_id not in self.done_at]

    def _environment(self) -> tuple[TokenBucket, Intake]:
        bucket = TokenBucket(4, clock=lambda: self.now, sleep=self._pass)
        events = SimpleNamespace(events=SimpleNamespace(register=lambda *_: None))
        connect: Any = SimpleNamespace(meta=events, list_contact_references=self._calls("connect", 0.1, self._list))
        dynamodb: Any = SimpleNamespace(
            batch_get_item=self._calls("dynamodb", 0.01, lambda **of: self.dynamodb.call("BatchGetItem", of)),
            batch_write_item=self._calls("dynamodb", 0.01, lambda **of: self.dynamodb.call("BatchWriteItem", of)),
            put_item=self._calls("dynamodb", 0.01, lambda **of: self.dynamodb.call("PutItem", of)),
            update_item=self._calls("dynamodb", 0.01, lambda **of: self.dynamodb.call("UpdateItem", of)),
            get_paginator=lambda _: SimpleNamespace(paginate=self._calls("dynamodb", 0.01, self._query)),
            exceptions=SimpleNamespace(ConditionalCheckFailedException=ArithmeticError),  # none is refused here
        )
        s3: Any = SimpleNamespace(put_object=self._calls("s3", 0.05, self._append))
        sqs: Any = SimpleNamespace(change_message_visibility=self._change_visibility, send_message=self._send_message)
        capturer = Capturer(
            reader=ReferenceReader(connect, type_lists=ALL_LISTS, bucket=bucket, on_refused_type=self._refuse_type),
            ledger=Ledger(dynamodb, "ledger", clock=self._tell_time, sleep=self._pass),
            lake=Lake(s3, "lake"),
            on_leftover=lambda _: None,
            clock=self._tell_time,
        )
        metrics: Any = SimpleNamespace(add_metric=lambda *_: None)
        return bucket, Intake(
            capturer=capturer,
            queue=CaptureQueue(sqs, queue_url="queue", dead_letter_queue_url="dead-letters"),
            report=Report(Logger(service="outage", level="CRITICAL", stream=io.StringIO()), metrics, ALL_LISTS),
            completion_types=frozenset({"COMPLETED"}),
            clock=self._tell_time,
        )

    def _calls(self, service: str, seconds: float, answer: Callable[..., Any]) -> Callable[..., Any]:
        def call(**parameters: Any) -> Any:
            outage = self.outage
            if not self._is_out(service):
                self._pass(seconds)
                return answer(**parameters)
            self._pass(outage.seconds or seconds)
            if outage.seconds:
                raise ReadTimeoutError(endpoint_url="https://aws")
            response: Any = {"Error": {"Code": outage.code}, "ResponseMetadata": {"HTTPStatusCode": outage.status}}
            raise ClientError(response, service)

        return call

    def _is_out(self, service: str) -> bool:
        return self.outage.service == service and OUTAGE[0] <= self.now < OUTAGE[1]

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def _list(self, **_: Any) -> dict[str, Any]:
        self.readings += 1
        return {"ReferenceSummaryList": [{"Url": {"Name": "CRM", "Value": "https://crm.example/"}}]}

    def _append(self, **of: Any) -> dict[str, Any]:
        self.lake |= {json.loads(line)["contact_id"] for line in gzip.decompress(of["Body"]).splitlines()}
        return {}

    def _query(self, **of: Any) -> list[dict[str, Any]]:
        return [self.dynamodb.call("Query", of)]

    def _refuse_type(self, *_: object) -> None:
        raise AssertionError("no type is refused here")

    def _tell_time(self) -> datetime:
        return NOON + timedelta(seconds=self.now)

    def _change_visibility(self, **of: Any) -> None:
        self.by_id[of["ReceiptHandle"]].visible_at = self.now + of["VisibilityTimeout"]

    def _send_message(self, **_: Any) -> None:
        self.dead_by_function += 1


OUTAGES = {
    "Connect throttles": Outage("connect", "ThrottlingException", 429),
    "Connect fails": Outage("connect", "InternalServiceException", 500),
    "Connect hangs": Outage("connect", seconds=6),
    "DynamoDB throttles": Outage("dynamodb", "ThrottlingException", 400),
    "DynamoDB fails": Outage("dynamodb", "InternalServerError", 500),
    "DynamoDB hangs": Outage("dynamodb", seconds=8),
    "S3 throttles": Outage("s3", "SlowDown", 503),
    "S3 fails": Outage("s3", "InternalError", 500),
    "S3 hangs": Outage("s3", seconds=8),
    "no time to begin": Outage("time"),
}


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_twelve_hours_without_a_service_lose_nothing_and_are_made_good_within_twenty_minutes(outage: Outage) -> None:
    simulation = Simulation(contacts=70, outage=outage)
    simulation.run()
    assert (simulation.dead, simulation.dead_by_function) == ([], 0)
    assert simulation.lake == {contact_id for contact_id in simulation.by_id if simulation.holds(contact_id)}
    assert simulation.lake == simulation.done_at.keys() == simulation.by_id.keys()
    first, *_ = waited = [letter for letter in simulation.letters if OUTAGE[0] <= letter.sent_at < OUTAGE[1]]
    assert first.receives > 40  # it was a long outage
    assert max(letter.receives for letter in waited) <= MOST_RECEIVES / 2
    last = max(simulation.done_at[letter.contact_id] for letter in waited)
    assert OUTAGE[1] <= last <= OUTAGE[1] + RECOVERY


def test_without_the_lake_contacts_are_in_the_ledger_at_once_and_connect_is_asked_once() -> None:
    simulation = Simulation(contacts=20, outage=OUTAGES["S3 fails"])
    simulation.run()
    assert simulation.readings == 2 * 20


def test_a_lower_limit_of_receives_would_not_outlast_it() -> None:
    simulation = Simulation(contacts=20, outage=OUTAGES["Connect fails"], most_receives=50)
    simulation.run()
    assert simulation.dead
