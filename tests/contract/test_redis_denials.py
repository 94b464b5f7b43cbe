"""The latest denials on Redis are looked up, not searched for, however many there were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis

from sojourn.clock import ManualClock
from sojourn.event import Event, EventKind
from sojourn.lease import Lease
from sojourn.ledger import Ledger
from sojourn.license import License, Policy
from sojourn.service.operations import Operations
from sojourn.store import Store
from sojourn.stores.memory import MemoryStore
from sojourn.stores.open import migrate, open_ledger, open_store
from sojourn.stores.recorder import LedgerRecorder
from sojourn.stores.redis.store import RedisStore
from sojourn.testing.builders import acquire, give_back, pool, take
from sojourn.testing.redis_server import RedisServer, redis_server

QUIET, BUSY = "lic_1:quiet", "lic_1:busy"
DENIED = (EventKind.LEASE_DENIED,)
MANY = 100_000
BATCH = 1_000
KEY = "sojourn:{s}:"
LIST_BYTES = 4_096


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(client: Any, server: RedisServer) -> Iterator[RedisStore]:
    with closing(open_store(server.url)) as store:
        assert isinstance(store, RedisStore)
        store.define([pool(0, feature="quiet"), pool(0, feature="busy")])
        yield store


@pytest.fixture
def ledger(sqlite_url: str) -> Iterator[Ledger]:
    migrate(sqlite_url)
    with closing(open_ledger(sqlite_url)) as ledger:
        features = {"quiet": Policy(capacity=0), "busy": Policy(capacity=0)}
        ledger.create_license(License(id="lic_1", name="Acme"), features, b"k" * 32, actor="test")
        yield ledger


def deny(store: Store, pool_id: str, users: Sequence[str]) -> None:
    answers = store.acquire([acquire(user, pool_id=pool_id) for user in users])
    assert not any(isinstance(answer, Lease) for answer in answers)


def read(client: Any) -> dict[str, int]:
    """Say how often the stream was read, one entry at a time and in pages."""
    stats = client.info("commandstats")
    return {
        name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]
        for name in ("xrange", "xrevrange")
    }


def test_statistics_after_many_denials(client: Any, store: RedisStore, ledger: Ledger) -> None:
    """What is read of the stream is what is answered; and a pool's list of denials does not grow."""
    deny(store, QUIET, ["ann", "bob", "ann"])
    for start in range(0, MANY, BATCH):
        deny(store, BUSY, [f"user-{start + n}" for n in range(BATCH - 1)] + ["everywhere"])
    operations = Operations(store, ledger)
    client.config_resetstat()
    stats = operations.stats("lic_1")
    assert read(client) == {"xrange": 3 + 20, "xrevrange": 0}
    assert len(stats.denials) == 20
    assert stats.denials[0].user_id == "everywhere"
    client.config_resetstat()
    debug = operations.debug("ann", "quiet")
    # Those of the user; and those of the pool, to tell who wants a seat.
    assert read(client) == {"xrange": 2 + 3, "xrevrange": 0}
    assert [event.user_id for event in debug.denials] == ["ann", "ann"]
    client.config_resetstat()
    assert len(operations.debug("everywhere", "busy").denials) == 20
    assert read(client) == {"xrange": 100 + 100, "xrevrange": 0}
    for name in (f"dp:{BUSY}", "du:everywhere"):
        assert client.memory_usage(KEY + name, samples=0) < LIST_BYTES
        assert client.pttl(KEY + name) > 0


def asked_in_many_ways(store: Store) -> list[list[Event]]:
    """Ask for the denials of a store in every way that the list may serve, in whole or in part."""
    newest = store.events(limit=1, newest_first=True)[0].id
    return [
        store.events(
            after=max(0, newest - before) if before else 0,
            limit=limit,
            kinds=kinds,
            pool_id=pool_id,
            user_id=user_id,
            newest_first=newest_first,
        )
        for before in (0, 1, 40, 150, 270)
        for limit in (0, 1, 20, 100, 1_000)
        for kinds in (DENIED, (), (EventKind.LEASE_DENIED, EventKind.LEASE_ACQUIRED))
        for pool_id in (None, QUIET, BUSY, "lic_1:unknown")
        for user_id in (None, "ann", "bob", "nobody")
        for newest_first in (True, False)
    ]


def filled(store: Store) -> None:
    store.define([pool(1, feature="quiet"), pool(0, feature="busy")])
    for number in range(40):
        store.acquire([acquire("ann", pool_id=QUIET), acquire("bob", pool_id=QUIET)])
        deny(store, BUSY, ["ann", "ann", "bob", f"user-{number}"])
        deny(store, "lic_1:unknown", ["bob"])


@pytest.mark.parametrize("indexed", ["all", "none", "some", "swept"])
def test_the_list_tells_what_a_search_does(client: Any, server: RedisServer, indexed: str) -> None:
    """It makes no difference to any answer: nor where a version wrote that keeps no list."""
    clocks = [ManualClock(), ManualClock()]
    model = MemoryStore(clocks[0])
    with closing(open_store(server.url, clock=clocks[1])) as store:
        halves = 2 if indexed == "some" else 1
        for each in (model, store):
            for half in range(halves):
                filled(each)
                if each is store and indexed != "all" and half == 0:
                    client.delete(*client.keys(KEY + "d[pu]:*"))
                    client.hdel(KEY + "m", "indexed")
        if indexed == "swept":
            while store.sweep(limit=7).more:
                pass
            assert client.hget(KEY + "m", "indexed") == b"1"
            assert client.zcard(KEY + f"dp:{BUSY}") == 100
            client.config_resetstat()
            assert len(store.events(kinds=DENIED, pool_id=QUIET, limit=20, newest_first=True)) == 20
            assert read(client) == {"xrange": 20, "xrevrange": 0}
        assert plain(asked_in_many_ways(store)) == plain(asked_in_many_ways(model))


def plain(answers: list[list[Event]]) -> list[list[tuple[Any, ...]]]:
    return [[(x.id, x.kind, x.pool_id, x.user_id) for x in answer] for answer in answers]


def test_the_first_denial_comes_late(client: Any, store: RedisStore) -> None:
    """What happened before there was one is not searched for others."""
    store.define([pool(1, feature="quiet")])
    for _ in range(50):
        lease = take(store, pool_id=QUIET)
        assert give_back(store, lease)
    take(store, pool_id=QUIET)
    deny(store, QUIET, ["bob"])
    client.config_resetstat()
    assert len(store.events(kinds=DENIED, pool_id=QUIET, limit=20, newest_first=True)) == 1
    assert read(client) == {"xrange": 1, "xrevrange": 0}


def test_a_stream_that_a_ledger_has_given_other_ids(
    client: Any, server: RedisServer, store: RedisStore, ledger: Ledger
) -> None:
    """Events that go on from where a ledger is are found by their new ids, those of before included."""
    recorder = LedgerRecorder(store, store, ledger)
    recorder.run()
    deny(store, QUIET, ["ann"])
    recorder.run()
    client.flushall()
    with closing(open_store(server.url)) as other:  # a process that has attached no ledger yet
        other.define([pool(0, feature="quiet")])
        deny(other, QUIET, ["bob", "eve"])
    recorder.run()
    deny(store, QUIET, ["zoe"])
    found = store.events(kinds=DENIED, pool_id=QUIET, newest_first=True)
    assert [event.user_id for event in found] == ["zoe", "eve", "bob"]
    assert store.events(kinds=DENIED, user_id="eve", newest_first=True) == [found[1]]
