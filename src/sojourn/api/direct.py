"""The direct lane: hot calls answered by the protocol itself, with neither a task nor ASGI between.

A hot call is steps that ask the batcher once. Walking them needs no task: the batcher calls back with
the outcome, and the answer is written in the same moment. What cannot be had like that (a step that
is not the batcher's) goes on in a task from there. The steps are those of the other lanes, so the
bytes of the answer are the same.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from sojourn.api.call import Call, excuse
from sojourn.api.fast import FastLane
from sojourn.api.limits import too_slow
from sojourn.api.metrics import Tally
from sojourn.api.reply import Headers, Reply, render
from sojourn.api.steps import Asked, Step, Steps, walk
from sojourn.errors import SojournError

DIRECT_MAX = 16_384
"""Bytes of the largest body that is taken here. Larger ones, and those of unknown size, take the lane
that can refuse them while they arrive."""


class Connection(Protocol):
    """What this lane needs of a connection."""

    url: bytes
    headers: Headers
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

        uvicorn may have wrapped it, to take clients' addresses from proxies.
        """
        inner = getattr(app, "app", app)
        return cls(inner, proxied=inner is not app) if isinstance(inner, FastLane) else None

    def enter(self, connection: Connection) -> Direct | None:
        """Return the request whose headers have arrived, if it is one for this lane."""
        path, _, query = connection.url.partition(b"?")
        found = self.fast.find(path, connection.parser.get_method().decode("ascii"))
        if found is None:
            return None
        call, tally, session_id = found
        if call.steps is None or (self._proxied and call.looks_at_client):
            return None
        scope = {
            "headers": connection.headers,
            "client": connection.client,
            "query_string": query,
            "path_params": {} if session_id is None else {"sessionId": session_id},
        }
        return Direct(connection, self.fast, call, tally, scope)


class _Unheard:
    """An event that nobody waits for."""

    def set(self) -> None:
        return


class Direct:
    """One request. To the protocol it looks like uvicorn's cycle."""

    __slots__ = (
        "_began",
        "_call",
        "_connection",
        "_fast",
        "_scope",
        "_steps",
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
        self, connection: Connection, fast: FastLane, call: Call, tally: Tally, scope: Any
    ) -> None:
        self._connection = connection
        self._fast = fast
        self._call = call
        self._tally = tally
        self._scope = scope
        self._began = time.perf_counter()
        self._steps: Steps[Reply] | None = None
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self.keep_alive: bool = connection.parser.should_keep_alive()

    def start(self) -> None:
        """Carry the call out: the body has arrived."""
        context = self._fast.context
        assert self._call.steps is not None  # else it would not be here
        try:
            self._steps = self._call.steps(context, self._scope, self.body)
            step = next(self._steps)
        except StopIteration as end:
            self._finish(end.value)
        except Exception as fault:  # noqa: BLE001 - the last resort
            self._finish(excuse(fault))
        else:
            self._wait(step)

    def _wait(self, step: Step) -> None:
        context = self._fast.context
        if not isinstance(step, Asked):
            self._hand_over(step)
            return
        try:
            context.services.batcher.put(step.verb, step.request, self._answered)
        except SojournError as fault:
            self._answered(fault)
        else:
            context.deadlines.watch(self, self._connection.loop)
            self._connection.tasks.add(self)

    def give_up(self) -> None:
        """Answer that the store took too long."""
        self._answered(too_slow())

    def cancel(self, msg: str | None = None) -> None:
        """Answer that the server stops. It asks this of all its tasks, of which this looks like one,
        and none of them may leave while it does."""
        self._connection.loop.call_soon(self._answered, asyncio.CancelledError(msg))

    def _answered(self, outcome: Any) -> None:
        """Go on with the outcome of the step."""
        self._fast.context.deadlines.forget(self)
        self._connection.tasks.discard(self)
        steps = self._steps
        if steps is None:
            return  # given up before
        try:
            failed = isinstance(outcome, BaseException)
            step = steps.throw(outcome) if failed else steps.send(outcome)
        except StopIteration as end:
            self._finish(end.value)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - the last resort
            self._finish(excuse(fault))
        else:
            self._wait(step)

    def _hand_over(self, step: Step) -> None:
        """Go on in a task."""
        tasks = self._connection.tasks
        task = self._connection.loop.create_task(self._go_on(step))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _go_on(self, step: Step) -> None:
        assert self._steps is not None  # it has yielded this step
        try:
            reply = await walk(self._steps, self._fast.context, step)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - the last resort
            reply = excuse(fault)
        self._finish(reply)

    def _finish(self, reply: Reply) -> None:
        self._steps = None
        self._tally.add(reply.code, time.perf_counter() - self._began)
        if self.disconnected:
            return
        connection = self._connection
        self.response_started = self.response_complete = True
        headers = connection.server_state.default_headers
        connection.transport.write(render(reply, headers, close=not self.keep_alive))
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()
