"""What goes back: a status, a list of headers, the bytes of a body.

Every answer of this API is one of these, whichever lane it took, so all carry the same headers.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from sojourn.wire.bodies import Done

Headers = list[tuple[bytes, bytes]]

SECURITY: Headers = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
REPLAYED = (b"idempotency-replayed", b"true")
JSON: Headers = [(b"content-type", b"application/json"), *SECURITY]
NO_CONTENT = 204

encode = msgspec.json.Encoder().encode


class Reply(Struct, frozen=True, gc=False):
    """An answer, ready to send. It is itself an ASGI application."""

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
    return Reply(status, JSON, encode(answer))


def replayed(reply: Reply) -> Reply:
    """Mark an answer as the first one, repeated for a request that came again."""
    return Reply(reply.status, [*reply.own, REPLAYED], reply.body, reply.code)


def plain(body: bytes, content_type: bytes, status: int = 200) -> Reply:
    """Answer with a body that is not a `Done`, such as the text Prometheus reads."""
    return Reply(status, [(b"content-type", content_type), *SECURITY], body)
