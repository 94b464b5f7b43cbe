"""@sojourn/client/react with React itself, in Chromium, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.browser.chromium import launched
from tests.serving import Served, served
from tests.typescript.site import DEADLINE, POLICY, Site, Stage
from tests.typescript.toolchain import built, bundle

PAGE = b"""<!doctype html><title>React</title><div id="root"></div>
<script type="module" src="/sojourn.js"></script>"""
READY = "window.page && page.ready"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(autouse=True)
def no_stray_children(chromium: Browser) -> None:
    """The browser starts and keeps processes as it likes; they end with it."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(PAGE, bundle("react.app", built(), folder="test"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Served]:
    environ = {"SOJOURN_TRUSTED_ORIGINS": site.origin}
    with served(tmp_path_factory.mktemp("react"), environ=environ) as server:
        yield server


@pytest.fixture
def stage(chromium: Browser, site: Site, server: Served) -> Iterator[Stage]:
    context = chromium.new_context()
    context.set_default_timeout(DEADLINE * 1000)
    stage = Stage(context, site, server)
    yield stage
    context.close()
    stage.admin.close()


def app(stage: Stage, **how: Any) -> Page:
    return stage.tab(ready=READY, **how)


def shows(page: Page, name: str, text: str) -> None:
    expect(page.locator(f"#{name}")).to_have_text(text, timeout=DEADLINE * 1000)


@pytest.mark.parametrize("begin", ["mount", "hydrate"])
def test_strict_mode_leaves_no_ghost(stage: Stage, begin: str) -> None:
    """It mounts each component twice; on a page from a server, too, where nothing was held."""
    page = app(stage, begin=begin)
    for name in ("first", "second"):
        shows(page, name, "held")
    if begin == "hydrate":
        assert page.evaluate("page.told[0]") == "newnew"
    assert page.evaluate("page.faults") == []
    (lease,) = stage.leases(ended=True)
    assert lease["fence"] == 1
    # One of two components is unmounted, one wants it no more: the seat is given back with the last.
    page.evaluate("page.set({ first: true })")
    shows(page, "first", "held")
    assert stage.seats() == [(1, "active")]
    page.evaluate("page.set({ first: false })")
    stage.until(lambda: stage.leases() == [])
    shows(page, "first", "released")
    page.evaluate("page.set({ first: true })")
    shows(page, "first", "held")
    page.evaluate("page.unmount()")
    stage.until(lambda: stage.leases() == [])
    page.evaluate("page.mount()")
    shows(page, "second", "held")
    assert len(stage.leases()) == 1


@pytest.mark.parametrize("own", [True, False])
def test_unmounted_while_it_is_asked_for(stage: Stage, own: bool) -> None:
    """What is granted after all is given back."""
    page = app(stage, own=own)
    for _ in range(5):
        page.evaluate("page.unmount(); page.mount(); page.unmount(); undefined")
        stage.until(lambda: stage.leases() == [])
        page.evaluate("page.mount()")
    shows(page, "first", "held")
    assert [state for _, state in stage.seats()] == ["active"]


def test_a_page_that_is_shown_again_holds_it(stage: Stage) -> None:
    page = app(stage)
    shows(page, "first", "held")
    hide = "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
    page.evaluate(hide)
    stage.until(lambda: stage.leases()[0]["state"] == "suspect")
    page.evaluate(hide.replace("pagehide", "pageshow"))
    stage.until(lambda: stage.seats() == [(1, "active")])
    shows(page, "second", "held")
    page.close()
    stage.until(lambda: stage.leases()[0]["expiresIn"] <= POLICY["linger"])


def test_a_refusal_is_shown_and_a_takeover_ends_it(stage: Stage) -> None:
    other = app(stage, user="bob")
    shows(other, "first", "held")
    page = app(stage)
    shows(page, "first", "seat_limit")
    assert page.evaluate("page.seats.first.error.problem.limit") == 1
    assert page.evaluate("page.seats.first.acquire()") is False
    waits = "() => { page.waits = page.seats.second.acquire({ wait: 100 }); }"
    page.evaluate(waits)
    shows(page, "second", "pending")
    stage.until(lambda: page.evaluate("page.seats.first.position") == 1)
    other.evaluate("page.unmount()")
    shows(page, "first", "held")
    assert page.evaluate("page.waits") is True
    assert page.evaluate("page.seats.first.release()") is True
    shows(page, "second", "released")
    assert stage.leases() == []


def test_where_a_person_is_signed_in(stage: Stage) -> None:
    def begin() -> tuple[str, str]:
        begun = stage.admin.post("/api/sessions", json={"userId": "ada"}).json()["data"]
        return begun["token"], begun["session"]["id"]

    token, here = begin()
    there = [begin()[1] for _ in range(3)]
    page = app(stage, token=token)
    rows = page.locator("#sessions li")
    again = "page.sessions?.error && !page.sessions.loading && void page.sessions.refresh()"

    def lists(count: int) -> None:
        """Where a machine stalls an answer may come too late: then the list is read again, as by a person."""
        stage.until(lambda: page.evaluate(again) or rows.count() == count)

    lists(4)
    rows.get_by_text("Sign out").first.click()
    lists(3)
    assert page.evaluate("page.sessions.endOthers()") == 2
    lists(1)
    for each in there:
        found = stage.admin.get(f"/api/sessions/{each}").json()
        assert found.get("code") == "session_unknown" or found["data"]["state"] == "ended"
    assert page.evaluate("page.sessions.total") == 1
    # Its own end is a fault that says what to do.
    page.evaluate(f"page.sessions.end('{here}')")
    stage.until(lambda: page.evaluate("page.sessions.error?.code") == "session_ended")
