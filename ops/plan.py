"""What so many contacts a day need and cost, before anything is deployed: quota, wait, concurrency, dollars a month.

The same arithmetic as docs/scale.md and *What it costs* in docs/operations.md; none of it was measured in an account.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from contact_references.model.reference import ENTERED_TYPES, PRODUCED_TYPES
from contact_references.model.reference_types import changing, group_types
from ops import prices
from ops.console import JsonOption, make_console, print_json

# Contacts that complete in each hour of a weekday, relative: a mid-morning peak of a tenth of the day, a dip at noon, a
# second peak in the afternoon, little at night (assumed; the shape is that of published call-centre data).
_NIGHT, _EVENING = (0.2, 0.1, 0.1, 0.1, 0.2, 0.5, 1.5, 3), (4.5, 3.5, 2.5, 1.3, 0.8, 0.2)
SHAPE = (*_NIGHT, 6.5, 9.5, 10.5, 9.5, 7.5, 8, 8.5, 8, 7.5, 6, *_EVENING)

ALL_TYPES = (*ENTERED_TYPES.values(), *PRODUCED_TYPES.values())
OURS = 0.8
"""Our share of the account's quota, as by default: 8 of 10 requests a second."""
DEFAULT_QUOTA = 10.0
_MOST_CONTACTS = 100_000_000
_MOST_RATE = 4_000.0  # what 1,000 execution environments reach
_MOST_DAYS = 36_500
_HOUR = 3600.0
_DAYS = 30
_BUSIEST = max(SHAPE) / sum(SHAPE)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is to be carried: contacts a day, the types they are asked for, the share with Contact Lens on."""

    contacts: int
    types: tuple[str, ...] = ALL_TYPES
    lens: float = 0.0
    retention_days: int = 730

    @property
    def calls(self) -> float:
        """Calls of Connect a contact, its two rechecks with Contact Lens on included: what services produce, each."""
        rechecks = 2 * self.lens if changing(self.types) else 0
        return len(group_types(self.types)) + rechecks

    @property
    def calls_a_second(self) -> float:
        """Calls a second in the busiest hour, in which a tenth of the day's contacts complete."""
        return self.contacts * _BUSIEST * self.calls / _HOUR

    @property
    def a_month(self) -> int:
        """Contacts a month of 30 days."""
        return self.contacts * _DAYS

    @property
    def kept(self) -> int:
        """Contacts kept once the first ones expire."""
        return self.contacts * self.retention_days

    @property
    def batch(self) -> float:
        """Contacts a batch, simulated at the default quota: docs/scale.md, and six at the most."""
        points = ((3, 1.0), (4, 1.043), (5, 2.51), (6, 6.0))
        return _between(points, min(6, max(3, math.log10(self.contacts))))


@dataclass(frozen=True)
class Wait:
    """How long a weekday's contacts wait at a rate, which may be longer than the day.

    `largest_backlog` counts contacts; `keeps_up` says that the day's calls are no more than the rate's in a day.
    """

    longest_seconds: float
    largest_backlog: float
    keeps_up: bool


def wait_at(load: Load, rate: float) -> Wait:
    """Return how long contacts wait at a rate, requests a second, as the hours of a weekday fill and empty the queue.

    >>> wait_at(Load(contacts=100_000), 4)
    Wait(longest_seconds=5700.0, largest_backlog=11400.0, keeps_up=True)
    >>> wait_at(Load(contacts=100_000), 8).largest_backlog
    0.0
    """
    served = rate * _HOUR / load.calls
    backlog, largest = 0.0, 0.0
    for share in SHAPE:
        backlog = max(0.0, backlog + load.contacts * share / sum(SHAPE) - served)
        largest = max(largest, backlog)
    largest = round(largest, 3)
    return Wait(round(largest / served * _HOUR, 1), largest, load.contacts <= served * 24)


def concurrency_at(rate: float) -> int:
    """Return how many execution environments capture at a rate, as the stack deploys: up to 4 requests a second each.

    >>> [concurrency_at(rate) for rate in (1, 8, 100, 10_000)]
    [2, 2, 25, 1000]
    """
    return min(1000, max(2, math.ceil(rate / 4)))


