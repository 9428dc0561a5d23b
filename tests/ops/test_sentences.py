"""What goes wrong before a command begins, or while AWS is asked, is a sentence that says what to do."""

import json
import os
import subprocess
import sys

import pytest
import typer
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)

from contact_references.model.errors import RetriableError
from local.emulator import ROOT
from ops.console import ask, print_json
from ops.errors import OpsError, explain
from ops.periods import parse_moment


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "Jane Doe <jane@example.com>"}}, "DescribeStacks")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (NoCredentialsError(), "sign in"),
        (UnauthorizedSSOTokenError(), "aws sso login"),
        (ProfileNotFound(profile="nobody"), "list-profiles"),
        (NoRegionError(), "--region"),
        (InvalidRegionError(region_name="us east"), "us-east-1"),
        (ConfigParseError(path="config"), "config"),
        (EndpointConnectionError(endpoint_url="https://example.com"), "network"),
        (refusal("ExpiredToken"), "sign in again"),
        (refusal("AccessDeniedException"), "ask for that right"),
        (refusal("Throttling"), "try again in a minute"),
        (refusal("ValidationError"), "AWS refuses DescribeStacks: ValidationError"),
        (RetriableError("InternalServerError", "Query answered 500 InternalServerError"), "Query answered 500"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_failure_says_what_to_do_and_quotes_nothing(
    error: BotoCoreError | ClientError | RetriableError, advice: str
) -> None:
    assert advice in explain(error)
    assert "jane" not in explain(error).lower()


@pytest.mark.parametrize("text", ["", "soon", "9999-12-31", "0001-01-01", "9999-12-31T23:30-10:00"])
def test_a_time_that_is_none_or_at_an_end_of_the_calendar_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="2026-10-01T09:30Z"):
        parse_moment(text)


@pytest.mark.parametrize("text", ["\u202eevil", "\x1b[2J", "\x9b", "\ud800", "Zoë 李 👋"])
def test_json_that_is_printed_has_nothing_that_a_terminal_obeys(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": text})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"name": text}
    assert all(char.isprintable() or char == "\n" for char in printed)


def test_a_question_that_nobody_answers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def abort(*_: object, **__: object) -> bool:
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", abort)
    with pytest.raises(OpsError, match="--yes"):
        ask("Delete it?", is_answered=False)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: False)
    with pytest.raises(OpsError, match="nothing was changed"):
        ask("Delete it?", is_answered=False)
    ask("Delete it?", is_answered=True)


def test_a_shell_completes_commands() -> None:
    as_ops = "import sys; sys.argv[0] = 'ops'; from ops.__main__ import main; sys.exit(main())"  # as .venv/bin/ops does
    asked = {"_OPS_COMPLETE": "complete_bash", "COMP_WORDS": "ops dead-letters re", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", as_ops], cwd=ROOT, env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["redrive"], done.stderr
