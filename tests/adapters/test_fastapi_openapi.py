"""What an application's OpenAPI says of endpoints for the signed-in."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from tests.adapters.asgi_site import World

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.fastapi import (
    CurrentSession,
    SignedIn,
    install,
    require_recent_sign_in,
    session_cookie,
)
from sojourn.cookie import CookieOptions
from sojourn.service.request_session import Rules


@pytest.fixture
def world() -> World:
    return World()


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/mine")
    async def mine(session: SignedIn) -> str | None:
        return session.user_id

    @app.get("/blocking")
    def blocking(session: SignedIn) -> str | None:
        return session.user_id

    @app.post("/danger", dependencies=[require_recent_sign_in(minutes=5)], responses={401: {}})
    async def danger() -> None: ...

    @app.get("/public")
    async def public(session: CurrentSession) -> str | None:
        return session.user_id

    @app.post("/login")
    async def login(session: CurrentSession) -> None:
        await session.begin("ann")

    @app.websocket("/ws")
    async def ws(socket: WebSocket, session: SignedIn) -> None:
        await socket.accept()
        await socket.send_text(str(session.user_id))

    return app


def test_the_signed_in_need_a_cookie_and_may_get_a_401(world: World) -> None:
    app = application()
    app.add_middleware(SessionMiddleware, desk=world.desk)
    said: dict[str, Any] = app.openapi()
    (scheme,) = said["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "cookie", "__Host-sojourn")
    (name,) = said["components"]["securitySchemes"]
    for path, method in (("/mine", "get"), ("/blocking", "get"), ("/danger", "post")):
        operation = said["paths"][path][method]
        assert operation["security"] == [{name: []}]
        assert "401" in operation["responses"]
    assert "problem+json" in str(said["paths"]["/mine"]["get"]["responses"]["401"])
    assert "problem+json" not in str(said["paths"]["/danger"]["post"]["responses"]["401"])
    public = said["paths"]["/public"]["get"]
    assert "security" not in public
    assert "401" not in public["responses"]


def test_the_endpoints_work_sockets_included(world: World) -> None:
    app = application()
    app.add_middleware(SessionMiddleware, desk=world.desk)
    with TestClient(app, base_url="https://app.example") as client:
        assert [client.get(path).status_code for path in ("/mine", "/blocking")] == [401, 401]
        client.post("/login")
        assert [client.get(path).json() for path in ("/mine", "/blocking")] == ["ann", "ann"]
        with client.websocket_connect("wss://app.example/ws") as socket:
            assert socket.receive_text() == "ann"


def test_install_names_the_cookie(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_cookie.model, "name", "as it was")
    install(FastAPI(), rules=Rules(cookie=CookieOptions(name="sid", path="/app")))
    assert session_cookie.model.name == "sid"
