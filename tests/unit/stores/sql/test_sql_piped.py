"""Transactions on PostgreSQL whose statements are sent together: what they cost, and what becomes of them
when one fails."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import event
from tests.waiting import DEADLINE

from sojourn.errors import Conflict, SojournError, StoreBroken, StoreUnavailable
from sojourn.event import EventKind
from sojourn.lease import Acquire, Lease, LeaseFilter, Release
from sojourn.stores.open import open_store
from sojourn.stores.sql import database, piped, server, steady
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import POOL, acquire, give_back, look_up, news, pool, take, usage
from sojourn.testing.proxy import FaultProxy

BATCH = 64
LOCK_POOL = "SELECT id FROM sojourn_pools FOR UPDATE"
LOCK_EVENTS = "SELECT name FROM sojourn_marks WHERE name = 'events' FOR UPDATE"
WAITING = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody has set the clock is not what is counted here; nor is a machine that stalls."""
    monkeypatch.setattr(steady, "LOOK_EVERY", 3_600_000)
    monkeypatch.setattr(piped, "SURE", 3_600_000)
    monkeypatch.setattr(server, "SILENT_MAX", 60)
    monkeypatch.setattr(server, "LOCK_TIMEOUT", 60)
    monkeypatch.setattr(server, "STATEMENT_TIMEOUT", 60)
    monkeypatch.setattr(server, "REPLY_TIMEOUT", 60)
    monkeypatch.setattr(database, "RETRY_WITHIN", 60.0)


@pytest.fixture
def url(empty_postgres: str) -> str:
    """Of stores that have one connection."""
    return f"{empty_postgres}{'&' if '?' in empty_postgres else '?'}pool_size=1"


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    with closing(open_store(url)) as store:
        assert isinstance(store, SqlStore)
        store.define([pool(1_000)])
        yield store


@contextmanager
def holding(url: str, lock: str) -> Iterator[psycopg.Connection]:
    """Hold a lock from elsewhere."""
    with psycopg.connect(url.partition("?")[0]) as other:
        other.execute(lock)
        yield other


def pid(store: SqlStore) -> int:
    return int(store._db.read(lambda tx: tx.rows("SELECT pg_backend_pid()", {}))[0][0])


def waits(url: str, *, besides: int = 0) -> int:
    """Wait until somebody waits for a lock; return who."""
    deadline = time.monotonic() + DEADLINE
    with psycopg.connect(url.partition("?")[0], autocommit=True) as other:
        while True:
            found = [pid for (pid,) in other.execute(WAITING) if pid != besides]
            if found:
                return int(found[0])
            assert time.monotonic() < deadline


def batch(count: int, first: int = 0) -> list[Acquire]:
    return [acquire(f"user-{n}", lease_id=f"lea-{n}") for n in range(first, first + count)]


def test_round_trips(empty_postgres: str) -> None:
    """A batch of acquires takes two, however many they are, and so does one of releases."""
    with FaultProxy(empty_postgres) as proxy, closing(open_store(proxy.url)) as store:
        store.define([pool(1_000)])

        def trips(work: Callable[[], object]) -> int:
            before = proxy.turns
            work()
            return proxy.turns - before

        leases = store.acquire(batch(BATCH))
        assert trips(lambda: store.acquire(batch(BATCH))) == 2
        assert trips(lambda: store.acquire(batch(1))) == 2
        assert trips(lambda: store.acquire(batch(BATCH, BATCH))) == 2
        mine = [x for x in store.acquire(batch(BATCH)) if isinstance(x, Lease)]
        assert len(mine) == len(leases)
        assert (
            trips(lambda: store.release([Release(lease_id=x.id, fence=x.fence) for x in mine])) == 2
        )
        assert usage(store).in_use == BATCH


def heard(store: SqlStore, work: Callable[[], object]) -> object:
    """Do this with each statement sent by itself, since somebody listens."""

    def note(*_: Any) -> None:
        pass

    engine = store._db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        return work()
    finally:
        event.remove(engine, "before_cursor_execute", note)
        engine._has_events = False


def outcome(work: Callable[[], object]) -> tuple[type[SojournError], str]:
    with pytest.raises(SojournError) as caught:
        work()
    return type(caught.value), caught.value.message


