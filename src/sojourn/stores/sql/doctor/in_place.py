"""Rebuilding a damaged table where it stands, so that its owner, grants and name stay: PostgreSQL in one
transaction; MariaDB and MySQL under a table lock, in steps that may be cut off and begun again.

In both, every row is first copied to a table beside it. What cannot be read, and all but one of the rows
that share a key, then stay in that copy alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

from sqlalchemy import Column, UniqueConstraint
from sqlalchemy.schema import CreateColumn

from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.doctor import values
from sojourn.stores.sql.doctor.flaws import Kind
from sojourn.stores.sql.doctor.job import Job, Rebuilt, count, filled
from sojourn.stores.sql.names import postgres as names

ROW = "doctor_row"
"""MySQL has no name for a row without a key: a column that numbers them, while twins are parted."""
MAKING = "_doctor"
LOCK_TIMEOUT = 3  # seconds: behind us everybody else waits too
CHUNK = 1_000
PATIENCE = "SELECT set_config('lock_timeout', :timeout, true)"

PRIMARY_KEY = """
SELECT conname FROM pg_constraint
WHERE conrelid = to_regclass(:table) AND contype = 'p'
"""
NUMBERED_MYSQL = """
SELECT column_name, column_type FROM information_schema.columns
WHERE table_schema = database() AND table_name = :table AND extra LIKE '%auto_increment%'
    AND column_name <> :row
