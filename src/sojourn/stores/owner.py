"""Whose the files are that a command makes beside those of a server."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

if sys.platform != "win32":
    OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def hand_over(path: Path, like: Path, *, private: bool) -> None:
    """Give a file to whom another file or folder belongs, as after `sudo`; where the system knows of
    owners. `private`: for its owner alone; else it gets the other file's mode.

    Raises OSError where the owner is somebody else and may not be made it, and for what is no file of
    one name: whoever owns the folder may have put a link there, to have another file given to them.
    """
    if sys.platform == "win32":
        return
    model = like.stat()
    mode = 0o600 if private else stat.S_IMODE(model.st_mode) & 0o666
    file = os.open(path, OPEN)
    try:
        own = os.fstat(file)
        if not stat.S_ISREG(own.st_mode) or own.st_nlink != 1:
            raise PermissionError(errno.EPERM, "it is no file of one name")
        if own.st_uid != model.st_uid:
            os.fchown(file, model.st_uid, model.st_gid)
        elif own.st_gid != model.st_gid:
            try:
                os.fchown(file, -1, model.st_gid)
            except PermissionError:
                mode &= ~0o070  # what is for that group is not for ours
        os.fchmod(file, mode)
    finally:
        os.close(file)


def hand_over_lock(path: Path, like: Path) -> None:
    """Give a lock's file to whom another file belongs, if it may be and there is one. Never raises OSError:
    who runs it as somebody else is told by the lock."""
    with contextlib.suppress(OSError):
        hand_over(path, like, private=True)
