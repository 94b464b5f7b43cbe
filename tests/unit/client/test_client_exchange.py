"""Exchanges that somebody would have go on for ever, break off half-way, or end in another process."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api_harness import World, served
from tests.doctor.app import certificate
from tests.unit.client.test_client_http import PATIENCE, Misbehaving, good, reset, serving
from tests.unit.client.test_client_transport import CHUNKED, EchoServer, ask, reaching, says
from tests.unit.client.test_client_transport import no_proxies as no_proxies
from tests.waiting import DEADLINE

from sojourn import exchange
from sojourn.client import sockets
from sojourn.client.errors import SeatProblem, fault_of
from sojourn.client.sessions import RemoteSessions
from sojourn.client.transport import NoAnswer, Request
from sojourn.ledger import Role
from sojourn.session import Begin, Begun, Check, Session

FLOOD = 64 * 1_048_576  # bytes; more than all the buffers on the way hold
SIZES = [b"-1", b"+3", b"0x3", b"0_3", b" 3", b"3 ", b"", b"\xb2"]


@pytest.mark.parametrize("size", SIZES)
def test_a_chunk_has_a_size_in_hexadecimal_digits_and_no_other(size: bytes) -> None:
    """-1 would mean: all that comes, whatever the bound is."""
    whole: list[bool] = []

    def flood(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(CHUNKED + size + b"\r\n")
        with contextlib.suppress(OSError):
            for _ in range(FLOOD // 65_536):
                connection.sendall(b"x" * 65_536)
            whole.append(True)

    server = Misbehaving(flood)
    with serving(server) as url, reaching(url) as transport:
        with pytest.raises(NoAnswer, match="has no size") as broken:
            ask(transport)
        assert server.closed.acquire(timeout=60)
    assert (broken.value.sent, broken.value.slow) == (True, False)
    assert not whole


def test_chunks_as_servers_write_them() -> None:
    said = CHUNKED + b"00A;of=ten\r\n0123456789\r\na\r\n0123456789\r\n0\r\nX: y\r\n\r\n"
    with serving(Misbehaving(says(said))) as url, reaching(url) as transport:
        assert ask(transport).body == b"0123456789" * 2


def test_a_fault_while_an_answer_is_read_does_not_mean_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("as of a file that is closed")

    server = EchoServer()
    with serving(server) as url, reaching(url) as transport:
        monkeypatch.setattr(exchange.FinalAnswer, "whole", fail)
        with pytest.raises(NoAnswer) as broken:
            ask(transport)
    assert len(server.asked) == 1
    assert (broken.value.sent, broken.value.slow) == (True, False)


def test_who_closes_while_a_connection_is_made_has_nothing_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that leaves later takes a seat that nobody gives back."""
    made, closed = threading.Event(), threading.Event()
    dial = exchange.dial

    def slow(*args: Any, **options: Any) -> socket.socket:
        raw = dial(*args, **options)
        made.set()
        assert closed.wait(DEADLINE)
        return raw

    monkeypatch.setattr(exchange, "dial", slow)
    server = EchoServer()
    faults: list[NoAnswer] = []
    with serving(server) as url, reaching(url) as transport:

        def send() -> None:
            with pytest.raises(NoAnswer, match="closed") as broken:
                ask(transport)
            faults.append(broken.value)

        thread = threading.Thread(target=send)
        thread.start()
        assert made.wait(DEADLINE)
        transport.close()
        closed.set()
        thread.join(DEADLINE)
    assert server.asked == []
    assert [(each.sent, each.slow) for each in faults] == [(False, False)]


