"""One doctor repairs at a time. The lock ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sojourn.errors import RepairBusy
from sojourn.stores.sql.database import Database, translated
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.file import FileDatabase

if sys.platform != "win32":
    import fcntl

NAME = {"name": "sojourn:doctor", "number": 7_305_827_216, "timeout": 4}
"""A server takes a moment to notice that a doctor was killed: so many seconds are waited."""
LOCK = {
    Backend.POSTGRES: "SELECT 1 FROM (SELECT pg_advisory_lock(:number)) AS waited",
    Backend.MYSQL: "SELECT get_lock(concat(:name, ':', coalesce(database(), '')), :timeout)",
}
HELD = "SQLSTATE 55P03"  # lock_timeout, which our connections have


@contextlib.contextmanager
def held(db: Database) -> Iterator[None]:
    """Hold the lock of a database, or raise RepairBusy."""
    if isinstance(db, FileDatabase):
        with _file_held(db.path):
            yield
        return
    with translated(), db.engine.connect() as connection:
        try:
            if not _taken(connection, db.dialect.render(LOCK[db.dialect.backend])):
                raise _busy()
            yield
        finally:
            connection.invalidate()  # the lock ends with its connection


def _taken(connection: Connection, sql: str) -> bool:
    try:
        return bool(connection.exec_driver_sql(sql, NAME).scalar())
    except DBAPIError as error:
        fault = classify(error)
        if fault is not None and fault.code == HELD:
            return False
        raise


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
