"""`python -m connect_simulator`, and its README."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from connect_simulator import ConnectSimulator
from connect_simulator.__main__ import main
from connect_simulator.faults import KINDS
from connect_simulator.quota import default_quotas
from tests.connect_simulator.conftest import ROOT, UNLIMITED, seed, send


def test_the_process_says_where_it_is_serves_and_stops_on_sigterm() -> None:
    command = [sys.executable, "-m", "connect_simulator", "--port", "0", "--contacts", "local/contacts.json"]
    command += ["--drop-events", "0.25", "--repeat-events", "0.5", "--search-lag", "30"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, line
            with urllib.request.urlopen(f"{found[0]}/_simulator/contacts", timeout=10) as response:  # noqa: S310 - http
                contacts = json.load(response)["contacts"]
            with urllib.request.urlopen(f"{found[0]}/_simulator/disturbance", timeout=10) as response:  # noqa: S310 - http
                disturbance = json.load(response)
            with urllib.request.urlopen(f"{found[0]}/_simulator/search", timeout=10) as response:  # noqa: S310 - http
                flaws = json.load(response)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            output, errors = process.stdout.read(), process.stderr.read()
        finally:
            process.kill()

    with (ROOT / "local" / "contacts.json").open(encoding="utf-8") as file:
        assert [contact["Id"] for contact in contacts] == [contact["Id"] for contact in json.load(file)["contacts"]]
    assert disturbance == {"drop": 0.25, "repeat": 0.5}
    assert flaws == {"lag_seconds": 30, "total_count": True}
    assert f"ContactId='{contacts[0]['Id']}'" in output
    assert errors == ""


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--quota", "ListContactReferences"], "ListContactReferences=10"),
        (["--quota", "ListReferences=10"], "for example ListContactReferences=10"),
        (["--page-size", "0"], "for example 2"),
        (["--drop-events", "1.5"], '{"drop": 0.3, "repeat": 0.1}'),
        (["--repeat-events", "some"], "--repeat-events"),
        (["--search-lag", "-1"], '{"lag_seconds": 120, "total_count": false}'),
        (["--contacts", "pyproject.toml"], '{"contacts": ['),
        (["--contacts", "no-such-file.json"], "no-such-file.json"),
    ],
)
def test_the_process_names_an_option_it_cannot_use(options: list[str], problem: str) -> None:
    command = [sys.executable, "-m", "connect_simulator", *options]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)

    assert finished.returncode == 2
    assert problem in finished.stderr
    assert "Traceback" not in finished.stderr


README = (ROOT / "connect_simulator" / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_readme_prints_what_it_says() -> None:
    [example], [printed] = (
        re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) for language in ("python", "text")
    )
    environment = os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    finished = subprocess.run(
        [sys.executable, "-c", example],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (finished.stdout, finished.stderr) == (printed, "")


def test_help_shows_every_option_and_every_endpoint_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out

    paths = set(re.findall(r"/_simulator/[\w/]+", README))
    assert paths == set(re.findall(r"/_simulator/[\w/]+", shown))
    assert len(paths) == 9
    assert set(re.findall(r"(?<!\S)`?(--[a-z-]+)", README)) <= set(re.findall(r"--[a-z-]+", shown))
    assert max(map(len, shown.partition("examples:")[2].splitlines())) <= 120


@pytest.mark.parametrize(
    ("methods", "path"),
    re.findall(r"^\| ((?:`?[A-Z]+`?, )*`?[A-Z]+) (/_simulator/[\w/]+)`", README, re.MULTILINE),
)
def test_every_endpoint_of_the_readme_is_there(simulator: ConnectSimulator, methods: str, path: str) -> None:
    simulator.import_contacts([seed("ID")])
    for method in re.findall("[A-Z]+", methods):
        status, answer = send(simulator, method, path, "{}")
        assert (status, "no control endpoint" in str(answer)) in {(200, False), (400, False)}


def test_the_readme_names_every_operation_and_every_kind_of_fault() -> None:
    operations = README.partition("## What it answers")[2].partition("## How")[0]
    assert {name for name in UNLIMITED if name in operations} == set(UNLIMITED) == set(default_quotas())
    kinds = README.partition("## Faults")[2].partition("It can be narrowed")[0]
    assert set(re.findall(r"`(\w+)`", kinds.partition("|---|")[2])) == set(KINDS)
