"""`await visit.over`: an application's own socket or stream ends with its session."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from flask import Flask, Response, stream_with_context
from starlette.websockets import WebSocketDisconnect
from tests.adapters.asgi_site import DEADLINE, World, application
from tests.adapters.django_project import AUTH, OURS
from tests.waiting import becomes

from sojourn.adapters import over
from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.flask import Sojourn, visit
from sojourn.errors import Overloaded, StoreUnavailable
from sojourn.session import Begin, Begun, End, Gone, GoneReason, Save, Timeouts


def site(world: World) -> FastAPI:
    app = application()

    @app.websocket("/news")
    async def news(socket: WebSocket) -> None:
        await socket.accept()
        gone: Gone = await socket.state.sojourn.over
        await socket.send_text(gone.end_reason or gone.reason.value)
        await socket.close()

    app.add_middleware(SessionMiddleware, desk=world.desk)
    return app


def begin(world: World, **options: Any) -> str:
    (begun,) = world.service.begin([Begin(user_id="ann", **options)])
    assert isinstance(begun, Begun)
    return begun.session.id


def test_a_socket_is_told_when_somebody_signs_out_elsewhere() -> None:
    world = World()
    with TestClient(site(world)) as client:
        client.post("/login")
        with client.websocket_connect("/news") as socket:
            world.service.end([End(user_id="ann", reason="signed_out_elsewhere")])
            assert socket.receive_text() == "signed_out_elsewhere"
            with pytest.raises(WebSocketDisconnect):
                socket.receive_text()


def test_without_a_session_it_is_over_at_once() -> None:
    with (
        TestClient(site(World())) as client,
        client.websocket_connect("/news") as socket,
    ):
        assert socket.receive_text() == "absent"


async def stream(request: HttpRequest) -> HttpResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"open "
        gone = await request.sojourn.over
        yield (gone.end_reason or "").encode()

    return StreamingHttpResponse(body())


urlpatterns = [path("stream", stream)]


def test_a_stream_of_djangos_ends_with_its_session() -> None:
    world = World()
    (begun,) = world.service.begin([Begin(user_id="ann")])
    assert isinstance(begun, Begun)
    cookie = f"sojourn={world.desk.codec.encode(begun.token)}".encode()
    sent: asyncio.Queue[Any] = asyncio.Queue()

    async def scenario() -> bytes:
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/stream",
            "query_string": b"",
            "headers": [(b"host", b"app.example"), (b"cookie", cookie)],
        }
        asked = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            return asked.pop() if asked else await asyncio.Event().wait()

        request = asyncio.create_task(ASGIHandler()(scope, receive, sent.put))
        async with asyncio.timeout(DEADLINE):
            while (message := await sent.get()).get("body") != b"open ":
                assert message["type"].startswith("http.response")
            await asyncio.to_thread(world.service.end, [End(ids=(begun.session.id,), reason="bye")])
            await request
        return b"".join(sent.get_nowait().get("body", b"") for _ in range(sent.qsize()))

    with override_settings(
        ROOT_URLCONF=__name__, SOJOURN={"desk": world.desk}, MIDDLEWARE=[OURS, AUTH]
    ):
        assert asyncio.run(scenario()) == b"bye"


def wait_for(world: World, change: Callable[[str], object], **options: Any) -> Gone:
    """Wait for the end that a change makes."""

    async def scenario() -> Gone:
        session_id = begin(world, **options)
        waiting = asyncio.create_task(world.desk.endings.of(session_id))
        await asyncio.sleep(0)
        await asyncio.to_thread(change, session_id)
        async with asyncio.timeout(DEADLINE):
            return await waiting

    return asyncio.run(scenario())


def test_going_idle_is_an_end_though_nobody_makes_it() -> None:
    world = World()
    gone = wait_for(
        world, lambda _: world.clock.advance(seconds=2), timeouts=Timeouts(idle_timeout=1_000)
    )
    assert gone.reason is GoneReason.IDLE


def test_where_only_changes_tell_it_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server, or Express's table, has no word for it."""
    world = World()
    world.desk.endings = over.Endings(Plain(world.service))  # type: ignore[arg-type]  # all that it asks
    gone = wait_for(world, lambda each: world.service.end([End(ids=(each,))]))
    assert gone.reason is GoneReason.ENDED


class Plain:
    def __init__(self, service: Any) -> None:
        self._service = service

    def save(self, saves: list[Save]) -> Any:
        return self._service.save(saves)


@pytest.mark.parametrize(
    ("fault", "told"),
    [(StoreUnavailable("away"), "sessions_unavailable"), (RuntimeError("a bug"), "watch_failed")],
    ids=["outage", "bug"],
)
def test_who_waits_outlives_any_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception, told: str
) -> None:
    """A fault ends no look-out, and is told once."""
    monkeypatch.setattr(over, "POLL_IN_TROUBLE", 0.01)
    world = World()
    real = world.service.gone
    failed: list[Any] = []

    def gone(ids: Any) -> Any:
        if len(failed) < 3:
            failed.append(ids)
            raise fault
        return real(ids)

    monkeypatch.setattr(world.service, "gone", gone)
    gone_at_last = wait_for(world, lambda each: world.service.end([End(ids=(each,))]))
    assert gone_at_last.reason is GoneReason.ENDED
    assert len(failed) == 3
    assert caplog.text.count(told) == 1


