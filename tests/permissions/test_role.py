"""The functions' roles, on an emulator that enforces them: all of each is enough, and each part is needed."""

import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError

from local.delivery import read_event
from local.emulator import ROOT, LocalSystemError
from local.reconciling import follow_backfill, reconcile, start_backfill
from local.system import Json, System
from tests.permissions.conftest import Poller, Role, completion, make_client
from tests.system.conftest import Contacts

NEEDED = [
    ("dynamodb:BatchGetItem", "BatchGetItem", "new"),
    ("dynamodb:Query", "Query", "changed"),
    ("dynamodb:PutItem", "PutItem", "bare"),
    ("dynamodb:PutItem", "TransactWriteItems", "new"),
    ("dynamodb:UpdateItem", "UpdateItem", "unchanged"),
    ("dynamodb:DeleteItem", "TransactWriteItems", "emptied"),
    ("dynamodb:ConditionCheckItem", "TransactWriteItems", "large"),
    ("s3:PutObject", "PutObject", "new"),
]
"""Actions, the call that fails without each, and of which kind the contact is that makes the call."""

NEEDED_FOR_FAILURES = {"sqs:SendMessage", "sqs:ChangeMessageVisibility"}

NEEDED_TO_RECONCILE = {
    "dynamodb:BatchGetItem": "BatchGetItem",
    "dynamodb:UpdateItem": "UpdateItem",
    "dynamodb:Query": "Query",
    "sqs:GetQueueAttributes": "GetQueueAttributes",
    "sqs:SendMessage": "SendMessageBatch",
    "dynamodb:PutItem": "PutItem",
}
"""Actions of the reconcile function, and the call that fails without each."""

NOT_ENFORCED = {
    "connect:*": "Connect is a simulator, which knows no IAM",
    "ds:*": "what Connect's ListInstances asks for in its turn",
    "kms:*": "the emulator encrypts nothing",
    "logs:*": "the emulator writes the log group itself",
    "xray:*": "the emulator traces nothing",
    "sqs:ReceiveMessage": "Lambda's poller needs it; the emulator's asks nobody",
    "sqs:DeleteMessage": "Lambda's poller needs it; the emulator's asks nobody",
    "sqs:GetQueueAttributes": "Lambda's poller needs it; the emulator's asks nobody",
}
"""What tests/infra asserts on the template only, and why."""

_FEW = [{"Url": {"Name": "account", "Value": "https://crm.example.com/1"}}, {"String": {"Name": "case", "Value": "1"}}]
_OTHERS = [_FEW[0], {"String": {"Name": "case", "Value": "2"}}]
_MANY = [{"String": {"Name": f"note-{number}", "Value": str(number)}} for number in range(150)]
_FIRST = {"bare": [], "large": _MANY}
_LATER: dict[str, list[Json]] = {"changed": _OTHERS, "unchanged": _FEW, "emptied": []}
KINDS = ("new", *_FIRST, *_LATER)


def create(contacts: Contacts, kind: str) -> str:
    return contacts.create(*_FIRST.get(kind, _FEW))


def change(contacts: Contacts, kind: str, contact_id: str) -> None:
    """Give a captured contact, by another in its place, what the next reading of it is to find."""
    contacts.create(*_LATER[kind], Id=contact_id)


def expected(kind: str) -> dict[str, str]:
    """The references that a contact of this kind has in the end."""
    references = _LATER.get(kind, _FIRST.get(kind, _FEW))
    return {member["Name"]: member["Value"] for reference in references for member in reference.values()}


def in_ledger(contacts: Contacts, contact_id: str) -> dict[str, str] | None:
    """The references that a reader of the ledger sees; None for a contact that is not captured."""
    entry, rows = contacts.rows(contact_id)
    if entry is None or entry["capture_state"] != "complete":
        return None
    return {row["reference_name"]: row["reference_value"] for row in rows if row["captured_at"] == entry["captured_at"]}


