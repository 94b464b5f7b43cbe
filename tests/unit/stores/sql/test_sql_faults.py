"""Faults of a database: each told by its code, none leaves the store as a driver's error."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pymysql
import pytest
from psycopg import errors as pg
from sqlalchemy import exc, text
from tests.waiting import ended

from sojourn.errors import (
    Conflict,
    InvalidInput,
    SettingsError,
    SojournError,
    StoreBroken,
    StoreUnavailable,
    TableMissing,
)
from sojourn.lease import Acquire, LeaseFilter, Release, Renew
from sojourn.session import NewSession, Save
from sojourn.store import Action, Store
from sojourn.stores import open as stores
from sojourn.stores.sql import filelock, migrations
from sojourn.stores.sql.faults import classify
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import key, pool
from sojourn.testing.servers import Server

HASH = b"h" * 32
ACTION = Action(actor="key:test")
VERBS: dict[str, Callable[[Store], object]] = {
    "create": lambda s: s.create([NewSession(id="a", token_hash=HASH, user_id="ann")]),
    "load": lambda s: s.load([HASH]),
    "save": lambda s: s.save([Save(id="a", set={"x": 1})]),
    "touch": lambda s: s.touch(["a"]),
    "rotate": lambda s: s.rotate("a", b"r" * 32),
    "end": lambda s: s.end(ids=["a"]),
    "end_once": lambda s: s.end(user_id="ann", idempotency=key()),
    "answered": lambda s: s.answered([key()]),
    "of": lambda s: s.of("ann"),
    "page": lambda s: s.page("ann"),
    "held": lambda s: s.held(user_id="ann"),
    "gone": lambda s: s.gone(["a"]),
    "define": lambda s: s.define([pool()]),
    "pools": lambda s: s.pools(["lic:x"]),
    "acquire": lambda s: s.acquire(
        [Acquire(pool_id="lic:x", user_id="ann", client_id="tab", lease_id="lea")]
    ),
    "renew": lambda s: s.renew([Renew(lease_id="lea", fence=1)]),
    "release": lambda s: s.release([Release(lease_id="lea", fence=1)]),
    "revoke": lambda s: s.revoke(LeaseFilter(), ACTION),
    "drop": lambda s: s.drop(["lic:x"], ACTION),
    "leases": lambda s: s.leases(LeaseFilter()),
    "events": lambda s: s.events(),
    "pulse": lambda s: s.pulse(),
    "sweep": lambda s: s.sweep(),
}
LACKING = {
    "sojourn_sessions": ("create", "load", "save", "touch", "rotate", "end", "of", "sweep"),
    "sojourn_leases": ("acquire", "renew", "release", "revoke", "leases", "sweep"),
    "sojourn_pools": ("define", "pools", "acquire", "renew", "drop"),
    "sojourn_marks": ("pulse", "acquire", "sweep"),
    "sojourn_events": ("events", "revoke"),
    "sojourn_requests": ("end_once", "answered", "sweep"),
}


@pytest.fixture(params=["sqlite_url", "postgres_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("table", LACKING)
def test_missing_table(url: str, table: str) -> None:
    """A missing table is said to be broken, with what to do, and `migrate` puts it back."""
    with closing(stores.open_store(url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        with store._db.writing() as tx:
            tx.core(text(f"DROP TABLE {table}"))
        for name in LACKING[table]:
            with pytest.raises(StoreBroken) as caught:
                VERBS[name](store)
            assert "sojourn migrate" in caught.value.hint
        assert any(f.title == f"The table {table} is missing." for f in store.check())
    stores.migrate(url)
    with closing(stores.open_store(url)) as store:
        for verb in VERBS.values():
            verb(store)


def test_no_schema(url: str) -> None:
    with pytest.raises(StoreBroken, match="no Sojourn schema") as caught:
        stores.open_store(url)
    assert "sojourn migrate" in caught.value.hint
    assert stores.schema_version(url) is None


def test_old_schema(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.migrate(url)
    made = migrations.head()
    monkeypatch.setattr(migrations, "head", lambda: "9999")
    with pytest.raises(StoreBroken, match=f"version {made}") as caught:
        stores.open_ledger(url)
    assert "sojourn migrate" in caught.value.hint


def test_newer_schema(url: str) -> None:
    """While servers are updated one after the other, the old ones go on."""
    with closing(stores.open_store(url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        with store._db.writing() as tx:
            tx.core(text("UPDATE sojourn_schema SET version_num = '9999'"))
        stores.migrate(url)
        with closing(stores.open_store(url)) as newer:
            assert newer.of("ann") == []
        [told] = [f for f in store.check() if f.verdict.rank]
        assert "newer than this program" in told.title


@pytest.mark.parametrize("value", ["nul \x00 in it", "lone \ud800 surrogate"])
def test_text_that_cannot_be_stored(url: str, value: str) -> None:
    """It is the caller's fault, if a fault at all; never a broken store, and never half a change."""
    with closing(stores.open_store(url, migrate=True)) as store:
        try:
            [session] = store.create([NewSession(id="a", token_hash=HASH, user_id=value)])
        except InvalidInput:
            assert store.events() == []
        else:
            assert session is not None
            assert [x.user_id for x in store.of(value)] == [value]


