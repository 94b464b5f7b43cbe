"""The time of a SQLite file: this host's, whatever its wall clock is set to while somebody has it open.

The first to open a file since the machine was started decides by how much the file's time is ahead of the
machine's uptime, and notes it in `sojourn_marks`; everybody else goes by that. So all processes tell the same
time, to the millisecond, and a wall clock that is set back or ahead changes none of it. Time takes up the
wall clock again, if that is ahead, when nobody else has the file open; and it never goes back behind the
latest instant that the file knows of. See docs/adr/0022.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from sojourn.clock import CLOCK_TOLERANCE, SECOND, SET_RIGHT, HostClock, host_now, uptime
from sojourn.log import get_logger

log = get_logger(__name__)

BOOT = Path("/proc/sys/kernel/random/boot_id")
KNOWN = """
SELECT name, value FROM sojourn_marks WHERE name IN ('boot', 'clock', 'pulse')
UNION ALL SELECT 'event', at FROM (SELECT at FROM sojourn_events ORDER BY id DESC LIMIT 1)
"""
NOTE = """
INSERT INTO sojourn_marks (name, value) VALUES ('boot', :boot), ('clock', :ahead)
ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""


class FileClock(HostClock):
    """The clock of one database file, shared by all who use it in this process."""

    _all: ClassVar[WeakValueDictionary[str, FileClock]] = WeakValueDictionary()

    def __init__(self) -> None:
        super().__init__()
        self.settled = False
        self._told = False

    @classmethod
    def of(cls, database: Path) -> FileClock:
        """Return the clock of a database file."""
        path = str(database.resolve())
        clock = cls._all.get(path)
        return cls._all.setdefault(path, cls()) if clock is None else clock

    def settle(self, run: Callable[[str, dict[str, Any]], Sequence[Any]], *, alone: bool) -> None:
        """Go by the file's time, or decide it. Whoever calls holds the file's lock; `run` carries out
        a statement, and `alone` says that nobody else has the file open."""
        marks = {row[0]: row[1] for row in run(KNOWN, {})}
        boot, wall = boot_id(), host_now() - uptime()
        noted = marks.get("clock") if boot is not None and marks.get("boot") == boot else None
        ahead = noted
        if noted is None:
            latest = max(marks.get("pulse") or 0, marks.get("event") or 0)
            ahead = max(wall, latest - uptime())
        elif alone:
            ahead = max(noted, wall)
        assert ahead is not None
        if ahead != noted and boot is not None:
            run(NOTE, {"boot": boot, "ahead": ahead})
        self.ahead, self.settled = ahead, True

    def notice(self) -> None:
        """Log, once each time, that the wall clock was set back."""
        by = self.set_back()
        if by > CLOCK_TOLERANCE and not self._told:
            log.warning("store_clock_was_set", ahead_of_it=by / SECOND, hint=SET_RIGHT)
        self._told = by > CLOCK_TOLERANCE


def boot_id() -> int | None:
    """Name the time since the machine was started; None where the system has no name for it."""
    try:
        name = BOOT.read_bytes().strip()
    except OSError:
        return None
    return int.from_bytes(hashlib.sha256(name).digest()[:7], "big")
