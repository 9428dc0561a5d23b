"""The functions' roles, on an emulator that enforces them: all of each is enough, and each part is needed."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError

from local.delivery import read_event
from local.emulator import INSTANCE_ARN, ROOT
from local.system import Json, System
from tests.permissions.conftest import Poller, Role, completion, make_client
from tests.system.conftest import Contacts

NEEDED = [
    ("dynamodb:BatchGetItem", "BatchGetItem", "new"),
    ("dynamodb:Query", "Query", "changed"),
    ("dynamodb:BatchWriteItem", "BatchWriteItem", "new"),
    ("dynamodb:PutItem", "PutItem", "bare"),
    ("dynamodb:UpdateItem", "UpdateItem", "unchanged"),
    ("dynamodb:UpdateItem", "UpdateItem", "new"),
    ("s3:PutObject", "PutObject", "new"),
]
"""Actions, the call that fails without each, and of which kind the contact is that makes the call."""

AFTER_THE_COMMIT = {("UpdateItem", "new"), ("PutObject", "new")}
"""Calls for the lake: the ledger has the contact already when they are refused."""

NEEDED_FOR_FAILURES = {"sqs:SendMessage", "sqs:ChangeMessageVisibility"}

NEEDED_TO_RECONCILE = {
    "dynamodb:UpdateItem": "UpdateItem",
    "sqs:GetQueueAttributes": "GetQueueAttributes",
    "dynamodb:BatchGetItem": "BatchGetItem",
    "dynamodb:BatchWriteItem": "BatchWriteItem",
    "dynamodb:Query": "Query",
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
_LATE = {"Attachment": {"Name": "letter.pdf", "Value": "https://example.com/letter.pdf", "Status": "APPROVED"}}
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
    return None if entry is None else {row["reference_name"]: row["reference_value"] for row in rows}


def in_lake(system: System, contact_id: str) -> dict[str, str]:
    """The references of the contact's newest capture in the lake."""
    records = [record for found in system.lake().values() for record in found if record["contact_id"] == contact_id]
    captures = {record["captured_at"]: record["capture_id"] for record in records if record["record_type"] == "CONTACT"}
    newest = captures[max(captures)]
    return {
        record["reference_name"]: record["reference_value"]
        for record in records
        if record["record_type"] == "REFERENCE" and record["capture_id"] == newest
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
        assert (in_ledger(contacts, contact_id), system.queued()) == (expected("new"), 1)
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
    committed = expected(kind) if (call, kind) in AFTER_THE_COMMIT else held
    assert (in_ledger(contacts, contact_id), system.dead_letters(), system.queued()) == (committed, letters, 1)

    captured = poller.deliver(record)
    assert not captured.failed
    assert in_ledger(contacts, contact_id) == in_lake(system, contact_id) == expected(kind)
    assert (system.dead_letters(), system.queued()) == (letters, 0)


def test_rows_that_may_not_be_deleted_are_left_over_and_count_no_more(
    system: System, contacts: Contacts, role: Role, poller: Poller
) -> None:
    contact_id = create(contacts, "emptied")
    poller.capture(completion(contact_id))
    change(contacts, "emptied", contact_id)

    with role.without("dynamodb:BatchWriteItem"):
        delivery = poller.deliver(poller.take(completion(contact_id)))
    assert not delivery.failed
    [line] = [line for line in delivery.log if line["message"] == "rows left over"]
    assert line["reason"].startswith("BatchWriteItem answered 4")
    assert in_ledger(contacts, contact_id) == in_lake(system, contact_id) == {}


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


def reconcile(system: System, event: Json) -> Json:
    """Run the reconcile function; return what it answers, or `errorMessage` and so on if it failed."""
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["ReconcileFunctionName"], Payload=json.dumps(event)
    )
    result: Json = json.loads(answer["Payload"].read())
    return result


def work_what_is_due(system: System) -> None:
    """Run the reconcile function, and have all captured that it asks for."""
    assert reconcile(system, {})["outcome"] == "what was due is done, or queued"
    assert system.wait_until_drained(60)


def miss(contacts: Contacts, *, instance_id: str, ago: timedelta) -> str:
    """Have a contact end that no event tells of; of an instance that is new, its hour was not visited yet."""
    ended_at = datetime.now(UTC) - ago
    return contacts.create(*_FEW, InstanceId=instance_id, DisconnectTimestamp=ended_at.isoformat())


def let_recheck_be_due(system: System, contacts: Contacts, contact_id: str) -> None:
    """Make the contact's next recheck due already."""
    entry, _ = contacts.rows(contact_id)
    assert entry is not None
    assert entry["due_key"] == f"RECHECK#{entry['instance_id']}"
    system.clients.dynamodb.update_item(
        TableName=system.outputs["TableName"],
        Key={name: {"S": entry[name]} for name in ("pk", "sk")},
        UpdateExpression="SET due_at = :completed",
        ExpressionAttributeValues={":completed": {"S": entry["completed_at"]}},
    )


def test_every_action_of_the_reconcile_function_is_known_to_be_needed_or_not_to_be_enforced_here(
    reconcile_role: Role,
) -> None:
    polled = {"sqs:GetQueueAttributes"}  # of the poller's, but reconciling asks for itself
    assert enforced(reconcile_role) | polled == NEEDED_TO_RECONCILE.keys()


@pytest.mark.parametrize("action", NEEDED_TO_RECONCILE)
def test_without_an_action_reconciling_says_which_call_was_refused_and_with_it_goes_on(
    system: System, contacts: Contacts, reconcile_role: Role, action: str
) -> None:
    missed = miss(contacts, instance_id=str(uuid4()), ago=timedelta(hours=3))

    with reconcile_role.without(action):
        refused = reconcile(system, {})
    assert re.match(rf"AccessDenied\w*: {NEEDED_TO_RECONCILE[action]} answered 4", refused["errorMessage"])

    work_what_is_due(system)
    assert in_ledger(contacts, missed) == expected("new")


def test_with_the_template_s_role_a_run_asks_for_what_was_missed_and_what_is_to_be_rechecked(
    system: System, contacts: Contacts
) -> None:
    missed = miss(contacts, instance_id=str(uuid4()), ago=timedelta(hours=3))
    ended_at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    changed = contacts.create(*_FEW, channel="EMAIL", DisconnectTimestamp=ended_at)
    contacts.complete(changed)
    contacts.create(*_FEW, _LATE, channel="EMAIL", DisconnectTimestamp=ended_at, Id=changed)
    let_recheck_be_due(system, contacts, changed)

    work_what_is_due(system)

    assert in_ledger(contacts, missed) == in_lake(system, missed) == expected("new")
    references = in_ledger(contacts, changed)
    assert references is not None
    assert references.keys() == in_lake(system, changed).keys() == {*expected("new"), "letter.pdf"}


def test_with_the_template_s_role_a_backfill_is_marked_and_worked(system: System, contacts: Contacts) -> None:
    instance_id, ago = str(uuid4()), timedelta(days=10)
    long_ago = miss(contacts, instance_id=instance_id, ago=ago)
    day = (datetime.now(UTC) - ago).date()
    period = {"from": day.isoformat(), "to": (day + timedelta(days=1)).isoformat()}
    instance_arn = f"{INSTANCE_ARN.rpartition('/')[0]}/{instance_id}"

    assert reconcile(system, period | {"instanceArn": instance_arn}) == {"hours": 24}
    work_what_is_due(system)

    assert in_ledger(contacts, long_ago) == in_lake(system, long_ago) == expected("new")
