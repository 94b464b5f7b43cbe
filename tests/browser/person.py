"""Somebody with a browser, before a real server."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser, BrowserContext, Page
from tests.browser.chromium import axe_looks
from tests.browser.stage import Theme
from tests.serving import SECRET, Served

from sojourn.cookie import SignedTokens

PAGE = "/account/security"
HTML = "text/html; charset=utf-8"
WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
THEMES: tuple[Theme, ...] = ("light", "dark")
CALM: dict[tuple[int, str], list[str]] = {
    (width, theme): [] for width in (1280, 390) for theme in THEMES
}
"""What `looks` finds where nothing is wrong."""
PHONE = {"name": "Safari on iPhone", "browser": "Safari", "os": "iOS", "kind": "phone"}
LAPTOP = {"name": "Chrome on Windows", "browser": "Chrome", "os": "Windows", "kind": "desktop"}


class Person:
    """Somebody with a browser of their own, whose scripts may be off."""

    def __init__(
        self,
        browser: Browser,
        server: Served,
        *,
        scripts: bool = True,
        width: int = 1280,
        theme: Theme = "light",
    ) -> None:
        self.server = server
        self.browser = browser
        self.context: BrowserContext = browser.new_context(
            base_url=server.url,
            locale="en-US",
            java_script_enabled=scripts,
            color_scheme=theme,
            reduced_motion="reduce",
            viewport={"width": width, "height": 900 if width > 640 else 844},
            has_touch=width < 640,
            is_mobile=width < 640,
        )
        self.page: Page = self.context.new_page()
        self.user = ""
        self.said: list[str] = []
        self.page.on("console", lambda m: self.said.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda fault: self.said.append(str(fault)))
        self.part = self.page.locator("sojourn-active-sessions")

    def sign_in(self, user: str, device: dict[str, Any]) -> str:
        """Sign in as an application does it; return the session's id."""
        self.user = user
        with self.server.admin() as http:
            begun = http.post("/api/sessions", json={"userId": user, "device": device})
        assert begun.status_code == 201, begun.text
        data = begun.json()["data"]
        value = SignedTokens([SECRET.encode()]).encode(data["token"])
        self.context.add_cookies([{"name": "sojourn", "value": value, "url": self.server.url}])
        return str(data["session"]["id"])

    def again(self, **how: Any) -> Person:
        """The same person, with the same cookies, in another browser."""
        other = Person(self.browser, self.server, **how)
        other.context.add_cookies(self.context.cookies())  # type: ignore[arg-type]  # what it gives, it takes
        return other

    def open(self) -> None:
        """Open the page, and wait until it listens."""
        with self.page.expect_websocket() as found:
            self.page.goto(PAGE)
        if not found.value.is_closed():
            found.value.wait_for_event("framereceived")

    def looks(self) -> dict[tuple[int, str], list[str]]:
        """Ask axe about everything it knows, and what sticks out, in every look (see `axe_looks`).

        Axe is a script itself: it is asked about a copy of the page, whose own scripts are not loaded."""
        page = self._copy()
        found = {}
        for width in (1280, 390):
            for theme in THEMES:
                page.set_viewport_size({"width": width, "height": 844})
                page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                asked = (width, str(theme)) in axe_looks()
                violations = Axe().run(page).response["violations"] if asked else []
                said = [
                    f"{each['id']}: {node['html']}" for each in violations for node in each["nodes"]
                ]
                found[width, str(theme)] = [*said, *["overflows"] * bool(page.evaluate(WIDE))]
        page.context.close()
        return found

    def _copy(self) -> Page:
        page = self.browser.new_context().new_page()
        page.route("**/*.js", lambda route: route.abort())
        html = self.page.content()
        page.route(self.page.url, lambda route: route.fulfill(body=html, content_type=HTML))
        page.goto(self.page.url)
        return page
