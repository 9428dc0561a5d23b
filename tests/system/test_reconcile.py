"""Contacts that no event told of, found by the deployed function: in hours of the last day, and of a past period.

What waits for half an hour or three is brought forward.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from local.emulator import INSTANCE_ARN, ROOT
from local.system import Json, System
from ops import backfill
from ops.backfill import has_run
from ops.errors import OpsError
from tests.system.conftest import INSTANCE_ID, Contacts, configured, hostile_environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Refused = Callable[..., str]

_URL = {"Url": {"Name": "account", "Value": "https://crm.example.com/1"}}
_CALLS_A_CONTACT = 2  # eleven types of references, six a call
_HOUR = timedelta(hours=1)


@pytest.fixture
def directory(enforcing_directory: Path) -> Path:
    return enforcing_directory


@pytest.fixture
def system(enforcing_system: System) -> System:
    return enforcing_system


@pytest.fixture(autouse=True)
def _as_if_never_run(system: System) -> Iterator[None]:
    """Let no test see another's hours, nor contacts in them but its own."""
    forget_hours(system)
    yield
    for what in ("disturbance", "faults", "search"):
        system.control_connect(what, method="DELETE")
    assert system.wait_until_drained(60)


@pytest.fixture
def hour(system: System) -> datetime:
    """An hour of the last day without contacts of other tests, long enough over for its first search to be its last."""
    now = datetime.now(UTC)
    taken = {moment[:13] for moment in ends(system)}
    starts = [floor(now) - n * _HOUR for n in range(6, 23)]
    return next(start for start in starts if f"{start:%Y-%m-%dT%H}" not in taken)


def ends(system: System) -> list[str]:
    contacts = system.control_connect("contacts")["contacts"]
    moments = [contact["DisconnectTimestamp"] for contact in contacts if "DisconnectTimestamp" in contact]
    return [datetime.fromtimestamp(moment, UTC).isoformat() for moment in moments]


def forget_hours(system: System) -> None:
    for item in system.items():
        if item["pk"].startswith("HOURS#"):
            key = {name: {"S": item[name]} for name in ("pk", "sk")}
            system.clients.dynamodb.delete_item(TableName=system.outputs["TableName"], Key=key)


def hours(system: System, instance_id: str = INSTANCE_ID) -> dict[str, Json]:
    """The hour items of an instance by hour, as the contract has them."""
    return {item["sk"]: item for item in system.items() if item["pk"] == f"HOURS#{instance_id}"}


def counts(item: Json) -> tuple[int, int, int, int]:
    return int(item["completed"]), int(item["captured"]), int(item["missing"]), int(item["visits"])


def hold_lease(system: System, *, until: str) -> None:
    """Let another run be at work until then."""
    system.clients.dynamodb.update_item(
        TableName=system.outputs["TableName"],
        Key={"pk": {"S": "RECONCILE"}, "sk": {"S": "LEASE"}},
        UpdateExpression="SET holder = :other, held_until = :until",
        ExpressionAttributeValues={":other": {"S": "another run"}, ":until": {"S": until}},
    )


def bring_forward(system: System) -> None:
    """Let what is due later be due now."""
    for item in system.items():
        if item["pk"].startswith("HOURS#") and "due_at" in item:
            system.clients.dynamodb.update_item(
                TableName=system.outputs["TableName"],
                Key={name: {"S": item[name]} for name in ("pk", "sk")},
                UpdateExpression="SET due_at = :now",
                ExpressionAttributeValues={":now": {"S": stamp(datetime.now(UTC))}},
            )


def floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reconcile(system: System, payload: Mapping[str, str] | None = None) -> Json:
    return backfill.reconcile(system.deployment, payload)


def run(system: System, payload: Mapping[str, str] | None = None) -> Json:
    """Reconcile, after a run that the schedule may have started."""
    deadline = time.monotonic() + 60
    while not has_run(answer := {"outcome": ""} | reconcile(system, payload)):
        assert time.monotonic() < deadline
        time.sleep(1)
    return answer


