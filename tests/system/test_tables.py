"""The deployed tables function and Athena: tables and documented queries equal what the simulator holds.

What is expected is worked out here, one contact after the other, from the simulator's own list.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from math import ceil
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from contact_references.model.reference import Reference, normalize_references
from contact_references.model.timestamps import parse_iso
from local.emulator import LocalSystemError
from local.system import Json, System
from local.tables import documented_queries, over_dates, query, write_tables
from tests.system.conftest import INSTANCE_ID

DATES = ("2024-05-01", "2024-05-03")
"""Dates of completion that no other test's contacts have."""


Row = list[str | None]


def select(columns: str, table: str) -> str:
    return f"SELECT {columns} FROM {table} WHERE completed_date BETWEEN DATE '{DATES[0]}' AND DATE '{DATES[1]}'"  # noqa: S608


def reference(kind: str, name: str, value: str, **members: object) -> Json:
    return {kind: {"Name": name, "Value": value, **members}}


def attachment(name: str, status: str) -> Json:
    arn = f"arn:aws:connect:us-east-1:111122223333:instance/i/file/{name}"
    return reference("Attachment", name, f"https://files.example.com/{name}?X-Amz-Signature=1", Status=status, Arn=arn)


def analysis(status: str) -> Json:
    members = {"Status": status, "AnalyticsMode": "PostContact", "IsRedacted": False}
    return reference("ContactAnalysis", "ContactLens", "s3://bucket/analysis.json", **members)


class Day:
    """Contacts that the simulator holds, as they were put there last."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.held: dict[str, Json] = {}

    def put(self, *references: Json, at: str, channel: str = "VOICE", contact_id: str | None = None) -> str:
        """Put an ended contact in place, or another state of one, and let Connect report its completion."""
        contact: Json = {
            "Id": contact_id or str(uuid4()),
            "InstanceId": INSTANCE_ID,
            "Channel": channel,
            "InitiationMethod": "INBOUND",
            "DisconnectTimestamp": at,
            "References": references,
        }
        self.system.control_connect("contacts", {"contacts": [contact]})
        self.held[contact["Id"]] = contact
        self.system.control_connect(f"contacts/{contact['Id']}/complete", {})
        return str(contact["Id"])

    def change(self, contact_id: str, *references: Json) -> None:
        before = self.held[contact_id]
        self.put(*references, at=before["DisconnectTimestamp"], channel=before["Channel"], contact_id=contact_id)

    def drain(self) -> None:
        assert self.system.wait_until_drained(60)

    def contacts(self) -> list[Json]:
        return list(self.held.values())

    def references(self) -> Iterator[tuple[Json, Reference]]:
        for contact in self.contacts():
            for each in normalize_references(contact["References"]):
                yield contact, each

    def athena(self, title: str) -> list[Row]:
        """The rows that a documented query gives of these dates."""
        return query(self.system, over_dates(documented_queries()[title], *DATES))[1:]


@pytest.fixture(scope="module")
def day(system: System) -> Day:
    """Contacts of all kinds on three days, of which two are rewritten: changed, emptied, read again, repeated."""
    day = Day(system)
    crm = reference("Url", "CRM", "HTTPS://CRM.example.com/accounts/1")
    shop = reference("Url", "shop", "https://shop.example.com/1")
    email = reference("Email", "Customer", "Pat.Doe@Example.com")
    call = day.put(crm, email, analysis("AVAILABLE"), at="2024-05-01T09:00:00.000Z")
    chat = day.put(
        attachment("a.png", "APPROVED"), attachment("b.exe", "REJECTED"), at="2024-05-01T23:59:59.999Z", channel="CHAT"
    )
    day.put(at="2024-05-01T00:00:00.000Z", channel="TASK")
    day.put(
        reference("Number", "amount", "12.50"),
        reference("Number", "amount", "1.2345678901"),
        reference("Number", "count", "many"),
        reference("Date", "due", "2024-06-01"),
        reference("Date", "due", "tomorrow"),
        reference("String", "note", "'; DROP TABLE contacts; -- \\ \n\t\"ü 😀"),
        {"Mood": {"Name": "tone", "Score": 3}},
        email,
        at="2024-05-01T12:00:00.000Z",
        channel="EMAIL",
    )
    emptied = day.put(crm, shop, at="2024-05-02T10:00:00.000Z")
    changed = day.put(crm, shop, at="2024-05-02T11:00:00.000Z", channel="CHAT")
    day.drain()
    write_tables(system)
    day.change(emptied)
    day.change(changed, crm, email, analysis("FAILED"))
    day.change(call, email)
    for contact_id in (call, chat):  # the same again
        system.control_connect(f"contacts/{contact_id}/complete", {})
    day.put(crm, at="2024-05-03T08:00:00.000Z")
    day.drain()
    write_tables(system)
    return day


def completed(contact: Json) -> str:
    return str(contact["DisconnectTimestamp"])


def shown(moment: str | None) -> str | None:
    """A time as the local system's Athena writes it, which is as Python does."""
    return None if moment is None else str(parse_iso(moment).replace(tzinfo=None))


