"""The whole contract on Debian's Redis 7 and on a Cluster: `make campaign-redis`.

`make test` holds it on Valkey, and on these the part where servers differ: see `test_redis_kinds`. On a
Cluster, what breaks is a shard of it, as told there: a proxy stands before one server only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from tests.contract.test_redis import RedisContract

from sojourn.clock import ManualClock
from sojourn.store import Store
from sojourn.stores.open import open_store
from sojourn.testing.contract import StoreFaults, StoreProcesses
from sojourn.testing.machine import drive
from sojourn.testing.redis_server import RedisServer, redis_cluster, redis_program, redis_server


def emptied(servers: list[RedisServer]) -> str:
    """Empty them; answer with the URL of a store there."""
    for server in servers:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
    if len(servers) == 1:
        return servers[0].url
    return servers[0].url.replace("redis://", "redis+cluster://").removesuffix("/0")


if os.environ.get("SOJOURN_CAMPAIGN"):

    @pytest.fixture(scope="module", params=["Redis 7", "Cluster"])
    def servers(request: pytest.FixtureRequest) -> Iterator[list[RedisServer]]:
        if request.param == "Cluster":
            with redis_cluster() as nodes:
                yield nodes
        else:
            with redis_server(program=redis_program()) as server:
                yield [server]

    @pytest.fixture
    def store_url(servers: list[RedisServer]) -> str:
        return emptied(servers)

    class TestWhole(RedisContract):
        @pytest.fixture(autouse=True)
        def _servers(self, servers: list[RedisServer]) -> None:
            self.servers = servers

        def test_against_memory(self, store_url: str) -> None:
            """Driven side by side with the reference model, every answer, event and row is the same."""

            def fresh(clock: ManualClock) -> Store:
                return open_store(emptied(self.servers), clock=clock)

            drive(fresh, examples=50, steps=60)

    class TestWholeProcesses(StoreProcesses):
        pass

    class TestFaultsOnRedis7(StoreFaults):
        @pytest.fixture
        def server(self) -> Iterator[Any]:
            with redis_server(program=redis_program()) as server:
                yield server

        @pytest.fixture
        def open_at(self) -> Callable[[str], Store]:
            return open_store

        @pytest.fixture
        def database_url(self, server: RedisServer) -> str:
            return f"{server.url}?socket_timeout=1"
