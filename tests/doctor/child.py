"""A doctor that kills itself before its nth change: `child.py URL N`. With 0 it says how many there are.

URL: a SQL store, `express+…` for connect-pg-simple's table, or a Redis.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from typing import Any

import redis
from sqlalchemy import Engine, event

from sojourn.adapters.express import open_examiner as open_express_examiner
from sojourn.finding import Examiner
from sojourn.service.doctor.doctor import Doctor
from sojourn.stores import open as stores

URL, LAST = sys.argv[1], int(sys.argv[2])
CHANGES = (b"MULTI", b"RENAME", b"SADD", b"SREM", b"EXPIRE", b"DEL")
said = 0
mending = False


def step() -> None:
    """Count what changes something; at the last, die."""
    global said  # noqa: PLW0603  # a process of its own
    said += 1
    if said == LAST:
        os.kill(os.getpid(), signal.SIGKILL)


@event.listens_for(Engine, "before_cursor_execute")
def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    """Count what changes something, from the first change on."""
    global mending  # noqa: PLW0603  # a process of its own
    reads = statement.lstrip().upper().startswith(("SELECT", "PRAGMA", "SHOW", "EXPLAIN", "BEGIN"))
    mending = mending or not reads
    if mending:
        step()


send = redis.Connection.send_packed_command


def count_packed(connection: Any, packed: Any, *rest: Any, **more: Any) -> Any:
    """Count what changes something; a transaction is sent, and done, as one."""
    text = packed if isinstance(packed, bytes) else b"".join(packed)
    if any(b"\r\n" + word + b"\r\n" in text for word in CHANGES):
        step()
    return send(connection, packed, *rest, **more)


redis.Connection.send_packed_command = count_packed  # type: ignore[method-assign]  # a process of its own


def examiner_and_lock() -> tuple[Examiner | None, Any]:
    if URL.startswith("express+"):
        lock = stores.repair_lock(URL.removeprefix("express+"))
        return open_express_examiner(URL, place="here"), lock
    if URL.startswith("redis"):
        return stores.open_examiner(URL, place="here"), nullcontext()  # its lock is the ledger's
    return stores.open_examiner(URL, place="here"), stores.repair_lock(URL)


def main() -> None:
    examiner, lock = examiner_and_lock()
    assert examiner is not None
    doctor = Doctor([examiner], lambda: lock)
    try:
        for _ in doctor.repair():
            pass
    finally:
        doctor.close()
    print(said)  # noqa: T201  # to who started it


main()
