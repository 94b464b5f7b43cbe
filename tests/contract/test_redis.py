"""The store on Redis and Valkey against the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from sojourn.clock import ManualClock
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.testing.contract import (
    StoreContract,
    StoreFaults,
    StoreFloods,
    StoreLosses,
    StoreProcesses,
    StoreRestarts,
)
from sojourn.testing.machine import drive
from sojourn.testing.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def emptied(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


class OnValkey:
    @pytest.fixture
    def store_url(self, server: RedisServer) -> str:
        return emptied(server.url)


class RedisContract(StoreContract):
    @pytest.fixture
    def store(self, store_url: str, clock: ManualClock) -> Iterator[Store]:
        with closing(open_store(store_url, clock=clock)) as store:
            yield store

    @pytest.fixture
    def open_store(self, store_url: str, clock: ManualClock) -> Iterator[Callable[[], Store]]:
        opened: list[Store] = []

        def again() -> Store:
            opened.append(open_store(store_url, clock=clock))
            return opened[-1]

        yield again
        for each in opened:
            each.close()

    def test_against_memory(self, store_url: str) -> None:
        """Driven side by side with the reference model, every answer, event and row is the same."""
        drive(lambda clock: open_store(emptied(store_url), clock=clock), examples=15, steps=60)


class TestValkey(OnValkey, RedisContract):
    pass


class TestValkeyProcesses(OnValkey, StoreProcesses):
    pass


class TestValkeyFloods(OnValkey, StoreFloods):
    @pytest.fixture
    def store(self, store_url: str, clock: ManualClock) -> Iterator[Store]:
        with closing(open_store(store_url, clock=clock)) as store:
            yield store


class OwnValkey:
    """A server of one's own, to kill."""

    @pytest.fixture
    def server(self) -> Iterator[Any]:
        with redis_server() as server:
            yield server

    @pytest.fixture
    def open_at(self) -> Callable[..., Store]:
        return open_store

    @pytest.fixture
    def database_url(self, server: RedisServer) -> str:
        return f"{server.url}?socket_timeout=1"  # or these tests wait for most of their time


class TestValkeyFaults(OwnValkey, StoreFaults):
    pass


class TestValkeyRestarts(OwnValkey, StoreRestarts):
    pass


class TestValkeyLosses(OwnValkey, StoreLosses):
    @pytest.fixture
    def ledger_url(self, empty_sqlite: str) -> str:
        return empty_sqlite
