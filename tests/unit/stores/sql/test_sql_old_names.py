"""Programs of before version 0006 go on by the old names of tables, beside those of today."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext

import pytest
from sqlalchemy import make_url, text
from tests.older import (
    PERSON,
    SEATS,
    age_the_renaming,
    engine_of,
    execute,
    fill,
    make_database,
    names,
    open_older,
    opened,
    register,
    wrong,
)
from tests.unit.stores.sql.test_sql_faults import VERBS

from sojourn.doctor.doctor import Doctor
from sojourn.errors import StoreBroken
from sojourn.lease import Beat, Lease, Release, Renew
from sojourn.session import NewSession, Session
from sojourn.stores import open as stores
from sojourn.stores.sql import schema
from sojourn.stores.sql.dialect import MYSQL, MYSQL_UNFORCED
from sojourn.stores.sql.names import postgres
from sojourn.stores.sql.names.facts import NOUNS
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import acquire, pool, take

SERVERS = ["postgres_url", "mariadb_url"]


@pytest.fixture(params=SERVERS)
def server_url(request: pytest.FixtureRequest) -> str:
    """The same on a database server, where programs of before may run."""
    return made(request)


def made(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    make_database(found)
    return found


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


def test_a_backup_keeps_nobody_from_dropping_views(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables behind the old names are not locked: others would wait for the backup, too."""
    monkeypatch.setattr(f"{postgres.__name__}.LOCK_ATTEMPTS", 1)
    make_database(postgres_url)
    stores.migrate(postgres_url)
    age_the_renaming(postgres_url)
    tables, views = names(postgres_url)
    engine = engine_of(postgres_url)
    with engine.begin() as reader:
        reader.execute(text("SELECT count(*) FROM sessions")).all()
        stores.migrate(postgres_url)  # a later start drops them
        assert names(postgres_url) == (tables, views)
    with engine.begin() as backup:
        backup.execute(text(f"LOCK TABLE {', '.join(sorted(tables))} IN ACCESS SHARE MODE"))
        stores.migrate(postgres_url)
        assert names(postgres_url) == (tables, set())
    engine.dispose()


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


def test_who_may_make_no_view(mariadb_url: str) -> None:
    """Nothing is changed while a server of before would be cut off by it; else it is renamed all the same."""
    make_database(mariadb_url)
    with closing(open_older(mariadb_url)) as older:
        fill(older)
    register(mariadb_url)
    parsed = make_url(mariadb_url)
    user = f"'{parsed.database}'@'%'"
    rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX"
    execute(
        mariadb_url,
        f"CREATE USER {user} IDENTIFIED BY 'pw'",
        f"GRANT {rights} ON {parsed.database}.* TO {user}",
    )
    url = parsed.set(username=parsed.database, password="pw").render_as_string(hide_password=False)
    before = names(mariadb_url)
    with pytest.raises(
        StoreBroken, match=r"may not make views.*server elder, process 7"
    ) as refused:
        stores.migrate(url)
    assert "CREATE VIEW" in refused.value.hint
    assert names(mariadb_url) == before
    execute(mariadb_url, "UPDATE instances SET stopped_at = seen_at")
    stores.migrate(url)
    assert names(mariadb_url) == (set(schema.metadata.tables), set())
    with closing(opened(mariadb_url)) as store:
        assert isinstance(store.load([PERSON])[0], Session)
    execute(mariadb_url, f"DROP USER {user}")


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


def test_a_column_is_mended_below_an_old_name(postgres_url: str) -> None:
    """PostgreSQL changes no column that a view shows: the old name is made anew, with who may use it, and
    programs of before go on by it."""
    make_database(postgres_url)
    execute(postgres_url, "ALTER TABLE sessions ALTER COLUMN end_reason TYPE varchar(40)")
    register(postgres_url)
    execute(
        postgres_url,
        "CREATE ROLE reader_of_old_names",
        "GRANT SELECT ON sessions TO reader_of_old_names",
    )
    try:
        with closing(open_older(postgres_url)) as older:
            fill(older)
            stores.migrate(postgres_url)
            before = execute(postgres_url, SEEN_OF_VIEW)
            assert set(wrong(postgres_url)) >= {"schema.types"}
            examiner = stores.open_examiner(postgres_url, place="here")
            assert examiner is not None
            with closing(examiner):
                mended = [each.check.id for each in Doctor([examiner], nullcontext).repair()]
            assert "schema.types" in mended
            assert "schema.types" not in wrong(postgres_url)
            assert execute(postgres_url, SEEN_OF_VIEW) == before
            use(older)
    finally:
        execute(postgres_url, "DROP OWNED BY reader_of_old_names", "DROP ROLE reader_of_old_names")


SEEN_OF_VIEW = """
SELECT pg_get_userbyid(relowner), obj_description(oid, 'pg_class'), CAST(relacl AS text)
FROM pg_class WHERE relname = 'sessions' AND relkind = 'v'
"""
