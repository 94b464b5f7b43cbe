"""Rows that no verb can read: told by reading every one, and set aside by a repair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from sojourn.finding import Finding, Step, failure, ok
from sojourn.lease import EndReason, Origin
from sojourn.stores.sql import rows, schema
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.doctor.job import FIX, filled, new_name
from sojourn.stores.sql.doctor.source import Source

IDS = "{in ids}"
ORIGINS = frozenset(Origin)
END_REASONS = frozenset(EndReason)
BATCH = 5_000
NAMED_MAX = 8
HASH_BYTES = 32

READ = "SELECT {columns} FROM {table} AS {alias} WHERE id > :after ORDER BY id LIMIT :batch"
HASHES = """
SELECT id, 'token_hash' FROM sojourn_sessions WHERE length(token_hash) <> :bytes
OR length(previous_hash) <> :bytes ORDER BY id
"""
MAKE_COPY = {
    Backend.POSTGRES: "CREATE TABLE {copy} AS TABLE {table} WITH NO DATA",
    Backend.MYSQL: "CREATE TABLE {copy} LIKE {table}",
    Backend.SQLITE: "CREATE TABLE {copy} AS SELECT * FROM {table} WHERE FALSE",
}
SPARED = {"device": "NULL", "data": "'{}'", "origin": "'granted'", "end_reason": "'released'"}
"""Without these a session or a seat is still whose it was: they are set to this, and the row stays."""


class Bad(Struct, frozen=True):
    """A row that cannot be read, and the columns at fault; none named: the row as a whole."""

    table: str
    id: str
    columns: tuple[str, ...] = ()

    @property
    def spared(self) -> bool:
        return bool(self.columns) and SPARED.keys() >= set(self.columns)


def look(source: Source) -> Finding:
    bad = source.db().read(find)
    if not bad:
        return ok("Every session and every seat can be read.")
    tables = ", ".join(dict.fromkeys(each.table for each in bad))
    named = [f"{x.table} {x.id}: {', '.join(x.columns) or 'its values'}" for x in bad[:NAMED_MAX]]
    if len(bad) > NAMED_MAX:
        named.append(f"and {len(bad) - NAMED_MAX:,} more")
    return failure(
        f"{len(bad):,} rows of {tables} cannot be read.",
        evidence=named,
        means="Whoever is looked up together with such a row is not recognized either; lists stay empty.",
        fix=FIX,
    )


def find(tx: Tx) -> list[Bad]:
    """Read every row as the verbs do."""
    bad = [*_scan(tx, "sojourn_sessions", "s", _session), *_scan(tx, "sojourn_leases", "l", _lease)]
    bad += _scan(tx, "sojourn_pools", "p", _pool)
    if tx.dialect.backend is not Backend.MYSQL:  # whose column takes no other
        for row in tx.rows(HASHES, {"bytes": HASH_BYTES}):
            bad.append(Bad("sojourn_sessions", row[0]))
    return list({(each.table, each.id): each for each in bad}.values())


def _scan(
    tx: Tx,
    table: str,
    alias: str,
    columns_at_fault: Callable[[Sequence[Any]], tuple[str, ...] | None],
) -> Iterator[Bad]:
    columns = {"s": rows.SESSION, "l": rows.LEASE, "p": f"id, {rows.POOL}"}[alias]
    sql = filled(READ, columns=columns, table=table, alias=alias)
    after = ""
    while True:
        batch = tx.rows(sql, {"after": after, "batch": BATCH})
        for row in batch:
            fault = columns_at_fault(row)
            if fault is not None:
                yield Bad(table, row[0], fault)
        if len(batch) < BATCH:
            return
        after = batch[-1][0]


def _session(row: Sequence[Any]) -> tuple[str, ...] | None:
    try:
        rows.session_of(row, 0)
    except (msgspec.MsgspecError, TypeError, ValueError, KeyError):
        return tuple(n for n, at in (("data", 2), ("device", 10)) if not _is_json(n, row[at]))
    return None


def _lease(row: Sequence[Any]) -> tuple[str, ...] | None:
    try:
        rows.lease_of(row)
    except (msgspec.MsgspecError, TypeError, ValueError, KeyError):
        known = {
            "device": _is_json("device", row[12]),
            "origin": row[9] in ORIGINS,
            "end_reason": row[14] is None or row[14] in END_REASONS,
        }
        return tuple(name for name, fine in known.items() if not fine)
    return None


def _pool(row: Sequence[Any]) -> tuple[str, ...] | None:
    try:
        rows.pool_of(row[1:])
    except (TypeError, ValueError, KeyError):
        return ()
    return None


def _is_json(column: str, text: str | None) -> bool:
    try:
        if column == "device":
            rows.device_from_json(text)
        else:
            rows.from_json(text or "")
    except (msgspec.MsgspecError, TypeError, ValueError):
        return False
    return True


class SetAside:
    """Copies unreadable rows to a table beside; then empties what can be, and takes out the rest."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def plan(self) -> Sequence[Step]:
        db = self._source.db()
        steps = []
        for table, bad in _by_table(db.read(find)).items():
            copy = db.read(lambda tx, table=table: new_name(tx, table, "unreadable"))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            steps.append(_step(table, bad, copy))
        return steps

    def apply(self) -> Iterator[Step]:
        db = self._source.db()
        for table, bad in _by_table(db.read(find)).items():
            copy = db.read(lambda tx, table=table: new_name(tx, table, "unreadable"))  # type: ignore[misc]  # as above

            def make(tx: Tx, table: str = table, copy: str = copy) -> None:
                tx.do(filled(MAKE_COPY[tx.dialect.backend], table=table, copy=copy))

            db.write(make)
            db.transaction(lambda tx, t=table, c=copy, b=bad: _set_aside(tx, t, c, b))  # type: ignore[misc]  # as above
            yield _step(table, bad, copy)


def _by_table(bad: Sequence[Bad]) -> dict[str, list[Bad]]:
    """Sort by table. A pool stays: without it, its seats could not be told from nobody's."""
    tables = (str(table.name) for table in (schema.sessions, schema.leases))
    found = {name: [each for each in bad if each.table == name] for name in tables}
    return {name: each for name, each in found.items() if each}


def _step(table: str, bad: Sequence[Bad], copy: str) -> Step:
    kept = sum(each.spared for each in bad)
    return Step(
        what=f"Copy {len(bad):,} rows of {table} to {copy}; empty what cannot be read of {kept:,}, "
        f"take {len(bad) - kept:,} out.",
        why="They cannot be read, and keep others from being read.",
        rows=len(bad),
        undo=f"{copy} keeps them as they were.",
    )


def _set_aside(tx: Tx, table: str, copy: str, bad: Sequence[Bad]) -> None:
    ids = {"ids": tx.dialect.keys([each.id for each in bad])}
    tx.do(
        filled("INSERT INTO {copy} SELECT * FROM {table} WHERE id ", copy=copy, table=table) + IDS,
        ids,
    )
    for column, empty in SPARED.items():
        some = [each.id for each in bad if each.spared and column in each.columns]
        if some:
            update = filled(
                "UPDATE {table} SET {c} = {empty} WHERE id ", table=table, c=column, empty=empty
            )
            tx.do(update + IDS, {"ids": tx.dialect.keys(some)})
    rest = [each.id for each in bad if not each.spared]
    if rest:
        tx.do(
            filled("DELETE FROM {table} WHERE id ", table=table) + IDS,
            {"ids": tx.dialect.keys(rest)},
        )
