"""A doctor that kills itself before its nth change: `child.py URL N`. With 0 it says how many there are."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from sqlalchemy import Engine, event

from sojourn.service.doctor.doctor import Doctor
from sojourn.stores import open as stores

URL, LAST = sys.argv[1], int(sys.argv[2])
said = 0
mending = False


@event.listens_for(Engine, "before_cursor_execute")
def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    """Count what changes something, from the first change on."""
    global said, mending  # noqa: PLW0603  # a process of its own
    reads = statement.lstrip().upper().startswith(("SELECT", "PRAGMA", "SHOW", "EXPLAIN", "BEGIN"))
    mending = mending or not reads
    if mending:
        said += 1
        if said == LAST:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    examiner = stores.open_examiner(URL, place="here")
    assert examiner is not None
    doctor = Doctor([examiner], lambda: stores.repair_lock(URL))
    try:
        for _ in doctor.repair():
            pass
    finally:
        doctor.close()
    print(said)  # noqa: T201  # to who started it


main()
