"""Holds a relay's store to its allotments: the count is the store's, the time is the gate's.

The store counts seats under its lock, as everywhere: a pool's capacity there is what the relay may grant. The
gate adds what no store knows: the deadline. Near it the pool is closed; no holder is told of a seat that
lasts longer; past it nobody is told of one at all, however long an answer was on its way from the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import SECOND
from sojourn.errors import Overloaded, SojournError
from sojourn.event import OWN_LICENSES
from sojourn.idempotency import Repeated, Replayed
from sojourn.lease import Acquire, Denied, Lease, LeaseFilter, Origin, Release, Renew, Renewal
from sojourn.license import DURATION_MAX, Policy, split_pool_id
from sojourn.service.seats import Short
from sojourn.store import Store

HEARTBEATS = 2
"""So many heartbeat intervals before the deadline the last seat is granted."""
NO_LIMIT = DURATION_MAX
"""ms; for pools of Sojourn's own, which no authority knows of."""


class Recovering(Overloaded):
    """The relay may have forgotten whom it gave seats to: those come back first."""

    code = "region_recovering"
    hint = "Wait as long as Retry-After says, then ask again."


class Limit(Struct, frozen=True):
    """What a pool may grant. By the relay's clock, in ms.

    Attributes: seats: as the store has them for its capacity; deadline: nobody may believe in a seat past it;
    stop: so long before it the last seat is granted.
    """

    seats: int
    deadline: int
    stop: int

    def closes_at(self) -> int:
        return self.deadline - self.stop


def stop_of(policy: Policy) -> int:
    """Return how long before its deadline a pool stops granting, so that its holders hear of it in time."""
    return HEARTBEATS * policy.heartbeat_interval


class Gate:
    """Limits of pools, and what may pass. Safe from several threads.

    `close` is told of pools that have come to their stop line (False) or their deadline (True); when it
    returns, their store grants nothing more, and past the deadline holds nothing.
    """

    def __init__(self, now: Callable[[], int], close: Callable[[str, bool], None]) -> None:
        self._now = now
        self._close = close
        self._lock = threading.Lock()
        self._limits: dict[str, Limit] = {}
        self._room: dict[
            str, int
        ] = {}  # seats that were free when it was counted, less those granted
        self._careful_until = 0  # by the relay's clock

    def limit(self, limits: Mapping[str, Limit]) -> None:
        """Take other limits. The store's capacities are as they say already, or lower."""
        with self._lock:
            for name, limit in limits.items():
                before = self._limits.get(name)
                if name in self._room and before is not None:
                    self._room[name] += limit.seats - before.seats
            self._limits = dict(limits)
            self._room = {name: n for name, n in self._room.items() if name in limits}

    def count(self, free: Mapping[str, int]) -> None:
        """Note how many seats of pools were free a moment ago."""
        with self._lock:
            self._room.update(free)

    def be_careful(self, until: int) -> None:
        """Until then only those get seats who prove by a lease's token that they had one."""
        with self._lock:
            self._careful_until = max(self._careful_until, until)

    def look(
        self, store: Store, requests: Sequence[Acquire], *, asked: Sequence[bool]
    ) -> list[Short | SojournError | None]:
        """Say of each request what comes before the store: a question to the authority (Short), a refusal,
        or nothing. `asked`: the authority was asked for this one already."""
        now = self._now()
        outcomes: list[Short | SojournError | None] = [None] * len(requests)
        unsure: list[int] = []
        with self._lock:
            careful = self._careful_until - now
            for i, request in enumerate(requests):
                if split_pool_id(request.pool_id)[0] in OWN_LICENSES:
                    continue
                if careful > 0 and request.resume is None:
                    outcomes[i] = Recovering(
                        "This region was put back to an earlier state, and lets those come back first "
                        "who held a seat.",
                        retry_after=max(SECOND, careful),
                    )
                elif not asked[i]:
                    if request.pool_id not in self._limits:
                        outcomes[i] = Short(request.pool_id)
                    elif self._room.get(request.pool_id, 0) <= 0:
                        unsure.append(i)
        if unsure:
            found = store.preview([requests[i] for i in unsure])
            for i, outcome in zip(unsure, found, strict=True):
                if isinstance(outcome, Denied):
                    outcomes[i] = Short(requests[i].pool_id)
        return outcomes

    def watch(self, pool_ids: set[str]) -> None:
        """Close those of these pools that have come to their stop line or their deadline."""
        now = self._now()
        with self._lock:
            found = {name: self._limits.get(name) for name in pool_ids}
        for name, limit in found.items():
            if limit is None:
                continue
            if now >= limit.deadline:
                self._close(name, True)
            elif now >= limit.closes_at() and limit.seats:
                self._close(name, False)

    def left(self, pool_id: str) -> int:
        """Return for how many ms a seat of this pool may be believed in."""
        if split_pool_id(pool_id)[0] in OWN_LICENSES:
            return NO_LIMIT
        with self._lock:
            limit = self._limits.get(pool_id)
        return 0 if limit is None else limit.deadline - self._now()

    def granted(self, leases: Sequence[Lease]) -> None:
        with self._lock:
            for lease in leases:
                if lease.origin is not Origin.TAKEN_OVER and lease.pool_id in self._room:
                    self._room[lease.pool_id] -= 1


