"""Looking up what was captured: the reader, and the function as a contact flow calls it."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from contact_references.aws.ledger import value_key
from contact_references.lookup.flow import Answer
from contact_references.lookup.reader import Page, Reader
from contact_references.model.contact import ContactKey
from contact_references.model.errors import ConfigurationError, PermanentError, RetriableError, ThrottledError
from contact_references.model.reference import KNOWN_TYPES
from contact_references.model.timestamps import format_time
from local.in_memory.connect import Member
from lookup.handler import handler, logger
from tests.unit.conftest import ALL_TYPES, INSTANCE_ARN, INSTANCE_ID, NOON, System, completion
from tests.unit.test_handler import CurrentOutput

MARKER = "do-not-log-this"
CONTEXT: Any = SimpleNamespace(
    function_name="lookup",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:111122223333:function:lookup",
    aws_request_id="00000000-0000-0000-0000-000000000000",
)
MINUTE = timedelta(minutes=1)


def email(name: str, value: str = "jane@example.com") -> Member:
    return {"Email": {"Name": name, "Value": value}}


def text(name: str, value: str) -> Member:
    return {"String": {"Name": name, "Value": value}}


def capture(system: System, contact_id: str, *members: Member, minute: int = 0, **of: Any) -> None:
    """Have a contact captured that completed so many minutes after noon."""
    at = NOON + minute * MINUTE
    system.clock.now = max(system.clock.now, at)
    system.connect.contacts[contact_id] = list(members)
    system.capture(completion(contact_id, at=system.clock.now, completed_at=at, **of))


def key(contact_id: str) -> ContactKey:
    return ContactKey(INSTANCE_ID, contact_id)


@pytest.fixture
def reader(system: System) -> Reader:
    return Reader(system.ledger, clock=lambda: system.clock.now)


def requests(system: System) -> list[str]:
    return [operation for operation, _ in system.fake.calls]


def ids(page: Page) -> list[str]:
    return [match.contact.key.contact_id for match in page.matches]


# The reader.


def test_the_references_of_contacts_come_whole_and_the_last_completed_first(system: System, reader: Reader) -> None:
    capture(system, "early", email("x"), text("y", "z"))
    capture(system, "late", email("w"), minute=5)
    capture(system, "empty", minute=2)
    system.fake.calls.clear()
    found = reader.references_of(key("early"), key("none"), key("late"), key("empty"))
    names = {each.contact.key.contact_id: {ref.reference_name for ref in each.references} for each in found}
    assert list(names.items()) == [("late", {"w"}), ("empty", set()), ("early", {"x", "y"})]
    assert requests(system) == ["Query"] * 4


def test_a_value_is_found_in_any_spelling_of_it(system: System, reader: Reader) -> None:
    capture(system, "a", email("from", " Jane@Example.COM "))
    capture(system, "b", {"Url": {"Name": "CRM", "Value": "HTTPS://Example.com:443/1?X-Amz-Signature=1"}})
    capture(system, "c", {"Number": {"Name": "sum", "Value": "1.50"}})
    capture(system, "d", text("sum", "1.50"))
    assert ids(reader.contacts_with("EMAIL", "JANE@example.com")) == ["a"]
    assert ids(reader.contacts_with("URL", "https://example.com/1?X-Amz-Signature=2")) == ["b"]
    assert ids(reader.contacts_with("NUMBER", "+15e-1")) == ["c"]
    assert ids(reader.contacts_with("STRING", "1.50")) == ["d"]
    assert ids(reader.contacts_with("STRING", "1.5")) == []
    assert reader.contacts_with("EMAIL", " ") == Page(())


def test_pages_of_a_value_come_the_latest_first_and_end(system: System, reader: Reader) -> None:
    for minute in range(5):
        capture(system, f"c{minute}", email("from"), minute=minute)
    pages = [reader.contacts_with("EMAIL", "jane@example.com", limit=2)]
    while pages[-1].following:
        pages.append(reader.contacts_with("EMAIL", "jane@example.com", limit=2, after=pages[-1].following))
    assert [ids(page) for page in pages] == [["c4", "c3"], ["c2", "c1"], ["c0"]]


def add_alike(system: System, contact_id: str, *numbers: int, instance_id: str = INSTANCE_ID) -> None:
    """Put contacts in place like one that was captured, each of which completed its number of seconds after noon."""
    pk = f"{INSTANCE_ID}#{contact_id}"
    alike = {k[1]: item for k, item in system.fake.items.items() if k[0] == pk}
    for number in numbers:
        own = {"pk": {"S": f"{instance_id}#{contact_id}{number}"}}
        at = {"value_at": {"S": format_time(NOON + timedelta(seconds=number))}}
        for sort_key, item in alike.items():
            system.fake.items[own["pk"]["S"], sort_key] = item | own | (at if "value_at" in item else {})


def test_the_first_twenty_of_many_are_two_requests_of_little(system: System, reader: Reader) -> None:
    """Of 10,000 contacts half have the value: what is read does not depend on how many there are."""
    capture(system, "c", email("from"))
    capture(system, "d", email("from", "joe@example.com"))
    add_alike(system, "c", *range(1, 5_000))
    add_alike(system, "d", *range(1, 5_000))
    assert sum(sort_key == "CONTACT" for _, sort_key in system.fake.items) == 10_000
    system.fake.calls.clear()
    read = []
    call = system.fake.call

    def weigh(operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answered = call(operation, parameters)
        read.append(len(json.dumps(answered)))
        return answered

    system.fake.call = weigh  # type: ignore[method-assign]
    page = reader.contacts_with("EMAIL", "jane@example.com")
    assert ids(page) == [f"c{number}" for number in range(4_999, 4_979, -1)]
    assert requests(system) == ["Query", "BatchGetItem"]
    assert sum(read) <= 64 * 1024


def test_rows_of_a_dead_attempt_are_never_seen(system: System, reader: Reader) -> None:
    system.connect.contacts |= {"a": [email("from")], "b": [email("from")]}
    capture(system, "b", email("from"))
    system.fake.refuses = lambda operation, _: "InternalServerError" if operation == "PutItem" else None
    system.capture(completion("a", at=NOON + MINUTE))
    system.fake.refuses = lambda *_: None
    assert any(pk.endswith("#a") for pk, _ in system.fake.items)
    assert ids(reader.contacts_with("EMAIL", "jane@example.com")) == ["b"]
    assert reader.references_of(key("a")) == []
    system.connect.contacts["a"] = [email("to", "joe@example.com")]
    system.capture(completion("a", at=NOON + 2 * MINUTE))  # delivered for the first time: the rows stay
    assert ids(reader.contacts_with("EMAIL", "jane@example.com")) == ["b"]
    [held] = reader.references_of(key("a"))
    assert [reference.reference_name for reference in held.references] == ["to"]


def test_what_has_expired_is_never_seen(system: System) -> None:
    system.use(retention=timedelta(days=30))
    capture(system, "a", email("from"))
    reader = Reader(system.ledger, clock=lambda: system.clock.now)
    system.clock.now = NOON + timedelta(days=30) - MINUTE
    assert ids(reader.contacts_with("EMAIL", "jane@example.com")) == ["a"]
    assert len(reader.references_of(key("a"))) == 1
    system.clock.now = NOON + timedelta(days=30)
    assert ids(reader.contacts_with("EMAIL", "jane@example.com")) == []
    assert reader.references_of(key("a")) == []


def recapture(system: System, *members: Member) -> Callable[[object], None]:
    def act(_: object) -> None:
        system.clock.advance(minutes=5)
        system.connect.contacts["a"] = list(members)
        system.capture(completion("a", at=system.clock.now, completed_at=NOON))

    return act


def test_a_contact_that_is_captured_again_meanwhile_is_found_all_the_same(system: System, reader: Reader) -> None:
    capture(system, "a", email("from"))
    system.fake.calls.clear()
    with system.before("dynamodb.BatchGetItem", recapture(system, email("from"), email("to", "joe@example.com"))):
        page = reader.contacts_with("EMAIL", "jane@example.com")
    assert ids(page) == ["a"]
    assert page.matches[0].captured_at == system.item().captured_at


def test_a_value_that_is_taken_away_meanwhile_is_not_found(system: System, reader: Reader) -> None:
    capture(system, "a", email("from"))
    with system.before("dynamodb.BatchGetItem", recapture(system)):
        assert ids(reader.contacts_with("EMAIL", "jane@example.com")) == []


def test_a_race_costs_two_requests_more_and_no_further_one(system: System, reader: Reader) -> None:
    capture(system, "a", email("to", "joe@example.com"))
    [(at, row)] = [(k, item) for k, item in system.fake.items.items() if "value_key" in item]
    left = {"value_key": {"S": value_key("EMAIL", "jane@example.com")}, "capture_id": {"S": "dead"}}
    system.fake.items[at[0], "REFERENCE#dead#EMAIL#1"] = row | {"sk": {"S": "REFERENCE#dead#EMAIL#1"}} | left
    system.fake.calls.clear()
    assert ids(reader.contacts_with("EMAIL", "jane@example.com")) == []
    assert requests(system) == ["Query", "BatchGetItem"] * 2


# The function, as a flow calls it.


def flow_event(parameters: dict[str, Any] | None = None, **contact: Any) -> dict[str, Any]:
    """The event of a flow's Lambda block, as the administrator guide has it."""
    data = {
        "Attributes": {},
        "Channel": "VOICE",
        "ContactId": "live",
        "CustomerEndpoint": {"Address": "+12065550100", "Type": "TELEPHONE_NUMBER"},
        "InitialContactId": "live",
        "InitiationMethod": "INBOUND",
        "InstanceARN": INSTANCE_ARN,
        "PreviousContactId": "live",
        "Queue": None,
        "SystemEndpoint": None,
        "MediaStreams": {"Customer": {"Audio": None}},
    }
    details = {"ContactData": data | contact, "Parameters": {} if parameters is None else parameters}
    return {"Details": details, "Name": "ContactFlowEvent"}


