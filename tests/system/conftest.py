"""A deployed system, started and stopped as a person does: `python -m local up`, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from local.__main__ import main
from local.emulator import INSTANCE_ARN, ROOT, direct_open, kill_group
from local.system import Json, NotRunningError, System, find

INSTANCE_ID = INSTANCE_ARN.rpartition("/")[2]


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="session")
def system(directory: Path) -> Iterator[System]:
    log = directory / "up.log"
    command = [sys.executable, "-m", "local", "--directory", str(directory), "up"]
    environment = hostile_environment()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        ) as process,
    ):
        try:
            running = _wait_for_system(directory, process, log)
            yield running
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == 0, log.read_text()
        finally:
            kill_group(process)
    with pytest.raises(NotRunningError):
        find(directory)
    for url in (running.aws_url, running.connect_url):
        with pytest.raises(OSError, match="refused"):
            direct_open(url, timeout=5)
    assert not (directory / "tmp").exists()


def _wait_for_system(directory: Path, process: "subprocess.Popen[bytes]", log: Path) -> System:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return find(directory)
        except NotRunningError:
            time.sleep(0.1)
    pytest.fail(f"the system did not start:\n{log.read_text()}")


def hostile_environment() -> dict[str, str]:
    """The environment of a developer with an AWS profile and a proxy: nothing of it may be used."""
    return os.environ | {
        "AWS_PROFILE": "production",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",
        "AWS_REGION": "eu-west-3",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }


def run_command(directory: Path, *arguments: str, timeout: float = 90) -> "subprocess.CompletedProcess[str]":
    """Run `python -m local --directory … …` to its end."""
    command = [sys.executable, "-m", "local", "--directory", str(directory), *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=hostile_environment(), text=True, capture_output=True, timeout=timeout, check=False
    )


@pytest.fixture
def is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run `python -m local --directory …` in this process, which is to fail; return its standard error."""
    for name, value in hostile_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process is the test's, and ends as it does

    def run(directory: Path, *arguments: str, status: int = 1) -> str:
        try:
            ended_with: object = main(["--directory", str(directory), *arguments])
        except SystemExit as error:  # an argument that cannot be used
            ended_with = error.code
        assert ended_with == status
        return capsys.readouterr().err

    return run


@pytest.fixture
def run_local(system: System, directory: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run `python -m local …` against the running system."""

    def run(*arguments: str, where: Path = directory) -> "subprocess.CompletedProcess[str]":
        return run_command(where, *arguments)

    assert system.pid
    return run


@contextmanager
def configured(system: System, function: str, **variables: str) -> Iterator[None]:
    """Let a function, named by the output that has its name, have other environment variables for a while."""
    name, functions = system.outputs[function], system.clients.functions
    own = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": own | variables})
    try:
        yield
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": own})


class Contacts:
    """Contacts of the simulator, made for one test each."""

    def __init__(self, system: System) -> None:
        self._system = system

    def create(self, *references: Json, channel: str = "VOICE", **members: str) -> str:
        """Put an ended contact in place whose completion has not been reported."""
        contact_id = str(uuid4())
        contact = {
            "Id": contact_id,
            "InstanceId": INSTANCE_ID,
            "Channel": channel,
            "InitiationMethod": "INBOUND",
            "DisconnectTimestamp": "2026-03-02T09:30:00.000Z",
            "References": references,
        }
        self._system.control_connect("contacts", {"contacts": [contact | members]})
        return contact_id

    def complete(self, *contact_ids: str) -> None:
        """Let Connect report completions, and wait until the queue is empty."""
        for contact_id in contact_ids:
            self._system.control_connect(f"contacts/{contact_id}/complete", {})
        assert self._system.wait_until_drained(60)

    def rows(self, contact_id: str) -> tuple[Json | None, list[Json]]:
        """The contact's CONTACT item, and its rows that count, from the ledger."""
        items = [item for item in self._system.ledger() if item["contact_id"] == contact_id]
        entry = next((item for item in items if item["sk"] == "CONTACT"), None)
        return entry, [item for item in items if item["sk"] != "CONTACT"]


@pytest.fixture
def contacts(system: System) -> Contacts:
    return Contacts(system)
