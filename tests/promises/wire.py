"""Raw HTTP/1.1 over kept-alive connections, as cheap as Python can: thousands of requests a second.

It understands what our servers send: a status line, headers, Content-Length. A caller has one connection
at a time, goes to another server when one fails, and closes when it is told `Connection: close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import NamedTuple, cast

HOST = "127.0.0.1"
CONNECT_TIMEOUT = 1.0  # seconds
HOME_EVERY = 64  # requests after which a caller that fled goes back to its own server
ANSWER_MAX = 1 << 20  # bytes


class Exchange(NamedTuple):
    """One request: see `history.Record`.

    `why` says why there is no answer: timeout; reset; fresh, a reset before anything was answered on this
    connection; abandoned; refused, and then nothing was sent. Far clients' begin with `far-`: between
    them and the server is a proxy, which resets where a server would refuse.
    """

    server: int
    sent: float
    done: float | None
    closed: float
    status: int
    body: bytes
    why: str


class Line(asyncio.Protocol):
    """One connection, with one request under way at most."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.asked: asyncio.Future[tuple[int, bytes] | None] | None = None  # until it is answered
        self.buffer = b""
        self.answers = 0
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer = self.buffer + data if self.buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(buffer) < end + 4 + length:
            if len(buffer) > ANSWER_MAX:
                self.close()
            return
        self.buffer = b""
        self.answers += 1
        if b"connection: close" in head:
            self.usable = False
        self._tell((int(buffer[9:12]), buffer[end + 4 : end + 4 + length]))

    def eof_received(self) -> None:
        self.usable = False

    def connection_lost(self, _exc: Exception | None) -> None:
        self.usable = False
        self._tell(None)

    def _tell(self, answer: tuple[int, bytes] | None) -> None:
        waiter, self.asked = self.asked, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def close(self) -> None:
        self.usable = False
        if self.transport is not None:
            self.transport.abort()


class Caller:
    """One client's way to the servers: `ports`, its own first at `home`."""

    def __init__(self, ports: list[int], home: int, *, far: bool = False) -> None:
        self.ports = ports
        self.far = far
        self.home = home % len(ports)
        self.at = self.home
        self.line: Line | None = None
        self.asked = 0

    async def call(self, request: bytes, patience: float) -> Exchange:
        """Send a request and wait for its answer."""
        line = await self._connected()
        if line is None or line.transport is None or line.transport.is_closing():
            self._hang_up()
            return self._unsent()
        server, loop = self.at, asyncio.get_running_loop()
        waiter: asyncio.Future[tuple[int, bytes] | None] = loop.create_future()
        line.asked = waiter
        line.transport.write(request)
        sent = time.monotonic()
        deadline = loop.call_later(patience, _settle, waiter)
        answer = await waiter
        deadline.cancel()
        closed = time.monotonic()
        if answer is None:
            why = "timeout" if waiter is line.asked else ("reset" if line.answers else "fresh")
            self._flee()
            return Exchange(server, sent, None, closed, 0, b"", f"far-{why}" if self.far else why)
        status, body = answer
        if not line.usable:
            self._hang_up()
        if status == 503:
            self._flee()
        return Exchange(server, sent, closed, closed, status, body, "")

    def _unsent(self) -> Exchange:
        now, server = time.monotonic(), self.at
        self.at = (self.at + 1) % len(self.ports)
        return Exchange(server, now, None, now, 0, b"", "refused")

    async def send_and_close(self, request: bytes) -> Exchange:
        """Send a request, and hang up at once."""
        line = await self._connected()
        if line is None or line.transport is None or line.transport.is_closing():
            self._hang_up()
            return self._unsent()
        line.transport.write(request)
        sent = time.monotonic()
        line.transport.close()
        line.usable = False
        self.line = None
        return Exchange(self.at, sent, None, time.monotonic(), 0, b"", "abandoned")

    async def _connected(self) -> Line | None:
        self.asked += 1
        if self.asked % HOME_EVERY == 0 and self.at != self.home:
            self._hang_up()
            self.at = self.home
        if self.line is not None and self.line.usable:
            return self.line
        self._hang_up()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, TimeoutError):
            _, self.line = await asyncio.wait_for(
                loop.create_connection(Line, HOST, self.ports[self.at]), CONNECT_TIMEOUT
            )
            return self.line
        return None

    def _hang_up(self) -> None:
        line, self.line = self.line, None
        if line is not None:
            line.close()

    def _flee(self) -> None:
        self._hang_up()
        self.at = (self.at + 1) % len(self.ports)

    def close(self) -> None:
        self._hang_up()


def _settle(waiter: asyncio.Future[tuple[int, bytes] | None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def request(
    method: str,
    path: str,
    *,
    bearer: str,
    body: bytes = b"",
    session: str = "",
    key: str = "",
) -> bytes:
    """Write one request. `key`: an Idempotency-Key."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {bearer}\r\n"
    if session:
        head += f"X-Session-Token: {session}\r\n"
    if key:
        head += f"Idempotency-Key: {key}\r\n"
    if body:
        head += "Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