def contacts_a_day_at(rate: float, calls: float) -> int:
    """Return the contacts of a weekday whose busiest hour a rate carries.

    >>> contacts_a_day_at(8, calls=2)
    137142
    """
    return int(rate * _HOUR / calls / _BUSIEST + 1e-6)


class Line(NamedTuple):
    """A line of the month's bill: what is paid for, and US dollars a month by the load."""

    name: str
    dollars: Callable[[Load], float]


def _writes(load: Load) -> float:
    # A contact's item and five rows, one of which is two units; the day's mark, once a batch; the index of values.
    return load.a_month * (7 + 1 / load.batch + 6) * prices.DYNAMODB_WRITE_UNIT


def _queue(load: Load) -> float:
    # Sent once; received and deleted by the batch.
    pollers = _between(((3, 8_000), (4, 4_550), (5, 5_000), (6, 0)), min(6, max(3, math.log10(load.contacts))))
    idle = 3 * 86_400 / 20  # three of the five that always poll never have work; one answer in 20 seconds
    return (load.a_month * (1 + 2 / load.batch) + _DAYS * (pollers + idle)) * prices.SQS_REQUEST


def _capture(load: Load) -> float:
    gb_seconds = _between(((3, 0.0945), (4, 0.0870), (5, 0.0923)), min(5, max(3, math.log10(load.contacts))))
    saved = 0.026 * (2 - len(group_types(load.types)))  # a call is a tenth of a second of 0.25 GB
    return load.a_month * (prices.LAMBDA_REQUEST / load.batch + (gb_seconds - saved) * prices.LAMBDA_GB_SECOND)


def _reconcile(load: Load) -> float:
    searches = _between(((0, 42), (1_000, 66), (10_000, 286), (100_000, 2_288)), load.contacts)
    seconds = _DAYS * searches * 4 + _RUNS * 2
    return seconds * 0.25 * prices.LAMBDA_GB_SECOND + _RUNS * prices.LAMBDA_REQUEST


def _logs(load: Load) -> float:
    written = load.a_month * (715 + 925 / load.batch) + _RUNS * 2_000
    return written * prices.LOG_BYTE + 12 * written / 1e9 * prices.LOG_GB_MONTH


def _rechecks(load: Load) -> float:
    if not changing(load.types):
        return 0.0
    a_contact = (
        35 * prices.DYNAMODB_WRITE_UNIT
        + 8 * prices.DYNAMODB_READ_UNIT
        + prices.S3_PUT
        + 4.2 * prices.SQS_REQUEST
        + 2 * prices.LAMBDA_REQUEST
        + 0.76 * 0.25 * prices.LAMBDA_GB_SECOND
        + 3_200 * prices.LOG_BYTE
    )
    return load.a_month * load.lens * a_contact


_GB = 2**30
_RUNS = 96 * _DAYS
_ITEMS, _INDEX = 5_421, 4_740  # bytes a contact of five references

LINES: Sequence[Line] = (
    Line("DynamoDB writes, both indexes included", _writes),
    # One unit to look, two for reconciling.
    Line("DynamoDB reads, reconciling's included", lambda load: 3 * load.a_month * prices.DYNAMODB_READ_UNIT),
    Line("S3 PUT requests", lambda load: load.a_month / load.batch * prices.S3_PUT),
    Line("SQS, Lambda's pollers without work included", _queue),
    Line("Lambda, capture", _capture),
    Line("Lambda, reconcile", _reconcile),
    Line("Logs, kept for a year", _logs),
    Line("Metrics that always have data: 12", lambda _: 12 * prices.METRIC_MONTH),
    Line("Metrics that have data sometimes: 16, if they have it in every hour", lambda _: 16 * prices.METRIC_MONTH),
    Line("Alarms: 23", lambda _: 23 * prices.ALARM_MONTH),
    Line("Dashboard", lambda _: prices.DASHBOARD_MONTH),
    # Table and bucket each ask for the key once in five minutes.
    Line("Key", lambda _: prices.KEY_MONTH + 2 * _DAYS * 288 * prices.KMS_REQUEST),
    Line(
        "DynamoDB storage, index `by_value` included",
        lambda load: load.kept * (_ITEMS + _INDEX) / _GB * prices.DYNAMODB_GB_MONTH,
    ),
    Line("DynamoDB point-in-time recovery", lambda load: load.kept * _ITEMS / _GB * prices.DYNAMODB_RECOVERY_GB_MONTH),
    Line(
        "S3 storage: the lake and the tables, about half each",
        lambda load: load.kept * (168 + 580 / load.batch + 409) / _GB * prices.S3_GB_MONTH,
    ),
    Line(  # measured: docs/benchmarks.md, *Cost of the tables*
        "Tables: the function and its S3 requests",
        lambda load: _between(((0, 0.05), (1_000, 0.08), (10_000, 0.37), (100_000, 1.81)), load.contacts),
    ),
    Line("Rechecks, with Contact Lens on", _rechecks),
)
"""All that is paid for, with five references a contact and one Connect instance, in the order of docs/operations.md."""


