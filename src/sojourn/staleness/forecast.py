"""When a seat is free, and when a pool is full: estimates that say nothing where nothing is known."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct

from sojourn.clock import HOUR, MINUTE
from sojourn.staleness.phi import ghost_chance

GHOSTS = 0.02
"""The share of a pool's holders that is gone at any time, before their silence is looked at."""
AHEAD_MAX = 1 * HOUR
"""How far ahead a free seat is forecast; later than that is not told."""
RATE_WINDOW = 15 * MINUTE
"""For how long a change of hands counts."""
POOLS_MAX = 10_000
"""Pools whose changes of hands are remembered; of more, the ones found full last."""
JUMP_MAX = 10_000
"""A fence that has grown by more was moved on purpose, after a store was lost."""
POINTS_MAX = 60
"""Points of a trend: more are thinned out."""
FULL_AHEAD_MAX = 24 * HOUR
"""How far ahead a full pool is forecast."""


class Silent(Struct, frozen=True, kw_only=True):
    """A holder that may be gone: its suspicion, and in how many ms its seat is free if it is."""

    phi: float
    free_in: int


def free_in(rate: float, silent: Iterable[Silent], *, ahead: int = 0) -> int | None:
    """Return in how many ms a seat is as likely free as not, for whoever has `ahead` others before; None
    beyond AHEAD_MAX. `rate`: seats that come free per ms because holders leave."""
    wanted = math.log(2) + max(0, ahead)  # about the median of a Poisson process
    gone = sorted(
        (max(0, x.free_in), -math.log1p(-min(1 - 1e-9, ghost_chance(x.phi, ghosts=GHOSTS))))
        for x in silent
        if x.free_in <= AHEAD_MAX
    )
    left = wanted
    for at, weight in [*gone, (AHEAD_MAX, 0.0)]:
        if rate * at >= left:  # somebody leaves before
            return math.ceil(left / rate)
        left -= weight
        if rate * at >= left:
            return at
    return None


def full_in(
    used: Sequence[tuple[int, int]], capacity: int, *, now: int | None = None
) -> int | None:
    """Return in how many ms a pool is full if it goes on as it did; 0 if it is; None if it does not grow,
    would take longer than FULL_AHEAD_MAX, or too little is known. `used`: (instant, seats in use), in order.

    The slope is Theil's and Sen's median of slopes: a burst that is over does not bend it.
    """
    if not used:
        return None
    at, in_use = used[-1]
    if in_use >= capacity:
        return 0
    step = max(1, math.ceil(len(used) / POINTS_MAX))
    points = [*used[:-1][::step], used[-1]]
    slopes = [
        (y2 - y1) / (x2 - x1)
        for i, (x1, y1) in enumerate(points)
        for x2, y2 in points[i + 1 :]
        if x2 > x1
    ]
    if len(slopes) < 3 or (slope := median(slopes)) <= 0:
        return None
    left = (capacity - in_use) / slope - ((now or at) - at)
    return None if left > FULL_AHEAD_MAX else max(0, math.ceil(left))


class _Changes(Struct):
    since: int  # when the pool was found full
    fence: int | None = None  # of the first grant since
    latest: int = 0
    full_at: int = 0  # when it was found full last


class Turnover:
    """How fast the seats of full pools change hands, told by the fences of grants: a pool's fence grows by
    one with each grant on whichever server, so that any two tell how many there were in between.

    Safe from several threads. Instants are the store's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, _Changes] = {}

    def found_full(self, pool_id: str, at: int) -> None:
        with self._lock:
            found = self._pools.pop(pool_id, None)
            if found is None or at - found.full_at > RATE_WINDOW or at < found.since:
                found = _Changes(since=at)
            elif at - found.since > 2 * RATE_WINDOW and found.fence is not None:
                grants = found.latest - found.fence + 1  # forget the older half
                found = _Changes(
                    since=at - RATE_WINDOW, fence=found.latest - grants // 2, latest=found.latest
                )
            found.full_at = at
            self._pools[pool_id] = found
            if len(self._pools) > POOLS_MAX:
                del self._pools[next(iter(self._pools))]

    def granted(self, pool_id: str, fences: Iterable[int]) -> None:
        if pool_id not in self._pools:  # it was never found full: nobody asks
            return
        with self._lock:
            found = self._pools.get(pool_id)
            if found is None:
                return
            for fence in fences:
                if found.fence is None or fence - found.latest > JUMP_MAX:
                    found.fence, found.latest = fence, fence
                found.latest = max(found.latest, fence)

    def rate(self, pool_id: str, at: int) -> float:
        """Return seats per ms; 0 where no change of hands was seen."""
        with self._lock:
            found = self._pools.get(pool_id)
            if found is None or found.fence is None or at <= found.since:
                return 0.0
            return (found.latest - found.fence + 1) / (at - found.since)
