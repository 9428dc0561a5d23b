"""`plan`: its figures are those of the documents, its concurrency is the stack's, and bad input is a sentence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from infra.capture import share_rate
from ops.plan import DEFAULT_QUOTA, OURS, Load, concurrency_at, contacts_a_day_at, cost, register, wait_at

DOCS = Path(__file__).parents[2] / "docs"
app = typer.Typer()
app.callback()(lambda: None)
register(app)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def plan(*arguments: str) -> dict[str, Any]:
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    described: dict[str, Any] = json.loads(result.stdout)
    return described


def documented_costs() -> dict[str, list[float]]:
    """The table of *What it costs*: US dollars by line, at 1,000, 10,000 and 100,000 contacts a day."""
    before, rest = (DOCS / "operations.md").read_text().split("\n## What it costs\n")[1].split("**sum**")
    section = before + "**sum**" + rest.splitlines()[0]
    rows = re.findall(r"^\| (.+?) \| ([\d.*]+) \| ([\d.*]+) \| ([\d.*]+) \|$", section, re.MULTILINE)
    return {name.strip("*"): [float(cell.strip("*")) for cell in cells] for name, *cells in rows}


@pytest.mark.parametrize(("column", "contacts"), [(0, 1_000), (1, 10_000), (2, 100_000)])
def test_the_documented_bill_is_what_plan_prints(column: int, contacts: int) -> None:
    bill = plan("--contacts-per-day", str(contacts))["cost"]
    documented = {name: dollars[column] for name, dollars in documented_costs().items()}
    total = documented.pop("sum")

    assert [line["name"] for line in bill["lines"]] == list(documented)
    assert {line["name"]: line["usd_a_month"] for line in bill["lines"]} == pytest.approx(documented, abs=0.011)
    assert bill["usd_a_month"] == pytest.approx(total, abs=0.02)


def test_what_contact_lens_adds_is_what_the_document_says() -> None:
    section = (DOCS / "operations.md").read_text().split("\n## What it costs\n")[1]
    said = re.search(r"with Contact Lens on for every contact, ([\d.]+), ([\d.]+) and ([\d.]+) USD", section)
    assert said is not None
    for contacts, dollars in zip((1_000, 10_000, 100_000), said.groups(), strict=True):
        with_lens, without = cost(Load(contacts=contacts, lens=1)), cost(Load(contacts=contacts))
        assert sum(with_lens.values()) - sum(without.values()) == pytest.approx(float(dollars), abs=0.011)


def test_the_documented_quotas_carry_what_plan_says() -> None:
    table = re.findall(
        r"^\| (\d+)(?: \(default\))? \| ([\d.]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$",
        (DOCS / "scale.md").read_text(),
        re.MULTILINE,
    )
    assert len(table) == 4
    for row in table:
        quota, ours, in_an_hour, all_types, six_types = (float(cell.replace(",", "")) for cell in row)
        assert ours == pytest.approx(quota * OURS)
        assert in_an_hour == ours * 3600 / 2
        assert contacts_a_day_at(ours, calls=2) == pytest.approx(all_types, rel=0.02)
        assert contacts_a_day_at(ours, calls=1) == pytest.approx(six_types, rel=0.02)
    assert DEFAULT_QUOTA in {float(row[0]) for row in table}


@pytest.mark.parametrize("rate", [0.5, 1, 8, 8.1, 11, 100, 3_999, 4_000, 9_000])
def test_the_concurrency_is_the_one_that_the_stack_deploys(rate: float) -> None:
    assert concurrency_at(rate) == share_rate(rate).concurrency


def test_a_day_that_was_simulated_waits_as_long_as_plan_says() -> None:
    row = next(
        line for line in (DOCS / "scale.md").read_text().splitlines() if line.startswith("| 100,000 | 5 | 2 |")
    ).split(" | ")
    p99, backlog = float(row[4].removesuffix(" min")), float(row[5].replace(",", ""))
    wait = wait_at(Load(contacts=100_000), 5 * OURS)

    assert wait.longest_seconds / 60 == pytest.approx(p99, rel=0.02)
    assert wait.largest_backlog == pytest.approx(backlog, rel=0.02)


def test_a_rate_below_the_day_s_calls_never_keeps_up() -> None:
    described = plan("--contacts-per-day", "1000000")

    assert described["rate"] == {
        "requests_per_second": 8.0,
        "contacts_per_day": 137142,
        "concurrency": 2,
        "keeps_up": False,
        "largest_backlog": None,
        "longest_wait_seconds": None,
    }
    assert not described["default_quota"]["is_enough"]
    assert "grows day by day" in run("--contacts-per-day", "1000000").stdout
    assert plan("--contacts-per-day", "1000000", "--rate", "80")["rate"]["longest_wait_seconds"] == 0


def test_six_types_halve_the_calls_and_contact_lens_adds_two() -> None:
    six = "URL,number,STRING,DATE,EMAIL,ATTACHMENT"

    assert plan("--contacts-per-day", "1000")["calls_per_contact"] == 2
    assert plan("--contacts-per-day", "1000", "--types", six)["calls_per_contact"] == 1
    assert plan("--contacts-per-day", "1000", "--types", six, "--lens", "0.5")["calls_per_contact"] == 2
    # Nothing of what is asked for can change after the contact: nothing is rechecked.
    assert plan("--contacts-per-day", "1000", "--types", "URL", "--lens", "1")["calls_per_contact"] == 1
    fewer, all_types = (cost(Load(contacts=1_000, types=names)) for names in (("URL",), Load(contacts=1).types))
    assert fewer["Lambda, capture"] < all_types["Lambda, capture"]


@pytest.mark.parametrize("contacts", ["1", "37", "999", "1,234,567", "100000000"])
def test_any_number_of_contacts_is_planned(contacts: str) -> None:
    described = plan("--contacts-per-day", contacts, "--lens", "0.3")

    assert described["contacts_per_day"] == int(contacts.replace(",", ""))
    assert all(line["usd_a_month"] >= 0 for line in described["cost"]["lines"])
    assert described["busiest_hour"]["quota_needed"] > described["busiest_hour"]["requests_per_second"] > 0
    assert f"{described['contacts_per_day']:,} contacts a day" in run("--contacts-per-day", contacts).stdout


def test_more_contacts_never_cost_less() -> None:
    volumes = [round(10 ** (step / 8)) for step in range(65)]
    sums = [sum(cost(Load(contacts=contacts)).values()) for contacts in volumes]
    assert sums == sorted(sums)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--contacts-per-day", "0"], "0 is not from 1 to 100,000,000"),
        (["--contacts-per-day", "-5"], "-5 is not from 1 to 100,000,000"),
        (["--contacts-per-day", "1e12"], "1e12 is not a number"),
        (["--contacts-per-day", "100000000000"], "is not from 1 to 100,000,000"),
        (["--contacts-per-day", "many"], "many is not a number: give how many contacts"),
        (["--contacts-per-day", "9", "--types", "URL,MOOD"], "MOOD is no type of references: give some of URL"),
        (["--contacts-per-day", "9", "--types", " , "], "there is no type in it"),
        (["--contacts-per-day", "9", "--lens", "1.5"], "1.5 is not a share: give one from 0 to 1"),
        (["--contacts-per-day", "9", "--lens", "nan"], "nan is not a share"),
        (["--contacts-per-day", "9", "--rate", "0"], "0 is not from 0.01 to 4,000"),
        (["--contacts-per-day", "9", "--rate", "inf"], "inf is not from 0.01 to 4,000"),
        (["--contacts-per-day", "9", "--retention-days", "0"], "0 is not from 1 to 36,500"),
    ],
)
def test_bad_input_is_a_sentence(arguments: list[str], sentence: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert sentence in " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.stderr).split())
    assert result.stdout == ""
