import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionClosedError, EndpointConnectionError

from connect_simulator import ConnectSimulator, ServiceError
from local.emulator import direct_open

ROOT = Path(__file__).parents[2]
INSTANCE = "12345678-1234-1234-1234-123456789012"
ENTERED = ["URL", "NUMBER", "STRING", "DATE", "EMAIL"]
PRODUCED = [
    "ATTACHMENT",
    "CONTACT_ANALYSIS",
    "EMAIL_MESSAGE",
    "EMAIL_MESSAGE_PLAIN_TEXT",
    "EMAIL_MESSAGE_REDACTED",
    "EMAIL_MESSAGE_PLAIN_TEXT_REDACTED",
]
UNLIMITED = dict.fromkeys(
    [
        "StartTaskContact",
        "CreateContact",
        "UpdateContact",
        "StopContact",
        "DescribeContact",
        "ListContactReferences",
        "SearchContacts",
        "ListInstances",
    ],
    1e6,
)


NOW = 1_772_443_800.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def client_of() -> Iterator[Callable[[ConnectSimulator], Any]]:
    session = boto3.Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the simulator takes any
        region_name="us-east-1",
    )
    clients = []

    def make(simulator: ConnectSimulator) -> Any:
        # The client's own checks are off: it is the simulator's that are tested here.
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=False, proxies={})
        clients.append(session.client("connect", endpoint_url=simulator.url, config=config))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def simulator(clock: Clock) -> Iterator[ConnectSimulator]:
    with ConnectSimulator(clock=clock, quotas=UNLIMITED) as simulator:
        yield simulator


@pytest.fixture
def connect(simulator: ConnectSimulator, client_of: Callable[[ConnectSimulator], Any]) -> Any:
    return client_of(simulator)


def seed(contact_id: str = "contact-1", **members: Any) -> dict[str, Any]:
    return {
        "Id": contact_id,
        "InstanceId": INSTANCE,
        "Channel": "VOICE",
        "InitiationMethod": "INBOUND",
        "References": [],
    } | members


def start_task(connect: Any, references: dict[str, Any] | None = None, **parameters: Any) -> str:
    given = {"InstanceId": INSTANCE, "Name": "task", "ContactFlowId": "flow"} | parameters
    if references is not None:
        given["References"] = references
    return str(connect.start_task_contact(**given)["ContactId"])


def references_of(connect: Any, contact_id: str, types: list[str] = ENTERED) -> list[dict[str, Any]]:
    page = connect.list_contact_references(InstanceId=INSTANCE, ContactId=contact_id, ReferenceTypes=types)
    return list(page["ReferenceSummaryList"])


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


def send(simulator: ConnectSimulator, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def event_types(simulator: ConnectSimulator, contact_id: str) -> list[str]:
    details = [json.loads(entry["Detail"]) for entry in simulator.events]
    return [detail["eventType"] for detail in details if detail["contactId"] == contact_id]


# Validation


def test_references_come_back_as_the_union_members_of_the_types_asked_for(connect: Any) -> None:
    contact_id = start_task(
        connect, {"Case": {"Type": "STRING", "Value": "17"}, "Order": {"Type": "URL", "Value": "https://example.com/"}}
    )

    assert references_of(connect, contact_id, ["URL"]) == [{"Url": {"Name": "Order", "Value": "https://example.com/"}}]
    assert references_of(connect, contact_id, ["STRING", "DATE"]) == [{"String": {"Name": "Case", "Value": "17"}}]


def test_at_most_six_reference_types_are_taken(connect: Any) -> None:
    contact_id = start_task(connect)

    assert references_of(connect, contact_id, PRODUCED) == []
    code, status, message = refusal(
        connect.list_contact_references,
        InstanceId=INSTANCE,
        ContactId=contact_id,
        ReferenceTypes=[*PRODUCED, "URL"],
    )
    assert (code, status) == ("InvalidParameterException", 400)
    assert "ReferenceTypes" in message
    assert "7" in message


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"ReferenceTypes": []}, "ReferenceTypes"),
        ({"ReferenceTypes": ["SIGNATURE"]}, "ReferenceTypes[0]"),
        ({"InstanceId": "i" * 101}, "InstanceId"),
        ({"ContactId": "c" * 257}, "ContactId"),
    ],
)
def test_what_the_model_forbids_in_a_path_or_query_is_refused(
    connect: Any, change: dict[str, Any], parameter: str
) -> None:
    given = {"InstanceId": INSTANCE, "ContactId": start_task(connect), "ReferenceTypes": ["URL"]} | change

    code, status, message = refusal(connect.list_contact_references, **given)

    assert (code, status) == ("InvalidParameterException", 400)
    assert message.startswith(parameter)


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"Name": None}, "Name"),
        ({"Name": "n" * 1025}, "Name"),
        ({"Description": 1}, "Description"),
        ({"References": ["Case"]}, "References"),
        ({"References": {"Case": {"Value": "17"}}}, "References.Case.Type"),
        ({"References": {"Case": {"Type": "SIGNATURE"}}}, "References.Case.Type"),
        ({"References": {"Case": {"Type": "STRING", "Value": "v" * 4097}}}, "References.Case.Value"),
        ({"References": {"": {"Type": "STRING", "Value": "17"}}}, "References key"),
        ({"References": {"File": {"Type": "STRING", "Arn": "@" * 20}}}, "References.File.Arn"),
        ({"Attachments": []}, "Attachments"),
        ({"Attachments": [{"FileName": "a\x00b", "S3Url": "https://s3"}]}, "Attachments[0].FileName"),
        ({"Attributes": {"tier": True}}, "Attributes.tier"),
        ({"SegmentAttributes": {"age": {"ValueInteger": True}}}, "SegmentAttributes.age.ValueInteger"),
        ({"ScheduledTime": "tomorrow"}, "ScheduledTime"),
    ],
)
def test_what_the_model_forbids_in_a_body_is_refused(
    simulator: ConnectSimulator, change: dict[str, Any], parameter: str
) -> None:
    body = {"InstanceId": INSTANCE, "Name": "task", "ContactFlowId": "flow"} | change

    status, answer = send(simulator, "PUT", "/contact/task", json.dumps(body))

    assert status == 400
    assert answer["message"].startswith(parameter)
    assert simulator.statistics()["operations"]["StartTaskContact"]["outcomes"] == {"InvalidParameterException": 1}
    assert simulator.contacts() == []


