"""Looks captured contacts up: one contact, the contacts that have a value, and the file behind a reference."""

import base64
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import typer
from botocore.exceptions import ClientError
from rich.table import Table
from rich.text import Text

from contact_references.aws.items import Attributes
from contact_references.aws.ledger import Ledger, value_key
from contact_references.lookup.reader import PAGE_SIZE, Match, Reader
from contact_references.model.capture import REFERENCE_COLUMNS, Capture, ContactItem, Tombstone
from contact_references.model.contact import ContactKey, Instance
from contact_references.model.errors import PermanentError
from contact_references.model.reference import KNOWN_TYPES, PRODUCED_TYPES, Reference, normalize_value
from contact_references.model.timestamps import format_time, parse_iso
from ops.console import JsonOption, make_console, make_progress, make_visible, print_json
from ops.deployment import Deployment, InstanceOption, deployment_of
from ops.errors import OpsError

if TYPE_CHECKING:
    from mypy_boto3_connect.type_defs import GetAttachedFileResponseTypeDef

_MOST_PER_PAGE = 100
_LINK_SECONDS = 300  # what Connect gives its own links, at most
_NOT_FOUND = {"ResourceNotFoundException", "InvalidRequestException"}
"""Refusals of GetAttachedFile that say that it does not have the file: it knows those of some channels only."""


@dataclass(frozen=True)
class CapturedContact:
    """A contact that is captured: the capture that counts, and what the ledger says of it besides."""

    instance: Instance
    capture: Capture
    item: ContactItem

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references, in the order in which they are numbered from 1."""
        return self.capture.references


class Value(NamedTuple):
    """What references have: a type of them, and a value in the spelling by which values are compared."""

    reference_type: str
    canonical_value: str


@dataclass(frozen=True)
class Matches:
    """References that have a value, of the latest contacts first; `after` asks for those after them, if any."""

    found: tuple[Match, ...]
    after: str | None = None


@dataclass(frozen=True)
class Link:
    """Where a reference leads: until `expires_at`, or for as long as the reference's own link lasts."""

    url: str
    expires_at: datetime | None = None


def find_contact(deployment: Deployment, contact_id: str, *, instance: str | None = None) -> CapturedContact:
    """Return what was captured of a contact, of whichever instance it is, or of the one that is named.

    Raises:
        OpsError: it was not captured, was erased, is past its retention, is damaged, or several instances have it.
        CaptureError: the ledger cannot be read.
    """
    instances = {each.instance_id: each for each in deployment.instances(instance)}
    ledger = Ledger(deployment.clients.dynamodb, deployment.output("TableName"))
    keys = [ContactKey(instance_id, contact_id) for instance_id in instances]
    try:
        captures = {key: capture for key in keys if (capture := ledger.find_capture(key)) is not None}
        items = ledger.find_items(keys)
    except PermanentError as damage:
        raise OpsError(
            f"{damage.reason}: `capture` asks for the contact again, and its next reading mends it"
        ) from None
    found = [
        CapturedContact(instances[key.instance_id], capture, item)
        for key, capture in captures.items()
        if isinstance(item := items.get(key), ContactItem)
    ]
    if not found:
        for item in items.values():
            if isinstance(item, Tombstone):
                raise OpsError(f"the contact was erased on {format_time(item.erased_at)}: nothing of it is kept")
        raise OpsError(
            "the contact is not captured, or its retention is over: check the id and --instance; if it has completed, "
            "`capture` asks for it"
        )
    if len(found) > 1:
        ids = ", ".join(sorted(each.instance.instance_id for each in found))
        raise OpsError(f"more than one instance has a contact of this id: name one of {ids} with --instance")
    return found[0]


def read_value(reference_type: str, value: str) -> Value:
    """Return a value as references are compared by it; raises OpsError if there is no such type, or no value."""
    reference_type = reference_type.strip().upper()
    if reference_type not in KNOWN_TYPES:
        raise OpsError(f"there is no such type of references; there are {', '.join(KNOWN_TYPES)}")
    canonical_value = normalize_value(reference_type, value).canonical_value
    if not canonical_value:
        raise OpsError("the value is empty: give the value that the references have")
    return Value(reference_type, canonical_value)


