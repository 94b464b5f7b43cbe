"""The fault proxy does to a connection what its modes say."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from sojourn.testing.processes import wait_until
from sojourn.testing.proxy import FaultProxy

ANSWER_TIMEOUT = 5.0
SILENCE = 0.1  # seconds without an answer that count as none


class Echo(socketserver.StreamRequestHandler):
    """Answers each line with itself, and remembers it."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, EchoServer)
        for line in self.rfile:
            server.heard.append(line)
            self.wfile.write(line)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.heard: list[bytes] = []

    def handle_error(self, *_: object) -> None:
        """A connection the proxy reset is no news."""


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy(f"http://somebody@127.0.0.1:{echo.server_address[1]}/path?a=b") as proxy:
        yield proxy


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=ANSWER_TIMEOUT)


def ask(connection: socket.socket, line: bytes) -> bytes:
    connection.sendall(line)
    return connection.recv(100)


def test_pass(proxy: FaultProxy) -> None:
    """Bytes arrive as they were sent, in both directions."""
    with connect(proxy) as connection:
        assert ask(connection, b"one\n") == b"one\n"
        assert ask(connection, b"two\n") == b"two\n"


def test_url(proxy: FaultProxy) -> None:
    """The URL is the target's, save for host and port."""
    assert proxy.url == f"http://somebody@127.0.0.1:{proxy.port}/path?a=b"


def test_url_without_port() -> None:
    with pytest.raises(ValueError, match="names no port"):
        FaultProxy("http://127.0.0.1/")


def test_end_of_stream_passes(proxy: FaultProxy) -> None:
    """A client that has said all still hears the whole answer."""
    with connect(proxy) as connection:
        connection.sendall(b"last\n")
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read() == b"last\n"


def test_latency(proxy: FaultProxy) -> None:
    """Request and answer each take the time asked for."""
    with connect(proxy) as connection:
        ask(connection, b"warm\n")
        proxy.latency(0.05)
        start = time.monotonic()
        assert ask(connection, b"slow\n") == b"slow\n"
        assert time.monotonic() - start >= 0.1


def test_blackhole(proxy: FaultProxy, echo: EchoServer) -> None:
    """Nothing arrives and nothing is closed; what was sent arrives once the network heals."""
    with connect(proxy) as connection:
        ask(connection, b"before\n")
        proxy.blackhole()
        connection.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            ask(connection, b"lost?\n")
        assert echo.heard == [b"before\n"]
        proxy.pass_through()
        connection.settimeout(ANSWER_TIMEOUT)
        assert connection.recv(100) == b"lost?\n"


def test_blackhole_of_responses(proxy: FaultProxy, echo: EchoServer) -> None:
    """The server hears and acts; its answer arrives once the network heals."""
    with connect(proxy) as connection:
        ask(connection, b"before\n")
        proxy.blackhole(requests=False)
        connection.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            ask(connection, b"heard\n")
        assert echo.heard == [b"before\n", b"heard\n"]
        proxy.pass_through()
        connection.settimeout(ANSWER_TIMEOUT)
        assert connection.recv(100) == b"heard\n"


def test_blackhole_of_requests(proxy: FaultProxy, echo: EchoServer) -> None:
    """What the server sends arrives, though it hears nothing any more."""
    proxy.latency(0.05)
    with connect(proxy) as connection:
        connection.sendall(b"before\n")
        assert wait_until(lambda: echo.heard == [b"before\n"], ANSWER_TIMEOUT)
        proxy.blackhole(responses=False)
        connection.settimeout(ANSWER_TIMEOUT)
        assert connection.recv(100) == b"before\n"
        connection.settimeout(SILENCE)
        with pytest.raises(TimeoutError):
            ask(connection, b"lost?\n")
        assert echo.heard == [b"before\n"]


def test_reset(proxy: FaultProxy) -> None:
    """Open connections are reset, new ones too, until the network heals."""
    with connect(proxy) as connection:
        ask(connection, b"before\n")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with pytest.raises(ConnectionError), connect(proxy) as connection:
        ask(connection, b"again\n")
    proxy.pass_through()
    with connect(proxy) as connection:
        assert ask(connection, b"after\n") == b"after\n"


def test_refuse(proxy: FaultProxy) -> None:
    """New connections are refused, then taken again on the same port."""
    port = proxy.port
    with connect(proxy) as connection:
        ask(connection, b"before\n")
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.pass_through()
    assert proxy.port == port
    with connect(proxy) as connection:
        assert ask(connection, b"after\n") == b"after\n"


def test_cut(proxy: FaultProxy) -> None:
    """Open connections are reset, new ones work."""
    with connect(proxy) as connection:
        ask(connection, b"before\n")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with connect(proxy) as connection:
        assert ask(connection, b"after\n") == b"after\n"


def test_drop_response(proxy: FaultProxy, echo: EchoServer) -> None:
    """The server acts on the request, and the client is cut off instead of answered."""
    with connect(proxy) as connection:
        proxy.drop_response(matching=b"commit")
        assert ask(connection, b"begin\n") == b"begin\n"
        with pytest.raises(ConnectionResetError):
            ask(connection, b"commit\n")
    assert proxy.wait_dropped()
    assert echo.heard == [b"begin\n", b"commit\n"]


def test_server_down() -> None:
    """A server that is not there shows as a reset, not as silence."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with FaultProxy(url) as proxy, pytest.raises(ConnectionError), connect(proxy) as connection:
            ask(connection, b"anybody?\n")