def test_data_that_is_not_json(url: str) -> None:
    with closing(stores.open_store(url, migrate=True)) as store:
        with pytest.raises(InvalidInput):
            store.create([NewSession(id="a", token_hash=HASH, user_id="a", data={"x": object()})])
        with pytest.raises(InvalidInput):
            store.save([Save(id="a", set={"x": object()})])


def test_closed_store(url: str) -> None:
    store = stores.open_store(url, migrate=True)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.of("ann")


SQLSTATES = {
    pg.DeadlockDetected: StoreUnavailable,
    pg.SerializationFailure: StoreUnavailable,
    pg.LockNotAvailable: StoreUnavailable,
    pg.QueryCanceled: StoreUnavailable,
    pg.AdminShutdown: StoreUnavailable,
    pg.CannotConnectNow: StoreUnavailable,
    pg.TooManyConnections: StoreUnavailable,
    pg.DiskFull: StoreUnavailable,
    pg.ReadOnlySqlTransaction: StoreUnavailable,
    pg.ConnectionFailure: StoreUnavailable,
    pg.IoError: StoreUnavailable,
    pg.UndefinedTable: TableMissing,
    pg.UndefinedColumn: StoreBroken,
    pg.SyntaxError: StoreBroken,
    pg.InsufficientPrivilege: StoreBroken,
    pg.InvalidPassword: StoreBroken,
    pg.InvalidCatalogName: StoreBroken,
    pg.DataCorrupted: StoreBroken,
    pg.NotNullViolation: StoreBroken,
    pg.StringDataRightTruncation: InvalidInput,
    pg.CharacterNotInRepertoire: InvalidInput,
    pg.UniqueViolation: Conflict,
    psycopg.OperationalError: StoreUnavailable,  # no server, no SQLSTATE
    psycopg.DataError: InvalidInput,  # the driver itself refuses a value
    psycopg.ProgrammingError: StoreBroken,
}
ERRNOS = {
    1040: StoreUnavailable,
    1205: StoreUnavailable,
    1213: StoreUnavailable,
    1290: StoreUnavailable,
    1927: StoreUnavailable,
    2003: StoreUnavailable,
    2006: StoreUnavailable,
    2013: StoreUnavailable,
    1021: StoreUnavailable,
    1045: StoreBroken,
    1049: StoreBroken,
    1054: StoreBroken,
    1064: StoreBroken,
    1146: TableMissing,
    1366: InvalidInput,
    1406: InvalidInput,
    1062: Conflict,
}


@pytest.mark.parametrize(("kind", "expected"), SQLSTATES.items())
def test_postgres_codes(kind: type[psycopg.Error], expected: type[SojournError]) -> None:
    assert_told(kind("whatever it says"), expected)


@pytest.mark.parametrize(("number", "expected"), ERRNOS.items())
def test_mysql_codes(number: int, expected: type[SojournError]) -> None:
    assert_told(pymysql.err.OperationalError(number, "whatever it says"), expected)


