"""Heartbeats: the hottest verb. One statement per batch, in autocommit, without the pool's lock.

The new times are those of `sojourn.lease.beat_times`, in SQL. A beat counts only while its lease is
live, under its present fence, and has not `lapsed` (see acquires.py): so a beat that was late on its
way brings nothing back. Rows are locked in order of id, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from sojourn.lease import Renew, Renewal
from sojourn.stores.sql import outages, renewals_mysql
from sojourn.stores.sql.database import Database, Tx, Verbs
from sojourn.stores.sql.dialect import Dialect
from sojourn.stores.sql.rows import OPEN, renewal

SEPARATOR = "\x1f"

# How long after now a holder becomes suspect; `next_in` puts it off.
PATIENCE = """{least}(p.lost_after, coalesce(p.suspect_after, 2 * p.heartbeat_interval) + CASE
    WHEN b.next_in > p.heartbeat_interval THEN b.next_in - p.heartbeat_interval ELSE 0 END)"""

POSTGRES = (
    (
        """
WITH c AS MATERIALIZED (SELECT {now} AS now),
s AS (
    SELECT l.id, c.now,
        CASE WHEN b.closing THEN least(l.suspect_at, c.now)
             ELSE greatest(l.suspect_at, c.now + {patience}) END AS suspect_at,
        CASE WHEN b.closing THEN least(l.expires_at, c.now + p.linger)
             ELSE greatest(l.expires_at,
                           least(c.now + p.lost_after, l.acquired_at + p.max_lease))
        END AS expires_at,
        coalesce(c.now - b.idle_for, l.idle_since) AS idle_since
    FROM unnest(string_to_array(:ids, chr(31)), :fences::bigint[], :idle_for::bigint[],
                :next_in::bigint[], :closing::boolean[])
         AS b (id, fence, idle_for, next_in, closing)
    CROSS JOIN c
    CROSS JOIN LATERAL (
        SELECT * FROM sojourn_leases WHERE id = b.id AND fence = b.fence
            AND coalesce(ended_at, 0) = 0 AND NOT lapsed AND expires_at > c.now
        FOR UPDATE
    ) AS l
    CROSS JOIN LATERAL (
        SELECT * FROM sojourn_pools AS p WHERE p.id = l.pool_id AND {open} OFFSET 0
    ) AS p
)
UPDATE sojourn_leases
SET last_beat_at = greatest(sojourn_leases.last_beat_at, s.now), suspect_at = s.suspect_at,
    expires_at = s.expires_at, idle_since = s.idle_since
FROM s WHERE sojourn_leases.id = s.id
RETURNING sojourn_leases.id, sojourn_leases.expires_at - s.now, sojourn_leases.suspect_at <= s.now, s.now
"""
    )
    .replace("{patience}", PATIENCE)
    .replace("{open}", OPEN.replace("{at}", "c.now"))
)

SQLITE = (
    (
        """
UPDATE sojourn_leases SET
    last_beat_at = max(last_beat_at, :now),
    suspect_at = CASE WHEN b.closing THEN min(suspect_at, :now)
                      ELSE max(suspect_at, :now + {patience}) END,
    expires_at = CASE WHEN b.closing THEN min(expires_at, :now + p.linger)
                      ELSE max(expires_at, min(:now + p.lost_after,
                               coalesce(acquired_at + p.max_lease, :now + p.lost_after))) END,
    idle_since = coalesce(:now - b.idle_for, idle_since)
FROM (SELECT value ->> 0 AS id, value ->> 1 AS fence, value ->> 2 AS idle_for,
             value ->> 3 AS next_in, value ->> 4 AS closing FROM json_each(:beats)) AS b
CROSS JOIN sojourn_pools AS p
WHERE sojourn_leases.id = b.id AND sojourn_leases.fence = b.fence AND sojourn_leases.ended_at IS NULL
  AND NOT sojourn_leases.lapsed AND sojourn_leases.expires_at > :now
  AND p.id = sojourn_leases.pool_id AND {open}
RETURNING id, expires_at - :now, suspect_at <= :now
"""
    )
    .replace("{patience}", PATIENCE)
    .replace("{open}", OPEN.replace("{at}", ":now"))
)


class RenewVerb(Verbs):
    """The verb that applies heartbeats."""

    def renew(self, renews: Sequence[Renew]) -> list[Renewal | None]:
        """Apply beats; see `Store.renew`."""
        answers: list[Renewal | None] = [None] * len(renews)
        _apply(self._db, renews, range(len(renews)), answers)
        missed = [index for index, answer in enumerate(answers) if answer is None]
        if missed and outages.heal(self._db, max_pause=self._max_pause):
            _apply(self._db, renews, missed, answers)
        return answers


def _apply(
    db: Database,
    renews: Sequence[Renew],
    indexes: Iterable[int],
    answers: list[Renewal | None],
) -> None:
    """Apply these beats as if one by one: those of one lease in the order in which they came."""
    waiting = list(indexes)
    while waiting:
        first: dict[str, Renew] = {}
        parted: set[str] = set()  # leases that have more than one thing said of them
        now: list[int] = []
        later: list[int] = []
        for index in waiting:
            beat = renews[index]
            said = first.get(beat.lease_id)
            if said is None:
                first[beat.lease_id] = beat
                now.append(index)
            elif said == beat and beat.lease_id not in parted and not beat.beat.closing:
                now.append(index)  # the same beat twice has the effect of one
            else:  # a second goodbye, too: it may come too late
                parted.add(beat.lease_id)
                later.append(index)
        batch = [first[lease_id] for lease_id in sorted(first)]
        found = db.write(partial(_beating(db.dialect), beats=batch))
        for index in now:
            answers[index] = found.get(renews[index].lease_id)
        waiting = later


def _renewals(rows: Iterable[Sequence[Any]]) -> dict[str, Renewal]:
    return {row[0]: renewal(row[1], doubted=row[2]) for row in rows}


def _on_postgres(tx: Tx, beats: Sequence[Renew]) -> dict[str, Renewal]:
    # A list as one string costs a fraction of what the driver takes for an array.
    beats = [x for x in beats if SEPARATOR not in x.lease_id]
    rows = tx.rows(
        POSTGRES,
        {
            "now": tx.instant,
            "ids": SEPARATOR.join([x.lease_id for x in beats]),
            "fences": _array([x.fence for x in beats]),
            "idle_for": _array([x.beat.idle_for for x in beats]),
            "next_in": _array([x.beat.next_in for x in beats]),
            "closing": _array([x.beat.closing for x in beats]),
        },
    )
    if rows:
        tx.judge(rows[0][3])  # a beat may be applied twice
    if len(rows) < len(beats):
        tx.doubted()
    return _renewals(rows)


def _array(values: Iterable[int | None]) -> str:
    """Write numbers and truth values as PostgreSQL does."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def _on_sqlite(tx: Tx, beats: Sequence[Renew]) -> dict[str, Renewal]:
    rows = [(x.lease_id, x.fence, x.beat.idle_for, x.beat.next_in, x.beat.closing) for x in beats]
    return _renewals(tx.rows(SQLITE, {"now": tx.instant, "beats": tx.dialect.keys(rows)}))


def _beating(dialect: Dialect) -> Callable[..., dict[str, Renewal]]:
    return dialect.pick(sqlite=_on_sqlite, postgres=_on_postgres, mysql=renewals_mysql.beat)
