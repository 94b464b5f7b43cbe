"""Takes the pictures in this folder anew: `make screenshots`. They show the page as it is served, in every
state, with answers made up but for doctor's own, which are of a real server; NAME-WIDTH-THEME.png.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, Route, expect  # noqa: E402 - the repository's root comes first
from tests.browser import test_without_scripts as plain  # noqa: E402 - likewise
from tests.browser.analyzing import STATES as ANALYZING  # noqa: E402 - likewise
from tests.browser.chromium import launched  # noqa: E402 - likewise
from tests.browser.keeping import STATES as KEEPING  # noqa: E402 - likewise
from tests.browser.operators import STATES as CONSOLE  # noqa: E402 - likewise
from tests.browser.operators import Operator, hospital  # noqa: E402 - likewise
from tests.browser.person import Person  # noqa: E402 - likewise
from tests.browser.stage import ORIGIN, Stage  # noqa: E402 - likewise
from tests.browser.test_notices import NOTICES  # noqa: E402 - likewise
from tests.browser.test_states import STATES  # noqa: E402 - likewise
from tests.browser.watching import STATES as WATCHING  # noqa: E402 - likewise
from tests.serving import ADMIN_KEY, served  # noqa: E402 - likewise

from sojourn.people.translation import words_of  # noqa: E402 - likewise
from sojourn.stores.sql import schema  # noqa: E402 - likewise

HERE = Path(__file__).parent
BOTH = (("light", 1280), ("dark", 390))
ALL = (*BOTH, ("dark", 1280), ("light", 390))
PLAIN = ("list", "asking", "said", "one device", "proof needed")
HEIGHT = {1280: 600, 390: 760}
TALL = {1280: 1000, 390: 844}  # of the console's pages


def main() -> None:
    with launched() as browser, hospital() as place:
        for name, reach_console in CONSOLE.items():
            for theme, width in ALL if name == "doctor found" else BOTH:
                operator = Operator(browser, place, theme=theme, width=width)
                operator.page.set_viewport_size({"width": width, "height": TALL[width]})
                reach_console(operator)
                operator.page.evaluate("document.fonts.ready")
                take(operator, name, width, theme)
                place.reset()
        take_watching(browser)
        for name, (reach, shown) in STATES.items():
            for theme, width in ALL if name in {"list", "asking"} else BOTH:
                stage = Stage(browser, theme=theme, width=width)
                stage.page.set_viewport_size({"width": width, "height": HEIGHT[width]})
                reach(stage)
                for line in shown:
                    expect(stage.page.locator("body")).to_match_aria_snapshot(f"- {line}")
                stage.page.evaluate("document.fonts.ready")
                take(stage, name, width, theme)
        for name, ((status, headers, body), *_) in NOTICES.items():
            for theme, width in BOTH:
                stage = Stage(browser, theme=theme, width=width)
                stage.page.set_viewport_size({"width": width, "height": HEIGHT[width]})
                stage.page.route("**/shop", answer(status, dict(headers), body))
                stage.page.goto(f"{ORIGIN}/shop")
                take(stage, f"notice {name}", width, theme)
        take_without_scripts(browser)
        take_languages(browser)
        take_doctor(browser)


def take_languages(browser: Browser) -> None:
    """A list, and a question about it: from right to left, and in one with long words."""
    for language in ("ar", "de"):
        for theme, width in BOTH:
            words = words_of(language)
            stage = Stage(browser, theme=theme, width=width, words=words)
            stage.page.set_viewport_size({"width": width, "height": HEIGHT[width]})
            stage.open()
            expect(stage.rows()).to_have_count(3)
            stage.rows().nth(2).locator("[part~=end]").click()
            stage.page.evaluate("document.fonts.ready")
            take(stage, f"language {language}", width, theme)


def take_doctor(browser: Browser) -> None:
    """Of a real server and all of its checks: well, and with a table and an index gone."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        for name in ("doctor fine", "doctor found"):
            if name == "doctor found":
                with contextlib.closing(sqlite3.connect(server.data / "sojourn.db")) as database:
                    database.execute(f"DROP TABLE {schema.webhooks.name}")
                    database.execute("DROP INDEX sojourn_leases_session")
            with server.admin() as http:
                http.post("/api/doctor/run", timeout=60)
            for theme, width in ALL if name == "doctor found" else BOTH:
                size = {"width": width, "height": TALL[width]}
                context = browser.new_context(
                    base_url=server.url, viewport=size, color_scheme=theme, is_mobile=width < 640
                )
                page = context.new_page()
                page.goto("/console")
                page.get_by_label("API key of an operator").fill(ADMIN_KEY)
                page.get_by_role("button", name="Sign in").click()
                page.wait_for_url("**/console/overview")
                page.goto("/console/doctor")
                page.evaluate("document.fonts.ready")
                page.screenshot(path=HERE / f"{name.replace(' ', '-')}-{width}-{theme}.png")
                context.close()


def take_without_scripts(browser: Browser) -> None:
    """Of a real server."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), environ=plain.ENVIRON) as server,
    ):
        for name in PLAIN:
            for theme, width in BOTH:
                person = Person(browser, server, scripts=False, width=width, theme=theme)
                plain.settle(person, f"{name} {width}")
                reach, _ = plain.STATES[name]
                reach(person)
                person.page.set_viewport_size({"width": width, "height": HEIGHT[width]})
                file = f"without-scripts-{name.replace(' ', '-')}-{width}-{theme}.png"
                person.page.screenshot(path=HERE / file)
                person.context.close()


def answer(status: int, headers: dict[str, str], body: bytes) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status, headers=headers, body=body)


SHOWN = (
    "overview",
    "overview today",
    "overview first",
    "seats",
    "pool",
    "pool asked",
    "person refused",
    "person silent",
    "denials",
    "nodes",
    "pool kept",
    "license",
    "license change",
    "sessions",
    "sweeps",
    "webhooks",
    "webhook",
    "webhook behind",
    "keys",
    "key made",
    "settings",
    "palette",
    "own security",
    "analytics",
    "analytics month",
)
"""Of the pages that watch, those that somebody looks at before a release."""


def take_watching(browser: Browser) -> None:
    reach = WATCHING | ANALYZING | KEEPING
    for name in SHOWN:
        for theme, width in BOTH:
            with hospital() as place:
                operator = Operator(browser, place, theme=theme, width=width)
                operator.page.set_viewport_size({"width": width, "height": TALL[width]})
                reach[name](operator)
                operator.page.evaluate("document.fonts.ready")
                take(operator, name, width, theme)


def take(stage: Stage | Operator, name: str, width: int, theme: str) -> None:
    stage.page.mouse.move(0, HEIGHT[width] - 1)
    path = HERE / f"{name.replace(' ', '-')}-{width}-{theme}.png"
    stage.page.screenshot(path=path)
    stage.close()


if __name__ == "__main__":
    main()
