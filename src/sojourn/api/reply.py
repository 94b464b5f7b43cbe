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
_JSON: Headers = [(b"content-type", b"application/json"), *SECURITY]
_JSON_LINES = b"".join(b"%b: %b\r\n" % header for header in _JSON)

encode = msgspec.json.Encoder().encode


class Reply(Struct, frozen=True, gc=False):
    """An answer, ready to send. It is itself an ASGI application, as Litestar expects of a response."""

    status: int
    headers: Headers
    body: bytes
    code: str = ""  # of the problem; empty on success
    lines: bytes = b""  # all headers but the length as they go over the wire, where that is known

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def done(answer: Done[Any], status: int = 200) -> Reply:
    """Answer a success."""
    body = encode(answer)
    headers = [*_JSON, (b"content-length", b"%d" % len(body))]
    return Reply(status, headers, body, lines=_JSON_LINES)


def render(reply: Reply, default_headers: Headers, *, close: bool) -> bytes:
    """Write a whole answer as it goes over the wire, in HTTP/1.1."""
    parts = [STATUS_LINE[reply.status]]
    headers = default_headers
    if reply.lines:
        parts += (reply.lines, b"content-length: %d\r\n" % len(reply.body))
    else:
        headers = [*default_headers, *reply.headers]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"connection: close\r\n\r\n" if close else b"\r\n", reply.body)
    return b"".join(parts)


def plain(body: bytes, content_type: bytes, status: int = 200) -> Reply:
    """Answer something that is not one of ours, such as the text Prometheus reads."""
    length = (b"content-length", b"%d" % len(body))
    return Reply(status, [(b"content-type", content_type), *SECURITY, length], body)
