"""A SQLite file, or a private database in memory.

One connection writes, under the file's lock (see `filelock`); another reads beside it. Nobody but the
writer checkpoints: SQLite's own checkpoints are off. On a full disk nothing can be written until there is
room again, and nothing that was is lost: see `room`.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from sojourn.clock import Clock, HostClock
from sojourn.errors import SettingsError, StoreUnavailable
from sojourn.stores.sql import room
from sojourn.stores.sql.database import COMMIT, ROLLBACK, Database, Tx, translated
from sojourn.stores.sql.dialect import SQLITE, Dialect
from sojourn.stores.sql.faults import Fault, classify
from sojourn.stores.sql.fileclock import FileClock
from sojourn.stores.sql.filelock import FileLock

PAGE_SIZE = 1024
"""A renewal dirties one page, which the log then holds whole: small pages halve what it costs."""
CACHE_KIB = 32 * 1024
BUSY_TIMEOUT = 3_000  # ms; only tools that know nothing of the file lock make us wait
STATEMENTS = 256


class FileTx(Tx):
    """The file's time is told by the process, under the lock: see `fileclock`."""

    def __init__(
        self, connection: Connection, dialect: Dialect, clock: Clock, time: HostClock
    ) -> None:
        super().__init__(connection, dialect, clock)
        self._time = time

    @property
    def instant(self) -> int:
        now = self._clock.now()
        return self._time.now() if now is None else now

    def begin(self) -> None:
        self.do(self.dialect.begin)

    def finish(self, *, keep: bool) -> None:
        self.do(COMMIT if keep else ROLLBACK)

    def many(self, template: str, params: list[dict[str, Any]]) -> None:
        """Run a statement for each of many rows, whose values are named once and not with each row."""
        if self._is_heard or not params:
            super().many(template, params)
            return
        sql, names = self.dialect.numbered(template)
        values = operator.itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)
        self._by_driver(lambda cursor: cursor.executemany(sql, list(map(values, params))))


