"""The commit: what others see of it, what it does when it is overtaken, cut off or left without an answer."""

import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ConnectionClosedError

from contact_references.model.capture import ContactItem
from contact_references.model.contact import ContactKey
from contact_references.model.errors import ConfigurationError, PermanentError, RetriableError
from local.in_memory.connect import Member
from tests.unit.conftest import INSTANCE_ID, NOON, System, completion, make_system, recheck

KEY = ContactKey(INSTANCE_ID, "a")
LATER = NOON + timedelta(minutes=5)
HOUR = timedelta(hours=1)


def url(name: str, value: str = "https://example.com/") -> Member:
    return {"Url": {"Name": name, "Value": value}}


def processing(name: str = "photo.jpg") -> Member:
    return {"Attachment": {"Name": name, "Status": "PROCESSING"}}


def die(_: object) -> None:
    raise KeyboardInterrupt


def break_off(_: object) -> None:
    raise ConnectionClosedError(endpoint_url="https://aws")


def lose_answer(system: System) -> Callable[[AWSPreparedRequest], None]:
    """Let a request take effect and nobody know."""

    def lose(request: AWSPreparedRequest) -> None:
        system.fake.answer(request)
        break_off(request)

    return lose


def repeat(system: System) -> Callable[[AWSPreparedRequest], object]:
    """Let a request take effect, its answer get lost, and the SDK make it again."""
    return system.fake.answer


def meanwhile(system: System, *members: Member, event_id: str = "meanwhile") -> Callable[[object], None]:
    """Have the contact captured by another environment, with these members, by a reading that began after a while."""

    def capture(_: object) -> None:
        system.connect.before_answer = lambda _: None
        system.clock.advance(seconds=2)
        held = system.connect.contacts["a"]
        system.connect.contacts["a"] = list(members)
        system.capture(completion("a", at=system.clock.now, event_id=event_id))
        system.connect.contacts["a"] = held

    return capture


def row_names(system: System) -> list[str]:
    """The names of all rows of the contact, also of those that don't count."""
    return sorted(item["reference_name"] for item in system.items("a") if item["sk"] != "CONTACT")


def lake_names(system: System) -> list[str]:
    """The names of the references that the lake says are true."""
    _, rows = system.lake_snapshot()["a"]
    return sorted(row["reference_name"] for row in rows)


def operations(system: System) -> list[str]:
    return [operation for operation, _ in system.fake.calls]


# Overtaken.


@pytest.mark.parametrize("overtakes", ["ListContactReferences", "BatchWriteItem", "PutItem"])
def test_a_capture_that_is_overtaken_deletes_its_rows_and_reads_again(system: System, overtakes: str) -> None:
    system.connect.contacts["a"] = [url("mine, then")]

    def overtake(request: object) -> None:
        meanwhile(system, url("theirs"))(request)
        system.connect.contacts["a"] = [url("mine, now")]

    if overtakes == "ListContactReferences":
        system.connect.before_answer = overtake
        hook: Any = contextlib.nullcontext()
    else:
        hook = system.before(f"dynamodb.{overtakes}", overtake)
    with hook:
        [result] = system.capture(completion("a"))
    assert (result.outcome, result.reason) == ("skipped", "captured since the event")
    assert system.names() == row_names(system) == lake_names(system) == ["theirs"]


@pytest.mark.parametrize("overtakes", ["BatchWriteItem", "PutItem"])
def test_what_an_overtaken_capture_read_is_never_used_again(system: System, overtakes: str) -> None:
    system.connect.contacts["a"] = [url("mine, then")]

    def overtake(request: object) -> None:
        meanwhile(system, url("theirs"))(request)
        system.connect.contacts["a"] = [url("mine, now")]

    late = completion("a", at=NOON + HOUR, completed_at=NOON)  # not covered by the other one's reading
    with system.before(f"dynamodb.{overtakes}", overtake):
        [result] = system.capture(late)
    assert (result.outcome, result.reason) == ("captured", "changed")
    assert len(system.connect.calls) == 6
    assert system.names() == row_names(system) == lake_names(system) == ["mine, now"]


