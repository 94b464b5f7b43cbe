"""The store on Redis or Valkey: each verb is in the module of its noun, and one script decides it."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn.event import Event
from sojourn.finding import Finding
from sojourn.idempotency import IdempotencyKey, Repeated
from sojourn.lease import (
    Acquire,
    Denied,
    Lease,
    LeaseFilter,
    Release,
    Renew,
    Renewal,
    Usage,
)
from sojourn.license import Pool
from sojourn.session import Gone, NewSession, Save, Session, SessionPage, TooMany
from sojourn.store import Action, Attached, Ended, Held, Known, Outage, Sizes, Swept, bounded
from sojourn.stores.redis import events, recording, scripts, seats
from sojourn.stores.redis import sessions as session_verbs
from sojourn.stores.redis.connection import Connection
from sojourn.stores.redis.doctor import quick
from sojourn.stores.redis.health import sizes


class RedisStore:
    """Implements `sojourn.store.Store`."""

    parallel = 2  # one batch is written and read here while the other is decided there

    def __init__(self, db: Connection, *, event_retention: int, ip_retention: int | None) -> None:
        self._db = db
        self._event_retention = event_retention
        self._ip_retention = ip_retention
        self._ips_in_events = ip_retention is None  # the ledger keeps them for good

    # Sessions

    def create(self, sessions: Sequence[NewSession]) -> list[Session | TooMany | Repeated | None]:
        return session_verbs.create(self._db, sessions, ips=self._ips_in_events)

    def load(self, token_hashes: Sequence[bytes]) -> list[Session | Gone]:
        return session_verbs.load(self._db, token_hashes)

    def save(self, saves: Sequence[Save]) -> list[int | Repeated | None]:
        return session_verbs.save(self._db, saves)

    def touch(self, ids: Sequence[str]) -> list[bool]:
        return session_verbs.touch(self._db, ids)

    def rotate(
        self,
        session_id: str,
        new_token_hash: bytes,
        *,
        grace: int = 0,
        level: int | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> Session | Repeated | None:
        return session_verbs.rotate(
            self._db,
            session_id,
            new_token_hash,
            grace=grace,
            level=level,
            idempotency=idempotency,
        )

    def end(
        self,
        *,
        ids: Sequence[str] | None = None,
        user_id: str | None = None,
        keep: Sequence[str] = (),
        reason: str = "ended",
        actor: str | None = None,
        idempotency: IdempotencyKey | None = None,
    ) -> list[str] | Repeated:
        return session_verbs.end(
            self._db,
            ids=ids,
            user_id=user_id,
            keep=keep,
            reason=reason,
            actor=actor,
            idempotency=idempotency,
        )

    def cut_off(
        self, user_id: str | None, *, reason: str = "cut_off", actor: str | None = None
    ) -> int:
        return session_verbs.cut_off(self._db, user_id, reason=reason, actor=actor)

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        return session_verbs.of(self._db, user_id, limit=limit)

    def page(
        self, user_id: str, *, after: tuple[int, str] | None = None, limit: int = 100
    ) -> SessionPage:
        return session_verbs.page(self._db, user_id, after=after, limit=limit)

    def held(
        self, *, ids: Sequence[str] | None = None, user_id: str | None = None
    ) -> dict[str, int]:
        return session_verbs.held(self._db, ids=ids, user_id=user_id)

    def gone(self, ids: Sequence[str]) -> list[Gone | None]:
        return session_verbs.gone(self._db, ids)

    def sessions(
        self, *, after: str | None = None, limit: int = 100, user_id: str | None = None
    ) -> list[Session]:
        return session_verbs.sessions(self._db, after=after, limit=limit, user_id=user_id)

    # Seats

    def define(self, pools: Sequence[Pool]) -> None:
        seats.define(self._db, pools)

    def drop(self, pool_ids: Sequence[str], action: Action) -> int:
        return seats.drop(self._db, pool_ids, action)

    def pools(self, pool_ids: Sequence[str]) -> list[Pool | None]:
        return seats.pools(self._db, pool_ids)

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied | Repeated]:
        return seats.acquire(self._db, requests)

    def preview(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        return seats.acquire(self._db, requests, dry=True)

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        return seats.renew(self._db, renews)

    def release(self, releases: Sequence[Release]) -> list[bool]:
        return seats.release(self._db, releases)

    def revoke(
        self, which: LeaseFilter, action: Action, *, suspects_only: bool = False
    ) -> list[Lease]:
        return seats.revoke(self._db, which, action, suspects_only=suspects_only)

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]:
        return seats.leases(self._db, which, after=after, limit=limit)

    def usage(self, pool_ids: Sequence[str]) -> list[Usage | None]:
        return seats.usage(self._db, pool_ids)

    # Both

    def answered(self, keys: Sequence[IdempotencyKey]) -> list[Repeated | None]:
        return session_verbs.answered(self._db, keys)

    def events(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        kinds: Sequence[str] = (),
        pool_id: str | None = None,
        user_id: str | None = None,
        newest_first: bool = False,
    ) -> list[Event]:
        return events.read(
            self._db,
            after=after,
            limit=limit,
            kinds=kinds,
            pool_id=pool_id,
            user_id=user_id,
            newest_first=newest_first,
        )

    def pulse(self) -> Outage | None:
        return seats.pulse(self._db)

    def sweep(self, *, limit: int = 500, which: LeaseFilter | None = None) -> Swept:
        limit = max(1, bounded(limit))
        filtered = seats.filter_row(which or LeaseFilter())
        asked = [limit, self._event_retention, which is None, *filtered, self._ip_retention]
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

    # For a recorder: see `store.Recorded`

    def attach(self, ledger: str, last_event_id: int) -> Attached:
        return recording.attach(self._db, ledger, last_event_id)

    def recorded(self, last_event_id: int) -> None:
        recording.recorded(self._db, last_event_id)

    def hold(self, held: Sequence[Held]) -> int:
        return recording.hold(self._db, held)

    def end_again(self, ended: Sequence[Ended], action: Action) -> int:
        return recording.end_again(self._db, ended, action)

    def note_lost(self, leases: Sequence[Known], *, actor: str) -> int:
        return recording.note_lost(self._db, leases, actor=actor)

    def settle(self, epoch: int) -> None:
        recording.settle(self._db, epoch)

    def sizes(self) -> Sizes:
        return sizes(self._db)

    def check(self) -> list[Finding]:
        return quick(self._db)

    def now(self) -> int:
        return seats.now(self._db)[0]

    def close(self) -> None:
        self._db.close()
