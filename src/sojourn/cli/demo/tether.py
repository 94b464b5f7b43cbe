"""Ends a process with the demo that started it, even if that is killed."""

from __future__ import annotations

import contextlib
import ctypes
import signal

PR_SET_PDEATHSIG = 1


def tie() -> None:
    """Ask the system to kill this process when its parent dies. Linux only; elsewhere it is polite."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
