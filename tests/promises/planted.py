"""A server with a bug planted in it, to see that the checker finds it.

    python -m tests.promises.planted NAME[,NAME…] serve --port=…

Each bug changes the product in this process alone, as a mistake in a store or a service would.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sojourn import seating
from sojourn.lease import Acquire, EndReason, Lease, LeaseFilter, Release, Renew, Renewal
from sojourn.room import Room
from sojourn.session import Gone, Save, Session
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.store import SqlStore

DELAY = 0.3  # seconds by which an answer comes too early
COPY_EVERY = 0.7  # seconds between two flushes of a disk that lies
CACHE_MAX = 10_000
TICK = threading.Event()  # never set: waiting for it is waiting
LONG_GRACE = 600_000  # ms

BUGS: dict[str, Callable[[], None]] = {}


def bug(plant: Callable[[], None]) -> Callable[[], None]:
    BUGS[plant.__name__.replace("_", "-")] = plant
    return plant


def _plant(where: Any, name: str, mistake: Callable[..., Any]) -> None:
    """Put a mistake in the place of a function of the product."""
    setattr(where, name, mistake)


@bug
def lock_dropped() -> None:
    """Acquires that are decided at once do not see each other."""
    find = seating._Decision._find_seat

    def find_seat(self: Any, request: Acquire) -> bool:
        found = find(self, request)
        if found and self.room is not None:
            self.room.in_use -= 1
        return found

    _plant(seating._Decision, "_find_seat", find_seat)


@bug
def fence_ignored_in_release() -> None:
    """A late release frees the seat of whoever has the lease now."""
    release = SqlStore.release

    def careless(self: SqlStore, releases: Sequence[Release]) -> list[bool]:
        ids = tuple({each.lease_id for each in releases})
        rows, _ = self.leases(LeaseFilter(ids=ids), limit=len(ids))
        fences = {row.id: row.fence for row in rows}
        return release(self, [replace(r, fence=fences.get(r.lease_id, r.fence)) for r in releases])

    _plant(SqlStore, "release", careless)


@bug
def renewal_revives() -> None:
    """A beat brings back a lease that was lost, whoever has its seat by now."""
    renew = SqlStore.renew

    def reviving(self: SqlStore, renews: Sequence[Renew]) -> list[Renewal | None]:
        answers = renew(self, renews)
        missed = [r for r, answer in zip(renews, answers, strict=True) if answer is None]
        if not missed:
            return answers
        for each in missed:
            revive = partial(_revive, lease=each.lease_id, fence=each.fence)
            self._db.write(revive)
        return renew(self, renews)

    _plant(SqlStore, "renew", reviving)


def _revive(tx: Tx, *, lease: str, fence: int) -> int:
    return tx.do(REVIVE, {"id": lease, "fence": fence})


REVIVE = """
UPDATE sojourn_leases SET ended_at = NULL, end_reason = NULL, lapsed = FALSE, expires_at = expires_at + 60000
WHERE id = :id AND fence = :fence AND (ended_at IS NULL OR end_reason IN ('evicted', 'expired'))
"""


@bug
def unsynced_writes() -> None:
    """A disk that says it has written: after a crash everything is as it was a moment before."""
    path = Path(os.environ["SOJOURN_STORE"].removeprefix("sqlite:///"))
    copy, new = path.with_suffix(".flushed"), path.with_suffix(".new")
    if copy.exists():
        for end in ("-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        path.write_bytes(copy.read_bytes())

    def flush() -> None:
        while True:
            TICK.wait(COPY_EVERY)  # the disk's own time
            new.unlink(missing_ok=True)
            with sqlite3.connect(path) as source, sqlite3.connect(new) as target:
                source.backup(target)
            target.close()
            source.close()
            new.replace(copy)

    threading.Thread(target=flush, daemon=True).start()


@bug
def answer_before_commit() -> None:
    """A save is answered, and carried out a little later."""
    save = SqlStore.save

    def early(self: SqlStore, saves: Sequence[Save]) -> list[int | None]:
        threading.Timer(DELAY, save, (self, list(saves))).start()
        return [1] * len(saves)

    _plant(SqlStore, "save", early)


@bug
def living_evicted() -> None:
    """Who is the most silent loses the seat, alive or not."""
    displace = seating._Decision._displace

    def greedy(self: Any, request: Acquire, place: int | None, room: Any, *, short: bool) -> bool:
        if displace(self, request, place, room, short=short):
            return True
        for lease in self.reader.most_silent(1):
            if lease.holder not in self.written:
                self._end_seat([lease], EndReason.EVICTED)
        return bool(self._room().free(place, overdraft=True) > 0)

    _plant(seating._Decision, "_displace", greedy)


@bug
def refused_one_seat_early() -> None:
    """The last seat is never given."""
    begin, count = seating._Decision.__init__, seating._Decision._room

    def init(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self.surely_room = False

    def fewer(self: Any) -> Room:
        counted = self.room is None
        found = count(self)
        if counted:
            found.in_use += 1
        return found

    _plant(seating._Decision, "__init__", init)
    _plant(seating._Decision, "_room", fewer)


@bug
def reserved_seat_sold() -> None:
    """Whoever asks gets what is kept for others."""

    def nothing(self: Room) -> list[int]:
        return [0] * len(self.used)

    _plant(Room, "_unused", nothing)


@bug
def fence_not_raised() -> None:
    """Who is given a seat anew gets the fence of the last one."""
    grant = seating._Decision._grant

    def same(self: Any, *arguments: Any) -> Lease:
        if self.fence > 0:
            self.fence -= 1
        return grant(self, *arguments)

    _plant(seating._Decision, "_grant", same)


@bug
def save_overwrites_another_key() -> None:
    """A save writes all of the session's data back, as it was read before."""
    load, save = SqlStore.load, SqlStore.save
    known: dict[str, dict[str, Any]] = {}

    def loading(self: SqlStore, hashes: Sequence[bytes]) -> list[Session | Gone]:
        found = load(self, hashes)
        if len(known) > CACHE_MAX:
            known.clear()
        known.update({each.id: each.data for each in found if isinstance(each, Session)})
        return found

    def whole(self: SqlStore, saves: Sequence[Save]) -> list[int | None]:
        return save(self, [replace(s, set={**known.get(s.id, {}), **s.set}) for s in saves])

    _plant(SqlStore, "load", loading)
    _plant(SqlStore, "save", whole)


