"""One doctor repairs at a time. The lock ends with the process that holds it, however that ends.

On a server it belongs to a connection that a thread keeps talking in: of a process that froze, or was cut
off, the server hears nothing, and ends the connection. On PostgreSQL the lock is a transaction's: behind a
pooler, nothing else keeps a connection ours. What is said in it looks at no data: PostgreSQL, asked to make
an index without keeping anybody from writing, waits for whoever does.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sojourn.errors import RepairBusy, StoreUnavailable
from sojourn.stores.sql.database import Database, Tx, translated
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.file import FileDatabase

if sys.platform != "win32":
    import fcntl

NAME = {"name": "sojourn:doctor", "number": 7_305_827_216, "timeout": 4}
"""A server takes a moment to notice that a doctor was killed: so many seconds are waited."""
LOCK = {
    Backend.POSTGRES: "SELECT 1 FROM (SELECT pg_advisory_xact_lock(:number)) AS waited",
    Backend.MYSQL: "SELECT get_lock(concat(:name, ':', coalesce(database(), '')), :timeout)",
}
SILENT_MAX = 2  # seconds
SILENT_POSTGRES = f"SET LOCAL idle_in_transaction_session_timeout = '{SILENT_MAX}s'"
ALONE = {"no_parameters": True}
TALK = {Backend.POSTGRES: "SHOW server_version_num", Backend.MYSQL: "SELECT 1"}
TALK_EVERY = 0.25  # seconds
TALK_TIMEOUT = 10.0  # seconds: longer than any statement may take
HELD = "SQLSTATE 55P03"  # lock_timeout, which our connections have


@contextlib.contextmanager
def held(db: Database) -> Iterator[Callable[[], None]]:
    """Hold the lock of a database, or raise RepairBusy. What is handed out raises StoreUnavailable
    once the lock is lost: ask it before each step."""
    if isinstance(db, FileDatabase):
        with _file_held(db.path):
            yield lambda: None
        return
    with translated(), db.writing() as tx:
        connection = tx.connection
        try:
            _end_when_silent(tx)
            if not _taken(connection, db.dialect.render(LOCK[db.dialect.backend])):
                raise _busy()
            # Also ends what the lock's own statement has seen: see above.
            connection.exec_driver_sql(TALK[db.dialect.backend], execution_options=ALONE)
            with _talking(connection, TALK[db.dialect.backend]) as lost:
                yield lambda: _assure(lost)
        finally:
            _let_go(tx)


def _end_when_silent(tx: Tx) -> None:
    if tx.dialect.backend is Backend.POSTGRES:
        tx.begin()
        tx.connection.exec_driver_sql(SILENT_POSTGRES)
    else:
        raw: Any = tx.connection.connection.driver_connection
        raw.end_when_silent(SILENT_MAX, always=True)


def _let_go(tx: Tx) -> None:
    """End the lock with its transaction, where there is one, and in any case with its connection."""
    if tx.dialect.backend is Backend.POSTGRES:
        with contextlib.suppress(Exception):
            tx.connection.exec_driver_sql("ROLLBACK")
    tx.connection.invalidate()


@contextlib.contextmanager
def _talking(connection: Connection, said: str) -> Iterator[threading.Event]:
    """Say something, again and again; what is handed out is set when nobody hears it any more."""
    over, lost = threading.Event(), threading.Event()
    raw: Any = connection.connection.driver_connection

    def talk() -> None:
        while not over.wait(TALK_EVERY):
            try:
                with raw.cursor() as cursor:
                    cursor.execute(said)
            except Exception:  # noqa: BLE001  # whatever it was, the lock is not surely ours
                lost.set()
                return

    thread = threading.Thread(target=talk, name="sojourn-doctor-lock", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join(TALK_TIMEOUT)


def _assure(lost: threading.Event) -> None:
    if lost.is_set():
        raise StoreUnavailable(
            "This doctor was silent for too long, and its lock may be another's by now.",
            hint="Run it again: it goes on from here.",
        )


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
