"""Looking contacts up from the command line: one by its id, those with a value, the file behind a reference."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import typer
from moto import mock_aws
from moto.core.models import botocore_stubber

from connect_simulator import ConnectSimulator
from contact_references.model.reference import KNOWN_TYPES
from local.in_memory.connect import Member
from ops import contacts
from ops.__main__ import main
from ops.clients import Clients
from ops.deployment import Deployment
from tests.connect_simulator.conftest import UNLIMITED, seed
from tests.unit.conftest import CREDENTIALS, INSTANCE_ARN, INSTANCE_ID, NOON, System, completion, make_system

OTHER_ID = "99999999-1234-1234-1234-123456789012"
OTHER_ARN = INSTANCE_ARN.replace(INSTANCE_ID, OTHER_ID)
BUCKET = "amazon-connect-example"
JANE: Member = {"Email": {"Name": "reply to", "Value": "Jane@Example.com"}}
Run = Callable[..., Any]


@cache  # what a session reads of the services it keeps
def make_session(**others: str) -> boto3.Session:
    make: Any = boto3.Session
    session: boto3.Session = make(**CREDENTIALS | others)
    return session


def file(name: str, member: str = "Attachment", **content: str) -> Member:
    return {member: {"Name": name, "Arn": f"{INSTANCE_ARN}/file/{name}", "Status": "APPROVED"} | content}


@pytest.fixture
def system() -> System:
    return make_system()


@pytest.fixture
def simulator() -> Iterator[ConnectSimulator]:
    with ConnectSimulator(quotas=UNLIMITED) as simulator:
        yield simulator


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = Clients(make_session()).s3
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def deployment(system: System, simulator: ConnectSimulator, s3: Any) -> Deployment:
    connect: Any = Clients(make_session(), aws_url=simulator.url, connect_url=simulator.url).connect
    connect.meta.events.unregister("before-send", botocore_stubber)  # moto answers S3 alone
    # moto's functions need a role and an archive; all that is asked of one here is its environment.
    configuration = {"Environment": {"Variables": {"INSTANCE_ARNS": f"{INSTANCE_ARN},{OTHER_ARN}"}}}
    functions = SimpleNamespace(get_function_configuration=lambda **_: configuration)
    clients: Any = SimpleNamespace(dynamodb=system.dynamodb, connect=connect, s3=s3, functions=functions)
    return Deployment("dev", clients, {"TableName": "ledger", "CaptureFunctionName": "capture"})


@pytest.fixture
def run(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: returns its standard output, or of one that ends with status 1 the error."""
    app = typer.Typer()
    contacts.register(app)

    @app.callback()
    def choose(context: typer.Context) -> None:
        context.obj = lambda: deployment

    def run_command(*arguments: str, status: int = 0, reads_json: bool = False) -> Any:
        assert main(app, [*arguments, *(["--json"] if reads_json else [])]) == status
        captured = capsys.readouterr()
        if status:
            assert captured.out == ""
            return " ".join(captured.err.split())
        return json.loads(captured.out) if reads_json else captured.out

    return run_command


def capture(system: System, contact_id: str, *members: Member, **of: Any) -> None:
    system.connect.contacts[contact_id] = list(members)
    system.clock.advance(minutes=1)
    system.capture(completion(contact_id, at=system.clock.now, **of))


# show


def test_a_contact_is_shown_with_its_state_and_its_references(system: System, run: Run) -> None:
    capture(system, "a", JANE, {"Number": {"Name": "total", "Value": "a lot"}}, is_analyzed=True)
    shown = run("show", "a")
    for word in ("VOICE INBOUND", "recheck due", "Jane@Example.com", "not valid", "2026-03-01T12:00:58.000Z"):
        assert word in shown
    found = run("show", "a", reads_json=True)
    assert found | {"references": []} == {
        "schema_version": 2,
        "record_type": "CONTACT",
        "instance_id": INSTANCE_ID,
        "contact_id": "a",
        "initial_contact_id": "a",
        "channel": "VOICE",
        "initiation_method": "INBOUND",
        "completed_at": "2026-03-01T12:00:58.000Z",
        "capture_id": found["capture_id"],
        "captured_at": found["captured_at"],
        "reference_count": 2,
        "event_id": f"event-a-{NOON.replace(minute=1)}",
        "completion_seen": True,
        "read_at": found["captured_at"],
        "checked_at": found["captured_at"],
        "due_at": "2026-03-01T12:15:58.000Z",
        "recheck_asked_since": None,
        "is_unknown": False,
        "is_found_by_search": False,
        "expires_at": None,
        "references": [],
    }
    assert [each["number"] for each in found["references"]] == [1, 2]
    assert {each["reference_type"]: each["is_valid"] for each in found["references"]} == {
        "EMAIL": True,
        "NUMBER": False,
    }


