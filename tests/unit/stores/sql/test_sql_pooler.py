"""PostgreSQL behind PgBouncer, which lends connections by the transaction."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from sojourn.clock import STORE_CLOCK
from sojourn.errors import RepairBusy, SettingsError
from sojourn.finding import Verdict
from sojourn.stores import open as stores
from sojourn.stores.sql import lent
from sojourn.stores.sql.foreign import SqlSource
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import beat, give_back, pool, present, sign_in, take
from sojourn.testing.pooler import Pooler, pgbouncer
from sojourn.testing.proxy import FaultProxy
from sojourn.testing.servers import Server

SET = "SELECT name, setting FROM pg_settings WHERE name <> 'application_name' ORDER BY name"
LEFT = "SELECT name FROM pg_prepared_statements UNION ALL SELECT name FROM pg_cursors"
LOCKS = """
SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND d.datname = current_database()
"""
"""What a neighbor would find on a connection that it gets after us."""


@pytest.fixture(scope="module")
def pooler(postgres_server: Server) -> Iterator[Pooler]:
    with pgbouncer(postgres_server) as pooler:
        yield pooler


@pytest.fixture
def pooled(pooler: Pooler, empty_postgres: str) -> str:
    """The URL of an empty database of ours behind the pooler."""
    return pooler.url_of(empty_postgres)


def found_by_neighbors(url: str) -> set[tuple[str, str]]:
    """Ask every connection that the pooler has what is set, prepared or locked on it."""
    found: set[tuple[str, str]] = set()
    neighbors = [psycopg.connect(url, prepare_threshold=None) for _ in range(3)]
    try:
        for neighbor in neighbors:  # none ends its transaction before all have one
            found |= set(neighbor.execute(SET).fetchall())
            found |= {("left", name) for (name,) in neighbor.execute(LEFT)}
            found |= {("locks", str(count)) for (count,) in neighbor.execute(LOCKS)}
    finally:
        for neighbor in neighbors:
            neighbor.close()
    return found


def everything(url: str, rounds: int = 8) -> int:
    """Do of everything from several threads, on more connections than the pooler has; return how often."""

    def work(store: SqlStore, number: int) -> int:
        for turn in range(rounds):
            name = f"{number}-{turn}"
            sign_in(store, name, user_id=f"ann{number}")
            assert present(store, name).user_id == f"ann{number}"
            lease = take(store, name)
            assert beat(store, lease) is not None
            assert give_back(store, lease)
            assert store.end(ids=[name]) == [name]
            store.sweep()
        return rounds

    with closing(stores.open_store(url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        store.define([pool(100)])
        with ThreadPoolExecutor(6) as threads:
            return sum(threads.map(lambda number: work(store, number), range(6)))


def test_everything_works(pooled: str) -> None:
    """Six threads on three connections of the server: what one sets or prepares, another would meet."""
    assert everything(pooled) == 48


def test_nothing_stays_behind(pooler: Pooler, pooled: str) -> None:
    """An application that gets our connections next finds them as the server makes them."""
    before = found_by_neighbors(pooled)
    assert everything(pooled) == 48
    with stores.repair_lock(pooled) as assure:
        assure()
    examiner = stores.open_examiner(pooled, place="here")
    assert examiner is not None
    for check in examiner.checks():
        check.look()
    examiner.close()
    assert found_by_neighbors(pooled) == before


def test_what_is_set_would_be_found(pooled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a connection of the pooler's taken for our own, its next user would have our settings."""
    before = found_by_neighbors(pooled)
    monkeypatch.setattr(lent, "SETTLE", "SELECT own, {names} FROM (SELECT true AS own) AS c")
    with closing(stores.open_store(pooled)) as store:
        sign_in(store)
    assert found_by_neighbors(pooled) > before


def test_our_own_are_known(empty_postgres: str, pooled: str) -> None:
    """A connection that leads to the server itself is our own, and is set up once."""

    def own(url: str) -> tuple[bool, int | None]:
        db = stores._connected(url, clock=STORE_CLOCK, durable=True)
        with closing(db), db.writing() as tx:
            raw: Any = tx.connection.connection.driver_connection
            return not tx.lent, raw.prepare_threshold

    assert own(empty_postgres) == (True, 5)
    assert own(pooled) == (False, None)
    assert own(f"{pooled}?prepare_threshold=9") == (False, 9)
    assert own(f"{empty_postgres}?prepare_threshold=0") == (True, 0)
    with pytest.raises(SettingsError, match="prepare_threshold=many"):
        own(f"{pooled}?prepare_threshold=many")


def test_proxy_is_not_our_own(empty_postgres: str) -> None:
    """Who passes on what is said, and nothing else, may be a pooler tomorrow: nothing is set for good."""
    with FaultProxy(empty_postgres) as proxy:
        assert everything(proxy.url, rounds=2) == 12
        assert doctors_word(proxy.url).startswith("A proxy passes our connections on")


def doctors_word(url: str) -> str:
    examiner = stores.open_examiner(url, place="here")
    assert examiner is not None
    with closing(examiner):
        [check] = [each for each in examiner.checks() if each.id == "store.pooler"]
        found = check.look()
    assert found.verdict is Verdict.OK
    return " ".join([found.title, *found.evidence])


def test_doctor_names_it(
    postgres_server: Server, empty_postgres: str, pooled: str, tmp_path: object
) -> None:
    """Doctor says what stands between, and what that means."""
    said = doctors_word(pooled)
    assert said.startswith("A pooler lends us connections of the server, for one transaction")
    assert "PgBouncer 1." in said
    assert "nothing is prepared" in said
    with pgbouncer(postgres_server, settings={"pool_mode": "session"}) as keeping:
        said = doctors_word(keeping.url_of(empty_postgres))
    assert said.startswith(
        "A pooler lends us connections of the server, each for as long as we keep"
    )
    assert doctors_word(empty_postgres) == "Connections lead to the server itself."
    assert doctors_word(f"sqlite:///{tmp_path}/a.db").startswith("Nothing stands between")


