"""What docs/ names, held against the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/.:]+)`", RELIABILITY))))
def test_each_test_that_a_claim_rests_on_exists(name: str) -> None:
    path, _, test = name.partition("::")
    assert f"def {test}" in (ROOT / path).read_text()


def test_each_document_that_is_linked_exists() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        linked = re.findall(r"\]\(([\w.]+)\)", document.read_text())
        assert {name for name in linked if not (document.parent / name).exists()} == set()