def find_value(
    deployment: Deployment,
    reference_type: str,
    value: str,
    *,
    limit: int | None,
    after: str | None = None,
    on_progress: Callable[[int], object] = lambda _: None,
) -> Matches:
    """Return the references of a type that have a value, in any spelling of it: up to `limit`, or all.

    `on_progress` is told how many are found so far.

    Raises:
        OpsError: there is no such type, the value is empty, or `after` is not from an answer for this value.
        CaptureError: the ledger cannot be read.
    """
    sought = read_value(reference_type, value)
    following = _read_place(after, value_key(*sought)) if after is not None else None
    reader = Reader(Ledger(deployment.clients.dynamodb, deployment.output("TableName")))
    found: list[Match] = []
    while limit is None or len(found) < limit:
        size = _MOST_PER_PAGE if limit is None else min(_MOST_PER_PAGE, limit - len(found))
        page = reader.contacts_with(sought.reference_type, value, limit=size, after=following)
        found += page.matches
        following = page.following
        on_progress(len(found))
        if following is None:
            break
    return Matches(tuple(found), _write_place(following) if following else None)


def _write_place(key: Attributes) -> str:
    """Write a place in the index as a word that a shell takes as it is."""
    content = {name: attribute["S"] for name, attribute in key.items()}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _read_place(word: str, key_of_value: str) -> Attributes:
    try:
        content = json.loads(base64.urlsafe_b64decode(word))
        is_place = content.keys() == {"pk", "sk", "value_key", "value_at"} and content["value_key"] == key_of_value
    except (ValueError, AttributeError, RecursionError):  # the last from a word of brackets
        is_place = False
    if not is_place:
        raise OpsError("--after takes what an earlier `find` of the same type and value printed, unchanged")
    return {name: {"S": str(text)} for name, text in content.items()}


def find_reference(contact: CapturedContact, named: str) -> Reference:
    """Return the reference of an id, of the number that `show` gives it, or of a name that no other has.

    Raises:
        OpsError: there is none, or more than one.
    """
    references = contact.references
    for reference in references:
        if reference.reference_id == named:
            return reference
    if named in map(str, range(1, len(references) + 1)):
        return references[int(named) - 1]
    numbers = [number for number, reference in enumerate(references, 1) if reference.reference_name == named]
    if len(numbers) == 1:
        return references[numbers[0] - 1]
    if numbers:
        raise OpsError(f"references {', '.join(map(str, numbers))} have that name: give one's number")
    if not references:
        raise OpsError("the contact has no references")
    raise OpsError(
        f"the contact has no such reference: `show` lists its {len(references)}; give a number, an id or a name"
    )


def open_reference(deployment: Deployment, contact: CapturedContact, reference: Reference) -> Link:
    """Return a fresh link to what a reference stands for; nothing of it is kept.

    Files of attachments and email messages are Connect's to give; it knows those of some channels only, so where the
    reference says where its file lies in S3, that is the next to try. A contact's analysis lies in S3.

    Raises:
        OpsError: there is nothing to open, or it is not there.
        ClientError: the operator may not.
    """
    is_produced = reference.reference_type in PRODUCED_TYPES.values()
    location = next(
        (
            found
            for text in (reference.reference_value, reference.arn)
            if (found := find_location(text or "", is_path=is_produced)) is not None
        ),
        None,
    )
    value = reference.reference_value or ""
    is_link = re.match("https?://", value, re.IGNORECASE) is not None
    if reference.reference_type == "URL":
        if is_link or location is None:
            return Link(value)
    elif not is_produced:
        raise OpsError(f"a reference of type {reference.reference_type} has nothing to open: `show` prints its value")
    file_id = (reference.arn or "").rpartition("/file/")[2] if "/file/" in (reference.arn or "") else ""
    if file_id and not (location and reference.reference_type == "CONTACT_ANALYSIS"):
        link = _open_file(deployment, contact, file_id)
        if link is not None:
            return link
    if location is not None:
        return _open_location(deployment, *location)
    if file_id:
        raise OpsError("Connect does not have the file, or not for contacts of this channel: it may have been deleted")
    if is_link:
        return Link(value)
    raise OpsError("the reference says neither which file of Connect's it stands for nor where in S3 it lies")


