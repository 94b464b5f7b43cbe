"""Does something stand between us and the server that lends its connections to others, too?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from sqlalchemy.pool import QueuePool

from sojourn.finding import Area, Check, Finding, ok
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor.source import Source
from sojourn.stores.sql.server import CONNECT_TIMEOUT

WHO_POSTGRES = "SELECT pg_backend_pid()"
WHO_MYSQL = "SELECT connection_id() + 0, version()"  # a proxy answers what it knows by heart itself
CONSOLE = "pgbouncer"
"""The database of that name is PgBouncer's own console, where it lets us in."""
LOOKS = 3
KNOWN = ("proxysql", "maxscale")
MEANS_POSTGRES = (
    "So nothing is set on a connection but within a transaction, and nothing is prepared.",
    "One statement alone has no time limit on the server; here it has one.",
)
MEANS_MYSQL = (
    "What we set on a connection is the proxy's to keep: ProxySQL does so for what it knows, and shares no"
    " connection on which it does not know what was set (mysql-set_query_lock_on_hostgroup = 1)."
)


class Line(Struct, frozen=True):
    """Who greeted us on a connection, and who answers on it now."""

    greeted: tuple[int, str]
    answers: tuple[int, str]
    lent: bool

    @property
    def other(self) -> bool:
        return self.greeted != self.answers


def checks(source: Source) -> Iterator[Check]:
    yield Check(
        id=source.id("store", "pooler"),
        area=Area.STORE,
        title="Does a pooler stand between us and the database?",
        looked_at="who greets us, and who answers",
        look=lambda: look(source.db()),
        quick=True,
        needs=(source.id("store", "reachable"),),
    )


def look(db: Database) -> Finding:
    if db.dialect.backend is Backend.SQLITE:
        return ok("Nothing stands between us and the file.")
    line = db.read(_line)
    if db.dialect.backend is Backend.MYSQL:
        if not line.other:
            return ok("Connections lead to the server itself.")
        name = next(
            (each for each in KNOWN if each in line.greeted[1].lower()), "one like ProxySQL"
        )
        return ok(
            "A proxy stands between us and the server.",
            f"it is {name}: it greets us as {line.greeted[1]}, the server is {line.answers[1]}",
            MEANS_MYSQL,
        )
    if not line.lent:
        return ok("Connections lead to the server itself.")
    if isinstance(db.engine.pool, QueuePool) and db.engine.pool.size() == 1:
        if not line.other:
            return ok("A proxy or a pooler stands between us and the server.", *MEANS_POSTGRES)
        return ok(
            "A pooler lends us connections of the server.", f"it is {_name(db)}", *MEANS_POSTGRES
        )
    lends = _lends(db)
    if not line.other and not lends:
        return ok("A proxy passes our connections on to the server.", *MEANS_POSTGRES)
    if lends:
        title = "A pooler lends us connections of the server, for one transaction at a time."
    else:
        title = "A pooler lends us connections of the server, each for as long as we keep it."
    return ok(title, f"it is {_name(db)}", *MEANS_POSTGRES)


def _line(tx: Tx) -> Line:
    raw: Any = tx.connection.connection.driver_connection
    if tx.dialect.backend is Backend.POSTGRES:
        pid = int(tx.rows(WHO_POSTGRES, {})[0][0])
        return Line((raw.info.backend_pid, ""), (pid, ""), tx.lent)
    number, version = tx.rows(WHO_MYSQL, {})[0]
    return Line((raw.thread_id(), raw.get_server_info()), (int(number), str(version)), tx.lent)


def _lends(db: Database) -> bool:
    """Tell whether another connection of ours, in a transaction, is given the server's that we had. It takes
    two: whose URL allows one (`?pool_size=1`) would wait for itself."""
    with db.writing() as ours, db.writing() as others:
        for _ in range(LOOKS):
            before = ours.rows(WHO_POSTGRES, {})
            with others.transaction(keep=False):
                # If it has ours, there may be no other to ask on.
                if others.rows(WHO_POSTGRES, {}) == before or ours.rows(WHO_POSTGRES, {}) != before:
                    return True
    return False


def _name(db: Database) -> str:
    """Ask for its name in PgBouncer's console, which may not be for us, or be nowhere."""
    import psycopg  # noqa: PLC0415  # an extra

    with contextlib.suppress(Exception), db.writing() as tx:
        raw: Any = tx.connection.connection.driver_connection
        url = tx.connection.engine.url
        told = {
            "host": raw.info.host,
            "port": raw.info.port,
            "user": url.username,
            "password": url.password,
            "dbname": CONSOLE,
            "connect_timeout": CONNECT_TIMEOUT,
        }
        with psycopg.connect(**told, autocommit=True, prepare_threshold=None) as console:
            [(version,)] = console.execute("SHOW VERSION").fetchall()
            return str(version)
    return "PgBouncer, or one that does as it does"
