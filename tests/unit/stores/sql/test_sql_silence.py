"""A server ends what we leave in the middle; we notice, and begin again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from sojourn.clock import SECOND
from sojourn.doctor.doctor import Doctor
from sojourn.errors import RepairBusy, StoreUnavailable
from sojourn.finding import Verdict
from sojourn.stores import open as stores
from sojourn.stores.sql import quick, server
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.server import ServerDatabase
from sojourn.stores.sql.store import SqlStore
from sojourn.testing import processes
from sojourn.testing.builders import beat, pool, take
from sojourn.testing.contract.freezes import frozen, let_go

BOUND = 20.0  # seconds
SHOW = {
    Backend.POSTGRES: "SELECT current_setting('idle_in_transaction_session_timeout')",
    Backend.MYSQL: "SELECT @@idle_transaction_timeout + @@idle_write_transaction_timeout * 100",
}
SHOWN: dict[Backend, dict[int, Any]] = {
    Backend.POSTGRES: {1: "1s", 10: "10s"},
    Backend.MYSQL: {1: 101, 10: 1_010},
}
ENDED = {
    Backend.POSTGRES: "SELECT count(*) FROM pg_stat_activity WHERE pid = :id",
    Backend.MYSQL: "SELECT count(*) FROM information_schema.processlist WHERE id = :id",
}
OWN_ID = {Backend.POSTGRES: "SELECT pg_backend_pid()", Backend.MYSQL: "SELECT connection_id()"}


@pytest.fixture(params=["empty_postgres", "empty_mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    with closing(stores.open_store(url)) as store:
        assert isinstance(store, SqlStore)
        store.define([pool(2)])
        yield store


@pytest.fixture
def db(store: SqlStore) -> ServerDatabase:
    assert isinstance(store._db, ServerDatabase)
    return store._db


def shown(tx: Tx) -> Any:
    return tx.rows(SHOW[tx.dialect.backend], {})[0][0]


def test_how_long_each_may_be_silent(db: ServerDatabase) -> None:
    """Every transaction has a bound: an operator's, which thinks, a longer one, and for itself alone."""
    there = SHOWN[db.dialect.backend]
    usual, thinking = there[server.SILENT_MAX], there[server.THINKING_MAX]

    def patiently(tx: Tx) -> Any:
        tx.patiently()
        return shown(tx)

    def thinkingly(tx: Tx) -> Any:
        tx.patiently(thinking=True)
        return shown(tx)

    assert db.transaction(shown) == usual
    assert db.transaction(patiently) == usual
    assert db.transaction(thinkingly) == thinking
    assert db.transaction(shown) == usual


def ended(other: ServerDatabase, number: int) -> Callable[[], bool]:
    def look(tx: Tx) -> bool:
        return int(tx.rows(ENDED[tx.dialect.backend], {"id": number})[0][0]) == 0

    return lambda: bool(other.read(look))


def test_what_was_ended_is_begun_again(db: ServerDatabase, url: str) -> None:
    """A transaction that the server ended for its silence is run again, from its beginning: its caller
    hears nothing of it."""
    with closing(stores.open_store(url)) as other:
        assert isinstance(other, SqlStore)
        assert isinstance(other._db, ServerDatabase)
        runs: list[int] = []

        def work(tx: Tx) -> int:
            tx.do("UPDATE sojourn_marks SET value = value WHERE name = 'events'")
            runs.append(int(tx.rows(OWN_ID[tx.dialect.backend], {})[0][0]))
            if len(runs) == 1:  # a process that is not given any time
                assert processes.wait_until(ended(other._db, runs[0]), BOUND)  # type: ignore[arg-type]  # asserted above
            tx.do("UPDATE sojourn_marks SET value = value WHERE name = 'events'")
            return len(runs)

        assert db.transaction(work) == 2
        assert len(set(runs)) == 2


def test_server_that_ends_idle_connections_only(
    empty_mariadb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL ends connections that say nothing, in a transaction or not: those that it has ended while
    nobody used them are not handed out, and cost nobody a second try."""
    unknown = "SET SESSION unheard_of = {0:d}, wait_timeout = {1}"
    monkeypatch.setattr(quick, "SILENT_MARIADB", unknown)
    with (
        closing(stores.open_store(empty_mariadb)) as store,
        closing(stores.open_store(empty_mariadb)) as other,
    ):
        assert isinstance(store, SqlStore)
        assert isinstance(store._db, ServerDatabase)
        assert isinstance(other, SqlStore)
        assert isinstance(other._db, ServerDatabase)
        store.define([pool(2)])
        lease = take(store)
        number = store._db.read(lambda tx: tx.rows(OWN_ID[Backend.MYSQL], {}))[0][0]
        assert processes.wait_until(ended(other._db, number), BOUND)
        monkeypatch.setattr("sojourn.stores.sql.database.ATTEMPTS", 1)
        assert beat(store, lease) is not None
        assert store._db.read(lambda tx: tx.rows(OWN_ID[Backend.MYSQL], {}))[0][0] != number


def test_pulse_needs_what_a_grant_needs(url: str) -> None:
    """While the stream cannot be written there is no pulse; once it can, leases get the time back."""
    engine = create_engine(
        make_url(url).set(
            drivername="postgresql+psycopg" if "postgresql" in url else "mysql+pymysql"
        )
    )
    with closing(stores.open_store(url, max_pause=SECOND)) as store, engine.connect() as other:
        store.define([pool(2)])
        store.pulse()
        take(store)
        other.execute(text("SELECT value FROM sojourn_marks WHERE name = 'events' FOR UPDATE"))
        with pytest.raises(StoreUnavailable):
            store.pulse()
        other.rollback()
        outage = store.pulse()
        assert outage is not None
        assert outage.extended == 1
        assert outage.lasted > SECOND
        assert store.pulse() is None
    engine.dispose()


def test_doctor_that_freezes_loses_its_lock(url: str) -> None:
    """Another doctor gets the lock soon, and the one that froze goes no further."""
    with frozen("repair", url, "doctor") as process:

        def free() -> bool:
            try:
                with stores.repair_lock(url) as assure:
                    assure()
            except RepairBusy:
                return False
            return True

        assert processes.wait_until(free, BOUND)
        assert let_go(process) is None


@pytest.mark.usefixtures("store")
def test_database_that_does_not_do_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor says so where the setting is not in force, as behind a proxy that drops it."""

    def found() -> tuple[Verdict, str]:
        examiner = stores.open_examiner(url, place="here")
        assert examiner is not None
        with closing(Doctor([examiner], nullcontext)) as doctor:
            [seen] = [x for x in doctor.examine() if x.check.id == "store.silent_locks"]
        return seen.finding.verdict, " ".join(seen.finding.evidence)

    assert found()[0] is Verdict.OK
    monkeypatch.setattr(server, "SILENT_MAX", 0)
    verdict, evidence = found()
    assert verdict is Verdict.WARNING
    assert "off" in evidence
