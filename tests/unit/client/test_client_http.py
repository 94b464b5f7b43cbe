"""The client over real sockets: refused, reset, silent, half-answered and slow connections."""

from __future__ import annotations

import http.server
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from tests.unit.client.client_fakes import KEY, FakeServer, FakeWorld
from tests.waiting import ended

from sojourn.client import Client, SeatState, ServerUnreachable
from sojourn.client import http as http_of_seats
from sojourn.client.http import BODY_MAX, Http, Secret

TIMEOUT = 0.15
PATIENCE = 120.0  # seconds, twice those for which `ended` waits
RESET = struct.pack("ii", 1, 0)  # linger for 0 s: close with a reset
GRANTED = (
    b'{"success":true,"data":{"leaseId":"lse_1","token":"sjl_x","fence":1,'
    b'"heartbeatInterval":30,"lostAfter":90,"expiresIn":90,"resumed":false}}'
)

Behavior = Callable[[socket.socket, threading.Event], None]


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(PATIENCE)


def reset(connection: socket.socket, over: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def nothing(connection: socket.socket, over: threading.Event) -> None:
    """Close politely, without an answer."""


def half_a_head(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-")


def half_a_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(_head(len(GRANTED)) + GRANTED[:40])


def half_a_body_then_silence(connection: socket.socket, over: threading.Event) -> None:
    half_a_body(connection, over)
    over.wait(PATIENCE)


def drop_by_drop(connection: socket.socket, over: threading.Event) -> None:
    """Each byte comes in time, the whole never does."""
    connection.sendall(_head(10_000))
    while not over.wait(TIMEOUT / 5):
        connection.sendall(b" ")


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(_head(2 * BODY_MAX) + b" " * 2 * BODY_MAX)


def gibberish(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")


def good(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(_head(len(GRANTED)) + GRANTED)


def _head(length: int) -> bytes:
    return f"HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\n".encode()


class Misbehaving(socketserver.ThreadingTCPServer):
    """Reads what comes first on each connection, then behaves as told, then closes it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behavior: Behavior) -> None:
        self.behavior = behavior
        self.over = threading.Event()
        self.connections = 0
        self.closed = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        request.recv(65_536)
        self.behavior(request, self.over)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.closed.release()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def connected(url: str) -> Iterator[Http]:
    connection = Http(url, now=time.monotonic)
    connection.open()
    yield connection
    connection.close()


def acquire(connection: Http, timeout: float = TIMEOUT) -> object:
    return connection.acquire(Secret(KEY), {"feature": "render"}, timeout=timeout)


@pytest.mark.parametrize(
    "behavior",
    [
        silent,
        reset,
        nothing,
        half_a_head,
        half_a_body,
        half_a_body_then_silence,
        drop_by_drop,
        gibberish,
    ],
)
def test_a_broken_connection_is_an_unknown_outcome_in_bounded_time(behavior: Behavior) -> None:
    server = Misbehaving(behavior)
    with serving(server) as url, connected(url) as connection:
        with pytest.raises(ServerUnreachable) as caught:
            ended(lambda: acquire(connection))
        assert caught.value.sent
        assert caught.value.__context__ is None
        server.behavior = good
        assert acquire(connection, PATIENCE)  # the pool has recovered
        server.over.set()


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    broke = pytest.raises(ServerUnreachable, match="broke")
    with serving(Misbehaving(endless)) as url, connected(url) as connection, broke:
        connection.release(Secret(KEY), timeout=PATIENCE)


def test_refused_means_nothing_was_sent() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with connected(url) as connection:
            with pytest.raises(ServerUnreachable, match="Cannot connect") as caught:
                acquire(connection)
            assert not caught.value.sent
            assert "sojourn serve" in caught.value.hint


def test_an_unknown_host() -> None:
    cannot = pytest.raises(ServerUnreachable, match="Cannot connect")
    with connected("http://nowhere.invalid") as connection, cannot:
        acquire(connection)


def test_a_connection_closed_while_idle_costs_no_request() -> None:
    server = Misbehaving(good)  # closes after each answer, without a word
    with serving(server) as url, connected(url) as connection:
        for _ in range(5):
            acquire(connection)
            assert server.closed.acquire(timeout=PATIENCE)
        assert server.connections == 5


def test_a_closed_pool_is_no_crash() -> None:
    server = Misbehaving(good)
    with serving(server) as url, connected(url) as connection:
        connection.close()
        with pytest.raises(ServerUnreachable):
            acquire(connection)


def test_who_waits_for_a_seat_takes_no_beats_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many may wait in line as there are connections: those who hold a seat keep it."""
    monkeypatch.setattr(http_of_seats, "CONNECTIONS", 1)
    under_way = threading.Event()

    def behave(connection: socket.socket, over: threading.Event) -> None:
        if server.connections == 1:
            under_way.set()
            over.wait(PATIENCE)
        else:
            good(connection, over)

    server = Misbehaving(behave)
    with serving(server) as url, connected(url) as connection:

        def wait() -> None:
            with pytest.raises(ServerUnreachable):
                acquire(connection, timeout=PATIENCE)

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert under_way.wait(PATIENCE)
        assert connection.beat(Secret("sjl_x"), {}, timeout=PATIENCE).expires_in == 90
        server.over.set()
        waiting.join()


class RealTime(FakeWorld):
    """The fake server's time is this machine's."""

    @property
    def time(self) -> float:
        return time.monotonic()

    @time.setter
    def time(self, value: float) -> None:
        """Only the machine moves it."""


class Handler(http.server.BaseHTTPRequestHandler):
    """The fake license server behind a real socket."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # head and body in one packet

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, LicenseServer)
        length = int(self.headers.get("Content-Length", 0))
        with server.lock:
            answer = server.fake(
                httpx.Request(
                    self.command,
                    f"http://server{self.path}",
                    headers=dict(self.headers),
                    content=self.rfile.read(length),
                    extensions={"timeout": {"read": 0.0}},
                )
            )
            server.ports.add(self.client_address[1])
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Content-Length"):
            self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    do_DELETE = do_POST  # noqa: N815  # the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Tests read `calls`."""


class LicenseServer(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, fake: FakeServer, port: int = 0) -> None:
        self.fake = fake
        self.lock = threading.Lock()
        self.ports: set[int] = set()
        super().__init__(("127.0.0.1", port), Handler)


def test_kept_over_a_real_connection_through_an_outage() -> None:
    """The thread beats, notices the outage, loses the seat in time, and comes back by itself."""
    fake = FakeServer(RealTime(), interval=0.1, lost_after=0.5)
    first = LicenseServer(fake)
    port = int(first.server_address[1])
    told: list[SeatState] = []
    with serving(first) as url:
        client = Client(url, license_key=KEY, timeout=1.0)
        seat = client.seat("render", user="ada", on_change=lambda c: told.append(c.state))
        seat.acquire()
        assert not seat.wait(SeatState.LOST, timeout=0.8)  # longer than the lease
        assert len(fake.times("beat")) >= 4
        assert len(first.ports) == 2  # one for acquires, one for beats, kept alive
        first.fake.always = lambda call: httpx.Response(502)
    assert seat.wait_lost(timeout=PATIENCE)
    assert not [lease for lease in fake.leases if lease.ended]
    fake.always = None
    with serving(LicenseServer(fake, port)):
        assert seat.wait(SeatState.SAFE, timeout=PATIENCE)
        assert len(fake.live()) == 1
        client.close()
        assert not fake.live()
    assert told[0] is SeatState.SAFE
    assert told[-1] is SeatState.RELEASED  # close() waits for callbacks
    assert SeatState.LOST in told


def test_many_threads_share_one_client() -> None:
    fake = FakeServer(RealTime(), capacity=40)
    with serving(LicenseServer(fake)) as url, Client(url, license_key=KEY) as client:
        seats = [client.seat("render", user=f"u{i}") for i in range(40)]
        threads = [threading.Thread(target=seat.acquire) for seat in seats]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(seat.held for seat in seats)
        assert len(fake.live()) == 40
        client.close()
        assert not fake.live()
