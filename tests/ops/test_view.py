"""The page: what it shows, whom it answers, and what it never says."""

import gzip
import io
import json
import logging
import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.stub import Stubber

from contact_references.model.contact import ContactKey, Instance
from local.in_memory.connect import Member
from ops.errors import OpsError
from ops.page import history, search
from ops.page.guard import HEADERS
from ops.page.text import find_link, visible
from ops.view import listen
from tests.ops.page import ENDED_AT, Answer, World, open_world, serve
from tests.unit.conftest import INSTANCE_ARN, INSTANCE_ID

JANE: Member = {"Email": {"Name": "reply to", "Value": "Jane@Example.com"}}
TOTAL: Member = {"Number": {"Name": "total", "Value": "199.90"}}
DATE = f"{ENDED_AT:%Y-%m-%d}"


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def world(running: World) -> World:
    running.clear()
    return running


def photo(status: str, signature: str) -> Member:
    value = f"https://files.s3.amazonaws.com/photo?X-Amz-Signature={signature}"
    return {"Attachment": {"Name": "photo", "Arn": f"{INSTANCE_ARN}/file/1", "Value": value, "Status": status}}


def history_of(answer: Answer) -> list[str]:
    """Return what is told of each capture, the newest first."""
    _, *parts = answer.html.partition('<ol class="captures">')[2].partition("</ol>")[0].split("<h3>")
    return [" ".join(unescape(re.sub("<[^>]+>", " ", part)).split()) for part in parts]


# Whom it answers, and how


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "0.0.0.0:80"])
def test_a_request_under_another_name_is_refused(world: World, host: str) -> None:
    world.capture("named", JANE)
    answer = world.get("/search?q=jane@example.com", host=host)
    assert answer.status == 400
    assert "named" not in answer.html


def test_a_request_under_the_names_of_loopback_is_answered(world: World) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST"):
        assert world.get("/search", host=f"{name}:{world.port}").status == 200


@pytest.mark.parametrize(
    ("site", "mode", "destination", "status"),
    [
        ("cross-site", "no-cors", "image", 403),
        ("same-site", "no-cors", "style", 403),  # of another port of this machine
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "no-cors", "style", 200),
        ("none", "navigate", "document", 200),
    ],
)
def test_what_another_page_loads_as_a_part_of_itself_is_refused(
    world: World, site: str, mode: str, destination: str, status: int
) -> None:
    says = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
    assert world.get("/search", headers=says).status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/search?q=a", "/dead-letters", "/none"])
def test_what_does_not_only_read_is_refused(world: World, method: str, path: str) -> None:
    answer = world.get(path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_head_is_answered_without_content(world: World) -> None:
    answer = world.get("/search", method="HEAD")
    assert (answer.status, answer.html) == (200, "")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "how", "status"),
    [
        ("/", {}, 200),
        ("/style.css", {}, 200),
        ("/search?q=none", {}, 200),
        ("/none", {}, 404),
        ("/contacts/none/none", {}, 404),
        ("/", {"method": "POST"}, 405),
        ("/", {"host": "evil.example"}, 400),
        (f"/search?q={'a' * 8193}", {}, 400),
    ],
)
def test_each_answer_has_the_headers_that_protect_it(world: World, path: str, how: Any, status: int) -> None:
    answer = world.get(path, **how)
    assert answer.status == status
    assert {name: answer.headers[name.lower()] for name in HEADERS} == HEADERS
    assert answer.headers["content-security-policy"] == "default-src 'none'; style-src 'self'"
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"total;dur=[0-9.]+", answer.headers["server-timing"])
    assert "server" not in answer.headers
    if status != 200:
        assert "<main" in answer.html


def test_a_port_that_is_taken_is_told_of_in_a_sentence() -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OpsError, match=f"port {port} cannot be used .*--port"):
            listen(port)


def test_only_the_loopback_address_is_listened_on() -> None:
    with listen(0) as listening:
        assert (listening.family, listening.getsockname()[0]) == (socket.AF_INET, "127.0.0.1")


# The first page


def test_the_first_page_says_how_it_is_and_what_of_today_is_captured(world: World) -> None:
    world.put_hours([(10, 2), (20, 0)])
    world.capture("missing-1-0", completed_at=ENDED_AT + timedelta(hours=30), after=timedelta(hours=2))
    world.put_letter({}, error="ForeignContact", reason="the instance is of another account or Region")
    answer = world.get("/")
    assert answer.status == 200
    assert "A person should act." in answer.text
    assert "1 of ForeignContact: the instance is of another account or Region" in answer.text
    assert "ops dead-letters list" in answer.text
    assert "2 missing when their hours were visited, 1 of them captured since." in answer.text


