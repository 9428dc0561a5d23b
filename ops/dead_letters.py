"""Dead letters: messages that could not be processed. Why they are there, and how they come back after a fix."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from botocore.exceptions import ClientError
from rich.table import Table
from rich.text import Text

from contact_references.model.timestamps import format_time
from ops.console import JsonOption, YesOption, ask, make_console, make_progress, make_visible, print_json
from ops.deployment import Deployment, deployment_of
from ops.errors import OpsError

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

MOST_READ = 1000
_HIDDEN_SECONDS = 300
"""How long a message stays with whoever reads it, should that be cut off."""
_PER_REQUEST = 10
_REQUEST_BYTES = 262_144  # which every SQS takes
_REPEATS = 3
"""How many batches in a row without a new letter end a reading, beside one for each ten that are kept: kept letters
come back while it goes on, and hide the others."""
_WAIT_SECONDS = 1
_POLL_SECONDS = 2.0
_NOT_THERE = {"InvalidAction", "UnknownOperationException"}
"""What a service answers that does not have the operation: emulators of SQS lack the move task."""

TOO_MANY_RECEIVES = "TooManyReceives"
"""Stands for the error of a message that SQS itself moved: each delivery failed in passing, or was cut off."""
_UNKNOWN = "Unknown"

_SHOWN = frozenset(
    "account detail-type id region source time version afterContactWorkEndTimestamp afterContactWorkStartTimestamp "
    "agentArn channel connectedToAgentTimestamp connectedToSystemTimestamp contactId disconnectReason "
    "disconnectTimestamp enabled enqueueTimestamp eventType initialContactId initiationMethod initiationTimestamp "
    "instanceArn nextContactId previousContactId queueArn queueType reason relatedContactId resources "
    "scheduledTimestamp".lower().split()
)
_SHOWN_WITHIN = frozenset(
    "detail agentInfo queueInfo contactLens conversationalAnalytics configuration".lower().split()
)
"""What says nothing of a person in a contact event or a capture request, and the members it is in: in lower case."""


@dataclass(frozen=True)
class DeadLetter:
    """A message of the dead-letter queue.

    `error` and `reason` are the capture function's words, or EventBridge's where it could not deliver; `sent_at` is
    when the message came to the queue, or first to the one it was moved from.
    """

    message_id: str
    sent_at: datetime
    error: str
    reason: str
    origin: str | None
    contact_id: str | None
    attributes: Mapping[str, str]
    body: str

    @property
    def event_id(self) -> str | None:
        """The event's id, if the body is an event that has one."""
        try:
            return str(json.loads(self.body)["id"])
        except (ValueError, KeyError, TypeError):
            return None

    def is_about(self, contact_ids: Set[str]) -> bool:
        """Whether it is about one of these contacts; one that names none, whether an id of theirs is anywhere in it."""
        ids = {contact_id.lower() for contact_id in contact_ids}
        if self.contact_id is not None:
            return self.contact_id.lower() in ids
        texts = (self.body, _unescape(self.body), *self.attributes.values())
        return not ids.isdisjoint(word for text in texts for word in re.findall(r"[\w-]+", text.lower()))


@dataclass(frozen=True)
class Redriven:
    """What a redrive did: how many messages went back to the queue, how many dead letters are left, about.

    `unread` is about how many of those left it could not read, `refused` how many SQS did not move, by its error code.
    """

    moved: int
    left: int
    unread: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Deleted:
    """What a deletion did: how many dead letters are gone, how many are left, about.

    `unread` is about how many of those left it could not read, `refused` how many SQS did not delete, by its error
    code.
    """

    deleted: int
    left: int
    unread: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)


def count_dead_letters(deployment: Deployment) -> int:
    """Return about how many dead letters there are, those included that somebody is reading."""
    return _Queue(deployment, "DeadLetterQueueUrl").count()


def read_dead_letters(deployment: Deployment, limit: int = MOST_READ) -> list[DeadLetter]:
    """Read up to `limit` dead letters, the oldest first; they stay, and are given back at once.

    Those that somebody else is reading are missing; then it takes a second longer.

    Raises ClientError or BotoCoreError.
    """
    queue = _Queue(deployment, "DeadLetterQueueUrl")
    total = queue.count()
    messages: dict[str, MessageTypeDef] = {}
    try:
        # Of an empty queue the last word would take a second: it counts its messages at once.
        for _ in _read_batches(queue, messages, limit=min(limit, total)):
            pass
    finally:
        queue.give_back(messages.values())
    return sorted(map(_read_message, messages.values()), key=lambda letter: (letter.sent_at, letter.message_id))


