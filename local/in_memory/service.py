"""What the services in memory share: operations by name, refusals, and the doors to them."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from types import SimpleNamespace
from typing import Any, ClassVar

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ClientError

from local.in_memory.usage import Usage

Parameters = dict[str, Any]


class RefusedError(ClientError):
    """A service refuses a request; its message quotes what nobody may repeat, as services' messages may."""

    def __init__(self, code: str, operation: str, status: int = 400, **more: object) -> None:
        answer: Any = {
            "Error": {"Code": code, "Message": "secret value"},
            "ResponseMetadata": {"HTTPStatusCode": status},
            **more,
        }
        super().__init__(answer, operation)

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.response["Error"]["Code"])


class ConditionalCheckFailedError(RefusedError):
    """An item is not what a write's condition asks for."""


class Service:
    """An AWS service, used as a boto3 client of it is, or behind one.

    `before_call` is told of each operation before it is done: it passes the time that the call takes, or raises what
    the call fails of. `counts` are the calls so far by operation, refused ones too.
    """

    operations: ClassVar[frozenset[str]]
    meta: Any = SimpleNamespace(events=SimpleNamespace(register=lambda *_: None))
    exceptions: Any = SimpleNamespace(ConditionalCheckFailedException=ConditionalCheckFailedError)

    def __init__(self, usage: Usage | None = None) -> None:
        self.usage = Usage() if usage is None else usage
        self.counts: Counter[str] = Counter()
        self.before_call: Callable[[str], None] = lambda _: None

    def call(self, operation: str, parameters: Parameters) -> dict[str, Any]:
        """Do what one operation asks for; raises RefusedError as the service does."""
        self.counts[operation] += 1
        if operation not in self.operations:
            raise RefusedError("UnknownOperationException", operation)
        self.before_call(operation)
        answer: dict[str, Any] = getattr(self, f"_{_snake_case(operation)}")(parameters)
        return answer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = "".join(map(str.capitalize, name.split("_")))
        if operation not in self.operations:
            raise AttributeError(name)
        return lambda **parameters: self.call(operation, parameters)

    def get_paginator(self, name: str) -> Any:
        """Return what asks an operation for page after page, as DynamoDB's do."""

        def paginate(**parameters: Any) -> Iterator[dict[str, Any]]:
            while True:
                page = getattr(self, name)(**parameters)
                yield page
                if "LastEvaluatedKey" not in page:
                    return
                parameters |= {"ExclusiveStartKey": page["LastEvaluatedKey"]}

        return SimpleNamespace(paginate=paginate)

    def stand_behind(self, client: Any) -> None:
        """Answer what a boto3 client asks."""
        client.meta.events.register("before-send", lambda request, **_: self.answer(request))

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a client's request."""
        try:
            return respond(request, 200, self.call(*self.read(request)))
        except RefusedError as refusal:
            return respond_refusal(request, refusal)

    def read(self, request: AWSPreparedRequest) -> tuple[str, Parameters]:
        """Return a request's operation and parameters."""
        return read_json_request(request)


def _snake_case(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()


def read_json_request(request: AWSPreparedRequest) -> tuple[str, Parameters]:
    """Return the operation and the parameters of a request in DynamoDB's and SQS's protocol."""
    target = request.headers["X-Amz-Target"]
    return (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2], json.loads(read_body(request))


def read_body(request: AWSPreparedRequest) -> bytes:
    """Return what a request carries."""
    body: Any = request.body
    return body if isinstance(body, bytes) else body.read()


def respond(request: AWSPreparedRequest, status: int, body: Any, code: str = "") -> AWSResponse:
    """Return an answer to a client: bytes, or JSON of anything else; `code` is that of an error."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers: Any = {"content-type": "application/json", **({"x-amzn-errortype": code} if code else {})}
    return AWSResponse(request.url, status, headers, _Raw(raw))


def respond_refusal(request: AWSPreparedRequest, refusal: RefusedError) -> AWSResponse:
    """Return a refusal as an answer."""
    of: Any = refusal.response
    body = {"__type": f"com.amazonaws#{refusal.code}", "message": of["Error"]["Message"]}
    return respond(
        request,
        of["ResponseMetadata"]["HTTPStatusCode"],
        body | ({"Item": of["Item"]} if "Item" in of else {}),
        refusal.code,
    )


class _Raw(BytesIO):
    """A body as urllib3's answers have it."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()
