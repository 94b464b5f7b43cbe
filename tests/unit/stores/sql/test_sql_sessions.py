"""What the verbs on sessions cost: round trips, and plans that read a few rows by an index."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event, text

from sojourn.clock import ManualClock
from sojourn.errors import StoreUnavailable
from sojourn.lease import EndReason, LeaseFilter
from sojourn.service.sessions import SessionService
from sojourn.session import AtLimit, End, Gone, Save, Session
from sojourn.stores.open import open_store
from sojourn.stores.sql import cutoffs, maintenance
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.file import FileDatabase
from sojourn.stores.sql.sessions import TAKEN
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import new_session, pool, sign_in, take, token_hash

BATCH = 64
MANY = 3_000
WAIT = 10.0  # seconds

Statement = tuple[str, Any]


@pytest.fixture(params=["empty_sqlite", "empty_postgres", "empty_mariadb"])
def store(request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    url = request.getfixturevalue(request.param)
    with closing(open_store(url, clock=ManualClock())) as store:
        assert isinstance(store, SqlStore)
        yield store


@pytest.fixture(params=["empty_postgres", "empty_mariadb"])
def server_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def sent(store: SqlStore, work: Callable[[], Any]) -> list[Statement]:
    """Run work and list the statements that it sent, on whichever connection."""
    statements: list[Statement] = []

    def note(_c: Any, _k: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "name = 'shift'" not in statement:  # which is asked once a second, beside the rest
            statements.append((statement, parameters))

    db = store._db
    reader = db._reader_engine if isinstance(db, FileDatabase) else None
    engines = [engine for engine in (db.engine, reader) if engine is not None]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)
    return statements


def test_round_trips(store: SqlStore) -> None:
    """Looking up is one statement, and so is a touch, wherever cutoffs were made; one or many."""
    backend = store._db.dialect.backend
    touch = 2 if backend is Backend.MYSQL else 1
    store.create([new_session(f"ses_{n}", f"user-{n}") for n in range(BATCH)])
    store.create([new_session("visit", None)])
    store.cut_off("user-1")
    store.cut_off("user-2", reason="stolen", actor="key:ops")
    names = ["visit", *(f"ses_{n}" for n in range(BATCH))]
    for some in (names[:1], names[1:2], names):
        hashes = [token_hash(name) for name in some]
        assert len(sent(store, lambda hashes=hashes: store.load(hashes))) == 1  # type: ignore[misc]  # a lambda with a default
        # Where some were cut off, a server's clock is looked at, too.
        looks = int(some is names and backend is not Backend.SQLITE)
        assert len(sent(store, lambda some=some: store.touch(some))) == touch + looks  # type: ignore[misc]  # likewise
        saves = [Save(id=name, set={"a": 1}) for name in some]
        # BEGIN, lock, write, COMMIT
        assert len(sent(store, lambda saves=saves: store.save(saves))) == 4  # type: ignore[misc]  # likewise
    assert len(sent(store, lambda: store.of("user-5"))) == 1
    assert len(sent(store, lambda: store.sessions(limit=10))) == 1
    assert len(sent(store, lambda: store.sessions(user_id="user-5", after="a"))) == 1


def test_sign_ins(store: SqlStore) -> None:
    """A batch of sign-ins costs as many round trips as one; a limit, three more at most."""
    append = 1 if store._db.dialect.backend is Backend.POSTGRES else 2
    lock = 0 if store._db.dialect.backend is Backend.SQLITE else 1
    plain = 5 + append  # BEGIN, who is there, now and cutoffs, INSERT, events, COMMIT
    for first, count in ((0, 1), (100, BATCH)):
        batch = [new_session(f"ses_{n}", f"user-{n}") for n in range(first, first + count)]
        assert len(sent(store, lambda batch=batch: store.create(batch))) == plain  # type: ignore[misc]  # a lambda with a default
    sign_in(store, "own_0", limit=2)
    room = sent(store, lambda: sign_in(store, "own_1", limit=2))
    assert len(room) == plain + lock + 1  # lock the user, count
    full = sent(store, lambda: sign_in(store, "own_2", limit=2))
    assert len(full) == plain + lock + 4  # lock the sessions, end them, look for their leases


def test_cutoff_costs_the_same(store: SqlStore) -> None:
    """Ending one session or many takes as many statements, and none that names a session."""
    store.create([new_session("one", "ann")])
    store.create([new_session(f"ses_{n}", "bob") for n in range(BATCH)])
    for user_id in ("ann", "bob", None):
        store.cut_off(user_id)
    for user_id in ("ann", "bob", None):
        statements = sent(store, lambda user_id=user_id: store.cut_off(user_id))  # type: ignore[misc]  # a lambda with a default
        assert len(statements) == (5 if user_id else 6)
        assert not any(re.search(r"\bsessions\b", statement) for statement, _ in statements)


def test_plans_need_no_statistics(postgres_url: str) -> None:
    """In tables that nobody has analyzed, no hot statement reads more than it was asked about."""
    with closing(open_store(postgres_url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        with store._db.writing() as tx:
            for table in ("sojourn_sessions", "sojourn_session_users"):
                tx.core(text(f"ALTER TABLE {table} SET (autovacuum_enabled = off)"))
        for first in range(0, MANY, 500):
            numbers = range(first, first + 500)
            store.create([new_session(f"ses_{n:05}", f"user-{n}", limit=2) for n in numbers])
        store.cut_off("user-3")
        names = [f"ses_{n:05}" for n in range(BATCH)]

        def hot() -> None:
            found = store.load([token_hash(name) for name in names])
            assert sum(isinstance(answer, Gone) for answer in found) == 1
            assert store.touch(names).count(False) == 1
            assert store.save([Save(id=name, set={"a": 1}) for name in names]).count(None) == 1
            assert len(store.of("user-5")) == 1
            sign_in(store, "new", "user-5", limit=1, replaces="ses_00007")

        for statement, parameters in sent(store, hot):
            if statement in ("BEGIN", "COMMIT") or "INSERT" in statement:
                continue
            with store._db.writing() as tx, tx.transaction(keep=False):
                explained = tx.connection.exec_driver_sql(
                    f"EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF) {statement}", parameters
                )
                plan = "\n".join(row[0] for row in explained)
            most = max(float(rows) for rows in re.findall(r"actual rows=([0-9.]+)", plan))
            assert most <= 2 * BATCH, plan
            assert "Seq Scan" not in plan, plan


def test_sqlite_finds_sessions_by_index(sqlite_url: str) -> None:
    """SQLite, too, reads neither all sessions nor all users."""
    with closing(open_store(sqlite_url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        store.create([new_session(f"ses_{n}", f"user-{n % 9}") for n in range(BATCH)])

        def hot() -> None:
            store.load([token_hash(f"ses_{n}") for n in range(BATCH)])
            store.touch(["ses_1", "ses_2"])
            store.save([Save(id="ses_1", set={"a": 1})])
            store.of("user-1")
            sign_in(store, "new", "user-1", limit=3, replaces="ses_7")
            store.end(user_id="user-2")

        for statement, parameters in sent(store, hot):
            if not statement.lstrip().startswith(("SELECT", "UPDATE")):
                continue
            with store._db.writing() as tx:
                rows = tx.connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", parameters
                ).all()
            for row in rows:
                table = re.search(r"SCAN (s|c|u|e|sessions|session_users)\b", row[3])
                assert table is None, (statement, row[3])


def test_sign_ins_of_a_user_queue_up(server_url: str) -> None:
    """Who signs in while another does so waits, and counts what the other has left."""
    with closing(open_store(server_url)) as store, closing(open_store(server_url)) as other:
        assert isinstance(store, SqlStore)
        assert isinstance(other, SqlStore)
        sign_in(store, "one", limit=1)
        locking = threading.Event()

        def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
            if statement.startswith("SELECT user_id FROM sojourn_session_users"):
                locking.set()

        event.listen(store._db.engine, "before_cursor_execute", note)
        with other._db.writing() as tx, ThreadPoolExecutor(1) as one:
            with tx.transaction():
                cutoffs.lock_users(tx, ["ann"])
                second = new_session("two", limit=1, at_limit=AtLimit.DENY)
                answer = one.submit(store.create, [second])
                assert locking.wait(WAIT)
                tx.core(text("UPDATE sojourn_sessions SET ended_at = 1 WHERE id = 'one'"))
            assert isinstance(answer.result(WAIT)[0], Session)
        # Nobody else waits for them.
        with other._db.writing() as tx, tx.transaction():
            cutoffs.lock_users(tx, ["ann"])
            store.touch(["two"])
            store.save([Save(id="two", set={"a": 1})])
            store.end(ids=["two"])
            sign_in(store, "free")
            sign_in(store, "bobs", "bob", limit=1)


def test_lost_race_for_an_id(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A race for an id that is lost again and again is a fault that passes, not a wrong answer."""
    sign_in(store, "ses_1")
    blind = TAKEN.replace("WHERE", "WHERE 1 = 0 AND (", 1) + ")"
    monkeypatch.setattr("sojourn.stores.sql.creates.TAKEN", blind)
    with pytest.raises(StoreUnavailable):
        store.create([new_session("ses_1", "bob")])
    assert isinstance(store.load([token_hash("ses_1")])[0], Session)


