"""The schema: made once, by whoever comes first, and put back where parts of it are missing."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing, nullcontext
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url, text

from sojourn.doctor.doctor import Doctor
from sojourn.errors import StoreBroken
from sojourn.finding import Examiner
from sojourn.ledger import Audit
from sojourn.stores import open as stores
from sojourn.stores.sql import migrations, schema
from sojourn.stores.sql.doctor.examiner import SqlExaminer
from sojourn.stores.sql.doctor.source import Source
from sojourn.stores.sql.ledger import SqlLedger
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import acquire, pool

DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
}
PROCESSES = 4
MIGRATE = "import sys; from sojourn.stores.open import migrate; migrate(sys.argv[1])"


@pytest.fixture(params=["sqlite_url", "postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


def opened(url: str) -> SqlStore:
    store = stores.open_store(url)
    assert isinstance(store, SqlStore)
    return store


def execute(url: str, *statements: str) -> None:
    with closing(opened(url)) as store, store._db.writing() as tx:
        for statement in statements:
            tx.core(text(statement))


def wrong(url: str) -> set[str]:
    """The checks that find something."""
    examiner = stores.open_examiner(url, place="here")
    assert examiner is not None
    with closing(examiner):
        return ids_of_wrong(examiner)


def ids_of_wrong(examiner: Examiner) -> set[str]:
    seen = Doctor([examiner], nullcontext).examine()
    return {each.check.id for each in seen if each.finding.verdict.rank}


def test_race_of_processes(url: str) -> None:
    """Servers that start at once migrate once, and none fails."""
    racers = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, url], stderr=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    said = [racer.communicate()[1].decode() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * PROCESSES, said
    assert stores.schema_version(url) == migrations.head() == "0014"
    assert wrong(url) == set()


def test_migrations_lead_to_the_schema(url: str) -> None:
    """What the steps make is what the code expects, column by column."""
    stores.migrate(url)
    with closing(opened(url)) as store, store._db.writing() as tx:
        options: dict[str, Any] = {"version_table": schema.VERSION_TABLE}
        context = MigrationContext.configure(tx.connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []


def test_steps_alone_suffice(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new column needs a migration: making up for what is missing must not hide that."""
    monkeypatch.setattr(migrations, "repair", lambda _tx: None)
    stores.migrate(sqlite_url)
    with closing(opened(sqlite_url)) as store, store._db.writing() as tx:
        options: dict[str, Any] = {"version_table": schema.VERSION_TABLE}
        context = MigrationContext.configure(tx.connection, opts=options)
        assert compare_metadata(context, schema.metadata) == []


def test_tables_made_by_hand(url: str) -> None:
    """Tables that exist already are taken as they are, with what is in them."""
    stores.migrate(url)
    with closing(opened(url)) as store:
        store.define([pool(3)])
        store.acquire([acquire("ann")])
    execute(url, f"DROP TABLE {schema.VERSION_TABLE}", "DROP TABLE sojourn_sessions")
    stores.migrate(url)
    with closing(opened(url)) as store:
        [usage] = store.usage([pool().id])
        assert usage is not None
        assert usage.in_use == 1
        assert [event.id for event in store.events()] == [1]
    assert wrong(url) == set()


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("sojourn_events", "id integer PRIMARY KEY, title varchar(80) NOT NULL"),
        ("sojourn_sessions", "session_id varchar(128) PRIMARY KEY, expires integer, data text"),
        ("sojourn_marks", "name varchar(80) PRIMARY KEY, score integer"),
        ("sojourn_sessions", "id varchar(80) PRIMARY KEY, user_id varchar(80), expires_at integer"),
    ],
)
def test_keeps_off_an_application_s_tables(url: str, name: str, columns: str) -> None:
    """It says whose table is in the way, and changes nothing."""
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername=DRIVERS[parsed.drivername]))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {name} ({columns})"))
    with pytest.raises(StoreBroken, match=f"a table {name} that is not Sojourn's") as refused:
        stores.migrate(url)
    assert "sojourn migrate" not in refused.value.hint
    assert inspect(engine).get_table_names() == [name]
    engine.dispose()


def test_keeps_off_a_table_that_a_later_version_would_make(url: str) -> None:
    stores.migrate(url)
    execute(
        url, "DROP TABLE sojourn_requests", "CREATE TABLE sojourn_requests (id integer PRIMARY KEY)"
    )
    execute(url, "UPDATE sojourn_schema SET version_num = '0004'")
    with pytest.raises(StoreBroken, match="a table sojourn_requests"):
        stores.migrate(url)


