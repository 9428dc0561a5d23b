"""A contact that was erased: its tombstone takes the place of its item, counts as captured, and is never replaced."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from contact_references.lookup.reader import Reader
from contact_references.model.capture import Tombstone
from contact_references.model.contact import ContactKey
from contact_references.model.errors import PermanentError, RetriableError
from contact_references.model.events import ContactReport
from local.in_memory.connect import Member
from tests.unit.conftest import INSTANCE_ID, NOON, System, completion, missed, recheck
from tests.unit.reconciling import HOUR, INSTANCE, MINUTE, World
from tests.unit.test_commit import KEY, LATER, lose_answer, repeat, url

START = NOON - 2 * HOUR
JANE: Member = {"Email": {"Name": "reply to", "Value": "jane@example.com"}}


def capture(system: System, contact_id: str = "a", *members: Member, **of: Any) -> None:
    system.connect.contacts[contact_id] = list(members)
    system.capture(completion(contact_id, **of))


def test_a_tombstone_has_ids_and_dates_and_takes_the_place_of_the_item_on_its_version(system: System) -> None:
    capture(system, "a", JANE)
    version = system.item().version
    system.clock.now = LATER
    tombstone = system.ledger.erase(KEY)
    assert tombstone == Tombstone(key=KEY, erased_at=LATER, version=version + 1, completed_date="2026-03-01")
    [item] = [item for item in system.items() if item["sk"] == "CONTACT"]
    assert item == {
        "pk": f"{INSTANCE_ID}#a",
        "sk": "CONTACT",
        "schema_version": "2",
        "record_type": "CONTACT",
        "instance_id": INSTANCE_ID,
        "contact_id": "a",
        "erased_at": "2026-03-01T12:05:00.000Z",
        "version": str(version + 1),
        "completed_date": "2026-03-01",
    }
    assert system.ledger.find_items([KEY]) == {KEY: tombstone}


def test_erasing_again_changes_nothing(system: System) -> None:
    capture(system, "a", JANE)
    first = system.ledger.erase(KEY)
    system.clock.advance(days=1)
    assert system.ledger.erase(KEY) == first


@pytest.mark.parametrize("answer", [lose_answer, repeat], ids=["its answer is lost", "it is made twice"])
def test_a_tombstone_whose_put_is_not_answered_is_found(
    system: System, answer: Callable[[System], Callable[[Any], object]]
) -> None:
    capture(system, "a", JANE)
    with system.before("dynamodb.PutItem", answer(system)):
        try:
            system.ledger.erase(KEY)
        except RetriableError:
            assert answer is lose_answer
    assert isinstance(system.ledger.erase(KEY), Tombstone)


def test_a_contact_that_the_ledger_lost_has_the_day_that_the_lake_names(system: System) -> None:
    assert system.ledger.erase(KEY, completed_date="2026-02-28").completed_date == "2026-02-28"
    assert system.ledger.erase(KEY, completed_date="2026-01-01").completed_date == "2026-02-28"


def test_a_completion_that_is_captured_meanwhile_is_not_overlooked(system: System) -> None:
    system.connect.contacts |= {"a": [JANE], "leg": []}
    system.capture(completion("leg", initial_contact_id="a"))
    assert system.item("a").contact.completed_at is None
    with system.before("dynamodb.PutItem", lambda _: system.capture(completion("a", at=LATER))):
        assert system.ledger.erase(KEY).completed_date == "2026-03-01"


def test_a_damaged_item_is_erased_too(system: System) -> None:
    capture(system, "a", JANE)
    item = system.fake.items[(f"{INSTANCE_ID}#a", "CONTACT")]
    for name in ("read_at", "version", "capture_id"):
        del item[name]
    assert isinstance(system.ledger.find_items([KEY])[KEY], PermanentError)
    assert system.ledger.erase(KEY).completed_date == "2026-03-01"


def test_a_day_that_the_item_spoils_is_what_else_is_known(system: System) -> None:
    capture(system, "a", JANE)
    system.fake.items[(f"{INSTANCE_ID}#a", "CONTACT")]["completed_at"] = {"S": "yesterday"}
    assert system.ledger.erase(KEY, completed_date="2026-02-28").completed_date == "2026-02-28"


def test_an_item_that_was_seen_is_not_read_again(system: System) -> None:
    capture(system, "a", JANE)
    seen, before = system.item(), len(system.fake.calls)
    tombstone = system.ledger.erase(KEY, seen=seen)
    assert [operation for operation, _ in system.fake.calls[before:]] == ["PutItem"]
    assert (tombstone.version, tombstone.completed_date) == (seen.version + 1, "2026-03-01")
    assert system.ledger.find_items([KEY]) == {KEY: tombstone}


def test_an_item_that_changed_since_it_was_seen_is_read_again(system: System) -> None:
    system.connect.contacts |= {"a": [JANE], "leg": []}
    system.capture(completion("leg", initial_contact_id="a"))
    seen = system.item("a")
    system.capture(completion("a", at=LATER))
    version, before = system.item("a").version, len(system.fake.calls)
    tombstone = system.ledger.erase(KEY, seen=seen)
    assert [operation for operation, _ in system.fake.calls[before:]] == ["PutItem", "BatchGetItem", "PutItem"]
    assert (seen.contact.completed_at, tombstone.completed_date) == (None, "2026-03-01")
    assert tombstone.version == version + 1


def test_an_item_that_others_write_all_the_time_is_given_up(system: System) -> None:
    capture(system, "a", JANE)

    def write(_: object) -> None:
        item = system.fake.items[(f"{INSTANCE_ID}#a", "CONTACT")]
        item["version"] = {"N": str(int(item["version"]["N"]) + 1)}

    system.dynamodb.meta.events.register_first("before-send.dynamodb.PutItem", lambda **_: write(None))
    with pytest.raises(RetriableError, match="keep writing"):
        system.ledger.erase(KEY)


@pytest.mark.parametrize(
    "report",
    [
        completion("a", at=NOON),
        completion("a", at=LATER, channel="CHAT", is_analyzed=True),
        missed("a", at=LATER),
        recheck("a", at=LATER),
        completion("a", at=NOON, is_redelivered=True),
    ],
    ids=["its event again", "a later one that says more", "missed", "recheck", "redelivered"],
)
def test_no_report_captures_an_erased_contact_again(system: System, report: ContactReport) -> None:
    capture(system, "a", JANE)
    system.ledger.erase(KEY)
    before, objects, calls = system.items(), dict(system.lake_objects), len(system.connect.calls)
    [result] = system.capture(report)
    assert (result.outcome, result.reason, result.reference_count) == ("skipped", "erased", 0)
    assert (system.items(), system.lake_objects, len(system.connect.calls)) == (before, objects, calls)


@pytest.mark.parametrize("operation", ["dynamodb.BatchWriteItem", "dynamodb.PutItem", "connect.ListContactReferences"])
def test_a_capture_that_is_overtaken_by_an_erasure_deletes_its_rows_and_ends(system: System, operation: str) -> None:
    capture(system, "a", JANE)
    rows = [item for item in system.items() if item["sk"] != "CONTACT"]
    system.connect.contacts["a"] = [JANE, url("more")]
    client = "connect_client" if operation.startswith("connect") else "dynamodb"
    hook = {"done": False}

    def erase(**_: object) -> None:
        if not hook["done"]:
            hook["done"] = True
            system.ledger.erase(KEY)

    getattr(system, client).meta.events.register_first(f"before-send.{operation}", erase)
    objects = dict(system.lake_objects)
    [result] = system.capture(completion("a", at=LATER))
    assert hook["done"]
    assert (result.outcome, result.reason) == ("skipped", "erased")
    assert [item for item in system.items() if item["sk"] != "CONTACT"] == rows, "the erasure deletes what was there"
    assert system.lake_objects == objects


def test_a_leg_is_captured_though_its_initial_contact_was_erased(system: System) -> None:
    capture(system, "a", JANE)
    system.ledger.erase(KEY)
    system.connect.contacts["leg"] = [url("CRM")]
    results = system.capture(completion("leg", at=LATER, initial_contact_id="a"))
    assert sorted((result.contact.key.contact_id, result.outcome, result.reason) for result in results) == [
        ("a", "skipped", "erased"),
        ("leg", "captured", "captured"),
    ]


def test_a_leg_that_connect_does_not_know_is_empty_though_its_initial_contact_was_erased(system: System) -> None:
    capture(system, "a", JANE)
    system.ledger.erase(KEY)
    system.capture(completion("leg", at=LATER, initial_contact_id="a"))
    assert (system.item("leg").is_unknown, system.names("leg")) == (True, [])


def test_a_tombstone_never_expires(system: System) -> None:
    system.use(retention=timedelta(days=30))
    capture(system, "a", JANE)
    system.ledger.erase(KEY)
    [item] = [item for item in system.items() if item["sk"] == "CONTACT"]
    assert "expires_at" not in item


def test_readers_find_nothing_of_an_erased_contact(system: System) -> None:
    capture(system, "a", JANE)
    system.ledger.erase(KEY)
    assert system.ledger.find_capture(KEY) is None
    reader = Reader(system.ledger, clock=system.clock)
    assert reader.references_of(KEY) == []
    assert reader.contacts_with("EMAIL", "jane@example.com").matches == ()


def test_an_erased_contact_is_not_missing_and_not_asked_for() -> None:
    world = World()
    for name in ("erased", "lost"):
        world.have(name, START + 5 * MINUTE)
    world.have_captured("erased soon", START + 6 * MINUTE)
    for name in ("erased", "erased soon"):
        world.ledger.erase(ContactKey(INSTANCE.instance_id, name))
    world.run()
    assert world.asked() == ["lost"]
    hour = world.hour(START)
    assert (hour.completed, hour.captured, hour.missing) == (3, 2, 1)


def test_a_contact_that_is_erased_while_it_is_missing_is_missing_no_longer() -> None:
    world = World()
    world.have("a", START + 5 * MINUTE)
    world.run()
    assert world.hour(START).missing == 1
    world.ledger.erase(ContactKey(INSTANCE.instance_id, "a"))
    world.queue.messages.clear()
    world.run_for(HOUR)
    assert world.hour(START).missing == 0


def test_an_erased_contact_is_not_rechecked() -> None:
    world = World()
    item = world.put_item("a", NOON, due_at=NOON)
    keys = list(world.worklist.find_rechecks(INSTANCE, world.now))
    world.table.index_lag = HOUR
    world.ledger.erase(item.contact.key)
    assert list(world.worklist.find_rechecks(INSTANCE, world.now)) == keys == [item.contact.key], "a moment behind"
    world.ask_for_rechecks()
    assert world.asked() == []
