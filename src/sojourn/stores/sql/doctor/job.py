"""A table to be rebuilt: what is wrong with it, and where its rows are copied to first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property

from msgspec import Struct
from sqlalchemy import Column, Table
from sqlalchemy.engine import Dialect as Compiler

from sojourn.finding import Fix
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor import values
from sojourn.stores.sql.doctor.flaws import Flaw, Kind
from sojourn.stores.sql.doctor.shape import NAMES, TableSeen, tables
from sojourn.stores.sql.doctor.values import Value
from sojourn.stores.sql.names.facts import NOUNS

FIX = Fix(text="Let doctor mend it: it shows a plan first.", command="sojourn doctor --fix")
COPY = re.compile(rf"({'|'.join((*NAMES, *NOUNS))})_(?:before|unreadable)_(\d{{8}})(?:_\d+)?")
"""Names of the tables that doctor leaves behind, or has left before version 0006, and the day in them."""


class Rebuilt(Struct, frozen=True, kw_only=True):
    """What a rebuilding did: rows that are in the table, rows that are in the copy alone."""

    rows: int
    aside: int


class Job:
    """One table. `flaws` are all of its flaws, whichever check found one."""

    def __init__(
        self,
        table: Table,
        seen: TableSeen,
        flaws: Iterable[Flaw],
        *,
        copy: str,
        compiler: Compiler,
        backend: Backend,
    ) -> None:
        self.table = table
        self.seen = seen
        self.flaws = list(flaws)
        self.copy = copy
        self.compiler = compiler
        self._backend = backend

    @property
    def name(self) -> str:
        return str(self.table.name)

    def has(self, kind: Kind) -> bool:
        return any(flaw.kind is kind for flaw in self.flaws)

    @cached_property
    def missing(self) -> list[Column[object]]:
        """Columns that are not there."""
        return [column for column in self.table.columns if column.name not in self.seen.columns]

    @cached_property
    def changed(self) -> list[Column[object]]:
        """Columns that are there, and not as they must be."""
        kinds = (Kind.TYPE, Kind.COLLATION)
        names = {flaw.name for flaw in self.flaws if flaw.kind in kinds}
        return [c for c in self.table.columns if c.name in names and c.name in self.seen.columns]

    @cached_property
    def others(self) -> list[str]:
        """Columns that Sojourn did not make."""
        return [name for name in self.seen.columns if name not in self.table.columns]

    @cached_property
    def foreign(self) -> list[str]:
        """Those of them that no new row may lack."""
        names = {flaw.name for flaw in self.flaws if flaw.kind is Kind.COLUMN}
        return [name for name in self.others if name in names]

    def lost(self) -> list[str]:
        """Name the columns that are gone, and that nothing tells the values of."""
        return [c.name for c in self.missing if not values.derivable(c, self.seen.columns)]

    def value(self, column: Column[object]) -> Value:
        return values.value_of(column, self.seen.columns, self.compiler, self._backend)

    def unreadable(self) -> str:
        """Say, as a condition, which rows cannot be carried over; empty where all can."""
        keys = [column for key in values.keys(self.table) for column in key]
        matter = {*keys, *(column.name for column in self.changed)}
        conditions = [
            value.readable
            for column in self.table.columns
            if column.name in matter
            and column.name in self.seen.columns
            and (value := self.value(column)).readable
        ]
        return f"NOT coalesce(({' AND '.join(conditions)}), FALSE)" if conditions else ""


def filled(template: str, **names: str) -> str:
    """Put names of ours, and SQL made of them, into a statement. Values never come this way."""
    for name, text in names.items():
        template = template.replace(f"{{{name}}}", text)
    return template


def count(tx: Tx, table: str) -> int:
    return int(tx.rows(filled("SELECT count(*) FROM {table}", table=table), {})[0][0])


def new_name(tx: Tx, table: str, what: str) -> str:
    """Return a name that no table has yet, with today's date in it."""
    there = tables(tx)
    day = datetime.fromtimestamp(tx.now() / 1_000, UTC).strftime("%Y%m%d")
    name, number = f"{table}_{what}_{day}", 1
    while name in there:
        number += 1
        name = f"{table}_{what}_{day}_{number}"
    return name
