"""What does a seat cost that is kept by an open socket, and how soon is a dead client's seat somebody else's?

Sockets of clients that only answer pings are opened on one process. Measured: memory per socket, renewals,
processor time. Then a process that holds some of them is killed, and as many new clients want its seats.

    python bench/presence.py [--sockets 20000] [--killed 5000] [--seconds 60] [--store URL] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from sojourn.clock import SECOND
from sojourn.lease import Acquire, Lease
from sojourn.license import Policy, Pool
from sojourn.service.licenses import Licenses
from sojourn.stores.open import migrate, open_ledger, open_store
from sojourn.token import Keyring, LeaseClaims, new_id

ADMIN_KEY = "an-admin-key-for-the-benchmark-of-forty-characters"
SECRET = "a-secret-for-the-benchmark-0123456789abcdef"
PATH = "/api/licenses/sessions/live"
OPENING = 32  # handshakes at once of each process of clients
TRIES = 20  # of a socket that is told to come later
WANTING = 128  # connections that want the seats of the killed
BATCH = 500
START_TIMEOUT = 60.0
PATIENCE = 120.0
ACQUIRE = (
    b"POST /api/licenses/sessions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
)
PING, PONG = 0x89, 0x8A


class Figures(msgspec.Struct, kw_only=True):
    sockets: int
    store: str
    kib_per_socket: float
    renew_batches_per_s: float
    renewals_per_s: float
    cpu_percent: float
    killed: int
    first_s: float  # from the kill until the first of the new clients had a seat
    median_s: float
    last_s: float
    refused: int
    denials_with_ghost: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sockets", type=int, default=20_000)
    parser.add_argument("--killed", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--heartbeat", type=float, default=30.0)
    parser.add_argument("--store", default="")
    parser.add_argument("--json", default="")
    parser.add_argument("--clients", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.clients:
        port, source, path = given.clients.split(",", 2)
        asyncio.run(_hold(port, source, Path(path).read_text().split()))
        return
    figures = measure(given)
    text = msgspec.json.format(msgspec.json.encode(figures), indent=2)
    if given.json:
        Path(given.json).write_bytes(text + b"\n")
    print(text.decode())


def measure(given: argparse.Namespace) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        url = given.store or f"sqlite:///{folder}/sojourn.db"
        migrate(url)
        tokens, key = _seats(url, given.sockets, round(given.heartbeat * SECOND))
        with _serving(folder, url) as (server, port):
            before = _rss(server.pid)
            doomed, others = tokens[: given.killed], tokens[given.killed :]
            killed, kept = (
                _clients(folder, port, "doomed", doomed),
                _clients(folder, port, "kept", others),
            )
            try:
                _wait(lambda: _metric(port, "sojourn_seat_sockets") == given.sockets)
                after = _rss(server.pid)
                began, cpu = time.monotonic(), _cpu(server.pid)
                batches, renewals = _renewals(port)
                time.sleep(given.seconds)  # what is measured is the time that passes
                lasted = time.monotonic() - began
                batches, renewals = (
                    b - a for a, b in zip((batches, renewals), _renewals(port), strict=True)
                )
                used = _cpu(server.pid) - cpu
                killed.send_signal(signal.SIGKILL)
                times, refused = asyncio.run(_want(port, key, given.killed))
                return Figures(
                    sockets=given.sockets,
                    store=url.partition(":")[0],
                    kib_per_socket=round((after - before) / given.sockets, 1),
                    renew_batches_per_s=round(batches / lasted, 2),
                    renewals_per_s=round(renewals / lasted, 1),
                    cpu_percent=round(100 * used / lasted, 1),
                    killed=given.killed,
                    first_s=round(times[0], 2),
                    median_s=round(times[len(times) // 2], 2),
                    last_s=round(times[-1], 2),
                    refused=refused,
                    denials_with_ghost=_metric(port, "sojourn_denials_with_ghost_total"),
                )
            finally:
                for each in (killed, kept):
                    each.kill()
                    each.wait()


def _seats(url: str, number: int, heartbeat: int) -> tuple[list[str], str]:
    """Make a license whose seats are all taken; return the tokens of their holders, and its key."""
    policy = Policy(
        capacity=number,
        heartbeat_interval=heartbeat,
        lost_after=10 * heartbeat,
        linger=2 * heartbeat,
    ).validate()
    keyring, tokens = Keyring([SECRET.encode()]), []
    with closing(open_store(url)) as store, closing(open_ledger(url)) as ledger:
        license_, key = Licenses(store, ledger).create("Bench", {"editor": policy}, actor="bench")
        pool_id = Pool(license_id=license_.id, feature="editor", policy=policy).id
        for at in range(0, number, BATCH):
            wanted = [
                Acquire(
                    pool_id=pool_id, user_id=f"user {n}", client_id="one", lease_id=new_id("lse_")
                )
                for n in range(at, min(number, at + BATCH))
            ]
            for lease in store.acquire(wanted):
                assert isinstance(lease, Lease)
                tokens.append(
                    keyring.sign(
                        LeaseClaims(
                            pool_id=pool_id,
                            user_id=lease.user_id,
                            client_id=lease.client_id,
                            lease_id=lease.id,
                            fence=lease.fence,
                            issued_at=lease.last_beat_at,
                            session_id=None,
                        )
                    )
                )
    return tokens, key


@contextlib.contextmanager
def _serving(folder: str, url: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environ = {
        **os.environ,
        "SOJOURN_ADMIN_KEY": ADMIN_KEY,
        "SOJOURN_SECRET": SECRET,
        "SOJOURN_STORE": url,
        "SOJOURN_LEDGER": url,
    }
    command = [sys.executable, "-m", "sojourn", "serve", f"--port={port}", f"--data={folder}/data"]
    with (Path(folder) / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        _wait(lambda: server.poll() is None and _ready(port))
        yield server, port
    finally:
        server.kill()
        server.wait()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except OSError:
        return False


def _clients(folder: str, port: int, name: str, tokens: Sequence[str]) -> subprocess.Popen[bytes]:
    """Hold sockets in a process of its own."""
    path = Path(folder) / name
    path.write_text("\n".join(tokens))
    source = f"127.0.0.{2 if name == 'kept' else 3}"
    return subprocess.Popen([sys.executable, __file__, "--clients", f"{port},{source},{path}"])


def _wait(look: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > until:
            raise RuntimeError("That never came true.")
        time.sleep(0.5)


def _rss(pid: int) -> int:
    """Return the KiB that a process has in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _metrics(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if x[:1] != "#")
    }


