"""Nothing lost: contacts, events, duplicates, faults and deaths in any order, and what is true in the end.

The capture path is the real one down to the SDK's clients; Connect, DynamoDB, S3 and SQS answer in memory. Each
delivery runs in a thread of its own that stops before every AWS call, so that two of them can be interleaved in
any way and any call can fail, before or after it took effect, or be the last thing that its process does.
"""

import gzip
import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from contact_references.batch import Capturer
from contact_references.canonical import strip_signature
from contact_references.connect import ReferenceReader
from contact_references.contact import ContactKey, Scope
from contact_references.errors import RetriableError
from contact_references.intake import Intake
from contact_references.lake import Lake
from contact_references.ledger import Ledger
from contact_references.pacing import TokenBucket
from contact_references.queue import CaptureQueue, Message
from contact_references.report import Report
from contact_references.timestamps import format_time
from tests.unit.conftest import ALL_TYPES, INSTANCE_ID, Clock, FakeConnect, FakeDynamoDB, Member, System, respond, snapshot

SCOPE = Scope("us-east-1", "111122223333")
ARN = f"arn:aws:connect:us-east-1:111122223333:instance/{INSTANCE_ID}"

# Three that start a chain and two legs, one of which Connect never gets to know. A contact's own reports agree on
# it: one that has no disconnect timestamp is dated by its completion event.
CONTACTS = {
    "voice": {"channel": "VOICE", "initiationMethod": "INBOUND", "disconnectTimestamp": "2026-03-01T11:58:00.500Z"},
    "chat": {"channel": "Chat", "initiationMethod": "API"},
    "task": {"channel": "TASK", "disconnectTimestamp": "1970-01-01T00:00:00.001Z"},
    "leg": {
        "initialContactId": "voice",
        "channel": "VOICE",
        "initiationMethod": "TRANSFER",
        "disconnectTimestamp": "2026-03-01T11:59:00.500Z",
    },
    "unknown-leg": {"initialContactId": "chat", "channel": "CHAT", "initiationMethod": "TRANSFER"},
}

BEFORE_IT = ("dies before it", "throttled", "unavailable", "reset")
AFTER_IT = ("dies after it", "answer lost")

Said = Counter[tuple[object, ...]]
"""References as a person would compare them."""


def said_by(members: Sequence[Member]) -> Said:
    """Read what Connect holds, without the code under test."""
    said: Said = Counter()
    for member in members:
        [(tag, content)] = member.items()
        value = content.get("Value")
        kind = {"Url": "URL", "String": "STRING", "Attachment": "ATTACHMENT"}.get(tag, "UNKNOWN")
        said[kind, content["Name"], value and value.partition("?X-Amz")[0], content.get("Status")] += 1
    return said


@dataclass
class Report_:  # noqa: N801
    pass