"""
PART_TWINS = """
DELETE FROM {table} USING (
    SELECT ctid AS place, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS twin FROM {table}
) AS numbered WHERE {table}.ctid = numbered.place AND numbered.twin > 1
"""
TWINS_MYSQL = """
SELECT {row} FROM (
    SELECT {row}, row_number() OVER (PARTITION BY {key} ORDER BY {order}, {row}) AS twin FROM {table}
) AS numbered WHERE twin > 1
"""


def postgres(tx: Tx, job: Job) -> Rebuilt:
    """Rebuild in the transaction under way."""
    tx.patiently(thinking=True)
    tx.rows(PATIENCE, {"timeout": f"{LOCK_TIMEOUT}s"})
    name = job.name
    tx.do(filled("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE", table=name))
    tx.do(filled("CREATE TABLE {copy} AS TABLE {table}", copy=job.copy, table=name))
    before = count(tx, name)
    for column in job.missing:
        kind = column.type.compile(job.compiler)
        tx.do(
            filled(
                "ALTER TABLE {table} ADD COLUMN {c} {kind}", table=name, c=column.name, kind=kind
            )
        )
        value = job.value(column)
        tx.do(
            filled("UPDATE {table} SET {c} = {value}", table=name, c=column.name, value=value.sql)
        )
    _part_unreadable(tx, job)
    if job.changed:
        with names.set_aside(tx, name):
            for change in _types_postgres(job):
                tx.do(filled("ALTER TABLE {table} {change}", table=name, change=change))
    _fill_in(tx, job)
    for change in _rules_postgres(job):
        tx.do(filled("ALTER TABLE {table} {change}", table=name, change=change))
    if job.has(Kind.KEY):
        _keys_postgres(tx, job)
    if job.has(Kind.STORAGE):
        tx.do(filled("ALTER TABLE {table} SET LOGGED", table=name))
    after = count(tx, name)
    return Rebuilt(rows=after, aside=before - after)


def _part_unreadable(tx: Tx, job: Job) -> None:
    """Take out the rows that cannot be carried over."""
    unreadable = job.unreadable()
    if unreadable:
        tx.do(filled("DELETE FROM {table} WHERE {which}", table=job.name, which=unreadable))


def _fill_in(tx: Tx, job: Job) -> None:
    """Give a value to what lacks one, where others tell it."""
    for column in job.changed:
        value = job.value(column)
        if value.instead:
            fill = "UPDATE {table} SET {c} = {value} WHERE {c} IS NULL"
            tx.do(filled(fill, table=job.name, c=column.name, value=value.instead))


def _types_postgres(job: Job) -> Iterator[str]:
    for column in job.changed:
        if job.seen.columns[column.name].has_default:
            yield f"ALTER COLUMN {column.name} DROP DEFAULT"
        kind, using = _type(job, column), job.value(column).sql
        yield f"ALTER COLUMN {column.name} TYPE {kind} USING {using}"


def _rules_postgres(job: Job) -> Iterator[str]:
    for column in [*job.changed, *job.missing]:
        if column.server_default is not None:
            default = CreateColumn(column).compile(dialect=job.compiler)
            words = str(default).partition(" DEFAULT ")[2].removesuffix(" NOT NULL")
            yield f"ALTER COLUMN {column.name} SET DEFAULT {words}"
        if not column.primary_key:
            yield f"ALTER COLUMN {column.name} {'DROP' if column.nullable else 'SET'} NOT NULL"
    for name in job.foreign:
        yield f"ALTER COLUMN {name} DROP NOT NULL"


def _keys_postgres(tx: Tx, job: Job) -> None:
    name = job.name
    for key in values.keys(job.table):
        order = values.order_of_twins(job.table)
        tx.do(filled(PART_TWINS, table=name, key=", ".join(key), order=order))
    primary = [column.name for column in job.table.primary_key.columns]
    if job.seen.primary_key != primary:
        for row in tx.rows(PRIMARY_KEY, {"table": name}):
            tx.do(filled("ALTER TABLE {table} DROP CONSTRAINT {key}", table=name, key=row[0]))
        change = f"ADD PRIMARY KEY ({', '.join(primary)})"
        tx.do(filled("ALTER TABLE {table} {change}", table=name, change=change))
    for constraint in _lost_uniques(job):
        unique = str(constraint.name)
        drop = "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {key}"
        tx.do(filled(drop, table=name, key=unique))
        tx.do(filled("DROP INDEX IF EXISTS {key}", key=unique))
        columns = ", ".join(column.name for column in constraint.columns)
        add = "ALTER TABLE {table} ADD CONSTRAINT {key} UNIQUE ({columns})"
        tx.do(filled(add, table=name, key=unique, columns=columns))


def _lost_uniques(job: Job) -> list[UniqueConstraint]:
    lost = {flaw.name for flaw in job.flaws if flaw.kind is Kind.KEY}
    return [
        constraint
        for constraint in job.table.constraints
        if isinstance(constraint, UniqueConstraint) and str(constraint.name) in lost
    ]


def mysql(tx: Tx, job: Job) -> Rebuilt:
    """Rebuild on this connection, which is to be thrown away afterwards: its locks end with it."""
    tx.patiently(thinking=True)
    tx.do(filled("SET SESSION lock_wait_timeout = {seconds}", seconds=str(LOCK_TIMEOUT)))
    name = job.name
    tx.do(filled("CREATE TABLE {copy} LIKE {table}", copy=job.copy, table=name))
    names = {"table": name, "copy": job.copy}
    others = (
        " , sojourn_leases AS l READ" if name == "sojourn_pools" else ""
    )  # a fence is told from its leases
    with _locked(tx, filled("LOCK TABLES {table} WRITE, {copy} WRITE", **names) + others):
        tx.do(filled("INSERT INTO {copy} SELECT * FROM {table}", **names))
        before = count(tx, name)
        numbered = job.has(Kind.KEY) and ROW not in job.seen.columns
        # Under another name until it is filled: one without its values must not pass for the real one.
        added = [
            f"ADD COLUMN {column.name}{MAKING} {_type(job, column)} NULL"
            for column in job.missing
            if column.name + MAKING not in job.seen.columns
        ]
        if numbered:
            added += _numbered_by_others(tx, job)
            added.append(f"ADD COLUMN {ROW} BIGINT NOT NULL AUTO_INCREMENT UNIQUE")
        _alter(tx, name, added)
        for column in job.missing:
            fill = "UPDATE {table} SET {c} = {value}"
            value = job.value(column).sql
            tx.do(filled(fill, table=name, c=column.name + MAKING, value=value))
        _fill_in(tx, job)
        _part_unreadable(tx, job)
        _bytes_mysql(tx, job)
        _alter(tx, name, list(_columns_mysql(job)))
        if job.has(Kind.KEY):
            _part_twins_mysql(tx, job)
        _alter(tx, name, list(_keys_mysql(job)))
        after = count(tx, name)
    return Rebuilt(rows=after, aside=before - after)


def _numbered_by_others(tx: Tx, job: Job) -> list[str]:
    """Take the numbering from a column of somebody else's: MySQL lets one column of a table number rows."""
    changes = []
    for name, kind in tx.rows(NUMBERED_MYSQL, {"table": job.name, "row": ROW}):
        changes.append(f"MODIFY {name} {kind} NULL")
        if name in job.seen.primary_key:
            changes.append("DROP PRIMARY KEY")
            job.seen.primary_key.clear()
    return changes


