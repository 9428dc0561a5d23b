"""What the API takes and refuses, what becomes of contacts and references, and how often it may be called."""

import http.client
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from connect_simulator import ConnectSimulator
from tests.connect_simulator.conftest import (
    ENTERED,
    INSTANCE,
    PRODUCED,
    ROOT,
    UNLIMITED,
    Clock,
    event_types,
    found_ids,
    references_of,
    refusal,
    seed,
    send,
    start_task,
)


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


@pytest.mark.parametrize(("options", "seconds"), [({}, 5), ({"settle_seconds": 1200}, 1200)])
def test_an_attachment_is_processed_until_its_time_has_passed(
    client_of: Callable[[ConnectSimulator], Any], clock: Clock, options: dict[str, Any], seconds: float
) -> None:
    with ConnectSimulator(clock=clock, quotas=UNLIMITED, **options) as simulator:
        connect = client_of(simulator)
        attachment = {"FileName": "invoice.pdf", "S3Url": "https://example.com/invoice"}
        contact_id = start_task(connect, Attachments=[attachment])
        simulator.import_contacts([seed(References=[{"Attachment": {"Name": "photo", "Status": "PROCESSING"}}])])

        def statuses() -> list[str]:
            listed = [references_of(connect, one, PRODUCED) for one in (contact_id, "contact-1")]
            return [str(references[0]["Attachment"]["Status"]) for references in listed]

        clock.now += seconds - 0.1
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
