"""The events of a contact's life: their form, their way to a bus, and what can happen to them on it."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from connect_simulator import ConnectSimulator, ServiceError
from tests.connect_simulator.conftest import INSTANCE, Clock, ended, event_types, references_of, seed, send, start_task


def test_a_task_lives_through_all_its_events(connect: Any, simulator: ConnectSimulator) -> None:
    contact_id = start_task(connect)
    assert event_types(simulator, contact_id) == ["INITIATED", "CONNECTED_TO_SYSTEM"]

    simulator.complete(contact_id)
    life = ["INITIATED", "CONNECTED_TO_SYSTEM", "QUEUED", "CONNECTED_TO_AGENT", "DISCONNECTED", "COMPLETED"]
    assert event_types(simulator, contact_id) == life

    simulator.complete(contact_id)
    assert event_types(simulator, contact_id) == [*life, "COMPLETED"]


def test_an_event_has_the_form_of_the_services_own(connect: Any, simulator: ConnectSimulator, clock: Clock) -> None:
    contact_id = start_task(connect)
    clock.now += 0.25
    simulator.complete(contact_id)

    entry = simulator.events[-1]
    instance_arn = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE}"
    assert entry["Source"] == "aws.connect"
    assert entry["DetailType"] == "Amazon Connect Contact Event"
    assert entry["Time"] == "2026-03-02T09:30:00Z"
    assert entry["Resources"] == [instance_arn, f"{instance_arn}/contact/{contact_id}"]
    detail = json.loads(entry["Detail"])
    assert detail["eventType"] == "COMPLETED"
    assert detail["instanceArn"] == instance_arn
    assert (detail["channel"], detail["initiationMethod"]) == ("TASK", "API")
    assert detail["initiationTimestamp"] == "2026-03-02T09:30:00.000Z"
    assert detail["disconnectTimestamp"] == "2026-03-02T09:30:00.250Z"
    assert {"queueInfo", "agentInfo", "tags"} <= set(detail)
    assert "initialContactId" not in detail
    assert "references" not in {name.lower() for name in detail}


def test_imported_contacts_make_no_event_and_complete_from_where_they_are(simulator: ConnectSimulator) -> None:
    times = {"InitiationTimestamp": "2026-03-01T10:00:00Z", "DisconnectTimestamp": "2026-03-01T10:05:00.500Z"}
    simulator.import_contacts([seed("ended", **times), seed("outbound", InitiationMethod="OUTBOUND")])
    assert simulator.events == []

    simulator.complete("ended")
    simulator.complete("outbound")

    assert event_types(simulator, "ended") == ["COMPLETED"]
    detail = json.loads(simulator.events[0]["Detail"])
    assert detail["disconnectTimestamp"] == "2026-03-01T10:05:00.500Z"
    assert "queueInfo" not in detail
    # An outbound call reaches no queue.
    assert event_types(simulator, "outbound") == [
        "CONNECTED_TO_SYSTEM",
        "CONNECTED_TO_AGENT",
        "DISCONNECTED",
        "COMPLETED",
    ]


def test_stopping_and_creating_contacts_make_the_events_of_what_happened(
    connect: Any, simulator: ConnectSimulator
) -> None:
    stopped = start_task(connect)
    connect.stop_contact(InstanceId=INSTANCE, ContactId=stopped)
    task = {"InstanceId": INSTANCE, "Channel": "TASK", "InitiationMethod": "API"}
    created = connect.create_contact(**task)["ContactId"]
    connected = connect.create_contact(**task, InitiateAs="CONNECTED_TO_USER")["ContactId"]
    completed = connect.create_contact(**task, InitiateAs="COMPLETED")["ContactId"]

    assert event_types(simulator, stopped)[2:] == ["DISCONNECTED", "COMPLETED"]
    assert event_types(simulator, created) == ["INITIATED"]
    assert event_types(simulator, connected) == ["INITIATED", "CONNECTED_TO_AGENT"]
    assert event_types(simulator, completed) == ["INITIATED", "DISCONNECTED", "COMPLETED"]


def test_an_update_of_references_makes_no_event_one_of_segment_attributes_does(
    connect: Any, simulator: ConnectSimulator
) -> None:
    simulator.import_contacts([seed()])
    update = {"InstanceId": INSTANCE, "ContactId": "contact-1"}

    connect.update_contact(**update, References={"Case": {"Type": "STRING", "Value": "17"}}, Name="new")
    assert simulator.events == []

    connect.update_contact(**update, SegmentAttributes={"tier": {"ValueString": "gold"}})
    assert event_types(simulator, "contact-1") == ["CONTACT_DATA_UPDATED"]


def test_a_transfer_makes_a_leg_that_knows_its_chain_and_has_its_own_references(
    connect: Any, simulator: ConnectSimulator
) -> None:
    simulator.import_contacts([seed("first", References=[{"String": {"Name": "Case", "Value": "17"}}])])

    second = simulator.transfer("first")
    third = simulator.transfer(second)
    simulator.complete(third)

    detail = json.loads(simulator.events[-1]["Detail"])
    assert (detail["contactId"], detail["initialContactId"], detail["previousContactId"]) == (third, "first", second)
    assert detail["initiationMethod"] == "TRANSFER"
    assert [event_types(simulator, leg)[-1] for leg in ("first", second, third)] == ["COMPLETED"] * 3
    connect.update_contact(
        InstanceId=INSTANCE, ContactId=third, References={"Note": {"Type": "STRING", "Value": "hurry"}}
    )
    assert references_of(connect, third) == [{"String": {"Name": "Note", "Value": "hurry"}}]
    assert references_of(connect, "first") == [{"String": {"Name": "Case", "Value": "17"}}]
    with pytest.raises(ServiceError, match="ConflictException"):
        simulator.transfer("first")


@pytest.fixture
def bus() -> Iterator[tuple[str, list[dict[str, Any]], dict[str, Any]]]:
    """An event bus on loopback: its URL, what it was sent, and the answer it gives, to be changed by a test."""
    received: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"status": 200, "body": {"FailedEntryCount": 0, "Entries": []}}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answer["status"])
            self.end_headers()
            self.wfile.write(json.dumps(answer["body"]).encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """Keep the test's output clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/put", received, answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_events_are_delivered_to_the_endpoint(
    client_of: Callable[[ConnectSimulator], Any], bus: tuple[str, list[dict[str, Any]], dict[str, Any]]
) -> None:
    url, received, _ = bus
    with ConnectSimulator(events_endpoint=url) as simulator:
        contact_id = start_task(client_of(simulator))
        simulator.complete(contact_id)

        assert [entry for request in received for entry in request["Entries"]] == simulator.events
        assert simulator.statistics()["events"] == {"emitted": 6, "undelivered": 0, "dropped": 0, "repeated": 0}


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "NotAuthorizedForSource"}]}, "NotAuthorizedForSource"),
        (500, {}, "500"),
        (200, {}, "FailedEntryCount"),
    ],
)
def test_an_event_the_bus_refuses_is_reported_and_counted(
    bus: tuple[str, list[dict[str, Any]], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: dict[str, Any],
    reason: str,
) -> None:
    url, _, answer = bus
    answer.update(status=status, body=body)
    with ConnectSimulator(events_endpoint=url) as simulator:
        simulator.import_contacts([seed(DisconnectTimestamp="2026-03-01T10:00:00Z")])
        simulator.complete("contact-1")

        assert simulator.statistics()["events"] == {"emitted": 1, "undelivered": 1, "dropped": 0, "repeated": 0}
    printed = capsys.readouterr().err
    assert "1 of 1 contact events not delivered" in printed
    assert reason in printed


def test_the_api_works_while_the_bus_is_away(
    client_of: Callable[[ConnectSimulator], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with ConnectSimulator() as gone:
        endpoint = gone.url
    with ConnectSimulator(events_endpoint=endpoint) as simulator:
        contact_id = start_task(client_of(simulator))

        assert event_types(simulator, contact_id) == ["INITIATED", "CONNECTED_TO_SYSTEM"]
        assert simulator.statistics()["events"] == {"emitted": 2, "undelivered": 2, "dropped": 0, "repeated": 0}
    assert "ConnectionRefusedError" in capsys.readouterr().err


def test_an_events_endpoint_that_is_no_http_url_is_refused() -> None:
    with pytest.raises(ValueError, match="for example http://"):
        ConnectSimulator(events_endpoint="localhost:4566")


def complete_contacts(simulator: ConnectSimulator, ids: list[str]) -> list[tuple[str, str]]:
    """Import ended contacts, complete them, and return contact and type of each event that got on the bus."""
    simulator.import_contacts([ended(contact_id, 60) for contact_id in ids])
    for contact_id in ids:
        simulator.complete(contact_id)
    details = [json.loads(entry["Detail"]) for entry in simulator.events]
    return [(detail["contactId"], detail["eventType"]) for detail in details]


def test_a_disturbance_drops_and_repeats_the_shares_it_was_given(
    bus: tuple[str, list[dict[str, Any]], dict[str, Any]], clock: Clock
) -> None:
    url, received, _ = bus
    ids = [f"contact-{number}" for number in range(1000)]
    with ConnectSimulator(clock=clock, events_endpoint=url) as simulator:
        simulator.disturb_events(drop=0.3, repeat=0.1)
        seen = Counter(complete_contacts(simulator, ids))
        counts = simulator.statistics()["events"]

        assert [entry for request in received for entry in request["Entries"]] == simulator.events
    # Which ones is fixed, so these bounds, three standard deviations, hold always or never.
    assert 257 <= 1000 - len(seen) <= 343
    assert 45 <= sum(times == 2 for times in seen.values()) <= 95
    assert set(seen.values()) == {1, 2}
    assert counts == {
        "emitted": 1000,
        "undelivered": 0,
        "dropped": 1000 - len(seen),
        "repeated": sum(times == 2 for times in seen.values()),
    }
    assert [contact["Reached"][-1] for contact in simulator.contacts()] == ["COMPLETED"] * 1000


def test_a_disturbance_does_the_same_to_the_same_contacts_in_any_order(clock: Clock) -> None:
    ids = [f"contact-{number}" for number in range(50)]
    runs = []
    for order in (ids, ids[::-1]):
        simulator = ConnectSimulator(clock=clock)
        with simulator:
            simulator.disturb_events(drop=0.5, repeat=0.5)
            runs.append(Counter(complete_contacts(simulator, order)))

    assert runs[0] == runs[1]
    assert 0 < len(runs[0]) < 50


def test_a_dropped_event_that_is_sent_again_has_another_chance(simulator: ConnectSimulator) -> None:
    simulator.disturb_events(drop=0.5)
    sent = complete_contacts(simulator, ["contact-1"] * 20)

    assert 0 < len(sent) < 20


def test_a_disturbance_of_everything_and_of_nothing(
    bus: tuple[str, list[dict[str, Any]], dict[str, Any]], clock: Clock
) -> None:
    url, received, _ = bus
    with ConnectSimulator(clock=clock, events_endpoint=url) as simulator:
        simulator.import_contacts([seed("first"), seed("second"), seed("third")])
        simulator.disturb_events(drop=1)
        simulator.complete("first")
        assert (simulator.events, received) == ([], [])

        simulator.disturb_events(repeat=1)
        simulator.transfer("second")
        # PutEvents takes ten entries: the leg's event and the five that were left of the old contact's, twice.
        assert [len(request["Entries"]) for request in received] == [10, 2]
        assert simulator.events[:6] == simulator.events[6:]

        simulator.disturb_events()
        simulator.complete("third")
        assert len(simulator.events) == 17
        assert simulator.statistics()["events"] == {"emitted": 16, "undelivered": 0, "dropped": 5, "repeated": 6}


def test_a_disturbance_is_set_shown_and_lifted_by_its_endpoint(simulator: ConnectSimulator) -> None:
    path = "/_simulator/disturbance"
    assert send(simulator, "GET", path) == (200, {"drop": 0, "repeat": 0})
    assert send(simulator, "POST", path, '{"drop": 1, "repeat": 0.1}') == (200, {"drop": 1, "repeat": 0.1})
    assert complete_contacts(simulator, ["contact-1"]) == []
    assert send(simulator, "GET", path) == (200, {"drop": 1, "repeat": 0.1})
    assert send(simulator, "DELETE", path) == (200, {"drop": 0, "repeat": 0})
    assert complete_contacts(simulator, ["contact-1"]) == [("contact-1", "COMPLETED")]


@pytest.mark.parametrize(
    "body",
    ['{"drop": 1.1}', '{"repeat": -0.1}', '{"drop": true}', '{"drop": "0.3"}', '{"drop": NaN}', '{"lose": 1}', "{}"],
)
def test_a_disturbance_that_is_none_is_refused_with_an_example(simulator: ConnectSimulator, body: str) -> None:
    status, answer = send(simulator, "POST", "/_simulator/disturbance", body)

    assert status == 400
    assert '{"drop": 0.3, "repeat": 0.1}' in answer["message"]
    assert send(simulator, "GET", "/_simulator/disturbance") == (200, {"drop": 0, "repeat": 0})