Ask = Callable[..., Answer]


@pytest.fixture
def ask(reader: Reader) -> Ask:
    logger.handlers[0].setStream(CurrentOutput())  # type: ignore[attr-defined]

    def call(parameters: dict[str, Any] | None = None, **contact: Any) -> Answer:
        result: Answer = handler(flow_event(parameters, **contact), CONTEXT, app=reader)
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in result.items())
        return result

    return call


NOTHING = {"found": "false", "reference_count": "0", "truncated": "false"}


def test_a_flow_is_told_the_references_of_its_chain(system: System, ask: Ask) -> None:
    capture(system, "first", text("case", "CASE-1"))
    capture(system, "related", text("order", "42"), minute=1)
    capture(system, "previous", text("note", "call back"), minute=2)
    capture(system, "live", text("now", "not asked for"), minute=3)
    system.fake.calls.clear()
    answer = ask(InitialContactId="first", PreviousContactId="previous", RelatedContactId="related")
    assert answer == {
        "found": "true",
        "reference_count": "3",
        "truncated": "false",
        "reference_1_type": "STRING",
        "reference_1_contact_id": "previous",
        "reference_1_name": "note",
        "reference_1_value": "call back",
        "reference_1_completed_at": "2026-03-01T12:02:00.000Z",
        "reference_2_type": "STRING",
        "reference_2_contact_id": "related",
        "reference_2_name": "order",
        "reference_2_value": "42",
        "reference_2_completed_at": "2026-03-01T12:01:00.000Z",
        "reference_3_type": "STRING",
        "reference_3_contact_id": "first",
        "reference_3_name": "case",
        "reference_3_value": "CASE-1",
        "reference_3_completed_at": "2026-03-01T12:00:00.000Z",
    }
    assert requests(system) == ["Query"] * 3


