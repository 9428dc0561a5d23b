"""Contacts that no event told of, and references that settled late: found by the deployed function and the backfill.

Connect's simulated quota of searches is the real one, half a request a second, so each window takes two seconds.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.emulator import INSTANCE_ARN, LocalSystemError
from local.reconciling import follow_backfill, reconcile, start_backfill
from local.system import Json, System
from tests.system.conftest import Contacts

_URL = {"Url": {"Name": "account", "Value": "https://crm.example.com/1"}}
_CALLS_A_CONTACT = 2  # eleven types of references, six a call


def attachment(status: str) -> Json:
    return {"Attachment": {"Name": "scan.pdf", "Value": "s3://example/scan.pdf", "Status": status}}


@pytest.fixture(autouse=True)
def _undisturbed(system: System) -> Iterator[None]:
    yield
    for what in ("disturbance", "faults"):
        system.control_connect(what, method="DELETE")


def complete_unheard(system: System, *contact_ids: str) -> None:
    """Let contacts complete while Connect loses all its events."""
    system.control_connect("disturbance", {"drop": 1})
    for contact_id in contact_ids:
        system.control_connect(f"contacts/{contact_id}/complete", {})
    system.control_connect("disturbance", method="DELETE")


def eventually(holds: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_captured(contacts: Contacts, contact_id: str) -> bool:
    entry, rows = contacts.rows(contact_id)
    return entry is not None and entry["capture_state"] == "complete" and len(rows) == entry["reference_count"] == 1


def test_contacts_whose_events_were_lost_are_captured_and_the_others_not_read_again(
    system: System, contacts: Contacts
) -> None:
    ended_at = [f"2026-05-04T10:{minute:02}:00Z" for minute in range(6)]
    ids = [contacts.create(_URL, DisconnectTimestamp=moment) for moment in ended_at]
    heard, lost = ids[:3], ids[3:]
    system.control_connect("disturbance", {"repeat": 1})
    contacts.complete(*heard)
    complete_unheard(system, *lost)
    assert [is_captured(contacts, each) for each in ids] == [True] * 3 + [False] * 3
    calls, period = system.connect_calls(), {"from": "2026-05-04", "to": "2026-05-05"}

    found = reconcile(system, period)
    assert (found["done"], found["seen"], found["already_there"], found["queued"]) == (True, 6, 3, 3)
    assert system.wait_until_drained(60)
    assert all(is_captured(contacts, each) for each in ids)
    assert system.connect_calls() - calls == len(lost) * _CALLS_A_CONTACT
    assert hour_counts(system, "2026-05-04T10:00:00.000Z") == {"completed": 6, "captured": 3, "missing": 3}

    found = reconcile(system, period)
    assert (found["seen"], found["already_there"], found["queued"]) == (6, 6, 0)
    assert system.connect_calls() - calls == len(lost) * _CALLS_A_CONTACT
    assert hour_counts(system, "2026-05-04T10:00:00.000Z") == {"completed": 6, "captured": 6, "missing": 0}


def hour_counts(system: System, hour: str) -> dict[str, int]:
    [item] = [item for item in system.coverage() if item["sk"] == hour]
    return {name: int(item[name]) for name in ("completed", "captured", "missing")}


def test_a_scheduled_run_captures_what_was_missed_lately_and_looks_again_once_that_is_due(
    system: System, contacts: Contacts
) -> None:
    now = datetime.now(UTC)
    # The first look is due 15 minutes after completion: in a few seconds, which the capture needs.
    due = now + timedelta(seconds=8)
    settling = contacts.create(
        _URL, attachment("PROCESSING"), DisconnectTimestamp=(due - timedelta(minutes=15)).isoformat()
    )
    missed = contacts.create(_URL, DisconnectTimestamp=(now - timedelta(hours=2)).isoformat())
    contacts.complete(settling)
    assert status(contacts, settling) == "PROCESSING"
    contacts.create(
        _URL, attachment("APPROVED"), Id=settling, DisconnectTimestamp=(due - timedelta(minutes=15)).isoformat()
    )

    early = reconcile(system, {})
    assert datetime.now(UTC) >= due or early["looks"] == 0
    assert early["queued"] == 1
    assert system.wait_until_drained(60)
    assert is_captured(contacts, missed)
    eventually(lambda: datetime.now(UTC) >= due)
    calls = system.connect_calls()

    late = reconcile(system, {})
    assert early["looks"] + late["looks"] == 1
    assert system.wait_until_drained(60)
    assert status(contacts, settling) == "APPROVED"
    assert system.connect_calls() - calls <= 1  # only for what can still change
    assert [row["reference_name"] for row in contacts.rows(settling)[1]] == ["scan.pdf", "account"]


def status(contacts: Contacts, contact_id: str) -> str:
    [row] = [row for row in contacts.rows(contact_id)[1] if row["reference_type"] == "ATTACHMENT"]
    return str(row["status"])


def test_a_backfill_that_is_throttled_and_loses_its_function_ends_with_everything_captured(
    system: System, contacts: Contacts, directory: Path
) -> None:
    ended_at = [f"2026-06-{day:02}T{hour}:30:00Z" for day in (1, 2) for hour in (10, 21)]
    ids = [contacts.create(_URL, DisconnectTimestamp=moment) for moment in ended_at]
    complete_unheard(system, *ids)
    period = {"from": "2026-06-01", "to": "2026-06-03"}
    calls, searches = system.connect_calls(), count_searches(system)

    execution = start_backfill(system, period)
    # The function's pace leaves two seconds until the second window's search, which is to go wrong.
    eventually(lambda: count_searches(system) > searches)
    for kind in ("throttle", "hang"):
        system.control_connect("faults", {"operation": "SearchContacts", "kind": kind, "count": 1})
    eventually(lambda: [fault["hits"] for fault in system.control_connect("faults")["faults"]] == [1, 1])
    assert (system.backfill(execution.rpartition(":")[2]) or {})["windows_done"] == 1
    kill_function(directory, system.outputs["ReconcileFunctionName"])
    end_lease(system)
    record = follow_backfill(system, execution)

    counts = {name: int(record[name]) for name in ("windows", "windows_done", "seen", "already_there", "queued")}
    assert counts == {"windows": 2, "windows_done": 2, "seen": 4, "already_there": 0, "queued": 4}
    assert system.wait_until_drained(60)
    assert all(is_captured(contacts, each) for each in ids)
    assert system.connect_calls() - calls == len(ids) * _CALLS_A_CONTACT

    again = follow_backfill(system, start_backfill(system, period))
    assert (again["windows_done"], again["seen"], again["already_there"], again["queued"]) == (2, 4, 4, 0)
    assert system.connect_calls() - calls == len(ids) * _CALLS_A_CONTACT


def count_searches(system: System) -> int:
    """How many searches were answered: one may come a little too early for the quota, and is repeated."""
    return int(system.control_connect("statistics")["operations"]["SearchContacts"]["outcomes"].get("OK", 0))


def kill_function(directory: Path, name: str) -> None:
    """Kill the one process that the emulator runs this function in."""
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    folder = str(directory.resolve() / "tmp" / f"ministack-lambda-{name}-")
    [pid] = [int(line.split()[0]) for line in listing.stdout.splitlines() if folder in line]
    os.kill(pid, signal.SIGKILL)


def end_lease(system: System) -> None:
    """Let the two minutes be over for which a function that died is in the way."""
    system.clients.dynamodb.update_item(
        TableName=system.outputs["TableName"],
        Key={"pk": {"S": "RECONCILE"}, "sk": {"S": "LEASE"}},
        UpdateExpression="SET held_until = :past",
        ConditionExpression="held_until > :past",
        ExpressionAttributeValues={":past": {"S": "2026-01-01T00:00:00.000Z"}},
    )


def test_a_period_that_cannot_be_walked_fails_the_execution_at_once_with_a_sentence(system: System) -> None:
    yesterday, tomorrow = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (-1, 1))
    unknown = INSTANCE_ARN.replace("12345678", "87654321")
    sentences = {
        "from (2026-03-02) is not before to (2026-03-01): swap them": {"from": "2026-03-02", "to": "2026-03-01"},
        f"to ({tomorrow}) is in the future": {"from": yesterday, "to": tomorrow},
        f"instanceArn ({unknown}) is not an instance of this deployment": {
            "from": "2026-03-01",
            "to": "2026-03-02",
            "instanceArn": unknown,
        },
    }
    searches = count_searches(system)
    for sentence, period in sentences.items():
        execution = start_backfill(system, period)
        with pytest.raises(LocalSystemError) as caught:
            follow_backfill(system, execution)
        assert str(caught.value).startswith(f"the backfill failed: {sentence}")
        assert system.backfill(execution.rpartition(":")[2]) is None
    assert count_searches(system) == searches
