"""Keeping sessions where an application has a connection already."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from flask import Flask
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.ext.asyncio import create_async_engine

from tests.adapters.django_project import OURS  # isort: skip

from sojourn.adapters.address import address_of, address_of_django, sized
from sojourn.adapters.asgi import SessionMiddleware
from sojourn.adapters.desk import open_desk
from sojourn.adapters.django_settings import lazy_desk
from sojourn.adapters.flask_config import opener
from sojourn.errors import SettingsError
from sojourn.session import Session
from sojourn.stores.open import migrate

SECRET = "one secret that is long enough for this"


def signs_in(store: Any) -> None:
    desk = open_desk(store, secret=SECRET)
    try:
        visit = desk.visit(cookies="", path="/", peer=None, scheme="http")
        assert isinstance(desk.run(visit.begin("ann")), Session)
    finally:
        desk.close()


def sessions(url: str) -> int:
    desk = open_desk(url, secret=SECRET)
    try:
        return len(desk.sessions.of("ann"))
    finally:
        desk.close()


def test_an_engine_of_sqlite(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    signs_in(engine)
    assert sessions(f"sqlite:///{tmp_path}/app.db") == 1


def test_an_engine_of_postgresql(empty_postgres: str) -> None:
    migrate(empty_postgres)
    address = empty_postgres.replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(address)
    signs_in(engine)
    assert sessions(empty_postgres) == 1


@pytest.mark.parametrize(
    ("client", "url"),
    [
        (redis.Redis("db.example", 6380, 2), "redis://db.example:6380/2"),
        (redis.Redis(host="::1", password="p@ss/w"), "redis://:p%40ss%2Fw@[::1]:6379/0"),
        (redis.Redis.from_url("rediss://u:p@h/1"), "rediss://u:p@h:6379/1"),
        (redis.asyncio.Redis(host="h", db=4), "redis://h:6379/4"),
        (
            redis.Redis("h", ssl=True, ssl_ca_certs="/ca.pem", ssl_cert_reqs="none"),
            "rediss://h:6379/0?ssl_cert_reqs=none&ssl_ca_certs=%2Fca.pem",
        ),
        (
            redis.Redis(unix_socket_path="/run/redis.sock", db=3),
            "redis+unix:///run/redis.sock?db=3",
        ),
    ],
)
def test_the_address_of_a_redis_client(client: Any, url: str) -> None:
    assert address_of(client) == url


@pytest.mark.parametrize("store", [create_engine("sqlite://"), 7, object()])
def test_what_nobody_else_can_connect_to_is_refused(store: Any) -> None:
    with pytest.raises(SettingsError):
        open_desk(store, secret=SECRET)


def test_what_an_engine_connects_with_comes_along(tmp_path: Path) -> None:
    """Beside its URL, of sync and async engines: nothing of it is lost without a word."""
    pg = "postgresql+psycopg://u:p@h/app?sslmode=verify-full"
    engine = create_engine(pg, connect_args={"sslrootcert": "/ca.pem", "connect_timeout": 9})
    url = "postgresql://u:p@h/app?sslmode=verify-full&connect_timeout=9&sslrootcert=%2Fca.pem"
    assert make_url(address_of(engine) or "") == make_url(url)
    later = create_async_engine(
        "postgresql+psycopg://u:p@h/app", connect_args={"sslmode": "require"}
    )
    assert address_of(later) == "postgresql://u:p@h/app?sslmode=require"
    secure = create_engine("mysql+pymysql://u:p@h/app", connect_args={"ssl": {"ca": "/ca.pem"}})
    assert address_of(secure) == "mysql://u:p@h/app?ssl_ca=%2Fca.pem"
    waits = create_engine(f"sqlite:///{tmp_path}/a.db", connect_args={"timeout": 30})
    assert address_of(waits) == f"sqlite:///{tmp_path}/a.db"


def opened_by_the_application(*_: Any) -> Any:
    raise AssertionError("nobody connects here")


def engine_with_tokens() -> Any:
    engine = create_engine("postgresql+psycopg://u@h/app")

    @event.listens_for(engine, "do_connect")
    def token(_dialect: Any, _record: Any, _args: Any, params: Any) -> None:
        params["password"] = "of a quarter of an hour"

    return engine


class Credentials(redis.CredentialProvider):
    def get_credentials(self) -> tuple[str, str]:
        return "u", "p"


def behind_sentinel() -> Any:
    sentinel: Any = redis.Sentinel
    return sentinel([("s", 26379)]).master_for("main")


class OwnConnection(redis.Connection):
    pass


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: create_engine("postgresql+psycopg://h/a", creator=opened_by_the_application),
            "The engine opens its connections with a creator of the application's own.",
        ),
        (
            lambda: create_engine("sqlite:////x.db", creator=opened_by_the_application),
            "The engine opens its connections with a creator of the application's own.",
        ),
        (engine_with_tokens, "decided by a listener of do_connect"),
        (
            lambda: create_engine("mysql+pymysql://h/a", connect_args={"ssl": object()}),
            "The engine connects with 'ssl', which cannot be said in a store's URL.",
        ),
        (
            lambda: create_engine("mysql+pymysql://h/a", connect_args={"ssl": {"ctx": "secret"}}),
            "The engine connects with 'ssl.ctx'",
        ),
        (
            lambda: create_engine("sqlite:///file:x.db?uri=true"),
            "The engine connects with 'uri'",
        ),
        (
            lambda: redis.Redis(credential_provider=Credentials()),
            "The client connects with credential_provider.",
        ),
        (
            lambda: redis.Redis(connection_pool=redis.ConnectionPool(OwnConnection, host="h")),
            "The client connects with connections of its own, OwnConnection.",
        ),
        (
            behind_sentinel,
            "Sessions cannot be kept by a client of several servers.",
        ),
    ],
)
def test_what_would_be_lost_is_refused(make: Callable[[], Any], says: str) -> None:
    """By its name, and never with its value."""
    with pytest.raises(SettingsError, match=re.escape(says)) as refused:
        open_desk(make(), secret=SECRET)
    assert "secret" not in str(refused.value)


PG = "django.db.backends.postgresql"
MYSQL = "django.db.backends.mysql"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (
            {
                "ENGINE": PG,
                "NAME": "app",
                "USER": "u",
                "PASSWORD": "p@:/",
                "HOST": "db",
                "PORT": 5433,
            },
            "postgresql://u:p%40%3A%2F@db:5433/app",
        ),
        ({"ENGINE": PG, "NAME": "app", "HOST": "/run/pg"}, "postgresql:///app?host=/run/pg"),
        ({"ENGINE": PG, "NAME": "a b", "HOST": "::1"}, "postgresql://[::1]/a%20b"),
        (
            {
                "ENGINE": PG,
                "NAME": "a",
                "HOST": "h",
                "OPTIONS": {"sslmode": "require", "pool": True},
            },
            "postgresql://h/a?sslmode=require",
        ),
        ({"ENGINE": PG, "NAME": "a", "HOST": "h", "OPTIONS": {"assume_role": "r"}}, None),
        ({"ENGINE": MYSQL, "NAME": "a", "HOST": "h"}, "mysql://h/a"),
        (
            {"ENGINE": MYSQL, "NAME": "a", "HOST": "h", "OPTIONS": {"ssl": {"ca": "/ca.pem"}}},
            "mysql://h/a?ssl_ca=/ca.pem",
        ),
        ({"ENGINE": MYSQL, "NAME": "a", "HOST": "h", "OPTIONS": {"ssl_mode": "REQUIRED"}}, None),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": Path("/x/y.db")}, "sqlite:////x/y.db"),
        ({"ENGINE": "django.db.backends.oracle", "NAME": "a"}, None),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, None),
    ],
)
def test_the_address_of_an_alias(given: dict[str, Any], url: str | None) -> None:
    if url is None:
        with pytest.raises(SettingsError):
            address_of_django({"other": given}, "other")
    else:
        assert address_of_django({"other": given}, "other") == url


def test_django_keeps_sessions_in_an_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = tmp_path / "app.db"
    alias = {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    monkeypatch.setitem(settings.DATABASES, "people", alias)
    with override_settings(SOJOURN={"database": "people", "secret": SECRET}, MIDDLEWARE=[OURS]):
        desk = lazy_desk.get()
        visit = desk.visit(cookies="", path="/", peer=None, scheme="http")
        desk.run(visit.begin("ann"))
    assert sessions(f"sqlite:///{name}") == 1


@pytest.mark.parametrize(
    "options", [{"database": "nowhere"}, {"database": "x", "store": "memory:"}]
)
def test_an_alias_that_there_is_not_is_refused(options: dict[str, Any]) -> None:
    with override_settings(SOJOURN=options), pytest.raises(ImproperlyConfigured):
        lazy_desk.get()


def test_a_misspelled_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "name").write_text("Acme")
    monkeypatch.setenv("SOJOURN_TRUSTED_PROXY", "10.0.0.0/8")
    monkeypatch.setenv("SOJOURN_SITE_NAME_FILE", str(tmp_path / "name"))
    monkeypatch.setenv("SOJOURN_CAMPAIGN", "1")
    open_desk("memory:", secret=SECRET).close()
    told = [each.getMessage() for each in caplog.records if "setting_not_read" in each.getMessage()]
    assert len(told) == 1
    assert "SOJOURN_TRUSTED_PROXY " in told[0]
    assert "SOJOURN_TRUSTED_PROXIES" in told[0]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://h/a", "postgresql://h/a?pool_size=4"),
        ("mysql://h/a?charset=utf8mb4", "mysql://h/a?charset=utf8mb4&pool_size=4"),
        ("redis+sentinel://h/main", "redis+sentinel://h/main?max_connections=4"),
        ("sqlite:///x.db", None),
        ("memory:", None),
        ("https://sojourn.example", None),
        ("postgresql://h/a?pool_size=9", None),
    ],
)
def test_how_many_connections(url: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(SettingsError, match="pool_size"):
            sized(url, 4)
    else:
        assert sized(url, 4) == expected
    assert sized(url, None) == url


@pytest.mark.parametrize("wrong", [0, 101, "4", True, 2.5])
def test_a_number_of_connections_that_cannot_be(wrong: Any) -> None:
    with pytest.raises(SettingsError, match="pool_size"):
        open_desk("postgresql://h/a", secret=SECRET, pool_size=wrong)


def test_no_more_connections_than_said(empty_postgres: str) -> None:
    """With every framework's word for it."""
    migrate(empty_postgres)
    app = Flask(__name__)
    app.config |= {
        "SOJOURN_STORE": empty_postgres,
        "SOJOURN_SECRET": SECRET,
        "SOJOURN_POOL_SIZE": 3,
    }
    flasks = opener(app.config)()
    engine = create_engine(empty_postgres.replace("postgresql:", "postgresql+psycopg:"))
    ours = {"store": empty_postgres, "secret": SECRET, "pool_size": 3}
    middleware = SessionMiddleware(app, engine, secret=SECRET, pool_size=3)  # type: ignore[arg-type]  # none is called
    with override_settings(SOJOURN=ours, MIDDLEWARE=[OURS]):
        desks = [flasks, open_desk(engine, secret=SECRET, pool_size=3), lazy_desk.get()]
        desks.append(middleware._desk.get())
        for desk in desks:
            service: Any = desk.sessions
            assert service._store._db.engine.pool.size() == 3
            assert service._store._db.engine.pool._max_overflow == 0
    for desk in desks:
        desk.close()
