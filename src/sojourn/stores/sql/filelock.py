"""One writer at a time on a SQLite file: among threads, and among processes.

SQLite before 3.51.3 may corrupt a database in WAL mode when two connections write or checkpoint at the
same instant (https://sqlite.org/wal.html#walresetbug), and many systems ship such a version. So every
write transaction and every checkpoint, in every process, happens under an exclusive lock on a file
beside the database. The system lets go of it when a process dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.stores.sql import room

if sys.platform != "win32":  # there, SQLite's own locks and busy_timeout must do
    import fcntl

TIMEOUT = 5.0  # seconds
LOCKS = Path("/proc/locks")
PAUSE_MIN, PAUSE_MAX = 0.000_2, 0.005


class FileLock:
    """The lock of one database file, shared by all who use it in this process."""

    _all: ClassVar[WeakValueDictionary[str, FileLock]] = WeakValueDictionary()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.Lock()
        self._file: int | None = None

    @classmethod
    def of(cls, database: Path) -> FileLock:
        """Return the lock of a database file."""
        path = database.resolve()
        lock = cls._all.get(str(path))
        if lock is None:
            lock = cls._all.setdefault(str(path), cls(path.with_name(path.name + ".lock")))
        return lock

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock, or raise StoreUnavailable after `TIMEOUT`."""
        deadline = time.monotonic() + TIMEOUT
        if not self._threads.acquire(timeout=TIMEOUT):
            raise self._busy()
        try:
            self._lock_file(deadline)
            try:
                yield
            finally:
                self._unlock_file()
        finally:
            self._threads.release()

    def _lock_file(self, deadline: float) -> None:
        if sys.platform == "win32":
            return
        if self._file is None:
            try:
                self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise room.no_room(self.path, "ENOSPC") from error
                raise StoreBroken(
                    f"The lock file {self.path} cannot be opened: {error.strerror}.",
                    hint="See that this user may write to the database's folder.",
                ) from error
        pause = PAUSE_MIN
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._busy() from None
                time.sleep(random.uniform(PAUSE_MIN, pause))  # noqa: S311  # to part who collided
                pause = min(2 * pause, PAUSE_MAX)
            else:
                return

    def _busy(self) -> StoreUnavailable:
        """Say who writes for so long; a process that stands still lets nobody else write."""
        holder = None if self._file is None else _holder(self._file)
        if holder == os.getpid():
            return StoreUnavailable("The database file is in use by a writer that does not end.")
        if holder is None:
            return StoreUnavailable(
                "Another process has been writing to the database file for too long."
            )
        return StoreUnavailable(
            f"Process {holder} has been writing to the database file for too long.",
            hint=f"If it stands still, let it go on (kill -CONT {holder}) or end it.",
        )

    def _unlock_file(self) -> None:
        if sys.platform != "win32" and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def leave(self) -> None:
        """Let go of the parent's file: its lock would be held by both. Closing does not unlock it."""
        self._threads = threading.Lock()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)

    @classmethod
    def forked(cls) -> None:
        for lock in list(cls._all.values()):
            lock.leave()


def _holder(file: int) -> int | None:
    """Return the process that has locked a file; None where the system does not tell."""
    inode = f":{os.fstat(file).st_ino}"
    with contextlib.suppress(OSError):
        for line in LOCKS.read_text().splitlines():
            fields = line.split()  # 1: FLOCK ADVISORY WRITE <pid> <device>:<inode> 0 EOF
            if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].endswith(inode):
                return int(fields[4])
    return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=FileLock.forked)
