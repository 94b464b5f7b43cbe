"""A load generator that costs little: many keep-alive connections on one uvloop, no HTTP library.

Each connection is driven by a script: a generator that yields a request (bytes) and is sent the answer
(status, body). It understands just what these servers send: status line, headers, Content-Length.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import cast

import uvloop
from msgspec import Struct

SLICE, WARMUP = 0.6, 0.15  # seconds of a turn that count, and before them
Script = Generator[bytes, tuple[int, bytes], None]


class Load(Struct, frozen=True, kw_only=True):
    """What a run measured. Latencies in milliseconds, of answers inside the measured window."""

    seconds: float
    answers: int
    statuses: dict[int, int]
    p50: float
    p99: float
    broken: int  # connections that ended before their script did

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self, script: Script, run: _Run) -> None:
        self.script = script
        self.run = run
        self.buffer = b""
        self.sent = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._send(next(self.script))

    def _send(self, request: bytes) -> None:
        assert self.transport is not None
        self.sent = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        answer = whole(self.buffer)
        if answer is None:
            return
        status, body = answer
        self.buffer = b""
        self.run.answered(status, time.perf_counter() - self.sent)
        if self.run.over:
            self._finish()
            return
        try:
            self._send(self.script.send((status, body)))
        except StopIteration:
            self._finish()

    def _finish(self) -> None:
        self.script.close()
        self.run.ended += 1
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.run.gone()


def whole(buffer: bytes) -> tuple[int, bytes] | None:
    """Return the status and the body of an answer; None while some of it is missing."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    at = buffer.find(b"ontent-", 0, end)
    while at >= 0 and buffer[at + 7 : at + 14].lower() != b"length:":
        at = buffer.find(b"ontent-", at + 7, end)
    length = int(buffer[at + 14 : buffer.find(b"\r", at)]) if at >= 0 else 0
    if len(buffer) < end + 4 + length:
        return None
    return int(buffer[9:12]), buffer[end + 4 :]


class _Run:
    def __init__(self, connections: int, done: asyncio.Event) -> None:
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.measuring = False
        self.over = False
        self.left = connections
        self.ended = 0
        self.done = done

    def answered(self, status: int, latency: float) -> None:
        if self.measuring:
            self.statuses[status] += 1
            self.latencies.append(latency)

    def gone(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set()


def drive(
    host: str,
    port: int,
    scripts: Callable[[int], Script],
    *,
    connections: int,
    seconds: float,
    warmup: float = 0.5,
) -> Load:
    """Run a script per connection for a while and measure. A script may end before the time is up."""

    async def main() -> Load:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        run = _Run(connections, done)
        for n in range(connections):
            await loop.create_connection(lambda n=n: _Connection(scripts(n), run), host, port)
        await _either(done, warmup)
        run.measuring = True
        began = time.perf_counter()
        await _either(done, seconds)
        took = time.perf_counter() - began
        run.measuring, run.over = False, True
        await _either(done, 10)
        latencies = sorted(run.latencies) or [0.0]
        return Load(
            seconds=took,
            answers=len(run.latencies),
            statuses=dict(run.statuses),
            p50=latencies[len(latencies) // 2] * 1000,
            p99=latencies[int(len(latencies) * 0.99)] * 1000,
            broken=connections - run.ended,
        )

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


class Compared(Struct, frozen=True, kw_only=True):
    """A case beside a yardstick."""

    ratio: float  # of the two rates: the median of the rounds
    middle: Load  # the round that is nearest to it
    statuses: Counter[int]  # of all rounds


Side = tuple[int, Callable[[int], Script]]
"""A port, and what each connection sends to it."""


def compare(
    yardstick: Side,
    case: Side,
    *,
    connections: int,
    rounds: int,
    seconds: float = SLICE,
) -> Compared:
    """Drive the yardstick and the case in turns.

    The turns are short and many: a machine that others use changes its speed by half within seconds, and
    what changes for both at once drops out of the ratio.
    """

    def run(port: int, scripts: Callable[[int], Script]) -> Load:
        return drive(
            "127.0.0.1", port, scripts, connections=connections, seconds=seconds, warmup=WARMUP
        )

    runs: list[tuple[float, Load]] = []
    before = run(*yardstick)
    for _ in range(rounds):
        load = run(*case)
        after = run(*yardstick)
        runs.append((2 * load.rate / (before.rate + after.rate), load))
        before = after
    runs.sort(key=lambda one: one[0])
    return Compared(
        ratio=statistics.median(one for one, _ in runs),
        middle=runs[len(runs) // 2][1],
        statuses=sum((Counter(load.statuses) for _, load in runs), Counter()),
    )


async def _either(done: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(done.wait(), seconds)
    except TimeoutError:
        return


def request(
    method: str, path: str, *, token: str | None = None, body: bytes = b"", host: str = "bench"
) -> bytes:
    """Write one HTTP/1.1 request."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    if body:
        head.append("Content-Type: application/json")
    if body or method != "GET":
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def repeat(requests: list[bytes]) -> Script:
    """Send these requests for ever, whatever is answered."""
    while True:
        for one in requests:  # noqa: UP028 - `yield from` a list cannot be sent the answers
            yield one
