"""What a stranger may send, again and again: each flood is a way to make a request, or to hold a connection.

All of it goes to 127.0.0.1, over a bounded number of connections, at a bounded rate, for a bounded time.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from msgspec import Struct, field

from sojourn.token import TokenKind, new_token

HOST = "127.0.0.1"
LIVE = "/api/user/active-sessions/live"
PING = b"\x89\xfd\x00\x00\x00\x00" + b"p" * 125  # masked with nothing
READ_MAX = 262_144
PAUSE = 0.05  # seconds between two attempts of one that was refused a connection


class Target(Struct, frozen=True):
    """The server, and a key that an operator would have, for what a stranger could not ask for."""

    port: int
    viewer: str


class Force(Struct, frozen=True, kw_only=True):
    """How hard a flood is."""

    connections: int
    rate: float  # requests per second, of all connections together
    seconds: float


class Tally(Struct):
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def answers(self) -> int:
        return sum(n for status, n in self.statuses.items() if status.isdigit())


Make = Callable[[], bytes]
Flood = Callable[[Target, Force, Tally], Awaitable[None]]


def request(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    sized = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, *sized, "", ""])
    return head.encode() + body


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


async def pause(seconds: float) -> None:
    """Keep the pace of a flood. Nobody waits for anything to happen meanwhile."""
    if seconds > 0:
        await asyncio.wait({asyncio.get_running_loop().create_future()}, timeout=seconds)


def asking(make: Make) -> Flood:
    """Flood with requests, each connection one at a time, evenly over the time."""

    async def flood(target: Target, force: Force, tally: Tally) -> None:
        until, turns = time.monotonic() + force.seconds, itertools.count()
        began = time.monotonic()

        async def one() -> None:
            while time.monotonic() < until:
                try:
                    reader, writer = await asyncio.open_connection(HOST, target.port)
                except OSError:
                    tally.statuses["refused"] += 1
                    await pause(PAUSE)
                    continue
                try:
                    await ask_on(reader, writer)
                except (OSError, asyncio.IncompleteReadError, ValueError):
                    tally.statuses["cut"] += 1
                finally:
                    writer.close()

        async def ask_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                due = began + next(turns) / force.rate
                if due >= until:
                    return
                await pause(due - time.monotonic())
                writer.write(make())
                head = await reader.readuntil(b"\r\n\r\n")
                tally.statuses[head[9:12].decode()] += 1
                lower = head.lower()
                if (at := lower.find(b"content-length:")) >= 0:
                    await reader.readexactly(int(lower[at + 15 : lower.find(b"\r", at)]))
                if b"connection: close" in lower:
                    return

        await asyncio.gather(*(one() for _ in range(force.connections)))

    return flood


def holding(first: bytes, again: bytes = b"", *, reads: bool = False, small: bool = False) -> Flood:
    """Flood by holding connections: say something, then more and more of it. `reads`: what is answered is
    read; `small`: hardly any of it fits into the connection."""

    async def flood(target: Target, force: Force, tally: Tally) -> None:
        loop, until = asyncio.get_running_loop(), time.monotonic() + force.seconds
        again_after = max(PAUSE, force.connections / force.rate)  # who is cut off comes again

        async def one() -> None:
            while time.monotonic() < until:
                peer = socket.socket()
                peer.setblocking(False)
                if small:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                try:
                    async with asyncio.timeout_at(loop.time() + until - time.monotonic()):
                        await loop.sock_connect(peer, (HOST, target.port))
                        await loop.sock_sendall(peer, first)
                        tally.statuses["held"] += 1
                        while again:
                            await loop.sock_sendall(peer, again)
                            await asyncio.sleep(0)
                        while reads and await loop.sock_recv(peer, READ_MAX):
                            pass
                        if not reads:
                            await pause(force.seconds)
                except TimeoutError:
                    return
                except OSError:
                    tally.statuses["cut"] += 1
                finally:
                    peer.close()
                await pause(again_after)

        await asyncio.gather(*(one() for _ in range(force.connections)))

    return flood


def handshake() -> bytes:
    return request(
        "GET",
        LIVE,
        f"Origin: http://{HOST}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )


FORM = ("Content-Type: application/x-www-form-urlencoded", "Sec-Fetch-Site: same-origin")
JSON = "Content-Type: application/json"
WISH = b'{"feature":"editor","userId":"u","clientId":"c"}'


def floods(target: Target) -> dict[str, Flood]:
    """Return every flood by its name."""

    def guess(kind: TokenKind) -> str:
        return bearer(new_token(kind))

    def sign_in() -> bytes:
        body = f"key={new_token(TokenKind.API)}".encode()
        return request("POST", "/console/sign-in", *FORM, body=body)

    def cookie() -> bytes:
        proof = f"key_{secrets.token_hex(8)}.{new_token(TokenKind.SESSION)}.mac"
        return request("GET", "/console/doctor", f"Cookie: sojourn-console={proof}")

    listing = request("GET", "/api/sessions?limit=1000", bearer(target.viewer))
    return {
        "pings that nobody reads": holding(handshake(), PING * 200, small=True),
        "sockets of nobody": holding(handshake()),
        "heads without end": holding(b"GET / HTTP/1.1\r\nHost: x\r\nX: "),
        "connections for nothing": holding(b""),
        "large lists, unread": holding(listing * 4, small=True),
        "/metrics": asking(lambda: request("GET", "/metrics")),
        "/readyz": asking(lambda: request("GET", "/readyz")),
        "/openapi.json": asking(lambda: request("GET", "/openapi.json")),
        "guessed API keys": asking(lambda: request("GET", "/api/licenses", guess(TokenKind.API))),
        "guessed keys of backends": asking(
            lambda: request("GET", "/api/sessions/current", guess(TokenKind.API))
        ),
        "guessed license keys": asking(
            lambda: request(
                "POST", "/api/licenses/sessions", guess(TokenKind.LICENSE), JSON, body=WISH
            )
        ),
        "guessed session tokens": asking(
            lambda: request("GET", "/api/user/active-sessions", guess(TokenKind.SESSION))
        ),
        "sign-ins at the console": asking(sign_in),
        "cookies of the console": asking(cookie),
        "the security page": asking(lambda: request("GET", "/account/security")),
        "people who are nobody": asking(lambda: request("GET", "/api/user/active-sessions")),
        "bodies of strangers": asking(
            lambda: request(
                "POST", "/api/licenses/sessions", bearer("x"), JSON, body=b'"' + b"x" * 60_000
            )
        ),
        "nothing at all": asking(lambda: request("GET", "/nothing")),
        "no HTTP": asking(lambda: b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    }
