"""One database: connections, transactions, retries; and no error of a driver's gets past it.

Connections are in autocommit, and a transaction is an explicit BEGIN … COMMIT, so that a verb which is
one statement is one round trip. Statements of a transaction are sent together where the driver can: see
piped.py. A transaction that loses a deadlock, or its connection before COMMIT was sent, has changed nothing,
and is run again.
"""

from __future__ import annotations

import contextlib
import operator
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace
from sqlalchemy import Connection, CursorResult, Engine, Executable

from sojourn.clock import Clock
from sojourn.errors import SojournError, StoreUnavailable
from sojourn.stores.sql import schema
from sojourn.stores.sql.dialect import Backend, Dialect
from sojourn.stores.sql.faults import SILENT, Fault, classify

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]
Params = Mapping[str, Any]

ATTEMPTS = 5
"""How often a transaction is tried that loses a deadlock or a race to insert the same row."""
TABLES_SQLITE = "SELECT name FROM sqlite_master WHERE type = 'table'"
COMMIT, ROLLBACK = "COMMIT", "ROLLBACK"
RETRY_WITHIN = 1.0  # seconds: a statement that took longer to fail is not worth another try


NOTHING: Params = {}
_fetch = operator.methodcaller("fetchall")
_rowcount = operator.attrgetter("rowcount")
_lastrowid = operator.attrgetter("lastrowid")


class Again(Exception):  # not an error: a request to start over
    """The transaction has seen a state that another has changed since: start over.

    Attributes:
        first: what is to be done before that.
    """

    def __init__(self, first: Callable[[Database], object] | None = None) -> None:
        super().__init__()
        self.first = first


