"""Rebuilding a damaged table in SQLite, which cannot change one: made anew beside it, filled, put in its
place, in one transaction under the file's lock (https://sqlite.org/lang_altertable.html, 7)."""

from __future__ import annotations

from sqlalchemy import MetaData
from sqlalchemy.schema import CreateTable

from sojourn.stores.sql import migrations, schema
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.doctor import values
from sojourn.stores.sql.doctor.job import Job, Rebuilt, count, filled
from sojourn.stores.sql.doctor.values import Value

SUFFIX = "_doctor"


def sqlite(tx: Tx, job: Job) -> Rebuilt:
    """Rebuild in the transaction under way."""
    made = job.name + SUFFIX
    tx.do(filled("CREATE TABLE {copy} AS SELECT * FROM {table}", copy=job.copy, table=job.name))
    before = count(tx, job.name)
    copy = job.table.to_metadata(MetaData(), name=made)
    tx.core(CreateTable(copy))
    for name in job.others:  # columns of somebody else's stay, and may be left empty
        kind = job.seen.columns[name].type
        tx.do(filled('ALTER TABLE {made} ADD COLUMN "{c}" {kind}', made=made, c=name, kind=kind))
    tx.do(_fill(job, made))
    tx.do(filled("DROP TABLE {table}", table=job.name))
    tx.do(filled("ALTER TABLE {made} RENAME TO {table}", made=made, table=job.name))
    migrations.ensure(tx.connection, schema.metadata)  # its indexes went with the table
    after = count(tx, job.name)
    return Rebuilt(rows=after, aside=before - after)


def _fill(job: Job, made: str) -> str:
    """Say how every readable row gets in, of twins the one to keep."""
    ours = [column.name for column in job.table.columns]
    names = ", ".join([*ours, *(f'"{name}"' for name in job.others)])
    read = [f"{_value(job.value(column))} AS {column.name}" for column in job.table.columns]
    readable = [
        value.readable for column in job.table.columns if (value := job.value(column)).readable
    ]
    rows = filled(
        "SELECT {read} FROM {table} WHERE {readable}",
        read=", ".join([*read, *(f'"{name}"' for name in job.others)]),
        table=job.name,
        readable=" AND ".join(readable) or "TRUE",
    )
    order = values.order_of_twins(job.table)
    for key in values.keys(job.table):
        rows = filled(
            "SELECT {names} FROM (SELECT {names}, row_number() OVER (PARTITION BY {key}"
            " ORDER BY {order}) AS twin FROM ({rows})) WHERE twin = 1",
            names=names,
            key=", ".join(key),
            order=order,
            rows=rows,
        )
    return filled("INSERT INTO {made} ({names}) {rows}", made=made, names=names, rows=rows)


def _value(value: Value) -> str:
    return f"coalesce({value.sql}, {value.instead})" if value.instead else value.sql
