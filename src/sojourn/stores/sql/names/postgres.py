"""Renaming in PostgreSQL: in the transaction of the migration, with views by the old names.

Everybody who uses the tables waits for that transaction, so it waits for nobody for long: it takes the locks
that it needs at once, and gives them back where somebody keeps it from one of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from sqlalchemy.exc import DBAPIError

from sojourn.errors import StoreUnavailable
from sojourn.stores.sql.database import Rows, Tx
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.names.facts import (
    LOCK_ATTEMPTS,
    LOCK_PAUSE,
    LOCK_TIMEOUT,
    PREFIX,
    index_names,
    view,
)

IN_USE = "The tables are in use by a transaction that takes long."
WAIT = f"Nothing was changed. See that no backup or report runs; {LOCK_ATTEMPTS} times were tried."
BUSY = frozenset({"SQLSTATE 55P03", "SQLSTATE 40P01"})  # lock_timeout, deadlock
COMMENT = "The name that programs of Sojourn before version 0006 know."

PATIENCE = "SELECT set_config('lock_timeout', :timeout, true)"
PLACES = """
SELECT c.relname, quote_ident(n.nspname), quote_ident(pg_get_userbyid(c.relowner)),
    c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = ANY(:names) AND c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid)
"""
OWNER = """
SELECT quote_ident(pg_get_userbyid(c.relowner)),
    c.relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user)
FROM pg_class AS c WHERE c.oid = to_regclass(:table)
"""
INDEXES = """
SELECT i.relname FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid
WHERE x.indrelid = to_regclass(:table)
"""
GRANTS = """
SELECT a.privilege_type,
    CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
FROM pg_class AS c, aclexplode(c.relacl) AS a
WHERE c.oid = to_regclass(:table) AND a.grantee <> c.relowner
    AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
"""
VIEWS = """
SELECT c.relname, quote_ident(n.nspname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = ANY(:names) AND c.relkind = 'v' AND pg_table_is_visible(c.oid)
    AND obj_description(c.oid, 'pg_class') = :comment
"""


def rename(tx: Tx, nouns: Sequence[str]) -> None:
    """Rename tables and their indexes, and let the old names lead to them."""
    places = {row[0]: row[1:] for row in tx.rows(PLACES, {"names": list(nouns)})}
    lock(tx, [f"{places[noun][0]}.{noun}" for noun in nouns])
    for noun in nouns:
        place, owner, mine = places[noun]
        old, new = f"{place}.{noun}", f"{place}.{PREFIX}{noun}"
        tx.do(f"DROP TABLE IF EXISTS {new}")  # empty: see `facts.due`
        tx.do(f"ALTER TABLE {old} RENAME TO {PREFIX}{noun}")
        names = index_names(noun)
        for (index,) in tx.rows(INDEXES, {"table": new}):
            if index in names:
                tx.do(f"ALTER INDEX {place}.{index} RENAME TO {names[index]}")
        _lead(tx, old, new, tx.rows(GRANTS, {"table": new}), owner=None if mine else owner)


def _lead(tx: Tx, old: str, new: str, rights: Rows, *, owner: str | None) -> None:
    """Let an old name lead to its table, with what others may do there."""
    tx.do(view(old, new))
    tx.do(f"COMMENT ON VIEW {old} IS '{COMMENT}'")
    for right, who in rights:
        tx.do(f"GRANT {right} ON {old} TO {who}")
    if owner is not None:
        tx.do(f"ALTER VIEW {old} OWNER TO {owner}")


@contextlib.contextmanager
def set_aside(tx: Tx, table: str) -> Iterator[None]:
    """Take the view by a table's old name away while its columns change, which PostgreSQL refuses otherwise;
    then make it as it was, in the same transaction. The table is locked already, and so is who uses it."""
    noun = table.removeprefix(PREFIX)
    place = views(tx, [noun]).get(noun)
    if place is None:
        yield
        return
    old = f"{place}.{noun}"
    rights = tx.rows(GRANTS, {"table": old})
    [(owner, mine)] = tx.rows(OWNER, {"table": old})
    tx.do(f"DROP VIEW {old}")
    yield
    _lead(tx, old, f"{place}.{table}", rights, owner=None if mine else owner)


def lock(tx: Tx, names: Sequence[str]) -> None:
    """Keep everybody else off these tables. Raises StoreUnavailable if somebody will not let go."""
    _patiently(tx, f"LOCK TABLE {', '.join(names)} IN ACCESS EXCLUSIVE MODE")


def _patiently(tx: Tx, statement: str) -> None:
    """Run a statement that waits for all who use a table or view, a few short times rather than long."""
    tx.rows(PATIENCE, {"timeout": f"{LOCK_TIMEOUT}s"})
    for attempt in range(LOCK_ATTEMPTS):
        tx.do("SAVEPOINT names")
        try:
            tx.do(statement)
        except DBAPIError as error:
            fault = classify(error)
            if fault is None or fault.code not in BUSY:
                raise
            tx.do("ROLLBACK TO SAVEPOINT names")
            if attempt + 1 == LOCK_ATTEMPTS:
                raise StoreUnavailable(IN_USE, hint=WAIT) from error
            time.sleep(LOCK_PAUSE)
        else:
            return


def views(tx: Tx, nouns: Sequence[str]) -> dict[str, str]:
    """Return the old names that are views of ours, each with its schema."""
    rows = tx.rows(VIEWS, {"names": list(nouns), "comment": COMMENT})
    return {row[0]: row[1] for row in rows}


def drop(tx: Tx, places: dict[str, str]) -> None:
    """Drop views. To lock one beforehand would lock the table that it leads to, which all others use."""
    names = [f"{place}.{noun}" for noun, place in places.items()]
    _patiently(tx, f"DROP VIEW {', '.join(names)}")
