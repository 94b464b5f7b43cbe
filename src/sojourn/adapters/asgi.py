"""Sessions for ASGI applications: Starlette, FastAPI, Litestar, Quart and whatever else speaks it.

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
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from typing import Any

from sojourn.adapters.account import Account
from sojourn.adapters.asgi_account import AsgiAccount
from sojourn.adapters.desk import Desk, LazyDesk, open_desk
from sojourn.data import SessionData
from sojourn.errors import Overloaded, StoreError
from sojourn.log import get_logger
from sojourn.people.outage import outage
from sojourn.service.batcher import Batcher
from sojourn.service.request_session import Rules, Step, T, Visit, run_async
from sojourn.session import Gone, Session, Timeouts, TooMany

log = get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STARTED_OK = 200


class SessionMiddleware:
    """Gives every request its session. Arguments are those of `open_desk`; or hand in a `desk`.

    `account`: serve the page `/account/security`, too, and the calls behind it.
    """

    def __init__(
        self,
        app: App,
        store: str | None = None,
        *,
        secret: str | Sequence[str] | None = None,
        key: str | None = None,
        rules: Rules | None = None,
        trusted_proxies: Sequence[str] | None = None,
        desk: Desk | None = None,
        account: Account | None = None,
    ) -> None:
        self.app = app
        self._account = AsgiAccount(account) if account is not None else None
        if rules is not None:
            rules.cookie.validate()  # now, not with the first request

        def make() -> Desk:
            return desk or open_desk(
                store, secret=secret, key=key, rules=rules, trusted_proxies=trusted_proxies
            )

        self._desk = LazyDesk(make)
        self._owned = desk is None
        self._lanes = Lanes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._other(scope, receive, send)
            return
        try:
            desk = self._desk.opened or await self._open()
            if self._account and await self._account.serve(desk, scope, receive, send):
                return
            batcher = self._lanes.of(desk)
            visit = _visit(desk, scope)
            check = visit.check
            if check is not None:  # `visit.open()` in so many words: every request passes here
                rest = visit.found(await batcher.submit("check", check))
                if rest is not None:
                    await run_async(rest, batcher.submit)
        except (StoreError, Overloaded) as fault:
            await _refuse(scope, send, fault)
            return
        scope["session"] = visit.data
        scope.setdefault("state", {})["sojourn"] = AsyncVisit(visit, batcher)
        await self.app(scope, receive, _Commit(scope, send, visit, batcher))

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the store when the server starts, so that a wrong setting stops it there and then."""
        await self._open()
        try:
            await self.app(scope, receive, send)
        finally:
            if self._account is not None:
                await self._account.close()
            await self._lanes.close()
            if self._owned:
                await asyncio.to_thread(self._desk.close)

    async def _open(self) -> Desk:
        """Return the desk, opened off the loop: that may take migrations."""
        opened = self._desk.opened
        return await asyncio.to_thread(self._desk.get) if opened is None else opened


class AsyncVisit:
    """The session of one request: `request.state.sojourn`."""

    __slots__ = ("_batcher", "_visit")

    def __init__(self, visit: Visit, batcher: Batcher) -> None:
        self._visit = visit
        self._batcher = batcher

    @property
    def data(self) -> SessionData:
        return self._visit.data

    @property
    def session(self) -> Session | None:
        """The live session, or None."""
        return self._visit.session

    @property
    def gone(self) -> Gone | None:
        """Why there is none, though the request brought a cookie."""
        return self._visit.gone

    @property
    def user_id(self) -> str | None:
        """Who is signed in, if anybody."""
        return self._visit.user_id

    @property
    def impersonator(self) -> str | None:
        """Who really acts here, if somebody acts as the user. Show it on every page."""
        return self._visit.impersonator

    def recent(self, max_age: int, level: int = 1) -> bool:
        """Tell whether the user proved who they are at most `max_age` ms ago, at this level or above."""
        return self._visit.recent(max_age, level)

    async def begin(
        self,
        user_id: str,
        *,
        level: int = 1,
        timeouts: Timeouts | None = None,
        ending: Sequence[str] = (),
    ) -> Session | TooMany:
        """Sign a user in, under a new token; see `Visit.begin`."""
        return await self._run(
            self._visit.begin(user_id, level=level, timeouts=timeouts, ending=ending)
        )

    async def impersonate(self, user_id: str) -> Session:
        """Act as another user, visibly, for an hour at most; see `Visit.impersonate`."""
        return await self._run(self._visit.impersonate(user_id))

    async def stop_impersonating(self) -> Session | None:
        """Return to one's own session; None if it has ended meanwhile."""
        return await self._run(self._visit.stop_impersonating())

    async def rotate(self) -> Session | None:
        """Give the session a new token; the old one works for a short grace."""
        return await self._run(self._visit.rotate())

    async def elevate(self, level: int) -> Session | None:
        """Note that the user has just proved who they are again, at this level (step-up)."""
        return await self._run(self._visit.elevate(level))

    async def end(self, reason: str = "signed_out") -> None:
        """Sign out."""
        await self._run(self._visit.end(reason))

    async def end_others(self, reason: str = "signed_out_elsewhere") -> list[str]:
        """End the user's other sessions; return their ids."""
        return await self._run(self._visit.end_others(reason))

    async def end_all(self, reason: str = "signed_out_everywhere") -> list[str]:
        """End all of the user's sessions, this one included; return their ids."""
        return await self._run(self._visit.end_all(reason))

    async def others(self) -> list[Session]:
        """List the user's other live sessions, newest first."""
        return await self._run(self._visit.others())

    async def save(self) -> None:
        """Save changes of the data now: for WebSockets and streams, whose response has long started.
        A visitor's first data cannot be saved any more by then: there is no cookie to give."""
        await self._run(self._visit.save())

    async def _run(self, step: Step[T]) -> T:
        return await run_async(step, self._batcher.submit)