def in_lake(system: System, contact_id: str) -> dict[str, str]:
    """The references of the contact's newest capture in the lake."""
    records = [record for found in system.lake().values() for record in found if record["contact_id"] == contact_id]
    newest = max(record["captured_at"] for record in records if record["record_type"] == "CONTACT")
    return {
        record["reference_name"]: record["reference_value"]
        for record in records
        if record["record_type"] == "REFERENCE" and record["captured_at"] == newest
    }


def enforced(role: Role) -> set[str]:
    return {action for action in role.actions if not {action, f"{action.split(':')[0]}:*"} & NOT_ENFORCED.keys()}


def test_every_action_of_the_role_is_known_to_be_needed_or_not_to_be_enforced_here(role: Role) -> None:
    assert enforced(role) == {action for action, _, _ in NEEDED} | NEEDED_FOR_FAILURES


def test_with_the_template_s_role_every_kind_of_capture_works(system: System, contacts: Contacts, role: Role) -> None:
    ids = {kind: create(contacts, kind) for kind in KINDS}
    contacts.complete(*(ids[kind] for kind in _LATER))
    for kind in _LATER:
        change(contacts, kind, ids[kind])
    before, letters = contacts.rows(ids["unchanged"])[0], system.dead_letters()
    ids["new"] = refuse(system, contacts, role)
    foreign = system.send(read_event(ROOT / "events" / "completed-foreign-account.json"))
    # The refused one comes back after its back-off, long before the queue would show it again by itself.
    contacts.complete(*(ids[kind] for kind in KINDS if kind != "new"))

    assert {kind: in_ledger(contacts, ids[kind]) for kind in KINDS} == {kind: expected(kind) for kind in KINDS}
    assert {kind: in_lake(system, ids[kind]) for kind in KINDS} == {kind: expected(kind) for kind in KINDS}
    after = contacts.rows(ids["unchanged"])[0]
    assert before is not None
    assert after is not None
    assert (after["captured_at"], after["checked_at"] > before["checked_at"]) == (before["captured_at"], True)
    assert [letter.event_id for letter in system.dead_letters() if letter not in letters] == [foreign]


def refuse(system: System, contacts: Contacts, role: Role) -> str:
    """Let a new contact complete while the role may not write to the lake, and the function hand it back."""
    contact_id = create(contacts, "new")
    with role.without("s3:PutObject"):
        system.control_connect(f"contacts/{contact_id}/complete", {})
        wait_for_refusal(system, contact_id)
        assert (in_ledger(contacts, contact_id), system.queued()) == (None, 1)
    return contact_id


def wait_for_refusal(system: System, contact_id: str) -> None:
    """Wait until the function's log group says that the contact was not captured."""
    name = system.outputs["CaptureFunctionName"]
    configuration = system.clients.functions.get_function_configuration(FunctionName=name)
    logs = make_client(system, "logs")
    deadline = time.monotonic() + 30
    while True:
        events = logs.filter_log_events(logGroupName=configuration["LoggingConfig"]["LogGroup"])["events"]
        if any(contact_id in event["message"] and "AccessDenied" in event["message"] for event in events):
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("needed", NEEDED, ids="-".join)
def test_without_an_action_the_call_is_refused_and_with_it_the_contact_is_captured(
    system: System, contacts: Contacts, role: Role, poller: Poller, needed: tuple[str, str, str]
) -> None:
    action, call, kind = needed
    contact_id = create(contacts, kind)
    if kind in _LATER:
        poller.capture(completion(contact_id))
        change(contacts, kind, contact_id)
    held, letters = in_ledger(contacts, contact_id), system.dead_letters()
    record = poller.take(completion(contact_id))

    with role.without(action):
        refused = poller.deliver(record)
    assert refused.failed
    [line] = [line for line in refused.log if line.get("contact_id") == contact_id]
    assert line["level"] == "ERROR"
    assert line["error"] in {"AccessDenied", "AccessDeniedException"}
    assert line["reason"].startswith(f"{call} answered 4")
    assert (in_ledger(contacts, contact_id), system.dead_letters(), system.queued()) == (held, letters, 1)

    captured = poller.deliver(record)
    assert not captured.failed
    assert in_ledger(contacts, contact_id) == in_lake(system, contact_id) == expected(kind)
    assert (system.dead_letters(), system.queued()) == (letters, 0)


