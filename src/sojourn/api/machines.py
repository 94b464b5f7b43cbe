"""What machines ask: alive, ready, how it goes, and what there is to call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from sojourn.api.call import Call, Receive, Scope, Who, words
from sojourn.api.context import Context
from sojourn.api.metrics import CONTENT_TYPE
from sojourn.errors import SojournError, StoreUnavailable
from sojourn.wire.bodies import Answer
from sojourn.wire.reply import Reply, plain


class Alive(Answer, frozen=True, kw_only=True):
    status: str = "alive"


class Ready(Answer, frozen=True, kw_only=True):
    """`degraded` says what does not work as it should, though requests can be served."""

    status: str = "ready"
    degraded: list[str] = msgspec.field(default_factory=list)


def machine(
    path: str, *, answer: type | None = None, problems: tuple[str, ...] = ()
) -> Callable[[Callable[[Context], Awaitable[Reply]]], Call]:
    def decorate(handler: Callable[[Context], Awaitable[Reply]]) -> Call:
        async def respond(context: Context, _scope: Scope, _receive: Receive) -> Reply:
            return await handler(context)

        return Call(
            name=handler.__name__,
            method="GET",
            path=path,
            who=Who.ANYONE,
            respond=respond,
            answer=answer,
            problems=problems,
            words=words(handler),
        )

    return decorate


@machine("/livez", answer=Alive)
async def livez(_context: Context) -> Reply:
    """Tell that this process answers.

    Asks nothing of a store: restarting this process would not mend one.
    """
    return plain(msgspec.json.encode(Alive()), b"application/json")


@machine("/readyz", answer=Ready, problems=("store_unavailable", "shutting_down"))
async def readyz(context: Context) -> Reply:
    """Tell whether requests can be served now, and what is degraded."""
    if context.draining:
        raise SojournError("The server is shutting down.", code="shutting_down")
    state = await context.readiness.state()
    if not state.ready:
        raise StoreUnavailable(" ".join(state.reasons))
    return plain(msgspec.json.encode(Ready(degraded=list(state.reasons))), b"application/json")


@machine("/metrics")
async def metrics(context: Context) -> Reply:
    """Show this process's counters, as Prometheus reads them."""
    return plain(await context.metrics.fresh(), CONTENT_TYPE)


CALLS = (livez, readyz, metrics)
