"""The lake: captures appended to S3 as gzipped JSON Lines, for queries over all contacts."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

from contact_references.aws_errors import translated_errors
from contact_references.capture import Capture
from contact_references.timestamps import format_time

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Lake:
    """Appends captures. Nothing is ever changed: of a contact's captures the one last captured is true."""

    def __init__(self, client: "S3Client", bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def append(self, captures: Iterable[Capture]) -> None:
        """Write the captures, one object for each date of completion (of capture, if that is not known).

        Raises RetriableError or ConfigurationError; what was written before stays, and does no harm: the
        next capture of the same contacts is newer.
        """
        by_date: dict[str, list[Capture]] = defaultdict(list)
        for capture in captures:
            moment = capture.contact.completed_at or capture.captured_at
            by_date[format_time(moment)[:10]].append(capture)
        for date, captures_of_date in by_date.items():
            first = min(format_time(capture.captured_at) for capture in captures_of_date)
            name = f"{first.replace(':', '').replace('-', '')}-{uuid4().hex}"
            with translated_errors("PutObject", {}):
                self._client.put_object(
                    Bucket=self._bucket_name,
                    Key=f"captures/completed_date={date}/{name}.jsonl.gz",
                    Body=_compress(captures_of_date),
                    ContentType="application/x-ndjson",
                )


def _compress(captures: Iterable[Capture]) -> bytes:
    records = (record for capture in captures for record in (capture.contact_record(), *capture.reference_records()))
    lines = (
        json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=_write_decimal) for record in records
    )
    return gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=6, mtime=0)


def _write_decimal(value: object) -> str:
    """Write an exact number as a string: JSON's readers would make it a float."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not a column's type")
    return format(value, "f")
