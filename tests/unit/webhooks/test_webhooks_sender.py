"""One POST to a receiver: certificates, deadlines, connections that are kept."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.receiver import Answer, Receiver, receiving
from tests.waiting import ended

from sojourn import exchange
from sojourn.webhook import Attempt
from sojourn.webhooks import sender
from sojourn.webhooks.reach import Reach
from sojourn.webhooks.sender import Line

BODY = b"x" * 200_000


@contextmanager
def peer(talk: Callable[[socket.socket], object], connections: int = 1) -> Iterator[str]:
    """Serve so many connections as `talk` does, and then hang up on each."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(connections):
            connection, _ = listener.accept()
            with connection:
                talk(connection)

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        serving.join()
        listener.close()


def post(url: str, *, timeout: float = 5.0, body: bytes = BODY) -> Attempt:
    line = Line(url, reach=Reach.LOOPBACK, timeout=timeout)
    try:
        return line.post({"webhook-id": "evt_1"}, body)
    finally:
        line.close()


def take(connection: socket.socket) -> None:
    """Read a whole request."""
    got = b""
    while not got.endswith(b"xxx") or len(got) < len(BODY):
        got += connection.recv(65_536)


def test_a_connection_is_kept() -> None:
    """For as long as the receiver keeps it; one that it has closed meanwhile is no failure."""
    answers = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes"

    def twice(connection: socket.socket) -> None:
        for _ in range(2):
            take(connection)
            connection.sendall(answers)

    with peer(twice, connections=2) as url:
        line = Line(url, reach=Reach.LOOPBACK, timeout=5)
        assert [line.post({}, BODY).status for _ in range(4)] == [200] * 4
        line.close()


def test_an_endless_answer() -> None:
    """Its status counts; the rest is cut off."""

    def flood(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b"x" * 65_536)
        except OSError:
            pass

    with peer(flood) as url:
        assert post(url) == Attempt(status=200)


def test_a_chunk_of_less_than_nothing_is_not_read_to_its_end() -> None:
    whole: list[bool] = []

    def flood(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n")
        with contextlib.suppress(OSError):
            for _ in range(1_024):
                connection.sendall(b"x" * 65_536)
            whole.append(True)

    with peer(flood) as url:
        assert post(url) == Attempt(status=200)
    assert not whole


def test_a_receiver_that_refuses_before_it_has_read_all() -> None:
    """It has answered, whatever became of the rest of our request."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(1_024)
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")

    with peer(refuse) as url:
        assert post(url, body=b"x" * 67_108_864) == Attempt(status=413)


@pytest.mark.parametrize("reads", [True, False])
def test_a_receiver_that_dribbles_is_given_up_on(reads: bool) -> None:
    """The deadline is for all of it, not for each byte; in either direction."""
    over = threading.Event()

    def dribble(connection: socket.socket) -> None:
        while not over.wait(0.05):
            try:
                if reads:
                    connection.sendall(b"H")
                else:
                    connection.recv(1)
            except OSError:
                return

    with peer(dribble) as url:
        try:
            attempt = ended(lambda: post(url, timeout=0.5, body=BODY * 100))
        finally:
            over.set()
    assert attempt.error == "No answer within 0.5 s."


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
def test_what_is_no_http(said: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(said)

    with peer(talk) as url:
        attempt = post(url)
    assert attempt.status is None
    assert attempt.error is not None


def test_retry_after_as_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    found = sender._retry_after(later.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    assert found is not None
    assert 80_000 < found <= 91_000
    assert sender._retry_after("Fri, 01 Jan 1999 00:00:00 GMT") == 0
    assert sender._retry_after("later") is None


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Receiver, int]]:
    """A receiver by HTTPS, whose certificate is for `localhost`, and trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    exchange.trusted.cache_clear()
    with receiving(context) as receiver:
        yield receiver, receiver.port
    exchange.trusted.cache_clear()


def test_https(secure: tuple[Receiver, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is checked against the name, though the connection goes to an address."""
    receiver, port = secure
    receiver.answer = lambda _before: Answer(202)
    assert post(f"https://localhost:{port}/a?b") == Attempt(status=202)
    assert receiver.received[0].path == "/a?b"
    assert receiver.received[0].headers["host"] == f"localhost:{port}"
    wrong = post(f"https://127.0.0.1:{port}/")
    assert wrong.error is not None
    assert wrong.error.startswith("The receiver's certificate is not trusted: IP address mismatch")
    monkeypatch.delenv("SSL_CERT_FILE")
    exchange.trusted.cache_clear()
    untrusted = post(f"https://localhost:{port}/")
    assert untrusted.error == "The receiver's certificate is not trusted: self-signed certificate."
    assert len(receiver.received) == 1


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@pytest.mark.parametrize("interim", [INTERIM, b"HTTP/1.1 100 Continue\r\n\r\n" + 3 * INTERIM])
def test_interim_answers_are_no_answers(interim: bytes) -> None:
    """A front of the receiver's may send some before the final one (RFC 9110, 15.2; RFC 8297)."""

    def talk(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(interim + b"HTTP/1.1 204 No Content\r\n\r\n")

    with peer(talk) as url:
        assert post(url) == Attempt(status=204)


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
def test_interim_answers_without_end(status: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        take(connection)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n" + b"")
        connection.sendall(1_000 * (b"HTTP/1.1 " + status + b"\r\n\r\n"))

    with peer(talk) as url:
        assert "speaks no HTTP" in str(post(url).error)
