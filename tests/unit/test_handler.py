"""The function as Lambda calls it: its wiring, its environment, its answers, its log lines and metrics."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from capture.handler import App, handler, logger, metrics
from contact_references.aws.capture_queue import CaptureQueue
from contact_references.aws.ledger import Ledger
from contact_references.aws.pacing import TokenBucket
from contact_references.aws.references import ReferenceReader
from contact_references.capture.capturer import Capturer
from contact_references.capture.intake import Intake
from contact_references.capture.report import COUNTS, Report
from contact_references.capture.settings import CaptureSettings
from contact_references.model.environment import SettingsError
from contact_references.model.errors import PermanentError, RetriableError
from contact_references.model.reference_types import TypeLists
from contact_references.model.timestamps import parse_iso
from local.in_memory.connect import Member
from tests.unit.conftest import ALL_TYPES, INSTANCE_ID, System, make_client

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "events"
ENVIRONMENT = {
    "TABLE_NAME": "ledger",
    "BUCKET_NAME": "lake",
    "QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/111122223333/queue",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/111122223333/dead-letters",
    "INSTANCE_ARNS": "",
    "COMPLETION_EVENT_TYPES": "COMPLETED",
    "REFERENCE_TYPES": json.dumps({"VOICE": ALL_TYPES[:6], "*": ALL_TYPES}),
    "AUDIT_SHARE": "0.01",
    "REQUESTS_PER_SECOND": "1000",
    "RETENTION_DAYS": "0",
}
TYPE_LISTS = TypeLists({"VOICE": ALL_TYPES[:6], "EMAIL": ALL_TYPES[:6], "*": ALL_TYPES})
CONTEXT: Any = SimpleNamespace(
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
    """The function, wired to the test's system and to queues on moto."""

    system: System
    sqs: Any
    queue_url: str
    dead_letter_queue_url: str
    app: App

    def wire(self, type_lists: TypeLists) -> None:
        system = self.system
        report = Report(logger, metrics, type_lists)
        bucket = TokenBucket(1000, clock=lambda: 0, sleep=lambda _: None)
        reader = ReferenceReader(
            system.connect_client, type_lists=type_lists, bucket=bucket, on_refused_type=report.refused_type
        )
        capturer = Capturer(
            reader=reader,
            ledger=Ledger(system.dynamodb, "ledger", clock=system.clock, sleep=system.sleeps.append),
            lake=system.lake_store,
            on_leftover=report.leftover,
            clock=system.clock,
        )
        queue = CaptureQueue(self.sqs, queue_url=self.queue_url, dead_letter_queue_url=self.dead_letter_queue_url)
        intake = Intake(
            capturer=capturer,
            queue=queue,
            report=report,
            completion_types=frozenset({"COMPLETED"}),
            clock=system.clock,
        )
        self.app = App(intake, bucket, reader, report, frozenset())

    def handler(self, event: object) -> dict[str, Any]:
        answer: dict[str, Any] = handler(event, CONTEXT, app=self.app)
        return answer

    def deliver(self) -> list[str]:
        """Receive what is on the queue, hand it to the function as Lambda does, and delete what it let go."""
        messages = self.sqs.receive_message(
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
        answer = self.handler({"Records": records})
        failed = [item["itemIdentifier"] for item in answer["batchItemFailures"]]
        for message in messages:
            if message["MessageId"] not in failed:
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message["ReceiptHandle"])
        return failed

    def send(self, *events: object) -> None:
        for event in events:
            body = event if isinstance(event, str) else json.dumps(event)
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

    def dead_letters(self) -> list[tuple[str, dict[str, str]]]:
        messages = self.sqs.receive_message(
            QueueUrl=self.dead_letter_queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
        return [
            (message["Body"], {name: value["StringValue"] for name, value in message["MessageAttributes"].items()})
            for message in messages
        ]


@pytest.fixture
def function(system: System, moto: None) -> Iterator[Function]:  # noqa: ARG001 - before its clients are made
    sqs = make_client("sqs")
    urls = {
        name: sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
        for name in ("queue", "dead-letters")
    }
    system.clock.now = parse_iso("2026-03-03T12:00:00Z")  # after all sample events
    metrics.namespace = "ContactReferences"
    logger.handlers[0].setStream(CurrentOutput())  # type: ignore[attr-defined]
    made = Function(system=system, sqs=sqs, queue_url=urls["queue"], dead_letter_queue_url=urls["dead-letters"])
    made.wire(TYPE_LISTS)
    yield made
    metrics.clear_metrics()


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
    answer = function.handler(VOICE)
    assert answer == {"contact_id": VOICE_ID, "outcome": "captured", "reference_count": 2, "reason": "captured"}
    again = function.handler(VOICE)
    assert again == answer | {"outcome": "skipped", "reason": "captured by this event, and appended again"}
    covered = function.handler(VOICE | {"id": "another"})
    assert covered == answer | {"outcome": "skipped", "reason": "captured since the event"}
    other = function.handler(load("public-voice-queued-captured"))
    assert (other["outcome"], other["reason"]) == ("skipped", "not a completion")


@pytest.mark.parametrize(
    "name", ["missing-contact-id", "completed-foreign-account", "public-contact-lens-analysis-failed"]
)
def test_one_unusable_event_by_hand_raises_before_any_call(function: Function, name: str) -> None:
    with pytest.raises(PermanentError):
        function.handler(load(name))
    assert function.system.connect.calls == []


def test_one_event_by_hand_that_fails_raises(function: Function) -> None:
    function.system.connect.contacts[VOICE_ID] = []
    function.system.connect.failures = [(429, "ThrottlingException")] * 3
    with pytest.raises(RetriableError, match="ThrottlingException"):
        function.handler(VOICE)


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
    attributes = function.sqs.get_queue_attributes(QueueUrl=function.queue_url, AttributeNames=["All"])
    assert attributes["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "1"


def test_a_dead_letter_that_can_not_be_sent_stays_on_the_queue(function: Function) -> None:
    function.sqs.delete_queue(QueueUrl=function.dead_letter_queue_url)
    function.send("not JSON")
    assert len(function.deliver()) == 1


def test_access_denied_is_no_contact_s_fault(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.system.connect.contacts[VOICE_ID] = []
    function.system.connect.failures = [(403, "AccessDeniedException")]
    function.send(VOICE)
    assert len(function.deliver()) == 1
    assert function.dead_letters() == []
    [line] = [line for line in lines_of(capsys) if line.get("contact_id")]
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
    counts = ("unknown_references", "invalid_references", "unlisted_references")
    assert [contact[name] for name in counts] == [1, 1, 0]
    [emitted] = [line for line in lines if "_aws" in line]
    assert emitted["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "ContactReferences"
    assert counted(lines) == {
        "ContactsCaptured": 1,
        "ContactsFailed": 1,
        "ReferencesCaptured": 3,
        "UnknownReferences": 1,
        "InvalidReferences": 1,
        "ApiCalls": 1,
    }
    assert sum(emitted["references_by_type"].values()) == 3
    assert emitted["references_by_type"]["UNKNOWN"] == 1
    assert emitted["SecondsToCapture"][0] == contact["seconds_to_capture"] > 0


def test_what_a_wrong_deployment_fails_is_counted_as_that(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.system.connect.contacts[VOICE_ID] = []
    function.system.connect.failures = [(403, "AccessDeniedException")]
    function.send(VOICE, {"source": "nobody"})
    assert len(function.deliver()) == 1
    counts = counted([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert (counts["ContactsFailed"], counts["ConfigurationErrors"]) == (2, 1)


def test_the_seconds_to_capture_are_told_once_of_contacts_whose_own_event_came(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.system.connect.contacts |= {VOICE_ID: [], "first": []}
    function.handler(VOICE | {"detail": VOICE["detail"] | {"initialContactId": "first"}})
    lines = [line for line in lines_of(capsys) if "contact_id" in line]
    ended = parse_iso(VOICE["detail"]["disconnectTimestamp"])
    took = (function.system.clock.now - ended).total_seconds()
    assert {line["contact_id"]: line.get("seconds_to_capture") for line in lines} == {
        VOICE_ID: pytest.approx(took, abs=1),
        "first": None,
    }
    function.system.connect.contacts[VOICE_ID] = MARKED
    function.handler(VOICE | {"id": "later", "time": "2026-03-03T12:00:00Z"})
    request = load("capture-request")
    function.system.connect.contacts[request["detail"]["contactId"]] = []
    function.handler(request)
    lines = [line for line in lines_of(capsys) if "contact_id" in line]
    assert [line["outcome"] for line in lines] == ["captured", "captured"]
    assert all("seconds_to_capture" not in line for line in lines)


def lines_of(output: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.readouterr().out.splitlines()]


def counted(lines: list[dict[str, Any]]) -> dict[str, float]:
    [emitted] = [line for line in lines if "_aws" in line]
    return {name: sum(emitted[name]) for name in COUNTS if name in emitted}


def test_references_that_the_channel_s_list_does_not_have_are_kept_and_counted(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.wire(TypeLists(TYPE_LISTS.by_channel, audit_share=1.0))
    analysis = {"ContactAnalysis": {"Name": "a", "Status": "AVAILABLE"}}
    function.system.connect.contacts[VOICE_ID] = [*MARKED, analysis, {"Mood": {"Name": "tone"}}]
    answer = function.handler(VOICE)
    assert answer["reference_count"] == 4
    lines = lines_of(capsys)
    assert counted(lines)["UnlistedReferences"] == 1
    [line] = [line for line in lines if line.get("contact_id") == VOICE_ID]
    assert line["unlisted_references"] == 1


def test_a_refused_type_is_an_error_line_and_a_count_and_is_told_once(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.system.connect.contacts |= {VOICE_ID: MARKED, "another": MARKED}
    function.system.connect.refused_types = {"ATTACHMENT"}
    another = VOICE | {"id": "another", "detail": VOICE["detail"] | {"contactId": "another", "initialContactId": None}}
    function.send(VOICE, another)
    assert function.deliver() == []
    lines = lines_of(capsys)
    assert counted(lines)["RefusedTypes"] == 1
    [line] = [line for line in lines if line.get("level") == "ERROR"]
    assert (line["channel"], line["reference_type"]) == ("VOICE", "ATTACHMENT")
    assert MARKER not in json.dumps(lines)


def test_rows_that_are_left_over_are_a_warning(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.system.connect.contacts[VOICE_ID] = MARKED
    function.handler(VOICE)
    function.system.connect.contacts[VOICE_ID] = []

    def refuse(operation: str, parameters: dict[str, Any]) -> str | None:
        is_delete = operation == "BatchWriteItem" and "DeleteRequest" in str(parameters)
        return "ThrottlingException" if is_delete else None

    function.system.fake.refuses = refuse
    capsys.readouterr()
    later = VOICE | {"id": "later", "time": "2026-03-03T12:00:00Z"}
    assert function.handler(later)["outcome"] == "captured"
    [line] = [line for line in lines_of(capsys) if line.get("level") == "WARNING"]
    assert (line["message"], line["error"]) == ("rows left over", "ThrottlingException")


def test_each_invocation_emits_its_own_counts_also_of_one_that_fails(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.system.connect.contacts[VOICE_ID] = []
    function.system.connect.failures = [(429, "ThrottlingException")] * 3
    with pytest.raises(RetriableError):
        function.handler(VOICE)
    assert counted(lines_of(capsys)) == {"ContactsFailed": 1, "ApiCalls": 3, "ThrottledApiCalls": 3}
    function.handler(VOICE)
    assert counted(lines_of(capsys)) == {"ContactsCaptured": 1, "ApiCalls": 1}
    function.handler(VOICE)
    assert counted(lines_of(capsys)) == {"ContactsSkipped": 1, "ApiCalls": 0}


def test_one_event_in_the_year_9999_hands_back_nobody_else(function: Function) -> None:
    chat = load("completed-chat")
    function.system.connect.contacts[chat["detail"]["contactId"]] = []
    function.send(VOICE | {"time": "9999-12-31T23:59:59Z"}, chat)
    assert len(function.deliver()) == 1
    assert function.system.items(chat["detail"]["contactId"])
    assert function.dead_letters() == []


def test_a_contact_event_s_time_is_reckoned_with_up_to_a_day_ahead(function: Function) -> None:
    function.system.connect.contacts |= {VOICE_ID: [], "another": []}
    detail = VOICE["detail"] | {"disconnectTimestamp": "2026-03-04T12:00:00.000Z"}
    function.handler(VOICE | {"detail": detail})
    assert function.system.items(VOICE_ID)[0]["completed_at"] == "2026-03-04T12:00:00.000Z"
    detail |= {"contactId": "another", "initialContactId": None, "disconnectTimestamp": "2026-03-04T12:01:00.000Z"}
    function.handler(VOICE | {"detail": detail, "id": "another"})
    assert function.system.items("another")[0]["completed_at"] == VOICE["time"].replace("Z", ".000Z")


SETTINGS = CaptureSettings.from_environment


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
        ("COMPLETION_EVENT_TYPES", "COMPLETED,,DISCONNECTED"),
        ("REFERENCE_TYPES", None),
        ("REFERENCE_TYPES", "URL,DATE"),
        ("REFERENCE_TYPES", "[]"),
        ("REFERENCE_TYPES", '{"VOICE": ["URL"]}'),
        ("REFERENCE_TYPES", '{"*": []}'),
        ("REFERENCE_TYPES", '{"*": "URL"}'),
        ("REFERENCE_TYPES", '{"*": ["URL", "PHONE"]}'),
        ("REFERENCE_TYPES", '{"*": [["URL"]]}'),
        ("AUDIT_SHARE", None),
        ("AUDIT_SHARE", "-0.01"),
        ("AUDIT_SHARE", "1.01"),
        ("AUDIT_SHARE", "nan"),
        ("AUDIT_SHARE", "few"),
        ("REQUESTS_PER_SECOND", "0"),
        ("REQUESTS_PER_SECOND", "nan"),
        ("REQUESTS_PER_SECOND", "inf"),
        ("REQUESTS_PER_SECOND", "many"),
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_DAYS", "1.5"),
    ],
)
def test_a_wrong_environment_is_refused_by_name_and_value(name: str, value: str | None) -> None:
    environment = ENVIRONMENT | ({name: value} if value is not None else {})
    if value is None:
        del environment[name]
    with pytest.raises(SettingsError, match=name) as refused:
        SETTINGS(environment)
    assert value is None or not value.strip() or value in str(refused.value) or name == "REFERENCE_TYPES"


def test_a_wrong_environment_stops_the_function_at_its_start() -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "TABLE_NAME"}
    paths = os.pathsep.join(str(ROOT / name) for name in ("lambdas", "."))
    more = {"AWS_LAMBDA_FUNCTION_NAME": "capture", "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": paths}
    started = subprocess.run(
        [sys.executable, "-c", "import capture.handler"],
        env=environment | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode != 0
    assert started.stderr.splitlines()[-1].startswith("contact_references.model.environment.SettingsError: TABLE_NAME")


def test_settings_are_what_the_environment_says() -> None:
    arn = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"
    more = {"INSTANCE_ARNS": f"{arn}, ", "RETENTION_DAYS": "30", "COMPLETION_EVENT_TYPES": "completed, DISCONNECTED"}
    settings = SETTINGS(ENVIRONMENT | more)
    assert [instance.instance_id for instance in settings.instances] == [INSTANCE_ID]
    assert settings.retention is not None
    assert settings.retention.days == 30
    assert settings.completion_types == {"COMPLETED", "DISCONNECTED"}
    assert settings.type_lists == TypeLists({"VOICE": ALL_TYPES[:6], "*": ALL_TYPES}, audit_share=0.01)
    assert SETTINGS(ENVIRONMENT).retention is None
    assert SETTINGS(ENVIRONMENT).instances == frozenset()
