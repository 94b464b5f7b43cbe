"""What the client takes from its process: time, chance, threads, and a place to run callbacks."""

from __future__ import annotations

import contextlib
import math
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable

from sojourn.log import sentences

WAKE = 1.0  # seconds; waits do not count a machine's sleep, so the clock is looked at this often

Join = Callable[[float], None]
"""Waits for a thread to end, for some seconds at most; does nothing on that thread itself."""
LAST_CALL = 0.1
"""Seconds that threads get to end, all together, where there is no time left: most are at their end."""

_log = sentences("sojourn.client")


def sleepless_clock() -> Callable[[], float]:
    """Return a monotonic clock that goes on while the machine sleeps, where the system has one."""
    name = "CLOCK_MONOTONIC" if sys.platform == "darwin" else "CLOCK_BOOTTIME"
    if (clock := getattr(time, name, None)) is not None:
        with contextlib.suppress(OSError):
            time.clock_gettime(clock)
            return lambda: time.clock_gettime(clock)
    return time.monotonic


def join_all(joins: Iterable[Join], timeout: float, *, now: Callable[[], float]) -> None:
    """Wait for threads to end, for `timeout` seconds in all, but no less than LAST_CALL."""
    deadline = now() + max(LAST_CALL, timeout)
    for join in joins:
        join(max(0.0, deadline - now()))


class World:
    """What the client takes from its process: time, chance and threads. Tests bring their own."""

    now = staticmethod(sleepless_clock())
    chance = staticmethod(random.random)

    def wait(self, lock: threading.Condition, seconds: float) -> None:
        """Wait, with the lock let go, for a notice or for about so long."""
        lock.wait(None if seconds == math.inf else min(seconds, WAKE))

    def start(self, target: Callable[[], None], name: str) -> Join:
        """Run something on a thread that does not keep the process alive."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()

        def join(timeout: float) -> None:
            if thread is not threading.current_thread():
                thread.join(timeout)

        return join


class Crew:
    """Threads that come and go, at most `most` at once. Guarded by a lock of whoever has it."""

    def __init__(self, world: World, work: Callable[[int], None], name: str, most: int) -> None:
        self._world = world
        self._work = work
        self._name = name
        self._most = most
        self._ever = 0
        self._joins: dict[int, Join] = {}

    def call(self) -> None:
        """Have one more at work, if there may be one more and a thread is to be had."""
        if len(self._joins) < self._most:
            number = self._ever = self._ever + 1
            with contextlib.suppress(RuntimeError):
                join = self._world.start(lambda: self._work(number), self._name)
                self._joins[number] = join

    def left(self, number: int) -> None:
        """Note that the one with that number ends: the last that it does."""
        self._joins.pop(number, None)

    @property
    def joins(self) -> list[Join]:
        return list(self._joins.values())


class Notes:
    """Runs callbacks in order on a thread of their own: a slow one delays no beat."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._join: Join | None = None

    def add(self, call: Callable[[], None]) -> None:
        self._calls.put(call)
        if self._join is None:
            self._join = self._world.start(self.run, "sojourn-callbacks")

    def close(self, timeout: float) -> None:
        """Let what was added run, then end the thread; wait for that, but not for ever."""
        self._calls.put(None)
        if self._join is not None:
            self._join(timeout)

    def run(self, *, block: bool = True) -> None:
        with contextlib.suppress(queue.Empty):
            while (call := self._calls.get(block=block)) is not None:
                try:
                    call()
                except BaseException:  # noqa: BLE001  # not even sys.exit() may silence the next one
                    _log.exception("A callback of a seat failed")
