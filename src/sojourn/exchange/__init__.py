"""What `http.client` lacks for an exchange over HTTP: a deadline for all of it, patience with interim
answers, a bound on what is read, the certificates that this machine trusts, and the way through a proxy.

A socket's timeout is for one wait. Who sends a byte now and then would hold us for as long as they like.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from msgspec import Struct

from sojourn.errors import SettingsError
from sojourn.token import Secret

INTERIM_MAX = 16
"""Interim answers (100 Continue, 103 Early Hints: RFC 9110, 15.2) taken before the final one."""
CHUNK_LINE_MAX = 65_536
"""Bytes of the line that a chunk begins with: its size and extensions."""
HEX_DIGITS = b"0123456789abcdefABCDEF"
PORTS = {"http": 80, "https": 443}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
NO_URL = "a URL begins with http:// or https:// and names a host"
SAFE = "/%:@!$&'()*+,;=~?"
"""Characters of a path and a query that stay as they are."""


class Target(Struct, frozen=True, kw_only=True):
    """Where a request goes: a URL, taken apart."""

    host: str
    port: int
    tls: bool
    path: str  # and query

    @property
    def authority(self) -> str:
        """Return what the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def url(self) -> str:
        return (self.origin + self.path).rstrip("/")

    @property
    def exposed(self) -> bool:
        """Tell whether what is sent there can be read on the way."""
        return not self.tls and self.host not in LOOPBACK


def target_of(url: str) -> Target:
    """Take a URL apart; user, password and fragment are left out. Raises ValueError, which shows nothing of
    it, if it is not one of http(s) that names a host."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode()
    except ValueError:  # it may hold a password, of which a part was taken for a port
        raise ValueError(NO_URL) from None
    if parts.scheme not in PORTS or not host or " " in host or port == 0:
        raise ValueError(NO_URL)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path
    return Target(
        host=host,
        port=port or PORTS[parts.scheme],
        tls=parts.scheme == "https",
        path=quote(path, safe=SAFE),
    )


class Proxy(Struct, frozen=True):
    """An HTTP proxy on the way, and what it is told of us."""

    target: Target
    headers: Mapping[str, Secret]


def proxy_for(target: Target) -> Proxy | None:
    """Return the proxy that the environment names for a target (on Windows and macOS, the system), if any.

    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, as everybody reads them; nothing on this machine is
    behind one. Raises SettingsError for a proxy that is not spoken to by HTTP.
    """
    named = getproxies()
    url = named.get("https" if target.tls else "http") or named.get("all")
    if not url or target.host in LOOPBACK or _is_excepted(target):
        return None
    url = url if "://" in url else f"http://{url}"
    try:
        at = target_of(url)
    except ValueError:
        at = None
    if at is None or at.tls:
        raise SettingsError(
            "The environment names a proxy that cannot be used: only http:// ones are.",
            hint=f"Set HTTPS_PROXY to another, or name {target.host} in NO_PROXY.",
        )
    return Proxy(at, _basic("Proxy-Authorization", url))


def _is_excepted(target: Target) -> bool:
    """Look in NO_PROXY for a host, and for a host and port: an address in brackets or not."""
    bare = f"[{target.host}]" if ":" in target.host else target.host
    return any(proxy_bypass(each) for each in (target.host, bare, f"{bare}:{target.port}"))


def _basic(name: str, url: str) -> dict[str, Secret]:
    """Return the header (RFC 7617) for the user and password that a URL holds, if it does."""
    parts = urlsplit(url)
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {name: Secret("Basic " + base64.b64encode(pair.encode()).decode())}


@cache
def trusted() -> ssl.SSLContext:
    """Trust what the system trusts, or SSL_CERT_FILE and SSL_CERT_DIR name. Loading it takes longer than a
    request.

    Where Python finds nothing that the system trusts (macOS, programs that bring their own Python), or a
    part of it only (Windows), Mozilla's list of certifi counts.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    chosen = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not chosen and (os.name == "nt" or not _system_has_certificates()):
        import certifi  # noqa: PLC0415  # read where it is needed: it unpacks a file

        context.load_verify_locations(certifi.where())
    return context


def _system_has_certificates() -> bool:
    paths = ssl.get_default_verify_paths()  # of those that are there
    if paths.cafile or not paths.capath:
        return bool(paths.cafile)
    with os.scandir(paths.capath) as found:
        return any(found)


