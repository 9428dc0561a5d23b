"""The simulator's HTTP side: the API, and control endpoints under ``/_simulator/``."""

import contextlib
import json
import select
import socket
import struct
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import parse_qs

from connect_simulator.events import EventBus
from connect_simulator.faults import Faults, Request, WireFault
from connect_simulator.model import ServiceError, find_operation, parse_request
from connect_simulator.operations import ContactCenter
from connect_simulator.quota import make_buckets
from connect_simulator.search import SearchFlaws, bad_search_flaws

Result = TypeVar("Result")


class ConnectSimulator:
    """One account's Amazon Connect in one Region, listening on 127.0.0.1; a context manager that starts and stops it.

    The Python methods and the control endpoints do the same. Requests may come from any thread. What goes wrong
    with them is up to `faults`.

    Args:
        port: 0 is a free one.
        instance_arn: the instance that exists from the start.
        quotas: requests a second by operation, where they are to differ from `connect_simulator.quota.default_quotas`.
        page_size: references in a page of ListContactReferences; None is all in one with a null NextToken.
        settle_seconds: how long an attachment that arrives as PROCESSING stays so.
        events_endpoint: where contact events are put as ``{"Entries": […]}``; None keeps them in `events` only.
        clock: epoch seconds, for timestamps, quotas and attachments.

    Raises:
        ValueError: a quota or the endpoint is not usable; the message has a good one.
        OSError: the port is taken.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        instance_arn: str = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012",
        quotas: Mapping[str, float] | None = None,
        page_size: int | None = None,
        settle_seconds: float = 5.0,
        events_endpoint: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._center = ContactCenter(instance_arn, settle_seconds=settle_seconds, page_size=page_size, clock=clock)
        self._buckets = make_buckets(quotas or {}, clock)
        self._bus = EventBus(events_endpoint)
        self.faults = Faults(self._center.operations)
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port))
        self._server.simulator = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The endpoint for the SDK, ``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was put on the bus so far, as entries of PutEvents, delivered or not, oldest first.

        That is every event, but under `disturb_events` without those dropped, and twice those repeated. What really
        happened to a contact `contacts` tells.
        """
        return list(self._bus.entries)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self.faults.lift()
        self._server.close_connections()
        self._server.server_close()
        self._thread.join()

    def import_contacts(self, contacts: Sequence[Mapping[str, Any]], *, settle_seconds: float | None = None) -> None:
        """Put contacts in place, without events; the form is that of ``local/contacts.json``, key ``contacts``.

        Args:
            contacts: the contacts; one whose id exists is replaced.
            settle_seconds: how long from now their attachments in PROCESSING stay so; None is as the simulator's own.

        Raises:
            ServiceError: names the contact and the member that is not usable; no contact is imported.
        """
        self._change(lambda: self._center.import_contacts(contacts, settle_seconds=settle_seconds))

    def disturb_events(self, *, drop: float = 0.0, repeat: float = 0.0) -> None:
        """From now on lose a share of contact events, and send a share of the others twice; zeros end it.

        Which ones depends on nothing but an event's contact, its type, and how many such the contact had before: a run
        with the same contacts repeats, whatever their order. `statistics` counts them.

        Raises:
            ServiceError: InvalidRequestException, a share is not from 0 to 1.
        """
        self._bus.disturb(drop=drop, repeat=repeat)

    def flaw_search(self, *, lag_seconds: float = 0.0, total_count: bool = True) -> None:
        """From now on let SearchContacts find contacts late, or not count them; without arguments it is whole again.

        Args:
            lag_seconds: how long after its end, or its beginning while it lives, a contact is found.
            total_count: whether answers say how many contacts there are.

        Raises:
            ServiceError: InvalidRequestException, the lag is not a number of seconds from 0.
        """
        flaws = SearchFlaws(lag_seconds=lag_seconds, total_count=total_count)
        with self._lock:
            self._center.search_flaws = flaws

    def complete(self, contact_id: str) -> None:
        """Send the events a contact has yet to have, to COMPLETED; COMPLETED again when it had them all.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        self._change(lambda: self._center.complete(contact_id))

    def transfer(self, contact_id: str) -> str:
        """Transfer a live contact and return the new leg's id; the leg is INITIATED, the old contact COMPLETED.

        Raises:
            ServiceError: ResourceNotFoundException, or ConflictException for a contact that has ended.
        """
        return self._change(lambda: self._center.transfer(contact_id))

    def contacts(self) -> list[dict[str, Any]]:
        """Return every contact as DescribeContact does, and ``Reached`` (events), ``ReferenceCount``."""
        with self._lock:
            return self._center.contacts()

    def statistics(self) -> dict[str, Any]:
        """Return counts: by operation ``calls``, ``throttled`` and ``outcomes`` (``OK`` or error code), and of events.

        An operation that was never called has zeros, so that a test can compare before and after. Of events ``emitted``
        counts what happened, ``dropped`` and ``repeated`` what a disturbance did to it, ``undelivered`` what the
        endpoint refused.
        """
        with self._lock:
            operations = {
                operation: {
                    "calls": sum(count for (name, _), count in self._outcomes.items() if name == operation),
                    "throttled": self._outcomes[operation, "ThrottlingException"],
                    "outcomes": {code: count for (name, code), count in self._outcomes.items() if name == operation},
                }
                for operation in self._center.operations
            }
            return {
                "operations": operations,
                "events": dict(self._bus.counts),
            }

    def answer(self, method: str, path: str, query: str, body: bytes) -> dict[str, Any]:
        """Answer one API request.

        Raises:
            ServiceError: the refusal to answer with.
            WireFault: it gets no answer, but this.
        """
        operation, labels = find_operation(method, path)
        run = self._center.operations.get(operation.name)
        if run is None:
            simulated = ", ".join(self._center.operations)
            raise ServiceError("UnknownOperationException", f"{operation.name} is not simulated, only {simulated}")
        outcome = "InternalServiceException"
        try:
            self.faults.meet(self._fault_request(operation.name, labels, query, body))
            with self._lock:
                is_throttled = not self._buckets[operation.name].take()
            if is_throttled:
                raise ServiceError("ThrottlingException", f"{operation.name}: rate exceeded")
            parameters = parse_request(operation, labels, query, body)
            response = self._change(lambda: run(parameters))
            outcome = "OK"
        except ServiceError as error:
            outcome = error.code
            raise
        except WireFault as fault:
            outcome = fault.kind
            raise
        finally:
            with self._lock:
                self._outcomes[operation.name, outcome] += 1
        return response

    def _fault_request(self, operation: str, labels: Mapping[str, str], query: str, body: bytes) -> Request:
        """Return what a fault can be narrowed to, read before the request is checked: faults come first."""
        instance_id = labels.get("InstanceId") or _read_object(body).get("InstanceId")
        contact_id = labels.get("ContactId")
        with self._lock:
            channel = self._center.find_channel(contact_id)
        types = frozenset(parse_qs(query).get("referenceTypes", ()))
        return Request(
            operation=operation, instance_id=instance_id, contact_id=contact_id, channel=channel, types=types
        )

    def control(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """Answer one request under ``/_simulator/``; `python -m connect_simulator --help` lists the endpoints.

        Raises:
            ServiceError: the refusal to answer with.
        """
        answer: dict[str, Any]
        match method, path.split("/")[2:]:
            case "GET", ["health"]:
                answer = {"status": "ok"}
            case "GET", ["contacts"]:
                answer = {"contacts": self.contacts()}
            case "GET", ["events"]:
                answer = {"events": self.events}
            case "GET", ["statistics"]:
                answer = self.statistics()
            case "GET" | "POST" | "DELETE", [("faults" | "disturbance" | "search") as trouble]:
                answer = self._control_trouble(trouble, method, body)
            case "POST", ["contacts"]:
                contacts = read_contacts(body)
                self.import_contacts(contacts, settle_seconds=_read_settle_seconds(body))
                answer = {"imported": len(contacts)}
            case "POST", ["contacts", contact_id, "complete"]:
                self.complete(contact_id)
                answer = {"ContactId": contact_id}
            case "POST", ["contacts", contact_id, "transfer"]:
                answer = {"ContactId": self.transfer(contact_id)}
            case _:
                raise ServiceError("UnknownOperationException", f"no control endpoint {method} {path}; see --help")
        return answer

    def _control_trouble(self, what: str, method: str, body: bytes) -> dict[str, Any]:
        match what:
            case "faults":
                return {"faults": self._control_faults(method, body)}
            case "disturbance":
                return self._control_disturbance(method, body)
            case _:
                return self._control_search(method, body)

    def _control_faults(self, method: str, body: bytes) -> list[dict[str, Any]]:
        if method == "DELETE":
            return self.faults.lift()
        if method == "POST":
            self.faults.inject(_read_object(body))
        return self.faults.show()

    def _control_disturbance(self, method: str, body: bytes) -> dict[str, Any]:
        if method != "GET":
            shares = _read_object(body) if method == "POST" else {}
            if method == "POST" and not (shares and shares.keys() <= {"drop", "repeat"}):
                raise ServiceError("InvalidRequestException", 'give {"drop": 0.3, "repeat": 0.1}, or one of them')
            self.disturb_events(**shares)
        return self._bus.disturbance()

    def _control_search(self, method: str, body: bytes) -> dict[str, Any]:
        if method != "GET":
            flaws = _read_object(body) if method == "POST" else {}
            if method == "POST" and not (flaws and flaws.keys() <= {"lag_seconds", "total_count"}):
                raise bad_search_flaws()
            self.flaw_search(**flaws)
        with self._lock:
            return asdict(self._center.search_flaws)

    def _change(self, change: Callable[[], Result]) -> Result:
        """Run a change of the contacts under the lock, then, outside it, deliver the events it made."""
        with self._lock:
            result = change()
            events = self._center.take_events()
        self._bus.put(events)
        return result


def read_contacts(body: bytes) -> list[dict[str, Any]]:
    """Return the contacts of a JSON file in the form of ``local/contacts.json``: ``{"contacts": [{…}, …]}``.

    Raises:
        ServiceError: SerializationException, it has another form.
    """
    contacts = _read_object(body).get("contacts")
    if not isinstance(contacts, list) or not all(isinstance(contact, dict) for contact in contacts):
        raise ServiceError("SerializationException", 'give JSON such as {"contacts": [{"Id": "…", …}]}')
    return contacts


def _read_settle_seconds(body: bytes) -> float | None:
    seconds = _read_object(body).get("settle_seconds")
    if seconds is not None and (not isinstance(seconds, int | float) or isinstance(seconds, bool)):
        raise ServiceError("SerializationException", 'settle_seconds is a number: {"settle_seconds": 1200, …}')
    return seconds


def _read_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for what is none."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    simulator: ConnectSimulator

    def __init__(self, address: tuple[str, int]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End kept-alive connections, so that a stopped simulator answers nobody."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One segment an answer, at once: otherwise delayed acknowledgements cost 40 ms a request.
    disable_nagle_algorithm = True
    wbufsize = -1

    def _answer(self) -> None:
        simulator = cast("_Server", self.server).simulator
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, error_code = 200, None
        try:
            if path.startswith("/_simulator/"):
                content = simulator.control(self.command, path, body)
            else:
                content = simulator.answer(self.command, path, query, body)
        except ServiceError as error:
            status, error_code, content = error.http_status, error.code, {"message": error.message}
        except WireFault as fault:
            self._fail(fault.kind)
            return
        except Exception:
            # A defect of the simulator: the client sees what it would of the service's, the server prints it.
            self._send(500, {"message": "the simulator failed; see its standard error"}, "InternalServiceException")
            raise
        self._send(status, content, error_code)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer  # noqa: N815 - http.server's names

    def _send(self, status: int, content: dict[str, Any], error_code: str | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-amzn-RequestId", str(uuid.uuid4()))
        if error_code:
            self.send_header("x-amzn-ErrorType", error_code)
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, kind: str) -> None:
        match kind:
            case "hang":
                cast("_Server", self.server).simulator.faults.hang(self._is_closed_by_client)
            case "reset":
                # Closing discards what is unsent and resets; the handler's files keep the socket open until its end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            case "truncated":
                self._send_text(200, "application/json", b'{"NextToken": null, "ReferenceSummaryList": [{"Ur')
            case _:  # what a proxy or load balancer in between says
                self._send_text(503 if kind == "503" else 200, "text/html", b"<html><body>Try again</body></html>")
        self.close_connection = True

    def _is_closed_by_client(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable)

    def _send_text(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Print nothing: the statistics count requests."""
