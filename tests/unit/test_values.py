"""The rules of values and of ids, as laws over anything that a contact may hold."""

import json
import re
from decimal import Decimal
from itertools import pairwise, permutations
from typing import Any

import pytest
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from contact_references.model.reference import Reference, normalize_references
from contact_references.model.values import (
    Normalized,
    normalize_date,
    normalize_email,
    normalize_location,
    normalize_number,
    normalize_url,
    strip_signature,
)
from tests.unit.strategies import members, values

RULES = [normalize_url, normalize_email, normalize_number, normalize_date, normalize_location]


@pytest.mark.parametrize("rule", RULES)
@given(value=values)
def test_a_rule_reads_any_text_and_its_own_spelling_the_same(rule: Any, value: str) -> None:
    once: Normalized = rule(value)
    if once.is_valid:
        assert rule(once.canonical_value) == once


@pytest.mark.parametrize(
    ("rule", "same"),
    [
        (normalize_url, ["https://example.com", "HTTPS://EXAMPLE.com:443/", " https://u:p@example.com:0443/\n"]),
        (normalize_url, ["http://example.com/%7ea", "HTTP://example.com:/%7Ea"]),
        (normalize_url, ["http://[::1]:8080/", "HTTP://[::1]:8080"]),
        (normalize_email, ["jane@example.com", "Jane@Example.COM", "\tjane@example.com "]),
        (normalize_number, ["1.5", "+1.50", "01.5", "15e-1", "0.15E1", " 1.5 "]),
        (normalize_number, ["0", "-0", "0.00", "0e999999999999999999999", "+.0"]),
        (normalize_number, ["1000", "1e3", "1000.", "0.1e4"]),
        (normalize_date, ["2026-03-01", "20260301", "2026-03-01T00:00Z", "2026-03-01 02:00:00+02:00", "1772323200"]),
        (normalize_date, ["2026-03-01T00:00:00.123Z", "1772323200123", "2026-03-01t00:00:00,1239z"]),
    ],
)
def test_spellings_of_one_meaning_have_one_canonical_value(rule: Any, same: list[str]) -> None:
    assert len({rule(value).canonical_value for value in same}) == 1
    assert all(rule(value).is_valid for value in same)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("https://example.com/a", "https://example.com/A"),
        ("https://example.com/?a=1&b=2", "https://example.com/?b=2&a=1"),
        ("https://example.com:8443/", "https://example.com/"),
        ("http://example.com/", "https://example.com/"),
        ("https://example.com/k?versionId=1&X-Amz-Signature=0", "https://example.com/k?versionId=2&X-Amz-Signature=0"),
    ],
)
def test_urls_of_different_meaning_stay_different(one: str, another: str) -> None:
    assert normalize_url(one).canonical_value != normalize_url(another).canonical_value


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        *((normalize_url, value) for value in ("", "n/a", "www.example.com", "https://", "https:///p", "C:\\file")),
        *((normalize_url, value) for value in ("https://a b/", "https://h:99999/", "https://h:8o/", "note: call back")),
        *((normalize_email, value) for value in ("", "jane", "@example.com", "a@b@c", "a b@c.de", "a@-b.de", "a@b..c")),
        (normalize_email, "x" * 65 + "@example.com"),
        *((normalize_number, value) for value in ("", ".", "1_000", "1,000", "\uff11", "NaN", "Infinity", "0x1", "1e")),
        *((normalize_number, value) for value in ("1e126", "1e-131", "9" * 39, "1." + "1" * 38, "1 000", "--1")),
        *(
            (normalize_date, value)
            for value in ("", "n/a", "03/01/2026", "2026-13-01", "20261301", "2026-3-1", "12345")
        ),
        *((normalize_date, value) for value in ("2026-03-01T25:00", "0001-01-01T00:00+14:00", "\uff12026-03-01")),
    ],
)
def test_what_a_value_is_not_is_said_and_its_text_kept(rule: Any, value: str) -> None:
    assert rule(value) == Normalized(rule(value).canonical_value, is_valid=False)
    assert rule(value).canonical_value in (value, value.lower())


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_that_the_table_holds_comes_back_exact(number: Decimal) -> None:
    normalized = normalize_number(str(number))
    if normalized.is_valid:
        assert normalized.number_value == number
        stored = TypeDeserializer().deserialize(TypeSerializer().serialize(normalized.number_value))
        assert stored == number
        assert Decimal(normalized.canonical_value) == number
    else:
        assert len(number.as_tuple().digits) > 38 or not -130 <= number.adjusted() <= 125


