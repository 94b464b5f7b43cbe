"""A process of its own that uses a store, for tests of several processes and of sudden death.

    python -m sojourn.testing.crowd take URL POOL COUNT NAME    take seats from COUNT threads at once
    python -m sojourn.testing.crowd write URL NAME              create sessions and take seats, endlessly

It says `ready` once the store is open and starts when it reads a line. `take` answers with one line of
JSON: the ids of the leases granted. `write` prints each lease's id after it was acknowledged.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing

from sojourn.lease import Lease
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.testing.builders import acquire, sign_in, take
from sojourn.testing.contract.crowds import crowd


def _take(store: Store, pool_id: str, count: int, name: str) -> None:
    def one(number: int) -> str | None:
        request = acquire(f"{name}-{number}", pool_id=pool_id, lease_id=f"{name}-{number}")
        answer = store.acquire([request])[0]
        return answer.id if isinstance(answer, Lease) else None

    ids = crowd(count, one)
    _say(json.dumps([lease_id for lease_id in ids if lease_id is not None]))


def _write(store: Store, name: str) -> None:
    number = 0
    while True:
        lease_id = f"{name}-{number}"
        sign_in(store, lease_id, data={"number": number})
        take(store, lease_id, lease_id=lease_id)
        _say(lease_id)
        number += 1


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    verb, url, *rest = arguments
    with closing(open_store(url)) as store:
        _say("ready")
        sys.stdin.readline()
        if verb == "take":
            pool_id, count, name = rest
            _take(store, pool_id, int(count), name)
        else:
            _write(store, *rest)


if __name__ == "__main__":
    main(sys.argv[1:])
