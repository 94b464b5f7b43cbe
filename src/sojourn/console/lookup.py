"""Answers an operator's questions: who holds which seat, who was refused, what is known of one person.

Reads only, a few bounded lists at a time. Synchronous; safe from several threads.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import MINUTE
from sojourn.errors import NotFound
from sojourn.event import Event, EventKind
from sojourn.lease import Lease, LeaseFilter, Usage, Waiting
from sojourn.ledger import Ledger
from sojourn.license import License, Pool, pool_id, split_pool_id
from sojourn.session import SessionPage
from sojourn.store import LIST_MAX, Store

T = TypeVar("T")

POOLS_MAX = 2_000
"""Pools that one list shows; of more, the first ones by id."""
LATELY = 15 * MINUTE
"""For so long a refusal counts as recent."""
PATIENCE_MIN = MINUTE
"""Who was refused waits for two of the times that the refusal named, and for so long at least."""
DENIALS_MAX = 500
SESSIONS_MAX = 50
HISTORY_MAX = 200

HOLDERS_ASKED = 100
"""Of those who were refused lately, so many are looked up: have they a seat by now? More count as waiting."""
FRESH_FOR = 2.0
"""Seconds for which what was read of all pools is told again; where reading takes long,"""
READ_SHARE = 20
"""so many times as long as it took: no index leads to the few refusals among many other events."""

TURNED_AWAY = (EventKind.LEASE_DENIED, EventKind.LEASE_WAITING)
SERVED = (EventKind.LEASE_ACQUIRED, EventKind.LEASE_RESUMED, EventKind.LEASE_TAKEN_OVER)


class PoolUse(Struct, frozen=True, kw_only=True):
    """A pool, what of it is in use, and how many people were refused lately and got no seat since."""

    pool: Pool
    usage: Usage
    license_name: str
    refused: int = 0

    @property
    def kept(self) -> int:
        """Seats that are free and reserved: not everybody gets one."""
        rooms = zip(self.pool.policy.reservations, self.usage.reserved, strict=False)
        return sum(max(0, room.seats - used) for room, used in rooms)

    @property
    def free(self) -> int:
        """Seats that whoever asks next gets, those above the capacity included."""
        most = self.usage.capacity + self.usage.overdraft
        return max(0, most - self.usage.in_use - self.kept)


class RefusedUser(Struct, frozen=True, kw_only=True):
    """Somebody who was refused and has no seat since. Times are the store's, in ms."""

    pool_id: str
    user_id: str
    client_id: str
    times: int
    first_at: int
    last_at: int
    retry_after: int  # ms, as the last refusal said

    def waits(self, now: int) -> bool:
        """Tell whether they may still wait: they were refused within two of their retry intervals."""
        return now - self.last_at <= max(PATIENCE_MIN, 2 * self.retry_after)


class Holders(Struct, frozen=True, kw_only=True):
    """A pool and its holders, the most silent first. `more`: there are too many to list."""

    use: PoolUse
    license: License | None
    leases: tuple[Lease, ...]
    more: bool
    refused: tuple[RefusedUser, ...]  # those in the line are left out
    line: tuple[Waiting, ...]  # in its order
    at: int


class Person(Struct, frozen=True, kw_only=True):
    """What is known of one user. `leases` has those that ended lately, too, newest first."""

    user_id: str
    sessions: SessionPage
    leases: tuple[Lease, ...]
    pools: dict[str, PoolUse]  # of these leases and refusals, by pool id
    refused: tuple[RefusedUser, ...]
    silent: dict[str, Lease]  # the most silent suspect of each pool that refused them, by pool id
    history: tuple[Event, ...]  # newest first
    at: int

    @property
    def known(self) -> bool:
        return bool(self.sessions.total or self.leases or self.history)


class Told(Generic[T]):
    """Caches a list that many pages ask for every few seconds. Safe from several threads.

    One thread reads while the others wait for its result. The wait is bounded by the store's own timeouts.
    """

    def __init__(self, read: Callable[[], list[T]]) -> None:
        self.fresh_for = FRESH_FOR
        self._read = read
        self._found: list[T] = []
        self._until = 0.0  # monotonic
        self._reading = threading.Lock()
        self._version = object()  # another one after each change
        self._read_version: object = None

    def get(self) -> list[T]:
        """Return the last result, or read again if it is old or `forget` was called since that read began."""
        with self._reading:
            began, version = time.monotonic(), self._version
            if began >= self._until or version is not self._read_version:
                self._found = self._read()
                ended = time.monotonic()
                self._until = ended + max(self.fresh_for, READ_SHARE * (ended - began))
                self._read_version = version
            return self._found

    def forget(self) -> None:
        """Make the next `get` read again. Does not wait for a read that is under way."""
        self._version = object()


