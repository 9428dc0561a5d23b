"""AWS clients, made when they are first used."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_athena import AthenaClient
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_connect import ConnectClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient


class Clients:
    """Clients of a session; on a local system, of its endpoints, which no proxy setting is used for."""

    def __init__(self, session: boto3.Session, *, aws_url: str | None = None, connect_url: str | None = None) -> None:
        self._session = session
        self._aws_url = aws_url
        self._connect_url = connect_url

    @cached_property
    def athena(self) -> "AthenaClient":
        """Queries over the tables."""
        return self._session.client("athena", endpoint_url=self._aws_url, config=self._config())

    @cached_property
    def cloudformation(self) -> "CloudFormationClient":
        """Stacks and their outputs."""
        return self._session.client("cloudformation", endpoint_url=self._aws_url, config=self._config())

    @cached_property
    def cloudwatch(self) -> "CloudWatchClient":
        """Metrics, alarms, the dashboard."""
        return self._session.client("cloudwatch", endpoint_url=self._aws_url, config=self._config())

    @cached_property
    def connect(self) -> "ConnectClient":
        """Contacts and instances."""
        return self._session.client("connect", endpoint_url=self._connect_url, config=self._config())

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The ledger."""
        return self._session.client("dynamodb", endpoint_url=self._aws_url, config=self._config())

    @cached_property
    def events(self) -> "EventBridgeClient":
        """The event bus and its rules."""
        return self._session.client("events", endpoint_url=self._aws_url, config=self._config())

    @cached_property
    def functions(self) -> "LambdaClient":
        """The deployed functions; waits for an answer as long as a function may run."""
        config = self._config(read_timeout=900, retries={"total_max_attempts": 1})
        return self._session.client("lambda", endpoint_url=self._aws_url, config=config)

    @cached_property
    def logs(self) -> "CloudWatchLogsClient":
        """The functions' logs."""
        return self._session.client("logs", endpoint_url=self._aws_url, config=self._config())

    @cached_property
    def s3(self) -> "S3Client":
        """The lake, and where Connect puts files."""
        # Links that S3 takes: signed as it wants it for what KMS encrypts, and to the Region's own address.
        config = self._config(signature_version="s3v4", s3={"addressing_style": "virtual"})
        return self._session.client("s3", endpoint_url=self._aws_url, config=config)

    @cached_property
    def sns(self) -> "SNSClient":
        """Whom alarms tell."""
        return self._session.client("sns", endpoint_url=self._aws_url, config=self._config())

    @cached_property
    def sqs(self) -> "SQSClient":
        """The queue and the dead-letter queue."""
        return self._session.client("sqs", endpoint_url=self._aws_url, config=self._config())

    def _config(self, **options: Any) -> Config:
        if self._aws_url is not None:
            options["proxies"] = {}
        return Config(**options)
