"""A copy of a SQLite database while servers write to it, and the way back.

`cp` misses what is still in the log beside the file. Tools that open the file to write may checkpoint it, and
so meet SQLite's WAL-reset bug (see `filelock`). So a backup reads only, and a restore works on a file that no
server has open.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from sojourn.errors import Conflict, NotFound, StoreBroken, StoreUnavailable
from sojourn.stores.owner import hand_over, hand_over_lock
from sojourn.stores.sql import schema
from sojourn.stores.sql.filelock import FileLock

LOG_FILES = ("-wal", "-shm", "-journal")
PRIMARY = 0xFF
"""The part of SQLite's extended codes that says the kind."""
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
COUNTED = {"sessions": schema.sessions.name, "leases": schema.leases.name}
BUSY_TIMEOUT = 5.0  # seconds


class Copy(Struct, frozen=True):
    """What a copy holds: bytes, and rows, ended ones included."""

    path: Path
    size: int
    sessions: int
    leases: int


def back_up(source: Path, target: Path) -> Copy:
    """Copy a database as it is at one instant to a file that is not there yet, check the copy, and return
    what it holds. Servers go on meanwhile. Raises Conflict, NotFound, StoreBroken or StoreUnavailable."""
    if not source.is_file():
        raise NotFound(f"There is no database {source}.", hint="Name its folder: --data DIR.")
    if target.exists():
        raise Conflict(f"{target} is there already.", hint="Name a new file, and remove old ones.")
    part = _beside(target, "part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with _reading(source) as connection:
            connection.execute("VACUUM INTO ?", (str(part),))
        copy = look_at(part)
        _sync(part)
        part.rename(target)
        _sync_folder(target.parent)
    except OSError as fault:
        raise StoreUnavailable(f"{target} cannot be written: {fault.strerror}.", hint="") from None
    finally:
        part.unlink(missing_ok=True)
    return Copy(target, copy.size, copy.sessions, copy.leases)


def look_at(file: Path) -> Copy:
    """Check that a file is a whole database of ours, and count. Raises NotFound or StoreBroken."""
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", hint="See `sojourn backup`.")
    with _reading(file) as connection:
        (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            raise StoreBroken(f"{file} is damaged: {said}.", hint="Take an older backup.")
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if schema.VERSION_TABLE not in tables:
            raise StoreBroken(f"{file} is no database of Sojourn's.", hint="See `sojourn backup`.")
        counts = {
            what: connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]  # noqa: S608  # a name of ours
            if table in tables
            else 0
            for what, table in COUNTED.items()
        }
    return Copy(file, file.stat().st_size, counts["sessions"], counts["leases"])


def put_back(
    file: Path, database: Path, *, stamp: str, prepare: Callable[[Path], None]
) -> Path | None:
    """Put a copy in a database's place; return where the database is now, if there was one.

    `prepare` is given the copy that is to be, to migrate it and the like: whatever has its name is ready.
    It belongs to whom the database belongs, or else its folder. Killed between, this leaves either the old
    one or the new one in place.

    Raises NotFound, StoreBroken, or StoreUnavailable, as where somebody has the database open, or what
    `prepare` raises; then the database is as it was.
    """
    look_at(file)
    part = _beside(database, "restored")
    aside = _beside(database, f"before-{stamp}")
    try:
        with _locked(database):
            there = database.exists()
            if there:
                _close_log(database)  # or refuse at once
            _clear(part)  # a log that a killed one left would be read into ours
            try:
                _fill(part, file)
                prepare(part)
                if not _close_log(part):
                    raise StoreBroken(f"{part} is damaged.", hint="Look at the disk.")
                hand_over(part, database if there else database.parent, private=not there)
                _sync(part)
                _exchange(part, database, aside if there else None)
            finally:
                _clear(part)
        _sync_folder(database.parent)
    except OSError as fault:
        raise StoreUnavailable(
            f"{database} cannot be replaced: {fault.strerror}.", hint=""
        ) from None
    return aside if there else None


@contextlib.contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Have whoever opens, writes or restores a database wait, and be refused if that takes long."""
    lock = FileLock.of(database)
    with lock.held():
        hand_over_lock(lock.path, database if database.exists() else database.parent)
        yield


def _fill(part: Path, file: Path) -> None:
    with (
        file.open("rb") as source,
        open(part, "xb", opener=_private) as target,
    ):  # Path.open takes none
        while piece := source.read(1 << 20):
            target.write(piece)


def _exchange(part: Path, database: Path, aside: Path | None) -> None:
    """Give a part the database's name, and the database another, if there is one."""
    if aside is None or not _close_log(database):
        _put_aside_log(database)
    if aside is not None:
        os.link(database, aside)
    try:
        part.replace(database)
    except BaseException:
        if aside is not None:
            aside.unlink()
        raise


def _close_log(database: Path) -> bool:
    """Write what the log holds into the file, and end the log. False for a file that is damaged.

    SQLite leaves the log's mode for one that has the file alone, and for nobody else: whoever had it open
    would go on to write to a file that has no name any more. Raises StoreUnavailable.
    """
    try:
        with contextlib.closing(_connected(database, "rw")) as own:
            (mode,) = own.execute("PRAGMA journal_mode = DELETE").fetchone()
    except sqlite3.Error as fault:
        kind = fault.sqlite_errorcode & PRIMARY
        if kind in DAMAGED:
            return False
        if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise _in_use(database) from None
        raise StoreUnavailable(f"{database} cannot be opened alone: {fault}.", hint="") from None
    if mode != "delete":
        raise _in_use(database)
    return True


def _in_use(database: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"{database} cannot be replaced: somebody has it open.",
        hint="Stop every server and application that uses it, then restore.",
    )


def _put_aside_log(database: Path) -> None:
    """Keep what lies beside a file that is damaged or gone: SQLite would read it into the new one."""
    for end in LOG_FILES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{database}{end}").replace(f"{database}.damaged{end}")


def _clear(part: Path) -> None:
    for end in ("", *LOG_FILES, ".lock"):
        Path(f"{part}{end}").unlink(missing_ok=True)


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    """Read a file, and never write to it or checkpoint it. Raises StoreBroken or StoreUnavailable."""
    try:
        with contextlib.closing(_connected(file, "ro")) as connection:
            yield connection
    except sqlite3.OperationalError as fault:
        raise StoreUnavailable(f"{file} cannot be read or copied: {fault}.") from None
    except sqlite3.DatabaseError as fault:
        raise StoreBroken(f"{file} is no whole SQLite database: {fault}.", hint="") from None


def _connected(file: Path, mode: str) -> sqlite3.Connection:
    address = f"{file.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(f"{path.name}.{end}")


def _private(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _sync(path: Path) -> None:
    """Have a file's content on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Have a folder's names on the disk, where a folder can be asked to."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
