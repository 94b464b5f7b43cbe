"""How uvicorn is to serve the application."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from functools import partial
from typing import Any

import uvicorn

from sojourn.api.files import allow_files
from sojourn.api.lanes import FastLane
from sojourn.api.limits import DATA_BODY_MAX
from sojourn.api.memory import keep_few_large_blocks
from sojourn.api.protocol import KEEP_ALIVE, STOP_GRACE, Bounds, GuardedProtocol
from sojourn.api.sockets import GuardedSocket
from sojourn.settings import Settings

try:
    import uvloop  # noqa: F401 - asked for by name below
except ImportError:  # no wheel for Windows
    LOOP = "asyncio"
else:
    LOOP = "uvloop"


BACKLOG = 2_048
"""Connections that the system accepts for us while we are busy."""
MESSAGE_MAX = 16_384
"""Bytes of a message that a WebSocket's client may send."""


COLLECT_AFTER = 10_000
"""Objects made and not yet gone until Python looks for cycles among them: a burst of requests holds more
than its 700, and nothing on their way makes cycles."""

SWITCH_INTERVAL = 0.0005
"""Seconds for which a thread may keep the interpreter while another waits for it. uvloop gives it back
between any two connections that it reads, so with Python's 5 ms a busy runner let the event loop read no
more than 200 requests a second beside it; what is refused under overload then took 0.1 s."""


def settle_down() -> None:
    """Make ready for serving, in a process that does nothing else.

    What the program itself consists of is taken out of the garbage collector's rounds: each full one would
    walk it, which takes tens of ms, during which nobody is answered. Threads take turns more often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
    sys.setswitchinterval(SWITCH_INTERVAL)
    keep_few_large_blocks()
    allow_files()


def server_config(settings: Settings) -> dict[str, Any]:
    """Return keyword arguments for `uvicorn.Config`, besides the application itself.

    They survive pickling, so that uvicorn may hand them to worker processes.
    """
    bounds = Bounds(
        header_max=settings.header_max,
        body_max=max(settings.body_max, DATA_BODY_MAX),  # each call has a bound of its own
        receive_timeout=settings.request_timeout,
        stop_grace=min(STOP_GRACE, settings.shutdown_timeout / 2),
    )
    return {
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "backlog": BACKLOG,
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


class Server(uvicorn.Server):
    """Serves until it is told to stop, and then cuts nobody off.

    It listens once the application has started: until then clients are refused, and know it.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take in who has connected already, then stop as uvicorn does: listen no longer, answer, end."""
        accepted = [each for listener in sockets or () for each in _accept(listener)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for each in accepted:
            await loop.connect_accepted_socket(self._protocol, each)
        if isinstance(self.config.loaded_app, FastLane):
            self.config.loaded_app.drain()
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        config = self.config
        made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]  # it is ours
            config=config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def _accept(listener: socket.socket) -> list[socket.socket]:
    """Take the connections that the system has accepted for us: closing the listener would reset them."""
    listener.setblocking(False)
    taken: list[socket.socket] = []
    while len(taken) < BACKLOG:
        try:
            connection, _ = listener.accept()
        except OSError:  # there is none left
            return taken
        connection.setblocking(False)
        taken.append(connection)
    return taken
