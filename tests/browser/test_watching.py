"""The pages of the console that watch, in Chromium: every state, for axe too; live, by keyboard, and without
scripts; and from a refused user's name to a free seat in three clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.operators import Hospital, Operator, assert_looks_well, hospital, operators
from tests.browser.watching import CAPACITY, REVIEW, STATES, STORY, fill

from sojourn.lease import LeaseFilter
from sojourn.ledger import Role
from sojourn.license import pool_id
from sojourn.testing import builders

Come = Callable[..., Operator]


@pytest.fixture
def place() -> Iterator[Hospital]:
    with hospital() as place:
        yield place


@pytest.fixture
def come(chromium: Browser, place: Hospital) -> Iterator[Come]:
    with operators(chromium, place) as make:
        yield make


@pytest.mark.parametrize("name", STATES)
def test_a_state(come: Come, name: str) -> None:
    """It is reached, and looks well."""
    it = come()
    STATES[name](it)
    assert_looks_well(it)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_from_a_name_to_a_free_seat_in_three_clicks(
    come: Come, place: Hospital, *, scripts: bool
) -> None:
    """Look for the person, free the silent seat; and who was refused gets it."""
    license_id = fill(place)
    name = pool_id(license_id, REVIEW)
    it = come(scripts=scripts).sign_in()
    it.page.goto("/console/people")
    it.page.locator("#q").fill(STORY)
    it.page.locator("main").get_by_role("button", name="Show").click()  # 1
    expect(it.title()).to_contain_text(f"{STORY} was refused 2 times")
    it.button("Free the silent seat of ken").click()  # 2
    expect(it.page.locator("#notice")).to_contain_text("The review seat of ken is free.")
    assert builders.take(place.world.store, STORY, "desk", pool_id=name).user_id == STORY
    assert builders.usage(place.world.store, name).in_use <= CAPACITY


def test_a_pool_is_live_and_keeps_focus(come: Come, place: Hospital) -> None:
    license_id = fill(place)
    name = pool_id(license_id, REVIEW)
    it = come().sign_in()
    it.page.goto(f"/console/seats?license={license_id}&feature={REVIEW}")
    expect(it.page.locator("main tbody tr")).to_have_count(CAPACITY)
    free = it.page.get_by_role("link", name="Free the seat of radia on MacBook Pro")
    free.focus()
    held, _ = place.world.store.leases(LeaseFilter(user_id="joan"))
    assert builders.give_back(place.world.store, held[0])
    expect(it.page.locator("main tbody tr")).to_have_count(CAPACITY - 1)
    expect(it.title()).to_contain_text(f"{CAPACITY - 1} of {CAPACITY} review seats in use.")
    expect(free).to_be_focused()
    builders.take(place.world.store, "new", "one", pool_id=name)
    expect(it.page.locator("main tbody tr")).to_have_count(CAPACITY)


def test_slash_looks_for_a_person(come: Come, place: Hospital) -> None:
    fill(place)
    it = come().sign_in()
    it.page.goto("/console/overview")
    it.page.keyboard.press("/")
    it.page.keyboard.type(STORY)
    it.page.keyboard.press("Enter")
    expect(it.title()).to_contain_text(f"{STORY} was refused")


def test_roles_hide_actions_and_never_facts(come: Come, place: Hospital) -> None:
    license_id = fill(place)
    it = come().sign_in(Role.VIEWER)
    it.page.goto("/console/people?user=ken&ask=seats")
    expect(it.page.locator("#question")).to_have_count(0)
    expect(it.page.get_by_text("Firefox on Linux").first).to_be_visible()
    asked = it.page.request.post(
        "/console/people",
        form={"do": "free-all", "user": "ken"},
        headers={"Origin": place.server.url, "Sec-Fetch-Site": "same-origin"},
    )
    assert "may look, and not do this" in asked.text()
    assert builders.usage(place.world.store, pool_id(license_id, REVIEW)).in_use == CAPACITY


def test_free_all_and_sign_out_everywhere(come: Come, place: Hospital) -> None:
    fill(place)
    it = come().sign_in()
    it.page.goto("/console/people?user=ken")
    it.page.get_by_role("link", name="Free all…").click()
    it.button("Free 1 seat").click()
    expect(it.page.locator("#notice")).to_contain_text("1 seat of ken is free.")
    it.page.get_by_role("link", name="Sign out everywhere…").click()
    it.button("Sign out everywhere").click()
    expect(it.page.locator("#notice")).to_contain_text("ken is signed out of 1 device.")
    assert place.world.store.of("ken") == []
    it.page.goto("/console/audit")
    expect(it.page.locator(".feed")).to_contain_text("force cleanup")


def test_a_plan_is_paused_and_resumed(come: Come, place: Hospital) -> None:
    it = come()
    STATES["sweeps"](it)
    it.page.get_by_role("button", name="Pause nightly").click()
    expect(it.page.locator("#notice")).to_contain_text("nightly is paused until it is resumed.")
    it.page.get_by_role("button", name="Resume nightly").click()
    expect(it.page.locator("#notice")).to_contain_text("nightly runs again.")
    it.button("Tidy up now").click()
    expect(it.page.locator("#notice")).to_contain_text("0 expired leases noted")


@pytest.mark.parametrize("status", [401, 503, 502])
def test_a_page_that_is_not_answered_stays(come: Come, place: Hospital, status: int) -> None:
    """What is shown stays, is said to be old, and is read anew as soon as that works again."""
    fill(place)
    it = come().sign_in()
    it.page.goto("/console/overview")
    expect(it.page.locator("#live h1")).to_be_visible()
    it.page.route(
        "**/console/overview", lambda route: route.fulfill(status=status, body="<p>no</p>")
    )
    expect(it.page.locator("#banner .stale")).to_be_visible()
    expect(it.page.locator("#live h1")).to_be_visible()
    link = it.page.locator("#banner").get_by_role("link", name="Sign in")
    expect(link).to_have_count(1 if status == 401 else 0)
    it.page.unroute("**/console/overview")
    expect(it.page.locator("#banner .stale")).to_have_count(0)
