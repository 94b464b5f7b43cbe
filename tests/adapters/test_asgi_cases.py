"""The cases of every adapter, for the ASGI middleware: as its own application, and under FastAPI."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from tests.adapters import cases
from tests.adapters.cases import Answer, Driver, Hooks
from tests.adapters.token_cases import TokenCases

from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.desk import Desk

TIMEOUT = 60  # seconds


def make_app(desk: Desk, hooks: Hooks) -> Any:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, desk=desk)

    @app.post("/login")
    async def login(request: Request, user: str) -> None:
        await request.state.sojourn.begin(user)

    @app.post("/set")
    async def put(request: Request, key: str, value: str) -> None:
        await asyncio.to_thread(hooks.during)
        request.session[key] = value

    @app.post("/append")
    async def append(request: Request, value: str) -> None:
        request.session.setdefault("list", []).append(value)

    @app.get("/get")
    async def get(request: Request, key: str) -> dict[str, Any]:
        session = request.state.sojourn.session
        return {
            "value": request.session.get(key),
            "user": request.state.sojourn.user_id,
            "id": session and session.id,
        }

    @app.get("/plain")
    async def plain() -> None: ...

    @app.post("/logout")
    async def logout(request: Request) -> None:
        await request.state.sojourn.end()

    @app.post("/others")
    async def others(request: Request) -> dict[str, int]:
        return {"ended": len(await request.state.sojourn.end_others())}

    @app.post("/rotate")
    async def rotate(request: Request) -> None:
        await request.state.sojourn.rotate()

    @app.post("/boom")
    async def boom(request: Request) -> JSONResponse:
        request.session["boom"] = True
        return JSONResponse({}, status_code=500)

    return app


class Loop:
    """An event loop on a thread of its own: requests come from any thread, as from a server."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT)

    def close(self) -> None:
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(TIMEOUT)
        self.loop.close()


async def call(app: Any, scope: dict[str, Any]) -> Answer:
    """Send one request, as an ASGI server would."""
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in sent[0]["headers"]]
    return Answer(sent[0]["status"], headers, b"".join(m.get("body", b"") for m in sent[1:]))


@pytest.fixture
def driver_for() -> Iterator[Callable[[Desk, Hooks], Driver]]:
    loop = Loop()

    def make(desk: Desk, hooks: Hooks) -> Driver:
        app = make_app(desk, hooks)

        def drive(
            method: str, url: str, headers: Mapping[str, str], *, https: bool, peer: str
        ) -> Answer:
            parts = urlsplit(url)
            scope = {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": method,
                "scheme": "https" if https else "http",
                "path": parts.path,
                "raw_path": parts.path.encode(),
                "query_string": parts.query.encode(),
                "root_path": "",
                "headers": [
                    (k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()
                ],
                "client": (peer, 4711),
                "server": ("app.example", 443 if https else 80),
            }
            answer: Answer = loop.run(call(app, scope))
            return answer

        return drive

    yield make
    loop.close()


class TestAsgi(cases.AdapterCases, cases.CookieCases, cases.RotationCases):
    pass


class TestAsgiWithTokens(TokenCases):
    pass


class TestAsgiInParallel(cases.ParallelCases):
    pass
