"""What a store says of its own health; the doctor asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import inspect

from sojourn.clock import SECOND, host_now
from sojourn.store import Finding, Severity
from sojourn.stores.sql import migrations, schema
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.events import MARKS

CLOCK_TOLERANCE = 5 * SECOND
WAL_SAFE = (3, 51, 3)
"""Since then SQLite cannot corrupt a database whose log two connections reset at the same instant."""

SETTINGS_POSTGRES = """
SELECT current_setting('server_version'), current_setting('synchronous_commit'),
       current_setting('fsync'), current_setting('full_page_writes'),
       current_setting('transaction_isolation'), current_setting('server_encoding'),
       pg_is_in_recovery()
"""
SETTINGS_MYSQL = """
SELECT @@version, @@innodb_flush_log_at_trx_commit, @@sync_binlog, @@log_bin, @@tx_isolation,
       @@read_only, @@innodb_doublewrite
"""
COLLATIONS_MYSQL = """
SELECT table_name, column_name, collation_name FROM information_schema.columns
WHERE table_schema = database() AND (table_name, column_name) IN (
    ('leases', 'id'), ('leases', 'pool_id'), ('leases', 'user_id'), ('leases', 'client_id'),
    ('sessions', 'id'), ('sessions', 'user_id'), ('session_users', 'user_id'), ('pools', 'id'))
