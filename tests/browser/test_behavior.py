"""What the component does: with the keyboard, while things change under it, and for the site around it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import expect
from tests.browser.conftest import Stages
from tests.browser.stage import API, ORIGIN, Stage, refuse, session, three

HOST = """<!doctype html><html lang="{lang}"><title>A site</title>
<script type="module" src="/component.js"></script><main><h1>Mine</h1>{body}</main></html>"""
COMPONENT = Path(__file__).parents[2] / "clients" / "active-sessions" / "sojourn-active-sessions.js"


def embed(stage: Stage, body: str, lang: str = "en") -> None:
    """Open a page of some other site's making, which has the component on it."""
    page = stage.page
    page.route("**/component.js", lambda route: route.fulfill(path=COMPONENT))
    html = HOST.format(lang=lang, body=body)
    page.route(
        "**/mine", lambda route: route.fulfill(body=html, content_type="text/html; charset=utf-8")
    )
    page.goto(f"{ORIGIN}/mine")


def press(stage: Stage, *keys: str) -> list[str]:
    """Press keys; return what has the focus after each."""
    walked = []
    for key in keys:
        stage.page.keyboard.press(key)
        walked.append(stage.focused())
    return walked


def test_everything_by_keyboard(stages: Stages) -> None:
    """Nothing is sent before it is confirmed; the focus always is somewhere that makes sense."""
    stage = stages().open()
    expect(stage.rows()).to_have_count(3)
    walked = press(stage, *["Tab"] * 7)
    assert walked == [
        "Skip to the content",
        "As the system",
        "Refresh",
        "Sign out other devices",
        "Sign out Chrome on Windows",
        "Sign out Safari on iPhone",
        "Sign out Sojourn extension in Edge",
    ]
    press(stage, "Shift+Tab")
    assert press(stage, "Enter", "Tab") == ["Cancel", "Sign out"]
    assert press(stage, "Escape", "Enter", "Enter") == [
        "Sign out Safari on iPhone",
        "Cancel",
        "Sign out Safari on iPhone",
    ]
    assert {call.split()[0] for call in stage.server.calls} == {"GET"}
    press(stage, "Enter", "Tab", "Enter")
    expect(stage.rows()).to_have_count(2)
    assert stage.server.calls.count("DELETE /ses_00001") == 1
    assert stage.focused() == "Sign out Sojourn extension in Edge"
    expect(stage.part).to_contain_text("Safari on iPhone is signed out.")
    press(stage, "Enter", "Tab", "Enter")
    expect(stage.rows()).to_have_count(1)
    assert stage.focused() == "Sign out Chrome on Windows"
    assert "1 seat is free again." in stage.announced()
    press(stage, "Enter", "Tab", "Enter")
    expect(stage.part).to_contain_text("You have been signed out")
    assert stage.focused() == "Sign in again"


def test_a_session_that_ended_meanwhile(stages: Stages) -> None:
    """Signing out what is signed out already is no error."""
    stage = stages().open()
    stage.button("Sign out Safari on iPhone").click()
    stage.server.sessions.pop(0)
    stage.button("Sign out").click()
    expect(stage.part).to_contain_text("Safari on iPhone was signed out already.")


def test_a_device_gets_a_name(stages: Stages) -> None:
    """By keyboard; it is shown at once, the focus comes back, and a refusal is told where it was asked."""
    stage = stages()
    stage.server.can_rename = True
    stage.open()
    stage.button("Rename Safari on iPhone").press("Enter")
    field = stage.part.get_by_role("textbox")
    expect(field).to_be_focused()
    stage.server.instead = partial(refuse, status=400, code="invalid", error="That is too long.")
    field.fill("Family phone")
    field.press("Enter")
    expect(stage.part.get_by_role("alert")).to_have_text("That is too long.")
    stage.server.instead = None
    field.press("Enter")
    expect(stage.button("Rename Family phone")).to_be_focused()
    row = "paragraph: Safari on iPhone · Utrecht, Netherlands · 203.0.113.1"
    expect(stage.rows().nth(1)).to_match_aria_snapshot(f"- {row}")
    expect(field).to_have_count(0)
    stage.button("Rename Family phone").click()
    field.press("Escape")
    expect(stage.button("Rename Family phone")).to_be_focused()


def test_a_failure_is_told_where_it_was_asked(stages: Stages) -> None:
    """What could not be carried out can be tried again, at once, in the same place."""
    stage = stages().open()
    stage.button("Sign out Safari on iPhone").click()
    stage.server.instead = partial(
        refuse, status=503, code="store_unavailable", error="The store is away."
    )
    stage.button("Sign out").click()
    expect(stage.part.get_by_role("group")).to_contain_text("The store is away.")
    stage.server.instead = None
    stage.button("Sign out").click()
    expect(stage.rows()).to_have_count(2)


