"""What an ASGI request's session does to its response: saved before it starts, and refused in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from sojourn.adapters.asgi_visit import AsyncVisit, NotAwaited
from sojourn.adapters.sync import tell_read_late
from sojourn.errors import (
    CookiesTooLarge,
    Forbidden,
    InvalidInput,
    Overloaded,
    SojournError,
    StoreError,
)
from sojourn.log import get_logger
from sojourn.people.sign_in import refusal
from sojourn.service.request_session import FAULT_STATUS, RequestSession

log = get_logger("sojourn.adapters.asgi")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STARTED_OK = 200
STARTS = ("http.response.start", "websocket.accept")


class Commit:
    """A `send` that commits before the response starts.

    Attributes:
        started: whether the response's start, and so its cookie, was handed on.
    """

    __slots__ = ("_handle", "_refused", "_scope", "_send", "_visit", "started")

    def __init__(self, scope: Scope, send: Send, visit: RequestSession, handle: AsyncVisit) -> None:
        self._scope = scope
        self._send = send
        self._visit = visit
        self._handle = handle
        self._refused = False
        self.started = False

    def __call__(self, message: MutableMapping[str, Any]) -> Awaitable[None]:
        """Send a message on. What needs no waiting of ours is left to whom it is sent to."""
        if self._refused:
            return _nothing()  # the rest of a response whose place has been taken
        if message["type"] in STARTS:
            visit = self._visit
            if (
                visit.unchanged
                and not self._handle.called
                and self._scope.get("session") is visit.data
            ):
                self._put(visit.finish(message.get("status", STARTED_OK)), message)
                self.started = True
            else:
                return self._save(message)
        elif self._visit.read_late and message["type"] == "http.response.body":
            self._tell_read_late()
        return self._send(message)

    def _tell_read_late(self) -> None:
        self._visit.varied = True  # it is told once
        tell_read_late(self._scope.get("path"))

    async def _save(self, message: MutableMapping[str, Any]) -> None:
        status = message.get("status", STARTED_OK)
        visit, handle = self._visit, self._handle
        met = visit.asked or visit.data.accessed
        if visit.fault is not None and met and status >= FAULT_STATUS:
            # Somebody has met it, and made a page of its own of it.
            await self.refuse(visit.fault)
            return
        if status < FAULT_STATUS:
            await self._demand_awaited()
            await self._take_over()
        try:
            headers = await handle.commit(status)
        except (StoreError, Overloaded, Forbidden) as fault:
            await self.refuse(fault)
            return
        self._put(headers, message)
        await self._send(message)
        self.started = True
        visit.sent()

    async def _demand_awaited(self) -> None:
        if self._handle.forgotten:
            await asyncio.sleep(0)  # a task that was made in this very tick has yet to start
        forgotten = self._handle.forgotten
        if forgotten:
            raise NotAwaited(
                f"`{forgotten[0]}()` was called on the session and never awaited, so it did nothing.",
                hint=f"Write `await request.state.sojourn.{forgotten[0]}(...)`.",
            )

    async def _take_over(self) -> None:
        """Take what other code has put in the place of our data, as Litestar's `set_session` and
        `clear_session` do. Raises InvalidInput for what is no mapping."""
        given, data = self._scope.get("session"), self._visit.data
        if given is data or type(given).__module__ == "starlette.middleware.sessions":
            return  # the latter is another middleware's, which keeps it itself
        self._scope["session"] = data
        if given is None or type(given).__name__ in ("Empty", "_EmptyEnum", "EmptyType"):
            if self._visit.session is None:
                data.clear()
            else:
                await self._handle.carry_out(self._visit.end())
            return
        if not isinstance(given, Mapping):
            dump = getattr(given, "model_dump", None)  # pydantic's
            given = dump() if dump is not None else msgspec.to_builtins(given)
        if not isinstance(given, Mapping):
            raise InvalidInput(
                "A session is a mapping; scope['session'] was set to something else."
            )
        data.clear()
        data.update(given)

    def _put(self, headers: list[tuple[str, str]], message: MutableMapping[str, Any]) -> None:
        """Add headers to a response."""
        if headers:
            raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers]
            message["headers"] = [*message.get("headers", ()), *raw]

    async def refuse(self, fault: SojournError) -> None:
        """Answer that the session cannot be had. A cookie that was given goes along: the session that it
        opens is there."""
        self._refused = True
        assert isinstance(fault, StoreError | Overloaded | CookiesTooLarge | Forbidden)
        given = [each for each in self._visit.finish(FAULT_STATUS) if each[0] == "Set-Cookie"]
        await refuse(self._scope, self._send, fault, given)
        self.started = True
        self._visit.sent()

    def close(self) -> None:
        """Say so if something was changed too late; but not what, nor at the price of the response."""
        if self._visit.unsaved:
            log.warning(
                "session_changed_too_late",
                path=self._scope.get("path"),
                place=self._visit.data.late,
                hint="The response had started. Change the session before you return the response: not "
                "in its body nor in a background task. On a WebSocket, call "
                "`await websocket.state.sojourn.save()`.",
            )
        for name in self._handle.forgotten:
            log.warning("verb_never_awaited", verb=name, path=self._scope.get("path"))


async def _nothing() -> None:
    """Send nothing."""


async def refuse(
    scope: Scope, send: Send, fault: SojournError, more: list[tuple[str, str]] | None = None
) -> None:
    """Answer that there are no sessions for the moment: nobody is signed out by it."""
    say = log.error if isinstance(fault, StoreError | Overloaded) else log.warning
    say("sessions_unavailable", code=fault.code, error=fault.message, hint=fault.hint)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013, "reason": "Try again later."})
        return
    accept = next((v.decode("latin-1") for n, v in scope["headers"] if n == b"accept"), "")
    status, headers, body = refusal(fault, accept)
    raw = [(name.lower().encode(), value.encode()) for name, value in [*headers, *(more or ())]]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
