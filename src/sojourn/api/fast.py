"""The fast lane: plain ASGI for the hot calls; whatever else comes goes on to Litestar.

Both lanes carry a call out with the same function, so they answer the same bytes; only the routing
differs. Here it is two lookups; a path that names a session by its id takes a third. Under our own
server most hot calls do not even come here: see `direct`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

from sojourn.api.call import Call, answer
from sojourn.api.context import Context
from sojourn.api.metrics import Tally
from sojourn.api.render import Renderer

Found: TypeAlias = tuple[Call, Tally, dict[str, str]]
SESSION = re.compile(rb"(?<=/)ses_[0-9A-Za-z]+(?=/|\Z)")
"""The id of a session as we make them: nothing in it is ever sent encoded."""


class FastLane:
    """An ASGI application in front of another one."""

    def __init__(self, context: Context, calls: Iterable[Call], *, behind: Any) -> None:
        self.context = context
        self.behind = behind
        self.render = Renderer().render
        self._hot: dict[tuple[bytes, bytes], Found] = {
            (call.method.encode(), call.path.encode()): (call, context.metrics.tally(call.name), {})
            for call in calls
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        hot = None
        if scope["type"] == "http":
            hot = self.find(scope["method"].encode(), raw_path(scope))
        if hot is None:
            await self.behind(scope, receive, send)
            return
        call, tally, scope["path_params"] = hot
        reply = await answer(call, tally, self.context, scope, receive)
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        await send({"type": "http.response.body", "body": reply.body})

    def find(self, method: bytes, path: bytes) -> Found | None:
        """Return the hot call of a path, its tally, and what the path names."""
        hot = self._hot.get((method, path))
        if hot is not None:
            return hot
        named = SESSION.search(path)
        if named is None:
            return None
        template = path[: named.start()] + b"{sessionId}" + path[named.end() :]
        hot = self._hot.get((method, template))
        return None if hot is None else (hot[0], hot[1], {"sessionId": named[0].decode()})


def raw_path(scope: Any) -> bytes:
    """Return the path as it was sent. A server need not give it, but those we know do."""
    sent: bytes | None = scope.get("raw_path")
    return quote(scope["path"]).encode() if sent is None else sent
