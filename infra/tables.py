"""What makes the lake queryable: the function that writes tables, their catalog, and who may ask what of them."""

import aws_cdk as cdk
from aws_cdk import aws_athena as athena
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from constructs import Construct

from infra.asset import tables_code
from infra.catalog import CAPTURES, CONTACTS, FOLDERS, PARTITION, REFERENCES, RESULTS_FOLDER, Column, Columns
from infra.function import PythonFunction, allow, allow_ledger_key
from infra.settings import Settings
from infra.storage import StorageStack

# Measured: a day of 300,000 contacts takes DuckDB's 900 MB and 300 MB besides, and spills the rest. A vCPU is 1,769 MB.
_MEMORY_MEGABYTES = 1769
_DUCKDB_MEGABYTES = 900
_SPILL_MEGABYTES = 4096
_RUN_SECONDS = 900  # as long as a function may: a run goes on by day, and the next one with what is left

_BYTES_SCANNED_AT_MOST = 100 * 2**30  # by a query: half a dollar


class TablesStack(cdk.Stack):
    """The stack that can be thrown away and deployed again: the tables themselves are in the lake's bucket."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: tables to query",
        )
        self.function = TablesFunction(self, "Tables", settings=settings, storage=storage).function
        Schedule(self, "Schedule", function=self.function)
        catalog = Catalog(self, "Catalog", settings=settings, storage=storage)
        queries = Queries(self, "Queries", settings=settings, storage=storage)
        readers = Readers(self, "Readers", storage=storage, catalog=catalog, queries=queries)
        cdk.CfnOutput(self, "TablesFunctionName", value=self.function.function_name)
        cdk.CfnOutput(self, "DatabaseName", value=catalog.database_name)
        cdk.CfnOutput(self, "WorkGroupName", value=queries.work_group_name)
        cdk.CfnOutput(self, "ReaderPolicyArn", value=readers.policy.managed_policy_arn)


class TablesFunction(PythonFunction):
    """The Lambda function that reads days of the lake and writes their tables."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        bucket = storage.bucket.bucket_arn
        folders = [f"{bucket}/{folder}/*" for folder in FOLDERS]
        statements = [
            allow(["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], storage.table.table_arn),
            allow(["dynamodb:Query"], f"{storage.table.table_arn}/index/by_due"),
            allow_ledger_key(storage),
            allow(["s3:ListBucket", "s3:ListBucketVersions"], bucket),
            allow(["s3:GetObject"], *folders),
            allow(["s3:PutObject"], *(f"{bucket}/{table.folder}/*" for table in (CONTACTS, REFERENCES))),
            allow(["kms:Decrypt", "kms:GenerateDataKey"], storage.key.key_arn, via="s3"),
        ]
        if settings.retention_days:
            statements.append(allow(["s3:DeleteObject", "s3:DeleteObjectVersion"], *folders))
        super().__init__(
            scope,
            construct_id,
            settings=settings,
            handler="tables.handler.handler",
            code=tables_code(),
            architecture=lambda_.Architecture.X86_64,
            memory_megabytes=_MEMORY_MEGABYTES,
            disk_megabytes=_SPILL_MEGABYTES,
            timeout=cdk.Duration.seconds(_RUN_SECONDS),
            statements=statements,
            environment={
                "TABLE_NAME": storage.table.table_name,
                "BUCKET_NAME": storage.bucket.bucket_name,
                "DUCKDB_MEMORY_MEGABYTES": str(_DUCKDB_MEGABYTES),
                "RETENTION_DAYS": str(settings.retention_days),
            },
        )
        # What a run that failed, or could not be started, leaves marked, the next one sees.
        self.function.configure_async_invoke(retry_attempts=0, max_event_age=cdk.Duration.minutes(1))


class Schedule(Construct):
    """EventBridge Scheduler's part: the days that changed are written each hour."""

    def __init__(self, scope: Construct, construct_id: str, *, function: lambda_.IFunction) -> None:
        super().__init__(scope, construct_id)
        scheduler.Schedule(
            self,
            "Hourly",
            description="Bring the tables up to the lake",
            schedule=scheduler.ScheduleExpression.rate(cdk.Duration.hours(1)),
            target=targets.LambdaInvoke(
                function,
                input=scheduler.ScheduleTargetInput.from_object({}),
                # A late run is of no use: the next one has its work.
                retry_attempts=0,
                max_event_age=cdk.Duration.minutes(1),
            ),
        )


class Catalog(Construct):
    """Glue's part: a database with the two tables and the lake, whose dates are found by their folders' names."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(scope, construct_id)
        # A database needs a name, in letters that SQL takes without quotes.
        self.database_name = f"contact_references_{settings.stage}".replace("-", "_")
        self.table_names = [CONTACTS.name, REFERENCES.name, CAPTURES.name]
        database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=cdk.Aws.ACCOUNT_ID,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=self.database_name, description="References of completed Amazon Connect contacts"
            ),
        )
        for construct, table in {"Contacts": CONTACTS, "References": REFERENCES, "Captures": CAPTURES}.items():
            self._add(construct, table, storage=storage).add_dependency(database)

    def _add(self, construct: str, table: Columns, *, storage: StorageStack) -> glue.CfnTable:
        location = f"s3://{storage.bucket.bucket_name}/{table.folder}/"
        return glue.CfnTable(
            self,
            construct,
            catalog_id=cdk.Aws.ACCOUNT_ID,
            database_name=self.database_name,
            table_input=glue.CfnTable.TableInputProperty(
                name=table.name,
                description=table.description,
                table_type="EXTERNAL_TABLE",
                parameters={
                    "classification": table.classification,
                    "projection.enabled": "true",
                    f"projection.{PARTITION.name}.type": "date",
                    f"projection.{PARTITION.name}.format": "yyyy-MM-dd",
                    # Connect keeps contacts for two years; a clock that is ahead may be so by a day.
                    f"projection.{PARTITION.name}.range": "2020-01-01,NOW+1DAYS",
                    "storage.location.template": f"{location}{PARTITION.name}=${{{PARTITION.name}}}/",
                },
                partition_keys=[_column(PARTITION)],
                storage_descriptor=glue.CfnTable.StorageDescriptorProperty(
                    columns=[_column(column) for column in table.columns],
                    location=location,
                    input_format=table.input_format,
                    output_format=table.output_format,
                    serde_info=glue.CfnTable.SerdeInfoProperty(serialization_library=table.serde),
                ),
            ),
        )


class Queries(Construct):
    """Athena's part: a work group whose results are encrypted, have a folder of their own, and expire."""

    def __init__(self, scope: Construct, construct_id: str, *, settings: Settings, storage: StorageStack) -> None:
        super().__init__(scope, construct_id)
        # It has to have a name.
        self.work_group_name = f"contact-references-{settings.stage}"
        athena.CfnWorkGroup(
            self,
            "WorkGroup",
            name=self.work_group_name,
            description="Queries over the references of completed contacts",
            recursive_delete_option=True,
            work_group_configuration=athena.CfnWorkGroup.WorkGroupConfigurationProperty(
                enforce_work_group_configuration=True,
                publish_cloud_watch_metrics_enabled=True,
                bytes_scanned_cutoff_per_query=_BYTES_SCANNED_AT_MOST,
                engine_version=athena.CfnWorkGroup.EngineVersionProperty(
                    selected_engine_version="Athena engine version 3"
                ),
                result_configuration=athena.CfnWorkGroup.ResultConfigurationProperty(
                    output_location=f"s3://{storage.bucket.bucket_name}/{RESULTS_FOLDER}/",
                    encryption_configuration=athena.CfnWorkGroup.EncryptionConfigurationProperty(
                        encryption_option="SSE_KMS", kms_key=storage.key.key_arn
                    ),
                ),
            ),
        )


class Readers(Construct):
    """A policy for people and programs that query: attach it to their roles."""

    def __init__(
        self, scope: Construct, construct_id: str, *, storage: StorageStack, catalog: Catalog, queries: Queries
    ) -> None:
        super().__init__(scope, construct_id)
        here = f"{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}"
        catalogs = f"arn:{cdk.Aws.PARTITION}:glue:{here}"
        work_group = f"arn:{cdk.Aws.PARTITION}:athena:{here}:workgroup/{queries.work_group_name}"
        bucket = storage.bucket.bucket_arn
        self.policy = iam.ManagedPolicy(
            self,
            "Policy",
            description="Query the references of completed contacts: tables, results and their key",
            statements=[
                allow(
                    [
                        "athena:BatchGetQueryExecution",
                        "athena:GetQueryExecution",
                        "athena:GetQueryResults",
                        "athena:GetQueryResultsStream",
                        "athena:GetWorkGroup",
                        "athena:ListQueryExecutions",
                        "athena:StartQueryExecution",
                        "athena:StopQueryExecution",
                    ],
                    work_group,
                ),
                allow(
                    ["glue:GetDatabase", "glue:GetPartition", "glue:GetPartitions", "glue:GetTable", "glue:GetTables"],
                    f"{catalogs}:catalog",
                    f"{catalogs}:database/{catalog.database_name}",
                    *(f"{catalogs}:table/{catalog.database_name}/{name}" for name in catalog.table_names),
                ),
                allow(["s3:GetBucketLocation", "s3:ListBucket"], bucket),
                allow(["s3:GetObject"], *(f"{bucket}/{folder}/*" for folder in FOLDERS)),
                allow(["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], f"{bucket}/{RESULTS_FOLDER}/*"),
                allow(["kms:Decrypt", "kms:GenerateDataKey"], storage.key.key_arn, via="s3"),
            ],
        )


def _column(column: Column) -> glue.CfnTable.ColumnProperty:
    return glue.CfnTable.ColumnProperty(name=column.name, type=column.type, comment=column.comment)
