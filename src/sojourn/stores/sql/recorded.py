"""The stream of another store, as the ledger has it: each event once, by its id.

The row `events` in `sojourn_marks` holds the id of the last one, and changes in the transaction that writes
them: so a recorder that was killed, or two that run at once, leave no gap and no double.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from sojourn.event import Event
from sojourn.store import LIST_MAX
from sojourn.stores.sql import schema
from sojourn.stores.sql.database import Again, Database, Tx
from sojourn.stores.sql.events import INSERT
from sojourn.stores.sql.faults import no_mark
from sojourn.stores.sql.rows import EVENT_COLUMNS, event_of, event_row

NAME = "ledger"
LOCK = "SELECT value FROM sojourn_marks WHERE name = 'events' {update}"
SET = "UPDATE sojourn_marks SET value = :value WHERE name = 'events'"
READ = "SELECT name, value FROM sojourn_marks WHERE name IN ('events', 'ledger')"
NOTE = "INSERT INTO sojourn_marks (name, value) VALUES ('ledger', :value)"


def mark(db: Database) -> tuple[str, int]:
    """Return this ledger's name, made at the first call, and the id of the last event it has."""
    found = {row[0]: row[1] for row in db.read(lambda tx: tx.rows(READ, {}))}
    if NAME not in found:
        db.transaction(_name)
        found = {row[0]: row[1] for row in db.read(lambda tx: tx.rows(READ, {}))}
    return str(found[NAME]), int(found.get("events") or 0)


def _name(tx: Tx) -> None:
    if any(row[0] == NAME for row in tx.rows(READ, {})):
        return
    try:
        tx.do(NOTE, {"value": secrets.randbits(62)})
    except IntegrityError as error:
        raise Again from error  # somebody else was faster


def append(db: Database, events: Sequence[Event], *, after: int) -> bool:
    """Write events, if the last one before them is `after`. False if it is another by now."""

    def work(tx: Tx) -> bool:
        rows = tx.rows(LOCK, {})
        if not rows:
            raise no_mark("events")
        if (rows[0][0] or 0) != after:
            return False
        tx.many(INSERT, [dict(event_row(event, event.id, event.at)) for event in events])
        tx.do(SET, {"value": events[-1].id})
        return True

    return db.transaction(work) if events else True


def read(db: Database, *, after: int, limit: int = LIST_MAX, pool_id: str | None) -> list[Event]:
    """Read what was recorded, after an event id."""
    column = schema.events.c
    query = select(*(column[name] for name in EVENT_COLUMNS)).where(column.id > after)
    if pool_id is not None:
        query = query.where(column.pool_id == pool_id)
    rows = db.read(lambda tx: tx.core(query.order_by(column.id).limit(limit)).all())
    return [event_of(row) for row in rows]
