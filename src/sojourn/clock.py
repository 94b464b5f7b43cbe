"""Time: who tells it, and in which unit.

Instants are integer milliseconds since 1970 UTC, durations integer milliseconds; seconds appear only
on the wire and in settings. The store's own clock decides every expiry: `Clock.now` answers None in
production, and the store reads its database's clock inside the statement that decides. Tests hand in a
`ManualClock` and move it.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


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


def host_now() -> int:
    """Read this host's wall clock, for stores whose data lives in this process."""
    return time.time_ns() // 1_000_000
