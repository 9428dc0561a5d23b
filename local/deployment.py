"""Deploys the production stacks to the emulator, with the CDK CLI that package-lock.json pins."""

import fcntl
import json
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from local.emulator import ACCOUNT, REGION, ROOT, LocalSystemError, child_environment, kill_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from local.emulator import Clients

CDK = str(ROOT / "node_modules" / ".bin" / "cdk")
"""AWS's own CDK CLI, which `make setup` installs; it finds Node on the PATH of `child_environment`."""

# Shared by all runs: the CDK builds the functions' asset again only when the one it needs is not in here.
_CLOUD_ASSEMBLY = ROOT / ".local" / "cdk.out"

_RUNS_LAMBDA_S_WHEELS = (sys.platform, platform.machine(), sys.version_info[:2]) == ("linux", "x86_64", (3, 13))


def deploy(
    aws_url: str, clients: "Clients", *, context: "Mapping[str, str]", log: "Path", report: "Callable[[str], None]"
) -> dict[str, str]:
    """Bootstrap the emulator's account if it is not, and deploy all stacks.

    Args:
        aws_url: where the emulator answers.
        clients: of the same emulator.
        context: CDK context that differs from cdk.json.
        log: file for all that the CDK CLI prints.
        report: told each step.

    Returns:
        The outputs of all stacks, `TableName` and so on, by name, without what stacks export for each other.

    Raises:
        LocalSystemError: the CDK CLI failed; the message is what it printed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    if not _is_bootstrapped(clients):
        report("Bootstrapping the account …")
        # Outside the project: with an app in sight the CLI synthesizes it, for nothing.
        bootstrap = ["bootstrap", f"aws://{ACCOUNT}/{REGION}"]
        _cdk(bootstrap, directory=log.parent, aws_url=aws_url, log=log, report=report)
    report("Synthesizing and deploying the stacks …")
    outputs = log.with_suffix(".outputs.json")
    outputs.unlink(missing_ok=True)
    deploy_all = ["deploy", "--all", "--require-approval=never", "--progress=events"]
    # Nobody is to be told, whoever cdk.json names: what tells people are composite alarms, which the emulator refuses.
    settings = {"alarmEmail": " ", **context}
    deploy_all += [f"--context={key}={value}" for key, value in settings.items()]
    files = ["--output", str(_CLOUD_ASSEMBLY), "--outputs-file", str(outputs)]
    _CLOUD_ASSEMBLY.parent.mkdir(parents=True, exist_ok=True)
    with _CLOUD_ASSEMBLY.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the CDK refuses to share: another system's deployment ends first
        _cdk([*deploy_all, *files], directory=ROOT, aws_url=aws_url, log=log, report=report)
    stacks: dict[str, dict[str, str]] = json.loads(outputs.read_text())
    return {
        name: value
        for stack in stacks.values()
        for name, value in stack.items()
        if not name.startswith("ExportsOutput")
    }


def _is_bootstrapped(clients: "Clients") -> bool:
    try:
        clients.cloudformation.describe_stacks(StackName="CDKToolkit")
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":  # CloudFormation's word for "no such stack"
            return False
        raise
    return True


def _cdk(
    arguments: list[str], *, directory: "Path", aws_url: str, log: "Path", report: "Callable[[str], None]"
) -> None:
    environment = child_environment(aws_url) | {
        "CDK_HOME": str(ROOT / ".local" / "cdk"),
        "CDK_DISABLE_VERSION_CHECK": "true",
        "NO_COLOR": "1",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
    }
    if not _RUNS_LAMBDA_S_WHEELS:
        environment["CONTACT_REFERENCES_LOCAL_WHEELS"] = "1"  # infra/asset.py
    command = [CDK, *arguments, "--no-notices", "--no-color"]
    lines = []
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C in a terminal reaches only this process, which then ends the CLI
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                lines.append(line)
                file.write(line)
                if line.lstrip().startswith("✅"):
                    report(line.strip())
            code = process.wait()
        finally:
            kill_group(process)
    if code:
        raise LocalSystemError(f"`{' '.join(command)}` failed with code {code}:\n{''.join(lines)}")