def complete_unheard(system: System, *contact_ids: str) -> None:
    """Let contacts complete while Connect loses all its events."""
    system.control_connect("disturbance", {"drop": 1})
    for contact_id in contact_ids:
        system.control_connect(f"contacts/{contact_id}/complete", {})
    system.control_connect("disturbance", method="DELETE")


def is_captured(contacts: Contacts, contact_id: str) -> bool:
    entry, rows = contacts.rows(contact_id)
    return entry is not None and entry["completion_seen"] and len(rows) == entry["reference_count"] == 1


def count_searches(system: System) -> int:
    return int(system.control_connect("statistics")["operations"]["SearchContacts"]["calls"])


def eventually(holds: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_contacts_whose_events_were_lost_are_captured_and_the_others_not_read_again(
    system: System, contacts: Contacts, hour: datetime
) -> None:
    ids = [contacts.create(_URL, DisconnectTimestamp=stamp(hour + n * timedelta(minutes=9))) for n in range(6)]
    heard, lost = ids[:3], ids[3:]
    system.control_connect("disturbance", {"repeat": 1})
    contacts.complete(*heard)
    complete_unheard(system, *lost)
    assert [is_captured(contacts, each) for each in ids] == [True] * 3 + [False] * 3
    calls, began_at = system.connect_calls(), datetime.now(UTC)

    answer = run(system)

    assert answer == {"outcome": "what was due is done, or queued", "requested": len(lost)}
    assert system.wait_until_drained(60)
    assert all(is_captured(contacts, each) for each in ids)
    assert system.connect_calls() - calls == len(lost) * _CALLS_A_CONTACT
    item = hours(system)[f"{hour:%Y-%m-%dT%H}"]
    assert counts(item) == (6, 3, 3, 1)
    assert set(item["missing_ids"]) == set(lost)
    assert item["due_key"] == f"HOUR#{INSTANCE_ID}"
    assert stamp(began_at + 0.5 * _HOUR) <= item["due_at"] <= stamp(datetime.now(UTC) + 0.5 * _HOUR)
    assert item["searched_at"] <= item["asked_since"]
    assert item.keys().isdisjoint({"closed_at", "searched_to"})

    searches = count_searches(system)
    bring_forward(system)
    assert run(system)["requested"] == 0
    item = hours(system)[f"{hour:%Y-%m-%dT%H}"]
    assert counts(item) == (6, 6, 0, 2)
    assert item["closed_at"] > item["searched_at"]
    assert item.keys().isdisjoint({"due_key", "due_at"})
    assert system.connect_calls() - calls == len(lost) * _CALLS_A_CONTACT
    # Each instance has hours that are not over for long: of this one there was no other search.
    assert count_searches(system) - searches <= len(system.deployment.instances())


def test_three_hours_with_lost_and_repeated_events_end_complete(
    system: System, hour: datetime, pytestconfig: pytest.Config
) -> None:
    number = 2000 if pytestconfig.getoption("--full-matrix") else 40
    first = hour - 2 * _HOUR
    ids = [str(uuid4()) for _ in range(number)]
    found = [
        {
            "Id": contact_id,
            "InstanceId": INSTANCE_ID,
            "Channel": "VOICE",
            "InitiationMethod": "INBOUND",
            "DisconnectTimestamp": stamp(first + n * 3 * _HOUR / number),
            "References": [_URL],
        }
        for n, contact_id in enumerate(ids)
    ]
    system.control_connect("contacts", {"contacts": found})
    system.control_connect("disturbance", {"drop": 0.3, "repeat": 0.1})
    for contact_id in ids:
        system.control_connect(f"contacts/{contact_id}/complete", {})
    assert system.wait_until_drained(900)

    def captured() -> set[str]:
        return {item["contact_id"] for item in system.ledger() if item["sk"] == "CONTACT"} & set(ids)

    lost, calls = set(ids) - captured(), system.connect_calls()
    assert 0 < len(lost) < number
    while run(system)["requested"]:
        assert system.wait_until_drained(900)
    assert captured() == set(ids)
    assert system.connect_calls() - calls == len(lost) * _CALLS_A_CONTACT


def test_a_first_run_opens_the_hours_of_the_last_day_and_no_later_one_opens_them_again(system: System) -> None:
    run(system)
    opened = hours(system)
    until = datetime.fromisoformat(opened.pop("OPENED")["opened_to"])
    assert until in {
        floor(datetime.now(UTC) - _HOUR),
        floor(datetime.now(UTC) - 2 * _HOUR),
    }  # the hour may just be over
    assert sorted(opened) == [f"{until - n * _HOUR:%Y-%m-%dT%H}" for n in range(len(opened), 0, -1)]
    assert len(opened) == 23
    assert {counts(item)[3] for item in opened.values()} == {1}

    searches = count_searches(system)
    run(system)
    assert count_searches(system) == searches


def test_what_is_indexed_late_is_found_by_the_search_three_hours_later(system: System, contacts: Contacts) -> None:
    lately = floor(datetime.now(UTC)) - 2 * _HOUR
    contact_id = contacts.create(_URL, DisconnectTimestamp=stamp(lately + timedelta(minutes=1)))
    complete_unheard(system, contact_id)
    system.control_connect("search", {"lag_seconds": 3 * 3600, "total_count": False})
    run(system)
    item = hours(system)[f"{lately:%Y-%m-%dT%H}"]
    assert contact_id not in item["missing_ids"]
    assert "closed_at" not in item
    assert item["due_at"] == stamp(datetime.fromisoformat(item["searched_at"]) + 3 * _HOUR)

    system.control_connect("search", method="DELETE")
    bring_forward(system)
    assert run(system)["requested"] >= 1
    assert system.wait_until_drained(60)
    assert is_captured(contacts, contact_id)


def test_a_backfill_captures_a_past_period_and_again_costs_searches_only(system: System, contacts: Contacts) -> None:
    run(system)
    ended_at = [f"2026-06-{day:02}T{hour}:30:00.000Z" for day in (1, 2) for hour in (10, 21)]
    ids = [contacts.create(_URL, DisconnectTimestamp=moment) for moment in ended_at]
    contacts.complete(ids[0])
    complete_unheard(system, *ids[1:])
    period = {"from": "2026-06-01", "to": "2026-06-03"}
    calls, searches = system.connect_calls(), count_searches(system)

    assert reconcile(system, period) == {"hours": 48 * len(system.deployment.instances())}
    marked = {sk: item for sk, item in hours(system).items() if sk.startswith("2026-06-0")}
    assert len(marked) == 48
    assert {(item["due_key"], counts(item)) for item in marked.values()} == {(f"BACKFILL#{INSTANCE_ID}", (0, 0, 0, 0))}
    assert count_searches(system) == searches  # nothing but marks, at once

    assert run(system)["requested"] == 3
    assert system.wait_until_drained(60)
    assert all(is_captured(contacts, each) for each in ids)
    assert system.connect_calls() - calls == 3 * _CALLS_A_CONTACT
    visited = {sk: item for sk, item in hours(system).items() if sk in marked}
    assert {counts(item)[3] for item in visited.values()} == {1}
    assert [sk for sk, item in visited.items() if "due_at" in item] == [
        "2026-06-01T21",
        "2026-06-02T10",
        "2026-06-02T21",
    ]
    bring_forward(system)
    run(system)
    assert [sk for sk, item in hours(system).items() if sk in marked and "closed_at" not in item] == []

    calls, searches = system.connect_calls(), count_searches(system)
    assert reconcile(system, period) == {"hours": 48 * len(system.deployment.instances())}
    assert run(system)["requested"] == 0
    assert system.connect_calls() == calls
    assert count_searches(system) > searches
    again = {sk: item for sk, item in hours(system).items() if sk in marked}
    assert sum(counts(item)[1] for item in again.values()) == 4
    assert all("closed_at" in item for item in again.values())


def test_a_second_run_at_the_same_time_says_that_another_is_at_work(system: System) -> None:
    # At this pace the first is at work for four seconds at least.
    slow = configured(system, "ReconcileFunctionName", SEARCH_REQUESTS_PER_SECOND="0.25")
    with slow, ThreadPoolExecutor(1) as threads:
        first = threads.submit(run, system)
        eventually(lambda: is_lease_held(system))
        searches = count_searches(system)
        second = reconcile(system)
        assert not first.done()
        assert second == {"outcome": "another run is at work", "requested": 0}
        assert not has_run(second)
        assert count_searches(system) == searches
        assert has_run(first.result(timeout=60))
    assert not is_lease_held(system)
    assert has_run(reconcile(system))


def is_lease_held(system: System) -> bool:
    [lease] = [item for item in system.items() if item["pk"] == "RECONCILE"] or [{"held_until": ""}]
    return bool(lease["held_until"] > stamp(datetime.now(UTC)))


def test_a_period_that_cannot_be_searched_is_refused_with_a_sentence_and_marks_nothing(system: System) -> None:
    yesterday, tomorrow = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (-1, 1))
    unknown = INSTANCE_ARN.replace("12345678", "87654321")
    good = {"from": "2026-03-01", "to": "2026-03-02"}
    sentences: dict[str, Json] = {
        "from (2026-03-02) is not before to (2026-03-01): swap them": {"from": "2026-03-02", "to": "2026-03-01"},
        f"to ({tomorrow}) is in the future": {"from": yesterday, "to": tomorrow},
        "from (2020-01-01) is beyond the two years": {"from": "2020-01-01", "to": "2026-03-02"},
        "from is 'soon': give a date or time such as": good | {"from": "soon"},
        f"instanceArn is '{unknown}', which is not captured here: give one": good | {"instanceArn": unknown},
        "instanceArn is 'arn': give an instance's ARN": good | {"instanceArn": "arn"},
        "give {} for what is due, or a period": good | {"until": "2026-03-02"},
    }
    before, searches = system.items(), count_searches(system)
    for sentence, period in sentences.items():
        with pytest.raises(OpsError) as caught:
            reconcile(system, period)
        assert str(caught.value).startswith(f"the reconcile function failed: {sentence}")
    assert (system.items(), count_searches(system)) == (before, searches)