def test_the_chart_and_the_table_beside_it_say_the_same(world: World) -> None:
    world.put_hours([(10, 2), (20, 0), (0, 0)])
    html = world.get("/").html
    chart = html.partition('<svg class="chart"')[2].partition("</svg>")[0]
    bars = re.findall(r"<title>\S+ (\d\d:\d\d) to [^<]+: (\d+) completed, (\d+) captured, (\d+) missing, open", chart)
    rows = re.findall(r'<th scope="row">\S+ (\d\d:\d\d) to [^<]+</th><td>(\d+)</td><td>(\d+)</td><td>(\d+)</td>', html)
    assert sorted(bars) == sorted(rows)
    assert {tuple(counts) for _, *counts in bars} == {("10", "8", "2"), ("20", "20", "0"), ("0", "0", "0")}
    captured, missing = (
        [float(height) for height in re.findall(rf'<rect class="{kind}[^>]+ height="([\d.]+)"/>', chart)]
        for kind in ("captured", "missing")
    )
    assert captured[0] / captured[1] == pytest.approx(20 / 8, rel=0.01)
    assert captured[1] / missing[0] == pytest.approx(8 / 2, rel=0.02)


def test_what_cannot_be_read_is_not_shown_as_zero(world: World) -> None:
    world.deployment.clients.dynamodb.delete_table(TableName="ledger")
    answer = world.get("/")
    assert answer.status == 200
    assert "captured today not known" in answer.text
    assert "cannot be read" in answer.text


# Search


def test_a_value_is_found_in_any_spelling_with_its_type(world: World) -> None:
    world.capture("spelled", {"Url": {"Name": "CRM", "Value": "HTTPS://Spelled.Example:443/a?b"}})
    answer = world.search(" https://spelled.example/a?b")
    assert "A value of type URL" in answer.text
    assert f'href="/contacts/{INSTANCE_ID}/spelled"' in answer.html


def test_a_value_of_several_types_is_found_by_each_the_latest_first(world: World) -> None:
    world.capture("as-number", {"Number": {"Name": "n", "Value": "20260102"}})
    later = ENDED_AT + timedelta(hours=1)
    world.capture("as-date", {"Date": {"Name": "d", "Value": "2026-01-02"}}, completed_at=later)
    world.capture("as-text", {"String": {"Name": "s", "Value": "20260102"}}, completed_at=later - timedelta(hours=2))
    answer = world.search("20260102")
    assert re.findall("A value of type ([A-Z]+)", answer.text) == ["DATE", "NUMBER", "STRING"]


def test_a_value_that_is_not_valid_is_found_too(world: World) -> None:
    world.capture("invalid", {"Number": {"Name": "n", "Value": "a lot of it"}})
    assert "A value of type NUMBER" in world.search("a lot of it").text


def test_a_contact_s_id_leads_to_its_page(world: World) -> None:
    world.capture("its-id", JANE)
    answer = world.search(" its-id ")
    assert (answer.status, answer.headers["location"]) == (303, f"/contacts/{INSTANCE_ID}/its-id")


def test_an_id_that_is_a_value_as_well_is_shown_as_both(world: World) -> None:
    world.capture("both")
    world.capture("refers", {"String": {"Name": "earlier call", "Value": "both"}})
    answer = world.search("both")
    assert answer.status == 200
    assert {f"/contacts/{INSTANCE_ID}/{name}" for name in ("both", "refers")} <= set(
        re.findall(r'href="([^"]+)"', answer.html)
    )


def test_pages_follow_each_other_until_all_are_shown_once(world: World) -> None:
    members: Member = {"String": {"Name": "s", "Value": "paged & <b>"}}
    for number in range(45):
        world.capture(f"paged-{number:02}", members, completed_at=ENDED_AT + timedelta(minutes=number))
    answer, shown = world.search("paged & <b>"), []
    for _ in range(9):
        shown += re.findall(r'href="/contacts/[^/"]+/paged-(\d\d)"', answer.html)
        more = re.search(r'class="more" href="([^"]+)"', answer.html)
        if more is None:
            break
        answer = world.get(unescape(more[1]))
    assert shown == [f"{number:02}" for number in reversed(range(45))]


@pytest.mark.parametrize("after", ["", "x", "e30=", "%00", b64encode(b"[" * 30_000).decode()])
def test_an_address_that_no_search_gave_is_refused_in_a_sentence(world: World, after: str) -> None:
    answer = world.get(f"/search?q=a&type=STRING&after={after}")
    assert answer.status == 400
    assert "search again" in answer.text


