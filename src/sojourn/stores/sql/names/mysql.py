"""Renaming in MariaDB and MySQL: one RENAME TABLE puts tables, and the views by their old names, in place.

A view must be made over a table that is there, so an empty one stands in its place until then. What a killed
migration has left of this is used or cleared away by the next one.

Programs of an older version name indexes of `leases` in their statements, which no view has: that table keeps
its name, and a view has the new one, for as long as such programs may run. Statements of today then do
without: see `server.py`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.names.facts import (
    LOCK_ATTEMPTS,
    LOCK_PAUSE,
    PREFIX,
    Names,
    has_rows,
    index_names,
    view,
)

HINTED = "leases"
"""The table whose indexes statements name."""
OLD, ASIDE = f"{PREFIX}old_", f"{PREFIX}tmp_"
BUSY = "error 1205"  # lock_wait_timeout, which `migrations` sets
DENIED = frozenset({"error 1142", "error 1044", "error 1227"})
IN_USE = "The tables are in use by a transaction that takes long."
WAIT = f"See that no backup or report runs, then try again: {LOCK_ATTEMPTS} times were tried."

VIEWS = """
SELECT table_name, view_definition FROM information_schema.views
WHERE table_schema = database() AND table_name IN :names
"""


def rename(
    tx: Tx, nouns: Sequence[str], there: Names, *, programs: Sequence[str], wait: bool
) -> None:
    """Rename tables, and let the old names lead to them. `wait`: not the table whose indexes are named."""
    moved = [noun for noun in nouns if not (wait and noun == HINTED)]
    try:
        if len(moved) < len(nouns):
            if PREFIX + HINTED in there.tables:  # it stood in the place of the table
                tx.do(f"DROP TABLE {PREFIX}{HINTED}")
            tx.do(view(PREFIX + HINTED, HINTED))
        _make_views(tx, moved, there)
    except DBAPIError as error:
        fault = classify(error)
        if fault is None or fault.code not in DENIED:
            raise
        _without_views(tx, nouns, programs)
    else:
        _swap(tx, moved)
        clear(tx)


def rename_indexes(tx: Tx, there: Names) -> None:
    """Give the indexes of renamed tables their new names, as far as they lack them."""
    for noun, new in ((table.removeprefix(PREFIX), table) for table in sorted(there.tables)):
        if not new.startswith(PREFIX):
            continue
        names = index_names(noun)
        found = {str(each["name"]) for each in inspect(tx.connection).get_indexes(new)}
        changes = [f"RENAME INDEX {x} TO {names[x]}" for x in sorted(found) if x in names]
        if changes:
            _patiently(tx, f"ALTER TABLE {new} {', '.join(changes)}")


def views(tx: Tx, nouns: Sequence[str]) -> list[str]:
    """Return the old names that are views of ours."""
    rows = tx.rows(VIEWS, {"names": list(nouns)})
    return [row[0] for row in rows if str(row[1]).endswith(f"`{PREFIX}{row[0]}`")]


def take_hinted(tx: Tx) -> None:
    """Give the table whose indexes are named its new name at last."""
    clear(tx)
    tx.do(view(OLD + HINTED, PREFIX + HINTED))
    _swap(tx, [HINTED])
    clear(tx)


def drop(tx: Tx, nouns: Sequence[str]) -> None:
    clear(tx)  # what a killed `take_hinted` has left
    _patiently(tx, f"DROP VIEW {', '.join(nouns)}")


def _make_views(tx: Tx, nouns: Sequence[str], there: Names) -> None:
    for noun in nouns:
        if PREFIX + noun not in there.tables:
            tx.do(f"CREATE TABLE {PREFIX}{noun} LIKE {noun}")
        tx.do(view(OLD + noun, PREFIX + noun))


def _swap(tx: Tx, nouns: Sequence[str]) -> None:
    moves = [
        f"{PREFIX}{noun} TO {ASIDE}{noun}, {noun} TO {PREFIX}{noun}, {OLD}{noun} TO {noun}"
        for noun in nouns
    ]
    if moves:
        _patiently(tx, f"RENAME TABLE {', '.join(moves)}")


def _without_views(tx: Tx, nouns: Sequence[str], programs: Sequence[str]) -> None:
    """Rename where no view may be made: nobody may need one."""
    there = set(inspect(tx.connection).get_table_names())
    for noun in nouns:
        if PREFIX + noun in there:
            tx.do(f"DROP TABLE {PREFIX}{noun}")  # empty: it stood in the place of the table
    if programs:
        raise StoreBroken(
            "The tables get new names, and this user may not make views for the programs that know the old "
            f"ones: {'; '.join(programs)}.",
            hint="Grant it CREATE VIEW on the database, or stop those programs first. Nothing was changed.",
        )
    _patiently(tx, f"RENAME TABLE {', '.join(f'{x} TO {PREFIX}{x}' for x in nouns)}")


def clear(tx: Tx) -> None:
    """Take away what stood in the place of a table or a view."""
    found = inspect(tx.connection)
    left = [x for x in found.get_view_names() if x.startswith((OLD, ASIDE))]
    if left:
        tx.do(f"DROP VIEW {', '.join(left)}")
    for table in found.get_table_names():
        if table.startswith(ASIDE) and not has_rows(tx, table):
            tx.do(f"DROP TABLE {table}")


def _patiently(tx: Tx, statement: str) -> None:
    """Run a statement that waits for all who use a table, and behind which everybody else waits meanwhile: a
    few short times rather than a long one."""
    for attempt in range(LOCK_ATTEMPTS):
        try:
            tx.do(statement)
        except DBAPIError as error:
            fault = classify(error)
            if fault is None or fault.code != BUSY:
                raise
            if attempt + 1 == LOCK_ATTEMPTS:
                raise StoreUnavailable(IN_USE, hint=WAIT) from error
            time.sleep(LOCK_PAUSE)
        else:
            return
