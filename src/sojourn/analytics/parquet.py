"""Tables as Parquet files, for programs that read columns: pandas, Polars, DuckDB, Spark.

Writes the part of the format that every reader knows: one row group, one plain page a column, no
compression, and a footer in Thrift's compact protocol. Source: `parquet.thrift` and Encodings.md of the
Parquet format, and the specification of the compact protocol. There is no library behind it: pyarrow takes
more room than all of `sojourn[server]`. pyarrow 25 has read the file that the tests hold this to.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from itertools import groupby
from typing import Any

from msgspec import Struct

MAGIC = b"PAR1"
ROWS_MAX = 1_000_000
"""Rows of a file. All of them are in memory."""
CREATED_BY = "sojourn"

INT, LONG, BYTES, LIST, STRUCT = 5, 6, 8, 9, 12
"""Types of the compact protocol."""
TRUE = 1
REQUIRED, OPTIONAL = 0, 1
PLAIN, RLE = 0, 3

Field = tuple[int, int, Any]
"""Of a Thrift struct: its number, its type, its value. Fields are in the order of their numbers."""


class Kind(Enum):
    """What a column has. The value is Parquet's physical type."""

    WHOLE = 2  # int; INT64
    FIGURE = 5  # int or float; DOUBLE
    TEXT = 6  # str; UTF-8
    INSTANT = 102  # RFC 3339 text; milliseconds UTC as INT64

    @property
    def physical(self) -> int:
        return self.value % 100


class Cells(Struct, frozen=True):
    """A column of a table. Every one may have cells without a value, which are None."""

    name: str
    kind: Kind


def parquet(columns: Sequence[Cells], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return a file with these rows. Raises ValueError for more than ROWS_MAX."""
    if len(rows) > ROWS_MAX:
        raise ValueError(f"A table has at most {ROWS_MAX:,} rows.")
    out = bytearray(MAGIC)
    chunks = []
    for place, column in enumerate(columns if rows else ()):
        began = len(out)
        out += _page(column, [row[place] for row in rows])
        chunks.append(_chunk(column, began, len(out) - began, len(rows)))
    group: list[Field] = [
        (1, LIST, (STRUCT, chunks)),
        (2, LONG, len(out) - len(MAGIC)),
        (3, LONG, len(rows)),
    ]
    root: list[Field] = [(4, BYTES, "schema"), (5, INT, len(columns))]
    footer = _struct(
        [
            (1, INT, 1),
            (2, LIST, (STRUCT, [root, *(_element(column) for column in columns)])),
            (3, LONG, len(rows)),
            (4, LIST, (STRUCT, [group] if rows else [])),
            (6, BYTES, CREATED_BY),
        ]
    )
    return bytes(out + footer + struct.pack("<I", len(footer)) + MAGIC)


def _element(column: Cells) -> list[Field]:
    """Describe a column, by the older types and the newer ones."""
    fields: list[Field] = [
        (1, INT, column.kind.physical),
        (3, INT, OPTIONAL),
        (4, BYTES, column.name),
    ]
    if column.kind is Kind.TEXT:
        fields += [(6, INT, 0), (10, STRUCT, [(1, STRUCT, [])])]
    elif column.kind is Kind.INSTANT:
        timestamp: list[Field] = [(1, TRUE, None), (2, STRUCT, [(1, STRUCT, [])])]
        fields += [(6, INT, 9), (10, STRUCT, [(8, STRUCT, timestamp)])]
    return fields


def _chunk(column: Cells, began: int, size: int, rows: int) -> list[Field]:
    about: list[Field] = [
        (1, INT, column.kind.physical),
        (2, LIST, (INT, [PLAIN, RLE])),
        (3, LIST, (BYTES, [column.name])),
        (4, INT, 0),  # no compression
        (5, LONG, rows),
        (6, LONG, size),
        (7, LONG, size),
        (9, LONG, began),
    ]
    return [(2, LONG, began), (3, STRUCT, about)]


def _page(column: Cells, cells: Sequence[Any]) -> bytes:
    """Return a page with its header: which cells have a value, then the values."""
    levels = bytearray()
    for there, run in groupby(cell is not None for cell in cells):
        levels += _varint(len(list(run)) << 1) + bytes([there])
    values = b"".join(_plain(column.kind, cell) for cell in cells if cell is not None)
    body = struct.pack("<I", len(levels)) + bytes(levels) + values
    about: list[Field] = [(1, INT, len(cells)), (2, INT, PLAIN), (3, INT, RLE), (4, INT, RLE)]
    header: list[Field] = [
        (1, INT, 0),
        (2, INT, len(body)),
        (3, INT, len(body)),
        (5, STRUCT, about),
    ]
    return _struct(header) + body


def _plain(kind: Kind, cell: Any) -> bytes:
    if kind is Kind.WHOLE:
        return struct.pack("<q", cell)
    if kind is Kind.FIGURE:
        return struct.pack("<d", cell)
    if kind is Kind.INSTANT:
        return struct.pack("<q", round(datetime.fromisoformat(cell).timestamp() * 1_000))
    told: bytes = cell.encode("utf-8", "replace")
    return struct.pack("<I", len(told)) + told


# Thrift's compact protocol


def _struct(fields: Sequence[Field]) -> bytes:
    out, last = bytearray(), 0
    for number, type_, value in fields:
        out.append((number - last) << 4 | type_)
        last = number
        out += _value(type_, value)
    return bytes(out) + b"\0"


def _value(type_: int, value: Any) -> bytes:
    if type_ == TRUE:
        return b""  # its type says it
    if type_ in (INT, LONG):
        return _varint(value << 1 ^ value >> 63)
    if type_ == BYTES:
        told: bytes = value.encode()
        return _varint(len(told)) + told
    if type_ == STRUCT:
        return _struct(value)
    of, items = value
    short = len(items) < 15
    size = bytes([len(items) << 4 | of]) if short else bytes([0xF0 | of]) + _varint(len(items))
    return size + b"".join(_value(of, item) for item in items)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
