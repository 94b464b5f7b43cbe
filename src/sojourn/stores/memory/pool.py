"""What `seat` reads of one pool in memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from sojourn.lease import Lease, Waiting
from sojourn.license import Pool, WhenFull
from sojourn.seating import SeatCount, free_at

Holder = tuple[str, str]


class PoolView:
    """What `seat` reads of one pool: see `seating.PoolReader`."""

    def __init__(
        self,
        pool: Pool,
        fence: int,
        rows: dict[Holder, Lease],
        now: int,
        line: Iterable[Waiting] = (),
    ) -> None:
        self.pool = pool
        self.fence = fence
        self.now = now
        self._rows = rows
        self._line = line
        self._live = [lease for lease in rows.values() if lease.live(now)]
        self._grouped: dict[str, list[Lease]] | None = None  # by seat, once somebody asks

    def holders(self, holders: Iterable[Holder]) -> dict[Holder, Lease]:
        return {holder: self._rows[holder] for holder in holders if holder in self._rows}

    def seats_held(self, keys: set[str]) -> set[str]:
        return keys & self._seats().keys()

    def count(self) -> SeatCount:
        seats = self._seats()
        free = [free_at(lease, self.pool.policy) for lease in self._live]
        return SeatCount(
            in_use=len(seats),
            suspect=sum(all(x.suspect_at <= self.now for x in seat) for seat in seats.values()),
            next_free_in=max(0, min(free, default=self.now) - self.now),
        )

    def room(self, wanted: int) -> bool:
        return len(self._live) + wanted <= self.pool.policy.capacity

    def reclaimable(self, limit: int) -> Sequence[Sequence[Lease]]:
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
            user_id: _most_silent_first(x for x in self._live if x.user_id == user_id)
            for user_id in user_ids
        }

    def most_silent(self, limit: int) -> Sequence[Lease]:
        return heapq.nsmallest(limit, self._live, key=_last_beat)

    def waiting(self) -> Sequence[Waiting]:
        return [entry for entry in self._line if entry.live(self.now)]

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