def _open_file(deployment: Deployment, contact: CapturedContact, file_id: str) -> Link | None:
    """Return Connect's link to a file, None if it does not have it."""
    file = _find_file(deployment, contact, file_id)
    if file is None:
        return None
    link = file.get("DownloadUrlMetadata", {})
    if "Url" not in link:
        status = file.get("FileStatus", "unknown")
        what = "try again once it is" if status == "PROCESSING" else "there will be none"
        raise OpsError(f"the file's status is {status}, and Connect gives links to APPROVED ones only: {what}")
    return Link(link["Url"], parse_iso(link["UrlExpiry"]) if "UrlExpiry" in link else None)


def _find_file(
    deployment: Deployment, contact: CapturedContact, file_id: str
) -> "GetAttachedFileResponseTypeDef | None":
    # A leg lists references of its chain: the file may belong to the first contact.
    for contact_id in dict.fromkeys((contact.item.contact.key.contact_id, contact.item.contact.initial_contact_id)):
        try:
            return deployment.clients.connect.get_attached_file(
                InstanceId=contact.instance.instance_id,
                FileId=file_id,
                AssociatedResourceArn=f"{contact.instance.arn}/contact/{contact_id}",
                UrlExpiryInSeconds=_LINK_SECONDS,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] not in _NOT_FOUND:
                raise
    return None


def _open_location(deployment: Deployment, bucket: str, key: str) -> Link:
    s3 = deployment.clients.s3
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise OpsError(f"there is no such file in the bucket {bucket}: it may have been deleted") from None
        if status == 403:
            raise OpsError(
                f"your AWS role may not read the file in the bucket {bucket}, or it is not there: ask for "
                "s3:GetObject, and s3:ListBucket to tell the two apart"
            ) from None
        raise
    expires_at = datetime.now(UTC) + timedelta(seconds=_LINK_SECONDS)
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_LINK_SECONDS)
    return Link(url, expires_at)


_BUCKET = r"(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
_S3_URI = re.compile(rf"(?:s3://|arn:[\w-]+:s3:::){_BUCKET}/(?P<key>.+)", re.DOTALL)
_S3_PATH = re.compile(rf"{_BUCKET}/(?P<key>.+)", re.DOTALL)
_S3_ENDPOINT = r"s3(?:[.-](?:dualstack\.)?[a-z0-9-]+)?\.amazonaws\.com(?:\.cn)?"
_S3_HOST = re.compile(rf"(?:{_BUCKET}\.)?{_S3_ENDPOINT}")


def find_location(text: str, *, is_path: bool = False) -> tuple[str, str] | None:
    """Return bucket and key of a text that is a location in S3; `is_path` takes a bare `bucket/key` for one, too.

    >>> find_location("s3://recordings/2026/a b.json")
    ('recordings', '2026/a b.json')
    >>> find_location("https://recordings.s3.us-east-1.amazonaws.com/2026/a%20b.json?X-Amz-Signature=0a")
    ('recordings', '2026/a b.json')
    >>> find_location("https://s3.eu-west-1.amazonaws.com/recordings/a.json")
    ('recordings', 'a.json')
    >>> find_location("recordings/a.json", is_path=True), find_location("https://example.com/a", is_path=True)
    (('recordings', 'a.json'), None)
    """
    text = text.strip()
    if match := _S3_URI.fullmatch(text):
        return match["bucket"], match["key"]
    if re.match("https?://", text, re.IGNORECASE):
        try:
            url = urlsplit(text)
            host = _S3_HOST.fullmatch(url.hostname or "")
        except ValueError:  # no host can be read
            return None
        if host is None:
            return None
        path = unquote(url.path).removeprefix("/")
        bucket, key = (host["bucket"], path) if host["bucket"] else path.partition("/")[::2]
        return (bucket, key) if bucket and key else None
    if is_path and (match := _S3_PATH.fullmatch(text)):
        return match["bucket"], match["key"]
    return None