def redrive_all(
    deployment: Deployment,
    *,
    on_progress: Callable[[int, int], object] = lambda *_: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Redriven:
    """Let SQS move all dead letters back to the queue, and wait until it has; goes on with a move that is under way.

    `on_progress` is told how many are moved, and of how many. The destination is named: what the function and
    EventBridge put there came from no queue.

    Raises:
        OpsError: the move failed.
        ClientError: it cannot be asked for; with a code of `_NOT_THERE` where there is no such operation.
    """
    sqs = deployment.clients.sqs
    source, destination = deployment.output("DeadLetterQueueArn"), deployment.output("QueueArn")
    earlier = _latest_move(deployment)
    if earlier.get("Status") != "RUNNING":
        sqs.start_message_move_task(SourceArn=source, DestinationArn=destination)
    while True:
        move = _latest_move(deployment)
        if earlier.get("Status") != "RUNNING" and move.get("StartedTimestamp") == earlier.get("StartedTimestamp"):
            sleep(_POLL_SECONDS)  # the one that was just started is not listed yet
            continue
        moved = int(move.get("ApproximateNumberOfMessagesMoved", 0))
        on_progress(moved, max(moved, int(move.get("ApproximateNumberOfMessagesToMove", 0))))
        status = move.get("Status")
        if status == "COMPLETED":
            return Redriven(moved, count_dead_letters(deployment))
        if status not in {"RUNNING", "CANCELLING"}:
            raise OpsError(
                f"SQS stopped after {moved} messages, {status}: {move.get('FailureReason', 'no reason given')}; the "
                "others are dead letters still: run it again"
            )
        sleep(_POLL_SECONDS)


def _latest_move(deployment: Deployment) -> Mapping[str, Any]:
    answer = deployment.clients.sqs.list_message_move_tasks(SourceArn=deployment.output("DeadLetterQueueArn"))
    return next(iter(answer.get("Results", [])), {})


def redrive_some(
    deployment: Deployment,
    is_wanted: Callable[[DeadLetter], bool],
    *,
    on_progress: Callable[[int, int], object] = lambda *_: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Redriven:
    """Put the dead letters that are wanted back on the queue, a batch at a time, and leave the others.

    None is ever lost: each is on the queue before it is deleted, so one that is cut off in between is there twice, and
    its contact is captured once. What becomes a dead letter after the start is left for another run: otherwise what
    fails again at once would go round and round.

    Raises ClientError or BotoCoreError; what was not moved by then is a dead letter still.
    """
    destination = _Queue(deployment, "QueueUrl")
    taken = _take_out(deployment, is_wanted, put=destination.send, until=clock(), on_progress=on_progress)
    return Redriven(taken.number, taken.left, taken.unread, taken.refused)


def delete_letters(
    deployment: Deployment,
    is_wanted: Callable[[DeadLetter], bool],
    *,
    on_progress: Callable[[int, int], object] = lambda *_: None,
) -> Deleted:
    """Delete the dead letters that are wanted, a batch at a time, and leave the others.

    `on_progress` is told how many are deleted, and of how many dead letters.

    Raises ClientError or BotoCoreError; what was not deleted by then is a dead letter still.
    """
    taken = _take_out(deployment, is_wanted, on_progress=on_progress)
    return Deleted(taken.number, taken.left, taken.unread, taken.refused)


class _Taken(NamedTuple):
    """How many dead letters were taken out, and as in Redriven and Deleted."""

    number: int
    left: int
    unread: int
    refused: Mapping[str, int]


def _take_out(
    deployment: Deployment,
    is_wanted: Callable[[DeadLetter], bool],
    *,
    put: "Callable[[Sequence[MessageTypeDef]], dict[str, str]]" = lambda _: {},
    until: datetime | None = None,
    on_progress: Callable[[int, int], object],
) -> _Taken:
    """Delete the dead letters that are wanted, each once `put` has taken it; leave the others, and what came later.

    `put` returns the error codes of those that it did not take, by their ids.
    """
    source = _Queue(deployment, "DeadLetterQueueUrl")
    total = source.count()
    held: dict[str, MessageTypeDef] = {}  # that were read, and are dead letters still
    found, ready, gone = set[str](), set[str](), set[str]()
    refused: dict[str, str] = {}
    try:
        for batch, new in _read_batches(source, held):
            letters = {message_id: _read_message(batch[message_id]) for message_id in new}
            early = {of: letter for of, letter in letters.items() if until is None or letter.sent_at <= until}
            found |= early.keys()
            wanted = [batch[message_id] for message_id, letter in early.items() if is_wanted(letter)]
            not_put = put([message for message in wanted if message["MessageId"] not in ready])
            ready |= {message["MessageId"] for message in wanted} - not_put.keys()
            to_delete = [message for message_id, message in batch.items() if message_id in ready]
            not_deleted = source.delete(to_delete)
            for message_id in {message["MessageId"] for message in to_delete} - not_deleted.keys():
                del held[message_id]
                refused.pop(message_id, None)
                gone.add(message_id)  # once, though SQS may give it again
            refused |= not_put | not_deleted
            on_progress(len(gone), max(total, len(gone)))
    finally:
        source.give_back(held.values())
    left = source.count()
    unread = max(0, min(total - len(found), left - len(held)))  # the queue's own counts are estimates
    return _Taken(len(gone), max(left, len(held)), unread, Counter(refused.values()))


def find_letter(deployment: Deployment, message_id: str) -> DeadLetter:
    """Return a dead letter; it stays, as the others do. Raises OpsError if none that can be read has this id."""
    queue = _Queue(deployment, "DeadLetterQueueUrl")
    held: dict[str, MessageTypeDef] = {}
    try:
        return _read_message(_find_message(queue, message_id, held))
    finally:
        queue.give_back(held.values())


def delete_letter(deployment: Deployment, message_id: str) -> None:
    """Delete a dead letter; the others stay. Raises OpsError if none of those that can be read has this id."""
    queue = _Queue(deployment, "DeadLetterQueueUrl")
    held: dict[str, MessageTypeDef] = {}
    try:
        for code in queue.delete([_find_message(queue, message_id, held)]).values():
            raise OpsError(f"SQS did not delete it ({code}): try again")
        del held[message_id]
    finally:
        queue.give_back(held.values())


def _find_message(queue: "_Queue", message_id: str, held: "dict[str, MessageTypeDef]") -> "MessageTypeDef":
    """Read a queue until a message is found; `held` gets what was read by then. Raises OpsError if it is not there."""
    for batch, _ in _read_batches(queue, held):
        if message_id in batch:
            return batch[message_id]
    raise _unknown_letter(len(held))


def _read_batches(
    queue: "_Queue", held: "dict[str, MessageTypeDef]", *, limit: int | None = None
) -> "Iterator[tuple[Mapping[str, MessageTypeDef], Set[str]]]":
    """Yield a queue's messages by their ids, and the ids of those that are new, until all or `limit` are held.

    They are put into `held`, which the caller gives back. Those it has come back if it holds them for long, so a batch
    without a new one is not the end; several in a row are.
    """
    repeats = 0
    while repeats < _REPEATS + len(held) // _PER_REQUEST and (limit is None or len(held) < limit):
        received = queue.receive(_PER_REQUEST if limit is None else min(_PER_REQUEST, limit - len(held)))
        if not received:
            return
        batch = {message["MessageId"]: message for message in received}
        new = batch.keys() - held.keys()
        repeats = 0 if new else repeats + 1
        held |= batch
        yield batch, new


def _unknown_letter(read: int) -> OpsError:
    return OpsError(
        f"none of the {read} dead letters that could be read has this id: `dead-letters list` prints their ids, which "
        "change when they are redriven"
    )


class _Queue:
    """One of the deployment's queues, by the output that has its address."""

    def __init__(self, deployment: Deployment, output: str) -> None:
        self._deployment, self._output = deployment, output
        self._sqs = deployment.clients.sqs
        self._url = deployment.output(output)

    def count(self) -> int:
        """Return about how many messages there are, those included that somebody is reading."""
        return sum(self._deployment.count_messages(self._output))

    def receive(self, most: int = _PER_REQUEST) -> "Sequence[MessageTypeDef]":
        """Return some messages, none if there are none: a wait, however short, makes SQS ask all of its servers."""
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=most,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
            VisibilityTimeout=_HIDDEN_SECONDS,
            WaitTimeSeconds=_WAIT_SECONDS,
        )
        return answer.get("Messages", [])

    def give_back(self, messages: "Iterable[MessageTypeDef]") -> None:
        """Let messages be received again at once."""
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for number, message in enumerate(messages)
        ]
        for start in range(0, len(entries), _PER_REQUEST):
            part: Any = entries[start : start + _PER_REQUEST]
            self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=part)

    def send(self, messages: "Iterable[MessageTypeDef]") -> dict[str, str]:
        """Send messages as they are, their attributes included, as SQS moves them.

        Returns the error codes of those that SQS did not take, by the ids that they have.
        """
        refused: dict[str, str] = {}
        for part in _bounded(messages):
            entries: Any = [
                {"Id": str(number), "MessageBody": message["Body"], "MessageAttributes": _attributes(message)}
                for number, message in enumerate(part)
            ]
            refused |= _refusals(part, self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries))
        return refused

    def delete(self, messages: "Sequence[MessageTypeDef]") -> dict[str, str]:
        """Delete up to ten messages; returns the error codes of those that SQS did not delete, by their ids."""
        if not messages:
            return {}
        entries: Any = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages)
        ]
        return _refusals(messages, self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries))


