"""Opening what a URL names: `memory:`, a SQLite file, PostgreSQL, MariaDB or MySQL, Redis or Valkey.

Nothing of a driver's is imported before a URL asks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sojourn.address import REDIS, SCHEMES, spelled, spread
from sojourn.analytics.keeper import MeasuredLedger
from sojourn.clock import DAY, STORE_CLOCK, Clock
from sojourn.errors import SettingsError
from sojourn.extras import installation
from sojourn.finding import Examiner
from sojourn.ledger import Ledger
from sojourn.store import Recorded, Recorder, Store

if TYPE_CHECKING:
    from sqlalchemy import URL

    from sojourn.stores.sql.database import Database

MAX_PAUSE = 10_000
EVENT_RETENTION = 30 * DAY

DRIVERS = {
    "postgresql": ("psycopg", "postgres"),
    "mysql": ("pymysql", "mysql"),
    "mariadb": ("pymysql", "mysql"),
    **dict.fromkeys(REDIS, ("redis", "redis")),
}
"""By scheme: the driver's module, and the extra that installs it."""


def open_store(
    url: str,
    *,
    clock: Clock = STORE_CLOCK,
    max_pause: int = MAX_PAUSE,
    migrate: bool = False,
    durable: bool = True,
    event_retention: int = EVENT_RETENTION,
    ip_retention: int | None = None,
) -> Store:
    """Open a store. On SQL its schema must be in place, unless `migrate` is to see to that."""
    if scheme_of(url) == "memory":
        from sojourn.stores.memory import MemoryStore  # noqa: PLC0415  # only if asked for

        return MemoryStore(
            clock,
            max_pause=max_pause,
            event_retention=event_retention,
            ip_retention=ip_retention,
        )
    if scheme_of(url) in REDIS:
        from sojourn.stores.redis.store import open_redis  # noqa: PLC0415  # only if asked for

        return open_redis(
            spelled(url),
            clock=clock,
            max_pause=max_pause,
            event_retention=event_retention,
            ip_retention=ip_retention,
        )
    from sojourn.stores.sql.store import SqlStore  # noqa: PLC0415  # only if asked for

    db = _database(url, clock=clock, durable=durable, migrate=migrate)
    return SqlStore(
        db, max_pause=max_pause, event_retention=event_retention, ip_retention=ip_retention
    )


def open_ledger(
    url: str,
    *,
    clock: Clock = STORE_CLOCK,
    migrate: bool = False,
    durable: bool = True,
) -> MeasuredLedger:
    """Open a ledger, always on SQL: `memory:` is a private database in this process's memory."""
    from sojourn.stores.sql.ledger import SqlLedger  # noqa: PLC0415  # only if asked for

    if scheme_of(url) == "memory":
        url = "sqlite:///:memory:"
    if scheme_of(url) in REDIS:
        raise SettingsError(
            "The ledger is kept in SQL.", hint="Give a database with --ledger, beside --store."
        )
    return SqlLedger(_database(url, clock=clock, durable=durable, migrate=migrate))


def recorder_of(store: Store, ledger: Ledger) -> Recorder | None:
    """Return what carries this store's events into the ledger, where they are not there already."""
    from sojourn.stores.recorder import LedgerRecorder  # noqa: PLC0415  # only if needed

    if not isinstance(store, Recorded):
        return None
    return LedgerRecorder(store, store, ledger)


def migrate(url: str) -> None:
    """Bring a database's schema to the version this code needs. Safe to run twice, or twice at once."""
    if scheme_of(url) not in ("memory", *REDIS):  # whose keys need no schema
        _database(url, clock=STORE_CLOCK, durable=True, migrate=True).close()


def schema_version(url: str) -> str | None:
    """Return the version of a database's schema; None if it has none."""
    if scheme_of(url) in ("memory", *REDIS):
        return None
    from sojourn.stores.sql import migrations  # noqa: PLC0415  # only if asked for

    db = _connected(url, clock=STORE_CLOCK, durable=True)
    try:
        return migrations.version(db)
    finally:
        db.close()


