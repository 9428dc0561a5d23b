"""The lookup function's role, on an emulator that enforces it: enough to read the ledger, and for nothing else."""

import json
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from local.emulator import INSTANCE_ARN
from local.system import Json, System
from tests.permissions.conftest import Role
from tests.permissions.test_role import enforced
from tests.system.conftest import Contacts

NEEDED = {"dynamodb:Query", "dynamodb:BatchGetItem"}


@pytest.fixture
def lookup_role(system: System) -> Role:
    return Role(system, function="LookupFunctionName")


@pytest.fixture
def address() -> str:
    return f"{uuid4()}@example.com"


@pytest.fixture
def captured(contacts: Contacts, address: str) -> str:
    contact_id = contacts.create({"Email": {"Name": "reply to", "Value": address}})
    contacts.complete(contact_id)
    return contact_id


def ask(system: System, **parameters: str) -> Json:
    """Ask as a flow's block does; returns the answer, or `errorMessage` and so on if the function failed."""
    contact = {"ContactId": str(uuid4()), "InstanceARN": INSTANCE_ARN}
    event = {"Name": "ContactFlowEvent", "Details": {"ContactData": contact, "Parameters": parameters}}
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["LookupFunctionName"], Payload=json.dumps(event).encode()
    )
    result: Json = json.loads(answer["Payload"].read())
    return result


def test_every_action_of_the_lookup_function_is_known_to_be_needed_or_not_to_be_enforced_here(
    lookup_role: Role,
) -> None:
    assert enforced(lookup_role) == NEEDED


def test_with_the_template_s_role_a_flow_is_answered_by_contact_and_by_value_and_not_without_its_actions(
    system: System, captured: str, address: str, lookup_role: Role
) -> None:
    by_contact, by_value = {"contact_id": captured}, {"type": "EMAIL", "value": address}
    refusals = [
        ("dynamodb:Query", "Query", by_contact),
        ("dynamodb:Query", "Query", by_value),
        ("dynamodb:BatchGetItem", "BatchGetItem", by_value),
    ]
    for action, call, parameters in refusals:
        with lookup_role.without(action):
            refused = ask(system, **parameters)
        assert re.match(rf"AccessDenied\w*: {call} answered 4", refused["errorMessage"])

    for parameters in (by_contact, by_value):
        answer = ask(system, **parameters)
        assert (answer["reference_count"], answer["reference_1_contact_id"]) == ("1", captured)


WRITES: dict[str, Callable[[Any, str, Json], object]] = {
    "PutItem": lambda client, table, key: client.put_item(TableName=table, Item=key),
    "UpdateItem": lambda client, table, key: client.update_item(TableName=table, Key=key),
    "DeleteItem": lambda client, table, key: client.delete_item(TableName=table, Key=key),
    "BatchWriteItem": lambda client, table, key: client.batch_write_item(
        RequestItems={table: [{"DeleteRequest": {"Key": key}}]}
    ),
    "TransactWriteItems": lambda client, table, key: client.transact_write_items(
        TransactItems=[{"Delete": {"TableName": table, "Key": key}}]
    ),
}


def test_the_lookup_function_s_role_reads_and_cannot_write(
    system: System, contacts: Contacts, captured: str, lookup_role: Role
) -> None:
    client, table = lookup_role.make_client("dynamodb"), system.outputs["TableName"]
    before = contacts.rows(captured)
    item, _ = before
    assert item is not None
    key = {name: {"S": item[name]} for name in ("pk", "sk")}

    assert client.batch_get_item(RequestItems={table: {"Keys": [key]}})["Responses"][table]
    for operation, write in WRITES.items():
        with pytest.raises(ClientError, match=rf"AccessDenied.*{operation}"):
            write(client, table, key)
    assert contacts.rows(captured) == before
