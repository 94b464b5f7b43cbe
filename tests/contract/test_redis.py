"""The store on Redis and Valkey against the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis

from sojourn.clock import ManualClock
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.testing.contract import StoreContract
from sojourn.testing.machine import drive
from sojourn.testing.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def url(server: RedisServer) -> str:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


class TestValkey(StoreContract):
    @pytest.fixture
    def store(self, url: str, clock: ManualClock) -> Iterator[Store]:
        with closing(open_store(url, clock=clock)) as store:
            yield store

    @pytest.fixture
    def open_store(self, url: str, clock: ManualClock) -> Iterator[Callable[[], Store]]:
        opened: list[Store] = []

        def again() -> Store:
            opened.append(open_store(url, clock=clock))
            return opened[-1]

        yield again
        for each in opened:
            each.close()


def test_valkey_against_memory(server: RedisServer) -> None:
    """Driven side by side with the reference model, every answer, event and row is the same."""

    def fresh(clock: ManualClock) -> Store:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        return open_store(server.url, clock=clock)

    drive(fresh)
