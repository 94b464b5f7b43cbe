"""A FastAPI application with endpoints as people write them, mistakes included, on a desk that can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from anyio import from_thread
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

from sojourn.adapters.asgi_visit import AsyncVisit
from sojourn.adapters.desk import Desk
from sojourn.clock import ManualClock
from sojourn.cookie import SignedTokens
from sojourn.errors import StoreUnavailable
from sojourn.service.sessions import SessionService
from sojourn.session import Session
from sojourn.stores.memory import MemoryStore

SECRET = b"a secret of thirty-two bytes or more"
DEADLINE = 20  # seconds, of a wait
VERBS = ("rotate", "end", "end_others", "end_all", "others", "save")


class World:
    """A desk whose verbs can be taken away, and what it keeps."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.service = SessionService(MemoryStore(self.clock))
        self.down: set[str] = set()
        self.desk = self.make_desk()

    def make_desk(self, **options: Any) -> Desk:
        desk = Desk(self.service, SignedTokens([SECRET]), **options)
        verbs = dict(desk.verbs)

        def guarded(name: str) -> Callable[..., Any]:
            def call(requests: Any) -> Any:
                if name in self.down:
                    raise StoreUnavailable("down")
                return verbs[name](requests)

            return call

        desk.verbs = {name: guarded(name) for name in verbs}
        return desk

    def users(self, user: str = "ann") -> int:
        return len(self.service.of(user))


def current(request: Request) -> AsyncVisit:
    visit = request.state.sojourn
    assert isinstance(visit, AsyncVisit)
    return visit


def dependency(request: Request) -> str | None:
    """A dependency that FastAPI runs in a thread."""
    current(request).blocking.elevate(3)
    return current(request).user_id


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/login")
    async def login(request: Request) -> None:
        await current(request).begin("ann")

    @app.get("/who")
    async def who(request: Request) -> Any:
        here = current(request)
        session = here.session
        return {"user": here.user_id, "level": session and session.level, **request.session}

    @app.post("/set/{value}")
    async def put(request: Request, value: str) -> None:
        request.session["value"] = value

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    in_threads(app)
    careless(app)
    return app


def in_threads(app: FastAPI) -> None:
    """Endpoints as with a blocking ORM: `def`, which FastAPI runs in a thread."""

    @app.post("/thread/login")
    def login(request: Request) -> Any:
        session = current(request).blocking.begin("ann")
        assert isinstance(session, Session)
        return session.user_id

    @app.post("/thread/call/{verb}")
    def call(request: Request, verb: str) -> Any:
        found = getattr(current(request), verb)()
        return {"kind": type(found).__name__}

    @app.post("/thread/bridge")
    def bridge(request: Request) -> None:
        from_thread.run(current(request).end)

    @app.post("/thread/write")
    def write(request: Request) -> None:
        request.session["value"] = "from a thread"
        current(request).blocking.save()

    @app.get("/thread/depends")
    async def depends(user: Annotated[str | None, Depends(dependency)]) -> str | None:
        return user


def careless(app: FastAPI) -> None:
    """Endpoints with mistakes in them."""

    @app.post("/forgotten/{verb}")
    async def forgotten(request: Request, verb: str) -> str:
        getattr(current(request), verb)()
        return "done"

    @app.post("/scheduled")
    async def scheduled(request: Request) -> str:
        request.app.state.task = asyncio.create_task(current(request).end_others())
        return "done"

    @app.get("/streamed/{looked}")
    async def streamed(request: Request, looked: int) -> StreamingResponse:
        here = current(request)
        if looked:
            _ = here.user_id

        async def body() -> AsyncIterator[str]:
            yield str(here.user_id)
            yield str(here.user_id)

        return StreamingResponse(body())

    @app.post("/gathered")
    async def gathered(request: Request) -> str:
        here = current(request)
        await asyncio.gather(here.begin("ann"), here.begin("bob"))
        return "done"

    @app.post("/boom/{verb}")
    async def boom(request: Request, verb: str) -> None:
        here = current(request)
        if verb == "begin":
            await here.begin("ann")
        elif verb == "elevate":
            await here.elevate(2)
        elif verb == "impersonate":
            await here.impersonate("bob")
        else:
            await getattr(here, verb)()
        raise RuntimeError("a bug")

    @app.post("/after")
    async def after(request: Request, later: BackgroundTasks) -> str:
        async def work() -> None:
            request.session["value"] = "late"

        later.add_task(work)
        return "started"

    @app.post("/after/verb")
    async def after_verb(request: Request, later: BackgroundTasks) -> str:
        async def work() -> None:
            getattr(current(request), "end_others")()  # noqa: B009 - unseen by mypy, which would tell

        later.add_task(work)
        return "started"

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        socket.session["value"] = "late"
        await socket.close()
