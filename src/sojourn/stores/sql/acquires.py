"""Granting seats, under the lock of the pool's row.

One transaction per batch: lock the pools in order of id, read now and the holders' rows, let `seating`
decide, write the leases, the fences and the events. Everything else is read only if the decision asks.

Whoever ends a lease takes the pool's lock, too: what a batch has seen alive stays so until it is
committed. Renewals do not take it. So a count that calls a lease expired first marks it `lapsed`:
a beat that set out before the expiry and arrives after the count can then not bring it back, and no
seat is held twice. Likewise a lease that is about to be evicted is locked and looked at once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sojourn.event import Event
from sojourn.idempotency import Repeated
from sojourn.lease import Acquire, DenialReason, Denied, Lease, Waiting
from sojourn.license import Pool
from sojourn.seat_events import denial_event
from sojourn.seating import seat
from sojourn.stores.sql import allotments, cutoffs, events, lines, outages
from sojourn.stores.sql.database import Rows, Tx, Verbs
from sojourn.stores.sql.pools import Certificate, Certificates, PoolView
from sojourn.stores.sql.requests import once
from sojourn.stores.sql.rows import lease_of, lease_row, pool_of

LOCK_POOLS = (
    "SELECT id, fence, line_until, allotments, {pool} FROM sojourn_pools"
    " WHERE id {in ids} ORDER BY id {update}"
)

# Now is read once the locks are held. Every row carries it: one statement tells all.
HOLDERS = """
SELECT c.now, c.pulse, l.lapsed, {lease}
FROM (SELECT {now} AS now, (SELECT value FROM sojourn_marks WHERE name = 'pulse') AS pulse) AS c
{join_holders holders}
"""
# Whether relays may have more than is known is asked where they have seats of a pool, and nowhere else: their
# tables may be missing.
HOLDERS_SHARED = HOLDERS.replace("l.lapsed, ", f"l.lapsed, {allotments.DOUBT}, ")
DOUBTFUL = f"SELECT {allotments.DOUBT}"
RAISE_FENCE = "UPDATE sojourn_pools SET fence = fence + :by WHERE id {in ids}"

COLUMNS = """id, pool_id, user_id, client_id, fence, acquired_at, last_beat_at, suspect_at, expires_at,
       origin, session_id, idle_since, device, ended_at, end_reason, graced_at, overdraft, member_of"""
UPSERT = """
INSERT INTO sojourn_leases ({columns}, lapsed) {values}
ON CONFLICT (pool_id, user_id, client_id) DO UPDATE SET
    id = excluded.id, fence = excluded.fence, acquired_at = excluded.acquired_at,
    last_beat_at = excluded.last_beat_at, suspect_at = excluded.suspect_at,
    expires_at = excluded.expires_at, origin = excluded.origin, session_id = excluded.session_id,
    idle_since = excluded.idle_since, device = excluded.device, ended_at = excluded.ended_at,
    end_reason = excluded.end_reason, graced_at = excluded.graced_at, overdraft = excluded.overdraft,
    member_of = excluded.member_of, lapsed = excluded.lapsed
""".replace("{columns}", COLUMNS)
UPSERT_SQLITE = UPSERT.replace(
    "{values}",
    """VALUES (:id, :pool_id, :user_id, :client_id, :fence, :acquired_at, :last_beat_at, :suspect_at,
       :expires_at, :origin, :session_id, :idle_since, :device, :ended_at, :end_reason, :graced_at,
       :overdraft, :member_of, FALSE)""",
)
UPSERT_POSTGRES = UPSERT.replace(
    "{values}",
    """SELECT {columns}, FALSE FROM json_to_recordset(:rows::json) AS r (id text, pool_id text,
       user_id text, client_id text, fence bigint, acquired_at bigint, last_beat_at bigint,
       suspect_at bigint, expires_at bigint, origin text, session_id text, idle_since bigint,
       device text, ended_at bigint, end_reason text, graced_at bigint, overdraft boolean,
       member_of text)""",
).replace("{columns}", COLUMNS)
# MySQL would also update a row that has the same id and another holder: there, id becomes NULL, which
# it refuses.
UPSERT_MYSQL = """
INSERT INTO sojourn_leases ({columns}, lapsed)
VALUES (:id, :pool_id, :user_id, :client_id, :fence, :acquired_at, :last_beat_at, :suspect_at,
        :expires_at, :origin, :session_id, :idle_since, :device, :ended_at, :end_reason, :graced_at,
        :overdraft, :member_of, :lapsed)