def test_one_connection_for_all(postgres_server: Server, empty_postgres: str) -> None:
    """A pooler that has a single connection of the server is named, too."""
    with pgbouncer(postgres_server, pool_size=1) as narrow:
        assert "one transaction at a time" in doctors_word(narrow.url_of(empty_postgres))


def test_a_single_connection_of_ours(pooled: str, empty_postgres: str) -> None:
    """Doctor does not wait for a second one where the URL allows one."""
    assert "A pooler lends us connections of the server. " in doctors_word(f"{pooled}?pool_size=1")
    with FaultProxy(empty_postgres) as proxy:
        said = doctors_word(f"{proxy.url}?pool_size=1")
    assert said.startswith("A proxy or a pooler stands between")


def test_doctors_lock(pooled: str, empty_postgres: str) -> None:
    """The lock holds between others' transactions, keeps out doctors that come any other way, and ends."""
    with stores.repair_lock(pooled) as assure:
        assert everything(pooled, rounds=1) == 6
        for url in (pooled, empty_postgres):
            with pytest.raises(RepairBusy), stores.repair_lock(url):
                pass
        assure()
    with stores.repair_lock(empty_postgres) as assure:
        assure()


def test_index_is_made_meanwhile(pooled: str) -> None:
    """An index can be made without keeping anybody from writing, though doctor's lock is a transaction's."""
    with (
        stores.repair_lock(pooled) as assure,
        psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as other,
    ):
        other.execute("CREATE TABLE neighbors AS SELECT generate_series(1, 100) AS id")
        try:
            other.execute("SET statement_timeout = '20s'")
            other.execute("CREATE INDEX CONCURRENTLY neighbors_id ON neighbors (id)")
        finally:
            other.execute("RESET statement_timeout")
            other.execute("DROP TABLE neighbors")
        assure()


def test_adopting_leaves_nothing(pooled: str) -> None:
    """To read an application's sessions sets nothing for longer than it takes."""
    before = found_by_neighbors(pooled)
    with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as other:
        other.execute("CREATE TABLE session (sid text PRIMARY KEY, sess json, expire timestamp)")
        other.execute(
            "INSERT INTO session SELECT i::text, '{}', now() FROM generate_series(1, 600) AS i"
        )
    source = SqlSource(make_url(pooled))
    try:
        source.open()
        found = source.choose("session", None)
        assert source.count(found) == 600
        assert sum(len(rows) for rows in source.batches(found)) == 600
    finally:
        source.close()
        with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as other:
            other.execute("DROP TABLE session")
    assert found_by_neighbors(pooled) == before


def test_statements_that_are_prepared_at_once(empty_postgres: str) -> None:
    """Where the store's URL says so, all is prepared but what begins a transaction."""
    with FaultProxy(empty_postgres) as proxy:
        assert everything(f"{proxy.url}?prepare_threshold=0", rounds=1) == 6


class Line:
    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([psycopg.OperationalError("restarting"), Line(), Line()], 3),
        ([psycopg.OperationalError("unsupported"), Line(), psycopg.OperationalError("again")], 3),
        ([psycopg.OperationalError("down"), psycopg.OperationalError("down")], 2),
        ([psycopg.errors.ConnectionTimeout("nobody answers")], 1),
        ([psycopg.errors.CannotConnectNow("starting up")], 1),
    ],
    ids=["passed", "options", "down", "timeout", "told"],
)
def test_failure_that_passes_is_not_for_the_options(answers: list[Any], asked: int) -> None:
    """Only who refuses options twice, and takes the rest in between, has no use for them."""
    told = list(answers)
    with_options: list[bool] = []

    def make(**params: Any) -> Any:
        with_options.append("options" in params)
        answer = answers[len(with_options) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    outcome: Any
    try:
        outcome = lent.connect(make, (), {"options": "-c search_path=ours"})
    except (SettingsError, psycopg.OperationalError) as error:
        outcome = error
    if asked < 3:
        assert outcome is told[0]
    elif isinstance(told[-1], Exception):
        assert isinstance(outcome, SettingsError)
    else:
        assert outcome is told[-1]
    assert with_options == [True, False, True][:asked]


@pytest.mark.parametrize("settings", [{}, {"ignore_startup_parameters": "options"}])
def test_schema_that_a_pooler_does_not_pass_on(
    postgres_server: Server, empty_postgres: str, settings: dict[str, str]
) -> None:
    """Whether the pooler refuses it or drops it in silence: nothing is made in another schema."""
    with (
        pgbouncer(postgres_server, settings=settings) as pooler,
        pytest.raises(SettingsError, match="pooler") as refused,
    ):
        stores.migrate(f"{pooler.url_of(empty_postgres)}?schema=ours")
    assert "search_path" in str(refused.value.hint)


def test_schema_by_way_of_a_proxy(empty_postgres: str) -> None:
    """Who passes all on passes the schema on, too."""
    with psycopg.connect(empty_postgres, autocommit=True) as operator:
        operator.execute("CREATE SCHEMA ours")
        try:
            with FaultProxy(empty_postgres) as proxy:
                assert everything(f"{proxy.url}?schema=ours", rounds=1) == 6
            found = operator.execute("SELECT count(*) FROM ours.sojourn_leases").fetchone()
            assert found == (6,)
        finally:
            operator.execute("DROP SCHEMA ours CASCADE")
