"""Is a seat ever granted twice? 100,000 contested acquires per store, by two processes of many threads.

Every thread acquires a seat of a pool of five as a holder of its own, and releases what it got. The
judge is the event stream alone: replayed in commit order, the number of seats held must never pass the
capacity, and every grant must carry a higher fence than the one before.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
from places import BACKENDS, backend

from sojourn.errors import StoreUnavailable
from sojourn.lease import Acquire, Lease, Release
from sojourn.license import Policy, Pool
from sojourn.store import Store
from sojourn.stores.open import migrate, open_store
from sojourn.testing.replay import replay

CAPACITY = 5
PROCESSES = 2
THREADS = 100
BATCH = 5
POOL = "lic_bench:contended"
HOUR = 3_600_000
_T = TypeVar("_T")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    store: str
    acquires: int
    grants: int
    denials: int
    over_grants: int
    fences_out_of_order: int
    most_held: int
    rate: float  # contested acquires per second
    retried: int  # store said: try again


def measure(acquires: int, say: Callable[[str], None]) -> list[Row]:
    rows = []
    for name in BACKENDS:
        say(f"contended · {name}")
        with backend(name) as url:
            rows.append(_store(name, url, acquires))
    return rows


def _store(name: str, url: str, acquires: int) -> Row:
    migrate(url)
    store = open_store(url)
    try:
        policy = Policy(capacity=CAPACITY, lost_after=2 * HOUR, heartbeat_interval=HOUR)
        store.define([Pool(license_id="lic_bench", feature="contended", policy=policy)])
        context = multiprocessing.get_context("spawn")
        results: multiprocessing.Queue[int] = context.Queue()
        began = time.perf_counter()
        children = [
            context.Process(target=contend, args=(url, n, acquires // PROCESSES, results))
            for n in range(PROCESSES)
        ]
        for child in children:
            child.start()
        retried = sum(results.get() for _ in children)
        for child in children:
            child.join()
        return judge(name, store, time.perf_counter() - began, retried)
    finally:
        store.close()


def contend(url: str, process: int, acquires: int, results: multiprocessing.Queue[int]) -> None:
    """One process: its threads acquire in batches of different holders, and release what they got."""
    store = open_store(url)
    retried = [0] * THREADS

    def run(thread: int) -> None:
        for n in range(acquires // THREADS // BATCH):
            wanted = [
                Acquire(
                    pool_id=POOL,
                    user_id=f"user-{process}-{thread}-{i}",
                    client_id="bench",
                    lease_id=f"lse_{process}_{thread}_{n}_{i}",
                )
                for i in range(BATCH)
            ]
            answers = _again(lambda w=wanted: store.acquire(w), retried, thread)
            held = [Release(lease_id=x.id, fence=x.fence) for x in answers if isinstance(x, Lease)]
            if held:
                _again(lambda h=held: store.release(h), retried, thread)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    results.put(sum(retried))


def _again(call: Callable[[], _T], retried: list[int], thread: int) -> _T:
    for _ in range(100):
        try:
            return call()
        except StoreUnavailable:
            retried[thread] += 1
    raise RuntimeError("The store stayed away.")


def judge(name: str, store: Store, took: float, retried: int) -> Row:
    verdict = replay(store, POOL, CAPACITY)
    acquires = verdict.grants + verdict.denials
    return Row(
        store=name,
        acquires=acquires,
        grants=verdict.grants,
        denials=verdict.denials,
        over_grants=verdict.over_grants,
        fences_out_of_order=verdict.fences_out_of_order,
        most_held=verdict.most_held,
        rate=acquires / took,
        retried=retried,
    )
