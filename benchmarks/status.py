"""How long the operator's `status` takes on the local system, beside a command that asks nothing.

The system has captured its sample contacts, has dead letters, and has reconciled, so that each part has something to
say. Each round runs both commands, each in a process of its own.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import ProcessorTime, Section, spread, table, tell, verdict
from local.delivery import read_event
from local.emulator import ROOT
from local.system import sample_contacts, start

_BAR_SECONDS = 2.0
_COMMANDS = {"status": ("status",), "status --json": ("status", "--json"), "--help": ("--help",)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Take the rounds."""
    parser.add_argument("--rounds", type=int, default=10, help="processes of each command (default: %(default)s)")


def run(options: argparse.Namespace) -> list[Section]:
    """Measure: medians of the rounds, with the least and the most."""
    seconds: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    with TemporaryDirectory() as name, start(Path(name), report=tell) as system:
        for contact in sample_contacts():
            system.control_connect(f"contacts/{contact['Id']}/complete", {})
        system.send(read_event(ROOT / "events" / "missing-contact-id.json"))
        if not system.wait_until_drained(120):
            tell("the queue is not empty: the figures are those of a system at work")
        system.clients.functions.invoke(FunctionName=system.outputs["ReconcileFunctionName"], Payload=b"{}")
        processors = ProcessorTime()
        for number in range(options.rounds):
            for command, arguments in _COMMANDS.items():
                seconds[command].append(_time(Path(name), arguments))
            tell(f"round {number + 1} of {options.rounds}")
        idle = str(processors)
    rows = [
        [
            f"`{command}`",
            spread(taken, ".2f") + " s",
            spread([mine / plain for mine, plain in zip(taken, seconds["--help"], strict=True)], ".1f"),
            verdict(statistics.median(taken) <= _BAR_SECONDS) if command != "--help" else "",
        ]
        for command, taken in seconds.items()
    ]
    body = table(["command", "time", "over `--help` in the same round", f"bar of {_BAR_SECONDS:g} s is"], rows)
    return [
        Section("status", "The operator's status", f"{body}\n\n{options.rounds} rounds in turns; processors {idle}.")
    ]


def _time(directory: Path, arguments: Sequence[str]) -> float:
    command = [sys.executable, "-m", "local", "--directory", str(directory), *arguments]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1):  # 1 says that something is red
        raise RuntimeError(f"`{' '.join(arguments)}` ended with status {done.returncode}")
    return time.monotonic() - began
