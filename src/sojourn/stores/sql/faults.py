"""What a driver's error means, by its code and never by its words.

Whatever is not known to pass by itself is `StoreBroken`: trying again would only hide it.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from sqlalchemy import exc

from sojourn.errors import (
    Conflict,
    InvalidInput,
    SojournError,
    StoreBroken,
    StoreUnavailable,
    TableMissing,
)

MIGRATE = "Run `sojourn migrate`; if it persists, `sojourn doctor` says what is missing."
PERMIT = "Check the user, the password, the database's name and the permissions in the store's URL."

# PostgreSQL: SQLSTATE, by the longest prefix that is listed.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
POSTGRES = {
    "08": "unavailable",  # connection exceptions
    "22": "invalid",  # a value too long, or one that no text can hold
    "23505": "duplicate",
    "25006": "unavailable",  # read-only: a standby, or a primary being replaced
    "25P03": "unavailable",  # we were silent in a transaction: see server.py
    "25P04": "unavailable",  # an operator's transaction_timeout
    "28": "denied",
    "3D": "denied",  # no such database
    "42P01": "missing",
    "40": "retry",  # serialization failure, deadlock
    "42501": "denied",
    "53": "unavailable",  # disk full, too many connections, out of memory
    "54": "invalid",  # too long for an index
    "55P03": "unavailable",  # lock_timeout
    "57": "unavailable",  # statement_timeout, shutting down, starting up
    "58": "unavailable",  # input/output errors of the server's system
}
NULL = "23502"
NUMBERED = ("sojourn_events", "id")
"""What is null where there is no row to take the next number of an event from."""
SILENT = "SQLSTATE 25P03"
"""The server has ended a transaction of ours, and us with it, before it heard of a COMMIT."""
# MySQL and MariaDB: error numbers. https://mariadb.com/kb/en/mariadb-error-codes/
MYSQL = {
    0: "unavailable",  # PyMySQL: the connection is closed
    1020: "retry",  # MariaDB: the row has changed since it was read
    1021: "unavailable",  # disk full
    1040: "unavailable",  # too many connections
    1041: "unavailable",  # out of memory
    1044: "denied",
    1045: "denied",
    1048: "duplicate",  # see acquires.py: an id that is another holder's
    1049: "denied",  # no such database
    1053: "unavailable",  # shutting down
    1062: "duplicate",
    1105: "unavailable",
    1114: "unavailable",  # table full
    1142: "denied",
    1146: "missing",
    1158: "unavailable",  # network errors
    1159: "unavailable",
    1160: "unavailable",
    1161: "unavailable",
    1180: "unavailable",  # error during commit
    1203: "unavailable",  # too many connections of this user
    1205: "unavailable",  # lock wait timeout
    1213: "retry",  # deadlock
    1226: "unavailable",  # a limit of the user's
    1264: "invalid",  # out of range
    1290: "unavailable",  # --read-only: a replica
    1317: "unavailable",  # interrupted
    1366: "invalid",  # text the column cannot hold
    1406: "invalid",  # too long
    1614: "retry",
    1698: "denied",
    1792: "unavailable",  # read-only transaction
    1836: "unavailable",  # read-only mode
    1927: "unavailable",  # connection was killed
    1969: "unavailable",  # max_statement_time
    2002: "unavailable",
    2003: "unavailable",
    2006: "unavailable",
    2013: "unavailable",
    2014: "unavailable",  # packets out of order: the connection is unusable
    2055: "unavailable",
    3024: "unavailable",  # max_execution_time
    3572: "unavailable",  # NOWAIT
    3819: "invalid",
    4031: "unavailable",  # MySQL: ended for being silent
}
# SQLite: primary result codes. https://sqlite.org/rescode.html
SQLITE = {
    5: "unavailable",  # BUSY
    6: "unavailable",  # LOCKED
    7: "unavailable",  # NOMEM
    9: "unavailable",  # INTERRUPT
    10: "unavailable",  # IOERR
    13: "unavailable",  # FULL
    15: "unavailable",  # PROTOCOL: too many starting at once
    18: "invalid",  # TOOBIG
    20: "invalid",  # MISMATCH
}
SQLITE_DENIED = {3, 8, 14, 23}  # PERM, READONLY, CANTOPEN, AUTH
SQLITE_DUPLICATE = {1555, 2067, 2579}  # CONSTRAINT: PRIMARYKEY, UNIQUE, ROWID


NO_INDEX = "error 1176"
"""MariaDB and MySQL: a statement names an index that a table has not, or of a view."""
READ_ONLY = frozenset({"SQLSTATE 25006", "error 1290", "error 1792", "error 1836"})
"""The server only reads. After a failover it may be the old one, to which the connection still leads."""


OVER = frozenset(
    {
        *(
            "SQLSTATE 57P01",
            "SQLSTATE 57P02",
            "SQLSTATE 57P03",
        ),  # shutting down, crashed, starting up
        *("error 1053", "error 1927"),  # shutting down, killed
    }
)
"""The server says that this connection is over, or not to be had yet."""


class Fault(Struct, frozen=True, kw_only=True):
    """A classified error: `kind` is unavailable, broken, missing, denied, invalid,
    duplicate or retry."""

    kind: str
    code: str = ""
    disconnected: bool = False
    told: SojournError | None = None
    """What the caller is to see, where more is known than the code says."""

    def error(self) -> SojournError:
        """Return what the store's caller is to see."""
        if self.told is not None:
            return self.told
        said = f" ({self.code})" if self.code else ""
        match self.kind:
            case "unavailable":
                return StoreUnavailable(f"The database is not available{said}.")
            case "retry":
                return StoreUnavailable(f"The database is overloaded{said}.")
            case "invalid":
                return InvalidInput(f"The database cannot hold one of these values{said}.")
            case "duplicate":
                return Conflict(f"An id or a hash is in use already{said}.")
            case "denied":
                return StoreBroken(f"The database refuses us{said}.", hint=PERMIT)
            case "missing":
                return TableMissing(f"A table is missing{said}.", hint=MIGRATE)
            case _:
                return StoreBroken(f"The database is not as it must be{said}.", hint=MIGRATE)


