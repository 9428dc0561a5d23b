"""Lambda's asynchronous invocation, played: the emulator's EventBridge invokes a function once and repeats nothing.

As in AWS: a queue in front of the function, as many execution environments as the account has concurrency, and for
an event whose invocation fails a second one after a minute and a third two minutes later; then it is gone.
Environments are threads that share the function's clients: a thousand processes fit on no small machine. There is
no cold start and no time-out here, both in the baseline's favour.
"""

import heapq
import os
import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, NamedTuple

import boto3
import botocore.session
from botocore.config import Config

RETRY_WAITS = (60.0, 120.0)

Event = dict[str, Any]


class Fates(NamedTuple):
    """What became of the events: captured at which invocation (first, second, third), or given up."""

    captured_at_try: list[int]
    given_up: int
    seconds: float
    errors: dict[str, int]


def play(events: Sequence[Event], environment: Mapping[str, str], *, environments: int) -> Fates:
    """Invoke the baseline for each event, all of them at once; meant for a process of its own.

    The function's `capture` is called without Powertools' decorators: Logger and Metrics keep what belongs to an
    invocation in the process, which here has many.
    """
    os.environ.update(environment)
    # Each environment has connections of its own, as a process would.
    session = botocore.session.Session()
    session.set_default_client_config(Config(max_pool_connections=environments))
    boto3.setup_default_session(botocore_session=session)
    function = import_module("benchmarks.baseline.handler")
    ended: queue.SimpleQueue[tuple[int, Event, str | None]] = queue.SimpleQueue()

    def invoke(tries: int, event: Event) -> None:
        try:
            function.capture(function.ContactEvent.model_validate(event))
        except Exception as error:  # noqa: BLE001 - Lambda repeats an invocation whatever it failed of
            ended.put((tries, event, type(error).__name__))
        else:
            ended.put((tries, event, None))

    captured_at_try, given_up, errors = [0] * (1 + len(RETRY_WAITS)), 0, dict[str, int]()
    waiting: list[tuple[float, int, int, Event]] = []
    begin = time.monotonic()
    with ThreadPoolExecutor(environments) as executor:
        for event in events:
            executor.submit(invoke, 0, event)
        while sum(captured_at_try) + given_up < len(events):
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, tries, event = heapq.heappop(waiting)
                executor.submit(invoke, tries, event)
            try:
                tries, event, error = ended.get(timeout=1)
            except queue.Empty:
                continue
            if error is None:
                captured_at_try[tries] += 1
                continue
            errors[error] = errors.get(error, 0) + 1
            if tries == len(RETRY_WAITS):
                given_up += 1
            else:
                heapq.heappush(waiting, (time.monotonic() + RETRY_WAITS[tries], id(event), tries + 1, event))
    return Fates(captured_at_try, given_up, time.monotonic() - begin, errors)
