"""Pools, and leases seen or ended by anybody but a beat or an acquire."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, func, select

from sojourn.errors import InvalidInput
from sojourn.event import OWN_LICENSES
from sojourn.lease import EndReason, Lease, LeaseFilter, Release, Usage
from sojourn.license import CountBy, Pool
from sojourn.room import Room
from sojourn.seat_events import end_event
from sojourn.store import LIST_MAX, Action, bounded
from sojourn.stores.sql import allotments, events, fullness, outages, shortening
from sojourn.stores.sql.database import Tx, Verbs
from sojourn.stores.sql.pools import KEYS, members_of
from sojourn.stores.sql.rows import (
    DROPPED,
    LEASE_COLUMNS,
    POOL_COLUMNS,
    lease_of,
    pool_of,
    pool_row,
)
from sojourn.stores.sql.schema import leases as table

DEFINE = "INSERT INTO sojourn_pools (id, {columns}) VALUES (:id, {values}) {otherwise}"
DEFINE = DEFINE.replace("{columns}", ", ".join(POOL_COLUMNS)).replace(
    "{values}", ", ".join(f":{name}" for name in POOL_COLUMNS)
)
DEFINE_MYSQL = DEFINE.replace(
    "{otherwise}",
    "ON DUPLICATE KEY UPDATE " + ", ".join(f"{name} = VALUES({name})" for name in POOL_COLUMNS),
)
DEFINE = DEFINE.replace(
    "{otherwise}",
    "ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in POOL_COLUMNS),
)
POOLS = "SELECT {now}, id, allotments, {pool} FROM sojourn_pools WHERE id {in ids}"
LOCK_POOLS = (
    "SELECT id FROM sojourn_pools WHERE id {in ids} AND status <> :dropped ORDER BY id {update}"
)
DROP = "UPDATE sojourn_pools SET status = :dropped WHERE id {in ids}"

LOCK_LIVE = """
SELECT {now}, {lease} FROM sojourn_leases AS l
WHERE l.id {in ids} AND coalesce(l.ended_at, 0) = 0 AND NOT l.lapsed AND l.expires_at > {now}
ORDER BY l.id {update}
"""
LOCK_POOLS_OF = """
SELECT id FROM sojourn_pools WHERE id IN (SELECT pool_id FROM sojourn_leases WHERE id {in ids})
ORDER BY id {update}
"""
LIVE_IN = """
SELECT l.id FROM sojourn_leases AS l
WHERE l.pool_id {in ids} AND l.ended_at IS NULL AND NOT l.lapsed AND l.expires_at > {now}
"""
END = "UPDATE sojourn_leases SET ended_at = :at, end_reason = :reason WHERE id {in ids}"

HELD = """
SELECT l.session_id, count(*) FROM sojourn_leases AS l WHERE l.session_id {in ids}
AND coalesce(l.ended_at, 0) = 0 AND NOT l.lapsed AND l.expires_at > {now} GROUP BY l.session_id
"""
# From the few leases of a user to their sessions would miss those acquired in another's name.
HELD_OF_USER = """
SELECT l.session_id, count(*) FROM sojourn_sessions AS s JOIN sojourn_leases AS l ON l.session_id = s.id
WHERE s.user_id = :user AND s.ended_at IS NULL
AND coalesce(l.ended_at, 0) = 0 AND NOT l.lapsed AND l.expires_at > {now} GROUP BY l.session_id
"""

USAGE = """
SELECT l.pool_id, count({seat}), count({trusted}), count(*) FROM sojourn_leases AS l
WHERE l.pool_id {in ids} AND l.ended_at IS NULL AND NOT l.lapsed AND l.expires_at > :at
GROUP BY l.pool_id
"""
USAGES = {
    count_by: USAGE.replace("{seat}", f"DISTINCT l.{key}").replace(
        "{trusted}", f"DISTINCT CASE WHEN l.suspect_at > :at THEN l.{key} END"
    )
    for count_by, key in KEYS.items()
} | {
    CountBy.LEASE: USAGE.replace("{seat}", "*").replace(
        "{trusted}", "CASE WHEN l.suspect_at > :at THEN 1 END"
    )
}


class SeatVerbs(Verbs):
    """Verbs of pools and leases, except acquire and renew."""

    def define(self, pools: Sequence[Pool]) -> None:
        """Create pools or replace their policy; the fence is kept."""
        if not pools:
            return
        statement = self._db.dialect.pick(sqlite=DEFINE, postgres=DEFINE, mysql=DEFINE_MYSQL)
        defined = {pool.id: pool for pool in pools}

        def work(tx: Tx) -> shortening.Shorter:
            there = shortening.lock(tx, defined)
            shorter = shortening.lowered(there, defined)
            tx.many(statement, [pool_row(defined[pool_id]) for pool_id in sorted(defined)])
            shortening.shorten(tx, shorter)
            if any(pool.policy != defined[name].policy for name, pool in there.items()):
                fullness.changed(tx)  # while it is another, seats may be granted that it has not
            return shorter

        shortening.once_more(self._db, defined, self._db.transaction(work))

    def pools(self, pool_ids: Sequence[str]) -> list[Pool | None]:
        """Look pools up."""
        found = self._db.read(lambda tx: pools_there(tx, pool_ids))[1]
        return [found[pool_id][0] if pool_id in found else None for pool_id in pool_ids]

    def drop(self, pool_ids: Sequence[str], action: Action) -> int:
        """Remove pools, revoking their live leases; the rows stay, so that fences only ever grow."""

        def work(tx: Tx) -> int:
            dropped: list[str] = []
            if pool_ids:
                outages.notice(tx, self._max_pause)
                params = {"ids": tx.dialect.keys(sorted(set(pool_ids))), "dropped": DROPPED}
                dropped = [row[0] for row in tx.rows(LOCK_POOLS, params)]
            now = tx.now()
            ended: list[Lease] = []
            if dropped:
                tx.patiently()
                ids = tx.dialect.keys(dropped)
                live = [row[0] for row in tx.rows(LIVE_IN, {"now": now, "ids": ids})]
                ended, _ = lock_live(tx, live, now)
                end_leases(tx, ended, EndReason.REVOKED, now)
                tx.do(DROP, {"ids": ids, "dropped": DROPPED})
            happened = [end_event(x, EndReason.REVOKED, action.actor, now) for x in ended]
            acted = events.action_event(action, pools=list(pool_ids), ended=len(ended))
            events.append(tx, [*happened, acted], now)
            return len(ended)

        return self._db.transaction(work)

    def release(self, releases: Sequence[Release]) -> list[bool]:
        """End leases whose fence is the present one; see `Store.release`."""
        if not releases:
            return []

        def work(tx: Tx) -> list[bool]:
            found, now = lock_live(tx, list({release.lease_id for release in releases}))
            live = {lease.id: lease for lease in found}
            ended: list[Lease] = []
            answers = []
            for release in releases:
                lease = live.get(release.lease_id)
                mine = lease is not None and lease.fence == release.fence
                if mine and lease is not None:
                    ended.append(live.pop(lease.id))
                answers.append(mine)
            if not all(answers):
                outages.notice(tx, self._max_pause)
            if ended:
                end_leases(tx, ended, EndReason.RELEASED, now)
                events.append(tx, [end_event(x, EndReason.RELEASED, None, now) for x in ended], now)
            return answers

        return self._db.transaction(work)

    def revoke(
        self, which: LeaseFilter, action: Action, *, suspects_only: bool = False
    ) -> list[Lease]:
        """End live leases on an operator's word; see `Store.revoke`."""
        which = replace(which, include_ended=False)
        stated = {k: v for k, v in msgspec.to_builtins(which).items() if v not in (None, False)}

        def work(tx: Tx) -> list[Lease]:
            outages.notice(tx, self._max_pause)
            now = tx.now()
            query = select(table.c.id).where(*matching(tx, which, now)).order_by(table.c.id)
            if suspects_only:
                query = query.where(table.c.suspect_at <= now)
            ids = list(tx.core(query.limit(LIST_MAX)).scalars())
            live = [
                lease
                for lease in lock_live(tx, ids, now)[0]
                if which.session_id in (None, lease.session_id)
                and not (which.silent_since is not None and lease.last_beat_at > which.silent_since)
                and not (suspects_only and lease.suspect_at > now)
            ]
            end_leases(tx, live, EndReason.REVOKED, now)
            happened = [end_event(x, EndReason.REVOKED, action.actor, now) for x in live]
            acted = replace(
                events.action_event(action, filter=stated, ended=len(live)), user_id=which.user_id
            )
            events.append(tx, [*happened, acted], now)
            return [replace(x, ended_at=now, end_reason=EndReason.REVOKED) for x in live]

        return self._db.transaction(work)

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]:
        """List leases by id, and the now they are to be judged by."""

        def work(tx: Tx) -> tuple[list[Lease], int]:
            now = tx.now()
            query = (
                select(*(table.c[name] for name in LEASE_COLUMNS))
                .where(*matching(tx, which, now))
                .order_by(table.c.id)
                .limit(bounded(limit))
            )
            if after is not None:
                query = query.where(table.c.id > after)
            return [lease_of(row) for row in tx.core(query)], now

        return self._db.read(work)

    def held(
        self, *, ids: Sequence[str] | None = None, user_id: str | None = None
    ) -> dict[str, int]:
        """Count the live leases that belong to sessions; see `Store.held`."""
        if (ids is None) == (user_id is None):
            raise InvalidInput("Name sessions by their ids or by their user: one of the two.")
        if ids is not None and not ids:
            return {}
        named = (
            {"user": user_id} if ids is None else {"ids": self._db.dialect.keys(sorted(set(ids)))}
        )
        query = HELD_OF_USER if ids is None else HELD
        # For display: a clock that was set makes it wrong for a second, and no more.
        rows = self._db.read(lambda tx: tx.rows(query, named | {"now": tx.instant}))
        return {row[0]: int(row[1]) for row in rows}

    def usage(self, pool_ids: Sequence[str]) -> list[Usage | None]:
        """Count seats now."""

        def work(tx: Tx) -> list[Usage | None]:
            now, known = pools_there(tx, pool_ids)
            by_rule: dict[CountBy, list[str]] = {}
            for pool_id, (pool, _) in known.items():
                by_rule.setdefault(pool.policy.count_by, []).append(pool_id)
            counts: dict[str, Sequence[Any]] = {}
            for count_by, ids in by_rule.items():
                rows = tx.rows(USAGES[count_by], {"ids": tx.dialect.keys(ids), "at": now})
                counts |= {row[0]: row[1:] for row in rows}
            answers: list[Usage | None] = []
            for pool_id in pool_ids:
                counted = counts.get(pool_id, (0, 0, 0))
                answers.append(
                    _usage(tx, *known[pool_id], counted, now) if pool_id in known else None
                )
            return answers

        return self._db.read(work)