def test_the_contacts_are_those_that_the_simulator_holds(day: Day) -> None:
    columns = "contact_id, channel, initiation_method, completed_at, reference_count, completed_date"
    rows = query(day.system, select(columns, "contacts"))

    assert sorted(rows[1:]) == sorted(
        [c["Id"], c["Channel"], "INBOUND", shown(completed(c)), str(len(c["References"])), completed(c)[:10]]
        for c in day.contacts()
    )


def test_the_references_are_those_that_the_simulator_holds(day: Day) -> None:
    columns = (
        "contact_id, reference_id, reference_type, reference_name, reference_value, canonical_value, number_value, "
        "date_value, is_valid, status, arn, raw"
    )
    rows = query(day.system, select(columns, "contact_references"))

    def as_row(contact: Json, each: Reference) -> Row:
        number = each.number_value if each.number_value == round(each.number_value or 0, 9) else None
        return [
            contact["Id"],
            each.reference_id,
            each.reference_type,
            each.reference_name,
            each.reference_value,
            each.canonical_value,
            None if number is None else f"{number:.9f}",
            shown(each.date_value),
            str(each.is_valid).lower(),
            each.status,
            each.arn,
            each.raw,
        ]

    assert sorted(map(repr, rows[1:])) == sorted(repr(as_row(*each)) for each in day.references())


def test_types_by_channel(day: Day) -> None:
    contacts = defaultdict(list)
    for contact, each in day.references():
        contacts[each.reference_type, contact["Channel"]].append(contact["Id"])

    assert day.athena("References of a period by type and channel") == [
        [*key, str(len(ids)), str(len(set(ids)))] for key, ids in sorted(contacts.items())
    ]


def test_urls_of_a_host(day: Day) -> None:
    found = [
        [contact["Id"], shown(completed(contact)), each.reference_name, each.canonical_value]
        for contact, each in day.references()
        if each.reference_type == "URL" and urlsplit(each.canonical_value or "").hostname == "crm.example.com"
    ]

    assert len(found) == 2
    assert day.athena("Contacts with a URL of a host") == sorted(found, key=lambda row: str(row[1]), reverse=True)


def test_attachments_that_are_not_approved(day: Day) -> None:
    assert day.athena("Attachments that are not approved") == [
        [each.status, contact["Channel"], contact["Id"], each.reference_name]
        for contact, each in day.references()
        if each.reference_type == "ATTACHMENT" and each.status != "APPROVED"
    ]


def test_contacts_whose_analysis_never_came(day: Day) -> None:
    analysed = {
        c["Id"]
        for c, each in day.references()
        if each.reference_type == "CONTACT_ANALYSIS" and each.status == "AVAILABLE"
    }
    waiting = [c for c in day.contacts() if c["Channel"] in ("VOICE", "CHAT") and c["Id"] not in analysed]

    assert day.athena("Contacts whose analysis never came") == [
        [c["Channel"], c["Id"], shown(completed(c))] for c in sorted(waiting, key=completed)
    ]


def test_values_that_are_not_what_their_type_says(day: Day) -> None:
    values = defaultdict(list)
    for _, each in day.references():
        if not each.is_valid:
            values[each.reference_type, each.reference_name or ""].append(each.reference_value or "")

    assert set(values) == {("NUMBER", "count"), ("DATE", "due")}
    assert day.athena("Values that are not what their type says") == [
        [*key, str(len(of)), min(of)] for key, of in sorted(values.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def test_the_contacts_that_have_a_value(day: Day) -> None:
    found = [
        [contact["Id"], shown(completed(contact)), contact["Channel"], each.reference_name]
        for contact, each in day.references()
        if (each.reference_type, each.canonical_value) == ("EMAIL", "pat.doe@example.com")
    ]

    assert len(found) == 3
    assert day.athena("The contacts that have a value") == sorted(found, key=lambda row: str(row[1]), reverse=True)


def test_the_busiest_names(day: Day) -> None:
    values = defaultdict(list)
    for _, each in day.references():
        values[each.reference_name or "", each.reference_type].append(each.canonical_value)
    busiest = sorted(values.items(), key=lambda item: (-len(item[1]), item[0]))[:10]

    assert day.athena("The busiest names") == [
        [*key, str(len(of)), str(len({value for value in of if value is not None}))] for key, of in busiest
    ]


def test_references_by_day_as_bars(day: Day) -> None:
    counts = Counter(completed(contact)[:10] for contact, _ in day.references())

    assert day.athena("References by day") == [
        [date, str(count), "█" * ceil(40 * count / max(counts.values()))] for date, count in sorted(counts.items())
    ]


def test_a_rebuild_gives_the_same_tables(day: Day) -> None:
    sql = select("*", "contact_references")
    before = query(day.system, sql)

    assert write_tables(day.system, {"rebuild": {"from": DATES[0], "to": "2024-05-04"}}) == {"days": 3}
    assert write_tables(day.system)["written"] >= 3
    assert query(day.system, sql) == before


def test_what_is_no_command_is_refused(system: System) -> None:
    with pytest.raises(LocalSystemError, match=r"give .* for the days that changed"):
        write_tables(system, {"rebuilt": {}})
