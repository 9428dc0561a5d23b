"""Erases contacts: the command line of it, with a dry run first, the proof at its end, and what others still hold."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from contact_references.model.capture import Tombstone
from contact_references.model.contact import ContactKey
from contact_references.model.timestamps import format_time
from ops.activity import read_settings
from ops.console import JsonOption, make_console, make_progress, make_visible, print_json
from ops.contacts import read_value
from ops.deployment import Deployment, deployment_of
from ops.erasure import Erased, Erasure, Target, find_contacts, find_contacts_with
from ops.holdings import Holding, find_holdings

_NAMED_CONTACTS = 20


def erase(
    context: typer.Context,
    *,
    contacts: Annotated[list[str] | None, typer.Argument(metavar="CONTACT", help="Ids of contacts.")] = None,
    value: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="TYPE VALUE", help="Instead of ids: every contact that has, or had, this value."),
    ] = None,
    instance: Annotated[
        str | None, typer.Option(metavar="ARN|ID", help="The contacts' Connect instance, also one that is gone.")
    ] = None,
    is_wanted: Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without this nothing is changed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase contacts: from ledger, lake, tables and dead letters, for good. Without --yes it says what it would do.

    An erased contact is never captured again. Whatever ends the command, start it again in the same words. At its end
    it searches every store, and says what backups and logs still hold; exit status 1 if something is left.
    """
    if bool(contacts) == (value is not None):
        raise typer.BadParameter("give contacts' ids, or --value with a type and a value", param_hint="CONTACT")
    if contacts and not all(contact_id.strip() for contact_id in contacts):
        raise typer.BadParameter("a contact's id is empty", param_hint="CONTACT")
    if value is not None and instance is not None:
        raise typer.BadParameter("contacts that have a value are of whichever instance", param_hint="--instance")
    deployment = deployment_of(context)
    sought = read_value(*value) if value else None
    began_at = datetime.now(UTC)
    unreadable: set[str] = set()
    with make_progress(make_console(stderr=True)) as progress:
        show = _Steps(progress)
        targets = (
            find_contacts_with(deployment, sought, on_progress=show, on_unreadable=unreadable.add)
            if sought
            else find_contacts(deployment, contacts or [], instance=instance)
        )
        if is_wanted:
            erasure = Erasure(
                deployment, targets, value=sought, began_at=began_at, unreadable=unreadable, on_progress=show
            )
            erased = erasure.run()
    if not is_wanted:
        _tell_plan(deployment, targets, as_json=as_json)
        return
    holdings = find_holdings(deployment, now=datetime.now(UTC))
    if as_json:
        print_json(erased_json(erased, holdings))
    else:
        _tell(make_console(), erased, holdings)
    if not erased.is_complete:
        raise typer.Exit(1)


class _Steps:
    """Shows each step of an erasure as a line of its own."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, of: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=of)
        self._progress.update(self._tasks[what], completed=done, total=of)


def _tell_plan(deployment: Deployment, targets: list[Target], *, as_json: bool) -> None:
    seconds = round(read_settings(deployment, "capture").timeout.total_seconds())
    days = Counter(target.completed_date for target in targets if target.completed_date)
    references = sum(target.reference_count for target in targets)
    if as_json:
        print_json(
            {
                "would_erase": [
                    _key_json(target.key) | {"completed_date": target.completed_date} for target in targets
                ],
                "references": references,
                "days": dict(sorted(days.items())),
                "waits_seconds": seconds,
            }
        )
        return
    console = make_console()
    console.print(
        f"Would erase {_count(len(targets), 'contact')} of {_count(len(days), 'day')}, with "
        f"{_count(references, 'reference')} now, and all that earlier captures had:"
    )
    for target in targets[:_NAMED_CONTACTS]:
        note = " (erased already: searched again)" if isinstance(target.item, Tombstone) else ""
        date = target.completed_date or "in the ledger only"
        console.print(f"  {make_visible(target.key.contact_id)}  {date}{note}", markup=False)
    if len(targets) > _NAMED_CONTACTS:
        console.print(f"  and {len(targets) - _NAMED_CONTACTS:,} more, which --json names")
    console.print(
        f"The lake's objects of {'that day' if len(days) == 1 else 'those days'} are read and rewritten, and the "
        f"tables made anew; captures under way are waited for, {seconds} seconds. There is no way back.\n"
        "Nothing was changed: say --yes to erase them."
    )


def _tell(console: Console, erased: Erased, holdings: list[Holding]) -> None:
    since = min(tombstone.erased_at for tombstone in erased.tombstones)
    console.print(f"{_count(len(erased.tombstones), 'contact')} erased, the first at {format_time(since)}.")
    removed = Table.grid(padding=(0, 2))
    removed.add_column(justify="right")
    for what, count in erased.removed.items():
        removed.add_row(f"{count:,}", what)
    console.print("\n[bold]Removed[/bold]", removed)
    if erased.is_complete:
        console.print(
            "\n[green]Searched again, and found nothing:[/green] the ledger and its index, all versions of the lake's "
            "objects of those days, the tables, the dead letters. What is still on the queue about them is skipped."
        )
    else:
        console.print("\n[bold red]Not everything is gone[/bold red]: run the same command again.")
        for what, count in erased.found.items():
            if count:
                console.print(f"  {count:,} {what}")
        for key in sorted(erased.unreadable):
            console.print(
                f"  {key} is no gzip file: look at it, and delete all its versions if it is of no use", markup=False
            )
    if erased.chain:
        console.print("\n[yellow]Of the same chains, and not erased:[/yellow]")
        for contact in _sorted(erased.chain):
            console.print(f"  {make_visible(contact.contact_id)}", markup=False)
    console.print("\n[bold]What others still hold[/bold]")
    for holding in holdings:
        until = f" Until {format_time(holding.until)}." if holding.until else ""
        console.print(f"- {holding.what}: {holding.note}{until}", markup=False)


def erased_json(erased: Erased, holdings: list[Holding]) -> dict[str, Any]:
    """Return what an erasure did, found and could not reach: the record of it, without anything of the contacts."""
    return {
        "erased": [
            _key_json(tombstone.key)
            | {"erased_at": format_time(tombstone.erased_at), "completed_date": tombstone.completed_date}
            for tombstone in erased.tombstones
        ],
        "removed": dict(erased.removed),
        "found_at_the_end": dict(erased.found),
        "unreadable_objects": sorted(erased.unreadable),
        "not_erased_of_the_same_chains": [_key_json(key) for key in _sorted(erased.chain)],
        "still_held": [
            asdict(holding) | {"until": format_time(holding.until) if holding.until else None} for holding in holdings
        ],
        "is_complete": erased.is_complete,
    }


def _sorted(keys: Iterable[ContactKey]) -> list[ContactKey]:
    return sorted(keys, key=lambda key: (key.instance_id, key.contact_id))


def _key_json(key: ContactKey) -> dict[str, str]:
    return {"instance_id": key.instance_id, "contact_id": key.contact_id}


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def register(app: typer.Typer) -> None:
    """Add `erase`."""
    app.command(
        no_args_is_help=True,
        epilog="Example: python -m ops erase --value EMAIL jane@example.com, then again with --yes",
    )(erase)
