"""Bounds on what one caller can cost: bodies, headers that matter, waiting, threads.

What must be bounded before a request has even been received is in `protocol`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from sojourn.errors import InvalidInput, Overloaded, SojournError, StoreUnavailable
from sojourn.service.batcher import Batcher
from sojourn.service.caller import Abandoned, Caller
from sojourn.session import DATA_MAX

T = TypeVar("T")

THREADS = 4
"""Threads for calls that are not hot. They spend their time waiting for the database."""
WAITING_MAX = 64
"""Such calls accepted and not yet answered; more are turned away at once."""


DATA_BODY_MAX = DATA_MAX + 65_536
"""Bytes of a body that may carry a session's data: what a session holds in an application's own process it
holds against a server, too."""


async def read_body(receive: Callable[[], Any], content_type: bytes, body_max: int) -> bytes:
    """Return the whole body. Raises InvalidInput as soon as it is too large, or not JSON."""
    body = await read_whole(receive, body_max)
    check_body(body, content_type, body_max)
    return body


async def read_whole(receive: Callable[[], Any], body_max: int) -> bytes:
    """Return the whole body, whatever it is. Raises InvalidInput if it is cut off, or too large."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body", False) or message["type"] != "http.request":
        return await _read_on(receive, message, body_max)
    if len(body) > body_max:
        raise too_large(body_max)
    return body


def check_body(body: bytes, content_type: bytes, body_max: int) -> None:
    """Raise InvalidInput if a body is too large, or not JSON."""
    if len(body) > body_max:
        raise too_large(body_max)
    if body and content_type != b"application/json":
        _check_type(content_type)


async def _read_on(receive: Callable[[], Any], message: Any, body_max: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":  # the client hung up; nobody will read our answer
            raise InvalidInput("The request was cut off.")
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > body_max:
            raise too_large(body_max)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def _check_type(content_type: bytes) -> None:
    kind = content_type.partition(b";")[0].strip().lower()
    if kind and kind != b"application/json":
        raise InvalidInput(
            "The body is not JSON.",
            code="unsupported_media_type",
            hint="Send `Content-Type: application/json`.",
        )


def too_large(body_max: int) -> InvalidInput:
    return InvalidInput(
        f"The body is larger than {body_max} bytes.",
        code="body_too_large",
        hint="Only a session's data may need so much: then raise SOJOURN_BODY_MAX.",
    )


class Blocking:
    """A few threads for calls that wait for a database, and a bound on how many may wait for those."""

    def __init__(self, *, threads: int = THREADS, waiting_max: int = WAITING_MAX) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sojourn-call")
        self._waiting_max = waiting_max
        self.busy = 0

    async def run(
        self, patience: float, work: Callable[..., T], *args: Any, caller: Caller | None = None
    ) -> T:
        """Run `work` on a thread; wait for it at most `patience` seconds.

        Past that work that has begun goes on, and keeps its place: a slow database must not be asked
        more and more. What has not begun never does, nor when its caller has hung up by then: that
        raises Abandoned.
        """
        if self.busy >= self._waiting_max:
            raise Overloaded("The server has more calls waiting than it can serve in time.")

        def begin() -> T:
            if caller is not None and caller.hung_up():
                raise Abandoned
            return work(*args)

        begun = self._pool.submit(begin)
        future = asyncio.wrap_future(begun)
        self.busy += 1
        future.add_done_callback(self._ended)
        await asyncio.wait({future}, timeout=patience)
        if not future.done():
            begun.cancel()
            raise too_slow()
        return future.result()

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self.busy -= 1
        if not future.cancelled():
            future.exception()  # looked at, for its caller may have gone

    async def close(self) -> None:
        """End what has not begun, and wait for the rest."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)


class Waiter(Protocol):
    """Somebody who waits for an answer."""

    def give_up(self) -> None:
        """Wait no longer."""


class Deadlines:
    """Gives up on answers that take too long, with one timer for all of them.

    A timer per request would cost more than the request; nobody needs this deadline to the tick.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._tick = max(0.01, patience / 10)
        self._since: dict[Waiter, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, future: asyncio.Future[T]) -> T:
        """Await a future. Raises StoreUnavailable when it takes too long."""
        waiter = _Awaiting(future)
        self.watch(waiter, future.get_loop())
        try:
            return await future
        finally:
            self.forget(waiter)

    def watch(self, waiter: Waiter, loop: asyncio.AbstractEventLoop) -> None:
        """Tell somebody to give up when they have waited for too long, unless they are forgotten."""
        self._since[waiter] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._tick, self._give_up)

    def forget(self, waiter: Waiter) -> None:
        self._since.pop(waiter, None)

    def _give_up(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._patience
        late = []
        for waiter, since in self._since.items():  # oldest first
            if since > latest:
                break
            late.append(waiter)
        for waiter in late:
            waiter.give_up()
        self._timer = loop.call_later(self._tick, self._give_up) if self._since else None


class _Awaiting:
    """A task that awaits a future."""

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    def give_up(self) -> None:
        if not self._future.done():
            self._future.set_exception(too_slow())


def too_slow() -> StoreUnavailable:
    return StoreUnavailable(
        "The store did not answer in time. Whether this was carried out is not known.",
        hint="Ask again: acquire, heartbeat and release, and the check, the end and the list of sessions "
        "may all be repeated safely.",
    )


async def carry(
    batcher: Batcher, verb: str, requests: Sequence[Any], *, patience: float
) -> list[Any]:
    """Put requests into the batcher, together; return their outcomes, None where the store did not take one
    within `patience` seconds."""
    asked: list[asyncio.Future[Any] | None] = []
    for request in requests:
        try:
            asked.append(batcher.submit(verb, request))
        except SojournError:
            asked.append(None)
    waited = [each for each in asked if each is not None]
    if waited:
        await asyncio.wait(waited, timeout=patience)
    outcomes = []
    for each in asked:
        if each is not None and not each.done():
            each.cancel()  # what has not begun never does
        failed = each is None or each.cancelled() or each.exception() is not None
        outcomes.append(None if failed or each is None else each.result())
    return outcomes
