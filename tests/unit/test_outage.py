"""A day with a twelve-hour outage, by a simulated clock, queue and event source: nothing is dead-lettered.

Intake, queue, pacing, reader and ledger are the real ones; below them stand clients that answer from memory and
take time by the simulated clock.
"""

import gzip
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from botocore.exceptions import ReadTimeoutError

from contact_references.aws.capture_queue import Message
from contact_references.aws.pacing import TokenBucket
from contact_references.model.timestamps import format_time
from local.in_memory.connect import Member
from local.in_memory.environment import Environment, Services, start_environment
from local.in_memory.s3 import S3
from local.in_memory.service import RefusedError
from tests.unit.conftest import ALL_LISTS, INSTANCE_ARN, INSTANCE_ID, NOON, SCOPE

INFRASTRUCTURE = "".join(path.read_text() for path in sorted((Path(__file__).parents[2] / "infra").glob("*.py")))
HOUR = 3600.0
OUTAGE = (1 * HOUR, 13 * HOUR)
TIMEOUT = 120.0
ENVIRONMENTS = 2
TIME_TO_BEGIN = 50.0
VISIBILITY = 6 * TIMEOUT + 10
SECONDS = {"connect": 0.1, "dynamodb": 0.01, "s3": 0.05, "sqs": 0.0}
"""What a call takes."""
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
        self.done_at: dict[str, float] = {}
        """When the message of each contact left the queue."""
        self.readings = 0
        self.services = Services()
        self.services.s3 = S3()
        self.services.connect.find = self._find
        self.services.sqs.on_visibility = self._change_visibility
        self.services.before_calls(self._call)
        self.environments = [self._start() for _ in range(ENVIRONMENTS)]

    def run(self) -> None:
        """Let the environments take batches, the one that is free first, until the queue is empty."""
        free_at = [0.0] * ENVIRONMENTS
        while self.waiting:
            environment = min(range(len(free_at)), key=free_at.__getitem__)
            self.now = max(free_at[environment], min(letter.visible_at for letter in self.waiting))
            if batch := self._receive():
                self._invoke(self.environments[environment], batch)
            free_at[environment] = self.now

    def holds(self, contact_id: str) -> bool:
        """Whether the contact is in the ledger."""
        return (f"{INSTANCE_ID}#{contact_id}", "CONTACT") in self.services.dynamodb.items

    @property
    def lake(self) -> set[str]:
        """The contacts that the lake has."""
        lines = [line for body in self.services.s3.objects.values() for line in gzip.decompress(body).splitlines()]
        return {json.loads(line)["contact_id"] for line in lines}

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

    def _invoke(self, environment: Environment, batch: list[Letter]) -> None:
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
        environment.bucket.wake()
        failed = set(environment.intake.take_messages(messages, scope=SCOPE, time_left=lambda: deadline - self.now))
        environment.bucket.rest()
        assert self.now <= deadline + 1, "Lambda would have ended the function"
        self.done_at |= {letter.contact_id: self.now for letter in batch if letter.contact_id not in failed}
        self.waiting = [letter for letter in self.waiting if letter.contact_id not in self.done_at]

    def _start(self) -> Environment:
        bucket = TokenBucket(4, clock=lambda: self.now, sleep=self._pass)
        return start_environment(
            self.services, type_lists=ALL_LISTS, bucket=bucket, clock=self._tell_time, sleep=self._pass
        )

    def _call(self, service: str, operation: str) -> None:
        outage, seconds = self.outage, SECONDS[service]
        if not self._is_out(service):
            self._pass(seconds)
            return
        self._pass(outage.seconds or seconds)
        if outage.seconds:
            raise ReadTimeoutError(endpoint_url="https://aws")
        raise RefusedError(outage.code, operation, outage.status)

    def _is_out(self, service: str) -> bool:
        return self.outage.service == service and OUTAGE[0] <= self.now < OUTAGE[1]

    def _pass(self, seconds: float) -> None:
        self.now += seconds

    def _find(self, _: str) -> list[Member]:
        self.readings += 1
        return [{"Url": {"Name": "CRM", "Value": "https://crm.example/"}}]

    def _tell_time(self) -> datetime:
        return NOON + timedelta(seconds=self.now)

    def _change_visibility(self, contact_id: str, seconds: int) -> None:
        self.by_id[contact_id].visible_at = self.now + seconds


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
    assert (simulation.dead, simulation.services.sqs.dead_letters) == ([], [])
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
