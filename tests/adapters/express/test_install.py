"""Installing beside connect-pg-simple; time zones; outages."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.adapters.express.node import Both, both
from tests.adapters.express.pg import express_set, rows

from sojourn.adapters.express import install, open_express
from sojourn.adapters.express.options import iso
from sojourn.adapters.express.postgres import PostgresSessions
from sojourn.adapters.express.schema import LATER
from sojourn.clock import HOUR, MINUTE, ManualClock, host_now
from sojourn.errors import SettingsError, StoreBroken, StoreUnavailable
from sojourn.session import Begin, Begun, Check, End, Rename, Save, Session
from sojourn.store import LIST_MAX
from sojourn.testing.servers import Server, fresh_database

TOKYO = "?options=-c%20TimeZone%3DAsia/Tokyo"


@pytest.fixture
def sessions(express_pg: str, clock: ManualClock) -> Iterator[PostgresSessions]:
    opened = open_express(f"express+{express_pg}", clock=clock)
    assert isinstance(opened, PostgresSessions)
    yield opened
    opened.close()


@pytest.fixture
def applications(node_app: Path, express_pg: str) -> Iterator[Both]:
    with both(node_app, express_pg) as running:
        yield running


# Installing


def test_install_again_and_at_once(postgres_url: str) -> None:
    url = f"express+{postgres_url}"
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: install(url), range(4)))) == 1
    assert install(url) == '"public"."session"'
    open_express(url).close()


def test_install_makes_the_table_as_express_does(
    node_app: Path, postgres_url: str, postgres_server: Server
) -> None:
    """Column by column, key and index."""
    query = """SELECT column_name, data_type, is_nullable, datetime_precision
        FROM information_schema.columns WHERE table_name = 'session' ORDER BY 1"""
    indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = 'session' ORDER BY 1"
    install(f"express+{postgres_url}")
    with fresh_database(postgres_server) as other:
        sql = (node_app / "node_modules/connect-pg-simple/table.sql").read_text()
        with psycopg.connect(other, autocommit=True) as theirs:
            theirs.execute(sql.encode())
            with psycopg.connect(postgres_url, autocommit=True) as ours:
                assert rows(ours, query) == rows(theirs, query)
                assert rows(ours, indexes) == rows(theirs, indexes)


def test_older_tables_odd_names_and_sessions_from_before(node_app: Path, postgres_url: str) -> None:
    """No index on expire, another schema, quotes in the name; who is signed in stays so, and is listed."""
    table, schema = 'user "sessions"', "Web app"
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute('CREATE SCHEMA "Web app"')
        quoted = '"Web app"."user ""sessions"""'
        database.execute(
            f"CREATE TABLE {quoted} (sid varchar PRIMARY KEY, sess json, expire timestamp)".encode()
        )
        database.execute(
            f"""INSERT INTO {quoted} SELECT 'old' || n, '{{"passport":{{"user":"ann"}}}}',
            now() + interval '1 hour' FROM generate_series(1, 2500) AS n""".encode()
        )
    install(f"express+{postgres_url}", table=table, schema=schema)
    sessions = open_express(f"express+{postgres_url}", table=table, schema=schema)
    try:
        assert len(sessions.of("ann", limit=5_000)) == LIST_MAX  # as every list
        assert isinstance(sessions.check([Check("old7")])[0], Session)
        assert len(sessions.end([End(user_id="ann")])[0]) == 2_500
    finally:
        sessions.close()


def test_what_is_not_installed_is_said(postgres_url: str) -> None:
    with pytest.raises(StoreBroken, match="no table") as caught:
        open_express(f"express+{postgres_url}")
    assert "sojourn express install" in caught.value.hint
    install(f"express+{postgres_url}")
    with pytest.raises(StoreBroken, match="passport"):
        open_express(f"express+{postgres_url}", user_path=("userId",))
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute('DROP TRIGGER sojourn_guard ON "session"')
    with pytest.raises(StoreBroken, match="not installed"):
        open_express(f"express+{postgres_url}")


def test_a_table_of_an_older_version_is_brought_up_to_date(postgres_url: str) -> None:
    """It is said at the start, the command adds what is missing, and a name has a place."""
    url = f"express+{postgres_url}"
    install(url)
    with psycopg.connect(postgres_url, autocommit=True) as database:
        for column in LATER:
            database.execute(f"ALTER TABLE session_sojourn DROP COLUMN {column}".encode())
    with pytest.raises(StoreBroken, match="older version") as caught:
        open_express(url)
    assert "sojourn express install" in caught.value.hint
    install(url)
    sessions = open_express(url)
    try:
        (begun,) = sessions.begin([Begin(user_id="ann")])
        assert isinstance(begun, Begun)
        assert sessions.rename(Rename(id=begun.session.id, user_id="ann", label="Office"))
        assert [each.label for each in sessions.of("ann")] == ["Office"]
    finally:
        sessions.close()