def test_a_contact_without_references_is_shown_as_captured(system: System, run: Run) -> None:
    capture(system, "a")
    shown = run("show", "a", "--instance", INSTANCE_ID)
    assert re.search(r"recheck due +no", shown)
    assert re.search(r"references +0", shown)


def test_what_a_terminal_would_act_on_is_shown_as_text(system: System, run: Run) -> None:
    capture(system, "a", {"String": {"Name": "[red]x[/red]", "Value": "\x1b[31m\u202eevil"}})
    shown = run("show", "a")
    assert "[red]x[/red]" in shown
    assert r"\x1b[31m\u202eevil" in shown


def test_a_signature_is_not_on_the_screen_but_in_json(system: System, run: Run) -> None:
    signed = "https://b.s3.amazonaws.com/k?X-Amz-Signature=0a1b"
    capture(system, "a", {"Attachment": {"Name": "photo", "Value": signed, "Status": "APPROVED"}})
    assert "X-Amz-Signature" not in run("show", "a")
    assert run("show", "a", reads_json=True)["references"][0]["reference_value"] == signed


@pytest.mark.parametrize("arguments", [("show", "none"), ("open", "none", "1"), ("show", "a", "--instance", OTHER_ID)])
def test_a_contact_that_is_not_captured_is_told_with_what_to_do(
    system: System, run: Run, arguments: tuple[str, ...]
) -> None:
    capture(system, "a")
    assert run(*arguments, status=1) == (
        "error: the contact is not captured, or its retention is over: check the id and --instance; if it has "
        "completed, `capture` asks for it"
    )


def test_an_expired_contact_is_gone(system: System, run: Run) -> None:
    capture(system, "a", JANE)
    system.fake.items[f"{INSTANCE_ID}#a", "CONTACT"]["expires_at"] = {"N": "1"}
    assert "retention is over" in run("show", "a", status=1)
    assert run("find", "EMAIL", "jane@example.com", reads_json=True) == {"matches": [], "after": None}


def test_a_damaged_contact_is_told_with_what_mends_it(system: System, run: Run) -> None:
    capture(system, "rows", JANE)
    [row] = [key for key in system.fake.items if key[0].endswith("#rows") and key[1] != "CONTACT"]
    del system.fake.items[row]
    capture(system, "item", JANE)
    del system.fake.items[f"{INSTANCE_ID}#item", "CONTACT"]["event_id"]
    mending = "`capture` asks for the contact again, and its next reading mends it"
    assert (
        run("show", "rows", status=1) == f"error: rows of the contact's capture are missing from the ledger: {mending}"
    )
    assert run("show", "item", status=1) == f"error: the contact's item in the ledger lacks event_id: {mending}"


def test_an_id_of_two_instances_asks_for_one(system: System, run: Run) -> None:
    capture(system, "a", JANE)
    for key, item in list(system.fake.items.items()):
        if key[0] == f"{INSTANCE_ID}#a":
            pk = f"{OTHER_ID}#a"
            system.fake.items[pk, key[1]] = item | {"pk": {"S": pk}, "instance_id": {"S": OTHER_ID}}
    assert run("show", "a", status=1) == (
        f"error: more than one instance has a contact of this id: name one of {INSTANCE_ID}, {OTHER_ID} with --instance"
    )
    assert run("show", "a", "--instance", OTHER_ARN, reads_json=True)["instance_id"] == OTHER_ID


def test_an_instance_that_is_not_captured_is_refused(run: Run) -> None:
    assert run("show", "a", "--instance", "x", status=1).startswith("error: instance x is not captured: there are 1234")


# find


def test_a_value_is_found_in_any_spelling_the_latest_contact_first(system: System, run: Run) -> None:
    capture(system, "early", JANE)
    capture(system, "late", {"Email": {"Name": "from", "Value": "jane@example.COM"}})
    found = run("find", "email", " JANE@example.com ", reads_json=True)
    assert [match["contact_id"] for match in found["matches"]] == ["late", "early"]
    assert found["matches"][0] | {"reference_id": ""} == {
        "instance_id": INSTANCE_ID,
        "contact_id": "late",
        "initial_contact_id": "late",
        "channel": "VOICE",
        "completed_at": found["matches"][0]["completed_at"],
        "captured_at": found["matches"][0]["captured_at"],
        "reference_id": "",
        "reference_type": "EMAIL",
        "reference_name": "from",
        "reference_value": "jane@example.COM",
        "canonical_value": "jane@example.com",
        "is_valid": True,
    }
    shown = run("find", "EMAIL", "jane@example.com")
    assert shown.index("late") < shown.index("early")
    assert "2026-03-01T12:01:58Z" in shown


