"""May we do what we must, is there room, and is the file in nobody else's hands?"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from sojourn.errors import StoreError
from sojourn.finding import Area, Check, Finding, Fix, failure, ok, skipped, warning
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor import shape
from sojourn.stores.sql.doctor.job import filled
from sojourn.stores.sql.doctor.parts import effects_of, parts_of
from sojourn.stores.sql.doctor.settings import WAL_SAFE
from sojourn.stores.sql.doctor.source import Source

MIB = 1 << 20
ROOM_MIN = 64 * MIB
ROOM_WISHED, ROOM_SHARE = 1_024 * MIB, 0.05
PROCESSES = Path("/proc")
OTHERS = stat.S_IRWXG | stat.S_IRWXO

GRANTS_POSTGRES = """
SELECT c.relname, has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
       has_table_privilege(c.oid, 'UPDATE'), has_table_privilege(c.oid, 'DELETE'),
       NOT row_security_active(c.oid)
FROM pg_class AS c WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p')
    AND pg_table_is_visible(c.oid) ORDER BY c.relname
"""
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
TRIED_MYSQL = {
    # EXPLAIN asks for the same rights, and does nothing.
    "SELECT": "EXPLAIN SELECT * FROM {table} WHERE 1 = 0",
    "INSERT": "EXPLAIN INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0",
    "UPDATE": "EXPLAIN UPDATE {table} SET {column} = {column} WHERE 1 = 0",
    "DELETE": "EXPLAIN DELETE FROM {table} WHERE 1 = 0",
}


def checks(source: Source) -> Iterator[Check]:
    reachable = source.id("store", "reachable")

    def check(
        noun: str,
        title: str,
        looked_at: str,
        look: Callable[[Source], Finding],
        *,
        quick: bool = True,
    ) -> Check:
        return Check(
            id=source.id("store", noun),
            area=Area.STORE,
            title=title,
            looked_at=looked_at,
            look=lambda: look(source),
            quick=quick,
            needs=(reachable,),
        )

    yield check(
        "grants",
        "May we read and write every table?",
        "what this user may do",
        grants,
        quick=False,
    )
    yield check("disk", "Is there room on the disk?", "the disk of the database file", disk)
    yield check("file", "Is the database file its owner's alone?", "its permissions", file)
    yield check(
        "writers",
        "Does nobody else write to the database file?",
        "the files that processes of this host have open",
        writers,
        quick=False,
    )


def grants(source: Source) -> Finding:
    db = source.db()
    if db.dialect.backend is Backend.SQLITE:
        return ok("We may read and write every table: a file knows no grants.")
    if db.dialect.backend is Backend.POSTGRES:
        lacking, hidden = db.read(_grants_postgres)
    else:
        lacking, hidden = _grants_mysql(source), []
    if hidden:
        return failure(
            f"Row-level security hides rows from us: of {', '.join(hidden)}.",
            evidence=hidden,
            means="Sessions that are there are not found.",
            fix=Fix(
                text="Let this user see all rows.",
                sql="\n".join(f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY;" for name in hidden),
            ),
        )
    if not lacking:
        return ok("We may read and write every table.")
    tables = list(dict.fromkeys(name for _, name in lacking))
    return failure(
        f"We may not do what we must with {', '.join(tables[:3])}"
        + (f" and {len(tables) - 3} more." if len(tables) > 3 else "."),
        evidence=[f"{right} on {name} is denied" for right, name in lacking],
        means=effects_of(parts_of(tables), of_ledger=bool(source.prefix)),
        fix=Fix(
            text="Grant it to the user in the store's URL.",
            sql="\n".join(f"GRANT {', '.join(RIGHTS)} ON {name} TO …;" for name in tables),
        ),
    )


def _grants_postgres(tx: Tx) -> tuple[list[tuple[str, str]], list[str]]:
    rows = tx.rows(GRANTS_POSTGRES, {"names": tx.dialect.keys(shape.NAMES)})
    lacking = [
        (right, str(row[0]))
        for row in rows
        for right, granted in zip(RIGHTS, row[1:5], strict=True)
        if not granted
    ]
    return lacking, [str(row[0]) for row in rows if not row[5]]


def _grants_mysql(source: Source) -> list[tuple[str, str]]:
    lacking = []
    first = source.db().read(shape.read)
    for name, table in first.items():
        for right, tried in TRIED_MYSQL.items():
            sql = filled(tried, table=name, column=next(iter(table.columns)))
            try:
                source.db().read(lambda tx, sql=sql: tx.rows(sql, {}))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            except StoreError:
                lacking.append((right, name))
    return lacking


def disk(source: Source) -> Finding:
    """Ask the system; a server's disk cannot be seen from here."""
    if source.path is None:
        return skipped("The disk of a database server cannot be seen from here.")
    usage = source.disk_usage(source.path.parent)
    evidence = f"{usage.free // MIB:,} MiB of {usage.total // MIB:,} MiB are free"
    if usage.free >= min(ROOM_WISHED, usage.total * ROOM_SHARE):
        return ok("There is room on the disk.", evidence)
    full = usage.free < ROOM_MIN
    return (failure if full else warning)(
        "The disk is full." if full else "The disk is nearly full.",
        evidence=[evidence],
        means="When it is full, nobody can sign in or take a seat; who is in, stays in.",
        fix=Fix(text="Make room, or move the file to another disk.", command="sojourn sweep run"),
    )


def file(source: Source) -> Finding:
    if source.path is None:
        return skipped("A database server keeps its files from others by itself.")
    mode = stat.S_IMODE(source.path.stat().st_mode)
    if not mode & OTHERS:
        return ok("Only its owner may read the database file.", f"mode {mode:o}")
    return warning(
        "Others on this host may read the database file.",
        evidence=[f"{source.path}: mode {mode:o}"],
        means="They can see who is signed in, from where, and what sessions hold; tokens are not in it.",
        fix=Fix(text="Take it from them.", command=f"chmod 600 '{source.path}'"),
    )


def writers(source: Source) -> Finding:
    """Find processes that have the file open and do not take turns with us."""
    path = source.path
    if path is None:
        return skipped("A database server lets several write: there is no file to look at.")
    if not PROCESSES.is_dir():
        return skipped("This system does not tell which files processes have open.")
    others = strangers(path.resolve())
    version = ".".join(map(str, sqlite3.sqlite_version_info))
    if not others:
        return ok("Nobody else has the database file open.", f"SQLite {version}")
    risky = sqlite3.sqlite_version_info < WAL_SAFE
    evidence = [f"process {pid}: {command}" for pid, command in others.items()]
    return (failure if risky else warning)(
        "Another program has the database file open, and does not take turns with us.",
        evidence=[*evidence, f"SQLite {version}"],
        means=(
            "If it writes while we do, this version of SQLite may corrupt the file "
            "(https://sqlite.org/wal.html#walresetbug)."
            if risky
            else "While it writes, everybody waits."
        ),
        fix=Fix(text="End it; look at a copy instead.", command=f"kill {next(iter(others))}"),
    )


def strangers(path: Path) -> dict[int, str]:
    """Name the processes that have a database open without its lock file; of other users, none is seen."""
    lock = f"{path}.lock"
    found = {}
    for process in PROCESSES.iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            folder = f"{process}/fd"
            numbers = os.listdir(folder)  # noqa: PTH208 - a busy host has 100,000: no Path for each
            files = {os.readlink(f"{folder}/{each}") for each in numbers}  # noqa: PTH115 - likewise
            if str(path) in files and lock not in files:
                command = (
                    (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                found[int(process.name)] = command.split(" ", 1)[0]
    return found
