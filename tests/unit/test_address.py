"""Each spelling of a store's URL means one thing everywhere, or is refused in words that help."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from sojourn.address import hosts, spelled, spread
from sojourn.errors import SettingsError
from sojourn.settings import load
from sojourn.stores.open import open_ledger, open_store, scheme_of
from sojourn.testing.builders import pool, take


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("memory:", "memory:"),
        ("memory://", "memory:"),
        ("MEMORY:", "memory:"),
        ("sqlite:///a/file.db", "sqlite:///a/file.db"),
        ("sqlite:////a/file.db", "sqlite:////a/file.db"),
        ("SQLite:///Upper.DB", "sqlite:///Upper.DB"),
        ("sqlite+pysqlite:///x.db", "sqlite:///x.db"),
        ("sqlite3:///x.db", "sqlite:///x.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgres://me@db/x", "postgresql://me@db/x"),
        ("PostgreSQL://me@db/X", "postgresql://me@db/X"),
        ("postgresql+psycopg://me@db/x?sslmode=require", "postgresql://me@db/x?sslmode=require"),
        ("postgresql+asyncpg://me@db:5432/x", "postgresql://me@db:5432/x"),
        ("postgres+psycopg2://me@[::1]:5432/x", "postgresql://me@[::1]:5432/x"),
        ("postgresql:///x", "postgresql:///x"),
        ("mysql+pymysql://me:pw@db/x", "mysql://me:pw@db/x"),
        ("mariadb+mariadbconnector://db/x", "mariadb://db/x"),
        ("REDIS://:pw@db:6379/0", "redis://:pw@db:6379/0"),
        ("valkeys+cluster://a:1,b:2", "valkeys+cluster://a:1,b:2"),
        ("redis+sentinel://a:1,b:2/service", "redis+sentinel://a:1,b:2/service"),
        ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
        ("https://sojourn.example", "https://sojourn.example"),
        ("express+postgresql://db/x", "express+postgresql://db/x"),
        ("  postgresql://db/x\n", "postgresql://db/x"),
    ],
)
def test_spellings_of_one_thing(given: str, means: str) -> None:
    assert spelled(given) == means
    assert spelled(means) == means


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("sqlite://x.db", "sqlite:///x.db"),
        ("sqlite:x.db", "sqlite:///x.db"),
        ("sqlite:/var/x.db", "sqlite:////var/x.db"),
        ("sqlite://", "memory:"),
        ("sqlite:///", "memory:"),
        ("/var/lib/sojourn.db", "sqlite:////var/lib/sojourn.db"),
        ("./sojourn.db", "sqlite:///./sojourn.db"),
        ("sojourn.db", "sqlite:///sojourn.db"),
        ("C:\\data\\x.db", "sqlite:///"),
        ("", "Use one of"),
        ("db.example/x", "Use one of"),
        ("jdbc:postgresql://db/x", "Use one of"),
        ("oracle://db/x", "Use one of"),
        ("redis:6379", "redis://user@host:port/name"),
        ("postgresql:db/x", "postgresql://user@host:port/name"),
        ("postgresql+quickly://db/x", "Leave it out"),
        ("sqlite+psycopg:///x.db", "Leave it out"),
        ("redis+quickly://db", "Use one of"),
        ("postgresql://db:port/x", "65535"),
        ("postgresql://db:99999/x", "65535"),
        ("postgresql://me:p/w@db/x", "%2F"),
        ("mysql://a:1,b:2/x", "the primary"),
        ("redis://a:1,b:2/0", "the primary"),
    ],
)
def test_what_names_no_store_is_refused_with_how_it_is_written(given: str, hint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        spelled(given)
    assert hint in (refused.value.hint or "")


def test_settings_and_stores_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decides by the URL decides the same: where the record is, whether it is embedded."""
    monkeypatch.chdir(tmp_path)
    for url in ("postgresql+psycopg://db/x", "POSTGRES://db/x", "mysql+pymysql://db/x"):
        settings = load(flags={"store": url}).settings
        assert settings.ledger_url == settings.store_url == spelled(url)
        assert not settings.embedded
        assert scheme_of(url) == spelled(url).partition(":")[0]
    settings = load(flags={"store": "SQLITE+pysqlite:///x.db"}).settings
    assert settings.embedded
    open_store("SQLITE+pysqlite:///x.db", migrate=True).close()
    open_ledger(settings.ledger_url).close()
    assert [path.name for path in tmp_path.glob("*.db")] == ["x.db"]


