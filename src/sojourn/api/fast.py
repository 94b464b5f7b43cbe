"""The fast lane: plain ASGI for the hot calls; whatever else comes goes on to Litestar.

Both lanes carry a call out with the same function, so they answer the same bytes; only the routing
differs. Here it is two lookups.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from sojourn.api.call import Call, answer
from sojourn.api.context import Context


class FastLane:
    """An ASGI application in front of another one."""

    def __init__(self, context: Context, calls: Iterable[Call], *, behind: Any) -> None:
        self.context = context
        self.behind = behind
        self._hot = {
            (call.path.encode(), call.method): (call, context.metrics.tally(call.name))
            for call in calls
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        hot = scope["type"] == "http" and self._hot.get((raw_path(scope), scope["method"]))
        if not hot:
            await self.behind(scope, receive, send)
            return
        call, tally = hot
        reply = await answer(call, tally, self.context, scope, receive)
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        await send({"type": "http.response.body", "body": reply.body})


def raw_path(scope: Any) -> bytes:
    """Return the path as it was sent. A server need not give it, but those we know do."""
    sent: bytes | None = scope.get("raw_path")
    return quote(scope["path"]).encode() if sent is None else sent
