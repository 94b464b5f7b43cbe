"""The schema of databases in memory: migrated once in a process, and copied from then on.

Each of them is new and empty, so all of them are alike; to migrate one takes a hundred times as long.
"""

from __future__ import annotations

import sqlite3
import threading

from sojourn.stores.sql import migrations
from sojourn.stores.sql.file import FileDatabase

_lock = threading.Lock()
_migrated: list[sqlite3.Connection] = []  # at most one; no row of anybody's is ever in it


def prepare(db: FileDatabase) -> None:
    """Give a private database its schema."""
    with _lock:
        if _migrated:
            with db.writing():
                _migrated[0].backup(db.raw())
            return
        migrations.migrate(db)
        template = sqlite3.connect(":memory:", check_same_thread=False)
        with db.writing():
            db.raw().backup(template)
        _migrated.append(template)