def test_nobody_is_left_waiting_and_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over, "WAITING_MAX", 1)
    world = World()

    async def scenario() -> None:
        session_id = begin(world)
        waiting = asyncio.create_task(world.desk.endings.of(session_id))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await world.desk.endings.of(session_id)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        again = asyncio.create_task(world.desk.endings.of(session_id))
        await asyncio.to_thread(world.service.end, [End(ids=(session_id,))])
        async with asyncio.timeout(DEADLINE):
            assert (await again).reason is GoneReason.ENDED

    asyncio.run(scenario())


def test_event_loops_that_have_closed_are_let_go() -> None:
    world = World()
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def scenario() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        session_id = begin(world)
        waiting = asyncio.create_task(world.desk.endings.of(session_id))
        await asyncio.sleep(0)
        world.service.end([End(ids=(session_id,))])
        async with asyncio.timeout(DEADLINE):
            await waiting

    for _ in range(5):
        asyncio.run(scenario())
    gc.collect()
    assert sum(each() is not None for each in loops) <= 1  # the last, until there is another


def flask_site(world: World) -> Any:
    app = Flask(__name__)
    Sojourn(app, desk=world.desk)

    @app.post("/login")
    def login() -> str:
        visit.begin("ann")
        return "in"

    @app.get("/stream")
    def stream_() -> Response:
        def body() -> Iterator[str]:
            assert visit.wait_over(timeout=0) is None
            yield "open "
            gone = visit.wait_over(timeout=DEADLINE)
            yield gone.end_reason or gone.reason.value if gone else "too late"

        return Response(stream_with_context(body()))

    return app.test_client()


def test_a_stream_of_flasks_ends_with_its_session() -> None:
    """In a thread, which waits for it; the one that looks at the store ends with the last who waits."""
    world = World()
    client = flask_site(world)
    client.post("/login")
    answer = client.get("/stream", buffered=False)
    pieces = answer.iter_encoded()
    assert next(pieces) == b"open "
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(world.service.end, [End(user_id="ann", reason="signed_out_elsewhere")])
        assert next(pieces) == b"signed_out_elsewhere"
        ended.result(DEADLINE)
    looking = [each for each in threading.enumerate() if each.name == "sojourn-over"]
    for each in looking:
        each.join(DEADLINE)
        assert not each.is_alive()


def test_many_threads_wait_by_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look serves all; each is told its own; who has waited long enough goes on; there is a limit."""
    world = World()
    asked: list[int] = []
    real = world.service.gone

    def gone(ids: Any) -> Any:
        asked.append(len(ids))
        return real(ids)

    monkeypatch.setattr(world.service, "gone", gone)
    ids = [begin(world) for _ in range(20)]
    endings = world.desk.endings
    assert endings.wait(ids[0], 0.01) is None
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(endings.wait, each, DEADLINE) for each in ids]
        while not asked or asked[-1] < len(ids):
            threading.Event().wait(0.01)
        monkeypatch.setattr(over, "WAITING_MAX", 20)
        with pytest.raises(Overloaded):
            endings.wait(ids[0], 0)
        for number, each in enumerate(ids):
            world.service.end([End(ids=(each,), reason=f"end-{number}")])
        found = [each.result(DEADLINE) for each in waiting]
    assert [each and each.end_reason for each in found] == [f"end-{n}" for n in range(20)]
    assert max(asked) == 20


def looks(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the looks at the store, none of which comes by the clock."""
    monkeypatch.setattr(over, "POLL", 3_600.0)
    counted: list[int] = []
    real = world.service.gone

    def gone(ids: Any) -> Any:
        counted.append(len(ids))
        return real(ids)

    monkeypatch.setattr(world.service, "gone", gone)
    return counted


def test_threads_that_come_and_go_ask_for_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """While anybody waits, who joins waits for the next look, and who leaves calls for none."""
    world = World()
    counted = looks(world, monkeypatch)
    ids = [begin(world) for _ in range(21)]
    endings = world.desk.endings
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(endings.wait, ids[0], DEADLINE)
        while not counted:
            threading.Event().wait(0.01)
        for each in ids[1:]:
            assert endings.wait(each, 0.01) is None
        world.service.end([End(ids=(ids[0],), reason="bye")])
        gone = staying.result(DEADLINE)
    assert gone is not None
    assert gone.end_reason == "bye"
    assert counted == [1, 1]  # at once for the first, and at its end
    for thread in threading.enumerate():
        if thread.name == "sojourn-over":
            thread.join(DEADLINE)
            assert not thread.is_alive()


def test_tasks_that_come_and_go_ask_for_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    counted = looks(world, monkeypatch)
    ids = [begin(world) for _ in range(21)]
    endings = world.desk.endings

    async def scenario() -> Gone:
        staying = asyncio.create_task(endings.of(ids[0]))
        await becomes(lambda: bool(counted))
        async with asyncio.timeout(DEADLINE):
            for each in ids[1:]:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await endings.of(each)
            await asyncio.to_thread(world.service.end, [End(ids=(ids[0],), reason="bye")])
            return await staying

    assert asyncio.run(scenario()).end_reason == "bye"
    assert counted == [1, 1]
