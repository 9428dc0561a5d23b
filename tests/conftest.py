"""What tests of several folders share: a deployed system that enforces IAM, and which of them run in one process.

`pytest --dist=loadgroup --no-loadscope-reorder` runs a group in one process. What waits most begins first, so that the
processes that compute have something to do meanwhile.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.system import System, start

_DEPLOYED = ("enforcing_system", "rig", "system")
"""Fixtures that deploy the stacks: once each, for all tests that use them."""

_LONGEST_FIRST = (
    *_DEPLOYED,
    "test_the_demo_accounts_for_every_contact",
    "unit/test_state_machine.py",
    "unit/test_protocol.py",
    "infra",
    "unit/test_reconcile.py",
)


def _name_group(item: pytest.Item) -> str:
    """Name what a test shares with those of its group: a deployment, synthesized stacks, or the fixtures of a file."""
    for fixture in _DEPLOYED:
        if fixture in getattr(item, "fixturenames", ()):
            return fixture
    if item.path.parent.name == "infra":
        return "infra"
    return item.name if item.path.parent.name == "system" else f"{item.path.parent.name}/{item.path.name}"


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.config.pluginmanager.hasplugin("xdist"):  # which reads the mark before items are ordered
        item.add_marker(pytest.mark.xdist_group(_name_group(item)))


@pytest.hookimpl(trylast=True)  # after pytest has ordered them by their fixtures
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(_LONGEST_FIRST)}
    # Those of the permissions come last: they make instances, each of which costs a run its searches.
    items.sort(key=lambda item: (ranks.get(_name_group(item), len(ranks)), item.path.parent.name == "permissions"))


@pytest.fixture(scope="session")
def enforcing_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("enforcing")


@pytest.fixture(scope="session")
def enforcing_system(enforcing_directory: Path) -> Iterator[System]:
    """The production stacks on an emulator that enforces IAM, and a search at once.

    At the default rate a search waits four seconds, which would be most of the time of tests that reconcile.
    """
    with start(
        enforcing_directory,
        launcher="tests.permissions.launcher",
        context={"searchRequestsPerSecond": "20"},
        quotas={"SearchContacts": 40},
    ) as running:
        yield running
