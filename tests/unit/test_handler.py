"""The function as Lambda calls it: its environment, its answers, its log lines and metrics."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from contact_references.errors import PermanentError, RetriableError
from contact_references.report import COUNTS
from contact_references.settings import CaptureSettings, SettingsError
from tests.unit.conftest import INSTANCE_ID, Member, System

EVENTS = Path(__file__).parents[2] / "events"
ENVIRONMENT = {
    "TABLE_NAME": "ledger",
    "BUCKET_NAME": "lake",
    "INSTANCE_ARNS": "",
    "COMPLETION_EVENT_TYPES": "COMPLETED",
    "REFERENCE_TYPES": "URL,NUMBER,STRING,DATE,EMAIL,ATTACHMENT",
    "REQUESTS_PER_SECOND": "1000",
    "RETENTION_DAYS": "0",
    "POWERTOOLS_SERVICE_NAME": "contact-references",
    "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
    "POWERTOOLS_METRICS_DISABLED": "false",
}
CONTEXT = SimpleNamespace(
    function_name="capture",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:capture",
    aws_request_id="00000000-0000-0000-0000-000000000000",
    get_remaining_time_in_millis=lambda: 120_000,
)


class CurrentOutput:
    """Standard output as it is when something is written: the test runner puts another one there for each phase."""

    def write(self, text: str) -> None:
        sys.stdout.write(text)

    def flush(self) -> None:
        sys.stdout.flush()


class Function(SimpleNamespace):
    """The function, wired to the test's system."""

    system: System
    queue_url: str
    dead_letter_queue_url: str
    handler: Callable[[Any, Any], dict[str, Any]]

    def deliver(self) -> list[str]:
        """Receive what is on the queue, hand it to the function as Lambda does, and delete what it let go."""
        messages = self.system.sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=10, AttributeNames=["All"]
        ).get("Messages", [])
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:queue",
            }
            for message in messages
        ]
        answer = self.handler({"Records": records}, CONTEXT)
        failed = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
        for message in messages:
            if message["MessageId"] not in failed:
                self.system.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return failed

    def send(self, *events: object) -> None:
        for event in events:
            body = event if isinstance(event, str) else json.dumps(event)
            self.system.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

    def dead_letters(self) -> list[tuple[str, dict[str, str]]]:
        messages = self.system.sqs.receive_message(
            QueueUrl=self.dead_letter_queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        return [
            (message["Body"], {name: value["StringValue"] for name, value in message["MessageAttributes"].items()})
            for message in messages
        ]


@pytest.fixture
def function(system: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    urls = {
        name: system.sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        for name in ("queue", "dead-letters")
    }
    environment = ENVIRONMENT | {"QUEUE_URL": urls["queue"], "DEAD_LETTER_QUEUE_URL": urls["dead-letters"]}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    create: Callable[..., Any] = boto3.session.Session.client

    def client(session: boto3.session.Session, name: str, **of: Any) -> Any:
        made = create(session, name, **of)
        if name == "connect":
            system.connect.stand_behind(made)
        return made

    monkeypatch.setattr(boto3.session.Session, "client", client)
    sys.modules.pop("capture.handler", None)
    module = importlib.import_module("capture.handler")
    module.logger.handlers[0].setStream(CurrentOutput())
    yield Function(
        system=system,
        handler=module.handler,
        queue_url=urls["queue"],
        dead_letter_queue_url=urls["dead-letters"],
    )
    sys.modules.pop("capture.handler", None)


def load(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


VOICE = load("completed-voice")
VOICE_ID = VOICE["detail"]["contactId"]
MARKER = "do-not-log-this"
MARKED: list[Member] = [
    {"Url": {"Name": MARKER, "Value": f"https://{MARKER}.example/?X-Amz-Signature={MARKER}"}},
    {"Number": {"Name": MARKER, "Value": MARKER}},
]


def test_one_event_by_hand_returns_what_became_of_its_contact(function: Function) -> None:
    function.system.connect.contacts[VOICE_ID] = MARKED
    answer = function.handler(VOICE, CONTEXT)
    assert answer == {"contact_id": VOICE_ID, "outcome": "captured", "reference_count": 2, "reason": "captured"}
    again = function.handler(VOICE, CONTEXT)
    assert again == answer | {"outcome": "skipped", "reason": "captured since the event"}
    other = function.handler(load("public-voice-queued-captured"), CONTEXT)
    assert (other["outcome"], other["reason"]) == ("skipped", "not a completion")


@pytest.mark.parametrize(
    "name", ["missing-contact-id", "completed-foreign-account", "public-contact-lens-analysis-failed"]
)
def test_one_unusable_event_by_hand_raises_before_any_call(function: Function, name: str) -> None:
    with pytest.raises(PermanentError):
        function.handler(load(name), CONTEXT)
    assert function.system.connect.calls == []


def test_one_event_by_hand_that_fails_raises(function: Function) -> None:
    function.system.connect.contacts[VOICE_ID] = []
    function.system.connect.failures = [(429, "ThrottlingException")] * 3
    with pytest.raises(RetriableError, match="ThrottlingException"):
        function.handler(VOICE, CONTEXT)


def test_a_batch_is_captured_and_its_failures_go_where_they_belong(function: Function) -> None:
    chat = load("completed-chat")
    function.system.connect.contacts |= {VOICE_ID: MARKED, chat["detail"]["contactId"]: []}
    function.system.connect.failures = [(503, "")]
    bad = ["not JSON", "[" * 100_000, load("missing-contact-id"), load("completed-foreign-account")]
    function.send(VOICE, chat, load("public-voice-queued-captured"), *bad)
    assert len(function.deliver()) == 1
    letters = function.dead_letters()
    assert sorted(body for body, _ in letters) == sorted(e if isinstance(e, str) else json.dumps(e) for e in bad)
    assert {attributes["error"] for _, attributes in letters} == {"InvalidEvent", "ForeignContact"}
    assert all(attributes["reason"] and attributes["origin"].startswith("arn:") for _, attributes in letters)
    captured = [contact_id for contact_id in function.system.connect.contacts if function.system.items(contact_id)]
    assert len(captured) == 1


def test_a_message_that_failed_waits_before_it_comes_again(function: Function) -> None:
    function.system.connect.contacts[VOICE_ID] = []
    function.system.connect.failures = [(503, "")]
    function.send(VOICE)
    assert len(function.deliver()) == 1
    attributes = function.system.sqs.get_queue_attributes(QueueUrl=function.queue_url, AttributeNames=["All"])
    assert attributes["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_a_dead_letter_that_can_not_be_sent_stays_on_the_queue(function: Function) -> None:
    function.system.sqs.delete_queue(QueueUrl=function.dead_letter_queue_url)
    function.send("not JSON")
    assert len(function.deliver()) == 1


def test_access_denied_is_no_contact_s_fault(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.system.connect.contacts[VOICE_ID] = []
    function.system.connect.failures = [(403, "AccessDeniedException")]
    function.send(VOICE)
    assert len(function.deliver()) == 1
    assert function.dead_letters() == []
    [line] = [line for line in map(json.loads, capsys.readouterr().out.splitlines()) if line.get("contact_id")]
    assert (line["level"], line["error"]) == ("ERROR", "AccessDeniedException")


def test_a_message_received_often_takes_no_newcomer_along(function: Function) -> None:
    chat = load("completed-chat")
    function.system.connect.contacts |= {VOICE_ID: [], chat["detail"]["contactId"]: []}

    def kill(contact_id: str) -> None:
        if contact_id == VOICE_ID:
            raise KeyboardInterrupt

    function.system.connect.before_answer = kill
    function.send(VOICE)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            function.deliver()
    function.send(chat)
    with pytest.raises(KeyboardInterrupt):
        function.deliver()
    assert function.system.items(chat["detail"]["contactId"])


def test_logs_and_metrics_count_and_name_no_value(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    event = load("completed-email")
    event["detail"] |= {"tags": {MARKER: MARKER}, "customerId": MARKER, "contactDetails": {"name": MARKER}}
    contact_id = event["detail"]["contactId"]
    function.system.connect.contacts[contact_id] = [*MARKED, {"Mood": {"Name": MARKER, "Value": MARKER}}]
    function.send(event, {"source": MARKER, "detail": {"contactId": MARKER}})
    function.deliver()
    written = capsys.readouterr()
    assert MARKER not in written.out + written.err
    lines = [json.loads(line) for line in written.out.splitlines()]
    [contact] = [line for line in lines if line.get("contact_id") == contact_id]
    assert (contact["outcome"], contact["reference_count"]) == ("captured", 3)
    assert (contact["unknown_references"], contact["invalid_references"]) == (1, 1)
    [metrics] = [line for line in lines if "_aws" in line]
    assert metrics["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ContactReferences"
    counted = {
        "ContactsCaptured": 1,
        "ContactsFailed": 1,
        "ReferencesCaptured": 3,
        "UnknownReferences": 1,
        "InvalidReferences": 1,
        "ApiCalls": 1,
    }
    assert {name: sum(metrics[name]) for name in COUNTS if name in metrics} == counted
    assert metrics["SecondsToCapture"][0] > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TABLE_NAME", None),
        ("BUCKET_NAME", " "),
        ("QUEUE_URL", None),
        ("DEAD_LETTER_QUEUE_URL", ""),
        ("INSTANCE_ARNS", None),
        ("INSTANCE_ARNS", "12345678"),
        ("COMPLETION_EVENT_TYPES", ""),
        ("REFERENCE_TYPES", "URL,,DATE"),
        ("REFERENCE_TYPES", "URL,PHONE"),
        ("REQUESTS_PER_SECOND", "0"),
        ("REQUESTS_PER_SECOND", "nan"),
        ("REQUESTS_PER_SECOND", "many"),
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_DAYS", "1.5"),
    ],
)
@pytest.mark.usefixtures("function")
def test_a_wrong_environment_stops_the_function_at_its_start_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "capture")
    sys.modules.pop("capture.handler")
    with pytest.raises(SettingsError, match=name):
        importlib.import_module("capture.handler")


def test_settings_name_instances_and_retention() -> None:
    arn = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
    environment = {"QUEUE_URL": "q", "DEAD_LETTER_QUEUE_URL": "d", "INSTANCE_ARNS": f"{arn}, ", "RETENTION_DAYS": "30"}
    settings = CaptureSettings.from_environment(ENVIRONMENT | environment)
    assert [instance.instance_id for instance in settings.instances] == [INSTANCE_ID]
    assert settings.retention is not None
    assert settings.retention.days == 30
