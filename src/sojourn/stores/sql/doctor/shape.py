"""What the tables look like, read from the database's own catalog in two questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, field

from sojourn.stores.sql import schema
from sojourn.stores.sql.database import Rows as Rows
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend

NAMES = tuple(str(table.name) for table in schema.metadata.sorted_tables)

COLUMNS_POSTGRES = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, a.atthasdef,
       coll.collname || CASE WHEN coll.collisdeterministic THEN '' ELSE ', blind' END,
       c.relpersistence::text
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_collation AS coll ON coll.oid = a.attcollation
WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
ORDER BY c.relname, a.attnum
"""
INDEXES_POSTGRES = """
SELECT t.relname, i.relname, x.indisprimary, x.indisunique AND x.indpred IS NULL,
       x.indisvalid AND x.indisready AND x.indislive, a.attname, NULL
FROM pg_index AS x
JOIN pg_class AS i ON i.oid = x.indexrelid
JOIN pg_class AS t ON t.oid = x.indrelid
CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS k (number, place)
LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.number
WHERE t.relname = ANY(:names) AND pg_table_is_visible(t.oid)
ORDER BY t.relname, i.relname, k.place
"""
COLUMNS_MYSQL = """
SELECT c.table_name, c.column_name, c.column_type, c.is_nullable = 'YES',
       c.column_default IS NOT NULL OR c.extra LIKE '%auto_increment%', c.collation_name,
       coalesce(t.engine, t.table_type)
FROM information_schema.columns AS c
JOIN information_schema.tables AS t
    ON t.table_schema = c.table_schema AND t.table_name = c.table_name
WHERE c.table_schema = database() AND c.table_name IN :names
ORDER BY c.table_name, c.ordinal_position
"""
INDEXES_MYSQL = """
SELECT table_name, index_name, index_name = 'PRIMARY', non_unique = 0, TRUE,
       if(sub_part IS NULL, column_name, NULL), NULL
FROM information_schema.statistics
WHERE table_schema = database() AND table_name IN :names
ORDER BY table_name, index_name, seq_in_index
"""
COLUMNS_SQLITE = """
SELECT m.name, p.name, p.type, NOT p."notnull", p.dflt_value IS NOT NULL, NULL, p.pk
FROM sqlite_master AS m, pragma_table_info(m.name) AS p
WHERE m.type = 'table' AND m.name IN (SELECT value FROM json_each(:names)) ORDER BY m.name, p.cid
"""
INDEXES_SQLITE = """
SELECT m.name, l.name, l.origin = 'pk', l."unique" AND NOT l.partial, TRUE, x.name, x.coll
FROM sqlite_master AS m, pragma_index_list(m.name) AS l, pragma_index_xinfo(l.name) AS x
WHERE m.type = 'table' AND m.name IN (SELECT value FROM json_each(:names)) AND x.key
ORDER BY m.name, l.name, x.seqno
"""
TABLES = {
    Backend.POSTGRES: "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()",
    Backend.MYSQL: "SELECT table_name FROM information_schema.tables WHERE table_schema = database()",
    Backend.SQLITE: "SELECT name FROM sqlite_master WHERE type = 'table'",
}


VIEW = "VIEW"
"""As what a view is told by MySQL, which has no engine: a table waits for its name, see `names.mysql`."""


class Column(Struct):
    """A column as it is. `type` is written as the database writes it."""

    name: str
    type: str
    nullable: bool
    has_default: bool
    collation: str | None = None


class Index(Struct):
    """An index or a unique constraint as it is; a column that is an expression has no name."""

    name: str
    unique: bool
    valid: bool
    columns: list[str | None] = field(default_factory=list)


class TableSeen(Struct):
    """A table as it is. `kept_by` is MySQL's engine or VIEW, or PostgreSQL's persistence."""

    name: str
    columns: dict[str, Column] = field(default_factory=dict)
    primary_key: list[str | None] = field(default_factory=list)
    indexes: dict[str, Index] = field(default_factory=dict)
    kept_by: str = ""


Shape = dict[str, TableSeen]
"""Our tables that are there, by name."""


def read(tx: Tx, names: Sequence[str] = NAMES) -> Shape:
    """Read what is there of these tables."""
    backend = tx.dialect.backend
    given = {"names": tx.dialect.keys(names)}
    shape: Shape = {}
    for row in tx.rows(_COLUMNS[backend], given):
        table = shape.setdefault(row[0], TableSeen(row[0]))
        name, kind, nullable, default, collation = row[1:6]
        table.columns[name] = Column(name, str(kind), bool(nullable), bool(default), collation)
        table.kept_by = str(row[6])
    if backend is Backend.SQLITE:
        _read_sqlite_keys(tx, shape, given["names"])
        return shape
    for row in tx.rows(_INDEXES[backend], given):
        if not row[2]:
            _add(shape[row[0]], row)
        elif row[4]:
            shape[row[0]].primary_key.append(row[5])
    return shape


def _add(table: TableSeen, row: Sequence[Any]) -> None:
    """Add a column to an index, as the catalog's row says."""
    name, _, unique, valid, column = row[1:6]
    index = table.indexes.setdefault(name, Index(name, bool(unique), bool(valid)))
    index.columns.append(column)


def _read_sqlite_keys(tx: Tx, shape: Shape, names: object) -> None:
    """Read keys; a column's collation is known by the indexes that it is in."""
    for name, column, _, _, _, _, place in tx.rows(COLUMNS_SQLITE, {"names": names}):
        if place:  # 1 for the first column of the primary key
            key = shape[name].primary_key
            key.extend([None] * (place - len(key)))
            key[place - 1] = column
    for row in tx.rows(INDEXES_SQLITE, {"names": names}):
        table, column, collation = shape[row[0]], row[5], row[6]
        if not row[2]:
            _add(table, row)
        if column in table.columns and (collation or "BINARY") != "BINARY":
            table.columns[column].collation = collation


_COLUMNS = {
    Backend.POSTGRES: COLUMNS_POSTGRES,
    Backend.MYSQL: COLUMNS_MYSQL,
    Backend.SQLITE: COLUMNS_SQLITE,
}
_INDEXES = {Backend.POSTGRES: INDEXES_POSTGRES, Backend.MYSQL: INDEXES_MYSQL}


def tables(tx: Tx) -> set[str]:
    """Name all tables of this database's (PostgreSQL: schema's), also those of others."""
    return {row[0] for row in tx.rows(TABLES[tx.dialect.backend], {})}
