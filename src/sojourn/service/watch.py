"""Follows the stream of events for whoever is connected: one look every half second serves all sockets of a
process, and none is made while there are none."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from sojourn.errors import Overloaded, StoreError
from sojourn.event import Event
from sojourn.log import get_logger

T = TypeVar("T")

log = get_logger(__name__)

POLL = 0.5
"""Seconds between looks at the store."""
POLL_IN_TROUBLE = 2.0
EVENTS = 1_000
ROUNDS_MAX = 5
"""So many pages of so many events are read in a look; what is more than that is not read."""

Look = Callable[[Sequence[Event], bool], Awaitable[None]]
OnThread = Callable[..., Awaitable[Any]]


class Stream(Protocol):
    """Where events are read: see `Store.events`."""

    @property
    def events(self) -> Callable[..., list[Event]]: ...


class Watch:
    """Calls `look` with what is new since the last look, and whether there was more than was read. The first
    look is told of nothing: what was before is known otherwise. Belongs to one event loop.

    `wanted` says whether there is still somebody to look for; `troubled` is told why a look failed.
    """

    def __init__(
        self,
        stream: Stream,
        look: Look,
        *,
        kinds: Sequence[str],
        wanted: Callable[[], bool],
        on_thread: OnThread,
        troubled: Callable[[StoreError | Overloaded], None],
    ) -> None:
        self._stream = stream
        self._tell = look
        self._kinds = kinds
        self._wanted = wanted
        self._on_thread = on_thread
        self._troubled = troubled
        self._cursor: int | None = None
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """See that somebody looks, and at once."""
        if self._task is None or self._task.done():
            self._loop = asyncio.get_running_loop()
            self._cursor = None
            self._task = self._loop.create_task(self._keep_looking())
        self._woken.set()

    def wake(self) -> None:
        """Look at once, if anybody looks at all. May be called from any thread."""
        if self._loop is not None and self._wanted():
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self._woken.set)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep_looking(self) -> None:
        while self._wanted():
            pause = POLL
            try:
                news, missed = await self._on_thread(self._read, self._cursor)
                await self._tell([] if self._cursor is None else news, missed)
                self._cursor = news[-1].id if news else self._cursor or 0
            except (StoreError, Overloaded) as fault:
                self._troubled(fault)  # what is missed meanwhile is told afterwards
                pause = POLL_IN_TROUBLE
            except Exception as fault:  # noqa: BLE001 - a watch outlives every fault, and says so
                log.warning("live_watch_failed", error=str(fault), kind=type(fault).__name__)
                pause = POLL_IN_TROUBLE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            self._woken.clear()

    def _read(self, cursor: int | None) -> tuple[list[Event], bool]:
        """Read what is new, on a thread. Whether more has happened than was read."""
        if cursor is None:
            return self._newest(), False
        found: list[Event] = []
        for _ in range(ROUNDS_MAX):
            after = found[-1].id if found else cursor
            some = self._stream.events(after=after, limit=EVENTS, kinds=self._kinds)
            found += some
            if len(some) < EVENTS:
                return found, False
        return self._newest(), True

    def _newest(self) -> list[Event]:
        return self._stream.events(limit=1, newest_first=True)


class Turns:
    """Lets things have their turn where only so many are looked at with each look. Each kind of them goes on
    by itself: of one count for all, a kind would get every other turn, perhaps always the same ones."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    def take(self, kind: str, everything: list[T]) -> list[T]:
        """Return whose turn it is."""
        if len(everything) <= self._most:
            return everything
        self._taken[kind] += 1
        at = self._taken[kind] * self._most % len(everything)
        return (everything + everything)[at : at + self._most]
