"""Events and requests that are not this deployment's, put on its queue past the rule: refused before any call."""

import json
from collections.abc import Callable
from uuid import uuid4

import pytest

from local.delivery import read_event
from local.emulator import INSTANCE_ARN, ROOT
from local.system import Json, System
from tests.permissions.conftest import completion
from tests.system.conftest import Contacts, configured

_ACCOUNT = "999988887777"
_ARNS = {
    "account": INSTANCE_ARN.replace("111122223333", _ACCOUNT),
    "Region": INSTANCE_ARN.replace("us-east-1", "eu-central-1"),
}


def capture_request(contact_id: str) -> Json:
    request = read_event(ROOT / "events" / "capture-request.json")
    detail = request["detail"] | {"contactId": contact_id, "initialContactId": contact_id}
    return request | {"id": str(uuid4()), "detail": detail}


def of_instance(event: Json, arn: str) -> Json:
    return event | {"detail": event["detail"] | {"instanceArn": arn}}


def enqueue(system: System, event: Json) -> None:
    system.clients.sqs.send_message(QueueUrl=system.outputs["QueueUrl"], MessageBody=json.dumps(event))
    assert system.wait_until_drained(60)


def assert_refused(system: System, event: Json) -> None:
    """Have an event delivered: it costs no call of Connect, writes nothing, and is a dead letter with its reason."""
    calls, ledger, lake, letters = system.connect_calls(), system.ledger(), system.lake(), system.dead_letters()
    enqueue(system, event)
    assert (system.connect_calls(), system.ledger(), system.lake()) == (calls, ledger, lake)
    [letter] = [letter for letter in system.dead_letters() if letter not in letters]
    assert (json.loads(letter.body), letter.attributes["error"]) == (event, "ForeignContact")


@pytest.mark.parametrize("make", [completion, capture_request])
@pytest.mark.parametrize("foreign", _ARNS)
def test_a_contact_of_another_account_or_region_is_refused(
    system: System, contacts: Contacts, make: Callable[[str], Json], foreign: str
) -> None:
    # Its ids are those of a contact that could be captured here: only the ARN tells.
    event = make(contacts.create())
    assert_refused(system, of_instance(event, _ARNS[foreign]))


@pytest.mark.parametrize("make", [completion, capture_request])
def test_an_event_sent_by_another_account_is_refused_whatever_instance_it_names(
    system: System, contacts: Contacts, make: Callable[[str], Json]
) -> None:
    event = make(contacts.create())
    assert_refused(system, event | {"account": _ACCOUNT})

    enqueue(system, event | {"account": "111122223333"})
    assert contacts.rows(event["detail"]["contactId"])[0] is not None


def test_where_instances_are_configured_another_one_s_contacts_are_refused(system: System, contacts: Contacts) -> None:
    contact_id = contacts.create()
    other = INSTANCE_ARN.replace("12345678", "87654321")
    with configured(system, "CaptureFunctionName", INSTANCE_ARNS=INSTANCE_ARN):
        assert_refused(system, of_instance(completion(contact_id), other))
        assert_refused(system, of_instance(capture_request(contact_id), other))
        enqueue(system, completion(contact_id))
    assert contacts.rows(contact_id)[0] is not None
