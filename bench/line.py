"""Is the line fair, and how long does a free seat stand empty? 1,000 requests wait for one seat, per store.

They arrive one after another, and wait as a server's long polls do. Whoever is served gives the seat back at
once. `woken`: in the process that waits, which is told; `polled`: in another one, so that the first of the
line finds the seat when it asks again, within half a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from places import BACKENDS, backend

from sojourn.lease import Acquire, Denied, Lease, Release
from sojourn.license import Policy, Pool
from sojourn.service.batcher import Batcher
from sojourn.service.waiting import WaitingRoom, waits
from sojourn.store import Store
from sojourn.stores.open import migrate, open_store
from sojourn.testing.redis_server import redis_server, valkey_program

STORES = ("memory", *BACKENDS, "valkey")
POOL = "lic_bench:line"
HOUR = 3_600_000
PATIENCE = 900.0  # seconds for one store
POLLED = 20
"""How many are served when nobody is woken: each takes up to half a second."""
T = TypeVar("T")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    store: str
    freed: str  # woken, or polled
    waiters: int
    served: int
    furthest: int  # places by which somebody was served too early or too late, at most
    p50_ms: float  # from free seat to served
    p99_ms: float
    most_held: int  # seats at once, of 1


def measure(waiters: int, say: Callable[[str], None], stores: Sequence[str] = STORES) -> list[Row]:
    rows = []
    for name in stores:
        for freed in ("woken", "polled"):
            say(f"line · {name} · {freed}")
            with _store(name) as store:
                rows.append(asyncio.run(_serve(name, store, waiters, woken=freed == "woken")))
    return rows


@contextlib.contextmanager
def _store(name: str) -> Iterator[Store]:
    with contextlib.ExitStack() as stack:
        if name == "valkey":
            url = stack.enter_context(redis_server(program=valkey_program())).url
        elif name == "memory":
            url = "memory:"
        else:
            url = stack.enter_context(backend(name))
            migrate(url)
        with contextlib.closing(open_store(url)) as store:
            policy = Policy(capacity=1, lost_after=2 * HOUR, heartbeat_interval=HOUR)
            store.define([Pool(license_id="lic_bench", feature="line", policy=policy)])
            yield store


async def _serve(name: str, store: Store, waiters: int, *, woken: bool) -> Row:
    batcher = Batcher({"acquire": store.acquire}, runners=store.parallel)
    batcher.start()
    room = WaitingRoom(batcher)
    served: asyncio.Queue[Lease] = asyncio.Queue()
    count = waiters if woken else min(POLLED, waiters)
    async with asyncio.timeout(PATIENCE):
        held = await batcher.submit("acquire", _request(-1))
        tasks = [asyncio.create_task(_wait(batcher, room, served, n)) for n in range(waiters)]
        await _until_parked(room, waiters)
        order, times, most = [], [], 0
        for _ in range(count):
            began = time.perf_counter()
            await asyncio.to_thread(_give_back, store, held)
            if woken:
                room.freed({POOL})
            held = await served.get()
            times.append(1_000 * (time.perf_counter() - began))
            order.append(int(held.user_id.rpartition("-")[2]))
            usage = store.usage([POOL])[0]
            most = max(most, usage.in_use if usage else 0)
        room.close()
        await asyncio.gather(*tasks)
        await batcher.close()
    times.sort()
    return Row(
        store=name,
        freed="woken" if woken else "polled",
        waiters=waiters,
        served=count,
        furthest=max(abs(place - n) for place, n in enumerate(order)),
        p50_ms=times[len(times) // 2],
        p99_ms=times[min(len(times) - 1, len(times) * 99 // 100)],
        most_held=most,
    )


async def _wait(batcher: Batcher, room: WaitingRoom, served: asyncio.Queue[Lease], n: int) -> None:
    request = _request(n)
    answer = await batcher.submit("acquire", request)
    while waits(answer) and not room.closed:
        answer = await room.wait(request, answer, seconds=60.0, within=_as_it_is)
    if not isinstance(answer, Denied):
        served.put_nowait(answer)


async def _until_parked(room: WaitingRoom, count: int) -> None:
    for _ in itertools.count():
        if room.length >= count:
            return
        await asyncio.sleep(0.01)


async def _as_it_is(answer: Awaitable[T]) -> T:
    return await answer


def _request(n: int) -> Any:
    name = f"user-{n}" if n >= 0 else "holder"
    return Acquire(
        pool_id=POOL, user_id=name, client_id="bench", lease_id=f"lse_{name}", wait=n >= 0
    )


def _give_back(store: Store, lease: Lease) -> None:
    store.release([Release(lease_id=lease.id, fence=lease.fence)])
