"""A doctor that kills itself before its nth change: `child.py URL N`. With 0 it says how many there are.

URL: a SQL store, `express+…` for connect-pg-simple's table, or a Redis.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from typing import Any

from redis.client import Pipeline
from sqlalchemy import Engine, event

from sojourn.adapters.express import open_examiner as open_express_examiner
from sojourn.finding import Examiner
from sojourn.service.doctor.doctor import Doctor
from sojourn.stores import open as stores

URL, LAST = sys.argv[1], int(sys.argv[2])
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


def count_pipeline(pipeline: Any, *arguments: Any, **named: Any) -> Any:
    """Count what changes something on a Redis: doctor only reads outside MULTI."""
    if pipeline.explicit_transaction or pipeline.transaction:
        step()
    return execute(pipeline, *arguments, **named)


pipelines: Any = Pipeline
execute = pipelines.execute
pipelines.execute = count_pipeline


def examiner_and_lock() -> tuple[Examiner | None, Any]:
    if URL.startswith("redis:"):
        return stores.open_examiner(URL, place="here"), nullcontext()
    if URL.startswith("express+"):
        lock = stores.repair_lock(URL.removeprefix("express+"))
        return open_express_examiner(URL, place="here"), lock
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
