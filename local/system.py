"""The running local system: started here, or found by the file that the process which started it left."""

import gzip
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from connect_simulator import ConnectSimulator
from local.deployment import deploy
from local.emulator import ROOT, SERVICE_EVENTS_PATH, Clients, Emulator, LocalSystemError, direct_open
from ops.dead_letters import DeadLetter, read_dead_letters
from ops.deployment import Deployment

DIRECTORY = ROOT / ".local"
STAGE = "dev"
"""Of the local deployment: cdk.json's default."""
Json = dict[str, Any]

# Long enough that a capture sees attachments in PROCESSING, short enough to see them settle.
_SETTLE_SECONDS = 30


class NotRunningError(LocalSystemError):
    """No local system runs in the directory."""


@dataclass(frozen=True)
class System:
    """A local system, of this process or another: where it answers, and what is deployed on it."""

    pid: int
    aws_url: str
    connect_url: str
    outputs: dict[str, str]

    @cached_property
    def clients(self) -> Clients:
        """AWS clients for this system."""
        return Clients(aws_url=self.aws_url, connect_url=self.connect_url)

    @property
    def deployment(self) -> Deployment:
        """What the operator's commands work on."""
        return Deployment(STAGE, self.clients, self.outputs)

    def control_connect(self, path: str, body: object = None, *, method: str | None = None) -> Any:
        """Call the simulator's control endpoint `/_simulator/<path>`: GET without a body, else POST, or a `method`.

        Raises:
            urllib.error.HTTPError: the simulator refuses.
        """
        return _call(f"{self.connect_url}/_simulator/{path}", body, method)

    def connect_calls(self) -> int:
        """How often ListContactReferences was called so far, throttled calls included."""
        return int(self.control_connect("statistics")["operations"]["ListContactReferences"]["calls"])

    def send(self, event: Json) -> str:
        """Put an event where it comes from in AWS, and return the id it has there.

        An event of an AWS service goes on the bus by the emulator's own way, any other on the bus with PutEvents, but
        a capture request straight on the queue. The bus gives a new id and the present time.

        Raises:
            LocalSystemError: the bus refuses it.
        """
        if event["source"] == "contact-references":
            self.clients.sqs.send_message(QueueUrl=self.outputs["QueueUrl"], MessageBody=json.dumps(event))
            return str(event.get("id"))
        entry = {
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Resources": event.get("resources", []),
            "Detail": json.dumps(event["detail"]),
        }
        if event["source"].startswith("aws."):
            answer = _call(self.aws_url + SERVICE_EVENTS_PATH, {"Entries": [entry]})
        else:
            answer = self.clients.events.put_events(Entries=[entry])  # type: ignore[list-item]  # built above
        result = answer["Entries"][0]
        if "EventId" not in result:
            raise LocalSystemError(f"the event bus refuses it: {result['ErrorCode']}: {result['ErrorMessage']}")
        return str(result["EventId"])

    def matches_rule(self, event: Json) -> bool:
        """Whether any rule of the default bus asks for the event."""
        envelope = {"id": "", "account": "", "time": "", "region": "", "resources": []}
        rules = self.clients.events.list_rules()["Rules"]
        return any(
            self.clients.events.test_event_pattern(
                EventPattern=rule["EventPattern"], Event=json.dumps(envelope | event)
            )["Result"]
            for rule in rules
            if "EventPattern" in rule
        )

    def queued(self) -> int:
        """How many messages the queue holds: waiting, being worked on, or delayed after a failure."""
        return sum(self.deployment.count_messages("QueueUrl"))

    def wait_until_drained(self, seconds: float, *, report: Callable[[int], None] = lambda _: None) -> bool:
        """Wait until the queue is empty; False if it isn't after so many seconds. Tells `report` the number."""
        deadline = time.monotonic() + seconds
        while True:
            queued = self.queued()
            report(queued)
            if queued == 0 or time.monotonic() > deadline:
                return queued == 0
            time.sleep(0.1)

    def dead_letters(self) -> list[DeadLetter]:
        """What is in the dead-letter queue, which stays as it is but for a moment's invisibility."""
        return read_dead_letters(self.deployment, limit=sys.maxsize)

    def ledger(self) -> list[Json]:
        """What the ledger says, by key: each captured contact's CONTACT item, then the rows that count."""
        items = self.items()
        current = {item["pk"]: item.get("capture_id") for item in items if item["sk"] == "CONTACT"}
        return [item for item in items if "capture_id" in item and item["capture_id"] == current.get(item["pk"])]

    def items(self) -> list[Json]:
        """All items of the table, by key: rows that don't count and what is no contact's included."""
        pages = self.clients.dynamodb.get_paginator("scan").paginate(
            TableName=self.outputs["TableName"], ConsistentRead=True
        )
        items = [_deserialize(item) for page in pages for item in page["Items"]]
        return sorted(items, key=lambda item: (item["pk"], item["sk"]))

    def lake(self) -> dict[str, list[Json]]:
        """The records of the lake, by the object that holds them."""
        objects = {}
        bucket = self.outputs["BucketName"]
        for page in self.clients.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="captures/"):
            for entry in page.get("Contents", []):
                body = self.clients.s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                objects[entry["Key"]] = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        return objects


