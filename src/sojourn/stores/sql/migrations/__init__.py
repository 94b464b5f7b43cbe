"""Bringing a database's schema to the version this code needs.

Several servers may start at once: one migrates, the others wait for its lock and find nothing left to
do. A migration that was killed half way is taken up again: tables that exist already are kept.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, MetaData, insert, inspect, select

from sojourn.errors import StoreBroken, StoreUnavailable
from sojourn.stores.sql import events, schema
from sojourn.stores.sql.database import Database, Tx, translated
from sojourn.stores.sql.dialect import Backend
from sojourn.stores.sql.faults import MIGRATE
from sojourn.stores.sql.names import change, facts

FOLDER = Path(__file__).parent
LOCK = {"name": "sojourn:migrate", "number": 7_305_827_215, "timeout": 60}  # seconds

STUCK = "Run `sojourn doctor`: it says what is in the way."
VERSION = "SELECT version_num FROM sojourn_schema"
FORGET_VERSION = "DELETE FROM sojourn_schema WHERE version_num = :version"
PLACE_POSTGRES = "SELECT current_schema(), current_setting('search_path')"
LOCK_POSTGRES = "SELECT pg_advisory_xact_lock(:number)"
LOCK_MYSQL = "SELECT get_lock(concat(:name, ':', database()), :timeout)"
UNLOCK_MYSQL = "SELECT release_lock(concat(:name, ':', database()))"

MARK_BEHIND = """
UPDATE sojourn_marks SET value = (SELECT coalesce(max(id), 0) FROM {table})
WHERE name = :name AND (value IS NULL OR value < (SELECT coalesce(max(id), 0) FROM {table}))
"""


def head() -> str:
    """Return the schema's version that this code needs."""
    return max(known())


@functools.cache
def known() -> frozenset[str]:
    """Return the versions that this code knows: its migrations' files are named after them."""
    return frozenset(each.name[:4] for each in (FOLDER / "versions").glob("[0-9]*.py"))


def version(db: Database) -> str | None:
    """Return the schema's version; None if there is no schema."""
    return db.read(version_of)


def version_of(tx: Tx) -> str | None:
    """Return the version that the next migration starts from: after one that was cut off, the lowest."""
    return next(iter(versions_of(tx)), None)


def versions_of(tx: Tx) -> list[str]:
    """Return every version that is noted, the lowest first: more than one after a cut-off migration."""
    if not inspect(tx.connection).has_table(schema.VERSION_TABLE):
        return []
    return sorted(str(row[0]) for row in tx.rows(VERSION, {}))


def require(db: Database) -> None:
    """Raise StoreBroken unless the schema is the one this code needs, or a newer one."""
    found = version(db)
    if found is None:
        raise StoreBroken("The database has no Sojourn schema yet.", hint=MIGRATE)
    if found != head() and found in known():
        raise StoreBroken(
            f"The database's schema is at version {found}, and {head()} is needed.", hint=MIGRATE
        )


def migrate(db: Database) -> None:
    """Bring the schema to this code's version, and put back what is missing of it.

    Raises StoreBroken, and changes nothing, where an application has a table by the name of one of ours.
    """
    try:
        with translated(db), db.writing() as tx, _alone(tx):
            _bring_up(tx)
    except StoreBroken as error:
        if "sojourn migrate" not in error.hint:
            raise
        raise type(error)(error.message, hint=STUCK) from error  # it is what was run


def _bring_up(tx: Tx) -> None:
    _have_place(tx)
    noted = versions_of(tx)
    if not known().issuperset(noted):
        return  # newer code has been here: its schema is not ours to change
    if noted != [head()]:  # else all tables are ours: a start need not read each one's columns
        _keep_off(tx, begun=bool(noted))
        change.take_over(tx, begun=bool(noted))
        for later in noted[1:]:  # every step may be taken twice
            tx.do(FORGET_VERSION, {"version": later})
        _upgrade(tx.connection)
    repair(tx)
    change.finish(tx)


def _upgrade(connection: Connection) -> None:
    """Take the steps that are missing. Alembic is imported here: most starts need none of it."""
    from alembic import command  # noqa: PLC0415  # with its templates, a sixth of a server's start
    from alembic.config import Config  # noqa: PLC0415  # likewise

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _have_place(tx: Tx) -> None:
    """Raise StoreBroken where a connection to PostgreSQL works in no schema that is there."""
    if tx.dialect.backend is not Backend.POSTGRES:
        return
    current, path = tx.rows(PLACE_POSTGRES, {})[0]
    if current is None:
        raise StoreBroken(
            f"There is no schema {path} in the database, or it may not be used.",
            hint=f"Make it: CREATE SCHEMA {path}; or correct ?schema= in the store's URL.",
        )


def _keep_off(tx: Tx, *, begun: bool) -> None:
    """Raise StoreBroken if a table or view that has one of our names is somebody else's."""
    there = facts.read(tx)
    for table in schema.metadata.sorted_tables:
        if table.name not in there.tables | there.views:
            continue
        if facts.is_foreign(table, facts.columns_of(tx, table.name), begun=begun):
            raise StoreBroken(
                f"The database has a table {table.name} that is not Sojourn's. Nothing was changed.",
                hint="Give Sojourn a database of its own, and name that as the store. A table that "
                "nobody needs any more may be renamed instead.",
            )


def repair(tx: Tx) -> None:
    """Put back what is missing: tables, indexes, the rows that ids are counted in."""
    ensure(tx.connection, schema.metadata)
    restore_marks(tx)


def restore_marks(tx: Tx) -> None:
    """Put back the rows that ids are counted in, each at the last id that was given."""
    there = set(tx.core(select(schema.marks.c.name)).scalars())
    for name, table in events.MARKS.items():
        if name not in there:
            tx.core(insert(schema.marks), {"name": name})
        if table is not None:
            tx.do(MARK_BEHIND.replace("{table}", table), {"name": name})


@contextlib.contextmanager
def _alone(tx: Tx) -> Iterator[None]:
    """Keep other migrations out. Where DDL is transactional, all of it is one transaction."""
    if tx.dialect.backend is Backend.MYSQL:
        tx.patiently(thinking=True)
        if tx.rows(LOCK_MYSQL, LOCK)[0][0] != 1:
            raise StoreUnavailable("Another server is migrating the database and takes long.")
        try:
            tx.do(f"SET SESSION lock_wait_timeout = {facts.LOCK_TIMEOUT:d}")
            yield
        finally:
            with contextlib.suppress(Exception):  # the lock ends with its connection, too
                tx.do("SET SESSION lock_wait_timeout = DEFAULT")
                tx.rows(UNLOCK_MYSQL, LOCK)
        return
    with tx.transaction():
        tx.patiently(thinking=True)
        if tx.dialect.backend is Backend.POSTGRES:
            tx.rows(LOCK_POSTGRES, LOCK)
        yield


def ensure(connection: Connection, metadata: MetaData) -> None:
    """Create the tables and indexes that are missing; leave what is there."""
    metadata.create_all(connection, checkfirst=True)
    found = inspect(connection)
    views = set(found.get_view_names())  # one may lead to a table that waits for its name
    for table in metadata.sorted_tables:
        if table.name in views:
            continue
        there = {index["name"] for index in found.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in there:
                index.create(connection)