def classify(error: BaseException) -> Fault | None:
    """Say what an error from SQLAlchemy or a driver means; None if it is neither."""
    if isinstance(error, exc.DBAPIError):
        fault = of_driver(error.orig) if error.orig is not None else Fault(kind="broken")
        if error.connection_invalidated:
            kind = "unavailable" if fault.kind == "broken" else fault.kind
            return Fault(kind=kind, code=fault.code, disconnected=True)
        return fault
    if isinstance(error, exc.TimeoutError):
        return Fault(kind="unavailable", code="no connection free")
    if isinstance(error, exc.SQLAlchemyError):
        return Fault(kind="broken", code=type(error).__name__)
    if isinstance(error, (UnicodeError, OverflowError)):
        return Fault(kind="invalid", code=type(error).__name__)
    return None


def of_driver(error: BaseException) -> Fault:
    """Say what a driver's error means."""
    package = type(error).__module__.partition(".")[0]
    if package == "psycopg":
        return _of_psycopg(error)
    if package == "pymysql":
        number = error.args[0] if error.args and isinstance(error.args[0], int) else -1
        return Fault(kind=MYSQL.get(number, "broken"), code=f"error {number}")
    if package == "sqlite3":
        return _of_sqlite(error)
    return Fault(kind="broken", code=type(error).__name__)


def no_mark(name: str) -> StoreBroken:
    """Say that a row is gone by which everybody counts."""
    return StoreBroken(f"The row '{name}' of the table sojourn_marks is missing.")


def _of_psycopg(error: Any) -> Fault:
    code = error.sqlstate
    if code is None:
        # No answer from a server: the connection failed, or the driver refused a value.
        name = type(error).__name__
        kinds = {"OperationalError": "unavailable", "DataError": "invalid"}
        from_base = (kinds.get(base.__name__) for base in type(error).__mro__)
        return Fault(kind=next(filter(None, from_base), "broken"), code=name)
    if code == NULL and (error.diag.table_name, error.diag.column_name) == NUMBERED:
        return Fault(kind="broken", code=f"SQLSTATE {code}", told=no_mark("events"))
    prefixes = (code[:length] for length in (5, 2))
    kind = next((POSTGRES[p] for p in prefixes if p in POSTGRES), "broken")
    return Fault(kind=kind, code=f"SQLSTATE {code}")


def _of_sqlite(error: Any) -> Fault:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # misuse, such as a closed connection
        return Fault(kind="unavailable", code=type(error).__name__)
    primary = code & 0xFF
    if code in SQLITE_DUPLICATE:
        kind = "duplicate"
    else:
        kind = "denied" if primary in SQLITE_DENIED else SQLITE.get(primary, "broken")
    return Fault(kind=kind, code=error.sqlite_errorname)
