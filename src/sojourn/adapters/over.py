"""Waits for sessions to end: `await visit.over`, for an application's own sockets and streams.

    await asyncio.wait([serving, asyncio.create_task(visit.over)], return_when=FIRST_COMPLETED)
    while (gone := visit.wait_over(timeout=20)) is None: socket.send("still there")      in a thread

One look at the store serves all who wait in an event loop, or in threads: at once for the first, every half
second while anybody does, and at once when this process ends a session. Who comes or goes meanwhile calls for
none. Waiting is no use of a session, and keeps none alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections.abc import Sequence

from sojourn.errors import Overloaded, StoreError
from sojourn.log import get_logger
from sojourn.session import Gone, GoneReason, Save, Sessions

log = get_logger(__name__)

POLL = 0.5
"""Seconds between looks at the store."""
POLL_IN_TROUBLE = 2.0
WAITING_MAX = 10_000
"""Who may wait in an event loop at once."""
BATCH = 500
"""Sessions that are looked at in one step."""


class Endings:
    """Tells who waits in any event loop which sessions are over."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._threads = _ThreadWatch(sessions)
        self._watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = (
            weakref.WeakKeyDictionary()
        )
        ended = getattr(sessions, "ended", None)  # what this process itself ends
        if ended is not None:
            ended.append(self._wake)

    async def of(self, session_id: str) -> Gone:
        """Return why a session is over, once it is. Raises Overloaded if too many wait already."""
        loop = asyncio.get_running_loop()
        watch = self._watches.get(loop)
        if watch is None:
            with self._lock:
                # A watch knows its loop, so that the loops that have closed are kept by it.
                for closed in [each for each in self._watches if each.is_closed()]:
                    del self._watches[closed]
                watch = self._watches[loop] = _Watch(self._sessions)
        return await watch.wait(session_id)

    def wait(self, session_id: str, timeout: float | None) -> Gone | None:
        """Block until a session is over, and return why; None after so many seconds. Raises Overloaded if
        too many wait already."""
        return self._threads.wait(session_id, timeout)

    def _wake(self) -> None:
        self._threads.woken.set()
        with self._lock:
            watches = list(self._watches.items())
        for loop, watch in watches:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(watch.woken.set)


class _Watch:
    """One look at the store for all who wait in this event loop."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._waiting: dict[str, list[asyncio.Future[Gone]]] = {}
        self._task: asyncio.Task[None] | None = None
        self.woken = asyncio.Event()

    async def wait(self, session_id: str) -> Gone:
        if sum(map(len, self._waiting.values())) >= WAITING_MAX:
            raise _too_many()
        over = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(session_id, []).append(over)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_looking())
        try:
            gone: Gone = await over
            return gone
        finally:
            left = self._waiting.get(session_id, [])
            if over in left:
                left.remove(over)
            if not left:
                self._waiting.pop(session_id, None)

    async def _keep_looking(self) -> None:
        trouble = _Trouble()
        while self._waiting:
            self.woken.clear()
            pause = POLL
            try:
                await self._look(list(self._waiting))
                trouble.over()
            except Exception as fault:  # noqa: BLE001 - a watch outlives every fault, and says so
                trouble.tell(fault)
                pause = POLL_IN_TROUBLE
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.woken.wait()

    async def _look(self, ids: list[str]) -> None:
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            found = await asyncio.to_thread(_gone, self._sessions, some)
            for session_id, gone in zip(some, found, strict=True):
                for over in self._waiting.get(session_id, ()):
                    if gone is not None and not over.done():
                        over.set_result(gone)


class _Waiter:
    def __init__(self) -> None:
        self.told = threading.Event()
        self.gone: Gone | None = None


class _ThreadWatch:
    """One look at the store for all who wait in threads, from a thread that ends with the last of them."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._running = False
        self.woken = threading.Event()

    def wait(self, session_id: str, timeout: float | None) -> Gone | None:
        waiter = _Waiter()
        with self._lock:
            if sum(map(len, self._waiting.values())) >= WAITING_MAX:
                raise _too_many()
            self._waiting.setdefault(session_id, []).append(waiter)
            if not self._running:
                self._running = True
                name = "sojourn-over"
                threading.Thread(target=self._keep_looking, name=name, daemon=True).start()
        try:
            waiter.told.wait(timeout)
        finally:
            with self._lock:
                left = self._waiting.get(session_id, [])
                if waiter in left:
                    left.remove(waiter)
                if not left:
                    self._waiting.pop(session_id, None)
                if not self._waiting:
                    self.woken.set()  # or the thread would sleep on for nobody
        return waiter.gone

    def _keep_looking(self) -> None:
        trouble = _Trouble()
        while True:
            self.woken.clear()
            with self._lock:
                ids = list(self._waiting)
                if not ids:
                    self._running = False
                    return
            pause = POLL
            try:
                self._look(ids)
                trouble.over()
            except Exception as fault:  # noqa: BLE001 - a watch outlives every fault, and says so
                trouble.tell(fault)
                pause = POLL_IN_TROUBLE
            self.woken.wait(pause)

    def _look(self, ids: list[str]) -> None:
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            for session_id, gone in zip(some, _gone(self._sessions, some), strict=True):
                if gone is None:
                    continue
                with self._lock:
                    for waiter in self._waiting.pop(session_id, ()):
                        waiter.gone = gone
                        waiter.told.set()


class _Trouble:
    """Tells the log of a fault once, until it is over."""

    def __init__(self) -> None:
        self._told = False

    def tell(self, fault: Exception) -> None:
        if not self._told and isinstance(fault, StoreError | Overloaded):
            log.warning("sessions_unavailable", code=fault.code, error=fault.message)
        elif not self._told:
            log.warning("watch_failed", error=str(fault), kind=type(fault).__name__)
        self._told = True

    def over(self) -> None:
        self._told = False


def _too_many() -> Overloaded:
    return Overloaded(f"{WAITING_MAX} wait for the ends of sessions already.", retry_after=1000)


def _gone(sessions: Sessions, ids: Sequence[str]) -> list[Gone | None]:
    """Say which sessions are over, and why; on a thread."""
    gone = getattr(sessions, "gone", None)
    if gone is not None:
        found: list[Gone | None] = gone(ids)
        return found
    # A server's, or Express's: a change of nothing tells as well.
    revisions = sessions.save([Save(id=each) for each in ids])
    return [None if each is not None else Gone(reason=GoneReason.ENDED) for each in revisions]


__all__ = ["Endings"]
