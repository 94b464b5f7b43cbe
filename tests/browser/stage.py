"""A stage for the page: its own bytes in a real browser, and a server that says what the test wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Route,
    WebSocketRoute,
)

from sojourn.people.pages import (
    ASSETS_PATH,
    SECURITY_PATH,
    Look,
    asset_page,
    security_page,
    signed_out_page,
)
from sojourn.people.translation import ENGLISH, Words

ORIGIN = "http://sojourn.test"
API = "/api/user/active-sessions"
DEADLINE = 20_000  # ms; nothing here takes long, except on a machine that is busy
Theme = Literal["light", "dark"]
Say = Callable[[Route], None]


def session(number: int, device: str = "Chrome on Windows", **more: Any) -> dict[str, Any]:
    """Describe a session as the API does. The higher its number, the older it is."""
    now = datetime.now(UTC)
    return {
        "id": f"ses_{number:05}",
        "device": device,
        "browser": device.split(" on ", maxsplit=1)[0],
        "os": device.rsplit(" on ", maxsplit=1)[-1],
        "kind": "desktop",
        "ipAddress": f"203.0.113.{number % 250}",
        "location": "Amsterdam, Netherlands",
        "createdAt": (now - timedelta(hours=5 * number)).isoformat(),
        "lastUsedAt": (now - timedelta(minutes=7 * number)).isoformat(),
        "expiresAt": (now + timedelta(days=5)).isoformat(),
        "isCurrent": number == 0,
        "seats": 0,
        **more,
    }


def three() -> list[dict[str, Any]]:
    return [
        session(1, "Safari on iPhone", kind="phone", location="Utrecht, Netherlands"),
        session(0),
        session(9, "Sojourn extension in Edge", kind="extension", location=None, seats=1),
    ]


class Server:
    """What the page's server knows and says. Tests change it while the page is open."""

    def __init__(self, sessions: list[dict[str, Any]]) -> None:
        self.sessions = sessions
        self.message: str | None = None
        self.can_rename = False
        self.instead: Say | None = None  # answers in the place of everything below
        self.calls: list[str] = []
        self.sockets: list[WebSocketRoute] = []
        self.held: list[Route] = []
        self.holds = False

    def answer(self, route: Route) -> None:
        request = route.request
        split = urlsplit(request.url)
        self.calls.append(f"{request.method} {split.path.removeprefix(API)}")
        if self.holds:
            self.held.append(route)
        elif self.instead is not None:
            self.instead(route)
        elif request.method == "GET":
            self._list(route, {k: v[0] for k, v in parse_qs(split.query).items()})
        elif request.method == "PATCH":
            self._rename(
                route,
                unquote(split.path.rpartition("/")[2]),
                str((request.post_data_json or {})["name"]),
            )
        elif request.method == "DELETE":
            self._end(route, {unquote(split.path.rpartition("/")[2])})
        else:
            self._end(route, {each["id"] for each in self.sessions if not each["isCurrent"]})

    def _list(self, route: Route, query: dict[str, str]) -> None:
        start, limit = int(query.get("after", 0)), int(query["limit"])
        rows, end = self.sessions[start : start + limit], start + limit
        succeed(
            route,
            data=rows,
            total=len(self.sessions),
            next=str(end) if end < len(self.sessions) else None,
            message=self.message,
            canRename=self.can_rename,
        )

    def _rename(self, route: Route, session_id: str, name: str) -> None:
        (found,) = [each for each in self.sessions if each["id"] == session_id]
        found["name"] = name or None
        succeed(route, data={"id": session_id, "name": found["name"]})

    def _end(self, route: Route, ids: set[str]) -> None:
        gone = [each for each in self.sessions if each["id"] in ids]
        if not gone and route.request.method == "DELETE":
            refuse(route, 404, "session_unknown", "There is no such session.")
            return
        self.sessions = [each for each in self.sessions if each["id"] not in ids]
        seats = sum(each["seats"] for each in gone)
        succeed(route, data={"ended": len(gone), "seats": seats}, message=None)

    def tell(self, **message: Any) -> None:
        """Say something to every page that listens."""
        for socket in self.sockets:
            socket.send(json.dumps(message))


