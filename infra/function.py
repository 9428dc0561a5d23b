"""What all functions have in common: their runtime, a role and a log group each, and ways to write its permissions."""

from collections.abc import Iterable, Mapping

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.asset import functions_code
from infra.settings import Settings
from infra.storage import StorageStack

SERVICE = "contact-references"
"""The dimension `service` of the functions' metrics."""


class PythonFunction(Construct):
    """A handler of lambdas/ as a Lambda function, with a role and a log group that only it uses.

    The role may do what the statements say and write its log. The log is kept a year in production,
    else a month.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        handler: str,
        timeout: cdk.Duration,
        statements: Iterable[iam.PolicyStatement],
        environment: Mapping[str, str],
        code: lambda_.Code | None = None,
        architecture: lambda_.Architecture = lambda_.Architecture.ARM_64,
        memory_megabytes: int = 256,
        disk_megabytes: int = 512,
    ) -> None:
        super().__init__(scope, construct_id)
        log_group = logs.LogGroup(
            self,
            "Log",
            retention=logs.RetentionDays.ONE_YEAR if settings.is_production else logs.RetentionDays.ONE_MONTH,
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        for statement in statements:
            role.add_to_policy(statement)
        role.add_to_policy(allow(["logs:CreateLogStream", "logs:PutLogEvents"], log_group.log_group_arn))
        self.function = lambda_.Function(
            self,
            "Function",
            code=code or functions_code(),
            handler=handler,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=architecture,
            memory_size=memory_megabytes,
            ephemeral_storage_size=cdk.Size.mebibytes(disk_megabytes) if disk_megabytes != 512 else None,
            timeout=timeout,
            # Lambda's own traces say what its REPORT lines do, and cost as much as all of a contact's writes.
            tracing=lambda_.Tracing.DISABLED,
            role=role,
            log_group=log_group,
            environment={
                **environment,
                "POWERTOOLS_SERVICE_NAME": SERVICE,
                "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
                "POWERTOOLS_LOG_LEVEL": "INFO",
            },
        )
        cdk.Validations.of(self.function).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-L1",
                reason="The asset's bytecode is Python 3.13's, and 3.13 is what the tests run on",
            )
        )


# Written out: the constructs' grant methods give actions that no function here uses.
def allow(actions: list[str], *resources: str, via: str = "") -> iam.PolicyStatement:
    """Return a statement that allows the actions on the resources, a key's only `via` the service named."""
    service = f"{via}.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}"
    conditions = {"StringEquals": {"kms:ViaService": service}} if via else None
    return iam.PolicyStatement(actions=actions, resources=list(resources), conditions=conditions)


def allow_ledger_key(storage: StorageStack) -> iam.PolicyStatement:
    """Return what DynamoDB's documentation says a caller needs, without CreateGrant: that is for creating tables."""
    return allow(
        [
            "kms:Encrypt",
            "kms:Decrypt",
            "kms:ReEncryptFrom",
            "kms:ReEncryptTo",
            "kms:GenerateDataKey",
            "kms:GenerateDataKeyWithoutPlaintext",
            "kms:DescribeKey",
        ],
        storage.key.key_arn,
        via="dynamodb",
    )


def instance_arns(settings: Settings) -> tuple[str, ...]:
    """Return the ARNs of the instances to read, one for every instance of the account and Region if none is named."""
    every_instance = f"arn:{cdk.Aws.PARTITION}:connect:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:instance/*"
    return settings.instance_arns or (every_instance,)
