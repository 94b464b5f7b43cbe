"""What is learned from the beats of one lease: a few numbers in a few bytes, updated with each beat.

Mean and deviation are kept as exponentially weighted ones (a plain mean until the window is full), so that
a beat costs the same however long a lease lives, and an old habit is forgotten. Akka and Cassandra keep the
last 1,000 intervals instead: 8 KB per peer.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from sojourn.clock import DAY

WINDOW = 32
"""Beats that count. At two a minute that is a quarter of an hour."""
TRUSTED = 10
"""Beats after which a lease's own habit is believed; before, it is blended with the prior of its class."""
SURE = 3
"""Beats after which one can be told to be late."""
SHORTEST = 20
"""ms; what comes sooner after a beat is the same beat, sent again."""
EARLY = 0.25
"""Share of the mean. A beat that comes sooner (a retry, a client that woke) tells nothing of the next one."""
LATE = 3.0
"""Deviations after which a beat counts as that of a client that had stalled. It moves the mean no further."""
DEVIATION_MIN = 0.1
"""Share of the mean that the deviation is at least."""

LATE_FROM = 1.5
"""Share of the mean up to which no beat counts as late, however steady its client is."""

_FORM = struct.Struct("<qffeBI")
_pack, _unpack = _FORM.pack, _FORM.unpack
_ALWAYS = -(1 << 63)
BYTES = _FORM.size
"""Bytes per lease that are kept, without what Python adds."""


class Beats(NamedTuple):
    """The beats of one lease. Milliseconds; `last` by the clock of whoever keeps it."""

    last: int
    mean: float = 0.0
    variance: float = 0.0
    stalls: float = 0.0  # the share of late beats
    learned: int = 0  # intervals learned, up to WINDOW
    announced: int = 0  # the next beat was announced for so long after `last`; 0: it was not

    @classmethod
    def unpack(cls, kept: bytes) -> Beats:
        return cls._make(_unpack(kept))

    @property
    def deviation(self) -> float:
        return _deviation(self.mean, self.variance)


def heard(kept: bytes | None, now: int, next_in: int | None, learns_from: int = _ALWAYS) -> bytes:
    """Return the history after a beat at `now`, packed. An interval that began before `learns_from` tells
    nothing: we stood still in it, and do not know how long it was.

    On the way of every beat, and written for that: no value is built that is not kept.
    """
    announced = 0 if next_in is None else min(max(0, next_in), DAY)
    if kept is None:
        return _pack(now, 0.0, 0.0, 0.0, 0, announced)
    last, mean, variance, stalls, known, promised = _unpack(kept)
    gap = now - last
    gap = min(gap, DAY)
    if promised > mean > 0:  # only how far off its word it was
        gap -= promised - mean
    if gap < SHORTEST or gap < EARLY * mean or last < learns_from:
        return _pack(now, mean, variance, stalls, known, announced)
    late = 0
    if known >= SURE and gap > LATE_FROM * mean:
        latest = mean + LATE * _deviation(mean, variance)
        if (
            gap > latest
        ):  # stalled; or its habit has changed, and the next beats, which count for more, tell
            gap, late, known = max(latest, LATE_FROM * mean), 1, max(SURE, known // 2)
    if known < WINDOW:
        known += 1
    weight = 1.0 / known
    off = gap - mean
    return _pack(
        now,
        mean + weight * off,
        (1.0 - weight) * (variance + weight * off * off),
        stalls + weight * (late - stalls),
        known,
        announced,
    )


def _deviation(mean: float, variance: float) -> float:
    return max(math.sqrt(variance), DEVIATION_MIN * mean, 1.0)