class GatedStore:
    """A store of which `acquire` and `renew` keep to a gate; all else is the store's own."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied | Repeated]:
        self._gate.watch({request.pool_id for request in requests})
        outcomes = self._store.acquire(requests)
        self._gate.granted([x for x in outcomes if isinstance(x, Lease)])
        late = {
            i: x
            for i, x in enumerate(outcomes)
            if isinstance(x, Lease) and self._gate.left(x.pool_id) <= 0
        }
        if late:  # the store took so long that they must not be told
            self._store.release(
                [Release(lease_id=x.id, fence=x.fence, pool_id=x.pool_id) for x in late.values()]
            )
            self._gate.watch({x.pool_id for x in late.values()})
            # Without the key, under which the store would tell of the lease that was just taken back.
            again = [replace(requests[i], idempotency=None) for i in late]
            for i, x in zip(late, self._store.acquire(again), strict=True):
                outcomes[i] = x
        over = self._over([x.answer for x in outcomes if isinstance(x, Replayed)])
        return [self._cut(x, over) for x in outcomes]

    def _over(self, answers: Sequence[Any]) -> set[tuple[str, int]]:
        """Return which leases of first answers live no longer, by id and fence. A lease that was taken back
        here has no holder who knows that."""
        told = {(x.id, x.fence) for x in answers if isinstance(x, Lease)}
        if not told:
            return told
        ids = tuple(sorted({lease_id for lease_id, _ in told}))
        living, _ = self._store.leases(LeaseFilter(ids=ids), limit=len(ids))
        return told - {(x.id, x.fence) for x in living}

    def _cut(self, outcome: Any, over: Collection[tuple[str, int]]) -> Any:
        """Return what may be told of an outcome: a lease ends with its allotment, and one that is over has
        nothing left."""
        if isinstance(outcome, Replayed):
            return replace(outcome, answer=self._cut(outcome.answer, over))
        if not isinstance(outcome, Lease):
            return outcome
        left = max(0, self._gate.left(outcome.pool_id))
        if (outcome.id, outcome.fence) in over:
            left = 0
        return replace(outcome, expires_at=min(outcome.expires_at, outcome.last_beat_at + left))

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        self._gate.watch({renew.pool_id for renew in renews if renew.pool_id is not None})
        return [
            None if renewal is None else self._cut_renewal(renew, renewal)
            for renew, renewal in zip(renews, self._store.renew(renews), strict=True)
        ]

    def _cut_renewal(self, renew: Renew, renewal: Renewal) -> Renewal | None:
        assert renew.pool_id is not None  # a token names its pool
        left = self._gate.left(renew.pool_id)
        if left <= 0:
            return None
        return replace(renewal, expires_in=min(renewal.expires_in, left))
