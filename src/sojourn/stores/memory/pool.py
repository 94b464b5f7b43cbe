"""What `seat` reads of one pool in memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from sojourn.lease import Lease, Usage, Waiting
from sojourn.license import Pool, WhenFull
from sojourn.pool_reader import SeatCount
from sojourn.room import Room, reservation_of
from sojourn.seating import free_at
from sojourn.stores.memory.fullness import FULL_FOR, FULL_FROM, SILENT_KEPT, Fullness
from sojourn.stores.memory.rows import Holder, LeaseRows


class PoolView:
    """What `seat` reads of one pool: see `pool_reader.PoolReader`. `full`: what is known of it already; what
    is found is worth keeping from `full_from` leases on."""

    def __init__(
        self,
        pool: Pool,
        fence: int,
        rows: LeaseRows,
        now: int,
        *,
        full: Fullness | None = None,
        full_from: int = FULL_FROM,
        line: Iterable[Waiting] = (),
        allotted: int = 0,
        doubtful: bool = False,
    ) -> None:
        self.pool = pool
        self.allotted = allotted
        self.doubtful = doubtful
        self.fence = fence
        self.now = now
        self._rows = rows
        self._line = line
        self._full_from = full_from
        known = full is not None and full.holds(pool, now, fence)
        self._known_full = full if known else None
        self.found_full: Fullness | None = None  # worth keeping, if nothing is written
        self._all: list[Lease] | None = None
        self._grouped: dict[str, list[Lease]] | None = None  # by seat, once somebody asks

    def holders(self, holders: Iterable[Holder]) -> dict[Holder, Lease]:
        found = {holder: self._rows.get(holder) for holder in holders}
        return {holder: lease for holder, lease in found.items() if lease is not None}

    def seats_held(self, keys: set[str]) -> set[str]:
        count_by = self.pool.policy.count_by
        return {
            key
            for key in keys
            if any(lease.live(self.now) for lease in self._rows.of_seat(count_by, key))
        }

    def count(self) -> SeatCount:
        if self._known_full is not None:
            return self._known_full.counted(self.now)
        return self._count_now()

    def _count_now(self) -> SeatCount:
        seats = self._seats()
        free = [free_at(lease, self.pool.policy) for lease in self._live]
        counted = SeatCount(
            in_use=len(seats),
            suspect=sum(all(x.suspect_at <= self.now for x in seat) for seat in seats.values()),
            next_free_in=max(0, min(free, default=self.now) - self.now),
        )
        self._note_full(counted, min(free, default=self.now))
        return counted

    def _note_full(self, counted: SeatCount, first_free_at: int) -> None:
        policy = self.pool.policy
        until = min(self.now + FULL_FOR, first_free_at)
        out = counted.in_use + self.allotted
        small = len(self._live) < self._full_from or out < policy.most
        # Of who is idle, a beat says, of any time in the past.
        if small or until <= self.now or policy.when_full is WhenFull.EVICT_IDLE:
            return
        self.found_full = Fullness(
            policy=policy,
            fence=self.fence,
            at=self.now,
            until=until,
            count=counted,
            free_at=first_free_at,
            silent=tuple(self.most_silent(SILENT_KEPT)),
        )

    def room(self, wanted: int) -> bool:
        if self._known_full is not None:
            return False
        return len(self._live) + wanted <= self.pool.policy.capacity

    def reclaimable(self, limit: int) -> Sequence[Sequence[Lease]]:
        if self._known_full is not None:
            return ()  # a suspect past its linger would have ended what is known
        seats = self._seats().values()
        found = sorted(filter(self._suspect, seats), key=_silence)
        if self.pool.policy.when_full is WhenFull.EVICT_IDLE:
            idle = [
                seat for seat in seats if all(map(self._idle, seat)) and not self._suspect(seat)
            ]
            found += sorted(idle, key=_idleness)
        return [sorted(seat, key=lambda lease: lease.id) for seat in found[:limit]]

    def live_of(self, user_ids: set[str]) -> dict[str, Sequence[Lease]]:
        return {
            user_id: _most_silent_first(x for x in self._rows.of_user(user_id) if x.live(self.now))
            for user_id in user_ids
        }

    def most_silent(self, limit: int) -> Sequence[Lease]:
        known = self._known_full
        if known is not None and (len(known.silent) >= limit or len(known.silent) < SILENT_KEPT):
            return known.silent
        return heapq.nsmallest(limit, self._live, key=_last_beat)

    def waiting(self) -> Sequence[Waiting]:
        return [entry for entry in self._line if entry.live(self.now)]

    @property
    def _live(self) -> list[Lease]:
        if self._all is None:
            self._all = [lease for lease in self._rows.values() if lease.live(self.now)]
        return self._all

    def members(self) -> Iterable[Lease]:
        policy = self.pool.policy
        return [x for x in self._live if reservation_of(policy, x) is not None]

    def usage(self) -> Usage:
        policy, count = self.pool.policy, self._count_now()  # it says `at` now, suspects too
        members = self.members() if policy.reservations else ()
        room = Room(policy, count.in_use, members, self.allotted)
        return Usage(
            pool_id=self.pool.id,
            capacity=policy.capacity,
            in_use=count.in_use,
            suspect=count.suspect,
            leases=len(self._live),
            at=self.now,
            overdraft=policy.overdraft,
            overdrawn=room.overdrawn,
            reserved=tuple(room.used),
            allotted=self.allotted,
        )

    def _seats(self) -> dict[str, list[Lease]]:
        """Group the live leases by the seat they share."""
        if self._grouped is None:
            self._grouped = {}
            for lease in self._live:
                key = lease.seat_key(self.pool.policy.count_by)
                self._grouped.setdefault(key, []).append(lease)
        return self._grouped

    def _suspect(self, seat: Sequence[Lease]) -> bool:
        return all(map(self._past_linger, seat))

    def _past_linger(self, lease: Lease) -> bool:
        return lease.suspect_at + self.pool.policy.linger <= self.now

    def _idle(self, lease: Lease) -> bool:
        idle_after = self.pool.policy.idle_after
        if idle_after is None or lease.idle_since is None:
            return False
        return lease.idle_since + idle_after <= self.now


def _most_silent_first(leases: Iterable[Lease]) -> list[Lease]:
    return sorted(leases, key=_last_beat)


def _last_beat(lease: Lease) -> tuple[int, str]:
    return lease.last_beat_at, lease.id


def _silence(seat: Sequence[Lease]) -> tuple[int, str]:
    return max(lease.last_beat_at for lease in seat), min(lease.id for lease in seat)


def _idleness(seat: Sequence[Lease]) -> tuple[int, str]:
    return max(lease.idle_since or 0 for lease in seat), min(lease.id for lease in seat)
