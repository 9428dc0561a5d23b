"""The command line of the local system: `python -m local --help`."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from local.delivery import deliver, read_event
from local.demo import run_demo
from local.emulator import LocalSystemError
from local.system import DIRECTORY, System, find, start

_EXAMPLES = """\
examples:
  python -m local demo                              see the whole job once, from deployment to rows
  python -m local up                                keep a system running until Ctrl-C, then in another terminal:
  python -m local send events/completed-voice.json  put an event on its bus, and see what becomes of it
  python -m local invoke events/completed-voice.json  run the deployed capture function by hand
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

    demo = commands.add_parser("demo", help="play a small day from deployment to rows, and check that all is there")
    demo.set_defaults(command=lambda options: run_demo(options.directory / "demo"))
    return parser


def _up(options: argparse.Namespace) -> int:
    with start(options.directory, port=options.port, keep=options.keep, report=_report) as system:
        print(_guide(system), flush=True)
        threading.Event().wait()
    return 0


def _report(step: str) -> None:
    print(step, flush=True)


def _guide(system: System) -> str:
    outputs = "\n".join(f"  {name:<22}{value}" for name, value in sorted(system.outputs.items()))
    return f"""
Outputs of the stacks:
{outputs}

Send an event, run the function by hand:
  python -m local send events/completed-voice.json
  python -m local invoke events/completed-voice.json

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


if __name__ == "__main__":
    sys.exit(main())