def test_rows_change_in_place(stages: Stages) -> None:
    """A change elsewhere moves nothing: not the focus, not a selection, not a question."""
    stage = stages().open()
    stage.button("Sign out Sojourn extension in Edge").click()
    selected = "() => getSelection().toString()"
    stage.part.get_by_text("Utrecht, Netherlands").first.select_text()
    before = stage.page.evaluate(selected)
    stage.server.sessions.insert(0, session(2, "Firefox on Linux"))
    stage.server.sessions[1]["lastUsedAt"] = stage.server.sessions[2]["lastUsedAt"]
    stage.server.tell(type="changed")
    expect(stage.rows()).to_have_count(4)
    expect(stage.rows().nth(1)).to_contain_text("Firefox on Linux")
    expect(stage.rows().nth(2)).to_contain_text("Active just now")
    assert stage.page.evaluate(selected) == before == "Utrecht, Netherlands"
    assert stage.focused() == "Cancel"
    assert stage.announced().endswith("4 active sessions")
    stage.server.sessions.pop()  # what is asked about
    stage.server.tell(type="changed")
    expect(stage.rows()).to_have_count(3)
    assert stage.focused() == "Sign out Safari on iPhone"


def test_what_a_server_says_is_text(stages: Stages) -> None:
    """A device's name is whatever its user agent said; it is never read as markup."""
    name = '<img src=x onerror="document.title = 1">'
    stage = stages([session(0, name, location=name)]).open()
    expect(stage.rows()).to_contain_text(name)
    assert stage.part.locator("img").count() == 0


def test_the_server_is_left_alone_for_as_long_as_it_asks(stages: Stages) -> None:
    """Retry-After is honored; then the list is read by itself, and the page is as ever."""
    stage = stages(clock=True)
    stage.server.instead = partial(
        refuse, status=503, code="store_unavailable", error="The store is away.", retry_after=20
    )
    stage.open()
    expect(stage.part).to_contain_text("The store is away. Trying again in 20 seconds.")
    stage.page.clock.run_for(19_500)
    assert stage.server.calls == ["GET "]
    stage.server.instead = None
    stage.page.clock.run_for(1_000)
    expect(stage.rows()).to_have_count(3)
    assert stage.server.calls == ["GET ", "GET "]


def test_bones_only_if_it_takes_long(stages: Stages) -> None:
    """For 150 ms there is nothing but room; then a skeleton of the same height."""
    stage = stages(clock=True)
    stage.server.holds = True
    stage.open()
    expect(stage.part.get_by_role("heading")).to_be_visible()
    stage.page.evaluate("document.fonts.ready.then(() => null)")  # another font, another height
    box = stage.part.bounding_box()
    assert stage.part.locator(".bone").count() == 0
    stage.page.clock.run_for(200)
    expect(stage.part.locator(".bone")).to_have_count(9)
    assert stage.part.bounding_box() == box
    stage.server.holds = False
    for route in stage.server.held:
        stage.server.answer(route)
    stage.server.held.clear()
    expect(stage.rows()).to_have_count(3)
    assert stage.part.bounding_box() == box


def test_a_socket_that_drops(stages: Stages) -> None:
    """It is opened again, after a while that grows, and the list is read: something may have been missed."""
    stage = stages(clock=True).open()
    expect(stage.rows()).to_have_count(3)
    first = stage.server.sockets.pop()
    stage.server.sessions.pop()
    first.close(code=1012)
    stage.page.clock.run_for(1_500)
    stage.page.clock.run_for(200)
    expect(stage.rows()).to_have_count(2)
    assert len(stage.server.sockets) == 1


def test_a_page_that_is_put_by(stages: Stages) -> None:
    """In the back/forward cache it holds no socket; when it comes back it listens, and looks, again."""
    stage = stages().open()
    expect(stage.rows()).to_have_count(3)
    put_by = "name => dispatchEvent(new PageTransitionEvent(name, {persisted: true}))"
    closed: list[Any] = []
    stage.server.sockets.pop().on_close(lambda code, _: closed.append(code))
    stage.page.evaluate(put_by, "pagehide")
    stage.server.sessions.pop()
    stage.page.evaluate(put_by, "pageshow")
    expect(stage.rows()).to_have_count(2)
    assert len(stage.server.sockets) == len(closed) == 1


