"""Answers that are sent piece by piece, while something goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from sojourn.api.doctor import PATIENCE, changes
from sojourn.clock import host_now
from sojourn.console.doctor import Stream
from sojourn.console.frame import HEADERS
from sojourn.doctor.runs import Run

EVENTS = b"text/event-stream; charset=utf-8"


class RunStream:
    """Tells a run of doctor's to one open page, as server-sent events. An ASGI application.

    The answer to the very request that asked for the run, so that it comes from the process that carries
    it out, however many there are. A page that is closed meanwhile stops listening, and nothing else.
    """

    def __init__(self, stream: Stream, run: Run) -> None:
        self._stream = stream
        self._run = run

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", EVENTS)]
        headers += [(n.lower().encode(), v.encode()) for n, v in HEADERS if n != "Content-Type"]
        # A proxy that gathers answers (nginx) would show everything at the end.
        headers.append((b"x-accel-buffering", b"no"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = asyncio.create_task(hung_up(receive))
        try:
            async with asyncio.timeout(PATIENCE):
                async for piece in self._pieces():
                    if left.done():
                        return
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError:
            pass  # the page says that it hears nothing any more
        finally:
            left.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncIterator[bytes]:
        async for _ in changes(self._run):
            yield self._stream.news(host_now())
        yield self._stream.end(host_now())


async def hung_up(receive: Any) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
