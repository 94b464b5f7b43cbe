"""Session tables of other systems: told by their columns, and read in pieces, never written.

Columns are read as text, whatever their types: a driver that turns a year 20000 or a zero date into a
value of Python's would fail a batch for one row's sake. Data is cut off by the database one byte past
what we would take, so that a batch has a size.
"""

from __future__ import annotations

import contextlib
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct
from sqlalchemy import (
    URL,
    Connection,
    LargeBinary,
    NullPool,
    Select,
    String,
    bindparam,
    cast,
    column,
    create_engine,
    func,
    inspect,
    select,
    table,
    text,
    tuple_,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import NullType

from sojourn.errors import NotFound, SettingsError, StoreBroken, StoreError
from sojourn.stores.sql.faults import classify
from sojourn.token import FOREIGN_MAX

BATCH = 250
DATA_READ = 1_048_577
TEXT_READ = 1_024
TOKEN_READ = FOREIGN_MAX + 1
TABLES_NAMED = 20
CONNECT_TIMEOUT = 10  # seconds
READ_POSTGRES = "BEGIN READ ONLY; SET LOCAL DateStyle = 'ISO'; SET LOCAL TimeZone = 'UTC'"
HINT = "Check --from: the address, the user and its right to read the table, the database's name."


class Shape(Struct, frozen=True):
    """A kind of session table: where it keeps what, by the first of these columns that it has."""

    tables: tuple[str, ...]
    needs: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]


SHAPES: Mapping[str, Shape] = {
    "connect-pg-simple": Shape(
        ("session", "sessions", "user_sessions"),
        ("token", "data", "expires"),
        {"token": ("sid",), "data": ("sess",), "expires": ("expire",)},
    ),
    "django": Shape(
        ("django_session",),
        ("token", "data", "expires"),
        {
            "token": ("session_key",),
            "data": ("session_data",),
            "expires": ("expire_date",),
            "ip": ("ip",),  # of django-user-sessions
            "agent": ("user_agent",),
        },
    ),
    "flask-session": Shape(
        ("sessions", "flask_sessions"),
        ("token", "data", "expires"),
        {
            "token": ("session_id",),
            "data": ("data",),
            "expires": ("expiry",),
            "created": ("created",),
        },
    ),
    "license-sessions": Shape(
        ("user_sessions", "license_sessions", "feature_sessions"),
        ("token", "user", "feature", "beat"),
        {
            "token": ("session_token", "token"),
            "user": ("user_id",),
            "feature": ("feature", "feature_name"),
            "license": ("license_cache_id", "license_id"),
            "beat": ("last_heartbeat", "last_heartbeat_at", "heartbeat_at"),
            "created": ("created_at", "started_at"),
        },
    ),
    "user-sessions": Shape(
        ("user_sessions",),
        ("token", "user"),
        {
            "token": ("session_token", "token"),
            "user": ("user_id",),
            "created": ("created_at",),
            "used": ("last_used_at", "last_active_at"),
            "expires": ("expires_at", "expired_at"),
            "ip": ("ip_address", "ip"),
            "agent": ("user_agent",),
        },
    ),
}


ACTIVE = frozenset({"isactive", "active", "isvalid", "valid", "enabled", "isenabled"})
"""Columns that say that a session is over when they are false; their names in small letters without `_`."""
OVER = frozenset(
    {
        *(
            "endedat",
            "revokedat",
            "deletedat",
            "loggedoutat",
            "logoutat",
            "signedoutat",
            "terminatedat",
        ),
        *(
            "closedat",
            "invalidatedat",
            "logouttime",
            "endtime",
            "isrevoked",
            "revoked",
            "isdeleted",
        ),
        *("deleted", "isended", "ended", "isloggedout", "loggedout", "isexpired", "isblacklisted"),
        *("blacklisted", "isinvalidated", "invalidated", "isterminated", "terminated"),
    }
)
"""Those that say so when they are true, or say when."""
STATUS = frozenset({"status", "state", "sessionstatus"})
JUDGED = {"active": ACTIVE, "over": OVER, "status": STATUS}
MANY = ("active", "over")  # of which a table may have several: their roles are numbered


class Found(Struct, frozen=True, kw_only=True):
    """A table that holds sessions: its kind, and its columns by what they hold."""

    kind: str
    table: str
    schema: str | None
    columns: Mapping[str, str]
    key: tuple[str, ...]
    binary: bool  # the data is bytes
    label: str | None  # a column that names a row and is no secret

    @property
    def name(self) -> str:
        return self.table if self.schema is None else f"{self.schema}.{self.table}"


