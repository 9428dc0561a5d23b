"""The files of contacts: what GetAttachedFile says of one."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from connect_simulator.contacts import Contact
from connect_simulator.model import reference_members

_MADE_UP_SIZE = 1024  # bytes, of each file: the simulator has none
_LONGEST_NAME = 256


def describe_file(
    summary: Mapping[str, Mapping[str, Any]], contact: Contact, now: float, expiry_seconds: int
) -> dict[str, Any] | None:
    """Return the file that a reference stands for, None if it is no file or was deleted; with a link if approved.

    Args:
        summary: the reference, as ListContactReferences has it.
        contact: whose reference it is.
        now: epoch seconds.
        expiry_seconds: how long the link is good.
    """
    [(member, content)] = summary.items()
    types = {member: reference_type for reference_type, member in reference_members().items()}
    arn, status = str(content.get("Arn", "")), content.get("Status", "APPROVED")
    _, is_file, file_id = arn.rpartition("/file/")
    if not (is_file and file_id) or member not in types or status == "DELETED":
        return None
    described = {
        "FileArn": arn,
        "FileId": file_id,
        "CreationTime": _format(contact.reached["INITIATED"]),
        # A reference's status has a word more than a file's.
        "FileStatus": "APPROVED" if status == "AVAILABLE" else status,
        "FileName": str(content.get("Name", file_id))[:_LONGEST_NAME],
        "FileSizeInBytes": _MADE_UP_SIZE,
        "AssociatedResourceArn": contact.arn,
        "FileUseCaseType": types[member],
    }
    if described["FileStatus"] == "APPROVED":
        signature = f"X-Amz-Expires={expiry_seconds}&X-Amz-Signature={secrets.token_hex(32)}"
        described["DownloadUrlMetadata"] = {
            "Url": f"https://amazon-connect-example.s3.amazonaws.com/{quote(contact.id)}/{quote(file_id)}?{signature}",
            "UrlExpiry": _format(now + expiry_seconds),
        }
    return described


def _format(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
