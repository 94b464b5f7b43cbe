"""Time: who tells it, and in which unit.

Instants are integer milliseconds since 1970 UTC, durations integer milliseconds; seconds appear only
on the wire and in settings. The store's own clock decides every expiry: `Clock.now` answers None in
production, and the store reads its database's clock inside the statement that decides. Tests hand in a
`ManualClock` and move it.

A wall clock may be set, and then says nothing of how long ago something was. `uptime` is what a store
goes on by when its clock is set back; see docs/adr/0022.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Protocol

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

SET_RIGHT = "The store's time goes on as before. Set its machine's clock right, by NTP."
"""What to do when the clock of a store was set. The log says so once each time."""


class Clock(Protocol):
    """What a store asks before it asks its database."""

    def now(self) -> int | None:
        """Say the instant to use, or None to let the store's own clock decide."""


class StoreClock:
    """Production: the store's own clock decides."""

    def now(self) -> None:
        return None


class ManualClock:
    """A clock that stands still until it is moved. Safe to share between threads."""

    def __init__(self, start: int = 1_800_000_000_000) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> int:
        return self._now

    def advance(self, *, seconds: float = 0, milliseconds: int = 0) -> int:
        """Move the clock (negative values move it back) and return the new instant."""
        with self._lock:
            self._now += round(seconds * SECOND) + milliseconds
            return self._now


STORE_CLOCK = StoreClock()
CLOCK_TOLERANCE = 5 * SECOND
"""How far two clocks may be apart before anybody is told."""


def host_now() -> int:
    """Read this host's wall clock, for stores whose data lives in this process."""
    return time.time_ns() // 1_000_000


if sys.platform == "win32":

    def uptime() -> int:
        """Read a clock that nobody sets, in ms: how far apart two readings are is what it tells."""
        return time.monotonic_ns() // 1_000_000
else:
    # Which goes on while the machine sleeps: Linux's monotonic clock does not, a Mac's does.
    _UNSET = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def uptime() -> int:
        """Read a clock that nobody sets, in ms, the same for all processes since the machine was
        started: how far apart two readings are is what it tells."""
        return time.clock_gettime_ns(_UNSET) // 1_000_000


class HostClock:
    """This host's time as one process tells it: the wall clock's when it was asked first, and from
    there on by the clock that nobody sets."""

    def __init__(self) -> None:
        self.ahead = host_now() - uptime()
        """What the time of `uptime` is to be added to."""

    def now(self) -> int:
        return uptime() + self.ahead

    def set_back(self) -> int:
        """Say by how much the wall clock lies behind (ms), or, below zero, ahead."""
        return self.now() - host_now()
