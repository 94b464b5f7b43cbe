"""Which of several copies of one program this process is: 1, 2, …, claimed by a lock on a file.

The system frees the lock when the process ends, however it ends. A process that ended without giving its
seats back leaves a mark in the file; the next copy that starts takes the lowest marked number, and so
gets that seat back. Otherwise it takes the lowest number that is free.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from sojourn.client.forks import renew_after_fork
from sojourn.errors import InvalidInput
from sojourn.log import sentences

SLOTS_MAX = 1_024
"""Copies of one program, by one user on one machine, that are told apart."""
LOCK_AT = 1 << 20
"""The byte that is locked on Windows: past the mark, which others read."""

_log = sentences("sojourn.client")


class Slots:
    """The numbers that this process has claimed, one for each name. Safe from several threads.

    A forked child has none of its parent's: it claims its own when it is first asked for one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, tuple[int, int]] = {}  # by name: number, and the file's descriptor
        self.seats_remain = False
        """Whether this process leaves a seat to its successor: the numbers stay marked when it ends."""
        renew_after_fork(self)

    def claim(self, name: str) -> int:
        """Return this process's number among those of this name; the same one until it ends.

        1 where no folder takes locks: two copies would then have one number, and a warning says so.
        Raises InvalidInput if SLOTS_MAX copies are running.
        """
        with self._lock:
            if name in self._held:
                return self._held[name][0]
            digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:24]
            for folder in _folders():
                try:
                    _prepare(folder)
                    found = _claim(folder / digest)
                except OSError as fault:
                    _log.debug("No lock in %s: %s", folder, fault)
                    continue
                if found is None:
                    raise InvalidInput(
                        f"{SLOTS_MAX} copies of this program run already.",
                        hint="Give this one a name of its own: seat(…, client_id=…).",
                    )
                self._held[name] = found
                return found[0]
            self._held[name] = (1, -1)
        _log.warning(
            "No folder takes a lock, so copies of this program that run side by side are one client, and "
            "take the seat from each other. Set XDG_STATE_HOME to a folder that can be written, or give "
            "each copy an instance= of its own."
        )
        return 1

    def settle(self) -> None:
        """Take the marks away, unless seats remain. Called when the process ends in order."""
        if self.seats_remain:
            return
        with self._lock:
            for _, file in self._held.values():
                _mark(file, left=False)

    def forked(self) -> None:
        held, self._held = self._held, {}
        self._lock = threading.Lock()
        self.seats_remain = False
        for _, file in held.values():
            if file >= 0:
                os.close(file)  # the parent's descriptor keeps the lock


def _claim(path: Path) -> tuple[int, int] | None:
    """Lock the lowest marked number, or else the lowest that is free. None: there is none."""
    clean: list[int] = []
    for number in range(1, SLOTS_MAX + 1):
        try:
            marked = _file(path, number).stat().st_size > 0
        except FileNotFoundError:
            clean += range(number, SLOTS_MAX + 1)
            break
        if not marked:
            clean.append(number)
        elif (file := _locked(_file(path, number))) is not None:
            return number, file
    for number in clean:
        if (file := _locked(_file(path, number))) is not None:
            _mark(file, left=True)
            return number, file
    return None


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _locked(path: Path) -> int | None:
    """Open a file and lock it; None if another process has. Raises OSError where that cannot be done."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    file = os.open(path, flags, 0o600)
    try:
        if _try_lock(file) and _is_there(file, path):
            return file
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _is_there(file: int, path: Path) -> bool:
    """A file that was swept away meanwhile is no lock: the next process makes another of its name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: int) -> bool:
        os.lseek(file, LOCK_AT, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _mark(file: int, *, left: bool) -> None:
    """Note that there may be a seat to come back to, or that there is none. A full disk keeps no note."""
    if file < 0:
        return
    try:
        os.ftruncate(file, 1 if left else 0)
    except OSError as fault:
        _log.debug("The mark of a slot was not written: %s", fault)


def _folders() -> Iterator[Path]:
    """Yield the folders for locks in their order: this user's, on this machine."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path("~/.local/state")
        if sys.platform == "darwin":
            state = Path("~/Library/Application Support")
        elif sys.platform == "win32":
            state = Path(os.environ.get("LOCALAPPDATA", ""))
    with contextlib.suppress(RuntimeError):  # a user without a home
        state = state.expanduser()
    if state.is_absolute():
        yield state / "sojourn" / "clients"
    import tempfile  # noqa: PLC0415  # it is slow to import, and rarely needed

    mine = f"-{os.getuid()}" if hasattr(os, "getuid") else ""
    yield Path(tempfile.gettempdir()) / f"sojourn-clients{mine}"


def _prepare(folder: Path) -> None:
    """Make a folder that nobody else writes to. Raises OSError if it is somebody else's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "geteuid"):
        return
    found = folder.lstat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or others:
        raise PermissionError(f"{folder} is not this user's alone")


slots = Slots()
"""Those of this process."""
atexit.register(slots.settle)  # before the clients do, so that it runs after they have closed
