"""The ASGI middleware: what it promises every application."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.desk import Desk
from sojourn.clock import ManualClock
from sojourn.cookie import SignedTokens
from sojourn.device import NO_DEVICES, Device
from sojourn.errors import StoreUnavailable
from sojourn.service.request_session import Rules
from sojourn.service.sessions import SessionService
from sojourn.session import AtLimit, GoneReason, TooMany
from sojourn.stores.memory import MemoryStore
from sojourn.token import TokenKind, new_token

SECRET = b"a secret of thirty-two bytes or more"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "fastapi_app.py"


class Watched(SessionService):
    """Counts what is asked, and fails when told to."""

    def __init__(self, clock: ManualClock) -> None:
        self.store = MemoryStore(clock)
        super().__init__(self.store)
        self.calls: list[str] = []
        self.fail: str | None = None

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in ("check", "begin", "save", "rotate", "end"):
            self.calls.append(name)
            if self.fail == name:

                def down(_: Any) -> Any:
                    raise StoreUnavailable("down")

                return down
        return found


class LateVerbs(dict[str, Callable[..., Any]]):
    """Looks a verb up when it is called, so that `Watched` sees every call."""

    def __init__(self, watched: Watched) -> None:
        def late(name: str) -> Callable[..., Any]:
            def call(requests: Any) -> Any:
                return getattr(watched, name)(requests)

            return call

        super().__init__({n: late(n) for n in ("end", "begin", "rotate", "save", "check")})
        self["of"] = lambda users: [watched.of(user) for user in users]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def watched(clock: ManualClock) -> Watched:
    return Watched(clock)


def desk_of(watched: Watched, **options: Any) -> Desk:
    desk = Desk(watched, SignedTokens([SECRET]), **options)
    desk.verbs = LateVerbs(watched)
    watched.calls.clear()
    return desk


def application() -> FastAPI:  # many small routes
    app = FastAPI()

    @app.post("/login/{user}")
    async def login(request: Request, user: str) -> dict[str, Any]:
        answer = await request.state.sojourn.begin(user)
        if isinstance(answer, TooMany):
            return {"tooMany": len(answer.sessions)}
        return {"id": answer.id}

    @app.post("/set/{key}/{value}")
    async def put(request: Request, key: str, value: str) -> None:
        request.session[key] = value

    @app.get("/get")
    async def get(request: Request) -> dict[str, Any]:
        return dict(request.session)

    @app.get("/idle")
    async def idle() -> None: ...

    @app.get("/gone")
    async def gone(request: Request) -> dict[str, Any]:
        gone = request.state.sojourn.gone
        return {"reason": gone and gone.reason}

    @app.post("/logout")
    async def logout(request: Request) -> None:
        await request.state.sojourn.end()

    @app.post("/boom")
    async def boom(request: Request) -> None:
        request.session["boom"] = True
        raise RuntimeError("boom")

    @app.post("/nonsense")
    async def nonsense(request: Request) -> None:
        request.session["when"] = object()

    @app.post("/impersonate/{user}")
    async def impersonate(request: Request, user: str) -> dict[str, Any]:
        await request.state.sojourn.impersonate(user)
        return {"as": request.state.sojourn.user_id, "really": request.state.sojourn.impersonator}

    @app.post("/back")
    async def back(request: Request) -> dict[str, Any]:
        await request.state.sojourn.stop_impersonating()
        return {"as": request.state.sojourn.user_id, "really": request.state.sojourn.impersonator}

    @app.post("/late")
    async def late(request: Request) -> StreamingResponse:
        async def body() -> Any:
            yield b"first"
            request.session["late"] = True
            yield b"second"

        return StreamingResponse(body())

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        socket.session["talked"] = await socket.receive_text()
        await socket.state.sojourn.save()
        await socket.send_text("saved")

    return app


@pytest.fixture
def serve(watched: Watched) -> Iterator[Callable[..., TestClient]]:
    """Start the application; give a browser on it."""
    clients: list[TestClient] = []

    def start(base: str = "https://app.example", **options: Any) -> TestClient:
        app = application()
        app.add_middleware(SessionMiddleware, desk=desk_of(watched, **options))
        client = TestClient(app, base_url=base, raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def browser(serve: Callable[..., TestClient]) -> TestClient:
    return serve()


def test_a_visit_without_a_session_asks_nothing(browser: TestClient, watched: Watched) -> None:
    answer = browser.get("/get")
    assert answer.json() == {}
    assert "set-cookie" not in answer.headers
    assert watched.calls == []


def test_data_lasts(browser: TestClient, watched: Watched) -> None:
    first = browser.post("/set/a/1")
    assert first.headers["set-cookie"].startswith("__Host-sojourn=sjs_")
    assert "secure" in first.headers["set-cookie"].lower()
    assert first.headers["vary"] == "Cookie"
    assert 'no-cache="Set-Cookie"' in first.headers["cache-control"]
    second = browser.post("/set/b/2")
    assert "set-cookie" not in second.headers
    assert browser.get("/get").json() == {"a": "1", "b": "2"}
    assert watched.calls == ["begin", "check", "save", "check"]


def test_a_read_writes_nothing(browser: TestClient, watched: Watched) -> None:
    browser.post("/set/a/1")
    watched.calls.clear()
    read, idle = browser.get("/get"), browser.get("/idle")
    assert watched.calls == ["check", "check"]
    assert "set-cookie" not in read.headers
    assert (read.headers["vary"], idle.headers.get("vary")) == ("Cookie", None)


def test_signing_in_gives_a_new_token_and_keeps_the_data(browser: TestClient) -> None:
    browser.post("/set/basket/full")
    before = browser.cookies["__Host-sojourn"]
    browser.post("/login/ann")
    assert browser.cookies["__Host-sojourn"] != before
    assert browser.get("/get").json() == {"basket": "full"}
    browser.cookies.clear()
    browser.cookies["__Host-sojourn"] = before
    assert browser.get("/get").json() == {}  # fixation: the token from before opens nothing
    assert browser.get("/gone").json() == {"reason": GoneReason.ENDED}


def test_another_user_does_not_inherit(browser: TestClient) -> None:
    browser.post("/login/ann")
    browser.post("/set/private/yes")
    browser.post("/login/bob")
    assert browser.get("/get").json() == {}


def test_replay_after_sign_out(browser: TestClient) -> None:
    browser.post("/login/ann")
    cookie = browser.cookies["__Host-sojourn"]
    out = browser.post("/logout")
    assert "Max-Age=0" in out.headers["set-cookie"]
    browser.cookies["__Host-sojourn"] = cookie
    assert browser.get("/gone").json() == {"reason": GoneReason.ENDED}


def test_forged_cookies_never_reach_the_store(browser: TestClient, watched: Watched) -> None:
    stolen = SignedTokens([b"another secret of thirty-two bytes!!"]).encode(
        new_token(TokenKind.SESSION)
    )
    for value in (stolen, "x", "sjs_", "." * 100, "x" * 60_000):
        browser.cookies.clear()
        assert browser.get("/get", headers={"cookie": f"__Host-sojourn={value}"}).json() == {}
    assert watched.calls == []


def test_faults_save_nothing(browser: TestClient) -> None:
    browser.post("/set/a/1")
    assert browser.post("/boom").status_code == 500
    assert browser.get("/get").json() == {"a": "1"}


def test_what_json_cannot_hold_is_a_fault(browser: TestClient) -> None:
    browser.post("/set/a/1")
    assert browser.post("/nonsense").status_code == 500
    assert browser.get("/get").json() == {"a": "1"}


@pytest.mark.parametrize("verb", ["check", "save"])
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_a_store_that_is_down_signs_nobody_out(
    browser: TestClient, watched: Watched, verb: str, accept: str
) -> None:
    browser.post("/set/a/1")
    watched.fail = verb
    answer = browser.post("/set/b/2", headers={"accept": accept})
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "set-cookie" not in answer.headers
    assert ("<h1>" in answer.text) is (accept == "text/html")
    watched.fail = None
    assert browser.get("/get").json() == {"a": "1"}


def test_plain_http_has_a_plain_cookie(serve: Callable[..., TestClient]) -> None:
    browser = serve("http://localhost")
    cookie = browser.post("/set/a/1").headers["set-cookie"]
    assert cookie.startswith("sojourn=")
    assert "Secure" not in cookie
    assert browser.get("/get").json() == {"a": "1"}


def test_only_a_trusted_proxy_says_https(serve: Callable[..., TestClient]) -> None:
    spoofed = serve("http://app.example").post("/set/a/1", headers={"x-forwarded-proto": "https"})
    assert "Secure" not in spoofed.headers["set-cookie"]
    app = application()
    watched = Watched(ManualClock())
    desk = desk_of(watched, trusted_proxies=["10.0.0.0/8"])
    app.add_middleware(SessionMiddleware, desk=desk)
    with TestClient(app, base_url="http://app.example", client=("10.0.0.1", 1)) as behind:
        told = behind.post("/set/a/1", headers={"x-forwarded-proto": "https"})
    assert told.headers["set-cookie"].startswith("__Host-sojourn=")


def test_idle_sessions_say_so(browser: TestClient, clock: ManualClock) -> None:
    browser.post("/login/ann")
    clock.advance(seconds=24 * 3600)
    assert browser.get("/gone").json() == {"reason": GoneReason.IDLE}


def test_touches_are_throttled(browser: TestClient, watched: Watched, clock: ManualClock) -> None:
    browser.post("/login/ann")
    touched: list[int] = []
    touch = watched.store.touch

    def spy(ids: Sequence[str], last_devices: Mapping[str, Device] = NO_DEVICES) -> list[bool]:
        touched.append(len(ids))
        return touch(ids, last_devices)

    watched.store.touch = spy  # type: ignore[method-assign]  # a spy
    for _ in range(10):
        clock.advance(seconds=29)
        browser.get("/idle")
    assert len(touched) == 3  # in 290 s: at most one a minute


def test_some_paths_are_no_use(
    serve: Callable[..., TestClient], watched: Watched, clock: ManualClock
) -> None:
    browser = serve(rules=Rules(no_touch=("/idle",)))
    browser.post("/login/ann")
    for _ in range(13):
        clock.advance(seconds=2 * 3600)
        browser.get("/idle")
    assert browser.get("/gone").json() == {"reason": GoneReason.IDLE}


def test_a_limit_that_asks(serve: Callable[..., TestClient]) -> None:
    browser = serve(rules=Rules(limit=1, at_limit=AtLimit.ASK))
    browser.post("/login/ann")
    browser.cookies.clear()
    assert browser.post("/login/ann").json() == {"tooMany": 1}


def test_impersonation_is_visible_capped_and_comes_back(
    browser: TestClient, clock: ManualClock
) -> None:
    browser.post("/login/boss")
    browser.post("/set/mine/1")
    assert browser.post("/impersonate/ann").json() == {"as": "ann", "really": "boss"}
    assert "mine" not in browser.get("/get").json()
    assert browser.post("/impersonate/bob").status_code == 500  # Conflict: not from there
    assert browser.post("/back").json() == {"as": "boss", "really": None}
    assert browser.get("/get").json() == {"mine": "1"}
    browser.post("/impersonate/ann")
    clock.advance(seconds=3_600)
    assert browser.get("/gone").json() == {"reason": GoneReason.EXPIRED}


def test_changes_after_the_response_started_are_reported(
    browser: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    browser.post("/set/a/1")
    assert browser.post("/late").text == "firstsecond"
    assert browser.get("/get").json() == {"a": "1"}
    assert "session_changed_too_late" in caplog.text
    assert f"place={__file__}:" in caplog.text  # the line that changed it


def test_websockets_have_the_session_too(browser: TestClient) -> None:
    browser.post("/set/a/1")
    with browser.websocket_connect("wss://app.example/ws") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "saved"
    assert browser.get("/get").json() == {"a": "1", "talked": "hello"}


def test_parallel_requests_lose_no_key(watched: Watched) -> None:
    """Two requests at a time write different keys of one session, 1,000 times."""
    app = SessionMiddleware(application(), desk=desk_of(watched))

    async def scenario() -> dict[str, Any]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="https://a.example") as client:
            await client.post("/set/start/0")
            for n in range(500):
                await asyncio.gather(client.post(f"/set/l{n}/1"), client.post(f"/set/r{n}/1"))
            data: dict[str, Any] = (await client.get("/get")).json()
        return data

    assert len(asyncio.run(scenario())) == 1_001


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/examples/fastapi_app.py, as it is, on SQLite."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with TestClient(module.app) as ann, TestClient(module.app) as elsewhere:
        absent = ann.get("/me")
        assert absent.headers["Content-Type"] == "application/problem+json"
        assert absent.json()["code"] == "session_absent"
        page = ann.get("/me", headers={"Accept": "text/html"})
        assert (page.status_code, "<h1>Please sign in</h1>" in page.text) == (401, True)
        ann.post("/basket/tea")
        ann.post("/login", params={"user": "ann", "password": "correct horse"})
        elsewhere.post("/login", params={"user": "ann", "password": "correct horse"})
        assert ann.get("/basket").json() == {"basket": ["tea"]}
        assert ann.get("/me").json() == {"user": "ann", "elsewhere": 1}
        assert ann.post("/password").json() == {"ended": 1}
        refused = elsewhere.get("/me")
        assert refused.status_code == 401
        assert refused.json()["reason"] == "password_changed"
        ann.post("/logout")
        assert ann.get("/me").json()["code"] == "session_absent"
    assert (tmp_path / "sojourn-data" / "sojourn.db").exists()
