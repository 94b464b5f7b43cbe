"""ASGI requests that end early, and event loops that close: nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest
from fastapi import Response
from fastapi.testclient import TestClient
from tests.adapters.asgi_site import DEADLINE, World, application

from sojourn.adapters.account import Account
from sojourn.adapters.asgi import RUNNER_IDLE, SessionMiddleware
from sojourn.adapters.asgi_account import AsgiAccount
from sojourn.errors import SettingsError
from sojourn.people.calls import LIVE
from sojourn.service.request_session import Rules
from sojourn.session import Begin, Begun


@pytest.fixture
def world() -> World:
    return World()


# Cancellation


async def _cancel_a_sign_in(world: World, when: str) -> None:
    """Sign in, and cancel the request before its response starts."""
    reached, never = asyncio.Event(), asyncio.Event()
    entered, leave = threading.Event(), threading.Event()
    begin = world.desk.verbs["begin"]

    def slow(requests: Any) -> Any:
        entered.set()
        assert leave.wait(DEADLINE)
        return begin(requests)

    if when == "during":
        world.desk.verbs = {**world.desk.verbs, "begin": slow}

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        reached.set()
        await scope["state"]["sojourn"].begin("ann")
        entered.set()
        await never.wait()

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "path": "/", "method": "POST", "headers": [], "query_string": b""}
    middleware = SessionMiddleware(app, desk=world.desk)
    task = asyncio.create_task(middleware(scope, nothing, nothing))
    await reached.wait()
    await asyncio.to_thread(entered.wait, DEADLINE)
    task.cancel()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    while middleware._undoing:
        await asyncio.wait(list(middleware._undoing))


@pytest.mark.parametrize("when", ["during", "after"])
def test_a_canceled_sign_in_leaves_no_session(world: World, when: str) -> None:
    asyncio.run(_cancel_a_sign_in(world, when))
    assert world.users() == 0


def test_a_response_that_cannot_be_sent_leaves_no_session(world: World) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await scope["state"]["sojourn"].begin("ann")
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def gone(_message: Any) -> None:
        raise OSError("the client has gone")

    async def main() -> None:
        scope = {"type": "http", "path": "/", "headers": []}
        with pytest.raises(OSError, match="gone"):
            await SessionMiddleware(app, desk=world.desk)(scope, None, gone)  # type: ignore[arg-type]  # as little as is asked for

    asyncio.run(main())
    assert world.users() == 0


# Loops and threads


def test_no_thread_outlives_its_loop_for_long(world: World) -> None:
    app = application()
    app.add_middleware(SessionMiddleware, desk=world.desk)
    client = TestClient(app)
    client.post("/set/x")
    before = threading.active_count()
    for _ in range(30):
        client.post("/set/x")
    deadline = time.monotonic() + DEADLINE
    while threading.active_count() > before and time.monotonic() < deadline:
        threading.Event().wait(RUNNER_IDLE / 10)  # there is no signal of a thread that ends
    assert threading.active_count() <= before
    gc.collect()


def test_without_asyncio_the_start_says_so(world: World) -> None:
    """Trio runs coroutines, too, but no asyncio."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> Response:
        raise AssertionError("it must not come to this")

    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    middleware = SessionMiddleware(app, desk=world.desk)  # type: ignore[arg-type]  # as little as is asked for
    start = middleware({"type": "lifespan"}, receive, send)
    with pytest.raises(SettingsError, match="asyncio"):
        start.send(None)  # a coroutine without a loop
    assert said[0]["type"] == "lifespan.startup.failed"
    assert "Trio" in said[0]["message"]


def test_a_wrong_rule_stops_the_start() -> None:
    with pytest.raises(SettingsError):
        SessionMiddleware(application(), rules=Rules(limit=0))


# The page's live socket


def test_live_sockets_of_loops_that_have_closed_are_let_go(world: World) -> None:
    """An application without a lifespan runs in a loop after another, as under test clients."""
    app = SessionMiddleware(application(), desk=world.desk, account=Account())
    listening = len(world.service.ended)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def scenario(cookie: bytes) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        asked = [{"type": "websocket.connect"}]
        sent: asyncio.Queue[Any] = asyncio.Queue()
        told = asyncio.Event()

        async def receive() -> Any:
            if asked:
                return asked.pop()
            await told.wait()
            return {"type": "websocket.disconnect"}

        scope = {
            "type": "websocket",
            "path": LIVE,
            "query_string": b"",
            "scheme": "wss",
            "headers": [
                (b"host", b"app.example"),
                (b"origin", b"https://app.example"),
                (b"cookie", cookie),
            ],
        }
        async with asyncio.timeout(DEADLINE):
            serving = asyncio.create_task(app(scope, receive, sent.put))
            assert (await sent.get())["type"] == "websocket.accept"
            assert "changed" in (await sent.get())["text"]
            told.set()
            await serving

    (begun,) = world.service.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    cookie = f"{world.desk.rules.cookie.sent_as(https=True)}={world.desk.codec.encode(begun.token)}"
    for _ in range(4):
        asyncio.run(scenario(cookie.encode()))
    gc.collect()
    assert sum(each() is not None for each in loops) <= 1  # the last, until there is another
    assert len(world.service.ended) <= listening + 1


def test_a_live_socket_is_of_the_desk_that_is_there() -> None:
    """Tests put another in its place, within the same loop."""
    first, second = World(), World()
    account = AsgiAccount(Account())

    async def scenario() -> list[Any]:
        lives = [account._live(each.desk, each.service) for each in (first, second, second)]
        await account.close()
        return lives

    one, two, again = asyncio.run(scenario())
    assert one is not two
    assert two is again
