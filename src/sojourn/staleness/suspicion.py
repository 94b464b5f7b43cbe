"""One process's view of who is silent: fed by what passes through it, asked by whoever must choose.

It keeps memory and locks, and does no I/O. Safe from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from sojourn.clock import SECOND, uptime
from sojourn.lease import DenialReason, Denied, Lease
from sojourn.license import Policy
from sojourn.seating import free_at
from sojourn.staleness.forecast import Silent, Turnover, free_in
from sojourn.staleness.pauses import Pauses
from sojourn.staleness.scores import Score, Seen, assess
from sojourn.staleness.tracker import Tracker
from sojourn.staleness.trends import Trends

FORECAST_FOR = 1 * SECOND
"""For how long a forecast is told again: a pool that is stormed is looked at once a second."""
FORECASTS_MAX = 10_000


class Suspicion:
    """Scores and forecasts over the leases of any pools."""

    def __init__(self, *, now: Callable[[], int] = uptime) -> None:
        """`now`: a clock that nobody sets, in ms."""
        self._now = now
        self.pauses = Pauses()
        self.tracker = Tracker(self.pauses)
        self.turnover = Turnover()
        self.trends = Trends()
        self._lock = threading.Lock()
        self._forecasts: dict[str, tuple[int, int | None]] = {}  # pool: told until, what

    def tick(self) -> None:
        """Say that this process runs: to be called every second or so."""
        self.pauses.tick(self._now())

    def heard(self, beats: Iterable[tuple[str, int | None]]) -> None:
        """Learn from beats that have just come: (lease id, next_in). Whether they count is the store's."""
        self.tracker.beats(beats, self._now())

    def forget(self, lease_ids: Iterable[str]) -> None:
        """Forget leases that have ended."""
        for lease_id in lease_ids:
            self.tracker.forget(lease_id)

    def granted(self, leases: Sequence[Lease]) -> None:
        """Note that seats were taken; their holders were heard, then."""
        self.tracker.beats([(lease.id, None) for lease in leases], self._now())
        pools: dict[str, list[int]] = {}
        for lease in leases:
            pools.setdefault(lease.pool_id, []).append(lease.fence)
        for pool_id, fences in pools.items():
            self.turnover.granted(pool_id, fences)
            self.trends.active(pool_id)

    def assess(self, leases: Sequence[Lease], policy: Policy, now: int) -> list[Score]:
        """Score live leases of one pool at the store's `now`, in their order; see `scores.assess`."""
        return assess([self._seen(lease, now) for lease in leases], policy, now)

    def _seen(self, lease: Lease, now: int) -> Seen:
        """Put together what the store shows and what was heard here: the later sign of life counts."""
        here = self._now()
        silent = max(0, now - lease.last_beat_at)
        history = self.tracker.history(lease.id)
        if history is not None:
            silent = min(silent, max(0, here - history.last))
        stood_still = min(silent, self.pauses.within(here - silent, here))
        return Seen(
            lease=lease,
            silent_for=silent - stood_still,
            history=history,
            stood_still=stood_still,
        )

    def denied(self, pool_id: str, denied: Denied, policy: Policy) -> int | None:
        """Note that a pool was found full; return in how many ms a seat is as likely free as not, or None
        if nothing is known. Judged by the most silent holders, and by how fast seats change hands."""
        if denied.reason is not DenialReason.SEAT_LIMIT or policy.capacity == 0:
            return None
        here = self._now()
        with self._lock:
            until, told = self._forecasts.get(pool_id, (0, None))
        if here < until:
            return told
        self.turnover.found_full(pool_id, denied.at)
        scores = self.assess(denied.evidence, policy, denied.at)
        silent = [
            Silent(phi=score.phi, free_in=free_at(lease, policy) - denied.at)
            for lease, score in zip(denied.evidence, scores, strict=True)
            if score.silent_for > score.due_in
        ]
        told = free_in(self.turnover.rate(pool_id, denied.at), silent)
        with self._lock:
            self._forecasts.pop(pool_id, None)
            self._forecasts[pool_id] = (here + FORECAST_FOR, told)
            if len(self._forecasts) > FORECASTS_MAX:
                del self._forecasts[next(iter(self._forecasts))]
        return told
