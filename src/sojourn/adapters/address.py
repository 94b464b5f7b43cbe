"""Where sessions are kept, as applications may say it: by what they have open already, or in their settings.

A desk opens connections of its own there: ours wait for a bounded time, commit by themselves and plan
their statements otherwise, which no other user of a pool would want.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sojourn.errors import SettingsError

DJANGO_ENGINES = {
    "django.db.backends.postgresql": "postgresql",
    "django.contrib.gis.db.backends.postgis": "postgresql",
    "django.db.backends.mysql": "mysql",
    "django.contrib.gis.db.backends.mysql": "mysql",
    "django.db.backends.sqlite3": "sqlite",
}


def address_of(store: Any) -> str | None:
    """Return a store's URL: given as text, or of a SQLAlchemy engine (async, too) or a Redis client. Raises
    SettingsError for what says no address that somebody else could connect to."""
    if store is None or isinstance(store, str):
        return store
    store = getattr(store, "sync_engine", store)
    sqlalchemy, redis = sys.modules.get("sqlalchemy"), sys.modules.get("redis")
    if sqlalchemy is not None and isinstance(store, sqlalchemy.Engine):
        return _of_engine(store)
    if redis is not None and hasattr(store, "connection_pool"):
        return _of_redis(store.connection_pool)
    raise SettingsError(
        f"A store cannot be a {type(store).__name__}.",
        hint="Give its URL, a SQLAlchemy engine or a client of redis-py.",
    )


def _of_engine(engine: Any) -> str:
    url = engine.url
    backend = url.get_backend_name()
    if backend == "sqlite":
        if not url.database or url.database == ":memory:" or "mode=memory" in str(url.database):
            raise _unshared("a SQLite database in memory")
        return f"sqlite:///{url.database}"
    text: str = url.set(drivername=backend).render_as_string(hide_password=False)
    return text


def _of_redis(pool: Any) -> str:
    given: Mapping[str, Any] = getattr(pool, "connection_kwargs", {})
    user, password = given.get("username") or "", given.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    db = given.get("db") or 0
    if path := given.get("path"):
        return f"redis+unix://{login}{path}?db={db}"
    if not given.get("host"):
        raise _unshared("a client of several servers")
    scheme = "rediss" if "SSL" in getattr(pool, "connection_class", type).__name__ else "redis"
    host = f"[{given['host']}]" if ":" in given["host"] else given["host"]
    return f"{scheme}://{login}{host}:{given.get('port') or 6379}/{db}"


def address_of_django(databases: Mapping[str, Any], alias: str) -> str:
    """Return the URL of an alias of Django's DATABASES. Raises SettingsError."""
    if alias not in databases:
        raise SettingsError(f"There is no database {alias!r} in DATABASES.")
    given = databases[alias]
    scheme = DJANGO_ENGINES.get(given.get("ENGINE", ""))
    if scheme is None:
        raise SettingsError(
            f"Sessions cannot be kept in DATABASES[{alias!r}]: its engine is {given.get('ENGINE')!r}.",
            hint="Use PostgreSQL, MySQL, MariaDB or SQLite, or set SOJOURN['store'].",
        )
    name = str(given.get("NAME") or "")
    if scheme == "sqlite":
        if not name or ":memory:" in name or "mode=memory" in name:
            raise _unshared("a SQLite database in memory")
        return f"sqlite:///{name}"
    user, password = str(given.get("USER") or ""), str(given.get("PASSWORD") or "")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    host, port = str(given.get("HOST") or ""), str(given.get("PORT") or "")
    socket = host.startswith("/")
    place = "" if socket else (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    url = f"{scheme}://{login + '@' if login else ''}{place}/{quote(name, safe='')}"
    key = "host" if scheme == "postgresql" else "unix_socket"
    return f"{url}?{key}={quote(host)}" if socket else url


def _unshared(what: str) -> SettingsError:
    return SettingsError(
        f"Sessions cannot be kept in {what}: nobody else can connect to it.",
        hint="Give the store's URL instead.",
    )


__all__ = ["address_of", "address_of_django"]
