"""Routing: a table of plain paths, and a tree of paths with named pieces.

Pieces of a path are compared as they were sent, so that an encoded slash stays in its piece. A path has one
spelling: a slash too many leads nowhere. Where both a word and a name would fit, the word
does, and there is no second try (ADR 26).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

from msgspec import Struct

from sojourn.api.call import excuse
from sojourn.api.letter import is_spelled_right
from sojourn.api.metrics import REFUSED
from sojourn.origin import TrustedHops
from sojourn.wire.problems import answer_problem, problem
from sojourn.wire.reply import SECURITY, Reply

Endpoint: TypeAlias = Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Takes a scope and what receives; returns an ASGI application, such as a Reply."""
Dressed: TypeAlias = Callable[[Any, Any], Any]
Ends: TypeAlias = dict[str, tuple[Endpoint, tuple[str, ...]]]
"""By method: an endpoint, and what the named pieces of its path are called."""

HOST = re.compile(rb"[0-9A-Za-z!$&'()*+,;=\-._~:\[\]@%]*")
"""What RFC 3986, 3.2.2, knows in a host and its port."""
FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto")


class Route(Struct, frozen=True):
    """One method of one path, whose named pieces stand in braces: `/api/keys/{keyId}`."""

    method: str
    path: str
    endpoint: Endpoint


class _Node:
    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.named: _Node | None = None
        self.ends: Ends = {}


def _as_it_is(_scope: Any, answer: Any) -> Any:
    return answer


class Router:
    """An ASGI application that routes requests to endpoints, and answers 404, 405 and OPTIONS itself."""

    def __init__(self, routes: Iterable[Route], *, dressed: Dressed = _as_it_is) -> None:
        """`dressed` gives an answer the form in which its scope's reader wants it."""
        self._dressed = dressed
        self._plain: dict[str, Ends] = {}
        self._root = _Node()
        for route in routes:
            names = tuple(re.findall(r"{(\w+)}", route.path))
            ends = self._place(route.path) if names else self._plain.setdefault(route.path, {})
            assert route.method not in ends, route.path
            ends[route.method] = (route.endpoint, names)

    def _place(self, template: str) -> Ends:
        node = self._root
        for piece in template.strip("/").split("/"):
            if piece.startswith("{"):
                node.named = node = node.named or _Node()
            else:
                node = node.words.setdefault(piece, _Node())
        return node.ends

    def find(self, path: str) -> tuple[Ends, list[str]]:
        """Return a path's endpoints by method, and its named pieces; nothing if there is no such path."""
        plain = self._plain.get(path)
        if plain is not None:
            return plain, []
        if not is_spelled_right(path):
            return {}, []
        pieces = path.split("/")[1:]
        node: _Node | None = self._root
        named = []
        for piece in pieces:
            assert node is not None
            word = node.words.get(piece)
            if word is None:
                named.append(piece)
            node = word or node.named
            if node is None:
                return {}, []
        assert node is not None
        return node.ends, named

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
            send = _without_body(send)
        answer = self._dressed(scope, await self._answer(scope, receive))
        await answer(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any) -> Any:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        if HOST.fullmatch(host) is None:
            return answer_problem(problem("invalid_request", "Invalid host header"))
        path = raw_path(scope).decode("latin-1")
        ends, named = self.find(path)
        if not ends and path[2:].endswith("/") and self.find(path[:-1])[0]:
            return _without_slash(scope, path)
        if not ends:
            REFUSED["not_found"] += 1
            lost = problem("not_found", "There is nothing at this path.", "See /openapi.json.")
            return answer_problem(lost)
        if scope["method"] not in ends:
            return _refuse(scope["method"], ends)
        endpoint, names = ends[scope["method"]]
        scope["path_params"] = dict(zip(names, named, strict=True))
        try:
            return await endpoint(scope, receive)
        except Exception as fault:  # noqa: BLE001 - the last resort
            return excuse(fault)


def _without_slash(scope: Any, path: str) -> Reply:
    """Lead from a path with a slash too many to the one that is there (RFC 9110, 15.4.9). Relative, since a
    proxy may serve us below a path of its own."""
    query: bytes = scope.get("query_string", b"")
    to = b"../" + path[:-1].rpartition("/")[2].encode("latin-1") + (b"?" + query if query else b"")
    return Reply(308, [(b"location", to), *SECURITY], b"")


def _refuse(method: str, ends: Ends) -> Reply:
    """Say which methods a path takes, as an answer to OPTIONS, or because this is none of them."""
    taken = {*ends, "OPTIONS"} | ({"HEAD"} if "GET" in ends else set())
    allow = (b"allow", ", ".join(sorted(taken)).encode())
    if method == "OPTIONS":
        return Reply(204, [allow, *SECURITY], b"")
    REFUSED["method_not_allowed"] += 1
    refusal = problem("method_not_allowed", "This path does not take this method.")
    return answer_problem(refusal, allow)


def _without_body(send: Any) -> Any:
    async def send_head(message: Any) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head


def raw_path(scope: Any) -> bytes:
    """Return the path as it was sent. A server need not give it, but those we know do."""
    sent: bytes | None = scope.get("raw_path")
    return quote(scope["path"]).encode() if sent is None else sent


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
