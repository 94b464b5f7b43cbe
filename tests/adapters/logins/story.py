"""What a person and an attacker live through, whichever login library a site uses.

A site answers, with its library's own means:

    POST /basket            put something into the session of whoever is there
    POST /sign-in?remember= sign in as the site's one user
    GET  /who               {"user": whom the library names, "seen": whom the session names}
    POST /others            sign out everywhere else, by `visit.end_others` or the library's own
    POST /sign-out          sign out
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from tests.adapters.asgi_site import World
from werkzeug.test import Client

SITE = "http://app.example"
PEER = {"REMOTE_ADDR": "192.0.2.7"}
COOKIE = "sojourn"


class Tab(Protocol):
    """A browser with a jar of its own."""

    def get(self, path: str) -> Any:
        """Return the JSON of an answer."""

    def post(self, path: str) -> Any:
        """Do it; fail unless it worked."""

    def cookie(self, name: str = COOKIE) -> str | None:
        """Return a cookie's value."""

    def plant(self, value: str | None, name: str = COOKIE) -> None:
        """Set or, with None, remove a cookie."""

    def lasts(self) -> bool:
        """Tell whether the session's cookie outlives the browser."""


class WsgiTab:
    """A browser before a WSGI application."""

    def __init__(self, app: Any) -> None:
        self._client = Client(app)

    def get(self, path: str) -> Any:
        answer = self._client.get(path, base_url=SITE, environ_overrides=PEER)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return answer.json

    def post(self, path: str, **options: Any) -> Any:
        answer = self._client.post(path, base_url=SITE, environ_overrides=PEER, **options)
        assert answer.status_code < 400, answer.get_data(as_text=True)
        return answer.json if answer.is_json else None

    def cookie(self, name: str = COOKIE) -> str | None:
        found = self._client.get_cookie(name, domain="app.example")
        return None if found is None else found.value

    def lasts(self) -> bool:
        found = self._client.get_cookie(COOKIE, domain="app.example")
        return found is not None and found.max_age is not None

    def plant(self, value: str | None, name: str = COOKIE) -> None:
        if value is None:
            self._client.delete_cookie(name, domain="app.example")
        else:
            self._client.set_cookie(name, value, domain="app.example")


class AsgiTab:
    """A browser before an ASGI application, through Starlette's test client."""

    def __init__(self, app: Any) -> None:
        from starlette.testclient import TestClient  # noqa: PLC0415  # only sites on ASGI have it

        self._client = TestClient(app, base_url=SITE)

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **options: Any) -> Any:
        answer = self._client.post(path, **options)
        assert answer.status_code < 400, answer.text
        return answer.json() if "json" in answer.headers.get("content-type", "") else None

    def cookie(self, name: str = COOKIE) -> str | None:
        return self._client.cookies.get(name)

    def lasts(self) -> bool:
        return any(each.name == COOKIE and each.expires for each in self._client.cookies.jar)

    def plant(self, value: str | None, name: str = COOKIE) -> None:
        if name in self._client.cookies:
            self._client.cookies.delete(name)
        if value is not None:
            self._client.cookies.set(name, value, domain="app.example")


def story(world: World, open_tab: Callable[[], Tab], *, user: str = "ann") -> None:
    """A planted cookie, a sign-in, the list, a sign-out elsewhere, a sign-out."""
    attacker, victim, laptop = open_tab(), open_tab(), open_tab()
    attacker.post("/basket")
    victim.plant(attacker.cookie())
    victim.post("/sign-in")
    assert victim.get("/who") == {"user": user, "seen": user}
    assert attacker.get("/who") == {"user": None, "seen": None}
    assert victim.cookie() != attacker.cookie()
    assert world.users(user) == 1

    laptop.post("/sign-in")
    assert world.users(user) == 2
    laptop.post("/others")
    assert victim.get("/who") == {"user": None, "seen": None}
    assert laptop.get("/who") == {"user": user, "seen": user}
    assert world.users(user) == 1

    replayed = laptop.cookie()
    laptop.post("/sign-out")
    assert laptop.get("/who") == {"user": None, "seen": None}
    laptop.plant(replayed)
    assert laptop.get("/who") == {"user": None, "seen": None}
    assert world.users(user) == 0


def remembered(world: World, tab: Tab, *, user: str = "ann", by: str = "remember_token") -> None:
    """A library's own cookie for remembering signs in again, under a session that is listed."""
    tab.post("/sign-in?remember=1")
    tab.plant(None)
    assert tab.cookie(by)
    assert tab.get("/who")["user"] == user
    assert tab.get("/who") == {"user": user, "seen": user}
    assert world.users(user) == 2  # the browser has lost the first one, which runs out


def kept(tab: Tab, *, user: str = "ann") -> None:
    """Asked to be remembered, the session's own cookie outlives the browser."""
    tab.post("/sign-in?remember=1")
    assert tab.get("/who") == {"user": user, "seen": user}
    assert tab.lasts()
