"""The commands of every program that finds a deployment: `python -m ops` in AWS, `python -m local` on one machine."""

import typer

from ops import backfill, capture, contacts, coverage, dead_letters, erase, plan, rebuild, status, view


def add_commands(app: typer.Typer) -> None:
    """Add every command to a program that puts a FindDeployment into its context's `obj`."""
    for part in (status, coverage, contacts, dead_letters, capture, backfill, rebuild, erase, view, plan):
        part.register(app)
