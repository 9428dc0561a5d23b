"""The capture path and an erasure beside it, one AWS call after the other: what an erasure must never leave or harm.

The erasure is the real one, but for what its order does not rest on: rights, the tables' function, dead letters.
"""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from contact_references.aws import lake
from contact_references.capture import capturer
from contact_references.model.contact import ContactKey
from ops import erasure, lake_versions
from ops.deployment import Deployment
from ops.erasure import Erasure, Target, find_contacts
from tests.unit.conftest import INSTANCE_ID
from tests.unit.versioned_s3 import VersionedS3
from tests.unit.world import (
    APPEND,
    COMMIT,
    DIES_AFTER,
    DIES_BEFORE,
    PUT_ROWS,
    UPDATE,
    Letter,
    Process,
    World,
    running,
)

SLEEP = "sleep"
_DATE = "2026-03-01"  # at which all complete


class ErasingProcess(Process):
    """An operator's command, whose calls go wrong by their number; once it dies it does nothing more.

    While it waits for captures, `waits_for` are those that had begun by then.
    """

    def __init__(self, work: Callable[[], object], faults: Mapping[int, str]) -> None:
        self.waits_for: Sequence[Process] | None = None
        self.is_dead = False
        self._faults_by_number = faults
        super().__init__(work)

    def before_call(self, operation: str) -> str | None:
        """Wait for the process's turn; return how the call goes wrong."""
        if self.is_dead:
            raise KeyboardInterrupt
        super().before_call(operation)
        fault = self._faults_by_number.get(self.calls.total())
        self.has_failed |= fault is not None
        self.is_dead = fault in (DIES_BEFORE, DIES_AFTER)
        return fault

    @property
    def can_go_on(self) -> bool:
        """Whether it need not wait: Lambda ends each capture, by its timeout at the latest."""
        return self.next_call != SLEEP or all(capture.is_done for capture in self.waits_for or ())