def test_a_contact_that_is_twice_in_the_chain_is_asked_for_once(system: System, ask: Ask) -> None:
    capture(system, "first", text("case", "CASE-1"))
    system.fake.calls.clear()
    assert ask(InitialContactId="first", PreviousContactId="first")["reference_count"] == "1"
    assert requests(system) == ["Query"]


def test_a_contact_that_continues_none_has_nothing_and_costs_nothing(system: System, ask: Ask) -> None:
    assert ask() == ask(PreviousContactId=None, InitialContactId="") == NOTHING
    assert requests(system) == []


def test_nothing_found_is_an_answer(ask: Ask) -> None:
    assert ask(InitialContactId="first") == NOTHING
    assert ask({"type": "EMAIL", "value": "jane@example.com"}) == NOTHING
    assert ask({"contact_id": "none"}) == NOTHING


def test_a_flow_may_name_the_contact(system: System, ask: Ask) -> None:
    capture(system, "a", text("case", "CASE-1"), email("from"))
    answer = ask({"contact_id": "a", "types": "email, url"}, InitialContactId="first")
    assert (answer["reference_count"], answer["reference_1_value"]) == ("1", "jane@example.com")


def test_a_flow_may_ask_by_value(system: System, ask: Ask) -> None:
    capture(system, "a", email("from"), text("case", "CASE-1"))
    capture(system, "b", email("from", "Jane@Example.com"), minute=1)
    answer = ask({"type": "EMAIL", "value": "JANE@example.com"})
    assert (answer["found"], answer["reference_count"], answer["truncated"]) == ("true", "2", "false")
    assert (answer["reference_1_contact_id"], answer["reference_1_value"]) == ("b", "Jane@Example.com")
    assert answer["reference_2_contact_id"] == "a"