def test_a_dead_letter_that_may_not_be_sent_stays_on_the_queue(system: System, role: Role, poller: Poller) -> None:
    event = completion("")
    record, letters = poller.take(event), system.dead_letters()

    with role.without("sqs:SendMessage"):
        refused = poller.deliver(record)
    assert refused.failed
    assert [line["error"] for line in refused.log if line["message"] == "message stays on the queue"] == [
        "AccessDenied"
    ]
    assert (system.dead_letters(), system.queued()) == (letters, 1)

    assert not poller.deliver(record).failed
    assert [letter.event_id for letter in system.dead_letters() if letter not in letters] == [event["id"]]
    assert system.queued() == 0


def test_a_message_whose_delay_may_not_be_changed_stays_on_the_queue(
    system: System, contacts: Contacts, role: Role, poller: Poller
) -> None:
    contact_id = str(uuid4())  # Connect does not know it yet
    record, letters = poller.take(completion(contact_id)), system.dead_letters()

    with role.without("sqs:ChangeMessageVisibility"):
        refused = poller.deliver(record)
    assert refused.failed
    assert [line["error"] for line in refused.log if line["message"] == "message stays on the queue"] == [
        "AccessDenied"
    ]
    assert (system.dead_letters(), system.queued()) == (letters, 1)

    delayed = poller.deliver(record)
    assert delayed.failed
    assert [line["message"] for line in delayed.log if "message_id" in line] == []

    contacts.create(*_FEW, Id=contact_id)
    assert not poller.deliver(record).failed
    assert in_ledger(contacts, contact_id) == in_lake(system, contact_id) == expected("new")
    assert system.queued() == 0


def test_without_tls_the_queues_refuse_even_the_root_user(system: System) -> None:
    sqs = make_client(system, "sqs")
    sqs.meta.events.register("before-send", say_that_it_is_plain)
    for name in ("QueueUrl", "DeadLetterQueueUrl"):
        with pytest.raises(ClientError, match="AccessDenied"):
            sqs.send_message(QueueUrl=system.outputs[name], MessageBody="not captured")


def say_that_it_is_plain(request: AWSPreparedRequest, **_: object) -> None:
    request.headers["X-Forwarded-Proto"] = "http"


def miss(contacts: Contacts) -> str:
    """Have a contact end two hours ago that no event tells of."""
    return contacts.create(*_FEW, DisconnectTimestamp=(datetime.now(UTC) - timedelta(hours=2)).isoformat())


def test_every_action_of_the_reconcile_function_is_known_to_be_needed_or_not_to_be_enforced_here(
    reconcile_role: Role,
) -> None:
    polled = {"sqs:GetQueueAttributes"}  # of the poller's, but reconciling asks for itself
    assert enforced(reconcile_role) | polled == NEEDED_TO_RECONCILE.keys()


@pytest.mark.parametrize("action", NEEDED_TO_RECONCILE)
def test_without_an_action_reconciling_fails_and_says_which_call_was_refused(
    system: System, contacts: Contacts, reconcile_role: Role, action: str
) -> None:
    miss(contacts)
    refused = rf"the function failed: AccessDenied\w*: {NEEDED_TO_RECONCILE[action]} answered 4\d\d AccessDenied"
    with reconcile_role.without(action), pytest.raises(LocalSystemError, match=refused):
        reconcile(system, {})


def test_with_the_template_s_role_what_was_missed_is_found_and_a_backfill_ends(
    system: System, contacts: Contacts
) -> None:
    missed = miss(contacts)
    assert reconcile(system, {})["done"]
    assert system.wait_until_drained(60)
    assert in_ledger(contacts, missed) == expected("new")

    long_ago = contacts.create(*_FEW, DisconnectTimestamp="2026-04-01T10:00:00Z")
    record = follow_backfill(system, start_backfill(system, {"from": "2026-04-01", "to": "2026-04-02"}))
    assert (record["windows_done"], record["queued"]) == (1, 1)
    assert system.wait_until_drained(60)
    assert in_ledger(contacts, long_ago) == expected("new")
