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
from sojourn.clock import HOUR
from sojourn.lease import (
    RESUMABLE,
    Acquire,
    DenialReason,
    Denied,
    Lease,
    LeaseFilter,
    Usage,
    seat_key,
)
from sojourn.license import Pool, WhenFull
from sojourn.room import Room, Victim, reservation_of
from sojourn.seating import refusal
from sojourn.store import LIST_MAX
from sojourn.token import new_id

CLIENT_PREFIX = "adopted-"
FUTURE = 60_000
"""How far (ms) a heartbeat may lie ahead of the store's time: of a clock that is a little off."""
ALL = ""
"""The name under which one license is given for all of the old ones."""
WHY = {
    DenialReason.SEAT_LIMIT: Reason.NO_SEAT,
    DenialReason.FEATURE_UNKNOWN: Reason.NO_FEATURE,
    DenialReason.LICENSE_SUSPENDED: Reason.LICENSE_SUSPENDED,
    DenialReason.LICENSE_EXPIRED: Reason.LICENSE_EXPIRED,
    DenialReason.LICENSE_NOT_YET_VALID: Reason.LICENSE_NOT_YET_VALID,
}
"""What a refused acquire is told as. The others are of leases and sessions that none of these has."""


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

    def pools(self, pool_ids: Sequence[str]) -> Sequence[Pool | None]: ...

    def leases(
        self, which: LeaseFilter, *, after: str | None = None, limit: int = 100
    ) -> tuple[list[Lease], int]: ...

    def now(self) -> int: ...

    def usage(self, pool_ids: Sequence[str]) -> Sequence[Usage | None]: ...


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
    again: what an earlier run took over is left alone. `pools`: by license and feature. Without `write`,
    says what would be."""
    held: dict[str, _Held] = {}
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
            if seat.pool.id not in held:
                held[seat.pool.id] = _Held(store, seat.pool)
            name = f"{seat.pool.id} {seat.client_id}"
            if name in told or seat.client_id in held[seat.pool.id].adopted:
                tally.already_there += 1
                continue
            told.add(name)
            wanted.append(seat)
        if write:
            refused = _taken(wanted, store)
        else:
            refused = [held[each.pool.id].would_refuse(each, now) for each in wanted]
        for seat, why in zip(wanted, refused, strict=True):
            if why is None:
                tally.taken += 1
            else:
                tally.skip(WHY[why], seat.name)
        progress()


def _taken(wanted: Sequence[Wanted], store: Seats) -> list[DenialReason | None]:
    asked = [_asked(each) for each in wanted]
    answers = store.acquire(asked) if asked else []
    return [answer.reason if isinstance(answer, Denied) else None for answer in answers]


def _asked(seat: Wanted) -> Acquire:
    return Acquire(
        pool_id=seat.pool.id,
        user_id=seat.user_id,
        client_id=seat.client_id,
        lease_id=new_id("lse_"),
    )


class _Held:
    """What a pool of the store holds, as it was first seen; a dry run adds what it would take.

    `adopted`: the clients whose seats an earlier run has taken over. One that has ended since, other than
    by silence, is not taken again: its user has come over, or somebody ended it.
    """

    def __init__(self, store: Seats, pool: Pool) -> None:
        self.pool = store.pools([pool.id])[0]
        self.adopted: set[str] = set()
        self._seats: dict[str, list[Lease]] = {}
        which = LeaseFilter(license_id=pool.license_id, feature=pool.feature, include_ended=True)
        after: str | None = None
        while True:
            page, now = store.leases(which, after=after, limit=LIST_MAX)
            if not page:
                break
            after = page[-1].id
            for lease in page:
                self._add(lease, now)
        self._victims = self._reclaimable(now)
        held = [lease for leases in self._seats.values() for lease in leases]
        [usage] = store.usage([pool.id])
        allotted = 0 if usage is None else usage.allotted
        self._room = None
        if self.pool is not None:
            self._room = Room(self.pool.policy, len(self._seats), held, allotted)

    def _add(self, lease: Lease, now: int) -> None:
        live = lease.live(now)
        ended = lease.ended_at is not None and lease.end_reason not in RESUMABLE
        if lease.client_id.startswith(CLIENT_PREFIX) and (live or ended):
            self.adopted.add(lease.client_id)
        if live and self.pool is not None:
            key = lease.seat_key(self.pool.policy.count_by)
            self._seats.setdefault(key, []).append(lease)

    def _reclaimable(self, now: int) -> list[tuple[str, bool]]:
        """List the seats that whoever needs one gets, in the order of taking, and whether each is of
        suspects: see `pool_reader.PoolReader.reclaimable`."""
        if self.pool is None or self.pool.policy.when_full is WhenFull.DENY:
            return []
        policy = self.pool.policy
        found: list[tuple[bool, int, str, str]] = []
        for key, leases in self._seats.items():
            least = min(x.id for x in leases)
            idle = [x.idle_since for x in leases if x.idle_since is not None]
            if all(x.suspect_at + policy.linger <= now for x in leases):
                found.append((False, max(x.last_beat_at for x in leases), least, key))
            elif (
                policy.when_full is WhenFull.EVICT_IDLE
                and policy.idle_after is not None
                and len(idle) == len(leases)
                and max(idle) + policy.idle_after <= now
            ):
                found.append((True, max(idle), least, key))
        return [(key, not is_idle) for is_idle, _, _, key in sorted(found)]

    def would_refuse(self, seat: Wanted, now: int) -> DenialReason | None:
        """Say why an acquire would refuse a seat, as `seating` decides; None: it would be granted."""
        why = refusal(self.pool, now)
        if self.pool is None or self._room is None or why is not None:
            return why
        policy, room = self.pool.policy, self._room
        key = seat_key(policy.count_by, seat.user_id, seat.client_id)
        if key in self._seats:
            self._victims = [each for each in self._victims if each[0] != key]
            return None
        place = reservation_of(policy, _asked(seat))
        if room.free(place) <= 0:
            seats = [Victim(room.reservation_of_seat(one), silent) for one, silent in self._victims]
            for i in sorted(room.to_end(place, seats), reverse=True):
                room.in_use -= 1
                for lease in self._seats.pop(self._victims.pop(i)[0]):
                    room.leave(lease)
        if room.free(place, overdraft=True) <= 0:
            return DenialReason.SEAT_LIMIT
        room.in_use += 1
        lease = _taken_at(now, seat)
        room.enter(lease)
        self._seats[key] = [lease]
        return None


def _taken_at(now: int, seat: Wanted) -> Lease:
    """Say what a seat would be if it were taken."""
    return Lease(
        id="",
        pool_id=seat.pool.id,
        user_id=seat.user_id,
        client_id=seat.client_id,
        fence=0,
        acquired_at=now,
        last_beat_at=now,
        suspect_at=now,
        expires_at=now,
    )


def beats_ahead(
    batches: Iterable[Sequence[Mapping[str, Any]]], zone: tzinfo, now: int
) -> tuple[int, int]:
    """Count the heartbeats of who is not over that lie in the future, and those of the last hour.

    Are there more of the first, the times are of another zone: then the living look as if they came
    from the future, and only who fell silent hours ago seems alive.
    """
    future = lately = 0
    for row in (row for rows in batches for row in rows):
        try:
            require_live(row)
            beat = instant(row.get("beat"), zone, Reason.BAD_DATE)
        except Unreadable:
            continue
        if beat is not None and beat > now - HOUR:
            future += beat > now + FUTURE
            lately += beat <= now + FUTURE
    return future, lately


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
