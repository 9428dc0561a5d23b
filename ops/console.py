"""What commands share of talking to a person: output as tables or JSON, questions, progress."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ops.errors import OpsError

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking first.")]


def make_console(*, stderr: bool = False) -> Console:
    """Return a console, 100 columns wide where it is no terminal."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=100)


def print_json(content: Any) -> None:
    """Print a JSON document to standard output, and nothing else."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    # What a terminal obeys instead of showing it, and lone surrogates, as JSON writes them.
    print("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def ask(question: str, *, is_answered: bool) -> None:
    """Ask before something changes, unless the answer was given with --yes; anything but yes ends the command."""
    if is_answered:
        return
    try:
        is_answered = typer.confirm(question, err=True)
    except typer.Abort:
        raise OpsError("nobody has answered, so nothing was changed: say --yes to do it without asking") from None
    if not is_answered:
        raise OpsError("nothing was changed")


def make_progress(console: Console) -> Progress:
    """Return a progress display; it goes to standard error, so that standard output holds the result alone."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)


def make_visible(text: str) -> str:
    r"""Write what a terminal would act on, or not show, as escapes: control characters, those that turn text around.

    >>> make_visible("a\u202eb\x1b[31m\n")
    'a\\u202eb\\x1b[31m\\n'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
