"""Our outage never costs a customer a seat.

The row `pulse` in `marks` says when the service was last alive. Whoever finds it further back than
`max_pause` gives the leases that were live then their time back, once, in a transaction of its own that
holds that row: the second to come finds a fresh pulse. The row is locked before leases and by nobody
who holds a pool, so no two wait for each other.
"""

from __future__ import annotations

from sojourn.event import Event, EventKind
from sojourn.store import Outage
from sojourn.stores.sql import events
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.dialect import Backend

BEAT = """
UPDATE marks SET value = {now}
WHERE name = 'pulse' AND (value IS NULL OR value >= {now} - :max_pause)
"""
LOCK = "SELECT value, {now} FROM marks WHERE name = 'pulse' {update}"
NOW = "SELECT value, {now} FROM marks WHERE name = 'pulse'"
SET = "UPDATE marks SET value = :at WHERE name = 'pulse'"

# Until `served_until` the store may have served, and given away the seat of any lease that ran out.
OWED = """
ended_at IS NULL AND NOT lapsed AND expires_at > :served_until
AND (graced_at IS NULL OR last_beat_at > graced_at)
"""
# At most `lost_after` from now, and never less than it had.
GRACE = """
UPDATE leases SET
    expires_at = {greatest}(expires_at, {least}(expires_at + :lasted, :at + coalesce(
        (SELECT p.lost_after FROM pools AS p WHERE p.id = leases.pool_id), 0))),
    suspect_at = suspect_at + :lasted,
    graced_at = :at
WHERE {owed}
""".replace("{owed}", OWED)
GRACE_POSTGRES = (
    GRACE
    + "AND id IN (SELECT id FROM leases WHERE {owed} ORDER BY id FOR UPDATE)".replace(
        "{owed}", OWED
    )
)


def stale(pulse: int | None, now: int, max_pause: int) -> bool:
    return pulse is not None and now - pulse > max_pause


def pulse(db: Database, *, max_pause: int) -> Outage | None:
    """Note that the service is alive; give grace if it was not. See `Store.pulse`."""
    if db.write(lambda tx: tx.do(BEAT, {"now": tx.instant, "max_pause": max_pause})):
        return None
    return db.transaction(lambda tx: _return(tx, max_pause))


def heal(db: Database, *, max_pause: int) -> bool:
    """Give grace if the pulse is stale; tell whether it was."""

    def read(tx: Tx) -> bool:
        rows = tx.rows(NOW, {"now": tx.instant})
        return bool(rows) and stale(rows[0][0], int(rows[0][1]), max_pause)

    if not db.read(read):
        return False
    db.transaction(lambda tx: _return(tx, max_pause))
    return True


def _return(tx: Tx, max_pause: int) -> Outage | None:
    rows = tx.rows(LOCK, {"now": tx.instant})
    if not rows:
        raise events.no_mark("pulse")
    last, now = rows[0][0], int(rows[0][1])
    if tx.dialect.backend is not Backend.SQLITE:
        now = tx.now()  # now that the row is ours
    tx.do(SET, {"at": now})
    if not stale(last, now, max_pause):
        return None
    lasted = now - last
    tx.patiently()
    grace = GRACE_POSTGRES if tx.dialect.backend is Backend.POSTGRES else GRACE
    extended = tx.do(grace, {"lasted": lasted, "at": now, "served_until": last + max_pause})
    data = {"lasted": lasted, "extended": extended}
    events.append(tx, [Event(kind=EventKind.STORE_RETURNED, data=data)], now)
    return Outage(lasted=lasted, extended=extended)