def test_the_command_reconcile_says_what_came_of_it_and_coverage_shows_the_hours(
    system: System, contacts: Contacts, hour: datetime, run_local: Run
) -> None:
    ids = [contacts.create(_URL, DisconnectTimestamp=stamp(hour + n * timedelta(minutes=9))) for n in range(3)]
    contacts.complete(ids[0])
    complete_unheard(system, *ids[1:])
    nothing = run_local("coverage")
    assert nothing.returncode == 0, nothing.stderr
    assert "nothing is known. The first run opens those of the last day" in nothing.stdout.replace("\n", " ")

    result = run_local("reconcile")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "what was due is done, or queued: 2 contacts asked for" in result.stdout
    assert "2 contacts captured that were not before, 0 of the others read again" in result.stdout

    shown = run_local("coverage")
    assert shown.returncode == 0, shown.stderr
    assert re.search(rf"{hour:%Y-%m-%d %H:%M} to \d\d:00 +3 +1 +2 +1 +open +(\d\d-\d\d )?\d\d:\d\d", shown.stdout)
    assert re.search(r" 0 +0 +0 +1 +closed", shown.stdout)
    assert "not due yet" in shown.stdout
    assert "2 missing when their hours were visited, 2 of them captured since." in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100


def unboxed(text: str) -> str:
    return " ".join(re.split(r"[\s│]+", text))


