"""What is large or endless stays within bounds, and what is personal stays within ledger, lake and bodies."""

import contextlib
import gc
import itertools
import json
import traceback
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from contact_references.aws.pacing import TokenBucket
from contact_references.model.errors import CaptureError
from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES
from contact_references.model.timestamps import parse_iso
from local.in_memory.connect import Member
from local.in_memory.environment import Services, start_environment
from local.in_memory.events import as_messages, completion_event
from tests.unit import test_handler
from tests.unit.conftest import ALL_LISTS, INSTANCE_ID, NOON, SCOPE, Deliveries
from tests.unit.test_handler import VOICE, VOICE_ID, Function, load

function = test_handler.function

MEGABYTE = 1024 * 1024
WIDE = "😀" * 4096
"""As long as the API allows, in characters of four bytes: 16 KiB."""


@contextlib.contextmanager
def memory_within(megabytes: float) -> Iterator[None]:
    """Fail if more than that is allocated at a time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < megabytes * MEGABYTE, f"{peak / MEGABYTE:.1f} MB"


def batch_of(*bodies: str) -> dict[str, Any]:
    """Make a delivery by hand: what is not on a queue can't be too large for it."""
    records = [{"messageId": str(n), "body": body, "receiptHandle": "handle"} for n, body in enumerate(bodies)]
    return {"Records": records}


def large_members(count: int) -> list[Member]:
    return [{"Url": {"Name": f"{number:04}" + WIDE[4:], "Value": WIDE}} for number in range(count)]


def padded(event: dict[str, Any], padding: object) -> str:
    return json.dumps(event | {"detail": event["detail"] | {"padding": padding}}, ensure_ascii=False)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture
def deliveries() -> Deliveries:
    """Deliveries whose clients have been used: what they load once is not what a message takes."""
    made = Deliveries()
    made.system.clock.now = parse_iso("2026-03-03T12:00:00Z")
    made.system.connect.contacts["warm"] = large_members(1)
    made.deliver(VOICE | {"detail": VOICE["detail"] | {"contactId": "warm", "initialContactId": "warm"}}, "no JSON")
    made.dead_letters.clear()
    made.system.fake.calls.clear()
    made.system.connect.calls.clear()
    return made


@pytest.mark.parametrize("padding", ["x" * MEGABYTE, WIDE * 64, [nested(900)] * 600], ids=["long", "wide", "deep"])
def test_a_message_of_a_megabyte_is_captured_like_any_other(deliveries: Deliveries, padding: object) -> None:
    deliveries.system.connect.contacts[VOICE_ID] = []
    body = padded(VOICE, padding)
    with memory_within(64):  # a list in Python for each pair of brackets
        deliveries.deliver(body)
    assert (deliveries.queue, deliveries.dead_letters) == ([], [])
    assert len(deliveries.system.items(VOICE_ID)) == 1


def test_a_megabyte_of_brackets_is_a_dead_letter(deliveries: Deliveries) -> None:
    with memory_within(12):
        deliveries.deliver("[" * MEGABYTE)
    assert (deliveries.queue, deliveries.dead_letters) == ([], ["[" * MEGABYTE])


def test_three_hundred_references_of_the_greatest_length_are_captured_whole(deliveries: Deliveries) -> None:
    deliveries.system.connect.contacts[VOICE_ID] = large_members(300)
    with memory_within(100):  # 29 MB as Connect's JSON, 15 MB as rows; the answering services are in it
        deliveries.deliver(VOICE)
    contact, *rows = deliveries.system.items(VOICE_ID)
    assert (contact["reference_count"], len(rows)) == ("300", 300)
    assert {row["reference_value"] for row in rows} == {WIDE}


def test_an_endless_list_of_pages_is_left_at_a_hundred(deliveries: Deliveries) -> None:
    pages = itertools.count()
    deliveries.system.connect.contacts[VOICE_ID] = []

    def one_more_page(_: bytes) -> bytes:
        page = {"ReferenceSummaryList": large_members(4), "NextToken": str(next(pages))}
        return json.dumps(page, ensure_ascii=False).encode()

    deliveries.system.connect.rewrite = one_more_page
    with memory_within(24):
        deliveries.deliver(VOICE)
    assert len(deliveries.system.connect.calls) == 100
    assert (len(deliveries.queue), deliveries.dead_letters, deliveries.system.items(VOICE_ID)) == (1, [], [])


