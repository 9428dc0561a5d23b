"""The commands of every program that finds a deployment: `python -m ops` in AWS, `python -m local` on one machine."""

import typer

from ops import plan, rebuild


def add_commands(app: typer.Typer) -> None:
    """Add every command to a program that puts a FindDeployment into its context's `obj`."""
    rebuild.register(app)
    plan.register(app)