def test_what_is_broken_off_goes_on_being_encrypted(tmp_path: Path) -> None:
    """Another thread may be about to write: without its TLS a socket takes plain text."""
    theirs, ours = certificate(tmp_path, "localhost")
    server = EchoServer(theirs)
    with serving(server):
        target = exchange.target_of(f"https://localhost:{server.port}")
        connection = exchange.TimedConnection(target, context=ours)
        connection.deadline = time.monotonic() + PATIENCE
        connection.connect()
        with contextlib.closing(connection):
            connection.break_off()
            assert connection.sock._raw.version() is not None
            with pytest.raises(OSError):
                connection.sock.sendall(b"not in plain text")


def hurried(connection: socket.socket, over: threading.Event) -> None:
    """Answer at the head, read no body, and close."""
    connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch")


def test_an_answer_that_comes_before_the_request_is_whole() -> None:
    server = Misbehaving(hurried)
    body = b"x" * FLOOD
    with serving(server) as url, reaching(url) as transport:
        answer = ask(transport, Request(method="POST", path="/", headers={}, body=body))
        assert (answer.status, answer.body) == (413, b"much")
        server.behavior = good
        assert ask(transport).status == 201  # on a connection of its own
        assert server.connections == 2


def test_a_connection_that_breaks_without_an_answer_was_broken() -> None:
    large = Request(method="POST", path="/", headers={}, body=b"x" * FLOOD)
    with (
        serving(Misbehaving(reset)) as url,
        reaching(url) as transport,
        pytest.raises(NoAnswer) as broken,
    ):
        ask(transport, large)
    assert (broken.value.sent, broken.value.slow) == (True, False)


@pytest.mark.parametrize(
    "url",
    [
        "https://svc:s3cret/xyz@idp.test/jwks",
        "https://svc:s3cret@[idp.test/jwks",
        "https://svc:s3cret\u2100@idp.test/jwks",
        "https://s3cret\u00fc" + "x" * 70 + "/jwks",
        "ftp://svc:s3cret@idp.test",
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="names a host") as refused:
        exchange.fetch(url, timeout=1.0, limit=10)
    assert "s3cret" not in "".join(traceback.format_exception(refused.value)[1:])


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("https://[fd00::1]/", True),
        ("https://[fd00::1]:8443/", True),
        ("https://[fd00::2]/", False),
        ("https://lic.test/", True),
        ("https://lic.test:8443/", False),
        ("http://lic.test/", False),
        ("https://[fd00::3]/", True),
        ("https://[fd00::3]:8443/", False),
    ],
)
def test_who_is_asked_past_the_proxy(
    url: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses with brackets and without; a port is said, also where it is the usual one."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.test:1")
    monkeypatch.setenv("NO_PROXY", "fd00::1,lic.test:443,[fd00::3]:443")
    assert (exchange.proxy_for(exchange.target_of(url)) is None) is direct


def test_a_query_without_a_path_is_asked_of_the_root() -> None:
    assert exchange.target_of("https://a.test?x=1").path == "/?x=1"
    assert exchange.target_of("https://a.test").url == "https://a.test"
    server = EchoServer()
    with serving(server) as url:
        status, _ = exchange.fetch(url + "?x=1", timeout=PATIENCE, limit=10)
    assert (status, [path for path, _ in server.asked]) == (200, ["/?x=1"])


def test_a_retry_after_of_any_length_is_a_time() -> None:
    said = b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\nRetry-After: " + b"9" * 400 + b"\r\n\r\n"
    with serving(Misbehaving(says(said))) as url, reaching(url) as transport:
        assert ask(transport).retry_after == 999_999_999


@pytest.mark.parametrize("code", ["overloaded", "store_unavailable", "seat_limit", "odd"])
@pytest.mark.parametrize("told", [1e308, -1e308, 1e9, -1.0])
def test_a_wait_that_a_refusal_tells_is_one_that_ends(code: str, told: float) -> None:
    fault: Any = fault_of(SeatProblem(code=code, retry_after=told), 503, None)
    assert 0 <= getattr(fault, "retry_after", 0) <= 999_999_999_000


