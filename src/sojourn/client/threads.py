"""Threads for calls that wait, which hold up nobody's exit.

`ThreadPoolExecutor` is joined before a program ends: one call that waits in the line for ever would keep it
from ending. These threads are daemons; what they wait for is ended when the clients close.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class Threads:
    """At most `most` threads; a call waits for its turn. A call that is canceled before that is not begun."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._calls = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._unfinished = 0  # calls that have a thread, or wait for one

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        """Have a call carried out. Raises RuntimeError if there is no thread to be had for the first one."""
        done: Future[_T] = Future()
        with self._lock:
            if self._count < min(self._most, self._unfinished + 1):
                try:
                    threading.Thread(target=self._run, name=self._name, daemon=True).start()
                except RuntimeError:
                    if not self._count:
                        raise
                else:
                    self._count += 1
            self._unfinished += 1
            self._calls.put((done, call))
        return done

    def shutdown(self) -> None:
        """Let the threads end when nothing waits any more. No call may follow."""
        with self._lock:
            for _ in range(self._count):
                self._calls.put(None)

    def _run(self) -> None:
        while (task := self._calls.get()) is not None:
            done, call = task
            found = fault = None
            if begun := done.set_running_or_notify_cancel():
                try:
                    found = call()
                except BaseException as raised:  # noqa: BLE001  # it is raised by whoever waits
                    fault = raised
            with self._lock:  # before it is told: whoever hears of it may have another call
                self._unfinished -= 1
            if begun and fault is not None:
                done.set_exception(fault)
            elif begun:
                done.set_result(found)
            del task, done, call, found, fault  # or they would live until the next one
