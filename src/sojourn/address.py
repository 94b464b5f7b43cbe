"""How the URL of a store is spelled.

Each spelling that people use means one thing everywhere, or is refused in words that say how it is written:

    memory:    sqlite:///file    sqlite:////absolute/file    postgresql://    mysql://    redis://
    postgresql://…?schema=name    in that schema
    POSTGRES://    postgresql+psycopg://    mysql+pymysql://    sqlite+pysqlite:///file    the same

A file that is served from memory because a slash was missing, or a record of licenses that lands in another
database because of a capital letter, loses data without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sojourn.errors import SettingsError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SCHEMES = (
    "memory:, sqlite:///file, postgresql://, mysql://, mariadb://, redis://, valkey://, "
    "redis+cluster://, redis+sentinel://"
)
ELSEWHERE = ("http", "https")  # a Sojourn server
BESIDE = "express+"  # an Express application's table or keys
ALIASES = {"postgres": "postgresql", "sqlite3": "sqlite"}
SQL = {
    "sqlite": ("pysqlite", "aiosqlite", "pysqlcipher"),
    "postgresql": ("psycopg", "psycopg2", "psycopg2cffi", "psycopg_async", "asyncpg", "pg8000"),
    "mysql": ("pymysql", "mysqldb", "mysqlconnector", "aiomysql", "asyncmy", "mariadbconnector"),
    "mariadb": ("pymysql", "mysqldb", "mysqlconnector", "aiomysql", "asyncmy", "mariadbconnector"),
}
"""By scheme: the drivers that SQLAlchemy's users name. We bring our own; the database is the same."""
REDIS = ("redis", "rediss", "valkey", "valkeys")
REDIS_KINDS = ("", "unix", "cluster", "sentinel")
PORT_MAX = 65_535
SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
POOL_SIZE = "pool_size"
PREPARE = "prepare_threshold"
"""How often a statement is sent before it is prepared, on PostgreSQL: see stores/sql/lent.py."""
POOL_SIZE_MAX = 100
LIBPQ = _names(
    """
    application_name channel_binding client_encoding connect_timeout dbname fallback_application_name
    gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle
    keepalives_interval krbsrvname load_balance_hosts max_protocol_version min_protocol_version options
    passfile password port require_auth requirepeer service ssl_max_protocol_version
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslkeylogfile
    sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout user
    """
)  # https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
PYMYSQL = _names(
    """
    bind_address charset collation connect_timeout init_command max_allowed_packet program_name
    read_default_file read_default_group read_timeout server_public_key ssl_ca ssl_capath ssl_cert
    ssl_check_hostname ssl_cipher ssl_disabled ssl_key ssl_key_password ssl_verify_cert
    ssl_verify_identity unix_socket write_timeout
    """
)  # https://pymysql.readthedocs.io/en/latest/modules/connections.html
REDIS_PY = _names(
    """
    client_name db failover health_check_interval max_connections password prefix protocol
    retry_on_timeout socket_connect_timeout socket_keepalive socket_read_size socket_timeout
    ssl_ca_certs ssl_ca_data ssl_ca_path ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers
    ssl_keyfile ssl_min_version ssl_password timeout username
    """
)  # https://redis.readthedocs.io/en/stable/connections.html, and two of our own
OPTIONS = {
    "postgresql": LIBPQ | {POOL_SIZE, PREPARE, "schema"},
    "mysql": PYMYSQL | {POOL_SIZE},
    "mariadb": PYMYSQL | {POOL_SIZE},
    **dict.fromkeys(REDIS, REDIS_PY),
}
"""By scheme: what may stand after the question mark."""
VALUES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        *("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    ),
}
INSTEAD = {
    "schema": "Name the database that is to hold the tables. Redis takes a prefix.",
    POOL_SIZE: "With Redis it is called max_connections.",
    "sslmode": "With MySQL and MariaDB: ssl_ca, ssl_verify_cert and ssl_verify_identity.",
}
"""What to write where another system would have it so."""
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.-]+(\+[A-Za-z0-9_.+-]+)?(?=:)")


def spelled(url: str) -> str:
    """Return the one spelling of a store's URL: scheme in small letters, without a driver.

    URLs of Sojourn servers and of Express applications' sessions stay as they are. Raises SettingsError for
    what names no store, with the way to write it.
    """
    url = url.strip()
    if url.lower().startswith(BESIDE):
        return BESIDE + url[len(BESIDE) :]
    found = SCHEME.match(url)
    if found is None:
        raise _not_a_url(url)
    scheme, _, kind = found[0].lower().partition("+")
    rest = url[found.end() + 1 :]
    scheme = ALIASES.get(scheme, scheme)
    if scheme in ELSEWHERE and not kind:
        return f"{scheme}:{rest}"
    if scheme == "memory":
        return "memory:"
    if scheme in SQL:
        if kind and kind not in SQL[scheme]:
            raise SettingsError(
                f"The store's URL names {kind!r}, which is no driver of {scheme} that is known here.",
                hint=f"Leave it out: {scheme}:// brings its own.",
            )
        return _file(rest) if scheme == "sqlite" else _server(scheme, "", rest)
    if scheme in REDIS and kind in REDIS_KINDS:
        return f"{scheme}+unix:{rest}" if kind == "unix" else _server(scheme, kind, rest)
    raise SettingsError(
        f"A store URL cannot begin with {found[0] + ':'!r}.", hint=f"Use one of {SCHEMES}."
    )


def hosts(url: str) -> tuple[str, ...]:
    """Return the `host:port`s that a server's URL names; a port may be missing."""
    return tuple(_parts(url)[0].rpartition("@")[2].split(","))


