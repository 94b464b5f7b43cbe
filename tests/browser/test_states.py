"""Every state of the page: what is on the screen, in light and dark, wide and narrow, for axe too."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.browser.chromium import axe_looks
from tests.browser.conftest import Stages
from tests.browser.stage import Stage, refuse, session

from sojourn.people.pages import POLICY, Look

HINT = "Is there something you don’t recognize? Sign it out, then change your password."
HEADER = """
- banner:
  - text: Acme
  - group "Colors":
    - text: Colors
    - radio "As the system" [checked]
    - radio "Light"
    - radio "Dark"
"""


def looks_right(stage: Stage) -> None:
    """Ask axe (see `axe_looks`), and for what would have to be scrolled sideways in every look."""
    found = {}
    for width in (1280, 390):
        for theme in ("light", "dark"):
            stage.page.set_viewport_size({"width": width, "height": 844})
            stage.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            violations = stage.violations() if (width, theme) in axe_looks() else []
            found[width, theme] = [*violations, *["overflows"] * stage.overflows()]
    assert found == {key: [] for key in found}


def down(stage: Stage, *, retry_after: int | None = 5) -> None:
    error = "The session store cannot be reached right now."
    stage.server.instead = partial(
        refuse, status=503, code="store_unavailable", error=error, retry_after=retry_after
    )


def loading(stage: Stage) -> None:
    stage.server.holds = True
    stage.open()
    expect(stage.part.locator(".bone").first).to_be_visible()


def listed(stage: Stage) -> None:
    stage.open()


def asking(stage: Stage) -> None:
    stage.open()
    stage.button("Sign out Sojourn extension in Edge").click()


def asking_others(stage: Stage) -> None:
    stage.open()
    stage.button("Sign out other devices").click()


def ended(stage: Stage) -> None:
    asking_others(stage)
    stage.button("Sign out").click()


def naming(stage: Stage) -> None:
    stage.server.can_rename = True
    stage.server.sessions[0] |= {"name": "Family phone", "lastLocation": "Paris, France"}
    stage.open()
    stage.button("Rename Family phone").click()


def reauth(stage: Stage) -> None:
    asking(stage)
    stage.server.instead = partial(
        refuse, status=403, code="reauth_required", error="This needs a recent sign-in."
    )
    stage.button("Sign out").click()


def empty(stage: Stage) -> None:
    stage.server.sessions = []
    stage.open()


def not_set_up(stage: Stage) -> None:
    stage.server.message = (
        "Sessions have not been set up yet. They will be shown here once they are."
    )
    empty(stage)


def unavailable(stage: Stage) -> None:
    down(stage)
    stage.open()


def stale(stage: Stage) -> None:
    stage.open()
    expect(stage.rows()).to_have_count(3)
    down(stage)
    stage.button("Refresh").click()


def signed_out_meanwhile(stage: Stage) -> None:
    stage.open()
    expect(stage.rows()).to_have_count(3)
    stage.server.tell(type="signedOut", reason="signed_out_elsewhere")


def signed_out(stage: Stage) -> None:
    stage.signed_in = False
    stage.open()


ROWS = """
- list:
  - listitem:
    - text: Chrome on Windows This device
    - paragraph: Amsterdam, Netherlands · 203.0.113.0
    - time: Active now
    - text: /\\(.+\\)/
    - time: Signed in just now
    - text: /\\(.+\\)/
    - time: Expires in 5 days
    - text: /\\(.+\\)/
    - button "Sign out Chrome on Windows": Sign out
  - listitem:
    - text: Safari on iPhone
    - paragraph: Utrecht, Netherlands · 203.0.113.1
    - time: Active 7 minutes ago
    - text: /\\(.+\\)/
    - time: Signed in 5 hours ago
    - text: /\\(.+\\)/
    - time: Expires in 5 days
    - text: /\\(.+\\)/
    - button "Sign out Safari on iPhone": Sign out
  - listitem:
    - text: Sojourn extension in Edge 1 seat in use
    - paragraph: 203.0.113.9
    - time: Active 1 hour ago
    - text: /\\(.+\\)/
    - time: Signed in yesterday
    - text: /\\(.+\\)/
    - time: Expires in 5 days
    - text: /\\(.+\\)/
    - button "Sign out Sojourn extension in Edge": Sign out
