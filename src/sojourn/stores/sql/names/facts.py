"""Which of our tables there are, by their old name and by their new one, and who still needs the old."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from sqlalchemy import Table, inspect

from sojourn.clock import DAY
from sojourn.errors import StoreBroken
from sojourn.ledger import INSTANCE_ALIVE
from sojourn.stores.sql import schema
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend

PREFIX = "sojourn_"
NOUNS = (
    *("session_users", "sessions", "pools", "leases", "marks", "events", "requests"),
    *("licenses", "features", "api_keys", "audits", "sweeps", "webhooks", "webhook_deliveries"),
    "instances",
)
"""What our tables were called before version 0006; in the order in which transactions lock them."""
ROW = "renamed"
"""The row of `sojourn_marks` that says when the old names became views."""
MISSING, ABSENT = "missing", "absent"
"""The row that says that tables are missing: before version 0006, and since. To programs of before, a view is
no table; that row, put there beforehand, keeps them from telling everybody that all are missing."""
VIEWS_KEPT = DAY
"""How long the old names lead to the tables at least: an application that uses the library, and a server
whose ledger is another database, are registered nowhere, and are replaced by then."""

LOCK_TIMEOUT = 2  # seconds: while we wait for a table, everybody else waits behind us
LOCK_ATTEMPTS, LOCK_PAUSE = 10, 0.3

ANY_ROW = "SELECT 1 FROM {table} LIMIT 1"
VIEW = "CREATE VIEW {name} AS SELECT * FROM {table}"
NOTE = "INSERT INTO sojourn_marks (name, value) VALUES (:name, :at)"
NOTED = "SELECT value FROM sojourn_marks WHERE name = :name"
RUNNING = """
SELECT host, pid FROM {table} WHERE stopped_at IS NULL AND seen_at > :since{older} ORDER BY host, pid LIMIT 8
"""
CONNECTED = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sojourn'
"""
"""Connections of programs that know the old names alone; those of today call themselves otherwise."""
FORGET = "DELETE FROM sojourn_marks WHERE name IN ('renamed', 'missing')"
TELL_ANEW = "UPDATE sojourn_marks SET name = :absent WHERE name = :missing"


class Names(Struct, frozen=True):
    """What there is by our names, old and new."""

    tables: frozenset[str]
    views: frozenset[str]


def ours(noun: str) -> Table:
    return schema.metadata.tables[PREFIX + noun]


def read(tx: Tx) -> Names:
    """Read which of our names, old and new, are tables, and which are views."""
    found = inspect(tx.connection)
    known = {*NOUNS, *(table.name for table in schema.metadata.sorted_tables)}
    return Names(
        frozenset(known.intersection(found.get_table_names())),
        frozenset(known.intersection(found.get_view_names())),
    )


def is_foreign(table: Table, columns: Iterable[str], *, begun: bool) -> bool:
    """Tell whether a table that has a name of ours is somebody else's: it lacks most of our columns, or,
    where no migration has been yet (`begun`), some of them, and has others instead."""
    there, needed = set(columns), {column.name for column in table.columns}
    lacking = needed - there
    return len(lacking) * 2 > len(needed) or bool(lacking and there - needed and not begun)


def columns_of(tx: Tx, name: str) -> set[str]:
    return {each["name"] for each in inspect(tx.connection).get_columns(name)}


def due(tx: Tx, there: Names, *, begun: bool) -> list[str]:
    """Return the nouns whose tables are ours and still have their old name.

    Raises StoreBroken where a table has rows by its old name and other rows by its new one.
    """
    found = []
    for noun in NOUNS:
        if noun not in there.tables or is_foreign(ours(noun), columns_of(tx, noun), begun=begun):
            continue
        new = PREFIX + noun
        if new in there.tables and has_rows(tx, new):
            if has_rows(tx, noun):
                raise StoreBroken(
                    f"The database has both a table {noun} and a table {new}, with rows in each.",
                    hint=f"Nothing was changed. {new} is what this version of Sojourn reads: look which of "
                    "the two has the rows that count, and rename the other one.",
                )
            continue  # an empty one of long ago is in nobody's way
        if new in there.views and tx.dialect.backend is Backend.MYSQL:
            continue  # it waits for `finish`
        found.append(noun)
    return found


def has_rows(tx: Tx, name: str) -> bool:
    return bool(tx.rows(ANY_ROW.replace("{table}", name), {}))


def view(name: str, table: str) -> str:
    """Return what makes a view of a table; of names that are ours."""
    return VIEW.replace("{name}", name).replace("{table}", table)


def now(tx: Tx) -> int:
    """Read the clock that decides, and judge nothing by it: a migration is not started over."""
    return int(tx.rows("SELECT {now}", {"now": tx.instant})[0][0])


def renamed_at(tx: Tx, there: Names) -> int | None:
    """Return when the old names became views; None if that is not known."""
    if PREFIX + "marks" not in there.tables:
        return None
    rows = tx.rows(NOTED, {"name": ROW})
    return rows[0][0] if rows else None


def note(tx: Tx) -> None:
    """Note that the old names are views from now on, unless that is noted."""
    for name in (ROW, MISSING):
        if not tx.rows(NOTED, {"name": name}):
            tx.do(NOTE, {"name": name, "at": now(tx)})


def index_names(noun: str) -> dict[str, str]:
    """Return the names that indexes of a table had, and what they are called now."""
    table = ours(noun)
    new = {
        f"{table.name}_pkey",
        *(str(index.name) for index in table.indexes),
        *(str(constraint.name) for constraint in table.constraints if constraint.name),
    }
    return {name.removeprefix(PREFIX): name for name in sorted(new)}


def programs(tx: Tx, there: Names) -> list[str]:
    """Name the programs of an older version that run over this database, as far as can be told."""
    table = next((x for x in (PREFIX + "instances", "instances") if x in there.tables), None)
    found: list[str] = []
    if table is not None:
        columns = columns_of(tx, table)
        if not {"host", "pid", "seen_at", "stopped_at"} <= columns:  # somebody else's, or damaged
            return found
        older = " AND schema_version IS NULL" if "schema_version" in columns else ""
        since = {"since": now(tx) - INSTANCE_ALIVE}
        rows = tx.rows(RUNNING.replace("{table}", table).replace("{older}", older), since)
        found += [f"server {row[0]}, process {row[1]}" for row in rows]
    if tx.dialect.backend is Backend.POSTGRES:
        number = tx.rows(CONNECTED, {})[0][0]
        if number:
            found.append(f"connections of an older program: {number}")
    return found


def is_registry_used(tx: Tx, there: Names) -> bool:
    """Tell whether any server has ever registered in this database."""
    table = next((x for x in (PREFIX + "instances", "instances") if x in there.tables), None)
    return table is not None and has_rows(tx, table)
