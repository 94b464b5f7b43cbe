"""A hot call in two parts: what it asks of the batcher, and how it tells the outcome.

    def ask(context, incoming, body) -> Asked("release", claims)
    def tell(context, released) -> Reply

Both are plain functions, so the two can be carried out by a task, behind ASGI, or by `api.direct`
without one: which it is is no business of theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from msgspec import Struct

from sojourn.api.context import Context
from sojourn.errors import InvalidInput
from sojourn.wire.reply import Headers, Reply


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
    """The two parts of a hot call. Both may raise a SojournError."""

    ask: Callable[[Context, Incoming, bytes], Step]
    tell: Callable[[Context, Any], Reply]

    async def walk(self, context: Context, step: Step) -> Reply:
        """Carry the call out in a task, from a step on."""
        while isinstance(step, Awaited):
            step = step.then(await step.work())
        asked = context.services.batcher.submit(step.verb, step.request)
        return self.tell(context, await context.deadlines.wait(asked))
