"""Moving in with seats: what an older license backend kept of its users' sessions becomes leases of ours.

Pure: a seat comes in as a row (`name user token feature license beat` and what says that it is over), and
what becomes of each is counted. A living holder's seat is taken over, so that nobody else sits on it on
the day of the move; a dead one is reported and left behind. The new lease ends as any other does, unless its
user acquires: with `takeover` that seat is theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from hashlib import sha256
from typing import Any, Protocol

from msgspec import Struct, field

from sojourn.adopt.formats import Reason, Unreadable
from sojourn.adopt.rows import Count, instant, require_live, user_of
from sojourn.lease import Acquire, Lease, Usage
from sojourn.license import Pool
from sojourn.token import new_id

CLIENT_PREFIX = "adopted-"
FUTURE = 60_000
"""How far (ms) a heartbeat may lie ahead of the store's time: of a clock that is a little off."""
ALL = ""
"""The name under which one license is given for all of the old ones."""


class SeatTerms(Struct, frozen=True, kw_only=True):
    """How rows are read. `licenses`: ours by the old one's id; `ALL` stands for every other."""

    licenses: Mapping[str, str]
    zone: tzinfo = UTC


class SeatTally(Struct, kw_only=True):
    """What became of the seats: read = taken + already_there + all that were skipped."""

    read: int = 0
    taken: int = 0
    already_there: int = 0
    skipped: dict[str, Count] = field(default_factory=dict)

    def skip(self, reason: str, name: str) -> None:
        self.skipped.setdefault(reason, Count()).add(name)


class Seats(Protocol):
    """What of a store seats are taken on; see `store.Store`."""

    def acquire(self, requests: Sequence[Acquire]) -> Sequence[Any]: ...

    def usage(self, pool_ids: Sequence[str]) -> Sequence[Usage | None]: ...

    def now(self) -> int: ...


class Wanted(Struct, frozen=True):
    """A living holder's seat. `name`: what a report may call it."""

    name: str
    pool: Pool
    user_id: str
    client_id: str


def client_of(token: str) -> str:
    """Name the client that had this token: always the same, and nobody can tell the token from it."""
    return CLIENT_PREFIX + sha256(token.encode(errors="surrogateescape")).hexdigest()[:32]


def adopt_seats(
    batches: Iterable[Sequence[Mapping[str, Any]]],
    store: Seats,
    pools: Mapping[tuple[str, str], Pool],
    terms: SeatTerms,
    tally: SeatTally,
    *,
    write: bool,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Take over the seats of the living, a batch in each step. Safe to end at any point, and to run
    again. `pools`: by license and feature. Without `write`, counts what is free."""
    left: dict[str, int] = {}
    told: set[str] = set()
    for rows in batches:
        now = store.now()
        wanted: list[Wanted] = []
        for row in rows:
            tally.read += 1
            try:
                seat = read_seat(row, pools, terms, now)
            except Unreadable as error:
                tally.skip(error.reason, str(row["name"]))
                continue
            if f"{seat.pool.id} {seat.client_id}" in told:
                tally.already_there += 1
                continue
            told.add(f"{seat.pool.id} {seat.client_id}")
            wanted.append(seat)
        granted = _taken(wanted, store) if write else _would_be(wanted, store, left)
        for seat, is_granted in zip(wanted, granted, strict=True):
            if is_granted:
                tally.taken += 1
            else:
                tally.skip(Reason.NO_SEAT, seat.name)
        progress()


def _taken(wanted: Sequence[Wanted], store: Seats) -> list[bool]:
    asked = [
        Acquire(
            pool_id=each.pool.id,
            user_id=each.user_id,
            client_id=each.client_id,
            lease_id=new_id("lse_"),
        )
        for each in wanted
    ]
    return [isinstance(answer, Lease) for answer in store.acquire(asked)] if asked else []


def _would_be(wanted: Sequence[Wanted], store: Seats, left: dict[str, int]) -> list[bool]:
    """Count down what is free. `left`: by pool, what earlier batches have left over."""
    unknown = sorted({each.pool.id for each in wanted} - left.keys())
    if unknown:
        capacity = {each.pool.id: each.pool.policy.capacity for each in wanted}
        for name, usage in zip(unknown, store.usage(unknown), strict=True):
            left[name] = capacity[name] - (0 if usage is None else usage.in_use)
    granted = []
    for each in wanted:
        left[each.pool.id] -= 1
        granted.append(left[each.pool.id] >= 0)
    return granted


def read_seat(
    row: Mapping[str, Any],
    pools: Mapping[tuple[str, str], Pool],
    terms: SeatTerms,
    now: int,
) -> Wanted:
    """Say whose seat a row is, and in which pool of ours. Raises Unreadable for one to leave behind."""
    require_live(row)
    token, user = row.get("token"), row.get("user")
    if not token:
        raise Unreadable(Reason.NO_TOKEN)
    if user is None or user == "":
        raise Unreadable(Reason.NO_USER)
    user_id = user_of(user)
    old = "" if row.get("license") is None else str(row["license"])
    license_id = terms.licenses.get(old, terms.licenses.get(ALL))
    if license_id is None:
        raise Unreadable(Reason.NO_LICENSE)
    pool = pools.get((license_id, str(row.get("feature") or "")))
    if pool is None:
        raise Unreadable(Reason.NO_FEATURE)
    beat = instant(row.get("beat"), terms.zone, Reason.BAD_DATE)
    if beat is None or beat > now + FUTURE:
        raise Unreadable(Reason.BAD_DATE)
    if now - beat > pool.policy.lost_after:
        raise Unreadable(Reason.SILENT)
    return Wanted(str(row["name"]), pool, user_id, client_of(str(token)))
