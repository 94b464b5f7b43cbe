"""CORS on the calls of license clients: which pages may send them, and read what is answered (ADR 40).

A browser asks first (OPTIONS), without saying which license it has: then every origin that any license
allows is let through. The request itself is judged by its own license, where the seat is decided
(`service.origins`). What is refused before anybody has looked at a license is shared with origins that some
license allows. No answer takes cookies along, and none is for every origin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from sojourn.api.limits import Blocking
from sojourn.errors import SojournError
from sojourn.log import get_logger
from sojourn.origin import ORIGIN_MAX, foreign_origin
from sojourn.people.calls import PREFLIGHT_AGE
from sojourn.service.origins import AllowedOrigins
from sojourn.wire.reply import SECURITY, Headers, Reply

ORIGIN = b"origin"
METHODS = {
    b"/api/licenses/sessions": b"POST",
    b"/api/licenses/sessions/heartbeat": b"POST",
    b"/api/licenses/sessions/current": b"DELETE",
}
"""The calls of license clients, by path."""
ALLOW = {b"/api/licenses/sessions": b"GET, HEAD, OPTIONS, POST"}
HEADERS = b"accept, authorization, content-type, idempotency-key, traceparent, tracestate"
EXPOSED = b"Date, Idempotency-Replayed, Retry-After"
VARY = (b"vary", b"Origin")
PATIENCE = 2.0
"""Seconds for which a browser that asks first waits for the ledger."""
OF_NOBODY = (400, 401, 408, 413, 415, 422, 429, 431)
"""Statuses of refusals that tell nothing of a license; those of 500 and more are the others."""

log = get_logger(__name__)


def page_of_request(by_name: Mapping[bytes, bytes]) -> str | None:
    """Return the origin of a page elsewhere that sent a request, if one did."""
    sender = by_name.get(ORIGIN)
    if not sender:
        return None
    host, site = by_name.get(b"host", b""), by_name.get(b"sec-fetch-site", b"")
    return foreign_origin(
        host=host.decode("latin-1"),
        site=site.decode("latin-1"),
        sender=sender[: ORIGIN_MAX + 1].decode("latin-1"),
    )


def share(reply: Reply, origin: str) -> Reply:
    """Let pages of an origin read an answer (Fetch standard, 3.3)."""
    own: Headers = [
        *reply.own,
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", EXPOSED),
    ]
    return msgspec.structs.replace(reply, own=own)


class CrossOrigin:
    """Answers browsers. Belongs to one event loop."""

    def __init__(self, allowed: AllowedOrigins) -> None:
        self._allowed = allowed
        self._threads = Blocking(threads=1)
        self._looking: asyncio.Task[None] | None = None

    def finish(self, reply: Reply, by_name: Mapping[bytes, bytes]) -> Reply:
        """Say that an answer is for this origin alone; share a refusal that tells nothing of a license.

        Requests that no page sent stay as they are, at the cost of a look."""
        if ORIGIN not in by_name:
            return reply
        origin = page_of_request(by_name)
        if origin is not None and _tells_nothing(reply):
            self._look_anew()  # for the next one
            reply = share(reply, origin) if self._allowed.knows(origin) else reply
        return msgspec.structs.replace(reply, own=[*reply.own, VARY])

    async def preflight(self, path: bytes, by_name: Mapping[bytes, bytes]) -> Reply:
        """Answer OPTIONS: the same to everybody, but for what lets a known origin go on."""
        allow = ALLOW.get(path, METHODS[path] + b", OPTIONS")
        reply = Reply(204, [(b"allow", allow), VARY, *SECURITY], b"")
        origin = page_of_request(by_name)
        if origin is None or b"access-control-request-method" not in by_name:
            return reply
        if not await self._knows(origin):
            return reply
        own: Headers = [
            *reply.own,
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-methods", METHODS[path]),
            (b"access-control-allow-headers", HEADERS),
            (b"access-control-max-age", str(PREFLIGHT_AGE).encode()),
        ]
        return msgspec.structs.replace(reply, own=own)

    async def _knows(self, origin: str) -> bool:
        """Look anew where that is due, once for all who ask meanwhile, and wait for it."""
        if self._look_anew():
            assert self._looking is not None
            await asyncio.wait({self._looking}, timeout=PATIENCE)
        return self._allowed.knows(origin)

    def _look_anew(self) -> bool:
        """Begin to look, if that is due. False if nothing is looked at."""
        looking = self._looking is not None and not self._looking.done()
        if self._allowed.stale and not looking:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            return True
        return looking

    async def _look(self) -> None:
        try:
            await self._threads.run(PATIENCE, self._allowed.refresh)
        except SojournError as fault:
            log.debug("origins_not_read", error=fault.message)

    async def close(self) -> None:
        await self._threads.close()


def _tells_nothing(reply: Reply) -> bool:
    """Tell whether a refusal is the same whichever license was meant, and shared with nobody yet."""
    if reply.status not in OF_NOBODY and reply.status < 500:
        return False
    return all(name != b"access-control-allow-origin" for name, _ in reply.own)
