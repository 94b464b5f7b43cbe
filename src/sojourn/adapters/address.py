"""Where sessions are kept, as applications may say it: by what they have open already, or in their settings.

A desk opens connections of its own there: ours wait for a bounded time, commit by themselves and plan
their statements otherwise, which no other user of a pool would want.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from sojourn.address import OPTIONS, POOL_SIZE, POOL_SIZE_MAX, REDIS, VALUES, spelled
from sojourn.errors import SettingsError

GIVE_URL = "Give the store's URL, with all that it takes to connect: see docs/guide/settings.md."

DJANGO_ENGINES = {
    "django.db.backends.postgresql": "postgresql",
    "django.contrib.gis.db.backends.postgis": "postgresql",
    "django.db.backends.mysql": "mysql",
    "django.contrib.gis.db.backends.mysql": "mysql",
    "django.db.backends.sqlite3": "sqlite",
}

OF_NO_ADDRESS = frozenset(
    (
        *(
            "autocommit",
            "cached_statements",
            "check_same_thread",
            "client_encoding",
            "command_timeout",
        ),
        *(
            "connect_timeout",
            "conv",
            "cursor_factory",
            "cursorclass",
            "detect_types",
            "init_command",
        ),
        *("isolation_level", "pool", "prepare_threshold", "prepared_statement_cache_size"),
        *("prepared_statement_name_func", "row_factory", "server_side_binding", "sql_mode"),
        *("statement_cache_size", "timeout", "transaction_mode", "use_unicode"),
    )
)
"""What says how an application waits, reads and plans: our connections do so in a way of their own."""
MYSQL_SSL = {
    "ca": "ssl_ca",
    "capath": "ssl_capath",
    "cert": "ssl_cert",
    "key": "ssl_key",
    "cipher": "ssl_cipher",
    "check_hostname": "ssl_check_hostname",
}
"""What drivers of MySQL take as `ssl`, and how it is called in a URL."""
REDIS_CONNECTIONS = ("Connection", "SSLConnection", "UnixDomainSocketConnection")
REDIS_SSL: Mapping[str, Any] = {
    "ssl_cert_reqs": "required",
    "ssl_check_hostname": True,
    "ssl_validate_ocsp": False,
    "ssl_validate_ocsp_stapled": False,
}
"""What redis-py does where nothing is said."""


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
    given = _beyond_its_url(engine)
    if backend == "sqlite":
        name = str(url.database or "")
        if not name or name == ":memory:" or "mode=memory" in name:
            raise _unshared("a SQLite database in memory")
        _none_left({**url.query, **given}, "The engine")
        return f"sqlite:///{name}"
    options = _options(backend, given, "The engine")
    if backend == "postgresql" and "ssl" in url.query:  # as asyncpg spells it
        options["sslmode"] = str(url.query["ssl"])
        url = url.difference_update_query(["ssl"])
    bare = url.set(drivername=backend).update_query_dict(options)
    text: str = bare.render_as_string(hide_password=False)
    return text


def _beyond_its_url(engine: Any) -> dict[str, Any]:
    """Return what an engine opens its connections with that is not in its URL (`connect_args`). Raises
    SettingsError where the application opens them itself."""
    opens = engine.pool._creator  # noqa: SLF001 - nothing public tells
    code = getattr(opens, "__code__", None)
    cells = (
        dict(zip(getattr(code, "co_freevars", ()), opens.__closure__ or (), strict=True))
        if code
        else {}
    )
    if getattr(opens, "__module__", "") != "sqlalchemy.engine.create" or "cparams" not in cells:
        raise SettingsError(
            "The engine opens its connections with a creator of the application's own.",
            hint=GIVE_URL,
        )
    if list(engine.dialect.dispatch.do_connect):
        raise SettingsError(
            "What the engine's connections are opened with is decided by a listener of do_connect.",
            hint=GIVE_URL,
        )
    own = engine.dialect.create_connect_args(engine.url)[1]
    used = cells["cparams"].cell_contents
    return {name: value for name, value in used.items() if name not in own or own[name] != value}


def _options(backend: str, given: Mapping[str, Any], whose: str) -> dict[str, str]:
    """Return what stands in our URL for what an application connects with otherwise. Raises SettingsError
    for what would be lost: its name is told, and never its value."""
    known = OPTIONS[backend]
    found: dict[str, str] = {}
    left: dict[str, Any] = {}
    for name, value in given.items():
        if name == "ssl" and isinstance(value, Mapping) and backend in ("mysql", "mariadb"):
            left |= {f"ssl.{part}": said for part, said in value.items() if part not in MYSQL_SSL}
            files = {MYSQL_SSL[part]: said for part, said in value.items() if part in MYSQL_SSL}
            found |= {part: _text(said) for part, said in files.items() if said is not None}
        elif name == "ssl" and backend == "postgresql" and value in VALUES["sslmode"]:
            found["sslmode"] = value
        elif name in known and isinstance(value, str | int | Path):
            found[name] = _text(value)
        else:
            left[name] = value
    _none_left(left, whose)
    return found


def _none_left(given: Mapping[str, Any], whose: str) -> None:
    lost = [n for n, value in given.items() if n not in OF_NO_ADDRESS and value is not None]
    if lost:
        raise SettingsError(
            f"{whose} connects with {min(lost)!r}, which cannot be said in a store's URL.",
            hint=GIVE_URL,
        )


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_redis(pool: Any) -> str:
    given: Mapping[str, Any] = getattr(pool, "connection_kwargs", {})
    if not given.get("host") and not given.get("path"):
        raise SettingsError(
            "Sessions cannot be kept by a client of several servers.",
            hint="Give the store's URL: redis+sentinel://… or redis+cluster://…",
        )
    kind = getattr(pool, "connection_class", type).__name__
    own = [name for name in ("credential_provider", "redis_connect_func") if given.get(name)]
    if kind not in REDIS_CONNECTIONS or own:
        by = own[0] if own else f"connections of its own, {kind}"
        raise SettingsError(f"The client connects with {by}.", hint=GIVE_URL)
    options: dict[str, str] = {}
    for name, value in given.items():
        if name.startswith("ssl_") and value != REDIS_SSL.get(name):
            if name not in OPTIONS["rediss"] or not isinstance(value, str | int):
                raise SettingsError(f"The client connects with {name!r}.", hint=GIVE_URL)
            options[name] = str(value)
    more = f"?{urlencode(options)}" if options else ""
    user, password = given.get("username") or "", given.get("password") or ""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    db = given.get("db") or 0
    if path := given.get("path"):
        return f"redis+unix://{login}{path}?db={db}"
    scheme = "rediss" if kind == "SSLConnection" else "redis"
    host = f"[{given['host']}]" if ":" in given["host"] else given["host"]
    return f"{scheme}://{login}{host}:{given.get('port') or 6379}/{db}{more}"


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
    asked, whose = given.get("OPTIONS") or {}, f"DATABASES[{alias!r}]"
    if scheme == "sqlite":
        if not name or ":memory:" in name or "mode=memory" in name:
            raise _unshared("a SQLite database in memory")
        _none_left(asked, whose)
        return f"sqlite:///{name}"
    options = _options(scheme, asked, whose)
    user, password = str(given.get("USER") or ""), str(given.get("PASSWORD") or "")
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    host, port = str(given.get("HOST") or ""), str(given.get("PORT") or "")
    if host.startswith("/"):
        options = {"host" if scheme == "postgresql" else "unix_socket": host} | options
        host = port = ""
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    query = urlencode(options, safe="/", quote_via=quote)
    url = f"{scheme}://{login + '@' if login else ''}{place}/{quote(name, safe='')}"
    return f"{url}?{query}" if query else url


def sized(url: str, pool_size: int | None) -> str:
    """Say in a store's URL how many connections a process opens there at most. Raises SettingsError where it
    says so already, and where there are none to count."""
    if pool_size is None:
        return url
    scheme = spelled(url).partition("://")[0].partition("+")[0]
    name = "max_connections" if scheme in REDIS else POOL_SIZE
    if name not in OPTIONS.get(scheme, ()):
        raise SettingsError(
            f"pool_size means nothing to a store {scheme.partition(':')[0]}:",
            hint="Give it with PostgreSQL, MySQL, MariaDB, Redis or Valkey.",
        )
    if isinstance(pool_size, bool) or not isinstance(pool_size, int):
        raise SettingsError("pool_size is a number of connections.")
    if not 1 <= pool_size <= POOL_SIZE_MAX:
        raise SettingsError(f"pool_size lies between 1 and {POOL_SIZE_MAX}.")
    if re.search(rf"[?&]{name}=", url):
        raise SettingsError(
            f"The store's URL says {name} already.", hint="Leave one of the two out."
        )
    return f"{url}{'&' if '?' in url else '?'}{name}={pool_size}"


def _unshared(what: str) -> SettingsError:
    return SettingsError(
        f"Sessions cannot be kept in {what}: nobody else can connect to it.",
        hint="Give the store's URL instead.",
    )


__all__ = ["address_of", "address_of_django", "sized"]