def test_the_command_coverage_says_that_a_day_has_no_hours_and_names_what_it_cannot_use(
    system: System, run_local: Run, is_refused: Refused, directory: Path
) -> None:
    run(system)
    result = run_local("coverage", "--from", "2026-02-03", "--to", "2026-02-04", "--instance", INSTANCE_ARN)
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "2026-02-03: no hour was opened" in text
    assert re.search(r"python -m local --directory \S+ backfill --from 2026-02-03 --to 2026-02-04", text)

    assert "such as 2026-10-01" in unboxed(is_refused(directory, "coverage", "--from", "yesterday", status=2))
    error = is_refused(directory, "coverage", "--instance", "arn")
    there = ", ".join(instance.instance_id for instance in system.deployment.instances())
    assert error == f"error: instance arn is not captured: there are {there}\n"


def test_the_command_backfill_shows_hours_and_a_refused_period_fails_with_a_sentence(
    system: System, contacts: Contacts, run_local: Run, is_refused: Refused, directory: Path
) -> None:
    run(system)
    contact_id = contacts.create(_URL, DisconnectTimestamp="2026-06-11T11:30:00.000Z")
    period = ("--from", "2026-06-11T10:00Z", "--to", "2026-06-11T14:00Z", "--instance", INSTANCE_ARN)
    result = run_local("backfill", "--yes", *period)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 hours visited, 1 contacts asked for." in result.stdout
    assert "3 hours are closed." in result.stdout
    assert "1 are open: 1 contacts were missing in them, 1 of which are captured by now." in result.stdout
    assert is_captured(contacts, contact_id)
    bring_forward(system)
    result = run_local("backfill", "--yes", *period)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 hours visited, 0 contacts asked for." in result.stdout
    assert "4 hours are closed." in result.stdout

    error = is_refused(directory, "backfill", "--from", "2026-03-02", "--to", "2026-03-01")
    assert error.startswith("error: from (2026-03-02) is not before to")
    error = is_refused(directory, "backfill", "--from", "2026-03-02", "--to", "soon", status=2)
    assert "give a date or time such as" in unboxed(error)


