"""Contacts put in place, and the control endpoints."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from connect_simulator import ConnectSimulator, ServiceError
from tests.connect_simulator.conftest import PRODUCED, UNLIMITED, Clock, references_of, seed, send, start_task


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"Channel": "HOLOGRAM"}, "Channel"),
        ({"Chanel": "VOICE"}, "Chanel"),
        ({"DisconnectTimestamp": "yesterday"}, "DisconnectTimestamp"),
        ({"DisconnectTimestamp": "2026-03-01T10:00:00"}, "DisconnectTimestamp"),
        ({"DisconnectTimestamp": "2026-03-02T09:30:00.001Z"}, "DisconnectTimestamp is in the future"),
        ({"References": [{"Url": {}, "String": {}}]}, "References[0]"),
        ({"References": [{"Url": {"Name": "Order", "Value": 17}}]}, "References[0].Url.Value"),
    ],
)
def test_an_import_with_a_contact_that_is_not_usable_imports_none(
    simulator: ConnectSimulator, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(ServiceError, match=re.escape(f"contact bad: {named}")):
        simulator.import_contacts([seed("good"), seed("bad", **change)])

    assert simulator.contacts() == []


def test_an_imported_contact_replaces_one_with_its_id(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed(References=[{"String": {"Name": "Case", "Value": "17"}}])])
    simulator.import_contacts([seed()])

    assert references_of(connect, "contact-1") == []


def test_an_import_can_have_its_own_time_until_attachments_settle(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    references = [{"Attachment": {"Name": "photo", "Status": "PROCESSING"}}]
    contacts = {"contacts": [seed("posted", References=references)], "settle_seconds": 1200}
    simulator.import_contacts([seed("soon", References=references)])
    simulator.import_contacts([seed("late", References=references)], settle_seconds=1200)
    assert send(simulator, "POST", "/_simulator/contacts", json.dumps(contacts))[0] == 200

    def statuses() -> list[str]:
        listed = [references_of(connect, contact_id, PRODUCED) for contact_id in ("soon", "late", "posted")]
        return [str(references[0]["Attachment"]["Status"]) for references in listed]

    clock.now += 1199
    assert statuses() == ["APPROVED", "PROCESSING", "PROCESSING"]
    clock.now += 1
    assert statuses() == ["APPROVED", "APPROVED", "APPROVED"]
    assert send(simulator, "POST", "/_simulator/contacts", json.dumps(contacts | {"settle_seconds": "1200"}))[0] == 400


def test_the_control_endpoints_do_what_the_methods_do(simulator: ConnectSimulator) -> None:
    contacts = json.dumps({"contacts": [seed("first")]})

    assert send(simulator, "GET", "/_simulator/health") == (200, {"status": "ok"})
    assert send(simulator, "POST", "/_simulator/contacts", contacts) == (200, {"imported": 1})
    status, answer = send(simulator, "POST", "/_simulator/contacts/first/transfer")
    assert status == 200
    assert send(simulator, "POST", f"/_simulator/contacts/{answer['ContactId']}/complete")[0] == 200
    assert send(simulator, "GET", "/_simulator/contacts") == (200, {"contacts": simulator.contacts()})
    assert send(simulator, "GET", "/_simulator/events") == (200, {"events": simulator.events})
    assert send(simulator, "GET", "/_simulator/statistics") == (200, simulator.statistics())
    assert [contact["Reached"][-1] for contact in simulator.contacts()] == ["COMPLETED", "COMPLETED"]
    assert send(simulator, "POST", "/_simulator/contacts", "[]")[0] == 400
    assert send(simulator, "POST", "/_simulator/contacts/nobody/complete")[0] == 404
    assert send(simulator, "POST", "/_simulator/contacts/first/transfer")[0] == 409
    assert send(simulator, "GET", "/_simulator/nothing")[0] == 404


def test_a_stopped_simulator_answers_nobody(client_of: Callable[[ConnectSimulator], Any]) -> None:
    with ConnectSimulator(quotas=UNLIMITED) as simulator:
        connect = client_of(simulator)
        contact_id = start_task(connect)  # from here on the client keeps a connection

    with pytest.raises(EndpointConnectionError):
        references_of(connect, contact_id)