def _refusals(messages: "Sequence[MessageTypeDef]", answer: Any) -> dict[str, str]:
    """Return the error codes of the messages that SQS does not say it has done, by their ids."""
    codes = {entry["Id"]: str(entry["Code"]) for entry in answer.get("Failed", [])}
    done = {entry["Id"] for entry in answer.get("Successful", [])}
    return {
        message["MessageId"]: codes.get(str(number), "NoAnswer")
        for number, message in enumerate(messages)
        if str(number) not in done
    }


def _bounded(messages: "Iterable[MessageTypeDef]") -> "Iterator[list[MessageTypeDef]]":
    """Split up to ten messages so that none but a single one is larger than a request may be."""
    part: list[MessageTypeDef] = []
    size = 0
    for message in messages:
        length = len(message["Body"].encode()) + sum(
            len(name.encode())
            + sum(len(value.encode() if isinstance(value, str) else value) for value in each.values())
            for name, each in _attributes(message).items()
        )
        if part and size + length > _REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += length
    if part:
        yield part


def _attributes(message: "MessageTypeDef") -> Any:
    """Return a message's attributes as a request has them."""
    return {
        name: {kind: attribute[kind] for kind in ("DataType", "StringValue", "BinaryValue") if kind in attribute}
        for name, attribute in message.get("MessageAttributes", {}).items()
    }


