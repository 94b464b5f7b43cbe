"""Connections that may be another's next.

A pooler (PgBouncer in transaction mode, and the pooled URLs of hosting providers) lends a connection of the
server for one transaction at a time. What is set or prepared on it stays there for whoever gets it next, and
is not there for us. So a connection is our own only where it surely leads to the server itself: where the
process that answers is the one that greeted us, and sees our own end of the line. That is told in the
statement that sets what our own connections have. On others nothing is set but within a transaction, and
nothing is prepared. See docs/adr/0033.

Proxies of MariaDB and MySQL follow what is set on a session, as far as they know it. We rely on the
isolation: where who answers is not who greeted us, each transaction looks whether it is still ours.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any

from sojourn.errors import SettingsError, StoreBroken

# OFFSET 0: looked at once, before anything is set.
SETTLE = """
SELECT own, {names} FROM (SELECT pg_backend_pid() = %(own_pid)s::int
    AND inet_client_port() IS NOT DISTINCT FROM %(own_port)s::int AS own OFFSET 0) AS c
"""
PREPARE_AFTER = 5
"""So often a statement is sent before our own connection prepares it; psycopg's own default."""
PATH = re.compile(r"-c\s*search_path=(\S+)")
UNKNOWN = -1  # a port that no connection has

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
SESSION_ONLY = ("default_transaction_isolation", "tcp_")
"""Settings, by how they begin, that mean nothing in a transaction."""


WHO_MYSQL = "SELECT connection_id() + 0"  # a proxy answers what it knows by heart itself
GREETED = 0xFFFFFFFF  # the bits of a connection's number that its greeting has room for
ISOLATE_MYSQL = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
IN_FORCE_MARIADB = "SELECT concat(@@tx_isolation)"
IN_FORCE_MYSQL = "SELECT concat(@@transaction_isolation)"
ISOLATED = "READ-COMMITTED"


def settle(connection: Any, settings: Mapping[str, str], *, prepare_after: int | None) -> bool:
    """Find out whether a new connection of psycopg's is our own, and only then set it up.

    `prepare_after` is how often a statement is sent before it is prepared, where the store's URL says so:
    also on connections that are not our own.
    """
    connection.autocommit = True
    connection.prepare_threshold = None
    names = ", ".join(
        f"CASE WHEN own THEN set_config('{name}', %({name})s, false) END" for name in settings
    )  # they are constants of ours
    told = {"own_pid": connection.pgconn.backend_pid, "own_port": _port(connection.pgconn.socket)}
    query = SETTLE.replace("{names}", names)
    own = bool(connection.execute(query, {**told, **settings}).fetchone()[0])
    if prepare_after is not None:
        # What begins a lent transaction is of several statements, which cannot be prepared at once.
        connection.prepare_threshold = prepare_after if own else max(1, prepare_after)
    elif own:
        connection.prepare_threshold = PREPARE_AFTER
    return own


def begin(settings: Mapping[str, str]) -> str:
    """Return what begins a transaction on a connection that is not our own, with our settings until its
    end. One message of several statements."""
    local = [f"SET LOCAL {name} = '{value}'" for name, value in _local(settings)]
    return "; ".join([BEGIN, *local])


def set_locally(settings: Mapping[str, str]) -> str:
    """Return the same settings as one statement, to be sent after BEGIN."""
    return "SELECT " + ", ".join(
        f"set_config('{name}', '{value}', true)" for name, value in _local(settings)
    )


def _local(settings: Mapping[str, str]) -> list[tuple[str, str]]:
    return [each for each in settings.items() if not each[0].startswith(SESSION_ONLY)]


def is_own_mysql(connection: Any) -> bool:
    """Tell whether a new connection of PyMySQL's surely leads to the server itself: it answers who greeted
    us."""
    with connection.cursor() as cursor:
        cursor.execute(WHO_MYSQL)
        own: bool = int(cursor.fetchone()[0]) & GREETED == connection.thread_id()
        return own


def begin_mysql(say: Callable[[str], Any], begin: str, *, mariadb: bool) -> None:
    """Begin a transaction on a connection that is not our own, isolated as ours are. Raise StoreBroken where
    that cannot be: transactions that see what was before they had their locks would sell a seat twice."""
    in_force = IN_FORCE_MARIADB if mariadb else IN_FORCE_MYSQL
    for last in (False, True):
        say(begin)
        if say(in_force).scalar() == ISOLATED:
            return
        say("ROLLBACK")
        if not last:
            say(ISOLATE_MYSQL)
    raise StoreBroken(
        "What stands between us and the database does not keep the isolation that we set.",
        hint="Have the proxy keep what is set on a session (ProxySQL: mysql-set_query_lock_on_hostgroup = 1),"
        " set transaction_isolation = READ-COMMITTED at the server, or name the server itself in the URL.",
    )


def _port(descriptor: int) -> int | None:
    """Return the port of our end of a connection; None where it has none, as on a Unix socket."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as line:
            if line.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            port: int = line.getsockname()[1]
            return port
    except OSError:
        return UNKNOWN


def keep_schema(connection: Any, options: str) -> None:
    """Raise SettingsError where the schema that the store's URL names is not the one that a connection which
    is not our own works in: a pooler may drop what it does not know, and tables would be made elsewhere."""
    wanted = PATH.search(options)
    if wanted is None:
        return
    there = connection.execute("SELECT current_setting('search_path')").fetchone()[0]
    if str(there).strip('"') != wanted[1].strip('"'):
        raise _no_options()


def connect(make: Callable[..., Any], args: Any, params: dict[str, Any]) -> Any:
    """Make a connection; raise SettingsError where a pooler takes no options of one, and the store's URL has
    some. PgBouncer says so in words only, so it is asked without, and then once more with them: what failed
    may have passed meanwhile. Not if the server itself has answered, or nobody has in time."""
    try:
        return make(*args, **params)
    except Exception as error:
        if "options" not in params or _is_told(error):
            raise
        bare = {name: value for name, value in params.items() if name != "options"}
        taken = False
        with contextlib.suppress(
            Exception
        ):  # not for the options: the first error is the one to tell
            make(*args, **bare).close()
            taken = True
        if not taken:
            raise
    try:
        return make(*args, **params)
    except Exception as error:
        if _is_told(error):
            raise
        raise _no_options() from None


def _is_told(error: Exception) -> bool:
    """Tell whether an error has a cause that is known, which is none of a pooler's."""
    from psycopg.errors import ConnectionTimeout  # noqa: PLC0415  # psycopg: an extra

    return isinstance(error, ConnectionTimeout) or getattr(error, "sqlstate", None) is not None


def _no_options() -> SettingsError:
    return SettingsError(
        "The store's URL asks for a schema, or has other options, and the pooler between us and PostgreSQL"
        " does not pass them on.",
        hint="Let the role work in that schema (ALTER ROLE … SET search_path = …), and leave ?schema= and"
        " ?options= out; or name PostgreSQL itself in the URL.",
    )
