"""The clock of a server that a test started is the test's to set."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest
import redis

from sojourn.testing import processes
from sojourn.testing.redis_server import redis_server
from sojourn.testing.servers import mariadb, postgres
from sojourn.testing.wall_clock import WallClock

NEAR = 60.0  # seconds: far less than any shift here, far more than a query takes
PATIENCE = 10.0


def told_by_postgres(url: str) -> float:
    with psycopg.connect(url) as connection:
        row: Any = connection.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
        return float(row[0])


def told_by_mariadb(url: str) -> float:
    port = int(url.rpartition(":")[2].partition("/")[0])
    with (
        pymysql.connect(host="127.0.0.1", port=port, user="root") as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT unix_timestamp(sysdate(3))")
        row: Any = cursor.fetchone()
        return float(row[0])


def told_by_redis(url: str) -> float:
    with redis.Redis.from_url(url) as client:
        seconds, _ = client.time()
        return float(seconds)


@pytest.mark.parametrize(
    ("run", "told"),
    [(postgres, told_by_postgres), (mariadb, told_by_mariadb), (redis_server, told_by_redis)],
    ids=["postgresql", "mariadb", "valkey"],
)
def test_a_servers_clock_is_set(run: Callable[..., Any], told: Callable[[str], float]) -> None:
    """Back by an hour, ahead by a day, and right again: at once, and for nobody else."""
    with WallClock() as wall, run(wall=wall) as server:
        for hours in (0, -1, 24, 0):
            wall.shift(hours=hours)

            def as_set(ahead: float = hours * 3_600.0) -> bool:
                return abs(told(server.url) - time.time() - ahead) < NEAR

            assert processes.wait_until(as_set, PATIENCE)
