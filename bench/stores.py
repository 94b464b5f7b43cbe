"""What does a decision cost inside one process, without HTTP?

Renewals, and pairs of acquire and release, in batches of 1 and of 64, per store; and the same in a
pool of 100,000 live leases beside a pool of 100, with room left and full.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
from places import BACKENDS, backend

from sojourn.lease import Acquire, Lease, Release, Renew
from sojourn.license import Policy, Pool
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import migrate, open_store

DAY = 86_400_000
LASTING = {"heartbeat_interval": DAY // 2, "lost_after": DAY}  # nothing expires while we measure


class Row(msgspec.Struct, frozen=True, kw_only=True):
    store: str
    call: str
    pool: int  # live leases in it
    batch: int
    us: float  # per request, median of the batches timed
    us_p99: float
    us_mean: float = (
        0.0  # what a refusal costs with its share of the counts: one a second in a large pool
    )


def measure(sizes: Sequence[int], seconds: float, say: Callable[[str], None]) -> list[Row]:
    rows: list[Row] = []
    for name in ("memory", *BACKENDS):
        if name == "memory":
            rows += _store(name, MemoryStore(), sizes, seconds, say)
            continue
        with backend(name) as url:
            migrate(url)
            store = open_store(url)
            try:
                rows += _store(name, store, sizes, seconds, say)
            finally:
                store.close()
    return rows


def _store(
    name: str, store: Store, sizes: Sequence[int], seconds: float, say: Callable[[str], None]
) -> list[Row]:
    rows = []
    for size in sizes:
        say(f"in process · {name} · {size:,} leases")
        roomy, full = f"lic_{size}:roomy", f"lic_{size}:full"
        policy = {"capacity": 2 * size + 1_000, **LASTING}
        store.define([_pool(roomy, policy), _pool(full, {**policy, "capacity": size})])
        leases = _fill(store, roomy, size)
        _fill(store, full, size)
        for batch in (1, 64):
            beats = [Renew(lease_id=x.id, fence=x.fence) for x in leases]
            cases = {
                "renew": _turns(beats, batch, store.renew),
                "acquire + release, room": partial(_pair, store, roomy, batch),
                "acquire, full": partial(_deny, store, full, batch),
            }
            for call, once in cases.items():
                us, p99, mean = _time(once, batch, seconds)
                row = Row(
                    store=name, call=call, pool=size, batch=batch, us=us, us_p99=p99, us_mean=mean
                )
                rows.append(row)
    return rows


def _pool(pool_id: str, policy: dict[str, int]) -> Pool:
    license_id, _, feature = pool_id.partition(":")
    return Pool(license_id=license_id, feature=feature, policy=Policy(**policy))


def _acquires(pool: str, first: int, count: int, prefix: str) -> list[Acquire]:
    return [
        Acquire(
            pool_id=pool, user_id=f"{prefix}-{n}", client_id="c", lease_id=f"{pool}-{prefix}-{n}"
        )
        for n in range(first, first + count)
    ]


def _fill(store: Store, pool: str, size: int) -> list[Lease]:
    held: list[Lease] = []
    for first in range(0, size, 500):
        answers = store.acquire(_acquires(pool, first, min(500, size - first), "holder"))
        held += [x for x in answers if isinstance(x, Lease)]
    if len(held) != size:
        raise RuntimeError(f"Only {len(held)} of {size} seats were granted.")
    return held


def _turns(
    requests: list[Renew], batch: int, verb: Callable[[list[Renew]], Sequence[object]]
) -> Callable[[], None]:
    """Take the next `batch` requests at each call, round and round, spread over the table."""
    at = 0

    def once() -> None:
        nonlocal at
        take = [requests[(at + i * 7919) % len(requests)] for i in range(batch)]
        at += 1
        if None in verb(take):
            raise RuntimeError("A renewal was lost.")

    return once


def _pair(store: Store, pool: str, batch: int) -> None:
    leases = store.acquire(_acquires(pool, 0, batch, "guest"))
    done = store.release(
        [Release(lease_id=x.id, fence=x.fence) for x in leases if isinstance(x, Lease)]
    )
    if len(done) != batch or not all(done):
        raise RuntimeError("A seat was not granted, or not released.")


def _deny(store: Store, pool: str, batch: int) -> None:
    if any(isinstance(x, Lease) for x in store.acquire(_acquires(pool, 0, batch, "guest"))):
        raise RuntimeError("A full pool granted a seat.")


def refusals(rows: Sequence[Row]) -> dict[str, float]:
    """Say by store how many times a refusal alone costs, in the mean, in the largest pool what it costs in
    the smallest."""
    ratios = {}
    for store in dict.fromkeys(row.store for row in rows):
        alone = [
            row for row in rows if (row.store, row.call, row.batch) == (store, "acquire, full", 1)
        ]
        small, large = min(alone, key=_pool_of), max(alone, key=_pool_of)
        ratios[store] = large.us_mean / small.us_mean
    return ratios


def _pool_of(row: Row) -> int:
    return row.pool


def _time(once: Callable[[], None], batch: int, seconds: float) -> tuple[float, float, float]:
    for _ in range(3):
        once()
    took = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        once()
        took.append((time.perf_counter() - began) / batch * 1e6)
    took.sort()
    return statistics.median(took), took[int(len(took) * 0.99)], statistics.mean(took)
