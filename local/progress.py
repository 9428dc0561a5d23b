"""What a terminal shows while something takes its time."""

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local import reconciling
from local.coverage import Hour
from local.system import System


def make_console() -> Console:
    """Return a console for standard output, 100 columns wide where that is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=100)


def show_drain(system: System, console: Console, *, what: str, seconds: float) -> bool:
    """Wait until the queue is empty; print a line that says so, and return False, if it isn't after so many seconds."""
    total = system.queued()
    if not total:
        return True
    with _bar(console) as progress:
        task = progress.add_task(what, total=total)
        is_drained = system.wait_until_drained(
            seconds, report=lambda queued: progress.update(task, completed=max(0, total - queued))
        )
    if not is_drained:
        console.print(f"[red]{system.queued()} messages are still in the queue after {seconds:g} s[/red]")
    return is_drained


def show_backfill(
    system: System, console: Console, period: Mapping[str, str]
) -> tuple[reconciling.Progress, list[Hour]]:
    """Follow a backfill until each of its hours was visited; return how far it got, and the hours.

    Raises:
        LocalSystemError: the period is refused, or a run failed.
    """
    with _bar(console) as bar:
        task = bar.add_task("Marking the hours", total=None)

        def show(progress: reconciling.Progress) -> None:
            text = f"{progress.open} of {progress.hours} hours open, {progress.queued} contacts queued; hours visited"
            visited = max(0, progress.hours - progress.due)
            bar.update(task, description=text, total=progress.hours, completed=visited)

        return reconciling.follow_backfill(system, period, report=show)


def _bar(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)
