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

_FORM = struct.Struct("<qffeBI")
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

    def pack(self) -> bytes:
        return _FORM.pack(*self)

    @classmethod
    def unpack(cls, kept: bytes) -> Beats:
        return cls._make(_FORM.unpack(kept))

    @property
    def deviation(self) -> float:
        return max(math.sqrt(self.variance), DEVIATION_MIN * self.mean, 1.0)


def heard(before: Beats | None, now: int, next_in: int | None, *, learn: bool = True) -> Beats:
    """Return the history after a beat at `now`. Without `learn` the interval that it ends tells nothing:
    we stood still in it, so that we do not know how long it was."""
    announced = min(max(0, next_in or 0), DAY)
    if before is None:
        return Beats(now, announced=announced)
    gap = float(min(now - before.last, DAY))
    mean, known = before.mean, before.learned
    if before.announced > mean > 0:  # only how far off its word it was
        gap = max(0.0, gap - (before.announced - mean))
    if not learn or gap < max(SHORTEST, EARLY * mean):
        return before._replace(last=now, announced=announced)
    latest = mean + max(LATE * before.deviation, 0.5 * mean)
    late = known >= SURE and gap > latest
    if (
        late
    ):  # or else its habit has changed: the next beats count for more, and a few tell which it was
        known = max(SURE, known // 2)
    weight = 1.0 / min(known + 1, WINDOW)
    off = (latest if late else gap) - mean
    return Beats(
        now,
        mean + weight * off,
        (1.0 - weight) * (before.variance + weight * off * off),
        (1.0 - weight) * before.stalls + weight * late,
        min(known + 1, WINDOW),
        announced,
    )
