"""The page in a browser: Chromium as Debian has it, or as others call it, without a window."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ops.page import World, open_world

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        reason = "there is no Chromium: apt-get install chromium"
        if "CI" in os.environ:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world() as world:
        yield world


class Visitor:
    """Opens pages of the world in a window of a browser, and notes what a page must not do."""

    def __init__(self, page: Page, world: World) -> None:
        self._page, self._origin = page, f"http://127.0.0.1:{world.port}/"
        self.complaints: list[str] = []
        """What the console says, dialogs, failures of scripts, and requests to elsewhere."""
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self._check(request.url))

    def _check(self, url: str) -> None:
        if not url.startswith(self._origin):
            self.complaints.append(url)

    def open(self, path: str) -> Page:
        """Open a path on a wide screen in daylight."""
        self._page.set_viewport_size({"width": 1200, "height": 800})
        self._page.emulate_media(color_scheme="light")
        self._page.goto(self._origin + path.removeprefix("/"))
        return self._page


@pytest.fixture(scope="module")
def window(browser: Browser, world: World) -> Visitor:
    """One window for all tests of a file: to make one takes longer than most of what is done in it."""
    return Visitor(browser.new_page(), world)


@pytest.fixture
def visitor(window: Visitor) -> Iterator[Visitor]:
    """A visitor to whom nothing happens but pages."""
    window.complaints.clear()
    yield window
    assert window.complaints == []
