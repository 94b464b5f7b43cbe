"""Memory that a burst has taken goes back to the system.

GNU's allocator keeps what was freed, the more the larger its blocks have been: a few lists of 4 MiB at once,
and a process stays 20 MiB larger for good. Other allocators are left as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

LARGE = 262_144
"""Bytes from which on a block is asked of the system, and given back when it is freed."""
GIVE_BACK_INTERVAL = 10.0
"""Seconds between two times that what is free is given back."""
_M_MMAP_THRESHOLD = -3  # of <malloc.h>


def _function(name: str) -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another allocator; Windows
        return None
    return found


def keep_few_large_blocks() -> None:
    """Have large blocks given back at once. Without this the allocator learns to keep them."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Give back what is free. Takes about a millisecond, in which other threads go on."""
    if (trim := _function("malloc_trim")) is not None:
        trim(ctypes.c_size_t(0))
