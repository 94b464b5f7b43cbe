"""A database server: PostgreSQL by psycopg 3, MariaDB or MySQL by PyMySQL.

A server that has died, or froze, or went behind a cut cable, answers StoreUnavailable within seconds:
connecting, waiting for a lock, a statement and a reply each have an end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Engine, create_engine, event

from sojourn.clock import Clock
from sojourn.errors import StoreUnavailable
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.dialect import MYSQL, POSTGRES, Backend

CONNECT_TIMEOUT = 4  # seconds
LOCK_TIMEOUT = 4
STATEMENT_TIMEOUT = 5
REPLY_TIMEOUT = 6  # a server that froze cannot end its own statements
LONG_TIMEOUT = 600  # for the work of an operator: migrating, giving grace to a million leases
PATIENCE = """
SELECT set_config('statement_timeout', :timeout, true), set_config('lock_timeout', :timeout, true)
"""
ANSWER_MAX = (
    16_777_216  # bytes of a row of JSON, which MariaDB would cut where an operator set less
)
POOL_SIZE = 8
POOL_OVERFLOW = 8
POOL_TIMEOUT = 10


class ServerTx(Tx):
    """A connection of which the next borrower expects the usual timeouts."""

    _patient = False

    def patiently(self) -> None:
        self._patient = True
        raw: Any = self.connection.connection.driver_connection
        if self.dialect.backend is Backend.POSTGRES:
            raw.reply_timeout = LONG_TIMEOUT
            self.rows(PATIENCE, {"timeout": f"{LONG_TIMEOUT}s"})
        else:
            raw._read_timeout = LONG_TIMEOUT  # noqa: SLF001  # PyMySQL sets it once and has no setter

    def give_back(self) -> None:
        """Restore the timeouts; those of the server's end with the transaction."""
        if self._patient and not self.connection.invalidated:
            raw: Any = self.connection.connection.driver_connection
            if self.dialect.backend is Backend.POSTGRES:
                raw.reply_timeout = REPLY_TIMEOUT
            else:
                raw._read_timeout = REPLY_TIMEOUT  # noqa: SLF001  # as above


class ServerDatabase(Database):
    """A pool of connections to a server."""

    def __init__(self, url: URL, *, clock: Clock, durable: bool) -> None:
        self.clock = clock
        postgres = url.get_backend_name() == "postgresql"
        self.dialect = POSTGRES if postgres else MYSQL
        # Commits of several connections share one flush of the log; PyMySQL, written in Python, gains
        # more by a larger batch than by a third.
        self.parallel = 3 if postgres else 2
        make = _postgres_engine if postgres else _mysql_engine
        self.engine = make(url, durable=durable)
        self._closed = False
        _open_servers.add(self)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Tx]:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        with self.engine.connect() as connection:
            tx = ServerTx(connection, self.dialect, self.clock)
            try:
                yield tx
            finally:
                tx.give_back()

    def close(self) -> None:
        self._closed = True
        self.engine.dispose()

    def forked(self) -> None:
        """Leave the parent's connections to the parent."""
        self.engine.dispose(close=False)


def _engine(url: URL, connect_args: dict[str, Any], **options: Any) -> Engine:
    return create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,  # transactions are explicit, and always ended by who began them
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_TIMEOUT,
        pool_use_lifo=True,
        connect_args=connect_args,
        hide_parameters=True,  # no token hash, no person's data in an error's text
        **options,
    )


def _postgres_engine(url: URL, *, durable: bool) -> Engine:
    from sojourn.stores.sql.patience import ImpatientConnection  # noqa: PLC0415  # psycopg: an extra

    alive = {
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "tcp_user_timeout": REPLY_TIMEOUT * 1_000,
        "application_name": "sojourn",
    }
    given = {name: value for name, value in alive.items() if name not in url.query}
    engine = _engine(url.set(drivername="postgresql+psycopg"), given, use_native_hstore=False)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, params: Any) -> ImpatientConnection:
        connection = ImpatientConnection.connect(*args, **params)
        connection.reply_timeout = REPLY_TIMEOUT
        return connection

    settings = {
        "default_transaction_isolation": "read committed",
        "statement_timeout": f"{STATEMENT_TIMEOUT}s",
        "lock_timeout": f"{LOCK_TIMEOUT}s",
        "idle_in_transaction_session_timeout": f"{REPLY_TIMEOUT}s",
        "standard_conforming_strings": "on",
        # Every look-up has its index. A plan made while a table was small must not outlive that.
        "enable_seqscan": "off",
        "jit": "off",
    } | ({} if durable else {"synchronous_commit": "off"})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        names = ", ".join(f"set_config('{name}', %({name})s, false)" for name in settings)
        connection.autocommit = True
        connection.execute(f"SELECT {names}", settings)  # names are the constants above

    return engine


def _mysql_engine(url: URL, *, durable: bool) -> Engine:
    from sojourn.stores.sql.quick import QuickConnection  # noqa: PLC0415  # PyMySQL: an extra

    del durable  # InnoDB's durability is the server's setting; `check` reads it
    given = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": REPLY_TIMEOUT,
        "write_timeout": REPLY_TIMEOUT,
        "charset": "utf8mb4",
        "autocommit": True,
    }
    given = {name: value for name, value in given.items() if name not in url.query}
    engine = _engine(url.set(drivername="mysql+pymysql"), given)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, params: Any) -> QuickConnection:
        return QuickConnection(*args, **params)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
                f" innodb_lock_wait_timeout = {LOCK_TIMEOUT:d}, group_concat_max_len = {ANSWER_MAX:d}"
            )
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    return engine


_open_servers: WeakSet[ServerDatabase] = WeakSet()


def _forked() -> None:
    for database in list(_open_servers):
        database.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