def contact_json(contact: CapturedContact) -> dict[str, Any]:
    """Return a contact as `show --json` prints it: the contract's columns, and what the ledger says of its state."""
    item = contact.item
    return {
        **contact.capture.contact_record(),
        "event_id": item.event_id,
        "completion_seen": item.contact.completion_seen,
        "read_at": format_time(item.read_at),
        "checked_at": format_time(item.checked_at),
        "due_at": format_time(item.due_at) if item.due_at else None,
        "recheck_asked_since": format_time(item.recheck_asked_since) if item.recheck_asked_since else None,
        "is_unknown": item.is_unknown,
        "is_found_by_search": item.is_found_by_search,
        "expires_at": format_time(datetime.fromtimestamp(item.expires_at, UTC)) if item.expires_at else None,
        "references": [
            {"number": number} | reference_json(reference) for number, reference in enumerate(contact.references, 1)
        ],
    }


def reference_json(reference: Reference) -> dict[str, Any]:
    """Return a reference by the contract's columns, those that it has; numbers to the digit, as text."""
    columns = ((name, getattr(reference, name)) for name in REFERENCE_COLUMNS)
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in columns if value is not None}


def match_json(match: Match) -> dict[str, Any]:
    """Return a match as `find --json` prints it: the contract's columns of its contact and its reference."""
    contact = match.contact
    columns = {
        "instance_id": contact.key.instance_id,
        "contact_id": contact.key.contact_id,
        "initial_contact_id": contact.initial_contact_id,
        "channel": contact.channel,
        "completed_at": format_time(contact.completed_at) if contact.completed_at else None,
        "captured_at": format_time(match.captured_at),
    }
    return {name: value for name, value in columns.items() if value is not None} | reference_json(match.reference)


def _print_contact(contact: CapturedContact) -> None:
    console = make_console()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    for name, value in describe(contact).items():
        grid.add_row(name, Text(make_visible(value)))
    console.print(grid)
    if contact.references:
        console.print()
        console.print(_references_table(enumerate(contact.references, 1)))


def describe(contact: CapturedContact) -> dict[str, str]:
    """Return what is told of a contact beside its references, by names."""
    item, of = contact.item, contact.capture.contact
    lines = {
        "contact": of.key.contact_id,
        "instance": of.key.instance_id,
        "continues": of.initial_contact_id if of.is_leg else "",
        "channel": " ".join(filter(None, (of.channel, of.initiation_method))),
        "completed at": format_time(of.completed_at) if of.completed_at else "not known: only a later leg was reported",
        "captured at": f"{format_time(contact.capture.captured_at)}, from event {item.event_id}",
        "checked at": format_time(item.checked_at),
        "recheck due": format_time(item.due_at) if item.due_at else "no",
        "asked since": format_time(item.recheck_asked_since) if item.recheck_asked_since else "",
        "kept until": format_time(datetime.fromtimestamp(item.expires_at, UTC)) if item.expires_at else "",
        "note": "Connect did not know this leg: it counts as having no references" if item.is_unknown else "",
        "references": str(len(contact.references)),
    }
    return {name: value for name, value in lines.items() if value}


