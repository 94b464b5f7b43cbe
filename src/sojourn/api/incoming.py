"""A request's headers and query. A header that may come once only is refused when it comes twice."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sojourn.api.limits import too_large
from sojourn.errors import InvalidInput
from sojourn.idempotency import Presented, presented
from sojourn.service.caller import Caller
from sojourn.wire.reply import Headers

AUTHORIZATION = b"authorization"
IDEMPOTENCY_KEY = b"idempotency-key"
CALLER = "sojourn.caller"
"""Where our protocol says, among a scope's extensions, who waits at the other end of the connection."""


def caller_of(scope: Any) -> Caller | None:
    """Return who asks; None under a server that does not tell."""
    found: Caller | None = (scope.get("extensions") or {}).get(CALLER)
    return found


class Incoming(Struct, frozen=True, gc=False):
    """What a request says besides its body. `params`: pieces of the path that have names."""

    headers: Headers
    query: bytes
    params: dict[str, str]
    client: Any
    by_name: dict[bytes, bytes]

    @classmethod
    def of(cls, scope: Any, body_max: int) -> Incoming:
        """Read an ASGI scope. Raises InvalidInput if its body announces itself as larger than `body_max`
        bytes, or if Authorization comes twice."""
        headers = list(scope["headers"])
        pieces = scope.get("path_params") or {}
        found = cls(headers, scope["query_string"], pieces, scope.get("client"), dict(headers))
        found.one(AUTHORIZATION)
        length = found.by_name.get(b"content-length", b"")
        if length.isdigit() and int(length) > body_max:
            raise too_large(body_max)
        return found

    @property
    def content_type(self) -> bytes:
        return self.by_name.get(b"content-type", b"")

    def one(self, name: bytes) -> bytes:
        """Return the value of a header, or nothing. Raises InvalidInput if it was sent twice: two
        parties on the way might believe different ones."""
        value = self.by_name.get(name, b"")
        if len(self.by_name) != len(self.headers) and sum(n == name for n, _ in self.headers) > 1:
            shown = name.decode("latin-1").title()
            raise InvalidInput(f"{shown}: given more than once.", hint="Send the header once.")
        return value

    def once(self, call: str, body: bytes) -> Presented | None:
        """Return the key that the request came with, and a digest of what else it says; None if it came
        with none. Raises InvalidInput if it is no key."""
        if IDEMPOTENCY_KEY not in self.by_name:
            return None
        value = self.one(IDEMPOTENCY_KEY)
        token = self.by_name.get(b"x-session-token", b"")
        named = (piece.encode() for _, piece in sorted(self.params.items()))
        return presented(value, call.encode(), body, token, self.query, *named)
