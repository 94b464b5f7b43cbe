"""Databases of before version 0006, and a store that speaks as programs did then.

Until then tables were called `sessions`, `leases` …; in `schema_0005/` are the statements that made them, as
the last version before the change wrote them. Its other statements were those of today, without the prefix.
"""

from __future__ import annotations

import re
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, make_url, text

from sojourn.clock import DAY, STORE_CLOCK
from sojourn.doctor.doctor import Doctor
from sojourn.lease import Lease
from sojourn.session import NewSession
from sojourn.stores import open as stores
from sojourn.stores.sql import schema
from sojourn.stores.sql.database import Database
from sojourn.stores.sql.names import facts
from sojourn.stores.sql.names.facts import NOUNS, PREFIX
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import pool, take

SEATS = 40
PERSON = b"p" * 32
"""The token of whom `fill` signs in."""
SCHEMAS = Path(__file__).parent / "schema_0005"
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
NEW_NAME = re.compile(rf"\bsojourn_(?=(?:{'|'.join(NOUNS)})(?:_|\b))")
def rows(url: str, *, prefix: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read every row of every table, by the columns that it had before."""
    found = {}
    for noun in NOUNS:
        table = facts.ours(noun)
        columns = ", ".join(c.name for c in table.columns if c.name not in LATER)
        read = execute(url, f"SELECT {columns} FROM {prefix}{noun}")
        found[noun] = sorted(map(tuple, read), key=repr)
    return found


def assert_kept(before: dict[str, list[tuple[Any, ...]]], url: str) -> None:
    """Every row is as it was; marks may have come to those that were there."""
    after = rows(url, prefix=PREFIX)
    assert set(before.pop("marks")) <= set(after.pop("marks"))
    assert after == before


def names(url: str) -> tuple[set[str], set[str]]:
    """Return the tables and the views that have one of our names."""
    engine = engine_of(url)
    found = inspect(engine)
    ours = {*NOUNS, *schema.metadata.tables}
    there = ours & set(found.get_table_names()), ours & set(found.get_view_names())
    engine.dispose()
    return there


def indexes(url: str) -> dict[str, set[str]]:
    engine = engine_of(url)
    found = {
        table: {str(each["name"]) for each in inspect(engine).get_indexes(table)}
        | {str(inspect(engine).get_pk_constraint(table)["name"])}
        for table in schema.metadata.tables
    }
    engine.dispose()
    return found


def wrong(url: str) -> dict[str, str]:
    """What doctor finds: the title of each finding that is not well, by its check."""
    examiner = stores.open_examiner(url, place="here")
    assert examiner is not None
    with closing(examiner):
        seen = list(Doctor([examiner], nullcontext).examine())
    return {x.check.id: x.finding.title for x in seen if x.finding.verdict.rank}


def age_the_renaming(url: str) -> None:
    execute(url, f"UPDATE sojourn_marks SET value = value - {DAY} WHERE name = 'renamed'")
