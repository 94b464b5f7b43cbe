"""The local-pause guard: time for which this process itself stood still is nobody's silence.

A process that was stopped, starved, swapped out or frozen with its machine has heard nobody, whoever beat
meanwhile; Cassandra's `FailureDetector` has the same guard (CASSANDRA-9183). Whoever runs the process calls
`tick` every so often; a tick that comes much later than it should ends a pause.
"""

from __future__ import annotations

from collections import deque

from sojourn.clock import SECOND

TICK = 2 * SECOND
"""How far two ticks are apart at most, if nothing stands still."""
TOLERANCE = 1 * SECOND
"""By how much a tick may be late for nothing."""
PAUSES_MAX = 16
"""Pauses that are remembered: the latest."""
SETTLING = 2 * SECOND
"""After a pause, while what has come in meanwhile is still being read."""


class Pauses:
    """Remembers when its process stood still. Instants are those of a clock that nobody sets, in ms."""

    def __init__(self, *, tick: int = TICK) -> None:
        self._tick = tick
        self._ticked: int | None = None
        self._pauses: deque[tuple[int, int]] = deque(maxlen=PAUSES_MAX)
        self.last_end = -(1 << 63)
        """When the latest pause, and the settling after it, was over."""

    def tick(self, now: int) -> None:
        """Say that the process runs."""
        before = self._ticked
        if before is not None and now <= before:
            return  # another thread was first
        if before is not None and now - before > self._tick + TOLERANCE:
            begin = max(before, self.last_end)
            self._pauses.append((begin, max(begin, now) + SETTLING))
            self.last_end = max(begin, now) + SETTLING
        self._ticked = now

    def within(self, since: int, now: int) -> int:
        """Return for how many ms the process stood still between two instants, up to this very call."""
        if self._ticked is not None:  # else nobody ticks, and nothing is known
            self.tick(now)
        if since >= self.last_end:
            return 0
        return sum(max(0, min(end, now) - max(begin, since)) for begin, end in tuple(self._pauses))
