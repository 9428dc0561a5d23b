"""The page in tests: of a deployment on moto, with captures as the functions put them, served on loopback."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws

from contact_references.aws.lake import Lake
from contact_references.aws.ledger import Ledger
from contact_references.aws.worklist import Opened, Worklist
from contact_references.model.capture import Capture, ContactItem
from contact_references.model.contact import Contact, ContactKey, Instance
from contact_references.model.coverage import HOUR, Hour, floor_to_hour
from contact_references.model.reference import normalize_references
from local.in_memory.connect import Member
from ops import dead_letters
from ops.deployment import Deployment
from ops.status import FUNCTIONS
from ops.view import listen, make_server
from tests.unit.conftest import CREDENTIALS, INSTANCE_ARN, INSTANCE_ID, create_ledger

NOW = datetime.now(UTC)
ENDED_AT = NOW.replace(microsecond=0) - timedelta(hours=30)


class Functions:
    """How functions are deployed: moto would need their code."""

    def get_function_configuration(self, FunctionName: str) -> dict[str, object]:  # noqa: N803 - boto3's name
        return {
            "Environment": {"Variables": {"INSTANCE_ARNS": INSTANCE_ARN, "CONNECT_REQUESTS_PER_SECOND": "8"}},
            "Timeout": 895,
            "LoggingConfig": {"LogGroup": f"/{FunctionName}"},
        }


@dataclass(frozen=True)
class Answer:
    """What a server answers."""

    status: int
    headers: Mapping[str, str]
    html: str

    @property
    def text(self) -> str:
        """What a person reads, about: without tags."""
        parts = (part.partition(">")[2] for part in self.html.split("<"))
        return " ".join(unescape(" ".join(parts)).split())


class World:
    """A deployment, and the page of it."""

    def __init__(self, session: Any) -> None:
        names = ("dynamodb", "s3", "sqs", "logs", "cloudwatch", "connect")
        clients: Any = SimpleNamespace(functions=Functions(), **{name: session.client(name) for name in names})
        clients.s3.create_bucket(Bucket="lake")
        outputs = {f"{name.capitalize()}FunctionName": name for name in FUNCTIONS}
        outputs |= {"TableName": "ledger", "BucketName": "lake"}
        outputs |= {"QueueUrl": clients.sqs.create_queue(QueueName="queue")["QueueUrl"]}
        self._outputs = outputs
        self.deployment = Deployment("dev", clients, outputs)
        self.ledger = Ledger(clients.dynamodb, "ledger")
        self.lake = Lake(clients.s3, "lake")
        self.worklist = Worklist(clients.dynamodb, "ledger")
        self.port = 0

    def clear(self) -> None:
        """Begin with nothing: it takes a tenth of what another deployment does."""
        dynamodb, s3, sqs = (getattr(self.deployment.clients, name) for name in ("dynamodb", "s3", "sqs"))
        if "ledger" in dynamodb.list_tables()["TableNames"]:
            dynamodb.delete_table(TableName="ledger")
        create_ledger(dynamodb)
        for entry in s3.list_objects_v2(Bucket="lake").get("Contents", []):
            s3.delete_object(Bucket="lake", Key=entry["Key"])
        self._outputs["DeadLetterQueueUrl"] = sqs.create_queue(QueueName=str(uuid4()))["QueueUrl"]

    def capture(
        self,
        contact_id: str,
        *members: Member,
        after: timedelta = timedelta(seconds=2),
        completed_at: datetime | None = ENDED_AT,
        **of: Any,
    ) -> Capture:
        """Capture a contact, so long after its end; returns the capture."""
        key = ContactKey(INSTANCE_ID, contact_id)
        contact = Contact(
            key=key,
            initial_contact_id=of.pop("initial_contact_id", contact_id),
            completed_at=completed_at,
            completion_seen=completed_at is not None,
            **{"channel": "VOICE", "initiation_method": "INBOUND"} | of,
        )
        capture = Capture(
            contact=contact,
            capture_id=str(uuid4()),
            captured_at=(completed_at or ENDED_AT) + after,
            references=normalize_references(members),
        )
        before = self.ledger.find_items([key]).get(key)
        assert before is None or isinstance(before, ContactItem)
        item = ContactItem(
            contact=contact,
            capture_id=capture.capture_id,
            captured_at=capture.captured_at,
            reference_count=len(capture.references),
            event_id="event",
            read_at=capture.captured_at,
            checked_at=capture.captured_at,
            version=1 if before is None else before.version + 1,
        )
        assert not self.ledger.put_rows({capture.capture_id: self.ledger.make_rows(capture)})
        assert self.ledger.commit(item, over=before)
        if completed_at is not None:
            self.lake.append(f"{completed_at:%Y-%m-%d}", [capture])
        return capture

    def put_hours(self, counts: Sequence[tuple[int, int]]) -> None:
        """Have the latest hours that are due visited: of each the contacts completed, and those missing."""
        end = floor_to_hour(NOW) - HOUR
        hours = [
            Hour(
                instance_id=INSTANCE_ID,
                start=end - n * HOUR,
                completed=completed,
                captured=completed - missing,
                missing=missing,
                missing_ids=tuple(f"missing-{n}-{number}" for number in range(missing)),
                visits=1,
                searched_at=NOW,
                asked_since=NOW if missing else None,
                due_at=NOW + HOUR,
            )
            for n, (completed, missing) in enumerate(counts, 1)
        ]
        self.worklist.save_hours(hours)
        self.worklist.save_opened(Instance.from_arn(INSTANCE_ARN), Opened(end))

    def put_letter(self, body: object, **attributes: str) -> None:
        """Put a dead letter on its queue."""
        self.deployment.clients.sqs.send_message(
            QueueUrl=self.deployment.output("DeadLetterQueueUrl"),
            MessageBody=body if isinstance(body, str) else json.dumps(body),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )

    def get(
        self,
        path: str,
        *,
        method: str = "GET",
        host: str | None = None,
        port: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask the page."""
        port = port or self.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, headers={"Host": host or f"127.0.0.1:{port}", **(headers or {})})
            answer = connection.getresponse()
            answered = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, answered, answer.read().decode())
        finally:
            connection.close()

    def search(self, text: str) -> Answer:
        """Look a text up."""
        return self.get(f"/search?q={quote(text, safe='')}")

    def contact(self, contact_id: str, options: str = "") -> Answer:
        """Ask for a contact's page."""
        return self.get(f"/contacts/{INSTANCE_ID}/{quote(contact_id, safe='')}{options}")


@contextmanager
def serve(deployment: Deployment) -> Iterator[int]:
    """Serve the page in a thread, as the command does; yields the port."""
    with listen(0) as listening:
        server = make_server(deployment, listening, program="ops")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def open_world() -> Iterator[World]:
    """Make a deployment and serve its page."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setattr(dead_letters, "_WAIT_SECONDS", 0)  # one server has all messages
        make: Any = boto3.Session
        world = World(make(**CREDENTIALS))
        world.clear()
        with serve(world.deployment) as world.port:
            yield world
