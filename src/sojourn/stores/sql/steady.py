"""The time of a database server, which goes on when somebody sets the server's clock.

As long as nobody does, every statement reads the server's clock. A process looks at that clock about once
a second, and compares it with how much time has gone by here, and with the pulse. Where it was set, the
row `shift` in `sojourn_marks` says from then on by how much the store's time is ahead of it, for everybody;
and until the clock is right again, statements are given an instant: what the last look told, and what has
gone by since. See docs/adr/0022.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.exc import DBAPIError

from sojourn.clock import MINUTE, SECOND, SET_RIGHT, uptime
from sojourn.log import get_logger
from sojourn.stores.sql.database import Again, Tx
from sojourn.stores.sql.faults import classify

log = get_logger(__name__)

LOOK_EVERY = SECOND
MISSING_WAIT = MINUTE  # until the next look where there is nothing to look at yet
TOLERANCE = SECOND
"""Going back by less is what keeping time does; it costs a holder's seat, or a ghost's, as much time."""
AHEAD = 5 * SECOND
"""Going ahead by less is nobody's loss."""
GAP = MINUTE
"""Without a pulse for so long, nobody serves who could tell a clock that was set ahead from silence."""
SURE = SECOND // 4
"""By how much an instant that a statement is given may be wrong, unless no look gets through in less."""
DRIFT = 1_000
"""Of so many ms, this host's clock and the server's may disagree by one."""

LOOK = """
SELECT {clock}, (SELECT value FROM sojourn_marks WHERE name = 'pulse'),
    (SELECT value FROM sojourn_marks WHERE name = 'shift')
"""
LOCK = "SELECT value FROM sojourn_marks WHERE name = 'pulse' {update}"
SET = "UPDATE sojourn_marks SET value = :shift WHERE name = 'shift'"
NOTE = "INSERT INTO sojourn_marks (name, value) VALUES ('shift', :shift)"


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
    unsure: int  # of `at`

    def now(self, at: int) -> int:
        return self.time + at - self.at

    def error(self, at: int) -> int:
        """By how much `now` may be wrong where nobody has set a clock."""
        return self.unsure + (at - self.at) // DRIFT


class SteadyClock:
    """A server's time as one process tells it. Safe to share between threads."""

    def __init__(self) -> None:
        self._anchor: _Anchor | None = None
        self._due = 0  # by uptime

    @property
    def told(self) -> tuple[int | None, int]:
        """The store's now while it is not what the server's clock says, else None; and `shift`."""
        anchor = self._anchor
        if anchor is None or not anchor.shift:
            return None, 0
        return anchor.now(uptime()), anchor.shift

    @property
    def shift(self) -> int:
        """By how much (ms) the store's time is ahead of the server's clock; below zero, behind."""
        return 0 if self._anchor is None else self._anchor.shift

    @property
    def due(self) -> bool:
        """Whether it is time for a look."""
        return uptime() >= self._due

    def doubt(self) -> None:
        """Have the next statement look first."""
        self._due = 0

    def judge(self, now: int, pulse: int | None, waited: int) -> None:
        """Have a transaction start over, after a look, that was told a `now` by which somebody has set
        the clock. The statement that told it took so many ms, and told when it began."""
        anchor, at = self._anchor, uptime()
        least, most = pulse or 0, None
        if anchor is not None:
            error = anchor.error(at)
            least = max(least, anchor.now(at - waited) - error)
            most = anchor.now(at) + error
        if now < least - TOLERANCE or (most is not None and now > most + AHEAD):
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
        self._remember(seen, shift)

    def _remember(self, seen: _Seen, shift: int) -> None:
        """Keep what a look told, but not one that took long (a network that was cut, a process that was
        halted) where we know better. Where the two disagree, the clock was set, and is believed."""
        anchor, now = self._anchor, seen.clock + shift
        if (
            anchor is None
            or anchor.shift != shift
            or anchor.error(seen.at) >= seen.unsure
            or abs(anchor.now(seen.at) - now) > anchor.error(seen.at) + seen.unsure + TOLERANCE
        ):
            self._anchor = anchor = _Anchor(now, seen.at, shift, seen.unsure)
        if shift and anchor.error(seen.at) > SURE:
            self.doubt()  # instants are told by it

    def _decided(self, seen: _Seen) -> int:
        """Say by how much the store's time is to be ahead of the server's clock."""
        pulse, now, anchor = seen.pulse, seen.clock + seen.shift, self._anchor
        if anchor is None:  # we have just come: only those before us can tell
            if pulse is None or pulse - TOLERANCE <= now <= pulse + GAP:
                return seen.shift
            return 0 if seen.clock >= pulse - TOLERANCE else max(seen.shift, pulse - seen.clock)
        expected, error = anchor.now(seen.at), anchor.error(seen.at) + seen.unsure
        least = max(pulse or 0, expected - error)
        if seen.clock >= least - TOLERANCE and seen.clock <= expected + error + AHEAD:
            return 0  # as it should be
        if now < least - TOLERANCE:
            return least - seen.clock
        # Who was halted while others served finds a pulse that is later than it expects.
        served = pulse is not None and expected - GAP <= pulse <= expected + error + TOLERANCE
        if now > expected + error + AHEAD and served:
            return max(expected, pulse or 0) - seen.clock
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
            log.warning("store_clock_was_set", ahead_of_it=shift / SECOND, hint=SET_RIGHT)


def _look(tx: Tx) -> _Seen:
    before = uptime()
    clock, pulse, shift = tx.rows(LOOK, {})[0]
    after = uptime()
    return _Seen(int(clock), pulse, shift or 0, (before + after) // 2, (after - before + 1) // 2)
