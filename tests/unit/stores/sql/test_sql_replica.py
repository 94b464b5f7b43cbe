"""After a failover the old primary may live on and only read: nobody stays connected to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from sojourn.errors import StoreUnavailable
from sojourn.stores import open as stores
from sojourn.testing.builders import pool, take

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
DEMOTE = {
    "postgresql": "ALTER DATABASE {name} SET default_transaction_read_only = on",
    "mysql": "SET GLOBAL tx_read_only = 1",
}
PROMOTE = {
    "postgresql": "ALTER DATABASE {name} RESET default_transaction_read_only",
    "mysql": "SET GLOBAL tx_read_only = 0",
}


@pytest.fixture(params=["empty_postgres", "empty_mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@contextmanager
def demoted(url: str) -> Iterator[Callable[[], None]]:
    """Let connections made from now on only read; what is handed out makes the next write again, and
    leaves those that there are as they are."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    engine = create_engine(parsed.set(drivername=DRIVERS[backend]), poolclass=NullPool)
    name = engine.dialect.identifier_preparer.quote(parsed.database or "")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as operator:

        def promote() -> None:
            operator.execute(text(PROMOTE[backend].format(name=name)))

        operator.execute(text(DEMOTE[backend].format(name=name)))
        try:
            yield promote
        finally:
            promote()


def test_leaves_a_server_that_only_reads(url: str) -> None:
    """All of the pool's connections lead to it, and each would refuse once more."""
    with demoted(url) as promote, closing(stores.open_store(url)) as store:
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                store.define([pool(2)])
        promote()
        store.define([pool(2)])
        assert take(store).fence == 1


ENDS = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "BEGIN NOT ATOMIC FOR other IN (SELECT id FROM information_schema.processlist"
    " WHERE db = database() AND id <> connection_id()) DO KILL other.id; END FOR; END",
}


def test_connection_that_the_server_has_ended(url: str) -> None:
    """Whoever comes next does not notice, though each of the pool's connections is over."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    engine = create_engine(parsed.set(drivername=DRIVERS[backend]), poolclass=NullPool)
    with closing(stores.open_store(url)) as store:
        store.define([pool(9)])
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: take(store, f"ann{number}"), range(4)))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as operator:
            operator.execute(text(ENDS[backend]))
        for name in ("bob", "cid", "dan"):
            take(store, name)
