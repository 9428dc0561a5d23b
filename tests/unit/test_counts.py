"""What a contact costs in calls and in DynamoDB's units: the capture path's own requests, answered and counted.

Full batches of 25, each contact with URLs only, so that every list of types finds all of them. The bars are those of
docs/benchmarks.md.
"""

import json
from collections.abc import Iterable
from datetime import timedelta

import pytest

from contact_references.aws.pacing import TokenBucket
from contact_references.model.capture import ContactItem
from contact_references.model.contact import ContactKey
from contact_references.model.events import RECHECK, CaptureRequest
from contact_references.model.reference_types import TypeLists
from local.in_memory.environment import Services, start_environment
from local.in_memory.events import as_messages, completion_event
from local.in_memory.usage import INDEX_UNITS, PUTS, READ_UNITS, WRITE_UNITS
from tests.unit.conftest import ALL_LISTS, ALL_TYPES, INSTANCE_ARN, INSTANCE_ID, NOON, SCOPE, completion

BATCH = 25
SIX = TypeLists({"*": ALL_TYPES[:6]})
SIX_FOR_VOICE = TypeLists(
    {"VOICE": ("URL", "NUMBER", "STRING", "DATE", "EMAIL", "CONTACT_ANALYSIS"), "*": ALL_TYPES}, audit_share=0.01
)
READ = "ListContactReferences"


class Counted:
    """An execution environment whose calls are counted, and the units that they cost."""

    def __init__(self, references: int, type_lists: TypeLists = ALL_LISTS) -> None:
        self.now = NOON
        self.values = [f"https://crm.example.com/{number}" for number in range(references)]
        self.services = Services()
        self.services.connect.find = lambda _: [{"Url": {"Name": value, "Value": value}} for value in self.values]
        self.environment = start_environment(
            self.services,
            type_lists=type_lists,
            bucket=TokenBucket(1, clock=lambda: 0.0, sleep=lambda _: None),
            clock=lambda: self.now,
            sleep=lambda _: None,
        )

    @property
    def calls(self) -> dict[str, int]:
        services = self.services
        return dict(services.connect.counts + services.dynamodb.counts + services.s3.counts + services.sqs.counts)

    def capture_one(self) -> dict[str, float]:
        """Capture one contact, and return what that used."""
        self.services.usage.clear()
        self.now += timedelta(minutes=1)
        [result] = self.environment.capturer.capture([completion(at=self.now)], time_left=lambda: 900).values()
        assert not isinstance(result, Exception)
        used = self.services.usage
        return {name: used[name] for name in (WRITE_UNITS, INDEX_UNITS, READ_UNITS, PUTS) if used.get(name)}

    def capture(self, batches: int, *, is_analyzed: bool = False) -> int:
        """Capture so many full batches of contacts, and return how many contacts that were."""
        for batch in range(batches):
            self.now += timedelta(seconds=10)
            names = [contact_id(batch * BATCH + number) for number in range(BATCH)]
            self.take(
                completion_event(name, completed=self.now, event_id=name, is_analyzed=is_analyzed) for name in names
            )
        return batches * BATCH

    def recheck(self, contacts: int) -> int:
        """Recheck the contacts when they are due until none of them is; return how often one was."""
        rechecks = 0
        keys = [ContactKey(INSTANCE_ID, contact_id(number)) for number in range(contacts)]
        while keys:
            items = self.environment.ledger.find_items(keys).values()
            found = [item for item in items if isinstance(item, ContactItem)]
            due = [item for item in found if item.due_at is not None]
            self.now = max([self.now, *(item.due_at for item in due if item.due_at)])
            requests = [
                CaptureRequest(instance_arn=INSTANCE_ARN, contact=item.contact, reason=RECHECK, time=self.now)
                for item in due
            ]
            for start in range(0, len(requests), BATCH):
                self.take([json.dumps(request.event()) for request in requests[start : start + BATCH]])
            rechecks += len(due)
            keys = [item.contact.key for item in due]
        return rechecks

    def take(self, bodies: Iterable[str]) -> None:
        """Give bodies to the function as one batch, all of which it lets go."""
        messages = as_messages(bodies)
        assert not self.environment.intake.take_messages(messages, scope=SCOPE, time_left=lambda: 120.0)
        assert not self.services.sqs.dead_letters


def contact_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


@pytest.mark.parametrize(("type_lists", "reads", "bar"), [(ALL_LISTS, 50, 3.4), (SIX, 25, 2.4)], ids=["all", "six"])
def test_a_full_batch_makes_few_calls(type_lists: TypeLists, reads: int, bar: float) -> None:
    counted = Counted(5, type_lists)
    contacts = counted.capture(1)
    calls = {"BatchGetItem": 1, "BatchWriteItem": 5, "PutItem": 25, "PutObject": 1, "UpdateItem": 1}
    assert counted.calls == calls | {READ: reads}
    assert sum(counted.calls.values()) / contacts <= bar


@pytest.mark.parametrize(("references", "bar"), [(5, 11.2), (0, 1.1)])
def test_a_full_batch_writes_few_units_the_day_s_mark_included(references: int, bar: float) -> None:
    counted = Counted(references)
    contacts = counted.capture(40)
    usage = counted.services.usage
    assert (usage[WRITE_UNITS] + usage.get(INDEX_UNITS, 0)) / contacts <= bar


def test_a_channel_of_six_types_costs_one_reading_but_for_the_audited_share() -> None:
    counted = Counted(5, SIX_FOR_VOICE)
    contacts = counted.capture(80)
    assert 1 < counted.calls[READ] / contacts <= 1.02


def test_a_contact_with_contact_lens_on_costs_three_readings_its_two_rechecks_included() -> None:
    counted = Counted(5, SIX_FOR_VOICE)
    contacts = counted.capture(40, is_analyzed=True)
    assert counted.recheck(contacts) == 2 * contacts
    assert counted.calls[READ] / contacts <= 3.05


def test_what_is_reported_again_is_not_read_again() -> None:
    counted = Counted(5)
    names = [contact_id(number) for number in range(12)]
    completed = counted.now
    first, again = (
        [completion_event(name, completed=completed, event_id=f"{name} {which}") for name in names]
        for which in ("first", "again")
    )
    counted.now += timedelta(seconds=10)
    for bodies in (first + first, first, again):
        counted.take(bodies)
    assert counted.calls[READ] == 12 * 2


def test_a_first_capture_costs_its_items_its_index_entries_and_the_days_mark() -> None:
    assert Counted(5).capture_one() == {WRITE_UNITS: 6 + 1, INDEX_UNITS: 5 + 1, READ_UNITS: 1, PUTS: 1}


def test_a_contact_without_references_costs_one_write_and_the_days_mark() -> None:
    assert Counted(0).capture_one() == {WRITE_UNITS: 1 + 1, INDEX_UNITS: 1, READ_UNITS: 1, PUTS: 1}


def test_a_reading_that_says_the_same_writes_neither_rows_nor_lake() -> None:
    counted = Counted(5)
    counted.capture_one()
    assert counted.capture_one() == {WRITE_UNITS: 1, READ_UNITS: 2}


def test_rows_that_go_are_paid_for_in_table_and_index() -> None:
    counted = Counted(5)
    counted.capture_one()
    counted.values = counted.values[:3]
    # The contact, three rows that come and five that go, each in the index too, and the mark of a day that has one.
    assert counted.capture_one() == {WRITE_UNITS: 9 + 1, INDEX_UNITS: 8, READ_UNITS: 2, PUTS: 1}
