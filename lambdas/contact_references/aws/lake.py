"""The lake: captures appended to S3 as gzipped JSON Lines, for queries over all contacts."""

import gzip
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.capture import Capture

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Lake:
    """Appends captures that are committed, each at least once.

    A reader identifies a record by contact, `capture_id` and `reference_id`; of a contact's captures the one last
    captured is true.
    """

    def __init__(self, client: "S3Client", bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def append(self, date: str, captures: Iterable[Capture]) -> None:
        """Write captures of contacts that completed on a date, `YYYY-MM-DD`, as one object.

        Raises RetriableError or ConfigurationError.
        """
        with translated_errors("PutObject", {}):
            self._client.put_object(
                Bucket=self._bucket_name,
                Key=f"captures/completed_date={date}/{uuid4()}.jsonl.gz",
                Body=_compress(captures),
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