@contextmanager
def start(
    directory: Path,
    *,
    port: int = 0,
    keep: bool = False,
    launcher: str = "local.launcher",
    context: Mapping[str, str] | None = None,
    quotas: Mapping[str, float] | None = None,
    report: Callable[[str], None] = print,
) -> Iterator[System]:
    """Start the emulator and the simulator, deploy, and stop both at the end, however it comes.

    The simulator runs in this process, with the contacts of `local/contacts.json`.

    Args:
        directory: for logs and state; `find` looks there too.
        port: of the emulator; if 0, a free one, or with `keep` the one of the last run.
        keep: go on with the data of the last run that kept it.
        launcher: the module that is the emulator's process.
        context: CDK context of the deployment, where it is to differ from cdk.json.
        quotas: of the simulator, where they are to differ from its defaults.
        report: told each step.

    Raises:
        LocalSystemError: a system runs in the directory already, the port is taken, or a part did not start.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        running = find(directory)
    except NotRunningError:
        pass
    else:
        raise LocalSystemError(
            f"a local system runs already (process {running.pid}): stop it, or use another --directory"
        )
    file = _state_file(directory)
    with (
        Emulator(directory, port=port, keep=keep, launcher=launcher) as emulator,
        ConnectSimulator(
            events_endpoint=emulator.url + SERVICE_EVENTS_PATH, settle_seconds=_SETTLE_SECONDS, quotas=quotas
        ) as simulator,
    ):
        emulator.start(connect_url=simulator.url)
        report(f"AWS emulator on {emulator.url}, Connect simulator on {simulator.url}")
        clients = Clients(aws_url=emulator.url, connect_url=simulator.url)
        log = directory / "deployment.log"
        outputs = deploy(emulator.url, clients, context=context or {}, log=log, report=report)
        simulator.import_contacts(sample_contacts())
        system = System(os.getpid(), emulator.url, simulator.url, outputs)
        try:
            file.write_text(json.dumps(asdict(system), indent=2))
            yield system
        finally:
            file.unlink(missing_ok=True)


def sample_contacts() -> list[Json]:
    """The contacts that a system starts with, as `local/contacts.json` has them."""
    return list(json.loads((ROOT / "local" / "contacts.json").read_text(encoding="utf-8"))["contacts"])


def find(directory: Path) -> System:
    """Return the system that runs in the directory.

    Raises:
        NotRunningError: there is none, or it ended without cleaning up.
    """
    file = _state_file(directory)
    try:
        system = System(**json.loads(file.read_text()))
        with direct_open(f"{system.aws_url}/_ministack/health", timeout=10):
            return system
    except FileNotFoundError:
        raise NotRunningError("no local system is running: start one with `python -m local up`") from None
    except OSError:
        raise NotRunningError(
            f"no local system is running ({file} is left of one that ended): start one with `python -m local up`"
        ) from None


def current_records(lake: Mapping[str, Iterable[Json]]) -> list[Json]:
    """Read the lake as every reader has to: without repeats, and of each contact only what its newest capture says.

    Args:
        lake: records by object, as `System.lake` returns them; the order of the objects makes no difference.
    """
    records = {
        (_contact_key(record), record["capture_id"], record.get("reference_id")): record
        for content in lake.values()
        for record in content
    }
    newest: dict[tuple[str, str], str] = {}
    for record in records.values():
        key = _contact_key(record)
        newest[key] = max(newest.get(key, ""), record["captured_at"])
    return [record for record in records.values() if record["captured_at"] == newest[_contact_key(record)]]


def _contact_key(record: Json) -> tuple[str, str]:
    return record["instance_id"], record["contact_id"]


def _deserialize(item: Mapping[str, Any]) -> Json:
    deserialize = TypeDeserializer().deserialize
    return {name: deserialize(value) for name, value in item.items()}


def _state_file(directory: Path) -> Path:
    return directory / "system.json"


def _call(url: str, body: object, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - http, loopback
    with direct_open(request, timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if content else None