def _usage(tx: Tx, pool: Pool, shared: str | None, counted: Sequence[Any], now: int) -> Usage:
    seats, trusted, live = counted
    policy = pool.policy
    allotted = 0 if shared is None else allotments.allotted(shared, now)
    members = members_of(tx, pool, now) if policy.reservations else ()
    room = Room(policy, seats, members, allotted)
    return Usage(
        pool_id=pool.id,
        capacity=policy.capacity,
        in_use=seats,
        suspect=seats - trusted,
        leases=live,
        at=now,
        overdraft=policy.overdraft,
        overdrawn=room.overdrawn,
        reserved=tuple(room.used),
        allotted=allotted,
    )


def pools_there(tx: Tx, pool_ids: Sequence[str]) -> tuple[int, dict[str, tuple[Pool, str | None]]]:
    """Return now, and the pools there are, each with what relays have of it."""
    if not pool_ids:
        return 0, {}
    rows = tx.judged(tx.rows(POOLS, {"now": tx.instant, "ids": tx.dialect.keys(set(pool_ids))}))
    found = {row[1]: (pool_of(row[3:]), row[2]) for row in rows}
    known = {name: (pool, shared) for name, (pool, shared) in found.items() if pool is not None}
    return (int(rows[0][0]) if rows else 0), known


