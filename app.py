"""The CDK app: reads the context, checks it, composes the stacks."""

import sys

import aws_cdk as cdk

from infra.capture import CaptureStack
from infra.reconcile import ReconcileStack
from infra.settings import InvalidSettingsError, Settings
from infra.storage import StorageStack


def build(app: cdk.App) -> None:
    """Add the stacks of one stage to `app`.

    The stacks name neither account nor Region: their templates are the same everywhere and a synth asks AWS
    nothing.

    Raises:
        InvalidSettingsError: The app's context does not describe a deployment.
    """
    settings = Settings.from_context(app.node.get_all_context())
    prefix = f"ContactReferences-{settings.stage}"
    storage = StorageStack(app, f"{prefix}-Storage", settings=settings)
    capture = CaptureStack(app, f"{prefix}-Capture", settings=settings, storage=storage)
    ReconcileStack(app, f"{prefix}-Reconcile", settings=settings, storage=storage, queues=capture.queues)
    cdk.Tags.of(app).add("project", "contact-references")
    cdk.Tags.of(app).add("stage", settings.stage)


if __name__ == "__main__":
    cdk_app = cdk.App()
    try:
        build(cdk_app)
    except InvalidSettingsError as error:
        sys.exit(str(error))
    cdk_app.synth()