def test_a_batch_of_large_contacts_is_captured_whole(deliveries: Deliveries) -> None:
    ids = [f"contact-{number}" for number in range(25)]
    deliveries.system.connect.contacts |= dict.fromkeys(ids, large_members(12))
    events = [
        VOICE | {"id": name, "detail": VOICE["detail"] | {"contactId": name, "initialContactId": name}} for name in ids
    ]
    with memory_within(80):
        deliveries.deliver(*events)
    assert (deliveries.queue, deliveries.dead_letters) == ([], [])
    assert {len(deliveries.system.items(name)) for name in ids} == {13}


def test_a_backlog_ten_times_as_long_takes_no_more_memory() -> None:
    services = Services()
    services.connect.find = lambda _: [
        {"Url": {"Name": "CRM", "Value": "https://crm.example.com/1"}},
        {"String": {"Name": "Case", "Value": "1"}},
    ]
    intake = start_environment(
        services,
        type_lists=ALL_LISTS,
        bucket=TokenBucket(1, clock=lambda: 0.0, sleep=lambda _: None),
        clock=lambda: NOON,
        sleep=lambda _: None,
    ).intake

    def drain(contacts: int) -> int:
        """Drain contacts in batches, of which nothing stays in the services; return the bytes that are held then."""
        tracemalloc.start()
        for start in range(0, contacts, 25):
            names = [f"contact-{number}" for number in range(start, start + 25)]
            bodies = [completion_event(name, completed=NOON, event_id=f"{contacts}-{name}") for name in names]
            assert not intake.take_messages(as_messages(bodies), scope=SCOPE, time_left=lambda: 900)
            for name in names:
                services.dynamodb.forget(f"{INSTANCE_ID}#{name}")
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    drain(100)  # what is loaded once
    assert drain(1000) - drain(100) < 100_000
    assert services.dynamodb.counts["PutItem"] == 1200


# Personal data.

MARKER = "planted-marker"


def marked(value: Any) -> Any:
    """Plant the marker in every text of a JSON value, the names of fields included, but for what identifies it."""
    if isinstance(value, dict):
        kept = {name: marked(item) for name, item in value.items()}
        return kept | {f"{MARKER}-{name}": marked(item) for name, item in value.items()}
    return f"{MARKER} {value}" if isinstance(value, str) else [MARKER, value]


def marked_event() -> dict[str, Any]:
    """A completed contact's event in which everything that is not the contact's identity is marked."""
    event = load("completed-email")
    identity = ("source", "detail-type", "id", "time", "account", "region")
    detail = ("eventType", "contactId", "instanceArn", "initialContactId", "disconnectTimestamp")
    marks = marked({name: value for name, value in event.items() if name not in (*identity, "detail")})
    personal = dict.fromkeys(("customerId", "name", "description", "channel", "initiationMethod"), MARKER)
    inner = marked({name: value for name, value in event["detail"].items() if name not in detail}) | personal
    envelope: dict[str, Any] = (
        {name: event[name] for name in identity}
        | marks
        | {"detail": inner | {name: event["detail"][name] for name in detail if name in event["detail"]}}
    )
    return envelope


def marked_members() -> list[Member]:
    """A valid and an invalid reference of every type, an unknown one too, with the marker in all that they say."""
    url = f"https://{MARKER}:{MARKER}@{MARKER}.example/{MARKER}?X-Amz-Signature={MARKER}#{MARKER}"
    tags = [*ENTERED_TYPES, *PRODUCED_TYPES]
    content = {"Name": MARKER, "Arn": f"arn:aws:connect:us-east-1:111122223333:{MARKER}", "Status": MARKER}
    content |= {"AnalyticsMode": MARKER}
    named = [
        {tag: content | {"Value": value}} for tag in tags for value in (url, MARKER, f"\ud800{MARKER}", MARKER * 9)
    ]
    return [*named, {"Mood": {MARKER: MARKER, "Name": MARKER, "Value": [MARKER]}}]


Failure = tuple[str, str, int, str]
"""A service's operation that fails, with which status and code."""

