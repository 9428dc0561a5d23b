"""Faults of the service and of the wire, as the SDK sees them."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError

from connect_simulator import ConnectSimulator
from local.emulator import direct_open
from tests.connect_simulator.conftest import (
    ENTERED,
    INSTANCE,
    PRODUCED,
    ended,
    found_ids,
    refusal,
    seed,
    send,
    start_task,
    time_range,
)


def describe_fault(connect: Any, contact_id: str = "contact-1", types: list[str] = ENTERED) -> str:
    """What the SDK makes of a call: the error it raises, with the service's code if there was one."""
    try:
        connect.list_contact_references(InstanceId=INSTANCE, ContactId=contact_id, ReferenceTypes=types)
    except ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"
    except BotoCoreError as error:
        return type(error).__name__
    return "OK"


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("throttle", "429 ThrottlingException"),
        ("500", "500 InternalServiceException"),
        ("503", "503 503"),
        ("access_denied", "403 AccessDeniedException"),
        ("not_found", "404 ResourceNotFoundException"),
        ("invalid_parameter", "400 InvalidParameterException"),
        ("reset", "ConnectionClosedError"),
    ],
)
def test_a_fault_is_met_so_often_and_no_more(simulator: ConnectSimulator, connect: Any, kind: str, seen: str) -> None:
    simulator.import_contacts([seed()])
    simulator.faults.inject({"operation": "ListContactReferences", "kind": kind, "count": 2})

    assert [describe_fault(connect) for _ in range(3)] == [seen, seen, "OK"]
    [fault] = simulator.faults.lift()
    assert fault["hits"] == 2


def test_a_fault_without_a_count_lasts_until_it_is_lifted(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed()])
    fault = {"operation": "ListContactReferences", "kind": "500"}

    status, answer = send(simulator, "POST", "/_simulator/faults", json.dumps(fault))
    assert (status, answer) == (200, {"faults": [fault | {"count": None, "hits": 0}]})
    assert [describe_fault(connect) for _ in range(3)] == ["500 InternalServiceException"] * 3
    assert send(simulator, "GET", "/_simulator/faults")[1]["faults"][0]["hits"] == 3
    assert send(simulator, "DELETE", "/_simulator/faults")[1]["faults"][0]["hits"] == 3
    assert describe_fault(connect) == "OK"
    assert simulator.statistics()["operations"]["ListContactReferences"]["outcomes"] == {
        "InternalServiceException": 3,
        "OK": 1,
    }


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("not_json", b"<html><body>Try again</body></html>"),
        ("truncated", b'{"NextToken": null, "ReferenceSummaryList": [{"Ur'),
    ],
)
def test_a_body_that_is_no_json_comes_with_success(simulator: ConnectSimulator, kind: str, body: bytes) -> None:
    simulator.faults.inject({"operation": "ListContactReferences", "kind": kind})
    path = f"{simulator.url}/contact/references/{INSTANCE}/contact-1?referenceTypes=URL"

    with direct_open(path, timeout=10) as response:
        assert (response.status, response.read()) == (200, body)


def test_who_hangs_is_let_go_when_the_fault_is_lifted(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed()])
    simulator.faults.inject({"operation": "ListContactReferences", "kind": "hang"})
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(describe_fault, connect)
        while not simulator.faults.show()[0]["hits"]:
            assert not hanging.done()
        assert not hanging.done()
        simulator.faults.lift()
        assert hanging.result(timeout=10) == "ConnectionClosedError"
    assert describe_fault(connect) == "OK"


def test_a_fault_changes_nothing_and_leaves_other_operations_alone(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.faults.inject({"operation": "StartTaskContact", "kind": "reset"})

    with pytest.raises(ConnectionClosedError):
        start_task(connect)
    assert simulator.contacts() == []
    assert refusal(connect.stop_contact, InstanceId=INSTANCE, ContactId="contact-1")[0] == "ContactNotFoundException"


INVALID = "400 InvalidParameterException"


def test_a_refused_type_fails_every_request_that_asks_for_it_whole(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed("call"), seed("task", Channel="TASK")])
    fault = {"operation": "ListContactReferences", "kind": "invalid_parameter", "types": ["EMAIL", "CONTACT_ANALYSIS"]}

    status, answer = send(simulator, "POST", "/_simulator/faults", json.dumps(fault))

    assert (status, answer) == (200, {"faults": [fault | {"count": None, "hits": 0}]})
    for contact_id in ("call", "task"):
        assert describe_fault(connect, contact_id, ENTERED) == INVALID
        assert describe_fault(connect, contact_id, ["ATTACHMENT", "CONTACT_ANALYSIS"]) == INVALID
        assert describe_fault(connect, contact_id, ["URL", "EMAIL_MESSAGE"]) == "OK"
    send(simulator, "DELETE", "/_simulator/faults")
    assert describe_fault(connect, "call", ENTERED) == "OK"