def _read_message(message: "MessageTypeDef") -> DeadLetter:
    system: Any = message.get("Attributes", {})
    attributes = {
        name: attribute.get("StringValue", "") for name, attribute in message.get("MessageAttributes", {}).items()
    }
    error, reason, origin = _read_cause(attributes, system.get("DeadLetterQueueSourceArn"))
    sent_at = datetime.fromtimestamp(int(float(system.get("SentTimestamp", 0))) / 1000, UTC)
    return DeadLetter(
        message_id=message["MessageId"],
        sent_at=sent_at,
        error=error,
        reason=reason,
        origin=origin,
        contact_id=_find_contact_id(message["Body"]),
        attributes=attributes,
        body=message["Body"],
    )


def _read_cause(attributes: Mapping[str, str], source_queue: str | None) -> tuple[str, str, str | None]:
    """Return error, reason and origin.

    A message that SQS moved may have been a dead letter before: its attributes tell of that time.
    """
    if source_queue is not None:
        return TOO_MANY_RECEIVES, "it was received too often: each delivery failed, or was cut off", source_queue
    if "error" in attributes:
        return attributes["error"], attributes.get("reason", ""), attributes.get("origin")
    if "ERROR_CODE" in attributes:  # EventBridge's own names
        reason = attributes.get("ERROR_MESSAGE", "EventBridge could not deliver the event")
        return attributes["ERROR_CODE"], reason, attributes.get("RULE_ARN")
    return _UNKNOWN, "nothing says why: it was put there by hand, or SQS does not tell", None