@pytest.mark.parametrize("body", ["{", "[]", "\ufeff"])
def test_a_body_that_is_no_json_object_is_refused(simulator: ConnectSimulator, body: str) -> None:
    connection = http.client.HTTPConnection(simulator.url.removeprefix("http://"), timeout=10)
    connection.request("PUT", "/contact/task", body.encode())
    response = connection.getresponse()
    response.read()
    connection.close()

    assert (response.status, response.headers["x-amzn-ErrorType"]) == (400, "SerializationException")


def test_a_refusal_never_repeats_a_value(connect: Any) -> None:
    references = {"Case": {"Type": "STRING", "Value": "secret" * 1000}}

    _, _, message = refusal(start_task, connect=connect, references=references)

    assert "secret" not in message


def test_an_operation_that_is_not_simulated_says_so(connect: Any, simulator: ConnectSimulator) -> None:
    code, status, message = refusal(connect.list_users, InstanceId=INSTANCE)

    assert (code, status) == ("UnknownOperationException", 404)
    assert "ListUsers is not simulated" in message
    assert send(simulator, "GET", "/nowhere")[0] == 404


def test_contacts_and_instances_that_do_not_exist_are_not_found(connect: Any, simulator: ConnectSimulator) -> None:
    simulator.import_contacts([seed("here"), seed("there", InstanceId="other-instance")])
    not_found = ("ResourceNotFoundException", 404)

    for instance_id, contact_id in [(INSTANCE, "nobody"), ("no-instance", "here"), (INSTANCE, "there")]:
        given = {"InstanceId": instance_id, "ContactId": contact_id}
        assert refusal(connect.list_contact_references, **given, ReferenceTypes=["URL"])[:2] == not_found
        assert refusal(connect.describe_contact, **given)[:2] == not_found
        assert refusal(connect.update_contact, **given, Name="new")[:2] == not_found
    assert refusal(start_task, connect=connect, InstanceId="no-instance")[:2] == not_found
    found = connect.describe_contact(InstanceId="other-instance", ContactId="there")["Contact"]
    assert found["Arn"] == "arn:aws:connect:us-east-1:111122223333:instance/other-instance/contact/there"


def test_a_contact_id_survives_the_path_whatever_is_in_it(connect: Any, simulator: ConnectSimulator) -> None:
    simulator.import_contacts([seed("a/b c%2F?é", References=[{"String": {"Name": "Case", "Value": "17"}}])])

    assert references_of(connect, "a/b c%2F?é") == [{"String": {"Name": "Case", "Value": "17"}}]


# References


def test_two_calls_return_every_seeded_reference_once_unknown_types_included() -> None:
    with (ROOT / "local" / "contacts.json").open(encoding="utf-8") as file:
        contacts = json.load(file)["contacts"]
    with ConnectSimulator(quotas=UNLIMITED, settle_seconds=1e6) as simulator:
        simulator.import_contacts(contacts)
        for contact in contacts:
            path = f"/contact/references/{INSTANCE}/{contact['Id']}?"
            listed = []
            for group in (ENTERED, PRODUCED):
                query = "&".join(f"referenceTypes={reference_type}" for reference_type in group)
                listed += send(simulator, "GET", path + query)[1]["ReferenceSummaryList"]
            assert sorted(map(json.dumps, listed)) == sorted(map(json.dumps, contact["References"]))


def test_a_reference_type_newer_than_the_sdk_reaches_the_sdk_as_unknown(
    connect: Any, simulator: ConnectSimulator
) -> None:
    simulator.import_contacts([seed(References=[{"Signature": {"Name": "Consent", "Value": "signed"}}])])

    assert references_of(connect, "contact-1", PRODUCED) == [{"SDK_UNKNOWN_MEMBER": {"name": "Signature"}}]
    assert references_of(connect, "contact-1", ENTERED) == []