FAILURES: list[Failure] = [
    ("connect", "ListContactReferences", 429, "ThrottlingException"),
    ("connect", "ListContactReferences", 404, "ResourceNotFoundException"),
    ("connect", "ListContactReferences", 403, "AccessDeniedException"),
    ("connect", "ListContactReferences", 400, "InvalidParameterException"),
    ("connect", "ListContactReferences", 500, "InternalServiceException"),
    ("dynamodb", "BatchGetItem", 400, "ValidationException"),
    ("dynamodb", "BatchGetItem", 400, "ResourceNotFoundException"),
    ("dynamodb", "BatchWriteItem", 400, "ValidationException"),
    ("dynamodb", "BatchWriteItem", 400, "ThrottlingException"),
    ("dynamodb", "PutItem", 400, "ValidationException"),
    ("dynamodb", "PutItem", 400, "ConditionalCheckFailedException"),
    ("dynamodb", "UpdateItem", 400, "ValidationException"),
    ("s3", "PutObject", 400, "InvalidArgument"),
    ("s3", "PutObject", 403, "AccessDenied"),
]


def fail(function: Function, *failures: Failure) -> None:
    """Have the function's clients meet these failures; their messages quote what was sent, as services' do."""
    clients = {
        "connect": function.system.connect_client,
        "dynamodb": function.system.dynamodb,
        "s3": function.system.s3,
        "sqs": function.sqs,
    }
    for service, operation, status, code in failures:
        answer = {
            "Error": {"Code": code, "Message": MARKER},
            "ResponseMetadata": {"HTTPStatusCode": status},
            "Item": {"reference_value": {"S": MARKER}},
        }
        answered = (SimpleNamespace(status_code=status), answer)
        clients[service].meta.events.register(
            f"before-call.{service}.{operation}", lambda answered=answered, **_: answered, unique_id=str(answer)
        )


def emitted(function: Function, event: dict[str, Any], output: pytest.CaptureFixture[str]) -> str:
    """Give the event to the function both ways; return all it says, but for bodies and ledger and lake."""
    said = [json.dumps(function.handler(batch_of(json.dumps(event), json.dumps(marked(event)), MARKER)))]
    try:
        said.append(json.dumps(function.handler(event)))
    except CaptureError as error:
        said += traceback.format_exception(error)
    said += [json.dumps(attributes) for _, attributes in function.dead_letters()]
    written = output.readouterr()
    return "\n".join([*said, written.out, written.err])


def test_nothing_personal_is_said_of_a_contact_that_is_captured(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    event = marked_event()
    contact_id = event["detail"]["contactId"]
    function.system.connect.contacts[contact_id] = marked_members()
    said = emitted(function, event, capsys)
    assert '"outcome":"captured"' in said
    assert MARKER in str(function.system.items(contact_id))
    assert MARKER.lower() not in said.lower()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: " ".join(map(str, failure)))
def test_nothing_personal_is_said_of_a_contact_that_fails(
    function: Function, capsys: pytest.CaptureFixture[str], failure: Failure
) -> None:
    fail(function, failure, ("sqs", "ChangeMessageVisibility", 400, "InvalidParameterValue"))
    event = marked_event()
    function.system.connect.contacts[event["detail"]["contactId"]] = marked_members()
    said = emitted(function, event, capsys)
    code = failure[-1]
    assert ("Overtaken" if code == "ConditionalCheckFailedException" else code) in said
    assert MARKER.lower() not in said.lower()


def test_nothing_personal_is_said_of_a_dead_letter_that_is_refused(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(function, ("sqs", "SendMessage", 400, "InvalidMessageContents"))
    said = emitted(function, marked_event(), capsys)
    assert "InvalidMessageContents" in said
    assert MARKER.lower() not in said.lower()


def test_nothing_personal_is_said_of_a_defect(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    def break_down(_: object) -> None:
        raise ValueError(MARKER)

    function.system.connect.before_answer = break_down
    event = marked_event()
    function.system.connect.contacts[event["detail"]["contactId"]] = marked_members()
    said = emitted(function, event, capsys)
    assert "unexpected, at break_down" in said
    assert MARKER.lower() not in said.lower()
