"""How the use of pools has gone, for operators who must act before people are refused."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sojourn.clock import MINUTE
from sojourn.lease import Usage
from sojourn.staleness.forecast import full_in

SAMPLE_EVERY = 1 * MINUTE
"""How far apart two samples of a pool are at least."""
SAMPLES_MAX = 60
"""Samples per pool: an hour."""
POOLS_MAX = 1_000
"""Pools that are sampled: those in which seats were taken last."""


class Trends:
    """Samples of the pools in which seats are taken here. Safe from several threads."""

    def __init__(self, *, pools_max: int = POOLS_MAX) -> None:
        self._pools_max = pools_max
        self._lock = threading.Lock()
        self._samples: dict[str, list[tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def active(self, pool_id: str) -> None:
        """Say that a seat of a pool was taken."""
        with self._lock:
            self._samples[pool_id] = self._samples.pop(pool_id, [])
            if len(self._samples) > self._pools_max:
                del self._samples[next(iter(self._samples))]

    def watched(self) -> list[str]:
        """Return the pools that are to be sampled."""
        with self._lock:
            return list(self._samples)

    def note(self, usages: Sequence[Usage | None]) -> None:
        """Take samples; what comes sooner than SAMPLE_EVERY after the last one takes its place."""
        with self._lock:
            for usage in usages:
                if usage is None or (kept := self._samples.get(usage.pool_id)) is None:
                    continue
                while kept and kept[-1][0] > usage.at:  # the store's clock went back
                    kept.pop()
                if len(kept) > 1 and usage.at - kept[-2][0] < SAMPLE_EVERY:
                    kept.pop()
                kept.append((usage.at, usage.in_use))
                del kept[:-SAMPLES_MAX]

    def full_in(self, usage: Usage) -> int | None:
        """Return in how many ms a pool is full if it goes on as in the last hour; see `full_in`."""
        with self._lock:
            kept = list(self._samples.get(usage.pool_id, ()))
        kept = [*(x for x in kept if x[0] < usage.at), (usage.at, usage.in_use)]
        return full_in(kept, usage.capacity)
