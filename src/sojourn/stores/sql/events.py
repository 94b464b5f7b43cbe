"""The stream of events: ids in commit order, without a gap.

The last statement of a transaction takes the next ids from the row `events` in `sojourn_marks`, and holds
that row until it has committed. So ids are given in the order of commits, and a reader that has seen id n
has seen every smaller one. Locks are always taken in the order
session_users, sessions, pools, leases, marks; the pulse, a row of marks too, before leases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select

from sojourn.event import Event, EventKind, of_canary
from sojourn.store import Action, bounded
from sojourn.stores.sql import schema
from sojourn.stores.sql.database import Tx, Verbs
from sojourn.stores.sql.faults import no_mark
from sojourn.stores.sql.rows import EVENT_COLUMNS, event_of, event_row, to_json

MARKS = {
    "events": "sojourn_events",
    "audits": "sojourn_audits",
    "sweeps": "sojourn_sweeps",
    "pulse": None,
}
"""The rows of `sojourn_marks`, and the table whose last id they hold."""

BUMP = "UPDATE sojourn_marks SET value = value + :count WHERE name = :name RETURNING value"
BUMP_MYSQL = "UPDATE sojourn_marks SET value = LAST_INSERT_ID(value + :count) WHERE name = :name"

INSERT = """
INSERT INTO sojourn_events (id, at, kind, pool_id, subject, user_id, client_id, actor, data)
VALUES (:id, :at, :kind, :pool_id, :subject, :user_id, :client_id, :actor, :data)
"""
# MariaDB and MySQL, in one message. Without the mark, ids are null, and nothing is written.
COUNT_MYSQL = "UPDATE sojourn_marks SET value = value + :count WHERE name = 'events'"
LAST_MYSQL = "SET @sojourn_last = (SELECT value FROM sojourn_marks WHERE name = 'events')"
INSERT_MYSQL = INSERT.replace("(:id,", "(@sojourn_last - :before,")
# Without the mark, ids are null, and nothing is written: `faults` tells why.
APPEND_POSTGRES = """
WITH mark AS (UPDATE sojourn_marks SET value = value + :count WHERE name = 'events' RETURNING value)
INSERT INTO sojourn_events (id, at, kind, pool_id, subject, user_id, client_id, actor, data)
SELECT (SELECT mark.value FROM mark) - :count + e.id, e.at, e.kind, e.pool_id, e.subject, e.user_id,
       e.client_id, e.actor, e.data
FROM json_to_recordset(:rows::json) AS e (id bigint, at bigint, kind text, pool_id text,
     subject text, user_id text, client_id text, actor text, data text)
"""


def append(tx: Tx, events: Sequence[Event], now: int) -> None:
    """Append events; the last thing a transaction does."""
    events = [event for event in events if not of_canary(event)]
    if not events:
        return
    count = len(events)
    if tx.dialect.takes_rows:
        rows = [event_row(event, number, now) for number, event in enumerate(events, 1)]
        tx.later(APPEND_POSTGRES, {"count": count, "rows": tx.dialect.rows(rows)})
        return
    if tx.joins:
        tx.later(COUNT_MYSQL, {"count": count})
        tx.later(LAST_MYSQL)
        numbered = [
            {**event_row(event, 0, now), "before": count - number}
            for number, event in enumerate(events, 1)
        ]
        tx.later_rows(INSERT_MYSQL, numbered, null=no_mark("events"))
        return
    first = bump(tx, "events", count) - count + 1
    tx.many(INSERT, [dict(event_row(event, first + i, now)) for i, event in enumerate(events)])


def bump(tx: Tx, name: str, count: int) -> int:
    """Take the next `count` ids of a sequence without gaps; return the last of them."""
    params = {"name": name, "count": count}
    if tx.dialect.returning:
        last = int(next((row[0] or 0 for row in tx.rows(BUMP, params)), 0))
    else:
        last = tx.last_insert_id(BUMP_MYSQL, params)
    if not last:
        raise no_mark(name)
    return last


def action_event(action: Action, **data: Any) -> Event:
    """Record what an operator did; what the caller adds to the audit never hides what was done."""
    return Event(
        kind=EventKind.OPERATOR_ACTED,
        actor=action.actor,
        data={**action.data, "name": action.name, **data},
    )


def audit(tx: Tx, actor: str, action: str, subject: str, data: dict[str, Any]) -> None:
    """Append to the audit trail; the last thing a transaction does, as its ids have no gaps."""
    row = {"actor": actor, "action": action, "subject": subject, "data": to_json(data)}
    tx.core(insert(schema.audits), row | {"at": tx.now(), "id": bump(tx, "audits", 1)})


class EventVerbs(Verbs):
    """The verb that reads the stream."""

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
        """Read the stream; see `Store.events`."""
        column = schema.events.c
        query = select(*(column[name] for name in EVENT_COLUMNS)).limit(bounded(limit))
        if newest_first:
            query = query.order_by(column.id.desc())
            if after:
                query = query.where(column.id < after)
        else:
            query = query.order_by(column.id).where(column.id > after)
        if kinds:
            query = query.where(column.kind.in_([str(kind) for kind in kinds]))
        for name, value in (("pool_id", pool_id), ("user_id", user_id)):
            if value is not None:
                query = query.where(column[name] == value)
        rows: Sequence[Any] = self._db.read(lambda tx: tx.core(query).all())
        return [event_of(row) for row in rows]
