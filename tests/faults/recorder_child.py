"""Records until it is killed; run by test_recorder. It forks, so that each start costs nothing.

Arguments: store, ledger, how often it is to be killed. Each time a child of this process records, and is
killed by SIGKILL after some milliseconds: of its life, or (every other one) of its work, however slow the
machine is at opening both. One line is printed for each.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys

from sojourn.stores.open import open_ledger, open_store, recorder_of

SHORTEST, LONGEST = 0.03, 0.15  # seconds: opening both takes a part of that
PATIENCE = 20.0


def record(store_url: str, ledger_url: str, opened: int) -> None:
    store, ledger = open_store(store_url), open_ledger(ledger_url)
    carrier = recorder_of(store, ledger)
    assert carrier is not None
    os.write(opened, b".")
    while True:
        carrier.run()


def main() -> None:
    store_url, ledger_url, times = sys.argv[1:]
    open_store(store_url).close()  # whatever they import is imported before the forks
    open_ledger(ledger_url).close()
    for number in range(int(times)):
        told, tells = os.pipe()
        child = os.fork()
        if child == 0:
            record(store_url, ledger_url, tells)
        if number % 2:
            select.select([told], [], [], PATIENCE)
        select.select([], [], [], random.uniform(SHORTEST, LONGEST))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tells)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
