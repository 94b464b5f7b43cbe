"""What is wrong with the tables: what they look like, held against what the code needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct
from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, Table, UniqueConstraint
from sqlalchemy.engine import Dialect as Compiler

from sojourn.stores.sql import columns, schema
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor.shape import VIEW, Index, Shape, TableSeen
from sojourn.stores.sql.doctor.shape import Column as ColumnSeen
from sojourn.stores.sql.names import facts

TYPE = re.compile(r"([a-z ]*[a-z])\s*(?:\((\d+)\))?")
UNBOUNDED = 1 << 31
KEPT_COMPILERS = 4  # databases of a process whose types are kept, spelled out
KEPT_AFFINITIES = 128  # a database has some ten types
FAMILIES: dict[str, tuple[str, int]] = {
    # PostgreSQL, MySQL: what kind of value, and how much of it. Bits; characters; bytes.
    "bigint": ("integer", 64),
    "integer": ("integer", 32),
    "int": ("integer", 32),
    "smallint": ("integer", 16),
    "mediumint": ("integer", 24),
    "tinyint": ("integer", 8),
    "boolean": ("boolean", 0),
    "bool": ("boolean", 0),
    "bytea": ("binary", UNBOUNDED),
    "character varying": ("text", UNBOUNDED),
    "varchar": ("text", UNBOUNDED),
    "longtext": ("text", UNBOUNDED),
    "mediumtext": ("text", 1 << 24),
    "tinytext": ("text", 255),
    "varbinary": ("binary", 0),
    "binary": ("fixed binary", 0),
}


class Kind(StrEnum):
    """What a flaw is about; each is the matter of one check."""

    TABLE = "table"
    COLUMN = "column"
    TYPE = "type"
    KEY = "key"
    COLLATION = "collation"
    INDEX = "index"
    STORAGE = "storage"
    FOREIGN = "foreign"


class Flaw(Struct, frozen=True):
    """`harmless` until something else happens."""

    kind: Kind
    table: str
    name: str  # of the column, the constraint or the index
    what: str
    harmless: bool = False


def find(shape: Shape, compiler: Compiler, backend: Backend) -> list[Flaw]:
    """Name everything that is not as the code needs it."""
    found: list[Flaw] = []
    for table in schema.metadata.sorted_tables:
        seen = shape.get(table.name)
        if seen is None:
            found.append(Flaw(Kind.TABLE, table.name, "", f"The table {table.name} is missing."))
            continue
        if seen.kept_by == VIEW:
            continue
        if facts.is_foreign(table, seen.columns, begun=True):
            what = f"The table {table.name} is not Sojourn's: it has other columns."
            found.append(Flaw(Kind.FOREIGN, table.name, "", what))
            continue
        found += _columns(table, seen, compiler, backend)
        found += _keys(table, seen, backend)
        found += _indexes(table, seen)
        found += _storage(seen, backend)
    return found


def _columns(table: Table, seen: TableSeen, compiler: Compiler, backend: Backend) -> Iterator[Flaw]:
    for column in table.columns:
        there = seen.columns.get(column.name)
        name = f"{table.name}.{column.name}"
        if there is None:
            yield Flaw(Kind.COLUMN, table.name, column.name, f"The column {name} is missing.")
            continue
        yield from _type(column, there, compiler, backend)
        yield from _collation(column, there, compiler, backend)
    for other in seen.columns.values():
        if other.name not in table.columns and not other.nullable and not other.has_default:
            what = (
                f"The column {table.name}.{other.name} is none of ours, and no row may lack it: "
                "new rows are refused."
            )
            yield Flaw(Kind.COLUMN, table.name, other.name, what)


def _type(
    column: Column[object], there: ColumnSeen, compiler: Compiler, backend: Backend
) -> Iterator[Flaw]:
    table, name = column.table.name, f"{column.table.name}.{column.name}"
    needed = _types(compiler)[column]
    if not _holds(needed, there.type, backend):
        what = f"{name} is {there.type or 'of no type'}, and must be {bare(needed)}."
        yield Flaw(Kind.TYPE, table, column.name, what)
    if column.nullable and not there.nullable:
        yield Flaw(Kind.TYPE, table, column.name, f"{name} must be given, and may be NULL here.")
    elif not column.nullable and there.nullable and not column.primary_key:
        what = f"{name} may be NULL, and must not."
        yield Flaw(Kind.TYPE, table, column.name, what, harmless=True)
    if column.server_default is not None and not there.has_default:
        yield Flaw(Kind.TYPE, table, column.name, f"{name} has lost its default.")


@lru_cache(maxsize=KEPT_COMPILERS)
def _types(compiler: Compiler) -> dict[Column[object], str]:
    """Return the type of each column of ours, as a database is told it."""
    columns = (column for table in schema.metadata.sorted_tables for column in table.columns)
    return {column: column.type.compile(compiler) for column in columns}


def bare(type_sql: str) -> str:
    """Return a type without its collation."""
    return re.split(r" (?:COLLATE|CHARACTER SET) ", type_sql)[0].lower()


def _holds(needed: str, there: str, backend: Backend) -> bool:
    """Tell whether a column of one type can hold every value of another, and give it back the same."""
    if backend is Backend.SQLITE:
        wanted, given = affinity(needed), affinity(there)
        return given == wanted or (wanted, given) == ("numeric", "integer")
    (kind, size), (kind_there, size_there) = _family(needed, backend), _family(there, backend)
    if kind == "boolean":
        return kind_there == "boolean" or (backend is Backend.MYSQL and kind_there == "integer")
    if kind == "fixed binary":
        return (kind_there == kind and size_there == size) or (
            kind_there == "binary" and size_there == size
        )
    return kind_there == kind and size_there >= size


def _family(type_sql: str, backend: Backend) -> tuple[str, int]:
    match = TYPE.match(bare(type_sql))
    if match is None:
        return type_sql, 0
    name = match[1].removesuffix(" unsigned")
    if name == "text":
        return "text", UNBOUNDED if backend is Backend.POSTGRES else 65_535
    family, size = FAMILIES.get(name, (name, 0))
    if family != "integer" and match[2]:
        size = int(match[2])
    return family, size


@lru_cache(maxsize=KEPT_AFFINITIES)
def affinity(type_sql: str) -> str:
    """Return a column's type affinity in SQLite (https://sqlite.org/datatype3.html, 3.1)."""
    upper = type_sql.upper()
    rules = (
        (("INT",), "integer"),
        (("CHAR", "CLOB", "TEXT"), "text"),
        (("BLOB",), "blob"),
        (("REAL", "FLOA", "DOUB"), "real"),
    )
    if not upper:
        return "blob"
    return next((kind for words, kind in rules if any(w in upper for w in words)), "numeric")


