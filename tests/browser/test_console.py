"""The operators' console in Chromium: every state, for axe too; by keyboard, without scripts, and what it
keeps to itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Response, expect
from tests.api_harness import ADMIN
from tests.browser.operators import (
    STATES,
    Hospital,
    Operator,
    assert_looks_well,
    found,
    hospital,
    operators,
    repair_next,
    running,
)
from tests.patient import MISSING, SLOW

from sojourn.console.frame import PLACES
from sojourn.ledger import Role

Come = Callable[..., Operator]


@pytest.fixture(scope="module")
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


def test_what_is_open_stays_open_while_checks_come_in(come: Come, place: Hospital) -> None:
    """A row keeps its focus and its place; what has become worse opens by itself."""
    it = come()
    running(it)
    it.page.locator("#area-schema > summary").click()
    keys = it.check("schema.keys")
    keys.locator("summary").click()
    expect(keys).to_contain_text("Has every table its primary key?")
    place.patient.wrong["seats.capacity"] = SLOW
    place.patient.gates["store.clock"].set()
    expect(it.title()).to_have_text(MISSING.means)
    expect(keys.get_by_text("Has every table its primary key?", exact=True)).to_be_visible()
    expect(keys.locator("summary")).to_be_focused()
    expect(it.check("seats.capacity").get_by_text("Bring the database nearer.")).to_be_visible()
    expect(it.check("store.clock")).to_contain_text("Fine: The clocks agree to 3 ms.")


def _follows(said: Response) -> bool:
    """Tell whether a page has been answered that asks to look or to repair: it follows that run now."""
    return said.request.method == "POST" and said.url.endswith("/console/doctor")


def test_a_second_page_follows_the_run_under_way(come: Come, place: Hospital) -> None:
    first, second = come(), come()
    running(first)
    with second.page.expect_response(_follows):
        second.sign_in(Role.VIEWER)
    expect(second.title()).to_have_text("Looking: 3 of 6 done")
    place.patient.gates["store.clock"].set()
    for each in (first, second):
        expect(each.title()).to_have_text(MISSING.means)
    assert place.patient.looked.count("secrets.shared") == 1


def test_a_repair_pressed_while_checks_run_comes_next(come: Come, place: Hospital) -> None:
    """It waits its turn, and the page says so; what was found meanwhile is told all the same."""
    it = come()
    repair_next(it)
    expect(it.page.locator("#summary")).to_contain_text("3 of 6 are done.")
    assert "schema.tables" in place.patient.wrong
    with it.page.expect_response(_follows):
        it.repair("schema.tables").click()  # as people do who see nothing happen
    place.patient.gates["store.clock"].set()
    notice = it.page.locator("#notice")
    expect(notice).to_contain_text("Repaired. 2 steps carried out")
    expect(it.title()).to_have_text(SLOW.means)
    expect(it.title()).to_be_focused()
    expect(notice).not_to_contain_text("does not answer")


def test_a_repair_pressed_while_checks_run_without_scripts(come: Come, place: Hospital) -> None:
    first, it = come(), come(scripts=False)
    running(first)
    it.sign_in()
    expect(it.title()).to_have_text("Looking: 3 of 6 done")
    with it.page.expect_request("**/console/doctor"):
        it.repair("schema.tables").click(no_wait_after=True)
    place.patient.gates["store.clock"].set()
    expect(it.page.get_by_text("Repaired. 2 steps carried out")).to_be_visible()


def test_by_keyboard(come: Come, place: Hospital) -> None:
    """From the key to the repair; afterwards the focus is at what was repaired."""
    place.falls_ill()
    it = come()
    it.page.goto("/console")
    expect(it.page.get_by_label("API key of an operator")).to_be_focused()
    it.page.keyboard.type(ADMIN)
    it.page.keyboard.press("Enter")
    expect(it.title()).to_contain_text("seats in use.")
    doctor = it.page.get_by_role("link", name="Doctor").first
    doctor.focus()
    it.page.keyboard.press("Enter")
    expect(it.title()).to_have_text("Nothing has been looked at yet.")
    expect(it.page.get_by_label("As the system").first).to_be_visible()  # a script shows it
    walked = []
    for _ in range(7 + sum(len(pages) for _, pages in PLACES)):
        it.page.keyboard.press("Tab")
        walked.append(
            it.page.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.textContent"
            )
        )
    assert [each.strip() for each in walked] == [
        "Skip to the content",
        "As the system",
        "",  # where a person is looked for
        *(title for _, pages in PLACES for _, title, _ in pages),
        "SOJOURN_ADMIN_KEY",  # whose sign-ins are behind it
        "Sign out",
        "Run all checks",
        "sojourn doctor",
    ]
    it.page.keyboard.press("Shift+Tab")
    it.page.keyboard.press("Enter")
    expect(it.title()).to_have_text(MISSING.means)
    it.repair("schema.tables").focus()
    it.page.keyboard.press("Enter")
    expect(it.page.locator("#notice")).to_contain_text("Repaired.")
    expect(it.title()).to_be_focused()
    expect(it.page.locator("#notice .notice")).to_be_in_viewport()


def test_everything_is_repaired_by_one_button(come: Come, place: Hospital) -> None:
    """It shows its plan once, before the cards; nothing is done before the second press."""
    it = come()
    found(it)
    it.page.get_by_text("Repair 1 problem…").click()
    plan = it.page.locator("#plan")
    expect(plan).to_contain_text("Copy what is readable to sessions_2025_11_22")
    assert "schema.tables" in place.patient.wrong
    assert it.violations() == []
    it.button("Repair 1 problem now").click()
    expect(it.page.locator("#notice")).to_contain_text("Repaired.")
    expect(it.title()).to_have_text(SLOW.means)
    expect(it.page.locator("#plan")).to_have_count(0)


def test_the_page_opens_with_the_effect_and_folds_what_is_fine(come: Come) -> None:
    """Whom it concerns, then why, then what is wrong; of the rest one closed line per area."""
    it = come()
    found(it)
    expect(it.title()).to_have_text(MISSING.means)
    said = it.page.locator("#doctor").inner_text()
    order = [MISSING.means, MISSING.title, "Repair 1 problem…", SLOW.title, "Everything else"]
    assert sorted(order, key=said.index) == order
    expect(it.check("store.clock")).to_be_hidden()
    it.page.get_by_text("Store: 1 fine").click()
    expect(it.check("store.clock")).to_be_visible()
    names = [
        x.get_attribute("aria-label") or x.inner_text() for x in it.page.get_by_role("button").all()
    ]
    assert len(set(names)) == len(names)


def test_forced_colors(come: Come) -> None:
    """Where backgrounds are gone, edges say what can be pressed, and what is chosen."""
    it = come()
    it.page.emulate_media(forced_colors="active")
    found(it)
    edges = """[...document.querySelectorAll('button, .button, [aria-current], label:has(:checked)')]
        .filter(e => e.checkVisibility() && getComputedStyle(e).borderTopWidth === '0px'
            && getComputedStyle(e).outlineStyle === 'none').map(e => e.outerHTML)"""
    assert it.page.evaluate(edges) == []


def test_without_scripts(come: Come, place: Hospital) -> None:
    """All of it: signing in, looking, the plan, the repair, trying the browser, signing out."""
    it = come(scripts=False)
    place.falls_ill()
    it.show_key(place.world.keys[Role.OPERATOR])
    it.page.get_by_role("link", name="Doctor").first.click()
    it.look()
    expect(it.check("schema.tables")).to_contain_text(
        "Copy what is readable to sessions_2025_11_22"
    )
    it.repair("schema.tables").click()
    expect(it.page.get_by_text("Repaired. 2 steps carried out")).to_be_visible()
    it.button("Try with this browser").click()
    expect(it.page.locator("#browser")).to_contain_text("Fine: Your browser keeps the cookie")
    it.button("Sign out").click()
    expect(it.title()).to_have_text("Sign in to the console")
    it.page.goto("/console/doctor")
    expect(it.title()).to_have_text("Sign in to the console")


def test_copying(come: Come) -> None:
    it = come()
    found(it)
    button = it.check("schema.tables").get_by_role("button", name="Copy the SQL")
    button.click()
    expect(button).to_contain_text("Copied")
    copied = it.page.evaluate("navigator.clipboard.readText()")
    assert copied == "CREATE TABLE sojourn_sessions (\n    id text PRIMARY KEY\n);"


def test_the_sheet_on_a_phone(come: Come) -> None:
    it = come(width=390).sign_in(Role.VIEWER)
    nodes = it.page.get_by_role("link", name="Nodes")  # which has no tab of its own
    expect(nodes).to_be_hidden()
    it.button("More").click()
    expect(nodes).to_be_visible()
    expect(it.page.get_by_text("API key, role viewer")).to_be_visible()
    assert it.violations() == []
    it.page.keyboard.press("Escape")
    expect(nodes).to_be_hidden()


def test_a_revoked_key_opens_nothing_any_more(come: Come, place: Hospital) -> None:
    """The open page says so at its next step, and why."""
    key, secret = place.world.services.keys.create("ops", Role.OPERATOR, actor="test")
    place.world.keys[Role.OPERATOR], kept = secret, place.world.keys[Role.OPERATOR]
    it = come()
    found(it, Role.OPERATOR)
    place.world.keys[Role.OPERATOR] = kept
    place.world.services.keys.revoke(key.id, actor="test")
    it.repair("schema.tables").click()
    expect(it.page.locator("#notice")).to_contain_text("your API key was revoked")
    assert "schema.tables" in place.patient.wrong
    it.page.get_by_role("link", name="Sign in").click()
    expect(it.title()).to_have_text("Sign in to the console")