# --- forks ---

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def in_a_child(work: Callable[[], bool]) -> int:
    """Fork, and return how the child ended: 7 if `work` is true there, minus a signal if it never ended."""
    child = os.fork()
    if not child:
        try:
            os._exit(7 if work() else 1)
        finally:
            os._exit(2)
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(0.005)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reading(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Tell when a thread waits for more of an answer's body."""
    waits, inside = threading.Event(), threading.local()
    whole, readinto = exchange.FinalAnswer.whole, exchange._Reader.readinto

    def whole_(self: exchange.FinalAnswer, limit: int) -> bytes:
        inside.body = True
        return whole(self, limit)

    def readinto_(self: exchange._Reader, buffer: Any) -> int:
        if getattr(inside, "body", False):
            waits.set()
        return readinto(self, buffer)

    monkeypatch.setattr(exchange.FinalAnswer, "whole", whole_)
    monkeypatch.setattr(exchange._Reader, "readinto", readinto_)
    return waits


@forks
@pytest.mark.parametrize("kept", [True, False])
def test_a_fork_while_an_answer_is_read(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has the reader's lock, and nobody who would let go of it."""
    waits = reading(monkeypatch)

    def fall_silent(connection: socket.socket, over: threading.Event) -> None:
        said = b"" if kept else b"Connection: close\r\n"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n" + said + b"\r\n")
        over.wait(PATIENCE)
        connection.sendall(b"the whole")

    server = Misbehaving(fall_silent)
    bodies: list[bytes] = []
    with serving(server) as url, reaching(url) as transport:
        assert isinstance(transport, sockets.KeptConnections)
        thread = threading.Thread(target=lambda: bodies.append(ask(transport).body))
        thread.start()
        assert waits.wait(DEADLINE)
        (busy,) = transport._busy
        assert busy._line is not None
        number = busy._line._raw.fileno()

        def child() -> bool:
            gc.collect()
            with pytest.raises(OSError):
                os.fstat(number)
            busy.close()  # nor does whoever has it still hang
            return not transport._busy

        assert in_a_child(child) == 7
        server.over.set()
        thread.join(DEADLINE)
    assert bodies == [b"the whole"]


def test_closing_breaks_off_what_is_read_of_a_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`http.client` hands the socket over to an answer after which the connection closes."""
    waits = reading(monkeypatch)

    def fall_silent(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n")
        over.wait(PATIENCE)

    server = Misbehaving(fall_silent)
    faults: list[NoAnswer] = []
    with serving(server) as url, reaching(url) as transport:

        def read() -> None:
            with pytest.raises(NoAnswer) as broken:
                ask(transport)
            faults.append(broken.value)

        thread = threading.Thread(target=read)
        thread.start()
        assert waits.wait(DEADLINE)
        transport.close()
        thread.join(DEADLINE)
        assert [(each.sent, each.slow) for each in faults] == [(True, False)]
        server.over.set()


@forks
@pytest.mark.parametrize("held", [False, True])
def test_a_forked_process_goes_on_with_sessions_of_a_server(held: bool) -> None:
    """Threads do not come along, and locks that they held stay locked."""
    world = World()
    with (
        served(world) as server,
        contextlib.closing(RemoteSessions(server.url, world.keys[Role.APP])) as sessions,
    ):
        begun = sessions.begin([Begin(user_id="ann"), Begin(user_id="bob")])
        checks = [Check(each.token) for each in begun if isinstance(each, Begun)]

        def child() -> bool:
            found = sessions.check(checks)
            return [each.user_id for each in found if isinstance(each, Session)] == ["ann", "bob"]

        holds, over = threading.Event(), threading.Event()

        def hold() -> None:
            with sessions._lock, sessions._connection._lock:
                holds.set()
                over.wait(PATIENCE)

        if held:
            thread = threading.Thread(target=hold)
            thread.start()
            assert holds.wait(DEADLINE)
        ended = in_a_child(child)
        over.set()
        assert ended == 7
        assert child()  # the parent's threads are as they were