@pytest.mark.parametrize(
    ("operation", "channel", "allowed"),
    [
        ("StartTaskContact", "TASK", {*ENTERED}),
        ("CreateContact", "TASK", {*ENTERED, "ATTACHMENT"}),
        ("CreateContact", "EMAIL", {"URL", "NUMBER", "STRING", "DATE"}),
        ("UpdateContact", "VOICE", {*ENTERED}),
        ("UpdateContact", "EMAIL", {"URL", "NUMBER", "STRING", "DATE"}),
    ],
)
def test_each_operation_creates_only_its_reference_types(
    connect: Any, simulator: ConnectSimulator, operation: str, channel: str, allowed: set[str]
) -> None:
    simulator.import_contacts([seed(Channel=channel)])
    created = set()
    for reference_type in [*ENTERED, *PRODUCED]:
        references = {"Reference": {"Type": reference_type, "Value": "17"}}
        calls: dict[str, Callable[[dict[str, Any]], Any]] = {
            "StartTaskContact": lambda references: start_task(connect, references),
            "CreateContact": lambda references: connect.create_contact(
                InstanceId=INSTANCE,
                Channel=channel,
                InitiationMethod="API" if channel == "TASK" else "FLOW",
                References=references,
            ),
            "UpdateContact": lambda references: connect.update_contact(
                InstanceId=INSTANCE, ContactId="contact-1", References=references
            ),
        }
        try:
            calls[operation](references)
            created.add(reference_type)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InvalidRequestException"  # noqa: PT017 - others must not be

    assert created == allowed


def test_a_contact_takes_4096_bytes_of_references_and_not_one_more(connect: Any) -> None:
    # Two bytes a character: it is bytes that count, of names and values alike.
    contact_id = start_task(connect, {"né": {"Type": "STRING", "Value": "ü" * 2044}})

    update = {"InstanceId": INSTANCE, "ContactId": contact_id}
    connect.update_contact(**update, References={"n": {"Type": "STRING", "Value": "1234"}})
    code, status, message = refusal(
        connect.update_contact, **update, References={"n": {"Type": "STRING", "Value": "12345"}}
    )

    assert (code, status) == ("InvalidRequestException", 400)
    assert "4097" in message
    assert references_of(connect, contact_id)[1] == {"String": {"Name": "n", "Value": "1234"}}


def test_a_created_date_is_an_epoch_timestamp(connect: Any) -> None:
    start_task(connect, {"Due": {"Type": "DATE", "Value": "1772443800"}})

    code, _, _ = refusal(start_task, connect=connect, references={"Due": {"Type": "DATE", "Value": "2026-03-02"}})

    assert code == "InvalidRequestException"


def test_an_update_replaces_what_has_its_name_and_keeps_the_rest_also_after_completion(
    connect: Any, simulator: ConnectSimulator
) -> None:
    attachment = {"Attachment": {"Name": "Case", "Value": "s3://bucket/key", "Status": "APPROVED"}}
    old = {"String": {"Name": "Case", "Value": "17"}}
    other = {"Url": {"Name": "Order", "Value": "https://example.com/"}}
    simulator.import_contacts([seed(References=[attachment, old, other])])
    simulator.complete("contact-1")

    connect.update_contact(
        InstanceId=INSTANCE, ContactId="contact-1", References={"Case": {"Type": "NUMBER", "Value": "18"}}
    )

    assert references_of(connect, "contact-1", [*ENTERED, "ATTACHMENT"]) == [
        attachment,
        other,
        {"Number": {"Name": "Case", "Value": "18"}},
    ]


