"""What holds data: the ledger's table, the lake's bucket, the key that encrypts both, and the queues."""

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.catalog import CONTACTS, REFERENCES, RESULTS_FOLDER
from infra.queues import ContactQueues
from infra.settings import Settings

_RESULT_DAYS = 7  # that what a query found is kept


class StorageStack(cdk.Stack):
    """The stack that is never thrown away: in stage `prod` it is protected and its data outlives it.

    In other stages the data goes with the stack. CloudFormation deletes no bucket that has objects: empty it
    first, versions included. A message stays hidden for `visibility_timeout` once it is received.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: Settings, visibility_timeout: cdk.Duration
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            description="References of completed Amazon Connect contacts: what holds data",
            termination_protection=settings.is_production,
        )
        removal = cdk.RemovalPolicy.RETAIN if settings.is_production else cdk.RemovalPolicy.DESTROY
        self.key = kms.Key(
            self,
            "Key",
            description="Contact references: ledger and lake",
            enable_key_rotation=True,
            removal_policy=removal,
        )
        self.table = Ledger(self, "Ledger", key=self.key, removal=removal).table
        self.bucket = Lake(self, "Lake", key=self.key, removal=removal, retention_days=settings.retention_days).bucket
        queues = ContactQueues(
            self, "Queues", settings=settings, visibility_timeout=visibility_timeout, removal=removal
        )
        self.queue, self.dead_letters = queues.queue, queues.dead_letters
        cdk.CfnOutput(self, "TableName", value=self.table.table_name)
        cdk.CfnOutput(self, "BucketName", value=self.bucket.bucket_name)
        cdk.CfnOutput(self, "QueueUrl", value=self.queue.queue_url)
        cdk.CfnOutput(self, "QueueArn", value=self.queue.queue_arn)
        cdk.CfnOutput(self, "DeadLetterQueueUrl", value=self.dead_letters.queue_url)
        cdk.CfnOutput(self, "DeadLetterQueueArn", value=self.dead_letters.queue_arn)


class Ledger(Construct):
    """The table that one contact is looked up in, one value (index `by_value`), and what is due (`by_due`)."""

    def __init__(self, scope: Construct, construct_id: str, *, key: kms.IKey, removal: cdk.RemovalPolicy) -> None:
        super().__init__(scope, construct_id)

        def text(name: str) -> dynamodb.Attribute:
            return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)

        # Not TableV2: with a key of our own it wants account and Region at synth.
        self.table = dynamodb.Table(
            self,
            "Table",
            partition_key=text("pk"),
            sort_key=text("sk"),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            time_to_live_attribute="expires_at",
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=key,
            deletion_protection=removal == cdk.RemovalPolicy.RETAIN,
            removal_policy=removal,
        )
        self.table.add_global_secondary_index(
            index_name="by_value",
            partition_key=text("value_key"),
            sort_key=text("value_at"),
            projection_type=dynamodb.ProjectionType.ALL,
        )
        # Sparse: only what is due has its keys. A moment behind, so what it names is read by key before it is worked.
        self.table.add_global_secondary_index(
            index_name="by_due",
            partition_key=text("due_key"),
            sort_key=text("due_at"),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )


class Lake(Construct):
    """The bucket of the captures and the tables, which it keeps for `retention_days` (0: for ever)."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        key: kms.IKey,
        removal: cdk.RemovalPolicy,
        retention_days: int,
    ) -> None:
        super().__init__(scope, construct_id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            versioned=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            removal_policy=removal,
        )
        self.bucket.add_lifecycle_rule(abort_incomplete_multipart_upload_after=cdk.Duration.days(1))
        # A table's object is overwritten whenever its day changed.
        for table in (CONTACTS, REFERENCES):
            self.bucket.add_lifecycle_rule(
                prefix=f"{table.folder}/", noncurrent_version_expiration=cdk.Duration.days(1)
            )
        self.bucket.add_lifecycle_rule(
            prefix=f"{RESULTS_FOLDER}/",
            expiration=cdk.Duration.days(_RESULT_DAYS),
            noncurrent_version_expiration=cdk.Duration.days(1),
        )
        if retention_days:
            # The tables function deletes days that are past their retention. S3 counts from writing, so this is the
            # backstop. In the lake nothing is ever overwritten: a noncurrent version there is an expired object, or a
            # deleted one. The first has had its time. Without retention there is only the second, and it is kept.
            self.bucket.add_lifecycle_rule(
                expiration=cdk.Duration.days(retention_days),
                noncurrent_version_expiration=cdk.Duration.days(1),
            )
            # S3 takes this in no rule that counts days.
            self.bucket.add_lifecycle_rule(expired_object_delete_marker=True)
        cdk.Validations.of(self.bucket).acknowledge(
            cdk.Acknowledgment(
                id="AwsSolutions-S1",
                reason="Access logs are a second bucket to keep; CloudTrail data events tell who read what",
            )
        )
