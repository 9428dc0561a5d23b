"""GetAttachedFile: what is said of a contact's file, and the link to it."""

from collections.abc import Callable
from typing import Any

import pytest

from connect_simulator import ConnectSimulator
from tests.connect_simulator.conftest import INSTANCE, UNLIMITED, Clock, refusal, seed

INSTANCE_ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE}"
CONTACT_ARN = f"{INSTANCE_ARN}/contact/contact-1"


def file(name: str, member: str = "Attachment", status: str = "APPROVED") -> dict[str, Any]:
    return {member: {"Name": f"{name}.pdf", "Status": status, "Arn": f"{INSTANCE_ARN}/file/{name}"}}


def asked(file_id: str = "a", **others: Any) -> dict[str, Any]:
    return {"InstanceId": INSTANCE, "FileId": file_id, "AssociatedResourceArn": CONTACT_ARN} | others


def test_an_approved_file_has_a_new_link_each_time(simulator: ConnectSimulator, connect: Any) -> None:
    simulator.import_contacts([seed(Channel="EMAIL", References=[file("b"), file("a"), {"Url": {"Name": "c"}}])])
    first, second = connect.get_attached_file(**asked()), connect.get_attached_file(**asked(UrlExpiryInSeconds=5))
    links = [answer.pop("DownloadUrlMetadata") for answer in (first, second)]
    assert [link["UrlExpiry"] for link in links] == ["2026-03-02T09:35:00.000Z", "2026-03-02T09:30:05.000Z"]
    assert links[0]["Url"] != links[1]["Url"]
    del first["ResponseMetadata"]
    assert first == {
        "FileArn": f"{INSTANCE_ARN}/file/a",
        "FileId": "a",
        "CreationTime": "2026-03-02T09:30:00.000Z",
        "FileStatus": "APPROVED",
        "FileName": "a.pdf",
        "FileSizeInBytes": 1024,
        "AssociatedResourceArn": CONTACT_ARN,
        "FileUseCaseType": "ATTACHMENT",
    }


@pytest.mark.parametrize("status", ["PROCESSING", "REJECTED", "FAILED"])
def test_a_file_that_is_not_approved_has_no_link(simulator: ConnectSimulator, connect: Any, status: str) -> None:
    simulator.import_contacts([seed(Channel="TASK", References=[file("a", status=status)])])
    answer = connect.get_attached_file(**asked())
    assert (answer["FileStatus"], "DownloadUrlMetadata" in answer) == (status, False)


def test_a_scanned_file_has_a_link_and_an_available_message_too(
    simulator: ConnectSimulator, connect: Any, clock: Clock
) -> None:
    references = [file("a", status="PROCESSING"), file("m", "EmailMessage", "AVAILABLE")]
    simulator.import_contacts([seed(Channel="EMAIL", References=references)])
    clock.now += 5
    answers = [connect.get_attached_file(**asked(file_id)) for file_id in "am"]
    assert [answer["FileUseCaseType"] for answer in answers] == ["ATTACHMENT", "EMAIL_MESSAGE"]
    assert all("DownloadUrlMetadata" in answer for answer in answers)


def test_what_is_not_there_is_not_found(simulator: ConnectSimulator, connect: Any) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    simulator.import_contacts([seed(Channel="EMAIL", References=[file("a"), file("gone", status="DELETED")])])
    simulator.import_contacts([seed("other", InstanceId=other, Channel="EMAIL")])
    for parameters in (
        asked("b"),
        asked("gone"),
        asked(AssociatedResourceArn=f"{CONTACT_ARN}0"),
        asked(InstanceId=other),
        asked(InstanceId="none"),
    ):
        assert refusal(connect.get_attached_file, **parameters)[:2] == ("ResourceNotFoundException", 404)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"AssociatedResourceArn": "contact-1"}, "AssociatedResourceArn must be a valid ARN"),
        ({"AssociatedResourceArn": None}, "AssociatedResourceArn is required"),
        ({"UrlExpiryInSeconds": 4}, "UrlExpiryInSeconds has a length or value of 4"),
        ({"UrlExpiryInSeconds": 301}, "UrlExpiryInSeconds has a length or value of 301"),
        ({"FileId": "x" * 257}, "FileId has a length or value of 257"),
        ({"AssociatedResourceArn": f"{INSTANCE_ARN}/contact/call"}, "files of a VOICE contact can't be had"),
    ],
)
def test_what_the_reference_forbids_is_an_invalid_request(
    simulator: ConnectSimulator, connect: Any, change: dict[str, Any], named: str
) -> None:
    simulator.import_contacts([seed(Channel="EMAIL", References=[file("a")]), seed("call", References=[file("a")])])
    parameters = {name: value for name, value in asked(**change).items() if value is not None}
    code, status, message = refusal(connect.get_attached_file, **parameters)
    assert (code, status) == ("InvalidRequestException", 400)
    assert message.startswith(named)


def test_two_a_second_are_allowed(client_of: Callable[[ConnectSimulator], Any], clock: Clock) -> None:
    quotas = {name: rate for name, rate in UNLIMITED.items() if name != "GetAttachedFile"}
    with ConnectSimulator(clock=clock, quotas=quotas) as simulator:
        simulator.import_contacts([seed(Channel="EMAIL", References=[file("a")])])
        connect = client_of(simulator)
        for _ in range(2):
            connect.get_attached_file(**asked())
        assert refusal(connect.get_attached_file, **asked())[:2] == ("ThrottlingException", 429)
        clock.now += 0.5
        connect.get_attached_file(**asked())