def test_an_attachment_is_processed_until_its_time_has_passed(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    contact_id = start_task(connect, Attachments=[{"FileName": "invoice.pdf", "S3Url": "https://example.com/invoice"}])
    simulator.import_contacts([seed(References=[{"Attachment": {"Name": "photo", "Status": "PROCESSING"}}])])

    def statuses() -> list[str]:
        return [references_of(connect, one, PRODUCED)[0]["Attachment"]["Status"] for one in (contact_id, "contact-1")]

    clock.now += 4.9
    assert statuses() == ["PROCESSING", "PROCESSING"]
    clock.now += 0.1
    assert statuses() == ["APPROVED", "APPROVED"]


def test_an_attachment_that_was_rejected_stays_rejected(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    simulator.import_contacts([seed(References=[{"Attachment": {"Name": "setup", "Status": "REJECTED"}}])])

    clock.now += 3600

    assert references_of(connect, "contact-1", PRODUCED)[0]["Attachment"]["Status"] == "REJECTED"


def test_next_token_is_null_unless_pages_are_asked_for(
    simulator: ConnectSimulator, client_of: Callable[[ConnectSimulator], Any]
) -> None:
    references = [{"String": {"Name": f"n{number}", "Value": "v"}} for number in range(5)]
    path = f"/contact/references/{INSTANCE}/contact-1?referenceTypes=STRING"
    simulator.import_contacts([seed(References=references)])
    assert send(simulator, "GET", path) == (200, {"ReferenceSummaryList": references, "NextToken": None})

    with ConnectSimulator(page_size=2) as paged:
        paged.import_contacts([seed(References=references)])
        given = {"InstanceId": INSTANCE, "ContactId": "contact-1", "ReferenceTypes": ["STRING"]}
        pages = list(client_of(paged).get_paginator("list_contact_references").paginate(**given))
        assert [len(page["ReferenceSummaryList"]) for page in pages] == [2, 2, 1]
        assert [summary for page in pages for summary in page["ReferenceSummaryList"]] == references
        for token in ("5", "0", "x"):
            code, _, _ = refusal(client_of(paged).list_contact_references, **given, NextToken=token)
            assert code == "InvalidParameterException"


# Searching


DAY = 86400


def ended(contact_id: str, seconds_ago: float, **members: Any) -> dict[str, Any]:
    """A seed that began a minute before it ended."""
    end = NOW - seconds_ago
    times = {"InitiationTimestamp": end - 60, "DisconnectTimestamp": end}
    return seed(contact_id, **{name: iso(moment) for name, moment in times.items()}, **members)


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def time_range(start: float = NOW - DAY, end: float = NOW, by: str = "DISCONNECT_TIMESTAMP") -> dict[str, Any]:
    return {"Type": by, "StartTime": start, "EndTime": end}


def found_ids(connect: Any, **parameters: Any) -> list[str]:
    """Ids from every page; the SDK's paginator stops with an error on a repeated token."""
    given = {"InstanceId": INSTANCE, "TimeRange": time_range()} | parameters
    pages = connect.get_paginator("search_contacts").paginate(**given)
    return [contact["Id"] for page in pages for contact in page["Contacts"]]


def test_search_finds_the_instances_contacts_that_ended_in_the_range_ends_included(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    simulator.import_contacts(
        [
            ended("at-start", 100),
            ended("at-end", 50),
            ended("before", 100.001),
            ended("after", 49.999),
            ended("elsewhere", 75, InstanceId="other-instance"),
            seed("live"),
        ]
    )
    between = time_range(clock.now - 100, clock.now - 50)

    assert set(found_ids(connect, TimeRange=between)) == {"at-start", "at-end"}
    assert found_ids(connect, TimeRange=between, InstanceId="other-instance") == ["elsewhere"]
    code, status, _ = refusal(connect.search_contacts, InstanceId="no-instance", TimeRange=between)
    assert (code, status) == ("ResourceNotFoundException", 404)


def test_a_found_contact_is_summarized_as_it_is_described(connect: Any, simulator: ConnectSimulator) -> None:
    simulator.import_contacts([ended("first", 100, Name="Call back", Description="at noon"), seed("second")])
    leg = simulator.transfer("second")
    simulator.complete(leg)
    described = {
        contact_id: connect.describe_contact(InstanceId=INSTANCE, ContactId=contact_id)["Contact"]
        for contact_id in ("first", leg)
    }

    answer = connect.search_contacts(InstanceId=INSTANCE, TimeRange=time_range())
    found = {contact["Id"]: contact for contact in answer["Contacts"]}

    assert set(found) == {"first", "second", leg}
    assert answer["TotalCount"] == 3
    assert "NextToken" not in answer
    common = {"Arn", "Id", "Channel", "InitiationMethod", "InitiationTimestamp", "DisconnectTimestamp", "Tags"}
    assert set(found["first"]) == {*common, "Name"}
    assert set(found[leg]) == {*common, "InitialContactId", "PreviousContactId"}
    for contact_id, contact in described.items():
        assert found[contact_id] == {member: contact[member] for member in found[contact_id]}


def test_search_by_another_timestamp_finds_contacts_that_have_it(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    simulator.import_contacts([ended("ended", 3600), seed("connected")])
    scheduled = start_task(connect, ScheduledTime=clock.now + 60)
    simulator.complete("connected")

    found = {
        by: set(found_ids(connect, TimeRange=time_range(clock.now - 60, clock.now + 60, by)))
        for by in (
            "INITIATION_TIMESTAMP",
            "SCHEDULED_TIMESTAMP",
            "CONNECTED_TO_AGENT_TIMESTAMP",
            "DISCONNECT_TIMESTAMP",
        )
    }

    assert found == {
        "INITIATION_TIMESTAMP": {"connected", scheduled},
        "SCHEDULED_TIMESTAMP": {scheduled},
        "CONNECTED_TO_AGENT_TIMESTAMP": {"connected"},
        "DISCONNECT_TIMESTAMP": {"connected"},
    }


def test_a_contact_imported_without_its_beginning_began_no_later_than_it_ended(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    simulator.import_contacts([seed(DisconnectTimestamp=iso(clock.now - 3600))])

    assert found_ids(connect, TimeRange=time_range(by="INITIATION_TIMESTAMP", end=clock.now - 3600)) == ["contact-1"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"TimeRange": None}, "TimeRange is required"),
        ({"TimeRange": {"Type": "DISCONNECT_TIMESTAMP", "StartTime": 0}}, "TimeRange.EndTime is required"),
        ({"TimeRange": time_range(by="UPDATE_TIMESTAMP")}, "TimeRange.Type must be one of"),
        ({"TimeRange": time_range(by="ENQUEUE_TIMESTAMP")}, "ENQUEUE_TIMESTAMP is not simulated"),
        ({"TimeRange": time_range(NOW, NOW)}, "TimeRange.StartTime must be before"),
        ({"TimeRange": time_range(NOW - 56 * DAY - 1)}, "TimeRange must not be longer than 8 weeks"),
        ({"TimeRange": time_range(NOW - 730 * DAY - 1, NOW - 729 * DAY)}, "TimeRange.StartTime must"),
        ({"MaxResults": 0}, "MaxResults has a length or value of 0"),
        ({"MaxResults": 101}, "MaxResults has a length or value of 101"),
        ({"SearchCriteria": {"Channels": ["VOICE"]}}, "SearchCriteria.Channels is not simulated"),
        ({"Sort": {"FieldName": "CHANNEL", "Order": "ASCENDING"}}, "CHANNEL is not simulated"),
        ({"NextToken": "1"}, "NextToken is none"),
    ],
)
def test_search_refuses_what_the_service_refuses_and_what_is_not_simulated(
    simulator: ConnectSimulator, change: dict[str, Any], problem: str
) -> None:
    body = {"InstanceId": INSTANCE, "TimeRange": time_range(), "MaxResults": 100, "SearchCriteria": {}} | change

    status, answer = send(simulator, "POST", "/search-contacts", json.dumps(body))

    assert status == 400
    assert answer["message"].startswith(problem)
    assert simulator.statistics()["operations"]["SearchContacts"]["outcomes"] == {"InvalidParameterException": 1}


def test_search_takes_ranges_up_to_its_limits(connect: Any, clock: Clock) -> None:
    for start, end in [(56 * DAY, 0), (730 * DAY, 729 * DAY)]:
        assert found_ids(connect, TimeRange=time_range(clock.now - start, clock.now - end)) == []


def test_pages_of_a_search_have_every_contact_once_in_no_order_of_time_or_id(
    connect: Any, simulator: ConnectSimulator
) -> None:
    ids = [f"contact-{number:03}" for number in range(250)]
    simulator.import_contacts([ended(contact_id, 1000 - number) for number, contact_id in enumerate(ids)])
    given = {"InstanceId": INSTANCE, "TimeRange": time_range()}

    pages = list(connect.get_paginator("search_contacts").paginate(**given))

    assert [(len(page["Contacts"]), page["TotalCount"]) for page in pages] == [(100, 250), (100, 250), (50, 250)]
    found = [contact["Id"] for page in pages for contact in page["Contacts"]]
    assert sorted(found) == ids
    assert found != ids
    assert found != ids[::-1]
    assert sorted(found_ids(connect, MaxResults=7)) == ids
    exact = list(connect.get_paginator("search_contacts").paginate(**given, MaxResults=50))
    assert [len(page["Contacts"]) for page in exact] == [50] * 5


def test_a_search_is_sorted_by_a_timestamp_when_asked(connect: Any, simulator: ConnectSimulator) -> None:
    ids = [f"contact-{number:03}" for number in range(20)]
    simulator.import_contacts([ended(contact_id, 1000 - number) for number, contact_id in enumerate(ids)])

    def sort(order: str, field: str = "DISCONNECT_TIMESTAMP") -> dict[str, str]:
        return {"FieldName": field, "Order": order}

    assert found_ids(connect, MaxResults=6, Sort=sort("ASCENDING")) == ids
    assert found_ids(connect, MaxResults=6, Sort=sort("DESCENDING")) == ids[::-1]
    simulator.import_contacts([seed("live")])
    by_beginning = time_range(by="INITIATION_TIMESTAMP")
    assert found_ids(connect, TimeRange=by_beginning, Sort=sort("DESCENDING")) == [*ids[::-1], "live"]
    assert found_ids(connect, TimeRange=by_beginning, Sort=sort("ASCENDING", "INITIATION_TIMESTAMP")) == [*ids, "live"]


def test_a_search_token_is_good_for_its_own_request_again_and_again(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    simulator.import_contacts([ended(f"contact-{number}", 100 + number) for number in range(5)])
    simulator.import_contacts([seed(f"elsewhere-{number}", InstanceId=f"instance-{number}") for number in range(5)])
    given = {"InstanceId": INSTANCE, "TimeRange": time_range(), "MaxResults": 2}
    token = connect.search_contacts(**given)["NextToken"]

    page, again = (connect.search_contacts(**given, NextToken=token) for _ in range(2))

    assert page["Contacts"] == again["Contacts"]
    assert len(page["Contacts"]) == 2
    other_token = connect.list_instances(MaxResults=1)["NextToken"]
    for change in (
        {"TimeRange": time_range(clock.now - DAY - 1)},
        {"MaxResults": 3},
        {"InstanceId": "instance-0"},
        {"Sort": {"FieldName": "DISCONNECT_TIMESTAMP", "Order": "ASCENDING"}},
        {"NextToken": other_token},
    ):
        code, status, message = refusal(connect.search_contacts, **given | {"NextToken": token} | change)
        assert (code, status) == ("InvalidParameterException", 400)
        assert message.startswith("NextToken is none that SearchContacts returned")


def test_a_search_gives_ten_thousand_contacts_and_counts_them_all(connect: Any, simulator: ConnectSimulator) -> None:
    ids = [f"contact-{number:05}" for number in range(10_001)]
    simulator.import_contacts([ended(contact_id, 1000) for contact_id in ids])
    given = {"InstanceId": INSTANCE, "TimeRange": time_range()}

    pages = list(connect.get_paginator("search_contacts").paginate(**given))

    found = {contact["Id"] for page in pages for contact in page["Contacts"]}
    assert len(found) == 10_000
    assert found < set(ids)
    assert {page["TotalCount"] for page in pages} == {10_001}
    assert "NextToken" not in pages[-1]


def test_a_contact_is_found_when_the_search_has_caught_up_with_it(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    simulator.import_contacts([ended("long ago", 120), ended("just now", 10), seed("live")])
    by_beginning = time_range(NOW - DAY, NOW + DAY, by="INITIATION_TIMESTAMP")
    simulator.flaw_search(lag_seconds=60)
    assert found_ids(connect) == ["long ago"]
    assert found_ids(connect, TimeRange=by_beginning) == ["long ago"]

    clock.now += 49
    assert found_ids(connect) == ["long ago"]
    clock.now += 1
    assert set(found_ids(connect)) == {"long ago", "just now"}
    clock.now += 10
    assert set(found_ids(connect, TimeRange=by_beginning)) == {"long ago", "just now", "live"}


def test_how_a_search_falls_short_is_set_shown_and_lifted_by_its_endpoint(
    connect: Any, simulator: ConnectSimulator
) -> None:
    path, whole = "/_simulator/search", {"lag_seconds": 0, "total_count": True}
    simulator.import_contacts([ended("contact-1", 10)])
    given = {"InstanceId": INSTANCE, "TimeRange": time_range()}
    assert send(simulator, "GET", path) == (200, whole)
    assert send(simulator, "POST", path, '{"total_count": false}') == (200, whole | {"total_count": False})
    answer = connect.search_contacts(**given)
    assert len(answer["Contacts"]) == 1
    assert "TotalCount" not in answer
    assert send(simulator, "POST", path, '{"lag_seconds": 11}') == (200, whole | {"lag_seconds": 11})
    assert connect.search_contacts(**given)["TotalCount"] == 0
    assert send(simulator, "GET", path) == (200, whole | {"lag_seconds": 11})
    assert send(simulator, "DELETE", path) == (200, whole)
    assert connect.search_contacts(**given)["TotalCount"] == 1


@pytest.mark.parametrize(
    "body",
    ['{"lag_seconds": -1}', '{"lag_seconds": NaN}', '{"lag_seconds": true}', '{"total_count": 0}', '{"lag": 1}', "{}"],
)
def test_a_way_to_fall_short_that_is_none_is_refused_with_an_example(simulator: ConnectSimulator, body: str) -> None:
    status, answer = send(simulator, "POST", "/_simulator/search", body)

    assert status == 400
    assert '{"lag_seconds": 120, "total_count": false}' in answer["message"]
    assert send(simulator, "GET", "/_simulator/search") == (200, {"lag_seconds": 0, "total_count": True})


def test_every_known_instance_is_listed_in_pages_of_at_most_ten(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    others = [f"instance-{number:02}" for number in range(11)]
    simulator.import_contacts([ended(f"of-{name}", DAY, InstanceId=name) for name in others])

    answer = connect.list_instances()
    pages = list(connect.get_paginator("list_instances").paginate(PaginationConfig={"PageSize": 5}))

    assert len(answer["InstanceSummaryList"]) == 10
    assert [len(page["InstanceSummaryList"]) for page in pages] == [5, 5, 2]
    instances = {instance["Id"]: instance for page in pages for instance in page["InstanceSummaryList"]}
    assert sorted(instances) == sorted([INSTANCE, *others])
    assert {instance["InstanceStatus"] for instance in instances.values()} == {"ACTIVE"}
    assert instances[INSTANCE]["Arn"] == f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE}"
    assert instances[INSTANCE]["IdentityManagementType"] == "CONNECT_MANAGED"
    assert instances[INSTANCE]["CreatedTime"].timestamp() == clock.now
    # No instance is younger than its contacts.
    assert instances["instance-00"]["CreatedTime"].timestamp() == clock.now - DAY - 60


@pytest.mark.parametrize("query", ["maxResults=0", "maxResults=11", "maxResults=ten", "nextToken=5"])
def test_list_instances_refuses_what_it_does_not_take(simulator: ConnectSimulator, query: str) -> None:
    status, answer = send(simulator, "GET", f"/instance?{query}")

    assert status == 400
    assert answer["message"].lower().startswith(query.partition("=")[0].lower())


# Creating and ending contacts


def test_a_client_token_makes_one_contact(connect: Any, simulator: ConnectSimulator) -> None:
    first = start_task(connect, ClientToken="token")
    events = simulator.events

    assert start_task(connect, ClientToken="token") == first
    assert simulator.events == events
    assert start_task(connect, ClientToken="another") != first


def test_a_client_token_with_other_parameters_is_refused(connect: Any) -> None:
    create = {"InstanceId": INSTANCE, "Channel": "TASK", "InitiationMethod": "API", "ClientToken": "token"}
    start_task(connect, ClientToken="token")
    connect.create_contact(**create)

    assert refusal(start_task, connect=connect, ClientToken="token", Name="other")[0] == "InvalidRequestException"
    assert refusal(connect.create_contact, **create, Name="other")[:2] == ("IdempotencyException", 409)


@pytest.mark.parametrize("flow", [{}, {"ContactFlowId": "flow", "TaskTemplateId": "template"}])
def test_a_task_needs_exactly_one_flow(connect: Any, flow: dict[str, str]) -> None:
    given = {"InstanceId": INSTANCE, "Name": "task"} | flow

    assert refusal(connect.start_task_contact, **given)[0] == "InvalidRequestException"


def test_a_task_is_scheduled_at_most_six_days_ahead_and_does_not_run_yet(
    connect: Any, simulator: ConnectSimulator, clock: Clock
) -> None:
    for seconds in (-1, 6 * 86400 + 1):
        code, _, _ = refusal(start_task, connect=connect, ScheduledTime=clock.now + seconds)
        assert code == "InvalidRequestException"

    contact_id = start_task(connect, ScheduledTime=clock.now + 3600)

    assert event_types(simulator, contact_id) == ["INITIATED"]


def test_a_linked_task_belongs_to_the_chain_of_its_first_contact(connect: Any) -> None:
    first = start_task(connect)
    second = start_task(connect, PreviousContactId=first)
    third = start_task(connect, PreviousContactId=second)

    contact = connect.describe_contact(InstanceId=INSTANCE, ContactId=third)["Contact"]
    assert (contact["InitialContactId"], contact["PreviousContactId"]) == (first, second)
    for _ in range(11):
        start_task(connect, PreviousContactId=first)
    code, status, _ = refusal(start_task, connect=connect, PreviousContactId=first)
    assert (code, status) == ("ServiceQuotaExceededException", 402)
    assert refusal(start_task, connect=connect, PreviousContactId="nobody")[0] == "ResourceNotFoundException"


@pytest.mark.parametrize(
    "change",
    [
        {"Channel": "CHAT"},
        {"InitiationMethod": "INBOUND"},
        {"Channel": "EMAIL", "InitiationMethod": "OUTBOUND"},
        {"Channel": "EMAIL", "InitiationMethod": "FLOW", "InitiateAs": "COMPLETED"},
        {"PreviousContactId": "contact-1"},
    ],
)
def test_create_contact_refuses_what_its_reference_rules_out(
    connect: Any, simulator: ConnectSimulator, change: dict[str, str]
) -> None:
    simulator.import_contacts([seed()])
    given = {"InstanceId": INSTANCE, "Channel": "TASK", "InitiationMethod": "API"} | change

    assert refusal(connect.create_contact, **given)[0] == "InvalidRequestException"


def test_update_contact_needs_something_to_update(connect: Any) -> None:
    given = {"InstanceId": INSTANCE, "ContactId": start_task(connect)}

    assert refusal(connect.update_contact, **given)[0] == "InvalidRequestException"
    assert refusal(connect.update_contact, **given, UserInfo={"UserId": "user"})[0] == "InvalidRequestException"


def test_a_contact_is_described_as_it_was_made(connect: Any, clock: Clock) -> None:
    contact_id = start_task(connect, Name="Call back", Description="at noon", Attributes={"tier": "gold"})
    related = start_task(connect, RelatedContactId=contact_id)
    clock.now += 60
    connect.stop_contact(InstanceId=INSTANCE, ContactId=contact_id)

    contact = connect.describe_contact(InstanceId=INSTANCE, ContactId=contact_id)["Contact"]

    assert contact["Arn"] == f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE}/contact/{contact_id}"
    assert (contact["Name"], contact["Description"]) == ("Call back", "at noon")
    assert (contact["Channel"], contact["InitiationMethod"]) == ("TASK", "API")
    assert contact["DisconnectTimestamp"].timestamp() == clock.now
    assert "InitialContactId" not in contact
    copied = connect.describe_contact(InstanceId=INSTANCE, ContactId=related)["Contact"]
    assert (copied["RelatedContactId"], copied["Attributes"]) == (contact_id, {"tier": "gold"})


def test_stop_contact_refuses_transferred_calls_and_does_not_find_ended_contacts(
    connect: Any, simulator: ConnectSimulator
) -> None:
    simulator.import_contacts(
        [seed("call", InitiationMethod="TRANSFER"), seed("callback", InitiationMethod="CALLBACK")]
    )

    assert refusal(connect.stop_contact, InstanceId=INSTANCE, ContactId="call")[0] == "InvalidRequestException"
    connect.stop_contact(InstanceId=INSTANCE, ContactId="callback")
    for contact_id in ("callback", "nobody"):
        code, status, _ = refusal(connect.stop_contact, InstanceId=INSTANCE, ContactId=contact_id)
        assert (code, status) == ("ContactNotFoundException", 410)


# Quotas


def test_a_bucket_holds_one_second_of_requests_and_refills_at_the_quota(
    client_of: Callable[[ConnectSimulator], Any], clock: Clock
) -> None:
    with ConnectSimulator(clock=clock) as simulator:
        simulator.import_contacts([seed()])
        connect = client_of(simulator)
        for _ in range(10):
            references_of(connect, "contact-1")

        assert refusal(references_of, connect=connect, contact_id="contact-1")[:2] == ("ThrottlingException", 429)
        connect.describe_contact(InstanceId=INSTANCE, ContactId="contact-1")  # has a bucket of its own
        clock.now += 0.125  # 1.25 tokens, exact in binary
        references_of(connect, "contact-1")
        assert refusal(references_of, connect=connect, contact_id="contact-1")[0] == "ThrottlingException"
        clock.now -= 3600
        assert refusal(references_of, connect=connect, contact_id="contact-1")[0] == "ThrottlingException"
        clock.now += 0.125  # a clock that was set back costs nobody anything
        references_of(connect, "contact-1")
        assert simulator.statistics()["operations"]["ListContactReferences"] == {
            "calls": 15,
            "throttled": 3,
            "outcomes": {"OK": 12, "ThrottlingException": 3},
        }


def test_a_throttled_call_changes_nothing(client_of: Callable[[ConnectSimulator], Any], clock: Clock) -> None:
    with ConnectSimulator(clock=clock, quotas={"StartTaskContact": 0.5}) as simulator:
        connect = client_of(simulator)
        start_task(connect)
        assert refusal(start_task, connect=connect)[0] == "ThrottlingException"
        assert len(simulator.contacts()) == 1
        clock.now += 2
        start_task(connect)
        assert len(simulator.contacts()) == 2


def test_concurrent_callers_share_one_bucket(clock: Clock) -> None:
    path = f"/contact/references/{INSTANCE}/contact-1?referenceTypes=URL"
    with ConnectSimulator(clock=clock) as limited:
        limited.import_contacts([seed()])
        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: send(limited, "GET", path)[0], range(40)))

    assert (statuses.count(200), statuses.count(429)) == (10, 30)


def test_a_search_is_allowed_every_other_second(client_of: Callable[[ConnectSimulator], Any], clock: Clock) -> None:
    with ConnectSimulator(clock=clock) as simulator:
        connect = client_of(simulator)
        assert found_ids(connect) == []
        assert refusal(found_ids, connect=connect)[:2] == ("ThrottlingException", 429)
        clock.now += 1.75
        assert refusal(found_ids, connect=connect)[0] == "ThrottlingException"
        clock.now += 0.25
        assert found_ids(connect) == []


@pytest.mark.parametrize("quotas", [{"ListReferences": 10.0}, {"ListContactReferences": 0.0}])
def test_a_quota_that_makes_no_sense_is_refused_with_an_example(quotas: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="for example ListContactReferences=10"):
        ConnectSimulator(quotas=quotas)


def test_statistics_tell_a_call_that_was_never_made(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed()])
    simulator.complete("contact-1")

    assert simulator.statistics()["operations"]["ListContactReferences"]["calls"] == 0
    references_of(connect, "contact-1")
    assert simulator.statistics()["operations"]["ListContactReferences"]["calls"] == 1


