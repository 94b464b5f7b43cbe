"""The pages that adapters answer with where nothing else can be shown: 503, and 401."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Stages
from tests.browser.stage import ORIGIN
from tests.browser.test_states import looks_right

from sojourn.errors import StoreBroken, StoreUnavailable, Unauthenticated
from sojourn.people.outage import outage
from sojourn.people.sign_in import sign_in_problem

HTML = "text/html,*/*"
NOTICES = {
    "down": (
        outage(StoreUnavailable("10.0.0.7 refused"), HTML),
        "Back in a moment",
        "We cannot look up your sign-in right now. You are not signed out: please try again in a moment.",
    ),
    "broken": (
        outage(StoreBroken("no such table"), HTML),
        "Back in a moment",
        (
            "We cannot look up your sign-in right now. You are not signed out: the site's operators must "
            "mend it."
        ),
    ),
    "signed out": (
        sign_in_problem(Unauthenticated("You are not signed in.", hint="Sign in first."), HTML),
        "Please sign in",
        "You are not signed in. Sign in first.",
    ),
}
MARKUP = {
    "markup": (
        sign_in_problem(Unauthenticated("You are not <b>signed</b> in."), HTML),
        "Please sign in",
        "You are not <b>signed</b> in.",
    ),
}
"""What an application says is text."""


@pytest.mark.parametrize("name", NOTICES | MARKUP)
def test_notice(name: str, stages: Stages) -> None:
    """It says what it should, in its own style, which its policy lets through."""
    (status, headers, body), title, words = (NOTICES | MARKUP)[name]
    stage = stages()
    stage.page.route(
        "**/shop",
        lambda route: route.fulfill(status=status, headers=dict(headers), body=body),
    )
    stage.page.goto(f"{ORIGIN}/shop")
    expect(stage.page.get_by_role("heading", name=title)).to_be_visible()
    expect(stage.page.get_by_role("main")).to_contain_text(words)
    expect(stage.page.get_by_role("link", name="Try again")).to_have_count(int(status == 503))
    looks_right(stage)
    expect(stage.page.get_by_role("main")).to_have_css("background-color", "rgb(23, 28, 35)")
