"""What a verb costs: statements, plans, and pages rewritten in place."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import certifi
import pytest
from msgspec.structs import replace
from sqlalchemy import event, text

from sojourn.allotment import AllotmentWish, RelayBeat
from sojourn.lease import Acquire, Beat, Lease, LeaseFilter, Release, Renew
from sojourn.license import Policy, Pool, Reservation
from sojourn.session import NewSession, Save
from sojourn.stores.open import open_store
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.quick import QuickConnection
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import token_hash
from sojourn.testing.regions import Region

POOL = Pool(license_id="lic_1", feature="editor", policy=Policy(capacity=10_000))
BATCH = 64
SHIFT = "name = 'shift'"
"""In what is asked about once a second, whatever else is: whether somebody has set the clock."""


@pytest.fixture(params=["sqlite_url", "postgres_url", "mariadb_url"])
def store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    with closing(open_store(request.getfixturevalue(request.param), migrate=True)) as store:
        assert isinstance(store, SqlStore)
        store.define([POOL])
        yield store


@pytest.fixture
def leases(store: SqlStore) -> list[Lease]:
    return take(store, BATCH)


def take(store: SqlStore, count: int, first: int = 0) -> list[Lease]:
    requests = [
        Acquire(pool_id=POOL.id, user_id=f"user-{n}", client_id="tab", lease_id=f"lea_{n:05}")
        for n in range(first, first + count)
    ]
    answers = store.acquire(requests)
    return [answer for answer in answers if isinstance(answer, Lease)]


def beats(leases: list[Lease]) -> list[Renew]:
    return [
        Renew(lease_id=x.id, fence=x.fence, beat=Beat(idle_for=n)) for n, x in enumerate(leases)
    ]


def sent(store: SqlStore, work: Callable[[], Any]) -> list[tuple[str, Any]]:
    """Run work and list the statements that it sent."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
        if SHIFT not in statement:
            statements.append((statement, parameters))

    engine = store._db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return statements


def trips(store: SqlStore, work: Callable[[], Any]) -> int:
    return len(sent(store, work))


def test_round_trips(store: SqlStore, leases: list[Lease]) -> None:
    """A batch costs as many round trips as one: few, and one where the database can."""
    mysql = store._db.dialect.backend is Backend.MYSQL
    # BEGIN, lock pools, read now and holders, write leases, raise fences, events, COMMIT
    append = 2 if store._db.dialect.backend is not Backend.POSTGRES else 1
    granted = 6 + append
    assert trips(store, lambda: store.renew(beats(leases))) == (2 if mysql else 1)
    assert trips(store, lambda: store.renew(beats(leases)[:1])) == (2 if mysql else 1)
    assert trips(store, lambda: take(store, BATCH, 1_000)) == granted
    assert trips(store, lambda: take(store, BATCH, 2_000)) == granted
    assert trips(store, lambda: take(store, 1)) == granted  # the same holder again
    # BEGIN, lock pools (but on SQLite), lock leases, end them, events, COMMIT
    out = [Release(lease_id=x.id, fence=x.fence) for x in leases[1:]]
    sqlite = store._db.dialect.backend is Backend.SQLITE
    assert trips(store, lambda: store.release(out)) == (4 if sqlite else 5) + append

    sessions = [
        NewSession(id=f"ses_{n}", token_hash=token_hash(f"{n}"), user_id="ann")
        for n in range(BATCH)
    ]
    store.create(sessions)
    ids = [session.id for session in sessions]
    assert trips(store, lambda: store.touch(ids)) == (2 if mysql else 1)
    assert trips(store, lambda: store.save([Save(id=i, set={"a": 1}) for i in ids])) == 4
    reader = store._db.engine if mysql or append == 1 else store._db._reader_engine  # type: ignore[attr-defined]  # SQLite reads by another
    with counted(reader) as count:
        store.load([session.token_hash for session in sessions])
    assert count["statements"] == 1


def test_allotments_cost_an_acquire_no_statement(store: SqlStore, leases: list[Lease]) -> None:
    """Neither a pool that nobody shares, nor one of which relays have seats, nor a renewal in one."""
    before = trips(store, lambda: take(store, BATCH, 1_000))
    Region(store, pool_id=POOL.id).ask(100)
    assert trips(store, lambda: take(store, BATCH, 2_000)) == before
    statements = [statement for statement, _ in sent(store, lambda: store.renew(beats(leases)))]
    assert not any("allotments" in each or "sojourn_relays" in each for each in statements)


