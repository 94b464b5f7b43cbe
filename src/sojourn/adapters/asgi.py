"""Sessions for ASGI applications on asyncio: Starlette, FastAPI, Litestar and whatever else speaks it.

    app.add_middleware(SessionMiddleware)                       settings from SOJOURN_… and sojourn.toml
    app.add_middleware(SessionMiddleware, store="postgresql://…", secret=["…"])

`request.session` is a dict of JSON values, as Starlette's. `request.state.sojourn` says who is signed
in and signs people in and out:

    await request.state.sojourn.begin(user.id)

What is to be saved is saved before the response starts. All requests of an event loop share one queue
into the store, so that many of them cost one transaction.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

from sojourn.adapters.account import Account
from sojourn.adapters.asgi_account import AsgiAccount
from sojourn.adapters.asgi_commit import App, Commit, Receive, Scope, Send, refuse
from sojourn.adapters.asgi_visit import AsyncVisit as AsyncVisit
from sojourn.adapters.desk import Desk, LazyDesk, open_desk
from sojourn.errors import (
    CookiesTooLarge,
    Overloaded,
    SettingsError,
    StoreBroken,
    StoreError,
    StoreUnavailable,
)
from sojourn.log import get_logger
from sojourn.service.batcher import Batcher
from sojourn.service.request_session import RequestSession, Rules, run_async

log = get_logger(__name__)

WAIT_MAX = 10.0
"""Seconds for which requests may wait for a slow store before others are refused: people in front of a page
have more patience than clients that try again by themselves."""


class SessionMiddleware:
    """Gives every request its session. Arguments are those of `open_desk`; or hand in a `desk`.

    `account`: serve the page `/account/security`, too, and the calls behind it.
    `pool_size`: how many connections a process opens to the store at most.
    `skip`: prefixes of paths that have no session and cost nothing, such as `/static/` and `/healthz`.
    """

    def __init__(
        self,
        app: App,
        store: Any = None,
        *,
        secret: str | Sequence[str] | None = None,
        key: str | None = None,
        rules: Rules | None = None,
        trusted_proxies: Sequence[str] | None = None,
        desk: Desk | None = None,
        account: Account | None = None,
        skip: Sequence[str] = (),
        pool_size: int | None = None,
    ) -> None:
        self.app = app
        self._account = AsgiAccount(account) if account is not None else None
        self._skip = (skip,) if isinstance(skip, str) else tuple(skip)
        if rules is not None:
            rules.validate()  # now, not with the first request

        def make() -> Desk:
            return desk or open_desk(
                store,
                secret=secret,
                key=key,
                rules=rules,
                trusted_proxies=trusted_proxies,
                pool_size=pool_size,
            )

        self._desk = LazyDesk(make)
        self._owned = desk is None
        self._lanes = BatcherPerLoop()
        self._undoing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._other(scope, receive, send)
            return
        if self._skip and scope["path"].startswith(self._skip):
            await self.app(scope, receive, send)
            return
        try:
            desk = self._desk.opened or await self._open()
            if self._account and await self._account.serve(desk, scope, receive, send):
                return
            batcher = self._lanes.of(desk)
        except (StoreError, Overloaded) as fault:
            await refuse(scope, send, fault)
            return
        visit = _visit(desk, scope)
        check = visit.check
        if check is not None:  # `visit.open()` in so many words: every request passes here
            try:
                rest = visit.found(await batcher.submit("check", check))
                if rest is not None:
                    await run_async(rest, batcher.submit)
            except (StoreError, Overloaded) as fault:
                visit.fail(fault)  # whoever asks is told so; a page that does not is served as ever
        scope["session"] = visit.data
        handle = AsyncVisit(visit, batcher, self._desk)
        scope.setdefault("state", {})["sojourn"] = handle
        commit = Commit(scope, send, visit, handle)
        try:
            await self.app(scope, receive, commit)
        except (StoreError, Overloaded, CookiesTooLarge) as fault:
            await self._undo(visit, handle)
            if commit.started:
                raise
            await commit.refuse(fault)
        except BaseException:
            await self._undo(visit, handle)
            raise
        if visit.in_doubt:  # no response was ever sent
            await self._undo(visit, handle)
        commit.close()

    async def _undo(self, visit: RequestSession, handle: AsyncVisit) -> None:
        """Take back what no response has told the browser of. In a task of its own: the request's may be
        canceled, more than once."""
        if not (visit.in_doubt or handle.busy):
            return
        task = asyncio.create_task(_take_back(visit, handle))
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)
        await asyncio.shield(task)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the store when the server starts, so that a wrong setting stops it there and then."""
        try:
            await self._open()
        except (SettingsError, StoreBroken) as fault:
            await receive()
            said = f"{fault.message} {fault.hint}".strip()
            await send({"type": "lifespan.startup.failed", "message": said})
            raise
        except StoreUnavailable as fault:  # it may be back before anybody comes
            log.warning(
                "sessions_unavailable", code=fault.code, error=fault.message, hint=fault.hint
            )
        try:
            await self.app(scope, receive, send)
        finally:
            if self._account is not None:
                await self._account.close()
            if self._undoing:
                await asyncio.wait(list(self._undoing))
            await self._lanes.close()
            if self._owned:
                await asyncio.to_thread(self._desk.close)

    async def _open(self) -> Desk:
        """Return the desk, opened off the loop: that may take migrations."""
        opened = self._desk.opened
        if opened is not None:
            return opened
        running_loop()
        return await asyncio.to_thread(self._desk.get)