def _metric(port: int, name: str) -> float:
    return _metrics(port).get(name, 0.0)


def _renewals(port: int) -> tuple[float, float]:
    found = _metrics(port)
    return (
        found.get('sojourn_batches_total{verb="renew"}', 0.0),
        found.get('sojourn_batched_requests_total{verb="renew"}', 0.0),
    )


# Clients


class _Client(asyncio.Protocol):
    """Answers pings, and reads what else comes."""

    def __init__(self, token: str, opened: asyncio.Future[None]) -> None:
        self._token = token
        self._opened = opened
        self._rest = b""
        self._shaken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # of TCP
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._transport.write(
            f"GET {PATH} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Authorization: Bearer {self._token}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if not self._shaken:
            head, found, self._rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                self._rest = head
                return
            if b" 503 " in head[:20]:  # as it says itself: it has much to do, and later has not
                self._opened.set_exception(BlockingIOError("Too busy."))
                self._transport.close()
                return
            assert b" 101 " in head[:20], head
            self._shaken, self._token = True, ""
            self._opened.set_result(None)
        while len(self._rest) >= 2 and len(self._rest) >= 2 + self._rest[1]:
            kind, size = self._rest[0], self._rest[1]  # all that we are sent is short
            payload, self._rest = self._rest[2 : 2 + size], self._rest[2 + size :]
            if kind == PING:
                self._transport.write(
                    bytes([PONG, 0x80 | size]) + bytes(4) + payload
                )  # masked by 0

    def connection_lost(self, _: Exception | None) -> None:
        if not self._opened.done():
            self._opened.set_exception(ConnectionError("refused"))


async def _hold(port: str, source: str, tokens: Sequence[str]) -> None:
    loop, room = asyncio.get_running_loop(), asyncio.Semaphore(OPENING)

    async def attend(token: str) -> None:
        for _ in range(TRIES):
            async with room:
                opened: asyncio.Future[None] = loop.create_future()
                await loop.create_connection(
                    lambda opened=opened: _Client(token, opened),  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                    "127.0.0.1",
                    int(port),
                    local_addr=(source, 0),
                )
                with contextlib.suppress(BlockingIOError):
                    await opened
                    return
            await asyncio.sleep(1)
        raise ConnectionError("refused")

    await asyncio.gather(*map(attend, tokens))
    await asyncio.Event().wait()


async def _want(port: int, key: str, number: int) -> tuple[list[float], int]:
    """Want so many seats; return when each was had, from now on, and how many requests were refused."""
    began, numbers = time.monotonic(), iter(range(number))
    times: list[float] = []
    refused = 0

    async def ask() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for n in numbers:
            body = f'{{"feature":"editor","userId":"new {n}","clientId":"one"}}'.encode()
            while True:
                writer.write(ACQUIRE % (key.encode(), len(body), body))
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                size = next(int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length"))
                await reader.readexactly(size)
                if head.split()[1] == b"201":
                    break
                refused += 1
                if time.monotonic() - began > PATIENCE:
                    raise RuntimeError(head)
                await asyncio.sleep(0.2)
            times.append(time.monotonic() - began)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(min(WANTING, number))))
    return sorted(times), refused


if __name__ == "__main__":
    main()