"""
MARK_VALUES = "SELECT name, value FROM marks"
LAST_EVENT = "SELECT coalesce(max(id), 0) FROM events"


def check(db: Database) -> list[Finding]:
    """Say what is wrong, or might be."""

    def work(tx: Tx) -> list[Finding]:
        found = list(_schema(tx, migrations.version_of(tx)))
        found += _SETTINGS[tx.dialect.backend](tx)
        if not any(each.severity is Severity.ERROR for each in found):
            found += _stream(tx)
        if db.clock.now() is None:
            found += _clock(tx)
        return found

    return db.write(work)


def _error(code: str, title: str, detail: str = "", fix: str = "") -> Finding:
    return Finding(code=code, severity=Severity.ERROR, title=title, detail=detail, fix=fix)


def _warning(code: str, title: str, detail: str = "", fix: str = "") -> Finding:
    return Finding(code=code, severity=Severity.WARNING, title=title, detail=detail, fix=fix)


def _fine(code: str, title: str, detail: str = "") -> Finding:
    return Finding(code=code, severity=Severity.OK, title=title, detail=detail)


def _schema(tx: Tx, version: str | None) -> Iterator[Finding]:
    fix = "Run: sojourn migrate"
    there = inspect(tx.connection)
    tables = set(there.get_table_names())
    missing = [table.name for table in schema.metadata.sorted_tables if table.name not in tables]
    for name in missing:
        yield _error("table_missing", f"The table {name} is missing.", fix=fix)
    if version is None and not missing:
        yield _error("schema_unversioned", "The schema says nothing of its version.", fix=fix)
    elif version is not None and version != migrations.head():
        if version in migrations.known():
            yield _error("schema_old", f"The schema is at version {version}.", fix=fix)
        else:
            title = f"The schema, at version {version}, is newer than this program."
            yield _warning("schema_new", title, fix="Update this program.")
    for table in schema.metadata.sorted_tables:
        if table.name in missing:
            continue
        columns = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                title = f"The table {table.name} lacks the column {column.name}."
                yield _error("column_missing", title, fix="Restore the table from a backup.")
        indexes = {index["name"] for index in there.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                title = f"The table {table.name} lacks the index {index.name}."
                yield _warning("index_missing", title, "Everything works, but slowly.", fix)
    if not missing:
        yield _fine("schema", "The tables are in place.", f"Version {version}.")


def _stream(tx: Tx) -> Iterator[Finding]:
    """Look whether new events will get ids that are new."""
    fix = "Run: sojourn migrate"
    marks = {row[0]: row[1] for row in tx.rows(MARK_VALUES, {})}
    for name in MARKS:
        if name not in marks:
            yield _error(
                "mark_missing", f"The row '{name}' of the table marks is missing.", fix=fix
            )
    last = tx.rows(LAST_EVENT, {})[0][0]
    if (marks.get("events") or 0) < last:
        title = "The next event's id is taken."
        detail = f"marks says {marks.get('events')}, the last event is {last}."
        yield _error("mark_behind", title, detail, fix)


def _clock(tx: Tx) -> Iterator[Finding]:
    before = host_now()
    there = tx.now()
    ahead = there - (before + host_now()) // 2
    if abs(ahead) > CLOCK_TOLERANCE:
        yield _warning(
            "clock_skew",
            f"The database's clock differs from this host's by {abs(ahead) / SECOND:.1f} s.",
            "Expiry goes by the database's clock; logs and certificates by this host's.",
            "Let both keep time by NTP.",
        )
    else:
        yield _fine("clock", "The database's clock agrees with this host's.")


def _sqlite(tx: Tx) -> Iterator[Finding]:
    def pragma(name: str) -> Any:
        return tx.rows(f"PRAGMA {name}", {})[0][0]

    version = ".".join(map(str, sqlite3.sqlite_version_info))
    journal = pragma("journal_mode")
    if sqlite3.sqlite_version_info < WAL_SAFE and journal != "memory":
        title = f"SQLite {version} has the WAL-reset bug; this program works around it."
        detail = "Other programs that write to the same file at the same time may corrupt it."
        yield _warning("sqlite_version", title, detail, "Let no other program write to the file.")
    else:
        yield _fine("sqlite_version", f"SQLite {version}.")
    if journal not in ("wal", "memory"):
        title = "SQLite's journal is not a write-ahead log."
        yield _warning("sqlite_journal", title, fix="Keep the file on a local disk.")
    if pragma("synchronous") < 2:  # FULL
        yield _warning(
            "not_durable", "A power cut may lose what was answered: synchronous = NORMAL."
        )
    damage = pragma("quick_check(1)")
    if damage != "ok":
        yield _error("sqlite_corrupt", "The database file is damaged.", damage, "Restore a backup.")


def _postgres(tx: Tx) -> Iterator[Finding]:
    version, commit, fsync, pages, isolation, encoding, standby = tx.rows(SETTINGS_POSTGRES, {})[0]
    yield _fine("postgres_version", f"PostgreSQL {version}.")
    if commit in ("off", "local"):
        title = f"What was answered may be lost in a crash: synchronous_commit = {commit}."
        yield _warning("not_durable", title, fix="ALTER SYSTEM SET synchronous_commit = on;")
    for name, value in (("fsync", fsync), ("full_page_writes", pages)):
        if value != "on":
            title = f"A crash may corrupt the database: {name} = {value}."
            yield _error("not_durable", title, fix=f"ALTER SYSTEM SET {name} = on;")
    if isolation != "read committed":
        title = f"The transaction isolation is {isolation}, not read committed."
        yield _warning("isolation", title, "Every conflict costs another try.")
    if encoding != "UTF8":
        title = f"The database's encoding is {encoding}: it cannot hold every name."
        yield _error("encoding", title, fix="Create the database with ENCODING 'UTF8'.")
    if standby:
        yield _error("read_only", "This server is a standby: it takes no writes.")


def _mysql(tx: Tx) -> Iterator[Finding]:
    settings = SETTINGS_MYSQL
    if not getattr(tx.connection.dialect, "is_mariadb", False):
        settings = settings.replace("@@tx_isolation", "@@transaction_isolation")
    version, flush, sync, binlog, isolation, read_only, doublewrite = tx.rows(settings, {})[0]
    yield _fine("mysql_version", f"{version}.")
    if flush != 1:
        title = f"What was answered may be lost: innodb_flush_log_at_trx_commit = {flush}."
        fix = "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and put it into my.cnf."
        yield _warning("not_durable", title, fix=fix)
    if binlog and sync != 1:
        title = f"A replica may miss what was answered before a crash: sync_binlog = {sync}."
        yield _warning("binlog_not_durable", title, fix="SET GLOBAL sync_binlog = 1.")
    if str(doublewrite).upper() in ("0", "OFF"):
        yield _error("not_durable", "A crash may corrupt the database: innodb_doublewrite = OFF.")
    if isolation != "READ-COMMITTED":
        yield _warning("isolation", f"The transaction isolation is {isolation}.")
    if read_only:
        yield _error("read_only", "This server is read-only: a replica takes no writes.")
    wanted = schema.byte_collation(tx.connection.dialect)
    for table, column, collation in tx.rows(COLLATIONS_MYSQL, {}):
        if collation != wanted:
            yield _error(
                "collation",
                f"{table}.{column} has the collation {collation}.",
                "Ids that differ in case, accents or trailing spaces would count as the same.",
                f"ALTER TABLE {table} so that {column} is {wanted}.",
            )


_SETTINGS: dict[Backend, Callable[[Tx], Iterator[Finding]]] = {
    Backend.SQLITE: _sqlite,
    Backend.POSTGRES: _postgres,
    Backend.MYSQL: _mysql,
}
