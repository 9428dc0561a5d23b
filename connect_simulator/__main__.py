"""``python -m connect_simulator``: the simulator as a process."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from connect_simulator.model import ServiceError
from connect_simulator.quota import default_quotas
from connect_simulator.server import ConnectSimulator, read_contacts

DESCRIPTION = """\
Amazon Connect's contact API on 127.0.0.1, for the unmodified SDK. Strict as the service, by botocore's own model.
"""

EPILOG = """\
examples:
  python -m connect_simulator                                     print the address, and a command to try
  python -m connect_simulator --port 8080 --contacts contacts.json
  python -m connect_simulator --quota ListContactReferences=2     throttle early
  python -m connect_simulator --drop-events 0.3 --search-lag 120  lose events, find contacts late

operations:
  StartTaskContact, CreateContact, UpdateContact, StopContact, DescribeContact, ListContactReferences, SearchContacts,
  ListInstances

control endpoints, JSON in and out:
  GET                /_simulator/health
  GET, POST          /_simulator/contacts              see or import contacts
  POST               /_simulator/contacts/ID/complete  send the events up to COMPLETED
  POST               /_simulator/contacts/ID/transfer  begin a new leg
  GET                /_simulator/events                as they were put on the bus
  GET                /_simulator/statistics            calls and outcomes by operation
  GET, POST, DELETE  /_simulator/faults                such as {"operation": "ListContactReferences", "kind": "500"}
  GET, POST, DELETE  /_simulator/disturbance           of events: {"drop": 0.3, "repeat": 0.1}
  GET, POST, DELETE  /_simulator/search                how it falls short: {"lag_seconds": 120, "total_count": false}

connect_simulator/README.md tells what each takes. Ctrl-C ends it.
"""


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    options = _parse(arguments)
    try:
        simulator = ConnectSimulator(
            port=options.port,
            quotas=dict(options.quota),
            page_size=options.page_size,
            settle_seconds=options.settle_seconds,
            events_endpoint=options.events_endpoint,
        )
        simulator.disturb_events(drop=options.drop_events, repeat=options.repeat_events)
        simulator.flaw_search(lag_seconds=options.search_lag)
        contacts = read_contacts(options.contacts.read_bytes()) if options.contacts else []
        simulator.import_contacts(contacts)
    except (OSError, ValueError, ServiceError) as error:
        print(f"connect_simulator: {error}", file=sys.stderr)
        return 2
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with simulator:
        _announce(simulator.url, contacts[0] if contacts else None)
        stop.wait()
    return 0


def _announce(url: str, contact: dict[str, str] | None) -> None:
    print(f"Amazon Connect simulator at {url}")
    example = contact or {"InstanceId": "12345678-1234-1234-1234-123456789012", "Id": "CONTACT_ID"}
    print(
        f"Try it:\n  AWS_ENDPOINT_URL_CONNECT={url} AWS_DEFAULT_REGION=us-east-1 \\\n"
        "  AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test \\\n"
        "  python -c \"import boto3; print(boto3.client('connect').list_contact_references("
        f"InstanceId='{example['InstanceId']}', ContactId='{example['Id']}', "
        "ReferenceTypes=['URL', 'NUMBER', 'STRING', 'DATE', 'EMAIL'])['ReferenceSummaryList'])\"",
        flush=True,
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m connect_simulator",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, is a free one")
    parser.add_argument("--contacts", type=Path, metavar="FILE", help='contacts to start with: {"contacts": [{…}, …]}')
    parser.add_argument(
        "--events-endpoint",
        metavar="URL",
        help='where contact events are POSTed as {"Entries": […]}; default: kept only',
    )
    parser.add_argument(
        "--quota",
        type=_quota,
        action="append",
        default=[],
        metavar="OPERATION=RATE",
        help="requests a second, repeatable; defaults: "
        + ", ".join(f"{operation}={rate:g}" for operation, rate in default_quotas().items()),
    )
    parser.add_argument(
        "--page-size", type=_page_size, metavar="N", help="references a page; default: one page, NextToken null"
    )
    parser.add_argument(
        "--settle-seconds",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long an attachment stays PROCESSING before it is APPROVED; default 5",
    )
    parser.add_argument(
        "--drop-events", type=float, default=0.0, metavar="SHARE", help="of contact events that get lost, 0 to 1"
    )
    parser.add_argument(
        "--repeat-events", type=float, default=0.0, metavar="SHARE", help="of the others that come twice, 0 to 1"
    )
    parser.add_argument(
        "--search-lag",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long after its end SearchContacts finds a contact; default 0",
    )
    return parser.parse_args(arguments)


def _quota(text: str) -> tuple[str, float]:
    operation, _, rate = text.partition("=")
    try:
        return operation, float(rate)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: give ListContactReferences=10, for example") from None


def _page_size(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: give a number of references from 1, for example 2")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
