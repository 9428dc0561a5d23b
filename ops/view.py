"""The page in the browser, for who owns the data: served to this machine alone, as long as the command runs."""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ops.deployment import Deployment, account_options_of, deployment_of, program_of
from ops.errors import OpsError

if TYPE_CHECKING:
    import uvicorn

_HOST = "127.0.0.1"
_LONGEST_REQUEST = 64 * 1024  # a value of Connect's has 4,096 characters at most, each nine letters long in an address


def listen(port: int) -> socket.socket:
    """Return a socket on a port of the loopback address, 0 for a free one; raises OpsError if it is taken."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((_HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise OpsError(
            f"port {port} cannot be used ({error.strerror}): name another with --port, or none for a free one"
        ) from None
    return listening


def make_server(
    deployment: Deployment, listening: socket.socket, *, program: str, account_options: Sequence[str] = ()
) -> "uvicorn.Server":
    """Return the server; what is asked for is logged nowhere, as a value may be in it."""
    import uvicorn  # noqa: PLC0415 - with the page half a second, which no other command is to wait for

    from ops.page.app import Page  # noqa: PLC0415

    page = Page(deployment, program=program, account_options=account_options)
    return uvicorn.Server(
        uvicorn.Config(
            page.app(port=listening.getsockname()[1]),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=_LONGEST_REQUEST,
            timeout_graceful_shutdown=1,
        )
    )


def view(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 for a free one.")] = 0,
) -> None:
    """Show what is captured as a page in the browser, to this machine alone, until Ctrl-C."""
    deployment = deployment_of(context)
    with listen(port) as listening:
        server = make_server(
            deployment,
            listening,
            program=program_of(context, deployment),
            account_options=account_options_of(context),
        )
        print(
            f"http://{_HOST}:{listening.getsockname()[1]}/\nOpen it in a browser on this machine. Ctrl-C ends it.",
            flush=True,
        )
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            print("Stopped.")


def register(app: typer.Typer) -> None:
    """Add `view`."""
    app.command(epilog="Example: python -m ops --stage prod view --port 8080")(view)
