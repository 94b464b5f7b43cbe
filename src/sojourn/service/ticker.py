"""Something done again and again on a thread of its own, until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sojourn.log import get_logger

log = get_logger(__name__)


class Ticker:
    """Calls `task` every `interval` seconds. A task that fails is tried again next time; the log is told
    once of each fault, and once that it is over."""

    def __init__(self, name: str, task: Callable[[], object], interval: float) -> None:
        self._name = name
        self._task = task
        self._interval = interval
        self._stop = threading.Event()
        self._wake = threading.Event()  # the next time is now: asked for, or to stop
        self._thread: threading.Thread | None = None
        self._failing = ""  # how it failed last; empty: it did not

    def start(self, *, at_once: bool = False) -> None:
        """Start ticking; the first time after one interval, or at once."""
        self._thread = threading.Thread(
            target=self._run, args=(at_once,), name=f"sojourn-{self._name}", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """Do the task as soon as possible, once however often this is called meanwhile."""
        self._wake.set()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop after the task under way, waiting at most `timeout` seconds for it."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def _run(self, at_once: bool) -> None:
        if at_once:
            self._tick()
        while True:
            self._wake.wait(self._interval)
            self._wake.clear()  # before the task: what is asked for during it may have come too late
            if self._stop.is_set():
                return
            self._tick()

    def _tick(self) -> None:
        try:
            self._task()
        except Exception as fault:  # noqa: BLE001 - a ticker outlives every fault of its task
            kind = type(fault).__name__
            if kind != self._failing:
                log.warning("tick_failed", task=self._name, error=str(fault), kind=kind)
            self._failing = kind
            return
        if self._failing:
            log.info("tick_succeeds_again", task=self._name, after=self._failing)
            self._failing = ""
