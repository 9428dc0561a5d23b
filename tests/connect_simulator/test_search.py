"""SearchContacts and ListInstances."""

import json
from typing import Any

import pytest

from connect_simulator import ConnectSimulator
from tests.connect_simulator.conftest import (
    DAY,
    INSTANCE,
    NOW,
    Clock,
    ended,
    found_ids,
    iso,
    refusal,
    seed,
    send,
    start_task,
    time_range,
)


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
