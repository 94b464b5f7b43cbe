"""A certificate of fullness: what a count that found a large pool full is worth for a moment.

Before it denies a seat, a store counts the pool and looks for its most silent holders, under the pool's lock:
two looks at every lease. While a pool is full, nobody who is denied changes that. So a process remembers what
such a count found, and denies others by it, until one of these has happened:

- a lease of the pool has ended: whoever ends one holds the pool's lock, and tells the stream of it;
- the pool is another: its policy was changed; or was meanwhile, and may have let more in or shortened leases;
- of a pool that was full only with what is allotted to relays, a seat was granted: less may have been
  allotted meanwhile;
- the first lease, of those that were counted, may have come free by silence alone;
- a tab that has said goodbye since may have: such a beat takes no lock of the pool, but its seat is free no
  earlier than the linger later;
- a second is over: the evidence is as old as that, and says so.

See docs/adr/0034.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from msgspec import Struct

from sojourn.clock import SECOND
from sojourn.event import EventKind
from sojourn.lease import Lease
from sojourn.license import Policy, Pool, WhenFull
from sojourn.pool_reader import SeatCount
from sojourn.stores.sql.database import Tx

FULL_FROM = 500
"""Leases: a smaller pool is counted as quickly as it is asked whether one has ended."""
FULL_FOR = SECOND
SILENT_KEPT = 150
"""Of the most silent holders: as many as a denial names, and a full batch may push out."""
LATE_GOODBYE = 6 * SECOND
"""A goodbye that set out before the count may be committed so much later: see `server.REPLY_TIMEOUT`."""

SHORTENED = "(SELECT s.value FROM sojourn_marks AS s WHERE s.name = 'shortened')"
"""How often a policy was changed, or leases were made to end earlier: who does so counts it under the pool's
lock. The name is that of the first reason."""
LAST_EVENT = "SELECT m.value, {shortened} FROM sojourn_marks AS m WHERE m.name = 'events'".replace(
    "{shortened}", SHORTENED
)
ENDED_SINCE = """
SELECT m.value, {shortened}, (SELECT count(*) FROM sojourn_events AS e
    WHERE e.pool_id = :pool AND e.id > :since AND e.kind {in ends})
FROM sojourn_marks AS m WHERE m.name = 'events'
""".replace("{shortened}", SHORTENED)
COUNT_SHORTENED = """
INSERT INTO sojourn_marks (name, value) VALUES ('shortened', 1)
ON CONFLICT (name) DO UPDATE SET value = coalesce(sojourn_marks.value, 0) + 1
"""
COUNT_SHORTENED_MYSQL = """
INSERT INTO sojourn_marks (name, value) VALUES ('shortened', 1)
ON DUPLICATE KEY UPDATE value = coalesce(value, 0) + 1
"""
ENDS = sorted(
    kind.value
    for kind in (
        EventKind.LEASE_RELEASED,
        EventKind.LEASE_EXPIRED,
        EventKind.LEASE_EVICTED,
        EventKind.LEASE_REVOKED,
    )
)


class Fullness(Struct, frozen=True, kw_only=True):
    """A pool was full at `at`, and is until `until` unless a lease ends after the event `since`."""

    policy: Policy
    fence: int
    at: int  # of the store's time
    until: int
    since: int
    shortened: int  # how often policies were changed, or leases became shorter, by then
    count: SeatCount
    free_at: int  # the first lease that was counted is gone, or may be taken as a suspect's
    silent: tuple[Lease, ...]  # most silent first
    all_silent: bool  # there are no others
    made_at: float  # of the monotonic clock

    def holds(self, pool: Pool, now: int, fence: int) -> bool:
        """Tell whether it may be used, if no lease has ended since."""
        young = time.monotonic() - self.made_at <= FULL_FOR / SECOND
        granted = fence != self.fence and self.count.in_use < self.policy.most
        same = self.policy == pool.policy and not granted
        return young and same and self.at <= now < self.until

    def counted(self, now: int) -> SeatCount:
        """Return what was counted, for an answer that is given now."""
        return SeatCount(
            in_use=self.count.in_use,
            suspect=self.count.suspect,
            next_free_in=self.free_at - now,
            at=self.at,
        )

    def names(self, limit: int) -> bool:
        """Tell whether it knows so many of the most silent holders."""
        return self.all_silent or len(self.silent) >= limit


class Worth(NamedTuple):
    """Until when a count may be used, after which event a lease must not have ended, and how often policies
    had been changed, or leases become shorter."""

    until: int = 0  # then it may not
    since: int = 0
    shortened: int = 0


def worth(tx: Tx, pool: Pool, now: int, *, free_at: int | None, leases: int) -> Worth:
    """Say what a count that was made now, and found the pool full, is worth."""
    policy = pool.policy
    if leases < FULL_FROM or free_at is None or policy.when_full is WhenFull.EVICT_IDLE:
        return Worth()  # who is idle, a beat says, of any time in the past
    until = min(now + FULL_FOR, now + policy.linger - LATE_GOODBYE, free_at)
    if until <= now:
        return Worth()
    found = tx.rows(LAST_EVENT, {})
    return Worth(until, int(found[0][0] or 0), int(found[0][1] or 0)) if found else Worth()


def ended_since(tx: Tx, pool: Pool, known: Fullness) -> int | None:
    """Return the last event up to which no lease of the pool has ended, or become shorter, and no policy
    was changed, since what is known of it; None otherwise."""
    params = {"pool": pool.id, "since": known.since, "ends": tx.dialect.keys(ENDS)}
    for event, shortened, ended in tx.rows(ENDED_SINCE, params):
        return None if ended or int(shortened or 0) != known.shortened else int(event or 0)
    return None


def changed(tx: Tx) -> None:
    """Count that a policy was changed, or leases became shorter, in the step that does so."""
    count = COUNT_SHORTENED
    tx.do(tx.dialect.pick(sqlite=count, postgres=count, mysql=COUNT_SHORTENED_MYSQL))
