"""The application: which address shows what, read from the deployment when it is asked for."""

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from botocore.exceptions import BotoCoreError, ClientError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from contact_references.model.contact import ContactKey, Instance
from contact_references.model.coverage import HOUR, floor_to_hour
from contact_references.model.errors import CaptureError
from contact_references.model.reference import KNOWN_TYPES
from contact_references.model.timestamps import format_time
from ops.contacts import describe, describe_reference, find_contact
from ops.coverage import Coverage, find_coverage
from ops.dead_letters import DeadLetter, count_dead_letters, group_letters, masked_body, read_dead_letters
from ops.deployment import Deployment
from ops.errors import OpsError, explain
from ops.judgement import Level, judge, worst
from ops.page import chart, history, search, text
from ops.page.guard import Guard
from ops.status import gather, spell

HOURS = 48
REFERENCES_A_PAGE = 100
LETTERS_A_PAGE = 50
LETTERS_READ = 200
"""Of the dead letters: for the moment that each is read, nobody else can read it."""
_LONGEST_BODY = 4000
_READERS = 8  # a client has ten connections
_FOLDER = Path(__file__).parent
_REMEMBERED_SECONDS = 60.0

_FAILURES = (OpsError, CaptureError, BotoCoreError, ClientError)
"""What can be told in a sentence."""

_VERDICTS = {
    Level.GREEN: "All is well: nothing to do.",
    Level.YELLOW: "Nothing to do, something to watch.",
    Level.RED: "A person should act.",
}
_HEADINGS = {400: "That cannot be asked", 403: "Not within another page", 404: "Not found", 405: "Only to look at"}
_WORDS = {Level.GREEN: "ok", Level.YELLOW: "watch", Level.RED: "act"}


@dataclass(frozen=True)
class _Deployment(Deployment):
    """A deployment whose instances are remembered for a minute: Connect tells them twice a second, to all who ask."""

    _remembered: dict[str | None, tuple[float, list[Instance]]] = field(default_factory=dict, init=False)

    def instances(self, named: str | None = None) -> list[Instance]:
        """Return the instances that are captured, or the one that is named, as of a minute ago at most."""
        asked_at, found = self._remembered.get(named, (0.0, []))
        if not found or time.monotonic() - asked_at > _REMEMBERED_SECONDS:
            found = super().instances(named)
            self._remembered[named] = time.monotonic(), found
        return found