# Events


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


# Import and control


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


def test_attachments_settle_after_twenty_minutes_of_the_given_clock(
    client_of: Callable[[ConnectSimulator], Any], clock: Clock
) -> None:
    with ConnectSimulator(clock=clock, quotas=UNLIMITED, settle_seconds=1200) as simulator:
        simulator.import_contacts([seed(References=[{"Attachment": {"Name": "photo", "Status": "PROCESSING"}}])])
        connect = client_of(simulator)
        clock.now += 1199
        assert references_of(connect, "contact-1", PRODUCED)[0]["Attachment"]["Status"] == "PROCESSING"
        clock.now += 1
        assert references_of(connect, "contact-1", PRODUCED)[0]["Attachment"]["Status"] == "APPROVED"


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


# The process


def test_the_process_says_where_it_is_serves_and_stops_on_sigterm() -> None:
    command = [sys.executable, "-m", "connect_simulator", "--port", "0", "--contacts", "local/contacts.json"]
    command += ["--drop-events", "0.25", "--repeat-events", "0.5", "--search-lag", "30"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line
            with urllib.request.urlopen(f"{found[0]}/_simulator/contacts", timeout=10) as response:  # noqa: S310 - http
                contacts = json.load(response)["contacts"]
            with urllib.request.urlopen(f"{found[0]}/_simulator/disturbance", timeout=10) as response:  # noqa: S310 - http
                disturbance = json.load(response)
            with urllib.request.urlopen(f"{found[0]}/_simulator/search", timeout=10) as response:  # noqa: S310 - http
                flaws = json.load(response)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            output, errors = process.stdout.read(), process.stderr.read()
        finally:
            process.kill()

    with (ROOT / "local" / "contacts.json").open(encoding="utf-8") as file:
        assert [contact["Id"] for contact in contacts] == [contact["Id"] for contact in json.load(file)["contacts"]]
    assert disturbance == {"drop": 0.25, "repeat": 0.5}
    assert flaws == {"lag_seconds": 30, "total_count": True}
    assert f"ContactId='{contacts[0]['Id']}'" in output
    assert errors == ""


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--quota", "ListContactReferences"], "ListContactReferences=10"),
        (["--quota", "ListReferences=10"], "for example ListContactReferences=10"),
        (["--page-size", "0"], "for example 2"),
        (["--drop-events", "1.5"], '{"drop": 0.3, "repeat": 0.1}'),
        (["--repeat-events", "some"], "--repeat-events"),
        (["--search-lag", "-1"], '{"lag_seconds": 120, "total_count": false}'),
        (["--contacts", "pyproject.toml"], '{"contacts": ['),
        (["--contacts", "no-such-file.json"], "no-such-file.json"),
    ],
)
def test_the_process_names_an_option_it_cannot_use(options: list[str], problem: str) -> None:
    command = [sys.executable, "-m", "connect_simulator", *options]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert finished.returncode == 2
    assert problem in finished.stderr
    assert "Traceback" not in finished.stderr


# Faults


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
