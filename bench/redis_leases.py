"""What does a million live leases cost on one Redis or Valkey, and is our side of a beat worth measuring?

Leases are spread over 1,000 pools. Bytes per lease are what the server's memory grew by, without the
stream of events. Beats in batches of 320 are held beside `redis-benchmark` running the very same script
with the very same arguments, over one connection too. What a beat, and an acquire with its release, cost the
server's processor is said for 1, 64 and 1,000 pools.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import msgspec
import redis

from sojourn.lease import Acquire, Lease, Release, Renew
from sojourn.license import Policy, Pool
from sojourn.stores.open import open_store
from sojourn.stores.redis import scripts
from sojourn.stores.redis.codec import pack
from sojourn.stores.redis.store import RedisStore
from sojourn.testing.redis_server import redis_program, redis_server, valkey_program
from sojourn.token import new_id

POOLS = 1_000
BATCH = 320  # msgpack writes this number without a zero byte, at which redis-benchmark would stop
FILL = 500
ROUNDS = 400
TURNS = 9
SPREAD = (1, 64, POOLS)
TOGETHER = 64  # requests in a batch, as a server under load has them
HOUR = 3_600_000
OPTIONS = {"appendonly": "no"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    server: str
    leases: int
    bytes_per_lease: float
    acquire_p50: float  # ms, alone, with release
    acquire_p99: float
    renew_p50: float  # ms, alone
    renew_p99: float
    beats: float  # per second, in batches of 320
    redis_benchmark: float  # the same by redis-benchmark
    share: float  # of that
    sweep_idle: float  # ms: nothing has expired
    sweep_due: float  # ms for each 1,000 that have expired
    beat_cpu: dict[str, float]  # µs of the server's processor, by how many pools the leases are in
    pair_cpu: dict[str, float]  # the same of an acquire and its release


def measure(leases: int, say: Callable[[str], None]) -> list[Row]:
    rows = []
    for name, program in (("redis", redis_program()), ("valkey", valkey_program())):
        say(f"redis · {name}")
        with redis_server(program=program, options=OPTIONS) as server:
            rows.append(_measure(name, server.url, server.port, leases, say))
    return rows


def _measure(name: str, url: str, port: int, leases: int, say: Callable[[str], None]) -> Row:
    with redis.Redis.from_url(url, protocol=2) as client, closing(open_store(url)) as store:
        assert isinstance(store, RedisStore)
        facts: Any = client.info("server")
        version = facts.get("valkey_version") or facts["redis_version"]
        per_pool = leases // POOLS
        policy = Policy(capacity=per_pool + 10, lost_after=2 * HOUR, heartbeat_interval=HOUR)
        pools = [Pool(license_id="lic_bench", feature=f"f{n}", policy=policy) for n in range(POOLS)]
        before = _used(client)
        store.define(pools)
        held: list[Lease] = []
        for number, pool in enumerate(pools):
            if number % 100 == 0:
                say(f"redis · {name} · {number} of {POOLS} pools")
            held += _fill(store, pool.id, per_pool, keep=number < BATCH)
        client.delete("sojourn:{s}:ev")
        while client.info("memory").get("lazyfree_pending_objects"):  # Valkey frees behind our back
            pass
        grown = _used(client) - before
        alone = [_timed(lambda lease=x: store.renew([_beat(lease)])) for x in held[:ROUNDS]]
        taking = [_timed(lambda pool=p.id: _take(store, pool)) for p in pools[:ROUNDS]]
        beats, theirs = _beats(store, port, held[:BATCH])
        sweep_idle = statistics.median(_timed(store.sweep) for _ in range(20))
        return Row(
            server=f"{name} {version}",
            leases=leases,
            bytes_per_lease=grown / leases,
            acquire_p50=statistics.median(taking),
            acquire_p99=statistics.quantiles(taking, n=100)[98],
            renew_p50=statistics.median(alone),
            renew_p99=statistics.quantiles(alone, n=100)[98],
            beats=beats,
            redis_benchmark=theirs,
            share=beats / theirs,
            sweep_idle=sweep_idle,
            sweep_due=_sweep_due(store),
            beat_cpu={str(n): _cpu_of_beats(store, client, n) for n in SPREAD},
            pair_cpu={str(n): _cpu_of_pairs(store, client, n) for n in SPREAD},
        )


def _fill(store: RedisStore, pool_id: str, count: int, *, keep: bool) -> list[Lease]:
    kept: list[Lease] = []
    for start in range(0, count, FILL):
        asked = [_request(pool_id) for _ in range(min(FILL, count - start))]
        answers = store.acquire(asked)
        kept += [x for x in answers[:10] if keep and isinstance(x, Lease)]
    return kept


def _request(pool_id: str) -> Acquire:
    name = new_id("")
    return Acquire(pool_id=pool_id, user_id=name[:12], client_id=name, lease_id=new_id("lse_"))


def _beat(lease: Lease) -> Renew:
    return Renew(lease_id=lease.id, fence=lease.fence, pool_id=lease.pool_id)


def _take(store: RedisStore, pool_id: str) -> None:
    store.acquire([_request(pool_id)])


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1_000


def _used(client: Any) -> int:
    return int(client.info("memory")["used_memory"])


def _beats(store: RedisStore, port: int, leases: Sequence[Lease]) -> tuple[float, float]:
    """Beats per second in batches: through the store, and by redis-benchmark, in turns."""
    batch = [_beat(lease) for lease in leases]
    assert all(store.renew(batch))
    asked = pack([(x.lease_id, x.fence, None, None, False, x.pool_id) for x in batch])
    ours, theirs = [], []
    for _ in range(TURNS):
        started = time.perf_counter()
        for _ in range(ROUNDS):
            store.renew(batch)
        ours.append(ROUNDS * len(batch) / (time.perf_counter() - started))
        theirs.append(_by_redis_benchmark(port, asked) * len(batch))
    return statistics.median(ours), statistics.median(theirs)


def _by_redis_benchmark(port: int, asked: bytes) -> float:
    program = shutil.which("redis-benchmark")
    assert program is not None
    argv = [program, "-p", str(port), "-c", "1", "-n", str(ROUNDS), "--csv", "-x", "EVALSHA"]
    said = subprocess.run(
        [*argv, scripts.RENEW.sha, "1", "sojourn:{s}:m", "", "10000"],
        input=asked,
        capture_output=True,
        timeout=60,
        check=True,
    )
    figures = said.stdout.decode(errors="replace").rstrip().rsplit('","', 7)
    return float(figures[1])  # after the command: rps, then six latencies


def _spread(store: RedisStore, pools: int) -> list[str]:
    """Define so many pools; return their ids."""
    policy = Policy(capacity=10_000, lost_after=2 * HOUR, heartbeat_interval=HOUR)
    made = [
        Pool(license_id=f"lic_of_{pools}", feature=f"f{n}", policy=policy) for n in range(pools)
    ]
    store.define(made)
    return [pool.id for pool in made]


def _cpu_of_beats(store: RedisStore, client: Any, pools: int) -> float:
    ids = _spread(store, pools)
    asked = [_request(ids[n % pools]) for n in range(max(pools, TOGETHER))]
    held = [x for x in store.acquire(asked) if isinstance(x, Lease)]
    parts = [held[at : at + TOGETHER] for at in range(0, len(held), TOGETHER)]
    batches = [[_beat(x) for x in part] for part in parts if len(part) == TOGETHER]

    def beat(turn: int) -> None:
        assert all(store.renew(batches[turn % len(batches)]))

    return _cpu(client, beat)


def _cpu_of_pairs(store: RedisStore, client: Any, pools: int) -> float:
    ids = _spread(store, pools)

    def pair(turn: int) -> None:
        asked = [_request(ids[(turn * TOGETHER + n) % pools]) for n in range(TOGETHER)]
        held = [x for x in store.acquire(asked) if isinstance(x, Lease)]
        done = store.release(
            [Release(lease_id=x.id, fence=x.fence, pool_id=x.pool_id) for x in held]
        )
        assert len(done) == TOGETHER
        assert all(done)

    return _cpu(client, pair)


def _cpu(client: Any, work: Callable[[int], None]) -> float:
    """Microseconds of the server's processor for each request of a batch."""
    for turn in range(20):
        work(turn)
    before = _spent(client)
    for turn in range(ROUNDS):
        work(turn)
    return (_spent(client) - before) * 1_000_000 / (ROUNDS * TOGETHER)


def _spent(client: Any) -> float:
    facts = client.info("cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


def _sweep_due(store: RedisStore) -> float:
    """Milliseconds for each 1,000 leases that have expired, beside all those that live."""
    short = Pool(
        license_id="lic_bench",
        feature="short",
        policy=Policy(capacity=20_000, lost_after=60, heartbeat_interval=50),
    )
    store.define([short])
    for _ in range(20):
        store.acquire([_request(short.id) for _ in range(FILL)])
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and store.usage([short.id])[0].in_use:  # type: ignore[union-attr]  # just defined
        pass
    expired, started = 0, time.perf_counter()
    while (swept := store.sweep()).leases_expired:
        expired += swept.leases_expired
    return (time.perf_counter() - started) * 1_000 / expired * 1_000
