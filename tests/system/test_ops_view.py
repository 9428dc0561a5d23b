"""The page of the deployed system, as the command serves it."""

import re
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

import pytest

from local.emulator import ROOT, direct_open, kill_group
from local.system import System
from tests.system.conftest import Contacts, hostile_environment, run_command


def test_view_serves_the_page_until_ctrl_c(system: System, directory: Path, contacts: Contacts) -> None:
    contact_id = contacts.create({"Email": {"Name": "from", "Value": "View@Example.com"}})
    contacts.complete(contact_id)
    assert system.pid
    command = [sys.executable, "-m", "local", "--directory", str(directory), "view"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=hostile_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)
            assert port, address
            for path, words in (
                ("", "Completed contacts by hour"),
                ("search?q=view@example.com", f"{contact_id}</a>"),
                (f"search?q={contact_id}", "The first one."),
                ("dead-letters", "<h1>Dead letters</h1>"),
            ):
                with direct_open(address + path, timeout=60) as answer:
                    assert words in answer.read().decode(), path
            with pytest.raises(urllib.error.HTTPError, match="404"):
                direct_open(f"{address}none", timeout=60)
            taken = run_command(directory, "view", "--port", port[1])
            assert taken.returncode == 1
            assert taken.stderr.startswith(f"error: port {port[1]} cannot be used")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            kill_group(process)
    assert (process.returncode, err) == (0, "")
    assert "view@example.com" not in out.lower()
