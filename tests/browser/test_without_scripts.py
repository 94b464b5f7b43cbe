"""The page with scripts off, on a real server and in a real browser: every state, and what forms do."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect
from tests.browser.person import CALM, HTML, LAPTOP, PAGE, PHONE, Person
from tests.serving import Served, served

ENVIRON = {
    "SOJOURN_SITE_NAME": "Acme",
    "SOJOURN_SIGN_IN_URL": "/sign-in",
    "SOJOURN_REAUTH_WITHIN": "3600",
}
EDGE = {
    "name": "Sojourn extension in Edge",
    "browser": "Edge",
    "os": "Windows",
    "kind": "extension",
}
PLACES = "all => all.map((row) => JSON.stringify(row.getBoundingClientRect()))"
ROWS = """
- list:
  - listitem:
    - text: Chrome on Windows This device
    - link "Rename Chrome on Windows": Rename
    - paragraph: Amsterdam, Netherlands · 203.0.113.7
    - time: Active now
    - text: /\\(.+ UTC\\)/
    - time: Signed in just now
    - text: /\\(.+ UTC\\)/
    - time: Expires in 7 days
    - text: /\\(.+ UTC\\)/
    - link "Sign out Chrome on Windows": Sign out
  - listitem:
    - text: Sojourn extension in Edge 1 seat in use
    - link "Rename Sojourn extension in Edge": Rename
    - time: Active just now
    - text: /\\(.+ UTC\\)/
    - time: Signed in just now
    - text: /\\(.+ UTC\\)/
    - time: Expires in 7 days
    - text: /\\(.+ UTC\\)/
    - link "Sign out Sojourn extension in Edge": Sign out
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("plain"), environ=ENVIRON) as running:
        yield running


@pytest.fixture
def ann(chromium: Browser, server: Served, request: pytest.FixtureRequest) -> Iterator[Person]:
    """Signed in on a laptop, on a phone and in an extension that holds a seat; scripts are off."""
    person = settle(Person(chromium, server, scripts=False), request.node.name)
    yield person
    person.context.close()


def settle(person: Person, user: str) -> Person:
    extension = person.sign_in(user, EDGE)
    person.sign_in(user, PHONE)
    place = {"place": "Amsterdam, Netherlands", "ip": "203.0.113.7"}
    person.sign_in(user, LAPTOP | place)
    _, key = person.server.license(editor={"capacity": 5})
    with person.server.admin() as http:
        seat = http.post(
            "/api/licenses/sessions",
            json={"feature": "editor", "userId": user, "clientId": "x", "sessionId": extension},
            headers={"Authorization": f"Bearer {key}"},
        )
    assert seat.status_code == 201, seat.text
    person.page.goto(PAGE)
    return person


def change(server: Served, statement: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(server.data / "sojourn.db")) as database, database:
        database.execute(statement, values)


def follow(person: Person, name: str) -> None:
    person.page.get_by_role("link", name=name, exact=True).click()


def press(person: Person, name: str) -> None:
    person.page.get_by_role("button", name=name, exact=True).click()


def listed(_ann: Person) -> None:
    pass


def asking(ann: Person) -> None:
    follow(ann, "Sign out Sojourn extension in Edge")


def asking_here(ann: Person) -> None:
    follow(ann, "Sign out Chrome on Windows")


def asking_others(ann: Person) -> None:
    follow(ann, "Sign out other devices")


def said(ann: Person) -> None:
    asking(ann)
    press(ann, "Sign out")


def one_device(ann: Person) -> None:
    asking_others(ann)
    press(ann, "Sign out")


def proof_needed(ann: Person) -> None:
    change(ann.server, "UPDATE sojourn_sessions SET authenticated_at = authenticated_at - 7200000")
    asking(ann)


def signed_out(ann: Person) -> None:
    asking_here(ann)
    press(ann, "Sign out")


def signed_out_meanwhile(ann: Person) -> None:
    asking(ann)
    with ann.server.admin() as http:
        ended = http.post("/api/sessions/end", json={"userId": ann.user})
    assert ended.status_code == 200, ended.text
    press(ann, "Sign out")


def naming(ann: Person) -> None:
    follow(ann, "Rename Chrome on Windows")


def named(ann: Person) -> None:
    naming(ann)
    ann.page.get_by_role("textbox").fill("Office")
    press(ann, "Save")


