"""Random histories of pools, made by the real store in memory, and what they come to by brute force.

The brute force knows nothing of hours, pages or roll-ups: it looks at every stretch between two instants at
which anything happened, and asks of every hold whether it covers that.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from sojourn.clock import DAY, HOUR, MINUTE, SECOND, ManualClock
from sojourn.device import Device
from sojourn.event import Event
from sojourn.lease import Beat, Doubt, Lease, LeaseFilter, Release, Renew
from sojourn.ledger import Audit
from sojourn.license import CountBy, Policy, Pool, Reservation, WhenFull
from sojourn.store import LIST_MAX, Action
from sojourn.stores.memory import MemoryStore
from sojourn.testing.builders import acquire

GRANTS = ("lease.acquired", "lease.resumed", "lease.taken_over")
ENDS = ("lease.released", "lease.evicted", "lease.revoked", "lease.expired")
BEGAN = 1_790_000_000_000
LEAPS = (
    *(1, 7, 900, 3 * SECOND, 11 * SECOND, 20 * SECOND, 45 * SECOND, 70 * SECOND),
    *(95 * SECOND, 4 * MINUTE, 20 * MINUTE, HOUR, 5 * HOUR),
)


class History(Struct, frozen=True, kw_only=True):
    """What happened, and what the store itself said meanwhile."""

    pools: list[Pool]
    events: list[Event]
    audits: list[Audit]
    in_use: dict[tuple[str, int], int]  # by pool and instant: after all that happened then
    now: int


class Hold(Struct, frozen=True, kw_only=True):
    """A seat that somebody held, as the brute force has it."""

    pool: str
    user: str
    client: str
    since: int
    until: int | None
    reason: str = ""
    silent: int = 0  # from the last beat to the end


def pools_of(chance: random.Random) -> list[Pool]:
    """Make one to three pools of any policy."""
    return [
        Pool(license_id="lic_1", feature=f"feature-{place}", policy=policy_of(chance))
        for place in range(chance.randint(1, 3))
    ]


def policy_of(chance: random.Random) -> Policy:
    capacity = chance.randint(1, 4)
    when_full = chance.choice(list(WhenFull))
    reservations: tuple[Reservation, ...] = ()
    if chance.random() < 0.2:
        seats = chance.randint(1, capacity)
        reservations = (Reservation(name="kept", seats=seats, users=("user-0", "user-1")),)
    return Policy(
        capacity=capacity,
        count_by=chance.choice(list(CountBy)),
        when_full=when_full,
        idle_after=60 * SECOND if when_full is WhenFull.EVICT_IDLE else None,
        overdraft=chance.choice((0, 0, 0, 1)),
        max_lease=chance.choice((None, None, 10 * MINUTE)),
        linger=chance.choice((0, 10 * SECOND)),
        suspect_after=chance.choice((None, 30 * SECOND, 90 * SECOND)),
        reservations=reservations,
    ).validate()


def history_of(seed: int, *, actions: int = 60, outages: bool = True) -> History:
    """Play a random history of some pools; what ran out is noted in the end, as it is in life."""
    return _Play(random.Random(seed), outages=outages).run(actions)


class _Play:
    def __init__(self, chance: random.Random, *, outages: bool) -> None:
        self.chance = chance
        self.clock = ManualClock(BEGAN + chance.randrange(DAY))
        self.store = MemoryStore(self.clock, max_pause=10 * SECOND if outages else 10 * DAY)
        self.pools = pools_of(chance)
        self.audits: list[Audit] = []
        self.leases: list[Lease] = []
        self.in_use: dict[tuple[str, int], int] = {}
        self.store.define(self.pools)
        for pool in self.pools:
            self._told(pool)

    def run(self, actions: int) -> History:
        for _ in range(actions):
            for _ in range(self.chance.choice((1, 1, 2, 3))):
                self._act()
            self._look()
            if self.chance.random() < 0.7:
                self.clock.advance(milliseconds=self.chance.choice(LEAPS))
                if self.chance.random() < 0.7:
                    self.store.pulse()
        self._look()
        self.store.sweep()
        events = self.store.events(limit=LIST_MAX)
        return History(
            pools=self.pools,
            events=events,
            audits=self.audits,
            in_use=self.in_use,
            now=self.store.now(),
        )

    def _told(self, pool: Pool) -> None:
        self.audits.append(
            Audit(
                id=len(self.audits) + 1,
                at=self.store.now(),
                actor="key:1",
                action="feature.set",
                subject=pool.license_id,
                data={"feature": pool.feature, "policy": to_builtins(pool.policy)},
            )
        )

    def _look(self) -> None:
        for pool, usage in zip(
            self.pools, self.store.usage([pool.id for pool in self.pools]), strict=True
        ):
            assert usage is not None
            self.in_use[pool.id, usage.at] = usage.in_use

    def _act(self) -> None:
        deeds = (
            *(self._ask, self._ask, self._ask, self._ask, self._beat, self._beat),
            *(self._leave, self._close, self._sweep, self._revoke, self._doubt, self._resize),
        )
        self.chance.choice(deeds)()

    def _ask(self) -> None:
        chance = self.chance
        requests = [
            acquire(
                f"user-{chance.randrange(4)}",
                f"client-{chance.randrange(3)}",
                pool_id=chance.choice(self.pools).id,
                takeover=chance.random() < 0.2,
                wait=chance.random() < 0.25,
                device=Device(kind="desktop"),
            )
            for _ in range(chance.choice((1, 1, 1, 3)))
        ]
        answers = self.store.acquire(requests)
        self.leases += [answer for answer in answers if isinstance(answer, Lease)]

    def _some(self) -> Lease | None:
        return self.chance.choice(self.leases[-12:]) if self.leases else None

    def _beat(self) -> None:
        for lease in self.chance.sample(self.leases[-8:], k=min(len(self.leases[-8:]), 4)):
            beat = Beat(
                idle_for=self.chance.choice((None, 0, 70 * SECOND)),
                next_in=self.chance.choice((None, None, 80 * SECOND)),
            )
            self.store.renew([Renew(lease_id=lease.id, fence=lease.fence, beat=beat)])

    def _close(self) -> None:
        if (lease := self._some()) is not None:
            beat = Beat(closing=True)
            self.store.renew([Renew(lease_id=lease.id, fence=lease.fence, beat=beat)])

    def _leave(self) -> None:
        if (lease := self._some()) is not None:
            self.store.release([Release(lease_id=lease.id, fence=lease.fence)])

    def _doubt(self) -> None:
        if (lease := self._some()) is not None:
            self.store.doubt([Doubt(lease_id=lease.id, fence=lease.fence)])

    def _sweep(self) -> None:
        self.store.sweep(limit=self.chance.choice((1, 100)))

    def _revoke(self) -> None:
        if self.chance.random() < 0.3 and (lease := self._some()) is not None:
            self.store.revoke(LeaseFilter(user_id=lease.user_id), Action(actor="key:1", name="x"))

    def _resize(self) -> None:
        if self.chance.random() < 0.3:
            place = self.chance.randrange(len(self.pools))
            pool = self.pools[place]
            policy = replace(pool.policy, capacity=self.chance.randint(1, 5), reservations=())
            self.pools[place] = replace(pool, policy=policy)
            self.store.define([self.pools[place]])
            self._told(self.pools[place])


def holds_of(events: Sequence[Event]) -> list[Hold]:
    """Pair grants with ends, the plain way."""
    open_: dict[tuple[str, str, str], tuple[str, int]] = {}
    found: list[Hold] = []
    for event in events:
        holder = (event.pool_id or "", event.user_id or "", event.client_id or "")
        if event.kind in GRANTS:
            if holder in open_ and open_[holder][0] != event.subject:
                found.append(_hold(holder, open_.pop(holder)[1], event.at))
            open_.setdefault(holder, (str(event.subject), event.at))
        elif event.kind in ENDS and holder in open_ and open_[holder][0] == event.subject:
            end = event.at - event.data.get("expiredFor", 0)
            beat = event.at - event.data["silentFor"]
            reason = event.data["reason"]
            found.append(_hold(holder, open_.pop(holder)[1], end, reason, max(0, end - beat)))
    return found + [_hold(holder, began, None) for holder, (_, began) in open_.items()]


def _hold(
    holder: tuple[str, str, str], since: int, until: int | None, reason: str = "", silent: int = 0
) -> Hold:
    pool, user, client = holder
    until = None if until is None else max(since, until)
    return Hold(
        pool=pool, user=user, client=client, since=since, until=until, reason=reason, silent=silent
    )


def level_at(holds: Sequence[Hold], pool: Pool, at: int) -> int:
    """Count the seats that are held at an instant."""
    count_by = pool.policy.count_by
    seats = set()
    for hold in holds:
        if hold.pool == pool.id and hold.since <= at and (hold.until is None or at < hold.until):
            seats.add(
                hold.user
                if count_by is CountBy.USER
                else hold.client
                if count_by is CountBy.CLIENT
                else (hold.user, hold.client)
            )
    return len(seats)


def levels_of(holds: Sequence[Hold], pool: Pool, since: int, until: int) -> Counter[int]:
    """Measure by brute force for how long a pool was at which level."""
    mine = [hold for hold in holds if hold.pool == pool.id]
    instants = {since, until}
    instants |= {x for hold in mine for x in (hold.since, hold.until) if x is not None}
    marks = sorted(each for each in instants if since <= each <= until)
    found: Counter[int] = Counter()
    for begin, end in pairwise(marks):
        found[level_at(mine, pool, begin)] += end - begin
    return found


def quantile_of(levels: Counter[int], share: float) -> int:
    """Return the least level at or below which all but a share of the time lies."""
    whole = sum(levels.values())
    for level in sorted(levels):
        if sum(lasted for each, lasted in levels.items() if each <= level) >= share * whole:
            return level
    return 0
