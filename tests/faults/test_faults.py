"""A few cells of the matrix of docs/faults.md, and a few kills; with `--full-matrix` all of it, in about an hour."""

import random
import re

import pytest

from local.emulator import ROOT
from tests.faults.conftest import Evidence
from tests.faults.matrix import Cell, FaultTrial, kill_functions, matrix
from tests.faults.rig import Fault, Rig, Verdict, Work, make_references

SELECTION = [
    Cell("ListContactReferences", "not_json", once=True),
    Cell("ListContactReferences", "503", once=False),
    Cell("BatchGetItem", "access_denied", once=False),
    Cell("PutItem", "reset", once=False),
    Cell("PutItem", "answer_lost", once=True),
    Cell("BatchWriteItem", "unprocessed", once=False),
    Cell("UpdateItem", "answer_lost", once=False),
    Cell("PutObject", "throttle", once=False),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        cells = matrix() if metafunc.config.getoption("--full-matrix") else SELECTION
        names = [f"{cell.operation}-{cell.kind}-{'once' if cell.once else 'until-lifted'}" for cell in cells]
        metafunc.parametrize("cell", cells, ids=names)


def test_a_fault_loses_nothing_doubles_nothing_and_lets_no_reader_see_a_part(
    trial: FaultTrial, evidence: Evidence, cell: Cell
) -> None:
    result = trial.run(cell, seconds=evidence.seconds)
    evidence.cells.append(result)

    assert result.hits >= (1 if cell.once else 2)
    assert result.reads
    assert result.verdict == Verdict()


def test_a_large_contact_whose_commit_is_never_answered_is_captured_all_the_same(rig: Rig) -> None:
    work = Work(rig.system)
    contact_id = work.put(*make_references(120))
    rig.inject(Fault("PutItem", "answer_lost", 2))  # the SDK's second attempt, which is refused, too
    work.complete([contact_id])
    rig.wait_for_hit("PutItem", seconds=30, times=2)
    rig.lift()

    assert rig.drain(30)
    assert rig.judge(work) == Verdict()


def test_a_killed_function_loses_nothing_doubles_nothing_and_lets_no_reader_see_a_part(
    rig: Rig, evidence: Evidence
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    result = kill_functions(rig, kills=evidence.number_of_kills, draw=random.Random(seed))  # noqa: S311 - moments
    evidence.kills.append(result)

    assert 0 < result.hit <= result.kills, f"seed {seed}"
    assert result.verdict == Verdict(), f"seed {seed}"


def test_the_matrix_has_every_call_of_the_capture_function_and_every_way_to_fail() -> None:
    adapters = ROOT / "lambdas" / "contact_references" / "aws"
    sources = "".join((adapters / f"{name}.py").read_text() for name in ("ledger", "items", "lake", "capture_queue"))
    by_reconciling_only = {"GetQueueAttributes", "SendMessageBatch"}
    calls = {"ListContactReferences", *re.findall(r'translated_errors\("(\w+)"', sources)} - by_reconciling_only
    kinds = ("throttle", "500", "503", "hang", "reset", "access_denied")

    cells = {(cell.operation, cell.kind, cell.once) for cell in matrix()}
    assert {operation for operation, _, _ in cells} == calls
    assert cells >= {(operation, kind, once) for operation in calls for kind in kinds for once in (True, False)}
