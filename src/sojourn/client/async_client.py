"""The client for programs on an event loop: the same seats, awaited.

async with AsyncClient(url, license_key="sjk_…") as client:
    async with client.seat("render", user="ada") as seat:
        while work:
            seat.check()   # raises SeatLost when the seat is gone
            ...

Seats are kept by the heartbeat thread of a `Client`, and not by the loop: a handler that blocks the loop for
a minute must not cost its seat. What waits for the network runs on threads of this client's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from sojourn.client.client import Client
from sojourn.client.forks import renew_after_fork
from sojourn.client.hold import SeatState
from sojourn.client.returns import CLOSE_TIMEOUT
from sojourn.client.seat import Change, Seat, Waiting
from sojourn.client.threads import Threads
from sojourn.errors import InvalidInput
from sojourn.log import sentences

THREADS = 32
"""Acquires that may be under way at once; those that wait in line for a seat count."""
LEAVING_THREADS = 8
"""Releases and goodbyes that may be under way at once. They have threads of their own: those who wait for a
seat may have taken all others, and wait for these."""
LOOK = 1.0
"""Seconds between two looks at a seat that is waited for, should no change be told meanwhile."""

OnChangeAsync = Callable[[Change], Awaitable[None] | None]
OnWaitAsync = Callable[[Waiting], Awaitable[None] | None]
_T = TypeVar("_T")

_log = sentences("sojourn.client")


class AsyncClient:
    """One connection pool and one heartbeat thread for all seats of this process at one server.

    Takes what `Client` takes, and `threads`: how many acquires may be under way at once; more wait for their
    turn, and keep nobody from giving a seat back. Nothing is connected and no thread runs before the first
    acquire. After a fork the child starts afresh, as with `Client`. A seat belongs to the loop that acquires.
    """

    def __init__(self, url: str, *, threads: int = THREADS, **options: Any) -> None:
        if threads < 1:
            raise InvalidInput("threads must be at least 1.")
        self._client = Client(url, **options)
        self._threads = threads
        self._pool: Threads | None = None
        self._leaving: Threads | None = None
        renew_after_fork(self)

    def __repr__(self) -> str:
        return f"<Async{repr(self._client)[1:]}"

    def seat(
        self,
        feature: str,
        *,
        on_change: OnChangeAsync | None = None,
        on_wait: OnWaitAsync | None = None,
        **options: Any,
    ) -> AsyncSeat:
        """Describe a seat; `await acquire()` or an async with-block takes it. Takes what `Client.seat` takes;
        the callbacks are functions or coroutine functions, and run on the loop that acquires."""
        return AsyncSeat(self, feature, on_change, on_wait, options)

    async def aclose(self, *, within: float = CLOSE_TIMEOUT) -> int:
        """Give all seats back and disconnect, in so many seconds at most; also done at exit. Return how many
        the server has not taken back: those expire by themselves."""
        # On a thread of its own: those of the pool may all be waiting for a seat, which this ends.
        left = await asyncio.to_thread(self._client.close, within)
        for pool in (self._pool, self._leaving):
            if pool is not None:
                pool.shutdown()
        self._pool = self._leaving = None
        return left

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run what waits for a seat, or for the network. For seats."""
        if self._pool is None:
            self._pool = Threads(self._threads, "sojourn-seats")
        return await asyncio.wrap_future(self._pool.submit(call))

    async def leave(self, call: Callable[[], _T]) -> _T:
        """Run what gives a seat up. For seats."""
        if self._leaving is None:
            self._leaving = Threads(LEAVING_THREADS, "sojourn-leaving")
        return await asyncio.wrap_future(self._leaving.submit(call))

    def forked(self) -> None:
        self._pool = self._leaving = None  # their threads are the parent's

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class AsyncSeat:
    """A seat for one user and client. Made by `AsyncClient.seat`; see `Seat`, whose properties it has."""

    def __init__(
        self,
        client: AsyncClient,
        feature: str,
        on_change: OnChangeAsync | None,
        on_wait: OnWaitAsync | None,
        options: dict[str, Any],
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._on_wait = on_wait
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moved = asyncio.Event()  # set at each change, for those who wait
        self._told: set[asyncio.Task[None]] = set()  # callbacks under way
        wait = None if on_wait is None else self._waits
        self._seat = client._client.seat(  # noqa: SLF001  # the same client, awaited
            feature, on_change=self._changed, on_wait=wait, **options
        )

    def __repr__(self) -> str:
        return f"<Async{repr(self._seat)[1:]}"

    @property
    def seat(self) -> Seat:
        """The seat itself, as its callbacks are told of it. It has the same properties."""
        return self._seat

    @property
    def state(self) -> SeatState:
        return self._seat.state

    @property
    def held(self) -> bool:
        return self._seat.held

    @property
    def expires_in(self) -> float:
        return self._seat.expires_in

    @property
    def lease_id(self) -> str | None:
        return self._seat.lease_id

    @property
    def fence(self) -> int | None:
        return self._seat.fence

    @property
    def heartbeat_interval(self) -> float | None:
        return self._seat.heartbeat_interval

    @property
    def lost_after(self) -> float | None:
        return self._seat.lost_after

    @property
    def feature(self) -> str:
        return self._seat.feature

    @property
    def user(self) -> str | None:
        return self._seat.user

    @property
    def client_id(self) -> str:
        return self._seat.client_id

    def check(self) -> None:
        """Raise SeatLost unless the seat is held. Waits for nothing."""
        self._seat.check()

    def idle(self, since: float | Callable[[], float | None] | None) -> None:
        """Report idleness with the coming beats; see `Seat.idle`. A callable runs on the beats' thread."""
        self._seat.idle(since)

    def let_go(self) -> None:
        """Give the seat back in the background; see `Seat.let_go`. Waits for nothing."""
        self._seat.let_go()

    async def acquire(self, *, takeover: bool | None = None) -> Self:
        """Take the seat; see `Seat.acquire`. Canceled, it gives back what it may have been granted."""
        self._loop = asyncio.get_running_loop()
        wanted = True
        try:
            # Canceled while it is queued, it never starts.
            await self._client.run(
                lambda: self._seat.acquire_while(lambda: wanted, takeover=takeover)
            )
        except asyncio.CancelledError:
            # In this order: an acquire that has not begun sees the first, one that has the second.
            wanted = False
            self._seat.let_go()  # ends the waiting of that thread, too
            raise
        return self

    async def release(self) -> bool:
        """Give the seat back; see `Seat.release`. Canceled, it is given back in the background."""
        giving = asyncio.ensure_future(self._client.leave(self._seat.release))
        giving.add_done_callback(_seen)
        return await asyncio.shield(giving)

    async def closing(self) -> bool:
        """Say goodbye without giving the seat up; see `Seat.closing`."""
        return await self._client.leave(self._seat.closing)

    async def wait(self, state: SeatState) -> None:
        """Wait until the seat is in a state; `asyncio.timeout` bounds it."""
        await self._wait_for({state})

    async def wait_lost(self) -> bool:
        """Wait until the seat is lost. False: it was released, or never taken."""
        await self._wait_for({SeatState.LOST, SeatState.RELEASED, SeatState.NEW})
        return self.state is SeatState.LOST

    async def _wait_for(self, wanted: set[SeatState]) -> None:
        self._loop = self._loop or asyncio.get_running_loop()
        while True:
            self._moved.clear()  # before the look: what changes after it is told
            if self.state in wanted:
                return
            # A seat comes into jeopardy by the clock alone, and nobody may be there to tell of it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), LOOK)

    def _changed(self, change: Change) -> None:
        """Hand a change over to the loop. On the thread for callbacks."""
        self._hand_over(self._tell, change)

    def _waits(self, waiting: Waiting) -> None:
        """Hand news of the line over to the loop. On the thread that acquires."""
        if self._on_wait is not None:
            self._hand_over(self._call, self._on_wait, waiting)

    def _hand_over(self, call: Callable[..., None], *arguments: Any) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # closed since
            _log.debug("A loop was closed before its seats were given back")

    def _tell(self, change: Change) -> None:
        self._moved.set()
        if self._on_change is not None:
            self._call(self._on_change, change)

    def _call(self, callback: Callable[[Any], Any], news: Any) -> None:
        """Run a callback on the loop, in the order of what it tells."""
        try:
            found = callback(news)
        except Exception:  # noqa: BLE001  # the application's code may raise anything
            _log.exception("A callback of a seat failed")
            return
        if inspect.iscoroutine(found):
            task = asyncio.ensure_future(_run(found))
            self._told.add(task)
            task.add_done_callback(self._told.discard)

    async def __aenter__(self) -> Self:
        return await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()


async def _run(callback: Coroutine[Any, Any, Any]) -> None:
    try:
        await callback
    except Exception:  # noqa: BLE001  # the application's code may raise anything
        _log.exception("A callback of a seat failed")


def _seen(done: asyncio.Future[Any]) -> None:
    """Take note of how something ended for which nobody waits any more."""
    if not done.cancelled():
        done.exception()
