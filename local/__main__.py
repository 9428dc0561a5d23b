"""The command line of the local system: `python -m local --help`."""

import argparse
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from local.coverage import HOUR, count_captured_since, last_day, list_instances, show_coverage
from local.delivery import deliver, read_event
from local.demo import run_demo
from local.emulator import INSTANCE_ARN, LocalSystemError
from local.progress import make_console, show_backfill, show_drain
from local.reconciling import has_run, read_moment, reconcile
from local.system import DIRECTORY, System, find, start

_EXAMPLES = """\
examples:
  python -m local demo                              see the whole job once, from deployment to rows
  python -m local up                                keep a system running until Ctrl-C, then in another terminal:
  python -m local send events/completed-voice.json  put an event on its bus, and see what becomes of it
  python -m local invoke events/completed-voice.json  run the deployed capture function by hand
  python -m local reconcile                         find and capture contacts whose events never came
  python -m local coverage                          see which hours are accounted for, and what is missing
  python -m local backfill --from 2026-10-01 --to 2026-10-03  the same for a period of the past
"""

_RECONCILE = """\
Run the deployed reconcile function as its schedule does: the hours that are due are searched, contacts without a
capture are asked for, and those that may have changed are asked for again. The first run begins with the last day.
"""
_RECONCILE_EXAMPLES = """\
examples:
  python -m local reconcile            and see what came of it
  python -m local reconcile --wait 5   without waiting long for the queue
exit status: 0 if all is done; 1 if another run is at work, it failed, or messages are left in the queue
"""

_BACKFILL = """\
Mark the hours of a period as due, and run the reconcile function until each was visited and what was asked for is
captured. Ctrl-C ends only this command: the hours stay due, and any run goes on with them. The same period again costs
searches only, as what is captured is not asked for.
"""
_BACKFILL_EXAMPLES = f"""\
examples:
  python -m local backfill --from 2026-10-01 --to 2026-11-01
  python -m local backfill --from 2026-10-01T08:00Z --to 2026-10-01T12:00Z \\
      --instance {INSTANCE_ARN}
exit status: 0 if all is done; 1 if the period is refused, a run failed, or messages are left in the queue
"""

_COVERAGE = """\
Show what is known of each hour: completed contacts, those captured, those missing when it was visited last. An hour is
open until nothing is missing and late entries had their time; it is given up if something asked for is missing for
seven days.
"""
_COVERAGE_EXAMPLES = f"""\
examples:
  python -m local coverage                    the last day
  python -m local coverage --day 2026-10-02   one day, in UTC
  python -m local coverage --instance {INSTANCE_ARN}
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # both end it in order, also where a shell's `&` has SIGINT ignored
        signal.signal(number, signal.default_int_handler)
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

    _add_reconciling(commands)

    demo = commands.add_parser("demo", help="play a small day from deployment to rows, and check that all is there")
    demo.set_defaults(command=lambda options: run_demo(options.directory / "demo"))
    return parser


def _add_reconciling(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    def add(name: str, *, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        return commands.add_parser(name, help=summary, description=description, epilog=examples, formatter_class=raw)

    again = add(
        "reconcile",
        summary="find contacts whose events never came, and capture them",
        description=_RECONCILE,
        examples=_RECONCILE_EXAMPLES,
    )
    again.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="for the queue (%(default)g)")
    again.set_defaults(command=_reconcile)

    backfill = add(
        "backfill",
        summary="do the same for a period of the past, and show progress",
        description=_BACKFILL,
        examples=_BACKFILL_EXAMPLES,
    )
    what = "date or time, UTC unless it says otherwise"
    backfill.add_argument("--from", dest="start", type=_time, metavar="TIME", required=True, help=f"begin: {what}")
    backfill.add_argument("--to", dest="end", type=_time, metavar="TIME", required=True, help="end, likewise")
    backfill.add_argument("--instance", metavar="ARN", help="only this instance (all of them)")
    backfill.add_argument("--wait", type=float, default=900, metavar="SECONDS", help="for the queue (%(default)g)")
    backfill.set_defaults(command=_backfill)

    coverage = add(
        "coverage",
        summary="show which hours are accounted for, and what is missing",
        description=_COVERAGE,
        examples=_COVERAGE_EXAMPLES,
    )
    coverage.add_argument("--day", type=_day, metavar="YYYY-MM-DD", help="in UTC (the last day)")
    coverage.add_argument("--instance", metavar="ARN", help="only this instance (all of them)")
    coverage.set_defaults(command=_coverage)


def _time(text: str) -> str:
    try:
        read_moment(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give a date or time such as 2026-10-01T09:30Z") from None
    return text


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give a day such as 2026-10-01") from None


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

Find contacts whose events never came, see which hours are accounted for:
  python -m local reconcile
  python -m local coverage

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
    before = _captures(system)
    answer = reconcile(system)
    print(f"{answer['outcome']}: {answer['requested']} contacts asked for", flush=True)
    if not has_run(answer):
        return 1
    is_drained = show_drain(system, console, what="Capturing at the API's pace", seconds=options.wait)
    after = _captures(system)
    new, read_again = after.keys() - before.keys(), sum(before[pk] != after[pk] for pk in before.keys() & after.keys())
    print(f"{len(new)} contacts captured that were not before, {read_again} of the others read again.")
    print("`python -m local coverage` shows the hours.")
    return 0 if is_drained else 1


def _captures(system: System) -> dict[str, str]:
    """When each captured contact was read last."""
    return {item["pk"]: item["checked_at"] for item in system.ledger() if item["sk"] == "CONTACT"}


def _backfill(options: argparse.Namespace) -> int:
    system, console = find(options.directory), make_console()
    period = {"from": options.start, "to": options.end} | (
        {"instanceArn": options.instance} if options.instance else {}
    )
    try:
        progress, hours = show_backfill(system, console, period)
    except KeyboardInterrupt:
        print("The hours that are marked stay due: `python -m local reconcile`, or the schedule, goes on with them.")
        raise
    if not progress.hours:
        print("No hour of that period is due: each is an hour after its end.")
        return 0
    print(f"{progress.hours} hours visited, {progress.requested} contacts asked for.", flush=True)
    is_drained = show_drain(system, console, what="Capturing at the API's pace", seconds=options.wait)
    due = [hour.due_at for hour in hours if hour.due_at is not None]
    print(f"{progress.hours - len(due)} hours are closed.")
    if due:
        missing, since = sum(hour.missing for hour in hours), count_captured_since(system, hours)
        print(
            f"{len(due)} are open: {missing} contacts were missing in them, {since} of which are captured by now. Runs "
            f"from {min(due):%H:%M}Z on find that, and close them."
        )
    return 0 if is_drained else 1


def _coverage(options: argparse.Namespace) -> int:
    system, console = find(options.directory), make_console()
    start, end = (options.day, options.day + 24 * HOUR) if options.day else last_day(datetime.now(UTC))
    for instance_id in list_instances(system, options.instance):
        show_coverage(system, console, instance_id=instance_id, start=start, end=end)
    return 0


if __name__ == "__main__":
    sys.exit(main())