def left(deadline: float) -> float:
    """Return the seconds until then, by the monotonic clock. Raises TimeoutError if there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def dial(
    host: str, port: int, deadline: float, *, check: Callable[[str], None] | None = None
) -> socket.socket:
    """Connect to a host: to its addresses in their order, each for its share of the time that is left.

    `check` raises for an address that nobody goes to.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    fault: OSError = OSError("the name has no address")
    for untried, (family, kind, protocol, _, place) in zip(
        range(len(found), 0, -1), found, strict=True
    ):
        if check is not None:
            check(str(place[0]))
        raw = socket.socket(family, kind, protocol)
        try:
            raw.settimeout(left(deadline) / untried)
            raw.connect(place)
        except OSError as error:
            raw.close()
            fault = error
        except BaseException:
            raw.close()
            raise
        else:
            return raw
    raise fault


class TimedSocket:
    """A socket as `http.client` uses one, of which every wait ends at a deadline."""

    def __init__(self, raw: socket.socket, deadline: Callable[[], float]) -> None:
        self._raw = raw
        self._deadline = deadline
        self._reader: _Reader | None = None

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._raw.settimeout(left(self._deadline()))
            view = view[self._raw.send(view) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._reader = _Reader(self._raw, self._deadline)
        return _Lines(self._reader)

    def has_news(self) -> bool:
        """Tell whether the other side has closed, or says what nobody has asked for."""
        if hasattr(select, "poll"):  # takes descriptors of any number
            poll = select.poll()
            poll.register(self._raw, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([self._raw], [], [], 0)[0])

    def break_off(self) -> None:
        """End what another thread is waiting for.

        Not by `SSLSocket.shutdown`: it drops the encryption first, and that thread would go on in plain text.
        """
        socket.socket.shutdown(self._raw, socket.SHUT_RDWR)

    def close(self) -> None:
        self._raw.close()

    def given_away(self) -> socket.socket:
        self._raw.settimeout(left(self._deadline()))
        return self._raw

    def abandon(self) -> None:
        """Close the descriptor in a forked child, and nothing that one of the parent's threads may hold."""
        with contextlib.suppress(OSError):
            os.close(self._raw.detach())
        if self._reader is not None:
            self._reader.close()  # it has no lock of its own; the buffer around it has


class _Reader(io.RawIOBase):
    """What an answer is read from; closing it leaves the socket open for the next one."""

    def __init__(self, raw: socket.socket, deadline: Callable[[], float]) -> None:
        super().__init__()
        self._raw = raw
        self._read = raw.makefile("rb", 0)  # a socket that is closed stays open until this is, too
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._raw.settimeout(left(self._deadline()))
        return self._read.readinto(buffer) or 0

    def close(self) -> None:
        self._read.close()
        super().close()


class _Lines(io.BufferedReader):
    """Reads whole lines or none: `http.client` takes a head that breaks off for one that is over."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and not (size and 0 < size <= len(line)):
            raise http.client.RemoteDisconnected(
                "the connection ended within a line, or before one"
            )
        return line

    def flush(self) -> None:
        """Do nothing: nothing is ever written."""

    def close(self) -> None:
        if not self.closed:  # which takes no lock: a thread that a fork left behind may hold it
            super().close()


class FinalAnswer(http.client.HTTPResponse):
    """An answer whose status is never an interim one: `http.client` knows 100 Continue alone."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(INTERIM_MAX):
            version, status, reason = super()._read_status()  # type: ignore[misc]  # not in its stub
            if not 100 <= status < 200 or status == http.client.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.BadStatusLine("there is no end to its interim answers")

    def _read_next_chunk_size(self) -> int:
        """Take hexadecimal digits alone (RFC 9112, 7.1): `int` takes -1 as well, which reads to the end."""
        line = self.fp.readline(CHUNK_LINE_MAX + 1)
        if len(line) > CHUNK_LINE_MAX:
            raise http.client.LineTooLong("chunk size")
        size = line.partition(b";")[0].removesuffix(b"\n").removesuffix(b"\r")
        if not size or size.strip(HEX_DIGITS):
            raise http.client.HTTPException("a chunk has no size that can be read")
        return int(size, 16)

    def whole(self, limit: int) -> bytes:
        """Read to the end. Raises HTTPException where that comes too early, or not within `limit` bytes."""
        try:
            content = self.read(limit + 1)
            if len(content) > limit:
                raise http.client.HTTPException("the answer is too long")
            if self.length:  # of which `read` with a bound says nothing
                raise http.client.IncompleteRead(content, self.length)
            return content
        finally:
            self.close()


class Unwritable(http.client.HTTPException):
    """A request that cannot be written, as one whose header has a line break; nothing of it was sent."""


class TimedConnection(http.client.HTTPConnection):
    """A connection to one target, of which every wait ends at `deadline`: set that before each request."""

    response_class = FinalAnswer

    def __init__(
        self,
        target: Target,
        *,
        context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        super().__init__(target.host, target.port)
        self.default_port = 443 if target.tls else 80  # the Host header leaves it out
        self.target = target
        self.deadline = 0.0
        self._context = context
        self._proxy = proxy
        self._line: TimedSocket | None = None  # also when `sock` has been handed to the last answer

    def connect(self) -> None:
        at = self.target if self._proxy is None else self._proxy.target
        self.sock: Any = self.secured(dial(at.host, at.port, self.deadline))

    def secured(self, raw: socket.socket) -> TimedSocket:
        """Go on from a connection: through the proxy, and with TLS, if the target has it."""
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.target.tls:
                if self._proxy is not None:
                    self._tunnel_through(self._proxy, TimedSocket(raw, lambda: self.deadline))
                raw.settimeout(left(self.deadline))
                context = self._context or trusted()
                raw = context.wrap_socket(raw, server_hostname=self.target.host)
        except BaseException:
            raw.close()
            raise
        self._line = TimedSocket(raw, lambda: self.deadline)
        return self._line

    def break_off(self) -> None:
        """End what another thread is waiting for."""
        if self._line is not None:
            with contextlib.suppress(OSError):  # no longer connected
                self._line.break_off()

    def hand_over(self) -> socket.socket:
        """Give the socket away, with its waits bounded by what is left until `deadline`: for a protocol
        that begins with HTTP."""
        line, self._line, self.sock = self._line, None, None
        assert line is not None  # connected
        return line.given_away()

    def abandon(self) -> None:
        """Leave the connection to the parent of this process, whatever is under way on it there."""
        if self._line is not None:
            self._line.abandon()

    def ask(
        self, method: str, path: str, headers: Mapping[str, str | Secret], body: bytes | None
    ) -> FinalAnswer:
        """Send a request and read the head of its answer. Raises Unwritable, OSError or HTTPException."""
        if self.sock is None:
            self.connect()
        if self._proxy is not None and not self.target.tls:
            path = self.target.origin + path
            headers = {**self._proxy.headers, **headers}
        try:
            self.request(method, path, body, _revealed(headers))
        except (ValueError, http.client.InvalidURL):  # which would show it
            raise Unwritable("the request cannot be written") from None
        except ConnectionError as fault:
            return self._early(fault)
        answer: FinalAnswer = self.getresponse()  # type: ignore[assignment]  # of our class
        return answer

    def _early(self, fault: ConnectionError) -> FinalAnswer:
        """Read the answer of a server that did not wait for all of a request, such as 413."""
        try:
            answer: FinalAnswer = self.getresponse()  # type: ignore[assignment]  # of our class
        except (OSError, http.client.HTTPException):
            raise fault from None
        line, self.sock = self.sock, None  # nothing may follow half a request
        if line is not None:
            line.close()  # once the answer is read, too
        answer.will_close = True
        return answer

    def _tunnel_through(self, proxy: Proxy, line: TimedSocket) -> None:
        """Have a proxy connect us to the target (RFC 9110, 9.3.6)."""
        there = f"{self.target.authority.removesuffix(f':{self.target.port}')}:{self.target.port}"
        headers = {"Host": there, **_revealed(proxy.headers)}
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"CONNECT {there} HTTP/1.1\r\n{said}\r\n".encode("ascii"))
        answer = FinalAnswer(line, method="CONNECT")  # type: ignore[arg-type]  # as one
        try:
            answer.begin()
            if not 200 <= answer.status < 300:
                raise OSError(f"the proxy {proxy.target.authority} answered {answer.status}")
        finally:
            answer.close()


def _revealed(headers: Mapping[str, str | Secret]) -> dict[str, str]:
    return {k: v.reveal() if isinstance(v, Secret) else v for k, v in headers.items()}


def fetch(url: str, *, timeout: float, limit: int) -> tuple[int, bytes]:
    """GET a URL, once and through the environment's proxy; return the answer's status and body.

    Redirects are not followed. Raises OSError, HTTPException or ValueError, which tell no secret of the URL.
    """
    target = target_of(url)
    connection = TimedConnection(target, proxy=proxy_for(target))
    connection.deadline = time.monotonic() + timeout
    try:
        headers: dict[str, str | Secret] = {
            "Accept": "*/*",
            "Connection": "close",
            **_basic("Authorization", url),
        }
        answer = connection.ask("GET", target.path or "/", headers, None)
        return answer.status, answer.whole(limit)
    finally:
        connection.close()


def words_of(fault: Exception) -> str:
    """Say in few words why nobody was connected to."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({fault.verify_message})"
    if isinstance(fault, OSError):
        return fault.strerror or str(fault) or type(fault).__name__
    return str(fault) or type(fault).__name__
