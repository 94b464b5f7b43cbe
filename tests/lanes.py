"""One server that answers by the lane that is chosen: directly, by plain ASGI, or by the framework."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.api_harness import Served, World, served

from sojourn.api.protocol import Bounds, GuardedProtocol

LANES = ("direct", "asgi", "framework")
TIMEOUT = 20.0  # seconds until a test gives up
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""Sent after each request: the connection ends with its answer, unless it has ended before."""
_LIVES_ON = re.compile(rb'"expiresIn":[0-9.]+')
_LENGTH = re.compile(rb"(?m)^content-length: [0-9]+\r\n", re.IGNORECASE)
_CHANGING = re.compile(rb"(?m)^date: [^\r]*\r\n|urn:uuid:[0-9a-f-]{36}", re.IGNORECASE)


class BatcherPerLoop:
    """A server, and which of its lanes takes what comes on new connections."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chosen = LANES[0]
        self.served: Served | None = None

    def answer(self, lane: str, request: bytes) -> bytes:
        """Send bytes over a connection of their own; return all that comes back, but for dates and ids."""
        self.chosen = lane
        assert self.served is not None
        with self.served.connect(TIMEOUT) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(request + LAST)
            said = _CHANGING.sub(b"", read_all(connection))
        # How long a lease lives on is told to the millisecond in which it is, and so as long as that takes.
        return _LENGTH.sub(b"", _LIVES_ON.sub(b"", said)) if _LIVES_ON.search(said) else said


def read_all(connection: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            said += piece
    return said


@contextlib.contextmanager
def lanes(**settings: Any) -> Iterator[BatcherPerLoop]:
    world = World(**settings)
    made = BatcherPerLoop(world)
    find = world.app.find

    def found(method: bytes, path: bytes) -> Any:
        return None if made.chosen == "framework" else find(method, path)

    vars(world.app)["find"] = found

    class Choosing(GuardedProtocol):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            if made.chosen != "direct":
                self._lane = None

    timeout = world.settings.request_timeout
    bounds = Bounds(header_max=4_096, body_max=4_096, receive_timeout=timeout)
    with served(world, http=partial(Choosing, bounds=bounds)) as made.served:
        yield made
