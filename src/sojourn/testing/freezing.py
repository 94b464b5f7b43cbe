"""A process of its own that stands still in the middle of a transaction, for tests of who waits for it.

    python -m sojourn.testing.freezing VERB URL NAME

It says `ready` once the store is open and starts when it reads a line. Where the verb is about to commit,
the process says `frozen` and stops itself (SIGSTOP), once. When it is let go on, it says in a line of JSON
what became of the verb: its own `NAME` and whether it was done. `repair` holds doctor's lock instead.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from sojourn.errors import StoreUnavailable
from sojourn.lease import Lease, LeaseFilter, Release
from sojourn.session import Save, Session
from sojourn.store import Store
from sojourn.stores.open import open_store, repair_lock
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.file import FileTx
from sojourn.stores.sql.piped import Piped
from sojourn.testing.builders import OPERATOR, acquire, new_session


def _done(answer: object) -> bool:
    del answer
    return True


VERBS: dict[str, Callable[[Store, str], bool]] = {
    "acquire": lambda store, name: isinstance(
        store.acquire([acquire(name, lease_id=name)])[0], Lease
    ),
    "create": lambda store, name: isinstance(
        store.create([new_session(name, "crowd", limit=100)])[0], Session
    ),
    "save": lambda store, name: store.save([Save(id="ses_1", set={name: 1})])[0] is not None,
    "release": lambda store, _: store.release([Release(lease_id="lea_held", fence=1)])[0],
    "end": lambda store, _: store.end(ids=["ses_1"]) == ["ses_1"],
    "revoke": lambda store, _: len(store.revoke(LeaseFilter(user_id="held"), OPERATOR)) == 1,
    "sweep": lambda store, _: _done(store.sweep()),
    "pulse": lambda store, _: _done(
        store.pulse()
    ),  # an outage, perhaps: it has stood still for long
}
"""What writes; true if it did what it is there for."""


def freeze() -> None:
    _say("frozen")
    os.kill(os.getpid(), signal.SIGSTOP)


def freeze_at_commit() -> None:
    """Stand still where the next transaction of this process is about to commit."""
    frozen: list[str] = []
    for kind in (Tx, Piped, FileTx):
        finish = kind.finish

        def late(tx: Any, *, keep: bool, finish: Any = finish) -> None:
            if keep and not frozen:
                frozen.append("COMMIT")
                freeze()
            finish(tx, keep=keep)

        kind.finish = late  # type: ignore[method-assign,assignment]  # of this process


def _try(work: Callable[[], bool]) -> bool | None:
    """Return what came of it; None where that is not known."""
    try:
        return work()
    except StoreUnavailable:
        return None


def _repair(url: str) -> bool:
    with repair_lock(url) as assure:
        freeze()
        while True:  # until it has noticed, or is killed
            assure()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    verb, url, name = arguments
    with closing(open_store(url)) as store:
        _say("ready")
        sys.stdin.readline()
        if verb == "repair":
            done = _try(lambda: _repair(url))
        else:
            freeze_at_commit()
            done = _try(lambda: VERBS[verb](store, name))
        _say(json.dumps({"name": name, "done": done}))


if __name__ == "__main__":
    main(sys.argv[1:])
