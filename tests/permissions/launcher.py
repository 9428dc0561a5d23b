"""The emulator's process with IAM, bucket policies and queue policies enforced: `-m tests.permissions.launcher FD`.

It speaks plain HTTP, and takes each request for one over TLS that a proxy has unwrapped: without TLS the template's
policies refuse all. A request that says `X-Forwarded-Proto: http` itself is taken for a plain one.
"""

import os
import runpy
from typing import Any

if __name__ == "__main__":
    os.environ["AUTH"] = "true"  # read when ministack is imported

    import ministack.app as ministack  # type: ignore[import-untyped]  # the package ships no types

    plain = ministack.app

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await plain({**scope, "scheme": "https"} if scope["type"] == "http" else scope, receive, send)

    ministack.app = application
    runpy.run_module("local.launcher", run_name="__main__")
