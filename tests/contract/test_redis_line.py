"""The line of a pool with reservations, in Lua as in Python: what is done to both, has the same results."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing

import pytest

from sojourn.clock import SECOND, ManualClock
from sojourn.device import Device
from sojourn.lease import Acquire, Lease, Release
from sojourn.license import CountBy, Pool, Reservation, WhenFull
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.testing.builders import acquire, latest, news, pool
from sojourn.testing.redis_server import redis_server

STEPS = 60
RESERVATIONS = (
    Reservation(name="ann", seats=1, users=("ann",)),
    Reservation(name="staff", seats=1, groups=("staff",)),
    Reservation(name="desks", seats=1, kinds=("desktop",)),
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with redis_server() as server:
        yield server.url


def some_pool(chance: random.Random, name: str, count_by: CountBy) -> Pool:
    return pool(
        chance.randint(3, 5),
        feature=name,
        overdraft=chance.choice([0, 0, 1]),
        reservations=RESERVATIONS[: chance.randint(1, 3)],
        count_by=count_by,
        when_full=chance.choice(list(WhenFull)),
        idle_after=60 * SECOND,
    )


def some_requests(chance: random.Random, step: int, pool_id: str) -> list[Acquire]:
    found = {}
    for n in range(chance.randint(1, 4)):
        holder = chance.choice(["ann", "bob", "cid", "dan", "eve"]), f"tab {chance.randint(1, 3)}"
        found[holder] = acquire(
            *holder,
            pool_id=pool_id,
            lease_id=f"lse_{step}_{n}",
            wait=chance.random() < 0.8,
            priority=chance.randint(0, 2),
            member_of=chance.choice([(), ("staff",)]),
            device=chance.choice([None, Device(kind="desktop")]),
        )
    return list(found.values())


@pytest.mark.parametrize("count_by", CountBy)
@pytest.mark.parametrize("seed", range(5))
def test_the_script_decides_as_python_does(url: str, count_by: CountBy, seed: int) -> None:
    """Answers, ends, offers and the order of the line are the same after each step."""
    chance = random.Random(seed)
    name = f"{count_by.value}-{seed}"
    clock = ManualClock()
    with (
        closing(open_store("memory:", clock=clock)) as model,
        closing(open_store(url, clock=clock)) as script,
    ):
        stores: tuple[Store, Store] = model, script
        seen = [latest(store) for store in stores]
        held: dict[str, Lease] = {}
        for step in range(STEPS):
            if step % 20 == 0:
                defined = some_pool(chance, name, count_by)
                for store in stores:
                    store.define([defined])
            requests = some_requests(chance, step, defined.id)
            one, other = (store.acquire(requests) for store in stores)
            assert one == other, step
            held |= {lease.id: lease for lease in one if isinstance(lease, Lease)}
            if held and chance.random() < 0.4:
                lease = held.pop(chance.choice(sorted(held)))
                gone = Release(lease_id=lease.id, fence=lease.fence, pool_id=defined.id)
                given_back = [store.release([gone]) for store in stores]
                assert given_back[0] == given_back[1]
            assert model.waiting(defined.id) == script.waiting(defined.id), step
            told = [news(store, after) for store, after in zip(stores, seen, strict=True)]
            seen = [each[-1].id if each else at for each, at in zip(told, seen, strict=True)]
            plain = [[(x.kind, x.subject, x.user_id, x.data) for x in each] for each in told]
            assert plain[0] == plain[1], step
            clock.advance(seconds=chance.choice([0, 1, 3, 12, 40]))
