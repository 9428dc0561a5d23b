"""The commands as processes, in the environment of a developer with an AWS profile and a proxy."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

from local.delivery import read_event
from local.demo import find_missing
from local.emulator import ROOT
from local.system import Json, System, current_records
from ops.dead_letters import DeadLetter
from tests.system.conftest import INSTANCE_ID, Contacts, run_command

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]


_URL = {"Url": {"Name": "account", "Value": "https://crm.example.com/1"}}


def event_file(directory: Path, sample: str, contact_id: str) -> str:
    """A file like `events/<sample>` about another contact."""
    event = read_event(ROOT / "events" / sample)
    event["detail"] |= {"contactId": contact_id, "initialContactId": contact_id}
    file = directory / sample
    file.write_text(json.dumps(event))
    return str(file)


def test_send_tells_that_a_contact_was_captured_and_that_a_second_reading_found_nothing_new(
    run_local: Run, contacts: Contacts, tmp_path: Path
) -> None:
    contact_id = contacts.create(_URL)
    file = event_file(tmp_path, "completed-voice.json", contact_id)
    first, second = (run_local("send", file) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert f"captured contact {contact_id} with 1 references" in first.stdout
    assert "nothing new" in second.stdout or "skipped" in second.stdout


def test_send_tells_that_a_contact_connect_does_not_know_yet_is_tried_again(
    run_local: Run, contacts: Contacts, tmp_path: Path
) -> None:
    contact_id = "5ca1ab1e-0000-4000-8000-000000000001"
    result = run_local("send", "--wait", "3", event_file(tmp_path, "completed-minimal.json", contact_id))
    assert result.returncode == 1, result.stdout + result.stderr
    assert "tried again" in result.stdout
    contacts.create(_URL, Id=contact_id)
    contacts.complete()
    entry, rows = contacts.rows(contact_id)
    assert entry is not None
    assert len(rows) == 1


def test_send_tells_that_no_rule_asks_for_an_event(run_local: Run) -> None:
    result = run_local("send", "events/public-voice-connected-to-agent.json")
    assert result.returncode == 0, result.stderr
    assert "no rule asks for it" in result.stdout


def test_send_puts_a_capture_request_on_the_queue(run_local: Run, contacts: Contacts, tmp_path: Path) -> None:
    contact_id = contacts.create(_URL)
    result = run_local("send", event_file(tmp_path, "capture-request.json", contact_id))
    assert result.returncode == 0, result.stderr
    assert contacts.rows(contact_id)[0] is not None


def test_send_tells_the_reason_of_a_dead_letter_and_fails(run_local: Run) -> None:
    result = run_local("send", "events/missing-contact-id.json")
    assert result.returncode == 1
    assert "dead-letter queue" in result.stdout
    assert "contactId is missing" in result.stdout


def test_send_refuses_what_is_no_event(is_refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    for content, complaint in (("{", "is not JSON"), ("[1]", "no EventBridge event"), ('{"Records": []}', "invoke")):
        file.write_text(content)
        error = is_refused(tmp_path, "send", str(file))
        assert error.startswith("error: ")
        assert complaint in error
    assert "no such file" in is_refused(tmp_path, "send", str(tmp_path / "none.json"))


def test_send_refuses_when_no_system_is_running(is_refused: Refused, tmp_path: Path) -> None:
    assert "python -m local up" in is_refused(tmp_path, "send", str(ROOT / "events" / "completed-voice.json"))


def test_the_file_of_a_system_that_ended_is_not_taken_for_a_running_one(
    system: System, is_refused: Refused, directory: Path, tmp_path: Path
) -> None:
    assert system.pid
    left = json.loads((directory / "system.json").read_text()) | {"aws_url": "http://127.0.0.1:9"}
    (tmp_path / "system.json").write_text(json.dumps(left))
    assert "of one that ended" in is_refused(tmp_path, "send", str(ROOT / "events" / "completed-voice.json"))


def test_invoke_prints_the_result(run_local: Run) -> None:
    result = run_local("invoke", "events/completed-email.json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["contact_id"] == "40000000-0000-4000-8000-000000000004"


def test_invoke_of_a_batch_prints_which_messages_failed(run_local: Run) -> None:
    result = run_local("invoke", "events/sqs-batch.json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout).keys() == {"batchItemFailures"}


def test_invoke_fails_when_the_function_does(run_local: Run) -> None:
    result = run_local("invoke", "events/missing-contact-id.json")
    assert result.returncode == 1
    assert "contactId is missing" in result.stderr


def test_a_second_system_in_the_same_directory_is_refused(system: System, is_refused: Refused, directory: Path) -> None:
    assert system.pid
    assert "runs already" in is_refused(directory, "up")


def test_the_demo_accounts_for_every_contact(tmp_path: Path) -> None:
    result = run_command(tmp_path, "demo", timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Every contact is accounted for: 16 contacts" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    for shown in (
        "CONTACT_ANALYSIS",
        "UNKNOWN",
        "PROCESSING",
        "detail.contactId is missing",
        "captures/completed_date=",
    ):
        assert shown in result.stdout
    ledger = result.stdout.partition("The ledger (DynamoDB)")[2].partition("The lake (S3)")[0]
    assert len(re.findall(r"\d\d:\d\d:\d\dZ, \S+ (?:s|min|h) after it ended", ledger)) == 16
    reconciled = result.stdout.partition("Reconciling")[2].partition("The ledger (DynamoDB)")[0]
    assert "2 contacts have no capture and are asked for" in reconciled
    assert re.search(r":00 to \d\d:00 +3 +1 +2 +1 +open +", reconciled)
    assert "2 missing when their hours were visited, 2 of them captured since." in reconciled
    assert not re.search("[0-9a-f]{8}-[0-9a-f]{4}-", ledger)  # what a person wants to see, not ids


def dead_letter(body: str, reason: str) -> DeadLetter:
    return DeadLetter("id", datetime.now(UTC), "error", reason, None, None, {"reason": reason}, body)


def test_the_demo_would_notice_what_is_missing(system: System, contacts: Contacts) -> None:
    references = [{"Url": {"Name": str(number), "Value": "https://example.com"}} for number in range(3)]
    contact_id = contacts.create(*references)
    contacts.complete(contact_id)
    ledger, lake = system.ledger(), system.lake()

    def problems(**changed: object) -> list[str]:
        stored = {"contact_ids": [contact_id], "malformed": "an id", "letters": [], "ledger": ledger, "lake": lake}
        return find_missing(system, **(stored | changed))  # type: ignore[arg-type]  # its keywords

    dead = "the malformed event is not in the dead-letter queue with its reason"
    assert problems() == [dead]
    letters = [dead_letter('{"id": "an id"}', "known"), dead_letter("not JSON", "new")]
    assert problems(letters=letters[:1]) == []
    assert problems(letters=letters) == ["event None is in the dead-letter queue: new"]
    ledger_differs, lake_differs = f"contact {contact_id} in the ledger", f"contact {contact_id} in the lake"
    last_row = next(item for item in ledger if item["contact_id"] == contact_id and item["sk"] != "CONTACT")
    assert problems(ledger=[item for item in ledger if item != last_row]) == [
        f"{ledger_differs}: no CONTACT record that counts these 2 references",
        f"{ledger_differs}: 1 references missing, 0 too many",
        dead,
    ]
    assert problems(ledger=[]) == [f"contact {contact_id} has no CONTACT item in the ledger", dead]
    assert problems(lake={}) == [
        f"{lake_differs}: no CONTACT record that counts these 0 references",
        f"{lake_differs}: 3 references missing, 0 too many",
        dead,
    ]
    unended = [{name: value for name, value in item.items() if name != "completed_at"} for item in ledger]
    assert problems(ledger=unended) == [f"contact {contact_id} is in the lake, but not known to have completed", dead]


def test_the_lake_is_read_without_repeats_and_by_each_contact_s_newest_capture() -> None:
    def capture(contact_id: str, captured_at: str, *names: str) -> list[Json]:
        common = {"instance_id": INSTANCE_ID, "contact_id": contact_id, "capture_id": f"of {captured_at}"}
        records = [{"record_type": "CONTACT"}, *({"record_type": "REFERENCE", "reference_id": name} for name in names)]
        return [common | {"captured_at": captured_at} | record for record in records]

    first, second = "2026-03-02T09:00:00.000Z", "2026-03-02T09:00:00.001Z"
    old, new, other = capture("a", first, "kept", "gone"), capture("a", second, "kept"), capture("b", first, "kept")
    lake = {"1": old + other, "2": new, "3": old, "4": new}
    assert current_records(lake) == other + new
    assert current_records({"2": new, "1": other + old}) == new + other
    emptied = capture("a", second)
    assert current_records({"1": old, "2": emptied}) == emptied
