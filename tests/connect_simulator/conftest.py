"""A simulator with a clock of its own and no quotas, an SDK client for it, and what its tests ask of them."""

import http.client
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from connect_simulator import ConnectSimulator

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
        "GetAttachedFile",
        "SearchContacts",
        "ListInstances",
    ],
    1e6,
)


NOW = 1_772_443_800.0
DAY = 86400


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
