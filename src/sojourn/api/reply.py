"""What goes back: a status, a list of headers, the bytes of a body.

Every answer of this API is one of these, whichever lane it took, so all carry the same headers.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from sojourn.api.wire import Done

Headers = list[tuple[bytes, bytes]]

SECURITY: Headers = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_JSON: Headers = [(b"content-type", b"application/json"), *SECURITY]

encode = msgspec.json.Encoder().encode


class Reply(Struct, frozen=True, gc=False):
    """An answer, ready to send. It is itself an ASGI application, as Litestar expects of a response."""

    status: int
    headers: Headers
    body: bytes
    code: str = ""  # of the problem; empty on success

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def done(answer: Done[Any], status: int = 200) -> Reply:
    """Answer a success."""
    body = encode(answer)
    return Reply(status, [*_JSON, (b"content-length", b"%d" % len(body))], body)


def plain(body: bytes, content_type: bytes, status: int = 200) -> Reply:
    """Answer something that is not one of ours, such as the text Prometheus reads."""
    length = (b"content-length", b"%d" % len(body))
    return Reply(status, [(b"content-type", content_type), *SECURITY, length], body)