def test_plain_beat_counts_nothing(store: SqlStore) -> None:
    """A relay that wants no more than it has costs no look at the leases, of however many pools."""
    pools = [replace(POOL, feature=f"feature-{n}") for n in range(20)]
    store.define(pools)
    take(store, 1)
    wishes = [AllotmentWish(pool.id, want=2) for pool in pools]
    [answer] = store.allot([RelayBeat("east", "life", 1, 0, tuple(wishes))])
    wishes = [AllotmentWish(x.pool_id, x.seats, x.fence, want=2) for x in answer.grants]
    beat = RelayBeat("east", "life", 2, answer.epoch, tuple(wishes))
    statements = [statement for statement, _ in sent(store, lambda: store.allot([beat]))]
    assert not any("FROM sojourn_leases" in each for each in statements)


def test_reservations_cost_a_statement_where_there_are_some(store: SqlStore) -> None:
    """A pool without them asks nothing about them, however full it is, and with them only where common seats
    may run short; an overdraft asks nothing in any case."""
    kept = Reservation(name="kept", seats=1, users=("vip",), groups=("staff",), kinds=("desktop",))
    plain, above, full, wide = (
        Pool(license_id="lic_1", feature=feature, policy=Policy(**policy))
        for feature, policy in (
            ("plain", {"capacity": 1}),
            ("above", {"capacity": 1, "overdraft": 1}),
            ("full", {"capacity": 2, "reservations": (kept,)}),
            ("wide", {"capacity": 100, "reservations": (kept,)}),
        )
    )
    store.define([plain, above, full, wide])

    def one(pool: Pool, user: str) -> int:
        request = Acquire(
            pool_id=pool.id, user_id=user, client_id="tab", lease_id=f"{pool.id}{user}"
        )
        return trips(store, lambda: store.acquire([request]))

    for pool in (plain, above, full, wide):
        one(pool, "first")
    one(above, "second")  # above the capacity
    refused = one(plain, "third")
    assert one(above, "third") == refused
    assert one(full, "third") == refused + 1
    assert one(wide, "third") <= one(plain, "fourth")


class counted:  # noqa: N801  # reads as a verb where it is used
    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.count: Counter[str] = Counter()

    def _note(self, _c: Any, _k: Any, statement: str, *_: Any) -> None:
        self.count["statements"] += SHIFT not in statement

    def __enter__(self) -> Counter[str]:
        event.listen(self.engine, "before_cursor_execute", self._note)
        return self.count

    def __exit__(self, *_: object) -> None:
        event.remove(self.engine, "before_cursor_execute", self._note)


HOT = (1_000, 1_000, 1_000, 1_000)
TRIES_MAX = 40
TICK = threading.Event()
"""Never set."""


