"""WebSockets within bounds. Refused handshakes are answered as every other refusal: a problem document, with
our headers, and no line in the log that speaks of a fault of ours. And whoever does not read what is sent,
pongs included, is cut off: what waits to be sent is memory.
"""

from __future__ import annotations

import asyncio
import email.utils
import http
from collections import Counter
from typing import Any, ClassVar, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from sojourn.api.metrics import REFUSED
from sojourn.text import escaped
from sojourn.wire.problems import answer_problem, problem

SEATS_MAX = 30_000
"""Sockets of a process that keep seats; each is one more file."""
UNKNOWN_MAX = 256
"""Sockets of a process of which nobody knows whose they are: their handshake is not answered, or they were
told that they are not signed in, and have not hung up yet."""
UNKNOWN_SHARE = 64
"""Of these from one address: the rest is for others."""
CLOSE_MAX = 2.0
"""Seconds for which a socket that is closed waits for its peer to say so, too."""
KNOWN = "sojourn.known"
"""Where an application says that it knows who is there, among a scope's extensions."""
LINE = "sojourn.line"
"""Where an application finds the socket itself, to write to it without a task: see `GuardedSocket.tell`."""
UNSENT_MAX = 262_144
"""Bytes that may wait to be sent on one socket."""
STALL_MAX = 10.0
"""Seconds for which a socket's peer may leave what waits for it unread."""
HEARD_MAX = 20_480
"""Bytes that a socket's peer may send at once: the longest message, and a few pings. After that so many"""
HEARD_RATE = 2_048.0
"""bytes in a second. Pings cost more than they weigh, and nobody has anything to say here."""
SAID_MAX = 300
"""Characters of the library's reason, which may repeat what was sent."""


class _Handshakes(ServerProtocol):
    """Judges handshakes as the library does, and refuses them in our words."""

    def reject(self, status: http.HTTPStatus | int, text: str) -> Response:
        """Say that no socket is opened. `text` is the library's reason."""
        code = "internal" if status == http.HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request"
        said = escaped(" ".join(text.split()))[:SAID_MAX]
        reply = answer_problem(problem(code, said or "The socket was not opened."))
        headers = Headers(
            [(name.decode(), value.decode("latin-1")) for name, value in reply.headers]
        )
        headers["Date"] = email.utils.formatdate(usegmt=True)
        headers["Connection"] = "close"
        return Response(reply.status, http.HTTPStatus(reply.status).phrase, headers, reply.body)


class GuardedSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which keeps little for anybody, and tells nobody's mistakes as its own."""

    _unknown: ClassVar[Counter[str]] = Counter()  # how many come from where

    def __init__(self, *given: Any, whose: str = "", **more: Any) -> None:
        """Make one that takes the place of whoever `whose` tells from others (see `proofs`)."""
        super().__init__(*given, **more)
        self.conn = _Handshakes(
            extensions=self.conn.available_extensions,
            max_size=self.config.ws_max_size,
            logger=self.conn.logger,
        )
        self._stalled: asyncio.TimerHandle | None = None
        self._whose = whose
        self._is_unknown = False
        self._heard, self._heard_at = 0.0, 0.0
        self.answered = False  # whether a pong or a whole message came since this was last set
        self.close_timeout = CLOSE_MAX

    @classmethod
    def has_room(cls, whose: str) -> bool:
        """Tell whether one more socket may come from there of which nobody knows whose it is."""
        unknown = cls._unknown
        return unknown.total() < UNKNOWN_MAX and unknown[whose] < UNKNOWN_SHARE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Whatever is not sent at once is waited for, from the first byte on: see `pause_writing`.
        self.transport.set_write_buffer_limits(high=0)
        self.forget()

    def forget(self) -> None:
        """Note that nobody is there who is known, or who has anything to do here any more."""
        if not self._is_unknown:
            self._is_unknown = True
            GuardedSocket._unknown[self._whose] += 1

    def know(self) -> None:
        """Note that somebody is there who is known."""
        if self._is_unknown:
            self._is_unknown = False
            GuardedSocket._unknown[self._whose] -= 1
            if not GuardedSocket._unknown[self._whose]:
                del GuardedSocket._unknown[self._whose]

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            extensions: Any = self.scope["extensions"]
            extensions[KNOWN] = self.know
            extensions[LINE] = self

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # whatever it still asks for would be answered to nobody
        if self.handshake_initiated and not self._may_say(len(data)):
            self._cut_off("socket_too_loud")
            return
        super().data_received(data)
        # The library answers pings at once, whether or not its answers are read.
        if self.transport.get_write_buffer_size() > UNSENT_MAX:
            self._cut_off()

    def handle_pong(self, event: Frame) -> None:
        self.answered = True
        super().handle_pong(event)

    def send_receive_event_to_app(self) -> None:
        self.answered = True
        super().send_receive_event_to_app()

    def take_over(self) -> None:
        """Leave pings to the application from now on, and keep nothing of the handshake: there may be tens of
        thousands of such sockets, and they stay open for days."""
        self.stop_keepalive()
        for kept in (self.scope["headers"], self.scope["subprotocols"]):
            cast("list[Any]", kept).clear()  # the lists themselves: copies of the scope share them
        self.request = self.response = None  # type: ignore[assignment]  # nobody asks for them any more

    @property
    def _open(self) -> bool:
        over = self.close_sent or self.disconnected or self.transport.is_closing()
        return self.handshake_complete and not over

    def tell(self, text: bytes | None, *, ping: bool = False) -> None:
        """Write a message, and a ping with it, unless the socket is closing. What its peer does not read is
        bounded as everything else."""
        if not self._open:
            return
        if ping:
            self.conn.send_ping(b"")
        if text is not None:
            self.conn.send_text(text)
        self._write()

    def hang_up(self, code: int, reason: str) -> None:
        """Close the socket in good order, and tell the application so; it need not wait for that."""
        if not self._open:
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.close_sent = True
        self._write()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    def _write(self) -> None:
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.get_write_buffer_size() > UNSENT_MAX:
            self._cut_off()

    def _may_say(self, size: int) -> bool:
        now = self.loop.time()
        earned = (now - self._heard_at) * HEARD_RATE
        self._heard = max(0.0, self._heard - earned) + size
        self._heard_at = now
        return self._heard <= HEARD_MAX

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALL_MAX, self._cut_off)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._relax()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        self.know()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.get_write_buffer_size() and self._stalled is None:
            self._stalled = self.loop.call_later(STALL_MAX, self._cut_off)

    def _relax(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def cut_off(self, why: str) -> None:
        """End the connection at once, and drop what waits. The application is told."""
        self._cut_off(why)

    def _cut_off(self, why: str = "socket_not_read") -> None:
        """End the connection, and drop what waits: a close in good order would wait for it, too."""
        REFUSED[why] += 1
        self.transport.abort()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # it is answered: there is nothing more to complete
