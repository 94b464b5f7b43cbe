"""Presence: leases that are kept by an open socket, and what follows when one is silent or drops.

What is decided here, of one process, without a clock or a wire: whose lease is renewed in a round, whose
holder is doubted, whose socket is given up, and who can be asked before somebody is denied. Instants are
seconds of a clock that only goes forward. Belongs to one event loop.

A lease is doubted only if nobody has renewed it since we last did: its holder may have another socket by
now, on another server, or beat over HTTP (`Doubt.silent_for`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from math import inf
from typing import Protocol

from msgspec import Struct

from sojourn.clock import SECOND
from sojourn.lease import Beat, Doubt
from sojourn.license import Pool, WhenFull
from sojourn.token import LeaseClaims

ROUND_MIN, ROUND_MAX = 0.1, 20.0
"""Seconds between two rounds of a pool: half a heartbeat interval within these."""
QUIET = 2
"""Rounds without a sign of life after which a holder seems to be gone: an interval. It is asked then, when
somebody needs a seat. Nobody is doubted for it in the store: an office that has no line for a minute would
lose all its seats, unasked."""
QUIET_MAX = 4
"""Rounds after which its socket is given up."""
LATE = 2.0
"""A round that is late by so many times its length judges nobody: it was us who stood still."""
MARGIN, DRIFT = 0.005, 0.001
"""Seconds, and the share of a silence, by which our clock and the store's may differ over it. Whoever has
come back elsewhere that soon after our last renewal is not known to live, so it is little."""
IDLE = 60.0
"""Seconds without a deed of its person after which a holder is told that somebody needs its seat."""
NEEDED_MAX = 20
"""Holders of a pool that are told so at once."""
DROPPED_MAX = 50_000
"""Dropped sockets that a process remembers until their linger is over; the oldest are forgotten for more."""


class Line(Protocol):
    """A socket, as far as it is written to. `answered`: it has shown life since that was set to False."""

    answered: bool

    def tell(self, text: bytes | None, *, ping: bool = False) -> None: ...

    def hang_up(self, code: int, reason: str) -> None: ...

    def cut_off(self, why: str) -> None: ...


class Attendant:
    """A holder whose socket is open, or dropped a moment ago. One is told from another by identity."""

    __slots__ = (
        *(
            "asked",
            "beat",
            "claims",
            "crowd",
            "dropped_at",
            "expires_at",
            "idle_at",
            "line",
            "lived",
            "owed",
            "quiet",
        ),
        "renewed_at",
    )

    def __init__(self, claims: LeaseClaims, line: Line) -> None:
        self.claims = claims
        self.line = line
        self.renewed_at = -inf  # when the answer to our last renewal was here
        self.expires_at = -inf
        self.quiet = 0  # rounds without a sign of life
        self.lived = False  # it had shown life since the last round when it was asked
        self.asked = False  # and has shown none since
        self.owed = False  # its last renewal has failed
        self.beat = Beat()  # what its client has said since then
        self.dropped_at = inf
        self.crowd = 0  # sockets of this lease before it, each within a second of the last
        self.idle_at = inf  # since when its person does nothing, as its client says

    def doubt(self, now: float) -> Doubt:
        """Return how its holder is doubted, unless somebody else has heard of it."""
        silent = max(0.0, (now - self.renewed_at) * (1 - DRIFT) - MARGIN)
        claims = self.claims
        return Doubt(
            lease_id=claims.lease_id,
            fence=claims.fence,
            pool_id=claims.pool_id,
            silent_for=round(silent * SECOND),
        )


class Attended(Struct):
    """A pool of which sockets are open here, or were."""

    pool: Pool
    next_round: float = 0.0
    rounds: int = 0
    open: dict[str, Attendant] = {}
    dropped: dict[str, Attendant] = {}  # by lease, the oldest first

    @property
    def period(self) -> float:
        """Seconds between two rounds."""
        return min(max(self.pool.policy.heartbeat_interval / 2 / SECOND, ROUND_MIN), ROUND_MAX)

    @property
    def askable(self) -> bool:
        """Tell whether a seat of somebody who does not answer is of use to anybody."""
        return self.pool.policy.when_full is not WhenFull.DENY


class Round(Struct):
    """What is to be done for the sockets of a pool."""

    renew: list[Attendant] = []
    give_up: list[Attendant] = []


class Presence:
    """Who is there."""

    def __init__(self) -> None:
        self.pools: dict[str, Attended] = {}
        self.open = 0  # sockets of all pools
        self._dropped = 0

    def of(self, pool_id: str | None, lease_id: str | None) -> Attendant | None:
        """Return whose socket keeps a lease."""
        attended = self.pools.get(pool_id or "")
        return None if attended is None else attended.open.get(lease_id or "")

    def is_open(self, attendant: Attendant) -> bool:
        """Tell whether it is this one's socket that keeps its lease."""
        return self.of(attendant.claims.pool_id, attendant.claims.lease_id) is attendant

    def has_dropped(self, attendant: Attendant) -> bool:
        """Tell whether this one's socket has dropped, and nobody has come back."""
        attended = self.pools.get(attendant.claims.pool_id)
        dropped = {} if attended is None else attended.dropped
        return dropped.get(attendant.claims.lease_id) is attendant

    def enter(self, attendant: Attendant, pool: Pool, now: float) -> Attendant | None:
        """Take in a socket. Return which has to go for it: another of the same lease, or this one, if that
        has a newer fence."""
        attended = self.pools.get(pool.id)
        if attended is None:
            attended = self.pools[pool.id] = Attended(pool)
            self._plan(attended, now)
        lease_id, fence = attendant.claims.lease_id, attendant.claims.fence
        other = attended.open.get(lease_id)
        if other is not None and other.claims.fence > fence:
            return attendant
        self.open += other is None
        attended.open[lease_id] = attendant
        self._dropped -= attended.dropped.pop(lease_id, None) is not None
        return other

    def leave(self, attendant: Attendant, now: float, *, dropped: bool) -> bool:
        """A socket is closed. Return whether its holder is to be doubted: if it `dropped`, and no other has
        taken its place."""
        claims = attendant.claims
        attended = self.pools.get(claims.pool_id)
        if attended is None or attended.open.get(claims.lease_id) is not attendant:
            return False
        del attended.open[claims.lease_id]
        self.open -= 1
        if dropped:
            attendant.dropped_at = now
            self._dropped += attended.dropped.pop(claims.lease_id, None) is None
            attended.dropped[claims.lease_id] = attendant
            if self._dropped > DROPPED_MAX:
                self.forget(now)
        self._let_go(attended)
        return dropped

    def forget(self, now: float) -> None:
        """Forget who dropped longer ago than its pool's linger: its seat is free for whoever needs it."""
        for attended in list(self.pools.values()):
            linger = attended.pool.policy.linger / SECOND
            for lease_id, each in list(attended.dropped.items()):
                if now - each.dropped_at < linger and self._dropped <= DROPPED_MAX:
                    break
                del attended.dropped[lease_id]
                self._dropped -= 1
            self._let_go(attended)

    def _let_go(self, attended: Attended) -> None:
        if not attended.open and not attended.dropped:
            self.pools.pop(attended.pool.id, None)

    def define(self, pool: Pool, now: float) -> Iterable[Attendant]:
        """A pool is another than it was. Return those who must learn of it."""
        attended = self.pools[pool.id]
        attended.pool = pool
        self._plan(attended, now)
        return list(attended.open.values())

    def _plan(self, attended: Attended, now: float) -> None:
        """Let pools of one period have their rounds at the same time: they are renewed together."""
        attended.next_round = (now // attended.period + 1) * attended.period
        if attended.next_round <= now:  # rounded: a round would follow the last one at once
            attended.next_round += attended.period

    def due(self, now: float) -> list[Attended]:
        return [each for each in self.pools.values() if each.open and each.next_round <= now]

    def next_round(self) -> float:
        return min((each.next_round for each in self.pools.values() if each.open), default=inf)

    def round(self, attended: Attended, now: float) -> Round:
        """See who has shown life since the last round, and plan the next one. Where we stood still since,
        whoever was there before counts as there."""
        stood_still = now - attended.next_round > LATE * attended.period
        self._plan(attended, now)
        attended.rounds += 1
        found = Round()
        for each in attended.open.values():
            if each.line.answered:
                each.line.answered = each.asked = False
                each.quiet = 0
            elif each.lived:
                each.quiet = 0
            elif not stood_still:
                each.quiet += 1
            each.lived = False
            if not each.quiet:
                found.renew.append(each)
            if each.quiet >= QUIET_MAX:
                found.give_up.append(each)
        return found

    def owed(self) -> list[Attendant]:
        """Return whose last renewal has failed, or is to be made anew, unless they are silent."""
        return [
            each
            for attended in self.pools.values()
            for each in attended.open.values()
            if each.owed and each.quiet < QUIET
        ]

    def askable(self, pool_id: str) -> bool:
        """Tell whether the holders of a pool can be asked here."""
        attended = self.pools.get(pool_id)
        return attended is not None and attended.askable

    def doubtful(self, pool_id: str, now: float) -> tuple[list[Attendant], list[Attendant]]:
        """Return who seems to be gone: whose socket has been silent for an interval, and whose has dropped
        within the linger, and can only come back."""
        attended = self.pools.get(pool_id)
        if attended is None or not attended.askable:
            return [], []
        linger = attended.pool.policy.linger / SECOND
        silent = [x for x in attended.open.values() if x.quiet >= QUIET and not x.line.answered]
        dropped = [x for x in attended.dropped.values() if now - x.dropped_at <= linger]
        return silent, dropped

    def others(self, pool_id: str, limit: int) -> list[Attendant]:
        """Return holders that can be asked, though they do not seem to be gone: first those who have shown no
        life since the last round."""
        attended = self.pools.get(pool_id)
        if attended is None or not attended.askable:
            return []
        there = [x for x in attended.open.values() if x.quiet < QUIET or x.line.answered]
        first = (x for x in there if not x.line.answered)
        return list(islice(chain(first, (x for x in there if x.line.answered)), limit))

    def ask(self, attendants: Iterable[Attendant]) -> list[Attendant]:
        """Note that these are asked now; return those who can hear it. A sign of life of before counts for
        the next round, and is no answer."""
        found = [x for x in attendants if self.is_open(x)]
        for each in found:
            each.lived |= each.line.answered
            each.asked, each.line.answered = True, False
        return found

    def idle(self, pool_id: str, now: float) -> list[Attendant]:
        """Return who can be asked for a seat that somebody needs: whose person has done nothing for a while,
        the longest first; each at most once in that time."""
        attended = self.pools.get(pool_id)
        found = [] if attended is None else list(attended.open.values())
        found = sorted((x for x in found if now - x.idle_at >= IDLE), key=lambda x: x.idle_at)
        for each in found[:NEEDED_MAX]:
            each.idle_at = now
        return found[:NEEDED_MAX]

    def missing(self, pool_id: str, asked: Iterable[Attendant]) -> list[Attendant]:
        """Return who of those that were asked (see `ask`) has shown no life since. Who has come back on
        another socket has; and who has said goodbye is not looked for."""
        attended = self.pools.get(pool_id)
        if attended is None:
            return []
        return [
            each
            for each in asked
            if attended.dropped.get(each.claims.lease_id) is each
            or (
                attended.open.get(each.claims.lease_id) is each
                and each.asked
                and not each.line.answered
            )
        ]
