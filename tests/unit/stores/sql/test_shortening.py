"""A policy is lowered while heartbeats, which take no lock of the pool, are on their way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import create_engine, text

from sojourn.clock import HOUR, MINUTE, ManualClock
from sojourn.lease import Lease
from sojourn.license import Pool
from sojourn.stores.open import open_store
from sojourn.stores.sql import shortening
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.store import SqlStore
from sojourn.testing import processes
from sojourn.testing.builders import beat, look_up, pool, take

WAITING = {
    Backend.POSTGRES: "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    " AND datname = current_database()",
    Backend.MYSQL: "SELECT count(*) FROM information_schema.innodb_trx AS t"
    " JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id"
    " WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()",
}
DEADLINE = 20.0  # seconds
TICK = threading.Event()
"""Never set."""


@pytest.fixture(params=["empty_postgres", "empty_mariadb"])
def store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    url: str = request.getfixturevalue(request.param)
    with closing(open_store(url, clock=ManualClock())) as store:
        assert isinstance(store, SqlStore)
        yield store


def lowered_under_a_beat(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> tuple[Lease, Lease]:
    """Lower lost_after to a minute, while a beat has read the old policy and waits for the lease's row.
    Return the lease as it was granted, and as it is afterwards."""
    store.define([pool(1, lost_after=HOUR)])
    lease = take(store)
    late = threading.Thread(target=beat, args=(store, lease))
    real = shortening.shorten

    def shorten(tx: Tx, shorter: shortening.Shorter) -> None:
        real(tx, shorter)
        if shorter and late.ident is None:
            late.start()
            assert processes.wait_until(lambda: waits(store), DEADLINE)

    look = shortening.once_more

    def once_more(db: Database, defined: dict[str, Pool], shorter: shortening.Shorter) -> None:
        if shorter:
            late.join()
        look(db, defined, shorter)

    monkeypatch.setattr(shortening, "shorten", shorten)
    monkeypatch.setattr(shortening, "once_more", once_more)
    store.define([pool(1, lost_after=MINUTE)])
    found = look_up(store, lease.id)
    assert found is not None
    return lease, found


def waits(store: SqlStore) -> bool:
    engine = store._db.engine
    with engine.connect() as connection:
        TICK.wait(0.15)  # InnoDB looks anew only where it has not been asked for 0.1 s
        asked = connection.execute(text(WAITING[store._db.dialect.backend]))
        return bool(asked.scalar_one())


def test_beat_that_had_read_the_old_policy(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not give its lease the old time once more."""
    lease, found = lowered_under_a_beat(store, monkeypatch)
    assert found.expires_at == lease.acquired_at + MINUTE


def test_it_would_without_a_second_look(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(shortening, "LOOK_AFTER", ())
    lease, found = lowered_under_a_beat(store, monkeypatch)
    assert found.expires_at == lease.acquired_at + HOUR


def test_policy_of_meanwhile_counts(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another server has defined the pool by the time of the second look, it changes nothing."""
    store.define([pool(1, lost_after=HOUR)])
    lease = take(store)
    look = shortening.once_more

    def once_more(db: Database, defined: dict[str, Pool], shorter: shortening.Shorter) -> None:
        if shorter:
            store.define([pool(1, lost_after=HOUR)])
            assert beat(store, lease) is not None
        look(db, defined, shorter)

    monkeypatch.setattr(shortening, "once_more", once_more)
    store.define([pool(1, lost_after=MINUTE)])
    found = look_up(store, lease.id)
    assert found is not None
    assert found.expires_at == lease.acquired_at + HOUR


def test_second_look_that_is_not_possible(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in force by then is not told as a failure, whatever becomes of the look."""
    store.define([pool(1, lost_after=HOUR)])
    lease = take(store)
    look = shortening.once_more
    looked = []
    neighbors = create_engine(store._db.engine.url)
    monkeypatch.setattr(shortening, "LOOK_AFTER", (0.0,))

    def once_more(db: Database, defined: dict[str, Pool], shorter: shortening.Shorter) -> None:
        if shorter:
            with neighbors.begin() as neighbor:
                neighbor.execute(text("SELECT id FROM sojourn_pools FOR UPDATE")).all()
                look(db, defined, shorter)
        looked.append(1)

    monkeypatch.setattr(shortening, "once_more", once_more)
    store.define([pool(1, lost_after=MINUTE)])
    neighbors.dispose()
    assert looked
    found = look_up(store, lease.id)
    assert found is not None
    assert found.expires_at == lease.acquired_at + MINUTE
