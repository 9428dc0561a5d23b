"""The command line of a system that is deployed in AWS: `python -m ops --help`."""

import sys
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.markup import escape

from contact_references.model.errors import CaptureError
from ops.console import make_console
from ops.deployment import FindDeployment, find_deployment
from ops.errors import OpsError, explain
from ops.toolkit import add_commands

app = typer.Typer(
    name="ops",
    help="See a deployed system, steer it, repair it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
add_commands(app)


@app.callback()
def choose(
    context: typer.Context,
    stage: Annotated[str, typer.Option(envvar="CONTACT_REFERENCES_STAGE", help="Stage of the deployment.")] = "dev",
    profile: Annotated[
        str | None, typer.Option(help="Profile of the AWS configuration. [AWS_PROFILE, as every AWS tool]")
    ] = None,
    region: Annotated[str | None, typer.Option(envvar="AWS_REGION", help="Region of the deployment.")] = None,
) -> None:
    """See a deployed system, steer it, repair it."""
    find: FindDeployment = lambda: find_deployment(stage, profile=profile or None, region=region or None)  # noqa: E731
    context.obj = find


def main(program: typer.Typer = app, arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status. What it cannot do it says in a sentence."""
    try:
        program(arguments, standalone_mode=True)
    except SystemExit as end:
        return int(end.code or 0)
    except (OpsError, CaptureError, BotoCoreError, ClientError) as error:
        make_console(stderr=True).print(f"[red]error:[/red] {escape(explain(error))}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
