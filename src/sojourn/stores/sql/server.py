"""A database server: PostgreSQL by psycopg 3, MariaDB or MySQL by PyMySQL.

A server that has died, or froze, or went behind a cut cable, answers StoreUnavailable within seconds:
connecting, waiting for a lock, a statement and a reply each have an end. And where we freeze, or are cut
off, in the middle of a transaction, the server ends it, before others tire of waiting for our locks: see
docs/adr/0020.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, exc

from sojourn.address import POOL_SIZE as SIZE_ASKED
from sojourn.address import PREPARE
from sojourn.clock import Clock
from sojourn.errors import SettingsError, StoreUnavailable
from sojourn.stores.sql import lent
from sojourn.stores.sql.database import Again, Database, Tx
from sojourn.stores.sql.dialect import MYSQL, MYSQL_UNFORCED, POSTGRES, Backend, Dialect
from sojourn.stores.sql.faults import NO_INDEX, OVER, READ_ONLY, Fault, of_driver
from sojourn.stores.sql.piped import LENT_SET, MysqlPiped, PostgresPiped
from sojourn.stores.sql.steady import SteadyClock

CONNECT_TIMEOUT = 4  # seconds
LOCK_TIMEOUT = 4
STATEMENT_TIMEOUT = 5
REPLY_TIMEOUT = 6  # a server that froze cannot end its own statements
SILENT_MAX = 1
"""How long a transaction of ours may keep its locks without saying anything. A server that froze may have
a few transactions waiting for one lock, each of which is silent for so long; together they take less than
the others wait."""
THINKING_MAX = 10
"""The same for what an operator does at times, and works out in between: migrations and repairs."""
UNHEARD_MAX = 2  # a host that does not acknowledge what the server sends is gone
LONG_TIMEOUT = 600  # for the work of an operator: migrating, giving grace to a million leases
PATIENCE = """
SELECT set_config('statement_timeout', :timeout, true), set_config('lock_timeout', :timeout, true),
       set_config('idle_in_transaction_session_timeout', :silent, true)
"""
ANSWER_MAX = (
    16_777_216  # bytes of a row of JSON, which MariaDB would cut where an operator set less
)
OWN = "sojourn.own"  # of what is known of a connection: whether it is surely our own
LENT_BEGIN = "sojourn.begin"  # likewise: what begins a transaction where it is not
APPLICATION = "sojourn/6"
"""What PostgreSQL is told that we are; before version 0006 of the schema, `sojourn`: see `names.facts`."""
UNFORCED_FOR = 60.0
"""Seconds until indexes are named again, after the database did not know one."""
POOL_SIZE = 8
POOL_OVERFLOW = 8
POOL_TIMEOUT = 10


class ServerTx(Tx):
    """A connection of which the next borrower expects the usual timeouts."""

    _patient = False
    _thinking = False

    def __init__(
        self, connection: Connection, dialect: Dialect, clock: Clock, steady: SteadyClock
    ) -> None:
        super().__init__(connection, dialect, clock)
        self._steady = steady
        self._shift: int | None = None

    @property
    def lent(self) -> bool:
        """Whether the connection may be another's next: see lent.py."""
        return not self._line.info.get(OWN, True)

    def begin(self) -> None:
        if self.lent and self.dialect.backend is Backend.MYSQL:
            mariadb = bool(getattr(self.connection.dialect, "is_mariadb", False))
            lent.begin_mysql(self.connection.exec_driver_sql, self.dialect.begin, mariadb=mariadb)
        elif self.lent:
            told = self.connection.info[LENT_BEGIN]
            self.connection.exec_driver_sql(told, execution_options={"no_parameters": True})
        else:
            super().begin()

    @property
    def instant(self) -> int | None:
        """The value of `:now`: None lets the server's own clock decide. Raises `Again` where somebody has
        found the clock set since the first of these statements: they would go by two times."""
        now = self._clock.now()
        if now is not None:
            return now
        told, shift = self._steady.told
        if self._shift is None:
            self._shift = shift
        elif self._shift != shift:
            raise Again
        return told

    def judge(self, now: int, pulse: int | None = None) -> None:
        if self._clock.now() is None:
            waited = round((time.monotonic() - self.asked_at) * 1_000)
            self._steady.judge(now, pulse, waited)

    def doubted(self) -> None:
        self.now()

    def patiently(self, *, thinking: bool = False) -> None:
        self._patient = True
        raw: Any = self.connection.connection.driver_connection
        if self.dialect.backend is Backend.POSTGRES:
            raw.reply_timeout = LONG_TIMEOUT
            silent = THINKING_MAX if thinking else SILENT_MAX
            self.rows(PATIENCE, {"timeout": f"{LONG_TIMEOUT}s", "silent": f"{silent}s"})
        else:
            raw._read_timeout = LONG_TIMEOUT  # noqa: SLF001  # PyMySQL sets it once and has no setter
            self._thinking = thinking
            if thinking:
                raw.end_when_silent(THINKING_MAX, always=True)

    def give_back(self) -> None:
        """Restore the timeouts; those of the server's end with the transaction."""
        if self._patient and not self._line.invalidated:
            raw: Any = self._line.connection.driver_connection
            if self.dialect.backend is Backend.POSTGRES:
                raw.reply_timeout = REPLY_TIMEOUT
            else:
                raw._read_timeout = REPLY_TIMEOUT  # noqa: SLF001  # as above
                if self._thinking:
                    self._expect_speech(raw)

    def _expect_speech(self, raw: Any) -> None:
        try:
            raw.end_when_silent(SILENT_MAX)
        except Exception:  # noqa: BLE001  # it is lost: whoever used it has been told
            self.connection.invalidate()


