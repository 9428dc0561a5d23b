"""S3: what lies in a day's folder of the lake or of a table; listed, read, put, deleted."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.errors import CaptureError, RetriableError
from contact_references.model.timestamps import format_time, parse_iso

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

LAKE = "captures"
CONTACTS = "contacts"
REFERENCES = "contact_references"

READERS = 16
"""How many objects are read at once: the client needs as many connections."""

_FOLDER = "completed_date="
_REACTIONS: Mapping[str, type[CaptureError]] = {"NoSuchKey": RetriableError}  # deleted since it was listed


class DayFolders:
    """The folders `<kind>/completed_date=YYYY-MM-DD/` of the lake and the tables.

    Its methods raise RetriableError or ConfigurationError.
    """

    def __init__(self, client: "S3Client", bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def find_dates(self, kind: str) -> Iterator[str]:
        """Yield the dates of which there is anything, earlier versions and deleted objects included, in order."""
        with translated_errors("ListObjectVersions", {}):
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket_name, Prefix=f"{kind}/{_FOLDER}", Delimiter="/"
            )
            for page in pages:
                for folder in page.get("CommonPrefixes", []):
                    name = folder["Prefix"].removeprefix(f"{kind}/{_FOLDER}").removesuffix("/")
                    if _is_date(name):
                        yield name

    def read(self, kind: str, date: str, into: Path, *, since: datetime | None = None) -> list[Path]:
        """Copy a day's objects into a folder of this machine, as files by their names; return those.

        With `since` only what was put from then on, by S3's clock.
        """
        keys = list(self.find_keys(kind, date, since=since))
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(partial(self._copy, into), keys))

    def find_keys(self, kind: str, date: str, *, since: datetime | None = None) -> Iterator[str]:
        """Yield the keys of a day's objects, in order; with `since` of those that were put from then on."""
        with translated_errors("ListObjectsV2", {}):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket_name, Prefix=_prefix(kind, date)
            )
            for page in pages:
                for entry in page.get("Contents", []):
                    if since is None or entry["LastModified"] >= since:
                        yield entry["Key"]

    def read_object(self, key: str) -> bytes:
        """Return what an object holds."""
        with (
            translated_errors("GetObject", _REACTIONS),
            self._client.get_object(Bucket=self._bucket_name, Key=key)["Body"] as body,
        ):
            return body.read()

    def _copy(self, into: Path, key: str) -> Path:
        path = into / key.rpartition("/")[2]
        path.write_bytes(self.read_object(key))
        return path

    def put(self, kind: str, date: str, file: Path) -> None:
        """Put a file into a day's folder by its name, in place of the one that is there."""
        with translated_errors("PutObject", {}), file.open("rb") as body:
            self._client.put_object(Bucket=self._bucket_name, Key=_prefix(kind, date) + file.name, Body=body)

    def delete(self, kind: str, date: str) -> None:
        """Delete a day's folder for good: every version of everything, and what says that it was deleted."""
        with translated_errors("ListObjectVersions", {}):
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket_name, Prefix=_prefix(kind, date)
            )
            for page in pages:
                found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                self._delete([{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found])

    def _delete(self, versions: "Sequence[ObjectIdentifierTypeDef]") -> None:
        if not versions:
            return
        with translated_errors("DeleteObjects", {}):
            answer = self._client.delete_objects(Bucket=self._bucket_name, Delete={"Objects": versions, "Quiet": True})
        if answer.get("Errors"):
            raise RetriableError(answer["Errors"][0].get("Code", ""), "DeleteObjects did not delete everything")


def _prefix(kind: str, date: str) -> str:
    return f"{kind}/{_FOLDER}{date}/"


def _is_date(name: str) -> bool:
    try:
        return format_time(parse_iso(name))[:10] == name
    except ValueError:
        return False
