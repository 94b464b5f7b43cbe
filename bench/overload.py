"""What is left of the goodput when three times as much is asked for, and does anybody lose a seat?

Acquires and releases at their peak, with 64 connections; then as many acquires as three times that rate,
in a steady stream over 1,500 connections, of which a queue of 300 takes what it can. The two take turns.
All the while 40 holders beat, at leases so short that a few lost beats lose the seat.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import cast

import msgspec
import uvloop
from http_seats import ACQUIRE, HEARTBEAT, RELEASE, _cycle, _place
from load import Script, drive, request, whole
from places import ADMIN_KEY, OTHER_CORE, cpu, pin, started

STORES = ("memory", "sqlite", "postgres", "mariadb", "valkey")
QUEUE = 300
CONNECTIONS = 1_500
AT_PEAK = 64
TIMES = 3  # as much as the peak
HOLDERS = 40
LOST_AFTER, BEAT_EVERY = 8.0, 0.5  # seconds
SEATS = 100_000
PEAK_SECONDS, PEAK_WARMUP = 2.0, 0.5
TICK = 0.002  # seconds between two handfuls of arrivals
CONNECT_AT_ONCE = 100


class Row(msgspec.Struct, frozen=True, kw_only=True):
    store: str
    peak: float  # acquires answered per second, by 64 connections
    offered: float  # acquires sent per second, under overload
    goodput: float  # of those, answered and not shed
    share: float  # goodput / peak of the turns beside it, the median of the rounds
    cpu_at_peak: float  # us of the server's CPU for an acquire and its release
    cpu_flooded: float  # the same, with what was shed beside it
    shed: int
    shed_p50: float  # ms from the request to its 503
    shed_p99: float
    good_p50: float
    good_p99: float
    beats: int
    beats_failed: int
    beat_p99: float
    seats_lost: int


class _Sender(asyncio.Protocol):
    """A connection on which one request at a time is sent, and its answer handed on."""

    def __init__(self, idle: deque[_Sender]) -> None:
        self.idle = idle
        self.buffer = b""
        self.sent = 0.0
        self.then: Callable[[int, bytes, float], bytes | None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.idle.append(self)

    def ask(self, asked: bytes, then: Callable[[int, bytes, float], bytes | None]) -> None:
        """Send a request; `then` is told status, body and seconds, and returns what to send next."""
        assert self.transport is not None
        self.then = then
        self.sent = time.perf_counter()
        self.transport.write(asked)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        answer = whole(self.buffer)
        if answer is None or self.then is None:
            return
        self.buffer = b""
        following = self.then(*answer, time.perf_counter() - self.sent)
        if following is None:
            self.idle.append(self)
        else:
            self.ask(following, self.then)


class _Flood:
    """Acquires in a steady stream; what is granted is released."""

    def __init__(self, key: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.good: list[float] = []
        self.shed: list[float] = []
        self.sent = 0
        self.all_good = 0  # from the first on
        self._requests = [
            request(
                "POST",
                ACQUIRE,
                token=key,
                body=json.dumps(
                    {"feature": "cycle", "userId": f"flood-{n}", "clientId": "bench"}
                ).encode(),
            )
            for n in range(4 * CONNECTIONS)
        ]

    async def run(self, port: int, rate: float, seconds: float, warmup: float) -> float:
        """Send for a while; return for how long was measured."""
        loop = asyncio.get_running_loop()
        idle: deque[_Sender] = deque()
        everybody: list[_Sender] = []
        for _ in range(CONNECTIONS // CONNECT_AT_ONCE):
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda: _Sender(idle), "127.0.0.1", port)
                    for _ in range(CONNECT_AT_ONCE)
                )
            )
            everybody += [cast("_Sender", sender) for _, sender in made]
        start = last = time.perf_counter()
        owed = 0.0
        measuring = False
        while (now := time.perf_counter()) < start + warmup + seconds:
            if not measuring and now >= start + warmup:
                measuring, self.sent = True, 0
                self.statuses.clear()
                self.good.clear()
                self.shed.clear()
            owed = min(owed + rate * (now - last), rate)  # a second's worth at most is made up for
            last = now
            while owed >= 1 and idle:
                owed -= 1
                self.sent += 1
                idle.popleft().ask(self._requests[self.sent % len(self._requests)], self._answered)
            await asyncio.sleep(TICK)
        for sender in everybody:
            assert sender.transport is not None
            sender.then = None
            sender.transport.abort()
        return time.perf_counter() - start - warmup

    def _answered(self, status: int, body: bytes, took: float) -> bytes | None:
        self.all_good += status in (201, 409)
        if status == 201:
            self.good.append(took)
            return request("DELETE", RELEASE, token=json.loads(body)["data"]["token"])
        if status == 503:
            self.shed.append(took)
        elif status == 409:
            self.good.append(took)
        self.statuses[status] += 1
        return None


class _Living:
    """Holders that beat, on connections of their own, whatever is answered."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self.latencies: list[float] = []
        self.failed = 0
        self.lost = 0

    async def run(self, port: int, over: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        idle: deque[_Sender] = deque()
        made = await asyncio.gather(
            *(
                loop.create_connection(lambda: _Sender(idle), "127.0.0.1", port)
                for _ in self._tokens
            )
        )
        senders = [cast("_Sender", sender) for _, sender in made]
        waiting: set[_Sender] = set()
        while not over.is_set():
            for sender, token in zip(senders, self._tokens, strict=True):
                if sender in waiting:
                    continue  # its last beat is not answered yet
                waiting.add(sender)
                sender.ask(
                    request("POST", HEARTBEAT, token=token),
                    lambda s, _, t, sender=sender: self._beaten(s, t, sender, waiting),  # type: ignore[misc]  # a default
                )
            await asyncio.sleep(BEAT_EVERY)
        for sender in senders:
            assert sender.transport is not None
            sender.transport.close()

    def _beaten(self, status: int, took: float, sender: _Sender, waiting: set[_Sender]) -> None:
        waiting.discard(sender)
        self.latencies.append(took)
        self.failed += status != 200
        self.lost += status == 410


def measure(rounds: int, say: Callable[[str], None], stores: Sequence[str] = STORES) -> list[Row]:
    """Flood every store in turn with its peak; keep the median of the rounds."""
    pin(os.getpid(), OTHER_CORE)
    rows = []
    for store in stores:
        say(f"overload · {store}")
        with _place(store) as where, started(*where, f"--queue={QUEUE}") as (port, pid):
            rows.append(_row(store, port, pid, rounds))
    return rows


def _row(store: str, port: int, pid: int, rounds: int) -> Row:
    key = _license(port)
    tokens = _seats(port, key)
    living = _Living(tokens)
    floods: list[tuple[float, float, float, float]] = []  # share, peak, offered, goodput
    flood = _Flood(key)
    good: list[float] = []
    shed: list[float] = []
    at_peak: list[float] = []
    flooded: list[float] = []
    before = _peak(port, key)
    for _ in range(rounds):
        used = cpu(pid)
        flood = _Flood(key)
        rate = TIMES * before
        took = _beside(living, port, flood, rate)
        flooded.append((cpu(pid) - used) / max(1, flood.all_good))
        used = cpu(pid)
        after = _peak(port, key)
        at_peak.append((cpu(pid) - used) / (after * (PEAK_SECONDS + PEAK_WARMUP)))
        peak = (before + after) / 2
        goodput = len(flood.good) / took
        floods.append((goodput / peak, peak, flood.sent / took, goodput))
        good += flood.good
        shed += flood.shed
        before = after
    floods.sort()
    share, peak, offered, goodput = floods[len(floods) // 2]
    return Row(
        store=store,
        peak=peak,
        offered=offered,
        goodput=goodput,
        share=share,
        cpu_at_peak=statistics.median(at_peak) * 1e6,
        cpu_flooded=statistics.median(flooded) * 1e6,
        shed=len(shed),
        shed_p50=_ms(shed, 0.5),
        shed_p99=_ms(shed, 0.99),
        good_p50=_ms(good, 0.5),
        good_p99=_ms(good, 0.99),
        beats=len(living.latencies),
        beats_failed=living.failed,
        beat_p99=_ms(living.latencies, 0.99),
        seats_lost=living.lost,
    )


def _beside(living: _Living, port: int, flood: _Flood, rate: float) -> float:
    """Flood while the living beat."""

    async def main() -> float:
        over = asyncio.Event()
        beating = asyncio.create_task(living.run(port, over))
        try:
            return await flood.run(port, rate, seconds=3.0, warmup=1.0)
        finally:
            over.set()
            await beating

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def _peak(port: int, key: str) -> float:
    """Return how many acquires are answered per second at the best of times."""
    run = drive(
        "127.0.0.1",
        port,
        lambda n: _cycle(key, "cycle", n),
        connections=AT_PEAK,
        seconds=PEAK_SECONDS,
        warmup=PEAK_WARMUP,
    )
    return run.statuses.get(201, 0) / run.seconds


def _ms(latencies: list[float], share: float) -> float:
    if not latencies:
        return 0.0
    return statistics.quantiles(latencies, n=1_000)[round(share * 1_000) - 1] * 1_000


def _license(port: int) -> str:
    features = {
        "cycle": {"capacity": SEATS},
        "living": {
            "capacity": HOLDERS,
            "heartbeatInterval": 1,
            "lostAfter": LOST_AFTER,
            "linger": 1,
        },
    }
    answers: list[bytes] = []

    def script() -> Script:
        body = json.dumps({"name": "bench", "features": features}).encode()
        _, answer = yield request("POST", "/api/licenses", token=ADMIN_KEY, body=body)
        answers.append(answer)

    drive("127.0.0.1", port, lambda _: script(), connections=1, seconds=10, warmup=0)
    return str(json.loads(answers[0])["data"]["key"])


def _seats(port: int, key: str) -> list[str]:
    tokens: list[str] = []

    def script(n: int) -> Script:
        body = {"feature": "living", "userId": f"living-{n}", "clientId": "bench"}
        status, answer = yield request("POST", ACQUIRE, token=key, body=json.dumps(body).encode())
        assert status == 201, answer
        tokens.append(json.loads(answer)["data"]["token"])

    drive("127.0.0.1", port, script, connections=HOLDERS, seconds=10, warmup=0)
    return tokens
