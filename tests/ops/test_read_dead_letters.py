"""How dead letters are looked at: as many as there are, and they stay."""

from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ops.dead_letters import NO_REASON, read_dead_letters
from ops.deployment import Deployment


def test_dead_letters_are_read_with_their_reasons_and_are_visible_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        sqs = boto3.client("sqs", region_name="us-east-1")
        url = sqs.create_queue(QueueName="dead")["QueueUrl"]
        why: Any = {name: {"DataType": "String", "StringValue": name.upper()} for name in ("error", "reason")}
        for number in range(12):
            sqs.send_message(QueueUrl=url, MessageBody=str(number), MessageAttributes=why)
        sqs.send_message(QueueUrl=url, MessageBody="12")
        clients = SimpleNamespace(sqs=sqs)
        deployment = Deployment("dev", clients, {"DeadLetterQueueUrl": url})  # type: ignore[arg-type]  # only SQS
        for _ in range(2):
            letters = read_dead_letters(deployment, 100)
            assert {letter.body for letter in letters} == {str(number) for number in range(13)}
            assert sorted({(letter.error, letter.reason) for letter in letters}) == [
                ("ERROR", "REASON"),
                ("none", NO_REASON),
            ]
        assert 10 <= len(read_dead_letters(deployment, 5)) < 13
