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
A simulator of the Amazon Connect API on 127.0.0.1, for the unmodified SDK: StartTaskContact, CreateContact,
UpdateContact, StopContact, DescribeContact, ListContactReferences, SearchContacts, ListInstances. Strict as the
service, by botocore's own model.
"""

EPILOG = """\
control endpoints, JSON in and out:
  GET  /_simulator/health
  GET  /_simulator/contacts                  what DescribeContact knows of each, and its events
  POST /_simulator/contacts                  import, in the form of local/contacts.json; with "settle_seconds" for
                                             these contacts' attachments
  POST /_simulator/contacts/{id}/complete    send the events up to COMPLETED; again if it had them all
  POST /_simulator/contacts/{id}/transfer    a new leg, INITIATED; the old one completes
  GET  /_simulator/events                    contact events as put on the bus, as entries of PutEvents
  GET  /_simulator/statistics                calls, throttled calls and outcomes by operation; counts of events
  GET, POST, DELETE /_simulator/faults       see, inject or lift faults
  GET, POST, DELETE /_simulator/disturbance  see, set or lift what happens to events on their way
  GET, POST, DELETE /_simulator/search       see, set or lift how SearchContacts falls short

A fault is {"operation": "ListContactReferences", "kind": KIND, "count": N}; without count it lasts until it is lifted.
Kinds: throttle, 500, access_denied, not_found and invalid_parameter are answers of the service, 503 and not_json
(status 200) HTML of a proxy; hang does not answer before it is lifted, reset resets the connection, truncated (status
200) is JSON's first half. Requests that meet a fault change nothing. Hits are counted.

A fault can be narrowed to one "instance" by its id, and of ListContactReferences to one "contact" by its id, to
contacts of some "channels", to requests that ask for any of some "types". All that is given has to hold:
  types that a channel cannot have, or, without the channels, that an older Region does not know:
    {"operation": "ListContactReferences", "kind": "invalid_parameter", "types": ["CONTACT_ANALYSIS"],
     "channels": ["TASK", "EMAIL"]}
  one instance that cannot be searched, while the others can:
    {"operation": "SearchContacts", "kind": "access_denied", "instance": "INSTANCE_ID"}
  a contact that becomes visible after its first two calls:
    {"operation": "ListContactReferences", "kind": "not_found", "contact": "CONTACT_ID", "count": 2}

A disturbance is {"drop": 0.3, "repeat": 0.1}: shares of events that are lost, and of the others that come twice. A
run with the same contacts loses and repeats the same events.

SearchContacts takes a TimeRange by INITIATION_, SCHEDULED_, CONNECTED_TO_AGENT_ or DISCONNECT_TIMESTAMP of at most 8
weeks, beginning at most two years ago, and Sort by these; SearchCriteria are not simulated. It gives the first 10,000
contacts and, as TotalCount, how many there are. It falls short by {"lag_seconds": 120, "total_count": false}: a
contact is found so long after its end (its beginning while it lives), and answers have no TotalCount.

A throttled request is counted and answered 429; a bucket holds one second's worth of requests.
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
    parser.add_argument("--contacts", type=Path, metavar="FILE", help="contacts to start with: local/contacts.json")
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
