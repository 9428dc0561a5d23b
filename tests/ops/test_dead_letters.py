"""Dead letters from the command line, on moto: why they are there, and their way back."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from botocore.exceptions import ClientError
from moto import mock_aws

from contact_references.aws.capture_queue import CaptureQueue, Message
from contact_references.model.errors import PermanentError
from ops import dead_letters
from ops.__main__ import main
from ops.dead_letters import DeadLetter, Deleted, delete_letters, read_dead_letters, redrive_some
from ops.deployment import Deployment
from tests.unit.conftest import make_client

EVENTS = Path(__file__).parents[2] / "events"
VOICE, CHAT = ((EVENTS / f"completed-{name}.json").read_text() for name in ("voice", "chat"))
VOICE_ID = "10000000-0000-4000-8000-000000000001"
FOREIGN = PermanentError("ForeignContact", "the instance is of another account or Region")
INVALID = PermanentError("InvalidEvent", "detail.eventType is missing")
Run = Callable[..., Any]


class MoveTasks:
    """SQS's move tasks, which moto lacks: strict about what is asked, and slow enough to be followed."""

    def __init__(self, sqs: Any, outputs: dict[str, str]) -> None:
        self._sqs, self._outputs = sqs, outputs
        self.tasks: list[dict[str, Any]] = []
        self.fails_after: int | None = None
        self.is_listed_late = False
        for name, answer in (("Start", self._start), ("List", self._list)):
            event = f"before-call.sqs.{name}MessageMoveTask{'s' if name == 'List' else ''}"
            sqs.meta.events.register(event, answer)

    def begin(self) -> dict[str, Any]:
        total = read_count(self._sqs, self._outputs["DeadLetterQueueUrl"])
        task = {
            "Status": "RUNNING",
            "SourceArn": self._outputs["DeadLetterQueueArn"],
            "DestinationArn": self._outputs["QueueArn"],
            "ApproximateNumberOfMessagesMoved": 0,
            "ApproximateNumberOfMessagesToMove": total,
            "StartedTimestamp": 1_772_443_800_000 + len(self.tasks),
        }
        self.tasks.insert(0, task)
        return task

    def _start(self, params: dict[str, Any], **_: object) -> Any:
        asked = json.loads(params["body"])
        assert asked == {
            "SourceArn": self._outputs["DeadLetterQueueArn"],
            "DestinationArn": self._outputs["QueueArn"],
        }
        assert not any(task["Status"] == "RUNNING" for task in self.tasks), "one at a time"
        self.begin()
        return SimpleNamespace(status_code=200), {"TaskHandle": "task"}

    def _list(self, params: dict[str, Any], **_: object) -> Any:
        assert json.loads(params["body"]) == {"SourceArn": self._outputs["DeadLetterQueueArn"]}
        listed = self.tasks
        if self.is_listed_late and listed:
            self.is_listed_late, listed = False, listed[1:]
        elif listed and listed[0]["Status"] == "RUNNING":
            self._go_on(listed[0])
        return SimpleNamespace(status_code=200), {"Results": [dict(task) for task in listed[:1]]}

    def _go_on(self, task: dict[str, Any]) -> None:
        """Move a message."""
        if task["ApproximateNumberOfMessagesMoved"] == self.fails_after:
            task |= {"Status": "FAILED", "FailureReason": "AWS.SimpleQueueService.NonExistentQueue"}
            return
        source = self._outputs["DeadLetterQueueUrl"]
        received = self._sqs.receive_message(QueueUrl=source, MaxNumberOfMessages=1)
        for message in received.get("Messages", []):
            self._sqs.send_message(QueueUrl=self._outputs["QueueUrl"], MessageBody=message["Body"])
            self._sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
            task["ApproximateNumberOfMessagesMoved"] += 1
        if not received.get("Messages"):
            task["Status"] = "COMPLETED"


def read_count(sqs: Any, url: str) -> int:
    answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(dead_letters, "_WAIT_SECONDS", 0)  # one server has all messages
    with mock_aws():
        yield make_client("sqs")


@pytest.fixture
def outputs(sqs: Any) -> dict[str, str]:
    names = {"Queue": "queue", "DeadLetterQueue": "dead-letters"}
    urls = {output: sqs.create_queue(QueueName=name)["QueueUrl"] for output, name in names.items()}
    arns = {output: f"arn:aws:sqs:us-east-1:123456789012:{name}" for output, name in names.items()}
    return {f"{output}Url": url for output, url in urls.items()} | {f"{output}Arn": arn for output, arn in arns.items()}