class PostgresTx(PostgresPiped, ServerTx):
    """One of PostgreSQL that sends statements together."""


class MysqlTx(MysqlPiped, ServerTx):
    """One of MariaDB or MySQL that does."""


class ServerDatabase(Database):
    """A pool of connections to a server. In a database of somebody else's, without our table of
    marks (`marked`), time is what its clock says."""

    def __init__(self, url: URL, *, clock: Clock, durable: bool, marked: bool = True) -> None:
        self.clock = clock
        self._marked = marked
        postgres = url.get_backend_name() == "postgresql"
        self.dialect = POSTGRES if postgres else MYSQL
        # Commits of several connections share one flush of the log; PyMySQL, written in Python, gains
        # more by a larger batch than by a third.
        self.parallel = 3 if postgres else 2
        make = _postgres_engine if postgres else _mysql_engine
        self.engine = make(url, durable=durable)
        self._made = _piped() if postgres else MysqlTx
        self.steady = SteadyClock()
        self._forced_again = 0.0
        self._closed = False
        _open_servers.add(self)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Tx]:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        if self.dialect is MYSQL_UNFORCED and time.monotonic() >= self._forced_again:
            self.dialect = MYSQL
        with self.engine.connect() as connection:
            tx = self._made(connection, self.dialect, self.clock, self.steady)
            try:
                if self._marked and self.steady.due and self.clock.now() is None:
                    self.steady.look(tx)
                yield tx
            finally:
                tx.give_back()

    def look_at_clock(self) -> None:
        self.steady.doubt()

    def relieved(self, fault: Fault) -> bool:
        """Where an index that a statement names is not known, name none: slower, and right all the same."""
        if fault.code != NO_INDEX or self.dialect.backend is not Backend.MYSQL:
            return False
        self._forced_again = time.monotonic() + UNFORCED_FOR
        self.dialect = MYSQL_UNFORCED
        return True

    def close(self) -> None:
        self._closed = True
        self.engine.dispose()

    def forked(self) -> None:
        """Leave the parent's connections to the parent."""
        self.engine.dispose(close=False)


def _engine(url: URL, connect_args: dict[str, Any], **options: Any) -> Engine:
    asked = url.query.get(SIZE_ASKED)  # then it is the most there are
    engine = create_engine(
        url.difference_update_query([SIZE_ASKED]),
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_reset_on_return=None,  # transactions are explicit, and always ended by who began them
        pool_size=POOL_SIZE if asked is None else int(str(asked)),
        max_overflow=POOL_OVERFLOW if asked is None else 0,
        pool_timeout=POOL_TIMEOUT,
        pool_use_lifo=True,
        connect_args=connect_args,
        hide_parameters=True,  # no token hash, no person's data in an error's text
        **options,
    )

    @event.listens_for(engine, "handle_error")
    def leave(context: ExceptionContext) -> None:
        """Take new connections where the server only reads, or ends ours: its name may lead to another by
        now."""
        fault = of_driver(context.original_exception)
        context.is_disconnect |= fault.code in READ_ONLY | OVER

    return engine


