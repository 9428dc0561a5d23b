"""Counts what a contact costs in calls and DynamoDB's units: the function's own requests, answered and counted.

The real capture path runs by a virtual clock on clients in memory (`benchmarks.stand_ins`), which are as strict as the
services. Full batches of 25, each contact with URLs only, so that every list of types finds all of them.
"""

import argparse
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace

from aws_lambda_powertools import Logger

from benchmarks.prices import INDEX_UNITS, WRITE_UNITS, Usage
from benchmarks.report import table, write_section
from benchmarks.simulation import INSTANCE_ARN, MIDNIGHT, contact_event
from benchmarks.stand_ins import Clients
from benchmarks.traffic import ALL_TYPES, SIX_TYPES
from benchmarks.wiring import start_environment
from contact_references.aws.capture_queue import Message
from contact_references.aws.pacing import TokenBucket
from contact_references.model.contact import ContactKey, Scope
from contact_references.model.events import RECHECK, CaptureRequest
from contact_references.model.reference_types import OTHER_CHANNELS, TypeLists

BATCH = 25
_BATCHES = 40
_AUDITED_BATCHES = 200
_READ = "ListContactReferences"
_INSTANCE = INSTANCE_ARN.rpartition("/")[2]
_SCOPE = Scope("us-east-1", "111122223333")
_ALL = TypeLists({OTHER_CHANNELS: tuple(ALL_TYPES)})
_SIX = TypeLists({OTHER_CHANNELS: tuple(SIX_TYPES)})
_VOICE = ("URL", "NUMBER", "STRING", "DATE", "EMAIL", "CONTACT_ANALYSIS")
_SIX_FOR_VOICE = TypeLists({"VOICE": _VOICE, OTHER_CHANNELS: tuple(ALL_TYPES)}, audit_share=0.01)


@dataclass(frozen=True)
class Row:
    """A row of the report: what was counted for each contact, and the most it may be."""

    what: str
    bar: float
    counted: float
    parts: str


class Counted:
    """An execution environment whose calls are counted in `calls`, and the units they cost in `usage`."""

    def __init__(self, type_lists: TypeLists, *, references: int) -> None:
        self.calls, self.usage = Counter[str](), Usage()
        self._now = MIDNIGHT
        members = [{"Url": {"Name": f"CRM {n}", "Value": f"https://crm.example.com/{n}"}} for n in range(references)]
        clients = Clients(
            self.usage,
            references=lambda _: members,
            change_visibility=_refuse,
            send=_refuse,
            spend=lambda _, operation: self.calls.update([operation]),
        )
        self._parts = start_environment(
            clients,
            type_lists=type_lists,
            bucket=TokenBucket(1, clock=lambda: 0.0, sleep=lambda _: None),
            logger=Logger(service="counts", level="CRITICAL", stream=io.StringIO()),
            metrics=SimpleNamespace(add_metric=lambda *_: None),
            clock=lambda: self._now,
            sleep=lambda _: None,
        )

    def capture(self, batches: int, *, is_analyzed: bool = False) -> int:
        """Capture so many full batches of contacts, and return how many contacts that were."""
        for batch in range(batches):
            self._now += timedelta(seconds=10)
            contacts = [_contact_id(batch * BATCH + number) for number in range(BATCH)]
            self._take([self._completion(contact, is_analyzed=is_analyzed) for contact in contacts])
        return batches * BATCH

    def recheck(self, contacts: int) -> int:
        """Recheck the contacts when they are due until none of them is; return how often one was."""
        rechecks = 0
        keys = [ContactKey(_INSTANCE, _contact_id(number)) for number in range(contacts)]
        while keys:
            found = [item for item in self._parts.ledger.find_items(keys).values() if not isinstance(item, Exception)]
            due = [item for item in found if item.due_at is not None]
            self._now = max([self._now, *(item.due_at for item in due if item.due_at)])
            requests = [
                CaptureRequest(instance_arn=INSTANCE_ARN, contact=item.contact, reason=RECHECK, time=self._now)
                for item in due
            ]
            for start in range(0, len(requests), BATCH):
                self._take([json.dumps(request.event()) for request in requests[start : start + BATCH]])
            rechecks += len(due)
            keys = [item.contact.key for item in due]
        return rechecks

    def _completion(self, contact_id: str, *, is_analyzed: bool) -> str:
        return contact_event(contact_id, completed=self._now, event_id=contact_id, is_analyzed=is_analyzed)

    def _take(self, bodies: Sequence[str]) -> None:
        messages = [
            Message(message_id=str(n), receipt_handle=str(n), body=body, receive_count=1, origin="queue")
            for n, body in enumerate(bodies)
        ]
        if self._parts.intake.take_messages(messages, scope=_SCOPE, time_left=lambda: 120.0):
            raise RuntimeError("contacts failed")


