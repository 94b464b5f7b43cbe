"""Room on the disk of a SQLite file: how long its log may get, and what is said when there is none.

To put the log's pages back, the database may have to grow by as much as the log holds. So the log takes a
share of what is free, and the rest is there for that.
"""

from __future__ import annotations

import os
from pathlib import Path

from sojourn.errors import StoreUnavailable

LOG_MAX = 16 * 1024 * 1024  # bytes of write-ahead log until it is checkpointed
LOG_SMALL = 4 * 1024 * 1024
"""Whatever the size of the database: a checkpoint of less would cost more than it saves."""
LOG_MIN = 64 * 1024
LOG_TIMES = 4  # how many times as long as its database the log of a larger one may get
FREE_SHARE = 4  # the log takes a quarter of what is free
SCARCE = 128 * 1024
"""With less free than this, an error of input and output is the disk's being full."""

FULL = {"SQLITE_FULL"}
PERHAPS_FULL = ("SQLITE_IOERR", "SQLITE_CANTOPEN")


def free(path: Path) -> int:
    """Return how many bytes are free for this user on the disk of a file."""
    if not hasattr(os, "statvfs"):
        return LOG_MAX * FREE_SHARE
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


def log_allowed(path: Path, log: int) -> int:
    """Return how long (bytes) the log of a database may get, which has this length now."""
    size = os.stat(path).st_size  # noqa: PTH116  # with every commit: keep it lean
    wished = min(LOG_MAX, max(LOG_SMALL, LOG_TIMES * size))
    return max(LOG_MIN, min(wished, (free(path) + log) // FREE_SHARE))


def is_full(path: Path, code: str) -> bool:
    """Tell whether an error of SQLite's is for want of room on the disk."""
    return code in FULL or (code.startswith(PERHAPS_FULL) and free(path) < SCARCE)


def no_room(path: Path, code: str) -> StoreUnavailable:
    """Say where there is no room."""
    return StoreUnavailable(
        f"The disk of {path.parent} is full: {free(path):,} bytes are free ({code}).",
        hint=f"Make room there, or move {path.name} to another disk; no restart is needed.",
    )
