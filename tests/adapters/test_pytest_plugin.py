"""The pytest plugin, as tests of applications use it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import flask_login
import httpx2
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from flask import Flask, jsonify, session
from tests.adapters.asgi_site import current
from tests.adapters.django_project import AUTH, OURS
from tests.adapters.people.models import Everybody

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.flask import Sojourn, visit
from sojourn.adapters.testing import SignIn, sessions_in_memory
from sojourn.service.sessions import SessionService

SECRET = "ein langes Geheimnis, das sonst niemand kennt 8471"


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """The store that the application's settings name."""
    return tmp_path / "real.db"


@pytest.fixture(autouse=True)
def untouched(real: Path, sojourn_store: SessionService) -> Any:
    yield
    assert not real.exists()
    assert len(sojourn_store.of("ann")) == 1


def fastapi(real: Path) -> FastAPI:
    app = FastAPI()

    @app.get("/who")
    async def who(request: Request) -> Any:
        here = current(request)
        session = here.session
        return [here.user_id, request.session.get("cart"), session and session.level]

    app.add_middleware(SessionMiddleware, f"sqlite:///{real}", secret=SECRET)
    return app


@pytest.mark.parametrize("base_url", ["http://testserver", "https://app.example"])
def test_a_client_of_starlettes(real: Path, signed_in: SignIn, base_url: str) -> None:
    client = TestClient(fastapi(real), base_url=base_url)
    assert client.get("/who").json() == [None, None, None]
    signed_in(client, "ann", data={"cart": [1]}, level=2)
    assert client.get("/who").json() == ["ann", [1], 2]


def test_before_the_first_request(real: Path, signed_in: SignIn) -> None:
    with TestClient(fastapi(real)) as client:
        signed_in(client, "ann")
        assert client.get("/who").json() == ["ann", None, 1]


def test_an_async_client(real: Path, signed_in: SignIn) -> None:
    app = fastapi(real)

    async def scenario() -> Any:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            signed_in(client, "ann")
            return (await client.get("/who")).json()

    assert asyncio.run(scenario()) == ["ann", None, 1]


def test_one_application_in_several_tests(real: Path, signed_in: SignIn) -> None:
    """An application that is made once meets another store in each test, in one event loop, too."""
    app = fastapi(real)
    with TestClient(app) as client:
        signed_in(client, "ann")
        assert client.get("/who").json()[0] == "ann"
        with sessions_in_memory() as another:
            assert client.get("/who").json()[0] is None
            assert another.list() == []
        assert client.get("/who").json()[0] == "ann"


def flask(real: Path) -> Flask:
    app = Flask(__name__)
    app.config.update(SOJOURN_STORE=f"sqlite:///{real}", SOJOURN_SECRET=SECRET)
    Sojourn(app)

    @app.get("/who")
    def who() -> Any:
        return jsonify(visit.user_id, session.get("cart"))

    return app


def test_a_client_of_flasks(real: Path, signed_in: SignIn) -> None:
    client = flask(real).test_client()
    signed_in(client, "ann", data={"cart": [1]})
    assert client.get("/who").json == ["ann", [1]]


@pytest.mark.parametrize("protection", ["basic", "strong"])
def test_a_client_of_flasks_with_flask_login(
    real: Path, signed_in: SignIn, protection: str
) -> None:
    class User(flask_login.UserMixin):  # type: ignore[misc]  # it ships no types
        id = "ann"

    app = flask(real)
    manager = flask_login.LoginManager(app)
    manager.session_protection = protection
    manager.user_loader(lambda _: User())
    app.add_url_rule("/fresh", "fresh", flask_login.fresh_login_required(lambda: visit.user_id))
    client = app.test_client()
    signed_in(client, User())
    assert client.get("/fresh").text == "ann"


def who(request: HttpRequest) -> JsonResponse:
    found = [request.user.get_username() or None, request.session.get("cart")]
    return JsonResponse(found, safe=False)


urlpatterns = [path("who", who)]


def test_a_client_of_djangos(real: Path, signed_in: SignIn) -> None:
    options = {"store": f"sqlite:///{real}"}
    with override_settings(ROOT_URLCONF=__name__, SOJOURN=options, MIDDLEWARE=[OURS, AUTH]):
        WSGIHandler()
        client = Client()
        signed_in(client, Everybody().get_user("ann"), data={"cart": [1]})
        assert client.get("/who", secure=False).json() == ["ann", [1]]


def test_another_kind_of_client_is_refused(signed_in: SignIn, real: Path) -> None:
    with pytest.raises(TypeError, match="no way to sign a object in"):
        signed_in(object(), "ann")
    signed_in(flask(real).test_client(), "ann")