def _parts(url: str) -> tuple[str, str, str]:
    """Take a server's URL apart: who at which hosts, the path, the query."""
    rest, _, query = url.partition("://")[2].partition("#")[0].partition("?")
    place, slash, path = rest.partition("/")
    return place, slash + path, query


def _not_a_url(text: str) -> SettingsError:
    if text.startswith(("/", "./", "../", "~")) or text.endswith((".db", ".sqlite", ".sqlite3")):
        return SettingsError("The store is given as a path.", hint=f"Write sqlite:///{text}")
    return SettingsError("The store's URL has no scheme.", hint=f"Use one of {SCHEMES}.")


def _file(rest: str) -> str:
    """Take sqlite:///file, and nothing that only looks like it."""
    if rest.startswith("///") and rest.strip("/"):
        _check_options("sqlite", rest.partition("?")[2])
        return f"sqlite:{rest}"
    path = rest.removeprefix("//") if rest.startswith("//") else rest
    if not path.strip("/"):
        raise SettingsError(
            "The store's URL names no file.",
            hint="Write sqlite:///file.db; for a store that ends with the process, memory:",
        )
    raise SettingsError(
        "The URL of a SQLite file has three slashes before the path, four where it begins with one.",
        hint=f"Write sqlite:///{path}",
    )


def _server(scheme: str, kind: str, rest: str) -> str:
    name = f"{scheme}+{kind}" if kind else scheme
    if not rest.startswith("//"):
        raise SettingsError(
            f"The store's URL has no // after {name}:", hint=f"Write {name}://user@host:port/name"
        )
    url = f"{name}:{rest}"
    named = hosts(url)
    if len(named) > 1 and scheme != "postgresql" and kind not in ("sentinel", "cluster"):
        raise SettingsError(
            f"A {scheme}:// URL names one host, and this one names {len(named)}.",
            hint="Name the one that leads to the primary: a proxy, or a name that follows it.",
        )
    for port in filter(None, map(_port, named)):
        if not port.isdigit() or not 0 < int(port) <= PORT_MAX:
            raise SettingsError(
                f"The store's URL names the port {port!r}, which is none.",
                hint="A port is a number up to 65535. In a password, write @ as %40, : as %3A and / as %2F.",
            )
    _, path, query = _parts(url)
    if scheme in REDIS and not kind and path.strip("/") and not path.strip("/").isdigit():
        raise SettingsError(
            f"The store's URL names the database {path.strip('/')!r}, which is no number.",
            hint=f"Write {name}://host:port/0",
        )
    _check_options(scheme, query)
    return url


def _check_options(scheme: str, query: str) -> None:
    """Raise SettingsError for what stands after the question mark and would mean nothing, or fail later."""
    known = OPTIONS.get(scheme, frozenset())
    for each in filter(None, query.split("&")):
        name, _, value = each.partition("=")
        if name not in known:
            raise SettingsError(
                f"The store's URL says {name}=…, which means nothing to {scheme}.",
                hint=INSTEAD.get(name, "Leave it out, or correct its spelling."),
            )
        if name in VALUES and value not in VALUES[name]:
            raise SettingsError(
                f"The store's URL says {name}={value}.",
                hint=f"Use one of {', '.join(VALUES[name])}.",
            )
        if name in (POOL_SIZE, PREPARE) and not (
            value.isdigit() and (name == PREPARE or 1 <= int(value) <= POOL_SIZE_MAX)
        ):
            most = "a number" if name == PREPARE else f"a number from 1 to {POOL_SIZE_MAX}"
            raise SettingsError(f"The store's URL says {name}={value}.", hint=f"It is {most}.")


def _port(host: str) -> str:
    """Return the port that stands after a host's name or address; an IPv6 one is in brackets."""
    return host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""


def spread(url: str) -> str:
    """Write a URL of a database as the driver takes it: several PostgreSQL servers as `?host=…&host=…`, and
    the schema to work in as an option of the connection. Raises SettingsError."""
    url = _in_schema(url)
    named = hosts(url)
    if len(named) < 2:  # one host is written as ever
        return url
    place, path, query = _parts(url)
    user, at, _ = place.rpartition("@")
    told = "&".join([*filter(None, [query]), *_each(named)])
    return f"{url.partition(':')[0]}://{user}{at}{path or '/'}?{told}"


def _in_schema(url: str) -> str:
    """Turn PostgreSQL's `?schema=…` into its `search_path`; other databases have none."""
    place, path, query = _parts(url)
    told = [part for part in query.split("&") if part]
    wanted = [part.partition("=")[2] for part in told if part.startswith("schema=")]
    if not wanted:
        return url
    scheme = url.partition(":")[0]
    if scheme != "postgresql":
        raise SettingsError(
            f"A {scheme}:// URL names no schema, and this one has ?schema=.",
            hint="Name the database that is to hold the tables, and leave ?schema= out.",
        )
    others = [part for part in told if not part.startswith("schema=")]
    if len(wanted) > 1 or any(part.startswith("options=") for part in others):
        raise SettingsError(
            "The store's URL says twice which schema to work in.",
            hint="Leave ?options= out, or ?schema=.",
        )
    if not SCHEMA.fullmatch(wanted[0]):
        raise SettingsError(
            f"The store's URL names the schema {wanted[0]!r}, which is no plain name.",
            hint="Use letters, digits, _ and -, 63 at most.",
        )
    option = f"options=-csearch_path%3D%22{wanted[0]}%22"
    return f"{scheme}://{place}{path}?{'&'.join([*others, option])}"


def _each(named: tuple[str, ...]) -> Iterator[str]:
    for host in named:
        yield f"host={host}" if _port(host) else f"host={host}:5432"
