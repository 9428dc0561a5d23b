"""`status` on the deployed system: broken as it may break, it is red, and when that is mended it is not."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from subprocess import CompletedProcess

import pytest

from local.system import Json, System
from ops.judgement import Finding, Level, judge
from ops.status import gather
from tests.system.conftest import INSTANCE_ID, Contacts, configured

Run = Callable[..., CompletedProcess[str]]

_URL = {"Url": {"Name": "account", "Value": "https://crm.example.com/1"}}


@pytest.fixture(autouse=True)
def _mended(system: System) -> Iterator[None]:
    yield
    for what in ("disturbance", "faults"):
        system.control_connect(what, method="DELETE")
    system.clients.sqs.purge_queue(QueueUrl=system.outputs["DeadLetterQueueUrl"])
    assert system.wait_until_drained(60)


def look(system: System) -> list[Finding]:
    return judge(gather(system.deployment, datetime.now(UTC)))


def is_red(system: System, subject: str, words: str = "") -> bool:
    red = [finding for finding in look(system) if finding.level is Level.RED]
    return any(finding.subject.startswith(subject) and words in finding.sentence for finding in red)


def eventually(holds: Callable[[], object], *, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def complete(system: System, *contact_ids: str) -> None:
    for contact_id in contact_ids:
        system.control_connect(f"contacts/{contact_id}/complete", {})


def test_status_answers_within_two_seconds_and_says_so_as_json(system: System, run_local: Run) -> None:
    assert run_local("status").returncode in (0, 1)
    began = time.monotonic()
    gather(system.deployment, datetime.now(UTC))
    assert time.monotonic() - began < 2
    result = run_local("status", "--json")
    document: Json = json.loads(result.stdout)
    assert result.returncode == (1 if document["level"] == "red" else 0)
    assert document["facts"]["queue"].keys() == {"waiting", "in_flight", "delayed", "oldest_seconds"}


def test_poisoned_messages_are_red_with_their_reasons(system: System, run_local: Run) -> None:
    assert run_local("send", "events/missing-contact-id.json").returncode == 1
    result = run_local("status")
    assert result.returncode == 1
    assert "detail.contactId is missing" in " ".join(result.stdout.split())
    assert "python -m local dead-letters list" in result.stdout
    assert len(system.dead_letters()) == 1  # looked at, and still there


def test_a_connect_that_throttles_hard_is_red_until_all_is_captured(system: System, contacts: Contacts) -> None:
    ids = [contacts.create(_URL) for _ in range(4)]
    system.control_connect("faults", {"operation": "ListContactReferences", "kind": "throttle"})
    complete(system, *ids)
    eventually(lambda: is_red(system, "Connect API", "throttled"))
    system.control_connect("faults", method="DELETE")
    assert system.wait_until_drained(120)
    assert not is_red(system, "Connect API")
    assert not is_red(system, "function capture")


def test_a_role_without_a_right_is_red(system: System, contacts: Contacts) -> None:
    contact_id = contacts.create(_URL)
    system.control_connect("faults", {"operation": "ListContactReferences", "kind": "access_denied"})
    complete(system, contact_id)
    eventually(lambda: is_red(system, "function capture", "Denied"))
    system.control_connect("faults", method="DELETE")
    assert system.wait_until_drained(120)
    assert not is_red(system, "function capture")


def test_a_bucket_that_refuses_is_red(system: System, contacts: Contacts) -> None:
    contact_id = contacts.create(_URL)
    with configured(system, "CaptureFunctionName", BUCKET_NAME="no-such-bucket-of-ours"):
        complete(system, contact_id)
        eventually(lambda: is_red(system, "function capture", "PutObject"))
    assert system.wait_until_drained(120)
    assert not is_red(system, "function capture")


def test_tables_that_die_at_once_are_red_once_something_waits_for_them(system: System, contacts: Contacts) -> None:
    contacts.complete(contacts.create(_URL))
    with configured(system, "TablesFunctionName", TABLE_NAME=""):
        system.clients.functions.invoke(FunctionName=system.outputs["TablesFunctionName"], Payload=b"{}")
    assert is_red(system, "function tables", "invocations failed")
    system.clients.functions.invoke(FunctionName=system.outputs["TablesFunctionName"], Payload=b"{}")
    assert not is_red(system, "function tables")


def test_contacts_that_no_event_told_of_are_red_until_they_are_captured(
    system: System, contacts: Contacts, run_local: Run
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=9)
    moment = (hour + timedelta(minutes=7)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    contact_id = contacts.create(_URL, DisconnectTimestamp=moment)
    system.control_connect("faults", {"operation": "ListContactReferences", "kind": "throttle"})
    result = run_local("reconcile", "--wait", "1")
    assert result.returncode == 1, result.stdout + result.stderr
    assert is_red(system, "instance", "completed over two hours ago")
    system.control_connect("faults", method="DELETE")
    result = run_local("capture", contact_id, "--instance", INSTANCE_ID, "--yes")
    assert result.returncode == 0, result.stdout + result.stderr
    eventually(lambda: not is_red(system, "instance"), seconds=120)
