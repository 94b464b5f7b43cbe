"""Who waits for a seat in this process: long polls that hold no thread.

A request that is to wait asks the store, which puts it into the pool's line (`line`). While it waits it is
parked here, and asks again
- at once, when this process has freed a seat of its pool and it is the first that is parked here;
- every `POLL` seconds, if it is the first: another process may have freed one;
- every `REFRESH` seconds, whoever it is: its entry lives for `line.WAITING_FOR`.
While somebody is parked, those who hold the seats are asked whether they are there (`WaitingRoom.ask`).
The store alone decides whose turn it is. When the poll is over, the entry lives on for `WAITING_FOR`: who
comes back by then keeps its place. Who hangs up does not ask again. A holder is parked once in a pool: when
it comes again, the request before is sent away with its place. A copy under the same `Idempotency-Key` is not
parked: it waits for the end of the request before it, and is then told by the store what that was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Any, Protocol

from msgspec.structs import replace

from sojourn.clock import SECOND
from sojourn.errors import Overloaded, StoreUnavailable
from sojourn.lease import Denied, Waiting
from sojourn.line import Holder, Pace
from sojourn.service.caller import Caller
from sojourn.service.origins import FromPage, Shared, bare

HOLD_MAX = 60.0
"""Seconds for which one request waits at most; who wants to wait for longer asks again."""
WAITERS_MAX = 1_024
"""Requests parked in one process. Who comes then is told its place at once, and may ask again. Each keeps a
connection: the others of a process (see `api.protocol.CONNECTIONS_SHARE`) are for heartbeats."""
POLL = 0.5
"""Seconds between two times that the first of a pool asks."""
REFRESH = 5.0
"""Seconds between two times that each one asks; well below `line.WAITING_FOR`."""
WIDTH_MAX = 64
"""How many ask at once while seats come free: one after a refusal, twice as many after each grant."""
BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0)
"""Of the histogram of how long those who were served had waited, in seconds."""


class Asking(Protocol):
    """Submits a request to the store, as `batcher.Batcher` does."""

    def submit(
        self, verb: str, request: Any, caller: Caller | None = None
    ) -> asyncio.Future[Any]: ...


class Waiter:
    """One parked request."""

    __slots__ = (
        "again",
        "asked_at",
        "entry",
        "holder",
        "name",
        "over",
        "position",
        "replaced",
        "turn",
    )

    def __init__(self, holder: Holder, name: Any = None) -> None:
        self.holder = holder
        self.name = name  # the same of its copies; None: it has none
        self.over = asyncio.Event()  # it waits no longer
        self.replaced = False  # by a newer request of the same holder
        self.turn = asyncio.Event()  # set: it asks, or is about to
        self.again = False  # a seat has come free while it was asking
        self.entry: Waiting | None = None
        self.position = 0
        self.asked_at = 0.0

    @property
    def order(self) -> tuple[Any, ...]:
        assert self.entry is not None  # it is parked
        return self.entry.order(0)


class PoolLine:
    """Those of one pool who are parked here."""

    def __init__(self) -> None:
        self.waiters: dict[Holder, Waiter] = {}
        self.pace = Pace()
        self.width = 1
        self.timer: asyncio.TimerHandle | None = None

    def first(self, count: int) -> list[Waiter]:
        """List those whose turn it is next. Who asks for the first time has no place yet."""
        placed = (each for each in self.waiters.values() if each.entry is not None)
        return heapq.nsmallest(count, placed, key=lambda each: each.order)


class WaitingRoom:
    """All who wait in this process. Everything but `freed` is for the event loop's thread alone."""

    def __init__(self, batcher: Asking) -> None:
        self._batcher = batcher
        self._pools: dict[str, PoolLine] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        # Is told twice a second of a pool for which somebody is parked: its holders may be gone.
        self.ask: Callable[[str], None] = lambda _: None
        self.length = 0  # parked now
        self.served = 0
        self.unserved = 0  # were told to come back, or refused for another reason
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0  # that all who were served had waited

    async def wait(
        self,
        call: Any,
        answer: Any,
        *,
        seconds: float,
        caller: Caller | None = None,
        within: Callable[[asyncio.Future[Any]], Awaitable[Any]],
    ) -> Any:
        """Wait for the seat that was refused with a place in the line: at most so long, and `HOLD_MAX`.

        `within` awaits an answer of the store, and bounds how long that may take. Returns as the verb
        does; a denial tells the place by then. Raises Abandoned when the caller has hung up.
        """
        loop = self._loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + min(seconds, HOLD_MAX)
        name = _name_of(call)
        latest: Any = answer
        entry: Waiting = bare(latest).entry
        pool_id = entry.pool_id
        while (first := self._first_of(entry, name)) is not None:
            if not await self._has_ended(first, until):
                return self._told(latest, pool_id)
            latest = await within(self._batcher.submit("acquire", call, caller))
            if not waits(latest):
                return latest
            entry = bare(latest).entry
        with self._parked(entry, name) as (line, waiter):
            self._note(line, waiter, bare(latest))
            while waiter is not None and not self._ends(waiter) and loop.time() < until:
                await self._turn(pool_id, line, waiter, until)
                if self._ends(waiter):
                    break
                try:
                    latest = await within(self._batcher.submit("acquire", call, caller))
                except (StoreUnavailable, Overloaded):
                    if loop.time() >= until:
                        raise
                    waiter.turn.clear()
                    waiter.asked_at = loop.time()  # or it would ask again with the next tick
                    continue
                if not waits(latest):
                    break
                self._note(line, waiter, bare(latest))
        told = bare(latest)
        self._count(told, loop.time() - began)
        if not isinstance(told, Denied):
            self._more(pool_id)
        return self._told(latest, pool_id, line) if waits(latest) else latest

    def _told(self, latest: Any, pool_id: str, line: PoolLine | None = None) -> Any:
        """Return a refusal with an estimate of when it is its turn."""
        told = bare(latest)
        pace = (line or self._pools.get(pool_id) or PoolLine()).pace
        told = replace(told, estimate=pace.estimate(told.position))
        return replace(latest, outcome=told) if isinstance(latest, Shared) else told

    def _first_of(self, entry: Waiting, name: Any) -> Waiter | None:
        """Return the parked request of which this is a copy."""
        line = self._pools.get(entry.pool_id)
        if name is None or line is None:
            return None
        parked = line.waiters.get(entry.holder)
        return parked if parked is not None and parked.name == name else None

    async def _has_ended(self, first: Waiter, until: float) -> bool:
        """Wait for the end of the request of which this is a copy; tell whether to ask the store what that
        was told. If its sender has hung up, nothing was, and the copy waits in its place."""
        if self.length >= WAITERS_MAX:
            return False
        self.length += 1
        try:
            async with asyncio.timeout_at(until):
                await first.over.wait()
        except TimeoutError:
            return False
        finally:
            self.length -= 1
        return not self._ends(first)

    def freed(self, pool_ids: Collection[str]) -> None:
        """Say that seats of these pools may be free now. Safe from every thread."""
        loop = self._loop
        if loop is None or not self._pools:
            return
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            for pool_id in pool_ids:
                if pool_id in self._pools:
                    loop.call_soon_threadsafe(self._wake_first, pool_id)

    def close(self) -> None:
        """Send everybody away with what they were told last: the server stops, and another one has
        their place."""
        self._closed = True
        for line in self._pools.values():
            for waiter in line.waiters.values():
                waiter.turn.set()

    @property
    def closed(self) -> bool:
        """Whether everybody was sent away."""
        return self._closed

    def _ends(self, waiter: Waiter) -> bool:
        """Tell whether a request is to be sent away. Asked anew after each wait."""
        return self._closed or waiter.replaced

    @contextlib.contextmanager
    def _parked(self, entry: Waiting, name: Any) -> Iterator[tuple[PoolLine, Waiter | None]]:
        """Park a request in the place of an older one of its holder; None where there is no room."""
        line = self._pools.setdefault(entry.pool_id, PoolLine())
        waiter = None
        if (older := line.waiters.pop(entry.holder, None)) is not None:
            older.replaced = True
            older.turn.set()
            self.length -= 1
        if self.length < WAITERS_MAX:
            waiter = line.waiters[entry.holder] = Waiter(entry.holder, name)
            self.length += 1
        try:
            yield line, waiter
        finally:
            if waiter is not None:
                waiter.over.set()
                if not waiter.replaced:
                    del line.waiters[waiter.holder]
                    self.length -= 1
            if not line.waiters:
                if line.timer is not None:
                    line.timer.cancel()
                if self._pools.get(entry.pool_id) is line:  # whoever was replaced may come too late
                    del self._pools[entry.pool_id]

    def _note(self, line: PoolLine, waiter: Waiter | None, answer: Denied) -> None:
        """Learn from a refusal where in the line a waiter stands."""
        assert self._loop is not None  # set by `acquire`
        if waiter is None:
            return
        now = self._loop.time()
        if waiter.entry is not None:
            elapsed = round((now - waiter.asked_at) * SECOND)
            line.pace.note(waiter.position - answer.position, elapsed)
            line.width = 1
        waiter.entry, waiter.position, waiter.asked_at = answer.entry, answer.position, now
        if not waiter.again:
            waiter.turn.clear()
        waiter.again = False

    async def _turn(self, pool_id: str, line: PoolLine, waiter: Waiter, until: float) -> None:
        """Wait until it is time to ask again."""
        assert self._loop is not None  # set by `acquire`
        if line.timer is None:
            line.timer = self._loop.call_later(POLL, self._tick, pool_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await waiter.turn.wait()
        waiter.turn.set()  # it asks now, if because its time is over

    def _tick(self, pool_id: str) -> None:
        """Let the first ask, and everybody whose entry needs it."""
        line = self._pools.get(pool_id)
        if line is None or self._loop is None:
            return
        line.timer = self._loop.call_later(POLL, self._tick, pool_id)
        self.ask(pool_id)
        late = self._loop.time() - REFRESH
        due = [
            each
            for each in line.waiters.values()
            if each.entry is not None and each.asked_at <= late
        ]
        for waiter in line.first(1) + due:
            waiter.turn.set()

    def _wake_first(self, pool_id: str) -> None:
        line = self._pools.get(pool_id)
        if line is not None:
            for waiter in line.first(line.width):
                waiter.again = waiter.turn.is_set()
                waiter.turn.set()

    def _more(self, pool_id: str) -> None:
        """Somebody was served: there may be more seats."""
        line = self._pools.get(pool_id)
        if line is not None:
            line.width = min(2 * line.width, WIDTH_MAX)
            self._wake_first(pool_id)

    def _count(self, answer: Any, waited: float) -> None:
        if isinstance(answer, Denied | BaseException):
            self.unserved += 1
            return
        self.served += 1
        self.buckets[bisect_left(BOUNDS, waited)] += 1
        self.seconds += waited


def _name_of(call: Any) -> Any:
    """Return what only copies of a request have in common: its key, what it says, and its proof. None where
    it came with no key."""
    asked: Any = call.call if isinstance(call, FromPage) else call
    once = getattr(asked, "once", None)
    return None if once is None else (once, asked.key_hash, asked.trusted, asked.claims)


def waits(answer: Any) -> bool:
    """Tell whether an answer is a place in the line."""
    told = bare(answer)
    return isinstance(told, Denied) and told.entry is not None
