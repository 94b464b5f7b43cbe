"""Fails databases over under load, and says what that cost: `make campaign-failover`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from msgspec import Struct
from tests.conftest import know_the_fetched
from tests.failover.load import Load
from tests.failover.pairs import PAIRS
from tests.serving import Served

from sojourn.stores.open import migrate
from sojourn.testing.processes import wait_until

BEFORE, AFTER = 60, 60
"""Requests that are answered well before a failover, and after it, when it is short."""


WRITES_AT_MOST = 60.0  # seconds


class Cost(Struct, frozen=True, kw_only=True):
    """What one failover cost. Seconds are from when the new primary takes writes and the name leads there."""

    name: str
    requests: int
    failed: int
    seconds: float
    sessions: int
    seats: int
    lost_sessions: int
    lost_seats: int
    for_good: int  # of the lost seats, those that did not come back by their tokens
    lossy: bool
    left_behind: tuple[str, ...] = ()

    @property
    def bad(self) -> int:
        """Count what must not be: losses of what was durable, and what was left for others to find."""
        lost = self.for_good if self.lossy else self.lost_sessions + self.lost_seats
        return lost + len(self.left_behind)

    def told(self) -> str:
        left = ", ".join(self.left_behind) or "none"
        return (
            f"{self.name}: {self.requests} requests, {self.failed} failed;"
            f" writes after {self.seconds:.1f} s;"
            f" of {self.sessions} sessions {self.lost_sessions} lost,"
            f" of {self.seats} seats {self.lost_seats} lost, {self.for_good} for good;"
            f" found on a neighbor's connection: {left}"
        )


def fail_over(kind: str, data: Path, *, before: int = BEFORE, after: int = AFTER) -> Cost:
    """Serve from a pair of databases, fail it over under load, and ask for all that was answered."""
    with PAIRS[kind]() as pair:
        redis = kind.startswith("valkey")
        if not redis:
            migrate(pair.url)
        found = pair.neighbors() if pair.neighbors else set()
        ledger = {"SOJOURN_LEDGER": f"sqlite:///{data}/ledger.db"} if redis else {}
        server = Served(data, store=pair.url, environ=ledger)
        server.start()
        try:
            load = Load(server)
            with load.running():
                load.wait_for(before)
                pair.fail_over()
                leads = time.monotonic()
                load.wait_for(after)
                wait_until(lambda: load.first_write_after(leads) is not None, WRITES_AT_MOST)
            seconds = load.first_write_after(leads)
            assert seconds is not None, "no write was answered after the failover"
            lost = load.lost()
            for_good = load.lost_for_good() if pair.lossy else lost[1]
        finally:
            server.kill()
        left = pair.neighbors() - found if pair.neighbors else set()
    return Cost(
        name=pair.name,
        requests=load.done,
        failed=load.failed(),
        seconds=seconds,
        sessions=len(load.seen.sessions),
        seats=len(load.seen.seats),
        lost_sessions=lost[0],
        lost_seats=lost[1],
        for_good=for_good,
        lossy=pair.lossy,
        left_behind=tuple(sorted(f"{name}={value}" for name, value in left)),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Fails databases over under load.")
    parser.add_argument("--kind", choices=PAIRS, help="only this one")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    kinds = [given.kind] if given.kind else list(PAIRS)
    bad = 0
    for kind in kinds:
        for number in range(given.rounds):
            with tempfile.TemporaryDirectory() as folder:
                cost = fail_over(kind, Path(folder) / str(number), before=400, after=400)
            print(cost.told(), flush=True)  # noqa: T201  # a command's output
            bad += cost.bad
    return 1 if bad else 0


if __name__ == "__main__":
    know_the_fetched()
    sys.exit(main(sys.argv[1:]))