def count() -> list[Row]:
    """Count everything."""
    rows = []
    for types, type_lists, bar in (("all types", _ALL, 3.4), ("six types", _SIX, 2.4)):
        counted = Counted(type_lists, references=5)
        contacts = counted.capture(_BATCHES)
        calls = ", ".join(f"{number / _BATCHES:g} {name}" for name, number in counted.calls.items())
        rows.append(Row(f"AWS calls, N = 5, {types}", bar, counted.calls.total() / contacts, f"a batch: {calls}"))
    for references, bar in ((5, 11.2), (0, 1.1)):
        counted = Counted(_ALL, references=references)
        contacts = counted.capture(_BATCHES)
        table_units, index_units = (counted.usage.get(name, 0) / contacts for name in (WRITE_UNITS, INDEX_UNITS))
        parts = f"{table_units:.2f} of the table, {index_units:.2f} of its indexes"
        rows.append(
            Row(f"write units, N = {references}, the day's mark included", bar, table_units + index_units, parts)
        )
    counted = Counted(_SIX_FOR_VOICE, references=5)
    contacts = counted.capture(_AUDITED_BATCHES)
    reads = counted.calls[_READ]
    parts = f"{reads - contacts} of {contacts:,} contacts were audited: two calls"
    rows.append(Row(f"{_READ}, VOICE with six types, 1 % audited, rechecks apart", 1.02, reads / contacts, parts))
    counted = Counted(_SIX_FOR_VOICE, references=5)
    contacts = counted.capture(_BATCHES, is_analyzed=True)
    reads, rechecks = counted.calls[_READ], counted.recheck(contacts)
    parts = f"{reads / contacts:.2f} at first, {rechecks / contacts:.2f} rechecks of one call each"
    bar = 3.05
    rows.append(Row("the same with Contact Lens on, rechecks included", bar, counted.calls[_READ] / contacts, parts))
    return rows


def _contact_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def _refuse(*_: object) -> None:
    raise RuntimeError("a message failed")


def describe(rows: Iterable[Row]) -> str:
    """Return the report's table."""
    header = ["for each contact", "bar", "counted", "of which", "bar is"]
    return table(
        header,
        [
            [
                row.what,
                f"≤ {row.bar:g}",
                f"{row.counted:.3f}",
                row.parts,
                "met" if row.counted <= row.bar else "**missed**",
            ]
            for row in rows
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Count and print the table, with --write into docs/benchmarks.md too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table to docs/benchmarks.md too")
    options = parser.parse_args(arguments)
    body = describe(count())
    print(body)
    if options.write:
        write_section(
            "counts",
            title="Calls and write units of a contact",
            command="python -m benchmarks.counts --write",
            body=f"{body}\n\n{_NOTES}",
        )
    return 0


_NOTES = f"""\
Counted from the requests of the real capture path, in full batches of {BATCH}, by services in memory that bill as
DynamoDB documents it; N references a contact, all of them URLs. An index is written where its entry changes. The
queue's own requests, made by Lambda's poller, are not the function's. Contacts with Contact Lens on are rechecked
twice, 15 minutes and 24 hours after completion."""


if __name__ == "__main__":
    sys.exit(main())