def test_a_confirmation_that_is_overtaken_reads_again(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    system.capture(completion("a"))
    late = completion("a", at=NOON + HOUR, completed_at=NOON)

    def overtake(request: object) -> None:
        meanwhile(system, url("theirs"))(request)
        system.connect.contacts["a"] = [url("now")]

    with system.before("dynamodb.UpdateItem", overtake):
        [result] = system.capture(late)
    assert result.reason == "changed"
    assert system.names() == row_names(system) == lake_names(system) == ["now"]


def test_a_confirmation_of_what_was_replaced_is_refused(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    system.capture(completion("a"))
    seen = system.item("a")
    system.connect.contacts["a"] = [url("y")]
    system.capture(completion("a", at=LATER))
    assert system.ledger.confirm(seen, over=seen) is False
    assert system.names() == ["y"]


def test_others_that_keep_being_faster_are_given_way_to_after_a_while(system: System) -> None:
    system.connect.contacts["a"] = [url("mine")]
    rounds = 0

    def overtake(operation: str, parameters: dict[str, Any]) -> None:
        nonlocal rounds
        if operation == "PutItem" and parameters["Item"]["event_id"] == {"S": "mine"}:
            rounds += 1
            [put] = [item for key, item in system.fake.items.items() if key[1] == "CONTACT"] or [parameters["Item"]]
            other = {"version": {"N": str(rounds * 1000)}, "read_at": {"S": "2026-03-01T11:00:00.000Z"}}
            names = {"capture_id": {"S": f"other {rounds}"}, "event_id": {"S": "other"}, "reference_count": {"N": "0"}}
            system.fake.items[put["pk"]["S"], "CONTACT"] = put | other | names

    def note(operation: str, parameters: dict[str, Any]) -> str | None:
        overtake(operation, parameters)
        return None

    system.fake.refuses = note
    [result] = system.capture(completion("a", event_id="mine"))
    assert isinstance(result, RetriableError)
    assert result.error == "Overtaken"
    assert (rounds, len(system.connect.calls)) == (5, 10)
    assert row_names(system) == []
    assert system.lake() == {}


def test_a_lost_race_followed_by_a_failing_look_hands_back_that_contact_alone(system: System) -> None:
    system.connect.contacts |= {"a": [url("x")], "b": [url("y")]}
    looks = iter([None, None, "InternalServerError"])
    system.fake.refuses = lambda operation, _: next(looks) if operation == "BatchGetItem" else None
    # The look of the one that overtakes is the second.
    with system.before("dynamodb.PutItem", meanwhile(system, url("theirs"))):
        lost, captured = system.capture(completion("a"), completion("b"))
    assert not hasattr(lost, "outcome")
    assert captured.outcome == "captured"
    assert system.lake_snapshot().keys() == {"a", "b"}


def test_a_recheck_that_meets_a_newer_capture_does_not_put_the_old_back(system: System) -> None:
    system.connect.contacts["a"] = [url("old"), processing()]
    system.capture(completion("a"))
    system.clock.advance(hours=1)
    system.connect.before_answer = meanwhile(system, url("new"), processing("new.jpg"))
    system.connect.contacts["a"] = [processing("new.jpg")]
    system.capture(recheck("a", at=NOON + HOUR))
    assert system.names() == lake_names(system) == ["new", "new.jpg"]


# Without an answer.


def test_a_commit_whose_answer_was_lost_and_that_was_made_again_is_a_success(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    with system.before("dynamodb.PutItem", repeat(system)):
        [result] = system.capture(completion("a"))
    assert (result.outcome, result.reason) == ("captured", "captured")
    assert len(system.connect.calls) == 2
    assert system.names() == row_names(system) == lake_names(system) == ["x"]


def test_a_commit_made_again_is_none_if_another_capture_took_its_place_meanwhile(system: System) -> None:
    system.connect.contacts["a"] = [url("mine")]

    def lose(request: AWSPreparedRequest) -> None:
        system.fake.answer(request)
        meanwhile(system, url("theirs"))(request)

    with system.before("dynamodb.PutItem", lose):
        [result] = system.capture(completion("a"))
    assert result.outcome == "skipped"
    assert system.names() == row_names(system) == lake_names(system) == ["theirs"]


@pytest.mark.parametrize("is_applied", [True, False])
def test_after_an_outcome_that_is_not_known_nothing_is_deleted(system: System, is_applied: bool) -> None:
    system.connect.contacts["a"] = [url("old")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("new")]
    report = completion("a", at=LATER)
    with system.before("dynamodb.PutItem", lose_answer(system) if is_applied else break_off):
        [result] = system.capture(report)
    assert isinstance(result, RetriableError)
    assert row_names(system) == ["new", "old"]
    assert system.names() == (["new"] if is_applied else ["old"])
    assert len(system.lake()) == 1
    calls = len(system.connect.calls)
    [again] = system.capture(completion("a", at=LATER, is_redelivered=True))
    assert system.names() == lake_names(system) == ["new"]
    assert again.outcome == ("skipped" if is_applied else "captured")
    assert len(system.connect.calls) - calls == (0 if is_applied else 2)


@pytest.mark.parametrize("is_applied", [True, False])
def test_rows_whose_put_is_not_answered_are_of_no_use_and_hurt_nobody(system: System, is_applied: bool) -> None:
    system.connect.contacts |= {"a": [url("x")]}
    with system.before("dynamodb.BatchWriteItem", lose_answer(system) if is_applied else break_off):
        [result] = system.capture(completion("a"))
    assert isinstance(result, RetriableError)
    assert system.ledger.find_capture(KEY) is None
    assert "PutItem" not in operations(system)
    system.capture(completion("a", is_redelivered=True))
    assert system.names() == row_names(system) == ["x"]


def test_a_refused_commit_is_a_failure_of_its_contact_alone(system: System) -> None:
    system.connect.contacts |= {"a": [url("x")], "b": [url("y")]}
    codes = iter(["ValidationException"])
    system.fake.refuses = lambda operation, _: next(codes, None) if operation == "PutItem" else None
    refused, captured = system.capture(completion("a"), completion("b"))
    assert isinstance(refused, PermanentError)
    assert captured.outcome == "captured"
    assert system.lake_snapshot().keys() == {"b"}


# Rows.


def refuse_rows_of(system: System, contact_id: str, code: str) -> None:
    """Refuse each BatchWriteItem that puts a row of this contact."""

    def refusal(operation: str, parameters: dict[str, Any]) -> str | None:
        requests = parameters["RequestItems"]["ledger"] if operation == "BatchWriteItem" else []
        puts = [request["PutRequest"]["Item"] for request in requests if "PutRequest" in request]
        return code if {"S": contact_id} in [row["contact_id"] for row in puts] else None

    system.fake.refuses = refusal


def test_rows_that_are_refused_in_a_shared_request_fail_their_contact_alone(system: System) -> None:
    system.connect.contacts |= {name: [url(name)] for name in "abc"} | {"d": []}
    refuse_rows_of(system, "b", "ValidationException")
    results = system.capture(*map(completion, "abcd"))
    assert [getattr(result, "outcome", type(result)) for result in results] == [
        "captured",
        PermanentError,
        "captured",
        "captured",
    ]
    assert system.items("b") == []
    assert system.lake_snapshot().keys() == set("acd")


def test_throttled_rows_are_retried_later_and_an_access_that_is_denied_is_no_contact_s_fault(system: System) -> None:
    system.connect.contacts |= {name: [url(name)] for name in "ab"}
    for code, error in (("ThrottlingException", RetriableError), ("AccessDeniedException", ConfigurationError)):
        refuse_rows_of(system, "a", code)
        results = system.capture(completion("a"), completion("b"))
        assert all(isinstance(result, error) for result in results)
        assert operations(system)[-1] == "BatchWriteItem"


def test_rows_that_the_service_did_not_get_to_are_a_failure_of_their_contacts_alone(system: System) -> None:
    system.connect.contacts |= {name: [url(f"{name} {number}") for number in range(3)] for name in "abc"} | {"d": []}
    rounds = iter([4])  # one more than the first contact's
    system.fake.gets_to = lambda _: next(rounds, 0)
    results = system.capture(*map(completion, "abcd"))
    assert [type(result).__name__ for result in results] == ["Result", "RetriableError", "RetriableError", "Result"]
    assert [result.error for result in results[1:3]] == ["UnprocessedItems"] * 2
    assert system.lake_snapshot().keys() == {"a", "d"}


def test_rows_that_the_service_did_not_get_to_are_put_after_a_growing_pause(system: System) -> None:
    system.connect.contacts["a"] = [url(f"{number:02}") for number in range(30)]
    # Of the two requests of the first round it gets to 3 and 0, then to ever more.
    got = iter([3, 0, 10, 0, 40, 40, 40])
    system.fake.gets_to = lambda count: min(count, next(got))
    [result] = system.capture(completion("a"))
    assert result.outcome == "captured"
    assert len(system.names()) == 30
    first, second = system.sleeps
    assert 0.05 <= first <= 0.2
    assert 0.1 <= second <= 0.4
    sizes = [len(of["RequestItems"]["ledger"]) for name, of in system.fake.calls if name == "BatchWriteItem"]
    assert sizes == [25, 5, 25, 2, 17]


def test_rows_that_the_service_never_gets_to_are_given_back_after_a_bound(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    system.fake.gets_to = lambda _: 0
    [result] = system.capture(completion("a"))
    assert isinstance(result, RetriableError)
    assert result.error == "UnprocessedItems"
    assert len([name for name in operations(system) if name == "BatchWriteItem"]) == 6
    assert len(system.sleeps) == 5
    assert all(later > earlier / 2 for earlier, later in zip(system.sleeps, system.sleeps[1:], strict=False))
    assert 2 < sum(system.sleeps) < 8
    assert (system.items("a"), system.lake()) == ([], {})


# Clean-up.


def test_a_first_capture_looks_for_no_rows_and_a_redelivered_one_deletes_what_a_dead_attempt_left(
    system: System,
) -> None:
    system.connect.contacts["a"] = [url("x")]
    with system.before("dynamodb.PutItem", die), contextlib.suppress(KeyboardInterrupt):
        system.capture(completion("a"))
    assert operations(system) == ["BatchGetItem", "BatchWriteItem"]
    assert (system.ledger.find_capture(KEY), row_names(system)) == (None, ["x"])
    system.connect.contacts["a"] = [url("y")]
    system.capture(completion("a", is_redelivered=True))
    assert system.names() == row_names(system) == ["y"]


def test_what_a_dead_attempt_left_is_never_a_part_of_what_counts_and_goes_with_the_next_capture(
    system: System,
) -> None:
    system.connect.contacts["a"] = [url("x")]
    with system.before("dynamodb.PutItem", die), contextlib.suppress(KeyboardInterrupt):
        system.capture(completion("a"))
    system.capture(completion("a"))
    assert (system.names(), row_names(system)) == (["x"], ["x", "x"])
    system.clock.advance(minutes=5)
    system.capture(completion("a", at=LATER))
    assert (system.names(), row_names(system)) == (["x"], ["x", "x"])
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("y")]
    system.capture(completion("a", at=LATER + timedelta(minutes=5)))
    assert system.names() == row_names(system) == ["y"]


@pytest.mark.parametrize("operation", ["PutItem", "BatchWriteItem"])
def test_rows_of_a_later_attempt_survive_the_clean_up(system: System, operation: str) -> None:
    system.connect.contacts["a"] = [url("old")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("new")]
    late = {
        "pk": {"S": f"{INSTANCE_ID}#a"},
        "sk": {"S": "REFERENCE#later#URL#0"},
        "capture_id": {"S": "later"},
        "reference_name": {"S": "of a later attempt"},
    }

    def put(_: object) -> None:
        system.fake.items[late["pk"]["S"], late["sk"]["S"]] = late

    with system.before(f"dynamodb.{operation}", put):
        system.capture(completion("a", at=LATER, is_redelivered=True))
    assert row_names(system) == ["new", "of a later attempt"]


def test_rows_that_can_not_be_deleted_are_no_failure_and_told(system: System) -> None:
    system.connect.contacts["a"] = [url("old")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("new")]

    def refuse(operation: str, parameters: dict[str, Any]) -> str | None:
        is_delete = operation == "BatchWriteItem" and "DeleteRequest" in str(parameters)
        return "ThrottlingException" if is_delete else None

    system.fake.refuses = refuse
    [result] = system.capture(completion("a", at=LATER))
    assert result.outcome == "captured"
    assert [error.error for error in system.leftovers] == ["ThrottlingException"]
    assert (system.names(), row_names(system)) == (["new"], ["new", "old"])
    assert lake_names(system) == ["new"]


@pytest.mark.parametrize("count", [1, 60])
def test_cut_off_anywhere_it_shows_the_old_or_the_new_and_the_next_delivery_makes_it_good(count: int) -> None:
    for calls_before in range(20):
        system = make_system()
        system.connect.contacts["a"] = [url(f"old {number}") for number in range(3)]
        system.capture(completion("a"))
        system.clock.advance(minutes=5)
        system.connect.contacts["a"] = [url(f"new {number}") for number in range(count)]
        left = iter(range(calls_before))

        def cut(*_: object, left: Any = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        system.fake.refuses = cut
        was_cut = True
        with contextlib.suppress(KeyboardInterrupt):
            system.capture(completion("a", at=LATER))
            was_cut = False
        system.fake.refuses = lambda *_: None
        held = system.ledger.find_capture(KEY)
        assert held is not None
        assert len(held.references) in (3, count)
        system.capture(completion("a", at=LATER, is_redelivered=True))
        assert system.names() == lake_names(system) == sorted(f"new {number}" for number in range(count))
        if not was_cut:
            break
    assert calls_before > 5


# The lake.


def test_without_the_lake_what_was_committed_is_appended_when_its_message_comes_again(system: System) -> None:
    system.connect.contacts |= {"a": [url("x")], "b": []}
    with system.before("s3.PutObject", break_off):
        results = system.capture(completion("a"), completion("b"))
    assert [type(result) for result in results] == [RetriableError, RetriableError]
    assert (system.names(), system.lake(), system.days()) == (["x"], {}, {})
    calls = len(system.connect.calls)
    again = system.capture(completion("a", is_redelivered=True), completion("b", is_redelivered=True))
    assert [result.reason for result in again] == ["captured by this event, and appended again"] * 2
    assert len(system.connect.calls) == calls
    assert lake_names(system) == ["x"]
    assert system.lake_snapshot().keys() == {"a", "b"}
    assert system.item("a").version == 1


def test_one_date_that_can_not_be_appended_hands_back_its_contacts_alone(system: System) -> None:
    system.connect.contacts |= {"a": [], "b": [], "c": []}
    yesterday = NOON - timedelta(days=1)
    with system.before("s3.PutObject", break_off):
        results = system.capture(completion("a"), completion("b", completed_at=yesterday), completion("c"))
    assert [type(result).__name__ for result in results] == ["RetriableError", "Result", "RetriableError"]


def test_what_a_capture_confirmed_is_appended_again_if_its_append_had_failed(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    with system.before("s3.PutObject", break_off):
        system.capture(completion("a", event_id="first"))
    system.clock.advance(minutes=5)
    [result] = system.capture(completion("a", at=LATER, completed_at=NOON), completion("a", event_id="first"))
    assert result.reason == "unchanged"
    assert lake_names(system) == ["x"]


def test_a_redelivered_message_whose_capture_has_been_replaced_appends_nothing(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    with system.before("s3.PutObject", break_off):
        system.capture(completion("a", event_id="first"))
    system.clock.advance(minutes=5)
    system.connect.contacts["a"] = [url("y")]
    system.capture(completion("a", at=LATER, completed_at=NOON))
    [result] = system.capture(completion("a", event_id="first", is_redelivered=True))
    assert result.reason == "captured since the event"
    assert (lake_names(system), len(system.lake())) == (["y"], 1)


def test_a_recheck_that_changed_a_contact_is_appended_again_when_it_comes_again(system: System) -> None:
    system.connect.contacts["a"] = [processing()]
    system.capture(completion("a"))
    system.clock.advance(hours=1)
    system.connect.contacts["a"] = [{"Attachment": {"Name": "photo.jpg", "Status": "APPROVED"}}]
    report = recheck("a", at=NOON + HOUR)
    with system.before("s3.PutObject", break_off):
        system.capture(report)
    calls = len(system.connect.calls)
    system.capture(report)
    assert len(system.connect.calls) == calls
    _, [row] = system.lake_snapshot()["a"]
    assert row["status"] == "APPROVED"


def test_the_latest_report_of_a_batch_is_the_one_by_which_its_capture_is_appended_again(system: System) -> None:
    system.connect.contacts["a"] = []
    reports = [completion("a", event_id="late"), completion("a", at=NOON - HOUR, event_id="early")]
    with system.before("s3.PutObject", break_off):
        system.capture(*reports)
    assert system.item("a").event_id == "late"
    for report in reversed(reports):
        system.capture(report)
    assert len(system.lake()) == 1


def test_a_day_is_marked_after_what_was_appended(system: System) -> None:
    system.connect.contacts["a"] = []
    marked_before_append = []
    with system.before("s3.PutObject", lambda _: marked_before_append.append(system.days())):
        system.capture(completion("a"))
    assert marked_before_append == [{}]
    [(day, mark)] = system.days().items()
    assert day == "2026-03-01"
    assert (mark["version"], mark["due_key"]) == ("1", "DAY")
    assert mark["due_at"].startswith("2026-03-01T12:00:00")


def test_a_day_that_is_marked_stays_due_since_it_was(system: System) -> None:
    system.connect.contacts |= {"a": [], "b": []}
    system.capture(completion("a"))
    due_at = system.days()["2026-03-01"]["due_at"]
    system.clock.advance(minutes=5)
    system.capture(completion("b", completed_at=NOON))
    mark = system.days()["2026-03-01"]
    assert (mark["version"], mark["due_at"]) == ("2", due_at)


def test_a_day_that_can_not_be_marked_hands_the_messages_back_and_is_marked_when_they_come_again(
    system: System,
) -> None:
    system.connect.contacts["a"] = []
    with system.before("dynamodb.UpdateItem", break_off):
        [result] = system.capture(completion("a"))
    assert isinstance(result, RetriableError)
    assert (len(system.lake()), system.days()) == (1, {})
    system.capture(completion("a", is_redelivered=True))
    assert system.days().keys() == {"2026-03-01"}


def test_nothing_that_was_not_committed_is_ever_appended(system: System) -> None:
    system.connect.contacts |= {"a": [url("x")], "b": []}
    with system.before("dynamodb.PutItem", break_off):
        system.capture(completion("a"), completion("b"))
    assert system.lake_snapshot().keys() == {"b"}


# Readers, and what is damaged.


def delete_row(system: System, name: str) -> None:
    [key] = [key for key, item in system.fake.items.items() if item.get("reference_name") == {"S": name}]
    del system.fake.items[key]


def test_a_reader_reads_again_while_another_capture_takes_the_place(system: System) -> None:
    system.connect.contacts["a"] = [url("old"), url("older")]
    system.capture(completion("a"))
    system.clock.advance(minutes=5)
    with system.before("dynamodb.Query", meanwhile(system, url("new"))):
        assert system.names() == ["new"]


def test_a_reader_gives_up_on_a_contact_that_changes_all_the_time(system: System) -> None:
    system.connect.contacts["a"] = [url("x")]
    system.capture(completion("a"))
    delete_row(system, "x")

    def change(operation: str, _: dict[str, Any]) -> None:
        if operation == "Query":
            item = system.fake.items[f"{INSTANCE_ID}#a", "CONTACT"]
            item["version"] = {"N": str(int(item["version"]["N"]) + 1)}

    system.fake.refuses = change
    with pytest.raises(RetriableError, match="Contended"):
        system.ledger.find_capture(KEY)
    assert len([name for name in operations(system) if name == "Query"]) == 5


def test_a_reader_is_told_of_a_damaged_contact_and_never_given_a_part_of_it(system: System) -> None:
    system.connect.contacts["a"] = [url("x"), url("y")]
    system.capture(completion("a"))
    delete_row(system, "x")
    with pytest.raises(PermanentError, match="DamagedContact"):
        system.ledger.find_capture(KEY)


def test_a_damaged_contact_is_healed_by_its_next_reading(system: System) -> None:
    system.connect.contacts["a"] = [url("x"), url("y")]
    system.capture(completion("a"))
    delete_row(system, "x")
    system.clock.advance(minutes=5)
    [result] = system.capture(completion("a", at=LATER, completed_at=NOON))
    assert (result.outcome, result.reason) == ("captured", "changed")
    assert system.names() == row_names(system) == lake_names(system) == ["x", "y"]


@pytest.mark.parametrize("column", ["capture_id", "reference_id", "reference_type"])
def test_a_row_that_lacks_what_each_has_counts_as_missing_and_is_put_again(system: System, column: str) -> None:
    system.connect.contacts["a"] = [url("x"), url("y")]
    system.capture(completion("a"))
    damaged = next(item for key, item in system.fake.items.items() if key[1].startswith("REFERENCE#"))
    del damaged[column]
    with pytest.raises(PermanentError):
        system.ledger.find_capture(KEY)
    system.clock.advance(minutes=5)
    [result] = system.capture(completion("a", at=LATER, completed_at=NOON))
    assert (result.outcome, result.reason) == ("captured", "changed")
    assert system.names() == row_names(system) == lake_names(system) == ["x", "y"]


@pytest.mark.parametrize("lost", ["x", "photo.jpg"])
def test_a_recheck_of_a_damaged_contact_reads_in_full_and_heals_it(system: System, lost: str) -> None:
    system.connect.contacts["a"] = [url("x"), processing()]
    system.capture(completion("a"))
    delete_row(system, lost)
    system.clock.advance(hours=1)
    system.connect.calls.clear()
    system.capture(recheck("a", at=NOON + HOUR))
    assert [len(types) for _, types in system.connect.calls] == [5, 6]
    assert system.names() == row_names(system) == lake_names(system) == ["photo.jpg", "x"]


@pytest.mark.parametrize("channel", ["CHAT", "VOICE"], ids=["with news of it", "delivered again"])
def test_a_covered_report_of_a_damaged_contact_that_would_carry_its_rows_over_reads_it_instead(
    system: System, channel: str
) -> None:
    report = completion("a", channel=channel, event_id="same")
    system.connect.contacts["a"] = [url("x"), url("y")]
    system.capture(completion("a", channel=None if channel == "CHAT" else "VOICE", event_id="same"))
    delete_row(system, "x")
    calls = len(system.connect.calls)
    [result] = system.capture(report)
    assert (result.outcome, len(system.connect.calls) - calls) == ("captured", 2)
    assert system.names() == lake_names(system) == ["x", "y"]


def test_a_damaged_contact_that_is_overtaken_whenever_it_is_healed_is_not_appended_in_part(system: System) -> None:
    system.connect.contacts["a"] = [url("x"), url("y")]
    system.capture(completion("a", event_id="same"))
    delete_row(system, "x")

    def refuse(operation: str, parameters: dict[str, Any]) -> str | None:
        is_commit = operation == "PutItem" and parameters["Item"]["sk"] == {"S": "CONTACT"}
        return "ConditionalCheckFailedException" if is_commit else None

    system.fake.refuses = refuse
    [result] = system.capture(completion("a", event_id="same"))
    assert isinstance(result, RetriableError)
    assert lake_names(system) == ["x", "y"]


@pytest.mark.parametrize(
    "column", ["capture_id", "captured_at", "reference_count", "read_at", "checked_at", "version", "event_id"]
)
def test_an_item_that_lacks_a_column_is_a_failure_of_its_contact_alone(system: System, column: str) -> None:
    system.connect.contacts |= {"a": [url("x")], "b": [url("y")]}
    system.capture(completion("a"))
    del system.fake.items[f"{INSTANCE_ID}#a", "CONTACT"][column]
    damaged, captured = system.capture(completion("a", at=LATER), completion("b"))
    assert isinstance(damaged, PermanentError)
    assert column in damaged.reason
    assert captured.outcome == "captured"
    with pytest.raises(PermanentError, match="DamagedItem"):
        system.ledger.find_capture(KEY)


@pytest.mark.parametrize(("column", "value"), [("read_at", {"S": "yesterday"}), ("version", {"S": "one"})])
def test_an_item_with_a_column_of_another_form_is_a_failure_of_its_contact_alone(
    system: System, column: str, value: dict[str, str]
) -> None:
    system.connect.contacts |= {"a": [], "b": []}
    system.capture(completion("a"))
    system.fake.items[f"{INSTANCE_ID}#a", "CONTACT"][column] = value
    damaged, captured = system.capture(completion("a", at=LATER), completion("b"))
    assert (type(damaged), captured.outcome) == (PermanentError, "captured")
    assert next(iter(value.values())) not in str(damaged)


# Expiry.


def expire(system: System) -> ContactItem:
    system.use(retention=timedelta(days=30))
    system.connect.contacts |= {"leg": [], "a": [url("x")]}
    system.capture(completion("leg", initial_contact_id="a"))  # so that its completion is not known
    item = system.item("a")
    system.clock.now = item.captured_at + timedelta(days=30)
    return item


def test_an_expired_item_is_gone_for_readers_to_the_second(system: System) -> None:
    item = expire(system)
    assert item.expires_at is not None
    assert system.ledger.find_capture(KEY) is None
    system.clock.now -= timedelta(seconds=1, microseconds=system.clock.now.microsecond)
    assert system.names() == ["x"]


def test_a_recheck_of_an_expired_contact_brings_nothing_back(system: System) -> None:
    expire(system)
    calls = len(system.connect.calls)
    [result] = system.capture(recheck("a", at=system.clock.now))
    assert (result.outcome, result.reason) == ("skipped", "no longer in the ledger")
    assert len(system.connect.calls) == calls


def test_an_expired_item_is_taken_the_place_of_as_one_that_was_looked_at(system: System) -> None:
    before = expire(system)
    system.connect.contacts["a"] = [url("y")]
    now = system.clock.now
    [result] = system.capture(completion("a", at=now, channel="CHAT"))
    assert (result.outcome, result.reason) == ("captured", "captured")
    after = system.item("a")
    assert (after.version, after.captured_at > before.captured_at) == (before.version + 1, True)
    assert (after.read_at, after.checked_at) == (after.captured_at, after.captured_at)
    assert system.names() == row_names(system) == ["y"]


def test_an_expired_item_that_is_deleted_before_the_commit_is_no_obstacle(system: System) -> None:
    expire(system)

    def delete(_: object) -> None:
        del system.fake.items[f"{INSTANCE_ID}#a", "CONTACT"]

    with system.before("dynamodb.PutItem", delete):
        [result] = system.capture(completion("a", at=system.clock.now))
    assert result.outcome == "captured"
    assert system.item("a").version == 1


def test_a_capture_over_an_expired_item_is_overtaken_like_any_other(system: System) -> None:
    expire(system)
    late = completion("a", at=system.clock.now + HOUR, completed_at=system.clock.now)
    with system.before("dynamodb.PutItem", meanwhile(system, url("theirs"))):
        system.capture(late)
    assert system.names() == row_names(system) == ["x"]
    assert system.item("a").event_id == late.event_id