def _references_table(rows: Iterable[tuple[int, Reference]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    for name in ("type", "name", "value", "status"):
        table.add_column(name, overflow="fold")
    for number, reference in rows:
        table.add_row(str(number), *_cells(reference))
    return table


def describe_reference(reference: Reference) -> tuple[str, str, str, str]:
    """Return a reference's type, name, value and status; a signature in it is left out, since it is for nobody."""
    file = f"file {reference.arn.rpartition('/')[2]}" if reference.arn else ""
    unsigned = reference.unsigned()
    value = unsigned.reference_value or unsigned.raw or file
    status = ", ".join(filter(None, (reference.status, "" if reference.is_valid else "not valid")))
    return reference.reference_type, reference.reference_name or "", value, status


def _cells(reference: Reference) -> list[Text]:
    return [Text(make_visible(text)) for text in describe_reference(reference)]


def _print_matches(matches: Matches) -> None:
    console = make_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("completed at", "contact"):
        table.add_column(name, no_wrap=True)
    for name in ("name", "value", "status"):
        table.add_column(name, overflow="fold")
    for match in matches.found:
        completed_at = match.contact.completed_at
        _, *cells = _cells(match.reference)
        table.add_row(
            f"{format_time(completed_at)[:19]}Z" if completed_at else "not known",
            Text(make_visible(match.contact.key.contact_id)),
            *cells,
        )
    if matches.found:
        console.print(table)
    else:
        console.print("No captured contact has this value.")
    if matches.after:
        make_console(stderr=True).print(
            f"There may be more: --all, or those after these with --after {matches.after}", soft_wrap=True
        )


def show(
    context: typer.Context,
    contact: Annotated[str, typer.Argument(metavar="CONTACT", help="The contact's id.")],
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was captured of a contact, and when it is read again."""
    found = find_contact(deployment_of(context), contact, instance=instance)
    if as_json:
        print_json(contact_json(found))
    else:
        _print_contact(found)


def find(
    context: typer.Context,
    *,
    reference_type: Annotated[str, typer.Argument(metavar="TYPE", help="Of the references: URL, EMAIL, …")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="In any spelling that means the same.")],
    limit: Annotated[int, typer.Option(min=1, help="How many to give, at most.")] = PAGE_SIZE,
    is_all: Annotated[bool, typer.Option("--all", help="Give all of them.")] = False,
    after: Annotated[str | None, typer.Option(help="Go on where an earlier answer ended.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the contacts that have a reference of this value, those that completed last first."""
    deployment = deployment_of(context)
    if is_all:
        with make_progress(make_console(stderr=True)) as progress:
            task = progress.add_task("Looking the value up", total=None)
            matches = find_value(
                deployment,
                reference_type,
                value,
                limit=None,
                after=after,
                on_progress=lambda count: progress.update(task, completed=count),
            )
    else:
        matches = find_value(deployment, reference_type, value, limit=limit, after=after)
    if as_json:
        print_json({"matches": [match_json(match) for match in matches.found], "after": matches.after})
    else:
        _print_matches(matches)


def open_(
    context: typer.Context,
    contact: Annotated[str, typer.Argument(metavar="CONTACT", help="The contact's id.")],
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="Its number in `show`, its id or its name.")],
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a fresh link to the file that a reference stands for: an attachment, an email message, an analysis."""
    deployment = deployment_of(context)
    found = find_contact(deployment, contact, instance=instance)
    link = open_reference(deployment, found, find_reference(found, reference))
    if as_json:
        print_json({"url": link.url, "expires_at": format_time(link.expires_at) if link.expires_at else None})
        return
    print(make_visible(link.url))
    until = (
        f"Good until {format_time(link.expires_at)}, for whoever has it."
        if link.expires_at
        else "The reference is a link itself: this is its value."
    )
    make_console(stderr=True).print(until)


def register(app: typer.Typer) -> None:
    """Add the commands to a program."""
    app.command(no_args_is_help=True, epilog="Example: python -m ops show 10000000-0000-4000-8000-000000000001")(show)
    app.command(
        no_args_is_help=True,
        epilog="Example: python -m ops find EMAIL jane@example.com --limit 5. Before a value that begins with a dash "
        "put two: find NUMBER -- -5",
    )(find)
    app.command(
        "open", no_args_is_help=True, epilog="Example: python -m ops open 10000000-0000-4000-8000-000000000001 5"
    )(open_)
