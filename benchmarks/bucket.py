"""A versioned bucket in memory, behind a client of S3: as much of the service as erasing and the tables ask for."""

import itertools
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from local.in_memory.service import read_body, respond

_PAGE = 1000


class _Version(NamedTuple):
    version_id: str
    put_at: datetime
    body: bytes


class Bucket:
    """Objects with all their versions, listed by folder: `answer` is for one request at a time.

    Nothing is ever deleted but by its version, so there are no delete markers. A listing of folders is not paged.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._folders: dict[str, dict[str, list[_Version]]] = {}  # the latest version last
        self._ids = itertools.count(1)

    def put_object(self, *, Key: str, Body: bytes, **_: object) -> str:  # noqa: N803 - as a client has it
        """Put an object, as a client does; return the version's id."""
        version = _Version(f"v{next(self._ids)}", self._clock(), Body)
        self._folders.setdefault(_folder(Key), {}).setdefault(Key, []).append(version)
        return version.version_id

    def answer(self, request: AWSPreparedRequest, operation: str) -> AWSResponse:
        """Answer a client's request."""
        url = urlsplit(request.url)
        key, query = unquote(url.path)[1:], parse_qs(url.query)
        version_id = query.get("versionId", [""])[0]
        match operation:
            case "GetObject":
                versions = self._versions(key)
                found = [each for each in versions if each.version_id == version_id] if version_id else versions[-1:]
                if not found:
                    code = "NoSuchVersion" if version_id else "NoSuchKey"
                    return respond(request, 404, f"<Error><Code>{code}</Code></Error>".encode())
                return respond(request, 200, found[0].body)
            case "PutObject":
                answer = respond(request, 200, b"")
                answer.headers["x-amz-version-id"] = self.put_object(Key=key, Body=_read_content(request))
                return answer
            case "DeleteObject":
                self._delete(key, version_id)
                return respond(request, 204, b"")
            case "DeleteObjects":
                named = re.findall(r"<Key>(.*?)</Key><VersionId>(.*?)</VersionId>", read_body(request).decode())
                for name, each in named:
                    self._delete(unescape(name), each)
                return respond(request, 200, b"<DeleteResult/>")
            case "ListObjectsV2" | "ListObjectVersions":
                return respond(request, 200, self._list(operation, {name: of[0] for name, of in query.items()}))
        raise NotImplementedError(operation)

    def _versions(self, key: str) -> list[_Version]:
        return self._folders.get(_folder(key), {}).get(key, [])

    def _delete(self, key: str, version_id: str) -> None:
        if versions := self._versions(key):
            versions[:] = [each for each in versions if each.version_id != version_id]
            if not versions:
                del self._folders[_folder(key)][key]

    def _list(self, operation: str, query: dict[str, str]) -> bytes:
        prefix = query.get("prefix", "")
        if "delimiter" in query:
            folders = sorted(f"{name}/" for name, of in self._folders.items() if of and name.startswith(prefix))
            text = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
            return _result(operation, text)
        start = int(query.get("continuation-token") or query.get("version-id-marker") or 0)
        entries = list(self._entries(operation, prefix))
        size, end = int(query.get("max-keys", _PAGE)), start + int(query.get("max-keys", _PAGE))
        text = "".join(entries[start : start + size])
        if end < len(entries):
            marker = (
                f"<NextContinuationToken>{end}</NextContinuationToken>"
                if operation == "ListObjectsV2"
                else f"<NextKeyMarker>{prefix}</NextKeyMarker><NextVersionIdMarker>{end}</NextVersionIdMarker>"
            )
            text += f"<IsTruncated>true</IsTruncated>{marker}"
        return _result(operation, text)

    def _entries(self, operation: str, prefix: str) -> Iterator[str]:
        near = [of for name, of in self._folders.items() if f"{name}/".startswith(prefix) or prefix.startswith(name)]
        for key, versions in sorted((key, of) for folder in near for key, of in folder.items()):
            if not key.startswith(prefix):
                continue
            for version in reversed(versions):
                is_latest = version is versions[-1]
                moment = f"{version.put_at:%Y-%m-%dT%H:%M:%S}.{version.put_at.microsecond // 1000:03}Z"
                text = f"<Key>{escape(key)}</Key><LastModified>{moment}</LastModified><Size>{len(version.body)}</Size>"
                if operation == "ListObjectVersions":
                    of = f"<VersionId>{version.version_id}</VersionId><IsLatest>{str(is_latest).lower()}</IsLatest>"
                    yield f"<Version>{text}{of}</Version>"
                elif is_latest:
                    yield f"<Contents>{text}</Contents>"


def _folder(key: str) -> str:
    return key.rpartition("/")[0]


def _result(operation: str, text: str) -> bytes:
    name = "ListBucketResult" if operation == "ListObjectsV2" else "ListVersionsResult"
    return f"<{name}>{text}</{name}>".encode()


def _read_content(request: AWSPreparedRequest) -> bytes:
    """Return what a put carries; over TLS that is in chunks that have their sizes before them."""
    body: Any = read_body(request)
    if "aws-chunked" not in str(request.headers.get("content-encoding", "")):
        return bytes(body)
    content = b""
    while size := int((parts := body.partition(b"\r\n"))[0], 16):
        content += parts[2][:size]
        body = parts[2][size + 2 :]
    return content
