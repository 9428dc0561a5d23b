"""The command line of the local system: `python -m local --help`."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from local.delivery import deliver, read_event
from local.demo import run_demo
from local.emulator import LocalSystemError
from local.progress import make_console, show_backfill, show_drain
from local.reconciling import describe, reconcile, start_backfill
from local.system import DIRECTORY, System, find, start

_EXAMPLES = """\
examples:
  python -m local demo                              see the whole job once, from deployment to rows
  python -m local up                                keep a system running until Ctrl-C, then in another terminal:
  python -m local send events/completed-voice.json  put an event on its bus, and see what becomes of it
  python -m local invoke events/completed-voice.json  run the deployed capture function by hand
  python -m local reconcile                         capture contacts of the last hours that no event told of
  python -m local backfill --from 2026-03-01 --to 2026-03-03  the same for a period, by the state machine
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends in order, like Ctrl-C
    try:
        return int(options.command(options))
    except LocalSystemError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.")
        return 0 if options.command is _up else 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="The production stacks on this machine: an AWS emulator and an Amazon Connect simulator.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--directory", type=Path, default=DIRECTORY, help="where the system keeps its files (.local in the project)"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start a system and keep it running until Ctrl-C")
    up.add_argument("--port", type=int, default=0, help="of the AWS emulator (a free one)")
    up.add_argument("--keep", action="store_true", help="go on with the data of the last run with --keep")
    up.set_defaults(command=_up)

    send = commands.add_parser("send", help="put events on the running system's bus, tell what becomes of them")
    send.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an event, as in events/")
    send.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for each (%(default)g)")
    send.set_defaults(command=_send)

    invoke = commands.add_parser("invoke", help="run the deployed capture function by hand, print what it returns")
    invoke.add_argument("file", type=Path, metavar="FILE", help="its payload, as in events/")
    invoke.set_defaults(command=_invoke)

    again = commands.add_parser(
        "reconcile", help="find and capture contacts that were missed, of the last hours or a period"
    )
    _add_period(again, is_required=False)
    again.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for the queue (%(default)g)")
    again.set_defaults(command=_reconcile)

    backfill = commands.add_parser(
        "backfill", help="walk a past period a day at a time with the state machine, to its end"
    )
    _add_period(backfill, is_required=True)
    backfill.set_defaults(command=_backfill)

    demo = commands.add_parser("demo", help="play a small day from deployment to rows, and check that all is there")
    demo.set_defaults(command=lambda options: run_demo(options.directory / "demo"))
    return parser


def _add_period(parser: argparse.ArgumentParser, *, is_required: bool) -> None:
    what = "UTC, such as 2026-03-02 or 2026-03-02T09:30Z"
    parser.add_argument(
        "--from", dest="start", metavar="TIME", required=is_required, help=f"when the period begins; {what}"
    )
    parser.add_argument("--to", dest="end", metavar="TIME", required=is_required, help="when it ends, likewise")


def _read_period(options: argparse.Namespace) -> dict[str, str]:
    given = {"from": options.start, "to": options.end}
    return {name: value for name, value in given.items() if value is not None}


def _up(options: argparse.Namespace) -> int:
    with start(options.directory, port=options.port, keep=options.keep, report=_report) as system:
        print(_guide(system), flush=True)
        threading.Event().wait()
    return 0


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

Capture what no event told of:
  python -m local reconcile --from 2026-03-02 --to 2026-03-03

Look with the AWS CLI (any credentials will do) or with boto3:
  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_DEFAULT_REGION=us-east-1
  aws --endpoint-url {system.aws_url} dynamodb scan --table-name {system.outputs["TableName"]}
  aws --endpoint-url {system.aws_url} s3 ls --recursive s3://{system.outputs["BucketName"]}
  boto3.client("connect", endpoint_url="{system.connect_url}")

Contacts of the simulator, and how to complete one:
  curl {system.connect_url}/_simulator/contacts
  curl -X POST {system.connect_url}/_simulator/contacts/CONTACT_ID/complete

Running. Ctrl-C stops it."""


def _send(options: argparse.Namespace) -> int:
    events = {path: read_event(path) for path in options.files}
    system = find(options.directory)
    settled = True
    for path, event in events.items():
        delivery = deliver(system, event, seconds=options.wait)
        print(f"{path}: {delivery.text}", flush=True)
        settled &= delivery.is_settled
    return 0 if settled else 1


def _invoke(options: argparse.Namespace) -> int:
    try:
        payload = options.file.read_bytes()
    except OSError as error:
        raise LocalSystemError(f"{options.file}: {error.strerror}; an example is events/completed-voice.json") from None
    system = find(options.directory)
    answer = system.clients.functions.invoke(FunctionName=system.outputs["CaptureFunctionName"], Payload=payload)
    result = answer["Payload"].read().decode()
    if "FunctionError" in answer:
        print(f"the function failed: {result}", file=sys.stderr)
        return 1
    print(result)
    return 0


def _reconcile(options: argparse.Namespace) -> int:
    system, console = find(options.directory), make_console()
    result = reconcile(system, _read_period(options))
    print(describe(result), flush=True)
    drained = show_drain(system, console, what="Capturing at the API's pace", seconds=options.wait)
    if not result["done"]:
        print("the function's time was over before the period was: run it again", file=sys.stderr)
    return 0 if drained and result["done"] else 1


def _backfill(options: argparse.Namespace) -> int:
    system, console = find(options.directory), make_console()
    execution_arn = start_backfill(system, _read_period(options))
    print(f"Backfill {execution_arn.rpartition(':')[2]} has started, and goes on if this command ends.", flush=True)
    print(f"Done: {describe(show_backfill(system, console, execution_arn))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
