"""A walk over every page of the console, on a real server while `sojourn demo` plays on it.

The browser has nothing to complain about, other hosts are asked nothing, axe finds nothing, and what is read
anew keeps the focus.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser, Page, Response, expect
from tests.browser.turned import lengthened, turned
from tests.serving import ADMIN_KEY, Served, served

from sojourn.console.frame import PLACES

PATIENCE = 90_000
"""Milliseconds until the demo's people hold seats, and a page is read anew, on a machine that stalls."""
PAGES = [name for _, pages in PLACES for name, _, _ in pages]
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark on a phone": {
        "color_scheme": "dark",
        "viewport": {"width": 390, "height": 844},
        "is_mobile": True,
        "has_touch": True,
    },
    "forced colors": {"forced_colors": "active", "viewport": {"width": 1280, "height": 900}},
}


@contextlib.contextmanager
def demo(server: Served) -> Iterator[None]:
    """Let people come, crash and wait on the server, until the tests are over."""
    program = [sys.executable, "-m", "sojourn", "demo", "--seconds", "3000", "--json"]
    environ = os.environ | {"SOJOURN_URL": server.url, "SOJOURN_KEY": ADMIN_KEY}
    play = subprocess.Popen(
        [*program, "--url", server.url, "--key", ADMIN_KEY],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        play.terminate()
        play.wait(PATIENCE / 1_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("walk")
    environ = {"SOJOURN_DEV": "1", "SOJOURN_SITE_NAME": "Acme"}
    with served(folder, environ=environ) as server, demo(server):
        yield server


@contextlib.contextmanager
def looking(chromium: Browser, server: Served, look: dict[str, Any]) -> Iterator[Page]:
    """Sign in, and see afterwards that the browser had nothing to complain about."""
    context = chromium.new_context(base_url=server.url, reduced_motion="reduce", **look)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda each: said.append(each.text) if each.type != "log" else None)
    page.on("pageerror", lambda fault: said.append(str(fault)))
    page.on("request", lambda each: asked.append(each.url))
    page.goto("/console")
    said.clear()  # that nobody is signed in yet is a 401
    page.get_by_label("API key of an operator").fill(ADMIN_KEY)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/overview")
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(server.url)] == []


def is_pool(answer: Response) -> bool:
    return "/console/seats?" in answer.url


def busy_pool(page: Page) -> None:
    """Open the pool that the demo plays on, once somebody holds a seat of it."""
    page.goto("/console/seats")
    link = page.locator("main tbody a").first
    expect(link).to_be_visible(timeout=PATIENCE)
    link.click()
    expect(page.locator("table.holders tbody tr").first).to_be_visible(timeout=PATIENCE)


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_looks_well(chromium: Browser, server: Served, look: str) -> None:
    with looking(chromium, server, LOOKS[look]) as page:
        for name in (*PAGES, "security", "find?q=e"):
            page.goto(f"/console/{name}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            sees(page, name)
        busy_pool(page)
        sees(page, "a pool")


@pytest.mark.parametrize("look", ["light", "dark on a phone"])
def test_every_page_fits_longer_words_and_the_other_direction(
    chromium: Browser, server: Served, look: str
) -> None:
    """A language whose words are longer by half, and one that is written from right to left."""
    wrong: dict[str, list[str]] = {}
    with looking(chromium, server, LOOKS[look]) as page:
        for name in (*PAGES, "security", "find?q=e", "a pool"):
            if name == "a pool":
                busy_pool(page)
            else:
                page.goto(f"/console/{name}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            found = [*turned(page), *(f"longer: {each}" for each in lengthened(page))]
            if found:
                wrong[name] = found
    assert not wrong, "\n".join(f"{name}: {each}" for name, all_ in wrong.items() for each in all_)


def sees(page: Page, name: str) -> None:
    """Hold the page that is open to what all are held to."""
    found = Axe().run(page).response["violations"]
    wrong = [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]
    assert wrong == [], name
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wide), name


def test_what_is_read_anew_keeps_focus_and_what_is_selected(
    chromium: Browser, server: Served
) -> None:
    with looking(chromium, server, LOOKS["light"]) as page:
        busy_pool(page)
        field = page.get_by_role("link", name="Change capacity")
        field.focus()
        for _ in range(2):  # when the second answer comes, the first is in the page
            with page.expect_response(is_pool, timeout=PATIENCE):
                pass
        expect(field).to_be_focused()
        box = page.get_by_role("checkbox", name="Select").first
        box.check()
        if page.locator(".pick :checked").count():  # else its holder has just gone
            expect(page.locator("#selected")).to_contain_text("The page stands still meanwhile.")


def test_anything_is_found_by_keyboard(chromium: Browser, server: Served) -> None:
    with looking(chromium, server, LOOKS["light"]) as page:
        page.keyboard.press("Control+k")
        expect(page.locator("#palette")).to_be_visible()
        page.keyboard.type("settings")
        expect(page.locator("#palette .hits a")).to_have_count(1)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{server.url}/console/settings")
        expect(page.locator("#setting-site_name")).to_contain_text("SOJOURN_SITE_NAME")
        expect(page.locator("#setting-dev .risk")).to_be_visible()
        expect(page.locator("#setting-dev .risk")).to_be_visible()
        page.keyboard.press("/")
        expect(page.locator("#palette")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#palette")).to_be_hidden()