class Lookup:
    """Reads a store and its ledger for the console."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._refused = Told(lambda: refused_of(self._turned_away(None), self._store.now()))
        self._denials = Told(self._all_denials)

    def pools(self) -> list[PoolUse]:
        """Return the pools, the tightest first: those with refused people, then the fullest."""
        pools: list[Pool] = []
        while len(pools) < POOLS_MAX:
            found = self._ledger.pools(after=pools[-1].id if pools else None, limit=LIST_MAX)
            pools += found
            if len(found) < LIST_MAX:
                break
        waiting = Counter(each.pool_id for each in self.waiting())
        return sorted(self._used(pools, waiting), key=_pressure)

    def pools_of(self, license_id: str) -> list[PoolUse]:
        """Return the pools of one license, in the same order."""
        waiting = Counter(each.pool_id for each in self.waiting())
        return sorted(self._used(self._ledger.pools(license_id), waiting), key=_pressure)

    def holders(self, license_id: str, feature: str, *, find: str = "") -> Holders:
        """Show one pool. Raises NotFound where there is none. Where there are too many holders to list,
        those of the user `find` are."""
        name = pool_id(license_id, feature)
        pools = [pool for pool in self._ledger.pools(license_id) if pool.id == name]
        use = next(iter(self._used(pools, {})), None)
        if use is None:
            raise NotFound(
                f"There is no feature {feature!r} on a license {license_id!r}.",
                code="feature_unknown",
                hint="Seats lists those that there are.",
            )
        which = LeaseFilter(license_id=license_id, feature=feature)
        leases, now = self._store.leases(which, limit=LIST_MAX)
        if len(leases) == LIST_MAX and find:
            leases, now = self._store.leases(replace(which, user_id=find), limit=LIST_MAX)
        line, _ = self._store.waiting(name)
        known = {entry.user_id for entry in line}
        refused = refused_of(self._turned_away(name), now)
        return Holders(
            use=use,
            license=self._ledger.license(license_id),
            leases=tuple(sorted(leases, key=lambda x: (x.last_beat_at, x.id))),
            more=len(leases) == LIST_MAX,
            refused=tuple(x for x in refused if x.waits(now) and x.user_id not in known),
            line=tuple(line),
            at=now,
        )

    def waiting(self) -> list[RefusedUser]:
        """Return who still waits for a seat of any pool, the longest first."""
        now = self._store.now()
        return [each for each in self.refused() if each.waits(now)]

    def refused(self) -> list[RefusedUser]:
        """Return who was refused lately by any pool, or sent into its line, and was not served since, the
        longest waiting first. Told again for a moment, since many pages ask."""
        return self._refused.get()

    def _turned_away(self, name: str | None) -> list[Event]:
        """Return refusals, of a pool or of all, and when each of those people was served last; newest
        first."""
        now = self._store.now()
        events = self._store.events(
            kinds=TURNED_AWAY, pool_id=name, limit=DENIALS_MAX, newest_first=True
        )
        events = [event for event in events if event.at >= now - LATELY]
        who = dict.fromkeys((event.pool_id, event.user_id) for event in events)
        for pool, user in list(who)[:HOLDERS_ASKED]:
            events += self._store.events(
                kinds=SERVED, pool_id=pool, user_id=user, limit=1, newest_first=True
            )
        return sorted(events, key=lambda event: -event.id)

    def denials(self) -> list[Event]:
        """Return the latest refusals, newest first, `DENIALS_MAX` at most. Told again for a moment."""
        return self._denials.get()

    def _all_denials(self) -> list[Event]:
        kinds = (EventKind.LEASE_DENIED,)
        return self._store.events(kinds=kinds, limit=DENIALS_MAX, newest_first=True)

    def feed(self, *, before: int = 0, limit: int = 50, kinds: Sequence[str] = ()) -> list[Event]:
        """Return what happened, newest first, before an event's id if that is not 0."""
        return self._store.events(after=before, kinds=kinds, limit=limit, newest_first=True)

    def of_lease(self, lease: Lease) -> list[Event]:
        """Return what happened to one holder in its pool, newest first."""
        events = self._store.events(
            user_id=lease.user_id, pool_id=lease.pool_id, limit=HISTORY_MAX, newest_first=True
        )
        return [each for each in events if each.client_id in (None, lease.client_id)]

    def person(self, user_id: str) -> Person:
        """Return what is known of a user; of one who is not known, nothing."""
        which = LeaseFilter(user_id=user_id, include_ended=True)
        leases, now = self._store.leases(which, limit=LIST_MAX)
        events = self._store.events(user_id=user_id, limit=HISTORY_MAX, newest_first=True)
        refused = refused_of(events, now)
        names = {x.pool_id for x in leases} | {x.pool_id for x in refused}
        licenses = sorted({split_pool_id(name)[0] for name in names})
        pools = [p for each in licenses for p in self._ledger.pools(each) if p.id in names]
        return Person(
            user_id=user_id,
            sessions=self._store.page(user_id, limit=SESSIONS_MAX),
            leases=tuple(sorted(leases, key=lambda x: (not x.live(now), -x.last_beat_at, x.id))),
            pools={use.pool.id: use for use in self._used(pools, {})},
            refused=tuple(refused),
            silent=self._silent({x.pool_id for x in refused}),
            history=tuple(events),
            at=now,
        )

    def _silent(self, names: Iterable[str]) -> dict[str, Lease]:
        found = {}
        for name in names:
            license_id, feature = split_pool_id(name)
            which = LeaseFilter(license_id=license_id, feature=feature)
            leases, now = self._store.leases(which, limit=LIST_MAX)
            suspects = [x for x in leases if x.live(now) and x.suspect_at <= now]
            if suspects:
                found[name] = min(suspects, key=lambda x: (x.last_beat_at, x.id))
        return found

    def _used(self, pools: Sequence[Pool], waiting: dict[str, int]) -> list[PoolUse]:
        names = self._ledger.license_names(sorted({pool.license_id for pool in pools}))
        usages: list[Usage | None] = []
        for i in range(0, len(pools), LIST_MAX):
            usages += self._store.usage([pool.id for pool in pools[i : i + LIST_MAX]])
        now = self._store.now()
        return [
            PoolUse(
                pool=pool,
                usage=usage or _unused(pool, now),
                license_name=names.get(pool.license_id, pool.license_id),
                refused=waiting.get(pool.id, 0),
            )
            for pool, usage in zip(pools, usages, strict=True)
        ]


