"""Databases with the schema in place and no row in them, sooner emptied or copied than made anew."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import CompoundSelect, exists, literal_column, select, text, union_all
from sqlalchemy.exc import DBAPIError

from sojourn.stores import open as stores
from sojourn.stores.sql import schema
from sojourn.stores.sql.store import SqlStore

USED: CompoundSelect[tuple[str]] = union_all(
    *(
        select(literal_column(f"'{table.name}'")).where(
            exists(select(literal_column("1")).select_from(table))
        )
        for table in schema.metadata.sorted_tables
        if table is not schema.marks
    )
)
"""Names the tables that have rows: a test fills three or four of twenty, and each delete is a round trip."""


class Reused:
    """A database of a server's for one test after the other. None of them may change its schema."""

    def __init__(self, url: str) -> None:
        self.url = url
        store = stores.open_store(url, migrate=True)
        assert isinstance(store, SqlStore)
        self._store = store

    def emptied(self) -> str:
        """Forget all rows, and what was counted; return the URL."""
        try:
            self._empty()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._empty()  # the test before has ended every connection, ours too
        return self.url

    def _empty(self) -> None:
        with self._store._db.writing() as tx, tx.transaction():
            used = {name for (name,) in tx.core(USED)}
            for table in schema.metadata.sorted_tables:
                if table.name in used:
                    tx.core(table.delete())
            tx.core(text("DELETE FROM sojourn_marks WHERE name LIKE 'relay%'"))  # of no fresh one
            tx.core(text("UPDATE sojourn_marks SET value = 0"))
            tx.core(text("UPDATE sojourn_marks SET value = NULL WHERE name = 'pulse'"))

    def close(self) -> None:
        self._store.close()


def migrated_file(path: Path) -> Path:
    """Make a SQLite database to copy."""
    stores.migrate(f"sqlite:///{path}")
    return path


def copied(template: Path, path: Path) -> str:
    """Make an empty database of a template, in the place of whatever is there; return its URL."""
    for left in (Path(f"{path}-wal"), Path(f"{path}-shm")):
        left.unlink(missing_ok=True)
    shutil.copy(template, path)  # with its mode: nobody else may read it
    return f"sqlite:///{path}"
