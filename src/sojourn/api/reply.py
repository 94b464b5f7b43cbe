"""What goes back: a status, a list of headers, the bytes of a body.

Every answer of this API is one of these, whichever lane it took, so all carry the same headers.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from sojourn.api.wire import Done

Headers = list[tuple[bytes, bytes]]

SECURITY: Headers = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
REPLAYED = (b"idempotency-replayed", b"true")
_JSON: Headers = [(b"content-type", b"application/json"), *SECURITY]
NO_CONTENT = 204

encode = msgspec.json.Encoder().encode


class Reply(Struct, frozen=True, gc=False):
    """An answer, ready to send. It is itself an ASGI application, as Litestar expects of a response."""

    status: int
    own: Headers  # all but the length; not to be changed, for answers share it
    body: bytes
    code: str = ""  # of the problem; empty on success

    @property
    def headers(self) -> Headers:
        """All headers. An answer without content has no length either (RFC 9110, 8.6)."""
        if self.status == NO_CONTENT:
            return self.own
        return [*self.own, (b"content-length", b"%d" % len(self.body))]

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def done(answer: Done[Any], status: int = 200) -> Reply:
    """Answer a success."""
    return Reply(status, _JSON, encode(answer))


def replayed(reply: Reply) -> Reply:
    """Say of an answer that it is the first one to a request which came again."""
    return Reply(reply.status, [*reply.own, REPLAYED], reply.body, reply.code)


def plain(body: bytes, content_type: bytes, status: int = 200) -> Reply:
    """Answer something that is not one of ours, such as the text Prometheus reads."""
    return Reply(status, [(b"content-type", content_type), *SECURITY], body)


class Renderer:
    """Writes whole answers as they go over the wire, in HTTP/1.1."""

    def __init__(self) -> None:
        self._defaults: Headers = []  # the server's own headers, of which the lines below were written
        self._begins: dict[int, bytes] = {}  # all lines of a success but its length, by its status
        self._constants: dict[tuple[int, bool], bytes] = {}

    def render(self, reply: Reply, default_headers: Headers, *, close: bool) -> bytes:
        if default_headers is not self._defaults:  # a new list comes with every second's date
            self._defaults = default_headers
            self._begins.clear()
            self._constants.clear()
        if reply.own is not _JSON:
            begin = _begin(reply.status, [*default_headers, *reply.own])
        elif (known := self._begins.get(reply.status)) is not None:
            begin = known
        else:
            begin = self._begins[reply.status] = _begin(reply.status, [*default_headers, *_JSON])
        ending = b"\r\nconnection: close\r\n\r\n" if close else b"\r\n\r\n"
        return b"%bcontent-length: %d%b%b" % (begin, len(reply.body), ending, reply.body)

    def render_constant(self, reply: Reply, default_headers: Headers, *, close: bool) -> bytes:
        """Write an answer that is always the same object, once a second."""
        if default_headers is not self._defaults:
            return self.render(reply, default_headers, close=close)
        known = self._constants.get((id(reply), close))
        if known is None:
            known = self.render(reply, default_headers, close=close)
            self._constants[id(reply), close] = known
        return known


def _begin(status: int, headers: Headers) -> bytes:
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)