class Tx:
    """A connection at work: statements in, rows out."""

    def __init__(self, connection: Connection, dialect: Dialect, clock: Clock) -> None:
        self._line = connection
        self.dialect = dialect
        self.committing = False  # until then, whatever fails has changed nothing
        self.asked_at = time.monotonic()
        """When the last statement was sent: what fails at once may be worth another try."""
        self._clock = clock

    @property
    def connection(self) -> Connection:
        """The connection itself, once all that was said on it is sent."""
        self.send()
        return self._line

    def send(self) -> None:
        """Send what may still wait to be sent along with others."""

    @property
    def instant(self) -> int | None:
        """The value of `:now`: None lets the database's own clock decide."""
        return self._clock.now()

    def rows(self, template: str, params: Params) -> Rows:
        """Run a statement that answers rows."""
        found: Rows = self._execute(template, params, _fetch)
        return found

    def do(self, template: str, params: Params = NOTHING) -> int:
        """Run a statement; return how many rows it matched."""
        matched: int = self._execute(template, params, _rowcount)
        return matched

    def later(self, template: str, params: Params = NOTHING) -> None:
        """Run a statement of which nothing need be known but that it failed: it may be sent with those that
        follow, and fail when they are sent, at the latest with COMMIT."""
        self.do(template, params)

    def later_rows(
        self, template: str, rows: list[dict[str, Any]], null: SojournError | None = None
    ) -> None:
        """Run a statement for each of many rows, likewise; `null` says what it means where a value is null
        that must not be, if `joins`."""
        del null
        self.many(template, rows)

    joins_rows = False
    """Whether such statements may be sent with others."""

    @property
    def joins(self) -> bool:
        """Whether statements wait for others by now."""
        return False

    def together(self, *asked: tuple[str, Params]) -> list[Rows]:
        """Run statements that answer rows, of which none depends on the answer of another."""
        return [self.rows(template, params) for template, params in asked]

    def locking(self, lock: str, params: Params, then: str, given: Params) -> tuple[Rows, Rows]:
        """Run a statement that takes locks, then one that is given now, as it is once they are held."""
        locked = self.rows(lock, params)
        return locked, self.rows(then, {**given, "now": self.instant})

    def last_insert_id(self, template: str, params: Params) -> int:
        """Run MySQL's UPDATE … SET column = LAST_INSERT_ID(…); 0 if it matched nothing."""
        return int(self._execute(template, params, _lastrowid) or 0)

    def _execute(self, template: str, params: Params, outcome: Callable[[Any], Any]) -> Any:
        """Run a statement on the driver's own cursor: SQLAlchemy's account of a result would cost more
        than the statement itself. Its account of a failure is what pools are renewed by, so it stays; and
        whoever listens to its events hears of every statement."""
        sql = self.dialect.render(template)
        if self._is_heard:
            self.asked_at = time.monotonic()
            return outcome(self._line.exec_driver_sql(sql, dict(params)))

        def execute(cursor: Any) -> Any:
            cursor.execute(sql, params)
            return outcome(cursor)

        return self._by_driver(execute)

    def _by_driver(self, work: Callable[[Any], Any]) -> Any:
        """Do something with a cursor of the driver's own."""
        self.asked_at = time.monotonic()
        cursor: Any = None
        try:
            cursor = self._line.connection.cursor()
            return work(cursor)
        except Exception as error:  # noqa: BLE001  # it is raised again, as SQLAlchemy's
            self._line._handle_dbapi_exception(error, None, None, cursor, None)  # noqa: SLF001  # see above
        finally:
            if cursor is not None:
                cursor.close()

    @property
    def _is_heard(self) -> bool:
        """Whether somebody listens to SQLAlchemy's events, and is to hear of every statement."""
        return bool(self._line.engine._has_events)  # noqa: SLF001  # there is no other way to ask

    def many(self, template: str, params: list[dict[str, Any]]) -> None:
        """Run a statement for each of many rows; of none, drivers would make one without values. PyMySQL
        sends an INSERT … VALUES as one statement."""
        if not params:
            return
        self.asked_at = time.monotonic()
        self.connection.exec_driver_sql(self.dialect.render(template), params)

    def core(self, statement: Executable, params: Any = None) -> CursorResult[*tuple[Any, ...]]:
        """Run a statement made of SQLAlchemy's parts."""
        self.asked_at = time.monotonic()
        return self.connection.execute(statement, params)

    def patiently(self, *, thinking: bool = False) -> None:
        """Let the statements that follow in this transaction take minutes: an operator's work. With
        `thinking`, more time may also go by between them."""

    @property
    def lent(self) -> bool:
        """Whether the connection may be another's next, so that nothing may be set on it for good."""
        return False

    def begin(self) -> None:
        """Begin a transaction."""
        self.connection.exec_driver_sql(self.dialect.begin)

    def finish(self, *, keep: bool) -> None:
        """End a transaction, and keep what it has done, or not."""
        self.connection.exec_driver_sql(COMMIT if keep else ROLLBACK)

    def undo(self) -> None:
        """End a transaction that has failed; a connection that cannot is thrown away, which undoes too."""
        _roll_back(self._line)

    @contextlib.contextmanager
    def transaction(self, *, keep: bool = True) -> Iterator[None]:
        """Begin, and in the end commit; undo everything after a failure, or if it is not to be kept."""
        try:
            self.begin()
            yield
            self.committing = keep
            self.finish(keep=keep)
        except BaseException:
            self.undo()
            raise

    def now(self) -> int:
        """Read the clock that decides."""
        now = int(self.rows("SELECT {now}", {"now": self.instant})[0][0])
        self.judge(now)
        return now

    def judged(self, rows: Rows) -> Rows:
        """Return rows that begin with now, once it is judged. Where none came, all may have been left out
        by that same now: so it is asked for. Raises `Again`, as `judge` does."""
        if rows:
            self.judge(int(rows[0][0]))
        else:
            self.doubted()
        return rows

    def trusted(self, template: str, params: Params) -> Rows:
        """Run a statement whose rows begin with now, and which leaves nothing out by it. Raises `Again`, as
        `judge` does."""
        rows = self.rows(template, {**params, "now": self.instant})
        if rows:
            self.judge(int(rows[0][0]))
        return rows

    def doubted(self) -> None:
        """Judge now where something was left out by it. Raises `Again`, as `judge` does."""

    def judge(self, now: int, pulse: int | None = None) -> None:
        """Raise `Again` where, by `now`, somebody has set the clock. `pulse` is the last, where that is
        known."""


class TableNews(Protocol):
    """Who is told what statements meet; see `table_watch.py`."""

    def found_missing(self) -> None: ...

    def found_well(self) -> None: ...


