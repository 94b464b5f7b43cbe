"""Operators' orders about relays' seats: to drain a relay, and to move seats by hand."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from sojourn.clock import DAY, HOUR
from sojourn.errors import Conflict, InvalidInput, NotFound
from sojourn.ledger import Ledger
from sojourn.license import split_pool_id
from sojourn.relay_command import RelayOrder
from sojourn.store import Store

MOVED_FOR = HOUR
"""How long seats that were moved stay where they are though nobody needs them, unless said otherwise."""
MOVED_FOR_MAX = 7 * DAY


class Moved(Struct, frozen=True, kw_only=True):
    """What was ordered: which relay is to give seats back, and which is to have them."""

    giver: RelayOrder | None
    taker: RelayOrder | None


class RelayOrders:
    """An authority's side. Synchronous; safe from several threads."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def drain(self, relay: str, *, actor: str) -> int:
        """Give a relay no more seats, and ask back all that nobody sits on; return how many it has now."""
        authority, _ = self._store.authority()
        self._require(relay, authority.relays.keys())
        self._ledger.relay_commands.order([RelayOrder(relay=relay, most=0, actor=actor)])
        pools = authority.pools.values()
        return sum(pool.allotments[relay].seats for pool in pools if relay in pool.allotments)

    def fill(self, relay: str, *, actor: str) -> None:
        """Take a drain back."""
        authority, _ = self._store.authority()
        self._require(relay, authority.relays.keys())
        self._ledger.relay_commands.order([RelayOrder(relay=relay, actor=actor)])

    def move(
        self,
        pool_id: str,
        seats: int,
        *,
        giver: str | None,
        taker: str | None,
        lasting: int = MOVED_FOR,
        actor: str,
    ) -> Moved:
        """Have a relay give seats back as they come free, and another one get them.

        None instead of a relay is the authority itself. `lasting`: ms for which demand does not move them on.
        Raises NotFound, InvalidInput or Conflict.
        """
        if seats < 1 or not 0 < lasting <= MOVED_FOR_MAX:
            raise InvalidInput("Seats are moved one or more at once, for 7 days at most.")
        if giver == taker:
            raise InvalidInput("Seats are moved from one place to another.")
        authority, _ = self._store.authority([pool_id])
        for relay in (giver, taker):
            if relay is not None:
                self._require(relay, authority.relays.keys())
        license_id, feature = split_pool_id(pool_id)
        if feature not in self._ledger.features(license_id):
            raise NotFound(f"There is no feature {feature!r} on it.", code="feature_unknown")
        pool = authority.pools.get(pool_id)
        has = {} if pool is None else {name: x.seats for name, x in pool.allotments.items()}
        moved = Moved(giver=None, taker=None)
        if giver is not None:
            if has.get(giver, 0) < seats:
                raise Conflict(
                    f"The relay has {has.get(giver, 0)} seats of it.",
                    code="relay_seats",
                    hint="Ask for as many as `sojourn relays list` shows, or fewer.",
                )
            most = has[giver] - seats
            moved = Moved(giver=_order(giver, pool_id, actor, most=most), taker=None)
        if taker is not None:
            least = has.get(taker, 0) + seats
            moved = Moved(giver=moved.giver, taker=_order(taker, pool_id, actor, least=least))
        orders = [x for x in (moved.giver, moved.taker) if x is not None]
        self._ledger.relay_commands.order(orders, lasting=lasting)
        return moved

    def _require(self, relay: str, known: Collection[str]) -> None:
        if relay not in known:
            raise NotFound(
                "There is no such relay.",
                code="relay_unknown",
                hint="`sojourn relays list` shows their ids.",
            )


def _order(
    relay: str, pool_id: str, actor: str, *, least: int = 0, most: int | None = None
) -> RelayOrder:
    return RelayOrder(relay=relay, pool_id=pool_id, least=least, most=most, actor=actor)
