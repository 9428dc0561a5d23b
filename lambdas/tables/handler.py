"""The tables function: brings the tables up to the lake, or marks days whose tables are to be made anew."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import uuid4

import boto3
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from contact_references.aws.day_folders import READERS, DayFolders
from contact_references.aws.days import Days
from contact_references.model.errors import CaptureError
from contact_references.tables.commands import parse_rebuild
from contact_references.tables.report import TablesReport
from contact_references.tables.run import Tables
from contact_references.tables.settings import TablesSettings

logger = Logger()
metrics = Metrics()


class App(NamedTuple):
    """What an execution environment makes once."""

    tables: Tables
    report: TablesReport


def wire(settings: TablesSettings, *, clock: Callable[[], datetime]) -> App:
    """Make the parts by the settings, with clients of the SDK's own session."""
    session = boto3.session.Session()
    patient = Config(
        connect_timeout=2,
        read_timeout=20,
        retries={"mode": "standard", "total_max_attempts": 5},
        max_pool_connections=READERS,
    )
    report = TablesReport(logger, metrics)
    tables = Tables(
        days=Days(session.client("dynamodb", config=patient), settings.table_name),
        folders=DayFolders(session.client("s3", config=patient), settings.bucket_name),
        report=report,
        memory_megabytes=settings.memory_megabytes,
        retention=settings.retention,
        clock=clock,
    )
    return App(tables, report)


@cache
def _wire() -> App:
    return wire(TablesSettings.from_environment(os.environ), clock=lambda: datetime.now(UTC))


@logger.inject_lambda_context
def handler(event: Any, context: LambdaContext, *, app: App | None = None) -> dict[str, Any]:
    """Write the tables of the days that changed, or mark days to be made anew.

    `{}` is what the schedule sends; returns `{"outcome", "written"}`, the number of days, or as outcome that another
    run is at work. `{"rebuild": {"from"?, "to"?}}` marks the days of a period: returns `{"days"}`, their number, and
    the next runs write them. Raises InvalidCommandError for anything else, and a CaptureError if a day failed: the
    others then are done.
    """
    app = app or _wire()
    try:
        if event != {}:
            return {"days": app.tables.mark(parse_rebuild(event))}
        written = app.tables.run(holder=str(uuid4()), time_left=lambda: context.get_remaining_time_in_millis() / 1000)
    except CaptureError as error:
        app.report.ended(error)
        raise
    finally:
        app.report.publish()
    outcome = "another run is at work" if written is None else "the days that changed are written"
    return {"outcome": outcome, "written": written or 0}


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # During Lambda's init, where a wrong environment stops the first deployment.
    _wire()
