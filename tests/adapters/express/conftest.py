"""What these tests share.

| fixture       | is                                                             |
|---------------|----------------------------------------------------------------|
| node_app      | the folder of the Express application, with its packages       |
| express_pg    | a database of one's own, with Sojourn installed beside Express |
| database      | a connection to it                                             |
| express_redis | an empty Valkey server                                         |
| store         | each of the two, by URL                                        |
| together      | a Node application and a Python one on `store`                 |
| clock         | a clock to move, which shows the real time at first            |
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from tests.adapters.express import node

from sojourn.adapters.express import install
from sojourn.clock import ManualClock, host_now
from sojourn.testing.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def node_app() -> Path:
    return node.installed()


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def express_pg(postgres_url: str) -> str:
    install(f"express+{postgres_url}")
    return postgres_url


@pytest.fixture
def express_redis(valkey: RedisServer) -> str:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return valkey.url


@pytest.fixture
def database(express_pg: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(express_pg, autocommit=True) as connection:
        yield connection


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(host_now())


@pytest.fixture(params=["express_pg", "express_redis"])
def store(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def together(node_app: Path, store: str) -> Iterator[node.Both]:
    with node.both(node_app, store) as applications:
        yield applications
