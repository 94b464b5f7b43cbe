"""The store on SQL against the contract: on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.databases import Reused, copied

from sojourn.clock import ManualClock
from sojourn.errors import StoreUnavailable
from sojourn.store import Store
from sojourn.stores import open as stores
from sojourn.stores.sql import server as sql_server
from sojourn.testing.contract import (
    StoreClocks,
    StoreContract,
    StoreCutOffs,
    StoreFaults,
    StoreFileFreezes,
    StoreFloods,
    StoreFreezes,
    StoreRestarts,
)
from sojourn.testing.contract.processes import StoreProcesses
from sojourn.testing.machine import drive
from sojourn.testing.servers import Server, fresh_database, mariadb, postgres
from sojourn.testing.wall_clock import OwnWallClock, WallClock


def migrated(url: str) -> str:
    stores.migrate(url)
    return url


EXAMPLES = int(os.environ.get("SOJOURN_EXAMPLES", "12"))
"""`make campaign-machine` takes many more, and draws them anew each time."""


class SqlContract(StoreContract):
    """A backend says which database is its own: `store_url` names it, empty."""

    @pytest.fixture(autouse=True)
    def patient_servers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Crowds of threads share one interpreter: each may be silent for longer than a server should be.
        What becomes of that is asked in StoreFreezes."""
        monkeypatch.setattr(sql_server, "SILENT_MAX", 60)

    @pytest.fixture
    def store(self, store_url: str, clock: ManualClock) -> Iterator[Store]:
        with closing(stores.open_store(store_url, clock=clock)) as store:
            yield store

    @pytest.fixture
    def open_store(self, store_url: str, clock: ManualClock) -> Iterator[Callable[[], Store]]:
        opened: list[Store] = []

        def open_store() -> Store:
            opened.append(stores.open_store(store_url, clock=clock))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()

    def test_against_memory(self, emptied: Callable[[], str]) -> None:
        """Whatever is asked of it, in any order, it answers as the reference model does."""
        drive(lambda clock: stores.open_store(emptied(), clock=clock), examples=EXAMPLES)


class OnSqlite:
    @pytest.fixture
    def store_url(self, empty_sqlite: str) -> str:
        return empty_sqlite

    @pytest.fixture
    def emptied(self, migrated_sqlite: Path, tmp_path: Path) -> Callable[[], str]:
        return lambda: copied(migrated_sqlite, tmp_path / "machine.db")


class OnPostgres:
    @pytest.fixture
    def store_url(self, empty_postgres: str) -> str:
        return empty_postgres

    @pytest.fixture
    def emptied(self, reused_postgres: Reused) -> Callable[[], str]:
        return reused_postgres.emptied


class OnMariadb:
    @pytest.fixture
    def store_url(self, empty_mariadb: str) -> str:
        return empty_mariadb

    @pytest.fixture
    def emptied(self, reused_mariadb: Reused) -> Callable[[], str]:
        return reused_mariadb.emptied


class TestSqlite(OnSqlite, SqlContract):
    pass


class TestPostgres(OnPostgres, SqlContract):
    pass


class TestMariadb(OnMariadb, SqlContract):
    pass


class TestSqliteProcesses(OnSqlite, StoreProcesses):
    pass


class TestPostgresProcesses(OnPostgres, StoreProcesses):
    pass


class TestMariadbProcesses(OnMariadb, StoreProcesses):
    pass


class SqlFloods(StoreFloods):
    @pytest.fixture
    def store(self, store_url: str, clock: ManualClock) -> Iterator[Store]:
        with closing(stores.open_store(store_url, clock=clock)) as store:
            yield store


class TestSqliteFloods(OnSqlite, SqlFloods):
    pass


class TestPostgresFloods(OnPostgres, SqlFloods):
    pass


class TestMariadbFloods(OnMariadb, SqlFloods):
    pass


class TestSqliteInMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Iterator[Store]:
        with closing(stores.open_store("sqlite:///:memory:", clock=clock)) as store:
            yield store