def lock_pools_of(tx: Tx, ids: Sequence[str]) -> None:
    """Lock the pools of these leases, as all do who end a lease.

    So nothing that an acquire has seen alive ends before it has decided.
    """
    if not tx.dialect.one_writer:
        tx.rows(LOCK_POOLS_OF, {"ids": tx.dialect.keys(ids)})


def lock_live(tx: Tx, ids: Sequence[str], now: int | None = None) -> tuple[list[Lease], int]:
    """Lock those of these leases that are live, and return them in order of id, and now."""
    if not ids:
        return [], now or 0
    params = {"ids": tx.dialect.keys(ids)}
    if tx.dialect.one_writer:
        rows = tx.rows(LOCK_LIVE, params | {"now": tx.instant if now is None else now})
    elif now is None:
        _, rows = tx.locking(LOCK_POOLS_OF, params, LOCK_LIVE, params)
    else:
        _, rows = tx.together((LOCK_POOLS_OF, params), (LOCK_LIVE, params | {"now": now}))
    if now is None:
        tx.judged(rows)
    return [lease_of(row[1:]) for row in rows], int(rows[0][0]) if rows else 0


def end_leases(tx: Tx, leases: Sequence[Lease], reason: EndReason, now: int) -> None:
    """End leases that this transaction has locked."""
    if leases:
        ids = tx.dialect.keys([lease.id for lease in leases])
        tx.later(END, {"ids": ids, "at": now, "reason": reason.value})


def matching(tx: Tx, which: LeaseFilter, now: int) -> list[ColumnElement[bool]]:
    """Say in SQL which leases a filter means."""
    column = table.c
    found: list[ColumnElement[bool]] = []
    if not which.include_ended:
        found += [column.ended_at.is_(None), ~column.lapsed, column.expires_at > now]
    if which.license_id is not None:
        # Ids of pools are license:feature, and no license id holds a colon; ";" comes after ":".
        found.append(column.pool_id.between(f"{which.license_id}:", f"{which.license_id};"))
    if which.feature is not None:
        found.append(_feature(tx) == which.feature)
    for name in ("user_id", "client_id", "session_id"):
        if (value := getattr(which, name)) is not None:
            found.append(column[name] == value)
    if which.ids is not None:
        found.append(column.id.in_(which.ids))
    if which.silent_since is not None:
        found.append(column.last_beat_at <= which.silent_since)
    if not which.shows_own:
        found += [~column.pool_id.between(f"{own}:", f"{own};") for own in OWN_LICENSES]
    return found


def _feature(tx: Tx) -> ColumnElement[str]:
    pool_id = table.c.pool_id
    return tx.dialect.pick(
        sqlite=func.substr(pool_id, func.instr(pool_id, ":") + 1),
        postgres=func.split_part(pool_id, ":", 2),
        mysql=func.substring_index(pool_id, ":", -1),
    )
