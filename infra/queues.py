"""What contacts wait on: the queue of completed contacts, and the one for messages that cannot be processed."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.settings import Settings


class ContactQueues(Construct):
    """The queue of completed contacts, with its dead-letter queue: both hold contacts that are nowhere else yet."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Settings,
        visibility_timeout: cdk.Duration,
        removal: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, construct_id)
        # SQS's own key: EventBridge can't use the account's AWS-managed one.
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
            removal_policy=removal,
        )
        self.queue = sqs.Queue(
            self,
            "Contacts",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
            visibility_timeout=visibility_timeout,
            # The function hands a failed contact back for 7.5 to 15 minutes once its back-off has grown: 200
            # receives are 25 to 50 hours, twice a 12-hour outage, and well within the 14 days of retention.
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=200),
            removal_policy=removal,
        )
        for queue in (self.queue, self.dead_letters):
            queue.add_to_resource_policy(_allow_rules_to_send(queue, settings=settings))


def _allow_rules_to_send(queue: sqs.IQueue, *, settings: Settings) -> iam.PolicyStatement:
    # By the name that CloudFormation gives the rule, which begins with its stack's: the rule itself belongs to a stack
    # that depends on this one.
    here = f"arn:{cdk.Aws.PARTITION}:events:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}"
    return iam.PolicyStatement(
        principals=[iam.ServicePrincipal("events.amazonaws.com")],
        actions=["sqs:SendMessage"],
        resources=[queue.queue_arn],
        conditions={"ArnLike": {"aws:SourceArn": f"{here}:rule/ContactReferences-{settings.stage}-Capture-*"}},
    )
