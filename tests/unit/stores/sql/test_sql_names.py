"""Databases of before version 0006, with tables called `sessions`, `leases` …, get the names of today."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from typing import Any

import pytest
from sqlalchemy import event, inspect, text
from tests.older import engine_of, execute, make_database, open_older, private, register
from tests.unit.stores.sql.test_sql_faults import VERBS

from sojourn.clock import DAY, STORE_CLOCK
from sojourn.doctor.doctor import Doctor
from sojourn.errors import SojournError, StoreBroken, StoreUnavailable, TableMissing
from sojourn.lease import Beat, Lease, Release, Renew
from sojourn.session import NewSession, Session
from sojourn.stores import open as stores
from sojourn.stores.sql import migrations, schema
from sojourn.stores.sql.dialect import MYSQL, MYSQL_UNFORCED
from sojourn.stores.sql.faults import MIGRATE
from sojourn.stores.sql.names import facts
from sojourn.stores.sql.names.facts import NOUNS, PREFIX
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import acquire, pool, take

SERVERS = ["postgres_url", "mariadb_url"]
SEATS = 40
PERSON = b"p" * 32


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


def opened(url: str) -> SqlStore:
    store = stores.open_store(url)
    assert isinstance(store, SqlStore)
    return store


def fill(store: SqlStore) -> Lease:
    """Let something happen that leaves rows in most tables."""
    store.define([pool(SEATS)])
    store.create([NewSession(id="ses", token_hash=PERSON, user_id="ann")])
    store.create([NewSession(id="gone", token_hash=b"g" * 32, user_id="bob")])
    store.end(ids=["gone"])
    store.pulse()
    return take(store, "ann", session_id="ses")


def rows(url: str, *, prefix: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read every row of every table, by the columns that it had before."""
    found = {}
    for noun in NOUNS:
        table = facts.ours(noun)
        columns = ", ".join(c.name for c in table.columns if c.name != "schema_version")
        read = execute(url, f"SELECT {columns} FROM {prefix}{noun}")
        found[noun] = sorted(map(tuple, read), key=repr)
    return found


def assert_kept(before: dict[str, list[tuple[Any, ...]]], url: str) -> None:
    """Every row is as it was; marks may have come to those that were there."""
    after = rows(url, prefix=PREFIX)
    assert set(before.pop("marks")) <= set(after.pop("marks"))
    assert after == before


def names(url: str) -> tuple[set[str], set[str]]:
    """Return the tables and the views that have one of our names."""
    engine = engine_of(url)
    found = inspect(engine)
    ours = {*NOUNS, *schema.metadata.tables}
    there = ours & set(found.get_table_names()), ours & set(found.get_view_names())
    engine.dispose()
    return there


def indexes(url: str) -> dict[str, set[str]]:
    engine = engine_of(url)
    found = {
        table: {str(each["name"]) for each in inspect(engine).get_indexes(table)}
        | {str(inspect(engine).get_pk_constraint(table)["name"])}
        for table in schema.metadata.tables
    }
    engine.dispose()
    return found


def wrong(url: str) -> dict[str, str]:
    """What doctor finds: the title of each finding that is not well, by its check."""
    examiner = stores.open_examiner(url, place="here")
    assert examiner is not None
    with closing(examiner):
        seen = list(Doctor([examiner], nullcontext).examine())
    return {x.check.id: x.finding.title for x in seen if x.finding.verdict.rank}


def age_the_renaming(url: str) -> None:
    execute(url, f"UPDATE sojourn_marks SET value = value - {DAY} WHERE name = 'renamed'")


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


# While servers of before still run


def use(store: SqlStore) -> None:
    """Call every verb."""
    for name, verb in VERBS.items():
        if name != "rotate":  # to a token of its own
            verb(store)
    token = secrets.token_bytes(32)
    store.create([NewSession(id=token.hex(), token_hash=token, user_id="cy")])
    assert store.rotate(token.hex(), secrets.token_bytes(32))