def test_a_backfill_that_is_interrupted_goes_on_with_the_next_one(
    system: System, contacts: Contacts, run_local: Run, directory: Path
) -> None:
    run(system)
    contact_id = contacts.create(_URL, DisconnectTimestamp="2026-06-21T11:30:00.000Z")
    complete_unheard(system, contact_id)
    period = ("--from", "2026-06-21", "--to", "2026-06-23")
    command = [sys.executable, "-m", "local", "--directory", str(directory), "backfill", "--yes", *period]
    hold_lease(system, until="2100-01-01T00:00:00.000Z")  # so that the command is not through before it is interrupted
    with subprocess.Popen(
        command, cwd=ROOT, env=hostile_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        eventually(lambda: len([sk for sk in hours(system) if sk.startswith("2026-06-2")]) == 48)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    hold_lease(system, until="2000-01-01T00:00:00.000Z")
    assert process.returncode == 130
    assert "stay due" in output
    assert "Traceback" not in errors

    result = run_local("backfill", "--yes", *period)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{48 * len(system.deployment.instances())} hours visited" in result.stdout
    assert is_captured(contacts, contact_id)


def test_an_instance_whose_search_is_refused_hinders_no_other_and_makes_the_run_fail(
    system: System, contacts: Contacts, hour: datetime
) -> None:
    refusing = str(uuid4())
    contacts.create(_URL, InstanceId=refusing, DisconnectTimestamp=stamp(hour))
    missing = contacts.create(_URL, DisconnectTimestamp=stamp(hour))
    complete_unheard(system, missing)
    system.control_connect("faults", {"operation": "SearchContacts", "kind": "access_denied", "instance": refusing})

    with pytest.raises(OpsError, match="AccessDenied"):
        run(system)

    assert system.wait_until_drained(60)
    assert is_captured(contacts, missing)
    item = hours(system, refusing)[f"{hour:%Y-%m-%dT%H}"]
    assert (counts(item), "due_at" in item, "closed_at" in item) == ((0, 0, 0, 0), True, False)
