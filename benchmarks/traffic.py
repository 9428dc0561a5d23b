"""The load: contacts whose references are known, and another caller who uses the account's quota too."""

import json
import threading
import time
import uuid
from types import TracebackType
from typing import Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES
from local.delivery import read_event
from local.emulator import INSTANCE_ARN, REGION, ROOT

Event = dict[str, Any]

INSTANCE_ID = INSTANCE_ARN.rpartition("/")[2]
ALL_TYPES = [*ENTERED_TYPES.values(), *PRODUCED_TYPES.values()]
SIX_TYPES = ALL_TYPES[:6]
"""As many as one request takes."""

OPERATION = "ListContactReferences"
PHASE_SECONDS = 20.0
"""The other caller calls for so long, then pauses for as long. A bucket of one second's worth hides none of it."""
_ITS_SHARE = 1 / 3
_EVENT = ROOT / "events" / "completed-voice.json"


def make_contacts(count: int) -> list[dict[str, Any]]:
    """Return ended contacts with two references each, in the form that the simulator imports."""
    return [
        {
            "Id": str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))),
            "InstanceId": INSTANCE_ID,
            "Channel": "VOICE",
            "InitiationMethod": "INBOUND",
            "DisconnectTimestamp": "2026-03-02T09:30:00.000Z",
            "References": [
                {"Url": {"Name": "CRM", "Value": f"https://crm.example.com/{number}"}},
                {"String": {"Name": "Case", "Value": f"CASE-{number:06}"}},
            ],
        }
        for number in range(count)
    ]


def make_event(contact_id: str, event_id: str) -> Event:
    """Return the event of a contact's completion, as a rule's target gets it."""
    event = read_event(_EVENT)
    return event | {
        "id": event_id,
        "detail": event["detail"] | {"contactId": contact_id, "initialContactId": contact_id},
    }


def as_batch(events: list[Event]) -> list[Event]:
    """Return the batch that the queue delivers, as the one event it is for the function."""
    records = [
        {
            "messageId": f"message-{number}",
            "receiptHandle": "handle",
            "body": json.dumps(event),
            "attributes": {"ApproximateReceiveCount": "1"},
            "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:queue",
        }
        for number, event in enumerate(events)
    ]
    return [{"Records": records}]


def function_settings(reference_types: str, *, queue_url: str) -> dict[str, str]:
    """Return the environment of either function, which never waits for its pace."""
    return {
        "TABLE_NAME": "ledger",
        "BUCKET_NAME": "lake",
        "QUEUE_URL": queue_url,
        "DEAD_LETTER_QUEUE_URL": f"{queue_url}-of-dead-letters",
        "INSTANCE_ARNS": "",
        "COMPLETION_EVENT_TYPES": "COMPLETED",
        "REFERENCE_TYPES": reference_types,
        "AUDIT_SHARE": "0.01",
        "REQUESTS_PER_SECOND": "1000000",
        "RETENTION_DAYS": "0",
        "POWERTOOLS_SERVICE_NAME": "contact-references",
        "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
    }


class OtherCaller:
    """Somebody else in the account: `with OtherCaller(…):` takes a third of the quota, half of the time.

    It starts with a phase of calls, evenly spaced, and repeats none that is refused.
    """

    def __init__(self, url: str, contact_id: str, *, quota: float) -> None:
        self._client = boto3.client(
            "connect",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the simulator takes any
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )
        self._contact_id = contact_id
        self._gap = 1 / (quota * _ITS_SHARE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.calls = 0
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        begin = time.monotonic()
        due = 0.0
        while not self._stop.wait(max(0.0, begin + due - time.monotonic())):
            self._call()
            due += self._gap
            if due % (2 * PHASE_SECONDS) >= PHASE_SECONDS:
                due = (due // (2 * PHASE_SECONDS) + 1) * 2 * PHASE_SECONDS

    def _call(self) -> None:
        self.calls += 1
        try:
            self._client.list_contact_references(
                InstanceId=INSTANCE_ID, ContactId=self._contact_id, ReferenceTypes=["URL"]
            )
        except ClientError:
            self.refused += 1


def ideal_seconds(calls: float, *, rate: float, quota: float, with_other: bool) -> float:
    """Return how long so many calls take at the rate set, or at what another caller leaves of the quota.

    >>> ideal_seconds(400, rate=40, quota=50, with_other=False)
    10.0
    >>> round(ideal_seconds(1500, rate=40, quota=50, with_other=True), 1)  # 667 in 20 s, 800 in 20 s, 33 in 1 s
    41.0
    """
    if not with_other:
        return calls / rate
    beside = min(rate, quota * (1 - _ITS_SHARE))
    cycles, rest = divmod(calls, PHASE_SECONDS * (beside + rate))
    first = min(rest, PHASE_SECONDS * beside)
    return cycles * 2 * PHASE_SECONDS + first / beside + (rest - first) / rate