def test_without_sockets(stages: Stages) -> None:
    """Where the server takes none, the list is read each minute, and whenever somebody comes back to it."""
    stage = stages(clock=True)
    embed(stage, f'<sojourn-active-sessions src="{API}" live="poll"></sojourn-active-sessions>')
    expect(stage.rows()).to_have_count(3)
    stage.server.sessions.pop()
    stage.page.clock.run_for(60_200)
    expect(stage.rows()).to_have_count(2)
    stage.server.sessions.pop()
    stage.page.clock.run_for(2_000)
    stage.page.evaluate("document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))")
    stage.page.clock.run_for(200)
    expect(stage.rows()).to_have_count(1)
    assert stage.server.sockets == []


def test_another_tab(stages: Stages) -> None:
    """What is signed out in one tab is gone from the other at once, though no server tells it."""
    stage = stages().open()
    expect(stage.rows()).to_have_count(3)
    tab = stage.context.new_page()
    tab.goto(stage.page.url)
    tab.get_by_role("button", name="Sign out other devices").click()
    tab.get_by_role("button", name="Sign out", exact=True).click()
    expect(stage.rows()).to_have_count(1)


def test_a_sites_own_words_and_colors(stages: Stages) -> None:
    """Words, properties of color and `theme` are the site's; times follow the words."""
    stage = stages()
    words = '{"title": "Ihre Geräte", "count": {"one": "{n} Sitzung", "other": "{n} Sitzungen"}}'
    embed(
        stage,
        f"<sojourn-active-sessions theme=dark strings='{words}'></sojourn-active-sessions>",
        "de",
    )
    expect(stage.part.get_by_role("heading", name="Ihre Geräte")).to_be_visible()
    expect(stage.part).to_contain_text("3 Sitzungen")
    expect(stage.part.locator("time").nth(3)).to_have_text("Active 7 minutes ago")
    panel = stage.part.locator("section")
    expect(panel).to_have_css("background-color", "rgb(19, 26, 29)")
    stage.part.evaluate("e => { e.style.setProperty('--sojourn-panel', 'rgb(1, 2, 3)'); }")
    expect(panel).to_have_css("background-color", "rgb(1, 2, 3)")
    stage.part.evaluate("e => { e.strings = {title: 'Mine'}; }")
    expect(stage.part.get_by_role("heading", name="Mine")).to_be_visible()


def test_a_site_that_asks_for_the_password_itself(stages: Stages) -> None:
    """`sojourn:reauth-required` may be taken over; what was asked is then carried out by `retry`."""
    stage = stages()
    embed(stage, "<sojourn-active-sessions></sojourn-active-sessions>")
    stage.page.evaluate(
        """() => { window.heard = [];
        for (const name of ["ended", "signed-out", "reauth-required"])
          addEventListener(`sojourn:${name}`, (event) => {
            heard.push(event.type); window.last = event; event.preventDefault(); }); }"""
    )
    stage.server.instead = partial(
        refuse, status=403, code="reauth_required", error="Again, please."
    )
    stage.button("Sign out Safari on iPhone").click()
    stage.button("Sign out").click()
    stage.page.wait_for_function("heard.length === 1")
    stage.server.instead = None
    stage.page.evaluate("last.detail.retry()")
    expect(stage.rows()).to_have_count(2)
    stage.server.instead = partial(refuse, status=401, code="session_ended", error="Gone.")
    stage.button("Refresh").click()
    expect(stage.part).to_contain_text("You have been signed out")
    stage.page.wait_for_function("heard.length === 3")
    heard = stage.page.evaluate("heard")
    assert heard == ["sojourn:reauth-required", "sojourn:ended", "sojourn:signed-out"]


def test_the_switch(stages: Stages) -> None:
    """Light and dark follow the system until the switch says otherwise, which is remembered."""
    stage = stages(theme="dark").open()
    page = stage.page
    panel = stage.part.locator("section")
    expect(panel).to_have_css("background-color", "rgb(19, 26, 29)")
    page.get_by_role("radio", name="Light").check(force=True)
    expect(panel).to_have_css("background-color", "rgb(255, 255, 255)")
    expect(page.locator("html")).to_have_css("background-color", "rgb(247, 249, 251)")
    page.reload()
    expect(panel).to_have_css("background-color", "rgb(255, 255, 255)")
    page.get_by_role("radio", name="As the system").check(force=True)
    expect(panel).to_have_css("background-color", "rgb(19, 26, 29)")


def test_fingers_find_the_buttons(stages: Stages) -> None:
    """On touch everything to be tapped is 40 px high or more, and nothing scrolls sideways."""
    stage = stages(
        [*three(), session(3, "A device of a rather long name on an operating system")], width=390
    )
    stage.open()
    stage.button("Sign out Safari on iPhone").click()
    heights = stage.part.get_by_role("button").evaluate_all("all => all.map((e) => e.offsetHeight)")
    assert min(heights) >= 40
    assert not stage.overflows()
