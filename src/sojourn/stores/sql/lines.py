"""Who waits for a seat: `sojourn_waiting`, read and written under the lock of the pool's row.

The pool's row says until when somebody may wait (`line_until`). It is read with the lock, so a pool in whose
line nobody stands costs an acquire no statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sojourn.lease import Waiting
from sojourn.line import WAITING_FOR
from sojourn.store import LIST_MAX, bounded
from sojourn.stores.sql.database import Database, Tx, Verbs

COLUMNS = "pool_id, user_id, client_id, id, priority, since, expires_at, offer_until, reservation"
LIVE = "SELECT {columns} FROM sojourn_waiting WHERE pool_id = :pool AND expires_at > :at"
LIVE = LIVE.replace("{columns}", COLUMNS)
DEAD = """
SELECT pool_id, user_id, client_id FROM sojourn_waiting WHERE expires_at <= :until
ORDER BY expires_at LIMIT :limit
"""
LEAVE = """
DELETE FROM sojourn_waiting
WHERE pool_id = :pool_id AND user_id = :user_id AND client_id = :client_id
"""
FORGET = LEAVE + "AND expires_at <= :until"
LASTS = "UPDATE sojourn_pools SET line_until = :until WHERE id = :pool AND line_until < :until"

ENTER = "INSERT INTO sojourn_waiting ({columns}) {values}".replace("{columns}", COLUMNS)
REPLACE = """
ON CONFLICT (pool_id, user_id, client_id) DO UPDATE SET id = excluded.id, priority = excluded.priority,
    since = excluded.since, expires_at = excluded.expires_at, offer_until = excluded.offer_until,
    reservation = excluded.reservation
"""
REPLACE_MYSQL = """
ON DUPLICATE KEY UPDATE id = VALUES(id), priority = VALUES(priority), since = VALUES(since),
    expires_at = VALUES(expires_at), offer_until = VALUES(offer_until),
    reservation = VALUES(reservation)
"""
VALUES = "VALUES (" + ", ".join(f":{name}" for name in COLUMNS.split(", ")) + ")"
RECORDSET = """SELECT {columns} FROM json_to_recordset(:rows::json) AS r (pool_id text, user_id text,
    client_id text, id text, priority integer, since bigint, expires_at bigint, offer_until bigint,
    reservation text)
""".replace("{columns}", COLUMNS)
UPSERT_SQLITE = ENTER.replace("{values}", VALUES) + REPLACE
UPSERT_POSTGRES = ENTER.replace("{values}", RECORDSET) + REPLACE
UPSERT_MYSQL = ENTER.replace("{values}", VALUES) + REPLACE_MYSQL


class LineVerb(Verbs):
    """The verb that lists a line."""

    def waiting(self, pool_id: str, *, limit: int = LIST_MAX) -> tuple[list[Waiting], int]:
        """List who waits; see `Store.waiting`."""

        def work(tx: Tx) -> tuple[list[Waiting], int]:
            now = tx.now()
            found = sorted(live(tx, pool_id, now), key=lambda entry: entry.order(now))
            return found[: bounded(limit)], now

        return self._db.read(work)


def live(tx: Tx, pool_id: str, now: int) -> list[Waiting]:
    """Read the live entries of a pool, in no order."""
    return [
        Waiting(
            pool_id=row[0],
            user_id=row[1],
            client_id=row[2],
            id=row[3],
            priority=row[4],
            since=row[5],
            expires_at=row[6],
            offer_until=row[7],
            reservation=row[8],
        )
        for row in tx.rows(LIVE, {"pool": pool_id, "at": now})
    ]


def write(
    tx: Tx, left: Sequence[Waiting], entered: Sequence[Waiting], until: Mapping[str, int]
) -> None:
    """Remove entries, then write others. `until`: what the pools' rows said of their lines."""
    if left:
        tx.many(LEAVE, [_place(entry) for entry in sorted(left, key=_holder)])
    if not entered:
        return
    rows = [
        _place(entry)
        | {
            "id": entry.id,
            "priority": entry.priority,
            "since": entry.since,
            "expires_at": entry.expires_at,
            "offer_until": entry.offer_until,
            "reservation": entry.reservation,
        }
        for entry in sorted(entered, key=_holder)
    ]
    if tx.dialect.takes_rows:
        tx.later(UPSERT_POSTGRES, {"rows": tx.dialect.rows(rows)})
    else:
        tx.later_rows(UPSERT_SQLITE if tx.dialect.one_writer else UPSERT_MYSQL, rows)
    last: dict[str, int] = {}
    for entry in entered:
        last[entry.pool_id] = max(entry.expires_at, last.get(entry.pool_id, 0))
    for pool_id, at in sorted(last.items()):
        if at > until.get(
            pool_id, 0
        ):  # further ahead, so that not every poll writes the pool's row
            tx.later(LASTS, {"pool": pool_id, "until": at + WAITING_FOR})


def forget(db: Database, until: int, limit: int) -> int:
    """Delete entries that are over by then; return how many."""
    dead = db.read(lambda tx: tx.rows(DEAD, {"until": until, "limit": limit}))
    if dead:
        rows = [
            {"pool_id": row[0], "user_id": row[1], "client_id": row[2], "until": until}
            for row in sorted(tuple(row) for row in dead)
        ]
        db.transaction(lambda tx: tx.many(FORGET, rows))
    return len(dead)


def _holder(entry: Waiting) -> tuple[str, str, str]:
    return entry.pool_id, entry.user_id, entry.client_id


def _place(entry: Waiting) -> dict[str, object]:
    return {"pool_id": entry.pool_id, "user_id": entry.user_id, "client_id": entry.client_id}
