"""What a terminal shows while something takes its time."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from local.reconciling import follow_backfill
from local.system import Json, System


def make_console() -> Console:
    """Return a console for standard output, 100 columns wide where that is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=100)


def show_drain(system: System, console: Console, *, what: str, seconds: float) -> bool:
    """Wait until the queue is empty; False, and a line that says so, if it isn't after so many seconds."""
    total = system.queued()
    if not total:
        return True
    with _bar(console) as progress:
        task = progress.add_task(what, total=total)
        drained = system.wait_until_drained(
            seconds, report=lambda queued: progress.update(task, completed=max(0, total - queued))
        )
    if not drained:
        console.print(f"[red]{system.queued()} messages are still in the queue after {seconds:g} s[/red]")
    return drained


def show_backfill(system: System, console: Console, execution_arn: str) -> Json:
    """Follow a backfill to its end and return its record; raises LocalSystemError if it failed."""
    with _bar(console) as progress:
        task = progress.add_task("Dividing the period into windows", total=None)

        def show(record: Json) -> None:
            text = f"{record['seen']} seen, {record['already_there']} already there, {record['queued']} queued; windows"
            progress.update(task, description=text, total=int(record["windows"]), completed=int(record["windows_done"]))

        return follow_backfill(system, execution_arn, report=show)


def _bar(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console)
