"""The live list of what happens, sent to one open page as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sojourn.api.streams import EVENTS, hung_up
from sojourn.console.doctor import event
from sojourn.console.feed import Feed
from sojourn.console.frame import HEADERS

LOOK = 1.0
"""Seconds after which a stream at which nothing happens looks whether the server stops."""
KEEP_ALIVE = 20.0
"""Seconds between two looks whether its operator is still signed in; proxies see a comment as often."""
LASTS = 600.0
"""Seconds after which a stream ends; the page opens another."""
ALIVE = b": alive\n\n"
OVER = b"event: over\ndata: over\n\n"
"""The operator is not signed in any more: the page must not come again."""


class FeedStream:
    """An ASGI application. `still` says whether its operator is still there, `stops` whether the server is
    about to end."""

    def __init__(
        self,
        feed: Feed,
        choice: str,
        key_id: str,
        *,
        still: Callable[[], Awaitable[bool]],
        stops: Callable[[], bool],
    ) -> None:
        self._feed = feed
        self._choice = choice
        self._key_id = key_id
        self._still = still
        self._stops = stops

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", EVENTS)]
        headers += [(n.lower().encode(), v.encode()) for n, v in HEADERS if n != "Content-Type"]
        headers.append(
            (b"x-accel-buffering", b"no")
        )  # a proxy that gathers answers would show nothing
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = asyncio.create_task(hung_up(receive))
        try:
            async for piece in self._pieces(left):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        finally:
            left.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self, left: asyncio.Task[None]) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        ends, looks = clock() + LASTS, clock() + KEEP_ALIVE
        with self._feed.listen(self._choice, self._key_id) as page:
            while not left.done() and not self._stops() and clock() < ends:
                if clock() >= looks:
                    looks = clock() + KEEP_ALIVE
                    if not await self._still():
                        yield OVER
                        return
                    yield ALIVE
                if page.news is not None:
                    news, page.news = page.news, None
                    yield event(news.decode())
                await _woken(page.wake, left)


async def _woken(wake: asyncio.Event, left: asyncio.Task[None]) -> None:
    """Wait until there is news, the page has gone, or LOOK is over."""
    waits = asyncio.ensure_future(wake.wait())
    try:
        await asyncio.wait({waits, left}, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waits.cancel()
    wake.clear()
