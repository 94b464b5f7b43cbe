"""How uvicorn is to serve the application."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

from sojourn.api.protocol import KEEP_ALIVE, Bounds, GuardedProtocol
from sojourn.api.sockets import GuardedSocket
from sojourn.settings import Settings

try:
    import uvloop  # noqa: F401 - asked for by name below
except ImportError:  # no wheel for Windows
    LOOP = "asyncio"
else:
    LOOP = "uvloop"


MESSAGE_MAX = 16_384
"""Bytes of a message that a WebSocket's client may send."""


COLLECT_AFTER = 10_000
"""Objects made and not yet gone until Python looks for cycles among them: a burst of requests holds more
than its 700, and nothing on their way makes cycles."""


def settle_down() -> None:
    """Take what the program itself consists of out of the garbage collector's rounds.

    Each full one would walk it, which takes tens of ms, during which nobody is answered. For a process that
    serves and does nothing else.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


def server_config(settings: Settings) -> dict[str, Any]:
    """Return keyword arguments for `uvicorn.Config`, besides the application itself.

    They survive pickling, so that uvicorn may hand them to worker processes.
    """
    bounds = Bounds(
        header_max=settings.header_max,
        body_max=settings.body_max,
        receive_timeout=settings.request_timeout,
    )
    return {
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "loop": LOOP,
        "http": partial(GuardedProtocol, bounds=bounds),
        "ws": GuardedSocket,
        "ws_max_size": MESSAGE_MAX,
        "ws_per_message_deflate": False,  # messages are short, and secrets do not compress
        "lifespan": "on",
        "interface": "asgi3",
        "server_header": False,
        "access_log": False,
        "log_config": None,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": settings.shutdown_timeout,
        "proxy_headers": False,  # ours read them: theirs take for an address whatever is sent
    }
