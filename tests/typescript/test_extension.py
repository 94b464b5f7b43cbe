"""The Chrome extension in Chromium, against a real server: a seat through all that a worker meets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, BrowserType, Page, expect, sync_playwright
from tests.browser.chromium import FLAGS, find
from tests.serving import Served, acquire, new_client, release, served
from tests.typescript.toolchain import EXTENSION, built, node, packages, run

from sojourn.testing.processes import wait_until

POLICY = {"capacity": 1, "heartbeatInterval": 60, "lostAfter": 180, "linger": 60}
"""So long that no lease ends because a machine stands still for a while."""
ID = "ibhopjdmpfbopppbekhahihfchenppdg"  # follows from the key in its manifest
ORIGIN = f"chrome-extension://{ID}"
DEADLINE = 120.0
"""Seconds until a test gives up; nothing here takes as many."""


class Stage:
    """A browser with the extension, and what the server knows of its seat."""

    def __init__(self, context: BrowserContext, server: Served) -> None:
        self.context = context
        self.server = server
        self.admin = server.admin()
        self.http = new_client()
        made = self._post(
            "/api/licenses",
            name="Acme",
            features={"editor": POLICY},
            allowedOrigins=[ORIGIN],
        )
        self.license_id, self.key = made["licenseId"], made["key"]

    def _post(self, path: str, **body: Any) -> Any:
        return self.admin.post(path, json=body).json()["data"]

    def page(self, name: str) -> Page:
        page = self.context.new_page()
        page.goto(f"{ORIGIN}/{name}.html")
        return page

    def sign_in(self, **more: str) -> Page:
        """Fill in the settings, as a person does; return the popup, in a tab."""
        options = self.page("options")
        values = {"url": self.server.url, "key": self.key, "feature": "editor", "userId": "ada"}
        for name, value in (values | {k: v for k, v in more.items() if k != "hold"}).items():
            options.fill(f"[name={name}]", value)
        if "hold" in more:
            options.select_option("[name=hold]", more["hold"])
        options.click("text=Sign in")
        expect(options.locator("#said")).to_contain_text("Saved", timeout=DEADLINE * 1000)
        options.close()
        return self.page("popup")

    def leases(self, *, ended: bool = False) -> list[dict[str, Any]]:
        asked = {"licenseId": self.license_id, "includeEnded": str(ended).lower()}
        answer = self.admin.get("/api/licenses/sessions", params=asked)
        items: list[dict[str, Any]] = answer.json()["data"]["items"]
        return items

    def sockets(self) -> int:
        lines = self.admin.get("/metrics").text.splitlines()
        (found,) = [x for x in lines if x.startswith("sojourn_seat_sockets ")]
        return int(float(found.split()[1]))

    def take(self, user: str, client: str = "other", **more: Any) -> str:
        """Let somebody else take a seat; return the token."""
        answer = acquire(self.http, self.server.url, self.key, "editor", user, client, **more)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["token"])

    def until(self, said: Callable[[], bool]) -> None:
        assert wait_until(said, DEADLINE)

    def close(self) -> None:
        self.admin.close()
        self.http.close()


def title(popup: Page, text: str) -> None:
    expect(popup.locator("#title")).to_have_text(text, timeout=DEADLINE * 1000)


HELD = "You have a seat."


@pytest.fixture(autouse=True)
def no_stray_children(chromium: BrowserType) -> None:
    """The browser starts and keeps processes as it likes; they end with it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("extension") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[BrowserType]:
    with sync_playwright() as playwright:
        yield playwright.chromium


def browser(chromium: BrowserType, profile: Path) -> BrowserContext:
    """Start a browser with the extension in it."""
    extension = built().parent / "chrome-extension" / "out"
    loaded = [f"--disable-extensions-except={extension}", f"--load-extension={extension}"]
    context = chromium.launch_persistent_context(
        profile,
        executable_path=find(),
        args=[*FLAGS, "--headless=new", *loaded],
        timeout=DEADLINE * 1000,
    )
    context.set_default_timeout(DEADLINE * 1000)
    return context


