"""A process that is told to end gives its seats back first.

SIGTERM and SIGHUP end a Python program on the spot: no `finally`, no `atexit`, and each seat is a ghost for
`lost_after`. Where nobody else handles them, they are handled here: seats are given back, and the signal then
ends the process as it would have.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

NUMBERS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
HOLD_UP = 2.0
"""Seconds for which the main thread stands still, so that it does not see its seats go."""
SURVIVED = 1.0
"""Seconds after which a process that the signal did not end, as the first of a container, ends itself."""


class Leaving:
    """What happens on the way out: once, whichever signal comes first."""

    def __init__(self) -> None:
        self._give_back: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._masks = threading.local()  # of a thread that forks, meanwhile

    def watch(self, give_back: Callable[[], None]) -> None:
        """Handle each signal that would end this process on the spot. Does nothing on other threads than the
        main one, which Python does not let; and nothing to a signal that somebody handles or ignores."""
        if self._give_back is not None or os.name != "posix":
            return
        if threading.current_thread() is not threading.main_thread():
            return
        with contextlib.suppress(ValueError):  # an interpreter within another has no signals
            for number in NUMBERS:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._leave)
            self._give_back = give_back

    def wait(self, seconds: float) -> None:
        """Wait for the thread that gives everything back, if there is one: it ends the process."""
        if (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
        if self._thread is not None:
            return
        # On a thread: the main one may hold, at this very instant, a lock that is needed for it.
        thread = threading.Thread(
            target=self._end, args=(number,), name="sojourn-leaving", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had
            os.kill(os.getpid(), number)
            return
        self._thread = thread
        thread.join(HOLD_UP)

    def _end(self, number: int) -> None:
        try:
            assert self._give_back is not None
            self._give_back()
        finally:
            os.kill(os.getpid(), number)
            time.sleep(SURVIVED)
            os._exit(128 + number)

    def before_fork(self) -> None:
        """Keep signals back until the child ends by them: Python drops those that come before that."""
        if self._give_back is not None:
            self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)

    def after_fork(self) -> None:
        mask, self._masks.before = getattr(self._masks, "before", None), None
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def forked(self) -> None:
        """Let a child end as it would without us: its seats, if it takes any, are watched anew."""
        if self._give_back is not None:
            with contextlib.suppress(ValueError):
                for number in NUMBERS:
                    if signal.getsignal(number) == self._leave:
                        signal.signal(number, signal.SIG_DFL)
        self._give_back = self._thread = None
        self.after_fork()


leaving = Leaving()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=leaving.before_fork,
        after_in_parent=leaving.after_fork,
        after_in_child=leaving.forked,
    )
