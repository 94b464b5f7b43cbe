"""The time of a database server, which goes on when somebody sets the server's clock back.

As long as nobody does, every statement reads the server's clock. A process looks at that clock about once
a second, and compares it with how much time has gone by here, and with the pulse. Where it has gone back,
the row `shift` in `marks` says from then on by how much the store's time is ahead of it, for everybody;
and until the clock has caught up, statements are given an instant: what the last look told, and what has
gone by since. See docs/adr/0022.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from sojourn.clock import MINUTE, SECOND, uptime
from sojourn.stores.sql.database import Again, Tx
from sojourn.stores.sql.faults import classify

log = logging.getLogger(__name__)

LOOK_EVERY = SECOND
MISSING_WAIT = MINUTE  # until the next look where there is nothing to look at yet
TOLERANCE = SECOND
"""Going back by less is what keeping time does; it costs a holder's seat, or a ghost's, as much time."""
DRIFT = 1_000
"""Of so many ms, this host's clock and the server's may disagree by one."""

LOOK = """
SELECT {clock}, (SELECT value FROM marks WHERE name = 'pulse'),
    (SELECT value FROM marks WHERE name = 'shift')
"""
LOCK = "SELECT value FROM marks WHERE name = 'pulse' {update}"
SET = "UPDATE marks SET value = :shift WHERE name = 'shift'"
NOTE = "INSERT INTO marks (name, value) VALUES ('shift', :shift)"


class _Seen(NamedTuple):
    """What a look tells: all in ms."""

    clock: int  # the server's
    pulse: int | None
    shift: int
    at: int  # by uptime
    unsure: int  # of `at`


class _Anchor(NamedTuple):
    """The store's time at an instant of our uptime."""

    time: int
    at: int
    shift: int

    def now(self, at: int) -> int:
        return self.time + at - self.at

    def error(self, at: int) -> int:
        """By how much `now` may be wrong where nobody has set a clock."""
        return (at - self.at) // DRIFT


class SteadyClock:
    """A server's time as one process tells it. Safe to share between threads."""

    def __init__(self) -> None:
        self._anchor: _Anchor | None = None
        self._due = 0  # by uptime
        self._jump = (0, 0)
        """From when to when the server's clock was last set ahead."""

    @property
    def instant(self) -> int | None:
        """The store's now while it is not what the server's clock says; else None."""
        anchor = self._anchor
        return anchor.now(uptime()) if anchor is not None and anchor.shift else None

    @property
    def shift(self) -> int:
        """By how much (ms) the store's time is ahead of the server's clock."""
        return 0 if self._anchor is None else self._anchor.shift

    @property
    def due(self) -> bool:
        """Whether it is time for a look."""
        return uptime() >= self._due

    def doubt(self) -> None:
        """Have the next statement look first."""
        self._due = 0

    def judge(self, now: int, pulse: int | None, waited: int) -> None:
        """Have a transaction start over, after a look, that was told a `now` which has been before.
        The statement that told it took so many ms, and told when it began."""
        anchor, at = self._anchor, uptime() - waited
        expected = 0 if anchor is None else anchor.now(at) - anchor.error(at)
        if now < max(expected, pulse or 0) - TOLERANCE:
            self.doubt()
            raise Again

    def look(self, tx: Tx) -> None:
        """Compare the server's clock with what has gone by. Call it outside of any transaction."""
        self._due = uptime() + LOOK_EVERY  # who comes meanwhile need not look, too
        try:
            seen = _look(tx)
            shift = self._decided(seen)
            if shift != seen.shift:
                seen, shift = self._settle(tx)
        except DBAPIError as error:
            fault = classify(error)
            if fault is None or fault.disconnected:
                raise
            if fault.kind == "missing":  # of which others tell, in better words
                self._due = uptime() + MISSING_WAIT
            return
        self._tell(shift)
        now = seen.clock + shift
        if self._ahead(now, seen.at, seen.unsure) and self._anchor is not None:
            self._jump = (self._anchor.now(seen.at), now)
        self._anchor = _Anchor(now, seen.at, shift)

    def _ahead(self, now: int, at: int, unsure: int = 0) -> bool:
        """Tell whether more time has gone by at the server than here."""
        anchor = self._anchor
        if anchor is None:
            return False
        return now > anchor.now(at) + anchor.error(at) + unsure + TOLERANCE

    def jumped_at(self, pulse: int, now: int) -> int | None:
        """See `Tx.jumped_at`. A machine that was halted, ours, is taken for a clock set ahead: it did
        not serve either."""
        at = uptime()
        if self._ahead(now, at) and self._anchor is not None:  # nobody has looked since
            return max(pulse, self._anchor.now(at))
        before, after = self._jump
        return before if pulse <= before and after <= now + TOLERANCE else None

    def _decided(self, seen: _Seen) -> int:
        """Say by how much the store's time is to be ahead of the server's clock."""
        latest, most = seen.pulse or 0, None
        anchor = self._anchor
        if anchor is not None:
            error = anchor.error(seen.at) + seen.unsure
            latest = max(latest, anchor.now(seen.at) - error)
            most = anchor.now(seen.at) + error
        if seen.clock >= latest - TOLERANCE:
            return 0
        now = seen.clock + seen.shift
        # It was set back; or it was set right, but for a part, and would take us ahead.
        if now < latest - TOLERANCE or (most is not None and now > most + TOLERANCE):
            return latest - seen.clock
        return seen.shift

    def _settle(self, tx: Tx) -> tuple[_Seen, int]:
        """Decide for everybody, one process after the other."""
        with tx.transaction():
            tx.rows(LOCK, {})
            seen = _look(tx)
            shift = self._decided(seen)
            if shift != seen.shift and not tx.do(SET, {"shift": shift}):
                tx.do(NOTE, {"shift": shift})
        return seen, shift

    def _tell(self, shift: int) -> None:
        if shift and not self.shift:
            log.warning(
                "the database's clock was set back by %.1f s; time here goes on as before;"
                " set it right, by NTP",
                shift / SECOND,
            )


def _look(tx: Tx) -> _Seen:
    before = uptime()
    clock, pulse, shift = tx.rows(LOOK, {})[0]
    after = uptime()
    return _Seen(int(clock), pulse, shift or 0, (before + after) // 2, (after - before + 1) // 2)
