"""Sweeping: housekeeping in small batches, beside everything else, never needed for a right answer.

What is due is looked for without a lock, then locked in order of id, leaving out what others hold, and
looked at once more: a beat that came in between wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, and_, delete, func, or_, select

from sojourn.idempotency import ANSWERS_KEPT
from sojourn.lease import EndReason, LeaseFilter
from sojourn.seat_events import end_event
from sojourn.session import TOMBSTONE, without_ips
from sojourn.store import Swept, bounded
from sojourn.stores.sql import cutoffs, ends, events, lines, outages
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.rows import SESSION, device_to_json, lease_of, session_of
from sojourn.stores.sql.schema import events as event_table
from sojourn.stores.sql.schema import leases, pools, requests, session_users, sessions
from sojourn.stores.sql.schema import waiting as entries
from sojourn.stores.sql.seats import lock_pools_of, matching

CHUNK = 250
"""Rows per transaction, so that nobody waits for a sweep."""

LOCK_SILENT = """
SELECT {lease} FROM sojourn_leases AS l
WHERE l.id {in ids} AND coalesce(l.ended_at, 0) = 0 AND l.expires_at <= :at
ORDER BY l.id {update} {skip}
"""
NOTE = "UPDATE sojourn_leases SET ended_at = expires_at, end_reason = :reason WHERE id {in ids}"
LOCK_ENDED = """
SELECT id FROM sojourn_leases WHERE id {in ids} AND ended_at <= :until ORDER BY id {update} {skip}
"""
FORGET_LEASES = "DELETE FROM sojourn_leases WHERE id {in ids}"
LOCK_GONE = """
SELECT id FROM sojourn_sessions WHERE id {in ids} AND coalesce(ended_at, idle_at) <= :until
ORDER BY id {update} {skip}
"""
LOCK_DEVICES = """
SELECT {session} FROM sojourn_sessions AS s WHERE s.id {in ids} ORDER BY s.id {update} {skip}
""".replace("{session}", SESSION.replace("s.data", "'{}'"))
FORGET_IP = """
UPDATE sojourn_sessions SET device = :device, last_device = :last_device WHERE id = :id
"""
FORGET_SESSIONS = "DELETE FROM sojourn_sessions WHERE id {in ids}"


def sweep(
    db: Database,
    *,
    limit: int,
    which: LeaseFilter | None,
    cutoffs_only: bool = False,
    max_pause: int,
    event_retention: int,
    ip_retention: int | None = None,
) -> Swept:
    """Tidy up; see `Store.sweep`. With a filter, only the leases it means."""
    limit = max(1, bounded(limit))
    if cutoffs_only:
        cut = _follow_cutoffs(db, db.read(Tx.now), limit, max_pause)
        return Swept(sessions_cut=cut, more=cut == limit)
    outages.heal(db, max_pause=max_pause)
    now = db.read(Tx.now)
    cut = gone = old = ips = answers = waiting = 0
    if which is None:  # first: who was signed out waits for nothing else, and not for what fails
        cut = _follow_cutoffs(db, now, limit, max_pause)
    silent = _in_chunks(db, _silent(which, now), limit, lambda tx, ids: _note(tx, ids, now))
    until = now - TOMBSTONE
    forgotten = _in_chunks(
        db, _ended(which, until), limit, _forget(LOCK_ENDED, FORGET_LEASES, until)
    )
    if which is None:
        if cut < limit:  # what a cutoff has ended is told of before it is forgotten
            gone = _in_chunks(db, _gone(until), limit, _forget(LOCK_GONE, FORGET_SESSIONS, until))
        old = _forget_events(db, now - event_retention, limit)
        answers = _forget_answers(db, now - ANSWERS_KEPT, limit)
        if ip_retention is not None:
            ips = _in_chunks(
                db, _with_ip(now - ip_retention), limit, _forget_ips(now - ip_retention)
            )
        waiting = lines.forget(db, now, limit)
    return Swept(
        leases_expired=silent,
        leases_removed=forgotten,
        sessions_cut=cut,
        sessions_removed=gone,
        events_removed=old,
        ips_forgotten=ips,
        more=limit in (silent, forgotten, cut, gone, old, ips, answers, waiting),
    )


def _follow_cutoffs(db: Database, now: int, limit: int, max_pause: int) -> int:
    return _in_chunks(
        db,
        lambda tx, most: cutoffs.behind(tx, now, most),
        limit,
        lambda tx, ids: ends.end_behind(tx, ids, now, max_pause),
    )


def _in_chunks(
    db: Database,
    due: Callable[[Tx, int], Sequence[str]],
    limit: int,
    work: Callable[[Tx, Sequence[str]], int],
) -> int:
    """Find what is due, and do the work in transactions of their own; return how many were done."""
    ids = db.read(lambda tx: due(tx, limit))
    done = 0
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        done += db.transaction(lambda tx, chunk=chunk: work(tx, chunk))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    return done


def _oldest(
    tx: Tx,
    instant: ColumnElement[Any],
    until: int,
    conditions: list[ColumnElement[bool]],
    limit: int,
) -> Sequence[str]:
    found = select(leases.c.id).where(instant <= until, *conditions).order_by(instant, leases.c.id)
    return list(tx.core(found.limit(limit)).scalars())


def _conditions(tx: Tx, which: LeaseFilter | None) -> list[ColumnElement[bool]]:
    if which is None:
        return []
    return matching(tx, replace(which, include_ended=True), 0)


def _silent(which: LeaseFilter | None, now: int) -> Callable[[Tx, int], Sequence[str]]:
    def due(tx: Tx, limit: int) -> Sequence[str]:
        conditions = [leases.c.ended_at.is_(None), *_conditions(tx, which)]
        return _oldest(tx, leases.c.expires_at, now, conditions, limit)

    return due


def _ended(which: LeaseFilter | None, until: int) -> Callable[[Tx, int], Sequence[str]]:
    return lambda tx, limit: _oldest(tx, leases.c.ended_at, until, _conditions(tx, which), limit)


def _gone(until: int) -> Callable[[Tx, int], Sequence[str]]:
    def due(tx: Tx, limit: int) -> Sequence[str]:
        at = func.coalesce(sessions.c.ended_at, sessions.c.idle_at)
        found = select(sessions.c.id).where(at <= until).order_by(at, sessions.c.id).limit(limit)
        return list(tx.core(found).scalars())

    return due


def _with_ip(until: int) -> Callable[[Tx, int], Sequence[str]]:
    """Find sessions that hold an address from until then, the oldest first."""

    def due(tx: Tx, limit: int) -> Sequence[str]:
        column, ip = sessions.c, '%"ip":"%'
        last = and_(column.last_used_at <= until, column.last_device.like(ip))
        found = select(column.id).where(
            column.created_at <= until, or_(column.device.like(ip), last)
        )
        ordered = found.order_by(column.created_at, column.id).limit(limit)
        return list(tx.core(ordered).scalars())

    return due


def _forget_ips(until: int) -> Callable[[Tx, Sequence[str]], int]:
    def work(tx: Tx, ids: Sequence[str]) -> int:
        rows = tx.rows(LOCK_DEVICES, {"ids": tx.dialect.keys(ids)})
        known = [without_ips(session_of(row, 0), until) for row in rows]
        changes = [
            {
                "id": each.id,
                "device": device_to_json(each.device),
                "last_device": device_to_json(each.last_device),
            }
            for each in known
            if each is not None
        ]
        tx.many(FORGET_IP, changes)  # none, where all of them have come back since they were found
        return len(changes)

    return work


def _note(tx: Tx, ids: Sequence[str], now: int) -> int:
    """Note as expired, as of their expiry, those that still are."""
    lock_pools_of(tx, ids)
    rows = tx.rows(LOCK_SILENT, {"ids": tx.dialect.keys(ids), "at": now})
    if not rows:
        return 0
    found = {lease.id: lease for lease in map(lease_of, rows)}
    params = {"ids": tx.dialect.keys(list(found)), "reason": EndReason.EXPIRED.value}
    tx.do(NOTE, params)
    silent = [found[lease_id] for lease_id in ids if lease_id in found]
    happened = [end_event(x, EndReason.EXPIRED, "system:sweep", now) for x in silent]
    events.append(tx, happened, now)
    return len(silent)


def _forget(lock: str, forget: str, until: int) -> Callable[[Tx, Sequence[str]], int]:
    def work(tx: Tx, ids: Sequence[str]) -> int:
        rows = tx.rows(lock, {"ids": tx.dialect.keys(ids), "until": until})
        if rows:
            tx.do(forget, {"ids": tx.dialect.keys([row[0] for row in rows])})
        return len(rows)

    return work


def _forget_answers(db: Database, until: int, limit: int) -> int:
    """Delete the oldest answers that are kept for repeated requests."""
    column = requests.c
    oldest = select(column.digest).where(column.at <= until).order_by(column.at).limit(limit)
    digests = list(db.read(lambda tx: tx.core(oldest).scalars().all()))
    if not digests:
        return 0
    return db.transaction(
        lambda tx: (
            tx.core(
                delete(requests).where(column.digest.in_(sorted(digests)), column.at <= until)
            ).rowcount
        )
    )


def _forget_events(db: Database, until: int, limit: int) -> int:
    """Forget the oldest events. Ids grow with time, so the oldest are the first."""
    column = event_table.c
    first = select(column.id, column.at).order_by(column.id).limit(limit)
    ids = [row.id for row in db.read(lambda tx: tx.core(first).all()) if row.at <= until]
    if not ids:
        return 0
    return db.transaction(
        lambda tx: tx.core(delete(event_table).where(column.id.in_(ids))).rowcount
    )


def forget_canary(
    db: Database, user_id: str, session_ids: Sequence[str], pool_ids: Sequence[str]
) -> None:
    """Delete rows of a user who never was; see `Store.forget`. In the order in which all lock."""
    mine = (sessions.c.user_id == user_id, sessions.c.id.in_(session_ids))

    def work(tx: Tx) -> None:
        tx.core(delete(session_users).where(session_users.c.user_id == user_id))
        tx.core(delete(sessions).where(*mine))
        tx.core(delete(pools).where(pools.c.id.in_(pool_ids)))
        tx.core(delete(leases).where(leases.c.pool_id.in_(pool_ids)))
        tx.core(delete(entries).where(entries.c.pool_id.in_(pool_ids)))

    db.transaction(work)