def test_a_flow_learns_nothing_of_another_instance(system: System, ask: Ask) -> None:
    capture(system, "a", email("from"))
    other = INSTANCE_ARN.replace("12345678", "87654321")
    assert ask({"type": "EMAIL", "value": "jane@example.com"}, InstanceARN=other) == NOTHING
    assert ask({"contact_id": "a"}, InstanceARN=other) == NOTHING


def test_contacts_of_another_instance_hide_none_of_the_flow_s_own(system: System, ask: Ask) -> None:
    capture(system, "a", email("from"))
    capture(system, "late", email("from"), minute=60)
    del system.fake.items[f"{INSTANCE_ID}#late", "CONTACT"]  # what an attempt that died has left
    add_alike(system, "a", *range(1, 120), instance_id="another")
    system.fake.calls.clear()
    answer = ask({"type": "EMAIL", "value": "jane@example.com"})
    assert (answer["reference_count"], answer["truncated"]) == ("1", "false")
    assert answer["reference_1_contact_id"] == "a"
    assert requests(system) == ["Query", "BatchGetItem"] * 3


def test_a_flow_whose_own_contacts_come_first_asks_once(system: System, ask: Ask) -> None:
    capture(system, "a", email("from"))
    add_alike(system, "a", *range(1, 20), instance_id="another")
    add_alike(system, "a", *range(20, 40))
    for limit in ("5", "20"):
        system.fake.calls.clear()
        answer = ask({"type": "EMAIL", "value": "jane@example.com", "limit": limit})
        assert (answer["reference_count"], answer["truncated"]) == (limit, "true")
        assert requests(system) == ["Query", "BatchGetItem"]


def test_what_is_behind_too_many_of_another_instance_may_be_more(system: System, ask: Ask) -> None:
    capture(system, "a", email("from"))
    add_alike(system, "a", *range(1, 300), instance_id="another")
    system.fake.calls.clear()
    assert ask({"type": "EMAIL", "value": "jane@example.com"}) == NOTHING | {"truncated": "true"}
    assert requests(system) == ["Query", "BatchGetItem"] * 3


def test_the_limit_leaves_out_and_says_so(system: System, ask: Ask) -> None:
    capture(system, "a", *(text(f"t{number}", "v") for number in range(25)))
    by_default, two = ask({"contact_id": "a"}), ask({"contact_id": "a", "limit": "2"})
    assert (by_default["reference_count"], by_default["truncated"]) == ("20", "true")
    assert (two["reference_count"], two["truncated"]) == ("2", "true")
    assert two.items() - by_default.items() == {("reference_count", "2")}
    by_value = ask({"type": "STRING", "value": "v", "limit": "1"})
    assert (by_value["reference_count"], by_value["truncated"]) == ("1", "true")


