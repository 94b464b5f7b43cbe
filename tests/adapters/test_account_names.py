"""Devices that people name, in applications of each framework: by calls, and by the page without scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from tests.adapters.django_project import OURS
from tests.api_harness import World, served

from sojourn.adapters.account import Account
from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.desk import Desk
from sojourn.client.sessions import RemoteSessions
from sojourn.clock import ManualClock
from sojourn.cookie import SignedTokens
from sojourn.device import Device
from sojourn.devices import Devices
from sojourn.ledger import Role
from sojourn.service.sessions import SessionService
from sojourn.session import Begin, Begun
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore

CALLS = "/api/user/active-sessions"
PAGE = "/account/security"
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/139.0.0.0 Safari/537.36"
)
CODEC = SignedTokens([b"a secret of the application, long enough"])
Ask = Callable[..., tuple[int, str]]


class Site(NamedTuple):
    """An application where somebody is signed in. `ask`: a request of theirs, and what was answered."""

    ask: Ask
    store: Store
    clock: ManualClock


def desk_on(clock: ManualClock) -> tuple[Desk, MemoryStore]:
    store = MemoryStore(clock)
    devices = Devices(ip_shorten=True)
    service = SessionService(store, complete=devices.complete)
    return Desk(service, CODEC, devices=devices), store


def remote_site(_clock: ManualClock, stack: ExitStack) -> Site:
    """An application whose sessions a Sojourn server keeps."""
    world = World()
    server = stack.enter_context(served(world))
    devices = Devices(ip_shorten=True)
    sessions = RemoteSessions(server.url, world.keys[Role.APP], complete=devices.complete)
    desk = stack.enter_context(closing(Desk(sessions, CODEC, devices=devices)))
    return _asgi_site(desk, world.store, world.clock, stack)


def asgi_site(clock: ManualClock, stack: ExitStack) -> Site:
    desk, store = desk_on(clock)
    return _asgi_site(desk, store, clock, stack)


def _asgi_site(desk: Desk, store: Any, clock: ManualClock, stack: ExitStack) -> Site:
    async def login(request: Request) -> PlainTextResponse:
        await request.state.sojourn.begin("ann")
        return PlainTextResponse("in")

    async def home(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(request.state.sojourn.user_id))

    routes = [Route("/login", login, methods=["POST"]), Route("/", home)]
    app = SessionMiddleware(Starlette(routes=routes), desk=desk, account=Account())
    client = stack.enter_context(TestClient(app, headers={"User-Agent": AGENT}))

    def ask(method: str, address: str, **more: Any) -> tuple[int, str]:
        answer = client.request(method, address, follow_redirects=False, **more)
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

    def ask(method: str, address: str, **more: Any) -> tuple[int, str]:
        environ = {"REMOTE_ADDR": "203.0.113.77"}
        agent = [("User-Agent", more.pop("headers", {}).get("User-Agent", AGENT))]
        answer = client.open(address, method=method, headers=agent, environ_base=environ, **more)
        return answer.status_code, answer.text

    ask("POST", "/login")
    return Site(ask, store, clock)


def home_here(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.sojourn.user_id))


urlpatterns = [
    path("", include("sojourn.adapters.django_urls")),
    path("", home_here),
]


def django_site(clock: ManualClock, stack: ExitStack) -> Site:
    desk, store = desk_on(clock)
    stack.enter_context(
        override_settings(ROOT_URLCONF=__name__, SOJOURN={"desk": desk}, MIDDLEWARE=[OURS])
    )
    client = Client(REMOTE_ADDR="203.0.113.77")
    device = Device(ip="203.0.113.77", user_agent=AGENT)
    data = {"_auth_user_id": "ann"}  # as a sign-in of Django's leaves it
    (begun,) = desk.sessions.begin([Begin(user_id="ann", device=device, data=data)])
    assert isinstance(begun, Begun)
    client.cookies["sojourn"] = desk.codec.encode(begun.token)

    def ask(method: str, address: str, **more: Any) -> tuple[int, str]:
        agent = more.get("headers", {}).get("User-Agent", AGENT)
        body = json.dumps(more["json"]) if "json" in more else urlencode(more.get("data", {}))
        kind = "application/json" if "json" in more else "application/x-www-form-urlencoded"
        answer = client.generic(method, address, body, content_type=kind, HTTP_USER_AGENT=agent)
        return answer.status_code, answer.content.decode()

    return Site(ask, store, clock)


SITES = {"asgi": asgi_site, "flask": flask_site, "django": django_site, "remote": remote_site}


@pytest.fixture(params=SITES.values(), ids=list(SITES))
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with ExitStack() as stack:
        yield request.param(ManualClock(), stack)


def own(site: Site) -> Any:
    (session,) = site.store.of("ann")
    return session


def test_a_call_names_a_device(site: Site) -> None:
    mine = f"{CALLS}/{own(site).id}"
    status, said = site.ask("PATCH", mine, json={"name": "Küche"})
    assert (status, own(site).label) == (200, "Küche"), said
    assert '"name":"Küche"' in site.ask("GET", CALLS)[1]
    assert site.ask("PATCH", mine, json={"name": "x" * 65})[0] == 400
    assert site.ask("PATCH", mine, json={"name": "x" * 9_000})[0] == 413
    assert site.ask("PATCH", f"{CALLS}/ses_none", json={"name": "x"})[0] == 404
    assert own(site).label == "Küche"


def test_the_page_names_a_device(site: Site) -> None:
    session = own(site)
    form = f"{PAGE}?rename={session.id}&at={session.created_at}"
    assert "What do you call Chrome on Windows?" in site.ask("GET", form)[1]
    assert site.ask("POST", form, data={"name": "Büro"})[0] == 303
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


@pytest.mark.parametrize("site", [asgi_site, flask_site, remote_site], indirect=True)
def test_who_signs_in_again_keeps_the_name(site: Site) -> None:
    """In the same browser, as the same person: what is replaced shows that it is. (Django's sign-in of who is
    signed in already goes on under the same session.)"""
    name = f"{CALLS}/{own(site).id}"
    before = own(site).id
    assert site.ask("PATCH", name, json={"name": "Küche"})[0] == 200
    status, said = site.ask("POST", "/login")
    assert status == 200, said
    assert own(site).id != before
    assert own(site).label == "Küche"
    assert '"name":"Küche"' in site.ask("GET", CALLS)[1]