def _piped() -> type[ServerTx]:
    """Return what sends statements together, where libpq does (since 14)."""
    from psycopg import Pipeline  # noqa: PLC0415  # psycopg: an extra

    return PostgresTx if Pipeline.is_supported() else ServerTx


def _postgres_engine(url: URL, *, durable: bool) -> Engine:
    from sojourn.stores.sql.pipeline import PipelineConnection  # noqa: PLC0415  # psycopg: an extra

    alive = {
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "tcp_user_timeout": REPLY_TIMEOUT * 1_000,
        "application_name": APPLICATION,
    }
    given = {name: value for name, value in alive.items() if name not in url.query}
    told = url.query.get(PREPARE)
    prepare_after = None if told is None else int(str(told))
    bare = url.set(drivername="postgresql+psycopg").difference_update_query([PREPARE])
    engine = _engine(bare, given, use_native_hstore=False)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, params: Any) -> PipelineConnection:
        connection: PipelineConnection = lent.connect(PipelineConnection.connect, args, params)
        connection.reply_timeout = REPLY_TIMEOUT
        return connection

    settings = {
        "default_transaction_isolation": "read committed",
        "statement_timeout": f"{STATEMENT_TIMEOUT}s",
        "lock_timeout": f"{LOCK_TIMEOUT}s",
        "idle_in_transaction_session_timeout": f"{SILENT_MAX}s",
        "tcp_user_timeout": f"{UNHEARD_MAX}s",
        "tcp_keepalives_idle": f"{UNHEARD_MAX}",
        "tcp_keepalives_interval": "1",
        "tcp_keepalives_count": f"{UNHEARD_MAX}",
        "standard_conforming_strings": "on",
        # Every look-up has its index. A plan made while a table was small must not outlive that.
        "enable_seqscan": "off",
        "jit": "off",
    } | ({} if durable else {"synchronous_commit": "off"})

    begin, set_locally = lent.begin(settings), lent.set_locally(settings)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        record.info[OWN] = lent.settle(connection, settings, prepare_after=prepare_after)
        record.info[LENT_BEGIN] = begin
        record.info[LENT_SET] = set_locally
        if not record.info[OWN]:
            lent.keep_schema(connection, str(url.query.get("options", "")))

    return engine


def _mysql_engine(url: URL, *, durable: bool) -> Engine:
    from sojourn.stores.sql.quick import CLIENT_FLAGS, QuickConnection  # noqa: PLC0415  # PyMySQL: an extra

    del durable  # InnoDB's durability is the server's setting; `check` reads it
    given = {
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": REPLY_TIMEOUT,
        "write_timeout": REPLY_TIMEOUT,
        "charset": "utf8mb4",
        "autocommit": True,
        "client_flag": CLIENT_FLAGS,
    }
    given = {name: value for name, value in given.items() if name not in url.query}
    engine = _engine(url.set(drivername="mysql+pymysql"), given)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, args: Any, params: Any) -> QuickConnection:
        try:
            return QuickConnection(*args, **params)
        except (
            OSError
        ) as error:  # of a file: what a server or the network does is the driver's error
            raise SettingsError(
                "A file that the store's URL names cannot be read: ssl_ca, ssl_cert or ssl_key.",
                hint=str(error),
            ) from None

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        record.info[OWN] = lent.is_own_mysql(connection)
        with connection.cursor() as cursor:
            cursor.execute(
                "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"
                f" innodb_lock_wait_timeout = {LOCK_TIMEOUT:d}, group_concat_max_len = {ANSWER_MAX:d},"
                f" net_read_timeout = {UNHEARD_MAX:d}, net_write_timeout = {UNHEARD_MAX:d}"
            )
            cursor.execute(lent.ISOLATE_MYSQL)
        connection.end_when_silent(SILENT_MAX)

    @event.listens_for(engine, "checkout")
    def look(connection: Any, _record: Any, _fairy: Any) -> None:
        """Take another connection if the server has hung up on this one while nobody used it."""
        if connection.was_cut():
            raise exc.DisconnectionError

    return engine


_open_servers: WeakSet[ServerDatabase] = WeakSet()


def _forked() -> None:
    for database in list(_open_servers):
        database.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
