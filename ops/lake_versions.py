"""Every version of the objects of a day: searched for contacts or a value, rewritten without them, deleted for good."""

import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from contact_references.aws.day_folders import LAKE
from contact_references.aws.sdk_errors import translated_errors
from contact_references.model.contact import ContactKey
from contact_references.model.errors import CaptureError, PermanentError, RetriableError
from ops.contacts import Value

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

READERS = 10  # as many as a client has connections
_MOST_DELETES = 1000
_GONE: Mapping[str, type[CaptureError]] = {"NoSuchKey": PermanentError, "NoSuchVersion": PermanentError}
_CONTACT_IDS = re.compile(rb'contact_id"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"')  # initial_contact_id too


class Version(NamedTuple):
    """A version of an object, or the marker that says that it was deleted."""

    key: str
    version_id: str
    put_at: datetime
    is_latest: bool
    is_marker: bool


@dataclass(frozen=True)
class Searched:
    """What an object has of what is sought: how many records by contact, and the other lines as they are.

    A line that is no record and names a contact that is sought counts as None. `legs` are other contacts that continue
    one that is sought.
    """

    found: Mapping[ContactKey | None, int] = field(default_factory=dict)
    rest: bytes = b""
    legs: frozenset[ContactKey] = frozenset()


class RecordsOfContacts:
    """Searches objects for all that is of some contacts."""

    def __init__(self, keys: Sequence[ContactKey]) -> None:
        self._keys = frozenset(keys)
        # As JSON has them: with a backslash before a quotation mark, or another one.
        self._ids = frozenset(json.dumps(key.contact_id, ensure_ascii=False)[1:-1].encode() for key in keys)

    def search(self, content: bytes) -> Searched:
        """Return what JSON Lines have; lines that are not looked for are not even parsed, where none is."""
        if self._ids.isdisjoint(_CONTACT_IDS.findall(content)):
            return Searched()
        found: Counter[ContactKey | None] = Counter()
        rest, legs = [], set()
        for line in content.splitlines(keepends=True):
            record = read_record(line)
            key = ContactKey(record["instance_id"], record["contact_id"]) if record else None
            if key in self._keys or (key is None and any(name in line for name in self._ids)):
                found[key] += 1
                continue
            rest.append(line)
            if record and key and ContactKey(key.instance_id, record.get("initial_contact_id", "")) in self._keys:
                legs.add(key)
        return Searched(found, b"".join(rest), frozenset(legs))


class RecordsWithValue:
    """Searches objects for the contacts that have, or had, a value."""

    def __init__(self, value: Value) -> None:
        self._value = value
        # As the lake writes it, which nobody else writes to.
        self._needle = json.dumps(value.canonical_value, ensure_ascii=False).encode()

    def search(self, content: bytes) -> Searched:
        """Return how many records have the value, by their contacts."""
        if self._needle not in content:
            return Searched()
        found: Counter[ContactKey | None] = Counter()
        for line in content.splitlines():
            if self._needle in line:
                record = read_record(line) or {}
                if (record.get("reference_type"), record.get("canonical_value")) == self._value:
                    found[ContactKey(record["instance_id"], record["contact_id"])] += 1
        return Searched(found)


def read_record(line: bytes) -> dict[str, Any] | None:
    """Return a line of the lake; None if it is no record."""
    try:
        record = json.loads(line)
        return record if isinstance(record["instance_id"], str) and isinstance(record["contact_id"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


class LakeVersions:
    """The versions of the objects of a day, in the lake or a table.

    Its methods raise RetriableError or ConfigurationError.
    """

    def __init__(self, client: "S3Client", bucket_name: str) -> None:
        self._client = client
        self._bucket_name = bucket_name

    def find(self, date: str, kind: str = LAKE) -> list[Version]:
        """Return all versions of all objects of a day, those of deleted objects included."""
        with translated_errors("ListObjectVersions", {}):
            pages = self._client.get_paginator("list_object_versions").paginate(
                Bucket=self._bucket_name, Prefix=f"{kind}/completed_date={date}/"
            )
            return [
                Version(each["Key"], each["VersionId"], each["LastModified"], each["IsLatest"], name == "DeleteMarkers")
                for page in pages
                for name in ("Versions", "DeleteMarkers")
                for each in page.get(name, [])  # type: ignore[attr-defined]
            ]

    def search(
        self, versions: Sequence[Version], search: Callable[[bytes], Searched]
    ) -> dict[Version, Searched | None]:
        """Return what each version has, many read at once; None of one that is no whole gzip file."""
        objects = [version for version in versions if not version.is_marker]
        with ThreadPoolExecutor(READERS) as pool:
            return dict(zip(objects, pool.map(lambda version: self._search(version, search), objects), strict=True))

    def _search(self, version: Version, search: Callable[[bytes], Searched]) -> Searched | None:
        try:
            return search(gzip.decompress(self.read(version)))
        except PermanentError:  # deleted since it was listed
            return Searched()
        except (OSError, EOFError, zlib.error):
            return None

    def read(self, version: Version) -> bytes:
        """Return what a version holds; raises PermanentError if it is gone by now."""
        with (
            translated_errors("GetObject", _GONE),
            self._client.get_object(Bucket=self._bucket_name, Key=version.key, VersionId=version.version_id)[
                "Body"
            ] as body,
        ):
            return body.read()

    def replace(self, contents: Mapping[str, bytes]) -> None:
        """Put objects of the lake in the place of others of their keys, many at once."""
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(self._replace, contents, contents.values()))

    def _replace(self, key: str, content: bytes) -> None:
        with translated_errors("PutObject", {}):
            self._client.put_object(
                Bucket=self._bucket_name,
                Key=key,
                Body=gzip.compress(content, compresslevel=6, mtime=0),
                ContentType="application/x-ndjson",
            )

    def delete(self, versions: Sequence[Version]) -> None:
        """Delete versions for good."""
        for start in range(0, len(versions), _MOST_DELETES):
            part = versions[start : start + _MOST_DELETES]
            entries: Any = [{"Key": version.key, "VersionId": version.version_id} for version in part]
            with translated_errors("DeleteObjects", {}):
                answer = self._client.delete_objects(
                    Bucket=self._bucket_name, Delete={"Objects": entries, "Quiet": True}
                )
            if answer.get("Errors"):
                raise RetriableError(answer["Errors"][0].get("Code", ""), "DeleteObjects did not delete everything")