def test_repair(url: str) -> None:
    """`migrate` puts back what `check` misses: a table, an index, a mark."""
    stores.migrate(url)
    with closing(opened(url)) as store:
        store.define([pool(3)])
        store.acquire([acquire("ann"), acquire("bob")])
    mysql = url.startswith("mysql")
    execute(
        url,
        "DROP TABLE sojourn_sweeps",
        "DROP INDEX sojourn_leases_session ON sojourn_leases"
        if mysql
        else "DROP INDEX sojourn_leases_session",
        "DELETE FROM sojourn_marks WHERE name = 'audits'",
    )
    assert wrong(url) == {"schema.tables", "schema.indexes"}
    stores.migrate(url)
    execute(url, "UPDATE sojourn_marks SET value = 1 WHERE name = 'events'")
    assert wrong(url) == {"schema.marks"}
    stores.migrate(url)
    execute(url, "DELETE FROM sojourn_marks WHERE name = 'pulse'")
    assert wrong(url) == {"schema.marks"}
    stores.migrate(url)
    assert wrong(url) == set()
    with closing(opened(url)) as store:
        store.acquire([acquire("eve")])
        assert [event.id for event in store.events()] == [1, 2, 3]
    with closing(stores.open_ledger(url)) as ledger:
        ledger.record(Audit(actor="a", action="b", subject="c"))
        assert [audit.id for audit in ledger.audits()] == [1]


def test_migrating_twice_changes_nothing(url: str) -> None:
    stores.migrate(url)
    with closing(opened(url)) as store:
        store.define([pool(3)])
        store.acquire([acquire("ann")])
        before = store.events()
    stores.migrate(url)
    with closing(opened(url)) as store:
        assert store.events() == before


def test_collation_that_folds(mariadb_url: str) -> None:
    """A table whose ids a migration of somebody else's made case-blind is found out."""
    stores.migrate(mariadb_url)
    execute(
        mariadb_url,
        "ALTER TABLE sojourn_leases MODIFY user_id VARCHAR(256) CHARACTER SET utf8mb4"
        " COLLATE utf8mb4_general_ci NOT NULL",
    )
    assert wrong(mariadb_url) == {"schema.collation"}


def test_settings_that_lose_writes(own_postgres: Any) -> None:
    url = own_postgres.database_url("postgres")
    stores.migrate(url)
    assert wrong(url) == set()
    with closing(stores.open_store(url, durable=False)) as store:
        assert isinstance(store, SqlStore)
        examiner = SqlExaminer(Source(lambda: store._db, place="here"))
        assert ids_of_wrong(examiner) == {"store.durability"}


def test_private_database_needs_no_migration() -> None:
    with closing(stores.open_ledger("memory:")) as ledger:
        assert isinstance(ledger, SqlLedger)
        assert ledger.licenses() == []
    assert stores.schema_version("memory:") is None


def test_new_files_are_private(sqlite_url: str) -> None:
    stores.migrate(sqlite_url)
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(opened(sqlite_url)) as store, store._db.writing() as tx:
        tx.core(text("INSERT INTO sojourn_marks (name) VALUES ('x')"))
        modes = subprocess.run(
            ["stat", "-c", "%a", path, f"{path}-wal", f"{path}.lock"],  # found on PATH
            capture_output=True,
            check=True,
        )
        assert modes.stdout.split() == [b"600"] * 3
        page = tx.core(text("PRAGMA page_size")).scalar()
        assert page == 1024
        assert "sojourn_leases" in inspect(tx.connection).get_table_names()


def test_versions_are_what_alembic_takes_them_for() -> None:
    """They are read from the names of files."""
    scripts = ScriptDirectory(str(migrations.FOLDER))
    assert migrations.known() == {each.revision for each in scripts.walk_revisions()}
    assert migrations.head() == scripts.get_current_head()


def test_a_start_on_a_current_schema_needs_no_alembic(empty_sqlite: str) -> None:
    script = (
        "import sys; from sojourn.stores.open import open_store\n"
        "open_store(sys.argv[1], migrate=True).close()\n"
        "print('sqlalchemy' in sys.modules, 'alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", script, empty_sqlite]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
