"""What a terminal shows while something takes its time."""

from rich.console import Console

from local.system import System
from ops.console import make_progress


def show_drain(system: System, console: Console, *, what: str, seconds: float) -> bool:
    """Wait until the queue is empty; print a line that says so, and return False, if it isn't after so many seconds."""
    total = system.queued()
    if not total:
        return True
    with make_progress(console) as progress:
        task = progress.add_task(what, total=total)
        is_drained = system.wait_until_drained(
            seconds, report=lambda queued: progress.update(task, completed=max(0, total - queued))
        )
    if not is_drained:
        console.print(f"[red]{system.queued()} messages are still in the queue after {seconds:g} s[/red]")
    return is_drained
