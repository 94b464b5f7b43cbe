"""How much of an empty ASGI application's rate is left once a request means something?

Heartbeat, acquire + release, and acquire in a full pool, over HTTP with 64 connections and with one,
per store. Everything is a ratio to the empty application on the same uvicorn, in turns in the same run.
With one connection, also against a server without the batcher.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
from load import Script, compare, drive, repeat, request
from places import ADMIN_KEY, BACKENDS, OTHER_CORE, backend, pin, serving

from sojourn.testing.redis_server import redis_server

STORES = ("memory", *BACKENDS, "valkey")
KEPT = {"appendfsync": "everysec"}  # as the guide has it
CONNECTIONS = 64
LEASES = 1_024
HEARTBEAT = "/api/licenses/sessions/heartbeat"
ACQUIRE = "/api/licenses/sessions"
RELEASE = "/api/licenses/sessions/current"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    store: str
    call: str
    connections: int
    rate: float
    ratio: float  # to the empty application at as many connections
    p50: float
    p99: float
    failed: int


def measure(rounds: int, say: Callable[[str], None], stores: Sequence[str] = STORES) -> list[Row]:
    """Run every case; the median of `rounds` is kept."""
    pin(os.getpid(), OTHER_CORE)
    rows: list[Row] = []
    for store in stores:
        say(f"http · {store}")
        with _place(store) as where:
            rows += _cases(store, where, rounds)
    return rows


@contextmanager
def _place(store: str) -> Iterator[list[str]]:
    """Give what a server is told of its store."""
    if store == "memory":
        yield ["--store=memory:"]
    elif store == "valkey":
        with redis_server(options=KEPT) as server, backend("sqlite") as ledger:
            assert server.pid is not None
            pin(server.pid, OTHER_CORE)
            yield [f"--store={server.url}", f"--ledger={ledger}"]
    else:
        with backend(store) as url:
            yield [f"--store={url}"]


def _cases(store: str, where: list[str], rounds: int) -> list[Row]:
    rows = []
    with serving("--empty") as empty, serving(*where) as port:
        key = _license(port, {"beat": LEASES, "cycle": 10_000, "full": 5})
        tokens = _take(port, key, "beat", LEASES)
        beats = [request("POST", HEARTBEAT, token=t) for t in tokens]
        cases: list[tuple[str, int, Callable[[int], Script]]] = [
            ("heartbeat", CONNECTIONS, lambda n: repeat(beats[n::CONNECTIONS])),
            ("acquire + release", CONNECTIONS, lambda n: _cycle(key, "cycle", n)),
            ("acquire, pool full", CONNECTIONS, lambda n: _cycle(key, "full", n)),
            ("heartbeat", 1, lambda _: repeat(beats)),
            ("acquire + release", 1, lambda n: _cycle(key, "cycle", n)),
        ]
        for call, connections, scripts in cases:
            rows.append(_row(store, call, empty, port, connections, scripts, rounds))
    with serving("--empty") as empty, serving(*where, "--unbatched") as port:
        key = _license(port, {"beat": LEASES})
        beats = [request("POST", HEARTBEAT, token=t) for t in _take(port, key, "beat", LEASES)]
        for connections in (1, CONNECTIONS):
            call = "heartbeat, no batcher"
            rows.append(
                _row(store, call, empty, port, connections, lambda n: repeat(beats[n::64]), rounds)
            )
    return rows


def _row(
    store: str,
    call: str,
    empty: int,
    port: int,
    connections: int,
    scripts: Callable[[int], Script],
    rounds: int,
) -> Row:
    """Measure a case beside the empty application."""
    nothing = request("POST", HEARTBEAT, token="x" * 120)
    run = compare(
        (empty, lambda _: repeat([nothing])),
        (port, scripts),
        connections=connections,
        rounds=rounds,
    )
    good = {200, 201} | ({409} if call.endswith("full") else set())
    return Row(
        store=store,
        call=call,
        connections=connections,
        rate=run.middle.rate,
        ratio=run.ratio,
        p50=run.middle.p50,
        p99=run.middle.p99,
        failed=sum(n for status, n in run.statuses.items() if status not in good),
    )


def _cycle(key: str, feature: str, n: int) -> Script:
    """Acquire, and release what was granted, again and again, as one holder per connection."""
    body = json.dumps({"feature": feature, "userId": f"user-{n}", "clientId": "bench"}).encode()
    acquire = request("POST", ACQUIRE, token=key, body=body)
    while True:
        status, answer = yield acquire
        if status == 201:
            yield request("DELETE", RELEASE, token=json.loads(answer)["data"]["token"])


def _license(port: int, features: dict[str, int]) -> str:
    body = {"name": "bench", "features": {f: {"capacity": c} for f, c in features.items()}}
    answers: list[bytes] = []

    def script() -> Script:
        _, answer = yield request(
            "POST", "/api/licenses", token=ADMIN_KEY, body=json.dumps(body).encode()
        )
        answers.append(answer)

    drive("127.0.0.1", port, lambda _: script(), connections=1, seconds=10, warmup=0)
    return str(json.loads(answers[0])["data"]["key"])


def _take(port: int, key: str, feature: str, leases: int) -> list[str]:
    tokens: list[str] = []

    def script(n: int) -> Script:
        for i in range(n, leases, CONNECTIONS):
            body = {"feature": feature, "userId": f"user-{i}", "clientId": "bench"}
            status, answer = yield request(
                "POST", ACQUIRE, token=key, body=json.dumps(body).encode()
            )
            if status == 201:
                tokens.append(json.loads(answer)["data"]["token"])

    drive("127.0.0.1", port, script, connections=CONNECTIONS, seconds=60, warmup=0)
    if len(tokens) != leases:
        raise RuntimeError(f"Only {len(tokens)} of {leases} seats were granted.")
    return tokens
