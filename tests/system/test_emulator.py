"""The emulator's process: it and what it starts end with whoever started it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from local.emulator import ROOT, SERVICE_EVENTS_PATH, Clients, Emulator, LocalSystemError, direct_open

_CONNECT_URL = "http://127.0.0.1:9"
_FUNCTION = """
import os, time
def handler(event, context):
    with open(event["file"], "w") as file:
        file.write(str(os.getpid()))
    time.sleep(event["seconds"])
    return os.environ["AWS_ENDPOINT_URL_CONNECT"]
"""


def create_function(clients: Clients) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("index.py", _FUNCTION)
    clients.functions.create_function(
        FunctionName="sleeper",
        Runtime="python3.13",
        Role="arn:aws:iam::111122223333:role/synthetic",
        Handler="index.handler",
        Code={"ZipFile": archive.getvalue()},
        Timeout=300,
    )


def run_function(clients: Clients, file: Path, *, seconds: int) -> int:
    """Start an invocation without waiting for its end; returns the id of the process it runs in."""
    payload = json.dumps({"file": str(file), "seconds": seconds}).encode()
    clients.functions.invoke(FunctionName="sleeper", InvocationType="Event", Payload=payload)
    eventually(lambda: file.exists() and file.read_text() != "")
    return int(file.read_text())


def eventually(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/stat").exists():
            return True
        # A process that ended but was not collected by its parent yet still has its id.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_functions_are_told_where_connect_is_and_end_with_the_emulator(tmp_path: Path) -> None:
    with Emulator(tmp_path / "emulator") as emulator:
        emulator.start(connect_url=_CONNECT_URL)
        clients = Clients(aws_url=emulator.url, connect_url=_CONNECT_URL)
        create_function(clients)
        payload = json.dumps({"file": str(tmp_path / "first"), "seconds": 0}).encode()
        answer = clients.functions.invoke(FunctionName="sleeper", Payload=payload)
        assert json.loads(answer["Payload"].read()) == _CONNECT_URL
        busy = run_function(clients, tmp_path / "second", seconds=200)
        assert is_running(busy)
    eventually(lambda: not is_running(busy))
    assert not is_running(int((tmp_path / "first").read_text()))
    with pytest.raises(OSError, match="refused"):
        direct_open(f"{emulator.url}/_ministack/health", timeout=5)
    assert [path.name for path in (tmp_path / "emulator").iterdir()] == ["emulator.log"]


def test_the_emulator_ends_even_when_its_starter_is_killed(tmp_path: Path) -> None:
    code = """
import pathlib, sys, time
from local.emulator import Emulator
with Emulator(pathlib.Path(sys.argv[1])) as emulator:
    emulator.start(connect_url="http://127.0.0.1:9")
    print(emulator.url, flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        direct_open(url + "/_ministack/health", timeout=10).close()
        starter.send_signal(signal.SIGKILL)

    def is_gone() -> bool:
        try:
            direct_open(url + "/_ministack/health", timeout=5).close()
        except OSError:
            return True
        return False

    eventually(is_gone)


def test_what_is_kept_is_there_again_at_the_same_address(tmp_path: Path) -> None:
    for run in (1, 2):
        with Emulator(tmp_path, keep=True) as emulator:
            emulator.start(connect_url=_CONNECT_URL)
            clients = Clients(aws_url=emulator.url, connect_url=_CONNECT_URL)
            if run == 1:
                url = clients.sqs.create_queue(QueueName="kept")["QueueUrl"]
                clients.sqs.send_message(QueueUrl=url, MessageBody="message")
                clients.s3.create_bucket(Bucket="kept")
                clients.s3.put_object(Bucket="kept", Key="object", Body=b"content")
            else:
                assert clients.sqs.get_queue_url(QueueName="kept")["QueueUrl"] == url
                assert clients.sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "message"
                assert clients.s3.get_object(Bucket="kept", Key="object")["Body"].read() == b"content"
    with pytest.raises(LocalSystemError, match="belongs to port"):
        Emulator(tmp_path, keep=True, port=1)


def test_put_events_refuses_what_only_services_may_send(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emulator:
        emulator.start(connect_url=_CONNECT_URL)
        events = Clients(aws_url=emulator.url, connect_url=_CONNECT_URL).events
        answer = events.put_events(Entries=[{"Source": "aws.connect", "DetailType": "synthetic", "Detail": "{}"}])
        assert answer["Entries"][0]["ErrorCode"] == "NotAuthorizedForSourceException"
        with pytest.raises(OSError, match="400"):
            direct_open(emulator.url + SERVICE_EVENTS_PATH, timeout=5)


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with Emulator(tmp_path) as first, pytest.raises(LocalSystemError, match="in use"):
        Emulator(tmp_path, port=int(first.url.rpartition(":")[2]))
