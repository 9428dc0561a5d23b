"""The baseline's stack: `cdk deploy --app "python -m benchmarks.baseline.app"`."""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import aws_cdk as cdk
import jsii
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

STACK = "ContactReferences-Baseline"
_HERE = Path(__file__).parent
_REFERENCE_TYPES = (
    "URL,NUMBER,STRING,DATE,EMAIL,ATTACHMENT,CONTACT_ANALYSIS,EMAIL_MESSAGE,EMAIL_MESSAGE_PLAIN_TEXT,"
    "EMAIL_MESSAGE_REDACTED,EMAIL_MESSAGE_PLAIN_TEXT_REDACTED"
)


class BaselineStack(cdk.Stack):
    """A rule, a function with Lambda's defaults for asynchronous invocations, a table and a bucket."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        table = dynamodb.Table(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        table.add_global_secondary_index(
            index_name="by_value",
            partition_key=dynamodb.Attribute(name="value_key", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="value_at", type=dynamodb.AttributeType.STRING),
        )
        bucket = s3.Bucket(self, "Bucket", removal_policy=cdk.RemovalPolicy.DESTROY)
        function = lambda_.Function(
            self,
            "Function",
            code=_code(),
            handler="handler.handler",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=_architecture(),
            memory_size=256,
            tracing=lambda_.Tracing.ACTIVE,
            timeout=cdk.Duration.seconds(60),
            environment={
                "TABLE_NAME": table.table_name,
                "BUCKET_NAME": bucket.bucket_name,
                "REFERENCE_TYPES": _REFERENCE_TYPES,
                "POWERTOOLS_SERVICE_NAME": "baseline",
                "POWERTOOLS_METRICS_NAMESPACE": "Baseline",
            },
        )
        table.grant_write_data(function)
        bucket.grant_put(function)
        function.add_to_role_policy(iam.PolicyStatement(actions=["connect:ListContactReferences"], resources=["*"]))
        events.Rule(
            self,
            "Completed",
            event_pattern=events.EventPattern(
                source=["aws.connect"],
                detail_type=["Amazon Connect Contact Event"],
                detail={"eventType": ["COMPLETED"]},
            ),
            targets=[targets.LambdaFunction(function)],
        )
        cdk.CfnOutput(self, "TableName", value=table.table_name)
        cdk.CfnOutput(self, "BucketName", value=bucket.bucket_name)
        cdk.CfnOutput(self, "FunctionName", value=function.function_name)


def build(target: Path) -> None:
    """Install the function and what it needs, some of it compiled, for the machine and the Python that run this."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--target", str(target), "--requirement", str(_HERE / "requirements.txt")]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)
    shutil.copy(_HERE / "handler.py", target)


def _architecture() -> lambda_.Architecture:
    is_arm = platform.machine() in {"aarch64", "arm64"}
    return lambda_.Architecture.ARM_64 if is_arm else lambda_.Architecture.X86_64


@jsii.implements(cdk.ILocalBundling)
class _PipInstall:
    def try_bundle(self, output_dir: str, *_: object, **__: object) -> bool:
        build(Path(output_dir))
        return True


def _code() -> lambda_.AssetCode:
    image = cdk.DockerImage("unused")
    return lambda_.Code.from_asset(str(_HERE), bundling=cdk.BundlingOptions(image=image, local=_PipInstall()))


if __name__ == "__main__":
    app = cdk.App()
    BaselineStack(app, STACK)
    app.synth()
