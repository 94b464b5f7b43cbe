"""How requests travel: kept connections, proxies, certificates, forks, and what is bounded."""

from __future__ import annotations

import base64
import contextlib
import http.server
import os
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.doctor.app import certificate
from tests.unit.client.test_client_http import (
    PATIENCE,
    Behavior,
    Misbehaving,
    good,
    serving,
    silent,
)

from sojourn import exchange
from sojourn.client import sockets
from sojourn.client.opening import open_transport, target_at
from sojourn.client.transport import Answer, NoAnswer, Request, Transport, headers, with_query
from sojourn.errors import InvalidInput, SettingsError
from sojourn.token import Secret, TokenKind, new_token

KEY = new_token(TokenKind.LICENSE)
LIMIT = 100_000
ASKED = Request(method="GET", path="/a", headers={})


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def reaching(url: str, **options: Any) -> Iterator[Transport]:
    with contextlib.closing(open_transport(target_at(url), **options)) as transport:
        yield transport


def ask(
    transport: Transport, request: Request = ASKED, *, timeout: float = PATIENCE, limit: int = LIMIT
) -> Answer:
    return transport.send(request, timeout=timeout, limit=limit)


class Echo(http.server.BaseHTTPRequestHandler):
    """Says what it was asked; as a proxy, it connects when told to."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, EchoServer)
        server.asked.append((self.path, dict(self.headers)))
        server.ports.add(self.client_address[1])
        said = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET  # noqa: N815  # the name that http.server calls

    def do_CONNECT(self) -> None:
        server = self.server
        assert isinstance(server, EchoServer)
        server.asked.append((self.path, dict(self.headers)))
        if server.refuses:
            self.send_error(server.refuses)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
            back.start()
            pump(self.connection, there)
            back.join(PATIENCE)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests read `asked`."""


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class EchoServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.ports: set[int] = set()
        self.refuses = 0
        super().__init__(("127.0.0.1", 0), Echo)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


# --- connections that are kept ---


def test_a_connection_serves_one_request_after_the_other() -> None:
    server = EchoServer()
    with serving(server) as url, reaching(url + "/below/") as transport:
        body = Request(method="POST", path="/a?b=c", headers={}, body=b"x" * 70_000)
        answers = [ask(transport, body) for _ in range(3)]
    assert [(each.status, each.body) for each in answers] == [(200, body.body)] * 3
    assert answers[0].headers["x-path"] == "/below/a?b=c"
    assert len(server.ports) == 1
    assert server.asked[0][1]["Host"] == f"127.0.0.1:{server.port}"


def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    server = EchoServer()
    with serving(server) as url, reaching(url) as transport:
        ask(transport)
        monkeypatch.setattr(sockets, "IDLE_CONNECTION", -1.0)
        ask(transport)
    assert len(server.ports) == 2


def test_no_more_connections_than_allowed() -> None:
    """Who comes late waits, and has sent nothing when its time is over."""
    server = Misbehaving(silent)
    with serving(server) as url, reaching(url, connections=1) as transport:
        first: list[object] = []

        def hold() -> None:
            with pytest.raises(NoAnswer) as broken:
                ask(transport)
            first.append(broken.value)

        thread = threading.Thread(target=hold)
        thread.start()
        while not server.connections:
            threading.Event().wait(0.005)
        with pytest.raises(NoAnswer) as late:
            ask(transport, timeout=0.05)
        assert (late.value.sent, late.value.slow) == (False, True)
        transport.close()  # breaks the other one off
        thread.join(PATIENCE)
        server.over.set()
    assert isinstance(first[0], NoAnswer)
    assert (first[0].sent, first[0].slow) == (True, False)
    with pytest.raises(NoAnswer, match="closed"):
        ask(transport)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_uses_no_connection_of_its_parents() -> None:
    """Two processes on one connection read each other's answers."""
    server = EchoServer()
    with serving(server) as url, reaching(url) as transport:
        ask(transport)
        child = os.fork()
        if not child:
            os._exit(7 if ask(transport).status == 200 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert len(server.ports) == 2
        ask(transport)  # the parent's is as it was
        assert len(server.ports) == 2


# --- answers ---


def says(*parts: bytes) -> Behavior:
    def behave(connection: socket.socket, over: threading.Event) -> None:
        for part in parts:
            connection.sendall(part)

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b"abcde"),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            b"ok",
        ),
    ],
)
def test_an_answer_in_each_of_its_forms(said: bytes, status: int, body: bytes) -> None:
    with serving(Misbehaving(says(said))) as url, reaching(url) as transport:
        answer = ask(transport)
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        CHUNKED + b"3\r\nab",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"3\r\nabc\r\n0\r\n",
        CHUNKED + b"many\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
        CHUNKED + b"30d40\r\n" + b"x" * 200_000 + b"\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 200_000,
    ],
)
def test_an_answer_that_is_not_whole_or_too_long_is_none(said: bytes) -> None:
    """Wherever it breaks off: a head without its end is no answer either."""
    server = Misbehaving(says(said))
    with serving(server) as url, reaching(url) as transport:
        with pytest.raises(NoAnswer) as broken:
            ask(transport)
        assert (broken.value.sent, broken.value.slow) == (True, False)
        server.behavior = good
        assert ask(transport).status == 201  # and the next one is not read from what is left