class Fault(NamedTuple):
    expected: type[SojournError]
    requests: list[Acquire]
    broken: str = "SELECT"
    mended: str = "SELECT"


FAULTS = {
    "an id that another holder has": Fault(Conflict, [acquire("eve", lease_id="lea-held")]),
    "no row to count events by": Fault(
        StoreBroken,
        batch(2),
        "UPDATE sojourn_marks SET name = 'gone' WHERE name = 'events'",
        "UPDATE sojourn_marks SET name = 'events' WHERE name = 'gone'",
    ),
    "a row that the table refuses": Fault(
        StoreBroken,
        batch(2),
        "ALTER TABLE sojourn_leases ADD CONSTRAINT odd CHECK (user_id <> 'user-1')",
        "ALTER TABLE sojourn_leases DROP CONSTRAINT odd",
    ),
    "a column that is gone": Fault(
        StoreBroken,
        batch(2),
        "ALTER TABLE sojourn_pools RENAME COLUMN fence TO other",
        "ALTER TABLE sojourn_pools RENAME COLUMN other TO fence",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_as_it_does_alone(store: SqlStore, url: str, fault: str) -> None:
    """Whatever fails in a pipeline is told as if its statement had been sent by itself; nothing is done, and
    the connection serves on."""
    expected, requests, broken, mended = FAULTS[fault]
    take(store, "ann", lease_id="lea-held")
    server_process, told = pid(store), len(news(store))
    with psycopg.connect(url.partition("?")[0], autocommit=True) as other:
        other.execute(broken)
        try:
            together = outcome(lambda: store.acquire(requests))
            alone = outcome(lambda: heard(store, lambda: store.acquire(requests)))
        finally:
            other.execute(mended)
    assert together == alone
    assert together[0] is expected
    assert [x.id for x in store.leases(LeaseFilter())[0]] == ["lea-held"]
    assert len(news(store)) == told
    assert isinstance(store.acquire([acquire("bob")])[0], Lease)
    assert pid(store) == server_process


def test_a_lock_that_is_not_had(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told in time, by a connection on which nothing was prepared yet, and which then serves on."""
    monkeypatch.setattr(server, "LOCK_TIMEOUT", 1)
    with closing(open_store(url)) as store:
        assert isinstance(store, SqlStore)
        store.define([pool(5)])
        server_process = pid(store)
        with holding(url, LOCK_POOL), pytest.raises(StoreUnavailable):
            take(store, "ann")
        lease = take(store, "ann")
        with holding(url, LOCK_EVENTS), pytest.raises(StoreUnavailable):
            give_back(store, lease)
        assert usage(store).in_use == 1
        assert give_back(store, lease)
        assert pid(store) == server_process


@pytest.mark.parametrize("asked_again", [True, False])
def test_now_is_that_of_when_the_lock_is_held(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch, *, asked_again: bool
) -> None:
    """Also where it is read in the message that asks for the lock."""
    monkeypatch.setattr(piped, "SURE", 0 if asked_again else 3_600_000)
    take(store, "ann")
    with ThreadPoolExecutor(1) as one, holding(url, LOCK_POOL) as other:
        taken = one.submit(take, store, "bob")
        waits(url)
        other.execute("SELECT pg_sleep(0.05)")
        [(held_until,)] = other.execute(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
        )
        other.commit()
        assert taken.result().acquired_at >= held_until


@pytest.mark.parametrize("lock", [LOCK_POOL, LOCK_EVENTS])
def test_ended_before_commit(store: SqlStore, url: str, lock: str) -> None:
    """Where the server ends the connection before it comes to COMMIT, nothing was done: it is begun again,
    also if COMMIT had been sent, and nobody hears of it."""
    take(store, "ann")
    with ThreadPoolExecutor(1) as one, holding(url, lock) as other:
        taken: Future[Lease] = one.submit(take, store, "bob")
        first = waits(url)
        other.execute("SELECT pg_terminate_backend(%s)", [first])
        waits(url, besides=first)  # again, on another connection
        other.commit()
        lease = taken.result()
    assert lease.fence == 2
    assert usage(store).in_use == 2
    assert [x.id for x in news(store)] == list(range(1, len(news(store)) + 1))


def test_silent_before_commit(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where we were silent for so long that the server has ended the transaction before it read of COMMIT, it
    is begun again."""
    monkeypatch.setattr(server, "SILENT_MAX", 1)
    store._db.engine.dispose()  # the next connection is told so
    finish = server.PostgresTx.finish
    seen: list[object] = []

    def late(tx: server.PostgresTx, *, keep: bool) -> None:
        if not seen:
            seen.append(tx)
            raw: Any = tx._line.connection.driver_connection
            ended = select.poll()
            ended.register(raw.pgconn.socket, select.POLLIN)
            assert ended.poll(DEADLINE * 1_000)  # the server's last word
        finish(tx, keep=keep)

    monkeypatch.setattr(server.PostgresTx, "finish", late)
    assert take(store, "ann").fence == 1
    assert len(seen) == 1


def test_lost_around_commit(url: str) -> None:
    """Where the answer to COMMIT is lost, nobody knows; what was done is whole."""
    with FaultProxy(url) as proxy, closing(open_store(proxy.url)) as store:
        store.define([pool(5)])
        lease = take(store, "ann")
        proxy.drop_response(matching=b"COMMIT\0")  # and not what begins with READ COMMITTED
        with pytest.raises(StoreUnavailable):
            give_back(store, lease)
        proxy.pass_through()
        assert not give_back(store, lease)
        assert usage(store).in_use == 0
        assert len(news(store)) == 2


def test_statements_that_were_forgotten(store: SqlStore) -> None:
    """Where somebody has the server forget what was prepared, it is prepared again."""
    for turn in range(3):
        lease = take(store, "ann", lease_id=f"lea-{turn}")
        with store._db.writing() as tx:
            tx.connection.exec_driver_sql("DEALLOCATE ALL")
        assert give_back(store, lease)
        with store._db.writing() as tx:
            tx.connection.exec_driver_sql("DEALLOCATE ALL")
    assert usage(store).in_use == 0


def test_the_connection_itself(store: SqlStore) -> None:
    """Whoever takes it finds that all is sent, and done within the transaction."""
    mark = "SELECT value FROM sojourn_marks WHERE name = 'events'"
    seen: list[Any] = []

    def work(tx: Any) -> None:
        tx.later("UPDATE sojourn_marks SET value = value + :by WHERE name = 'events'", {"by": 7})
        seen.append(tx.connection.exec_driver_sql(mark).scalar())
        raise KeyError

    before = store._db.read(lambda tx: tx.rows(mark, {}))[0][0]
    with pytest.raises(KeyError):
        store._db.transaction(work)
    assert seen == [before + 7]
    assert store._db.read(lambda tx: tx.rows(mark, {}))[0][0] == before


def test_nothing_is_said_of_nothing(empty_postgres: str) -> None:
    """Where nothing was asked, nothing is sent; nor is what waited when something failed."""
    with FaultProxy(empty_postgres) as proxy, closing(open_store(proxy.url)) as store:
        assert isinstance(store, SqlStore)
        store.define([pool(5)])
        before = proxy.turns
        store._db.transaction(lambda _: None)

        def fails(tx: Any) -> None:
            tx.later("DELETE FROM sojourn_pools")
            raise KeyError

        with pytest.raises(KeyError):
            store._db.transaction(fails)
        assert proxy.turns == before
        assert store.pools([POOL]) == [pool(5)]


def test_many_threads(empty_postgres: str) -> None:
    """On the server's own clock, seats are neither oversold nor lost."""
    with closing(open_store(empty_postgres)) as store:
        store.define([pool(5)])
        start = threading.Barrier(8)

        def turns(name: str) -> int:
            start.wait(30)
            held = 0
            for _ in range(10):
                answer = store.acquire([acquire(name)])[0]
                if isinstance(answer, Lease):
                    held += 1
                    assert usage(store).in_use <= 5
                    assert give_back(store, answer)
            return held

        with ThreadPoolExecutor(8) as crowd:
            granted = sum(crowd.map(turns, [f"user-{n}" for n in range(8)]))
        assert usage(store).in_use == 0
        assert look_up(store, "nobody") is None
        acquired = [x for x in news(store) if x.kind is EventKind.LEASE_ACQUIRED]
        assert len(acquired) == granted
