"""Seats that are kept by open sockets: one thread for all of them, beside the heartbeats and never instead.

A socket makes a crash known at once, lets the server ask whether somebody is there, and tells of a loss
without delay. What is trusted stays as it is with heartbeats: what a server says counts from before the
last ping left that it had answered by then, since a message may have lain in a buffer while the machine
slept. While that renews the lease in time, no heartbeat is due; otherwise heartbeats go on.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec
from msgspec import Struct

from sojourn.client.hold import Hold, backoff, idleness
from sojourn.client.http import SEATS
from sojourn.client.websocket import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Frame,
    Garbled,
    NotOpened,
    Reader,
    open_socket,
    written,
)
from sojourn.client.world import Crew, Join, World, join_all
from sojourn.decoding import prepared
from sojourn.exchange import Target, proxy_for
from sojourn.log import sentences
from sojourn.token import Secret

LIVE = SEATS + "/live"
DIALERS = 8
"""Sockets that are being opened at once."""
DIAL_TIMEOUT = 10.0  # seconds for one
DIALER_IDLE = 1.0  # seconds after which a thread that opens sockets ends
LOOK = 1.0  # seconds between two looks at what is due
SILENT = (
    45.0  # seconds without a word, after which a socket is opened anew; a server speaks every 20
)
RETRY_MAX = 60.0  # seconds between two tries to open a socket
RESTART = 10.0  # seconds over which clients come back to a server that has restarted
REFUSED = 600.0  # seconds until a server is asked again that knows no sockets
LEAVE = 2.0  # seconds for which a socket stays open whose lease is being given back
GOODBYE = 1.0  # seconds that a goodbye may take
UNSENT_MAX = 4_096  # bytes that wait to be written
RECEIVE = 65_536  # bytes that are read at once
ENDED = frozenset({1000, 1003, 1008, 4409, 4410})
"""Codes after which a socket is not opened again for this lease: see docs/guide/presence.md."""
NO_SOCKETS = frozenset({400, 403, 404, 405, 426, 501})

_log = sentences("sojourn.client")


@prepared
class Said(Struct, frozen=True, kw_only=True, rename="camel"):
    """A message of the server."""

    type: str
    expires_in: float | None = None
    heartbeat_interval: float | None = None
    lost_after: float | None = None


_decode = msgspec.json.Decoder(Said).decode


class Line:
    """The socket of one lease, open or to be opened."""

    def __init__(self, hold: Hold, token: Secret) -> None:
        self.hold = hold
        self.token = token
        self.sock: socket.socket | None = None
        self.reader = Reader()
        self.unsent = b""
        self.base = 0.0  # what is heard was said after that instant
        self.pinged_at: float | None = None  # of the ping that is not answered yet
        self.heard_at = 0.0
        self.dial_at = 0.0  # when to open it; inf: under way, or open
        self.failures = 0
        self.leave_at = float("inf")
        self.goodbye = False  # to be said
        self.ended = threading.Event()


class Live:
    """All sockets of one client. Methods are safe from several threads, and wait for nothing."""

    def __init__(
        self,
        target: Target,
        context: ssl.SSLContext | None,
        *,
        world: World,
        lock: threading.Condition,
        replan: Callable[[Hold], None],
    ) -> None:
        self._target = target
        self._context = context
        self._world = world
        self._holding = lock  # guards every Hold; never taken while `_lock` is held
        self._replan = replan
        self._most = _sockets_max()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[int, Line] = {}  # by hold
        self._leaving: set[Line] = set()
        self._opened: deque[tuple[Line, socket.socket | NotOpened, bytes, float]] = deque()
        self._to_dial: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._open = 0
        self._dialers = Crew(self._world, self._dialing, "sojourn-dialing", DIALERS)
        self._selector: selectors.BaseSelector | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._join: Join | None = None
        self._closed = False

    def attend(self, hold: Hold, token: Secret) -> None:
        """Keep a lease by a socket from now on, in place of the one that this hold had before."""
        with self._lock:
            if self._closed:
                return
            if (before := self._lines.pop(id(hold), None)) is not None:
                self._let_go(before)
            self._lines[id(hold)] = Line(hold, token)
            if self._join is None:
                self._selector = selectors.DefaultSelector()
                self._wake = socket.socketpair()
                for each in self._wake:
                    each.setblocking(False)
                self._selector.register(self._wake[0], selectors.EVENT_READ, None)
                self._join = self._world.start(self.run, "sojourn-sockets")
        self._stir()

    def leave(self, hold: Hold, *, goodbye: bool = False) -> Callable[[], object]:
        """Listen to a lease's socket no more, which is given back by other means. `goodbye`: say that its
        client is about to end. What is returned waits until that is heard, for GOODBYE seconds at most."""
        with self._lock:
            line = self._lines.pop(id(hold), None)
            if line is None:
                return lambda: None
            self._let_go(line)
            line.goodbye = waits = goodbye and line.sock is not None
        self._stir()
        return (lambda: line.ended.wait(GOODBYE)) if waits else (lambda: None)

    def close(self, timeout: float) -> None:
        with self._lock:
            self._closed = True
            joins = [*self._dialers.joins, *([self._join] if self._join else [])]
            for _ in self._dialers.joins:
                self._to_dial.put(None)
        self._stir()
        join_all(joins, timeout, now=self._world.now)

    def forked(self, lock: threading.Condition) -> None:
        """Leave the sockets to the parent, of whose poll they are still part."""
        lines = [*self._lines.values(), *self._leaving]
        found = [line.sock for line in lines] + list(self._wake or ())
        selector = self._selector
        self._begin()
        self._holding = lock
        if selector is not None:
            selector.close()
        for sock in found:
            if sock is not None:
                with contextlib.suppress(OSError):
                    os.close(sock.detach())

    def _let_go(self, line: Line) -> None:
        line.leave_at = self._world.now() + LEAVE
        self._leaving.add(line)

    def _stir(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake already; closed: it has ended
            if self._wake is not None:
                self._wake[1].send(b"\0")

    # --- the thread ---

    def run(self) -> None:
        selector, looked_at = self._selector, 0.0
        assert selector is not None
        while not self._closed:
            for key, events in selector.select(LOOK):
                if key.data is None:
                    with contextlib.suppress(OSError):
                        key.fileobj.recv(RECEIVE)  # type: ignore[union-attr]  # ours is a socket
                    looked_at = 0.0
                else:
                    self._guarded(key.data, events)
            while self._opened:
                self._take(*self._opened.popleft())
            if not 0 <= (now := self._world.now()) - looked_at < LOOK:
                looked_at = now
                self._look(now)
        with self._lock:
            lines = [*self._lines.values(), *self._leaving]
            self._lines.clear()
            self._leaving.clear()
        for line in lines:
            self._hang_up(line)
        while self._opened:
            if isinstance(sock := self._opened.popleft()[1], socket.socket):
                sock.close()
        selector.close()
        for each in self._wake or ():
            each.close()

    def _look(self, now: float) -> None:
        """Open what is to be opened, and give up what is silent."""
        with self._lock:
            lines, leaving = list(self._lines.values()), list(self._leaving)
        for line in lines:
            if line.sock is not None and now - line.heard_at > SILENT:
                self._broke(line, 1006)
            if line.sock is None and now >= line.dial_at and self._open < self._most:
                line.dial_at = float("inf")
                self._open += 1
                self._dial(line)
        for line in leaving:
            if line.goodbye:
                line.goodbye = False
                with contextlib.suppress(OSError):  # it has broken, which tells as much
                    self._write(line, written(TEXT, b'{"type":"goodbye"}'))
            if now >= line.leave_at or line.sock is None:
                self._hang_up(line)
                with self._lock:
                    self._leaving.discard(line)

    def _dial(self, line: Line) -> None:
        self._to_dial.put(line)
        with self._lock:
            self._dialers.call()  # if that cannot be, the next one takes it along

    def _dialing(self, number: int) -> None:
        """Open sockets, one after another, until there are none to be opened for a moment."""
        while True:
            try:
                line = self._to_dial.get(timeout=DIALER_IDLE)
            except queue.Empty:
                with self._lock:
                    if self._to_dial.empty():
                        self._dialers.left(number)
                        return
                continue
            if line is None or self._closed:
                with self._lock:
                    self._dialers.left(number)
                return
            began, rest = self._world.now(), b""
            try:
                proxy = proxy_for(self._target)
                if proxy is not None and not self._target.tls:
                    raise NotOpened("a proxy is on the way that cannot be asked for it", 501)
                found: socket.socket | NotOpened
                found, rest = open_socket(
                    self._target,
                    LIVE,
                    line.token,
                    context=self._context,
                    proxy=proxy,
                    deadline=time.monotonic() + DIAL_TIMEOUT,
                )
            except NotOpened as fault:
                found = fault
            except Exception as fault:  # noqa: BLE001  # whatever it is, heartbeats go on
                found = NotOpened(str(fault))
            self._opened.append((line, found, rest, began))
            self._stir()

    def _take(
        self, line: Line, found: socket.socket | NotOpened, rest: bytes, began: float
    ) -> None:
        now = self._world.now()
        wanted = self._lines.get(id(line.hold)) is line and not self._closed
        if isinstance(found, NotOpened):
            self._open -= 1
            line.failures += 1
            pause = backoff(line.failures, self._world.chance(), RETRY_MAX)
            line.dial_at = now + (REFUSED if found.status in NO_SOCKETS else max(LOOK, pause))
            if found.status == 401 and wanted:
                self.stirred(line.hold, line.token)
            _log.debug("No socket: %s", found)
            return
        if not wanted:
            self._open -= 1
            found.close()
            return
        line.sock, line.reader, line.unsent = found, Reader(), b""
        line.base, line.pinged_at, line.heard_at = began, None, now
        assert self._selector is not None
        self._selector.register(found, selectors.EVENT_READ, line)
        self._guarded(line, selectors.EVENT_READ, rest)

    def _guarded(self, line: Line, events: int, rest: bytes = b"") -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._write(line, b"")
            if events & selectors.EVENT_READ:
                self._read(line, rest)
        except (OSError, Garbled) as fault:
            _log.debug("A socket broke: %s", fault)
            self._broke(line, 1006)
        except Exception:  # noqa: BLE001  # the thread outlives any bug
            _log.exception("A socket failed in an unforeseen way")
            self._broke(line, 1006)

    def _read(self, line: Line, data: bytes) -> None:
        while line.sock is not None:
            if not data:
                try:
                    data = line.sock.recv(RECEIVE)
                except (BlockingIOError, ssl.SSLWantReadError):
                    return
                if not data:
                    self._broke(line, 1006)
                    return
            line.heard_at = self._world.now()
            for frame in line.reader.feed(data):
                self._hear(line, frame)
            data = b""

    def _hear(self, line: Line, frame: Frame) -> None:
        if frame.kind == PING:
            self._write(line, written(PONG, frame.payload))
        elif frame.kind == PONG:
            if line.pinged_at is not None:
                line.base, line.pinged_at = line.pinged_at, None
        elif frame.kind == CLOSE:
            self._broke(line, int.from_bytes(frame.payload[:2], "big") or 1005)
        elif frame.kind == TEXT and line.leave_at == float("inf"):
            with contextlib.suppress(msgspec.MsgspecError):  # of a version to come
                self._understand(line, _decode(frame.payload))

    def _understand(self, line: Line, said: Said) -> None:
        hold, token = line.hold, line.token
        if said.type in {"open", "alive"} and said.expires_in is not None:
            line.failures = 0
            self.heard(hold, token, said.expires_in, line.base)
            if idle := idleness(hold):
                self._write(line, written(TEXT, msgspec.json.encode({"type": "beat", **idle})))
            if line.pinged_at is None:
                line.pinged_at = self._world.now()
                self._write(line, written(PING, b""))
        elif said.type == "ask":
            if hold.held(self._world.now()):
                self._write(line, written(TEXT, b'{"type":"here"}'))
        elif said.type in {"lost", "superseded", "session_expired"}:
            self.stirred(hold, token)
        elif said.type == "policy" and said.heartbeat_interval and said.lost_after:
            self.adapted(hold, token, said.heartbeat_interval, said.lost_after)

    def heard(self, hold: Hold, token: Secret, expires_in: float, sent_at: float) -> None:
        """Note that the lease was certain for so long at some instant after `sent_at`. This and what
        follows may be about a lease that is over by now."""
        with self._holding:
            if hold.grant is not None and hold.grant.token is token:
                chance = self._world.chance()
                hold.confirmed(expires_in, sent_at, self._world.now(), chance=chance)
                self._replan(hold)

    def stirred(self, hold: Hold, token: Secret) -> None:
        """Note that something has happened to the lease: a heartbeat tells what."""
        with self._holding:
            if hold.grant is not None and hold.grant.token is token and hold.due < float("inf"):
                hold.due = min(hold.due, self._world.now())
                self._replan(hold)

    def adapted(self, hold: Hold, token: Secret, interval: float, lost_after: float) -> None:
        """Note that the policy has changed."""
        with self._holding:
            if hold.grant is not None and hold.grant.token is token:
                hold.adapted(interval, lost_after, self._world.now())
        self.stirred(hold, token)

    def _write(self, line: Line, data: bytes) -> None:
        """Write what there is, or keep it until the socket takes more. Raises OSError."""
        with self._lock:
            sock, line.unsent = line.sock, line.unsent + data
            if sock is None:
                return
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                while line.unsent:
                    line.unsent = line.unsent[sock.send(line.unsent) :]
            if len(line.unsent) > UNSENT_MAX:
                raise ConnectionError("nobody reads what is written")
            more = selectors.EVENT_WRITE if line.unsent else 0
            if self._selector is not None and not self._closed:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.modify(sock, selectors.EVENT_READ | more, line)

    def _broke(self, line: Line, code: int) -> None:
        self._hang_up(line)
        now = self._world.now()
        if code in ENDED:
            line.dial_at = float("inf")
            with self._lock:
                if self._lines.get(id(line.hold)) is line:
                    del self._lines[id(line.hold)]
            if line.leave_at == float("inf"):
                self.stirred(line.hold, line.token)
        elif code == 1012:
            line.dial_at = now + RESTART * self._world.chance()
        else:
            line.dial_at = now + backoff(line.failures, self._world.chance(), RETRY_MAX)
            line.failures += 1
        self._stir()

    def _hang_up(self, line: Line) -> None:
        with self._lock:
            sock, line.sock = line.sock, None
        if sock is not None:
            self._open -= 1
            if self._selector is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(sock)
            sock.close()
        line.ended.set()


def _sockets_max() -> int:
    """Return how many sockets may be open: half of what the system lets this process open."""
    try:
        import resource  # noqa: PLC0415  # not on Windows
    except ImportError:
        return 256
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 100_000 if soft == resource.RLIM_INFINITY else max(1, soft // 2)
