"""Renaming in a SQLite file, which one program uses at a time: in the transaction of the migration."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import inspect

from sojourn.stores.sql.database import Tx
from sojourn.stores.sql.names.facts import PREFIX, index_names


def rename(tx: Tx, nouns: Sequence[str]) -> None:
    """Rename tables. SQLite renames no index: those of ours are dropped, and made anew with the schema."""
    for noun in nouns:
        old = index_names(noun)
        for index in inspect(tx.connection).get_indexes(noun):
            if index["name"] in old:
                tx.do(f"DROP INDEX {index['name']}")
        tx.do(f"DROP TABLE IF EXISTS {PREFIX}{noun}")  # empty: see `facts.due`
        tx.do(f"ALTER TABLE {noun} RENAME TO {PREFIX}{noun}")
