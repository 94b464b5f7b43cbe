"""What connect-pg-simple's table is like, and what its rows are."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from sojourn.adapters.express import payload
from sojourn.adapters.express.schema import Names
from sojourn.stores.sql.database import Database, Tx

PAGE = 2_000
ROWS_MAX = 1_000_000
"""Rows that are read; a table of more has other troubles, which are told too."""
SID_MIN = 32
"""Characters of express-session's own sids."""

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), format_type(a.atttypid, a.atttypmod),
    a.attnotnull AND NOT a.atthasdef AND a.attidentity = '',
    CASE WHEN a.atttypmod > 4 THEN a.atttypmod - 4 END
FROM pg_attribute AS a WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped
"""
KEYS = """
SELECT c.conname, array(SELECT a.attname::text FROM unnest(c.conkey) AS k (n) JOIN pg_attribute AS a
    ON a.attrelid = c.conrelid AND a.attnum = k.n)
FROM pg_constraint AS c WHERE c.conrelid = to_regclass(:name) AND c.contype = 'p'
"""
UNIQUE = """
SELECT count(*) FROM pg_index AS i JOIN pg_attribute AS a
ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = to_regclass(:name) AND i.indisunique AND i.indisvalid AND i.indimmediate
AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = 'sid'
"""
INDEXED = """
SELECT count(*) FROM pg_index AS i JOIN pg_attribute AS a
ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = to_regclass(:name) AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'expire'
"""
ROWS = """
SELECT sid, sess::text FROM {express} WHERE sid > :after ORDER BY sid LIMIT :limit
"""


class Column(Struct, frozen=True):
    name: str
    kind: str
    whole: str  # the type with its length
    demanded: bool  # NOT NULL, and nothing gives it a value
    length: int | None


class Shape(Struct, frozen=True):
    """Attributes: key: name and columns of the primary key; unique: `ON CONFLICT (sid)` works."""

    columns: dict[str, Column]
    key: tuple[str, tuple[str, ...]] | None
    unique: bool
    indexed: bool

    @property
    def missing(self) -> list[str]:
        return [name for name in ("sid", "sess", "expire") if name not in self.columns]


def shape_of(tx: Tx, names: Names) -> Shape:
    """Read what the table is like."""
    name = {"name": names.express}
    columns = {row[0]: Column(*row) for row in tx.rows(COLUMNS, name)}
    keys = [(str(row[0]), tuple(row[1])) for row in tx.rows(KEYS, name)]
    return Shape(
        columns,
        keys[0] if keys else None,
        bool(tx.rows(UNIQUE, name)[0][0]),
        bool(tx.rows(INDEXED, name)[0][0]),
    )


class Odd(Struct):
    """Rows that Express cannot load: by the lack of a cookie, which can be made; or at all."""

    total: int = 0
    bare: list[str] = []
    unreadable: list[str] = []


def odd_rows(db: Database, names: Names) -> Odd:
    """Read every row, in pieces."""
    odd = Odd(0, [], [])
    for sid, text in _rows(db, names):
        odd.total += 1
        parts = payload.read(text)
        if parts is None:
            odd.unreadable.append(sid)
        elif not payload.has_cookie(parts):
            odd.bare.append(sid)
    return odd


def _rows(db: Database, names: Names) -> Iterator[tuple[str, str]]:
    after, sql = "", names.fill(ROWS)
    for _ in range(ROWS_MAX // PAGE):
        params = {"after": after, "limit": PAGE}
        page = db.read(lambda tx, params=params: tx.rows(sql, params))  # type: ignore[misc]  # mypy does not infer defaults
        yield from ((row[0], row[1]) for row in page)
        if len(page) < PAGE:
            return
        after = page[-1][0]
