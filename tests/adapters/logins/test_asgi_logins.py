"""Login libraries for Starlette and FastAPI on our sessions, and Authlib's for both Flask and Starlette."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx2
import pytest
import starlette_login.utils
from authlib.integrations.flask_client import OAuth as FlaskOAuth
from authlib.integrations.starlette_client import OAuth as StarletteOAuth
from fastapi import Depends, FastAPI, Request
from fastapi_users import BaseUserManager, FastAPIUsers, UUIDIDMixin
from flask import Flask, jsonify, session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette_login.backends import SessionAuthBackend
from starlette_login.login_manager import Config, LoginManager, ProtectionLevel
from starlette_login.middleware import AuthenticationMiddleware
from tests.adapters.asgi_site import World, current
from tests.adapters.logins.story import AsgiTab, WsgiTab, kept, story

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.fastapi_users import session_backend
from sojourn.adapters.flask import Sojourn, visit
from sojourn.service.request_session import Rules

SECRET = "a secret of the login library's own, long enough"


@pytest.fixture
def world() -> World:
    return World()


# Starlette-Login


class Person(starlette_login.mixins.UserMixin):  # type: ignore[misc]  # it ships no types
    identity = "ann"
    display_name = "Ann"
    is_authenticated = True


def with_starlette_login(world: World, protection: ProtectionLevel) -> Starlette:
    async def basket(request: StarletteRequest) -> JSONResponse:
        request.session["basket"] = ["pen"]
        return JSONResponse({})

    async def sign_in(request: StarletteRequest) -> JSONResponse:
        await starlette_login.utils.login_user(
            request, Person(), remember="remember" in request.query_params
        )
        return JSONResponse({})

    async def who(request: StarletteRequest) -> JSONResponse:
        user = request.user.identity if request.user.is_authenticated else None
        return JSONResponse({"user": user, "seen": request.state.sojourn.user_id})

    async def others(request: StarletteRequest) -> JSONResponse:
        await request.state.sojourn.end_others()
        return JSONResponse({})

    async def sign_out(request: StarletteRequest) -> JSONResponse:
        await starlette_login.utils.logout_user(request)
        return JSONResponse({})

    manager = LoginManager("who", SECRET, Config(protection_level=protection))
    manager.set_user_loader(lambda _request, _id: Person())
    desk = world.make_desk(rules=Rules(user_key=manager.config.SESSION_NAME_KEY))
    app = Starlette(
        routes=[
            Route("/basket", basket, methods=["POST"]),
            Route("/sign-in", sign_in, methods=["POST"]),
            Route("/who", who),
            Route("/others", others, methods=["POST"]),
            Route("/sign-out", sign_out, methods=["POST"]),
        ],
        middleware=[
            Middleware(SessionMiddleware, desk=desk),
            Middleware(
                AuthenticationMiddleware,
                backend=SessionAuthBackend(manager),
                login_manager=manager,
            ),
        ],
    )
    app.state.login_manager = manager
    return app


@pytest.mark.parametrize("protection", list(ProtectionLevel))
def test_starlette_login(world: World, protection: ProtectionLevel) -> None:
    app = with_starlette_login(world, protection)
    story(world, lambda: AsgiTab(app))
    if (
        protection is ProtectionLevel.Basic
    ):  # the strong one forgets what a session is not there for
        tab = AsgiTab(app)
        tab.post("/sign-in?remember=1")
        tab.get("/who")  # it gives its cookie with the answer after
        tab.plant(None)
        assert tab.get("/who")["user"] == "ann"


# fastapi-users


class Account:
    id = UUID(int=7)
    email = "ann@example.com"
    hashed_password = ""
    is_active = True
    is_superuser = False
    is_verified = True


class Accounts:
    """fastapi-users' database of one user."""

    def __init__(self) -> None:
        self.account: Account | None = Account()

    async def get(self, id: UUID) -> Account | None:
        return self.account if self.account is not None and id == self.account.id else None

    async def get_by_email(self, email: str) -> Account | None:
        return self.account if self.account is not None and email == self.account.email else None


class Manager(UUIDIDMixin, BaseUserManager[Account, UUID]):
    reset_password_token_secret = verification_token_secret = SECRET


def with_fastapi_users(world: World, accounts: Accounts, **rules: Any) -> FastAPI:
    def get_manager() -> Manager:
        return Manager(accounts)  # type: ignore[arg-type]  # what it needs of a database

    backend = session_backend()
    users: FastAPIUsers[Account, UUID] = FastAPIUsers(get_manager, [backend])
    app = FastAPI()
    app.include_router(users.get_auth_router(backend), prefix="/auth")

    @app.post("/basket")
    async def basket(request: Request) -> None:
        request.session["basket"] = ["pen"]

    somebody = Depends(users.current_user(optional=True))
    signed_in = Depends(users.current_user())

    @app.get("/who")
    async def who(request: Request, user: Any = somebody) -> Any:
        return {"user": user and str(user.id), "seen": current(request).user_id}

    @app.get("/mine")
    async def mine(user: Any = signed_in) -> Any:
        return user.email

    @app.post("/others")
    async def others(request: Request) -> None:
        await current(request).end_others()

    app.add_middleware(SessionMiddleware, desk=world.make_desk(rules=Rules(**rules)))
    return app


class FormTab(AsgiTab):
    """Signs in and out by fastapi-users' own routes."""

    def post(self, path: str, **options: Any) -> Any:
        if path.startswith("/sign-in"):
            form = {"username": "ann@example.com", "password": "a password"}
            return super().post("/auth/login", data=form)
        return super().post("/auth/logout" if path == "/sign-out" else path, **options)


