"""@sojourn/client in Chromium, against a real server of another origin: one lease for all tabs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Page
from tests.browser.chromium import launched
from tests.serving import Served, served
from tests.typescript.site import DEADLINE, POLICY, Site, Stage
from tests.typescript.toolchain import built, bundle

PAGE = b"""<!doctype html><title>An application</title><script type="module">
import { Client } from "/sojourn.js";
const { url, proof, own, presence } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
window.client = new Client({ url, proof });
window.seat = client[own ? "own" : "seat"]({ feature: "editor", userId: "ada", presence });
window.told = [];
seat.on("change", ({ state, reason }) => told.push(`${state} ${reason}`));
</script>"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(autouse=True)
def no_stray_children(chromium: Browser) -> None:
    """The browser starts and keeps processes as it likes; they end with it."""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(PAGE, bundle("index", built()))
    yield site
    site.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("pages")) as server:
        yield server


@pytest.fixture
def stage(chromium: Browser, site: Site, server: Served) -> Iterator[Stage]:
    context = chromium.new_context()
    context.set_default_timeout(DEADLINE * 1000)
    stage = Stage(context, site, server)
    yield stage
    context.close()
    stage.admin.close()


def held(page: Page) -> bool:
    return bool(page.evaluate("seat.held"))


def leads(page: Page) -> bool:
    return bool(page.evaluate("seat.leads"))


def two_tabs(stage: Stage) -> tuple[Page, Page]:
    """Open two tabs, of which the first leads: a lock comes a while after it is asked for."""
    first = stage.tab()
    stage.until(lambda: leads(first))
    return first, stage.tab()


def test_ten_tabs_have_one_lease_and_one_socket(stage: Stage) -> None:
    tabs = [stage.tab() for _ in range(10)]
    for tab in tabs:
        tab.evaluate("seat.acquire()")
    stage.until(lambda: all(map(held, tabs)))
    stage.until(lambda: stage.sockets() == 1)
    assert len(stage.leases(ended=True)) == 1
    assert {tab.evaluate("seat.fence") for tab in tabs} == {1}
    (leader,) = [tab for tab in tabs if leads(tab)]
    # The leader's tab is closed: the next goes on with its lease, and nobody's is lost meanwhile.
    before = stage.leases()[0]
    others = [tab for tab in tabs if tab is not leader]
    for tab in others:
        tab.evaluate("window.gaps = 0; setInterval(() => { if (!seat.held) gaps++; }, 20)")
    leader.close()
    stage.until(lambda: sum(map(leads, others)) == 1)
    stage.until(lambda: stage.sockets() == 1)
    assert all(map(held, others))
    assert [tab.evaluate("gaps") for tab in others] == [0] * 9
    (after,) = stage.leases(ended=True)
    assert (after["leaseId"], after["fence"]) == (before["leaseId"], before["fence"])
    # Each gives it up; the last one gives it back.
    for tab in others[:-1]:
        assert tab.evaluate("seat.release()") is True
    assert len(stage.leases()) == 1
    assert others[-1].evaluate("seat.release()") is True
    assert stage.leases() == []


def test_a_leader_that_crashes_is_followed(stage: Stage) -> None:
    first, second = two_tabs(stage)
    first.evaluate("seat.acquire()")
    second.evaluate("seat.acquire()")
    with first.expect_event("crash"):
        _crash(first)
    stage.until(lambda: leads(second))
    stage.until(lambda: held(second) and second.evaluate("seat.state") == "safe")
    # It trusts the lease as its leader did, before the server has heard of it.
    stage.until(lambda: stage.seats() == [(1, "active")])


def _crash(page: Page) -> None:
    """Let its process die; nobody answers that command any more."""
    with contextlib.suppress(Error):
        page.goto("chrome://crash", timeout=2_000)


def test_a_follower_that_is_closed_wants_it_no_more(stage: Stage) -> None:
    first, second = two_tabs(stage)
    second.evaluate("seat.acquire()")
    assert not held(first)
    assert len(stage.leases()) == 1
    second.close()
    stage.until(lambda: stage.leases() == [])


@pytest.mark.parametrize("presence", ["auto", "beats"])
def test_the_last_tab_says_goodbye(stage: Stage, presence: str) -> None:
    """By beacon, too: of another origin, and without a question before."""
    tab = stage.tab(presence=presence)
    tab.evaluate("seat.acquire()")
    assert stage.leases()[0]["expiresIn"] > POLICY["linger"]
    tab.close()
    stage.until(lambda: stage.leases()[0]["expiresIn"] <= POLICY["linger"])


def test_a_page_that_is_shown_again_goes_on(stage: Stage) -> None:
    """As browsers do with the pages they keep: the same document is left, and shown again."""
    tab = stage.tab(own=True)
    tab.evaluate("seat.acquire()")
    hide = "dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
    tab.evaluate(hide)
    stage.until(lambda: stage.leases()[0]["state"] == "suspect")
    assert not held(tab)
    tab.evaluate(hide.replace("pagehide", "pageshow"))
    stage.until(lambda: held(tab))
    # The goodbye may arrive after the first word: a beat two seconds later takes it back.
    stage.until(lambda: stage.seats() == [(1, "active")])


def test_a_tab_takes_the_place_of_its_reload(stage: Stage) -> None:
    tab = stage.tab()
    tab.evaluate("seat.acquire()")
    tab.reload()
    tab.wait_for_function("window.seat")
    tab.evaluate("seat.acquire()")
    assert len(stage.leases(ended=True)) == 1
    stage.until(lambda: [state for _, state in stage.seats()] == ["active"])


def test_a_refusal_reaches_the_tab_that_asked(stage: Stage) -> None:
    stage.tab().evaluate("client.own({ feature: 'editor', userId: 'bob' }).acquire()")
    first, second = stage.tab(), stage.tab()
    told = "(fault) => [fault.name, fault.code, fault.problem.limit]"
    refused = f"() => seat.acquire().then(() => 'granted', {told})"
    for tab in (second, first):
        assert tab.evaluate(refused) == ["SeatDenied", "seat_limit", 1]
    called_off = "seat.acquire({ wait: 60, signal: AbortSignal.timeout(50) })"
    assert second.evaluate(f"() => {called_off}.catch((fault) => fault.code)") == "aborted"
