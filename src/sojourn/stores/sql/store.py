"""The store on SQL: each verb is in the module of its noun."""

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
from sojourn.store import Action, Outage, Swept
from sojourn.stores.sql import (
    acquires,
    canaries,
    creates,
    cutoffs,
    ends,
    events,
    maintenance,
    outages,
    renewals,
    requests,
    seats,
)
from sojourn.stores.sql import sessions as session_verbs
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.doctor.examiner import quick
from sojourn.stores.sql.missing import Watch
from sojourn.stores.sql.pools import Certificates


class SqlStore:
    """Implements `sojourn.store.Store` on a database whose schema is in place."""

    def __init__(
        self,
        db: Database,
        *,
        max_pause: int,
        event_retention: int,
        ip_retention: int | None = None,
    ) -> None:
        self._db = db
        self.parallel = db.parallel
        self._max_pause = max_pause
        self._event_retention = event_retention
        self._ip_retention = ip_retention
        self._ips_in_events = ip_retention is None or ip_retention >= event_retention
        self._certificates = Certificates()
        self._watch = db.watch = Watch(db)

    # Sessions

    def create(self, sessions: Sequence[NewSession]) -> list[Session | TooMany | Repeated | None]:
        return creates.create(self._db, sessions, ips_in_events=self._ips_in_events)

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
        return ends.end(
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
        return cutoffs.cut_off(self._db, user_id, reason=reason, actor=actor)

    def of(self, user_id: str, *, limit: int = 100) -> list[Session]:
        return session_verbs.of(self._db, user_id, limit=limit)

    def page(
        self, user_id: str, *, after: tuple[int, str] | None = None, limit: int = 100
    ) -> SessionPage:
        return session_verbs.page(self._db, user_id, after=after, limit=limit)

    def held(
        self, *, ids: Sequence[str] | None = None, user_id: str | None = None
    ) -> dict[str, int]:
        return seats.held(self._db, ids=ids, user_id=user_id)

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
        return acquires.acquire(self._db, self._certificates, requests, max_pause=self._max_pause)

    def preview(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        return acquires.preview(self._db, self._certificates, requests, max_pause=self._max_pause)

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        return renewals.renew(self._db, renews, max_pause=self._max_pause)

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
        return requests.answered(self._db, keys)

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
        self._watch.begin()
        self._db.look_at_clock()
        return outages.pulse(self._db, max_pause=self._max_pause)

    def sweep(self, *, limit: int = 500, which: LeaseFilter | None = None) -> Swept:
        self._watch.begin()
        return maintenance.sweep(
            self._db,
            limit=limit,
            which=which,
            max_pause=self._max_pause,
            event_retention=self._event_retention,
            ip_retention=self._ip_retention,
        )

    def forget(self, user_id: str, *, session_ids: Sequence[str], pool_ids: Sequence[str]) -> None:
        canaries.forget(self._db, user_id, session_ids, pool_ids)

    def check(self) -> list[Finding]:
        return quick(self._db)

    def now(self) -> int:
        return self._db.read(Tx.now)

    def close(self) -> None:
        self._db.close()
