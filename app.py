"""The CDK app: reads the context, checks it, composes the stacks."""

import json
import sys
from pathlib import Path

import aws_cdk as cdk

from infra.capture import CaptureStack, share_rate
from infra.lookup import FlowDesignerStack, LookupStack
from infra.monitoring import ActNowStack, Functions, MonitoringStack
from infra.reconcile import ReconcileStack
from infra.settings import InvalidSettingsError, Settings
from infra.storage import StorageStack
from infra.tables import TablesStack


def build(app: cdk.App) -> None:
    """Add the stacks of one stage to `app`.

    The stacks name neither account nor Region: their templates are the same everywhere and a synth asks AWS
    nothing.

    Raises:
        InvalidSettingsError: The app's context does not describe a deployment.
    """
    defaults = json.loads(Path(__file__).with_name("cdk.json").read_text(encoding="utf-8"))["context"]
    settings = Settings.from_context(app.node.get_all_context(), defaults=defaults)
    rate = share_rate(settings.connect_requests_per_second)
    prefix = f"ContactReferences-{settings.stage}"
    hidden = cdk.Duration.seconds(rate.visibility_timeout_seconds)
    storage = StorageStack(app, f"{prefix}-Storage", settings=settings, visibility_timeout=hidden)
    capture = CaptureStack(app, f"{prefix}-Capture", settings=settings, storage=storage, rate=rate)
    reconcile = ReconcileStack(app, f"{prefix}-Reconcile", settings=settings, storage=storage)
    lookup = LookupStack(app, f"{prefix}-Lookup", settings=settings, storage=storage)
    if settings.instance_arns:
        FlowDesignerStack(app, f"{prefix}-FlowDesigner", settings=settings, function=lookup.function)
    tables = TablesStack(app, f"{prefix}-Tables", settings=settings, storage=storage)
    functions = Functions(capture.function, reconcile.function, tables.function, lookup.function)
    monitoring = MonitoringStack(
        app, f"{prefix}-Monitoring", settings=settings, storage=storage, functions=functions, rule=capture.rule
    )
    if settings.alarm_email:
        ActNowStack(app, f"{prefix}-ActNow", monitoring=monitoring)
    cdk.Tags.of(app).add("project", "contact-references")
    cdk.Tags.of(app).add("stage", settings.stage)


if __name__ == "__main__":
    cdk_app = cdk.App()
    try:
        build(cdk_app)
    except InvalidSettingsError as error:
        sys.exit(str(error))
    cdk_app.synth()
