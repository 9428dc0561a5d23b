"""The command line of the local system: `python -m local --help`."""

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError

from contact_references.model.errors import CaptureError
from local.delivery import deliver, read_event
from local.demo import run_demo
from local.emulator import LocalSystemError
from local.progress import show_drain
from local.system import DIRECTORY, System, find, start
from ops.backfill import has_run
from ops.backfill import reconcile as invoke_reconcile
from ops.console import make_console
from ops.errors import OpsError, explain
from ops.toolkit import add_commands

if TYPE_CHECKING:
    from ops.deployment import FindDeployment

_PROGRAM = "python -m local"
_RECONCILE_EPILOG = """\
Examples: python -m local reconcile, or without waiting long for the queue: python -m local reconcile --wait 5

Exit status: 0 if all is done; 1 if another run is at work, it failed, or messages are left in the queue.
"""

app = typer.Typer(
    name=_PROGRAM,
    help="The production stacks on this machine: an AWS emulator and an Amazon Connect simulator.",
    epilog="""\
Examples:

python -m local demo: see the whole job once, from deployment to rows

python -m local up: keep a system running until Ctrl-C; then, in another terminal, all other commands

python -m local send events/completed-voice.json: put an event on its bus, and see what becomes of it

python -m local status: see what a person should act on
""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_WaitOption = Annotated[float, typer.Option(metavar="SECONDS", help="For the queue.")]


@app.callback()
def choose(
    context: typer.Context,
    directory: Annotated[Path, typer.Option(help="Where the system keeps its files.")] = DIRECTORY,
) -> None:
    """The production stacks on this machine: an AWS emulator and an Amazon Connect simulator."""
    find_system: FindDeployment = lambda: find(directory).deployment  # noqa: E731
    context.obj = find_system
    context.meta["directory"] = directory


def _directory(context: typer.Context) -> Path:
    directory: Path = context.meta["directory"]
    return directory


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):  # both end it in order, also where a shell's `&` has SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        app(arguments, prog_name=_PROGRAM)
    except SystemExit as end:
        return int(end.code or 0)
    except LocalSystemError as error:
        print(f"error: {error}", file=sys.stderr)
    except (OpsError, CaptureError, BotoCoreError, ClientError) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
    return 1


@app.command()
def up(
    context: typer.Context,
    *,
    port: Annotated[int, typer.Option(help="Of the AWS emulator; 0 for a free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Go on with the data of the last run with --keep.")] = False,
) -> None:
    """Start a system and keep it running until Ctrl-C."""
    try:
        with start(_directory(context), port=port, keep=keep, report=_report) as system:
            print(_guide(system), flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("Stopped.")


def _report(step: str) -> None:
    print(step, flush=True)


def _guide(system: System) -> str:
    width = max(map(len, system.outputs))
    outputs = "\n".join(f"  {name:<{width}}  {value}" for name, value in sorted(system.outputs.items()))
    return f"""
Outputs of the stacks:
{outputs}

Send an event, run the function by hand:
  python -m local send events/completed-voice.json
  python -m local invoke events/completed-voice.json

Find contacts whose events never came, see which hours are accounted for:
  python -m local reconcile
  python -m local coverage

See what a person should act on, and all other commands:
  python -m local status
  python -m local --help

Look at it in the browser:
  python -m local view

Look with the AWS CLI (any credentials will do) or with boto3:
  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url {system.aws_url} dynamodb scan --table-name {system.outputs["TableName"]}
  aws --endpoint-url {system.aws_url} s3 ls --recursive s3://{system.outputs["BucketName"]}
  boto3.client("connect", endpoint_url="{system.connect_url}")

Contacts of the simulator, and how to complete one:
  curl {system.connect_url}/_simulator/contacts
  curl -X POST {system.connect_url}/_simulator/contacts/CONTACT_ID/complete

Running. Ctrl-C stops it."""


@app.command()
def send(
    context: typer.Context,
    *,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Events, as in events/.")],
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="For each.")] = 60,
) -> None:
    """Put events on the running system's bus, and tell what becomes of them."""
    events = {path: read_event(path) for path in files}
    system = find(_directory(context))
    settled = True
    for path, event in events.items():
        delivery = deliver(system, event, seconds=wait)
        print(f"{path}: {delivery.text}", flush=True)
        settled &= delivery.is_settled
    if not settled:
        raise typer.Exit(1)


@app.command()
def invoke(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="Its payload, as in events/.")]
) -> None:
    """Run the deployed capture function by hand, and print what it returns."""
    try:
        payload = file.read_bytes()
    except OSError as error:
        raise LocalSystemError(f"{file}: {error.strerror}; an example is events/completed-voice.json") from None
    system = find(_directory(context))
    answer = system.clients.functions.invoke(FunctionName=system.outputs["CaptureFunctionName"], Payload=payload)
    result = answer["Payload"].read().decode()
    if "FunctionError" in answer:
        print(f"the function failed: {result}", file=sys.stderr)
        raise typer.Exit(1)
    print(result)


@app.command(epilog=_RECONCILE_EPILOG)
def reconcile(context: typer.Context, wait: _WaitOption = 60) -> None:
    """Find contacts whose events never came, and capture them.

    The deployed reconcile function runs as its schedule has it run: the hours that are due are searched, contacts
    without a capture are asked for, and those that may have changed are asked for again. The first run begins with the
    last day.
    """
    system, console = find(_directory(context)), make_console()
    before = _captures(system)
    answer = invoke_reconcile(system.deployment)
    print(f"{answer['outcome']}: {answer['requested']} contacts asked for", flush=True)
    if not has_run(answer):
        raise typer.Exit(1)
    is_drained = show_drain(system, console, what="Capturing at the API's pace", seconds=wait)
    after = _captures(system)
    new, read_again = after.keys() - before.keys(), sum(before[pk] != after[pk] for pk in before.keys() & after.keys())
    print(f"{len(new)} contacts captured that were not before, {read_again} of the others read again.")
    print("`python -m local coverage` shows the hours.")
    if not is_drained:
        raise typer.Exit(1)


def _captures(system: System) -> dict[str, str]:
    """When each captured contact was read last."""
    return {item["pk"]: item["checked_at"] for item in system.ledger() if item["sk"] == "CONTACT"}


@app.command()
def demo(context: typer.Context) -> None:
    """Play a small day from deployment to rows, and check that all is there."""
    raise typer.Exit(run_demo(_directory(context) / "demo"))


add_commands(app)

if __name__ == "__main__":
    sys.exit(main())