def open_examiner(url: str, *, place: str, ledger: bool = False) -> Examiner | None:
    """Return what looks at the database of a URL, in whatever state it is; opens nothing yet.

    `place`: the URL without credentials, for display. None: no table of ours can be looked at.
    """
    if scheme_of(url) == "memory":
        return None
    if scheme_of(url) in REDIS:
        from sojourn.stores.redis.doctor import RedisExaminer  # noqa: PLC0415  # only if asked for

        return RedisExaminer(spelled(url), place=place)
    from sojourn.stores.sql.doctor.examiner import SqlExaminer  # noqa: PLC0415  # only if asked for
    from sojourn.stores.sql.doctor.source import Source  # noqa: PLC0415  # only if asked for

    parsed = _parsed(url)
    sqlite = scheme_of(url) == "sqlite"
    return SqlExaminer(
        Source(
            lambda: _connected(url, clock=STORE_CLOCK, durable=True),
            place=place,
            prefix="ledger-" if ledger else "",
            url=None if sqlite else parsed,
            path=_path(parsed) if sqlite else None,
        )
    )


@contextlib.contextmanager
def repair_lock(ledger: str) -> Iterator[Callable[[], None]]:
    """Be the one doctor who repairs, or raise RepairBusy. A crash frees it, and so does being frozen:
    what is handed out raises StoreUnavailable if it is not held any more."""
    if scheme_of(ledger) == "memory":  # nobody else sees it
        yield lambda: None
        return
    from sojourn.stores.sql.doctor import lock  # noqa: PLC0415  # only if asked for

    with (
        contextlib.closing(_connected(ledger, clock=STORE_CLOCK, durable=True)) as db,
        lock.held(db) as assure,
    ):
        yield assure


def scheme_of(url: str) -> str:
    """Return a store URL's scheme; raise SettingsError if nothing can open it."""
    scheme = spelled(url).partition(":")[0].partition("+")[0]
    if scheme not in ("memory", "sqlite", *DRIVERS):
        raise SettingsError(
            f"A store URL cannot begin with {scheme + ':'!r}.", hint=f"Use one of {SCHEMES}."
        )
    if scheme in DRIVERS:
        driver, extra = DRIVERS[scheme]
        if find_spec(driver) is None:
            raise SettingsError(
                f"The driver for {scheme} is not installed.",
                hint=f"Run: {installation(extra)}",
            )
    return scheme


def _database(url: str, *, clock: Clock, durable: bool, migrate: bool) -> Database:
    """Open a database, and see that its schema is in place."""
    from sojourn.stores.sql import in_memory, migrations  # noqa: PLC0415  # only if asked for
    from sojourn.stores.sql.file import FileDatabase  # noqa: PLC0415  # likewise

    db = _connected(url, clock=clock, durable=durable)
    try:
        if isinstance(db, FileDatabase) and db.private:
            in_memory.prepare(db)
        elif migrate:
            migrations.migrate(db)
        migrations.require(db)
    except BaseException:
        db.close()
        raise
    return db


def _connected(url: str, *, clock: Clock, durable: bool) -> Database:
    parsed = _parsed(url)
    if scheme_of(url) == "sqlite":
        from sojourn.stores.sql.file import FileDatabase  # noqa: PLC0415  # only if asked for

        return FileDatabase(_path(parsed), clock=clock, durable=durable)
    from sojourn.stores.sql.server import ServerDatabase  # noqa: PLC0415  # only if asked for

    return ServerDatabase(parsed, clock=clock, durable=durable)


def _parsed(url: str) -> URL:
    from sqlalchemy import make_url  # noqa: PLC0415  # only if asked for
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415  # only if asked for

    try:
        return make_url(spread(spelled(url)))
    except ArgumentError:
        raise SettingsError(
            "The store's URL cannot be read.", hint=f"Use one of {SCHEMES}."
        ) from None


def _path(parsed: URL) -> Path | None:
    """Return the file; None for a private database in memory."""
    in_memory = parsed.database in (None, "", ":memory:")
    return None if in_memory else Path(str(parsed.database)).expanduser()
