"""What `seat` reads of one pool under its lock, statement by statement, and only when it asks."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sojourn.lease import Lease, Waiting
from sojourn.license import CountBy, Policy, Pool, WhenFull
from sojourn.pool_reader import SeatCount
from sojourn.room import reservation_of
from sojourn.stores.sql import fullness, lines
from sojourn.stores.sql.database import Rows, Tx
from sojourn.stores.sql.fullness import Fullness
from sojourn.stores.sql.rows import lease_of

Holder = tuple[str, str]

CERTIFICATES_MAX = 10_000
CERTIFICATE_AGE = 60.0  # seconds; guards against rows that somebody wrote by hand
LOOKS = 3
"""How often to look for victims again when those found turn out to be alive."""

COUNT = """
SELECT count({seat}) AS seats, count({doubted}) AS trusted, count(*) AS leases,
       min(l.expires_at), min(l.suspect_at),
       count(CASE WHEN l.expires_at <= :at THEN 1 END),
       count(CASE WHEN l.suspect_at <= :past_linger THEN 1 END),
       count(CASE WHEN l.idle_since <= :idle_before THEN 1 END)
FROM sojourn_leases AS l WHERE {unended}
"""
# Where each lease is a seat of its own, nothing need be sorted to count.
COUNT_LEASES = COUNT.replace("{seat}", "*").replace(
    "{doubted}", "CASE WHEN l.suspect_at > :at THEN 1 END"
)
COUNT_SEATS = COUNT.replace("{seat}", "DISTINCT {key}").replace(
    "{doubted}", "DISTINCT CASE WHEN l.suspect_at > :at THEN {key} END"
)
COUNTS = {
    CountBy.LEASE: COUNT_LEASES,
    CountBy.USER: COUNT_SEATS.replace("{key}", "l.user_id"),
    CountBy.CLIENT: COUNT_SEATS.replace("{key}", "l.client_id"),
}
EXPIRED = (
    "SELECT l.id FROM sojourn_leases AS l WHERE {unended} AND l.expires_at <= :at ORDER BY l.id"
)
LAPSE = """
UPDATE sojourn_leases SET lapsed = TRUE
WHERE id {in ids} AND coalesce(ended_at, 0) = 0 AND NOT lapsed AND expires_at <= :at
"""
LOCK_IDS = "SELECT id FROM sojourn_leases WHERE id {in ids} ORDER BY id {update}"
LOCK_LEASES = "SELECT {lease} FROM sojourn_leases AS l WHERE l.id {in ids} ORDER BY l.id {update}"

HELD = """
SELECT l.{key}, l.id FROM {leases_by_{key}} WHERE {live_among} AND l.{key} {in keys}
"""
LIVE_OF = """
SELECT {lease} FROM {leases_by_user_id} WHERE {live_among} AND l.user_id {in keys}
ORDER BY l.last_beat_at, l.id
"""
MOST_SILENT = """
SELECT {lease} FROM sojourn_leases AS l WHERE {live} ORDER BY l.last_beat_at, l.id LIMIT :limit
"""

MEMBERS = "SELECT {lease} FROM sojourn_leases AS l WHERE {live} AND ({named})"
NAMED = {
    "users": "l.user_id {in users}",
    "groups": "l.member_of IS NOT NULL",
    "kinds": "l.device LIKE :kinds",
}
"""How a reservation names who may count into it; which of them do, `room` says."""
OF_SOME_KIND = '%"kind":%'

SUSPECT_LEASES = """
SELECT {lease} FROM sojourn_leases AS l WHERE {live} AND l.suspect_at <= :past_linger
ORDER BY l.last_beat_at, l.id LIMIT :limit
"""
IDLE_LEASES = """
SELECT {lease} FROM sojourn_leases AS l
WHERE {live} AND l.suspect_at > :past_linger AND l.idle_since <= :idle_before
ORDER BY l.idle_since, l.id LIMIT :limit
"""
SUSPECT_SEATS = """
SELECT l.{key} FROM sojourn_leases AS l WHERE {live} GROUP BY l.{key} HAVING max(l.suspect_at) <= :past_linger
ORDER BY max(l.last_beat_at), min(l.id) LIMIT :limit
"""
IDLE_SEATS = """
SELECT l.{key} FROM sojourn_leases AS l WHERE {live} GROUP BY l.{key}
HAVING max(l.suspect_at) > :past_linger
   AND count(l.idle_since) = count(*) AND max(l.idle_since) <= :idle_before