async def _take_back(visit: RequestSession, handle: AsyncVisit) -> None:
    try:
        await handle.quiet()
        await handle.carry_out(visit.undo())
    except (StoreError, Overloaded) as fault:
        log.warning("sign_in_not_undone", code=fault.code, error=fault.message)


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop. Raises SettingsError where another library runs the coroutines."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise SettingsError(
            "Sojourn's ASGI middleware runs on asyncio, and this server runs something else, such as Trio.",
            hint="Let the server run asyncio: `hypercorn --worker-class asyncio`, or uvicorn.",
        ) from None


RUNNER_IDLE = 1.0
"""Seconds after which an event loop's threads end that have nothing to do. The loop may have closed: a
test's or a script's does without a word."""


class BatcherPerLoop:
    """One batcher per event loop: an application may be run in several, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher] = (
            weakref.WeakKeyDictionary()
        )
        self._last: tuple[asyncio.AbstractEventLoop, Batcher] | None = None
        self._desk: Desk | None = None

    def of(self, desk: Desk) -> Batcher:
        """Return the running loop's batcher."""
        loop = running_loop()
        last = self._last
        if desk is not self._desk:  # tests have put another in its place
            with self._lock:
                self._desk, self._last, last = desk, None, None
                self._of.clear()
        if last is not None and last[0] is loop:
            return last[1]
        batcher = self._of.get(loop)
        if batcher is None:
            with self._lock:
                # A batcher knows its loop, so that the loops that have closed are kept by it.
                for closed in [each for each in self._of if each.is_closed()]:
                    del self._of[closed]
                batcher = self._of[loop] = Batcher(
                    desk.verbs,
                    runners=desk.sessions.parallel,
                    wait_max=WAIT_MAX,
                    idle_after=RUNNER_IDLE,
                )
                batcher.start()
        self._last = loop, batcher
        return batcher

    async def close(self) -> None:
        """Carry out what the running loop has queued, and stop."""
        self._last = None
        batcher = self._of.pop(asyncio.get_running_loop(), None)
        if batcher is not None:
            await batcher.close()


_JOINED = {b"cookie": b"; ", b"x-forwarded-for": b",", b"x-forwarded-proto": b","}
"""How several headers of a name are one. HTTP/2 may split cookies (RFC 9113, 8.2.3)."""


def _visit(desk: Desk, scope: Scope) -> RequestSession:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name not in headers:
            headers[name] = value
        elif name in _JOINED:
            headers[name] += _JOINED[name] + value

    client = scope.get("client")
    forwarded = headers.get(b"x-forwarded-for"), headers.get(b"x-forwarded-proto")
    return desk.visit(
        cookies=headers.get(b"cookie", b"").decode("latin-1"),
        path=scope["path"],
        peer=client[0] if client else None,
        scheme=scope.get("scheme", "http"),
        forwarded_for="" if forwarded[0] is None else forwarded[0].decode("latin-1"),
        forwarded_proto="" if forwarded[1] is None else forwarded[1].decode("latin-1"),
        header=partial(_header, headers),
        tentative=True,
    )


def _header(headers: dict[bytes, bytes], name: str) -> str:
    return headers.get(name.encode(), b"").decode("latin-1")
