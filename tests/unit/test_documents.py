"""What docs/ names, held against the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "events" / "README.md", *(ROOT / "docs").rglob("*.md")])


def anchors(document: Path) -> set[str]:
    """Return how links name the headings of a document: lower case, hyphens for blanks, nothing else but letters."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/.:]+)`", RELIABILITY))))
def test_each_test_that_a_claim_rests_on_exists(name: str) -> None:
    path, _, test = name.partition("::")
    assert f"def {test}" in (ROOT / path).read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_linked_exists(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", document.read_text()):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_each_decision_is_listed() -> None:
    listed = set(re.findall(r"\]\(([\w.-]+)\)", (ROOT / "docs" / "decisions" / "README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs" / "decisions").glob("*.md")} - {"README.md"}
