"""How many files a process may have open: a connection is one. Past what the system allows none is accepted,
of anybody, so sockets that stay open for days leave room for the others."""

from __future__ import annotations

import contextlib
import sys

from sojourn.api.sockets import SEATS_MAX

if sys.platform != "win32":
    import resource

OTHERS = 8_192
"""Files besides those: connections of HTTP, of databases, and what else there is."""
SHARE = 4
"""Of files that are fewer than `OTHERS` twice, sockets have one in so many."""


def allow_files() -> None:
    """Let this process have as many files as it takes, as far as the system does."""
    if sys.platform == "win32":
        return
    wanted = OTHERS + SEATS_MAX
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def sockets_max() -> int:
    """Return how many sockets of license clients this process may have open."""
    if sys.platform == "win32":
        return SEATS_MAX
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return SEATS_MAX
    return min(SEATS_MAX, max(files - OTHERS, files // SHARE))
