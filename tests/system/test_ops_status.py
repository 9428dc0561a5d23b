"""`status` on the deployed system; tests/faults breaks one that is to be seen red."""

import json
from collections.abc import Callable
from subprocess import CompletedProcess

from local.system import Json, System


def test_status_says_how_the_system_is_as_a_table_and_as_json(
    system: System, run_local: Callable[..., CompletedProcess[str]]
) -> None:
    document: Json = json.loads(run_local("status", "--json").stdout)
    assert document["facts"]["queue"].keys() == {"waiting", "in_flight", "delayed", "oldest_seconds"}
    assert {"queue", "dead letters", "Connect API", "reconcile", "tables"} <= {
        finding["subject"] for finding in document["findings"]
    }
    told = run_local("status")
    assert told.returncode == (1 if document["level"] == "red" else 0)
    assert f"Stage {system.deployment.stage}" in told.stdout
