"""Databases of before version 0006, with tables called `sessions`, `leases` …, get the names of today."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import Any

import pytest
from sqlalchemy import event, inspect, text
from tests.older import (
    PERSON,
    age_the_renaming,
    assert_kept,
    engine_of,
    execute,
    fill,
    indexes,
    make_database,
    names,
    open_older,
    opened,
    private,
    register,
    rows,
    wrong,
)

from sojourn.clock import STORE_CLOCK
from sojourn.errors import SojournError, StoreBroken, StoreUnavailable, TableMissing
from sojourn.lease import Beat, Renew
from sojourn.session import Session
from sojourn.stores import open as stores
from sojourn.stores.sql import migrations, schema
from sojourn.stores.sql.faults import MIGRATE
from sojourn.stores.sql.names.facts import NOUNS, PREFIX
from sojourn.testing.builders import take

SERVERS = ["postgres_url", "mariadb_url"]


@pytest.fixture(params=["sqlite_url", *SERVERS])
def url(request: pytest.FixtureRequest) -> str:
    """A database of version 0005."""
    return made(request)


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest) -> str:
    """The same on a database server, where programs of before may run."""
    return made(request)


def made(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    make_database(found)
    return found


def test_no_row_is_lost(url: str) -> None:
    with closing(open_older(url)) as older:
        lease = fill(older)
    before = rows(url, prefix="")
    assert {"sessions", "leases", "pools", "events", "marks"} <= {x for x in before if before[x]}
    stores.migrate(url)
    assert_kept(before, url)
    with closing(opened(url)) as store:
        [session] = store.load([PERSON])
        assert isinstance(session, Session)
        assert store.renew([Renew(lease_id=lease.id, fence=lease.fence, beat=Beat())]) != [None]
        assert take(store, "ann", session_id="ses").fence > lease.fence


def test_it_ends_as_a_database_that_is_new(url: str) -> None:
    """Tables, indexes and keys have the names that a new database gives them, and doctor finds nothing."""
    with closing(open_older(url)) as older:
        fill(older)
    stores.migrate(url)
    if not url.startswith("sqlite"):
        age_the_renaming(url)
        stores.migrate(url)
    assert names(url) == (set(schema.metadata.tables), set())
    expected = {
        table.name: {str(index.name) for index in table.indexes}
        for table in schema.metadata.tables.values()
    }
    for table, found in indexes(url).items():
        assert expected[table] <= found
        old = {name for name in found if name.startswith(tuple(f"{x}_" for x in NOUNS))}
        assert not old or url.startswith("sqlite")  # where the name of a key is its table's text
    assert wrong(url) == {}


def test_a_new_database_has_no_old_name(url: str) -> None:
    execute(url, *(f"DROP TABLE {noun}" for noun in NOUNS), f"DROP TABLE {schema.VERSION_TABLE}")
    stores.migrate(url)
    assert names(url) == (set(schema.metadata.tables), set())


@pytest.mark.parametrize("kind", ["sqlite_url", *SERVERS])
def test_it_works_beside_an_application_s_tables(kind: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(kind)
    private(url)
    execute(
        url,
        "CREATE TABLE events (id integer PRIMARY KEY, title varchar(80) NOT NULL)",
        "CREATE TABLE sessions (session_id varchar(128) PRIMARY KEY, expires integer, data text)",
        "INSERT INTO events VALUES (1, 'Launch')",
    )
    stores.migrate(url)
    stores.migrate(url)
    assert names(url) == ({*schema.metadata.tables, "events", "sessions"}, set())
    assert execute(url, "SELECT title FROM events") == [("Launch",)]
    assert wrong(url) == {}


def test_an_application_s_table_among_ours_stays(url: str) -> None:
    """A table that an older version had no use for, or that took the place of a lost one."""
    execute(url, "DROP TABLE requests", "CREATE TABLE requests (id integer PRIMARY KEY, what text)")
    stores.migrate(url)
    tables, views = names(url)
    assert "requests" in tables
    assert tables >= set(schema.metadata.tables) - {"sojourn_leases"}
    assert "requests" not in views


@pytest.mark.parametrize("noun", NOUNS)
def test_a_lost_table_is_made_anew(url: str, noun: str) -> None:
    execute(url, f"DROP TABLE {noun}")
    stores.migrate(url)
    tables, views = names(url)
    assert tables | views >= set(schema.metadata.tables)
    assert wrong(url) == {}


def test_both_names_with_rows_are_refused(url: str) -> None:
    """Which of the two counts, a person has to say."""
    with closing(open_older(url)) as older:
        fill(older)
    copied = "CREATE TABLE sojourn_pools AS SELECT * FROM pools"
    execute(url, copied)
    before = names(url)
    with pytest.raises(StoreBroken, match="both a table pools and a table sojourn_pools"):
        stores.migrate(url)
    assert names(url) == before
    execute(url, "DROP TABLE sojourn_pools")
    stores.migrate(url)
    assert PREFIX + "pools" in names(url)[0]


def test_a_new_name_that_is_somebody_else_s(url: str) -> None:
    execute(url, "CREATE TABLE sojourn_events (id integer PRIMARY KEY, title varchar(80))")
    before = names(url)
    with pytest.raises(
        StoreBroken, match="a table sojourn_events that is not Sojourn's"
    ) as refused:
        stores.migrate(url)
    assert "sojourn migrate" not in refused.value.hint
    assert names(url) == before
    found = wrong(url)
    assert "sojourn_events is not Sojourn's" in found["schema.tables"]
    examiner = stores.open_examiner(url, place="here")
    assert examiner is not None
    with closing(examiner):
        for check in examiner.checks():
            if check.repair is not None and not check.id.startswith("schema.rows"):
                with suppress(SojournError):
                    planned = check.repair.plan()
                    assert not [x for x in planned if "sojourn_events" in x.what], check.id


# Cut off, and kept waiting


class Killed(BaseException):
    """The process is no more."""


CUTS = {
    "sqlite_url": [
        ("DROP INDEX", 2),
        ("ALTER TABLE", 1),
        ("ALTER TABLE", 9),
        ("UPDATE sojourn_schema", 1),
    ],
    "postgres_url": [
        *(("ALTER TABLE", 1), ("ALTER TABLE", 9), ("CREATE VIEW", 5), ("GRANT", 1)),
        *(("UPDATE sojourn_schema", 1), ("COMMIT", 1)),
    ],
    "mariadb_url": [
        *(("CREATE TABLE", 1), ("CREATE TABLE", 9), ("CREATE VIEW", 2), ("CREATE VIEW", 9)),
        *(("RENAME TABLE", 1), ("DROP TABLE", 1), ("DROP TABLE", 7), ("ALTER TABLE", 1)),
        *(("ALTER TABLE", 4), ("UPDATE sojourn_schema", 1), ("INSERT INTO sojourn_marks", 1)),
    ],
}


@pytest.mark.parametrize("waits", [True, False], ids=["beside an older server", "alone"])
@pytest.mark.parametrize(
    ("kind", "word", "number"), [(kind, *cut) for kind, cuts in CUTS.items() for cut in cuts]
)
def test_what_was_cut_off_goes_on(
    kind: str, word: str, number: int, *, waits: bool, request: pytest.FixtureRequest
) -> None:
    """A migration that is killed at any step leaves what the next one takes up, and no row is lost."""
    url: str = request.getfixturevalue(kind)
    make_database(url)
    with closing(open_older(url)) as older:
        fill(older)
    register(url)
    if not waits:
        execute(url, "UPDATE instances SET stopped_at = seen_at")
    before = rows(url, prefix="")
    killed = cut_off(url, word, number)
    stores.migrate(url)
    assert_kept(before, url)
    assert wrong(url) == {}
    left = {x for x in tables_of(url) if x.startswith(("sojourn_old_", "sojourn_tmp_"))}
    assert left == set()
    assert killed or word in ("GRANT", "INSERT INTO sojourn_marks", "CREATE VIEW", "DROP TABLE")


def tables_of(url: str) -> set[str]:
    engine = engine_of(url)
    found = {*inspect(engine).get_table_names(), *inspect(engine).get_view_names()}
    engine.dispose()
    return found


def cut_off(url: str, word: str, number: int) -> bool:
    """Migrate, and die before the `number`th statement that begins with `word`: nothing is sent after it."""
    db = stores._connected(url, clock=STORE_CLOCK, durable=True)
    seen, dead = 0, False

    @event.listens_for(db.engine, "before_cursor_execute")
    def die(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal seen, dead
        seen += statement.lstrip().startswith(word)
        if dead or seen == number:
            dead = True
            raise Killed

    with closing(db), suppress(Killed):
        migrations.migrate(db)
    return dead


def test_a_long_transaction_is_not_waited_for_long(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that reads keeps the tables' names; meanwhile everybody else is served again."""
    for module in ("postgres", "mysql"):
        monkeypatch.setattr(f"sojourn.stores.sql.names.{module}.LOCK_ATTEMPTS", 1)
    before = names(server_url)
    engine = engine_of(server_url)
    with engine.begin() as backup:
        backup.execute(text("SELECT count(*) FROM sessions")).all()
        with pytest.raises(StoreUnavailable, match="in use by a transaction"):
            stores.migrate(server_url)
        if server_url.startswith("postgresql"):
            assert names(server_url) == before
        with closing(open_older(server_url)) as older:
            fill(older)
    engine.dispose()
    stores.migrate(server_url)
    with closing(opened(server_url)) as store:
        assert isinstance(store.load([PERSON])[0], Session)