class Page:
    """Answers requests about a deployment; commands that help are told as they are typed: see `ops.status.spell`."""

    def __init__(self, deployment: Deployment, *, program: str, account_options: Sequence[str] = ()) -> None:
        self._deployment = _Deployment(deployment.stage, deployment.clients, deployment.outputs)
        self._program, self._account_options = program, account_options
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="page")
        clients = deployment.clients
        # Clients of one session cannot be made in threads.
        for name in ("functions", "logs", "cloudwatch", "sqs", "dynamodb", "connect", "s3"):
            getattr(clients, name)
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "visible": text.visible,
            "link": text.find_link,
            "describe": describe_reference,
            "time": format_time,
            "contact_path": contact_path,
        }
        self._templates.globals |= {
            "stage": deployment.stage,
            "longest": text.LONGEST,
            "longest_query": search.LONGEST,
            "chart_size": (chart.WIDTH, chart.HEIGHT),
        }

    def app(self, *, port: int) -> ASGIApp:
        """Return the application, which answers to the names of loopback with this port."""
        failures: Any = {HTTPException: self._refuse_request, Exception: self._break}
        failures |= dict.fromkeys(_FAILURES, self._fail)
        routes = [
            Route("/", self.today),
            Route("/search", self.search),
            Route("/contacts/{instance}/{contact:path}", self.contact),
            Route("/dead-letters", self.dead_letters),
            Route("/style.css", self.style),
        ]
        return Guard(Starlette(routes=routes, exception_handlers=failures), port=port, refuse=self._refuse)

    def today(self, _: Request) -> Response:
        """Show how the deployment is, and the hours of two days."""
        now = datetime.now(UTC)
        facts = self._pool.submit(gather, self._deployment, now)
        end = floor_to_hour(now) + HOUR
        found, unknown = self._find_coverage(end, now)
        findings = judge(facts.result())
        today = [(each, hour) for each, _ in found for hour in each.hours if hour.start.date() == now.date()]
        since = sum(len(each.captured_since.intersection(hour.missing_ids)) for each, hour in today)
        level = worst(findings)
        return self._show(
            "today.html",
            now=now,
            verdict=_VERDICTS[level],
            level=level.value,
            findings=[
                {
                    "level": finding.level.value,
                    "word": _WORDS[finding.level],
                    "subject": finding.subject,
                    "sentence": finding.sentence,
                    "command": finding.command and spell(finding.command, self._program, self._account_options),
                }
                for finding in findings
            ],
            captured=sum(hour.captured for _, hour in today) + since,
            completed=sum(hour.completed for _, hour in today),
            missing=sum(hour.missing for _, hour in today) - since,
            hours_known=len({hour.start for _, hour in today if hour.visits}),
            letters=facts.result().dead_letters.count,
            queue=facts.result().queue,
            unreadable={subject for subject, _ in facts.result().unreadable},
            instances=found,
            unknown=unknown,
        )

    def _find_coverage(self, end: datetime, now: datetime) -> tuple[list[tuple[Coverage, chart.Chart]], str]:
        """Return the hours of each instance with its chart, or a sentence why they are not known."""
        try:
            found = [
                find_coverage(self._deployment, each, end - HOURS * HOUR, end) for each in self._deployment.instances()
            ]
        except _FAILURES as error:
            return [], explain(error)
        return [(each, chart.draw(each, now=now)) for each in found], ""

    def search(self, request: Request) -> Response:
        """Show what a text is: a contact's id, a value of any type."""
        query = request.query_params.get("q", "")
        reference_type, after = request.query_params.get("type"), request.query_params.get("after")
        if len(query) > search.LONGEST:
            return self._refuse(
                400, f"That is longer than any value: {search.LONGEST:,} characters are looked up at most."
            )
        found = None
        if query.strip():
            if reference_type in KNOWN_TYPES and after is not None:
                try:
                    found = search.search_type(self._deployment, reference_type, query, after=after)
                except OpsError as error:
                    return self._refuse(400, explain(error), query=query)
            else:
                after = None
                found = search.search(self._deployment, query, pool=self._pool)
                if len(found.contacts) == 1 and not found.values:
                    return RedirectResponse(contact_path(found.contacts[0]), 303)
        following = {
            of.reference_type: "/search?"
            + urlencode({"q": query, "type": of.reference_type, "after": of.matches.after})
            for of in (found.values if found else ())
            if of.matches.after
        }
        return self._show("search.html", query=query, found=found, following=following, is_continued=after is not None)

    def contact(self, request: Request) -> Response:
        """Show a contact: its references, and what changed from capture to capture."""
        instance, contact_id = request.path_params["instance"], request.path_params["contact"]
        if not search.may_be_id(contact_id):
            return self._refuse(404, "No contact can have this id.")
        try:
            found = find_contact(self._deployment, contact_id, instance=instance)
        except OpsError as error:
            return self._refuse(404, explain(error))
        start = min(_read_number(request.query_params.get("from", "")), max(1, len(found.references)))
        shown = list(enumerate(found.references, 1))[start - 1 : start - 1 + REFERENCES_A_PAGE]
        key = found.capture.contact.key
        completed_at = found.capture.contact.completed_at
        day, past, failure = None, None, ""
        if completed_at is not None:
            is_all = request.query_params.get("captures") == "all"
            try:
                day = history.list_day(self._deployment, format_time(completed_at)[:10], is_all=is_all)
                if is_all or day.is_small:
                    past = history.read_history(self._deployment, key, day)
            except CaptureError as error:
                failure = explain(error)
        path = contact_path(key)
        return self._show(
            "contact.html",
            facts=describe(found),
            key=key,
            initial=found.capture.contact.initial_key,
            references=shown,
            first=start,
            total=len(found.references),
            earlier=f"{path}?from={max(1, start - REFERENCES_A_PAGE)}" if start > 1 else None,
            later=f"{path}?from={start + len(shown)}" if start + len(shown) <= len(found.references) else None,
            capture_id=found.capture.capture_id,
            day=day,
            past=past,
            failure=failure,
            all_captures=f"{path}?captures=all#captures",
        )

    def dead_letters(self, request: Request) -> Response:
        """Show why messages could not be processed."""
        letters = read_dead_letters(self._deployment, LETTERS_READ)
        count = max(count_dead_letters(self._deployment), len(letters))
        after = request.query_params.get("after", "")
        following = [letter for letter in letters if _place(letter) > after]
        shown = following[:LETTERS_A_PAGE]
        paths = self._find_paths([each.contact_id for each in shown if each.contact_id])
        return self._show(
            "dead_letters.html",
            groups=group_letters(letters),
            letters=[(letter, paths.get(letter.contact_id or ""), _body(letter)) for letter in shown],
            read=len(letters),
            count=count,
            is_continued=bool(after),
            later="/dead-letters?" + urlencode({"after": _place(shown[-1])}) if len(following) > len(shown) else None,
            program=self._program,
        )

    def _find_paths(self, contact_ids: list[str]) -> dict[str, str]:
        """Return the paths of contacts' pages by their ids; none if the ledger cannot be read."""
        try:
            return {key.contact_id: contact_path(key) for key in search.find_contacts(self._deployment, contact_ids)}
        except _FAILURES:
            return {}

    def style(self, _: Request) -> Response:
        """Return how it looks."""
        return FileResponse(_FOLDER / "style.css", media_type="text/css")

    def _show(self, template: str, status: int = 200, **values: Any) -> Response:
        html = self._templates.get_template(template).render({"query": ""} | values)
        return Response(html.encode(errors="backslashreplace"), status, media_type="text/html")

    def _refuse(self, status: int, sentence: str, **values: Any) -> Response:
        return self._show(
            "error.html", status, heading=_HEADINGS.get(status, "That did not work"), sentence=sentence, **values
        )

    def _refuse_request(self, _: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self._refuse(status, "There is no such page." if status == 404 else "The request cannot be answered.")

    def _fail(self, _: Request, error: Exception) -> Response:
        """Tell in a sentence what AWS refuses, or what the deployment lacks."""
        return self._refuse(502, explain(error))  # type: ignore[arg-type]  # those of `app`

    def _break(self, _: Request, error: Exception) -> Response:
        """Tell the terminal where a defect is; neither what it says nor what was asked for, which may be a value."""
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" in {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
        print(f"error: {type(error).__name__}{where}", file=sys.stderr, flush=True)
        return self._refuse(500, "This is a defect of the page. The terminal that it runs in says where.")


def contact_path(key: ContactKey) -> str:
    """Return the path of a contact's page.

    >>> contact_path(ContactKey("instance", "a/b?"))
    '/contacts/instance/a%2Fb%3F'
    """
    return f"/contacts/{quote(key.instance_id, safe='')}/{quote(key.contact_id, safe='')}"


def _read_number(word: str) -> int:
    """Return the number that a list begins with: the first one's, unless there is another.

    >>> [_read_number(word) for word in ("101", "", "0", "-1", "9" * 99)]
    [101, 1, 1, 1, 1]
    """
    return max(1, int(word)) if word.isascii() and word.isdigit() and len(word) < 10 else 1


def _place(letter: DeadLetter) -> str:
    """Return what tells the letters before from those after: they are in its order."""
    return f"{format_time(letter.sent_at)} {letter.message_id}"


def _body(letter: DeadLetter) -> str:
    """Return what is shown of a dead letter's body: nothing that may be a person's, and not more than is read."""
    body = json.dumps(masked_body(letter), indent=2)
    return body if len(body) <= _LONGEST_BODY else f"{body[:_LONGEST_BODY]}\n… ({len(body):,} characters)"
