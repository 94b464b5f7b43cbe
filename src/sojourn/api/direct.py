"""The direct lane: hot calls answered by the protocol itself, with neither a task nor ASGI between.

A hot call asks the batcher once, which needs no task: the batcher calls back with the outcome, and the
answer is written in the same moment. What cannot be had like that (a step that is not the batcher's)
goes on in a task from there. The two parts of a call are those of the other lanes, so the bytes of
the answer are the same.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from sojourn.api.call import OVERLOADED, UNHEARD, excuse
from sojourn.api.fast import FastLane
from sojourn.api.limits import too_slow
from sojourn.api.metrics import Tally
from sojourn.api.steps import Asked, Hot, Incoming, Step
from sojourn.service.batcher import Item
from sojourn.service.caller import Abandoned, Caller
from sojourn.wire.reply import Headers, Reply

DIRECT_MAX = 16_384
"""Bytes of the largest body that is taken here. Larger ones, and those of unknown size, take the lane
that can refuse them while they arrive."""


class Connection(Protocol):
    """What this lane needs of a connection."""

    url: bytes
    headers: Headers
    caller: Caller
    client: Any
    parser: Any
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    server_state: Any
    tasks: set[Any]

    def on_response_complete(self) -> None: ...


class Lane:
    """Tells which requests are taken here."""

    def __init__(self, fast: FastLane, *, proxied: bool) -> None:
        self.fast = fast
        self._proxied = proxied

    @classmethod
    def before(cls, app: Any) -> Lane | None:
        """Return the lane before an application; None if it is not ours.

        Behind proxies that are trusted, clients' addresses come from headers, which it leaves to others.
        """
        return cls(app, proxied=app.hops is not None) if isinstance(app, FastLane) else None

    def enter(
        self, connection: Connection, method: bytes, by_name: dict[bytes, bytes]
    ) -> Direct | None:
        """Return the request whose headers have arrived, if it is one for this lane."""
        query = b""
        found = self.fast.find(method, connection.url)
        if found is None:
            path, _, query = connection.url.partition(b"?")
            found = self.fast.find(method, path)
        if found is None:
            return None
        call, tally, pieces = found
        if call.hot is None or (self._proxied and call.looks_at_client):
            return None
        if self.fast.context.services.batcher.refuses(keeps=call.hot.keeps):
            return Direct(connection, self.fast, call.hot, tally, None)
        incoming = Incoming(connection.headers, query, pieces, connection.client, by_name)
        return Direct(connection, self.fast, call.hot, tally, incoming)


class _Unheard:
    """An event that nobody waits for."""

    def set(self) -> None:
        return


class Direct:
    """One request. To the protocol it looks like uvicorn's cycle. Without `incoming` there is no room for
    it, and it is refused as it is."""

    __slots__ = (
        "_asked",
        "_began",
        "_connection",
        "_fast",
        "_hot",
        "_incoming",
        "_tally",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
    )

    message_event = _Unheard()

    def __init__(
        self,
        connection: Connection,
        fast: FastLane,
        hot: Hot,
        tally: Tally,
        incoming: Incoming | None,
    ) -> None:
        self._connection = connection
        self._fast = fast
        self._hot = hot
        self._tally = tally
        self._incoming = incoming
        self._began = time.perf_counter()
        self._asked: Item | None = None  # what the batcher has not answered yet
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        # As in the other lanes, a connection of HTTP/1.0 ends with its answer, whatever it asks for.
        parser = connection.parser
        self.keep_alive: bool = parser.should_keep_alive() and parser.get_http_version() != "1.0"

    def start(self) -> None:
        """Carry the call out: the body has arrived."""
        context, connection = self._fast.context, self._connection
        if self._incoming is None:
            self._refuse()
            return
        try:
            step = self._hot.ask(context, self._incoming, self.body)
            if type(step) is not Asked:
                self._hand_over(step)
                return
            self._asked = context.services.batcher.put(
                step.verb, step.request, self._answered, connection.caller
            )
        except Exception as fault:  # noqa: BLE001 - the last resort
            self._finish(excuse(fault))
            return
        context.deadlines.watch(self, connection.loop)
        connection.tasks.add(self)

    def give_up(self) -> None:
        """Answer that the store took too long. What has not begun by now never does."""
        if self._asked is not None:
            self._fast.context.services.batcher.withdraw(self._asked)
            self._answered(too_slow())

    def abandon(self) -> None:
        """Note that the client has hung up. What has not begun by now never does."""
        self.disconnected = True
        if self._asked is not None and self._fast.context.services.batcher.withdraw(self._asked):
            self._answered(Abandoned())

    def cancel(self, msg: str | None = None) -> None:
        """Answer that the server stops. It asks this of all its tasks, of which this looks like one,
        and none of them may leave while it does."""
        self._connection.loop.call_soon(self._answered, asyncio.CancelledError(msg))

    def _answered(self, outcome: Any) -> None:
        """Tell the outcome."""
        if self._asked is None:
            return  # given up before
        self._asked = None
        if type(outcome) is Abandoned:
            self.disconnected = True
        context = self._fast.context
        context.deadlines.forget(self)
        self._connection.tasks.discard(self)
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            reply = self._hot.tell(context, outcome)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - the last resort
            reply = excuse(fault)
        self._finish(reply)

    def _hand_over(self, step: Step) -> None:
        """Go on in a task."""
        tasks = self._connection.tasks
        task = self._connection.loop.create_task(self._go_on(step))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _go_on(self, step: Step) -> None:
        try:
            reply = await self._hot.walk(self._fast.context, step, self._connection.caller)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - the last resort
            reply = excuse(fault)
        self._finish(reply)

    def _refuse(self) -> None:
        """Say that there is no room: as cheaply as can be, for it is said when there is most to do."""
        connection = self._connection
        self._write(
            self._fast.render_constant(
                OVERLOADED, connection.server_state.default_headers, close=not self.keep_alive
            )
        )
        self._tally.add(OVERLOADED.code, time.perf_counter() - self._began)

    def _finish(self, reply: Reply) -> None:
        self._tally.add(reply.code, time.perf_counter() - self._began)
        if self.disconnected or reply is UNHEARD:
            return
        headers = self._connection.server_state.default_headers
        self._write(self._fast.render(reply, headers, close=not self.keep_alive))

    def _write(self, answer: bytes) -> None:
        connection = self._connection
        self.response_started = self.response_complete = True
        connection.transport.write(answer)
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()
