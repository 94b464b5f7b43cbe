"""The histories of the leases that beat in this process, as many as memory is given to."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from sojourn.staleness.history import Beats, heard
from sojourn.staleness.pauses import Pauses

TRACKED_MAX = 100_000
"""Leases of which a history is kept. Of more, those that have not beaten for longest are forgotten, and
are judged by what the store knows of them."""


class Tracker:
    """Safe from several threads without a lock on the way of a beat: histories are immutable, and two beats
    of one lease at once cost that lease one sample at most.

    Two generations: who beats is in the young one. Once that has more than half of what may be kept, the old
    one is dropped and the young one grows old, so that nothing is ever searched for what to forget.
    """

    def __init__(self, pauses: Pauses, *, tracked_max: int = TRACKED_MAX) -> None:
        self._pauses = pauses
        self._half = max(1, tracked_max // 2)
        self._young: dict[int, bytes] = {}
        self._old: dict[int, bytes] = {}
        self._turning = threading.Lock()

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def beat(self, lease_id: str, now: int, next_in: int | None = None) -> None:
        """Learn from a beat."""
        self.beats([(lease_id, next_in)], now)

    def beats(self, beats: Iterable[tuple[str, int | None]], now: int) -> None:
        """Learn from beats: (lease id, next_in)."""
        learns_from = self._pauses.last_end
        young, old = self._young, self._old
        for lease_id, next_in in beats:
            key = hash(lease_id)  # 64 bits: two leases with the same one would share a history
            kept = young.get(key)
            if kept is None:
                kept = old.pop(key, None)
            young[key] = heard(kept, now, next_in, learns_from)
        if len(young) > self._half:
            self._turn(young)

    def _turn(self, young: dict[int, bytes]) -> None:
        with self._turning:
            if self._young is young:  # else another thread has done it
                self._young, self._old = {}, young

    def forget(self, lease_id: str) -> None:
        """Forget a lease that has ended."""
        key = hash(lease_id)
        self._young.pop(key, None)
        self._old.pop(key, None)

    def history(self, lease_id: str) -> Beats | None:
        """Return what is known of a lease; None if it has not beaten here."""
        key = hash(lease_id)
        kept = self._young.get(key) or self._old.get(key)
        return None if kept is None else Beats.unpack(kept)
