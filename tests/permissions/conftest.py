"""A function's role, with an action less; and this process in the place of Lambda's poller."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config

from local.delivery import read_event
from local.emulator import REGION, ROOT
from local.system import Json, System
from tests.system.conftest import Contacts


@pytest.fixture
def system(enforcing_system: System) -> System:
    return enforcing_system


@pytest.fixture
def contacts(system: System) -> Contacts:
    return Contacts(system)


ROOT_USER = {"AccessKeyId": "test", "SecretAccessKey": "test", "SessionToken": None}


def make_client(system: System, service: str, credentials: Mapping[str, Any] = ROOT_USER) -> Any:
    """A client that `local` itself has no use for, with the account's root user as caller if it is no other."""
    return boto3.client(
        service,  # type: ignore[call-overload]  # stubs only for the services that the code uses
        endpoint_url=system.aws_url,
        region_name=REGION,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        config=Config(proxies={}),
    )


def completion(contact_id: str) -> Json:
    """A COMPLETED event of now."""
    event = read_event(ROOT / "events" / "completed-voice.json")
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    detail = event["detail"] | {"contactId": contact_id, "initialContactId": contact_id}
    return event | {"id": str(uuid4()), "time": now, "detail": detail}


class Role:
    """The role of a deployed function, and its one inline policy."""

    def __init__(self, system: System, *, function: str) -> None:
        name = system.outputs[function]
        self._system = system
        self._iam = make_client(system, "iam")
        role = system.clients.functions.get_function_configuration(FunctionName=name)["Role"].rpartition("/")[2]
        [policy] = self._iam.list_role_policies(RoleName=role)["PolicyNames"]
        assert self._iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
        self._names = {"RoleName": role, "PolicyName": policy}
        self._document: Json = self._iam.get_role_policy(**self._names)["PolicyDocument"]

    @property
    def actions(self) -> set[str]:
        """All that the role may do, as the template says."""
        return {action for statement in self._document["Statement"] for action in _actions(statement)}

    @contextmanager
    def without(self, action: str) -> Iterator[None]:
        """Take one action away for a while."""
        statements = [
            statement | {"Action": [each for each in _actions(statement) if each != action]}
            for statement in self._document["Statement"]
        ]
        left = [statement for statement in statements if statement["Action"]]
        assert left != self._document["Statement"]
        self._put(self._document | {"Statement": left})
        try:
            yield
        finally:
            self._put(self._document)

    def make_client(self, service: str) -> Any:
        """A client that may do what the role may, as the function's own."""
        role = self._iam.get_role(RoleName=self._names["RoleName"])["Role"]
        trusted, everybody = role["AssumeRolePolicyDocument"], {"Effect": "Allow", "Principal": {"AWS": "*"}}
        statements = [*trusted["Statement"], everybody | {"Action": "sts:AssumeRole"}]
        self._trust(trusted | {"Statement": statements})
        try:
            session = make_client(self._system, "sts").assume_role(RoleArn=role["Arn"], RoleSessionName="test")
        finally:
            self._trust(trusted)
        return make_client(self._system, service, session["Credentials"])

    def _trust(self, document: Json) -> None:
        self._iam.update_assume_role_policy(RoleName=self._names["RoleName"], PolicyDocument=json.dumps(document))

    def _put(self, document: Json) -> None:
        self._iam.put_role_policy(**self._names, PolicyDocument=json.dumps(document))


def _actions(statement: Json) -> list[str]:
    actions: str | list[str] = statement["Action"]
    return [actions] if isinstance(actions, str) else actions


@pytest.fixture
def role(system: System) -> Role:
    return Role(system, function="CaptureFunctionName")


@pytest.fixture
def reconcile_role(system: System) -> Role:
    return Role(system, function="ReconcileFunctionName")


class Delivery(NamedTuple):
    """How an invocation for one message ended: whether the message stays on the queue, and what was logged."""

    failed: bool
    log: list[Json]


class Poller:
    """This process in the place of Lambda's poller: a failed message comes again at once, not after its back-off."""

    def __init__(self, system: System) -> None:
        self._system = system

    def take(self, event: Json) -> Json:
        """Put an event on the queue and receive it, as a record of an SQS batch."""
        url = self._system.outputs["QueueUrl"]
        sent = self._system.clients.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(event))
        [message] = self._system.clients.sqs.receive_message(QueueUrl=url)["Messages"]
        assert message["MessageId"] == sent["MessageId"]
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": {"ApproximateReceiveCount": "1"},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:contacts",
        }

    def deliver(self, record: Json) -> Delivery:
        """Invoke the function with the record; delete its message if the function does not hand it back."""
        answer = self._system.clients.functions.invoke(
            FunctionName=self._system.outputs["CaptureFunctionName"],
            Payload=json.dumps({"Records": [record]}),
            LogType="Tail",
        )
        result = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, result
        if not result["batchItemFailures"]:
            self._system.clients.sqs.delete_message(
                QueueUrl=self._system.outputs["QueueUrl"], ReceiptHandle=record["receiptHandle"]
            )
        lines = base64.b64decode(answer["LogResult"]).decode().splitlines()
        log = [json.loads(line) for line in lines if line.startswith('{"level"')]
        return Delivery(result["batchItemFailures"] == [{"itemIdentifier": record["messageId"]}], log)

    def capture(self, event: Json) -> None:
        """Have an event captured that nothing keeps from it."""
        delivery = self.deliver(self.take(event))
        assert not delivery.failed, delivery.log


@pytest.fixture
def poller(system: System) -> Iterator[Poller]:
    functions = system.clients.functions
    [mapping] = functions.list_event_source_mappings()["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    yield Poller(system)
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    assert system.wait_until_drained(60)