def _find_contact_id(body: str) -> str | None:
    try:
        detail = json.loads(body)["detail"]
        members = {str(name).lower(): value for name, value in detail.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    contact_id = members.get("contactid")
    return contact_id if isinstance(contact_id, str) else None


def _unescape(body: str) -> str:
    """Return a body of JSON with each character as itself; one that is none as it is."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        return body


def mask(value: Any, *, is_inside: bool = True) -> Any:
    """Return an event with stars for each text and number that may be a person's; the names of members stay.

    >>> mask({"source": "aws.connect", "detail": {"contactId": "a", "tags": {"source": "Billing"}}})
    {'source': 'aws.connect', 'detail': {'contactId': 'a', 'tags': {'source': '***'}}}
    """
    if isinstance(value, Mapping):
        return {name: _mask_member(str(name).lower(), item, is_inside=is_inside) for name, item in value.items()}
    if isinstance(value, list):
        return [mask(item, is_inside=False) for item in value]
    return None if value is None else "***"


def _mask_member(name: str, value: Any, *, is_inside: bool) -> Any:
    is_plain = not isinstance(value, Mapping | list) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )
    if is_inside and is_plain and name in _SHOWN:
        return value
    return mask(value, is_inside=is_inside and name in _SHOWN_WITHIN)


def masked_body(letter: DeadLetter) -> Any:
    """Return a dead letter's body as JSON without what may be a person's; a sentence in place of one that is none."""
    try:
        return mask(json.loads(letter.body))
    except (ValueError, RecursionError):
        return f"{len(letter.body)} characters that are no JSON"


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as `dead-letters list --json` prints it, without its body."""
    return {
        "message_id": letter.message_id,
        "sent_at": format_time(letter.sent_at),
        "error": letter.error,
        "reason": letter.reason,
        "origin": letter.origin,
        "contact_id": letter.contact_id,
    }


def group_letters(letters: Sequence[DeadLetter]) -> list[tuple[str, str, int]]:
    """Return error, reason and number of dead letters that have both, the most first."""
    counts = Counter((letter.error, letter.reason) for letter in letters)
    return [(error, reason, count) for (error, reason), count in sorted(counts.items(), key=lambda at: (-at[1], at[0]))]


app = typer.Typer(help="See why messages could not be processed, and bring them back.", no_args_is_help=True)


@app.command("list", epilog="Example: python -m ops dead-letters list --limit 20")
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="How many to read, at most.")] = MOST_READ,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, first how many have which error, then each."""
    deployment = deployment_of(context)
    letters = read_dead_letters(deployment, limit)
    total = max(count_dead_letters(deployment), len(letters))
    groups = group_letters(letters)
    if as_json:
        counts = [{"error": error, "reason": reason, "count": count} for error, reason, count in groups]
        print_json({"total": total, "groups": counts, "dead_letters": list(map(letter_json, letters))})
        return
    console = make_console()
    if not total:
        console.print("There are no dead letters.")
        return
    console.print(_groups_table(groups, letters))
    console.print()
    console.print(_letters_table(groups, letters))
    if total > len(letters):
        make_console(stderr=True).print(
            f"{len(letters)} of about {total}: the others are being read elsewhere, or beyond --limit."
        )


@app.command(
    epilog="Example: python -m ops dead-letters show 5fea7756-0ea4-451a-a703-a558b933e274", no_args_is_help=True
)
def show(
    context: typer.Context,
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="As `dead-letters list` prints it.")],
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter: its attributes, and its body without what may be personal data."""
    letter = find_letter(deployment_of(context), message_id)
    body = masked_body(letter)
    if as_json:
        print_json(letter_json(letter) | {"attributes": dict(letter.attributes), "body": body})
        return
    console = make_console()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in {**letter_json(letter), **letter.attributes}.items():
        if value:
            grid.add_row(name.replace("_", " ") if name.islower() else name, Text(make_visible(str(value))))
    console.print(grid)
    console.print()
    console.print(Text(json.dumps(body, indent=2, ensure_ascii=True)), soft_wrap=True)


