"""What a browser makes of the page: nothing of a stranger's acts, and everybody can read it."""

from datetime import timedelta
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Page, expect

from local.in_memory.connect import Member
from tests.browser.conftest import Visitor
from tests.ops.page import World
from tests.unit.conftest import INSTANCE_ID

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "closing": "</td></title></textarea><script>alert(2)</script>",
    "image": "<img src=x onerror=alert(3)>",
    "svg": "<svg onload=alert(4)><style>*{display:none}</style>",
    "attribute": "\" autofocus onfocus=alert(5) style='display:none",
    "javascript": "javascript:alert(document.domain)",
    "data": "data:text/html,<script>alert(6)</script>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "bidi": "invoice\u202efdp.exe",
    "isolate": "\u2066\u2067a\u2069",
    "controls": "a\0b\x1b[31mc\r\nd",
    "surrogate": "a\ud800b",
    "long": "x" * 5000,
    "long word in a link": "https://example.com/" + "y" * 2000,
    "marks": "Z\u0351\u0346\u0352" * 50,
    "user": "https://bank.example@example.com/",
}
SHOWN = {
    "bidi": "invoice\\u202efdp.exe",
    "isolate": "\\u2066\\u2067a\\u2069",
    "controls": "a\\x00b\\x1b[31mc\\r\\nd",
    "surrogate": "a\\ud800b",
}
PATHS = {
    "today": "/",
    "nothing searched": "/search",
    "found": "/search?q=jane@example.com",
    "not found": "/search?q=nobody@example.com",
    "contact": f"/contacts/{INSTANCE_ID}/plain",
    "hostile contact": f"/contacts/{INSTANCE_ID}/hostile",
    "dead letters": "/dead-letters",
}
JANE: Member = {"Email": {"Name": "reply to", "Value": "Jane@Example.com"}}


@pytest.fixture(scope="module", autouse=True)
def filled(world: World) -> None:
    """Something of everything that pages show."""
    world.put_hours([(10, 2), (20, 0), (0, 0)])
    note: Member = {"String": {"Name": "note", "Value": "was there"}}
    world.capture("plain", JANE, note)
    world.capture(
        "plain", JANE, {"Url": {"Name": "CRM", "Value": "https://crm.example.com/1"}}, after=timedelta(hours=1)
    )
    members: list[Member] = [
        {"Url" if ":" in value else "String": {"Name": value[:300], "Value": value}} for value in HOSTILE.values()
    ]
    world.capture("hostile", JANE)
    world.capture("hostile", *members, JANE, after=timedelta(hours=1))
    detail = {"contactId": HOSTILE["bidi"], HOSTILE["long"]: 1} | dict.fromkeys(HOSTILE.values())
    world.put_letter({"id": HOSTILE["surrogate"], "detail": detail}, error=HOSTILE["script"], reason=HOSTILE["image"])
    world.put_letter(HOSTILE["script"], error=HOSTILE["bidi"], reason=HOSTILE["attribute"])


def act(page: Page) -> list[str]:
    """Return what in a page could act: elements and attributes that a browser runs or loads, and links elsewhere."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("*")].flatMap(element => [
            ...(["script", "style", "iframe", "object", "embed", "img", "base"].includes(element.localName)
                ? [element.localName] : []),
            ...[...element.attributes].filter(({name}) => name.startsWith("on") || name === "style")
                .map(({name}) => name),
            ...(element.matches("a, area") && !/^(https?|mailto):/.test(element.href) ? [element.href] : []),
        ])"""
    )
    return found


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_nothing_in_a_page_acts_and_everybody_can_read_it(visitor: Visitor, path: str) -> None:
    page = visitor.open(path)
    assert act(page) == []
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.emulate_media(color_scheme="dark")
    results = Axe().run(page, options={"runOnly": ["color-contrast"]})
    assert results.violations_count == 0, results.generate_report()
    for width in (1200, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_search_for_a_stranger_s_text_shows_it_and_does_nothing(visitor: Visitor) -> None:
    for name, value in HOSTILE.items():
        page = visitor.open(f"/search?q={quote(value.encode(errors='backslashreplace'))}")
        assert act(page) == [], name
        shown = " ".join(page.locator(".asked .value").inner_text().split())
        assert shown.startswith(" ".join(SHOWN.get(name, value)[:600].split())), name


def test_a_stranger_s_texts_are_visible_as_what_they_are(visitor: Visitor) -> None:
    page = visitor.open(PATHS["hostile contact"])
    cells = [" ".join(text.split()) for text in page.locator("td .value").all_inner_texts()]
    for name, value in HOSTILE.items():
        shown = SHOWN.get(name, value)
        assert any(cell.startswith(" ".join(shown[:600].split())) for cell in cells), name
    links = page.locator("td a").evaluate_all("links => links.map(link => [link.href, link.rel])")
    assert {(href[:20], rel) for href, rel in links} == {("https://example.com/", "noreferrer noopener")}


def test_a_long_text_is_there_on_demand(visitor: Visitor) -> None:
    page = visitor.open(PATHS["hostile contact"])
    page.locator("summary", has_text="All 5,000 characters").first.click()
    assert any("x" * 5000 in text for text in page.locator("td .value").all_inner_texts())


def test_the_keyboard_alone_leads_from_a_search_to_a_contact(visitor: Visitor) -> None:
    page = visitor.open("/")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    assert page.locator(":focus").bounding_box()["x"] >= 0  # type: ignore[index]  # it is visible
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.type("JANE@example.com")
    page.keyboard.press("Enter")
    expect(page.locator("h2")).to_have_text("A value of type EMAIL")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('href') ?? ''").startswith("/contacts/"):
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Contact")


def test_the_skip_link_leads_past_the_top(visitor: Visitor) -> None:
    page = visitor.open("/search?q=jane@example.com")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_screen_reader_is_told_what_is_where(visitor: Visitor) -> None:
    page = visitor.open("/")
    for role in ("banner", "navigation", "search", "main", "contentinfo"):
        assert page.get_by_role(role).count() >= 1, role
    expect(page.get_by_role("searchbox", name="id or a value")).to_have_count(1)
    expect(page.get_by_role("img", name="Completed contacts by hour")).to_have_count(1)
    page.get_by_text("The hours as a table").click()
    table = page.get_by_role("table", name="Hours of instance")
    expect(table.get_by_role("columnheader", name="missing")).to_have_count(1)
