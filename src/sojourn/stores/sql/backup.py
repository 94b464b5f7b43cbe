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
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from sojourn.errors import Conflict, NotFound, StoreBroken, StoreUnavailable
from sojourn.stores.sql import schema

LOG_FILES = ("-wal", "-shm")
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


def put_back(file: Path, database: Path, *, stamp: str) -> Path | None:
    """Put a copy in a database's place; return where the database is now, if there was one. No server may
    have it open. Killed between, it leaves either the old one or the new one in place.

    Raises NotFound, StoreBroken or StoreUnavailable; then the database is as it was.
    """
    look_at(file)
    part = _beside(database, "restored")
    aside = _beside(database, f"before-{stamp}")
    try:
        with (
            file.open("rb") as source,
            open(part, "wb", opener=_private) as target,
        ):  # Path.open takes none
            while piece := source.read(1 << 20):
                target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        if database.exists():
            _settle(database)  # whatever is in its log is in the file now, and no log is left
            os.link(database, aside)
        for end in LOG_FILES:
            Path(f"{database}{end}").unlink(missing_ok=True)
        part.replace(database)
        _sync_folder(database.parent)
    except OSError as fault:
        raise StoreUnavailable(
            f"{database} cannot be replaced: {fault.strerror}.", hint=""
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return aside if aside.exists() else None


def _settle(database: Path) -> None:
    """Write what the log holds into the file, which nobody else has open; a file that is damaged stays as
    it is, with its log beside it."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_connected(database, "rw")) as own:
        own.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    for end in LOG_FILES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{database}{end}").rename(f"{database}.damaged{end}")


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
    return os.open(name, flags, 0o600)


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