@app.command(epilog="Example: python -m ops dead-letters redrive --error ForeignContact, or without it, all of them")
def redrive(
    context: typer.Context,
    *,
    error: Annotated[str | None, typer.Option(help="Only those of this error.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only those of this reason, word for word.")] = None,
    is_answered: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put dead letters back on the queue, once what they failed of is mended; those that fail again come back."""
    deployment = deployment_of(context)
    total = count_dead_letters(deployment)
    if not total:
        _print_redriven(Redriven(0, 0), as_json=as_json)
        return
    which = "those of this error or reason" if error or reason else "all of them"
    ask(f"There are about {total} dead letters. Put {which} back on the queue?", is_answered=is_answered)
    console = make_console(stderr=True)
    with make_progress(console) as progress:
        task = progress.add_task("Redriving", total=total)

        def advance(moved: int, of: int) -> None:
            progress.update(task, completed=moved, total=of)

        if error is None and reason is None:
            redriven = _redrive_all(deployment, advance, console.print)
        else:
            redriven = redrive_some(
                deployment,
                lambda letter: error in {None, letter.error} and reason in {None, letter.reason},
                on_progress=advance,
            )
    _print_redriven(redriven, as_json=as_json)
    _end_with(redriven)


@app.command(
    epilog="Example: python -m ops dead-letters delete 5fea7756-0ea4-451a-a703-a558b933e274", no_args_is_help=True
)
def delete(
    context: typer.Context,
    message_id: Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="As `dead-letters list` prints it.")],
    is_answered: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a dead letter that nothing can mend; if it has a contact, reconciling finds that by itself."""
    deployment = deployment_of(context)
    ask(f"Delete the dead letter {message_id} for good?", is_answered=is_answered)
    delete_letter(deployment, message_id)
    if as_json:
        print_json({"deleted": message_id})
    else:
        make_console().print("It is deleted.")


def _redrive_all(
    deployment: Deployment, on_progress: Callable[[int, int], object], note: Callable[[str], object]
) -> Redriven:
    """Redrive by SQS's own task where there is one; where there is none, by sending and deleting."""
    try:
        return redrive_all(deployment, on_progress=on_progress)
    except ClientError as refusal:
        if refusal.response["Error"]["Code"] not in _NOT_THERE:
            raise
    note("This SQS has no move task: the messages are moved from here.")
    return redrive_some(deployment, lambda _: True, on_progress=on_progress)


def _print_redriven(redriven: Redriven, *, as_json: bool) -> None:
    if as_json:
        print_json({"moved": redriven.moved, "left": redriven.left})
    else:
        make_console().print(f"{redriven.moved} moved to the queue; there are {redriven.left} dead letters now.")


def _end_with(redriven: Redriven) -> None:
    """Raise OpsError if not all was done."""
    left = []
    if redriven.unread:
        left.append(f"about {redriven.unread} dead letters could not be read, and are left")
    if redriven.refused:
        codes = ", ".join(sorted(redriven.refused))
        left.append(f"SQS did not move {sum(redriven.refused.values())} ({codes}), which are dead letters still")
    if left:
        raise OpsError(f"{'; '.join(left)}: run it again")


def _groups_table(groups: Sequence[tuple[str, str, int]], letters: Sequence[DeadLetter]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "count"):
        table.add_column(name, justify="right")
    table.add_column("error", no_wrap=True)
    for name in ("reason", "origin"):
        table.add_column(name, overflow="fold")
    for number, (error, reason, count) in enumerate(groups, 1):
        origins = {letter.origin or "" for letter in letters if (letter.error, letter.reason) == (error, reason)}
        names = "\n".join(sorted(make_visible(origin.rpartition(":")[2]) for origin in origins))
        table.add_row(str(number), str(count), Text(make_visible(error)), Text(make_visible(reason)), Text(names))
    return table


def _letters_table(groups: Sequence[tuple[str, str, int]], letters: Sequence[DeadLetter]) -> Table:
    """Return single dead letters, each with its group's number: with its words, no id would fit a line."""
    numbers = {(error, reason): number for number, (error, reason, _) in enumerate(groups, 1)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    for name in ("message id", "sent at", "contact"):
        table.add_column(name, no_wrap=True)
    for letter in letters:
        row = (letter.message_id, f"{format_time(letter.sent_at)[:19]}Z", letter.contact_id or "")
        table.add_row(str(numbers[letter.error, letter.reason]), *(Text(make_visible(text)) for text in row))
    return table


def register(program: typer.Typer) -> None:
    """Add the commands to a program."""
    program.add_typer(app, name="dead-letters")