def refused_of(events: Sequence[Event], now: int) -> list[RefusedUser]:
    """Tell from events, newest first, who was refused within `LATELY` and has not been served since."""
    settled: set[tuple[str, str]] = set()
    found: dict[tuple[str, str], RefusedUser] = {}
    for event in events:
        if event.pool_id is None or event.user_id is None or event.at < now - LATELY:
            continue
        who = (event.pool_id, event.user_id)
        if who in settled:
            continue
        if event.kind in SERVED:
            settled.add(who)
        elif event.kind in TURNED_AWAY and event.data.get("reason") == "seat_limit":
            last = found.get(who)
            found[who] = RefusedUser(
                pool_id=event.pool_id,
                user_id=event.user_id,
                client_id=last.client_id if last else event.client_id or "",
                times=last.times + 1 if last else 1,
                first_at=event.at,
                last_at=last.last_at if last else event.at,
                retry_after=last.retry_after if last else int(event.data.get("retryAfter", 0)),
            )
    return sorted(found.values(), key=lambda x: (x.first_at, x.user_id))


def _unused(pool: Pool, now: int) -> Usage:
    """A pool that its store has lost, until somebody asks for a seat of it."""
    return Usage(
        pool_id=pool.id, capacity=pool.policy.capacity, in_use=0, suspect=0, leases=0, at=now
    )


def _pressure(use: PoolUse) -> tuple[int, float, str]:
    share = use.usage.in_use / use.usage.capacity if use.usage.capacity else 0.0
    return -use.refused, -share, use.pool.id
