"""Where measurements go: docs/benchmarks.md, a section for each benchmark; and the machine's part in them."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
_TITLE = "# Benchmarks\n\nEach section is written by the command it names.\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_section(name: str, *, title: str, command: str, body: str, file: Path = FILE) -> None:
    """Put a section in the place of the one between the same markers, or at the end; other sections stay."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    day = datetime.now(UTC).date().isoformat()
    section = f"{begin}\n## {title}\n\n`{command}` ({day}, {machine()})\n\n{body.strip()}\n{end}"
    text = file.read_text(encoding="utf-8") if file.exists() else _TITLE
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text.rstrip()}\n\n{section}\n"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def machine() -> str:
    """Say what the figures were measured on."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}"


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
