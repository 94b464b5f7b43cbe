"""The security page, its calls and its socket in ASGI applications, for `asgi.SessionMiddleware`."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sojourn.adapters.account import READ, Account, Mount
from sojourn.adapters.desk import Desk
from sojourn.people.account import is_ours
from sojourn.people.calls import LIVE, PeopleAnswer, PersonRequest
from sojourn.people.live import Live
from sojourn.service.sessions import SessionService

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiAccount:
    """Serves what is the account's. One watch over the store per event loop, as in `asgi.BatcherPerLoop`."""

    def __init__(self, account: Account) -> None:
        self._mount = Mount(account, sockets=True)
        self._lives: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Live] = (
            weakref.WeakKeyDictionary()
        )
        self._lock = threading.Lock()
        self._desk: Desk | None = None

    async def serve(self, desk: Desk, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request if it is for us; tell whether it was."""
        prefix: str = scope.get("root_path", "")
        path = scope["path"].removeprefix(prefix)
        if not is_ours(path):
            return False
        body = await _body(scope, receive)
        request, encoding = _read(self._mount, desk, scope, path, body)
        if scope["type"] == "websocket":
            if path != LIVE or not isinstance(desk.sessions, SessionService):
                return False
            await self._live(desk, desk.sessions).serve(request, receive, send)
            return True
        answer = await asyncio.to_thread(
            self._mount.respond, desk, request, prefix=prefix, accept_encoding=encoding
        )
        if answer is not None:
            await _send(send, answer)
        return answer is not None

    async def close(self) -> None:
        """Close the running loop's sockets."""
        live = self._lives.pop(asyncio.get_running_loop(), None)
        if live is not None:
            await live.stop()

    def _live(self, desk: Desk, sessions: SessionService) -> Live:
        loop = asyncio.get_running_loop()
        with self._lock:
            live = self._lives.get(loop)
            if live is not None and desk is self._desk:
                return live
            # A watch knows its loop, so that the loops that have closed are kept by it. Tests put another
            # desk in the place of one.
            for each in [
                each for each in self._lives if each.is_closed() or desk is not self._desk
            ]:
                self._lives.pop(each).detach()
            self._desk = desk
            live = self._lives[loop] = Live(desk.people, sessions)
            return live


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Read what a change says, READ bytes at most."""
    body = b""
    if scope.get("method") not in ("PATCH", "POST"):
        return body
    more = True
    while more and len(body) < READ:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)  # of one that was cut off there is no more
    return body[:READ]


def _read(
    mount: Mount, desk: Desk, scope: Scope, path: str, body: bytes
) -> tuple[PersonRequest, str]:
    """Return what is asked, and which encodings are accepted."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))

    def header(name: str) -> str | None:
        return ("; " if name == "cookie" else ",").join(headers.get(name, ()))

    client = scope.get("client")
    request = mount.read(
        desk,
        method=scope.get("method", "GET"),
        path=path,
        query=scope["query_string"].decode("latin-1"),
        peer=client[0] if client else None,
        scheme=scope.get("scheme", "http"),
        header=header,
        body=body,
    )
    return request, header("accept-encoding") or ""


async def _send(send: Send, answer: PeopleAnswer) -> None:
    status, headers, body = answer
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


__all__ = ["AsgiAccount"]