class _Commit:
    """A `send` that commits before the response starts."""

    __slots__ = ("_batcher", "_refused", "_scope", "_send", "_streams", "_visit")

    def __init__(self, scope: Scope, send: Send, visit: Visit, batcher: Batcher) -> None:
        self._scope = scope
        self._send = send
        self._visit = visit
        self._batcher = batcher
        self._refused = False
        self._streams = False

    def __call__(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        """Send a message on. What needs no waiting of ours is left to whom it is sent to."""
        kind = message["type"]
        if self._refused:
            return _nothing()  # the rest of a response whose place has been taken
        if kind in ("http.response.start", "websocket.accept"):
            if not self._visit.unchanged:
                return self._save(message)
            self._put(self._visit.finish(message.get("status", STARTED_OK)), message)
        elif kind == "http.response.body":
            if message.get("more_body", False):
                self._streams = True
            elif self._streams:
                self._warn()
        return self._send(message)

    async def _save(self, message: MutableMapping[str, Any]) -> None:
        status = message.get("status", STARTED_OK)
        try:
            headers = await run_async(self._visit.commit(status), self._batcher.submit)
        except (StoreError, Overloaded) as fault:
            self._refused = True
            await _refuse(self._scope, self._send, fault)
            return
        self._put(headers, message)
        await self._send(message)

    def _put(self, headers: list[tuple[str, str]], message: MutableMapping[str, Any]) -> None:
        """Add headers to a response."""
        if headers:
            raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers]
            message["headers"] = [*message.get("headers", ()), *raw]

    def _warn(self) -> None:
        """Say so if something was changed too late; but not what, nor at the price of the response."""
        if self._visit.unsaved:
            log.warning(
                "session_changed_too_late",
                path=self._scope.get("path"),
                hint="The response had started. Change the session before you return a streaming "
                "response, or call `await request.state.sojourn.save()`.",
            )


async def _nothing() -> None:
    """Send nothing."""


class Lanes:
    """One batcher per event loop: an application may be run in several, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher] = (
            weakref.WeakKeyDictionary()
        )
        self._last: tuple[asyncio.AbstractEventLoop, Batcher] | None = None

    def of(self, desk: Desk) -> Batcher:
        """Return the running loop's batcher."""
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last[0] is loop:
            return last[1]
        batcher = self._of.get(loop)
        if batcher is None:
            with self._lock:
                batcher = self._of[loop] = Batcher(desk.verbs, runners=desk.sessions.parallel)
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


def _visit(desk: Desk, scope: Scope) -> Visit:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name not in headers:
            headers[name] = value
        elif name in _JOINED:
            headers[name] += _JOINED[name] + value

    client = scope.get("client")
    return desk.visit(
        cookies=headers.get(b"cookie", b"").decode("latin-1"),
        path=scope["path"],
        peer=client[0] if client else None,
        scheme=scope.get("scheme", "http"),
        forwarded_for=headers.get(b"x-forwarded-for", b"").decode("latin-1"),
        forwarded_proto=headers.get(b"x-forwarded-proto", b"").decode("latin-1"),
        header=partial(_header, headers),
    )


def _header(headers: dict[bytes, bytes], name: str) -> str:
    return headers.get(name.encode(), b"").decode("latin-1")


async def _refuse(scope: Scope, send: Send, fault: StoreError | Overloaded) -> None:
    """Answer that there are no sessions for the moment: nobody is signed out by it."""
    log.error("sessions_unavailable", code=fault.code, error=fault.message, hint=fault.hint)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013, "reason": "Try again later."})
        return
    accept = next((v.decode("latin-1") for n, v in scope["headers"] if n == b"accept"), "")
    status, headers, body = outage(fault, accept)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
