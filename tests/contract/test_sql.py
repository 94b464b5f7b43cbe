"""The store on SQL against the contract: on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import text

from sojourn.clock import ManualClock
from sojourn.store import Store
from sojourn.stores import open as stores
from sojourn.stores.sql import schema
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.contract import StoreContract, StoreFaults
from sojourn.testing.contract.processes import StoreProcesses
from sojourn.testing.machine import drive
from sojourn.testing.servers import Server, fresh_database


def emptied(url: str) -> str:
    """Forget all rows of a database: sooner done than making another."""
    with closing(stores.open_store(url)) as store:
        assert isinstance(store, SqlStore)
        with store._db.writing() as tx:
            for table in schema.metadata.sorted_tables:
                if table is not schema.marks:
                    tx.core(table.delete())
            tx.core(text("UPDATE marks SET value = 0"))
            tx.core(text("UPDATE marks SET value = NULL WHERE name = 'pulse'"))
    return url


def migrated(url: str) -> str:
    stores.migrate(url)
    return url


class SqlContract(StoreContract):
    """A backend says which database is its own: `store_url` names it, empty."""

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

    def test_against_memory(self, store_url: str) -> None:
        """Whatever is asked of it, in any order, it answers as the reference model does."""
        drive(lambda clock: stores.open_store(emptied(store_url), clock=clock))


class OnSqlite:
    @pytest.fixture
    def store_url(self, sqlite_url: str) -> str:
        return migrated(sqlite_url)


@pytest.fixture(scope="module")
def postgres_database(postgres_server: Server) -> Iterator[str]:
    with fresh_database(postgres_server) as url:
        yield migrated(url)


@pytest.fixture(scope="module")
def mariadb_database(mariadb_server: Server) -> Iterator[str]:
    with fresh_database(mariadb_server) as url:
        yield migrated(url)


class OnPostgres:
    @pytest.fixture
    def store_url(self, postgres_database: str) -> str:
        return emptied(postgres_database)


class OnMariadb:
    @pytest.fixture
    def store_url(self, mariadb_database: str) -> str:
        return emptied(mariadb_database)


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


class TestSqliteInMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock) -> Iterator[Store]:
        with closing(stores.open_store("sqlite:///:memory:", clock=clock)) as store:
            yield store


class SqlFaults(StoreFaults):
    """A server of one's own, to kill."""

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