@bug
def stale_cache() -> None:
    """Sessions are remembered for two seconds, ended or not."""
    load = SqlStore.load
    kept: dict[bytes, tuple[float, Session]] = {}

    def remembering(self: SqlStore, hashes: Sequence[bytes]) -> list[Session | Gone]:
        now = time.monotonic()
        answers: list[Session | Gone] = []
        for hash_, found in zip(hashes, load(self, hashes), strict=True):
            seen = kept.get(hash_)
            if isinstance(found, Session):
                kept[hash_] = (now, found)
            elif seen is not None and now - seen[0] < 2.0:
                found = seen[1]  # noqa: PLW2901  # what is remembered takes its place
            answers.append(found)
        if len(kept) > CACHE_MAX:
            kept.clear()
        return answers

    _plant(SqlStore, "load", remembering)


@bug
def rotated_token_lives() -> None:
    """A token that was replaced works on."""
    rotate = SqlStore.rotate

    def lenient(self: SqlStore, *arguments: Any, **more: Any) -> Session | None:
        return rotate(self, *arguments, **(more | {"grace": LONG_GRACE}))

    _plant(SqlStore, "rotate", lenient)


@bug
def ended_session_keeps_seats() -> None:
    """A seat does not know whose session it belongs to."""
    acquire = SqlStore.acquire

    def forgetful(self: SqlStore, requests: Sequence[Acquire]) -> list[Any]:
        return list(acquire(self, [replace(r, session_id=None) for r in requests]))

    _plant(SqlStore, "acquire", forgetful)


@bug
def release_forgotten() -> None:
    """A release is answered, and nothing is given back."""

    def forgetful(_self: SqlStore, releases: Sequence[Release]) -> list[bool]:
        return [True] * len(releases)

    _plant(SqlStore, "release", forgetful)


@bug
def neighbors_answer() -> None:
    """Now and then two requests of a batch get each other's answer."""
    load = SqlStore.load

    def swapped(self: SqlStore, hashes: Sequence[bytes]) -> list[Session | Gone]:
        found = load(self, hashes)
        return found[1:] + found[:1]

    _plant(SqlStore, "load", swapped)


def main() -> None:
    for name in sys.argv[1].split(","):
        BUGS[name]()
    from sojourn.cli.main import main as product  # noqa: PLC0415  # the bug comes first

    sys.argv = ["sojourn", *sys.argv[2:]]
    product()


if __name__ == "__main__":
    main()