class FileDatabase(Database):
    """A SQLite database; `path` None makes a private one in memory."""

    dialect = SQLITE

    def __init__(self, path: Path | None, *, clock: Clock, durable: bool) -> None:
        self.clock = clock
        self.path = path
        self.private = path is None
        self._durable = durable
        self.time = FileClock() if path is None else FileClock.of(path)
        self._log_tried = 0
        """How long the log was when a reader kept it from being checkpointed."""
        self._read_lock = threading.Lock()
        self._private = threading.Lock()  # of a database in memory
        self._lock = None if path is None else FileLock.of(path)
        if path is not None:
            _create_file(path)
        self._open()
        _open_files.add(self)

    def _open(self) -> None:
        self.engine = _engine(self.path, durable=self._durable)
        self._reader_engine = (
            None if self.path is None else _engine(self.path, durable=self._durable, reads=True)
        )
        connections: list[Connection] = []
        engines = [e for e in (self._reader_engine, self.engine) if e is not None]
        self._close = weakref.finalize(self, _shut, connections, engines, self._lock)
        try:
            with translated(self), self._exclusive():
                # Whoever closes it last removes the index of the log.
                alone = self.path is None or not Path(f"{self.path}-shm").exists()
                try:
                    connections += [engine.connect() for engine in reversed(engines)]
                except DBAPIError as error:
                    if not self._is_full(error):
                        raise
                    for engine in engines:
                        engine.dispose()
                    self._empty_log_alone()
                    connections += [engine.connect() for engine in reversed(engines)]
                self._settle(connections[0], alone=alone)
        except BaseException:
            self.close()
            raise
        self._writer, self._reader = connections[0], connections[-1]

    def _empty_log_alone(self) -> None:
        """Give the room of a log back that was left behind on a full disk. To open such a file takes an
        index of its log, for which there may be no room: only who has the file alone needs none."""
        assert self.path is not None
        with contextlib.closing(sqlite3.connect(self.path, 0, isolation_level=None)) as alone:
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode", "wal_checkpoint(TRUNCATE)"):
                with contextlib.suppress(sqlite3.Error):  # the next try says what is wrong
                    alone.execute(f"PRAGMA {setting}").fetchall()

    def _exclusive(self) -> contextlib.AbstractContextManager[object]:
        return self._private if self._lock is None else self._lock.held()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Tx]:
        with self._exclusive():
            self._writer = self._usable(self._writer, self.engine)
            yield FileTx(self._writer, self.dialect, self.clock, self.time)
            if not self.time.settled:  # there may be tables now
                self._settle(self._writer, alone=False)
            self._checkpoint()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Tx]:
        if self._reader_engine is None:
            with self.writing() as tx:
                yield tx
            return
        with self._read_lock:
            self._reader = self._usable(self._reader, self._reader_engine)
            yield FileTx(self._reader, self.dialect, self.clock, self.time)

    def _settle(self, connection: Connection, *, alone: bool) -> None:
        """Go by the file's own time, as soon as there is a table to keep it in."""
        if self.path is None or self.clock.now() is not None:
            return

        raw: Any = connection.connection.driver_connection

        def run(sql: str, params: dict[str, Any]) -> Sequence[Any]:
            rows: Sequence[Any] = raw.execute(sql, params).fetchall()
            return rows

        with contextlib.suppress(sqlite3.Error):  # there is none yet, or no room on the disk
            self.time.settle(run, alone=alone)

    def _usable(self, connection: Connection, engine: Engine) -> Connection:
        """Return the connection, or another if an interrupt has cost us this one."""
        if not self._close.alive:
            raise StoreUnavailable("The store is closed.")
        if connection.invalidated:
            connection.close()
            return engine.connect()
        return connection

    def _checkpoint(self) -> None:
        """Move the log into the database once it has grown, while nobody else writes."""
        if self.path is None:
            return
        with contextlib.suppress(OSError, DBAPIError):  # what is committed stays so
            size = os.stat(f"{self.path}-wal").st_size  # noqa: PTH116  # once per commit: keep it lean
            if size <= room.LOG_MIN or size < self._log_tried:
                return
            allowed = room.log_allowed(self.path, size)
            if size > allowed:
                # A reader was in the way, which costs time: let the log grow before the next try.
                more = min(room.LOG_MAX // 4, room.free(self.path) // room.FREE_SHARE)
                self._log_tried = size + more if self._empty_log() else 0

    def _empty_log(self) -> bool:
        """Put the log's pages back and give its room away; tell whether somebody was in the way."""
        busy = self._writer.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()[0][0]
        return bool(busy)

    def relieved(self, fault: Fault) -> bool:
        """Where the disk is full, give the log's room back."""
        if self.path is None or not room.is_full(self.path, fault.code):
            return False
        with contextlib.suppress(OSError, DBAPIError, StoreUnavailable), self._exclusive():
            before = room.free(self.path)
            self._writer = self._usable(self._writer, self.engine)
            self._empty_log()
            return room.free(self.path) > before
        return False

    def _is_full(self, error: DBAPIError) -> bool:
        fault = classify(error)
        return self.path is not None and fault is not None and room.is_full(self.path, fault.code)

    def explained(self, fault: Fault) -> Fault:
        if self.path is None or not room.is_full(self.path, fault.code):
            return fault
        return replace(fault, kind="unavailable", told=room.no_room(self.path, fault.code))

    def look_at_clock(self) -> None:
        if self.clock.now() is None:
            self.time.notice()

    def raw(self) -> sqlite3.Connection:
        """Return the driver's own connection, of who holds `writing`."""
        connection = self._writer.connection.driver_connection
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def close(self) -> None:
        self._close()

    def forked(self) -> None:
        """Take connections of one's own in a child process; the parent's stay with the parent."""
        if self.path is not None and self._close.alive:
            self._close.detach()
            _inherited.append((self._writer, self._reader, self.engine, self._reader_engine))
            self._read_lock = threading.Lock()
            self._lock = FileLock.of(self.path)
            self._open()


def _create_file(path: Path) -> None:
    """Make the file, readable by its owner alone."""
    if not path.parent.is_dir():
        raise SettingsError(
            f"The folder {path.parent} of the SQLite database does not exist.",
            hint=f"Create it: mkdir -p '{path.parent}'",
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise SettingsError(
            f"The SQLite database {path} cannot be made: {error.strerror}.",
            hint="See that this user may write to its folder.",
        ) from error


def _engine(path: Path | None, *, durable: bool, reads: bool = False) -> Engine:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            ":memory:" if path is None else path,
            timeout=BUSY_TIMEOUT / 1_000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
        try:
            connection.create_function("from_hex", 1, bytes.fromhex, deterministic=True)
            for setting in _settings(durable=durable, reads=reads):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()  # or it would keep its locks for as long as its error is looked at
            raise
        return connection

    return create_engine(
        "sqlite://",
        creator=connect,
        poolclass=StaticPool,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,
        hide_parameters=True,
    )


def _settings(*, durable: bool, reads: bool) -> list[str]:
    return [
        f"page_size = {PAGE_SIZE}",  # of a new database; an old one keeps its own
        "journal_mode = WAL",
        f"synchronous = {'FULL' if durable else 'NORMAL'}",
        "wal_autocheckpoint = 0",
        f"cache_size = -{CACHE_KIB}",
        "temp_store = MEMORY",
        *(["query_only = ON"] if reads else []),
    ]


def _shut(connections: list[Connection], engines: list[Engine], lock: FileLock | None) -> None:
    """Close under the lock: the last connection to close checkpoints."""
    with contextlib.suppress(StoreUnavailable), lock.held() if lock else contextlib.nullcontext():
        for connection in connections:
            with contextlib.suppress(Exception):
                connection.close()
        for engine in engines:
            engine.dispose()


_open_files: weakref.WeakSet[FileDatabase] = weakref.WeakSet()
_inherited: list[object] = []
"""Connections of a parent process: closing one would unlock what the parent has locked."""


def _forked() -> None:
    for database in list(_open_files):
        database.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
