"""The emulator's process with IAM, bucket policies and queue policies enforced: `-m tests.permissions.launcher FD`.

It speaks plain HTTP, and takes each request for one over TLS that a proxy has unwrapped: without TLS the template's
policies refuse all. A request that says `X-Forwarded-Proto: http` itself is taken for a plain one.

What SQS does in batches it allows with the action for a single message, and has no other; ministack asks for one.
"""

import os
import runpy
from typing import Any

if __name__ == "__main__":
    os.environ["AUTH"] = "true"  # read when ministack is imported

    import ministack.app as ministack  # type: ignore[import-untyped]  # the package ships no types
    from ministack.core import iam_actions  # type: ignore[import-untyped]  # the package ships no types

    plain, find_action = ministack.app, iam_actions.extract_iam_action

    def extract_iam_action(service: str, *request: Any) -> str | None:
        action: str | None = find_action(service, *request)
        return action.removesuffix("Batch") if action and service == "sqs" else action

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await plain({**scope, "scheme": "https"} if scope["type"] == "http" else scope, receive, send)

    ministack.app, iam_actions.extract_iam_action = application, extract_iam_action
    runpy.run_module("local.launcher", run_name="__main__")