@pytest.mark.parametrize(
    "columns", ["sid varchar, sess json, expire timestamp", "id int PRIMARY KEY"]
)
def test_a_table_that_is_not_expresss_is_refused(postgres_url: str, columns: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute(f'CREATE TABLE "session" ({columns})'.encode())
    with pytest.raises(StoreBroken):
        install(f"express+{postgres_url}")


def test_express_works_on_when_our_table_is_dropped(
    applications: Both, database: psycopg.Connection[Any]
) -> None:
    database.execute("DROP TABLE session_sojourn")
    with applications.browser() as browser:
        browser.sign_in_to_node("ann")
        browser.node("POST", "/set", a=1)
        assert browser.me()["data"]["a"] == 1
        browser.node("POST", "/logout")
    with pytest.raises(StoreBroken):
        applications.desk.sessions.check([Check("x")])


def test_an_expresss_role_needs_no_rights_on_our_table(
    express_pg: str, sessions: PostgresSessions, database: psycopg.Connection[Any]
) -> None:
    database.execute("CREATE ROLE express_app")
    try:
        database.execute('GRANT SELECT, INSERT, UPDATE, DELETE ON "session" TO express_app')
        database.execute("SET ROLE express_app")
        end = host_now() / 1000 + 3600
        express_set(database, "s1", {"cookie": {}, "passport": {"user": "ann"}}, end)
        database.execute("RESET ROLE")
        assert len(sessions.of("ann")) == 1
    finally:
        database.execute("DROP OWNED BY express_app")
        database.execute("DROP ROLE express_app")


# Time zones


def test_another_time_zone_is_refused(express_pg: str) -> None:
    """Express in Tokyo, we in UTC: not one request is answered wrongly, for none is answered."""
    url = f"{express_pg}{TOKYO}"
    with psycopg.connect(url, autocommit=True) as tokyo:
        end = host_now() / 1000 + 3600
        express_set(tokyo, "s1", {"cookie": {}, "passport": {"user": "ann"}}, end)
    with pytest.raises(SettingsError, match="Asia/Tokyo") as caught:
        open_express(f"express+{express_pg}")
    assert caught.value.code == "express_time_zone"
    sessions = open_express(f"express+{url}")
    try:
        answer = sessions.check([Check("s1")])[0]
        assert isinstance(answer, Session)
        assert abs(answer.idle_at - end * 1000) <= 1_000
    finally:
        sessions.close()


@pytest.mark.parametrize(("shift", "refused"), [(9, True), (-9, True), (0, False), (-3.5, True)])
def test_rows_from_before_tell_their_time_zone(
    postgres_url: str, shift: float, refused: bool
) -> None:
    """Nothing has noted in which zone they were written; the end in their cookie is in UTC."""
    install(f"express+{postgres_url}")
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute('ALTER TABLE "session" DISABLE TRIGGER USER')
        for n in range(4):
            end = (host_now() // 1000 + 86_400 + n) * 1000
            sess = {"cookie": {"originalMaxAge": 1, "expires": iso(end)}}
            express_set(database, f"s{n}", sess, end / 1000 + shift * 3_600)
        database.execute('ALTER TABLE "session" ENABLE TRIGGER USER')
    if refused:
        with pytest.raises(SettingsError, match="h off"):
            open_express(f"express+{postgres_url}")
    else:
        open_express(f"express+{postgres_url}").close()


def test_the_servers_time_zone_is_everybodys(node_app: Path, postgres_url: str) -> None:
    """A database that is set to Tokyo: we do not force UTC, and both mean the same."""
    with psycopg.connect(postgres_url, autocommit=True) as database:
        name = database.info.dbname
        database.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'".encode())
    install(f"express+{postgres_url}")
    with both(node_app, postgres_url) as applications, applications.browser() as browser:
        browser.sign_in_to_python("ann")
        assert browser.me()["user"] == "ann"
        browser.sign_in_to_node("ben")
        session = browser.visit().session
        assert session is not None
        assert abs(session.idle_at - session.at - HOUR) < MINUTE


def test_pgtz_is_refused(express_pg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """We would obey it, and Express would not."""
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    with pytest.raises(SettingsError, match="PGTZ"):
        open_express(f"express+{express_pg}")


# Outages


def test_outages_are_unavailable(own_postgres: Server) -> None:
    url = f"express+{own_postgres.database_url('postgres')}"
    install(url)
    sessions = open_express(url)
    try:
        begun = sessions.begin([Begin(user_id="ann")])[0]
        assert isinstance(begun, Begun)
        own_postgres.kill()
        for ask in (
            lambda: sessions.check([Check(begun.token)]),
            lambda: sessions.save([Save(id=begun.session.id, set={"a": 1})]),
            lambda: sessions.of("ann"),
        ):
            with pytest.raises(StoreUnavailable):
                ask()
        own_postgres.start()
        assert isinstance(sessions.check([Check(begun.token)])[0], Session)
    finally:
        sessions.close()


def test_a_missing_table_is_broken(
    sessions: PostgresSessions, database: psycopg.Connection[Any]
) -> None:
    database.execute('DROP TABLE "session"')
    with pytest.raises(StoreBroken):
        sessions.check([Check("x")])
