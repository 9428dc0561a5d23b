"""The emulator's process: ministack's own application and one more route, on an inherited socket.

`python -m local.launcher FD` serves until its standard input closes, so it can't outlive the process that
started it, however that one ends.
"""

import asyncio
import json
import sys
from typing import Any

import ministack.app as ministack  # type: ignore[import-untyped]  # the package ships no types
from hypercorn.asyncio import serve
from hypercorn.config import Config
from ministack.services import eventbridge  # type: ignore[import-untyped]  # the package ships no types

from local.emulator import SERVICE_EVENTS_PATH


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Ministack, and `POST /_local/service-events`: PutEvents for sources that belong to AWS services.

    PutEvents refuses the source `aws.connect`, in AWS and here. What AWS services publish with inside AWS has
    no public API; this is its place, in the form of PutEvents' request and response.
    """
    if scope["type"] != "http" or scope["path"] != SERVICE_EVENTS_PATH:
        await ministack.app(scope, receive, send)
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    try:
        request = json.loads(body)
    except ValueError:
        request = None
    if scope["method"] != "POST" or not isinstance(request, dict) or "Entries" not in request:
        status, answer = 400, json.dumps({"message": 'POST a JSON object such as {"Entries": […]}'}).encode()
    else:
        status, _, answer = eventbridge._put_events(request, allow_aws_source=True)  # noqa: SLF001 - no public way
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def _standard_input_closed() -> None:
    await asyncio.to_thread(sys.stdin.buffer.read)


if __name__ == "__main__":
    config = Config()
    config.bind = [f"fd://{int(sys.argv[1])}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    asyncio.run(serve(application, config, shutdown_trigger=_standard_input_closed))
