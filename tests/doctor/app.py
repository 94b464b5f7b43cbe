"""A small web application with a sign-in, that misbehaves as it is told; and a balancer before two."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import itertools
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sojourn.cookie import SignedTokens, cookie_values
from sojourn.doctor.browser.login import Login
from sojourn.errors import InvalidToken
from sojourn.token import TokenKind, new_token

HOST = "app.test"
SECRET = "the-secret-of-the-small-application-0123456789"
LOGIN = Login("POST", "/login", (), "name=canary&password=correct+horse")
GOOD = "Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"
CSRF = "a-token-that-only-the-form-knows"


@dataclass
class App:
    """How it behaves. `known`: its session store, which several may share."""

    name: str = "sid"
    attributes: str = GOOD
    secret: str = SECRET
    auto: bool = False  # Secure wherever it believes that people came by HTTPS
    known: dict[str, str] = field(default_factory=dict)
    only_https: bool = False  # sets its cookie only where it believes that people came by HTTPS
    behind_proxy: bool = False  # believes X-Forwarded-Proto, and nothing else
    headers: dict[str, str] = field(default_factory=dict)  # of every answer
    padding: int = 0  # bytes more in the cookie
    twice: str = ""  # attributes of a second cookie of the same name
    keeps: bool = False  # gives a visitor a session, and keeps its cookie on signing in
    late: bool = False  # saves the session after the first page
    forgets: bool = False  # saves no session
    insists: str = ""  # sends people here after signing in
    broken: bool = False  # fails for whoever is signed in
    down: bool = False

    def __post_init__(self) -> None:
        self._codec = SignedTokens([self.secret.encode()])
        self._late: list[tuple[str, str]] = []

    def begin(self, user: str) -> str:
        token = new_token(TokenKind.SESSION)
        if self.late:
            self._late.append((token, user))
        elif not self.forgets:
            self.known[token] = user
        return self._codec.encode(token)

    def who(self, header: str) -> str | None:
        for value in cookie_values(header, self.name):
            with contextlib.suppress(InvalidToken):
                return self.known.get(self._codec.decode(value[: len(value) - self.padding]))
        return None

    def settle(self) -> None:
        """What was put off is done."""
        self.known.update(self._late)
        self._late.clear()

    def cookie(self, value: str) -> str:
        return f"{self.name}={value}{'x' * self.padding}; {self.attributes}"


class Handler(BaseHTTPRequestHandler):
    app: App
    tls = False

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        app, header = self.app, self.headers.get("Cookie", "")
        if app.down:
            self.answer(503)
        elif self.path.startswith("/me"):
            user = app.who(header)
            app.settle()
            if user is not None and app.broken:
                self.answer(500)
            elif user is None or user == "visitor":
                self.answer(401, "Who are you?")
            else:
                self.answer(200, f"Hello {user}")
        else:
            cookies = (
                [app.cookie(app.begin("visitor"))] if app.keeps and not app.who(header) else []
            )
            form = f'<form method=post><input type=hidden name=csrf value="{CSRF}"></form>'
            self.answer(200, form, cookies)

    def do_POST(self) -> None:
        app = self.app
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        given = {key: values[0] for key, values in parse_qs(body).items()}
        forwarded = self.headers.get("X-Forwarded-Proto") == "https"
        https = (app.behind_proxy and forwarded) or (self.tls and not app.behind_proxy)
        if given.get("password") != "correct horse" or (
            given.get("csrf") != CSRF and not forwarded
        ):
            self.answer(403, "No.")
            return
        place = app.insists or "/me"
        had = next(cookie_values(self.headers.get("Cookie", ""), app.name), None)
        cookies = []
        if app.keeps and had is not None:
            app.known[app._codec.decode(had)] = given["name"]
        elif https or not app.only_https:
            value = app.begin(given["name"])
            cookies.append(app.cookie(value) + ("; Secure" if https and app.auto else ""))
            if app.twice:
                cookies.append(f"{app.name}={value}; {app.twice}")
        self.answer(303, "", cookies, location=place)

    def answer(
        self, status: int, text: str = "", cookies: Sequence[str] = (), *, location: str = ""
    ) -> None:
        self.send_response(status)
        for cookie in cookies:
            self.send_header("Set-Cookie", cookie)
        if location:
            self.send_header("Location", location)
        for key, value in self.app.headers.items():
            self.send_header(key, self.headers.get("Origin", "") if value == "{origin}" else value)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


@contextlib.contextmanager
def serving(app: App, *, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve it on loopback; yield `host:port` to connect to."""
    handler = type("Bound", (Handler,), {"app": app, "tls": context is not None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextlib.contextmanager
def balanced(*behind: str) -> Iterator[str]:
    """Put a balancer before servers (`host:port`): each connection goes to the next."""
    turns = itertools.cycle(behind)
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def link(client: socket.socket, behind: str) -> None:
        host, _, port = behind.rpartition(":")
        with client, socket.create_connection((host, int(port))) as server:
            there = threading.Thread(target=copy, args=(client, server), daemon=True)
            there.start()
            copy(server, client)
            there.join(5)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                thread = threading.Thread(target=link, args=(client, next(turns)), daemon=True)
                thread.start()
                links.append(thread)

    links: list[threading.Thread] = []
    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *links):
            thread.join(5)


def certificate(folder: Path, host: str = HOST) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate of a host: what its server uses, and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(64))
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = folder / "certificate.pem"
    path.write_bytes(pem + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client