def test_the_largest_and_smallest_numbers_of_the_table_are_valid() -> None:
    for text in ("9" * 38 + "e88", "1e-130", "-" + "9" * 38 + "e88"):
        number = normalize_number(text).number_value
        assert number == Decimal(text)
        assert TypeDeserializer().deserialize(TypeSerializer().serialize(number)) == number


@given(values)
def test_no_signature_or_userinfo_is_left_in_a_canonical_url(value: str) -> None:
    signed = f"https://jane:secret@example.com/{value}?a=1&X-Amz-Signature=secret&x-amz-security-token=secret"
    for rule in (normalize_url, normalize_location):
        if "#" not in value and "?" not in value and value.isascii():
            assert "secret" not in rule(signed).canonical_value


@pytest.mark.parametrize(
    "value",
    [
        "https:/jane:secret@host/p",
        "https:\\\\jane:secret@host/p",
        "https:jane:secret@host/p",
        "//jane:secret@host/p",
        "jane:secret@host/p",
        "https://jane:secret@example.com:port/p",
        "https://jane:secret@example.com /p",
        "https://jane:secret@",
        "https://jane:sec@ret@example.com/p",
        "https://jane:secret@[::1/p",
        "x https://jane:secret@example.com/p",
        "\x0bhttps://jane:secret@example.com/p",
        "h://jane:secret@host/p",
        "https://jane:secret@example.com/p?X-Amz-Signature=secret",
    ],
)
def test_userinfo_is_left_out_of_what_is_no_valid_url_too(value: str) -> None:
    canonical = normalize_url(value).canonical_value
    assert "secret" not in canonical
    assert "jane" not in canonical


@pytest.mark.parametrize("value", ["jane@example.com", "call jane@example.com", "n/a", "@", ""])
def test_what_has_no_userinfo_in_it_is_kept_as_it_is(value: str) -> None:
    assert normalize_url(value) == Normalized(value, is_valid=False)


@pytest.mark.parametrize(
    "exponent", ["9" * 4301, "-" + "9" * 4301, "0" * 4301, "-" + "0" * 4300 + "1", "+" + "0" * 9999]
)
def test_an_exponent_of_thousands_of_digits_is_read_or_refused_like_any_other(exponent: str) -> None:
    is_small = exponent.lstrip("+-0") in ("", "1")
    normalized = normalize_number(f"1e{exponent}")
    assert normalized.is_valid == is_small
    assert normalize_number(f"0e{exponent}").number_value == 0


def test_a_number_of_thousands_of_digits_is_not_one_that_a_table_holds() -> None:
    for value in ("1" * 4301, "0." + "1" * 4301, "1" * 4301 + "e-4301"):
        assert normalize_number(value) == Normalized(value, is_valid=False)
    assert normalize_number("0" * 4301 + "1").number_value == 1


@pytest.mark.parametrize(
    ("signed", "bare"),
    [
        ("https://a.example/k?Expires=1&Signature=2&AWSAccessKeyId=3", "https://a.example/k"),
        ("https://a.example/k?b=1&Policy=2&Signature=3&Key-Pair-Id=4&c=5#d", "https://a.example/k?b=1&c=5#d"),
        ("https://a.example/k?sv=1&se=2&sr=b&sp=r&sig=3&comp=4", "https://a.example/k?comp=4"),
        ("https://a.example/k?%58-Amz-Signature=1", "https://a.example/k"),
        ("https://a.example/k#?X-Amz-Signature=1", "https://a.example/k#?X-Amz-Signature=1"),
        ("https://a.example/k?sp=1&expires=2", "https://a.example/k?sp=1&expires=2"),
    ],
)
def test_signatures_go_and_the_rest_stays_to_the_character(signed: str, bare: str) -> None:
    assert strip_signature(signed) == bare


