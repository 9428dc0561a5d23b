"""The baseline's function: one contact event in, its rows out."""

import gzip
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import uuid4

import boto3
from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.parser import event_parser
from aws_lambda_powertools.utilities.parser.models import EventBridgeModel
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import BaseModel, Field

Record = dict[str, Any]

logger = Logger()
metrics = Metrics()
tracer = Tracer()
connect = boto3.client("connect")
table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])
s3 = boto3.client("s3")
bucket_name = os.environ["BUCKET_NAME"]
reference_types = os.environ["REFERENCE_TYPES"].split(",")


class ContactDetail(BaseModel):
    """What a contact event says of its contact."""

    contact_id: str = Field(alias="contactId")
    instance_arn: str = Field(alias="instanceArn")
    initial_contact_id: str | None = Field(None, alias="initialContactId")
    channel: str | None = None
    initiation_method: str | None = Field(None, alias="initiationMethod")
    disconnect_timestamp: datetime | None = Field(None, alias="disconnectTimestamp")


class ContactEvent(EventBridgeModel):
    """A contact event."""

    detail: ContactDetail


@tracer.capture_lambda_handler
@logger.inject_lambda_context
@metrics.log_metrics
@event_parser(model=ContactEvent)
def handler(event: ContactEvent, _: LambdaContext) -> None:
    """Capture the contact of an EventBridge event."""
    count = capture(event)
    metrics.add_metric("ContactsCaptured", MetricUnit.Count, 1)
    metrics.add_metric("ReferencesCaptured", MetricUnit.Count, count)
    logger.info("captured", extra={"contact_id": event.detail.contact_id, "reference_count": count})


def capture(event: ContactEvent) -> int:
    """Read the contact's references, write them to both stores and return how many there are."""
    detail = event.detail
    captured_at = _format(datetime.now(UTC))
    columns: Record = {
        "schema_version": 2,
        "instance_id": detail.instance_arn.rpartition("/")[2],
        "contact_id": detail.contact_id,
        "initial_contact_id": detail.initial_contact_id or detail.contact_id,
        "channel": detail.channel,
        "initiation_method": detail.initiation_method,
        "completed_at": _format(detail.disconnect_timestamp or event.time),
        "capture_id": uuid4().hex,
        "captured_at": captured_at,
    }
    summaries = _list_references(columns["instance_id"], columns["contact_id"])
    rows = [_present(columns | _reference(tag, content)) for summary in summaries for tag, content in summary.items()]
    contact = _present(columns | {"record_type": "CONTACT", "reference_count": len(rows)})
    _write_lake([contact, *rows])
    _write_ledger(contact, rows, event.id)
    return len(rows)


def _list_references(instance_id: str, contact_id: str) -> list[dict[str, Any]]:
    summaries: list[Any] = []
    for start in range(0, len(reference_types), 6):  # as many as one request takes
        answer = connect.list_contact_references(
            InstanceId=instance_id,
            ContactId=contact_id,
            ReferenceTypes=reference_types[start : start + 6],  # type: ignore[arg-type]  # checked by the service
        )
        summaries += answer["ReferenceSummaryList"]
    return summaries


def _reference(tag: str, content: dict[str, Any]) -> Record:
    reference_type = re.sub(r"(?<!^)(?=[A-Z])", "_", tag).upper()
    value = content.get("Value")
    naming = json.dumps([reference_type, content.get("Name"), content.get("Arn")])
    return {
        "record_type": "REFERENCE",
        "reference_id": hashlib.sha256(naming.encode()).hexdigest()[:32],
        "reference_type": reference_type,
        "reference_name": content.get("Name"),
        "reference_value": value,
        "arn": content.get("Arn"),
        "status": content.get("Status"),
        "analytics_mode": content.get("AnalyticsMode"),
        "is_redacted": content.get("IsRedacted"),
        **_normalize(reference_type, value),
    }


def _normalize(reference_type: str, value: str | None) -> Record:
    if not value:
        return {"is_valid": True}
    text = value.strip()
    try:
        match reference_type:
            case "NUMBER":
                number = Decimal(text)
                return {"canonical_value": f"{number.normalize():f}", "number_value": number, "is_valid": True}
            case "DATE":
                date = _format(datetime.fromisoformat(text).replace(tzinfo=UTC))
                return {"canonical_value": date, "date_value": date, "is_valid": True}
            case "EMAIL":
                return {"canonical_value": text.lower(), "is_valid": "@" in text}
            case _:
                return {"canonical_value": text, "is_valid": True}
    except (ValueError, InvalidOperation):
        return {"canonical_value": text, "is_valid": False}


def _write_ledger(contact: Record, rows: list[Record], event_id: str) -> None:
    partition_key = f"{contact['instance_id']}#{contact['contact_id']}"
    for row in rows:
        item = {"pk": partition_key, "sk": f"REFERENCE#{row['reference_type']}#{row['reference_id']}", **row}
        if "canonical_value" in row:
            digest = hashlib.sha256(row["canonical_value"].encode()).hexdigest()
            item |= {"value_key": f"{row['reference_type']}#{digest}", "value_at": row["completed_at"]}
        table.put_item(Item=item)
    state = {"completion_seen": True, "event_id": event_id, "read_at": contact["captured_at"]}
    table.put_item(Item={"pk": partition_key, "sk": "CONTACT", **contact, **state})


def _write_lake(records: list[Record]) -> None:
    contact = records[0]
    lines = "".join(json.dumps(record, default=str) + "\n" for record in records)
    s3.put_object(
        Bucket=bucket_name,
        Key=f"captures/completed_date={contact['completed_at'][:10]}/{contact['contact_id']}-{contact['captured_at']}.jsonl.gz",
        Body=gzip.compress(lines.encode()),
    )


def _present(record: Record) -> Record:
    return {name: value for name, value in record.items() if value is not None}


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
