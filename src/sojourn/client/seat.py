"""A seat, as the program that needs it sees it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from msgspec import Struct

from sojourn.client.beats import Beats
from sojourn.client.errors import SeatDenied, SeatLost, passing, told_to_wait
from sojourn.client.hold import Hold, SeatState, Wish, backoff
from sojourn.client.http import Grant
from sojourn.errors import SojournError
from sojourn.log import sentences

RETRY_CAP = 5.0  # seconds between two tries of a call somebody waits for
RETRY_FLOOR = 0.1
PARK_FIRST = 0.5
"""Seconds for which the first request waits in the line: its answer tells the place."""
PARK = 5.0
"""Seconds for which each later one does. The server keeps up to 60; after so few the place is told anew, and
a seat that is given up meanwhile is not waited for much longer."""
PARK_LAST = 0.05
"""Seconds for the last one, when the time is over: without any it would be out of the line."""

_log = sentences("sojourn.client")


class Change(Struct, frozen=True, kw_only=True):
    """What `on_change` is told.

    `reason` is one of SeatLost's, or `granted`, `renewed`, `resumed`, `overdue`, or the code of the
    fault that put the seat in jeopardy. `resumed`: the seat was lost, if only for a moment, and the
    client got it back by itself; work that must not overlap with another's has to be checked. From LOST to
    LOST: it was to be got back, and now it is not.
    """

    seat: Seat
    before: SeatState
    state: SeatState
    reason: str
    resumed: bool = False


class Waiting(Struct, frozen=True, kw_only=True):
    """What `on_wait` is told while every seat is in use, each time the server has been asked.

    `position` is the place in the line, the first is 1; `estimate` the seconds until one's turn, by the
    pace of late. Either is None where it is not known.
    """

    seat: Seat
    error: SojournError  # SeatDenied, or why the server could not be asked
    tries: int
    waited: float  # seconds so far
    next_in: float  # seconds until the next try
    position: int | None = None
    estimate: float | None = None


OnChange = Callable[[Change], None]
OnWait = Callable[[Waiting], None]


class Seat:
    """A seat for one user and client. Made by `Client.seat`; safe from several threads.

    Use it in a with-block, or call `acquire` and `release`. Heartbeats run in the background.
    Call `check` before each thing that only a holder may do.
    """

    def __init__(
        self,
        beats: Beats,
        wish: Wish,
        name: Callable[[], str],
        *,
        takeover: bool,
        retries: int,
        wait: float | None,
        resume: bool,
        on_change: OnChange | None,
        on_wait: OnWait | None,
    ) -> None:
        self._beats = beats
        self._hold = Hold(wish, resume=resume, tell=self._tell)
        self._name = name
        self._named: tuple[int, str] | None = None  # the process, and its name
        self._takeover = takeover
        self._retries = retries
        self._wait = wait
        self._on_change = on_change
        self._on_wait = on_wait

    def __repr__(self) -> str:
        wish = self._hold.wish
        return f"<Seat {wish.feature!r} of {wish.user!r}: {self.state}>"

    @property
    def state(self) -> SeatState:
        """Where the seat stands at this instant, by this machine's clock."""
        with self._beats.lock:
            return self._hold.seen(self._now())

    @property
    def held(self) -> bool:
        with self._beats.lock:
            return self._hold.held(self._now())

    @property
    def expires_in(self) -> float:
        """Seconds for which the seat can be relied on without another beat; 0 if not held."""
        with self._beats.lock:
            now = self._now()
            return self._hold.safe_until - now if self._hold.held(now) else 0.0

    @property
    def lease_id(self) -> str | None:
        grant = self._hold.grant
        return None if grant is None else grant.lease_id

    @property
    def fence(self) -> int | None:
        """The number to send along with writes: a resource that has seen a higher one refuses."""
        grant = self._hold.grant
        return None if grant is None else grant.fence

    @property
    def heartbeat_interval(self) -> float | None:
        grant = self._hold.grant
        return None if grant is None else grant.heartbeat_interval

    @property
    def lost_after(self) -> float | None:
        grant = self._hold.grant
        return None if grant is None else grant.lost_after

    @property
    def feature(self) -> str:
        return self._hold.wish.feature

    @property
    def user(self) -> str | None:
        return self._hold.wish.user

    @property
    def client_id(self) -> str:
        """As whom this process acquires. It may be another in one that is forked before that."""
        named, process = self._named, os.getpid()
        if named is None or named[0] != process:
            self._named = named = process, self._name()
        return named[1]

    def acquire(self, *, takeover: bool | None = None) -> Self:
        """Take the seat; does nothing if it is held.

        Asking twice is safe: the same holder gets the same seat. Raises SeatDenied,
        ServerUnreachable, or what the server refused for.
        """
        return self.acquire_while(lambda: True, takeover=takeover)

    def acquire_while(self, wanted: Callable[[], bool], *, takeover: bool | None = None) -> Self:
        """Take the seat, as `acquire` does, if it is still wanted when its turn comes; otherwise raise
        SeatLost and ask for nothing. For `AsyncSeat`: once begun, `let_go` ends it."""
        owner = object()
        try:
            turn = self._beats.begin(self._hold, owner, wanted, self.client_id)
            if turn is None:
                return self
            grant = self._ask(turn, self._takeover if takeover is None else takeover)
            if not self._beats.granted(self._hold, turn, grant, resumed=False):
                raise SeatLost("released")
        finally:
            self._beats.ended(self._hold, owner)
        return self

    def release(self) -> bool:
        """Give the seat back. Never raises: tries once now, then in the background.

        True: the server has confirmed it, or there was none to give back. False: it has not answered yet.
        """
        return self._beats.release(self._hold)

    def let_go(self) -> None:
        """Give the seat back in the background: waits for nothing, and ends an acquire under way."""
        self._beats.let_go(self._hold)

    def closing(self) -> bool:
        """Say goodbye without giving the seat up: it lingers for a few seconds, for whoever comes
        next as this holder (a restart, an acquire). Ends this object's hold. One try; True if heard.
        """
        return self._beats.say_goodbye(self._hold)

    def check(self) -> None:
        """Raise SeatLost unless the seat is held."""
        with self._beats.lock:
            now = self._now()
            if not self._hold.held(now):
                raise SeatLost(self._hold.why(), resumable=self._hold.due < math.inf)

    def idle(self, since: float | Callable[[], float | None] | None) -> None:
        """Report idleness with the coming beats.

        Give the seconds for which the person has done nothing as of now (0: just active), a callable
        that returns them when asked (on the heartbeat thread: be quick), or None: unknown.
        """
        if since is None or callable(since):
            self._hold.idle = since
        else:
            start = self._now() - since
            self._hold.idle = lambda: self._now() - start

    def wait(self, state: SeatState, timeout: float | None = None) -> bool:
        """Wait until the seat is in a state; False if it is not, `timeout` seconds later."""
        return self._wait_for(lambda seen: seen is state, timeout)

    def wait_lost(self, timeout: float | None = None) -> bool:
        """Wait until the seat is lost. False: it was released, or `timeout` seconds are over."""
        over = {SeatState.LOST, SeatState.RELEASED, SeatState.NEW}
        self._wait_for(lambda seen: seen in over, timeout)
        return self.state is SeatState.LOST

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _now(self) -> float:
        return self._beats.world.now()

    def _tell(self, before: SeatState, state: SeatState, reason: str, resumed: bool) -> None:
        change = Change(seat=self, before=before, state=state, reason=reason, resumed=resumed)
        _log.debug("%s: %s -> %s (%s)", self._hold.wish.feature, before, state, reason)
        if (callback := self._on_change) is not None:
            self._beats.notes.add(lambda: callback(change))
        self._beats.lock.notify_all()

    def _wait_for(self, satisfied: Callable[[SeatState], bool], timeout: float | None) -> bool:
        until = math.inf if timeout is None else self._now() + timeout
        with self._beats.lock:
            while not satisfied(self._hold.seen(now := self._now())):
                if now >= until:
                    return False
                turns = (self._hold.safe_until, self._hold.overdue_at)
                times = [until, *(t for t in turns if t > now)]
                self._beats.world.wait(self._beats.lock, min(times) - now)
        return True

    def _ask(self, turn: int, takeover: bool) -> Grant:
        """Acquire, again after a passing fault, and for as long as it is worth waiting for a seat."""
        beats, start = self._beats, self._now()
        patience = self._wait or 0.0
        denied, failures, park = False, 0, min(PARK_FIRST, patience)
        for tries in range(1, 1 << 62):
            asked_at = self._now()
            try:
                timeout = beats.timeout
                return beats.ask(self._hold, takeover=takeover, timeout=timeout, wait=park)
            except SeatDenied as fault:
                error: SojournError = fault
                denied, failures = True, 0
                pause = fault.retry_after * (1 + 0.1 * beats.world.chance())
                if fault.position is not None and self._now() - asked_at >= park:
                    pause = RETRY_FLOOR  # it has waited in the line: the next one goes on with it
            except SojournError as fault:
                error, failures = fault, failures + 1
                if not passing(fault) or (not denied and failures > self._retries):
                    raise
                pause = backoff(failures, beats.world.chance(), RETRY_CAP)
                pause = max(pause, told_to_wait(fault))
            waited = self._now() - start
            if denied:
                if waited >= patience:
                    raise error
                pause = min(pause, patience - waited)  # the last try is at the very end
                self._report(error, tries, waited, pause)
                park = min(PARK, max(PARK_LAST, patience - waited - pause))
            beats.pause(self._hold, turn, max(RETRY_FLOOR, pause))
        raise AssertionError  # pragma: no cover  # nobody lives that long

    def _report(self, error: SojournError, tries: int, waited: float, pause: float) -> None:
        if self._on_wait is None:
            return
        known = error if isinstance(error, SeatDenied) else None
        self._on_wait(
            Waiting(
                seat=self,
                error=error,
                tries=tries,
                waited=waited,
                next_in=pause,
                position=None if known is None else known.position,
                estimate=None if known is None else known.estimate,
            )
        )