@pytest.fixture
def accounts() -> Accounts:
    made = Accounts()
    assert made.account is not None
    made.account.hashed_password = Manager(None).password_helper.hash("a password")  # type: ignore[arg-type]  # it asks for nobody
    return made


def test_fastapi_users(world: World, accounts: Accounts) -> None:
    app = with_fastapi_users(world, accounts)
    ann = str(UUID(int=7))
    story(world, lambda: FormTab(app), user=ann)
    kept(FormTab(app), user=ann)


def test_fastapi_users_says_so_in_openapi_and_refuses_strangers(
    world: World, accounts: Accounts
) -> None:
    app = with_fastapi_users(world, accounts)
    operation = app.openapi()["paths"]["/mine"]["get"]
    assert operation["security"] == [{"SojournSession": []}]
    assert "401" in operation["responses"]
    tab = FormTab(app)
    with pytest.raises(AssertionError, match="Unauthorized"):
        tab.get("/mine")
    tab.post("/sign-in")
    assert tab.get("/mine") == "ann@example.com"
    accounts.account = None  # the user is deleted; the session is still there
    assert tab.get("/who") == {"user": None, "seen": str(UUID(int=7))}


def test_fastapi_users_is_told_of_the_limit(world: World, accounts: Accounts) -> None:
    app = with_fastapi_users(world, accounts, limit=1, at_limit="deny")
    FormTab(app).post("/sign-in")
    with pytest.raises(AssertionError, match="too_many_sessions"):
        FormTab(app).post("/sign-in")


# Authlib: what it keeps between its two steps, and the sign-in that follows


PROVIDER = "https://id.example"
OPTIONS: dict[str, Any] = {
    "client_id": "us",
    "client_secret": "x",
    "authorize_url": f"{PROVIDER}/authorize",
    "access_token_url": f"{PROVIDER}/token",
    "api_base_url": PROVIDER,
}


def answer(request: httpx2.Request) -> httpx2.Response:
    """Play the provider, to which everybody is Ann."""
    if request.url.path == "/token":
        assert dict(parse_qsl(request.content.decode()))["code"] == "a code"
        return httpx2.Response(200, json={"access_token": "x", "token_type": "bearer"})
    return httpx2.Response(200, json={"sub": "ann"})


def with_authlib_for_starlette(world: World) -> FastAPI:
    oauth = StarletteOAuth()
    client = oauth.register(
        "id", **OPTIONS, client_kwargs={"transport": httpx2.MockTransport(answer)}
    )
    app = FastAPI()

    @app.post("/basket")
    async def basket(request: Request) -> None:
        request.session["basket"] = ["pen"]

    @app.post("/start")
    async def start(request: Request) -> Any:
        there = await client.authorize_redirect(request, "http://app.example/back")
        return {"to": there.headers["location"]}

    @app.get("/back")
    async def back(request: Request) -> None:
        token = await client.authorize_access_token(request)
        who = (await client.get("/me", token=token)).json()["sub"]
        await current(request).begin(who)

    @app.get("/who")
    async def who(request: Request) -> Any:
        return {"user": current(request).user_id, "seen": current(request).user_id}

    @app.post("/{verb}")
    async def verb(request: Request, verb: str) -> None:
        here = current(request)
        await (here.end_others() if verb == "others" else here.end())

    app.add_middleware(SessionMiddleware, desk=world.desk)
    return app


def with_authlib_for_flask(world: World, monkeypatch: pytest.MonkeyPatch) -> Flask:
    app = Flask(__name__)
    Sojourn(app, desk=world.desk)
    oauth = FlaskOAuth(app)
    client = oauth.register("id", **OPTIONS)
    monkeypatch.setattr(client, "fetch_access_token", lambda **_: {"access_token": "x"})

    @app.post("/basket")
    def basket() -> Any:
        session["basket"] = ["pen"]
        return jsonify()

    @app.post("/start")
    def start() -> Any:
        return jsonify(to=client.authorize_redirect("http://app.example/back").headers["location"])

    @app.get("/back")
    def back() -> Any:
        client.authorize_access_token()
        visit.begin("ann")
        return jsonify()

    @app.get("/who")
    def who() -> Any:
        return jsonify(user=visit.user_id, seen=visit.user_id)

    @app.post("/<verb>")
    def verb(verb: str) -> Any:
        if verb == "others":
            visit.end_others()
        else:
            visit.end()
        return jsonify()

    return app


def back_from(there: str) -> str:
    """Return where the provider sends a browser."""
    state = dict(parse_qsl(urlsplit(there).query))["state"]
    return f"/back?code=a%20code&state={state}"


class DancingTab(AsgiTab):
    def post(self, path: str, **options: Any) -> Any:
        if path.startswith("/sign-in"):
            return self.get(back_from(super().post("/start")["to"]))
        return super().post(path, **options)


class DancingWsgiTab(WsgiTab):
    def post(self, path: str, **options: Any) -> Any:
        if path.startswith("/sign-in"):
            return self.get(back_from(super().post("/start")["to"]))
        return super().post(path, **options)


def test_authlib_for_starlette(world: World) -> None:
    app = with_authlib_for_starlette(world)
    story(world, lambda: DancingTab(app))
    kept(DancingTab(app))


def test_authlib_for_flask(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app = with_authlib_for_flask(world, monkeypatch)
    story(world, lambda: DancingWsgiTab(app))
    kept(DancingWsgiTab(app))


def test_authlibs_state_is_of_one_browser(world: World) -> None:
    """An attacker's answer from the provider signs nobody else in."""
    app = with_authlib_for_starlette(world)
    attacker, victim = AsgiTab(app), AsgiTab(app)
    there = attacker.post("/start")["to"]
    with pytest.raises(Exception, match="mismatching_state"):
        victim.get(back_from(there))
    attacker.get(back_from(there))
    assert victim.get("/who")["user"] is None