@pytest.mark.parametrize("query", ["", "?q=", "?q=%20%09", "?type=URL&after=x"])
def test_a_search_for_nothing_says_what_can_be_searched(world: World, query: str) -> None:
    answer = world.get(f"/search{query}")
    assert answer.status == 200
    assert "or a value that a reference has" in answer.text


@pytest.mark.parametrize(
    "query", ["%00", "%ED%A0%80", "%FF", "%E2%80%AE", "%0D%0Aa:b", "%", "a" * 8192, "%3Cscript%3E"]
)
def test_whatever_is_searched_for_is_answered(world: World, query: str) -> None:
    answer = world.get(f"/search?q={query}")
    assert answer.status == 200
    assert "none has this value" in answer.text
    assert "<script" not in answer.html


# A contact


def test_a_contact_is_shown_with_its_state_and_its_references(world: World) -> None:
    world.capture("shown", JANE, {"Number": {"Name": "n", "Value": "a lot"}}, initial_contact_id="earlier")
    answer = world.contact("shown")
    assert answer.status == 200
    for words in ("VOICE INBOUND", "recheck due no", "Jane@Example.com the same as jane@example.com", "not valid"):
        assert words in answer.text
    assert f'href="/contacts/{INSTANCE_ID}/earlier"' in answer.html


def test_an_id_is_a_part_of_its_address_whatever_is_in_it(world: World) -> None:
    world.capture("a/b?c#d", JANE)
    answer = world.search("a/b?c#d")
    assert world.get(answer.headers["location"]).status == 200


@pytest.mark.parametrize("contact_id", ["none", "x" * 257, "\0", "..a\u202e", "\x7f", "%"])
def test_a_contact_that_there_is_not_is_not_found(world: World, contact_id: str) -> None:
    assert world.contact(contact_id).status == 404


def test_a_contact_that_was_erased_is_told_of_as_such(world: World) -> None:
    world.capture("erased", JANE)
    world.ledger.erase(ContactKey(INSTANCE_ID, "erased"))
    answer = world.get(world.search("erased").headers["location"])
    assert answer.status == 404
    assert "the contact was erased on" in answer.text
    assert "none has this value" in world.search("jane@example.com").text


def test_a_contact_of_an_instance_that_is_not_captured_is_not_found(world: World) -> None:
    world.capture("elsewhere")
    answer = world.get("/contacts/99999999-1234-1234-1234-123456789012/elsewhere")
    assert answer.status == 404
    assert "is not captured" in answer.text


def test_many_references_are_shown_a_hundred_at_a_time(world: World) -> None:
    world.capture("many", *({"String": {"Name": f"name {n:03}", "Value": "v"}} for n in range(250)))
    names, options = [], ""
    for _ in range(9):
        answer = world.contact("many", options)
        names += re.findall(r"name \d{3}", answer.html.partition("Captures over time")[0])
        more = re.search(r'href="[^"]+(\?from=\d+)">Those after', answer.html)
        if more is None:
            break
        options = more[1]
    assert sorted(names) == [f"name {n:03}" for n in range(250)]
    assert "201 to 250 of 250" in answer.text
    assert "?from=101" in answer.html


@pytest.mark.parametrize("start", ["0", "-1", "x", "9" * 30, "²", "2"])
def test_a_place_that_is_none_is_one_that_there_is(world: World, start: str) -> None:
    world.capture("placed", JANE)
    assert "Jane@Example.com" in world.contact("placed", f"?from={quote(start)}").text


# Its captures


def test_what_changed_from_capture_to_capture_is_told(world: World) -> None:
    note: Member = {"String": {"Name": "note", "Value": "was there"}}
    world.capture("changes", JANE, note, photo("PROCESSING", "a"), channel=None)
    world.capture("changes", JANE, note, photo("PROCESSING", "b"), after=timedelta(minutes=1), channel=None)
    world.capture("changes", JANE, photo("APPROVED", "c"), TOTAL, after=timedelta(minutes=15))
    third, second, first = history_of(world.contact("changes"))
    assert "counts now" in third
    assert "Of the contact channel none → became VOICE" in third
    assert "Added NUMBER total 199.90" in third
    assert "Removed STRING note was there" in third
    assert "Changed ATTACHMENT photo status PROCESSING → became APPROVED" in third
    assert "reference_value" not in third
    assert "Nothing is different" in second
    assert "The first one." in first


def test_a_repeat_is_one_capture_and_others_records_are_none(world: World) -> None:
    capture = world.capture("repeated", JANE)
    world.lake.append(DATE, [capture])
    world.capture("another", {"String": {"Name": "s", "Value": '"contact_id":"repeated"'}})
    assert len(history_of(world.contact("repeated"))) == 1