def test_renewals_and_touches_stay_hot(postgres_url: str) -> None:
    """PostgreSQL rewrites a row in its page and touches no index: 1,000 times out of 1,000."""
    with closing(open_store(postgres_url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        quiet(store, "ALTER SYSTEM SET autovacuum = off")
        store.define([POOL])
        leases = take(store, 100)
        store.create(
            [
                NewSession(id=f"ses_{n}", token_hash=token_hash(f"{n}"), user_id="ann")
                for n in range(100)
            ]
        )
        tries: list[Any] = []
        while HOT not in tries and len(tries) < TRIES_MAX:
            TICK.wait(0.5 if tries else 0)  # somebody's snapshot on this server kept old versions
            tries.append(rewritten(store, leases))
        quiet(store, "ALTER SYSTEM RESET autovacuum")
    assert HOT in tries, tries


def quiet(store: SqlStore, setting: str) -> None:
    """Send housekeeping away, or let it come back: its snapshots keep old versions, and fill the pages."""
    stop = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE backend_type = 'autovacuum worker'"
    )
    with store._db.writing() as tx:
        for statement in (setting, "SELECT pg_reload_conf()", stop):
            tx.core(text(statement))


def rewritten(store: SqlStore, leases: list[Lease]) -> tuple[int, ...]:
    """Beat and touch 1,000 times; return how many rows that updated, and how many of them HOT."""
    before = updates(store)
    for _ in range(10):
        assert None not in store.renew(beats(leases))
        assert all(store.touch([f"ses_{n}" for n in range(100)]))
    after = updates(store)
    return (
        *(after["sojourn_leases"][n] - before["sojourn_leases"][n] for n in (0, 1)),
        *(after["sojourn_sessions"][n] - before["sojourn_sessions"][n] for n in (0, 1)),
    )


def updates(store: SqlStore) -> dict[str, tuple[int, int]]:
    """Ask how many updates there were, and how many of them were HOT."""
    counts = text(
        "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
        " WHERE relname IN ('sojourn_leases', 'sojourn_sessions')"
    )
    with store._db.writing() as tx:
        tx.core(text("SELECT pg_stat_force_next_flush()"))
    with store._db.writing() as tx:
        tx.core(text("SELECT pg_stat_clear_snapshot()"))
        return {row[0]: (row[1], row[2]) for row in tx.core(counts)}


@pytest.mark.parametrize("leases", [200, 1_000, 3_000])
def test_plans_need_no_statistics(postgres_url: str, leases: int) -> None:
    """In a table that nobody has analyzed, no hot statement reads a pool lease by lease."""
    with closing(open_store(postgres_url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        with store._db.writing() as tx:
            tx.core(text("ALTER TABLE sojourn_leases SET (autovacuum_enabled = off)"))
        store.define([POOL])
        for first in range(0, leases, 200):
            taken = take(store, 200, first)
        alone, few = taken[:1], taken[:BATCH]

        def hot() -> None:
            store.renew(beats(alone))
            store.renew(beats(few))
            take(store, BATCH, 4_000)
            take(store, BATCH)
            store.release([Release(lease_id=x.id, fence=x.fence) for x in few])

        for statement, parameters in sent(store, hot):
            if statement in ("BEGIN", "COMMIT"):
                continue
            with store._db.writing() as tx, tx.transaction(keep=False):
                explained = tx.connection.exec_driver_sql(
                    f"EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF) {statement}", parameters
                )
                plan = "\n".join(row[0] for row in explained)
            assert "sojourn_leases_pool" not in plan, plan
            assert "Seq Scan on leases" not in plan, plan


def test_lists_are_found_by_index(sqlite_url: str) -> None:
    """SQLite, too, looks leases up by the holder, the user, the session or the id."""
    with closing(open_store(sqlite_url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        store.define([POOL])
        leases = take(store, BATCH)

        def work() -> None:
            store.renew(beats(leases))
            take(store, BATCH)
            store.end(user_id="user-1")
            store.revoke(LeaseFilter(user_id="user-1"), action())

        for statement, parameters in sent(store, work):
            if not statement.lstrip().startswith(("SELECT", "UPDATE")):
                continue
            with store._db.writing() as tx:
                rows = tx.connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                ).all()
            for row in rows:
                if " leases" in row[3] or " l " in row[3]:
                    assert "SCAN" not in row[3], (statement, row[3])


def action() -> Any:
    from sojourn.store import Action  # noqa: PLC0415  # only here

    return Action(actor="key:test")


def test_mariadb_connects_without_reading_every_authority(
    empty_mariadb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To load those that nobody asked for takes 25 ms of every new connection, and of all threads."""

    def load(*_: object, **__: object) -> ssl.SSLContext:
        raise AssertionError("the system's authorities are loaded")

    monkeypatch.setattr(ssl, "create_default_context", load)
    with closing(open_store(empty_mariadb)) as store:
        assert store.of("ann") == []


def test_mariadb_is_believed_only_as_its_url_says() -> None:
    """Who names an authority has certificates checked; who names none has TLS where there is any."""
    named = {"ssl_ca": certifi.where(), "ssl_verify_identity": True}
    strict = QuickConnection(defer_connect=True, **named)
    lenient = QuickConnection(defer_connect=True)
    assert (strict.ctx.verify_mode, strict.ctx.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (lenient.ssl, lenient.ctx.verify_mode) == (True, ssl.CERT_NONE)
