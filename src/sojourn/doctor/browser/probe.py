"""Asking an address over HTTP, each time on a connection of its own.

A load balancer chooses a server by connection: so each request may meet another one, as requests of
people do.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from sojourn.destination import is_off_limits
from sojourn.errors import SettingsError, StoreUnavailable
from sojourn.exchange import Target, TimedConnection, dial
from sojourn.log import mask_text

TIMEOUT = 10.0  # seconds for a whole exchange: to connect, ask and read
BODY_MAX = 262_144  # bytes of an answer that are looked at
AGENT = "Mozilla/5.0 (compatible; sojourn-doctor)"
NONE: Mapping[str, str] = MappingProxyType({})


class Unreachable(StoreUnavailable):
    """Nobody answered there."""

    hint = "Check the address, and that the application runs."


class ProbeAnswer(Struct, frozen=True):
    """What came back; headers as they came, doubles too."""

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def get(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name), None)

    def all(self, name: str) -> list[str]:
        return [v for k, v in self.headers if k.lower() == name]

    @property
    def goes_to(self) -> str | None:
        """The address a browser goes on to, if it is sent elsewhere: not to one that cannot be read."""
        place = self.get("location")
        if not place or self.status not in (301, 302, 303, 307, 308):
            return None
        try:
            url = urljoin(self.url, place)
            urlsplit(url).port  # noqa: B018  # read, because what cannot be is told here alone
        except ValueError:
            return None
        return url

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class Probe:
    """Asks one origin. With `via`, connects to `host:port` instead of what the URL names: to one
    server behind a balancer, or before its name is known to all."""

    def __init__(
        self, url: str, *, via: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise SettingsError("This is no address of a web page: " + mask_text(repr(url)))
        self.url = url
        self.origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.https = parts.scheme == "https"
        self.host = parts.hostname
        self._port = port or (443 if self.https else 80)
        self._target = Target(host=self.host, port=self._port, tls=self.https, path="")
        self._via = via
        self._context = context

    def ask(
        self,
        method: str,
        place: str,
        *,
        headers: Mapping[str, str] = NONE,
        cookies: str = "",
        body: bytes | None = None,
    ) -> ProbeAnswer:
        """Ask this origin for a path or an address of its own. Raises Unreachable."""
        url = urljoin(self.url, place)
        parts = urlsplit(url)
        sent = {"User-Agent": AGENT, "Accept": "text/html,*/*", "Connection": "close", **headers}
        if cookies:
            sent["Cookie"] = cookies
        try:
            deadline = time.monotonic() + TIMEOUT
            connection = TimedConnection(self._target, context=self._context)
            connection.deadline = deadline
            connection.sock = connection.secured(self._reach(deadline))
            try:
                path = parts.path or "/"
                target = f"{path}?{parts.query}" if parts.query else path
                said = connection.ask(method, target, sent, body)
                read = said.read(BODY_MAX)
            finally:
                connection.close()
        except ssl.SSLError as error:
            raise Unreachable(
                f"{self.origin} has no certificate that is trusted here ({error.reason}).",
                hint="Name its authority in SSL_CERT_FILE, or renew the certificate.",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.origin} does not answer ({type(error).__name__}).") from error
        return ProbeAnswer(url, said.status, tuple(said.getheaders()), read)

    def ours(self, url: str) -> bool:
        """Tell whether an address is of this very origin. One that cannot be read is of none."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            return False
        return (parts.scheme == "https", parts.hostname, port) == (
            self.https,
            self.host,
            self._port,
        )

    def _reach(self, deadline: float) -> socket.socket:
        """Connect to an address of the host that requests may go to, and to none that the name has later."""
        host, port = self.host, self._port
        if self._via is not None:
            named, _, number = self._via.rpartition(":")
            host, port = (named.strip("[]"), int(number)) if number.isdigit() else (self._via, port)
        return dial(host, port, deadline, check=self._check)

    def _check(self, address: str) -> None:
        if is_off_limits(address):
            raise SettingsError(
                f"{self.origin} leads to {address}, which is link-local or tells a machine of a cloud "
                "its secrets: doctor does not ask there.",
                hint="Give the address of a web page.",
            )
