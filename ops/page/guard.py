"""What holds for every request and every answer, whatever they are about."""

import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = ("GET", "HEAD")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Refuses what does not only read, or names another host, and gives each answer its headers.

    A page of a stranger can have its own name lead to this machine, and would then be allowed to read what is here: so
    only the names of loopback are answered. What such a page would load as a part of itself, an image perhaps, it may
    not read; but each answer costs reads in AWS, and takes longer where something is found: that is refused too.
    """

    def __init__(self, app: ASGIApp, *, port: int, refuse: Callable[[int, str], Response]) -> None:
        self._app = app
        names = ("127.0.0.1", "localhost")
        self._hosts = {*(f"{name}:{port}" for name in names), *(names if port == 80 else ())}
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        began = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["Server-Timing"] = f"total;dur={1000 * (time.perf_counter() - began):.1f}"
            await send(message)

        app: ASGIApp = self._app
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self._hosts:
            app = self._refuse(400, "This page is there for this machine alone, under the address that `view` printed.")
        elif headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_opened(headers):
            app = self._refuse(403, "This page is no part of another one: open it by itself.")
        elif scope["method"] not in METHODS:
            app = self._refuse(405, "This page only shows: it takes GET and HEAD.")
            app.headers["Allow"] = ", ".join(METHODS)
        await app(scope, receive, send_with_headers)


def _is_opened(headers: Headers) -> bool:
    """Whether a person opens the page, by a link of another one perhaps; browsers say so, and no page can."""
    return (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