def test_a_type_can_be_refused_for_contacts_of_some_channels_only(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed(channel, Channel=channel) for channel in ("VOICE", "CHAT", "TASK", "EMAIL")])
    narrowed = {"types": ["CONTACT_ANALYSIS"], "channels": ["TASK", "EMAIL"]}
    simulator.faults.inject({"operation": "ListContactReferences", "kind": "invalid_parameter"} | narrowed)

    seen = {channel: describe_fault(connect, channel, PRODUCED) for channel in ("VOICE", "CHAT", "TASK", "EMAIL")}

    assert seen == {"VOICE": "OK", "CHAT": "OK", "TASK": INVALID, "EMAIL": INVALID}
    assert describe_fault(connect, "TASK", ENTERED) == "OK"
    assert describe_fault(connect, "nobody", PRODUCED) == "404 ResourceNotFoundException"
    assert simulator.faults.show()[0]["hits"] == 2


def test_a_contact_can_be_hidden_for_its_first_calls(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed("late"), seed("other")])
    simulator.faults.inject({"operation": "ListContactReferences", "kind": "not_found", "contact": "late", "count": 2})

    seen = [(describe_fault(connect, "other"), describe_fault(connect, "late")) for _ in range(3)]

    hidden = ("OK", "404 ResourceNotFoundException")
    assert seen == [hidden, hidden, ("OK", "OK")]


@pytest.mark.parametrize(
    ("kind", "code"), [("access_denied", "AccessDeniedException"), ("invalid_parameter", "InvalidParameterException")]
)
def test_one_instance_can_be_refused_while_the_others_are_not(
    simulator: ConnectSimulator, connect: Any, kind: str, code: str
) -> None:
    simulator.import_contacts([ended("here", 10), ended("there", 10, InstanceId="another")])
    fault = {"operation": "SearchContacts", "kind": kind, "instance": INSTANCE}

    status, answer = send(simulator, "POST", "/_simulator/faults", json.dumps(fault))

    assert (status, answer) == (200, {"faults": [fault | {"count": None, "hits": 0}]})
    refused = refusal(connect.search_contacts, InstanceId=INSTANCE, TimeRange=time_range())
    assert refused[0] == code
    assert found_ids(connect, InstanceId="another") == ["there"]
    assert describe_fault(connect, "here") == "OK"
    assert simulator.faults.show()[0]["hits"] == 1


@pytest.mark.parametrize("instance", [INSTANCE, "another"])
def test_an_instance_in_the_path_is_one_to_narrow_to_too(
    simulator: ConnectSimulator, connect: Any, instance: str
) -> None:
    simulator.import_contacts([seed()])
    simulator.faults.inject({"operation": "ListContactReferences", "kind": "500", "instance": instance})
    assert describe_fault(connect) == ("500 InternalServiceException" if instance == INSTANCE else "OK")


def test_a_request_meets_the_first_fault_that_is_left_for_it(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed("first"), seed("second")])
    fault = {"operation": "ListContactReferences", "count": 1}
    simulator.faults.inject(fault | {"kind": "not_found", "contact": "second"})
    simulator.faults.inject(fault | {"kind": "throttle"})

    assert describe_fault(connect, "first") == "429 ThrottlingException"
    assert describe_fault(connect, "second") == "404 ResourceNotFoundException"
    assert describe_fault(connect, "second") == "OK"


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"operation": "ListContactReferences", "kind": "fire"},
        {"operation": "GetContactAttributes", "kind": "500"},
        {"operation": "ListContactReferences", "kind": "500", "count": 0},
        {"operation": "ListContactReferences", "kind": "500", "count": True},
        {"operation": "ListContactReferences", "kind": "500", "for": 1, "seconds": 1},
        {"operation": "ListContactReferences", "kind": "invalid_parameter", "types": []},
        {"operation": "ListContactReferences", "kind": "invalid_parameter", "types": "URL"},
        {"operation": "ListContactReferences", "kind": "invalid_parameter", "types": ["URI"]},
        {"operation": "ListContactReferences", "kind": "invalid_parameter", "types": [["URL"]]},
        {"operation": "ListContactReferences", "kind": "invalid_parameter", "channels": ["Voice"]},
        {"operation": "ListContactReferences", "kind": "not_found", "contact": None},
        {"operation": "DescribeContact", "kind": "not_found", "contact": "contact-1"},
        {"operation": "ListInstances", "kind": "access_denied", "instance": INSTANCE},
        {"operation": "SearchContacts", "kind": "access_denied", "instance": None},
    ],
)
def test_a_fault_that_is_none_is_refused_with_an_example(simulator: ConnectSimulator, fault: dict[str, Any]) -> None:
    status, answer = send(simulator, "POST", "/_simulator/faults", json.dumps(fault))
    assert status == 400
    assert '"kind": "throttle"' in answer["message"]
    assert simulator.faults.show() == []
