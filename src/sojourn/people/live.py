"""Live news for open pages: `WS /api/user/active-sessions/live`.

    {"type": "changed"}                     something of this person's sessions changed: list them again
    {"type": "signedOut", "reason": …}      this session is over; then the socket closes with code 4401
    {"type": "alive"}                       every 20 s, for proxies that close what is silent

One look at the store serves all sockets of a process, every half second while there are any, and at
once when this process ends a session. That a session is over is read from the sessions themselves, so
that expiry, cutoffs and the ends of other servers are told alike; what else changed is read from the
stream of events. A socket neither counts as use nor keeps a session alive.

A page that connects is told `changed` first, once the watch is on: so it lists again, and misses nothing
of what happened while it was not connected.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from sojourn.errors import Forbidden, Overloaded, SojournError, StoreError
from sojourn.event import Event, EventKind
from sojourn.people.calls import People, PersonRequest
from sojourn.people.wire import for_people
from sojourn.service.request_session import run
from sojourn.service.sessions import SessionService
from sojourn.service.watch import Watch
from sojourn.session import Gone, GoneReason, Session
from sojourn.wire.problems import refuse
from sojourn.wire.reply import Reply

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
OnThread = Callable[..., Awaitable[Any]]

KEEP_ALIVE = 20.0
SOCKETS_MAX = 1_000
"""Of a process; and of a person:"""
SOCKETS_EACH_MAX = 20
MESSAGES_MAX = 100
"""What a page may send in all: it has nothing to say."""

SIGNED_OUT = 4401
TRY_LATER = 1013  # RFC 6455 registry
TOO_MUCH_SAID = 1008
GOING_AWAY = 1012

SILENT = (
    *(
        EventKind.LEASE_DENIED,
        EventKind.LEASE_ASKED,
        EventKind.STORE_RETURNED,
        EventKind.OPERATOR_ACTED,
    ),
    *(EventKind.STORE_TABLE_MISSING, EventKind.STORE_TABLE_BACK),
)
KINDS = tuple(kind.value for kind in EventKind if kind not in SILENT)


def _text(**said: str) -> dict[str, str]:
    return {"type": "websocket.send", "text": msgspec.json.encode(said).decode()}


CHANGED = _text(type="changed")
ALIVE = _text(type="alive")


class Socket:
    """An open page. It is told by its own task, so that a slow one holds up nobody else."""

    def __init__(self, session: Session) -> None:
        self.session_id = session.id
        self.user_id = session.user_id
        self.wake = asyncio.Event()
        self.fresh = True  # nothing was looked at since it came
        self.changed = False
        self.over: str | None = None  # why the session is

    def tell_changed(self) -> None:
        self.fresh, self.changed = False, True
        self.wake.set()

    def tell_over(self, gone: Gone) -> None:
        self.over = reason_of(gone)
        self.wake.set()


class Live:
    """An ASGI application for one path, and one watch over the store. Belongs to one event loop."""

    def __init__(
        self,
        people: People,
        sessions: SessionService,
        *,
        on_thread: OnThread = asyncio.to_thread,
        sockets_max: int = SOCKETS_MAX,
    ) -> None:
        self._people = people
        self._sessions = sessions
        self._on_thread = on_thread
        self._sockets_max = sockets_max
        self._sockets: set[Socket] = set()
        self._stopped = False
        # Sockets stay while the store is away.
        self._watch = Watch(
            sessions,
            self._look,
            kinds=KINDS,
            wanted=lambda: bool(self._sockets),
            on_thread=on_thread,
            troubled=people.note,
        )
        self.wake = self._watch.wake
        """Look at the store at once. May be called from any thread."""
        sessions.ended.append(self.wake)

    @property
    def open(self) -> int:
        """How many sockets are open."""
        return len(self._sockets)

    def detach(self) -> None:
        """Hear no more of what this process ends; sockets that are open are told within the next look."""
        with contextlib.suppress(ValueError):
            self._sessions.ended.remove(self.wake)

    async def stop(self) -> None:
        """Close every socket, and look no more."""
        self._stopped = True
        self.detach()
        for socket in self._sockets:
            socket.wake.set()
        await self._watch.stop()

    async def serve(
        self,
        request: PersonRequest,
        receive: Receive,
        send: Send,
        *,
        on_thread: OnThread | None = None,
        known: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve one socket, from its handshake to its end. `on_thread`: where to look for who is there;
        `known` is called once somebody is."""
        await receive()  # websocket.connect
        try:
            session = await self._session(request, on_thread or self._on_thread)
        except (StoreError, Overloaded) as fault:
            self._people.note(fault)
            await reject(send, refuse(for_people(fault, ending=False)))
            return
        except SojournError as fault:
            if isinstance(fault, Forbidden):
                await reject(send, refuse(fault))
                return
            session = Gone(reason=GoneReason.ABSENT)
        await send({"type": "websocket.accept"})
        if isinstance(session, Gone):
            await _say_goodbye(send, reason_of(session))
        elif self._stopped or not self._has_room(session):
            await send({"type": "websocket.close", "code": TRY_LATER, "reason": "too many"})
        else:
            known()
            await self._attend(Socket(session), receive, send)

    async def _session(self, request: PersonRequest, on_thread: OnThread) -> Session | Gone:
        """Find out who is there. Raises SojournError."""
        visit = self._people.visit(request, change=True, touch=False)
        await on_thread(run, visit.open(), self._people.verbs)
        if visit.session is None or visit.session.user_id is None:
            return visit.gone or Gone(reason=GoneReason.ABSENT)
        return visit.session

    def _has_room(self, session: Session) -> bool:
        each = Counter(socket.user_id for socket in self._sockets)
        return len(self._sockets) < self._sockets_max and each[session.user_id] < SOCKETS_EACH_MAX

    async def _attend(self, socket: Socket, receive: Receive, send: Send) -> None:
        self._sockets.add(socket)
        self._watch.begin()
        reader = asyncio.ensure_future(_read(receive))
        reader.add_done_callback(lambda _: socket.wake.set())
        try:
            while True:
                if socket.over is not None:
                    await _say_goodbye(send, socket.over)
                    return
                if self._stopped:
                    await send({"type": "websocket.close", "code": GOING_AWAY})
                    return
                if reader.done():
                    if (code := reader.result()) is not None:
                        await send({"type": "websocket.close", "code": code})
                    return
                if socket.changed:
                    socket.changed = False
                    await send(CHANGED)
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        await socket.wake.wait()
                    socket.wake.clear()
                except TimeoutError:
                    await send(ALIVE)
        finally:
            self._sockets.discard(socket)
            reader.cancel()

    async def _look(self, events: Sequence[Event], missed: bool) -> None:
        sockets = list(self._sockets)
        ids = sorted({socket.session_id for socket in sockets})
        gone = await self._on_thread(self._sessions.gone, ids)
        users = {event.user_id for event in events}
        over = {i: why for i, why in zip(ids, gone, strict=True) if why is not None}
        for socket in sockets:
            if socket.session_id in over:
                socket.tell_over(over[socket.session_id])
            elif socket.fresh or missed or socket.user_id in users:
                socket.tell_changed()


async def _read(receive: Receive) -> int | None:
    """Read until the page hangs up (None), or has said more than it may: the code to close with."""
    for _ in range(MESSAGES_MAX):
        if (await receive())["type"] == "websocket.disconnect":
            return None
    return TOO_MUCH_SAID


async def _say_goodbye(send: Send, reason: str) -> None:
    await send(_text(type="signedOut", reason=reason))
    await send({"type": "websocket.close", "code": SIGNED_OUT, "reason": "signed out"})


def reason_of(gone: Gone) -> str:
    """Name why a session is over: as it was ended, or idle, expired, absent, forged."""
    return gone.end_reason or gone.reason.value


async def reject(send: Send, reply: Reply) -> None:
    """Refuse a handshake, with an answer of HTTP."""
    await send(
        {
            "type": "websocket.http.response.start",
            "status": reply.status,
            "headers": reply.headers,
        }
    )
    await send({"type": "websocket.http.response.body", "body": reply.body})
