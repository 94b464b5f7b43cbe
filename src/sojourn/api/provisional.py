"""What comes before an acquire is refused: a question to a relay's authority, one to the holders, a place in
the line."""

from __future__ import annotations

from functools import partial

import msgspec

from sojourn.api.context import Context
from sojourn.api.hot import Awaited, BatchRequest, HotStep, Parked
from sojourn.idempotency import Repeated
from sojourn.lease import Asked, DenialReason, Denied
from sojourn.service.seats import Seat, SeatCall, Short
from sojourn.staleness.scores import network_around


def ask_first(
    context: Context, call: SeatCall, outcome: Seat | Denied | Short | Repeated
) -> HotStep | None:
    """At a relay, ask the authority for a seat. Ask holders whether they are there before a refusal is final;
    then let wait who is to wait."""
    if (pool_id := _short_of(context, call, outcome)) is not None:
        assert context.services.region is not None  # nobody else is short of seats
        above = BatchRequest("acquire", msgspec.structs.replace(call, above=True))
        return Awaited(partial(context.services.region.ask, pool_id), lambda _: above)
    if not isinstance(outcome, Denied):
        return None
    if not outcome.tentative:
        return (
            None
            if outcome.entry is None
            else Parked(msgspec.structs.replace(call, parked=True, asked=None), outcome, call.wait)
        )

    def decide(asked: Asked | None) -> BatchRequest:
        return BatchRequest("acquire", msgspec.structs.replace(call, asked=asked, waited=True))

    heard_from = None if call.device is None else network_around(call.device.ip)
    ask = partial(
        context.seat_sockets.askings.ask, once_more=not call.waited, heard_from=heard_from
    )
    return Awaited(partial(ask, outcome), decide)


def _short_of(
    context: Context, call: SeatCall, outcome: Seat | Denied | Short | Repeated
) -> str | None:
    """Name the pool of which a relay has no seat for a call, if it is to ask for one. A relay that took a
    pool for not quite full is refused by its store."""
    if isinstance(outcome, Short):
        return outcome.pool_id
    if context.services.region is None or call.above or not isinstance(outcome, Denied):
        return None
    full = outcome.reason is DenialReason.SEAT_LIMIT
    return outcome.evidence[0].pool_id if full and outcome.evidence else None
