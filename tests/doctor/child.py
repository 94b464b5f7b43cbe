"""A doctor that kills itself before its nth change: `child.py URL N`. With 0 it says how many there are.

URL: a SQL store, `express+…` for connect-pg-simple's table, or a Redis. `child.py -` reads `N URL` line by
line, and forks one doctor for each: starting Python takes longer than most repairs. Of each it answers with
a line of JSON: its exit code, and what it said.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from contextlib import nullcontext
from functools import partial
from typing import Any

from redis.client import Pipeline
from sqlalchemy import Engine, event

from sojourn.adapters.express import open_examiner as open_express_examiner
from sojourn.doctor.doctor import Doctor, Lock
from sojourn.finding import Examiner
from sojourn.stores import open as stores

RUNS_MAX = 4
url = ""
last = 0
said = 0
mending = False


def step() -> None:
    """Count what changes something; at the last, die."""
    global said  # noqa: PLW0603  # a process of its own
    said += 1
    if said == last:
        os.kill(os.getpid(), signal.SIGKILL)


@event.listens_for(Engine, "before_cursor_execute")
def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    """Count what changes something, from the first change on."""
    global mending  # noqa: PLW0603  # a process of its own
    if "name = 'shift'" in statement:  # asked once a second: has somebody set the clock?
        return
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


def examiner_and_lock() -> tuple[Examiner | None, Lock]:
    if url.startswith("redis:"):
        return stores.open_examiner(url, place="here"), nullcontext
    if url.startswith("express+"):
        lock = partial(stores.repair_lock, url.removeprefix("express+"))
        return open_express_examiner(url, place="here"), lock
    return stores.open_examiner(url, place="here"), partial(stores.repair_lock, url)


def main(*, often: bool) -> None:
    """Mend; `often`: until nothing is left, for what one run mends lets the next one look further."""
    examiner, lock = examiner_and_lock()
    assert examiner is not None
    doctor = Doctor([examiner], lock)
    try:
        for _ in range(RUNS_MAX if often else 1):
            if not list(doctor.repair()):
                break
    finally:
        doctor.close()
    print(said, flush=True)  # noqa: T201  # to who started it


def forked() -> tuple[int, str]:
    """Run `main` in a process of its own; return how that ended, and its output."""
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if not pid:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            try:
                main(often=True)
            except BaseException:  # noqa: BLE001  # told to who started it
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        return code, output.read().decode()


if sys.argv[1] == "-":
    for line in sys.stdin:
        number, url = line.split()
        last = int(number)
        print(json.dumps(forked()), flush=True)  # noqa: T201  # likewise
else:
    url, last = sys.argv[1], int(sys.argv[2])
    main(often=False)
