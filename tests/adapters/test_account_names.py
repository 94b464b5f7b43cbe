"""Devices that people name, in applications of each framework: by calls, and by the page without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from sojourn.adapters.account import Account
from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.desk import Desk
from sojourn.clock import ManualClock
from sojourn.cookie import SignedTokens
from sojourn.devices import Devices
from sojourn.service.sessions import SessionService
from sojourn.stores.memory import MemoryStore

CALLS = "/api/user/active-sessions"
PAGE = "/account/security"
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/139.0.0.0 Safari/537.36"
)
Ask = Callable[..., tuple[int, str]]


class Site(NamedTuple):
    """An application where somebody is signed in. `ask`: a request of theirs, and what was answered."""

    ask: Ask
    store: MemoryStore
    clock: ManualClock


def desk_on(clock: ManualClock) -> tuple[Desk, MemoryStore]:
    store = MemoryStore(clock)
    devices = Devices(ip_shorten=True)
    service = SessionService(store, complete=devices.complete)
    codec = SignedTokens([b"a secret of the application, long enough"])
    return Desk(service, codec, devices=devices), store


def asgi_site(clock: ManualClock, stack: ExitStack) -> Site:
    desk, store = desk_on(clock)

    async def login(request: Request) -> PlainTextResponse:
        await request.state.sojourn.begin("ann")
        return PlainTextResponse("in")

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.state.sojourn.user_id))

    routes = [Route("/login", login, methods=["POST"]), Route("/", home)]
    app = SessionMiddleware(Starlette(routes=routes), desk=desk, account=Account())
    client = stack.enter_context(TestClient(app, headers={"User-Agent": AGENT}))

    def ask(method: str, path: str, **more: Any) -> tuple[int, str]:
        answer = client.request(method, path, follow_redirects=False, **more)
        return answer.status_code, answer.text

    ask("POST", "/login")
    return Site(ask, store, clock)


def flask_site(clock: ManualClock, _stack: ExitStack) -> Site:
    from flask import Flask  # noqa: PLC0415 - of this framework alone

    from sojourn.adapters.flask import Sojourn, visit  # noqa: PLC0415 - as above

    desk, store = desk_on(clock)
    app = Flask(__name__)
    Sojourn(app, desk=desk, account=Account())

    @app.post("/login")
    def login() -> str:
        visit.begin("ann")
        return "in"

    @app.get("/")
    def home() -> str:
        return str(visit.user_id)

    client = app.test_client()

    def ask(method: str, path: str, **more: Any) -> tuple[int, str]:
        environ = {"REMOTE_ADDR": "203.0.113.77"}
        agent = [("User-Agent", more.pop("headers", {}).get("User-Agent", AGENT))]
        answer = client.open(path, method=method, headers=agent, environ_base=environ, **more)
        return answer.status_code, answer.text

    ask("POST", "/login")
    return Site(ask, store, clock)


@pytest.fixture(params=[asgi_site, flask_site], ids=["asgi", "flask"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        yield request.param(ManualClock(), stack)


def own(site: Site) -> Any:
    (session,) = site.store.of("ann")
    return session


def test_a_call_names_a_device(site: Site) -> None:
    path = f"{CALLS}/{own(site).id}"
    status, said = site.ask("PATCH", path, json={"name": "Küche"})
    assert (status, own(site).label) == (200, "Küche"), said
    assert '"name":"Küche"' in site.ask("GET", CALLS)[1]
    assert site.ask("PATCH", path, json={"name": "x" * 65})[0] == 400
    assert site.ask("PATCH", path, json={"name": "x" * 9_000})[0] == 413
    assert site.ask("PATCH", f"{CALLS}/ses_none", json={"name": "x"})[0] == 404
    assert own(site).label == "Küche"


def test_the_page_names_a_device(site: Site) -> None:
    session = own(site)
    path = f"{PAGE}?rename={session.id}&at={session.created_at}"
    assert "What do you call Chrome on Windows?" in site.ask("GET", path)[1]
    assert site.ask("POST", path, data={"name": "Büro"})[0] == 303
    assert own(site).label == "Büro"
    assert "<bdi>Büro</bdi>" in site.ask("GET", PAGE)[1]


def test_each_use_is_noted_with_what_it_came_from(site: Site) -> None:
    """In the same statement, no more of an address than the settings allow, and only what has changed."""
    site.clock.advance(seconds=61)
    site.ask("GET", "/")
    assert own(site).last_device is None
    assert own(site).last_used_at == site.clock.now()
    site.clock.advance(seconds=61)
    phone = (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/18.5 Mobile/15E148 Safari/604.1"
    )
    site.ask("GET", "/", headers={"User-Agent": phone})
    last = own(site).last_device
    assert (last.name, last.user_agent) == ("Safari on iPhone", phone)
    assert last.ip in (None, "203.0.113.0")
    assert own(site).device.name == "Chrome on Windows"