def test_a_long_answer_comes_in_pages_or_at_once(system: System, run: Run) -> None:
    for number in range(5):
        capture(system, f"c{number}", JANE)
    ids: list[str] = []
    after: list[str] = []
    while True:
        page = run("find", "EMAIL", "jane@example.com", "--limit", "2", *after, reads_json=True)
        ids += [match["contact_id"] for match in page["matches"]]
        if page["after"] is None:
            break
        after = ["--after", page["after"]]
    assert ids == ["c4", "c3", "c2", "c1", "c0"]
    everything = run("find", "EMAIL", "jane@example.com", "--limit", "2", "--all", reads_json=True)
    assert [match["contact_id"] for match in everything["matches"]] == ids


def test_a_value_that_begins_with_a_dash_is_no_option(system: System, run: Run) -> None:
    capture(system, "a", {"Number": {"Name": "balance", "Value": "-5.00"}})
    [match] = json.loads(run("find", "--json", "NUMBER", "--", "-5"))["matches"]
    assert match["number_value"] == "-5"


def test_a_value_that_no_contact_has_is_told(run: Run) -> None:
    assert run("find", "EMAIL", "nobody@example.com") == "No captured contact has this value.\n"


def test_a_question_that_cannot_be_asked_is_a_sentence(system: System, run: Run) -> None:
    for contact_id in ("a", "b"):
        capture(system, contact_id, JANE)
    place = run("find", "EMAIL", "jane@example.com", "--limit", "1", reads_json=True)["after"]
    types = ", ".join(KNOWN_TYPES)
    assert run("find", "PHONE", "1", status=1) == f"error: there is no such type of references; there are {types}"
    assert "the value is empty" in run("find", "STRING", "", status=1)
    for other in ("garbage", "e30=", place[:-8]):
        assert "--after takes what" in run("find", "EMAIL", "jane@example.com", "--after", other, status=1)
    assert "--after takes what" in run("find", "EMAIL", "john@example.com", "--after", place, status=1)


# open


def seeded(simulator: ConnectSimulator, system: System, *members: Member, channel: str = "EMAIL", **of: Any) -> None:
    simulator.import_contacts([seed("a", Channel=channel, References=members)])
    capture(system, "a", *members, **of)


def numbers(run: Run) -> dict[str, str]:
    return {each["reference_name"]: str(each["number"]) for each in run("show", "a", reads_json=True)["references"]}


def test_a_file_is_opened_by_its_number_its_id_or_its_name(
    system: System, simulator: ConnectSimulator, run: Run
) -> None:
    seeded(simulator, system, file("letter", "EmailMessage"), file("photo"))
    reference = run("show", "a", reads_json=True)["references"][int(numbers(run)["photo"]) - 1]
    links = [run("open", "a", named) for named in (numbers(run)["photo"], reference["reference_id"], "photo")]
    assert all(link.startswith(f"https://{BUCKET}.s3.amazonaws.com/a/photo?X-Amz-Expires=300&") for link in links)
    assert all(link.count("\n") == 1 for link in links)
    assert len(set(links)) == 3, "each is a fresh one"
    opened = run("open", "a", "letter", reads_json=True)
    assert re.fullmatch(r"\d{4}-.+Z", opened["expires_at"])


def test_a_file_of_the_chain_s_first_contact_is_opened_too(
    system: System, simulator: ConnectSimulator, run: Run
) -> None:
    simulator.import_contacts([seed("first", Channel="EMAIL", References=[file("photo")]), seed("a", Channel="EMAIL")])
    capture(system, "a", file("photo"), initial_contact_id="first")
    assert "/first/photo?" in run("open", "a", "photo")


@pytest.mark.parametrize(
    ("status", "what"), [("PROCESSING", "try again once it is"), ("REJECTED", "there will be none")]
)
def test_a_file_that_is_not_approved_has_no_link_yet(
    system: System, simulator: ConnectSimulator, run: Run, status: str, what: str
) -> None:
    seeded(simulator, system, file("photo", Status=status))
    assert run("open", "a", "photo", status=1) == (
        f"error: the file's status is {status}, and Connect gives links to APPROVED ones only: {what}"
    )


