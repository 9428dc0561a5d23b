"""Which types a contact is asked for: by its channel, all of them in the audit, without those that are refused."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_references.model.contact import Contact, ContactKey
from contact_references.model.errors import ContactNotFoundError, PermanentError
from contact_references.model.reference import PRODUCED_TYPES
from contact_references.model.reference_types import TypeLists, group_types
from local.in_memory.connect import Member
from tests.unit.conftest import ALL_TYPES, INSTANCE_ID, NOON, System, completion, recheck

LATER = NOON + timedelta(minutes=5)
VOICE_TYPES = ("URL", "NUMBER", "STRING", "DATE", "ATTACHMENT", "CONTACT_ANALYSIS")
BY_CHANNEL = TypeLists({"VOICE": VOICE_TYPES, "*": ALL_TYPES})
PRODUCED = tuple(PRODUCED_TYPES.values())
EMAIL: Member = {"Email": {"Name": "from", "Value": "jane@example.com"}}
FILE: Member = {"Attachment": {"Name": "f", "Status": "APPROVED"}}


def url(name: str) -> Member:
    return {"Url": {"Name": name, "Value": "https://example.com/"}}


def asked(system: System, contact_id: str = "a") -> list[tuple[str, ...]]:
    """The types of each call for a contact since this was asked last."""
    calls = [types for name, types in system.connect.calls if name == contact_id]
    system.connect.calls.clear()
    return calls


def voice(contact_id: str, channel: str | None = "VOICE") -> Contact:
    return Contact(key=ContactKey(INSTANCE_ID, contact_id), initial_contact_id=contact_id, channel=channel)


# By channel.


@pytest.mark.parametrize(
    ("channel", "calls"),
    [("VOICE", [VOICE_TYPES]), ("CHAT", [ALL_TYPES[:5], PRODUCED]), (None, [ALL_TYPES[:5], PRODUCED])],
)
def test_a_contact_is_asked_for_the_types_of_its_channel(
    system: System, channel: str | None, calls: list[tuple[str, ...]]
) -> None:
    system.use(type_lists=BY_CHANNEL)
    system.connect.contacts["a"] = []
    system.capture(completion("a", channel=channel))
    assert asked(system) == calls


def test_a_contact_s_channel_is_known_from_before(system: System) -> None:
    system.use(type_lists=BY_CHANNEL)
    system.connect.contacts["a"] = []
    system.capture(completion("a"))
    asked(system)
    system.capture(completion("a", channel=None, event_id="again"))
    assert asked(system) == [VOICE_TYPES]


def test_a_recheck_asks_once_for_those_of_the_channel_s_types_that_can_change(system: System) -> None:
    system.use(type_lists=BY_CHANNEL)
    system.connect.contacts["a"] = [url("x"), {"Attachment": {"Name": "f", "Status": "PROCESSING"}}]
    system.capture(completion("a"))
    asked(system)
    system.clock.advance(hours=1)
    system.capture(recheck("a", at=system.clock.now))
    assert asked(system) == [("ATTACHMENT", "CONTACT_ANALYSIS")]


def test_of_types_that_are_no_longer_asked_for_what_was_read_is_carried_over(system: System) -> None:
    system.connect.contacts["a"] = [url("old"), EMAIL]
    system.capture(completion("a"))
    system.use(type_lists=BY_CHANNEL)
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("new")]
    [result] = system.capture(completion("a", at=LATER))
    assert (result.reference_count, system.names()) == (2, ["from", "new"])


# The audit.


def drawn(share: float, names: Iterable[str]) -> set[str]:
    lists = TypeLists({"VOICE": VOICE_TYPES, "*": ALL_TYPES}, audit_share=share)
    return {name for name in names if set(lists.to_ask(voice(name))) == set(ALL_TYPES)}


def test_the_audit_draws_about_its_share_of_contacts_and_the_same_ones_again() -> None:
    names = [f"contact-{number}" for number in range(5000)]
    of_share = {share: drawn(share, names) for share in (0, 0.01, 0.1, 0.5, 1)}
    assert [len(of_share[share]) for share in (0, 1)] == [0, 5000]
    assert 25 <= len(of_share[0.01]) <= 80
    assert 430 <= len(of_share[0.1]) <= 570
    assert of_share[0.01] < of_share[0.1] < of_share[0.5]
    assert drawn(0.1, reversed(names)) == of_share[0.1]


@given(name=st.text(min_size=1), share=st.floats(0, 1), channel=st.sampled_from(["VOICE", "CHAT", None]))
def test_a_contact_is_asked_for_its_channel_s_types_whether_it_is_drawn_or_not(
    name: str, share: float, channel: str | None
) -> None:
    lists = TypeLists({"VOICE": ("URL", "DATE"), "*": ("URL", "ATTACHMENT")}, audit_share=share)
    types = lists.to_ask(voice(name.encode(errors="replace").decode(), channel))
    assert set(lists.listed(channel)) <= set(types)
    assert len(set(types)) == len(types)


def test_a_channel_whose_list_is_the_longest_is_not_audited() -> None:
    lists = TypeLists({"VOICE": ALL_TYPES, "*": VOICE_TYPES}, audit_share=1.0)
    assert lists.to_ask(voice("a")) == ALL_TYPES
    assert lists.to_ask(voice("a", "CHAT")) == VOICE_TYPES


def test_an_audited_contact_is_read_again_as_it_was_and_what_it_has_beyond_its_list_is_kept(system: System) -> None:
    system.use(type_lists=TypeLists(BY_CHANNEL.by_channel, audit_share=1.0))
    system.connect.contacts["a"] = [url("x"), EMAIL]
    [result] = system.capture(completion("a"))
    lists = TypeLists(BY_CHANNEL.by_channel, audit_share=1.0)
    assert lists.count_unlisted(result.contact, result.references) == 1
    assert [sorted(types) for types in asked(system)] == [sorted(ALL_TYPES[:5]), sorted(PRODUCED)]
    [again] = system.capture(completion("a", event_id="again"))
    assert again.reason == "unchanged"
    assert [len(types) for types in asked(system)] == [5, 6]


# Requests.


@given(st.lists(st.sampled_from(ALL_TYPES), min_size=1, unique=True))
def test_types_are_asked_for_in_as_few_requests_as_six_allow_each_once(types: list[str]) -> None:
    groups = group_types(types)
    assert sorted(chain.from_iterable(groups)) == sorted(types)
    assert all(0 < len(group) <= 6 for group in groups)
    assert len(groups) == (1 if len(types) <= 6 else 2)


# Refused types.


def test_a_type_that_is_refused_is_found_once_and_left_out_from_then_on(system: System) -> None:
    system.connect.contacts |= {name: [url(name), FILE] for name in "abc"}
    system.connect.refused_types = {"EMAIL_MESSAGE_REDACTED", "EMAIL_MESSAGE"}
    results = system.capture(completion("a"), completion("b"))
    assert [(result.outcome, result.reference_count) for result in results] == [("captured", 2)] * 2
    left = tuple(name for name in ALL_TYPES if name not in system.connect.refused_types)
    calls = [types for name, types in system.connect.calls if name == "a"]
    refused = [(name,) for name in PRODUCED if name in system.connect.refused_types]
    assert calls == [ALL_TYPES[:5], PRODUCED, *[(name,) for name in PRODUCED], *refused]
    assert [types for name, types in system.connect.calls if name == "b"] == [left[:5], left[5:]]
    assert system.refused == [("VOICE", "EMAIL_MESSAGE"), ("VOICE", "EMAIL_MESSAGE_REDACTED")]
    asked(system)
    system.capture(completion("c"))
    assert asked(system, "c") == [left[:5], left[5:]]
    assert len(system.refused) == 2


def test_types_that_are_refused_for_a_moment_are_not_left_out(system: System) -> None:
    system.connect.contacts |= {"a": [url("a"), FILE], "b": [FILE]}
    system.connect.refused_types = set(PRODUCED)
    refusals = iter([True, True, True])  # what is entered has none of them; then the six at once, and the first alone
    system.connect.refuses = lambda _: next(refusals, False)
    a, b = system.capture(completion("a"), completion("b"))
    assert (a.reference_count, b.reference_count) == (2, 1)
    assert asked(system, "b") == [ALL_TYPES[:5], PRODUCED]
    assert system.refused == []


def test_a_type_that_one_channel_can_not_have_is_asked_for_on_others(system: System) -> None:
    system.connect.contacts |= {"voice": [], "chat": [FILE]}
    system.connect.refused_types = {"ATTACHMENT"}
    system.connect.refuses = lambda contact_id: contact_id == "voice"
    _, chat = system.capture(completion("voice"), completion("chat", channel="CHAT"))
    assert chat.reference_count == 1
    assert system.refused == [("VOICE", "ATTACHMENT")]
    assert asked(system, "chat") == [ALL_TYPES[:5], PRODUCED]


def test_another_environment_finds_refused_types_for_itself(system: System) -> None:
    system.connect.contacts |= {"a": [], "b": []}
    system.connect.refused_types = {"EMAIL_MESSAGE"}
    system.capture(completion("a"))
    system.use()
    system.capture(completion("b"))
    assert system.refused == [("VOICE", "EMAIL_MESSAGE")]


def test_what_was_read_of_a_type_that_is_refused_now_is_carried_over(system: System) -> None:
    system.connect.contacts["a"] = [url("x"), FILE]
    system.capture(completion("a"))
    system.use()
    system.connect.refused_types = {"ATTACHMENT"}
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("y")]
    [result] = system.capture(completion("a", at=LATER))
    assert (result.reason, system.names()) == ("changed", ["f", "y"])
    assert system.item("a").read_at > LATER


def test_types_that_were_answered_before_are_refused_for_the_contact_s_sake_and_not_asked_for_again(
    system: System,
) -> None:
    system.connect.contacts |= {"a": [], "b": [url("x")]}
    system.capture(completion("a"))
    system.connect.refused_types = set(ALL_TYPES)
    asked(system)
    [refused] = system.capture(completion("b"))
    assert isinstance(refused, PermanentError)
    assert (len(asked(system, "b")), system.refused) == (1, [])


def test_a_contact_of_which_every_type_is_refused_is_refused_itself(system: System) -> None:
    system.connect.contacts |= {"a": [url("x")], "b": [url("y")]}
    system.connect.refused_types = set(ALL_TYPES)
    system.connect.refuses = lambda contact_id: contact_id == "a"
    refused, captured = system.capture(completion("a"), completion("b"))
    assert isinstance(refused, PermanentError)
    assert refused.error == "InvalidParameterException"
    assert captured.outcome == "captured"
    assert system.refused == []
    assert asked(system, "b") == [ALL_TYPES[:5], PRODUCED]


@pytest.mark.parametrize(
    "refused", [PRODUCED, ("EMAIL",), ALL_TYPES[:5]], ids=["produced ones", "the only entered one", "entered ones"]
)
def test_types_of_one_request_that_are_all_refused_fail_no_contact_that_has_others(
    system: System, refused: tuple[str, ...]
) -> None:
    types = ("EMAIL", *PRODUCED) if refused == ("EMAIL",) else ALL_TYPES
    system.use(type_lists=TypeLists({"*": types}))
    system.connect.refused_types = set(refused)
    system.connect.contacts |= {"a": [url("x"), FILE], "b": []}
    results = system.capture(completion("a"), completion("b"))
    assert [getattr(result, "outcome", result) for result in results] == ["captured", "captured"]
    assert [name for _, name in system.refused] == list(refused)


def test_a_contact_whose_channel_becomes_known_is_asked_for_the_types_that_were_not_read(system: System) -> None:
    lists = TypeLists({"VOICE": ALL_TYPES, "*": ("URL",)})
    system.use(type_lists=lists)
    system.connect.contacts |= {"a": [url("x"), FILE], "leg": []}
    system.clock.advance(minutes=1)
    system.capture(completion("leg", initial_contact_id="a", at=NOON + timedelta(minutes=1)))
    assert system.names() == ["x"]
    system.capture(completion("a"))  # covered, but for the types
    assert system.names() == ["f", "x"]


def test_a_refusal_on_the_way_is_no_refused_type(system: System) -> None:
    system.connect.contacts["a"] = []
    system.connect.refused_types = {"EMAIL"}
    failures = iter([None, None, (404, "ResourceNotFoundException")])

    def fail(_: str) -> None:
        if failure := next(failures, None):
            system.connect.failures = [failure]

    system.connect.before_answer = fail
    [result] = system.capture(completion("a"))
    assert isinstance(result, ContactNotFoundError)
    assert system.refused == []
