"""A network cable for each person, which can be pulled and plugged in again.

A pulled cable lets nothing through and closes nothing: neither side is told, as with a dead Wi-Fi.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

CHUNK = 65_536  # bytes
CALL_TIMEOUT = 10.0  # seconds
HOST = "127.0.0.1"

T = TypeVar("T")


class Cable:
    """One person's way to the server."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._plugged = asyncio.Event()
        self._plugged.set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def pull(self) -> None:
        self._network.call(self._pull())

    def plug(self) -> None:
        """Mend: what was held back arrives now, as TCP would have it."""
        self._network.call(self._plug())

    async def _pull(self) -> None:
        self._plugged.clear()

    async def _plug(self) -> None:
        self._plugged.set()

    async def lay(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._plugged.wait()
            answers, requests = await asyncio.open_connection(*self._network.target)
            pumps = (self._pump(reader, requests), self._pump(answers, writer))
            await asyncio.gather(*pumps, return_exceptions=True)
        writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(CHUNK):
                await self._plugged.wait()
                sink.write(chunk)
                await sink.drain()
        finally:
            sink.close()


class Network:
    """All cables, on a thread of their own."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self._cables: list[Cable] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="demo-network")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT)
        self._loop.close()

    def cable(self) -> Cable:
        """Lay a new cable."""
        cable = Cable(self)
        self.call(cable.lay())
        self._cables.append(cable)
        return cable

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT)

    async def _close(self) -> None:
        for cable in self._cables:
            await cable.close()
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
