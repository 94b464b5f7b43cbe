"""The two lanes that answer hot calls: the protocol's own, and plain ASGI.

The direct lane asks the batcher once, which needs no task: the batcher calls back with the outcome, and
the answer is written in the same moment. What cannot be had like that (a step that is not the batcher's)
goes on in a task from there. The ASGI lane does it all in a task. Both run the same two functions of a call
(`api.hot`), so the bytes of the answer are the same (ADR 18).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol, TypeAlias

from sojourn.api.apart import Apart
from sojourn.api.call import UNHEARD, answer, excuse
from sojourn.api.context import Context
from sojourn.api.cross_origin import ORIGIN
from sojourn.api.hot import OVERLOADED, Awaited, BatchRequest, Hot, HotCall, HotStep
from sojourn.api.incoming import Incoming
from sojourn.api.limits import too_slow
from sojourn.api.metrics import Tally
from sojourn.api.render import Renderer
from sojourn.api.router import originated, raw_path
from sojourn.errors import SojournError
from sojourn.origin import TrustedHops
from sojourn.service.batcher import Item
from sojourn.service.caller import Abandoned, Caller
from sojourn.wire.reply import Headers, Reply

DIRECT_MAX = 16_384
"""Bytes of the largest body that the direct lane takes. Larger ones, and those of unknown size, take the
lane that can refuse them while they arrive."""
FORWARDED_FOR = b"x-forwarded-for"
SESSION = re.compile(rb"(?<=/)ses_[0-9A-Za-z]+(?=/|\Z)")
"""The id of a session as we make them: nothing in it is ever sent encoded."""

FoundCall: TypeAlias = tuple[HotCall, Tally, dict[str, str]]


class FastLane:
    """The lane of plain ASGI: an application in front of another one.

    Routing is two lookups here; a path that names a session by its id takes a third.
    """

    def __init__(self, context: Context, calls: Iterable[HotCall], *, behind: Any) -> None:
        self.context = context
        self.behind = behind
        renderer = Renderer()
        self.render = renderer.render
        self.render_constant = renderer.render_constant
        self._hot: dict[tuple[bytes, bytes], FoundCall] = {}
        self._named: dict[tuple[bytes, bytes], FoundCall] = {}  # by a path that names a session
        for call in calls:
            place = (call.method.encode(), call.path.encode())
            found = self._named if b"{" in place[1] else self._hot
            found[place] = (call, context.metrics.tally(call.name), {})
        self._apart = Apart(context.settings.metrics_listen)
        self._has_apart = bool(context.settings.metrics_listen)
        trusted = context.settings.trusted_proxies
        self._hops = TrustedHops(trusted) if trusted else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        hot = None
        if scope["type"] != "lifespan":
            if self._apart.bars(scope):
                await self._apart.refuse(scope, receive, send)
                return
            scope = self.originated(scope)
        if scope["type"] == "http":
            hot = self.find(scope["method"].encode(), raw_path(scope))
        if hot is None:
            await self.behind(scope, receive, send)
            return
        call, tally, scope["path_params"] = hot
        reply = await answer(call, tally, self.context, scope, receive)
        await send(
            {"type": "http.response.start", "status": reply.status, "headers": reply.headers}
        )
        await send({"type": "http.response.body", "body": reply.body})

    def drain(self) -> None:
        """Say that the server stops: who waits for a seat is told so, and does not hold it up."""
        self.context.draining = True
        self.context.services.waiting.close()

    def originated(self, scope: Any) -> Any:
        """Say in a scope where its request comes from, as far as proxies are trusted."""
        return scope if self._hops is None else originated(scope, self._hops)

    def enter(
        self, connection: HotConnection, method: bytes, by_name: dict[bytes, bytes]
    ) -> Direct | None:
        """Return the request whose headers have arrived, if it is one for the direct lane.

        Behind proxies that are trusted, clients' addresses come from headers, which it leaves to ASGI.
        """
        path, _, query = connection.url.partition(b"?")
        found = self._hot.get((method, path)) or self.find(method, path)
        if found is None or (self._has_apart and self._apart.is_there(connection.server)):
            return None
        call, tally, pieces = found
        if call.looks_at_client and self._hops is not None:
            return None
        if self.context.services.batcher.refuses(keeps=call.hot.keeps):
            return Direct(connection, self, call, tally, None)
        incoming = Incoming(connection.headers, query, pieces, connection.client, by_name)
        if self._hops is not None and FORWARDED_FOR in by_name and self._waits(call.hot, incoming):
            return None
        return Direct(connection, self, call, tally, incoming)

    def _waits(self, hot: Hot, incoming: Incoming) -> bool:
        """Tell whether a request's proof is one that has to wait among those of its client's address."""
        try:
            proof = hot.prove(self.context, incoming)
            return hot.waits_for(self.context, proof, incoming) is not None
        except SojournError:
            return False  # refused in whichever lane

    def find(self, method: bytes, path: bytes) -> FoundCall | None:
        """Return the hot call of a path, its tally, and what the path names."""
        hot = self._hot.get((method, path))
        if hot is not None:
            return hot
        named = SESSION.search(path)
        if named is None:
            return None
        template = path[: named.start()] + b"{sessionId}" + path[named.end() :]
        hot = self._named.get((method, template))
        return None if hot is None else (hot[0], hot[1], {"sessionId": named[0].decode()})


class HotConnection(Protocol):
    """What the direct lane needs of a connection."""

    url: bytes
    headers: Headers
    caller: Caller
    client: Any
    server: Any
    parser: Any
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    server_state: Any
    tasks: set[Any]

    def on_response_complete(self) -> None: ...


class _NoEvent:
    """An event that nobody waits for."""

    def set(self) -> None:
        return


class Direct:
    """One request. To the protocol it looks like uvicorn's cycle. Without `incoming` the queue has no room,
    and the request is refused unread."""

    __slots__ = (
        "_asked",
        "_began",
        "_call",
        "_connection",
        "_fast",
        "_for_pages",
        "_hot",
        "_incoming",
        "_proof",
        "_span",
        "_tally",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
    )

    message_event = _NoEvent()

    def __init__(
        self,
        connection: HotConnection,
        fast: FastLane,
        call: HotCall,
        tally: Tally,
        incoming: Incoming | None,
    ) -> None:
        self._connection = connection
        self._fast = fast
        self._call = call
        self._hot = call.hot
        self._for_pages = call.for_pages
        self._span: Any = None  # where calls are traced
        self._tally = tally
        self._incoming = incoming
        self._began = time.perf_counter()
        self._proof: Any = None  # what the headers prove, once they are read
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
        """Carry the call out: the body has arrived. With few calls of functions: this is done most of all."""
        context, connection, hot, asked = (
            self._fast.context,
            self._connection,
            self._hot,
            self._incoming,
        )
        if context.traces is not None and self._span is None:
            self._start_traced(context.traces)
            return
        if asked is None:
            self._refuse()
            return
        try:
            proof = self._proof = hot.prove(context, asked)
            admission = None if hot.admission is None else hot.admission(context, proof, asked)
            step: HotStep
            if admission is None:
                if hot.reads_body:
                    step = hot.begin(context, proof, asked, self.body)
                else:
                    step = hot.ask(context, proof, asked, b"")
            else:
                step = Awaited(admission, partial(self._begin, proof))
            if type(step) is not BatchRequest:
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

    def _start_traced(self, traces: Any) -> None:
        asked = self._incoming
        by_name = dict(self._connection.headers) if asked is None else asked.by_name
        self._span = traces.begin(self._call, by_name)
        with traces.within(self._span):
            self.start()

    def _begin(self, proof: Any, _: object) -> HotStep:
        assert self._incoming is not None
        return self._hot.begin(self._fast.context, proof, self._incoming, self.body)

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
        asked, self._asked = self._asked, None
        request = asked.request
        if type(outcome) is Abandoned:
            self.disconnected = True
        context = self._fast.context
        context.deadlines.forget(self)
        self._connection.tasks.discard(self)
        hot = self._hot
        if hot.forget is not None and isinstance(outcome, hot.spent):
            hot.forget(context, self._proof, outcome)
        try:
            if isinstance(outcome, BaseException):
                raise outcome
            if hot.aged is not None:
                outcome = hot.aged(outcome, self._connection.loop.time() - asked.since)
            if hot.again is not None:
                following = hot.again(context, request, outcome)
                if following is not None:
                    self._hand_over(following)
                    return
            reply = hot.tell(context, outcome)
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - the last resort
            reply = excuse(fault)
        self._finish(reply)

    def _hand_over(self, step: HotStep) -> None:
        """Go on in a task."""
        tasks = self._connection.tasks
        task = self._connection.loop.create_task(self._go_on(step))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _go_on(self, step: HotStep) -> None:
        try:
            reply = await self._hot.walk(
                self._fast.context, self._proof, step, self._connection.caller
            )
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - the last resort
            self._hot.note(self._fast.context, self._proof, fault)
            reply = excuse(fault)
        self._finish(reply)

    def _refuse(self) -> None:
        """Say that there is no room: as cheaply as can be, for it is said when there is most to do."""
        connection = self._connection
        if self._for_pages and any(name == ORIGIN for name, _ in connection.headers):
            self._finish(OVERLOADED)
            return
        self._write(
            self._fast.render_constant(
                OVERLOADED, connection.server_state.default_headers, close=not self.keep_alive
            )
        )
        self._tally.add(OVERLOADED.code, time.perf_counter() - self._began)
        self._end_span(OVERLOADED)

    def _end_span(self, reply: Reply) -> None:
        if self._span is not None and self._fast.context.traces is not None:
            self._fast.context.traces.end(self._span, reply)

    def _finish(self, reply: Reply) -> None:
        self._tally.add(reply.code, time.perf_counter() - self._began)
        if self._span is not None:
            self._end_span(reply)
        if self.disconnected or reply is UNHEARD:
            return
        if self._for_pages:
            asked = self._incoming
            by_name = dict(self._connection.headers) if asked is None else asked.by_name
            if ORIGIN in by_name:
                reply = self._fast.context.cross_origin.finish(reply, by_name)
        headers = self._connection.server_state.default_headers
        self._write(self._fast.render(reply, headers, close=not self.keep_alive))

    def _write(self, answer: bytes) -> None:
        connection = self._connection
        self.response_started = self.response_complete = True
        connection.transport.write(answer)
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()
