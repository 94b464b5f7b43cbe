"""What does it cost a process to keep 5,000 seats with the Python client?

One client keeps all seats at a real server in another process, by beats. Its processor time for each beat
is compared with that of a plain loop over `http.client`, on which it stands: the same requests over one kept
connection, read to the end and no more. Both take turns in one process. Then all seats are given back, and
threads are counted.

    python bench/client.py [--seats 5000] [--seconds 20] [--turns 3] [--sockets] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from sojourn.client import Client, SeatState
from sojourn.client.http import Http

ADMIN_KEY = "an-admin-key-for-the-benchmark-of-forty-characters"
BEAT = "/api/licenses/sessions/heartbeat"
INTERVAL, LOST_AFTER = 30, 300
"""Seconds. The server and seven others share two cores: what is measured is work, not punctuality."""
START_TIMEOUT = 60.0
OPEN_FILES = 20_000


class Figures(msgspec.Struct, kw_only=True):
    seats: int
    sockets: bool
    beats: int
    us_per_beat: float  # processor time of the client's process; by sockets: per seat and interval
    us_per_plain: float  # of one request of the plain loop
    ratio: float
    kib_per_seat: float
    lost: int  # seats that were not held at the end
    threads: int  # of the client, while it keeps the seats
    threads_left: int  # after it was closed
    not_given_back: int
    live_after: int  # leases that the server counts after that


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seats", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--sockets", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    with served() as port:
        figures = measured(port, given.seats, given.seconds, given.turns, sockets=given.sockets)
    print(json.dumps(msgspec.to_builtins(figures), indent=1))
    if given.json is not None:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=1))


@contextlib.contextmanager
def served() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as data:
        port = 18_700 + os.getpid() % 1_000
        environ = {**os.environ, "SOJOURN_ADMIN_KEY": ADMIN_KEY, "SOJOURN_DATA": data}
        command = [sys.executable, "-m", "sojourn", "serve", f"--port={port}"]
        with (Path(data) / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
            try:
                until = time.monotonic() + START_TIMEOUT
                while True:
                    with contextlib.suppress(OSError):
                        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
                        break
                    if time.monotonic() > until:
                        raise TimeoutError((Path(data) / "log").read_text())
                    time.sleep(0.1)
                yield port
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def asked(port: int, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {ADMIN_KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["data"]


def measured(port: int, count: int, seconds: float, turns: int, *, sockets: bool) -> Figures:
    policy = {"capacity": count + 1, "heartbeatInterval": INTERVAL, "lostAfter": LOST_AFTER}
    license = asked(port, "POST", "/api/licenses", {"name": "bench", "features": {"f": policy}})
    beats = Beaten()
    client = Client(
        f"http://127.0.0.1:{port}", license_key=license["key"], sockets=sockets, timeout=30.0
    )
    beats.count(client)
    spare = client.seat("f", user="plain").acquire()
    grant = spare._hold.grant  # noqa: SLF001  # its token, for the plain loop
    assert grant is not None
    token = grant.token.reveal()
    ours: list[float] = []
    plain: list[float] = []
    if sockets:  # they do not stand still while the plain loop is measured
        plain = [plain_cost(port, token, 2_000, idle=beats) for _ in range(turns)]
    before = memory()
    seats = [client.seat("f", user=f"user-{n}").acquire() for n in range(count)]
    per_seat = (memory() - before) / count
    threads = 0
    for _ in range(turns):
        ours.append(beats.cost(seconds, count if sockets else 0))
        threads = max(threads, threading.active_count() - 1)
        if not sockets:
            plain.append(plain_cost(port, token, 2_000, idle=beats))
    lost = sum(seat.state not in {SeatState.SAFE, SeatState.JEOPARDY} for seat in seats)
    left = client.close(timeout=120)
    stats = asked(port, "GET", f"/api/licenses/{license['licenseId']}/session-stats")
    return Figures(
        seats=count,
        sockets=sockets,
        beats=beats.number,
        us_per_beat=round(1e6 * sorted(ours)[turns // 2]),
        us_per_plain=round(1e6 * sorted(plain)[turns // 2]),
        ratio=round(sorted(ours)[turns // 2] / sorted(plain)[turns // 2], 2),
        kib_per_seat=round(per_seat, 1),
        lost=lost,
        threads=threads,
        threads_left=threading.active_count() - 1,
        not_given_back=left,
        live_after=sum(each["usage"]["inUse"] for each in stats["features"]),
    )


class Beaten:
    """Counts the beats of a client."""

    def __init__(self) -> None:
        self.number = 0
        self.hold = threading.Lock()  # taken while the plain loop is measured

    def count(self, client: Client) -> None:
        http: Http = client._beats._http  # noqa: SLF001  # where beats are counted
        real = http.beat

        def counted(*arguments: Any, **more: Any) -> Any:
            with self.hold:
                pass
            self.number += 1
            return real(*arguments, **more)

        http.beat = counted  # type: ignore[method-assign]  # of this client alone

    def cost(self, seconds: float, attended: int) -> float:
        """Return the processor time of a beat, of the whole process, over so many seconds. Where sockets keep
        the seats, and no beat is due: of what so many seats are kept by for as long as between two beats."""
        began, number = time.process_time(), self.number
        time.sleep(seconds)
        spent = time.process_time() - began
        return spent / (attended * seconds / INTERVAL if attended else max(1, self.number - number))


def plain_cost(port: int, token: str, count: int, *, idle: Beaten) -> float:
    """Return the processor time of a request of the plain loop, while the client does not beat."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with idle.hold:
        began = time.process_time()
        for _ in range(count):
            connection.request("POST", BEAT, b"{}", headers)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise RuntimeError(f"the server answered {answer.status}")
            json.loads(answer.read())
        spent = time.process_time() - began
    connection.close()
    return spent / count


def memory() -> float:
    """Return the memory of this process, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    return 0.0


if __name__ == "__main__":
    main()