ORDER BY max(l.idle_since), min(l.id) LIMIT :limit
"""
OF_SEATS = """
SELECT {lease} FROM {leases_by_{key}} WHERE {live_among} AND l.{key} {in keys} ORDER BY l.id
"""
KEYS = {CountBy.USER: "user_id", CountBy.CLIENT: "client_id"}
SHARED = {
    (template, count_by): template.replace("{key}", key)
    for template in (HELD, SUSPECT_SEATS, IDLE_SEATS, OF_SEATS)
    for count_by, key in KEYS.items()
}


class Certificate(Struct, frozen=True):
    """At this fence so many seats were held: later, at most one more for every grant since."""

    fence: int
    in_use: int
    count_by: CountBy
    made_at: float  # of the monotonic clock
    full: Fullness | None = None  # what more is known of a large pool that had no seat left


class Certificates:
    """Spare a large pool from being counted when there is surely room in it.

    Every grant raises the pool's fence under its lock, in whatever process. So a count stays an upper
    bound: seats held <= in_use + (fence now - fence then). Leases that had expired by then have
    lapsed, and can come back only by a grant.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: OrderedDict[str, Certificate] = OrderedDict()

    def bound(self, pool: Pool, fence: int) -> int | None:
        """Return the most seats that can be held; None if it takes a count to know."""
        with self._lock:
            known = self._of.get(pool.id)
            if known is None:
                return None
            stale = time.monotonic() - known.made_at > CERTIFICATE_AGE
            if stale or fence < known.fence or known.count_by is not pool.policy.count_by:
                del self._of[pool.id]
                return None
            return known.in_use + fence - known.fence

    def full(self, pool_id: str) -> Fullness | None:
        with self._lock:
            known = self._of.get(pool_id)
            return None if known is None else known.full

    def keep(self, pool_id: str, certificate: Certificate) -> None:
        """Trust a count, once the transaction that made it has been committed."""
        with self._lock:
            self._of[pool_id] = certificate
            self._of.move_to_end(pool_id)
            if len(self._of) > CERTIFICATES_MAX:
                self._of.popitem(last=False)