ON DUPLICATE KEY UPDATE
    id = IF(pool_id = VALUES(pool_id) AND user_id = VALUES(user_id)
            AND client_id = VALUES(client_id), VALUES(id), NULL),
    fence = VALUES(fence), acquired_at = VALUES(acquired_at), last_beat_at = VALUES(last_beat_at),
    suspect_at = VALUES(suspect_at), expires_at = VALUES(expires_at), origin = VALUES(origin),
    session_id = VALUES(session_id), idle_since = VALUES(idle_since), device = VALUES(device),
    ended_at = VALUES(ended_at), end_reason = VALUES(end_reason), graced_at = VALUES(graced_at),
    overdraft = VALUES(overdraft), member_of = VALUES(member_of), lapsed = VALUES(lapsed)
""".replace("{columns}", COLUMNS)


class _Locked(Struct):
    """What a batch sees once its pools are locked."""

    now: int
    pulse: int | None
    # With the fence, until when somebody may wait, and what relays have of it.
    pools: dict[str, tuple[Pool, int, int, str | None]]
    rows: dict[str, dict[tuple[str, str], Lease]]  # by pool, by holder
    doubtful: bool  # relays may have more than is known of those pools that are shared


class _Decided(Struct, kw_only=True):
    """What a batch is answered, and what must be written before it is."""

    now: int
    answers: list[Lease | Denied]
    writes: list[Lease]
    happened: list[Event]
    raised: dict[int, list[str]]  # by how much: the fences of which pools
    counted: dict[str, Certificate]  # by pool
    left: list[Waiting]
    entered: list[Waiting]
    lines: dict[str, int]  # by pool: until when somebody may wait, as its row says
    over: list[
        dict[str, str]
    ]  # pools with allotments that are over, and what their rows are to have


class AcquireVerbs(Verbs):
    """Verbs that grant seats."""

    _certificates: Certificates

    def acquire(self, requests: Sequence[Acquire]) -> list[Lease | Denied | Repeated]:
        """Grant seats; see `Store.acquire`."""
        if not requests:
            return []
        keys = [request.idempotency for request in requests]

        def work(tx: Tx) -> tuple[list[Lease | Denied | Repeated], dict[str, Certificate]]:
            counted: dict[str, Certificate] = {}

            def decide(some: list[int]) -> list[Lease | Denied]:
                decided = _acquire(
                    tx, self._certificates, [requests[i] for i in some], self._max_pause
                )
                counted.update(decided.counted)
                return decided.answers

            return once(tx, keys, decide), counted

        answers, counted = self._db.transaction(work)
        for pool_id, certificate in counted.items():
            self._certificates.keep(pool_id, certificate)
        return answers

    def preview(self, requests: Sequence[Acquire]) -> list[Lease | Denied]:
        """Say what `acquire` would answer; see `Store.preview`."""
        if not requests:
            return []
        decided = self._db.rehearse(
            lambda tx: _decide(tx, self._certificates, requests, self._max_pause)
        )
        return decided.answers


def _acquire(
    tx: Tx, certificates: Certificates, requests: Sequence[Acquire], max_pause: int
) -> _Decided:
    decided = _decide(tx, certificates, requests, max_pause)
    write_leases(tx, decided.writes)
    lines.write(tx, decided.left, decided.entered, decided.lines)
    tx.many(allotments.WRITE, decided.over)
    for by, ids in decided.raised.items():
        tx.later(RAISE_FENCE, {"by": by, "ids": tx.dialect.keys(ids)})
    events.append(tx, decided.happened, decided.now)
    return decided


def _decide(
    tx: Tx, certificates: Certificates, requests: Sequence[Acquire], max_pause: int
) -> _Decided:
    """Lock the pools and let `seating` decide; nothing is granted yet."""
    by_pool: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        by_pool.setdefault(request.pool_id, []).append(index)
    # Before the pools, as whoever ends a session locks it before its leases.
    gone = cutoffs.not_live(tx, {x.session_id for x in requests if x.session_id is not None})
    locked = _lock(tx, requests)
    happened: list[Event] = []
    if outages.stale(locked.pulse, locked.now, max_pause):
        outage, _ = outages.give_grace(tx, max_pause)
        happened += [outages.returned(outage)] if outage is not None else []
        locked = _lock(tx, requests)  # leases live on that seemed to have expired
    answers: list[Lease | Denied | None] = [None] * len(requests)
    writes: list[Lease] = []
    raised: dict[int, list[str]] = {}
    counted: dict[str, Certificate] = {}
    left: list[Waiting] = []
    entered: list[Waiting] = []
    over: list[dict[str, str]] = []
    for pool_id, indexes in by_pool.items():
        batch = [requests[i] for i in indexes]
        if pool_id not in locked.pools:
            denied = Denied(reason=DenialReason.FEATURE_UNKNOWN, at=locked.now)
            for i in indexes:
                answers[i] = denied
            happened += [denial_event(request, denied) for request in batch]
            continue
        pool, fence, until, shared = locked.pools[pool_id]
        rows = locked.rows.get(pool_id, {})
        if shared is not None and (text := allotments.over_since(shared, locked.now)) is not None:
            over.append({"id": pool_id, "allotments": text})
        view = PoolView(
            tx,
            certificates,
            pool,
            fence=fence,
            rows=rows,
            now=locked.now,
            line_until=until,
            allotted=0 if shared is None else allotments.allotted(shared, locked.now),
            doubtful=shared is not None and locked.doubtful,
        )
        seating = seat(view, batch, gone=gone)
        if view.certificate is not None:
            counted[pool_id] = view.certificate
        for i, answer in zip(indexes, seating.answers, strict=True):
            answers[i] = answer
        writes += seating.writes
        happened += seating.events
        left += seating.left
        entered += seating.entered
        if seating.fence != fence:
            raised.setdefault(seating.fence - fence, []).append(pool_id)
    return _Decided(
        now=locked.now,
        answers=[answer for answer in answers if answer is not None],
        writes=writes,
        happened=happened,
        raised=raised,
        counted=counted,
        left=left,
        entered=entered,
        over=over,
        lines={pool_id: until for pool_id, (_, _, until, _) in locked.pools.items()},
    )


def _lock(tx: Tx, requests: Sequence[Acquire]) -> _Locked:
    keys = tx.dialect.keys
    ids = sorted({request.pool_id for request in requests})
    holders = tx.dialect.holders({(r.pool_id, r.user_id, r.client_id) for r in requests})
    asked = {"holders": holders}
    found: Rows = ()
    if tx.joins:  # sent together: what the pools say is not known yet
        locked, found = tx.locking(LOCK_POOLS, {"ids": keys(ids)}, HOLDERS, asked)
    else:
        locked = tx.rows(LOCK_POOLS, {"ids": keys(ids)})
    pools = {}
    for row in locked:
        pool = pool_of(row[4:])
        if pool is not None:
            pools[row[0]] = (pool, row[1], row[2], row[3])
    shared, at = any(pool[3] is not None for pool in pools.values()), 3
    if not found:
        template, at = (HOLDERS_SHARED, 4) if shared else (HOLDERS, 3)
        found = tx.rows(template, {**asked, "now": tx.instant})
    leases: dict[str, dict[tuple[str, str], Lease]] = {}
    for row in found:
        if row[at] is not None:
            lease = lease_of(row[at:])
            if row[2]:  # even under a clock that was set back
                lease = replace(lease, expires_at=min(lease.expires_at, row[0]))
            leases.setdefault(lease.pool_id, {})[lease.holder] = lease
    now, pulse = int(found[0][0]), found[0][1]
    tx.judge(now, pulse)
    doubt = found[0][3] if at == 4 else shared and tx.rows(DOUBTFUL, {"now": now})[0][0]
    doubtful = bool(doubt)
    return _Locked(now=now, pulse=pulse, pools=pools, rows=leases, doubtful=doubtful)


def write_leases(tx: Tx, leases: Iterable[Lease]) -> None:
    """Write full rows, one per holder, in order of id as every lock on leases is taken."""
    rows: list[dict[str, Any]] = [lease_row(x) for x in sorted(leases, key=lambda x: x.id)]
    if not rows:
        return
    if tx.dialect.takes_rows:
        tx.later(UPSERT_POSTGRES, {"rows": tx.dialect.rows(rows)})
    elif tx.dialect.one_writer:
        tx.many(UPSERT_SQLITE, rows)
    else:
        tx.later_rows(UPSERT_MYSQL, [row | {"lapsed": False} for row in rows])
