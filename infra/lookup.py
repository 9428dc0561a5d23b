"""What a Connect flow asks: the function that looks references up, and its place in the flow designer."""

import aws_cdk as cdk
from aws_cdk import aws_connect as connect
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from infra.function import PythonFunction, allow, instance_arns
from infra.settings import Settings
from infra.storage import StorageStack


class LookupStack(cdk.Stack):
    """The stack that can be thrown away and deployed again: what answers contact flows."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: what answers contact flows",
        )
        self.function = LookupFunction(self, "Lookup", settings=settings, storage=storage).function
        cdk.CfnOutput(self, "LookupFunctionName", value=self.function.function_name)


class LookupFunction(PythonFunction):
    """The Lambda function that reads the ledger, and Connect's permission to invoke it."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        table_arn = storage.table.table_arn
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            handler="lookup.handler.handler",
            # A flow waits for 3 seconds by default, and for 8 at most.
            timeout=cdk.Duration.seconds(8),
            statements=[
                allow(["dynamodb:Query"], table_arn, f"{table_arn}/index/by_value"),
                allow(["dynamodb:BatchGetItem"], table_arn),
                allow(["kms:Decrypt"], storage.key.key_arn, via="dynamodb"),
            ],
            environment={"TABLE_NAME": storage.table.table_name},
        )
        for number, instance in enumerate(instance_arns(settings)):
            lambda_.CfnPermission(
                self,
                f"Flows{number}",
                action="lambda:InvokeFunction",
                function_name=self.function.function_arn,
                principal="connect.amazonaws.com",
                source_account=cdk.Aws.ACCOUNT_ID,
                source_arn=instance,
            )


class FlowDesignerStack(cdk.Stack):
    """What lists the function in the flow designer of each instance that is named.

    Without it a flow's author enters the function's ARN by hand. It is a stack of its own, as it changes instances,
    which are not this app's: who does not want that deploys the others.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, function: lambda_.IFunction) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: their look-up in the flow designer",
        )
        for number, instance in enumerate(settings.instance_arns):
            connect.CfnIntegrationAssociation(
                self,
                f"Instance{number}",
                instance_id=instance,
                integration_arn=function.function_arn,
                integration_type="LAMBDA_FUNCTION",
            )
