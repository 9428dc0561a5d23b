"""Asks for the rechecks that are due: contacts of which something may have changed since they were read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from contact_references.aws.ledger import Ledger
from contact_references.aws.worklist import Worklist
from contact_references.model.capture import ContactItem, Tombstone
from contact_references.model.contact import ContactKey, Instance
from contact_references.model.errors import PermanentError
from contact_references.model.events import RECHECK, CaptureRequest
from contact_references.reconcile.feeding import Feeder
from contact_references.reconcile.report import ReconcileReport

_AT_ONCE = 25
_ASK_AGAIN_AFTER = timedelta(hours=6)
_GIVE_UP_AFTER = timedelta(days=7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rechecks:
    """Asks for rechecks: each again after six hours unless it was done, and for seven days at most."""

    ledger: Ledger
    worklist: Worklist
    feeder: Feeder
    report: ReconcileReport
    clock: Callable[[], datetime]

    def ask_for_due(self, instance: Instance) -> Iterator[None]:
        """Ask for what is due, some contacts at a step, until there is no slot for more."""
        keys = self.worklist.find_rechecks(instance, self.clock())
        while part := list(islice(keys, _AT_ONCE)):
            if not self._ask(instance, part):
                return
            yield

    def _ask(self, instance: Instance, keys: Sequence[ContactKey]) -> bool:
        """Ask for rechecks of contacts; return whether there was a slot for all."""
        now = self.clock()
        due = []
        for item in self.ledger.find_items(keys).values():
            if isinstance(item, PermanentError):
                self.report.damaged(item)
            elif isinstance(item, Tombstone) or not item.due_at or item.due_at > now or item.is_expired(now):
                continue  # the index is a moment behind
            elif _is_to_give_up(item, now):
                if self._note(item, due_at=None, full_recheck_at=None, recheck_asked_since=None):
                    self.report.recheck_given_up(item.contact.key)
            else:
                due.append(item)
        sent = self.feeder.feed([_request(instance, item, now) for item in due])
        for item in due[:sent]:
            asked_since = item.recheck_asked_since or now
            self._note(item, due_at=now + _ASK_AGAIN_AFTER, recheck_asked_since=asked_since)
        return sent == len(due)

    def _note(self, item: ContactItem, **changes: datetime | None) -> bool:
        noted = replace(item, version=item.version + 1, **changes)  # type: ignore[arg-type]
        # Refused if the contact was captured meanwhile: then what is due has been said anew.
        return self.ledger.confirm(noted, over=item)


def _is_to_give_up(item: ContactItem, now: datetime) -> bool:
    return item.recheck_asked_since is not None and item.recheck_asked_since + _GIVE_UP_AFTER <= now


def _request(instance: Instance, item: ContactItem, now: datetime) -> CaptureRequest:
    is_full = item.full_recheck_at is not None and item.full_recheck_at <= now
    return CaptureRequest(instance_arn=instance.arn, contact=item.contact, reason=RECHECK, time=now, is_full=is_full)
