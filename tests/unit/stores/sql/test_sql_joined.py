"""Transactions on MariaDB whose statements are sent in one message: what they cost, and what becomes of them
when one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Connection, create_engine, event, text
from tests.serving import TICK
from tests.waiting import DEADLINE

from sojourn.errors import Conflict, SojournError, StoreBroken, StoreUnavailable
from sojourn.event import EventKind
from sojourn.lease import Acquire, Lease, LeaseFilter, Release
from sojourn.stores.open import open_store
from sojourn.stores.sql import database, piped, server, steady
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import acquire, give_back, news, pool, take, usage
from sojourn.testing.proxy import FaultProxy

BATCH = 64
LOCK_POOL = "SELECT id FROM sojourn_pools FOR UPDATE"
LOCK_EVENTS = "SELECT name FROM sojourn_marks WHERE name = 'events' FOR UPDATE"
WAITING = """
SELECT trx_mysql_thread_id FROM information_schema.innodb_trx AS t
JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id
WHERE t.trx_state = 'LOCK WAIT' AND p.db = database()
"""
AGAIN = 0.2
"""Seconds until that is asked anew: within a tenth of one after it was read, the server tells the same."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody has set the clock is not what is counted here; nor is a machine that stalls."""
    monkeypatch.setattr(steady, "LOOK_EVERY", 3_600_000)
    monkeypatch.setattr(piped, "SURE", 3_600_000)
    monkeypatch.setattr(server, "SILENT_MAX", 60)
    monkeypatch.setattr(server, "LOCK_TIMEOUT", 60)
    monkeypatch.setattr(server, "REPLY_TIMEOUT", 60)
    monkeypatch.setattr(database, "RETRY_WITHIN", 60.0)


@pytest.fixture
def store(empty_mariadb: str) -> Iterator[SqlStore]:
    with closing(open_store(empty_mariadb)) as store:
        assert isinstance(store, SqlStore)
        store.define([pool(1_000)])
        yield store


@contextmanager
def beside(url: str) -> Iterator[Connection]:
    """Connect from elsewhere."""
    engine = create_engine(
        url.replace("mysql://", "mysql+pymysql://"), isolation_level="AUTOCOMMIT"
    )
    try:
        with engine.connect() as other:
            yield other
    finally:
        engine.dispose()


@contextmanager
def holding(url: str, lock: str) -> Iterator[Connection]:
    with beside(url) as other:
        other.execute(text("BEGIN"))
        other.execute(text(lock))
        yield other


def waits(url: str, *, besides: int = 0) -> int:
    """Wait until somebody waits for a lock; return who."""
    deadline = time.monotonic() + DEADLINE
    with beside(url) as other:
        while True:
            found = [pid for (pid,) in other.execute(text(WAITING)) if pid != besides]
            if found:
                return int(found[0])
            assert time.monotonic() < deadline
            TICK.wait(AGAIN)


def batch(count: int, first: int = 0) -> list[Acquire]:
    return [acquire(f"user-{n}", lease_id=f"lea-{n}") for n in range(first, first + count)]


