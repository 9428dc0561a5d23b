"""Dead letters on the deployed system: listed with their reasons, and back on the queue after a fix."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import typer

from local.emulator import INSTANCE_ARN
from local.system import Json, System
from ops import dead_letters
from ops.__main__ import main
from ops.deployment import Deployment
from tests.system.conftest import Contacts


@pytest.fixture
def run(system: System, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command, and return its JSON."""
    app = typer.Typer()
    dead_letters.register(app)

    @app.callback()
    def choose(context: typer.Context) -> None:
        context.obj = lambda: Deployment("dev", system.clients, system.outputs)

    def run_command(*arguments: str) -> Any:
        assert main(app, ["dead-letters", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run_command


def request(instance_arn: str, contact_id: str) -> Json:
    """A capture request of a person."""
    detail = {"instanceArn": instance_arn, "contactId": contact_id, "reason": "tried by hand"}
    return {
        "source": "contact-references",
        "detail-type": "Contact Capture Request",
        "time": "2026-03-02T09:31:00.000Z",
        "id": str(uuid4()),
        "detail": detail,
    }


def test_dead_letters_of_one_error_come_back_after_the_fix_and_others_when_asked_for(
    system: System, contacts: Contacts, run: Callable[..., Any]
) -> None:
    foreign, unknown = str(uuid4()), str(uuid4())
    system.send(request(INSTANCE_ARN.replace("us-east-1", "eu-west-1"), foreign))
    system.send(request(INSTANCE_ARN, unknown))
    assert system.wait_until_drained(60)
    letters = {letter["contact_id"]: letter for letter in run("list")["dead_letters"]}
    assert (letters[foreign]["error"], letters[unknown]["error"]) == ("ForeignContact", "ResourceNotFoundException")
    shown = run("show", letters[foreign]["message_id"])
    assert shown["body"]["detail"]["contactId"] == foreign

    contacts.create({"String": {"Name": "case", "Value": "1"}}, Id=unknown)
    total = run("list")["total"]
    found = run("list")["groups"]
    [of_error] = [group["count"] for group in found if group["error"] == "ResourceNotFoundException"]
    redriven = run("redrive", "--error", "ResourceNotFoundException", "--yes")
    assert redriven == {"moved": of_error, "left": total - of_error}
    assert system.wait_until_drained(60)
    item, rows = contacts.rows(unknown)
    assert item is not None
    assert len(rows) == 1

    before = run("list")["total"]
    assert run("redrive", "--yes")["moved"] == before
    assert system.wait_until_drained(60)
    letters = {letter["contact_id"]: letter for letter in run("list")["dead_letters"]}
    assert letters[foreign]["error"] == "ForeignContact", "it failed again, and is not lost"