def many(ann: Person) -> None:
    for _ in range(20):
        ann.sign_in(ann.user, EDGE)
    ann.page.goto(PAGE)


def continued(ann: Person) -> None:
    many(ann)
    follow(ann, "Show older")


def not_set_up(ann: Person) -> None:
    change(ann.server, "ALTER TABLE sojourn_sessions RENAME TO kept")
    try:
        ann.page.reload()
    finally:
        change(ann.server, "ALTER TABLE kept RENAME TO sojourn_sessions")


STATES: dict[str, tuple[Callable[[Person], None], list[str]]] = {
    "list": (
        listed,
        [
            'heading "Account security" [level=1]',
            'heading "Where you’re signed in" [level=2]',
            "paragraph: 3 active sessions. Sign out any device that you don’t recognize.",
            'link "Refresh"',
            'link "Sign out other devices"',
        ],
    ),
    "asking": (
        asking,
        [
            'heading "Sign out Sojourn extension in Edge?" [level=1]',
            "paragraph: Active just now",
            "paragraph: It will need to sign in again. Its seat becomes free.",
            'link "Cancel"',
            'button "Sign out"',
        ],
    ),
    "asking here": (
        asking_here,
        [
            'heading "Sign out of this device?" [level=1]',
            "paragraph: Amsterdam, Netherlands · 203.0.113.7 · Active now",
            "paragraph: You will need to sign in again here.",
        ],
    ),
    "asking about others": (
        asking_others,
        [
            'heading "Sign out 2 other devices?" [level=1]',
            "paragraph: They will need to sign in again.",
        ],
    ),
    "said": (
        said,
        [
            "status:\n  - paragraph: Sojourn extension in Edge is signed out. 1 seat is free again.",
            "paragraph: 2 active sessions. Sign out any device that you don’t recognize.",
        ],
    ),
    "one device": (
        one_device,
        [
            "status:\n  - paragraph: 2 other devices are signed out. 1 seat is free again.",
            (
                "paragraph: 1 active session. This is the only place where you are signed in. Whenever you"
                " sign in on another device, it appears here."
            ),
            'button "Sign out other devices" [disabled]',
            "paragraph: No other device is signed in.",
        ],
    ),
    "proof needed": (
        proof_needed,
        [
            'heading "First confirm that it is you" [level=1]',
            (
                "paragraph: Please sign in again before you sign out other devices. Confirm who you are,"
                " then try again."
            ),
            'link "Back to your devices"',
            'link "Sign in again"',
        ],
    ),
    "signed out": (
        signed_out,
        [
            'heading "Please sign in" [level=1]',
            (
                "paragraph: You are signed out. Once you have signed in, this page shows every device that"
                " uses your account."
            ),
            'link "Sign in"',
        ],
    ),
    "signed out meanwhile": (
        signed_out_meanwhile,
        [
            (
                "paragraph: Your session was ended. Once you have signed in, this page shows every device"
                " that uses your account."
            ),
            'link "Sign in"',
        ],
    ),
    "naming": (
        naming,
        [
            'heading "What do you call Chrome on Windows?" [level=1]',
            "paragraph: Chrome on Windows · Amsterdam, Netherlands · 203.0.113.7",
            'textbox "Name"',
            'link "Cancel"',
            'button "Save"',
        ],
    ),
    "named": (
        named,
        [
            "status:\n  - paragraph: Chrome on Windows is called Office now.",
            "paragraph: Chrome on Windows · Amsterdam, Netherlands · 203.0.113.7",
            'link "Sign out Office"',
        ],
    ),
    "many": (many, ["paragraph: Showing 20 of 23", 'link "Show older"']),
    "continued": (continued, ["paragraph: 3 more of 23", 'link "Newest first"']),
    "not set up": (
        not_set_up,
        [
            'heading "No active sessions" [level=3]',
            (
                "paragraph: Active sessions have not been set up on this site yet, so there is nothing to"
                " show. The site's operators have been told."
            ),
            'link "Refresh"',
        ],
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_state(name: str, ann: Person) -> None:
    """The state shows what it should, to everybody, however wide and in whatever light."""
    reach, shown = STATES[name]
    reach(ann)
    for line in shown:
        expect(ann.page.locator("body")).to_match_aria_snapshot(f"- {line}")
    assert ann.looks() == CALM
    assert [line for line in ann.said if "Failed to load" not in line] == []


def test_rows(ann: Person) -> None:
    """This device comes first; each row says what, where, when and until when, exact instants included."""
    expect(ann.page.get_by_role("list")).to_match_aria_snapshot(ROWS)
    assert ann.page.get_by_role("time").first.get_attribute("title")


def test_devices_of_one_name_are_told_apart(chromium: Browser, server: Served) -> None:
    eve = Person(chromium, server, scripts=False)
    for place in ("Lisbon", "Oslo", "Oslo", None, None):
        eve.sign_in("eve", PHONE | ({"place": place} if place else {}))
    eve.sign_in("eve", LAPTOP)
    eve.page.goto(PAGE)
    links = eve.page.get_by_role("listitem").get_by_role("link", name="Sign out")
    labels = links.evaluate_all("all => all.map((e) => e.ariaLabel)")
    assert len(labels) == len(set(labels)) == 6
    assert f"Sign out {PHONE['name']}, Lisbon" in labels
    eve.context.close()


def test_a_form_is_sent_once_and_says_so_once(ann: Person) -> None:
    """A page that is loaded again neither signs out again nor says again what was done; the browser says
    where a form comes from, also one that sends no Sec-Fetch-Site."""
    asking(ann)
    again = ann.page.url
    with ann.page.expect_request(lambda asked: asked.method == "POST") as posted:
        press(ann, "Sign out")
    assert posted.value.all_headers()["origin"] == ann.server.url
    assert ann.page.url == ann.server.url + PAGE
    expect(ann.page.get_by_role("status")).to_be_visible()
    ann.page.reload()
    expect(ann.page.get_by_role("listitem")).to_have_count(2)
    expect(ann.page.get_by_role("status")).to_have_count(0)
    ann.page.goto(again)
    expect(ann.page.get_by_role("status")).to_have_text("That device was signed out already.")


def test_a_form_on_a_page_of_another_origin(ann: Person) -> None:
    """It changes nothing, though the cookie goes with it: another port is the same site to cookies."""
    asking_others(ann)
    form = f'<form method=post action="{ann.page.url}"><button>Win a prize</button></form>'
    elsewhere = "http://127.0.0.1:9/prize"
    ann.page.route(elsewhere, lambda route: route.fulfill(body=form, content_type=HTML))
    ann.page.goto(elsewhere)
    with ann.page.expect_response(lambda said: said.request.method == "POST") as refused:
        press(ann, "Win a prize")
    assert "sojourn=" in refused.value.request.all_headers()["cookie"]
    assert refused.value.status == 403
    expect(ann.page.get_by_role("heading")).to_have_text("This was not carried out")
    follow(ann, "Back to your devices")
    expect(ann.page.get_by_role("listitem")).to_have_count(3)


def test_a_sign_in_comes_back_to_the_question(ann: Person) -> None:
    """Nobody has to look for the device again."""
    proof_needed(ann)
    there = ann.page.get_by_role("link", name="Sign in again").get_attribute("href") or ""
    back = parse_qs(urlsplit(there).query)["next"][0]
    assert ann.server.url + back == ann.page.url
    follow(ann, "Back to your devices")
    expect(ann.page.get_by_role("listitem")).to_have_count(3)


def words_of(person: Person) -> list[str]:
    """List what the panel says, but for exact instants: a server tells them in UTC."""
    said = person.part.locator("h2, header p, li").filter(visible=True).all_inner_texts()
    return [re.sub(r"\(.*?\)", "", each) for each in said if each]


def test_the_component_takes_over_without_a_jump(ann: Person) -> None:
    """It says the same in the same place, once; what has the focus, and what was said, stay."""
    said(ann)
    follow(ann, "Refresh")
    held: list[Route] = []
    other = ann.again()
    page = other.page
    holds = [True]
    page.route(
        "**/api/user/active-sessions?*",
        lambda route: held.append(route) if holds else route.continue_(),
    )
    page.goto(PAGE)
    rows = other.part.get_by_role("listitem")
    expect(rows).to_have_count(2)
    before = words_of(other)
    places = rows.evaluate_all(PLACES)
    page.get_by_role("link", name="Sign out Safari on iPhone").focus()
    holds.clear()
    for route in held:
        route.continue_()
    button = other.part.get_by_role("button", name="Sign out Safari on iPhone")
    expect(button).to_be_focused()
    expect(rows).to_have_count(2)
    assert rows.evaluate_all(PLACES) == places
    assert words_of(other) == before
    assert other.said == []
    other.context.close()