class PoolView:
    """Implements `pool_reader.PoolReader`."""

    def __init__(
        self,
        tx: Tx,
        certificates: Certificates,
        pool: Pool,
        *,
        fence: int,
        rows: dict[Holder, Lease],
        now: int,
        line_until: int = 0,
        allotted: int = 0,
        doubtful: bool = False,
    ) -> None:
        self.pool = pool
        self.allotted = allotted
        self.doubtful = doubtful
        self.fence = fence
        self.now = now
        self._tx = tx
        self._certificates = certificates
        self._rows = rows
        self._line_until = line_until
        policy = pool.policy
        self._times = {
            "pool": pool.id,
            "at": now,
            "past_linger": now - policy.linger,
            "idle_before": _idle_before(policy, now),
        }
        self._any_suspect = self._any_idle = True  # until counted
        self._counted: SeatCount | None = None
        self._full: Fullness | None = None  # known before, or found out here
        self._worth = fullness.Worth()
        self._free_at = 0
        self._asked_if_full = False
        # Seen alive, and so relied upon: a goodbye that sets out earlier must not let them lapse.
        self._seen = {lease.id for lease in rows.values() if lease.live(now)}

    def holders(self, holders: Iterable[Holder]) -> dict[Holder, Lease]:
        return {holder: self._rows[holder] for holder in holders if holder in self._rows}

    def seats_held(self, keys: set[str]) -> set[str]:
        rows = self._read(SHARED[HELD, self.pool.policy.count_by], keys=self._tx.dialect.keys(keys))
        self._seen |= {row[1] for row in rows}
        return {row[0] for row in rows}

    def room(self, wanted: int) -> bool:
        bound = self._certificates.bound(self.pool, self.fence)
        if bound is None:
            bound = self.count().in_use
        return bound + wanted <= self.pool.policy.capacity

    def count(self) -> SeatCount:
        if self._counted is None:
            full = self._known_full()
            self._counted = self._count() if full is None else full.counted(self.now)
        return self._counted

    def _known_full(self) -> Fullness | None:
        """Return what is known of this pool if that shows that it is full."""
        known = None if self._asked_if_full else self._certificates.full(self.pool.id)
        self._asked_if_full = True
        if known is not None and known.holds(self.pool, self.now, self.fence):
            last = fullness.ended_since(self._tx, self.pool, known)
            if last is not None:
                self._full = replace(known, since=last)
                self._any_suspect = self._any_idle = False
        return self._full

    @property
    def certificate(self) -> Certificate | None:
        """What the count, if there was one, is worth once this transaction is committed."""
        if self._counted is None:
            return None
        in_use, count_by = self._counted.in_use, self.pool.policy.count_by
        return Certificate(self.fence, in_use, count_by, time.monotonic(), self._full)

    def _count(self) -> SeatCount:
        seats, trusted, leases, expires, suspects, expired, suspect, idle = self._totals()
        if expired:
            self._lapse()
            seats, trusted, leases, expires, suspects, _, suspect, idle = self._totals()
        self._any_suspect, self._any_idle = suspect > 0, idle > 0
        policy = self.pool.policy
        free_at = expires
        if suspects is not None and policy.when_full is not WhenFull.DENY:
            free_at = min(expires, suspects + policy.linger)
        if seats + self.allotted >= policy.most:
            self._free_at = free_at or 0
            self._worth = fullness.worth(
                self._tx, self.pool, self.now, free_at=free_at, leases=leases
            )
        return SeatCount(
            in_use=seats,
            suspect=seats - trusted,
            next_free_in=0 if free_at is None else max(0, free_at - self.now),
        )

    def _totals(self) -> Sequence[Any]:
        row: Sequence[Any] = self._read(COUNTS[self.pool.policy.count_by])[0]
        return row

    def _lapse(self) -> None:
        """Mark expired leases as lapsed, so that a late heartbeat cannot revive one counted as free."""
        expired = [row[0] for row in self._read(EXPIRED) if row[0] not in self._seen]
        if expired:
            ids = self._tx.dialect.keys(expired)
            self._tx.rows(LOCK_IDS, {"ids": ids})  # in the order in which beats lock
            self._tx.do(LAPSE, {"ids": ids, "at": self.now})

    def reclaimable(self, limit: int) -> Sequence[Sequence[Lease]]:
        seats: list[list[Lease]] = []
        for _ in range(LOOKS):
            found = self._suspects(limit)
            if self.pool.policy.when_full is WhenFull.EVICT_IDLE:
                found += self._idle(limit - len(found))
            seats = self._still_reclaimable(found)
            if len(seats) == len(found):
                break
        return seats

    def _suspects(self, limit: int) -> list[list[Lease]]:
        if not self._any_suspect:
            return []
        return self._seats(SUSPECT_LEASES, SUSPECT_SEATS, limit)

    def _idle(self, limit: int) -> list[list[Lease]]:
        if not self._any_idle or limit <= 0:
            return []
        return self._seats(IDLE_LEASES, IDLE_SEATS, limit)

    def _seats(self, of_leases: str, of_seats: str, limit: int) -> list[list[Lease]]:
        count_by = self.pool.policy.count_by
        if count_by is CountBy.LEASE:
            return [[lease_of(row)] for row in self._read(of_leases, limit=limit)]
        order = [row[0] for row in self._read(SHARED[of_seats, count_by], limit=limit)]
        if not order:
            return []
        seats: dict[str, list[Lease]] = {key: [] for key in order}
        keys = self._tx.dialect.keys(order)
        for row in self._read(SHARED[OF_SEATS, count_by], keys=keys):
            lease = lease_of(row)
            seats[lease.seat_key(count_by)].append(lease)
        return [leases for leases in seats.values() if leases]

    def _still_reclaimable(self, found: list[list[Lease]]) -> list[list[Lease]]:
        """Lock the leases found, and keep the seats of which no beat has come in meanwhile."""
        if not found or self._tx.dialect.one_writer:
            return found
        ids = self._tx.dialect.keys(lease.id for leases in found for lease in leases)
        rows = self._tx.rows(LOCK_LEASES, {"ids": ids})
        now = {lease.id: lease for lease in map(lease_of, rows)}
        return [leases for leases in found if all(now.get(x.id) == x for x in leases)]

    def live_of(self, user_ids: set[str]) -> dict[str, Sequence[Lease]]:
        found: dict[str, list[Lease]] = {}
        for row in self._read(LIVE_OF, keys=self._tx.dialect.keys(user_ids)):
            lease = lease_of(row)
            found.setdefault(lease.user_id, []).append(lease)
        return dict(found)

    def most_silent(self, limit: int) -> Sequence[Lease]:
        if self._full is not None and self._full.names(limit):
            return self._full.silent
        asked = max(limit, fullness.SILENT_KEPT) if self._worth.until else limit
        found = [lease_of(row) for row in self._read(MOST_SILENT, limit=asked)]
        if self._worth.until and self._counted is not None:
            self._full = Fullness(
                policy=self.pool.policy,
                fence=self.fence,
                at=self.now,
                until=self._worth.until,
                since=self._worth.since,
                shortened=self._worth.shortened,
                count=self._counted,
                free_at=self._free_at,
                silent=tuple(found),
                all_silent=len(found) < asked,
                made_at=time.monotonic(),
            )
        return found

    def members(self) -> list[Lease]:
        return members_of(self._tx, self.pool, self.now)

    def waiting(self) -> Sequence[Waiting]:
        return lines.live(self._tx, self.pool.id, self.now) if self._line_until > self.now else ()

    def _read(self, template: str, **params: Any) -> Rows:
        return self._tx.rows(template, self._times | params)


def _idle_before(policy: Policy, now: int) -> int | None:
    return None if policy.idle_after is None else now - policy.idle_after


def members_of(tx: Tx, pool: Pool, now: int) -> list[Lease]:
    """Return the live leases of a pool that count into one of its reservations."""
    policy = pool.policy
    users = sorted({user for each in policy.reservations for user in each.users})
    named = {
        "users": bool(users),
        "groups": any(each.groups for each in policy.reservations),
        "kinds": any(each.kinds for each in policy.reservations),
    }
    conditions = " OR ".join(NAMED[name] for name, given in named.items() if given)
    params = {"pool": pool.id, "at": now, "kinds": OF_SOME_KIND}
    if users:
        params["users"] = tx.dialect.keys(users)
    rows = tx.rows(MEMBERS.replace("{named}", conditions), params)
    return [x for x in map(lease_of, rows) if reservation_of(policy, x) is not None]