@pytest.fixture(scope="module")
def context(
    chromium: BrowserType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    context = browser(chromium, tmp_path_factory.mktemp("profile"))
    yield context
    context.close()


@pytest.fixture
def stage(context: BrowserContext, server: Served) -> Iterator[Stage]:
    stage = Stage(context, server)
    yield stage
    options = stage.page("options")
    options.click("text=Sign out")
    expect(options.locator("#said")).to_contain_text("Signed out", timeout=DEADLINE * 1000)
    for page in context.pages[1:]:
        page.close()
    stage.close()


def restart_worker(stage: Stage, popup: Page) -> None:
    """Stop the extension's worker, as a browser does that needs the room, and let its alarm start it."""
    before = boots(popup)
    session = popup.context.new_cdp_session(popup)
    session.send("ServiceWorker.enable")
    session.send("ServiceWorker.stopAllWorkers")
    session.detach()
    popup.evaluate("chrome.alarms.create('sojourn', { when: Date.now() + 1 })")
    stage.until(lambda: boots(popup) > before)


def stored(popup: Page, name: str) -> Any:
    return popup.evaluate("(name) => chrome.storage.local.get(name).then((x) => x[name])", name)


def boots(popup: Page) -> int:
    return int(popup.evaluate("chrome.storage.session.get('boots').then(({ boots }) => boots)"))


def test_a_seat_through_sleep_and_restart(stage: Stage) -> None:
    """Signed in, it holds a seat; a worker that is stopped, a server that is killed: it is the same lease."""
    popup = stage.sign_in(deviceName="Chrome at work")
    title(popup, HELD)
    (lease,) = stage.leases()
    assert (lease["device"]["name"], lease["device"]["kind"]) == ("Chrome at work", "extension")
    stage.until(lambda: stage.sockets() == 1)
    restart_worker(stage, popup)
    stage.until(lambda: stage.sockets() == 1)
    stage.server.kill()
    stage.admin.close()  # its connections ended with the server
    stage.server.start()
    stage.admin = stage.server.admin()
    stage.until(lambda: stage.sockets() == 1)
    title(popup, HELD)
    same = (lease["leaseId"], 1, "active")
    stage.until(
        lambda: [(x["leaseId"], x["fence"], x["state"]) for x in stage.leases(ended=True)] == [same]
    )
    popup.click("text=Give the seat back")
    title(popup, "You have no seat.")
    stage.until(lambda: stage.leases() == [])  # it is told before the server is
    restart_worker(stage, popup)
    popup.click("text=Take a seat")
    title(popup, HELD)


def test_a_full_pool_a_place_in_line_and_a_takeover(stage: Stage) -> None:
    token = stage.take("bob")
    popup = stage.sign_in()
    title(popup, "Maximum user limit reached")
    expect(popup.locator("#details")).to_contain_text("1 of 1 seats are in use.")
    expect(popup.locator("#takeover")).to_be_hidden()
    popup.click("text=Wait for a seat")
    title(popup, "Number 1 in the line")
    release(stage.http, stage.server.url, token)
    title(popup, HELD)
    popup.click("text=Give the seat back")
    title(popup, "You have no seat.")
    stage.until(lambda: stage.leases() == [])
    stage.take("ada", "laptop", device={"name": "Laptop at home"})
    popup.click("text=Take a seat")
    title(popup, "Maximum user limit reached")
    expect(popup.locator("#mine li")).to_have_text("Laptop at home")
    popup.click("text=Use it here instead")
    title(popup, HELD)
    assert [x["device"]["kind"] for x in stage.leases()] == ["extension"]


def test_while_a_tab_is_open(stage: Stage) -> None:
    """The last one closed: the seat lingers. Opened again in time: it is the same lease."""
    popup = stage.sign_in(hold="tabs")
    title(popup, "Open the application to take a seat.")
    address = f"{stage.server.url}/livez"
    for _ in range(3):
        tab = stage.context.new_page()
        tab.goto(address)
        stage.until(lambda: [x["state"] for x in stage.leases()] == ["active"])
        title(popup, HELD)
        tab.close()
        stage.until(lambda: [x["state"] for x in stage.leases()] == ["suspect"])
    (lease,) = stage.leases(ended=True)
    assert (lease["fence"], lease["expiresIn"] <= POLICY["linger"]) == (1, True)


def test_the_end_of_a_session_reaches_pages(stage: Stage) -> None:
    popup = stage.sign_in()
    title(popup, HELD)
    (lease,) = stage.leases()
    stage.admin.delete(f"/api/licenses/sessions/{lease['leaseId']}")
    expect(popup.locator("#title")).to_have_text("The seat was lost.", timeout=DEADLINE * 1000)
    expect(popup.locator("#acquire")).to_be_visible()
    assert stage.leases() == []  # an operator meant it: it does not come back by itself
    # Nor does it in the next worker.
    stage.until(lambda: stored(popup, "wanted") is False)
    restart_worker(stage, popup)
    popup.evaluate(
        "chrome.runtime.sendMessage({ command: 'none' })"
    )  # it is answered once it is ready
    title(popup, "The seat was lost.")
    assert len(stage.leases(ended=True)) == 1


def test_a_place_in_line_holds_up_no_command(stage: Stage) -> None:
    """Nor in a worker that was started anew: what it waits for may take hours."""
    stage.take("bob")
    popup = stage.sign_in()
    popup.click("text=Wait for a seat")
    title(popup, "Number 1 in the line")
    restart_worker(stage, popup)
    popup.click("text=Give the seat back")
    title(popup, "You have no seat.")


def test_a_server_that_was_away_is_asked_again(stage: Stage) -> None:
    stage.server.kill()
    popup = stage.sign_in()
    expect(popup.locator("#title")).to_contain_text("No answer", timeout=DEADLINE * 1000)
    stage.admin.close()
    stage.server.start()
    stage.admin = stage.server.admin()
    title(popup, HELD)


def test_a_browser_that_quits_frees_the_seat_for_who_needs_it(
    chromium: BrowserType, server: Served, tmp_path: Path
) -> None:
    context = browser(chromium, tmp_path / "profile")
    stage = Stage(context, server)
    try:
        title(stage.sign_in(), HELD)
        stage.until(lambda: stage.sockets() == 1)
    finally:
        context.close()
    stage.until(lambda: stage.sockets() == 0)
    stage.take("bob")  # asked for at once: the holder does not answer
    stage.close()


def test_web_ext_finds_nothing_to_mend() -> None:
    """It is what `web-ext lint` asks, with an option that this does not hand on: to accept a worker."""
    linter = packages(EXTENSION) / "addons-linter" / "bin" / "addons-linter"
    command = json.loads((EXTENSION / "package.json").read_text())["scripts"]["lint"].split()
    said = json.loads(
        run(node(str(linter), *command[1:], "--output=json"), built().parent / "chrome-extension")
    )
    assert said["summary"] == {"errors": 0, "notices": 0, "warnings": 0}, said
    assert said["metadata"]["manifestVersion"] == 3  # it has looked at it


def test_it_wants_little(stage: Stage) -> None:
    manifest = json.loads(
        (built().parent / "chrome-extension" / "out" / "manifest.json").read_text()
    )
    assert manifest["permissions"] == ["alarms", "storage"]
    assert "host_permissions" not in manifest
    page = stage.page("popup")
    title(page, "Sign in first.")
