"""What only the deployed system shows of looking up: the function that is deployed, asked as a flow asks."""

import json
from uuid import uuid4

from local.emulator import INSTANCE_ARN
from local.system import Json, System
from tests.system.conftest import Contacts


def ask(system: System, *, previous: str | None = None, **parameters: str) -> Json:
    contact = {"ContactId": str(uuid4()), "InstanceARN": INSTANCE_ARN, "PreviousContactId": previous}
    event = {"Name": "ContactFlowEvent", "Details": {"ContactData": contact, "Parameters": parameters}}
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["LookupFunctionName"], Payload=json.dumps(event).encode()
    )
    result: Json = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, result
    return result


def test_a_flow_is_told_what_was_captured_by_contact_and_by_value(system: System, contacts: Contacts) -> None:
    address = f"{uuid4()}@example.com"
    email = {"Email": {"Name": "reply to", "Value": address.upper()}}
    earlier = contacts.create(email, {"String": {"Name": "case", "Value": "CASE-1"}})
    later = contacts.create(email, DisconnectTimestamp="2026-03-02T10:30:00.000Z")
    contacts.complete(earlier, later)

    of_contact = ask(system, previous=earlier, types="STRING")
    assert of_contact == {
        "found": "true",
        "reference_count": "1",
        "truncated": "false",
        "reference_1_type": "STRING",
        "reference_1_contact_id": earlier,
        "reference_1_name": "case",
        "reference_1_value": "CASE-1",
        "reference_1_completed_at": "2026-03-02T09:30:00.000Z",
    }

    of_value = ask(system, type="EMAIL", value=address)
    assert [of_value[f"reference_{number}_contact_id"] for number in (1, 2)] == [later, earlier]
    assert (of_value["reference_count"], of_value["reference_1_value"]) == ("2", address.upper())


def test_a_flow_that_asks_for_nothing_known_or_wrongly_gets_an_answer(system: System) -> None:
    assert ask(system, previous=str(uuid4())) == {"found": "false", "reference_count": "0", "truncated": "false"}
    assert ask(system, type="EMAIL")["error"] == "type and value go together: one of them is missing"