@pytest.fixture
def deployment(sqs: Any, outputs: dict[str, str]) -> Deployment:
    clients: Any = SimpleNamespace(sqs=sqs)
    return Deployment("dev", clients, outputs)


@pytest.fixture
def moves(sqs: Any, outputs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> MoveTasks:
    monkeypatch.setattr(dead_letters, "_POLL_SECONDS", 0.0)
    return MoveTasks(sqs, outputs)


@pytest.fixture
def run(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: returns its standard output, or of one that ends with another status the error."""
    app = typer.Typer()
    dead_letters.register(app)

    @app.callback()
    def choose(context: typer.Context) -> None:
        context.obj = lambda: deployment

    def run_command(*arguments: str, status: int = 0, reads_json: bool = False) -> Any:
        assert main(app, ["dead-letters", *arguments, *(["--json"] if reads_json else [])]) == status
        captured = capsys.readouterr()
        if status:
            return " ".join(captured.err.split())
        return json.loads(captured.out) if reads_json else captured.out

    return run_command


@pytest.fixture
def bury(sqs: Any, outputs: dict[str, str]) -> Callable[..., None]:
    """Put a body on the dead-letter queue as the capture function does."""
    queue = CaptureQueue(sqs, queue_url=outputs["QueueUrl"], dead_letter_queue_url=outputs["DeadLetterQueueUrl"])

    def run(body: str, error: PermanentError) -> None:
        origin = outputs["QueueArn"]
        queue.dead_letter(Message(message_id="m", receipt_handle="", body=body, receive_count=1, origin=origin), error)

    return run


def send(sqs: Any, url: str, body: str, **attributes: str) -> None:
    given = {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()}
    sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=given)


def bodies(sqs: Any, url: str) -> list[str]:
    found = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [message["Body"] for message in messages]
    return sorted(found)


# list


def test_dead_letters_are_listed_by_error_and_reason_then_one_by_one(
    sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None]
) -> None:
    bury(VOICE, FOREIGN)
    bury(CHAT, FOREIGN)
    bury("no JSON, jane@example.com", INVALID)
    rule = "arn:aws:events:us-east-1:123456789012:rule/completed"
    url = outputs["DeadLetterQueueUrl"]
    send(sqs, url, VOICE, ERROR_CODE="NO_PERMISSIONS", ERROR_MESSAGE="not [allowed]", RULE_ARN=rule)
    send(sqs, url, '{"detail": {"ContactId": "by hand"}}')
    found = run("list", reads_json=True)
    assert (found["total"], found["groups"][0]) == (5, {"error": FOREIGN.error, "reason": FOREIGN.reason, "count": 2})
    assert {group["error"]: group["count"] for group in found["groups"]} == {
        "ForeignContact": 2,
        "InvalidEvent": 1,
        "NO_PERMISSIONS": 1,
        "Unknown": 1,
    }
    by_error = {letter["error"]: letter for letter in found["dead_letters"]}
    assert by_error["NO_PERMISSIONS"]["origin"] == rule
    assert by_error["ForeignContact"]["origin"] == outputs["QueueArn"]
    assert [by_error[name]["contact_id"] for name in ("NO_PERMISSIONS", "InvalidEvent", "Unknown")] == [
        VOICE_ID,
        None,
        "by hand",
    ]
    shown = run("list")
    assert shown.index("2  ForeignContact") < shown.index("1  InvalidEvent")
    assert "not [allowed]" in shown
    assert "jane@example.com" not in shown


def test_what_sqs_moved_itself_has_that_for_its_error_whatever_it_was_before(
    sqs: Any, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(sqs, deployment.output("DeadLetterQueueUrl"), VOICE, error="ForeignContact", reason="before")
    receive = sqs.receive_message

    def receive_moved(**asked: Any) -> Any:  # moto does not say from where it moved a message
        answer = receive(**asked)
        for message in answer.get("Messages", []):
            message["Attributes"]["DeadLetterQueueSourceArn"] = deployment.output("QueueArn")
        return answer

    monkeypatch.setattr(sqs, "receive_message", receive_moved)
    [letter] = read_dead_letters(deployment)
    assert (letter.error, letter.origin) == ("TooManyReceives", deployment.output("QueueArn"))


def test_an_empty_queue_is_told(run: Run) -> None:
    assert run("list") == "There are no dead letters.\n"
    assert run("list", reads_json=True) == {"total": 0, "groups": [], "dead_letters": []}


def test_reading_gives_dead_letters_back_at_once(
    sqs: Any, outputs: dict[str, str], run: Run, deployment: Deployment, bury: Callable[..., None]
) -> None:
    for _ in range(23):
        bury(VOICE, FOREIGN)
    assert len(read_dead_letters(deployment, 12)) == 12
    assert len(run("list", reads_json=True)["dead_letters"]) == 23
    assert len(run("list", "--limit", "3", reads_json=True)["dead_letters"]) == 3
    assert read_count(sqs, outputs["DeadLetterQueueUrl"]) == 23


# show


def test_a_dead_letter_is_shown_without_what_may_be_a_person_s(run: Run, bury: Callable[..., None]) -> None:
    bury(VOICE, FOREIGN)
    [letter] = run("list", reads_json=True)["dead_letters"]
    shown = run("show", letter["message_id"], reads_json=True)
    assert shown["attributes"]["reason"] == FOREIGN.reason
    detail = shown["body"]["detail"]
    assert (detail["contactId"], detail["eventType"], detail["queueInfo"]["queueType"]) == (
        VOICE_ID,
        "COMPLETED",
        "STANDARD",
    )
    assert set(detail["tags"].values()) == {"***"}
    text = run("show", letter["message_id"])
    assert VOICE_ID in text
    assert "Billing" not in text
    assert "+12065550100" not in text


def test_a_text_that_no_terminal_takes_is_written_as_json_writes_it(run: Run, bury: Callable[..., None]) -> None:
    bury(r'{"detail": {"contactId": "a\ud800", "\ud800": 1}}', INVALID)
    [letter] = run("list", reads_json=True)["dead_letters"]
    assert letter["contact_id"] == "a\ud800"
    for options in ((), ("--json",)):
        assert r"a\ud800" in run("show", letter["message_id"], *options)
    assert r"a\ud800" in run("list")


def test_a_body_that_is_no_json_is_not_shown(run: Run, bury: Callable[..., None]) -> None:
    bury("jane@example.com", INVALID)
    [letter] = run("list", reads_json=True)["dead_letters"]
    assert run("show", letter["message_id"], reads_json=True)["body"] == "16 characters that are no JSON"


def test_a_dead_letter_that_is_not_there_is_told(run: Run, bury: Callable[..., None]) -> None:
    bury(VOICE, FOREIGN)
    assert run("show", "none", status=1) == (
        "error: none of the 1 dead letters that could be read has this id: `dead-letters list` prints their ids, which "
        "change when they are redriven"
    )


# delete


def test_one_dead_letter_is_deleted_and_the_others_stay_in_reach(
    sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None]
) -> None:
    for body in (VOICE, CHAT):
        bury(body, FOREIGN)
    first, _ = run("list", reads_json=True)["dead_letters"]
    assert run("delete", first["message_id"], "--yes", reads_json=True) == {"deleted": first["message_id"]}
    assert run("delete", first["message_id"], "--yes", status=1).startswith("error: none of the 1 dead letters")
    [left] = run("list", reads_json=True)["dead_letters"]
    assert left["message_id"] != first["message_id"]
    assert read_count(sqs, outputs["DeadLetterQueueUrl"]) == 1


@pytest.mark.parametrize("command", ["show", "delete"])
def test_a_dead_letter_is_found_wherever_in_the_queue_it_is(
    *, sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None], command: str
) -> None:
    bury(VOICE, FOREIGN)
    [letter] = run("list", reads_json=True)["dead_letters"]
    url, count = outputs["DeadLetterQueueUrl"], dead_letters.MOST_READ + 10
    receive, given = sqs.receive_message, 0

    def receive_last(**asked: Any) -> Any:  # as moto would, had it been told of so many
        nonlocal given
        if given >= count:
            return receive(**asked)
        given += 10
        entry = {"ReceiptHandle": "other", "Body": CHAT, "Attributes": {"SentTimestamp": "1772443800000"}}
        return {"Messages": [entry | {"MessageId": f"other {given + number}"} for number in range(10)]}

    sqs.receive_message, sqs.change_message_visibility_batch = receive_last, lambda **_: {}
    options = ["--yes"] if command == "delete" else []
    found = run(command, letter["message_id"], *options, reads_json=True)
    assert found.get("deleted", found.get("message_id")) == letter["message_id"]
    assert given == count
    if command == "delete":
        sqs.receive_message = receive
        assert bodies(sqs, url) == []


def test_a_dead_letter_that_sqs_does_not_delete_is_told(sqs: Any, run: Run, bury: Callable[..., None]) -> None:
    bury(VOICE, FOREIGN)
    [letter] = run("list", reads_json=True)["dead_letters"]
    failed = {"Id": "0", "Code": "InternalError", "SenderFault": False}
    sqs.delete_message_batch = lambda **_: {"Failed": [failed]}
    error = run("delete", letter["message_id"], "--yes", status=1)
    assert error == "error: SQS did not delete it (InternalError): try again"
    assert len(run("list", reads_json=True)["dead_letters"]) == 1


def is_voice(letter: DeadLetter) -> bool:
    return letter.is_about({"other", VOICE_ID})


def test_those_that_are_wanted_are_deleted_and_the_others_stay(
    sqs: Any, outputs: dict[str, str], deployment: Deployment, bury: Callable[..., None]
) -> None:
    for _ in range(12):
        bury(VOICE, FOREIGN)
        bury(CHAT, INVALID)
    told: list[tuple[int, int]] = []
    assert delete_letters(deployment, is_voice, on_progress=lambda *at: told.append(at)) == Deleted(12, 12)
    assert told[-1] == (12, 24)
    assert delete_letters(deployment, is_voice) == Deleted(0, 12), "a second run is safe"
    assert bodies(sqs, outputs["DeadLetterQueueUrl"]) == [CHAT] * 12
    assert bodies(sqs, outputs["QueueUrl"]) == []


def test_a_letter_that_comes_back_after_it_was_deleted_is_counted_once(
    sqs: Any, outputs: dict[str, str], deployment: Deployment, bury: Callable[..., None]
) -> None:
    for _ in range(3):
        bury(VOICE, FOREIGN)
    calls = receive_again(sqs, outputs["DeadLetterQueueUrl"], times=2)
    assert delete_letters(deployment, is_voice) == Deleted(3, 0)
    assert len(calls) == 2


def test_a_letter_that_comes_back_after_it_was_moved_is_not_sent_again(
    sqs: Any, outputs: dict[str, str], deployment: Deployment, bury: Callable[..., None]
) -> None:
    bury(VOICE, FOREIGN)
    receive_again(sqs, outputs["DeadLetterQueueUrl"], times=2)
    assert redrive_some(deployment, is_voice).moved == 1
    assert bodies(sqs, outputs["QueueUrl"]) == [VOICE]


def test_what_sqs_deletes_when_it_comes_back_was_not_refused(
    sqs: Any, outputs: dict[str, str], deployment: Deployment, bury: Callable[..., None]
) -> None:
    bury(VOICE, FOREIGN)
    receive_again(sqs, outputs["DeadLetterQueueUrl"], times=1)
    done, calls = sqs.delete_message_batch, list[Any]()

    def refuse_at_first(**asked: Any) -> Any:
        calls.append(asked)
        failed = {"Id": "0", "Code": "InternalError", "SenderFault": False}
        return {"Failed": [failed]} if len(calls) == 1 else done(**asked)

    sqs.delete_message_batch = refuse_at_first
    assert delete_letters(deployment, is_voice) == Deleted(1, 0)


def test_what_sqs_does_not_delete_is_counted_by_its_error(
    sqs: Any, outputs: dict[str, str], deployment: Deployment, bury: Callable[..., None]
) -> None:
    for _ in range(3):
        bury(VOICE, FOREIGN)
    done = sqs.delete_message_batch

    def refuse_one(**asked: Any) -> Any:  # moto refuses none
        first, *others = asked["Entries"]
        answer = done(**asked | {"Entries": others})
        return answer | {"Failed": [{"Id": first["Id"], "Code": "InternalError", "SenderFault": False}]}

    sqs.delete_message_batch = refuse_one
    assert delete_letters(deployment, is_voice) == Deleted(2, 1, refused={"InternalError": 1})
    sqs.delete_message_batch = done
    assert delete_letters(deployment, is_voice) == Deleted(1, 0)
    assert read_count(sqs, outputs["DeadLetterQueueUrl"]) == 0


def test_letters_that_cannot_be_read_are_told(
    sqs: Any, outputs: dict[str, str], deployment: Deployment, bury: Callable[..., None]
) -> None:
    for body in (CHAT, VOICE):
        for _ in range(10):
            bury(body, FOREIGN)
    receive_again(sqs, outputs["DeadLetterQueueUrl"], times=1000)
    assert delete_letters(deployment, is_voice) == Deleted(0, 20, unread=10)
    assert read_count(sqs, outputs["DeadLetterQueueUrl"]) == 20, "and are given back"


@pytest.mark.parametrize(
    "body",
    [
        VOICE,
        f"no JSON, {VOICE_ID}\x1f",
        json.dumps({"detail": {"contactId": "other", "initialContactId": VOICE_ID}}),
        json.dumps(VOICE_ID).replace("-", "\\u002d"),
        json.dumps({"detail": [{"note": f"see https://crm.example.com/{VOICE_ID}?a=b"}]}),
    ],
)
def test_a_letter_is_about_a_contact_whose_id_is_anywhere_in_its_body(
    body: str, deployment: Deployment, bury: Callable[..., None]
) -> None:
    bury(body, INVALID)
    [letter] = read_dead_letters(deployment)
    assert letter.is_about({"other", VOICE_ID})
    assert not letter.is_about({VOICE_ID[:-1]})
    assert not letter.is_about({VOICE_ID[1:]})
    assert not letter.is_about({""}), "which is in every text"


@pytest.mark.parametrize(
    ("written", "contact_id"), [("ABC-1", "abc-1"), ("abc-1", "ABC-1"), ('a"b\\c', 'a"b\\c'), ("\n", "\n")]
)
def test_a_letter_is_about_a_contact_however_its_id_is_written(
    written: str, contact_id: str, deployment: Deployment, bury: Callable[..., None]
) -> None:
    bury(json.dumps({"detail": {"contactId": written}}), INVALID)
    [letter] = read_dead_letters(deployment)
    assert letter.is_about({contact_id})


def test_a_letter_of_a_leg_is_not_about_the_contact_that_it_continues(
    deployment: Deployment, bury: Callable[..., None]
) -> None:
    bury(json.dumps({"detail": {"contactId": "leg", "initialContactId": VOICE_ID}}), INVALID)
    [letter] = read_dead_letters(deployment)
    assert letter.is_about({"leg"})
    assert not letter.is_about({VOICE_ID})


def test_a_letter_is_about_a_contact_whose_id_is_in_its_attributes(
    sqs: Any, outputs: dict[str, str], deployment: Deployment
) -> None:
    send(sqs, outputs["DeadLetterQueueUrl"], "nothing", note=f"contact {VOICE_ID} was put here")
    [letter] = read_dead_letters(deployment)
    assert letter.is_about({"other", VOICE_ID})
    assert not letter.is_about({"put.here"}), "an id is no pattern"


# redrive


def test_all_dead_letters_are_moved_by_sqs_itself(
    sqs: Any, outputs: dict[str, str], run: Run, moves: MoveTasks, bury: Callable[..., None]
) -> None:
    bury(VOICE, FOREIGN)
    bury(CHAT, INVALID)
    moves.tasks = [{"Status": "COMPLETED", "StartedTimestamp": 1, "ApproximateNumberOfMessagesMoved": 99}]
    assert run("redrive", "--yes", reads_json=True) == {"moved": 2, "left": 0}
    assert bodies(sqs, outputs["QueueUrl"]) == sorted([VOICE, CHAT])
    assert run("redrive", "--yes") == "0 moved to the queue; there are 0 dead letters now.\n"
    assert len(moves.tasks) == 2, "nothing is asked for where there is nothing"


def test_a_move_that_is_under_way_is_followed(run: Run, moves: MoveTasks, bury: Callable[..., None]) -> None:
    bury(VOICE, FOREIGN)
    moves.begin()
    assert run("redrive", "--yes") == "1 moved to the queue; there are 0 dead letters now.\n"
    assert len(moves.tasks) == 1


def test_a_move_that_is_listed_late_is_waited_for(
    sqs: Any, run: Run, moves: MoveTasks, bury: Callable[..., None]
) -> None:
    bury(VOICE, FOREIGN)
    sqs.meta.events.register_first(
        "before-call.sqs.StartMessageMoveTask", lambda **_: setattr(moves, "is_listed_late", True)
    )
    assert run("redrive", "--yes", reads_json=True) == {"moved": 1, "left": 0}


def test_a_move_that_failed_is_told(run: Run, moves: MoveTasks, bury: Callable[..., None]) -> None:
    for _ in range(2):
        bury(VOICE, FOREIGN)
    moves.fails_after = 1
    assert run("redrive", "--yes", status=1).endswith(
        "error: SQS stopped after 1 messages, FAILED: AWS.SimpleQueueService.NonExistentQueue; the others are dead "
        "letters still: run it again"
    )


@pytest.mark.parametrize(
    "chosen",
    [
        ("--error", "ForeignContact"),
        ("--reason", FOREIGN.reason),
        ("--error", FOREIGN.error, "--reason", FOREIGN.reason),
    ],
)
def test_those_of_one_error_or_reason_are_moved_and_the_others_stay(
    sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None], chosen: tuple[str, ...]
) -> None:
    for _ in range(12):
        bury(VOICE, FOREIGN)
        bury(CHAT, INVALID)
    assert run("redrive", *chosen, "--yes", reads_json=True) == {"moved": 12, "left": 12}
    assert run("redrive", *chosen, "--yes", reads_json=True) == {"moved": 0, "left": 12}, "a second run is safe"
    assert bodies(sqs, outputs["QueueUrl"]) == [VOICE] * 12
    assert bodies(sqs, outputs["DeadLetterQueueUrl"]) == [CHAT] * 12


def test_where_sqs_has_no_move_task_they_are_moved_by_the_command(
    sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None]
) -> None:
    answer = {"Error": {"Code": "InvalidAction", "Message": "The action is not valid for this endpoint."}}
    sqs.meta.events.register(
        "before-call.sqs.*",
        lambda model, **_: (SimpleNamespace(status_code=400), answer) if "MoveTask" in model.name else None,
    )
    bury(VOICE, FOREIGN)
    bury(CHAT, INVALID)
    assert run("redrive", "--yes", reads_json=True) == {"moved": 2, "left": 0}
    assert bodies(sqs, outputs["QueueUrl"]) == sorted([VOICE, CHAT])


def test_a_refused_move_is_not_taken_for_one_that_there_is_not(sqs: Any, run: Run, bury: Callable[..., None]) -> None:
    answer = {"Error": {"Code": "AccessDenied", "Message": "no"}}
    for operation in ("StartMessageMoveTask", "ListMessageMoveTasks"):
        sqs.meta.events.register(f"before-call.sqs.{operation}", lambda **_: (SimpleNamespace(status_code=403), answer))
    bury(VOICE, FOREIGN)
    assert "ListMessageMoveTasks is denied" in run("redrive", "--yes", status=1)


def test_attributes_go_along(sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None]) -> None:
    bury(VOICE, FOREIGN)
    run("redrive", "--error", "ForeignContact", "--yes")
    [message] = sqs.receive_message(QueueUrl=outputs["QueueUrl"], MessageAttributeNames=["All"])["Messages"]
    assert message["MessageAttributes"]["error"] == {"DataType": "String", "StringValue": "ForeignContact"}


@pytest.mark.parametrize("operation", ["send_message_batch", "delete_message_batch"])
def test_none_is_lost_when_it_is_cut_off(
    sqs: Any, outputs: dict[str, str], deployment: Deployment, bury: Callable[..., None], operation: str
) -> None:
    for _ in range(13):
        bury(VOICE, FOREIGN)
    done = getattr(sqs, operation)
    calls = 0

    def cut_off(**asked: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ClientError({"Error": {"Code": "ServiceUnavailable"}}, operation)
        return done(**asked)

    setattr(sqs, operation, cut_off)
    with pytest.raises(ClientError):
        redrive_some(deployment, lambda _: True)
    setattr(sqs, operation, done)
    left = redrive_some(deployment, lambda _: True)
    assert (left.moved, left.left) == (3, 0)
    repeated = 3 if operation == "delete_message_batch" else 0
    assert bodies(sqs, outputs["QueueUrl"]) == [VOICE] * (13 + repeated)


@pytest.mark.parametrize("operation", ["send_message_batch", "delete_message_batch"])
def test_what_sqs_does_not_take_is_not_deleted_and_told(
    *, sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None], operation: str
) -> None:
    for _ in range(3):
        bury(VOICE, FOREIGN)
    done = getattr(sqs, operation)

    def refuse_one(**asked: Any) -> Any:  # moto refuses none
        refused = {"Id": asked["Entries"][1]["Id"], "Code": "InternalError", "SenderFault": False}
        answer = done(**asked | {"Entries": [entry for entry in asked["Entries"] if entry["Id"] != refused["Id"]]})
        return answer | {"Failed": [refused]}

    setattr(sqs, operation, refuse_one)
    error = run("redrive", "--error", "ForeignContact", "--yes", status=1)
    assert error.endswith("error: SQS did not move 1 (InternalError), which are dead letters still: run it again")
    assert len(bodies(sqs, outputs["DeadLetterQueueUrl"])) == 1
    assert len(bodies(sqs, outputs["QueueUrl"])) == (2 if operation == "send_message_batch" else 3)


def test_requests_are_no_larger_than_sqs_takes(
    sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None]
) -> None:
    for _ in range(4):
        bury("\N{EURO SIGN}" * 40_000, FOREIGN)
    assert run("redrive", "--error", "ForeignContact", "--yes", reads_json=True) == {"moved": 4, "left": 0}
    assert len(bodies(sqs, outputs["QueueUrl"])) == 4


def receive_again(sqs: Any, url: str, *, times: int) -> list[str]:
    """Let the first ten letters come back `times` times before the others, as once they are hidden no longer."""
    receive, first, calls = sqs.receive_message, list[Any](), list[str]()

    def answer(**asked: Any) -> Any:
        if asked["QueueUrl"] != url or not first or len(calls) >= times:
            received = receive(**asked)
            first.extend(() if first else received.get("Messages", []))
            return received
        calls.append(url)
        return {"Messages": first}

    sqs.receive_message = answer
    return calls


def test_letters_that_come_back_do_not_end_it(
    sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None]
) -> None:
    for error in (INVALID, FOREIGN):
        for _ in range(10):
            bury(VOICE, error)
    calls = receive_again(sqs, outputs["DeadLetterQueueUrl"], times=2)
    assert run("redrive", "--error", "ForeignContact", "--yes", reads_json=True) == {"moved": 10, "left": 10}
    assert len(calls) == 2


def test_it_ends_and_tells_if_only_letters_come_that_it_knows(
    sqs: Any, outputs: dict[str, str], run: Run, bury: Callable[..., None]
) -> None:
    for error in (INVALID, FOREIGN):
        for _ in range(10):
            bury(VOICE, error)
    calls = receive_again(sqs, outputs["DeadLetterQueueUrl"], times=1000)
    error = run("redrive", "--error", "ForeignContact", "--yes", status=1)
    assert error.endswith("error: about 10 dead letters could not be read, and are left: run it again")
    assert len(calls) < 10


def test_what_fails_again_at_once_does_not_go_round_and_round(
    sqs: Any, deployment: Deployment, bury: Callable[..., None]
) -> None:
    bury(VOICE, FOREIGN)
    started_at = datetime.now(UTC)  # moto's own clock, which is the real one, names when a message came
    send_message_batch = sqs.send_message_batch

    def fail_again(**asked: Any) -> Any:
        answer = send_message_batch(**asked)
        bury(VOICE, FOREIGN)
        return answer

    sqs.send_message_batch = fail_again
    moved = redrive_some(deployment, lambda _: True, clock=lambda: started_at)
    assert (moved.moved, moved.left) == (1, 1)


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_nothing_is_moved_without_an_answer(
    *,
    sqs: Any,
    outputs: dict[str, str],
    run: Run,
    bury: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    bury(VOICE, FOREIGN)
    for options in ((), ("--json",), ("--error", "ForeignContact")):
        monkeypatch.setattr("sys.stdin", StringIO(answer))
        assert "There are about 1 dead letters. Put" in run("redrive", *options, status=1)
    assert read_count(sqs, outputs["DeadLetterQueueUrl"]) == 1
