"""HTTP/1.1 by uvicorn and httptools, with the bounds uvicorn does not have.

uvicorn bounds neither the headers of a request nor the time it takes to arrive, and an ASGI application
cannot: it is called only when the headers are complete. So this subclass counts what arrives, and one
timer for all connections looks for those that take too long. On its way it drops the timer uvicorn sets
and cancels for every request.

A connection is idle, receives a head, or receives a body. `_due` says when that must have ended.

What makes a request dear is what comes between its last byte and its handler: a scope, a cycle, a task,
an event, two messages. A hot call whose body is small and announced is spared all of that: see `hot`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import IntEnum
from functools import partial
from typing import Any, ClassVar, TypeAlias
from weakref import WeakKeyDictionary

import httptools
from msgspec import Struct
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from sojourn.api.incoming import CALLER
from sojourn.api.lanes import DIRECT_MAX, Direct, FastLane
from sojourn.api.letter import Flawed, check_head
from sojourn.api.metrics import REFUSED
from sojourn.api.proofs import subscriber
from sojourn.api.render import Renderer
from sojourn.api.sockets import GuardedSocket
from sojourn.service.caller import NO_FD, Caller
from sojourn.wire.bodies import STATUS
from sojourn.wire.problems import answer_problem, problem

KEEP_ALIVE = 75
"""Seconds an idle connection is kept: longer than the 60 s after which common proxies drop theirs, so
that it is never us who closes a connection a proxy is about to use."""
HEADERS_MAX = 100
CONNECTIONS_MAX = 4_096
"""Connections of a process. One more is told so, and ends."""
CONNECTIONS_SHARE = 3_072
"""Of these from one address: the rest is for others."""
Cycle: TypeAlias = RequestResponseCycle | Direct
LINGER = 1.0
"""Seconds for which a refused client may go on sending, unheard. Closing at once would reset the
connection, and our answer would be lost with it."""
STOP_GRACE = 1.0
"""Seconds for which a server that stops keeps an idle connection: its client may have sent a request that
has not arrived yet, and does not know that we stop."""
NEVER = float("inf")
VERSIONS = ("1.1", "1.0")


class Bounds(Struct, frozen=True, kw_only=True):
    header_max: int
    body_max: int
    receive_timeout: float
    headers_max: int = HEADERS_MAX
    connections_max: int = CONNECTIONS_MAX
    connections_share: int = CONNECTIONS_SHARE
    stop_grace: float = STOP_GRACE

    @property
    def wire_max(self) -> int:
        """The most a request may weigh on the wire, chunk sizes and trailers included."""
        return self.header_max + 2 * self.body_max + 65_536


class Phase(IntEnum):
    IDLE = 0
    HEAD = 1
    BODY = 2


class TooLarge(Exception):
    """Raised inside the parser's callbacks, to stop it."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: Bounds,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds
        self._phase = Phase.IDLE
        self._due = NEVER
        self._piece = 0  # bytes of what has just arrived
        self._fed = 0  # bytes of this request, but for the piece in which it began
        self._began = False
        self._deaf = False  # answered and closing: what still arrives is dropped
        self._stalled_at: float | None = None
        self._running: Cycle | None = None  # `cycle` is the last one received
        self.cycle: Cycle  # type: ignore[assignment]  # wider than uvicorn knows
        self._from: str | None = None  # whose place this connection takes
        app = config.loaded_app
        self._lane = app if isinstance(app, FastLane) else None
        self.caller = Caller()
        self._leaving = False  # the server stops: each answer says that the connection ends
        self._parting: Cycle | None = None  # the request whose answer is the last one here

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        socket = transport.get_extra_info("socket")
        self.caller.fd = NO_FD if socket is None else socket.fileno()
        self._due = self.loop.time() + self._bounds.receive_timeout
        watch = ConnectionWatch.over(self.server_state, self.loop, self._bounds)
        watch.arm()
        self._from = subscriber(self.client[0] if self.client else None)
        watch.count(self._from, 1)
        if (
            watch.total > self._bounds.connections_max
            or watch.of[self._from] > self._bounds.connections_share
        ):
            self._uncount()  # it takes nobody's place while it lingers
            self._refuse("overloaded", "The server has more connections than it takes.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._uncount()
        self.caller.gone = True
        self._give_up()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Take a client that has said its last for gone, and the connection ends (ADR 23)."""
        self.caller.gone = True
        self._give_up()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._piece = len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self._takes_upgrade():
                self._upgrade()
            else:
                self._decline_upgrade(data[offer.args[0] :])
            return
        except httptools.HttpParserError as fault:
            if isinstance(fault.__context__, Flawed):
                self._refuse("invalid_request", str(fault.__context__))
            elif isinstance(fault.__context__, TooLarge):
                self._refuse("headers_too_large", "The headers are larger than this server takes.")
            else:
                self._refuse("invalid_request", "This is not HTTP as this server understands it.")
            return
        if self._phase is Phase.IDLE:
            self._began = False
            return
        if self._began:
            self._began = False
        else:
            self._fed += len(data)
        self._check_size()

    def _check_size(self) -> None:
        if self._phase is Phase.HEAD:
            if self._fed > self._bounds.header_max or self._head_too_large():
                self._refuse("headers_too_large", "The headers are larger than this server takes.")
        elif self._fed > self._bounds.wire_max:
            if self.cycle.response_complete:
                self._close_softly()
            else:
                self._refuse("body_too_large", "The body is larger than this server takes.")

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._phase = Phase.HEAD
        self._began = True
        self._fed = 0
        self._due = self.loop.time() + self._bounds.receive_timeout

    def on_head(self, size: int) -> None:
        """Refuse a head by its weight, blanks included. Only `sojourn.api.parser` asks."""
        if size > self._bounds.header_max:
            raise TooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        version = parser.get_http_version()
        if version not in VERSIONS:
            raise ValueError  # the parser takes 0.9 as well, which has neither headers nor an end
        bounds = self._bounds
        whole = self._began and self._piece <= bounds.header_max  # then so is the head
        if not (whole and len(self.headers) <= bounds.headers_max) and self._head_too_large():
            raise TooLarge
        by_name = check_head(self.headers, version)
        if parser.should_upgrade():
            return  # the parser drops the body of such a request: see `_decline_upgrade`
        self.expect_100_continue = by_name.get(b"expect", b"").lower() == b"100-continue"
        if self._lane is not None and self._at_rest(by_name):
            direct = self._lane.enter(self, parser.get_method(), by_name)
            if direct is not None:
                self.cycle = self._running = direct
                self._phase = Phase.BODY
                if self._leaving:
                    self._part()
                return
        self._describe()
        super().on_headers_complete()
        self._phase = Phase.BODY  # not before: `cycle` is this request's from here on
        self.headers = []  # what comes from here on are trailers, which nobody here takes for headers
        if self._leaving:
            self._part()

    def _head_too_large(self) -> bool:
        """Tell whether what there is of the head is more than this server takes."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return size > self._bounds.header_max or len(self.headers) > self._bounds.headers_max

    def _at_rest(self, by_name: dict[bytes, bytes]) -> bool:
        """Tell whether this request can be answered in one go: it is small, and none is before it."""
        length = by_name.get(b"content-length", b"0")
        cycle: Cycle | None = self.cycle  # as in `_busy`
        return (
            length.isdigit()
            and int(length) <= DIRECT_MAX
            and b"transfer-encoding" not in by_name
            and not self.expect_100_continue
            and (cycle is None or cycle.response_complete)
            and not self.pipeline
            and not self.flow.write_paused
        )

    def _describe(self) -> None:
        """Make the scope, as uvicorn does when a request begins."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.scope["extensions"] = {CALLER: self.caller}  # type: ignore[dict-item]  # not of the specification's
        self.url, self.expect_100_continue = url, expect
        self.headers += headers

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._phase = Phase.IDLE
        cycle = self.cycle
        if cycle.response_complete:
            self._due = self.loop.time() + KEEP_ALIVE
            return
        self._due = NEVER
        cycle.more_body = False
        if type(cycle) is Direct:
            cycle.start()
        else:
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Do as uvicorn does, but for its timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            if self._phase is not Phase.IDLE:  # else nothing has begun to arrive that could be late
                self._due = self.loop.time() + self._bounds.receive_timeout  # it could not go on
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._phase is Phase.IDLE:
            self._due = self.loop.time() + KEEP_ALIVE
            if self._leaving:
                self.loop.call_later(self._bounds.stop_grace, self._leave)

    def shutdown(self) -> None:
        """Answer what is here or on its way, and end the connection with the last answer.

        A server that stops calls this, once it no longer listens.
        """
        self._leaving = True
        if self._busy or self.pipeline:
            self._part()
        elif self._bounds.stop_grace > 0:
            self.loop.call_later(self._bounds.stop_grace, self._leave)
        else:
            self.transport.close()

    def _part(self) -> None:
        """Have the answer to the last request say that the connection ends, and end it."""
        if self._parting is not None and not self._parting.response_started:
            self._parting.keep_alive = True  # another request has come after it
        self._parting = None
        if self.cycle.keep_alive and not self.cycle.response_started:
            self._parting = self.cycle
            self.cycle.keep_alive = False

    def _leave(self) -> None:
        """End the connection, unless a request has begun to arrive, which ends it with its answer."""
        if self._phase is Phase.IDLE and not self._busy and not self._deaf:
            self._end()

    def _uncount(self) -> None:
        if self._from is not None:
            ConnectionWatch.over(self.server_state, self.loop, self._bounds).count(self._from, -1)
            self._from = None

    def look(self, now: float) -> None:
        """End this connection if it has taken too long."""
        if self.flow.write_paused:
            if self._stalled_at is None:
                self._stalled_at = now
            elif now - self._stalled_at > self._bounds.receive_timeout:
                self._abort()  # it does not read what it asked for
            return
        self._stalled_at = None
        if now < self._due or self.flow.read_paused:
            return  # while we do not read, it is not the client who is slow
        answering = self._phase is Phase.BODY and self.cycle.response_started
        if self._deaf or self._phase is Phase.IDLE or answering:
            self._end()
        elif self._phase is Phase.BODY or not self._busy:
            self._refuse("request_timeout", "The request took too long to arrive.")

    @property
    def _busy(self) -> bool:
        """Tell whether a request has been handed to the application and is not answered yet."""
        cycle: Cycle | None = self.cycle  # uvicorn has none at first
        return cycle is not None and not cycle.response_complete

    def _end(self) -> None:
        if self.transport.get_write_buffer_size():
            self._abort()
        else:
            self.transport.close()

    def _abort(self) -> None:
        self._give_up()
        self.transport.abort()

    def _give_up(self) -> None:
        """Tell the application that nobody listens any more; start nothing that waits its turn."""
        self.pipeline.clear()
        for cycle in (self._running, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
                if type(cycle) is Direct:
                    cycle.abandon()

    def _takes_upgrade(self) -> bool:
        """Tell whether this is the handshake of a WebSocket, on a connection that nothing else uses."""
        return (
            not self._busy
            and not self.pipeline
            and self._should_upgrade()
            and self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and any(name == b"sec-websocket-key" for name, _ in self.headers)
        )

    def _upgrade(self) -> None:
        """Make a WebSocket of this connection, if whoever sends this may have one more."""
        self._describe()
        scope: Any = self.scope
        client = (scope if self._lane is None else self._lane.originated(scope))["client"]
        whose = subscriber(client[0] if client else None)
        if not GuardedSocket.has_room(whose):
            self._refuse("overloaded", "There are too many sockets of nobody.")
            return
        self._due = NEVER  # it is no connection of HTTP's any more
        scope["method"] = "GET"
        kind: Any = self.ws_protocol_class
        self.ws_protocol_class = partial(kind, whose=whose)  # type: ignore[assignment]  # called alike
        self.handle_websocket_upgrade()
        self._uncount()  # sockets have bounds of their own

    def _decline_upgrade(self, rest: bytes) -> None:
        """Read the request once more as if no upgrade had been offered: a server may ignore the offer,
        and some clients make it with every first request, body and all."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse("invalid_request", "This server is no proxy.")
            return
        version = self.parser.get_http_version().encode()
        first = b"%s %s HTTP/%s" % (method, self.url, version)
        lines = [b": ".join(header) for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._phase = Phase.IDLE
        self.data_received(b"\r\n".join((first, *lines, b"", rest)))

    def _refuse(self, code: str, error: str) -> None:
        """Answer instead of the application, and close."""
        REFUSED[code] += 1
        running = self._running
        if running is not None and not running.response_complete:
            if self._phase is not Phase.BODY or running is not self.cycle:
                # An earlier request is being answered. Ours would have to wait; closing after it will do.
                self.pipeline.clear()
                running.keep_alive = False
                self._deaf, self._due = True, NEVER
                return
            if running.response_started:
                self._abort()
                return
            self._give_up()
        retry = [(b"retry-after", b"1")] if STATUS[code] == 503 else []
        reply = answer_problem(problem(code, error), *retry)
        headers = self.server_state.default_headers
        self.transport.write(Renderer().render(reply, headers, close=True))
        self._close_softly()

    def _close_softly(self) -> None:
        """Say that we are done, and leave the client a moment to read it."""
        self._deaf = True
        self._due = self.loop.time() + LINGER
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


class ConnectionWatch:
    """Looks at every connection of a server from time to time, with one timer for all."""

    _watches: ClassVar[WeakKeyDictionary[ServerState, ConnectionWatch]] = WeakKeyDictionary()

    def __init__(
        self, server_state: ServerState, loop: asyncio.AbstractEventLoop, interval: float
    ) -> None:
        self._connections = server_state.connections
        self._loop = loop
        self._interval = interval
        self._armed = False
        self.of: Counter[str] = Counter()  # how many connections come from where
        self.total = 0  # of all of these

    @classmethod
    def over(
        cls, server_state: ServerState, loop: asyncio.AbstractEventLoop, bounds: Bounds
    ) -> ConnectionWatch:
        """Return the watch over a server, making it at first."""
        watch = cls._watches.get(server_state)
        if watch is None:
            interval = min(1.0, max(0.01, bounds.receive_timeout / 10))
            watch = cls._watches[server_state] = cls(server_state, loop, interval)
        return watch

    def count(self, whose: str, change: int) -> None:
        self.total += change
        self.of[whose] += change
        if not self.of[whose]:
            del self.of[whose]

    def arm(self) -> None:
        if not self._armed:
            self._armed = True
            self._loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        self._armed = False
        now = self._loop.time()
        for connection in tuple(self._connections):
            if isinstance(connection, GuardedProtocol):
                connection.look(now)
        if self._connections:
            self.arm()