def test_a_capture_of_which_the_lake_lacks_a_record_is_not_compared(world: World) -> None:
    world.capture("damaged", JANE)
    capture = world.capture("damaged", TOTAL, after=timedelta(minutes=15))
    bucket: Any = {"Bucket": "lake"}
    s3 = world.deployment.clients.s3
    for entry in s3.list_objects_v2(**bucket)["Contents"]:
        lines = gzip.decompress(s3.get_object(**bucket, Key=entry["Key"])["Body"].read()).splitlines()
        kept = [line for line in lines if not (capture.capture_id.encode() in line and b"REFERENCE" in line)]
        s3.put_object(**bucket, Key=entry["Key"], Body=gzip.compress(b"\n".join(kept)))
    newest, _ = history_of(world.contact("damaged"))
    assert "does not have all of its records" in newest
    assert "Added" not in newest


def test_what_is_no_record_is_left_out(world: World) -> None:
    world.capture("a", JANE)
    folder, s3 = f"captures/completed_date={DATE}", world.deployment.clients.s3
    lines = ['{"contact_id":"a"', '["a"]', '{"contact_id":"a","instance_id":1}', "\ufeff", '"a"']
    record = {"contact_id": "a", "instance_id": INSTANCE_ID, "capture_id": "b", "captured_at": "2026", "raw": 1}
    s3.put_object(Bucket="lake", Key=f"{folder}/1", Body=b"no gzip")
    s3.put_object(Bucket="lake", Key=f"{folder}/2", Body=gzip.compress(b"cut off")[:-5])
    s3.put_object(
        Bucket="lake", Key=f"{folder}/3", Body=gzip.compress("\n".join([*lines, json.dumps(record)]).encode())
    )
    answer = world.contact("a")
    assert answer.status == 200
    assert "4 objects" in answer.text
    assert any("counts now" in each for each in history_of(answer))


def test_many_objects_are_read_only_if_that_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "FEW_OBJECTS", 2)
    for name in ("a", "b", "c"):
        world.capture(name, JANE)
    answer = world.contact("a")
    assert "reads 3 objects" in answer.text
    assert history_of(answer) == []
    [link] = re.findall(r'href="(/[^"]+captures=all[^"]*)"', answer.html)
    assert len(history_of(world.get(urlsplit(link)._replace(fragment="").geturl()))) == 1


def test_objects_are_counted_up_to_a_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "FEW_OBJECTS", 1)
    monkeypatch.setattr(history, "_MOST_COUNTED", 2)
    for name in ("a", "b", "c"):
        world.capture(name, JANE)
    assert "reads more than 2 objects" in world.contact("a").text


def test_a_contact_whose_completion_is_not_known_has_no_captures_in_the_lake(world: World) -> None:
    world.capture("incomplete", JANE, completed_at=None)
    assert "completion is not known yet" in world.contact("incomplete").text


def test_a_lake_that_cannot_be_read_leaves_the_contact_to_be_seen(world: World) -> None:
    world.capture("a", JANE)
    s3: Any = world.deployment.clients.s3
    with Stubber(s3) as stubber:
        stubber.add_client_error("list_objects_v2", "AccessDenied", "jane@example.com", 403)
        answer = world.contact("a")
    assert answer.status == 200
    assert "Jane@Example.com" in answer.text
    assert "The lake cannot be read: ListObjectsV2 answered 403 AccessDenied" in answer.text


# Dead letters


def test_dead_letters_are_told_with_their_reasons_and_without_what_may_be_a_person_s(world: World) -> None:
    world.capture("captured")
    for contact_id in ("captured", "unknown", "\ud800", "x" * 300, 7):
        detail = {"contactId": contact_id, "tags": {"name": "Jane Doe"}}
        world.put_letter({"id": "event", "detail": detail}, error="ForeignContact", reason="it is <of> another account")
    answer = world.get("/dead-letters")
    assert answer.status == 200
    assert "5 ForeignContact it is <of> another account" in answer.text
    assert re.findall(rf'href="/contacts/{INSTANCE_ID}/([^"]+)"', answer.html) == ["captured"]
    assert "Jane Doe" not in answer.html
    assert '"name": "***"' in answer.text
    assert world.deployment.count_messages("DeadLetterQueueUrl").waiting == 5


def test_dead_letters_are_told_while_the_ledger_cannot_be_read(world: World) -> None:
    world.put_letter({"detail": {"contactId": "a"}}, error="AccessDenied", reason="r")
    world.deployment.clients.dynamodb.delete_table(TableName="ledger")
    answer = world.get("/dead-letters")
    assert answer.status == 200
    assert "1 AccessDenied r" in answer.text


