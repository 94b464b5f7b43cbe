"""What machines ask: alive, ready, how it goes, and what there is to call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hmac import compare_digest

import msgspec

from sojourn.api.call import Call, Receive, Scope, Who, words
from sojourn.api.context import Context
from sojourn.api.incoming import AUTHORIZATION, Incoming
from sojourn.api.metrics import CONTENT_TYPE
from sojourn.errors import SojournError, StoreUnavailable, Unauthenticated
from sojourn.wire.bodies import Answer
from sojourn.wire.proof import bearer
from sojourn.wire.reply import Reply, plain


class Alive(Answer, frozen=True, kw_only=True):
    status: str = "alive"


class Ready(Answer, frozen=True, kw_only=True):
    """`degraded` says what does not work as it should, though requests can be served."""

    status: str = "ready"
    degraded: list[str] = msgspec.field(default_factory=list)


def machine(
    path: str, *, answer: type | None = None, problems: tuple[str, ...] = (), keyed: bool = False
) -> Callable[[Callable[[Context], Awaitable[Reply]]], Call]:
    def decorate(handler: Callable[[Context], Awaitable[Reply]]) -> Call:
        async def respond(context: Context, scope: Scope, _receive: Receive) -> Reply:
            if keyed:
                _prove(context.settings.metrics_key, scope)
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


def _prove(key: str, scope: Scope) -> None:
    """Raise Unauthenticated unless a scrape brings the key, where one is set."""
    if not key:
        return
    shown = bearer(Incoming.of(scope, 0).one(AUTHORIZATION), "<metrics key>")
    if not compare_digest(shown.encode(), key.encode()):
        raise Unauthenticated("This is not the key for scraping.", hint="See SOJOURN_METRICS_KEY.")


@machine("/metrics", keyed=True)
async def metrics(context: Context) -> Reply:
    """Show the server's counters, and seats in use by feature, as Prometheus reads them.

    Where the setting `metrics_key` is set, it takes that key as a bearer token.
    """
    return plain(await context.metrics.fresh(), CONTENT_TYPE)


CALLS = (livez, readyz, metrics)
