"""A fresh local AWS and Connect for one measurement, with the stacks deployed as the measurement needs them."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.traffic import OPERATION
from connect_simulator import ConnectSimulator
from local.deployment import CDK
from local.emulator import ACCOUNT, REGION, ROOT, Clients, Emulator, child_environment


class Site(NamedTuple):
    """Where AWS and Connect answer, and a directory that is gone afterwards."""

    aws_url: str
    connect: ConnectSimulator
    clients: Clients
    directory: Path


@contextmanager
def start(*, quota: float) -> Iterator[Site]:
    """Start the emulator, bootstrapped, and the simulator, with a quota of so many requests a second."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Emulator(directory) as emulator, ConnectSimulator(quotas={OPERATION: quota}) as simulator:
            emulator.start(connect_url=simulator.url)
            clients = Clients(aws_url=emulator.url, connect_url=simulator.url)
            site = Site(emulator.url, simulator, clients, directory)
            _cdk(site, "bootstrap", f"aws://{ACCOUNT}/{REGION}", "--app=")
            yield site


def deploy(site: Site, *options: str, context: Mapping[str, str] | None = None) -> dict[str, str]:
    """Deploy with the CDK CLI and return the outputs of all stacks by name."""
    outputs = site.directory / "outputs.json"
    settings = [f"--context={key}={value}" for key, value in (context or {}).items()]
    files = [f"--output={site.directory / 'cdk.out'}", f"--outputs-file={outputs}"]
    _cdk(site, "deploy", "--all", "--require-approval=never", *options, *settings, *files)
    stacks: dict[str, dict[str, str]] = json.loads(outputs.read_text())
    return {name: value for stack in stacks.values() for name, value in stack.items()}


def _cdk(site: Site, *arguments: str) -> None:
    finished = subprocess.run(
        [CDK, *arguments, "--no-notices", "--no-color", "--progress=events"],
        cwd=ROOT,
        env=child_environment(site.aws_url) | {"CDK_HOME": str(site.directory), "CDK_DISABLE_CLI_TELEMETRY": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"cdk {' '.join(arguments)}:\n{finished.stdout}")
