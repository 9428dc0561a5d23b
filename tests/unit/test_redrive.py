"""After a fix, AWS's own redrive brings dead letters back, whoever put them there."""

import json
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.unit import test_handler
from tests.unit.test_handler import VOICE, VOICE_ID, Function, load

function = test_handler.function

CHAT, TASK = load("completed-chat"), load("completed-task")
IDS = [event["detail"]["contactId"] for event in (VOICE, CHAT, TASK)]


def arn_of(function: Function, url: str) -> str:
    answer = function.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])


def move_dead_letters(function: Function) -> None:
    """Redrive as a person does; the destination is named, for EventBridge's dead letters have no source queue."""
    function.sqs.meta.events.register(
        "before-call.sqs.StartMessageMoveTask", partial(answer_move_task, function), unique_id="move task"
    )
    function.sqs.start_message_move_task(
        SourceArn=arn_of(function, function.dead_letter_queue_url),
        DestinationArn=arn_of(function, function.queue_url),
    )


def answer_move_task(function: Function, params: dict[str, Any], **_: object) -> tuple[Any, dict[str, str]]:
    """Do what moto lacks: move every message, its attributes included, as a new one."""
    assert json.loads(params["body"]) == {
        "SourceArn": arn_of(function, function.dead_letter_queue_url),
        "DestinationArn": arn_of(function, function.queue_url),
    }
    sqs, source = function.sqs, function.dead_letter_queue_url
    while messages := sqs.receive_message(QueueUrl=source, MessageAttributeNames=["All"]).get("Messages"):
        for message in messages:
            attributes = {
                name: {"DataType": "String", "StringValue": value["StringValue"]}
                for name, value in message.get("MessageAttributes", {}).items()
            }
            sqs.send_message(QueueUrl=function.queue_url, MessageBody=message["Body"], MessageAttributes=attributes)
            sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
    return SimpleNamespace(status_code=200), {"TaskHandle": "task"}


def captured(function: Function) -> list[str]:
    return [contact_id for contact_id in IDS if function.system.items(contact_id)]


def send_from_eventbridge(function: Function, event: dict[str, Any]) -> None:
    """Put a dead letter as EventBridge does: the event as the body, the reason in its own attributes."""
    attributes = {
        "RULE_ARN": "arn:aws:events:us-east-1:111122223333:rule/completed",
        "TARGET_ARN": "arn:aws:sqs:us-east-1:111122223333:queue",
        "ERROR_CODE": "NO_PERMISSIONS",
        "ERROR_MESSAGE": "not allowed",
        "EXHAUSTED_RETRY_CONDITION": "MaximumEventAgeInSeconds",
        "RETRY_ATTEMPTS": "185",
    }
    function.sqs.send_message(
        QueueUrl=function.dead_letter_queue_url,
        MessageBody=json.dumps(event),
        MessageAttributes={n: {"DataType": "String", "StringValue": value} for n, value in attributes.items()},
    )


def test_what_the_function_gave_up_is_captured_after_the_fix(function: Function) -> None:
    function.send(VOICE)
    function.system.connect.failures = [(400, "InvalidParameterException")] * 7  # and for each type by itself
    assert function.deliver() == []
    move_dead_letters(function)
    function.system.connect.contacts[VOICE_ID] = []
    assert function.deliver() == []
    assert captured(function) == [VOICE_ID]
    assert function.dead_letters() == []


def test_a_contact_that_connect_did_not_know_for_an_hour_is_captured_once_it_does(function: Function) -> None:
    function.send(VOICE)
    assert function.deliver() == []
    move_dead_letters(function)
    function.system.connect.contacts[VOICE_ID] = []
    assert function.deliver() == []
    assert captured(function) == [VOICE_ID]


def test_what_is_redriven_before_the_fix_is_a_dead_letter_again_and_not_lost(function: Function) -> None:
    function.send(VOICE)
    for _ in range(3):
        assert function.deliver() == []
        move_dead_letters(function)
    function.system.connect.contacts[VOICE_ID] = []
    function.deliver()
    assert captured(function) == [VOICE_ID]


def test_what_eventbridge_could_not_deliver_is_captured(function: Function) -> None:
    function.system.connect.contacts[CHAT["detail"]["contactId"]] = []
    send_from_eventbridge(function, CHAT)
    move_dead_letters(function)
    assert function.deliver() == []
    assert captured(function) == [CHAT["detail"]["contactId"]]


def test_what_sqs_redrove_after_too_many_receives_is_captured(function: Function) -> None:
    policy = {"deadLetterTargetArn": arn_of(function, function.dead_letter_queue_url), "maxReceiveCount": 2}
    function.sqs.set_queue_attributes(
        QueueUrl=function.queue_url, Attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "0"}
    )
    function.system.connect.contacts[TASK["detail"]["contactId"]] = []
    function.send(TASK)
    for _ in range(3):  # received by an environment that dies each time
        function.sqs.receive_message(QueueUrl=function.queue_url, VisibilityTimeout=0)
    assert function.deliver() == []
    assert captured(function) == []
    move_dead_letters(function)
    assert function.deliver() == []
    assert captured(function) == [TASK["detail"]["contactId"]]


def test_dead_letters_of_all_three_kinds_come_back_together_with_their_bodies_intact(function: Function) -> None:
    function.send(VOICE)
    function.deliver()
    send_from_eventbridge(function, CHAT)
    function.sqs.send_message(QueueUrl=function.dead_letter_queue_url, MessageBody=json.dumps(TASK))
    function.system.connect.contacts |= {contact_id: [] for contact_id in IDS}
    move_dead_letters(function)
    assert function.deliver() == []
    assert captured(function) == IDS
