"""Connections to PostgreSQL that may be another's next.

A pooler (PgBouncer in transaction mode, and the pooled URLs of hosting providers) lends a connection of the
server for one transaction at a time. What is set or prepared on it stays there for whoever gets it next, and
is not there for us. So a connection is our own only where it surely leads to the server itself: where the
process that answers is the one that greeted us, and sees our own end of the line. That is told in the
statement that sets what our own connections have. On others nothing is set but within a transaction, and
nothing is prepared. See docs/adr/0033.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

# OFFSET 0: looked at once, before anything is set.
SETTLE = """
SELECT own, {names} FROM (SELECT pg_backend_pid() = %(own_pid)s::int
    AND inet_client_port() IS NOT DISTINCT FROM %(own_port)s::int AS own OFFSET 0) AS c
"""
PREPARE_AFTER = 5
"""So often a statement is sent before our own connection prepares it; psycopg's own default."""
UNKNOWN = -1  # a port that no connection has

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
SESSION_ONLY = ("default_transaction_isolation", "tcp_")
"""Settings, by how they begin, that mean nothing in a transaction."""


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
        connection.prepare_threshold = prepare_after
    elif own:
        connection.prepare_threshold = PREPARE_AFTER
    return own


def begin(settings: Mapping[str, str]) -> str:
    """Return what begins a transaction on a connection that is not our own, with our settings until its
    end. One message of several statements."""
    local = [
        f"SET LOCAL {name} = '{value}'"
        for name, value in settings.items()
        if not name.startswith(SESSION_ONLY)
    ]
    return "; ".join([BEGIN, *local])


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
