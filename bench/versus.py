"""Sojourn and a peer in turns, both running at once: how many times as many requests, per core?

Two rows of `web_sessions.py` are minutes apart, and the machine's speed is not the same by then. Here the
turns of the two sides alternate within seconds. `rate` compares requests per second; `cpu` the seconds of
CPU that each side's process takes for a request, which is what a core is worth to it whatever else the
load generator and the database are waiting for.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Callable, Iterator
from functools import partial

from load import SLICE, WARMUP, Script, drive, repeat
from msgspec import Struct
from places import OTHER_CORE, cpu, pin, started
from web_sessions import CONNECTIONS, http_requests, peer_requests, peers, running

from sojourn.testing.redis_server import redis_server
from sojourn.testing.servers import Server, fresh_database, postgres

WARM = 4
"""Turns before those that count: V8 gets twice as fast within its first seconds."""
PAIRS = [
    # ours, theirs; each with its store
    (("sojourn http", "postgres"), ("express connect-pg-simple", "postgres")),
    (("sojourn http, every touch", "postgres"), ("express connect-pg-simple", "postgres")),
    (("sojourn http", "postgres"), ("django db, every touch", "postgres")),
    (("sojourn asgi", "redis"), ("starsessions", "redis")),
    (("sojourn asgi, alone", "redis"), ("starsessions, alone", "redis")),
]


class Row(Struct, frozen=True, kw_only=True):
    ours: str
    theirs: str
    store: str
    call: str
    rate: float  # ours / theirs: requests per second, the median of the rounds
    cpu: float  # theirs / ours: seconds of CPU per request, the same
    ours_us: float  # microseconds of CPU per request
    theirs_us: float


class Side(Struct, frozen=True):
    """A server in turns with another: where it listens, whose CPU is counted, what it is asked."""

    port: int
    pid: int
    requests: tuple[list[bytes], list[bytes]]  # that read, that write


def measure(rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Let each pair take turns."""
    pin(os.getpid(), OTHER_CORE)
    rows: list[Row] = []
    with postgres() as sql, redis_server() as redis:
        for server in (sql.pid, redis.pid):
            pin(server or 0, OTHER_CORE)
        for ours, theirs in PAIRS:
            say(f"versus · {ours[0]} and {theirs[0]}")
            with _side(*ours, sql, redis.url) as us, _side(*theirs, sql, redis.url) as them:
                for at, call in enumerate(("read", "write")):
                    names = {"ours": ours[0], "theirs": theirs[0], "store": ours[1], "call": call}
                    rows.append(_row(names, us, them, at, rounds))
    return rows


@contextlib.contextmanager
def _side(name: str, store: str, sql: Server, redis_url: str) -> Iterator[Side]:
    with contextlib.ExitStack() as stack:
        url = redis_url if store == "redis" else stack.enter_context(fresh_database(sql))
        if name.startswith("sojourn http"):
            options = ["--every-touch"] if name.endswith("every touch") else []
            port, pid = stack.enter_context(started(f"--store={url}", *options))
            yield Side(port, pid, http_requests(port))
            return
        peer = next(each for each in peers() if (each.name, each.store) == (name, store))
        port, pid = stack.enter_context(running(peer, url))
        yield Side(port, pid, peer_requests(port))


class Turns(Struct, frozen=True, kw_only=True):
    """What two sides did in turns: medians of the rounds."""

    rate: float  # ours / theirs, requests per second
    cpu: float  # theirs / ours, seconds of CPU per request
    ours_rate: float
    theirs_rate: float
    ours_us: float
    theirs_us: float


def _row(names: dict[str, str], ours: Side, theirs: Side, at: int, rounds: int) -> Row:
    found = turns_of(ours, theirs, at, rounds)
    return Row(
        **names, rate=found.rate, cpu=found.cpu, ours_us=found.ours_us, theirs_us=found.theirs_us
    )


def turns_of(ours: Side, theirs: Side, at: int, rounds: int) -> Turns:
    """Let two sides take turns with requests that read (`at` 0) or write (1)."""
    turns = [(_turn(ours, at), _turn(theirs, at)) for _ in range(WARM + rounds)][WARM:]
    return Turns(
        rate=statistics.median(us[0] / them[0] for us, them in turns),
        cpu=statistics.median(them[1] / us[1] if us[1] else 0.0 for us, them in turns),
        ours_rate=statistics.median(us[0] for us, _ in turns),
        theirs_rate=statistics.median(them[0] for _, them in turns),
        ours_us=statistics.median(us[1] for us, _ in turns),
        theirs_us=statistics.median(them[1] for _, them in turns),
    )


def _turn(side: Side, at: int) -> tuple[float, float]:
    """Return requests per second, and microseconds of CPU per request."""
    before = cpu(side.pid)
    run = drive(
        "127.0.0.1",
        side.port,
        partial(_script, side.requests[at]),
        connections=CONNECTIONS,
        seconds=SLICE,
        warmup=WARMUP,
    )
    if set(run.statuses) != {200}:
        raise RuntimeError(f"Not all were answered: {run.statuses}")
    # Answers of the warm-up were worked for, too.
    answers = run.answers * (SLICE + WARMUP) / SLICE
    return run.rate, (cpu(side.pid) - before) / answers * 1e6


def _script(requests: list[bytes], connection: int) -> Script:
    return repeat(requests[connection::CONNECTIONS])
