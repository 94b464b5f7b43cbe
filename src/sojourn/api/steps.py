"""A hot call in two parts: what it asks of the batcher, and how it tells the outcome.

    def ask(context, incoming, body) -> Asked("release", claims)
    def tell(context, released) -> Reply

Both are plain functions, so the two can be carried out by a task, behind ASGI, or by `api.direct`
without one: which it is is no business of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from msgspec import Struct

from sojourn.api.context import Context
from sojourn.errors import InvalidInput
from sojourn.idempotency import Presented, fingerprint_of
from sojourn.service.caller import Caller
from sojourn.wire.reply import Headers, Reply

IDEMPOTENCY_KEY = b"idempotency-key"
KEY_MAX = 255
"""Characters of an idempotency key."""
_KEY = re.compile(
    rb"[!-~]{1,%d}" % KEY_MAX
)  # visible ASCII; the quotes of an sf-string belong to it
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
    def of(cls, scope: Any) -> Incoming:
        """Read an ASGI scope."""
        headers = list(scope["headers"])
        pieces = scope.get("path_params") or {}
        return cls(headers, scope["query_string"], pieces, scope.get("client"), dict(headers))

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
        if _KEY.fullmatch(value) is None:
            raise InvalidInput(
                f"Idempotency-Key: 1 to {KEY_MAX} visible ASCII characters.",
                hint="Send a UUID of its own with each request.",
            )
        token = self.by_name.get(b"x-session-token", b"")
        named = (piece.encode() for _, piece in sorted(self.params.items()))
        return Presented(value, fingerprint_of(call.encode(), body, token, self.query, *named))


class Asked(Struct, frozen=True, gc=False):
    """A request for the batcher."""

    verb: str
    request: Any


class Awaited(Struct, frozen=True):
    """Whatever else takes time, and what to do then. Rare: only a task can wait for it."""

    work: Callable[[], Awaitable[Any]]
    then: Callable[[Any], Step]


Step: TypeAlias = Asked | Awaited


class Hot(Struct, frozen=True):
    """The two parts of a hot call. Both may raise a SojournError. `keeps`: it keeps or frees a seat, so
    it has room in the queue that other calls cannot take (`batcher.KEEPS`)."""

    ask: Callable[[Context, Incoming, bytes], Step]
    tell: Callable[[Context, Any], Reply]
    keeps: bool = False

    async def walk(self, context: Context, step: Step, caller: Caller | None = None) -> Reply:
        """Carry the call out in a task, from a step on, unless its caller hangs up before."""
        while isinstance(step, Awaited):
            step = step.then(await step.work())
        asked = context.services.batcher.submit(step.verb, step.request, caller)
        return self.tell(context, await context.deadlines.wait(asked))
