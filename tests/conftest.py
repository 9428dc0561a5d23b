"""What tests of several folders share: options and profiles, a deployed system, and which of them run in one process.

`--full-matrix` runs every fault and a hundred kills against the deployed system, and writes docs/faults.md.
`--hypothesis-profile=fuzz` draws new random examples, as many as a long run is worth, and prints how to repeat a
failure: `pytest tests/unit/test_fuzz.py tests/unit/test_state_machine.py tests/unit/test_erase_interleaved.py
--hypothesis-profile=fuzz`.

With several processes, what shares a deployment runs in one of them. What waits most begins first, so that others
compute meanwhile.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from local.system import System, start

settings.register_profile("fuzz", max_examples=2000, database=None, print_blob=True)

_SHARED = {
    "tests/permissions/": "enforcing system",
    "tests/system/test_reconcile.py": "enforcing system",
    "tests/system/": "system",
    "tests/faults/": "rig",
}
"""What tests by where they are share: a deployment, made once for all of them."""

_LONGEST_FIRST = (
    *dict.fromkeys(_SHARED.values()),
    "tests/unit/test_state_machine.py",
    "tests/unit/test_erase_interleaved.py",
    "tests/unit/test_protocol.py",
    "tests/infra/test_settings.py",
    "tests/infra/test_asset.py",
    "tests/unit/test_reconcile.py",
)


def _name_group(nodeid: str) -> str:
    """Name what a test shares with those of its group: a deployment, or the fixtures of a file."""
    path = nodeid.partition("::")[0]
    return next((group for start, group in _SHARED.items() if path.startswith(start)), path)


class _ByDeployment(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        return _name_group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByDeployment(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-matrix", action="store_true", help="every fault, a hundred kills; writes docs/faults.md")


@pytest.hookimpl(trylast=True)  # after pytest has ordered them by their fixtures
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    # Those of the permissions come last: they make instances, each of which costs a run its searches.
    items.sort(
        key=lambda item: (ranks.get(_name_group(item.nodeid), len(ranks)), item.path.parent.name == "permissions")
    )


@pytest.fixture(scope="session")
def enforcing_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("enforcing")


@pytest.fixture(scope="session")
def enforcing_system(enforcing_directory: Path) -> Iterator[System]:
    """The production stacks on an emulator that enforces IAM, and a search at once.

    At the default rate a search waits four seconds, which would be most of the time of tests that reconcile; each of
    their runs asks for the instances, more often than every half second.
    """
    with start(
        enforcing_directory,
        launcher="tests.permissions.launcher",
        context={"searchRequestsPerSecond": "20"},
        quotas={"SearchContacts": 40, "ListInstances": 40},
    ) as running:
        yield running
