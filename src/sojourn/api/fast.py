"""The fast lane: plain ASGI for the hot calls; whatever else comes goes on to Litestar.

Both lanes carry a call out with the same function, so they answer the same bytes; only the routing
differs. Here it is two lookups; a path that names a session by its id takes a third.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from sojourn.api.call import Call, answer
from sojourn.api.context import Context
from sojourn.api.metrics import Tally

SESSION = re.compile(rb"(?<=/)ses_[0-9A-Za-z]+(?=/|\Z)")
"""The id of a session as we make them: nothing in it is ever sent encoded."""


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
        hot = self._find(scope) if scope["type"] == "http" else None
        if hot is None:
            await self.behind(scope, receive, send)
            return
        call, tally = hot
        reply = await answer(call, tally, self.context, scope, receive)
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        await send({"type": "http.response.body", "body": reply.body})

    def _find(self, scope: Any) -> tuple[Call, Tally] | None:
        path = raw_path(scope)
        hot = self._hot.get((path, scope["method"]))
        if hot is None and (named := SESSION.search(path)):
            template = path[: named.start()] + b"{sessionId}" + path[named.end() :]
            hot = self._hot.get((template, scope["method"]))
            if hot is not None:
                scope["path_params"] = {"sessionId": named[0].decode()}
        return hot


def raw_path(scope: Any) -> bytes:
    """Return the path as it was sent. A server need not give it, but those we know do."""
    sent: bytes | None = scope.get("raw_path")
    return quote(scope["path"]).encode() if sent is None else sent
