"""What a store shows of one pool to `seating` and `allotting`, which decide under its lock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from sojourn.lease import Lease, Waiting
from sojourn.license import Pool


class SeatCount(msgspec.Struct, frozen=True):
    """Seats (not leases) held at the store's now; suspect ones are among those in use."""

    in_use: int
    suspect: int
    next_free_in: int  # ms until the first lease is gone: see `free_at`; 0 if there is none
    at: int | None = None  # when they were counted, if not now: nothing has come free since


class PoolReader(Protocol):
    """What a store shows of one pool while it holds its lock. All reads see one state and one now.

    "Most silent first" is by (last_beat_at, id) everywhere, so that every store picks the same lease.
    """

    now: int
    pool: Pool
    fence: int
    allotted: int  # seats that relays may grant, as far as is known here
    doubtful: bool  # relays may hold more of it: see `allotment.Authority.doubts`

    def holders(self, holders: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Lease]:
        """Return the rows of these holders, live or not."""

    def seats_held(self, keys: set[str]) -> set[str]:
        """Return which of these seat keys have a live lease. Not asked when count_by is lease."""

    def count(self) -> SeatCount:
        """Count the live seats."""

    def room(self, wanted: int) -> bool:
        """Tell whether `wanted` more seats surely fit. False means: count to know."""

    def reclaimable(self, limit: int) -> Sequence[Sequence[Lease]]:
        """Return live seats that an acquire may take under the policy, in the order of taking.

        One entry per seat, holding all its live leases. Suspect seats: every lease of the seat has
        `suspect_at + linger <= now`; most silent (least last_beat_at of its latest lease) first. Then,
        for evict_idle, seats whose every lease is idle for `idle_after`, the longest idle (least
        idle_since of the one idle last) first. Ties by the seat's least lease id.
        """

    def live_of(self, user_ids: set[str]) -> dict[str, Sequence[Lease]]:
        """Return these users' live leases, most silent first; users without any may be missing."""

    def most_silent(self, limit: int) -> Sequence[Lease]:
        """Return live leases, most silent first."""

    def waiting(self) -> Sequence[Waiting]:
        """Return the live entries of the pool's line, in any order."""

    def members(self) -> Iterable[Lease]:
        """Return all live leases that count into a reservation. Not asked where the policy has none."""
