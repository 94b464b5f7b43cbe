"""How many seats a region needs. Pure.

A relay asks for what its region used lately and some more, so that somebody who comes finds a seat without
a question to the authority, and gives back what lies far above that. Between the two marks nothing moves,
or a seat would travel to and fro.
"""

from __future__ import annotations

import math

from msgspec import Struct
from msgspec.structs import replace

from sojourn.clock import HOUR, MINUTE

HALF_LIFE = 5 * MINUTE
"""How long it takes until a peak counts half."""
ACTIVE_FOR = HOUR
"""So long after somebody was active one seat at least is kept."""
SPARE_EVERY = 8
"""One seat is spare for so many that are needed; one at least."""
SLACK = 2
"""Seats above the low mark and its spare ones that are not given back."""


class Demand(Struct, frozen=True):
    """What a region needed of a pool: a peak that fades. By the relay's clock, in ms."""

    peak: float = 0.0
    at: int = 0
    active_at: int | None = None

    def seen(self, need: int, now: int) -> Demand:
        """Take a look over: seats that are held, and people who wait for one."""
        faded = self.peak * 0.5 ** (max(0, now - self.at) / HALF_LIFE)
        active = now if need > 0 else self.active_at
        return replace(self, peak=max(float(need), faded), at=now, active_at=active)

    def low(self, now: int) -> int:
        """Return how many seats to ask for."""
        needed = math.ceil(self.peak - 0.5)
        if needed > 0:
            return needed + max(1, needed // SPARE_EVERY)
        active = self.active_at is not None and now - self.active_at < ACTIVE_FOR
        return 1 if active else 0

    def high(self, now: int) -> int:
        """Return how many seats to keep: what is above goes back, down to the low mark."""
        low = self.low(now)
        return low + max(SLACK, low // 4) if low > 1 else low
