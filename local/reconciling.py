"""Accounts for a running system's contacts by its deployed function or state machine, and tells what was found."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from local.emulator import LocalSystemError
from local.system import Json, System


def reconcile(system: System, period: Mapping[str, str]) -> Json:
    """Run the deployed reconcile function and return its answer: `done`, `seen`, `queued` and so on.

    Args:
        system: that runs.
        period: `{"from": …, "to": …}`, or nothing for the last hours and the looks that are due.

    Raises:
        LocalSystemError: the function failed; the message is its own.
    """
    answer = system.clients.functions.invoke(
        FunctionName=system.outputs["ReconcileFunctionName"], Payload=json.dumps(dict(period)).encode()
    )
    result: Json = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        raise LocalSystemError(f"the function failed: {result.get('errorMessage', result)}")
    return result


def describe(counts: Mapping[str, Any]) -> str:
    """Say in words what was found: the counts of an answer of the function, or of a backfill's record."""
    text = (
        f"{counts['seen']} completed contacts: {counts['already_there']} already there, "
        f"{counts['queued']} missing and queued"
    )
    return f"{text}; {counts['looks']} later looks queued" if "looks" in counts else text


def start_backfill(system: System, period: Mapping[str, str]) -> str:
    """Start the state machine for `{"from": …, "to": …}` and return the execution's ARN, which ends in its name."""
    return system.clients.state_machines.start_execution(
        stateMachineArn=system.outputs["BackfillStateMachineArn"], input=json.dumps(dict(period))
    )["executionArn"]


def follow_backfill(system: System, execution_arn: str, *, report: Callable[[Json], None] = lambda _: None) -> Json:
    """Wait until a backfill has ended, and return its record: `windows`, `windows_done`, `seen` and so on.

    Args:
        system: that runs.
        execution_arn: what `start_backfill` returned.
        report: told the record whenever it was read.

    Raises:
        LocalSystemError: the execution did not succeed; the message says why.
    """
    name = execution_arn.rpartition(":")[2]
    while True:
        # In this order: the record that is read after the end is the last one.
        execution = system.clients.state_machines.describe_execution(executionArn=execution_arn)
        record = system.backfill(name)
        if record is not None:
            report(record)
        if execution["status"] == "SUCCEEDED" and record is not None:
            return record
        if execution["status"] != "RUNNING":
            raise LocalSystemError(f"the backfill {execution['status'].lower()}: {_why(execution.get('cause', ''))}")
        time.sleep(0.2)


def _why(cause: str) -> str:
    """Return the exception's own words, where a function's exception is what ended an execution."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return cause