def test_migrate_never_sends_people_to_migrate(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was told to run can be no answer."""
    for broken in (StoreBroken("Broken."), TableMissing("Gone.", hint=MIGRATE)):

        def fail(_tx: Any, error: StoreBroken = broken) -> None:
            raise error

        monkeypatch.setattr(migrations, "repair", fail)
        with pytest.raises(type(broken)) as refused:
            stores.migrate(sqlite_url)
        assert "sojourn migrate" not in refused.value.hint
        assert "sojourn doctor" in refused.value.hint


def test_a_schema_of_its_own(postgres_url: str) -> None:
    """`?schema=` keeps every table of ours there, and leaves the application's schema alone."""
    execute(postgres_url, "CREATE TABLE sessions (id integer PRIMARY KEY)")
    url = f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=web-app"
    with pytest.raises(StoreBroken, match='no schema "web-app"') as refused:
        stores.migrate(url)
    assert 'CREATE SCHEMA "web-app"' in refused.value.hint
    execute(postgres_url, 'CREATE SCHEMA "web-app"')
    stores.migrate(url)
    with closing(opened(url)) as store:
        fill(store)
    placed = (
        "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE '%s%' AND schemaname IN "
    )
    found = execute(postgres_url, f"{placed}('public', 'web-app')")
    assert {tuple(row) for row in found} == {
        ("public", "sessions"),
        *(("web-app", table) for table in (*schema.metadata.tables, schema.VERSION_TABLE)),
    }
    assert wrong(url) == {}


def test_the_tables_of_a_schema_are_renamed_there(postgres_url: str) -> None:
    execute(postgres_url, "CREATE SCHEMA web")
    url = f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=web"
    make_database(f"{postgres_url}?options=-csearch_path%3Dweb")
    with closing(open_older(url)) as older:
        fill(older)
        stores.migrate(url)
        assert isinstance(older.load([PERSON])[0], Session)
    with closing(opened(url)) as store:
        assert isinstance(store.load([PERSON])[0], Session)
    assert names(postgres_url) == (set(), set())
