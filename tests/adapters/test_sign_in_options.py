"""What a sign-in may ask for, on each adapter: a token in the place of a cookie, and to be remembered."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import login, update_session_auth_hash
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from flask import Flask, jsonify
from tests.adapters.asgi_site import World, current
from tests.adapters.cases import Answer, wsgi_driver
from tests.adapters.django_project import AUTH, OURS
from tests.adapters.people.models import Everybody

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.flask import Sojourn, visit
from sojourn.service.request_session import Rules
from sojourn.session import Session

CSRF = "django.middleware.csrf.CsrfViewMiddleware"


@pytest.fixture
def world() -> World:
    return World()


def persistent(set_cookie: str) -> bool:
    return "Max-Age" in set_cookie


# ASGI


def site(world: World, **rules: Any) -> TestClient:
    app = FastAPI()

    @app.post("/login")
    async def login(request: Request, cookie: bool = True, remember: bool | None = None) -> Any:
        await current(request).begin("ann", cookie=cookie, remember=remember)
        return {"token": current(request).token}

    @app.post("/{verb}")
    async def verb(request: Request, verb: str, fail: bool = False) -> Any:
        here = current(request)
        await (here.elevate(2) if verb == "elevate" else here.rotate())
        if fail:
            raise RuntimeError("a bug")
        return {"token": here.token}

    @app.get("/who")
    async def who(request: Request) -> Any:
        session = current(request).session
        return {"user": current(request).user_id, "level": session and session.level}

    app.add_middleware(SessionMiddleware, desk=world.make_desk(rules=Rules(**rules)))
    return TestClient(app, raise_server_exceptions=False)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_client_of_an_api_signs_in_without_a_cookie(world: World) -> None:
    client = site(world, header_tokens=True)
    answer = client.post("/login?cookie=false")
    assert "set-cookie" not in answer.headers
    token = answer.json()["token"]
    assert client.get("/who", headers=bearer(token)).json()["user"] == "ann"
    assert client.get("/who").json()["user"] is None


@pytest.mark.parametrize("verb", ["rotate", "elevate"])
def test_a_new_token_is_told_and_counts_once_the_response_leaves(world: World, verb: str) -> None:
    client = site(world, header_tokens=True)
    old = client.post("/login?cookie=false").json()["token"]
    assert client.post(f"/{verb}?fail=true", headers=bearer(old)).status_code == 500
    assert client.get("/who", headers=bearer(old)).json() == {"user": "ann", "level": 1}
    new = client.post(f"/{verb}", headers=bearer(old)).json()["token"]
    assert new != old
    level = 2 if verb == "elevate" else 1
    assert client.get("/who", headers=bearer(new)).json() == {"user": "ann", "level": level}
    if verb == "elevate":  # a rotated token has its grace
        assert client.get("/who", headers=bearer(old)).json()["user"] is None


@pytest.mark.parametrize("by_rule", [True, False])
def test_to_be_remembered_is_a_matter_of_each_sign_in(world: World, by_rule: bool) -> None:
    """And holds for what is given later, until a sign-in says otherwise."""
    rules = Rules()
    cookie = type(rules.cookie)(persistent=by_rule)
    client = site(world, cookie=cookie)
    assert persistent(client.post("/login").headers["set-cookie"]) is by_rule
    for remember in (not by_rule, by_rule):
        answer = client.post(f"/login?remember={str(remember).lower()}")
        assert persistent(answer.headers["set-cookie"]) is remember
        assert persistent(client.post("/rotate").headers["set-cookie"]) is remember
        assert persistent(client.post("/elevate").headers["set-cookie"]) is remember
    client.post(f"/login?remember={str(not by_rule).lower()}")
    assert persistent(client.post("/login").headers["set-cookie"]) is by_rule
    assert persistent(client.post("/rotate").headers["set-cookie"]) is by_rule


def test_what_one_sign_in_asks_for_is_no_other_s(world: World) -> None:
    for remember, persists in (("&remember=false", False), ("", True), ("&remember=true", True)):
        with site(world) as stranger:
            answer = stranger.post(f"/login?cookie=true{remember}")
            assert persistent(answer.headers["set-cookie"]) is persists


# Flask


def test_flask_has_both(world: World) -> None:
    app = Flask(__name__)
    Sojourn(app, desk=world.make_desk(rules=Rules(header_tokens=True)))

    @app.post("/api/login")
    def api_login() -> Any:
        assert isinstance(visit.begin("ann", cookie=False), Session)
        return jsonify(token=visit.token)

    @app.post("/login/<int:remember>")
    def login(remember: int) -> Any:
        visit.begin("ann", remember=bool(remember))
        return jsonify()

    @app.get("/who")
    def who() -> Any:
        return jsonify(user=visit.user_id)

    answer = app.test_client().post("/api/login")
    assert "Set-Cookie" not in answer.headers
    assert answer.json is not None
    client = app.test_client(use_cookies=False)
    assert client.get("/who", headers=bearer(answer.json["token"])).json == {"user": "ann"}
    for remember in (1, 0):
        given = app.test_client().post(f"/login/{remember}").headers["Set-Cookie"]
        assert persistent(given) is bool(remember)


def test_who_is_there_depends_on_the_header_too(world: World) -> None:
    """Where a view asks for nothing else, and nobody is there: a cache must not tell it to others."""
    desk = world.make_desk(rules=Rules(header_tokens=True))
    app = Flask(__name__)
    Sojourn(app, desk=desk)
    app.add_url_rule("/who", "who", lambda: jsonify(visit.user_id))
    assert set(app.test_client().get("/who").vary) == {"Cookie", "Authorization"}
    with override_settings(ROOT_URLCONF=__name__, SOJOURN={"desk": desk}, MIDDLEWARE=[OURS]):
        django = wsgi_driver(WSGIHandler())
        answer = django("GET", "/who", {}, https=False, peer="192.0.2.1")
    assert set(answer.all("vary")[0].split(", ")) == {"Cookie", "Authorization"}


# Django


def who_is_there(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"user": request.sojourn.user_id})


def sign_in(request: HttpRequest) -> JsonResponse:
    login(request, Everybody().get_user("ann"))
    if "key" in request.GET:
        assert request.session.session_key  # begins the session, as receivers of the signal do
    if "brief" in request.GET:
        request.session.set_expiry(0)
    return JsonResponse({"token": request.sojourn.token})


def change_password(request: HttpRequest) -> JsonResponse:
    update_session_auth_hash(request, request.user)
    return JsonResponse({"user": request.user.get_username()})


urlpatterns = [path("who", who_is_there), path("login", sign_in), path("password", change_password)]


def ours(answer: Answer) -> list[str]:
    return [each for each in answer.all("set-cookie") if each.startswith("sojourn=")]


@pytest.fixture
def django(world: World) -> Any:
    desk = world.make_desk(rules=Rules(header_tokens=True))
    with override_settings(
        ROOT_URLCONF=__name__, SOJOURN={"desk": desk}, MIDDLEWARE=[OURS, CSRF, AUTH]
    ):
        yield wsgi_driver(WSGIHandler())


def test_django_takes_a_token_and_asks_for_no_csrf_token_then(django: Any, world: World) -> None:
    options: dict[str, Any] = {"https": False, "peer": "192.0.2.1"}
    token = django("GET", "/login", {}, **options).json["token"]
    answer = django("POST", "/password", bearer(token), **options)
    assert answer.json == {"user": "ann"}
    assert ours(answer) == []
    assert django("POST", "/password", {}, **options).status == 403
    assert django("POST", "/password", {"Authorization": "Basic x"}, **options).status == 403


@pytest.mark.parametrize("query", ["brief", "brief&key"])
def test_djangos_session_that_ends_with_the_browser_does_so_under_a_new_key(
    django: Any, query: str
) -> None:
    """`set_expiry(0)` holds when a change of the password renews the key, whenever it was called."""
    options: dict[str, Any] = {"https": False, "peer": "192.0.2.1"}
    (given,) = ours(django("GET", f"/login?{query}", {}, **options))
    assert not persistent(given)
    cookie = {"Cookie": given.partition(";")[0]}
    (renewed,) = ours(django("GET", "/password", cookie, **options))
    assert not persistent(renewed)
