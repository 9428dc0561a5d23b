"""One deployed system whose calls can be made to fail, for all tests here."""

from collections.abc import Iterator

import pytest

from benchmarks.fault_rig import Rig, start_rig
from benchmarks.faults import FaultTrial


@pytest.fixture(scope="package")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with start_rig(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="package")
def trial(rig: Rig) -> FaultTrial:
    return FaultTrial(rig)
