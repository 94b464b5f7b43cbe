"""Two servers of a kind, of which the second follows the first until it takes its place.

Each pair is set up so that what the first has answered, the second has: PostgreSQL and MariaDB replicate
synchronously, Valkey hands over when its replica has caught up. A proxy is the name that leads to the first,
and after a failover to the second.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pymysql
import redis
from msgspec import Struct

from sojourn.testing import processes
from sojourn.testing.binaries import postgres_folder
from sojourn.testing.plans import Settings
from sojourn.testing.pooler import pgbouncer
from sojourn.testing.proxy import FaultProxy
from sojourn.testing.redis_server import redis_server
from sojourn.testing.servers import Server, mariadb, postgres

CAUGHT_UP = 30.0  # seconds
DATABASE = "app"
MARIADB: Settings = {
    "log-bin": "bin",
    "rpl-semi-sync-master-enabled": "ON",
    "rpl-semi-sync-slave-enabled": "ON",
    "rpl-semi-sync-master-timeout": 3_600_000,  # ms: nothing is answered that the second lacks
    "rpl-semi-sync-master-wait-point": "AFTER_SYNC",
    "sync-binlog": 1,
}
FOLLOW = """
CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'root',
    MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1
"""


class Pair(Struct, frozen=True):
    """`url` is the store's, by the name. `fail_over` ends with the second taking writes, and the name
    leading there; what it is called in figures is `name`."""

    name: str
    url: str
    fail_over: Callable[[], None]
    neighbors: Callable[[], set[tuple[str, str]]] | None = None
    """Says what an application finds on each connection of the pooler, where there is one."""
    lossy: bool = False
    """Whether the second may lack what the first has answered last: then seats come back by their tokens."""


@contextlib.contextmanager
def postgres_pair(*, pooled: bool = False) -> Iterator[Pair]:
    """A primary that is killed, and a standby that is promoted; with `pooled`, behind PgBouncer."""
    with postgres() as first, postgres() as second:
        _execute(first, f"CREATE DATABASE {DATABASE}")
        _stand_by(first, second)
        _execute(first, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        _execute(first, "SELECT pg_reload_conf()")
        in_step = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        _wait(lambda: _execute(first, in_step) == [(1,)], "replicate")
        with FaultProxy(first.database_url(DATABASE)) as name, contextlib.ExitStack() as stack:
            url, neighbors = name.url, None
            if pooled:
                pooler = stack.enter_context(pgbouncer(first, port=name.port))
                url = pooler.url_of(first.database_url(DATABASE))
                neighbors = _asking(url)

            def fail_over() -> None:
                first.kill()
                _execute(second, "SELECT pg_promote()")
                _wait(
                    lambda: _execute(second, "SELECT pg_is_in_recovery()") == [(False,)], "promote"
                )
                name.lead_to(second.database_url(DATABASE))

            yield Pair(
                "PgBouncer and PostgreSQL" if pooled else "PostgreSQL", url, fail_over, neighbors
            )


def _stand_by(first: Server, second: Server) -> None:
    """Make the second a copy of the first that follows it."""
    second.stop()
    data = second.plan.root / "data"
    shutil.rmtree(data)
    asked = f"host=127.0.0.1 port={first.port} user=sojourn application_name=second"
    subprocess.run(
        [postgres_folder() / "pg_basebackup", "-D", data, "-d", asked, "--checkpoint=fast", "-R"],
        check=True,
        capture_output=True,
    )
    if second.plan.owner is not None:
        group = processes.group_of(second.plan.owner)
        for path in (data, *data.rglob("*")):
            os.chown(path, second.plan.owner, group)
    second.start()


def _execute(server: Server, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(server.url, autocommit=True, connect_timeout=10) as connection:
        found = connection.execute(statement.encode())
        return found.fetchall() if found.description else []


def _asking(url: str) -> Callable[[], set[tuple[str, str]]]:
    def ask() -> set[tuple[str, str]]:
        query = (
            "SELECT name, setting FROM pg_settings WHERE name NOT IN"
            " ('application_name', 'in_hot_standby', 'synchronous_standby_names', 'port',"
            " 'data_directory', 'config_file', 'hba_file', 'ident_file', 'primary_conninfo')"
            " UNION ALL SELECT 'prepared', name FROM pg_prepared_statements"
            " UNION ALL SELECT 'lock', objid::text FROM pg_locks WHERE locktype = 'advisory'"
            " AND pid = pg_backend_pid()"
        )
        found: set[tuple[str, str]] = set()
        with contextlib.ExitStack() as stack:
            for _ in range(
                3
            ):  # none ends its transaction before all have a connection of the server
                one = stack.enter_context(psycopg.connect(url, prepare_threshold=None))
                found |= set(one.execute(query).fetchall())
        return found

    return ask


@contextlib.contextmanager
def mariadb_pair() -> Iterator[Pair]:
    """A primary that is killed, and a replica that takes its place."""
    with (
        mariadb({**MARIADB, "server-id": 1}) as first,
        mariadb({**MARIADB, "server-id": 2}) as second,
    ):
        for server in (first, second):
            _ask(server, "SET GLOBAL rpl_semi_sync_master_enabled = OFF")
        _ask(second, FOLLOW.format(port=first.port))
        _ask(second, "START SLAVE")
        _ask(second, "SET GLOBAL read_only = ON")
        _ask(first, "SET GLOBAL rpl_semi_sync_master_enabled = ON")
        clients = "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'"
        _wait(lambda: _ask(first, clients)[0]["Value"] == "1", "replicate")
        _ask(first, f"CREATE DATABASE {DATABASE}")
        with FaultProxy(first.database_url(DATABASE)) as name:

            def fail_over() -> None:
                first.kill()
                _wait(lambda: _applied(second), "apply what it has")
                for statement in ("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = OFF"):
                    _ask(second, statement)
                name.lead_to(second.database_url(DATABASE))

            yield Pair("MariaDB", name.url, fail_over)


def _applied(server: Server) -> bool:
    """Tell whether all that a replica has been sent is in its tables."""
    [status] = _ask(server, "SHOW SLAVE STATUS")
    [now] = _ask(server, "SELECT @@gtid_slave_pos AS at")
    return bool(status["Gtid_IO_Pos"] == now["at"])


def _ask(server: Server, statement: str) -> list[dict[str, Any]]:
    with (
        pymysql.connect(
            host="127.0.0.1",
            port=server.port,
            user="root",
            connect_timeout=10,
            cursorclass=pymysql.cursors.DictCursor,
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return list(cursor.fetchall())


@contextlib.contextmanager
def valkey_pair(*, killed: bool = False) -> Iterator[Pair]:
    """A primary that hands over to its replica, and lives on as one of its; or one that is killed, and takes
    with it what it had not sent yet: Valkey answers before its replica has it."""
    with (
        redis_server() as old,
        redis_server() as new,
        redis.Redis.from_url(old.url) as first,
        redis.Redis.from_url(new.url) as second,
        FaultProxy(old.url) as name,
    ):
        second.replicaof("127.0.0.1", str(old.port))
        _wait(lambda: second.info("replication")["master_link_status"] == "up", "replicate")

        def promote() -> None:
            old.kill()
            second.replicaof("NO", "ONE")
            name.lead_to(new.url)

        def fail_over() -> None:
            first.execute_command("FAILOVER", "TO", "127.0.0.1", new.port, "TIMEOUT", 10_000)
            _wait(lambda: second.info("replication")["role"] == "master", "hand over")
            name.lead_to(new.url)

        if killed:
            yield Pair("Valkey, killed", name.url, promote, lossy=True)
        else:
            yield Pair("Valkey", name.url, fail_over)


def _wait(happened: Callable[[], bool], what: str) -> None:
    if not processes.wait_until(happened, CAUGHT_UP):
        raise RuntimeError(f"The servers did not {what} in time.")


PAIRS: dict[str, Callable[[], contextlib.AbstractContextManager[Pair]]] = {
    "postgres": postgres_pair,
    "pgbouncer": lambda: postgres_pair(pooled=True),
    "mariadb": mariadb_pair,
    "valkey": valkey_pair,
    "valkey-killed": lambda: valkey_pair(killed=True),
}
