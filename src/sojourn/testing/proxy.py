"""A faulty network between a program and its server, on demand.

    with FaultProxy(postgres_url) as proxy:
        store = open_store(proxy.url)
        proxy.drop_response(matching=b"COMMIT")

Every mode is in force, for open connections and for new ones, when the call that sets it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

CHUNK = 65_536  # bytes
CALL_TIMEOUT = 10.0  # seconds
HOST = "127.0.0.1"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close sends a reset


class Mode(StrEnum):
    PASS = "pass"
    LATENCY = "latency"
    BLACKHOLE = "blackhole"
    HOLD = "hold"
    RESET = "reset"
    REFUSE = "refuse"
    DROP_RESPONSE = "drop_response"


class Link:
    """One client's connection and the server's side of it, once there is one."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.doomed = False  # its next response is to be dropped
        self.asked = False  # and has not been answered yet

    def reset(self) -> None:
        for side in (self.client, self.server):
            if side is not None and not side.transport.is_closing():
                raw = side.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                side.transport.abort()

    def close(self) -> None:
        for side in (self.client, self.server):
            if side is not None:
                side.close()


class FaultProxy:
    """Stands before the server of `url`; `self.url` is the same URL, by way of the proxy.

    Its thread runs from `__enter__` to `__exit__`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.port is None:
            raise ValueError(f"the URL names no port: {url}")
        self._target = (parts.hostname or HOST, parts.port)
        self._parts = parts
        self._mode = Mode.PASS
        self._delay = 0.0
        self._matching = b""
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._requests_flow, self._responses_flow = asyncio.Event(), asyncio.Event()
        self._dropped = threading.Event()
        self._held = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self.port = 0  # known from `__enter__` on
        self.turns = 0
        """Round trips: how often somebody has said something after an answer, or for the first time."""

    @property
    def url(self) -> str:
        user, at, _ = self._parts.netloc.rpartition("@")
        return self._parts._replace(netloc=f"{user}{at}{HOST}:{self.port}").geturl()

    def __enter__(self) -> Self:
        self._thread.start()
        self._set(Mode.PASS)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self._loop.close()

    def pass_through(self) -> None:
        """Heal: what a black hole held arrives now, as TCP would have it."""
        self._set(Mode.PASS)

    def lead_to(self, url: str) -> None:
        """Bring new connections to another server, as a name does after a failover; those that there are
        stay with the one they have."""
        parts = urlsplit(url)
        if parts.port is None:
            raise ValueError(f"the URL names no port: {url}")
        self._target = (parts.hostname or HOST, parts.port)

    def latency(self, seconds: float) -> None:
        """Keep everything that is sent for so long, in each direction."""
        self._set(Mode.LATENCY, delay=seconds)

    def blackhole(self, *, requests: bool = True, responses: bool = True) -> None:
        """Let nothing through and close nothing, like a cable that was pulled.

        One way alone, and what is sent the other way arrives: a route that is broken in one direction.
        """
        self._set(Mode.BLACKHOLE, held=(requests, responses))

    def hold(self, *, matching: bytes) -> None:
        """Become a black hole with the first request that holds `matching`: it does not arrive."""
        self._held.clear()
        self._set(Mode.HOLD, matching=matching)

    def wait_held(self, timeout: float = CALL_TIMEOUT) -> bool:
        """Wait until such a request was held; tell whether one was."""
        return self._held.wait(timeout)

    def reset(self) -> None:
        """Reset open connections, and new ones as soon as they are made."""
        self._set(Mode.RESET)

    def refuse(self) -> None:
        """Reset open connections and refuse new ones, like a server that is down."""
        self._set(Mode.REFUSE)

    def cut(self) -> None:
        """Reset open connections; the mode stays, and new ones may be made."""
        self._call(self._cut())

    def drop_response(self, *, matching: bytes = b"") -> None:
        """Pass a request on, and reset its connection when the server begins to answer.

        The server has acted; the caller cannot know. Only requests that hold `matching` are meant.
        """
        self._dropped.clear()
        self._set(Mode.DROP_RESPONSE, matching=matching)

    def wait_dropped(self, timeout: float = CALL_TIMEOUT) -> bool:
        """Wait until a response was dropped; tell whether one was."""
        return self._dropped.wait(timeout)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT)

    def _set(
        self,
        mode: Mode,
        *,
        delay: float = 0.0,
        matching: bytes = b"",
        held: tuple[bool, bool] = (False, False),
    ) -> None:
        self._call(self._switch(mode, delay, matching, held))

    async def _switch(
        self, mode: Mode, delay: float, matching: bytes, held: tuple[bool, bool]
    ) -> None:
        self._mode, self._delay, self._matching = mode, delay, matching
        for flow, holds in zip((self._requests_flow, self._responses_flow), held, strict=True):
            if holds:
                flow.clear()
            else:
                flow.set()
        if mode in (Mode.RESET, Mode.REFUSE):
            await self._cut()
        if mode is Mode.REFUSE:
            self._deafen()
        elif self._listener is None:
            self._listener = await asyncio.start_server(self._accept, HOST, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    def _deafen(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _cut(self) -> None:
        for link in tuple(self._links):
            link.reset()

    async def _shut(self) -> None:
        self._deafen()
        await self._cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer)
        self._links.add(link)
        try:
            if self._mode is Mode.RESET:
                raise ConnectionResetError
            await self._requests_flow.wait()
            answers, link.server = await asyncio.open_connection(*self._target)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._requests(reader, link.server, link))
                pumps.create_task(self._responses(answers, writer, link))
        except* OSError:
            link.reset()  # one side hung up, or the server is down: tell the other side
        finally:
            self._links.discard(link)
            link.close()

    async def _requests(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: Link
    ) -> None:
        while chunk := await self._next(source, self._requests_flow):
            self.turns += not link.asked
            link.asked = True
            if self._mode is Mode.DROP_RESPONSE and self._matching in chunk:
                link.doomed = True
            if self._mode is Mode.HOLD and self._matching in chunk:
                self._mode = Mode.BLACKHOLE
                self._requests_flow.clear()
                self._responses_flow.clear()
                self._held.set()
                await self._requests_flow.wait()
            sink.write(chunk)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()

    async def _responses(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: Link
    ) -> None:
        while chunk := await self._next(source, self._responses_flow):
            link.asked = False
            if link.doomed:
                self._dropped.set()
                raise ConnectionResetError
            sink.write(chunk)
            await sink.drain()
        with contextlib.suppress(OSError):
            sink.write_eof()

    async def _next(self, source: asyncio.StreamReader, flow: asyncio.Event) -> bytes:
        """Read what was sent, and keep it for as long as the mode demands."""
        chunk = await source.read(CHUNK)
        await flow.wait()
        if self._delay:
            await asyncio.sleep(self._delay)
        return chunk
