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
from sojourn.origin import TrustedHops

Found: TypeAlias = tuple[Call, Tally, dict[str, str]]
SESSION = re.compile(rb"(?<=/)ses_[0-9A-Za-z]+(?=/|\Z)")
"""The id of a session as we make them: nothing in it is ever sent encoded."""
FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto")


class FastLane:
    """An ASGI application in front of another one."""

    def __init__(self, context: Context, calls: Iterable[Call], *, behind: Any) -> None:
        self.context = context
        self.behind = behind
        renderer = Renderer()
        self.render = renderer.render
        self.render_constant = renderer.render_constant
        self._hot: dict[tuple[bytes, bytes], Found] = {}
        self._named: dict[tuple[bytes, bytes], Found] = {}  # by a path that names a session
        for call in calls:
            place = (call.method.encode(), call.path.encode())
            found = self._named if b"{" in place[1] else self._hot
            found[place] = (call, context.metrics.tally(call.name), {})
        trusted = context.settings.trusted_proxies
        self.hops = TrustedHops(trusted) if trusted else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        hot = None
        if self.hops is not None and scope["type"] != "lifespan":
            scope = originated(scope, self.hops)
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
        hot = self._named.get((method, template))
        return None if hot is None else (hot[0], hot[1], {"sessionId": named[0].decode()})


def originated(scope: Any, hops: TrustedHops) -> Any:
    """Say in a scope where its request comes from, as proxies that are trusted report it. What is no
    address is none."""
    said: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in FORWARDED:
            said[name] = said[name] + b"," + value if name in said else value
    if not said:
        return scope
    client, scheme = scope.get("client"), scope.get("scheme", "http")
    chain, proto = (said.get(name, b"").decode("latin-1") for name in FORWARDED)
    origin = hops.origin(client[0] if client else None, scheme, chain, proto)
    plain = "ws" if scope["type"] == "websocket" else "http"
    at = (
        client
        if client and origin.ip == client[0]
        else None
        if origin.ip is None
        else (origin.ip, 0)
    )
    return {**scope, "client": at, "scheme": plain + "s" if origin.https else plain}


def raw_path(scope: Any) -> bytes:
    """Return the path as it was sent. A server need not give it, but those we know do."""
    sent: bytes | None = scope.get("raw_path")
    return quote(scope["path"]).encode() if sent is None else sent