def test_an_answer_is_under_32_kb_and_never_has_half_a_value(system: System, ask: Ask) -> None:
    capture(system, "a", *(text(f"t{number}", "é" * 4096) for number in range(10)))
    answer = ask({"contact_id": "a"})
    encoded = ask({"contact_id": "a", "encoding": "base64url"})
    for each in (answer, encoded):
        assert len(json.dumps(each)) < 32 * 1024
        assert each["truncated"] == "true"
        assert 0 < int(each["reference_count"]) < 10
    assert {value for name, value in answer.items() if name.endswith("_value")} == {"é" * 4096}


def test_a_single_reference_that_is_too_large_is_found_and_left_out(system: System, ask: Ask) -> None:
    capture(system, "a", text("long", "x" * 40_000))
    assert ask({"contact_id": "a"}) == {"found": "true", "reference_count": "0", "truncated": "true"}


def test_encoded_texts_have_the_characters_that_every_flow_takes(system: System, ask: Ask) -> None:
    value = "é?>~ ÿþ, Straße 7"
    capture(
        system, "a", text("name of it", value), {"Attachment": {"Name": "f.pdf", "Arn": "arn", "Status": "APPROVED"}}
    )
    answer = ask({"contact_id": "a", "encoding": "base64url"})
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert all(set(name) | set(each) <= allowed for name, each in answer.items())
    [number] = [name.split("_")[1] for name, each in answer.items() if each == "STRING"]

    def decoded(column: str) -> str:
        encoded = answer[f"reference_{number}_{column}"]
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()

    assert (decoded("name"), decoded("value")) == ("name of it", value)
    assert decoded("completed_at") == "2026-03-01T12:00:00.000Z"
    [attachment] = [name.split("_")[1] for name, each in answer.items() if each == "ATTACHMENT"]
    assert f"reference_{attachment}_value" not in answer


@pytest.mark.parametrize("value", ["'; DROP TABLE ledger; --", "value_key = :value OR 1 = 1", "\ud800"])
def test_a_value_is_a_value_whatever_it_says(system: System, ask: Ask, value: str) -> None:
    capture(system, "a", text("query", value))
    capture(system, "b", text("query", "another"))
    answer = ask({"type": "STRING", "value": value})
    assert (answer["reference_count"], answer["reference_1_contact_id"]) == ("1", "a")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"type": "EMAIL"}, "type and value go together"),
        ({"value": "x"}, "type and value go together"),
        ({"type": "EMAIL", "value": ""}, "value is empty"),
        ({"type": "EMAIL", "value": " \n"}, "value is empty"),
        ({"type": "PHONE", "value": "x"}, "a type that there is not"),
        ({"type": "", "value": "x"}, "type is empty"),
        ({"types": "URL,"}, "types has a type that there is not"),
        ({"types": "URL, PHONE"}, "types has a type that there is not"),
        ({"type": "EMAIL", "value": "x", "contact_id": "a"}, "don't go with them"),
        ({"type": "EMAIL", "value": "x", "types": "URL"}, "don't go with them"),
        ({"contact": "a"}, "no other parameters than type, value, contact_id"),
        ({"contact_id": " "}, "contact_id is empty"),
        ({"contact_id": "x" * 257}, "contact_id is longer than 256"),
        ({"limit": "0"}, "limit is no whole number from 1 to 20"),
        ({"limit": "21"}, "limit is no whole number from 1 to 20"),
        ({"limit": "1.5"}, "limit is no whole number from 1 to 20"),
        ({"limit": "٣"}, "limit is no whole number from 1 to 20"),
        ({"limit": "9" * 10_000}, "limit is no whole number from 1 to 20"),
        ({"limit": 5}, "limit is no text"),
        ({"type": "EMAIL", "value": {"a": "b"}}, "value is no text"),
        ({"encoding": "hex"}, "encoding is not base64url"),
    ],
)
def test_a_question_that_cannot_be_answered_has_a_sentence_as_error(
    system: System, ask: Ask, parameters: dict[str, Any], sentence: str
) -> None:
    answer = ask(parameters, InitialContactId="first")
    assert sentence in answer.pop("error")
    assert answer == NOTHING
    assert requests(system) == []


