"""The overview's live parts, keys, webhooks and nodes in Chromium: every state, for axe too; live and by
keyboard, and what they say without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.keeping import STATES, deliver
from tests.browser.operators import Hospital, Operator, assert_looks_well, hospital, operators
from tests.browser.watching import REVIEW, fill

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


def refuse(place: Hospital, license_id: str, user: str) -> None:
    builders.refused(place.world.store, user, "desk", pool_id=pool_id(license_id, REVIEW))


def test_what_happens_appears_while_it_happens(come: Come, place: Hospital) -> None:
    license_id = fill(place)
    it = come().sign_in()
    it.page.goto("/console/overview")
    refuse(place, license_id, "ada")
    expect(it.page.locator("#feed-all li").first).to_contain_text("ada was refused a review seat")


def test_it_stands_still_while_it_is_paused_and_goes_on_where_it_is(
    come: Come, place: Hospital
) -> None:
    """By keyboard; the focus stays where it was."""
    license_id = fill(place)
    it = come().sign_in()
    it.page.goto("/console/overview")
    first = it.page.locator("#feed-all li").first
    refuse(place, license_id, "ada")
    expect(first).to_contain_text("ada")  # by now the stream is open
    it.button("Pause").focus()
    it.page.keyboard.press("Enter")
    expect(it.button("Resume")).to_be_focused()
    refuse(place, license_id, "barbara")
    with it.page.expect_response("**/console/overview"):  # the rest of the page goes on
        pass
    with it.page.expect_response("**/console/overview"):
        pass
    expect(first).to_contain_text("ada")
    it.page.keyboard.press("Enter")
    expect(first).to_contain_text("barbara")
    expect(it.button("Pause")).to_be_focused()
    refuse(place, license_id, "carol")
    expect(first).to_contain_text("carol")


def test_what_is_chosen_is_followed_and_stands_in_the_address(come: Come, place: Hospital) -> None:
    license_id = fill(place)
    it = come().sign_in()
    it.page.goto("/console/overview")
    choice = it.page.get_by_label("Show", exact=True)
    choice.focus()
    choice.select_option("refused")
    listed = it.page.locator("#feed-refused li")
    expect(listed).to_have_count(3)
    expect(choice).to_be_focused()
    expect(it.page).to_have_url(f"{place.server.url}/console/overview?feed=refused")
    builders.take(place.world.store, "dave", pool_id=pool_id(license_id, "viewer"))
    refuse(place, license_id, "ada")
    expect(listed.first).to_contain_text("ada was refused")
    expect(listed).to_have_count(4)


def test_focus_on_a_person_in_the_list_is_kept(come: Come, place: Hospital) -> None:
    license_id = fill(place)
    it = come().sign_in()
    it.page.goto("/console/overview")
    refuse(place, license_id, "ada")
    link = it.page.locator("#feed-all").get_by_role("link", name="ada")
    expect(link).to_be_visible()
    link.focus()
    refuse(place, license_id, "barbara")
    expect(it.page.locator("#feed-all li").first).to_contain_text("barbara")
    expect(link).to_be_focused()


@pytest.mark.parametrize("name", ["overview today", "overview refusals", "webhook", "nodes"])
def test_without_scripts_it_says_what_it_can(come: Come, name: str) -> None:
    it = come(scripts=False)
    STATES[name](it)
    expect(it.title()).to_be_visible()
    expect(it.page.locator(".scripted:visible")).to_have_count(0)


def test_without_scripts_a_choice_is_a_form(come: Come, place: Hospital) -> None:
    fill(place)
    it = come(scripts=False).sign_in()
    it.page.goto("/console/overview")
    it.page.get_by_label("Show", exact=True).select_option("refused")
    it.page.locator("#just-now").get_by_role("button", name="Show").click()
    expect(it.page.locator("#feed-refused li")).to_have_count(3)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_webhook_is_paused_tried_and_replayed(
    come: Come, place: Hospital, *, scripts: bool
) -> None:
    webhook_id = deliver(place)
    it = come(scripts=scripts).sign_in()
    it.page.goto("/console/webhooks")
    it.page.get_by_role("link", name="shop.example").click()
    it.button("Pause").click()
    expect(it.title()).to_contain_text("shop.example is paused.")
    it.button("Resume").click()
    expect(it.page.locator("#notice")).to_contain_text("It goes on where it stopped.")
    it.button("Replay what was given up").click()
    expect(it.page.locator("#notice")).to_contain_text("1 event is sent again.")
    it.button("Send a test").click()
    expect(it.page.locator("#notice")).to_contain_text("A test is on its way")
    latest = place.world.services.ledger.webhooks.deliveries(webhook_id, limit=1)[0]
    assert latest.kind == "webhook.test"