@pytest.mark.parametrize("verb", ["getresponse", "whole"])
def test_what_was_interrupted_is_not_the_next_ones_answer(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody presses Ctrl-C while an answer is read, and goes on."""
    server = EchoServer()
    owner = exchange.TimedConnection if verb == "getresponse" else exchange.FinalAnswer

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with serving(server) as url, reaching(url) as transport:
        ask(transport)
        body = Request(method="POST", path="/", headers={}, body=b"not for others")
        with monkeypatch.context() as patch:
            patch.setattr(owner, verb, interrupt)
            with pytest.raises(KeyboardInterrupt):
                ask(transport, body)
        assert ask(transport).body == b"hello"
    assert len(server.ports) == 2


@pytest.mark.parametrize("head", [True, False])
def test_a_drop_now_and_then_is_no_answer(head: bool) -> None:
    """The deadline is for all of it: each drop would have come in time."""

    def drip(connection: socket.socket, over: threading.Event) -> None:
        begin = (
            b"HTTP/1.1 200 OK\r\n" if head else b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
        )
        connection.sendall(begin)
        while not over.wait(0.02):
            connection.sendall(b"X: y\r\n" if head else b"x")

    server = Misbehaving(drip)
    with serving(server) as url, reaching(url) as transport:
        with pytest.raises(NoAnswer) as slow:
            ask(transport, timeout=0.2)
        assert (slow.value.sent, slow.value.slow) == (True, True)
        server.over.set()


def test_a_header_that_cannot_be_written_is_not_shown() -> None:
    with serving(EchoServer()) as url, reaching(url) as transport:
        said = headers(Secret("sjk_hidden\r\nX: y"), body=None)
        with pytest.raises(NoAnswer) as refused:
            ask(transport, Request(method="GET", path="/", headers=said))
    assert not refused.value.sent
    shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
    assert "hidden" not in "".join(shown.format())


# --- certificates ---


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return certificate(tmp_path_factory.mktemp("tls"), "localhost")


def test_a_certificate_is_checked(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    theirs, ours = tls
    server = EchoServer(theirs)
    url = f"https://localhost:{server.port}"
    with serving(server):
        with reaching(url, verify=ours) as transport:
            assert ask(transport).body == b"hello"
            assert ask(transport).body == b"hello"
        with reaching(url, verify=False) as transport:
            assert ask(transport).body == b"hello"
        with reaching(url) as transport, pytest.raises(NoAnswer, match="not trusted") as refused:
            ask(transport)
    assert not refused.value.sent
    assert len(server.ports) == 2


def test_where_the_system_trusts_nobody_mozillas_list_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(exchange, "_system_has_certificates", lambda: False)
    monkeypatch.setattr(
        ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    made = exchange.trusted.__wrapped__()
    assert len(made.get_ca_certs()) > 50
    monkeypatch.setenv("SSL_CERT_FILE", "/somebody/has/chosen.pem")
    assert not exchange.trusted.__wrapped__().get_ca_certs()


# --- proxies ---


@pytest.fixture
def proxy() -> Iterator[EchoServer]:
    server = EchoServer()
    with serving(server):
        yield server


def test_a_plain_request_through_a_proxy(
    proxy: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
    with reaching("http://licenses.test:81/x", proxies=True) as transport:
        ask(transport)
        ask(transport)
    (path, said), _ = proxy.asked
    assert path == "http://licenses.test:81/x/a"
    assert said["Host"] == "licenses.test:81"
    assert said["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert len(proxy.ports) == 1


def test_tls_through_a_proxy(
    proxy: EchoServer,
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, ours = tls
    server = EchoServer(theirs)
    monkeypatch.setenv("HTTPS_PROXY", f"me:secret@127.0.0.1:{proxy.port}")
    monkeypatch.setattr(exchange, "LOOPBACK", frozenset())
    url = f"https://localhost:{server.port}"
    with serving(server), reaching(url, verify=ours, proxies=True) as transport:
        said = headers(Secret(KEY), body=None)
        assert ask(transport, Request(method="GET", path="/", headers=said)).body == b"hello"
        assert ask(transport).body == b"hello"
    assert [path for path, _ in proxy.asked] == [f"localhost:{server.port}"]
    assert "Authorization" not in proxy.asked[0][1]
    assert "Proxy-Authorization" not in server.asked[0][1]
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"


def test_a_proxy_that_refuses(proxy: EchoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.refuses = 407
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
    refusing = pytest.raises(NoAnswer, match=r"the proxy 127\.0\.0\.1:\d+ answered 407")
    with reaching("https://licenses.test", proxies=True) as transport, refusing as refused:
        ask(transport)
    assert not refused.value.sent


@pytest.mark.parametrize(
    ("url", "excepted"),
    [
        ("http://127.0.0.1", ""),
        ("http://localhost", ""),
        ("http://licenses.test", "licenses.test"),
        ("http://eu.licenses.test:8700", ".licenses.test"),
        ("http://licenses.test:81", "licenses.test:81"),
        ("https://licenses.test", "*"),
    ],
)
def test_who_is_asked_past_the_proxy(
    url: str, excepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.test:1")
    target = target_at("http://elsewhere.test")
    monkeypatch.setenv("NO_PROXY", excepted)
    assert exchange.proxy_for(target_at(url)) is None
    assert (exchange.proxy_for(target) is None) is (excepted == "*")


@pytest.mark.parametrize("bad", ["socks5://proxy.test:1", "https://proxy.test", "http://"])
def test_a_proxy_that_is_not_spoken_to(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", bad)
    with pytest.raises(SettingsError, match="proxy that cannot be used") as refused:
        open_transport(target_at("https://licenses.test"), proxies=True)
    assert "NO_PROXY" in str(refused.value.hint)


def test_a_server_of_ones_own_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.test:1")
    open_transport(target_at("https://licenses.test")).close()


# --- addresses ---


@pytest.mark.parametrize(
    ("url", "name", "host", "port"),
    [
        ("http://a.test", "http://a.test", "a.test", 80),
        ("https://A.test/b/", "https://a.test/b", "a.test", 443),
        ("https://me:word@a.test:8443/x?y#z", "https://a.test:8443/x", "a.test", 8443),
        ("http://[::1]:8700", "http://[::1]:8700", "::1", 8700),
        (
            "https://bücher.test/ä b",
            "https://xn--bcher-kva.test/%C3%A4%20b",
            "xn--bcher-kva.test",
            443,
        ),
    ],
)
def test_a_url_taken_apart(url: str, name: str, host: str, port: int) -> None:
    target = target_at(url)
    assert (target.url, target.host, target.port) == (name, host, port)
    assert "word" not in repr(target)


@pytest.mark.parametrize(
    "url",
    ["", "a.test", "ftp://a", "http://", "http://a:0", "http://a:x", "http://[a", "http://a b"],
)
def test_a_url_that_names_no_server(url: str) -> None:
    with pytest.raises(InvalidInput):
        target_at(url)


def test_the_next_address_is_tried_where_one_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = EchoServer()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()
        places = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", closed)]
        places.append((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port)))
        with serving(server), monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
            with reaching("http://two.test") as transport:
                assert ask(transport).body == b"hello"


def test_a_query_as_it_is_written() -> None:
    assert with_query("/a/b c", {}) == "/a/b%20c"
    assert with_query("/a%2Fb", {"x": "ä &", "y": [1, "2"]}) == "/a%2Fb?x=%C3%A4+%26&y=1&y=2"
