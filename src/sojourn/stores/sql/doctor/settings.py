"""Is the database set up so that what was answered stays, and can be written at all?"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sojourn.finding import Area, Check, Finding, Fix, failure, ok, skipped, warning
from sojourn.stores.sql.database import Database, Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor.source import Source

SETTINGS_POSTGRES = """
SELECT current_setting('server_version'), current_setting('synchronous_commit'),
       current_setting('fsync'), current_setting('full_page_writes'),
       current_setting('transaction_isolation'), current_setting('server_encoding'),
       pg_is_in_recovery(), current_setting('transaction_read_only')
"""
SETTINGS_MYSQL = """
SELECT @@version, @@innodb_flush_log_at_trx_commit, @@sync_binlog, @@log_bin, @@tx_isolation,
       @@read_only, @@innodb_doublewrite
"""
SILENT_POSTGRES = """
SELECT setting::bigint FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'
"""
SILENT_MARIADB = "SHOW VARIABLES LIKE 'idle_transaction_timeout'"
SILENT_MYSQL = "SHOW VARIABLES LIKE 'wait_timeout'"
SILENT_MAX = 2_000
"""How long (ms) somebody may keep locks without saying anything: others wait twice as long."""
WAL_SAFE = (3, 51, 3)
"""Since then SQLite cannot corrupt a database whose log two connections reset at the same instant."""


def checks(source: Source) -> Iterator[Check]:
    needs = (source.id("store", "reachable"),)

    def check(noun: str, title: str, looked_at: str, look: Callable[[Tx], Finding]) -> Check:
        return Check(
            id=source.id("store", noun),
            area=Area.STORE,
            title=title,
            looked_at=looked_at,
            look=lambda: _seen(source.db(), look),
            quick=True,
            needs=needs,
        )

    yield check("version", "Is the database's version one to rely on?", "its version", version)
    yield check("writable", "Does the database take writes?", "its role and settings", writable)
    yield check(
        "durability",
        "Does what was answered survive a crash?",
        "how commits reach the disk",
        durability,
    )
    yield check(
        "isolation", "Are transactions isolated as we expect?", "our connections", isolation
    )
    yield check(
        "silent_locks",
        "Does the database take locks from who is silent?",
        "how long our transactions may say nothing",
        silent_locks,
    )
    yield check("encoding", "Can every name be kept?", "the database's encoding", encoding)


def _seen(db: Database, look: Callable[[Tx], Finding]) -> Finding:
    """Look as our transactions do: on PostgreSQL, some settings may be theirs alone."""
    return (db.transaction if db.dialect.backend is Backend.POSTGRES else db.write)(look)


def _postgres(tx: Tx) -> Sequence[Any]:
    return tx.rows(SETTINGS_POSTGRES, {})[0]


def _mysql(tx: Tx) -> Sequence[Any]:
    settings = SETTINGS_MYSQL
    if not getattr(tx.connection.dialect, "is_mariadb", False):
        settings = settings.replace("@@tx_isolation", "@@transaction_isolation")
    return tx.rows(settings, {})[0]


def _pragma(tx: Tx, name: str) -> Any:
    return tx.rows(f"PRAGMA {name}", {})[0][0]


def version(tx: Tx) -> Finding:
    if tx.dialect.backend is Backend.POSTGRES:
        return ok(f"PostgreSQL {_postgres(tx)[0]} is one to rely on.")
    if tx.dialect.backend is Backend.MYSQL:
        return ok(f"Version {_mysql(tx)[0]} is one to rely on.")
    there = ".".join(map(str, sqlite3.sqlite_version_info))
    if sqlite3.sqlite_version_info >= WAL_SAFE:
        return ok(f"SQLite {there} is one to rely on.")
    return ok(
        f"SQLite {there} is one to rely on, the way that it is used here.",
        "It has the WAL-reset bug (https://sqlite.org/wal.html#walresetbug), which this program "
        "works around: its writers take turns.",
    )


def writable(tx: Tx) -> Finding:
    means = "Nobody can sign in or take a seat; who is signed in can still be recognized."
    if tx.dialect.backend is Backend.POSTGRES:
        standby, read_only = _postgres(tx)[6:8]
        if standby:
            return failure(
                "This server is a standby: it takes no writes.",
                means=means,
                fix=Fix(
                    text="Name the primary in the store's URL, or let the driver find it.",
                    setting="postgresql://…@first,second/…?target_session_attrs=read-write",
                ),
            )
        if read_only == "on":
            return failure(
                "Transactions are read-only by default.",
                evidence=["default_transaction_read_only = on"],
                means=means,
                fix=Fix(
                    text="Let them write.",
                    sql="ALTER DATABASE … RESET default_transaction_read_only;\n"
                    "ALTER ROLE … RESET default_transaction_read_only;",
                ),
            )
    elif tx.dialect.backend is Backend.MYSQL and _mysql(tx)[5]:
        return failure(
            "This server is read-only, as a replica is.",
            evidence=[f"read_only = {_mysql(tx)[5]}"],
            means=means,
            fix=Fix(text="Name the primary; or let it write.", sql="SET GLOBAL read_only = OFF;"),
        )
    return ok("The database takes writes.")


def durability(tx: Tx) -> Finding:
    return _DURABILITY[tx.dialect.backend](tx)


def _weak(title: str, seen: str, fix: Fix, *, corrupts: bool = False) -> Finding:
    means = (
        "A crash may leave the database damaged."
        if corrupts
        else "A crash may take back what was answered: sign-ins, sign-outs, seats."
    )
    return (failure if corrupts else warning)(title, evidence=[seen], means=means, fix=fix)


def _durability_postgres(tx: Tx) -> Finding:
    commit, fsync, pages = _postgres(tx)[1:4]
    for name, value in (("fsync", fsync), ("full_page_writes", pages)):
        if value != "on":
            sql = f"ALTER SYSTEM SET {name} = on;\nSELECT pg_reload_conf();"
            fix = Fix(text="Turn it on.", sql=sql)
            return _weak(f"{name} is off.", f"{name} = {value}", fix, corrupts=True)
    if commit in ("off", "local"):
        sql = "ALTER SYSTEM SET synchronous_commit = on;\nSELECT pg_reload_conf();"
        fix = Fix(text="Turn it on, also for this role and database.", sql=sql)
        title = "Commits are answered before they are on disk."
        return _weak(title, f"synchronous_commit = {commit}", fix)
    return ok("What was answered is on disk.", f"synchronous_commit = {commit}")


def _durability_mysql(tx: Tx) -> Finding:
    _, flush, sync, binlog, _, _, doublewrite = _mysql(tx)
    if str(doublewrite).upper() in ("0", "OFF"):
        fix = Fix(text="Turn it on.", setting="[mariadb]\ninnodb_doublewrite = ON")
        return _weak(
            "The doublewrite buffer is off.", "innodb_doublewrite = OFF", fix, corrupts=True
        )
    if flush != 1:
        fix = Fix(
            text="Set it to 1, also in my.cnf.",
            sql="SET GLOBAL innodb_flush_log_at_trx_commit = 1;",
            setting="[mariadb]\ninnodb_flush_log_at_trx_commit = 1",
        )
        title = "Commits are answered before they are on disk."
        return _weak(title, f"innodb_flush_log_at_trx_commit = {flush}", fix)
    if binlog and sync != 1:
        fix = Fix(
            text="Set it to 1, also in my.cnf.",
            sql="SET GLOBAL sync_binlog = 1;",
            setting="[mariadb]\nsync_binlog = 1",
        )
        title = "A replica may miss what was answered before a crash."
        return _weak(title, f"sync_binlog = {sync}", fix)
    return ok("What was answered is on disk.", f"innodb_flush_log_at_trx_commit = {flush}")


def _durability_sqlite(tx: Tx) -> Finding:
    journal, synchronous = _pragma(tx, "journal_mode"), _pragma(tx, "synchronous")
    if journal == "memory":
        return skipped("Nothing survives a crash: this database is in memory.")
    if journal != "wal":
        fix = Fix(text="Keep the file on a local disk.")
        return _weak("The journal is not a write-ahead log.", f"journal_mode = {journal}", fix)
    if synchronous < 2:  # FULL
        fix = Fix(text="Open it with durable=True.")
        return _weak("A power cut may take back answers.", "synchronous = NORMAL", fix)
    return ok("What was answered is on disk.", "journal_mode = wal, synchronous = FULL")


_DURABILITY: dict[Backend, Callable[[Tx], Finding]] = {
    Backend.POSTGRES: _durability_postgres,
    Backend.MYSQL: _durability_mysql,
    Backend.SQLITE: _durability_sqlite,
}


def isolation(tx: Tx) -> Finding:
    if tx.dialect.backend is Backend.SQLITE:
        return ok("Transactions are isolated: one writer at a time.")
    there = str(_postgres(tx)[4] if tx.dialect.backend is Backend.POSTGRES else _mysql(tx)[4])
    if there.lower().replace("-", " ") == "read committed":
        return ok("Transactions are isolated as we expect.", f"isolation: {there.lower()}")
    return warning(
        f"The transaction isolation is {there.lower()}, although we set read committed.",
        means="Every conflict costs another try; under load, answers get slow.",
        fix=Fix(text="See which proxy between us and the server changes it."),
    )


def silent_locks(tx: Tx) -> Finding:
    """Ask what is in force: a proxy between may have kept it from the server, an old one not know it."""
    if tx.dialect.backend is Backend.SQLITE:
        return ok("A file's lock ends with the process that holds it.")
    name, there = _silence(tx)
    seen = f"{name} = {'off' if not there else f'{there / 1_000:g} s'}"
    if 0 < there <= SILENT_MAX:
        return ok("Who holds locks and is silent loses them.", seen)
    postgres = tx.dialect.backend is Backend.POSTGRES
    return warning(
        "The database lets who is silent keep locks, although we ask it not to.",
        evidence=[seen],
        means="A server of ours that freezes, or is cut off, may keep all others from giving seats.",
        fix=Fix(
            text="See which proxy between us and the server drops it; or set it for everybody.",
            sql="ALTER ROLE … SET idle_in_transaction_session_timeout = '1s';" if postgres else "",
            setting="" if postgres else "[mariadb]\nidle_transaction_timeout = 1",
        ),
    )


def _silence(tx: Tx) -> tuple[str, int]:
    """Return the setting that ends silent transactions, and what it is set to, in ms; 0 for never."""
    if tx.dialect.backend is Backend.POSTGRES:
        return "idle_in_transaction_session_timeout", int(tx.rows(SILENT_POSTGRES, {})[0][0])
    for statement in (SILENT_MARIADB, SILENT_MYSQL):
        for name, value in tx.rows(statement, {}):
            return str(name), int(value) * 1_000
    return "idle_transaction_timeout", 0


def encoding(tx: Tx) -> Finding:
    if tx.dialect.backend is not Backend.POSTGRES:
        return ok("Every name can be kept.")
    there = _postgres(tx)[5]
    if there == "UTF8":
        return ok("Every name can be kept.", "server_encoding = UTF8")
    return failure(
        f"The database's encoding is {there}: it cannot hold every name.",
        evidence=[f"server_encoding = {there}"],
        means="Who has a letter in their name or data that is not in it cannot sign in.",
        fix=Fix(
            text="Make a database in UTF8, and move the data with pg_dump.",
            sql="CREATE DATABASE sojourn ENCODING 'UTF8' TEMPLATE template0;",
        ),
    )
