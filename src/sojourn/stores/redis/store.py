"""The store on Redis or Valkey: each verb is in the module of its noun, and one script decides it."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.clock import Clock
from sojourn.errors import SettingsError
from sojourn.finding import Finding
from sojourn.lease import LeaseFilter
from sojourn.store import Sizes, Swept, bounded
from sojourn.stores.redis import health, scripts
from sojourn.stores.redis.allotments import AllotmentVerbs
from sojourn.stores.redis.connection import FORMS, Connection, connect, read_url
from sojourn.stores.redis.doctor import quick
from sojourn.stores.redis.events import EventVerbs
from sojourn.stores.redis.recording import Recording
from sojourn.stores.redis.seats import SeatVerbs, filter_row, now
from sojourn.stores.redis.sessions import SessionVerbs


class RedisStore(SessionVerbs, SeatVerbs, AllotmentVerbs, EventVerbs, Recording):
    """Implements `sojourn.store.Store` and `store.Recorded`."""

    parallel = 2  # one batch is written and read here while the other is decided there

    def __init__(self, db: Connection, *, event_retention: int, ip_retention: int | None) -> None:
        self._db = db
        self._event_retention = event_retention
        self._ip_retention = ip_retention
        self._ips_in_events = ip_retention is None  # the ledger keeps them for good

    def sweep(
        self, *, limit: int = 500, which: LeaseFilter | None = None, cutoffs_only: bool = False
    ) -> Swept:
        limit = max(1, bounded(limit))
        meant = which or LeaseFilter()
        asked = [limit, self._event_retention, which is None, *filter_row(meant)]
        asked += [self._ip_retention, meant.silent_since, cutoffs_only]
        *counts, more = self._db.run(scripts.SWEEP, asked)
        expired, removed, cut, sessions_removed, events_removed, ips_forgotten = counts
        return Swept(
            leases_expired=expired,
            leases_removed=removed,
            sessions_cut=cut,
            sessions_removed=sessions_removed,
            events_removed=events_removed,
            ips_forgotten=ips_forgotten,
            more=bool(more),
        )

    def forget(self, user_id: str, *, session_ids: Sequence[str], pool_ids: Sequence[str]) -> None:
        self._db.run(scripts.FORGET, [user_id, list(session_ids), list(pool_ids)])

    def sizes(self) -> Sizes:
        return health.sizes(self._db)

    def check(self) -> list[Finding]:
        return quick(self._db)

    def now(self) -> int:
        return now(self._db)[0]

    def close(self) -> None:
        self._db.close()


def open_redis(
    url: str, *, clock: Clock, max_pause: int, event_retention: int, ip_retention: int | None
) -> RedisStore:
    """Open a store. Raises SettingsError on a server that may drop what it holds."""
    try:
        address = read_url(url)
        client = connect(address)
    except ValueError:
        raise SettingsError(
            "The store's URL cannot be read.", hint=f"Use one of {FORMS}."
        ) from None
    db = Connection(client, address, clock=clock, max_pause=max_pause)
    try:
        health.require(db)
        health.require_layout(db)
    except BaseException:
        db.close()
        raise
    return RedisStore(db, event_retention=event_retention, ip_retention=ip_retention)
