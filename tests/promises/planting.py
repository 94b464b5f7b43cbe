"""Runs a short epoch on a server with a planted bug, and says what the checker found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.promises.epoch import QUICK, Epoch, Load, Told
from tests.promises.stage import stage

SMALL = Load(pools=2, capacity=4, contenders=8, stayers=1, people=5, lates=0, copies=0, think=0.02)
SECONDS = 5.0

FOUND_AS: dict[str, frozenset[str]] = {
    "lock-dropped": frozenset({"capacity"}),
    "fence-ignored-in-release": frozenset({"stale-token", "living-lost", "capacity"}),
    "renewal-revives": frozenset({"capacity", "stale-token", "revived"}),
    "unsynced-writes": frozenset(
        {"write-lost", "fence-repeats", "session-lost", "ended-session", "value"}
    ),
    "answer-before-commit": frozenset({"write-lost"}),
    "living-evicted": frozenset({"living-lost"}),
    "refused-one-seat-early": frozenset({"denied-early"}),
    "reserved-seat-sold": frozenset({"reserved"}),
    "fence-not-raised": frozenset({"fence-repeats"}),
    "save-overwrites-another-key": frozenset({"write-lost"}),
    "stale-cache": frozenset({"ended-session"}),
    "rotated-token-lives": frozenset({"rotated-token"}),
    "ended-session-keeps-seats": frozenset({"ended-session", "ended-session-seat"}),
    "release-forgotten": frozenset({"denied-early", "stale-token"}),
    "neighbors-answer": frozenset({"wrong-session", "session-lost"}),
}
"""What each planted bug breaks: the checker must find one of these."""

KILLED = frozenset({"unsynced-writes"})
"""Bugs that show only when the server dies."""
LONGER = {"renewal-revives": 12.0, "unsynced-writes": 8.0}


def find(name: str, folder: Path, seed: int = 1) -> Told:
    """Run a server with a bug, and judge what its clients saw."""
    with stage("sqlite", program=("-m", "tests.promises.planted", name)) as planted:
        return (
            Epoch(
                stage=planted,
                seed=seed,
                seconds=LONGER.get(name, SECONDS),
                faults=("server-kill",) if name in KILLED else (),
                pace=QUICK,
                load=SMALL,
                folder=folder,
                without=frozenset({"late", "idempotent", "cutoff"}),
            )
            .run()
            .told()
        )


def find_all(folder: Path, say: Callable[[str], None]) -> bool:
    """Plant one bug after the other; tell whether the checker found them all."""
    missed = []
    for name, kinds in FOUND_AS.items():
        folder_of = folder / name
        folder_of.mkdir(exist_ok=True)
        found = find(name, folder_of).verdict["counts"]
        say(f"  planted {name}: {found}")
        if not kinds & set(found):
            missed.append(name)
    say(
        f"  {len(FOUND_AS) - len(missed)} of {len(FOUND_AS)} planted bugs were found {missed or ''}"
    )
    return not missed
