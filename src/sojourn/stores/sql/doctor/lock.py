"""One doctor repairs at a time. The lock ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sojourn.errors import RepairBusy
from sojourn.stores.sql.database import Database, translated
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.file import FileDatabase

if sys.platform != "win32":
    import fcntl

NAME = {"name": "sojourn:doctor", "number": 7_305_827_216}
LOCK = {
    Backend.POSTGRES: "SELECT pg_try_advisory_lock(:number)",
    Backend.MYSQL: "SELECT get_lock(concat(:name, ':', coalesce(database(), '')), 0)",
}


@contextlib.contextmanager
def held(db: Database) -> Iterator[None]:
    """Hold the lock of a database, or raise RepairBusy at once."""
    if isinstance(db, FileDatabase):
        with _file_held(db.path):
            yield
        return
    with translated(), db.engine.connect() as connection:
        sql = db.dialect.render(LOCK[db.dialect.backend])
        try:
            if not connection.exec_driver_sql(sql, NAME).scalar():
                raise _busy()
            yield
        finally:
            connection.invalidate()  # the lock ends with its connection


@contextlib.contextmanager
def _file_held(path: Path | None) -> Iterator[None]:
    if path is None or sys.platform == "win32":
        yield
        return
    file = os.open(f"{path}.doctor", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy() from None
        yield
    finally:
        os.close(file)


def _busy() -> RepairBusy:
    return RepairBusy("Another doctor is repairing this database.")
