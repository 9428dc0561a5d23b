"""S3: one bucket in memory, to which objects are only ever added."""

import base64
import zlib
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from local.in_memory.service import Parameters, RefusedError, Service, read_body, respond
from local.in_memory.usage import PUTS, Usage


class S3(Service):
    """`PutObject`; `objects` are the bodies by key, if they are kept."""

    operations = frozenset({"PutObject"})

    def __init__(self, usage: Usage | None = None, *, keeps_objects: bool = True) -> None:
        super().__init__(usage)
        self._keeps_objects = keeps_objects
        self.objects: dict[str, bytes] = {}

    def _put_object(self, parameters: Parameters) -> dict[str, Any]:
        key, body = parameters["Key"], parameters["Body"]
        if not 0 < len(key.encode()) <= 1024:
            raise RefusedError("KeyTooLongError", "PutObject")
        if self.objects.get(key, body) != body:  # the same again is a repeat
            raise RefusedError("the lake is append only", "PutObject", 412)
        self.usage.add(PUTS)
        if self._keeps_objects:
            self.objects[key] = body
        return {}

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a client's request."""
        try:
            self.call(*self.read(request))
        except RefusedError as refusal:
            error = f"<Error><Code>{refusal.code}</Code></Error>".encode()
            return respond(request, refusal.response["ResponseMetadata"]["HTTPStatusCode"], error)
        return respond(request, 200, b"")

    def read(self, request: AWSPreparedRequest) -> tuple[str, Parameters]:
        """Return a request's operation and parameters."""
        url = urlsplit(request.url)
        path = unquote(url.path).lstrip("/")
        bucket, is_in_host, _ = url.netloc.partition(".s3.")
        bucket, _, key = (bucket, "", path) if is_in_host else path.partition("/")
        body = read_body(request)
        if "aws-chunked" in str(request.headers.get("content-encoding", "")):
            body = _read_chunk(body)
        operation = "PutObject" if request.method == "PUT" else f"{request.method} an object"
        return operation, {"Bucket": bucket, "Key": key, "Body": body}


def _read_chunk(body: bytes) -> bytes:
    """Return what is in a body as SDKs send it over TLS: its size, itself, an empty chunk, its checksum."""
    size, _, rest = body.partition(b"\r\n")
    content, trailer = rest[: int(size, 16)], rest[int(size, 16) :]
    checksum = base64.b64encode(zlib.crc32(content).to_bytes(4, "big"))
    if trailer.split() != [b"0", b"x-amz-checksum-crc32:" + checksum]:
        raise RefusedError("BadDigest", "PutObject")
    return content