@contextlib.contextmanager
def _locked(tx: Tx, lock: str) -> Iterator[None]:
    tx.do(lock)
    try:
        yield
    finally:
        with contextlib.suppress(Exception):  # they end with the connection, too
            tx.do("UNLOCK TABLES")


def _alter(tx: Tx, table: str, changes: Sequence[str]) -> None:
    if changes:
        tx.do(filled("ALTER TABLE {table} {changes}", table=table, changes=", ".join(changes)))


def _type(job: Job, column: Column[object]) -> str:
    return str(column.type.compile(job.compiler))


def _bytes_mysql(tx: Tx, job: Job) -> None:
    """Turn hashes written in letters into bytes, in a type that holds both."""
    for column in job.changed:
        kind = _type(job, column).lower()
        if kind.startswith("binary") and job.seen.columns[column.name].type != kind:
            _alter(tx, job.name, [f"MODIFY {column.name} VARBINARY(255)"])
            value = job.value(column).sql
            turn = "UPDATE {table} SET {c} = {value}"
            tx.do(filled(turn, table=job.name, c=column.name, value=value))


def _columns_mysql(job: Job) -> Iterator[str]:
    for column in job.changed:
        yield f"MODIFY {_made_mysql(job, column)}"
    for column in job.missing:
        yield f"CHANGE {column.name}{MAKING} {_made_mysql(job, column)}"
    if job.has(Kind.COLLATION):
        yield "DEFAULT CHARACTER SET utf8mb4"
    for name in job.foreign:
        yield f"MODIFY {name} {job.seen.columns[name].type} NULL"
    if job.has(Kind.STORAGE):
        yield "ENGINE = InnoDB ROW_FORMAT = DYNAMIC"


def _made_mysql(job: Job, column: Column[object]) -> str:
    """Return what makes a column, of text with its letters: else they would be the table's own."""
    made = str(CreateColumn(column).compile(dialect=job.compiler))
    return re.sub(r"\b((?:LONG)?TEXT)\b", r"\1 CHARACTER SET utf8mb4", made)


def _part_twins_mysql(tx: Tx, job: Job) -> None:
    for key in values.keys(job.table):
        order = values.order_of_twins(job.table)
        sql = filled(TWINS_MYSQL, table=job.name, key=", ".join(key), order=order, row=ROW)
        twins = [row[0] for row in tx.rows(sql, {})]
        for start in range(0, len(twins), CHUNK):
            part = ", ".join(map(str, twins[start : start + CHUNK]))
            delete = "DELETE FROM {table} WHERE {row} IN ({part})"
            tx.do(filled(delete, table=job.name, row=ROW, part=part))


def _keys_mysql(job: Job) -> Iterator[str]:
    if not job.has(Kind.KEY):
        return
    yield f"DROP COLUMN {ROW}"
    primary = [column.name for column in job.table.primary_key.columns]
    if job.seen.primary_key != primary:
        if job.seen.primary_key:
            yield "DROP PRIMARY KEY"
        yield f"ADD PRIMARY KEY ({', '.join(primary)})"
    for constraint in _lost_uniques(job):
        name = str(constraint.name)
        if name in job.seen.indexes:
            yield f"DROP INDEX {name}"
        columns = ", ".join(column.name for column in constraint.columns)
        yield f"ADD CONSTRAINT {name} UNIQUE ({columns})"
