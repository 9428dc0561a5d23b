"""The services at one address on loopback, over TLS: for a process of its own, whose SDK is what it is in AWS."""

import ipaddress
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

from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from local.in_memory.connect import Connect
from local.in_memory.dynamodb import DynamoDB
from local.in_memory.s3 import S3
from local.in_memory.service import RefusedError, Service, respond_refusal


class Server:
    """`with Server(connect) as server:` serves Connect, and DynamoDB and S3 that are empty after each `reset`.

    What a process is to find there is put into `dynamodb`.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self.reset()
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

    @property
    def calls(self) -> Counter[str]:
        """How many requests there were since the last reset, by operation, refused ones too."""
        return self._connect.counts + self.dynamodb.counts + self._s3.counts

    def reset(self) -> None:
        """Forget all items, objects and calls."""
        with self._lock:
            self._connect.counts.clear()
            self.dynamodb = DynamoDB(keeps_calls=False)
            self._s3 = S3(keeps_objects=False)

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer as the service that a request is for; one that is not signed is refused."""
        if not str(request.headers.get("authorization", "")).startswith("AWS4-HMAC-SHA256 "):
            return respond_refusal(request, RefusedError("MissingAuthenticationToken", str(request.method), 403))
        with self._lock:
            try:
                return self._service(request).answer(request)
            except NotImplementedError as error:
                return respond_refusal(request, RefusedError("UnknownOperationException", str(error)))

    def _service(self, request: AWSPreparedRequest) -> Service:
        target = str(request.headers.get("x-amz-target", ""))
        if target:
            return self.dynamodb
        return self._s3 if request.method == "PUT" else self._connect

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(_Handler):
            answer = staticmethod(server.answer)

        return Handler


class _Handler(BaseHTTPRequestHandler):
    """HTTP around `answer`, with connections that are kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    answer: Callable[[AWSPreparedRequest], AWSResponse]

    def do_GET(self) -> None:
        headers: Any = HeadersDict(self.headers.items())
        answer = self.answer(AWSPreparedRequest(self.command, self.path, headers, self._read_body(), False))
        content = answer.raw.read()
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            self.send_header(name, value)
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


def _tls(folder: Path) -> ssl.SSLContext:
    """Make a certificate for the loopback address, valid for a day, and return a context that serves with it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "in memory")])
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
