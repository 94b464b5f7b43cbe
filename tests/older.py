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
SESSIONS_SINCE = (
    (re.compile(r"\bs\.label, s\.last_device\b"), "NULL, NULL"),
    (re.compile(r"\bs\.label\b"), "NULL"),
    (re.compile(r"\blabel, last_device, "), ""),
    (re.compile(r"(?:%\(label\)s|:label), NULL, "), ""),
)
"""Columns that came later, as the programs of then did without them: they read none of these."""
SEAT_COLUMNS_SINCE = ("overdraft", "member_of", "reservations", "line_until", "allotments")
"""Columns of leases and pools that came later: no program of before names them."""
SINCE = re.compile(
    r",\s*(?::(?:{0})\b|%\((?:{0})\)s"
    r"|(?:{0})\b(?: boolean| text)?(?: = (?:excluded\.|VALUES\()\w+\)?)?)".format(
        "|".join(SEAT_COLUMNS_SINCE)
    )
)
READ_SINCE = (
    (re.compile(r"\b(?:l|leases)\.overdraft, (?:l|leases)\.member_of"), "FALSE, NULL"),
    (re.compile(r"\boverdraft, reservations(?= FROM)"), "0, NULL"),
    (re.compile(r"\bfence, line_until, allotments(?=, )"), "fence, 0, NULL"),
    (re.compile(r"\bid, allotments(?=, )"), "id, NULL"),
    (
        re.compile(r"\bFROM sojourn_waiting\b"),
        "FROM (SELECT id AS pool_id, id AS user_id, id AS client_id, 0 AS expires_at FROM pools LIMIT 0) w",
    ),
)
"""What a reader of today makes of rows that lack them."""
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
    statement = NEW_NAME.sub("", statement)
    for columns, instead in (*SESSIONS_SINCE, *READ_SINCE):
        statement = columns.sub(instead, statement)
    return SINCE.sub("", statement)


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


def opened(url: str) -> SqlStore:
    store = stores.open_store(url)
    assert isinstance(store, SqlStore)
    return store


def fill(store: SqlStore) -> Lease:
    """Let something happen that leaves rows in most tables."""
    store.define([pool(SEATS)])
    store.create([NewSession(id="ses", token_hash=PERSON, user_id="ann")])
    store.create([NewSession(id="gone", token_hash=b"g" * 32, user_id="bob")])
    store.end(ids=["gone"])
    store.pulse()
    return take(store, "ann", session_id="ses")


COLUMNS_SINCE = frozenset(
    {
        "schema_version",
        "allowed_origins",
        "allotment_ttl",
        "label",
        "last_device",
        *SEAT_COLUMNS_SINCE,
    }
)
"""Columns that came after version 0005."""


def rows(url: str, *, prefix: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read every row of every table, by the columns that it had before."""
    found = {}
    for noun in NOUNS:
        table = facts.ours(noun)
        columns = ", ".join(c.name for c in table.columns if c.name not in COLUMNS_SINCE)
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