def test_the_sentence_of_an_error_is_encoded_like_all_texts(ask: Ask) -> None:
    """Whoever asks for the encoding has a flow that takes no sentence."""
    for parameters in ({"type": "EMAIL"}, {"limit": "0"}, {"contact": "a"}, {"types": ""}):
        encoded = ask(parameters | {"encoding": "base64url"})
        sentence = encoded.pop("error")
        assert encoded == NOTHING
        assert base64.urlsafe_b64decode(sentence + "=" * (-len(sentence) % 4)).decode() == ask(parameters)["error"]
        assert re.fullmatch(r"[A-Za-z0-9_-]+", sentence)


def broken_events() -> Iterator[Any]:
    yield from (None, [], "text", 7, {}, {"Records": []}, {"Details": None}, {"Details": {"ContactData": None}})
    yield {"Details": flow_event()["Details"] | {"Parameters": "text"}}
    yield {"Details": flow_event()["Details"] | {"Parameters": [1]}}
    yield {"Details": {"Parameters": {}}}
    for wrong in (None, "", "arn", 7, "arn:aws:connect:us-east-1:111122223333:queue/x"):
        yield flow_event(InstanceARN=wrong)
    event = flow_event()
    del event["Details"]["ContactData"]["InstanceARN"]
    yield event


@pytest.mark.parametrize("event", list(broken_events()), ids=lambda _: "event")
def test_an_event_of_no_flow_has_a_sentence_as_error(reader: Reader, event: Any) -> None:
    assert handler(event, CONTEXT, app=reader) == NOTHING | {"error": "this is no event of a contact flow"}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ProvisionedThroughputExceededException", ThrottledError),
        ("AccessDeniedException", ConfigurationError),
        ("ValidationException", PermanentError),
    ],
)
def test_a_ledger_that_cannot_be_read_makes_the_flow_take_its_error_branch(
    system: System, ask: Ask, code: str, error: type[Exception]
) -> None:
    system.fake.refuses = lambda *_: code
    for parameters in ({"contact_id": "a"}, {"type": "EMAIL", "value": MARKER}):
        with pytest.raises(error) as raised:
            ask(parameters)
        assert MARKER not in str(raised.value)


def test_a_contact_of_which_rows_are_missing_is_never_given_in_part(system: System, ask: Ask) -> None:
    capture(system, "a", email("from"), text("case", "CASE-1"))
    del system.fake.items[next(k for k in system.fake.items if k[1].startswith("REFERENCE#"))]
    with pytest.raises(PermanentError, match="DamagedContact"):
        ask({"contact_id": "a"})


def test_nothing_of_a_reference_or_a_question_is_logged(
    system: System, ask: Ask, reader: Reader, capsys: pytest.CaptureFixture[str]
) -> None:
    capture(system, "a", text(MARKER, MARKER), email(MARKER, f"{MARKER}@example.com"))
    assert MARKER in str(ask({"contact_id": "a"}))
    assert MARKER in str(ask({"type": "STRING", "value": MARKER}))
    for parameters in ({"type": MARKER, "value": MARKER}, {MARKER: MARKER}, {"limit": MARKER}, {"types": MARKER}):
        assert MARKER not in ask(parameters)["error"]
    handler({"Details": MARKER}, CONTEXT, app=reader)
    system.fake.refuses = lambda *_: "InternalServerError"
    with pytest.raises((RetriableError, ConfigurationError)) as raised:
        ask({"type": "STRING", "value": MARKER})
    assert MARKER not in str(raised.value)
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert MARKER not in output.out + output.err
    assert [line["message"] for line in lines] == ["answered"] * 2 + ["question refused"] * 5
    assert {name: lines[0][name] for name in ("asked_for", "reference_count", "truncated")} == {
        "asked_for": "contacts",
        "reference_count": "2",
        "truncated": "false",
    }


def test_every_type_can_be_asked_for() -> None:
    assert {*KNOWN_TYPES} == {*ALL_TYPES, "UNKNOWN"}
