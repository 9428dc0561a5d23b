"""Looking contacts up and opening their files on the deployed system."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import typer

from local.emulator import INSTANCE_ARN, direct_open
from local.system import System
from ops import contacts as commands
from ops.__main__ import main
from ops.deployment import Deployment
from tests.system.conftest import Contacts


@pytest.fixture
def run(system: System, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command, and return its JSON, or its error if it ends with another status than 0."""
    app = typer.Typer()
    commands.register(app)

    @app.callback()
    def choose(context: typer.Context) -> None:
        context.obj = lambda: Deployment("dev", system.clients, system.outputs)

    def run_command(*arguments: str, status: int = 0) -> Any:
        assert main(app, [*arguments, "--json"]) == status
        captured = capsys.readouterr()
        return captured.err if status else json.loads(captured.out)

    return run_command


def test_a_contact_is_shown_found_by_a_value_and_its_file_opened(
    system: System, contacts: Contacts, run: Callable[..., Any]
) -> None:
    address, bucket = f"{uuid4()}@example.com", f"analysis-{uuid4()}"
    system.clients.s3.create_bucket(Bucket=bucket)
    system.clients.s3.put_object(Bucket=bucket, Key="lens 1.json", Body=b'{"Channel": "EMAIL"}')
    photo = {"Name": "photo", "Arn": f"{INSTANCE_ARN}/file/{uuid4()}", "Status": "APPROVED"}
    lens = {"Name": "lens", "Value": f"s3://{bucket}/lens 1.json", "Status": "AVAILABLE"}
    references = ({"Email": {"Name": "from", "Value": address}}, {"Attachment": photo}, {"ContactAnalysis": lens})
    contact_id = contacts.create(*references, channel="EMAIL")
    contacts.complete(contact_id)

    shown = run("show", contact_id)
    assert (shown["channel"], shown["reference_count"], shown["completion_seen"]) == ("EMAIL", 3, True)
    assert {reference["reference_name"] for reference in shown["references"]} == {"from", "photo", "lens"}
    [match] = run("find", "EMAIL", address.upper())["matches"]
    assert match["contact_id"] == contact_id
    assert photo["Arn"].rpartition("/")[2] in run("open", contact_id, "photo")["url"]
    with direct_open(run("open", contact_id, "lens")["url"], timeout=10) as answer:
        assert answer.read() == b'{"Channel": "EMAIL"}'
    system.clients.s3.delete_object(Bucket=bucket, Key="lens 1.json")
    assert "there is no such file in the bucket" in run("open", contact_id, "lens", status=1)
    assert "the contact is not captured" in run("show", str(uuid4()), status=1)
