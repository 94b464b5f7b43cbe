"""Connections to one server, kept between requests: `http.client`, bounded in time, size and number."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import deque

from sojourn.client.forks import renew_after_fork
from sojourn.client.transport import Answer, NoAnswer, Request
from sojourn.exchange import Target, TimedConnection, Unwritable, proxy_for, trusted, words_of

IDLE_CONNECTION = 4.0  # seconds; servers drop idle connections after 5, and a race costs a request


class KeptConnections:
    """A `Transport` over sockets of its own: at most `most` at once, each kept for a moment after its use.

    Connects on first use. A process that was forked starts with none: a connection that two processes write
    to gives one of them the other's answer.
    """

    def __init__(
        self, target: Target, *, most: int, verify: ssl.SSLContext | bool, proxies: bool
    ) -> None:
        self._target = target
        self._most = most
        self._context = context_for(verify) if target.tls else None
        self._proxy = proxy_for(target) if proxies else None
        self.closed = False
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(self._most)
        self._idle: deque[tuple[float, TimedConnection]] = deque()
        self._busy: set[TimedConnection] = set()

    def send(self, request: Request, *, timeout: float, limit: int) -> Answer:
        deadline = time.monotonic() + timeout
        if not self._room.acquire(timeout=max(0.0, timeout)):
            raise NoAnswer("every connection is in use", sent=False, slow=True)
        try:
            connection = self._take()
            connection.deadline = deadline
            try:
                return self._exchange(connection, request, limit)
            finally:
                self._put_back(connection)
        finally:
            self._room.release()

    def close(self) -> None:
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, deque()
            for connection in self._busy:
                connection.break_off()
        for _, connection in idle:
            connection.close()

    def _exchange(self, connection: TimedConnection, request: Request, limit: int) -> Answer:
        sent = False
        try:
            if connection.sock is None:
                connection.connect()
                with self._lock:
                    self._refuse_if_closed()  # by somebody who had nothing yet to break off
            sent = True
            path = self._target.path.rstrip("/") + request.path
            answer = connection.ask(request.method, path, request.headers, request.body)
            body = answer.whole(limit)
            said = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(status=answer.status, headers=said, body=body)
        except Unwritable as fault:
            why, slow, sent = words_of(fault), False, False
        except (OSError, http.client.HTTPException) as fault:
            why, slow = words_of(fault), isinstance(fault, TimeoutError)
        except ValueError:
            why, slow = "the answer cannot be read" if sent else "the host has no name", False
        except BaseException:
            connection.close()  # interrupted: what is left of this answer must not be the next one's
            raise
        connection.close()
        raise NoAnswer(why, sent=sent, slow=slow)

    def _take(self) -> TimedConnection:
        """Return the connection that was used last, if one is open, or a new one."""
        fresh = time.monotonic() - IDLE_CONNECTION
        with self._lock:
            self._refuse_if_closed()
            while self._idle and self._idle[0][0] < fresh:
                self._idle.popleft()[1].close()
            while self._idle:
                connection = self._idle.pop()[1]
                if not connection.sock.has_news():
                    break
                connection.close()
            else:
                connection = TimedConnection(self._target, context=self._context, proxy=self._proxy)
            self._busy.add(connection)
            return connection

    def _refuse_if_closed(self) -> None:
        if self.closed:
            raise NoAnswer("these connections were closed", sent=False, slow=False)

    def _put_back(self, connection: TimedConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if connection.sock is not None and not self.closed:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()

    def forked(self) -> None:
        """Leave the parent its connections: what is closed here stays open there."""
        busy, idle = self._busy, self._idle
        self._begin()
        for connection in busy:
            connection.abandon()
        for _, connection in idle:
            connection.close()


def context_for(verify: ssl.SSLContext | bool) -> ssl.SSLContext:
    if isinstance(verify, ssl.SSLContext):
        return verify
    if verify:
        return trusted()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
