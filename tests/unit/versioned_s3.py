"""S3: a bucket in memory that keeps versions, as the lake's does, for tests that read and delete them."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from contact_references.model.timestamps import format_time
from local.in_memory.service import Parameters, RefusedError, Service, read_body, respond

_MOST_DELETES = 1000
_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Stored(NamedTuple):
    """A version of an object."""

    version_id: str
    put_at: datetime
    body: bytes


class VersionedS3(Service):
    """What capturing and erasing ask of S3; there are no markers, as nobody here deletes without a version.

    `versions` are the newest last. Pages have `versions_a_page`: the service's have a thousand, shorter ones are met
    more often.
    """

    operations = frozenset({"PutObject", "GetObject", "ListObjectVersions", "ListObjectsV2", "DeleteObjects"})

    def __init__(self, clock: Callable[[], datetime], *, versions_a_page: int = 3) -> None:
        super().__init__()
        self._clock = clock
        self._versions_a_page = versions_a_page
        self._numbers = count(1)
        self.versions: dict[str, list[Stored]] = {}

    def bodies(self) -> Iterator[bytes]:
        """Yield what every version has."""
        return (version.body for versions in self.versions.values() for version in versions)

    def _put_object(self, parameters: Parameters) -> dict[str, Any]:
        key = parameters["Key"]
        if not 0 < len(key.encode()) <= 1024:
            raise RefusedError("KeyTooLongError", "PutObject")
        stored = Stored(f"version-{next(self._numbers)}", self._clock(), parameters["Body"])
        self.versions.setdefault(key, []).append(stored)
        return {"VersionId": stored.version_id}

    def _get_object(self, parameters: Parameters) -> dict[str, Any]:
        versions = {each.version_id: each for each in self.versions.get(parameters["Key"], [])}
        if parameters["VersionId"] not in versions:
            raise RefusedError("NoSuchVersion", "GetObject", 404)
        return {"Body": versions[parameters["VersionId"]].body}

    def _list_object_versions(self, parameters: Parameters) -> dict[str, Any]:
        """List versions by key, of each key the newest first."""
        entries = [
            (key, number, version)
            for key in sorted(self.versions)
            if key.startswith(parameters["Prefix"])
            for number, version in enumerate(reversed(self.versions[key]))
        ]
        if marker := parameters["KeyMarker"]:
            last = parameters["VersionIdMarker"]
            numbers = {(key, version.version_id): number for key, number, version in entries}
            entries = [each for each in entries if (each[0], each[1]) > (marker, numbers.get((marker, last), -1))]
        return {"Versions": entries[: self._versions_a_page], "IsTruncated": len(entries) > self._versions_a_page}

    def _list_objects_v2(self, parameters: Parameters) -> dict[str, Any]:
        if any(key.startswith(parameters["Prefix"]) for key in self.versions):
            raise NotImplementedError("only versions are listed of what is there")
        return {}

    def _delete_objects(self, parameters: Parameters) -> dict[str, Any]:
        objects = parameters["Objects"]
        if not 0 < len(objects) <= _MOST_DELETES:
            raise RefusedError("MalformedXML", "DeleteObjects")
        for key, version_id in objects:  # one that is not there is deleted, too
            left = [each for each in self.versions.get(key, []) if each.version_id != version_id]
            self.versions[key] = left
            if not left:
                del self.versions[key]
        return {}

    def answer(self, request: AWSPreparedRequest) -> AWSResponse:
        """Answer a client's request."""
        operation, parameters = self.read(request)
        try:
            answer = self.call(operation, parameters)
        except RefusedError as refusal:
            error = f"<Error><Code>{refusal.code}</Code></Error>".encode()
            return respond(request, refusal.response["ResponseMetadata"]["HTTPStatusCode"], error)
        return respond(request, 200, _BODIES[operation](answer))

    def read(self, request: AWSPreparedRequest) -> tuple[str, Parameters]:
        """Return a request's operation and parameters."""
        url = urlsplit(request.url)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        _, is_in_host, _ = url.netloc.partition(".s3.")
        path = unquote(url.path).lstrip("/")
        key = path if is_in_host else path.partition("/")[2]
        match request.method, key:
            case "PUT", _:
                return "PutObject", {"Key": key, "Body": _read_again(request)}
            case "POST", "" if "delete" in query:
                return "DeleteObjects", {"Objects": list(_read_deletes(_read_again(request)))}
            case "GET", "":
                operation = "ListObjectVersions" if "versions" in query else "ListObjectsV2"
                of = {"Prefix": "prefix", "KeyMarker": "key-marker", "VersionIdMarker": "version-id-marker"}
                return operation, {name: query.get(parameter, "") for name, parameter in of.items()}
            case "GET", _:
                return "GetObject", {"Key": key, "VersionId": query["versionId"]}
        raise NotImplementedError(request.method)


def _read_again(request: AWSPreparedRequest) -> bytes:
    """Return what a request carries, though whoever watches has read it."""
    body: Any = request.body
    if not isinstance(body, bytes):
        body.seek(0)
    return read_body(request)


def _read_deletes(body: bytes) -> Iterator[tuple[str, str]]:
    for entry in ET.fromstring(body).iter(f"{_NAMESPACE}Object"):  # noqa: S314 - the SDK wrote it
        yield entry.findtext(f"{_NAMESPACE}Key", ""), entry.findtext(f"{_NAMESPACE}VersionId", "")


def _write_versions(answer: dict[str, Any]) -> bytes:
    text = ""
    for key, number, version in answer["Versions"]:
        members = {
            "Key": escape(key),
            "VersionId": version.version_id,
            "LastModified": format_time(version.put_at),
            "IsLatest": "true" if number == 0 else "false",
        }
        text += f"<Version>{_write_members(members)}</Version>"
    end = {"IsTruncated": "true" if answer["IsTruncated"] else "false"}
    if answer["IsTruncated"]:
        key, _, version = answer["Versions"][-1]
        end |= {"NextKeyMarker": escape(key), "NextVersionIdMarker": version.version_id}
    return f"<ListVersionsResult>{text}{_write_members(end)}</ListVersionsResult>".encode()


def _write_members(members: dict[str, str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in members.items())


_BODIES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "PutObject": lambda _: b"",
    "GetObject": lambda answer: bytes(answer["Body"]),
    "ListObjectVersions": _write_versions,
    "ListObjectsV2": lambda _: b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
    "DeleteObjects": lambda _: b"<DeleteResult/>",
}