def test_many_dead_letters_are_shown_fifty_at_a_time(world: World) -> None:
    for number in range(70):
        world.put_letter({"detail": {"contactId": f"c{number}"}}, error="InvalidEvent", reason="r")
    first = world.get("/dead-letters")
    [link] = re.findall(r'class="more" href="([^"]+)"', first.html)
    second = world.get(unescape(link))
    shown = [re.findall(r'<span class="id">(c\d+)</span>', answer.html) for answer in (first, second)]
    assert list(map(len, shown)) == [50, 20]
    assert {name for names in shown for name in names} == {f"c{number}" for number in range(70)}
    assert 'class="more"' not in second.html


def test_no_dead_letters_are_good_news(world: World) -> None:
    assert "There are none" in world.get("/dead-letters").text


# What goes wrong


def test_what_aws_refuses_is_told_in_a_sentence(world: World) -> None:
    world.deployment.clients.dynamodb.delete_table(TableName="ledger")
    answer = world.search("jane@example.com")
    assert answer.status == 502
    assert "ResourceNotFoundException" in answer.text
    assert "Traceback" not in answer.html


def test_a_defect_is_told_to_the_terminal_without_what_was_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise KeyError("jane@example.com")

    monkeypatch.setattr(search, "search", break_down)
    answer = world.search("jane@example.com")
    assert answer.status == 500
    assert "KeyError" not in answer.html
    captured = capfd.readouterr()
    assert re.fullmatch(r"error: KeyError in \S+test_view\.py:\d+\n", captured.err)
    assert captured.out == ""


def test_a_value_is_in_no_log(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        world.search("secret@example.com")
        world.contact("secret-id")
        world.get("/search?q=secret", host="evil.example")
    finally:
        logging.getLogger().removeHandler(handler)
    captured = capfd.readouterr()
    assert "secret" not in caplog.text + stream.getvalue() + captured.out + captured.err


def test_the_instances_are_not_asked_for_with_each_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def find_instances(connect: object) -> list[Instance]:
        asked.append(connect)
        return [Instance.from_arn(INSTANCE_ARN)]

    monkeypatch.setattr("ops.deployment.read_instances", lambda _: [])
    monkeypatch.setattr("ops.deployment.find_instances", find_instances)
    with serve(world.deployment) as port:
        for _ in range(3):
            world.get("/search?q=none", port=port)
    assert len(asked) == 1


# Texts of strangers


@pytest.mark.parametrize(
    "text",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:a",
        "file:///etc/passwd",
        "ftp://example.com/",
        "//example.com/",
        "https:example.com",
        "https:///example.com",
        "https://",
        "https://example.com\\@bank.example/",
        "https://bank.example@example.com/",
        "https://bank.example%2f@example.com/",
        "https://exa mple.com/",
        "https://example.com/\u202ecod.exe",
        "https://example.com/\n",
        "https://exam\u200bple.com/",
        "https://bank.example\uff0f.example.com/",
        "https://a..b/",
        "https://fa\u00df.example/",
        "https://example.com:99999/",
        "https://[::1/",
        'https://example.com/"onmouseover="alert(1)',
        "mailto:",
        "mailto:j\u0430ne@example.com",
        "mailto:a\r\nBcc:b@example.com",
    ],
)
def test_what_could_do_harm_or_deceive_is_no_link(text: str) -> None:
    assert find_link(text) is None


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://example.com", "example.com"),
        ("HTTP://Example.com:8080/a?b#c", "Example.com"),
        ("https://s/", "s"),
        ("https://[::1]:8080/", "[::1]"),
        ("https://example.com/@user", "example.com"),
        ("mailto:jane@example.com", ""),
    ],
)
def test_a_link_is_shown_to_the_character_with_its_host(text: str, host: str) -> None:
    link = find_link(text)
    assert link is not None
    assert (link.address, link.host) == (text, host)


@pytest.mark.parametrize("text", ["\0", "\x1b[2J", "\u202e", "\u2066", "\u200b", "\ud800", "\x85", "\ufeff", "\r\n"])
def test_what_cannot_be_seen_is_written_out_and_marked(text: str) -> None:
    shown = visible(f"a{text}b")
    assert shown.isprintable()
    assert '<span class="escape">\\' in shown


def test_markup_is_text() -> None:
    assert visible("<img src=x onerror='alert(1)'>&amp;") == "&lt;img src=x onerror=&#39;alert(1)&#39;&gt;&amp;amp;"
