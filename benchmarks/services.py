"""The services that a capture calls, on loopback over TLS: as little of them as it uses, and refusing the rest.

`with Services() as services:` serves; a contact has as many references as its id says (`contact_id`).
"""

import base64
import ipaddress
import json
import ssl
import threading
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.prices import Usage
from benchmarks.stand_ins import RefusedError, Table, list_references
from contact_references.model.reference import PRODUCED_TYPES

_KINDS = ("Url", "Attachment", "String", "EmailMessage", "Number", "ContactAnalysis", "Date", "Email")
_VALUES = {"Number": "12.50", "Date": "2026-03-02", "Email": "agent@example.com", "EmailMessage": None}


class Services:
    """Amazon Connect, DynamoDB and S3 at one address; `calls` counts requests by operation, refused ones too."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._table = Table(Usage())
        self._lock = threading.Lock()
        self._folder = TemporaryDirectory()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = _tls(Path(self._folder.name)).wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """What goes into AWS_ENDPOINT_URL."""
        return f"https://127.0.0.1:{self._server.server_port}"

    @property
    def certificate(self) -> Path:
        """The server's own, to trust."""
        return Path(self._folder.name) / "certificate.pem"

    def reset(self) -> None:
        """Forget all items and calls."""
        with self._lock:
            self.calls.clear()
            self._table = Table(Usage())

    def answer(self, method: str, path: str, target: str, body: bytes) -> dict[str, Any]:
        """Return what the service that a signed request is for answers; raises RefusedError."""
        with self._lock:
            operation = target.rpartition(".")[2] or f"{method} {path.split('/')[1]}"
            if operation == "GET contact":
                self.calls["ListContactReferences"] += 1
                return _list_references(path)
            if operation == "PUT lake":
                self.calls["PutObject"] += 1
                return _put_object(body)
            self.calls[operation] += 1
            if not target.startswith("DynamoDB_20120810."):
                raise RefusedError("UnknownOperationException", operation)
            return self._table.call(operation, json.loads(body))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        services = self

        class Handler(_Handler):
            answer = staticmethod(services.answer)

        return Handler


class _Handler(BaseHTTPRequestHandler):
    """HTTP around `answer`, with connections that are kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    answer: Callable[[str, str, str, bytes], dict[str, Any]]

    def do_GET(self) -> None:
        body = self._read_body()
        try:
            if not self.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
                raise RefusedError("MissingAuthenticationToken", self.command, 403)
            answer = self.answer(self.command, self.path, self.headers.get("x-amz-target", ""), body)
            status = 200
        except RefusedError as refusal:
            # What a refused condition met is in the answer too.
            answer = {"__type": refusal.response["Error"]["Code"], **refusal.response}
            status = refusal.response["ResponseMetadata"]["HTTPStatusCode"]
        except NotImplementedError:
            answer, status = {"__type": "UnknownOperationException"}, 400
        content = b"" if self.command == "PUT" else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", str(len(content)))
        self.send_header("x-amz-crc32", str(zlib.crc32(content)))
        self.end_headers()
        self.wfile.write(content)

    def _read_body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_POST = do_GET  # noqa: N815 - the base class's names
    do_PUT = do_GET  # noqa: N815

    def handle_expect_100(self) -> bool:
        is_welcome = super().handle_expect_100()
        self.wfile.flush()
        return is_welcome

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def contact_id(references: int, serial: int) -> str:
    """Return the id of a contact with so many references.

    >>> contact_id(5, 1)
    '00000005-0000-4000-8000-000000000001'
    """
    return f"{references:08}-0000-4000-8000-{serial:012}"


def _list_references(path: str) -> dict[str, Any]:
    address = urlsplit(path)
    types = parse_qs(address.query).get("referenceTypes", [])
    count = int(address.path.rpartition("/")[2].partition("-")[0])
    members = [_reference(_KINDS[number % len(_KINDS)], number) for number in range(count)]
    return {"ReferenceSummaryList": list_references(members, {"ReferenceTypes": types})["ReferenceSummaryList"]}


def _reference(kind: str, number: int) -> dict[str, Any]:
    value = _VALUES.get(kind, f"https://crm.example.com/{number}")
    content = {"Name": f"Reference {number}", **({} if value is None else {"Value": value})}
    if kind in PRODUCED_TYPES:
        content["Arn"] = f"arn:aws:connect:us-east-1:111122223333:instance/i/contact/c/{kind}/{number}"
    if kind in {"Attachment", "ContactAnalysis"}:
        content["Status"] = "AVAILABLE"
    return {kind: content}


def _put_object(body: bytes) -> dict[str, Any]:
    # As SDKs send it over TLS: its size, itself, an empty chunk, its checksum.
    size, _, rest = body.partition(b"\r\n")
    content, trailer = rest[: int(size, 16)], rest[int(size, 16) :]
    checksum = base64.b64encode(zlib.crc32(content).to_bytes(4, "big"))
    if not content.startswith(b"\x1f\x8b") or trailer.split() != [b"0", b"x-amz-checksum-crc32:" + checksum]:
        raise RefusedError("BadDigest", "PutObject")
    return {}


def _tls(folder: Path) -> ssl.SSLContext:
    """Make a certificate for the loopback address, valid for a day, and return a context that serves with it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "benchmark")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).add_extension(names, critical=False)
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "certificate.pem").write_bytes(certificate)
    pkcs8, clear = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, clear))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context