def succeed(route: Route, **body: Any) -> None:
    route.fulfill(json={"success": True, **body})


def refuse(
    route: Route, status: int, code: str, error: str, *, retry_after: int | None = None
) -> None:
    route.fulfill(
        status=status,
        json={"status": status, "code": code, "error": error, "details": "See the log."},
        headers={} if retry_after is None else {"Retry-After": str(retry_after)},
        content_type="application/problem+json",
    )


class Stage:
    """One person's page.

    Attributes:
        said: what the console said, less the failures of requests that a test provokes.
        elsewhere: requests to other hosts, which there must be none of.
    """

    def __init__(
        self,
        browser: Browser,
        sessions: list[dict[str, Any]] | None = None,
        *,
        width: int = 1280,
        theme: Theme = "light",
        look: Look | None = None,
        scale: float = 1,
        clock: bool = False,
        words: Words = ENGLISH,
    ) -> None:
        self.server = Server(three() if sessions is None else sessions)
        self.said: list[str] = []
        self.elsewhere: list[str] = []
        self.signed_in = True
        self._look = look or Look(site_name="Acme", sign_in_url="/sign-in")
        self._words = words
        self.context = browser.new_context(
            viewport={"width": width, "height": 900 if width > 640 else 844},
            color_scheme=theme,
            has_touch=width < 640,
            is_mobile=width < 640,
            device_scale_factor=scale,
            reduced_motion="reduce",
            locale="en-US" if words.language == "en" else words.language,
            timezone_id="Europe/Amsterdam",
        )
        self.context.set_default_timeout(DEADLINE)
        self.context.route("**/*", self._answer)
        self.context.route_web_socket("**/live", self._connect)
        self.page: Page = self.context.new_page()
        if clock:
            self.page.clock.install()
            self.page.clock.pause_at(datetime.now(UTC) + timedelta(seconds=1))
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda fault: self.said.append(str(fault)))

    def open(self, path: str = SECURITY_PATH) -> Stage:
        self.page.goto(ORIGIN + path)
        return self

    def close(self) -> None:
        for route in self.server.held:
            route.abort()
        self.context.close()

    @property
    def part(self) -> Locator:
        """The component."""
        return self.page.locator("sojourn-active-sessions")

    def rows(self) -> Locator:
        return self.part.get_by_role("listitem")

    def button(self, name: str) -> Locator:
        return self.part.get_by_role("button", name=name, exact=True)

    def focused(self) -> str:
        """Name what has the focus, inside the component too."""
        return str(
            self.page.evaluate(
                "() => { let at = document.activeElement; while (at.shadowRoot?.activeElement)"
                " at = at.shadowRoot.activeElement; return at.ariaLabel || at.textContent.trim(); }"
            )
        )

    def announced(self) -> str:
        """Return what screen readers were told last."""
        return " ".join(self.part.get_by_role("log").locator("p").all_text_contents())

    def violations(self) -> list[str]:
        """Ask axe, about everything it knows."""
        found = Axe().run(self.page).response["violations"]
        return [f"{each['id']}: {node['html']}" for each in found for node in each["nodes"]]

    def overflows(self) -> bool:
        return bool(
            self.page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )

    def _answer(self, route: Route) -> None:
        request: Request = route.request
        split = urlsplit(request.url)
        if not request.url.startswith(ORIGIN):
            self.elsewhere.append(request.url)
            route.abort()
        elif split.path.startswith(API):
            self.server.answer(route)
        elif split.path.startswith(ASSETS_PATH):
            self._fulfill(route, asset_page(split.path.removeprefix(ASSETS_PATH)))
        elif split.path == SECURITY_PATH:
            make = security_page if self.signed_in else signed_out_page
            self._fulfill(route, make(self._look, split.path, words=self._words))
        else:
            route.fulfill(body="<!doctype html><title>Elsewhere</title>", content_type="text/html")

    def _fulfill(self, route: Route, page: Any) -> None:
        if page is None:
            route.fulfill(status=404)
        else:
            route.fulfill(status=page.status, headers=dict(page.headers), body=page.body)

    def _connect(self, socket: WebSocketRoute) -> None:
        self.server.sockets.append(socket)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.said.append(message.text)
