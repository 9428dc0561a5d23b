"""The emulator's process with faults at hand: `-m tests.faults.launcher FD`.

The functions reach DynamoDB, S3 and SQS through microburst, which runs here too; everybody else reaches them
directly. Four routes more: `GET /_local/faults-url` says where microburst takes its rules,
`POST /_local/end-delays` shows the messages that wait after a failure, so that nobody has to wait with them,
`POST /_local/kill` kills one function's process that is at work, and `/_local/parts-left` takes (POST), shows (GET) and
lifts (DELETE) the faults by which DynamoDB leaves a part of a batch.
"""

import asyncio
import json
import os
import random
import runpy
import signal
import threading
import time
from typing import Any

import ministack.app as ministack  # type: ignore[import-untyped]  # the package ships no types
from aiohttp import web
from microburst.app import make_app  # type: ignore[import-untyped]  # the package ships no types
from microburst.core.pipeline import Microburst  # type: ignore[import-untyped]  # the package ships no types
from ministack.core import lambda_runtime  # type: ignore[import-untyped]  # the package ships no types
from ministack.services import dynamodb, lambda_svc, sqs  # type: ignore[import-untyped]  # the package ships no types

from tests.faults.rig import END_DELAYS_PATH, FAULTS_URL_PATH, KILL_PATH, PARTS_LEFT_PATH

_started: set[int] = set()
_parts_left: list[dict[str, Any]] = []


def _start_microburst(upstream: str) -> str:
    """Start microburst on a free port, for as long as this process lives; returns its URL."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return asyncio.run_coroutine_threadsafe(_serve_microburst(upstream), loop).result(timeout=30)


async def _serve_microburst(upstream: str) -> str:
    runner = web.AppRunner(make_app(Microburst(upstream)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"


def _end_delays() -> dict[str, int]:
    """Show all messages of all queues, unless functions are at work on some: theirs must stay out of sight."""
    now = time.time()
    working = sum(lambda_svc._esm_inflight.values())  # noqa: SLF001 - no public way
    shown = 0
    if not working:
        with sqs._queues_lock:  # noqa: SLF001 - no public way
            for queue in sqs._queues.values():  # noqa: SLF001 - no public way
                for message in queue["messages"]:
                    shown += message["visible_at"] > now
                    message["visible_at"] = min(message["visible_at"], now)
        lambda_svc.esm_wake.set()
    return {"working": working, "shown": shown}


def _note_starts() -> None:
    """Keep the ids of processes whose start is over, so that a kill does not hit one before it has its messages.

    Ministack answers a failed start with the end of all of the function's processes, which AWS does not.
    """
    plain = lambda_runtime.Worker._spawn  # noqa: SLF001 - no public way

    def spawn(worker: Any) -> None:
        plain(worker)
        _started.add(worker._proc.pid)  # noqa: SLF001 - no public way

    lambda_runtime.Worker._spawn = spawn  # noqa: SLF001 - no public way


def _kill() -> dict[str, int]:
    """Kill one of the functions' processes that have an invocation, if any has."""
    with lambda_runtime._lock:  # noqa: SLF001 - no public way
        workers = [worker for pool in lambda_runtime._workers.values() for worker in pool if worker.in_use]  # noqa: SLF001
        processes = [worker._proc for worker in workers]  # noqa: SLF001 - no public way
    at_work = [process.pid for process in processes if process and process.pid in _started and process.poll() is None]
    if at_work:
        os.kill(random.choice(at_work), signal.SIGKILL)  # noqa: S311 - any
    return {"killed": len(at_work[:1])}


def _leave_parts(operation: str, function_name: str, left_name: str) -> None:
    """Let a batch operation of DynamoDB do only the first half of its requests while a fault says so."""
    plain = getattr(dynamodb, function_name)

    def answer(parameters: dict[str, Any]) -> Any:
        fault = next((each for each in _parts_left if each["operation"] == operation and _is_left(each)), None)
        if fault is None:
            return plain(parameters)
        fault["hits"] += 1
        [(table, batch)] = parameters["RequestItems"].items()
        taken, left = _halve(batch)
        status, headers, body = 200, {"Content-Type": "application/x-amz-json-1.0"}, b'{"Responses": {}}'
        if taken:
            status, headers, body = plain({**parameters, "RequestItems": {table: taken}})
        return status, headers, json.dumps(json.loads(body) | {left_name: {table: left}}).encode()

    setattr(dynamodb, function_name, answer)


def _is_left(fault: dict[str, Any]) -> bool:
    return fault["count"] is None or fault["hits"] < fault["count"]


def _halve(batch: Any) -> tuple[Any, Any]:
    """Split the requests of one table, those to write or those to get; nothing may come first."""
    if isinstance(batch, list):
        return batch[: len(batch) // 2], batch[len(batch) // 2 :]
    taken, left = _halve(batch["Keys"])
    return taken and {**batch, "Keys": taken}, {**batch, "Keys": left}


async def _answer_parts_left(method: str, receive: Any) -> list[dict[str, Any]]:
    if method == "POST":
        _parts_left.append({**json.loads((await receive())["body"]), "hits": 0})
    elif method == "DELETE":
        _parts_left.clear()
    return _parts_left


def _main() -> None:
    _note_starts()
    _leave_parts("BatchGetItem", "_batch_get_item", "UnprocessedKeys")
    _leave_parts("BatchWriteItem", "_batch_write_item", "UnprocessedItems")
    faults_url = _start_microburst(f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}")
    # The functions inherit it.
    os.environ.update({f"AWS_ENDPOINT_URL_{service}": faults_url for service in ("DYNAMODB", "S3", "SQS")})
    plain = ministack.app

    async def application(scope: Any, receive: Any, send: Any) -> None:
        answer: object
        if scope.get("path") == FAULTS_URL_PATH:
            answer = {"url": faults_url}
        elif scope.get("path") == END_DELAYS_PATH:
            answer = _end_delays()
        elif scope.get("path") == KILL_PATH:
            answer = _kill()
        elif scope.get("path") == PARTS_LEFT_PATH:
            answer = await _answer_parts_left(scope["method"], receive)
        else:
            await plain(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    ministack.app = application
    runpy.run_module("local.launcher", run_name="__main__")


if __name__ == "__main__":
    _main()