@pytest.mark.parametrize("name", ["store", "ledger"])
def test_a_bad_url_stops_the_start_and_is_told_to_who_only_looks(name: str) -> None:
    with pytest.raises(SettingsError, match="three slashes"):
        load(environ={f"SOJOURN_{name.upper()}": "sqlite://x.db"})
    loaded = load(environ={f"SOJOURN_{name.upper()}": "sqlite://x.db"}, lenient=True)
    assert list(loaded.faults) == [name]


def test_several_servers_are_spread_as_the_driver_takes_them() -> None:
    url = spelled("postgresql+psycopg://me:pw@a:1,b,[::1]:3/x?target_session_attrs=read-write")
    assert hosts(url) == ("a:1", "b", "[::1]:3")
    assert spread(url) == (
        "postgresql://me:pw@/x?target_session_attrs=read-write&host=a:1&host=b:5432&host=[::1]:3"
    )
    assert spread("postgresql://db/x") == "postgresql://db/x"


def test_the_server_that_is_up_is_found_among_several(postgres_url: str) -> None:
    """As libpq does: the next host is tried where one is down; and it must take writes, if asked to."""
    named = hosts(postgres_url)[0]
    url = postgres_url.replace(named, f"127.0.0.1:1,{named}") + "?target_session_attrs=read-write"
    with closing(open_store(url, migrate=True)) as store:
        store.define([pool(1)])
        assert take(store, "ann").fence == 1


def test_a_schema_of_postgresql_s() -> None:
    assert spread("postgresql://me@db/x?sslmode=require&schema=Web-app") == (
        "postgresql://me@db/x?sslmode=require&options=-csearch_path%3D%22Web-app%22"
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me@db/x?schema=web", "A mysql:// URL names no schema"),
        ("sqlite:///x.db?schema=web", "A sqlite:// URL names no schema"),
        ("postgresql://db/x?schema=a%22b", "which is no plain name"),
        ("postgresql://db/x?schema=", "which is no plain name"),
        ("postgresql://db/x?schema=a&schema=b", "twice"),
        ("postgresql://db/x?schema=a&options=-csearch_path%3Db", "twice"),
    ],
)
def test_a_schema_that_means_nothing(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        spread(url)
    assert refused.value.hint


@pytest.mark.parametrize(
    ("given", "named", "hint"),
    [
        ("postgresql://db/x?sslmod=require", "sslmod", "spelling"),
        ("postgresql://db/x?sslmode=on", "sslmode=on", "verify-full"),
        ("postgresql://a,b/x?target_session_attrs=rw", "target_session_attrs=rw", "read-write"),
        ("postgresql://db/x?pool_size=many", "pool_size=many", "1 to 100"),
        ("postgresql://db/x?pool_size=0", "pool_size=0", "1 to 100"),
        ("postgresql://db/x?prepare_threshold=-1", "prepare_threshold=-1", "number"),
        ("mysql://db/x?sslmode=require", "sslmode", "ssl_ca"),
        ("mariadb://db/x?schema=ours", "schema", "prefix"),
        ("mysql://db/x?pool_size=1000", "pool_size=1000", "1 to 100"),
        ("redis://db/0?pool_size=3", "pool_size", "max_connections"),
        ("redis+cluster://db?schema=a", "schema", "prefix"),
        ("redis://db/sessions", "'sessions'", "redis://host:port/0"),
        ("sqlite:///x.db?mode=ro", "mode", "spelling"),
    ],
)
def test_options_that_mean_nothing(given: str, named: str, hint: str) -> None:
    """What stands after the question mark counts, or is refused by its name: never dropped in silence."""
    with pytest.raises(SettingsError) as refused:
        spelled(given)
    assert named in refused.value.message
    assert hint in str(refused.value.hint)


@pytest.mark.parametrize("server", ["empty_postgres", "empty_mariadb"])
def test_pool_size_is_the_most(server: str, request: pytest.FixtureRequest) -> None:
    """So many connections, and no more, however many ask at once."""
    url = request.getfixturevalue(server)
    with closing(open_store(f"{url}?pool_size=2")) as store:
        store.define([pool(9)])
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda number: take(store, f"ann{number}"), range(6)))
        engine = store._db.engine  # type: ignore[attr-defined]  # below what is public
        assert engine.pool.size() == 2
        assert engine.pool.checkedin() <= 2
        assert engine.pool.overflow() <= 0


def test_file_that_a_url_names_is_missing(empty_mariadb: str) -> None:
    with pytest.raises(SettingsError, match="ssl_ca"):
        open_store(f"{empty_mariadb}?ssl_ca=/nowhere.pem")
