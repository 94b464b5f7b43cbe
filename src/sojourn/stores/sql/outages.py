"""Our outage never costs a customer a seat.

The row `pulse` in `sojourn_marks` says when the service was last alive. Whoever finds it further back than
`max_pause` gives the leases that were live then their time back, once: it locks that row, and the
second to come finds a fresh pulse. The row is locked after pools and before leases.
"""

from __future__ import annotations

from sojourn.event import Event, EventKind
from sojourn.store import Outage
from sojourn.stores.sql import events
from sojourn.stores.sql.database import Again, Database, Tx
from sojourn.stores.sql.faults import no_mark

BEAT = """
UPDATE sojourn_marks SET value = {now}
WHERE name = 'pulse' AND (value IS NULL OR value >= {now} - :max_pause)
"""
LOCK = "SELECT value, {now} FROM sojourn_marks WHERE name = 'pulse' {update}"
# What a grant needs, a pulse must get: where the stream cannot be written, we are away.
LOCK_STREAM = "SELECT {now} FROM sojourn_marks WHERE name = 'events' {update}"
NOW = "SELECT value, {now} FROM sojourn_marks WHERE name = 'pulse'"
NOW_FIRST = "SELECT {now}, value FROM sojourn_marks WHERE name = 'pulse'"
SET = "UPDATE sojourn_marks SET value = :at WHERE name = 'pulse'"

# Until `served_until` the store may have served, and given away the seat of any lease that ran out. One that
# expires with its last beat said goodbye where the linger is zero: it is over.
OWED = """
ended_at IS NULL AND NOT lapsed AND expires_at > :served_until
AND (graced_at IS NULL OR last_beat_at > graced_at) AND expires_at > last_beat_at
AND EXISTS (SELECT 1 FROM sojourn_pools AS p WHERE p.id = sojourn_leases.pool_id AND p.status <> 'dropped')
"""
# At most `lost_after` from now, never past `max_lease`, and never less than it had.
GRACE = """
UPDATE sojourn_leases SET
    expires_at = {greatest}(expires_at, {least}(expires_at + :lasted,
        :at + (SELECT p.lost_after FROM sojourn_pools AS p WHERE p.id = sojourn_leases.pool_id),
        (SELECT coalesce(sojourn_leases.acquired_at + p.max_lease, sojourn_leases.expires_at + :lasted)
            FROM sojourn_pools AS p WHERE p.id = sojourn_leases.pool_id))),
    suspect_at = suspect_at + :lasted,
    graced_at = :at
WHERE {owed}
""".replace("{owed}", OWED)
GRACE_POSTGRES = (
    GRACE
    + "AND id IN (SELECT id FROM sojourn_leases WHERE {owed} ORDER BY id FOR UPDATE)".replace(
        "{owed}", OWED
    )
)


def stale(pulse: int | None, now: int, max_pause: int) -> bool:
    return pulse is not None and now - pulse > max_pause


def pulse(db: Database, *, max_pause: int) -> Outage | None:
    """Note that the service is alive; give grace if it was not. See `Store.pulse`."""

    def beat(tx: Tx) -> bool:
        fresh = tx.do(BEAT, {"now": tx.instant, "max_pause": max_pause}) > 0
        if fresh and not tx.dialect.one_writer:
            tx.judged(tx.rows(LOCK_STREAM, {"now": tx.instant}))
        return fresh

    run = db.write if db.dialect.one_writer else db.transaction
    if run(beat):
        return None
    return db.transaction(lambda tx: _pulse(tx, max_pause))


def heal(db: Database, *, max_pause: int) -> bool:
    """Give grace if the pulse is stale. Tell whether it was, or whether somebody has set the clock: what
    was turned away may count after all."""
    looks = 0

    def read(tx: Tx) -> bool:
        nonlocal looks
        looks += 1
        rows = tx.rows(NOW, {"now": tx.instant})
        if not rows:
            return False
        now = int(rows[0][1])
        tx.judge(now)
        return stale(rows[0][0], now, max_pause)

    if not db.read(read):
        return looks > 1
    db.transaction(lambda tx: _pulse(tx, max_pause))
    return True


def notice(tx: Tx, max_pause: int) -> None:
    """Have a transaction start over, once leases have their time back, if there was an outage that nobody
    has noticed yet. For whoever ends leases: one that is over by the clock would come back."""
    rows = tx.trusted(NOW_FIRST, {})
    if rows and stale(rows[0][1], int(rows[0][0]), max_pause):
        raise Again(lambda db: db.transaction(lambda its: _pulse(its, max_pause)))


def _pulse(tx: Tx, max_pause: int) -> Outage | None:
    outage, now = give_grace(tx, max_pause)
    if outage is not None:
        events.append(tx, [returned(outage)], now)
    return outage


def give_grace(tx: Tx, max_pause: int) -> tuple[Outage | None, int]:
    """Lock the pulse and set it to now; if it was stale, give surviving leases their time back.

    The event is the caller's to append, when all else is done. Returns now, too.
    """
    rows = tx.rows(LOCK, {"now": tx.instant})
    if not rows:
        raise no_mark("pulse")
    last, now = rows[0][0], int(rows[0][1])
    if not tx.dialect.one_writer:
        now = tx.now()  # now that the row is ours
    tx.do(SET, {"at": now})
    if not stale(last, now, max_pause):
        return None, now
    lasted = now - last
    tx.patiently()
    grace = tx.dialect.pick(sqlite=GRACE, postgres=GRACE_POSTGRES, mysql=GRACE)
    extended = tx.do(grace, {"lasted": lasted, "at": now, "served_until": last + max_pause})
    return Outage(lasted=lasted, extended=extended), now


def returned(outage: Outage) -> Event:
    """Tell the stream of an outage."""
    data = {"lasted": outage.lasted, "extended": outage.extended}
    return Event(kind=EventKind.STORE_RETURNED, data=data)
