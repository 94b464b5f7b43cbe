"""How uvicorn is to serve the application."""

from __future__ import annotations

from functools import partial
from typing import Any

from sojourn.api.protocol import KEEP_ALIVE, Bounds, GuardedProtocol
from sojourn.origin import spelled_out
from sojourn.settings import Settings

try:
    import uvloop  # noqa: F401 - asked for by name below
except ImportError:  # no wheel for Windows
    LOOP = "asyncio"
else:
    LOOP = "uvloop"


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
        "ws": "none",
        "lifespan": "on",
        "interface": "asgi3",
        "server_header": False,
        "access_log": False,
        "log_config": None,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": settings.shutdown_timeout,
        "proxy_headers": bool(settings.trusted_proxies),
        "forwarded_allow_ips": spelled_out(settings.trusted_proxies),
    }