@pytest.mark.parametrize("value", [f"s3://{BUCKET}/a b.wav", f"{BUCKET}/a b.wav"])
def test_a_file_that_connect_does_not_give_is_opened_where_it_lies(
    system: System, simulator: ConnectSimulator, s3: Any, run: Run, value: str
) -> None:
    s3.put_object(Bucket=BUCKET, Key="a b.wav", Body=b"sound")
    seeded(simulator, system, file("sound", Value=value), channel="CHAT")
    link = run("open", "a", "sound")
    assert link.startswith(f"https://{BUCKET}.s3.amazonaws.com/a%20b.wav?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
    assert "X-Amz-Expires=300&" in link


def test_an_analysis_is_opened_where_it_lies(system: System, simulator: ConnectSimulator, s3: Any, run: Run) -> None:
    s3.put_object(Bucket=BUCKET, Key="Analysis/1.json", Body=b"{}")
    location = f"https://{BUCKET}.s3.us-east-1.amazonaws.com/Analysis/1.json?X-Amz-Signature=old"
    seeded(simulator, system, file("lens", "ContactAnalysis", Value=location), channel="VOICE")
    link = run("open", "a", "lens")
    assert "/Analysis/1.json?X-Amz-Algorithm=" in link
    assert "old" not in link
    assert simulator.statistics()["operations"]["GetAttachedFile"]["calls"] == 0


def test_a_link_is_to_the_region_s_own_address() -> None:
    s3 = Clients(make_session(region_name="eu-west-1")).s3
    link = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "a"})
    assert link.startswith(f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&")


def test_a_file_that_is_not_there_is_told(system: System, simulator: ConnectSimulator, run: Run) -> None:
    seeded(
        simulator,
        system,
        file("lens", "ContactAnalysis", Value=f"s3://{BUCKET}/gone.json"),
        file("nowhere", "ContactAnalysis", Value="s3://no-such-bucket/x"),
    )
    capture(system, "a", *system.connect.contacts["a"], file("gone"))
    for name, bucket in (("lens", BUCKET), ("nowhere", "no-such-bucket")):
        assert run("open", "a", name, status=1) == (
            f"error: there is no such file in the bucket {bucket}: it may have been deleted"
        )
    assert "Connect does not have the file" in run("open", "a", "gone", status=1)


def test_a_location_that_the_role_may_not_read_is_told(
    system: System, simulator: ConnectSimulator, s3: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> Any:  # moto checks no permissions here
        raise s3.exceptions.ClientError(
            {"Error": {"Code": "403"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "HeadObject"
        )

    monkeypatch.setattr(s3, "head_object", refuse)
    seeded(simulator, system, file("lens", "ContactAnalysis", Value=f"s3://{BUCKET}/x"))
    assert f"your AWS role may not read the file in the bucket {BUCKET}" in run("open", "a", "lens", status=1)


def test_a_file_that_the_role_may_not_have_is_told(system: System, simulator: ConnectSimulator, run: Run) -> None:
    seeded(simulator, system, file("photo"))
    simulator.faults.inject({"operation": "GetAttachedFile", "kind": "access_denied"})
    assert "your AWS role may not do this: GetAttachedFile is denied" in run("open", "a", "photo", status=1)


@pytest.mark.parametrize("url", ["https://crm.example.com/1?a=b", f"https://{BUCKET}.s3.amazonaws.com/public.html"])
def test_a_url_is_a_link_itself(system: System, run: Run, url: str) -> None:
    capture(system, "a", {"Url": {"Name": "crm", "Value": url}})
    assert run("open", "a", "crm") == f"{url}\n"
    assert run("open", "a", "crm", reads_json=True) == {"url": url, "expires_at": None}


def test_what_has_nothing_to_open_is_told(system: System, run: Run) -> None:
    capture(system, "a", JANE, {"Attachment": {"Name": "photo", "Status": "APPROVED"}})
    assert "a reference of type EMAIL has nothing to open" in run("open", "a", "reply to", status=1)
    assert "says neither which file of Connect's" in run("open", "a", "photo", status=1)


def test_a_reference_that_is_not_there_or_not_alone_is_told(system: System, run: Run) -> None:
    capture(system, "a", JANE, {"Email": {"Name": "reply to", "Value": "j@example.com"}})
    capture(system, "empty")
    for name in ("0", "3", "cc"):
        assert "the contact has no such reference: `show` lists its 2" in run("open", "a", name, status=1)
    assert run("open", "a", "reply to", status=1) == "error: references 1, 2 have that name: give one's number"
    assert run("open", "empty", "1", status=1) == "error: the contact has no references"
