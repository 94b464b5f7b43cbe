"""Keeping sessions where an application has a connection already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from sqlalchemy import create_engine

from tests.adapters.django_project import OURS  # isort: skip

from sojourn.adapters.address import address_of, address_of_django
from sojourn.adapters.desk import open_desk
from sojourn.adapters.django_settings import lazy_desk
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


PG = "django.db.backends.postgresql"


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
        ({"ENGINE": "django.db.backends.mysql", "NAME": "a", "HOST": "h"}, "mysql://h/a"),
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