SQLITE_CODES = {
    "SQLITE_BUSY": StoreUnavailable,
    "SQLITE_LOCKED": StoreUnavailable,
    "SQLITE_FULL": StoreUnavailable,
    "SQLITE_IOERR_FSYNC": StoreUnavailable,
    "SQLITE_NOMEM": StoreUnavailable,
    "SQLITE_ERROR": StoreBroken,
    "SQLITE_CORRUPT": StoreBroken,
    "SQLITE_NOTADB": StoreBroken,
    "SQLITE_CANTOPEN": StoreBroken,
    "SQLITE_READONLY": StoreBroken,
    "SQLITE_CONSTRAINT_NOTNULL": StoreBroken,
    "SQLITE_CONSTRAINT_UNIQUE": Conflict,
    "SQLITE_CONSTRAINT_PRIMARYKEY": Conflict,
    "SQLITE_TOOBIG": InvalidInput,
}


@pytest.mark.parametrize(("name", "expected"), SQLITE_CODES.items())
def test_sqlite_codes(name: str, expected: type[SojournError]) -> None:
    error = sqlite3.OperationalError("whatever it says")
    error.sqlite_errorcode, error.sqlite_errorname = getattr(sqlite3, name), name
    assert_told(error, expected)


def assert_told(error: Exception, expected: type[SojournError]) -> None:
    wrapped = exc.DBAPIError.instance("SELECT 1", {}, error, Exception, hide_parameters=True)
    for each in (error, wrapped):
        if not isinstance(each, exc.DBAPIError):
            each = exc.OperationalError("SELECT 1", {}, each)  # noqa: PLW2901  # as SQLAlchemy does
        fault = classify(each)
        assert fault is not None
        assert type(fault.error()) is expected
        assert "whatever" not in fault.error().message
    assert classify(RuntimeError("a bug of ours")) is None


@pytest.mark.parametrize("url", ["oracle://x/y", "", "sojourn", "redis"])
def test_unknown_scheme(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        stores.open_store(url)
    assert "postgresql://" in caught.value.hint


@pytest.mark.parametrize(("scheme", "extra"), [("postgresql", "postgres"), ("mariadb", "mysql")])
def test_missing_driver(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "find_spec", lambda _: None)
    with pytest.raises(SettingsError) as caught:
        stores.open_store(f"{scheme}://localhost/x")
    assert f"pip install 'sojourn[{extra}]'" in caught.value.hint


def test_opening_imports_no_driver() -> None:
    script = (
        "import sys, sojourn.stores.open\n"
        "print([m for m in ('sqlalchemy', 'psycopg', 'pymysql', 'redis') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"


def test_nobody_listens() -> None:
    """Without a server, opening fails, and does not wait for one."""
    for scheme in ("postgresql", "mysql"):
        with pytest.raises(StoreUnavailable):
            ended(partial(stores.open_store, f"{scheme}://sojourn@127.0.0.1:1/x"))


def test_no_such_database(postgres_server: Server, mariadb_server: Server) -> None:
    with pytest.raises((StoreBroken, StoreUnavailable)):  # libpq does not say why
        stores.open_store(postgres_server.database_url("nowhere"))
    with pytest.raises(StoreBroken):
        stores.open_store(mariadb_server.database_url("nowhere"))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        stores.open_store(f"sqlite:///{tmp_path}/nowhere/x.db")


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"certainly not SQLite" * 100)
    with pytest.raises(StoreBroken):
        stores.open_store(f"sqlite:///{tmp_path}/x.db")


def test_file_held_by_another(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the file's lock in vain is told so; readers are not held up."""
    monkeypatch.setattr(filelock, "TIMEOUT", 0.2)
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    with closing(stores.open_store(sqlite_url, migrate=True)) as store:
        script = (
            "import fcntl, sys\n"
            "f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX)\n"
            "print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, f"{path}.lock"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(StoreUnavailable, match=f"Process {other.pid} |Another process"):
                store.touch(["a"])
            assert store.of("ann") == []
            other.kill()
        assert store.touch(["a"]) == [False]