class SqlSource:
    """A database with a session table. `open` before use; raises StoreError, SettingsError."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._backend = url.get_backend_name()
        self._open = contextlib.ExitStack()
        self._connection: Connection | None = None
        self.zone = "UTC"
        """Of times without a zone, as far as the database can tell."""

    def open(self) -> None:
        """Connect, so that nothing can be written."""
        if self._backend == "sqlite":
            engine = create_engine("sqlite://", creator=self._file, poolclass=NullPool)
        else:
            postgres = self._backend == "postgresql"
            engine = create_engine(
                self._url.set(drivername="postgresql+psycopg" if postgres else "mysql+pymysql"),
                isolation_level="AUTOCOMMIT",
                poolclass=NullPool,
                hide_parameters=True,
                # Behind a pooler, what is prepared is another's.
                connect_args={"connect_timeout": CONNECT_TIMEOUT}
                | ({"prepare_threshold": None} if postgres else {}),
            )
        with reading():
            connection = self._open.enter_context(engine.connect())
            if self._backend == "postgresql":
                self.zone = str(connection.execute(text("SHOW TimeZone")).scalar_one())
            elif self._backend != "sqlite":
                connection.execute(text("SET SESSION TRANSACTION READ ONLY"))
                connection.execute(text("SET time_zone = '+00:00'"))
            self._connection = connection

    def _file(self) -> sqlite3.Connection:
        path = Path(str(self._url.database)).expanduser()
        if not path.is_file():
            raise SettingsError(f"There is no SQLite file {path}.", hint="Check --from.")
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
        # Damaged text is one row's matter; sqlite3 would fail the statement.
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        return connection

    @property
    def connection(self) -> Connection:
        assert self._connection is not None, "open it first"
        return self._connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Read as we must. On PostgreSQL that is set for a transaction: behind a pooler, what is set for
        longer stays for an application."""
        if self._backend != "postgresql":
            yield
            return
        self.connection.exec_driver_sql(READ_POSTGRES, execution_options={"no_parameters": True})
        try:
            yield
        finally:
            self.connection.exec_driver_sql("ROLLBACK")

    def choose(self, name: str | None, kind: str | None) -> Found:
        """Find the table. Raises NotFound, naming those that look like one."""
        with reading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of column types that SQLAlchemy does not know
            candidates = {each.name: each for each in self._candidates(name)}
        fitting = [x for x in candidates.values() if kind in (None, x.kind)]
        if name is None and len(fitting) > 1:  # by the names that these systems give their tables
            usual = [x for x in fitting if x.table in SHAPES[x.kind].tables]
            fitting = usual if len(usual) == 1 else fitting
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise NotFound(
                f"Several tables hold sessions: {_listed(fitting)}.",
                hint="Name one with --table.",
            )
        raise self._missing(name, kind)

    def _missing(self, name: str | None, kind: str | None) -> NotFound:
        with reading(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alike = list(self._candidates(None))
            tables = inspect(self.connection).get_table_names()
        what = f"a {kind} table" if kind else "a table of sessions"
        named = f"{name!r} is not there, or not {what}" if name else f"There is not {what}"
        if alike:
            hint = (
                f"These look like one: {_listed(alike)}. Name it with --table, or leave out --kind."
            )
        else:
            shown = ", ".join(sorted(tables)[:TABLES_NAMED]) or "none at all"
            hint = f"No table looks like one. There are: {shown}. Is it another database or schema?"
        return NotFound(f"{named}.", hint=hint)

    def _candidates(self, name: str | None) -> Iterator[Found]:
        inspector = inspect(self.connection)
        places: list[tuple[str | None, str]] = [(None, t) for t in inspector.get_table_names()]
        if name is not None:
            places = [place for place in places if place[1] == name]
            owner, dot, rest = name.rpartition(".")
            if not places and dot and inspector.has_table(rest, schema=owner):
                places = [(owner, rest)]
        for schema, each in places:
            columns = {c["name"]: c["type"] for c in inspector.get_columns(each, schema=schema)}
            for kind, shape in SHAPES.items():
                found = _columns(shape, columns)
                if all(role in found for role in shape.needs):
                    yield self._found(kind, schema, each, columns, found)
                    break

    def _found(
        self,
        kind: str,
        schema: str | None,
        name: str,
        columns: Mapping[str, Any],
        found: Mapping[str, str],
    ) -> Found:
        inspector = inspect(self.connection)
        key: Sequence[str] = inspector.get_pk_constraint(name, schema=schema)["constrained_columns"]
        if self._backend == "sqlite":
            key = ("rowid",) if "rowid" not in columns else key
        elif not key:
            unique = inspector.get_unique_constraints(name, schema=schema)
            indexes = inspector.get_indexes(name, schema=schema)
            ways = [u["column_names"] for u in unique]
            ways += [[str(c) for c in i["column_names"]] for i in indexes if i["unique"]]
            only = found["token"]
            key = next((way for way in ways if way == [only]), ())
        label = "id" if "id" in columns and "id" not in found.values() else None
        return Found(
            kind=kind,
            table=name,
            schema=schema,
            columns=found,
            key=tuple(key),
            binary="data" in found and isinstance(columns[found["data"]], LargeBinary),
            label=label,
        )

    def count(self, found: Found) -> int:
        with reading():
            rows = select(func.count()).select_from(table(found.table, schema=found.schema))
            with self._reading():
                return int(self.connection.execute(rows).scalar_one())

    def batches(self, found: Found, size: int = BATCH) -> Iterator[list[dict[str, Any]]]:
        """Read the table by its key, some rows at a time. Each row says what `moving.adopt` asks."""
        if not found.key:
            raise StoreBroken(
                f"The table {found.name} has no primary key, so it cannot be read in pieces.",
                hint=f"Give it one: ALTER TABLE {found.name} ADD PRIMARY KEY "
                f"({found.columns['token']});",
            )
        after: Sequence[Any] | None = None
        width = len(found.key)
        while True:
            with reading(), self._reading():
                rows = self.connection.execute(self._query(found, after, size)).all()
            if rows:
                yield [_row(found, row[width:]) for row in rows]
            if len(rows) < size:
                return
            after = rows[-1][:width]

    def _query(self, found: Found, after: Sequence[Any] | None, size: int) -> Select[Any]:
        key: list[ColumnElement[Any]] = [column(name) for name in found.key]
        shown = [self._shown(role, name, found) for role, name in found.columns.items()]
        if found.label is not None:
            shown.append(self._text(found.label))
        # Under other names, or ORDER BY would mean these.
        named = [each.label(f"shown_{i}") for i, each in enumerate(shown)]
        rows = select(*key, *named).select_from(table(found.table, schema=found.schema))
        if after is not None:
            # Of no type: with a type, SQLAlchemy would cast a large id to a small integer.
            bound = [bindparam(None, value, type_=NullType(), unique=True) for value in after]
            rows = rows.where(key[0] > bound[0] if len(key) == 1 else tuple_(*key) > tuple_(*bound))
        return rows.order_by(*key).limit(size)

    def _shown(self, role: str, name: str, found: Found) -> ColumnElement[Any]:
        if role == "data":
            whole = column(name) if found.binary or self._backend == "sqlite" else self._text(name)
            return func.substr(whole, 1, DATA_READ)
        if role.partition(" ")[0] in MANY and self._backend != "postgresql":
            return column(name)  # MySQL's BIT(1) is a byte, and a text of it nothing
        if self._backend == "sqlite":
            return column(name)
        return func.substr(self._text(name), 1, TOKEN_READ if role == "token" else TEXT_READ)

    def _text(self, name: str) -> ColumnElement[Any]:
        return column(name) if self._backend == "sqlite" else cast(column(name), String)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._open.close()


def _columns(shape: Shape, columns: Mapping[str, Any]) -> dict[str, str]:
    """Say which columns hold what: of each role the first, and all that say that a session is over."""
    named = {role: [n for n in names if n in columns] for role, names in shape.columns.items()}
    found = {role: names[0] for role, names in named.items() if names}
    for role, known in JUDGED.items():
        judged = [n for n in columns if n.lower().replace("_", "") in known]
        numbered = role in MANY
        found |= {f"{role} {i}" if numbered else role: n for i, n in enumerate(judged)}
    return found


def _listed(tables: Sequence[Found]) -> str:
    return ", ".join(f"{each.name} ({each.kind})" for each in tables[:TABLES_NAMED])


def _row(found: Found, values: Sequence[Any]) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(found.columns, values, strict=False))
    for role in MANY:
        row[role] = [row.pop(each) for each in found.columns if each.startswith(f"{role} ")]
    row["name"] = masked(row["token"]) if found.label is None else f"id {values[-1]}"
    return row


def masked(token: Any) -> str:
    """Name a row by the beginning of its token, which gives nothing away."""
    shown = "" if token is None else str(token)
    if not shown:
        return "(no token)"
    start = shown[:4] if len(shown) >= 16 and shown.isprintable() else ""
    return f"token {start}…"


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turn what a driver raises into a fault that names the old database, not ours."""
    try:
        yield
    except Exception as error:
        fault = classify(error)
        if fault is None:
            raise
        found = fault.error()
        kind = type(found) if isinstance(found, StoreError) else StoreBroken
        raise kind(f"The old sessions: {found.message}", hint=HINT) from error
