"""What no ASGI application may meet: verbs that silently do nothing, sessions that part from their
cookies, threads left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from litestar import Litestar, get
from litestar import Request as LitestarRequest
from litestar.testing import TestClient as LitestarClient
from starlette.middleware.sessions import SessionMiddleware as StarlettesMiddleware
from tests.adapters import asgi_site
from tests.adapters.asgi_site import VERBS, World, application, current

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.asgi_visit import AsyncVisit, NotAwaited
from sojourn.adapters.desk import Desk
from sojourn.cookie import COOKIE_HEADER_MAX

SITE = asgi_site.__file__


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def browser(world: World) -> Iterator[TestClient]:
    app = application()
    app.add_middleware(SessionMiddleware, desk=world.desk)
    with TestClient(app, base_url="https://app.example", raise_server_exceptions=False) as client:
        yield client


# Threads


def test_def_endpoints_sign_in_and_out(browser: TestClient, world: World) -> None:
    assert browser.post("/thread/login").json() == "ann"
    assert browser.get("/who").json()["user"] == "ann"
    assert browser.post("/thread/call/end").json() == {"kind": "NoneType"}
    assert browser.get("/who").json()["user"] is None
    assert world.users() == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_works_in_a_thread(browser: TestClient, verb: str) -> None:
    browser.post("/login")
    answer = browser.post(f"/thread/call/{verb}")
    assert (answer.status_code, "Verb" in answer.text) == (200, False)


def test_threads_may_also_bridge_write_and_depend(browser: TestClient, world: World) -> None:
    browser.post("/login")
    browser.post("/thread/write")
    assert browser.get("/who").json()["value"] == "from a thread"
    assert browser.get("/thread/depends").json() == "ann"
    assert browser.get("/who").json()["level"] == 3
    assert browser.post("/thread/bridge").status_code == 200
    assert world.users() == 0


# Forgotten


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_that_was_never_awaited_fails_the_request(
    browser: TestClient, verb: str, world: World
) -> None:
    browser.post("/login")
    assert browser.post(f"/forgotten/{verb}").status_code == 500
    assert browser.get("/who").json()["user"] == "ann"


def test_the_failure_names_the_verb(world: World) -> None:
    app = application()
    app.add_middleware(SessionMiddleware, desk=world.desk)
    with TestClient(app) as client, pytest.raises(NotAwaited, match=r"end_others\(\)"):
        client.post("/forgotten/end_others")


def test_a_verb_in_a_task_of_its_own_is_not_forgotten(browser: TestClient, world: World) -> None:
    browser.post("/login")
    assert browser.post("/scheduled").status_code == 200


def test_verbs_that_are_gathered_go_one_after_the_other(browser: TestClient, world: World) -> None:
    """No session is left that nobody holds."""
    browser.post("/login")
    assert browser.post("/gathered").status_code == 200
    assert browser.get("/who").json()["user"] == "bob"
    assert (world.users("ann"), world.users("bob")) == (0, 1)


def test_what_a_background_task_changes_is_reported(
    browser: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    browser.post("/login")
    assert browser.post("/after").json() == "started"
    assert f"session_changed_too_late path=/after place={SITE}:" in caplog.text
    assert browser.post("/after/verb").json() == "started"
    assert "verb_never_awaited verb=end_others path=/after/verb" in caplog.text


def test_what_a_socket_does_not_save_is_reported(
    browser: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    browser.post("/login")
    with browser.websocket_connect("wss://app.example/ws"):
        pass
    assert "session_changed_too_late path=/ws" in caplog.text


# Faults


@pytest.mark.parametrize("verb", ["begin", "elevate", "rotate", "impersonate"])
def test_a_bug_after_a_verb_signs_nobody_out(browser: TestClient, verb: str, world: World) -> None:
    browser.post("/login")
    browser.post("/set/kept")
    before = dict(browser.cookies)
    assert browser.post(f"/boom/{verb}").status_code == 500
    assert dict(browser.cookies) == before
    assert browser.get("/who").json() == {"user": "ann", "level": 1, "value": "kept"}
    assert (world.users(), world.users("bob")) == (1, 0)


def test_a_bug_after_a_visitors_sign_in_keeps_the_basket(browser: TestClient, world: World) -> None:
    browser.post("/set/basket")
    assert browser.post("/boom/begin").status_code == 500
    assert browser.get("/who").json() == {"user": None, "level": 1, "value": "basket"}
    assert world.users() == 0


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize(
    ("verb", "down"),
    [("begin", "begin"), ("elevate", "rotate"), ("end", "end"), ("end_others", "end")],
)
def test_while_the_store_is_down_verbs_are_503(
    browser: TestClient, world: World, verb: str, down: str, accept: str
) -> None:
    browser.post("/login")
    world.down = {down}
    path = "/login" if verb == "begin" else f"/thread/call/{verb}"
    if verb == "elevate":
        path = "/thread/depends"
    method = "GET" if verb == "elevate" else "POST"
    answer = browser.request(method, path, headers={"accept": accept})
    assert answer.status_code == 503
    assert ("Back in a moment" in answer.text) is (accept == "text/html")
    world.down = set()
    assert browser.get("/who").json()["user"] == "ann"


def test_a_page_that_needs_no_session_is_served_while_the_store_is_down(
    browser: TestClient, world: World
) -> None:
    browser.post("/login")
    world.down = {"check"}
    assert browser.get("/plain").json() == "plain"
    for path in ("/who", "/thread/call/others"):
        method = "GET" if path == "/who" else "POST"
        assert browser.request(method, path).status_code == 503
    assert browser.post("/set/x").status_code == 503
    assert "set-cookie" not in browser.get("/plain").headers


def test_paths_that_are_left_out_ask_nothing(world: World) -> None:
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope.get("session", "none"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def never() -> Desk:
        raise AssertionError("the desk was opened")

    middleware = SessionMiddleware(app, desk=world.desk, skip=["/static/", "/healthz"])
    middleware._desk._make = never
    client = TestClient(middleware)
    assert client.get("/static/a.css").status_code == 200
    assert client.get("/healthz").status_code == 200
    assert asked == ["none", "none"]


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_too_many_cookies_are_told(browser: TestClient, accept: str) -> None:
    cookies = "c=" + "x" * COOKIE_HEADER_MAX
    answer = browser.get("/who", headers={"cookie": cookies, "accept": accept})
    assert answer.status_code == 431
    assert ("Too many cookies" in answer.text, "Delete the cookies" in answer.text) == (True, True)
    assert browser.get("/plain", headers={"cookie": cookies}).status_code == 200


# Caches


@pytest.mark.parametrize(
    "ask",
    [
        lambda here: here.user_id,
        lambda here: here.session,
        lambda here: here.gone,
        lambda here: here.impersonator,
        lambda here: here.recent(1),
        lambda here: here.blocking,
        lambda here: len(here.data),
    ],
)
def test_an_answer_that_depends_on_who_asks_says_so(
    world: World, ask: Callable[[AsyncVisit], object]
) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, desk=world.desk)

    @app.get("/")
    async def page(request: Request) -> None:
        ask(current(request))

    with TestClient(app) as client:
        assert client.get("/").headers["vary"] == "Cookie"


# Others' code


@pytest.mark.parametrize("looked", [0, 1])
def test_a_body_that_is_the_first_to_ask_who_is_there_is_reported(
    browser: TestClient, caplog: pytest.LogCaptureFixture, looked: int
) -> None:
    """Once: what says that the answer depends on who asks has left by then."""
    browser.post("/login")
    answer = browser.get(f"/streamed/{looked}")
    assert answer.text == "annann"
    assert (answer.headers.get("vary") == "Cookie") is bool(looked)
    assert caplog.text.count("session_read_too_late path=/streamed/0") == 1 - looked


def test_litestar_sets_and_clears_the_session(world: World) -> None:
    @get("/login")
    async def login(request: LitestarRequest[Any, Any, Any]) -> None:
        await request.state.sojourn.begin("ann")

    @get("/set")
    async def put(request: LitestarRequest[Any, Any, Any]) -> None:
        request.set_session({"user": "ada"})

    @get("/show")
    async def show(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        return {"who": request.state.sojourn.user_id, **request.session}

    @get("/clear")
    async def clear(request: LitestarRequest[Any, Any, Any]) -> None:
        request.clear_session()

    ours: Any = lambda app: SessionMiddleware(app, desk=world.desk)  # noqa: E731 - Litestar types messages
    app = Litestar(
        [login, put, show, clear],
        middleware=[ours],
    )
    with LitestarClient(app, base_url="https://app.example") as client:
        client.get("/set")
        assert client.get("/show").json() == {"who": None, "user": "ada"}
        client.get("/clear")
        assert client.get("/show").json() == {"who": None}
        client.get("/login")
        client.get("/set")
        assert client.get("/show").json() == {"who": "ann", "user": "ada"}
        assert "Max-Age=0" in client.get("/clear").headers["set-cookie"]
        assert client.get("/show").json() == {"who": None}
    assert world.users() == 0


@pytest.mark.parametrize(
    ("value", "kept"),
    [({"a": 1}, {"a": 1}), ({}, {}), (None, None), ([1], "fails"), (object(), "fails")],
)
def test_whatever_takes_the_sessions_place_is_kept_or_fails(
    world: World, value: Any, kept: Any
) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, desk=world.desk)

    @app.post("/begin")
    async def begin(request: Request) -> None:
        request.session["before"] = True

    @app.post("/put")
    async def put(request: Request) -> None:
        request.scope["session"] = value

    @app.get("/show")
    async def show(request: Request) -> Any:
        return dict(request.session) if current(request).session else None

    with TestClient(app, raise_server_exceptions=False) as client:
        client.post("/begin")
        status = client.post("/put").status_code
        shown = client.get("/show").json()
    assert (status, shown) == ((500, {"before": True}) if kept == "fails" else (200, kept))


def test_another_middleware_below_keeps_its_own_session(world: World) -> None:
    app = FastAPI()
    app.add_middleware(StarlettesMiddleware, secret_key="x" * 32)
    app.add_middleware(SessionMiddleware, desk=world.desk)

    @app.post("/login")
    async def login(request: Request) -> None:
        await current(request).begin("ann")

    @app.get("/theirs")
    async def theirs(request: Request) -> str | None:
        request.session["n"] = 1
        return current(request).user_id

    with TestClient(app, base_url="https://app.example") as client:
        client.post("/login")
        assert [client.get("/theirs").json() for _ in range(2)] == ["ann", "ann"]
        assert set(client.cookies) == {"session", "__Host-sojourn"}