class ErasingWorld(World):
    """The world with a bucket that keeps versions, and erasures.

    `erased` are the contacts that have a tombstone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bucket = VersionedS3(lambda: self.clock.now)
        self._services |= {"s3": self.bucket}
        self.captures: list[Process] = []
        self.erased: set[str] = set()
        self._lines: set[bytes] = set()
        """What was appended to the lake."""
        function = {"FunctionName": "capture", "Timeout": 1}  # seconds; each is a call to wait for its turn
        functions = SimpleNamespace(get_function_configuration=lambda **_: function)
        clients = SimpleNamespace(dynamodb=self.wires.dynamodb, s3=self.wires.s3, functions=functions)
        outputs = {"TableName": "ledger", "BucketName": "lake", "CaptureFunctionName": "capture"}
        self.deployment = Deployment("dev", cast("Any", clients), outputs)

    def delivery(self, *letters: Letter, **of: Any) -> Process:
        """Make an invocation that is given messages, or all."""
        process = super().delivery(*letters, **of)
        self.captures.append(process)
        return process

    def erasure(self, contact_ids: Iterable[str], faults: Mapping[int, str]) -> ErasingProcess:
        """Make an erasure of contacts."""
        return ErasingProcess(partial(self._erase, list(contact_ids)), faults)

    def _erase(self, contact_ids: Sequence[str]) -> None:
        captured = [contact_id for contact_id in contact_ids if self.item(contact_id)]
        targets = find_contacts(self.deployment, captured, instance=INSTANCE_ID)
        # What a search of the lake by a value finds, though the ledger does not have it.
        lost = set(contact_ids) - set(captured)
        targets += [Target(ContactKey(INSTANCE_ID, contact_id), _DATE, None) for contact_id in sorted(lost)]
        erased = Erasure(self.deployment, targets, clock=self._tell_time, sleep=self._sleep).run()
        if not erased.is_complete:
            self.problems.append(f"at its end the erasure still finds {dict(+erased.found)}")

    def _sleep(self, seconds: float) -> None:
        """Let the command wait: for others by turns, and the time passes fast."""
        process = cast("ErasingProcess", running())
        if process.waits_for is None:
            begun = [capture for capture in self.captures if capture.next_call and not capture.is_done]
            process.waits_for = begun
        if process.before_call(SLEEP) in (DIES_BEFORE, DIES_AFTER):
            raise KeyboardInterrupt
        self.clock.advance(minutes=seconds)

    # What must be true after every call.

    def _observe(self, operation: str, parameters: dict[str, Any]) -> None:
        if not isinstance(running(), ErasingProcess):
            super()._observe(operation, parameters)
            if operation == APPEND:
                self._lines.update(gzip.decompress(parameters["Body"]).splitlines())
            return
        if operation == COMMIT:
            self._observe_tombstone(parameters["Item"]["pk"]["S"].partition("#")[2])
        elif operation == PUT_ROWS:
            requests = [each for of in parameters["RequestItems"].values() for each in of]
            keys = [(each.get("DeleteRequest") or {"Key": each["PutRequest"]["Item"]})["Key"] for each in requests]
            names = {key["pk"]["S"].partition("#")[2] for key in keys if key["pk"]["S"] != "ERASURES"}
            if not names <= self.erased:
                self.problems.append("the erasure deletes rows of others")
        elif operation == UPDATE:
            super()._observe(operation, parameters)
        elif operation in (APPEND, "DeleteObjects"):
            self._observe_lake()

    def _observe_tombstone(self, contact_id: str) -> None:
        item = self.item(contact_id) or {}
        if "erased_at" not in item:
            self.problems.append(f"{contact_id}: the erasure puts another item than a tombstone")
        self.erased.add(contact_id)
        self._seen[contact_id] = item

    def _observe_lake(self) -> None:
        """Compare what a reader of the lake finds of others with what was appended of them."""
        if self._of_others(self._read_lake()) != self._of_others(self._lines):
            self.problems.append("the erasure changes what the lake has of others")

    def _read_lake(self) -> list[bytes]:
        newest = [versions[-1].body for versions in self.bucket.versions.values()]
        return [line for body in newest for line in gzip.decompress(body).splitlines()]

    def _of_others(self, lines: Iterable[bytes]) -> set[bytes]:
        return {line for line in lines if json.loads(line)["contact_id"] not in self.erased}

    def _look_as_reader(self, contact_id: str) -> None:
        if contact_id not in self.erased:
            super()._look_as_reader(contact_id)
        elif self.item(contact_id) != self._seen[contact_id]:
            self.problems.append(f"{contact_id}: its tombstone is replaced")

    # What is true in the end.

    def newest_in_lake(self, contact_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The CONTACT record and the references that the lake says are true, without repeats."""
        self.lake = [json.loads(line) for line in self._read_lake()]
        return super().newest_in_lake(contact_id)

    def check_erased(self, contact_id: str) -> None:
        """Search ledger and lake for anything of a contact but its tombstone."""
        item = self.item(contact_id)
        assert item is not None
        assert "erased_at" in item, f"{contact_id} has no tombstone"
        assert self.rows(contact_id) == []
        lines = (line for body in self.bucket.bodies() for line in gzip.decompress(body).splitlines())
        assert not any(json.loads(line)["contact_id"] == contact_id for line in lines), f"{contact_id} is in the lake"


class _InTurn:
    """In the place of a pool of threads: one after the other, in the process's own thread, which stops at each call."""

    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> "_InTurn":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    map = staticmethod(map)


@contextmanager
def only_its_order(draw: Random) -> Iterator[None]:
    """Leave out of an erasure what its order does not rest on, and draw all names, so that a seed tells everything."""
    nothing = SimpleNamespace(deleted=0, unread=0, refused=Counter())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasure, "ThreadPoolExecutor", _InTurn)
        patch.setattr(lake_versions, "ThreadPoolExecutor", _InTurn)
        patch.setattr(erasure, "check_rights", lambda _: None)
        patch.setattr(erasure, "write_tables", lambda *_, **__: 0)
        patch.setattr(erasure, "delete_letters", lambda *_, **__: nothing)
        for module in (capturer, lake):
            patch.setattr(module, "uuid4", lambda: UUID(int=draw.getrandbits(128)))
        yield
