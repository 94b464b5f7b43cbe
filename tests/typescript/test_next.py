"""The Next.js example is built as it stands, and clicked through in Chromium, on a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.adapters.express.node import programs
from tests.browser.chromium import launched
from tests.serving import Served, free_port, served
from tests.typescript.site import DEADLINE
from tests.typescript.toolchain import (
    PACKAGES,
    ROOT,
    SDK,
    built,
    cache,
    digest_of,
    node,
    packed,
    run,
    turn,
)

from sojourn.testing.processes import wait_until

EXAMPLE = SDK / "examples" / "nextjs"
INSTALL_TIMEOUT = 900  # seconds: its compiler is large
BUILD_TIMEOUT = 900
QUIET = {"NEXT_TELEMETRY_DISABLED": "1", "CI": "1"}


def sources() -> list[Path]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", str(EXAMPLE)]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(ROOT / name for name in names.splitlines() if (ROOT / name).is_file())


def packages() -> Path:
    """Install what the example's lock file names, unless it is there; return its node_modules."""
    name = f"next-{digest_of([EXAMPLE / each for each in PACKAGES])}"
    folder = cache() / name
    with turn(name):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for each in PACKAGES:
                shutil.copy(EXAMPLE / each, folder)
            npm = [*programs()[1], "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            run(npm, folder, timeout=INSTALL_TIMEOUT)
            (folder / "complete").touch()
    return folder / "node_modules"


def application() -> Path:
    """Build the example with the client as it is packed; return its folder."""
    modules, sdk = packages(), built()
    folder = cache() / f"nextjs-{digest_of(sources())}-{sdk.parents[1].name}"
    with turn("nextjs"):
        if not (folder / "complete").exists():
            for old in cache().glob("nextjs-*/"):
                shutil.rmtree(old, ignore_errors=True)
            for path in sources():
                target = folder / path.relative_to(EXAMPLE)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
            # Links within one file system: no module may lie outside of the application's folder.
            shutil.copytree(modules, folder / "node_modules", symlinks=True, copy_function=os.link)
            shutil.copytree(packed(), folder / "node_modules" / "@sojourn" / "client")
            said = run(node(*NEXT, "build"), folder, timeout=BUILD_TIMEOUT, **QUIET)
            assert "/settings/sessions" in said
            (folder / "complete").touch()
    return folder


NEXT = ("node_modules/next/dist/bin/next",)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(autouse=True)
def no_stray_children(chromium: Browser) -> None:
    """The browser starts and keeps processes as it likes; they end with it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("next")) as server:
        yield server


@pytest.fixture(scope="module")
def site(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the application; give its address."""
    with server.admin() as http:
        key = http.post("/api/keys", json={"name": "shop", "role": "app"}).json()["data"]["key"]
    port = free_port()
    command = node(*NEXT, "start", "--hostname", "127.0.0.1", "--port", str(port))
    environ = {**os.environ, **QUIET, "SOJOURN_URL": server.url, "SOJOURN_KEY": key}
    log = tmp_path_factory.mktemp("next") / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=application(), env=environ, stdout=said, stderr=subprocess.STDOUT
        )
    base = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(base, timeout=DEADLINE).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    try:
        assert wait_until(answers, DEADLINE), log.read_text()
        yield base
    finally:
        process.kill()
        process.wait(DEADLINE)


def sign_in(context: BrowserContext, site: str) -> Page:
    context.set_default_timeout(DEADLINE * 1000)
    page = context.new_page()
    page.goto(site)
    page.get_by_label("Name").fill("ada")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Hello, ada.")).to_be_visible(timeout=DEADLINE * 1000)
    return page


def test_active_sessions_in_a_tab_of_the_settings(
    chromium: Browser, site: str, server: Served
) -> None:
    here, there = chromium.new_context(), chromium.new_context()
    page, other = sign_in(here, site), sign_in(there, site)
    page.goto(f"{site}/settings")
    page.get_by_role("link", name="Active sessions").click()
    rows = page.get_by_role("region", name="Active sessions").get_by_role("listitem")
    expect(rows).to_have_count(2, timeout=DEADLINE * 1000)
    expect(page.get_by_text("This device")).to_have_count(1)
    expect(rows.first).to_contain_text("Chrome")
    tab = page.get_by_role("link", name="Active sessions")
    expect(tab).to_have_attribute("aria-current", "page")
    rows.get_by_role("button").click()
    expect(page.get_by_text("One device was signed out.")).to_be_visible(timeout=DEADLINE * 1000)
    expect(rows).to_have_count(1, timeout=DEADLINE * 1000)
    # It is over there with the next request, whichever page it is for.
    other.goto(f"{site}/settings/sessions")
    expect(other.get_by_label("Name")).to_be_visible(timeout=DEADLINE * 1000)
    # What ends this device, too, is told in the tab.
    with server.admin() as http:
        ended = http.post("/api/sessions/end", json={"userId": "ada"}).json()["data"]["ids"]
    assert len(ended) == 1
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(page.get_by_text("You are signed out.")).to_be_visible(timeout=DEADLINE * 1000)
    for context in (here, there):
        context.close()


def test_its_calls_are_its_own_pages_alone(site: str, server: Served) -> None:
    with server.admin() as http:
        begun = http.post("/api/sessions", json={"userId": "bob"}).json()["data"]
    calls = f"{site}/api/user/active-sessions"
    cookies = {"session": begun["token"]}
    listed = httpx.get(calls, cookies=cookies, timeout=DEADLINE)
    assert (listed.status_code, listed.json()["total"]) == (200, 1)
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    one = f"{calls}/{begun['session']['id']}"
    refused = httpx.delete(one, cookies=cookies, headers=evil, timeout=DEADLINE)
    assert (refused.status_code, refused.json()["code"]) == (403, "cross_origin")
    assert httpx.get(calls, timeout=DEADLINE).status_code == httpx.codes.UNAUTHORIZED
    assert httpx.delete(one, cookies=cookies, timeout=DEADLINE).json()["data"]["ended"] == 1