def test_round_trips(empty_mariadb: str) -> None:
    """A batch of acquires takes two, however many they are, and so does one of releases."""
    with FaultProxy(empty_mariadb) as proxy, closing(open_store(proxy.url)) as store:
        store.define([pool(1_000)])

        def trips(work: Callable[[], object]) -> int:
            before = proxy.turns
            work()
            return proxy.turns - before

        store.acquire(batch(BATCH))
        assert trips(lambda: store.acquire(batch(BATCH))) == 2
        assert trips(lambda: store.acquire(batch(1))) == 2
        assert trips(lambda: store.acquire(batch(BATCH, BATCH))) == 2
        mine = [x for x in store.acquire(batch(BATCH)) if isinstance(x, Lease)]
        releases = [Release(lease_id=x.id, fence=x.fence) for x in mine]
        assert trips(lambda: store.release(releases)) == 2
        assert usage(store).in_use == BATCH
        told = news(store)
        assert [x.id for x in told] == list(range(1, len(told) + 1))
        assert {x.kind for x in told[-BATCH:]} == {EventKind.LEASE_RELEASED}


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
    broken: str = "DO 1"
    mended: str = "DO 1"


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
    "an event that the table refuses": Fault(
        StoreBroken,
        batch(2),
        "ALTER TABLE sojourn_events ADD CONSTRAINT odd CHECK (user_id <> 'user-1')",
        "ALTER TABLE sojourn_events DROP CONSTRAINT odd",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_as_it_does_alone(store: SqlStore, empty_mariadb: str, fault: str) -> None:
    """Whatever fails in a message is told as if its statement had been sent by itself; nothing is done, and
    the store serves on."""
    expected, requests, broken, mended = FAULTS[fault]
    take(store, "ann", lease_id="lea-held")
    told = len(news(store))
    with beside(empty_mariadb) as other:
        other.execute(text(broken))
        try:
            together = outcome(lambda: store.acquire(requests))
            alone = outcome(lambda: heard(store, lambda: store.acquire(requests)))
        finally:
            other.execute(text(mended))
    assert together == alone
    assert together[0] is expected
    assert [x.id for x in store.leases(LeaseFilter())[0]] == ["lea-held"]
    assert len(news(store)) == told
    assert isinstance(store.acquire([acquire("bob")])[0], Lease)


def test_now_is_that_of_when_the_lock_is_held(store: SqlStore, empty_mariadb: str) -> None:
    """Also where it is read in the message that asks for the lock."""
    take(store, "ann")
    with ThreadPoolExecutor(1) as one, holding(empty_mariadb, LOCK_POOL) as other:
        taken = one.submit(take, store, "bob")
        waits(empty_mariadb)
        now = "SELECT timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(3)) DIV 1000"
        held_until = other.execute(text(now)).scalar_one()
        other.execute(text("COMMIT"))
        assert taken.result().acquired_at >= held_until


@pytest.mark.parametrize("lock", [LOCK_POOL, LOCK_EVENTS])
def test_ended_while_it_waits(store: SqlStore, empty_mariadb: str, lock: str) -> None:
    """A connection that the server ends has done nothing, or what is asked again finds what it did; no event
    is told twice, and none is missing."""
    take(store, "ann")
    with ThreadPoolExecutor(1) as one, holding(empty_mariadb, lock) as other:
        taken: Future[object] = one.submit(store.acquire, [acquire("bob", lease_id="lea-bob")])
        other.execute(text(f"KILL {waits(empty_mariadb):d}"))
        deadline = time.monotonic() + DEADLINE
        while not taken.done():  # told, or begun again and waiting
            assert time.monotonic() < deadline
            with beside(empty_mariadb) as looks:
                if looks.execute(text(WAITING)).first() is not None:
                    break
            TICK.wait(AGAIN)
        other.execute(text("COMMIT"))
        try:
            taken.result()
        except StoreUnavailable:
            assert usage(store).in_use == 1
    take(store, "bob", lease_id="lea-bob")
    assert usage(store).in_use == 2
    told = news(store)
    assert [x.id for x in told] == list(range(1, len(told) + 1))


def test_silent_before_commit(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where we were silent for so long that the server has hung up before it was sent COMMIT, it is begun
    again."""
    monkeypatch.setattr(server, "SILENT_MAX", 1)
    store._db.engine.dispose()  # the next connection is told so
    finish = server.MysqlTx.finish
    seen: list[object] = []

    def late(tx: server.MysqlTx, *, keep: bool) -> None:
        if not seen:
            seen.append(tx)
            raw: Any = tx._line.connection.driver_connection
            deadline = time.monotonic() + DEADLINE
            while not raw.is_over():
                assert time.monotonic() < deadline
                TICK.wait(0.02)
        finish(tx, keep=keep)

    monkeypatch.setattr(server.MysqlTx, "finish", late)
    assert take(store, "ann").fence == 1
    assert len(seen) == 1


def test_lost_around_commit(empty_mariadb: str) -> None:
    """Where the answer to COMMIT is lost, nobody knows; what was done is whole."""
    with FaultProxy(empty_mariadb) as proxy, closing(open_store(proxy.url)) as store:
        store.define([pool(5)])
        lease = take(store, "ann")
        proxy.drop_response(matching=b"COMMIT")
        with pytest.raises(StoreUnavailable):
            give_back(store, lease)
        proxy.pass_through()
        assert not give_back(store, lease)
        assert usage(store).in_use == 0
        assert len(news(store)) == 2


def test_rows_that_are_written_as_they_were_count(store: SqlStore) -> None:
    """By itself, and with others; and the number that a statement has drawn is told."""
    same = "UPDATE sojourn_marks SET value = value WHERE name = 'events'"
    draw = "UPDATE sojourn_marks SET value = LAST_INSERT_ID(value + :by) WHERE name = 'events'"
    last = "SELECT value FROM sojourn_marks WHERE name = 'events'"

    def work(tx: Any) -> tuple[int, int, int]:
        together = tx.do(same)
        tx.later(same)
        return together, tx.do(same), tx.last_insert_id(draw, {"by": 5})

    before = store._db.read(lambda tx: tx.rows(last, {}))[0][0]
    assert store._db.write(lambda tx: tx.do(same)) == 1
    assert store._db.transaction(work) == (1, 1, before + 5)

    def drawn(tx: Any) -> int:
        tx.later(same)
        return int(tx.last_insert_id(draw, {"by": 5}))

    assert store._db.transaction(drawn) == before + 10
