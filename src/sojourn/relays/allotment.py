"""What an authority gives its relays to grant by themselves. Pure.

An allotment is a lease of so many seats. In every state that is committed, the seats of all allotments of a
pool and those that the authority granted itself are at most the pool's capacity; only a lowered capacity, or
what comes back after a restore, may leave it exceeded, and then nothing is given until it holds again.

The fence orders what is said of one allotment. A relay that was told n seats under a fence may believe in n
until it says less under that fence, or until its deadline. So a larger number takes a new fence, always; a
smaller one counts when the relay says it, under the very fence; and what is said under an older fence, or
beaten with an older number, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from sojourn.relays.messages import (
    AllotmentGrant,
    AllotmentWish,
    RelayAnswer,
    RelayBeat,
    RelayRefusal,
)


class Allotment(Struct, frozen=True):
    """Seats of one pool that a relay may grant. Over at `expires_at`, by the authority's clock, unless the
    relay is heard before."""

    seats: int
    fence: int
    expires_at: int


class Known(Struct, frozen=True):
    """A relay as its authority knows it: the life that it is in, and its latest beat."""

    life: str = ""
    number: int = 0


class Shares(Struct, frozen=True):
    """One pool at its authority.

    Attributes: own: seats granted by the authority itself; fences: the highest of each relay that ever was,
    for a fence is never given twice.
    """

    capacity: int
    own: int = 0
    ttl: int = 0
    allotments: Mapping[str, Allotment] = {}
    fences: Mapping[str, int] = {}

    @property
    def allotted(self) -> int:
        return sum(each.seats for each in self.allotments.values())

    @property
    def free(self) -> int:
        """Seats that nobody may grant but the authority: less than none where more are out than there are."""
        return self.capacity - self.own - self.allotted


class Authority(Struct, frozen=True):
    """What an authority has committed.

    Attributes: epoch: one more each time that it may have lost what it had answered; doubt_until: until when
    relays may hold what it does not know of; unheard: relays that it knew when that was noticed, and that
    have not spoken in this epoch. Nothing is given until all have, or that time has passed.
    """

    pools: Mapping[str, Shares] = {}
    relays: Mapping[str, Known] = {}
    epoch: int = 1
    doubt_until: int = 0
    unheard: frozenset[str] = frozenset()

    def doubts(self, now: int) -> bool:
        """Whether a relay may hold what is not known here."""
        return bool(self.unheard) and now < self.doubt_until


def expire(pool: Shares, now: int) -> Shares:
    """Take back what is over."""
    living = {name: x for name, x in pool.allotments.items() if now < x.expires_at}
    return pool if len(living) == len(pool.allotments) else replace(pool, allotments=living)


def hear(authority: Authority, beat: RelayBeat, now: int) -> tuple[Authority, RelayAnswer]:
    """Decide what a beat is answered. The new state must be committed before the answer leaves."""
    known = authority.relays.get(beat.relay, Known())
    late = beat.number <= known.number
    if late and beat.life != known.life:
        return authority, RelayAnswer(authority.epoch, known.number, refused=RelayRefusal.CLONED)
    if not late:
        relays = {**authority.relays, beat.relay: Known(beat.life, beat.number)}
        authority = _notice(replace(authority, relays=relays), beat, now)
    pools, grants = dict(authority.pools), []
    for wish in beat.wishes:
        pool = pools.get(wish.pool_id)
        if pool is None:
            continue
        pool = expire(pool, now)
        if not late:
            pool = _learn(pool, beat.relay, wish, now)
            pool = pool if authority.doubts(now) else _give(pool, beat.relay, wish, now)
        pools[wish.pool_id] = pool
        mine = pool.allotments.get(beat.relay)
        if mine is not None:
            keep = max(0, mine.seats + pool.free) if pool.free < 0 else None
            grants.append(AllotmentGrant(wish.pool_id, mine.seats, mine.fence, pool.ttl, keep))
    answer = RelayAnswer(authority.epoch, beat.number, tuple(grants))
    return replace(authority, pools=pools), answer


def _notice(authority: Authority, beat: RelayBeat, now: int) -> Authority:
    """Notice who has spoken since this authority was put back to an earlier state, and that it was: a relay
    knows of an epoch, or of a fence in this one, that is not known here."""
    if beat.epoch > authority.epoch or (
        beat.epoch == authority.epoch
        and any(
            wish.fence > authority.pools[wish.pool_id].fences.get(beat.relay, 0)
            for wish in beat.wishes
            if wish.pool_id in authority.pools
        )
        and beat.relay not in authority.unheard
    ):
        authority = restored(authority, now, epoch=max(authority.epoch, beat.epoch) + 1)
    if beat.epoch == authority.epoch and beat.relay in authority.unheard:
        authority = replace(authority, unheard=authority.unheard - {beat.relay})
    return authority


def restored(authority: Authority, now: int, *, epoch: int | None = None) -> Authority:
    """Begin a new epoch: relays may hold what is not known here. They say so with their beats, each once it
    has heard of the epoch: what it said before may be older than what it holds."""
    longest = max((pool.ttl for pool in authority.pools.values()), default=0)
    return replace(
        authority,
        epoch=epoch or authority.epoch + 1,
        doubt_until=max(authority.doubt_until, now + longest),
        unheard=frozenset(authority.relays),
    )


def _learn(pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
    """Take over what a relay says that it holds: never more than it was given under that fence."""
    mine = pool.allotments.get(relay)
    highest = pool.fences.get(relay, 0)
    if wish.fence > highest:  # given before a restore: it is believed, and counted from now on
        mine = Allotment(wish.seats, wish.fence, now + pool.ttl)
        fences = {**pool.fences, relay: wish.fence}
        return replace(pool, allotments={**pool.allotments, relay: mine}, fences=fences)
    if mine is None:
        return pool
    seats = min(mine.seats, wish.seats) if wish.fence == mine.fence else mine.seats
    renewed = Allotment(max(0, seats), mine.fence, now + pool.ttl)
    return replace(pool, allotments={**pool.allotments, relay: renewed})


def _give(pool: Shares, relay: str, wish: AllotmentWish, now: int) -> Shares:
    """Give a relay more where it wants more and there is more, under a new fence."""
    mine = pool.allotments.get(relay)
    seats = 0 if mine is None else mine.seats
    more = min(wish.want - seats, pool.free)
    if more <= 0:
        return pool
    fence = pool.fences.get(relay, 0) + 1
    grown = Allotment(seats + more, fence, now + pool.ttl)
    return replace(
        pool,
        allotments={**pool.allotments, relay: grown},
        fences={**pool.fences, relay: fence},
    )
