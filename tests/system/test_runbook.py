"""Every command of docs/runbook.md, run on the deployed system in the order in which it stands there."""

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config

from local.emulator import INSTANCE_ARN, REGION, ROOT
from local.system import System
from tests.system.aws_commands import run_aws
from tests.system.conftest import Contacts

if TYPE_CHECKING:
    from subprocess import CompletedProcess

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8").partition("\n## Worked example\n")[0]
# The shell's own, and the deployment, which is how this system came to be.
NOT_RUN = {". .venv/bin/activate", "export CONTACT_REFERENCES_STAGE=prod"}
DEPLOYMENT = 'npx cdk deploy --all --revert-drift -c stage="$CONTACT_REFERENCES_STAGE"'


def commands() -> list[str]:
    """Return the commands, each once, where it stands first."""
    lines = [line for block in RUNBOOK.split("```")[1::2] for line in block.strip().splitlines()]
    return [line for line in dict.fromkeys(lines) if line not in {*NOT_RUN, DEPLOYMENT}]


@pytest.fixture
def variables(system: System, contacts: Contacts) -> dict[str, str]:
    """What the runbook says of its variables; a contact that is captured, two that Connect refuses."""
    contact_id = contacts.create({"Url": {"Name": "Case", "Value": "https://example.com/case"}})
    refused = [contacts.create(DisconnectTimestamp="2026-03-02T09:30:00.000Z") for _ in range(3)]
    for refused_id in refused:
        fault = {"operation": "ListContactReferences", "kind": "invalid_parameter", "contact": refused_id}
        system.control_connect("faults", fault)
    contacts.complete(contact_id, *refused)
    today = datetime.now(UTC).date()
    return {
        **system.outputs,
        "CONTACT_REFERENCES_STAGE": "dev",
        "CONTACT": contact_id,
        "INSTANCE": INSTANCE_ARN,
        "FROM": f"{today - timedelta(days=1)}",
        "TO": f"{today}",
        "ERROR": "InvalidParameterException",
        "RESTORED": f"{system.outputs['TableName']}-restored",
    }


def test_every_command_of_the_runbook_runs_on_the_deployed_system(
    system: System, variables: dict[str, str], run_local: Callable[..., "CompletedProcess[str]"]
) -> None:
    def make_client(service: str) -> BaseClient:
        client: BaseClient = session.client(service, endpoint_url=system.aws_url, config=Config(proxies={}))  # type: ignore[call-overload]
        return client

    session = boto3.Session("test", "test", region_name=REGION)
    letters = system.clients.sqs.receive_message(
        QueueUrl=system.outputs["DeadLetterQueueUrl"], VisibilityTimeout=0, WaitTimeSeconds=1
    )["Messages"]
    variables["MESSAGE"] = letters[0]["MessageId"]
    assert len(commands()) > 20
    for command in commands():
        if command.startswith("aws "):
            run_aws(command, make_client, variables)
        else:
            assert command.startswith("python -m ops "), command
            words = [re.sub(r"\$(\w+)", lambda name: variables[name[1]], word) for word in shlex.split(command)]
            done = run_local(*words[3:])
            allowed = {0, 1} if words[3] == "status" else {0}
            assert done.returncode in allowed, f"{command}\n{done.stdout}{done.stderr}"
    system.control_connect("faults", method="DELETE")