class Database(ABC):
    """What the verbs need of a database; see `server.py` and `file.py`."""

    dialect: Dialect
    engine: Engine
    clock: Clock
    private = False
    """The database is private to this process and ends with it."""
    parallel = 1
    """See `Store.parallel`."""
    watch: TableNews | None = None
    """Who is told of missing tables."""

    @abstractmethod
    def writing(self) -> contextlib.AbstractContextManager[Tx]:
        """Hand out a connection that may write."""

    def reading(self) -> contextlib.AbstractContextManager[Tx]:
        """Hand out a connection for statements that only read."""
        return self.writing()

    @abstractmethod
    def look_at_clock(self) -> None:
        """See, with every pulse, whether somebody has set the clock."""

    @abstractmethod
    def close(self) -> None: ...

    def transaction(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction. It may be run several times: it keeps nothing of its own."""

        def run(tx: Tx) -> T:
            with tx.transaction():
                return work(tx)

        return self._attempt(self.writing, run)

    def rehearse(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction that is undone."""

        def run(tx: Tx) -> T:
            with tx.transaction(keep=False):
                return work(tx)

        return self._attempt(self.writing, run)

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, each statement of which commits by itself and may be repeated."""
        return self._attempt(self.writing, work)

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which only reads."""
        return self._attempt(self.reading, work)

    def _attempt(
        self,
        connection: Callable[[], contextlib.AbstractContextManager[Tx]],
        work: Callable[[Tx], T],
    ) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            committing, asked_at = False, time.monotonic()
            try:
                with connection() as tx:
                    try:
                        done = work(tx)
                    finally:
                        committing, asked_at = tx.committing, tx.asked_at
            except Again as over:
                if attempt == ATTEMPTS:
                    raise StoreUnavailable("The database is overloaded.") from None
                if over.first is not None:
                    over.first(self)
            except Exception as error:
                fault = classify(error)
                if fault is None:
                    raise
                at_once = time.monotonic() - asked_at < RETRY_WITHIN
                undone = not committing or fault.code == SILENT
                lost = fault.disconnected and attempt == 1 and at_once and undone
                again = fault.kind == "retry" or lost or self.relieved(fault)
                if attempt == ATTEMPTS or not again:
                    fault = self._judged(fault)
                    if fault.kind == "missing" and self.watch is not None:
                        self.watch.found_missing()
                    raise fault.error() from error
            else:
                if self.watch is not None:
                    self.watch.found_well()
                return done
            time.sleep(random.uniform(0, 0.005 * attempt))  # noqa: S311  # to part two that collided
        raise AssertionError("unreachable")

    def relieved(self, fault: Fault) -> bool:
        """Do something about what has failed; tell whether it may succeed now."""
        del fault
        return False

    def explained(self, fault: Fault) -> Fault:
        """Add what is known of a fault beyond its code."""
        return fault

    def _judged(self, fault: Fault) -> Fault:
        """Find out what SQLite's one code for all such errors does not tell: is a table missing?"""
        fault = self.explained(fault)
        if fault.kind != "broken" or self.dialect.backend is not Backend.SQLITE:
            return fault
        with contextlib.suppress(Exception), self.reading() as tx:
            there = {row[0] for row in tx.rows(TABLES_SQLITE, {})}
            if not schema.metadata.tables.keys() <= there:
                return replace(fault, kind="missing")
        return fault


def _roll_back(connection: Connection) -> None:
    """Undo; a connection that cannot is thrown away, which undoes too."""
    if connection.closed or connection.invalidated:
        return
    try:
        if not getattr(connection.connection.driver_connection, "in_transaction", True):
            return  # SQLite has done so itself, for want of room
        connection.exec_driver_sql(ROLLBACK)
    except Exception:  # noqa: BLE001  # whatever it was, the first error is the one to tell
        with contextlib.suppress(Exception):
            connection.invalidate()


@contextlib.contextmanager
def translated(db: Database | None = None) -> Iterator[None]:
    """Turn what a driver raises into a store's fault; `db` may know more of it than its code."""
    try:
        yield
    except Exception as error:
        fault = classify(error)
        if fault is None:
            raise
        fault = fault if db is None else db.explained(fault)
        raise fault.error() from error


class Verbs:
    """The base of each noun's verbs. The store inherits all of them."""

    _db: Database
    _max_pause: int
    _ips_in_events: bool