"""

STATES: dict[str, tuple[Callable[[Stage], Any], list[str]]] = {
    "loading": (loading, ["paragraph: Loading your sessions…"]),
    "list": (
        listed,
        [
            'heading "Account security" [level=1]',
            'heading "Where you’re signed in" [level=2]',
            "paragraph: 3 active sessions. Sign out any device that you don’t recognize.",
            'button "Refresh"',
            'button "Sign out other devices"',
            f"paragraph: {HINT}",
        ],
    ),
    "asking": (
        asking,
        [
            'group "Sign out Sojourn extension in Edge?"',
            (
                "paragraph: Sign out Sojourn extension in Edge? It will need to sign in again."
                " Its seat becomes free."
            ),
            'button "Cancel" [active]',
            'button "Sign out"',
        ],
    ),
    "asking about others": (
        asking_others,
        [
            'group "Sign out 2 other devices?"',
            "paragraph: Sign out 2 other devices? They will need to sign in again.",
            'button "Cancel" [active]',
        ],
    ),
    "one device": (
        ended,
        [
            "paragraph: 1 active session. Sign out any device that you don’t recognize.",
            'button "Refresh" [active]',
            'button "Sign out other devices" [disabled]',
            "paragraph: No other device is signed in.",
            "paragraph: 2 other devices are signed out. 1 seat is free again.",
        ],
    ),
    "proof needed": (
        reauth,
        [
            'paragraph: "Sign out Sojourn extension in Edge? First confirm that it is you: sign in again."',
            'link "Sign in again" [active]',
        ],
    ),
    "empty": (
        empty,
        [
            'heading "No active sessions" [level=3]',
            "paragraph: When you sign in on a device, it appears here.",
            'button "Refresh"',
        ],
    ),
    "not set up": (
        not_set_up,
        [
            'heading "No active sessions" [level=3]',
            "paragraph: Sessions have not been set up yet. They will be shown here once they are.",
        ],
    ),
    "unavailable": (
        unavailable,
        [
            'heading "Your sessions can’t be shown right now" [level=3]',
            "paragraph: The session store cannot be reached right now. Trying again in 5 seconds.",
            'button "Try again"',
        ],
    ),
    "stale": (
        stale,
        [
            (
                "paragraph: This list may be out of date. The session store cannot be reached right now."
                " Trying again in 5 seconds."
            ),
            'button "Try again"',
            'button "Sign out Safari on iPhone"',
        ],
    ),
    "naming": (
        naming,
        [
            "text: Family phone",
            "paragraph: Safari on iPhone · Utrecht, Netherlands · 203.0.113.1 · Last used from Paris, France",
            'textbox "Name for Safari on iPhone": Family phone',
            'button "Cancel"',
            'button "Save"',
        ],
    ),
    "signed out meanwhile": (
        signed_out_meanwhile,
        [
            'heading "You have been signed out" [level=3]',
            (
                "paragraph: This device was signed out from another one. Sign in again to see where else"
                " you are signed in."
            ),
            'link "Sign in again"',
        ],
    ),
    "signed out": (
        signed_out,
        [
            'heading "Please sign in" [level=1]',
            'link "Sign in"',
        ],
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_state(name: str, stages: Stages) -> None:
    """The state shows what it should, to everybody."""
    stage = stages()
    reach, shown = STATES[name]
    reach(stage)
    for line in shown:
        expect(stage.page.locator("body")).to_match_aria_snapshot(f"- {line}")
    looks_right(stage)


def test_rows(stages: Stages) -> None:
    """This device comes first; each row says what, where and when, the exact instant included."""
    stage = stages().open()
    expect(stage.part.get_by_role("list")).to_match_aria_snapshot(ROWS)
    expect(stage.page.get_by_role("banner")).to_match_aria_snapshot(HEADER)
    used = stage.part.locator("time", has_text="Active 7 minutes ago")
    assert f"({used.get_attribute('title')})" in stage.rows().nth(1).inner_text()


def test_devices_of_one_name_are_told_apart(stages: Stages) -> None:
    """Who hears the page can tell the buttons apart: by place, then by last use, sign-in and number."""
    same = [
        {**session(number), "device": "Chrome on Mac", "isCurrent": False} for number in range(5)
    ]
    for each, place in zip(same, ("Lisbon", "Oslo", "Rome", "Rome", "Rome"), strict=True):
        each["location"] = place
        each["lastUsedAt"] = each["createdAt"] = same[0]["createdAt"]
    stage = stages([*same, {**session(5), "device": "Firefox", "isCurrent": False}]).open()
    expect(stage.rows()).to_have_count(6)
    labels = stage.rows().get_by_role("button").evaluate_all("all => all.map((e) => e.ariaLabel)")
    assert labels[:2] == ["Sign out Chrome on Mac, Lisbon", "Sign out Chrome on Mac, Oslo"]
    assert labels[5] == "Sign out Firefox"
    assert all(each.startswith("Sign out Chrome on Mac, Rome, Active ") for each in labels[2:5])
    assert len(set(labels)) == 6
    stage.button("Sign out Chrome on Mac, Oslo").click()
    expect(stage.part.get_by_role("group")).to_contain_text("Sign out Chrome on Mac, Oslo?")


def test_many_sessions_of_one_device_are_one_row_that_opens(stages: Stages) -> None:
    """More than eight of a kind are signed out together, after a question; each can be looked at, too."""
    same = [
        {**session(number), "device": "Chrome on Mac", "isCurrent": not number}
        for number in range(10)
    ]
    stage = stages([*same, {**session(20), "device": "Firefox", "isCurrent": False}]).open()
    expect(stage.rows()).to_have_count(3)
    expect(stage.rows().nth(1)).to_contain_text("9 sessions")
    assert stage.violations() == []
    stage.part.get_by_text("Show each of them").click()
    expect(stage.rows()).to_have_count(3 + 9)
    assert stage.violations() == []
    stage.button("Sign out all 9 of Chrome on Mac").click()
    expect(stage.part.get_by_role("group").first).to_contain_text(
        "Sign out all 9 sessions of Chrome on Mac?"
    )
    stage.button("Sign out").click()
    expect(stage.rows()).to_have_count(2)
    assert len(stage.server.sessions) == 2


def test_rows_that_become_a_group_while_the_page_is_open(stages: Stages) -> None:
    """With the ninth of a kind; whatever follows stays in its place, and comes apart again."""
    same = [
        {**session(number), "device": "Chrome on Mac", "isCurrent": not number}
        for number in range(9)
    ]
    other = {**session(20), "device": "Firefox", "isCurrent": False}
    stage = stages([*same, other]).open()
    expect(stage.rows()).to_have_count(10)
    stage.server.sessions.insert(1, {**session(30), "device": "Chrome on Mac", "isCurrent": False})
    stage.part.evaluate("part => part.refresh()")
    expect(stage.rows()).to_have_count(3)
    expect(stage.rows().nth(1)).to_contain_text("9 sessions")
    expect(stage.rows().nth(2)).to_contain_text("Firefox")
    del stage.server.sessions[1]
    stage.part.evaluate("part => part.refresh()")
    expect(stage.rows()).to_have_count(10)
    expect(stage.rows().nth(9)).to_contain_text("Firefox")


def test_a_page_in_another_language_mixes_none(stages: Stages) -> None:
    """Words that nobody translated keep their times in their own language, and say which that is."""
    stage = stages().open()
    stage.page.evaluate("document.documentElement.lang = 'ja'")
    stage.part.evaluate("e => { e.strings = {}; }")
    panel = stage.part.locator("section")
    expect(panel).to_have_attribute("lang", "en")
    assert "分" not in panel.inner_text()
    words = {"used": "{when}に使用", "begun": "{when}にサインイン", "ends": "{when}に終了"}
    stage.part.evaluate("(e, words) => { e.strings = words; }", words)
    expect(panel).not_to_have_attribute("lang", "en")
    expect(stage.part.locator("time").nth(3)).to_have_text(re.compile("分前.?に使用"))


def test_rows_are_low_on_a_phone(stages: Stages) -> None:
    """Three lines and a button: the rest of a session opens."""
    stage = stages(width=390)
    stage.server.can_rename = True
    stage.open()
    expect(stage.rows().nth(1)).to_be_visible()
    heights = stage.rows().evaluate_all("all => all.map(e => e.getBoundingClientRect().height)")
    assert max(heights) <= 120
    row = stage.rows().nth(1)
    expect(row.get_by_text("Expires", exact=False).first).to_be_hidden()
    row.get_by_text("Details").click()
    expect(row.locator("details")).to_contain_text("Expires")


def test_trusted_types(stages: Stages) -> None:
    """The component reads no text as HTML, so the strictest policy lets it be shown."""
    stage = stages().open()
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in POLICY
    expect(stage.rows()).to_have_count(3)


def test_forced_colors(stages: Stages) -> None:
    """Buttons and marks keep an edge where the system takes the colors away."""
    stage = stages().open()
    stage.page.emulate_media(forced_colors="active")
    bare = """e => [...e.shadowRoot.querySelectorAll('button, .tag, .icon')]
        .filter(x => x.checkVisibility() && getComputedStyle(x).borderTopWidth === '0px').length"""
    assert stage.part.evaluate(bare) == 0


def test_ten_thousand(stages: Stages) -> None:
    """Thousands of sessions are counted at once and shown by the page; the focus stays on the button."""
    many = [{**session(number), "device": f"Device {number}"} for number in range(10_000)]
    stage = stages(many).open()
    expect(stage.part).to_contain_text("10,000 active sessions.")
    expect(stage.rows()).to_have_count(50)
    stage.button("Show more").focus()
    stage.page.keyboard.press("Enter")
    expect(stage.rows()).to_have_count(100)
    assert stage.focused() == "Show more"
    assert stage.announced().endswith("Showing 100 of 10,000")
    assert stage.violations() == []
    stage.server.sessions = many[:120]
    stage.page.keyboard.press("Enter")
    expect(stage.rows()).to_have_count(120)
    expect(stage.button("Show more")).to_be_hidden()
    assert stage.rows().nth(100).get_by_role("button").evaluate("e => e.matches(':focus')")


def test_without_a_way_to_sign_in(stages: Stages) -> None:
    """A site that names no sign-in page shows no link that leads nowhere."""
    stage = stages(look=Look(site_name="Acme"))
    signed_out(stage)
    expect(stage.page.get_by_role("heading", name="Please sign in")).to_be_visible()
    expect(stage.page.get_by_role("link", name="Sign in")).to_have_count(0)
