"""How many seats an operator wants a relay to have, whatever its region needs. Pure.

An order for a pool counts before the one for all pools. More is given where there is more; what is too much
is asked back as it comes free: nobody loses a seat for an order.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sojourn.allotment import AllotmentGrant, AllotmentWish, RelayAnswer, RelayBeat
from sojourn.license import CAPACITY_MAX
from sojourn.relay_command import RelayOrder, order_of


def asked_for(beat: RelayBeat, orders: Sequence[RelayOrder]) -> RelayBeat:
    """Have a relay want what an operator wants it to have."""
    if not orders:
        return beat
    return replace(beat, wishes=tuple(_asked_for(wish, orders) for wish in beat.wishes))


def _asked_for(wish: AllotmentWish, orders: Sequence[RelayOrder]) -> AllotmentWish:
    order = order_of(orders, wish.pool_id)
    if order is None:
        return wish
    most = CAPACITY_MAX if order.most is None else order.most
    return replace(wish, want=min(max(wish.want, order.least), most))


def asked_back(answer: RelayAnswer, orders: Sequence[RelayOrder]) -> RelayAnswer:
    """Ask back what is above an order."""
    if not orders:
        return answer
    return replace(answer, grants=tuple(_asked_back(grant, orders) for grant in answer.grants))


def _asked_back(grant: AllotmentGrant, orders: Sequence[RelayOrder]) -> AllotmentGrant:
    order = order_of(orders, grant.pool_id)
    if order is None or order.most is None or grant.seats <= order.most:
        return grant
    keep = order.most if grant.keep is None else min(grant.keep, order.most)
    return replace(grant, keep=keep)


def least(answer: RelayAnswer, orders: Sequence[RelayOrder]) -> dict[str, int]:
    """Say of which pools a relay is to keep how many seats though nobody needs them."""
    found = {}
    for grant in answer.grants:
        order = order_of(orders, grant.pool_id)
        if order is not None and order.least:
            found[grant.pool_id] = order.least
    return found
