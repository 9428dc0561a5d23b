"""What benchmarks give back: sections of docs/benchmarks.md or docs/scale.md, and the machine's part in them."""

import os
import platform
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parent.parent / "docs"


class Section(NamedTuple):
    """A part of a document, between markers with its name; what a person wrote around it stays."""

    name: str
    title: str
    body: str
    file: Path = DOCS / "benchmarks.md"

    def write(self, command: str) -> None:
        """Put it in the place of the one with its name, or at the end."""
        begin, end = f"<!-- {self.name} -->", f"<!-- /{self.name} -->"
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"
        made_by = f"`{command}` ({datetime.now(UTC).date().isoformat()}, {machine})"
        section = f"{begin}\n## {self.title}\n\n{made_by}\n\n{self.body.strip()}\n{end}"
        text = self.file.read_text(encoding="utf-8")
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text.rstrip()}\n\n{section}\n"
        self.file.write_text(text, encoding="utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(figures: Sequence[float], form: str) -> str:
    """Return the median of figures, with the least and the most.

    >>> spread([1, 2, 4], ".1f")
    '2.0 (1.0 to 4.0)'
    """
    return f"{statistics.median(figures):{form}} ({min(figures):{form}} to {max(figures):{form}})"


def verdict(is_met: bool) -> str:
    """Say whether a bar is met."""
    return "met" if is_met else "**missed**"


def tell(text: str) -> None:
    """Show a person how far it has got; what is printed otherwise is the result."""
    print(text, file=sys.stderr, flush=True)


class ProcessorTime:
    """How idle the machine's processors were since this was made, whoever used them; Linux tells."""

    def __init__(self) -> None:
        self._start = self._read()

    def __str__(self) -> str:
        busy, idle = (now - then for now, then in zip(self._read(), self._start, strict=True))
        share = f"{idle / (busy + idle):.0%}" if busy + idle else "unknown"
        return f"{share} idle, load {os.getloadavg()[0]:.1f}"

    @staticmethod
    def _read() -> tuple[int, int]:
        file = Path("/proc/stat")
        if not file.exists():
            return 0, 0
        user, nice, system, idle, waiting, *others = map(int, file.read_text().splitlines()[0].split()[1:9])
        return user + nice + system + sum(others), idle + waiting