class SqlFaults(StoreFaults):
    """A server of one's own, to kill."""

    @pytest.fixture(autouse=True)
    def impatient(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """Wait for a network that swallows everything less than in earnest, as `test_paused_server` does."""
        if request.function.__name__ == "test_network_fault":
            monkeypatch.setattr(sql_server, "REPLY_TIMEOUT", 2)

    @pytest.fixture
    def open_at(self) -> Callable[[str], Store]:
        return stores.open_store

    @pytest.fixture
    def database_url(self, server: Server) -> Iterator[str]:
        with fresh_database(server) as url:
            yield migrated(url)


class TestPostgresFaults(SqlFaults):
    @pytest.fixture
    def server(self, own_postgres: Server) -> Server:
        return own_postgres


class TestMariadbFaults(SqlFaults):
    @pytest.fixture
    def server(self, own_mariadb: Server) -> Server:
        return own_mariadb


class SqlRestarts(StoreRestarts):
    """A server of one's own, to start again."""

    @pytest.fixture
    def open_at(self) -> Callable[..., Store]:
        return stores.open_store

    @pytest.fixture
    def database_url(self, server: Server) -> Iterator[str]:
        with fresh_database(server) as url:
            yield migrated(url)


class TestPostgresRestarts(SqlRestarts):
    @pytest.fixture
    def server(self, own_postgres: Server) -> Server:
        return own_postgres


class TestMariadbRestarts(SqlRestarts):
    @pytest.fixture
    def server(self, own_mariadb: Server) -> Server:
        return own_mariadb


class OnOwnClock:
    @pytest.fixture
    def open_at(self) -> Callable[[str], Store]:
        return stores.open_store


class TestSqliteFreezes(OnOwnClock, StoreFileFreezes):
    @pytest.fixture
    def database_url(self, empty_sqlite: str) -> str:
        return empty_sqlite


class TestPostgresFreezes(OnOwnClock, StoreFreezes, StoreCutOffs):
    MIDDLE = b"COMMIT\0"  # through a proxy, transactions begin with READ COMMITTED

    @pytest.fixture
    def database_url(self, empty_postgres: str) -> str:
        return empty_postgres


class TestMariadbFreezes(OnOwnClock, StoreFreezes, StoreCutOffs):
    @pytest.fixture
    def database_url(self, empty_mariadb: str) -> str:
        return empty_mariadb


class TestSqliteClocks(OnOwnClock, StoreClocks):
    @pytest.fixture
    def wall(self) -> Iterator[OwnWallClock]:
        with OwnWallClock() as wall:
            yield wall

    @pytest.fixture
    def database_url(self, empty_sqlite: str) -> str:
        return empty_sqlite


@pytest.fixture(scope="module")
def server_wall() -> Iterator[WallClock]:
    with WallClock() as wall:
        yield wall


@pytest.fixture(scope="module")
def set_postgres(server_wall: WallClock) -> Iterator[Server]:
    with postgres(wall=server_wall) as server:
        yield server


@pytest.fixture(scope="module")
def set_mariadb(server_wall: WallClock) -> Iterator[Server]:
    with mariadb(wall=server_wall) as server:
        yield server


class AskedAgain:
    """A store on a server that counts its own timeouts by the clock that was set, and may end a connection
    over it: what it did not answer is asked again, as clients do."""

    ATTEMPTS = 3

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return partial(self._ask, verb) if callable(verb) else verb

    def _ask(self, verb: Callable[..., Any], *given: Any, **named: Any) -> Any:
        for _ in range(self.ATTEMPTS - 1):
            with contextlib.suppress(StoreUnavailable):
                return verb(*given, **named)
        return verb(*given, **named)


class OnSetServer(OnOwnClock, StoreClocks):
    @pytest.fixture
    def open_at(self) -> Callable[[str], Any]:
        return lambda url: AskedAgain(stores.open_store(url))

    @pytest.fixture
    def wall(self, server_wall: WallClock) -> WallClock:
        server_wall.shift()
        return server_wall


class TestPostgresClocks(OnSetServer):
    @pytest.fixture
    def database_url(self, set_postgres: Server) -> Iterator[str]:
        with fresh_database(set_postgres) as url:
            yield migrated(url)


class TestMariadbClocks(OnSetServer):
    @pytest.fixture
    def database_url(self, set_mariadb: Server) -> Iterator[str]:
        with fresh_database(set_mariadb) as url:
            yield migrated(url)