def test_older_servers_go_on(server_url: str) -> None:
    """Every verb works by the old names, and both kinds of servers see one state."""
    register(server_url)
    with closing(open_older(server_url)) as older:
        fill(older)
        for _ in range(6):  # psycopg prepares what it has sent five times
            use(older)
        stores.migrate(server_url)
        with closing(opened(server_url)) as newer:
            for number, (mine, yours) in enumerate([(older, newer), (newer, older)]):
                use(mine)
                token = bytes([number]) * 32
                mine.create([NewSession(id=f"s{number}", token_hash=token, user_id="eve")])
                [seen] = yours.load([token])
                assert isinstance(seen, Session)
                lease = take(mine, f"eve{number}")
                beat = Renew(lease_id=lease.id, fence=lease.fence, beat=Beat())
                assert yours.renew([beat]) != [None]
                again = take(yours, f"eve{number}")
                assert again.fence > lease.fence
                mine.release([Release(lease_id=again.id, fence=again.fence)])
                assert [x.id for x in mine.events()] == [x.id for x in yours.events()]


def test_no_seat_too_many_while_both_serve(server_url: str) -> None:
    register(server_url)
    stores.migrate(server_url)
    with closing(open_older(server_url)) as older, closing(opened(server_url)) as newer:
        newer.define([pool(5)])
        granted: list[Lease] = []
        failed: list[BaseException] = []

        def compete(store: SqlStore, number: int) -> None:
            try:
                for n in range(6):
                    answer = store.acquire([acquire(f"u{number}-{n}")])[0]
                    if isinstance(answer, Lease):
                        granted.append(answer)
            except BaseException as error:  # noqa: BLE001  # the test tells
                failed.append(error)

        threads = [
            threading.Thread(target=compete, args=((older, newer)[n % 2], n)) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []
        assert len(granted) == 5


def test_nobody_fails_while_it_is_renamed(server_url: str) -> None:
    """Servers of before that are busy go on through the renaming: none of their calls fails."""
    register(server_url)
    over, ready = threading.Event(), threading.Barrier(4)
    failed: list[BaseException] = []
    rounds = [0, 0, 0]

    def serve(number: int) -> None:
        try:
            with closing(open_older(server_url)) as store:
                lease = take(store, f"u{number}")
                ready.wait(30)
                while not over.is_set():
                    hashed = f"{number}-{rounds[number]}".encode().ljust(32, b"-")
                    name = f"s{number}-{rounds[number]}"
                    store.create([NewSession(id=name, token_hash=hashed, user_id="ann")])
                    assert isinstance(store.load([hashed])[0], Session)
                    beat = Renew(lease_id=lease.id, fence=lease.fence, beat=Beat())
                    assert store.renew([beat]) != [None]
                    lease = take(store, f"u{number}")
                    rounds[number] += 1
        except BaseException as error:  # noqa: BLE001  # the test tells
            failed.append(error)

    with closing(open_older(server_url)) as store:
        store.define([pool(SEATS)])
    threads = [threading.Thread(target=serve, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        ready.wait(30)
        stores.migrate(server_url)
        renamed = list(rounds)
        waits_until(
            lambda: bool(failed) or all(n > m + 3 for n, m in zip(rounds, renamed, strict=True))
        )
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert failed == []
    created = sum(rounds)
    assert execute(server_url, "SELECT count(*) FROM sojourn_sessions") == [(created,)]


def waits_until(true: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(600):
        if true():
            return
        waiting.wait(0.1)
    raise AssertionError("it has not come to pass")


def test_old_names_go_with_the_last_who_needs_them(server_url: str) -> None:
    register(server_url)
    stores.migrate(server_url)
    tables, views = names(server_url)
    kept = {"leases"} if server_url.startswith("mysql") else set()
    assert views >= set(NOUNS) - kept
    age_the_renaming(server_url)
    stores.migrate(server_url)
    assert names(server_url) == (tables, views)  # a server of before runs
    assert wrong(server_url) == {}
    execute(server_url, "UPDATE sojourn_instances SET stopped_at = seen_at WHERE id = 'srv_old'")
    assert set(wrong(server_url)) == {"schema.names"}
    stores.migrate(server_url)
    assert names(server_url) == (set(schema.metadata.tables), set())
    assert wrong(server_url) == {}
    assert execute(server_url, "SELECT name FROM sojourn_marks WHERE name = 'renamed'") == []


def test_old_names_stay_a_day_for_who_is_registered_nowhere(server_url: str) -> None:
    """An application that uses the library, or a server whose ledger is elsewhere."""
    stores.migrate(server_url)
    before = names(server_url)
    assert before[1]
    stores.migrate(server_url)
    assert names(server_url) == before
    with closing(open_older(server_url)) as older:
        fill(older)


def test_doctor_takes_the_old_names_away(server_url: str) -> None:
    stores.migrate(server_url)
    age_the_renaming(server_url)
    examiner = stores.open_examiner(server_url, place="here")
    assert examiner is not None
    with closing(examiner):
        check = next(x for x in examiner.checks() if x.id == "schema.names")
        assert check.repair is not None
        planned = [step.what for step in check.repair.plan()]
        assert "Drop the view sessions." in planned
        assert [step.what for step in check.repair.apply()] == planned
        assert check.repair.plan() == []
    assert names(server_url) == (set(schema.metadata.tables), set())


def test_an_application_s_view_by_an_old_name_stays(server_url: str) -> None:
    execute(
        server_url,
        "DROP TABLE requests",
        "CREATE TABLE theirs (id integer PRIMARY KEY)",
        "CREATE VIEW requests AS SELECT id FROM theirs",
    )
    stores.migrate(server_url)
    age_the_renaming(server_url)
    stores.migrate(server_url)
    assert names(server_url) == (set(schema.metadata.tables), {"requests"})


def test_an_open_connection_of_a_program_of_before_counts(postgres_url: str) -> None:
    make_database(postgres_url)
    with closing(open_older(postgres_url)) as older:
        fill(older)
        stores.migrate(postgres_url)
        age_the_renaming(postgres_url)
        stores.migrate(postgres_url)
        assert isinstance(older.load([PERSON])[0], Session)
    stores.migrate(postgres_url)
    assert names(postgres_url)[1] == set()


def test_rights_and_owner_go_to_the_old_names(postgres_url: str) -> None:
    """Whoever served with rights on the tables, or as their owner, serves on."""
    make_database(postgres_url)
    role = "app_" + postgres_url.rsplit("_", 1)[1][:8]
    execute(
        postgres_url,
        f"CREATE ROLE {role}_owner",
        f"CREATE ROLE {role}",
        *(f"ALTER TABLE {noun} OWNER TO {role}_owner" for noun in NOUNS),
        *(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {noun} TO {role}" for noun in NOUNS),
        f"GRANT USAGE, CREATE ON SCHEMA public TO {role}_owner",
        f"GRANT USAGE ON SCHEMA public TO {role}",
    )
    try:
        stores.migrate(postgres_url)
        engine = engine_of(postgres_url)
        for each in (role, f"{role}_owner"):
            with engine.begin() as connection:
                connection.execute(text(f"SET LOCAL ROLE {each}"))
                connection.execute(text("UPDATE marks SET value = value WHERE name = 'events'"))
                connection.execute(text("SELECT name FROM marks FOR UPDATE"))
                connection.execute(text("UPDATE sojourn_marks SET value = value"))
        engine.dispose()
    finally:
        execute(
            postgres_url, f"DROP OWNED BY {role}, {role}_owner", f"DROP ROLE {role}, {role}_owner"
        )


def test_statements_name_no_index_of_a_view(mariadb_url: str) -> None:
    """While `leases` waits for its name, new servers do without the hints that a view would refuse."""
    make_database(mariadb_url)
    register(mariadb_url)
    stores.migrate(mariadb_url)
    assert "leases" in names(mariadb_url)[0]
    with closing(opened(mariadb_url)) as store:
        store.define([pool(SEATS)])
        lease = take(store)
        assert store._db.dialect is MYSQL_UNFORCED
        assert store.renew([Renew(lease_id=lease.id, fence=lease.fence, beat=Beat())]) != [None]
        execute(mariadb_url, "UPDATE sojourn_instances SET stopped_at = seen_at")
        stores.migrate(mariadb_url)  # the table gets its name, the view stays for the day
        assert "leases" in names(mariadb_url)[1]
        assert take(store).fence > lease.fence
        store._db._forced_again = 0.0  # type: ignore[attr-defined]  # a minute has passed
        assert take(store).fence > lease.fence
        assert store._db.dialect is MYSQL


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
