"""Databases of before version 0006, and a store that speaks as programs did then.

Until then tables were called `sessions`, `leases` …; in `schema_0005/` are the statements that made them, as
the last version before the change wrote them. Its other statements were those of today, without the prefix.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url, text

from sojourn.clock import STORE_CLOCK
from sojourn.stores import open as stores
from sojourn.stores.sql.database import Database
from sojourn.stores.sql.names.facts import NOUNS
from sojourn.stores.sql.store import SqlStore

SCHEMAS = Path(__file__).parent / "schema_0005"
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
NEW_NAME = re.compile(rf"\bsojourn_(?=(?:{'|'.join(NOUNS)})(?:_|\b))")
REGISTER = """
INSERT INTO {table} (id, host, pid, version, fingerprints, started_at, seen_at)
VALUES ('srv_old', 'elder', 7, '0.1', '[]', 1, {now})
"""


def engine_of(url: str) -> Engine:
    parsed = make_url(url)
    return create_engine(parsed.set(drivername=DRIVERS[parsed.drivername]))


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements beside the store, each in its own transaction; return the last one's rows."""
    engine = engine_of(url)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                done = connection.execute(text(statement.replace(":", r"\:")))
            return list(done.all()) if done.returns_rows else []
    finally:
        engine.dispose()


def private(url: str) -> None:
    """Make a file as the store does: its owner's alone."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).touch(mode=0o600)


def make_database(url: str) -> None:
    """Make the schema of version 0005."""
    private(url)
    statements = (SCHEMAS / f"{make_url(url).drivername}.sql").read_text().split(";\n")
    execute(url, *filter(None, map(str.strip, statements)))


def as_before(statement: str) -> str:
    """Return a statement as programs before version 0006 send it."""
    return NEW_NAME.sub("", statement)


def speak_as_before(db: Database) -> None:
    def rewrite(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool
    ) -> tuple[str, Any]:
        return as_before(statement), parameters

    for engine in filter(None, (db.engine, getattr(db, "_reader_engine", None))):
        event.listen(engine, "before_cursor_execute", rewrite, retval=True)


def open_older(url: str) -> SqlStore:
    """Open the store as a program of before: it looks at no version, and knows the old names alone."""
    if url.startswith("postgresql"):
        url += f"{'&' if '?' in url else '?'}application_name=sojourn"
    db = stores._connected(url, clock=STORE_CLOCK, durable=True)
    speak_as_before(db)
    return SqlStore(
        db,
        max_pause=stores.MAX_PAUSE,
        event_retention=stores.EVENT_RETENTION,
    )


def register(url: str, *, table: str = "instances") -> None:
    """Let a server of before be registered as running."""
    now = {
        "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
        "postgresql": "(extract(epoch FROM now()) * 1000)::bigint",
        "mysql": "timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(3)) DIV 1000",
    }[make_url(url).drivername]
    execute(url, REGISTER.format(table=table, now=now))
