"""Tells the stream when tables go missing under a running server, and when they are back.

The row `absent` in `sojourn_marks` is there for as long as some are: so however many servers find out, each
outage is told once, and a server that was started meanwhile still tells its end. Nothing is asked of the
database while all is well.
"""

from __future__ import annotations

import threading
import time

from sqlalchemy import inspect

from sojourn.errors import SojournError
from sojourn.event import Event, EventKind
from sojourn.stores.sql import events, schema
from sojourn.stores.sql.database import Database, Tx

LOOK_INTERVAL = 1.0  # seconds between looks while something is missing
TOLD = "SELECT value FROM sojourn_marks WHERE name = 'absent' {update}"
NOTE = "INSERT INTO sojourn_marks (name, value) VALUES ('absent', :at)"
FORGET = "DELETE FROM sojourn_marks WHERE name = 'absent'"


class TableWatch:
    """Of one store, in one process. Safe from several threads; raises nothing."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._present: bool | None = None  # None: nobody has looked yet
        self._looked = 0.0

    def found_missing(self) -> None:
        """A statement has met a table that is not there."""
        if not self._present:
            self._look()

    def found_well(self) -> None:
        """A statement has succeeded; whether that tells anything, is for a look to say."""
        if self._present and time.monotonic() - self._looked >= LOOK_INTERVAL:
            self._look()

    def begin(self) -> None:
        """See once whether an outage is open that an earlier process has told of."""
        if self._present is None:
            self._look()

    def _look(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # somebody looks already, or this is our own statement
        try:
            self._looked = time.monotonic()
            self._present = self._db.transaction(_settle)
        except SojournError:  # the stream itself is missing, or another server was quicker
            self._present = True
        finally:
            self._lock.release()


def _settle(tx: Tx) -> bool:
    """Tell the stream what has changed; return whether something is missing."""
    found = inspect(tx.connection)
    there = {*found.get_table_names(), *found.get_view_names()}  # see `names.mysql`
    missing = sorted(schema.metadata.tables.keys() - there)
    told = tx.rows(TOLD, {})
    if bool(missing) == bool(told):
        return bool(missing)
    now = tx.now()
    if missing:
        tx.do(NOTE, {"at": now})
        event = Event(kind=EventKind.STORE_TABLE_MISSING, data={"tables": missing})
    else:
        tx.do(FORGET)
        lasted = max(0, now - int(told[0][0]))
        event = Event(kind=EventKind.STORE_TABLE_BACK, data={"lasted": lasted})
    events.append(tx, [event], now)
    return bool(missing)