@given(st.lists(members(), max_size=12).flatmap(lambda all_: st.tuples(st.just(all_), st.permutations(all_))))
def test_every_member_becomes_one_reference_with_an_id_of_its_own_in_any_order(
    orders: tuple[list[Any], list[Any]],
) -> None:
    one, another = map(normalize_references, orders)
    assert one == another
    assert len(one) == len(orders[0])
    assert all(before.reference_id < after.reference_id for before, after in pairwise(one))
    kept = sorted((reference.reference_type, reference.reference_name or "") for reference in one)
    assert len(kept) == len(orders[0])


@given(st.lists(members(), max_size=6))
def test_every_text_of_a_reference_can_be_stored(all_: list[Any]) -> None:
    for reference in normalize_references(all_):
        for value in (getattr(reference, name) for name in Reference.__dataclass_fields__):
            if isinstance(value, str):
                value.encode()


def test_a_lone_surrogate_is_escaped_and_marked() -> None:
    [reference] = normalize_references([{"String": {"Name": "n", "Value": json.loads('"a\\ud83d"')}}])
    assert (reference.reference_value, reference.is_valid) == ("a\\ud83d", False)
    [whole] = normalize_references([{"String": {"Name": "n", "Value": "\U0001f600"}}])
    assert (whole.reference_value, whole.is_valid) == ("\U0001f600", True)


def test_ids_come_from_type_name_and_arn_until_those_are_alike() -> None:
    def ids(*values_: str) -> list[str]:
        return [r.reference_id for r in normalize_references({"Url": {"Name": "n", "Value": v}} for v in values_)]

    assert ids("https://a.example/") == ids("https://b.example/")
    assert set(ids("https://a.example/", "https://b.example/")).isdisjoint(ids("https://a.example/"))
    assert len(set(ids("x", "x", "x"))) == 3
    resigned = ids("https://a.example/?X-Amz-Date=1", "https://b.example/?X-Amz-Date=1")
    assert resigned == ids("https://a.example/?X-Amz-Date=2", "https://b.example/?X-Amz-Date=2")
    assert all(re.fullmatch("[0-9a-f]{32}", id_) for id_ in resigned)


def test_references_that_differ_only_in_what_names_none_have_the_same_ids_in_any_order() -> None:
    def of_status(*statuses: str) -> dict[str | None, str]:
        read = normalize_references({"Attachment": {"Name": "f", "Status": status}} for status in statuses)
        return {reference.status: reference.reference_id for reference in read}

    found = [of_status(*order) for order in permutations(["PROCESSING", "APPROVED", "FAILED"])]
    assert len(found[0]) == len(set(found[0].values())) == 3
    assert all(ids == found[0] for ids in found)


def unknown(*scores: int) -> list[str]:
    return [r.reference_id for r in normalize_references({"Mood": {"Name": "n", "Score": s}} for s in scores)]


def test_ids_of_members_newer_than_the_sdk_do_not_depend_on_how_many_are_alike() -> None:
    [one] = unknown(1)
    assert one in unknown(1, 2)
    assert set(unknown(1, 1)) < set(unknown(1, 1, 1, 2))
    assert len(set(unknown(1, 1, 1, 2))) == 4


@given(st.lists(members(), max_size=6), st.lists(members(), max_size=6))
def test_references_of_names_of_their_own_keep_their_ids_whatever_comes_along(some: list[Any], more: list[Any]) -> None:
    def by_naming(references: tuple[Reference, ...]) -> dict[object, list[str]]:
        found: dict[object, list[str]] = {}
        for reference in references:
            key = (reference.reference_type, reference.reference_name, reference.arn, reference.raw)
            found.setdefault(key, []).append(reference.reference_id)
        return found

    alone, together = by_naming(normalize_references(some)), by_naming(normalize_references([*some, *more]))
    assert all(together[key] == ids for key, ids in alone.items() if len(together[key]) == len(ids) == 1)
