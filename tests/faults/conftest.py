"""One deployed system whose calls can be made to fail, for all tests here, and the table of what became of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from local.emulator import ROOT
from tests.faults.matrix import CellResult, FaultTrial, KillResult, describe, matrix
from tests.faults.rig import Rig, start_rig


@dataclass
class Evidence:
    """How long faults last and how often processes are killed, and what became of it.

    The full matrix goes into docs/faults.md once all of it has run.
    """

    is_full: bool
    cells: list[CellResult] = field(default_factory=list)
    kills: list[KillResult] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long a fault lasts that is lifted."""
        return 3 if self.is_full else 1

    @property
    def number_of_kills(self) -> int:
        return 100 if self.is_full else 5

    def write(self) -> None:
        if self.is_full and len(self.cells) == len(matrix()) and self.kills:
            text = describe(self.cells, self.kills[0], seconds=self.seconds)
            (ROOT / "docs" / "faults.md").write_text(text, encoding="utf-8")


@pytest.fixture(scope="package")
def evidence(request: pytest.FixtureRequest) -> Iterator[Evidence]:
    collected = Evidence(is_full=request.config.getoption("--full-matrix"))
    yield collected
    collected.write()


@pytest.fixture(scope="package")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with start_rig(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="package")
def trial(rig: Rig) -> FaultTrial:
    return FaultTrial(rig)