def cost(load: Load) -> dict[str, float]:
    """Return US dollars a month by the names of the lines, to the cent; what costs nothing is left out."""
    return {line.name: round(dollars, 2) for line in LINES if (dollars := line.dollars(load)) > 0}


def _between(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return the value at x on the straight lines through points; the last one goes on.

    >>> [_between(((0, 0), (1, 10), (3, 20)), x) for x in (0.5, 2, 5)]
    [5.0, 15.0, 30.0]
    """
    upper = next((number for number in range(1, len(points)) if x <= points[number][0]), len(points) - 1)
    (x0, y0), (x1, y1) = points[upper - 1], points[upper]
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)


def _describe(load: Load, rate: float) -> dict[str, Any]:
    wait, costs = wait_at(load, rate), cost(load)
    needed = load.calls_a_second
    served = DEFAULT_QUOTA * OURS
    return {
        "contacts_per_day": load.contacts,
        "reference_types": list(load.types),
        "lens_share": load.lens,
        "retention_days": load.retention_days,
        "calls_per_contact": load.calls,
        "busiest_hour": {
            "contacts": round(load.contacts * _BUSIEST),
            "requests_per_second": _up(needed),
            "quota_needed": _up(needed / OURS),
        },
        "default_quota": {
            "quota": DEFAULT_QUOTA,
            "requests_per_second": served,
            "contacts_per_day": contacts_a_day_at(served, load.calls),
            "is_enough": needed <= served,
        },
        "rate": {
            "requests_per_second": rate,
            "contacts_per_day": contacts_a_day_at(rate, load.calls),
            "concurrency": concurrency_at(rate),
            "keeps_up": wait.keeps_up,
            "largest_backlog": round(wait.largest_backlog) if wait.keeps_up else None,
            "longest_wait_seconds": round(wait.longest_seconds) if wait.keeps_up else None,
        },
        "cost": {
            "lines": [{"name": name, "usd_a_month": dollars} for name, dollars in costs.items()],
            "usd_a_month": round(sum(costs.values()), 2),
        },
    }


def _up(rate: float) -> float:
    """Round a rate up, to a tenth or so: less would not do.

    >>> [_up(rate) for rate in (0.00583, 5.83, 8.0, 117.2)]
    [0.0059, 5.9, 8.0, 118.0]
    """
    unit = 10.0 ** min(0, math.floor(math.log10(rate) + 1e-9) - (1 if rate < 100 else 2))
    return round(math.ceil(rate / unit - 1e-9) * unit, 6)


def _show(console: Console, plan: dict[str, Any]) -> None:
    busiest, default, rate, costs = plan["busiest_hour"], plan["default_quota"], plan["rate"], plan["cost"]
    is_default = rate["requests_per_second"] == default["requests_per_second"]
    facts = Table(title=f"{plan['contacts_per_day']:,} contacts a day", title_justify="left", show_header=False)
    facts.add_column(style="bold")
    facts.add_column()
    facts.add_row("calls a contact", f"{plan['calls_per_contact']:g}")
    facts.add_row(
        "busiest hour", f"{busiest['contacts']:,} contacts, {busiest['requests_per_second']:g} requests a second"
    )
    facts.add_row(
        "quota needed",
        f"{busiest['quota_needed']:g} requests a second of ListContactReferences, a fifth of it left to others",
    )
    facts.add_row(
        "default quota",
        f"{default['quota']:g}, of which {default['requests_per_second']:g} are ours: carries "
        f"{default['contacts_per_day']:,} contacts a day; "
        + ("[green]enough[/green]" if default["is_enough"] else "[red]not enough[/red]"),
    )
    facts.add_row(
        f"at {rate['requests_per_second']:g} a second" + (", the default" if is_default else ""), _tell_wait(rate)
    )
    facts.add_row("concurrency", f"{rate['concurrency']} execution environments")
    console.print(facts)
    bill = Table(
        title=f"USD a month, {plan['retention_days']} days kept", title_justify="left", show_footer=True, min_width=60
    )
    bill.add_column("what", footer="sum")
    bill.add_column("USD", footer=f"{costs['usd_a_month']:,.2f}", justify="right")
    for line in costs["lines"]:
        bill.add_row(line["name"], f"{line['usd_a_month']:,.2f}")
    console.print(bill)
    console.print(
        "Five references a contact, one instance; list prices of us-east-1, without free tiers, to be checked before "
        "quoting. Assumptions: docs/operations.md, docs/scale.md."
    )


def _tell_wait(rate: dict[str, Any]) -> str:
    if not rate["keeps_up"]:
        return "[red]the queue grows day by day[/red], and drops contacts after 14 days: raise the rate"
    if rate["largest_backlog"] == 0:
        return "[green]in the ledger after seconds[/green], in the busiest hour too"
    minutes = max(1, rate["longest_wait_seconds"] / 60)
    return f"contacts wait for up to {minutes:,.0f} minutes, {rate['largest_backlog']:,} at once; none is lost"


def _read_contacts(text: str) -> int:
    try:
        contacts = int(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise typer.BadParameter(
            f"{text} is not a number: give how many contacts complete a day, such as 10000"
        ) from None
    if not 1 <= contacts <= _MOST_CONTACTS:
        raise typer.BadParameter(f"{text} is not from 1 to {_MOST_CONTACTS:,}: give contacts a day, such as 10000")
    return contacts


def _read_types(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip().upper() for name in text.split(",") if name.strip()))
    if names == ("ALL",):
        return ALL_TYPES
    unknown = [name for name in names if name not in ALL_TYPES]
    if unknown or not names:
        what = f"{', '.join(unknown)} is no type of references" if unknown else "there is no type in it"
        raise typer.BadParameter(f"{what}: give some of {','.join(ALL_TYPES)}")
    return names


def _check_lens(share: float) -> float:
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{share:g} is not a share: give one from 0 to 1, such as 0.5 for half the contacts")
    return share


def _check_rate(rate: float) -> float:
    if not 0.01 <= rate <= _MOST_RATE:
        raise typer.BadParameter(f"{rate:g} is not from 0.01 to {_MOST_RATE:,.0f} requests a second: the default is 8")
    return rate


def _check_days(days: int) -> int:
    if not 1 <= days <= _MOST_DAYS:
        raise typer.BadParameter(
            f"{days} is not from 1 to {_MOST_DAYS:,}: give for how many days contacts are kept, such as 730"
        )
    return days


ContactsOption = Annotated[
    int, typer.Option("--contacts-per-day", metavar="N", parser=_read_contacts, help="Contacts that complete a day.")
]
TypesOption = Annotated[
    Any,
    typer.Option(metavar="TYPE,TYPE…", parser=_read_types, help="Reference types that are asked for: referenceTypes."),
]
LensOption = Annotated[
    float, typer.Option(metavar="SHARE", callback=_check_lens, help="Share of contacts with Contact Lens on, 0 to 1.")
]
RateOption = Annotated[
    float, typer.Option(metavar="R", callback=_check_rate, help="Requests a second: connectRequestsPerSecond.")
]
DaysOption = Annotated[int, typer.Option(metavar="DAYS", callback=_check_days, help="How long contacts are kept.")]


def plan(
    *,
    contacts: ContactsOption,
    types: TypesOption = "ALL",
    lens: LensOption = 0.0,
    rate: RateOption = DEFAULT_QUOTA * OURS,
    retention_days: DaysOption = 730,
    as_json: JsonOption = False,
) -> None:
    """Say what so many contacts a day need and cost: quota, wait at the peak, concurrency, US dollars a month.

    Needs no deployment and asks AWS nothing.
    """
    described = _describe(Load(contacts=contacts, types=types, lens=lens, retention_days=retention_days), rate)
    if as_json:
        print_json(described)
    else:
        _show(make_console(), described)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: python -m ops plan --contacts-per-day 20000 --types URL,ATTACHMENT --lens 0.3")(plan)
