"""What a relay may grant by itself, and until when. Pure.

A relay believes in its seats from the instant *before* the beat left whose answer gave them, by a clock that
nobody sets, less what clocks may differ by: its authority counts them for longer. Under one fence it never
holds more than it has said before, so that a late answer cannot give back what it has given up.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import SECOND
from sojourn.relays.messages import (
    AllotmentGrant,
    AllotmentWish,
    RelayAnswer,
    RelayBeat,
    RelayRefusal,
)

DRIFT = 1_000
"""The relay's clock and its authority's may differ by one part in so many."""
MARGIN = 2 * SECOND
SENT_MAX = 8
"""Beats whose answers are still waited for; an answer to an older one is not taken."""


class Share(Struct, frozen=True):
    """Seats of one pool. `held`: what clients of the relay have; `deadline`: by the relay's clock."""

    seats: int = 0
    fence: int = 0
    deadline: int = 0
    held: int = 0


class Relay(Struct, frozen=True):
    """What a relay has committed.

    Attributes: number: of the latest beat, over all lives, written before it leaves; sent: when the latest
    beats left, by their numbers, of this life alone; replaced: another process has taken its name.
    """

    name: str
    life: str
    number: int = 0
    epoch: int = 0
    shares: Mapping[str, Share] = {}
    sent: Mapping[int, int] = {}
    replaced: bool = False


def usable(ttl: int, *, drift: int = DRIFT, margin: int = MARGIN) -> int:
    """Return for how many ms of ttl a relay may believe what it was told."""
    return max(0, ttl - ttl // drift - margin)


def expire(relay: Relay, now: int) -> Relay:
    """Give up what is over: its holders' leases have ended with it, as none was granted for longer."""
    shares = {
        pool_id: share
        if now < share.deadline or not (share.seats or share.held)
        else replace(share, seats=0, held=0)
        for pool_id, share in relay.shares.items()
    }
    return replace(relay, shares=shares)


def speak(relay: Relay, wants: Mapping[str, int], now: int) -> tuple[Relay, RelayBeat]:
    """Make the next beat. The new state must be committed before it leaves."""
    relay = expire(relay, now)
    number = relay.number + 1
    wishes = []
    for pool_id, want in wants.items():
        share = relay.shares.get(pool_id, Share())
        wishes.append(AllotmentWish(pool_id, share.seats, share.fence, share.held, want))
    sent = dict(sorted({**relay.sent, number: now}.items())[-SENT_MAX:])
    beat = RelayBeat(relay.name, relay.life, number, relay.epoch, tuple(wishes))
    return replace(relay, number=number, sent=sent), beat


def listen(relay: Relay, answer: RelayAnswer, now: int, *, margin: int = MARGIN) -> Relay:
    """Take an answer over. Clients may rely on it once the new state is committed."""
    relay = expire(relay, now)
    if answer.refused is not None:
        cloned = answer.refused is RelayRefusal.CLONED and relay.sent
        return replace(relay, replaced=True) if cloned else relay
    sent_at = relay.sent.get(answer.number)
    if sent_at is None or answer.epoch < relay.epoch:
        return relay
    shares = dict(relay.shares)
    for grant in answer.grants:
        share = shares.get(grant.pool_id, Share())
        shares[grant.pool_id] = _take(share, grant, sent_at + usable(grant.ttl, margin=margin))
    return expire(replace(relay, epoch=answer.epoch, shares=shares), now)


def _take(share: Share, grant: AllotmentGrant, deadline: int) -> Share:
    if grant.fence < share.fence:
        return share
    seats = grant.seats if grant.fence > share.fence else share.seats
    share = Share(seats, grant.fence, max(share.deadline, deadline), share.held)
    return share if grant.keep is None else give_back(share, grant.keep)


def give_back(share: Share, keep: int) -> Share:
    """Keep so many seats, or as many as are held: nobody loses one for it."""
    return replace(share, seats=min(share.seats, max(keep, share.held)))


def may_grant(share: Share, now: int, *, stop: int) -> bool:
    """Whether one more seat may be granted: `stop` ms before the deadline no more is, so that every lease
    can end in time."""
    return share.held < share.seats and now < share.deadline - stop