def test_a_page_costs_the_same_however_many_there_are(store: SqlStore) -> None:
    """A person's list is a bounded number of statements, and of rows, with one session or a thousand."""
    people = SessionService(store)
    counts = []
    for user, many in (("one", 1), ("sixty", 60), ("crowd", 1_000)):
        store.create([new_session(f"{user}-{i}", user, data={"x": "y" * 500}) for i in range(many)])
        page = sent(store, lambda user=user: people.page(user, after=None, limit=51))  # type: ignore[misc]  # a lambda with a default
        assert len(page) == (1 if many < 51 else 2)
        found = people.page(user, after=None, limit=51)
        assert (len(found.sessions), found.total) == (min(51, many), many)
        assert all(session.data == {} for session in found.sessions)
        ids = tuple(session.id for session in found.sessions)
        counts.append(len(sent(store, lambda ids=ids: people.held(End(ids=ids)))))  # type: ignore[misc]  # likewise
        counts.append(len(sent(store, lambda ids=ids: people.gone(ids))))  # type: ignore[misc]  # likewise
    assert set(counts) == {1}


class Key(str):
    """What a framework makes of a text, such as Django's SafeString."""

    __slots__ = ()


def test_an_id_may_be_of_a_subclass_of_str(store: SqlStore) -> None:
    service = SessionService(store)
    sign_in(store)
    assert service.gone([Key("ses_1")]) == [None]
    assert service.save([Save(id=Key("ses_1"), set={"x": 1})]) != [None]
    assert service.end([End(ids=(Key("ses_1"),))]) == [["ses_1"]]
    assert service.save([Save(id=Key("ses_1"))]) == [None]


def test_what_a_cutoff_left_does_not_wait_for_silent_leases(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of a sweep may fail or take long, on a store that has much to do."""
    session = sign_in(store, "anns")
    store.define([pool(3)])
    take(store, "ann", session_id=session.id)
    kept = take(store, "bob")
    store.cut_off("ann")
    monkeypatch.setattr(maintenance, "_silent", lambda *_: fails)

    with pytest.raises(StoreUnavailable):
        store.sweep()
    leases = {x.user_id: x for x in store.leases(LeaseFilter(include_ended=True))[0]}
    assert leases["ann"].end_reason is EndReason.SESSION_ENDED
    assert leases["bob"] == kept


def fails(*_: Any) -> Any:
    raise StoreUnavailable("A lock was waited for too long.")
