"""What `seat` reads of one pool in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sojourn.lease import Lease
from sojourn.license import Pool, WhenFull
from sojourn.seating import SeatCount, free_at

Holder = tuple[str, str]


class PoolView:
    """What `seat` reads of one pool: see `seating.PoolReader`."""

    def __init__(self, pool: Pool, fence: int, rows: dict[Holder, Lease], now: int) -> None:
        self.pool = pool
        self.fence = fence
        self.now = now
        self._rows = rows
        self._live = [lease for lease in rows.values() if lease.live(now)]

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
        seats = sorted(self._seats().values(), key=_silence)
        suspects = [seat for seat in seats if all(map(self._past_linger, seat))]
        idle: list[list[Lease]] = []
        if self.pool.policy.when_full is WhenFull.EVICT_IDLE:
            idle = [
                seat
                for seat in seats
                if not all(map(self._past_linger, seat)) and all(map(self._idle, seat))
            ]
            idle.sort(key=lambda seat: (max(x.idle_since or 0 for x in seat), seat[0].id))
        return (suspects + idle)[:limit]

    def live_of(self, user_ids: set[str]) -> dict[str, Sequence[Lease]]:
        return {
            user_id: _most_silent_first(x for x in self._live if x.user_id == user_id)
            for user_id in user_ids
        }

    def most_silent(self, limit: int) -> Sequence[Lease]:
        return _most_silent_first(self._live)[:limit]

    def _seats(self) -> dict[str, list[Lease]]:
        """Group the live leases by the seat they share, each group in order of id."""
        seats: dict[str, list[Lease]] = {}
        for lease in sorted(self._live, key=lambda x: x.id):
            seats.setdefault(lease.seat_key(self.pool.policy.count_by), []).append(lease)
        return seats

    def _past_linger(self, lease: Lease) -> bool:
        return lease.suspect_at + self.pool.policy.linger <= self.now

    def _idle(self, lease: Lease) -> bool:
        idle_after = self.pool.policy.idle_after
        if idle_after is None or lease.idle_since is None:
            return False
        return lease.idle_since + idle_after <= self.now


def _most_silent_first(leases: Iterable[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: (lease.last_beat_at, lease.id))


def _silence(seat: Sequence[Lease]) -> tuple[int, str]:
    return max(lease.last_beat_at for lease in seat), seat[0].id