def _collation(
    column: Column[object], there: ColumnSeen, compiler: Compiler, backend: Backend
) -> Iterator[Flaw]:
    """Ids must compare byte by byte; text that people wrote must hold every letter."""
    if isinstance(column.type, (BigInteger, Boolean, LargeBinary)):
        return
    is_key = isinstance(column.type, schema.Key)
    name = f"{column.table.name}.{column.name}"
    wanted = {Backend.POSTGRES: "C", Backend.SQLITE: None}.get(backend, "")
    if backend is Backend.MYSQL:
        wanted = columns.byte_collation(compiler)
        if there.collation is None:  # of another type: told as that
            return
        if not is_key and there.collation.startswith(("utf8mb4_", "uca1400_")):
            return
    elif not is_key or (backend is Backend.POSTGRES and there.collation in ("C", "POSIX", None)):
        return
    if there.collation == wanted:
        return
    what = f"{name} has the collation {there.collation}, and must have {wanted or 'BINARY'}."
    # PostgreSQL's others compare byte by byte too, unless they say so; but they sort as the system's
    # libraries please, and an update of these breaks indexes.
    harmless = backend is Backend.POSTGRES and not str(there.collation).endswith(", blind")
    yield Flaw(Kind.COLLATION, column.table.name, column.name, what, harmless)


def _keys(table: Table, seen: TableSeen, backend: Backend) -> Iterator[Flaw]:
    key = [column.name for column in table.primary_key.columns]
    if not seen.primary_key:
        what = f"{table.name} has no primary key; it must be ({', '.join(key)})."
        yield Flaw(Kind.KEY, table.name, "primary key", what)
    elif seen.primary_key != key:
        there = ", ".join(map(str, seen.primary_key))
        what = f"The primary key of {table.name} is ({there}), and must be ({', '.join(key)})."
        yield Flaw(Kind.KEY, table.name, "primary key", what)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            name = str(constraint.name)
            columns = [column.name for column in constraint.columns]
            if not any(
                _is_unique(index, name, columns, backend) for index in seen.indexes.values()
            ):
                what = f"Nothing keeps ({', '.join(columns)}) of {table.name} unique."
                yield Flaw(Kind.KEY, table.name, name, what)


def _is_unique(index: Index, name: str, columns: list[str], backend: Backend) -> bool:
    named = index.name == name or backend is not Backend.MYSQL  # whose statements name it
    return named and index.unique and index.valid and index.columns == columns


def _indexes(table: Table, seen: TableSeen) -> Iterator[Flaw]:
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        name = str(index.name)
        there = seen.indexes.get(name)
        columns = [column.name for column in index.columns]
        if there is None:
            what = f"The index {name} of {table.name} is missing."
        elif not there.valid:
            what = f"The index {name} of {table.name} is invalid: the making of it was interrupted."
        elif there.columns != columns:
            has = ", ".join(map(str, there.columns))
            what = f"The index {name} of {table.name} is on ({has}), not ({', '.join(columns)})."
        else:
            continue
        yield Flaw(Kind.INDEX, table.name, name, what)


def _storage(seen: TableSeen, backend: Backend) -> Iterator[Flaw]:
    if backend is Backend.MYSQL and seen.kept_by != "InnoDB":
        what = f"{seen.name} is kept by {seen.kept_by}, which knows no transactions."
        yield Flaw(Kind.STORAGE, seen.name, seen.kept_by, what)
    if backend is Backend.POSTGRES and seen.kept_by != "p":
        what = f"{seen.name} is not logged: a crash of the server empties it."
        yield Flaw(Kind.STORAGE, seen.name, seen.kept_by, what)
