"""SQLite's file: one writer at a time, a log that stays short, nothing lost to a killed process."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sojourn.clock import STORE_CLOCK
from sojourn.ledger import ApiKey, Role
from sojourn.stores import open as stores
from sojourn.stores.sql import file, room
from sojourn.stores.sql.file import FileDatabase
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import beat, new_session, pool, present, take, token_hash

WRITER = """
import sys
from sojourn.stores.open import open_store
from sojourn.testing.builders import new_session
store = open_store(sys.argv[1])
for number in range(int(sys.argv[3])):
    assert store.create([new_session(f"{sys.argv[2]}-{number}")])[0]
"""


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest.fixture
def store(sqlite_url: str) -> Iterator[SqlStore]:
    with closing(stores.open_store(sqlite_url, migrate=True)) as store:
        assert isinstance(store, SqlStore)
        yield store


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_log_is_checkpointed(store: SqlStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log goes back into the database before it grows for ever; readers see all the while."""
    monkeypatch.setattr(room, "LOG_MAX", 100_000)
    most = 0
    for number in range(60):
        store.create([new_session(f"{number}", data={"x": "y" * 10_000})])
        most = max(most, size(Path(f"{path}-wal")))
        assert present(store, f"{number}").data["x"]
    assert 50_000 < most < 150_000
    assert size(path) > 400_000


def test_log_outlives_a_slow_reader(
    store: SqlStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that keeps the log from being reset costs disk, not writes."""
    monkeypatch.setattr(room, "LOG_MAX", 50_000)
    monkeypatch.setattr(room, "LOG_MIN", 10_000)
    monkeypatch.setattr(file, "BUSY_TIMEOUT", 10)
    with closing(stores.open_store(f"sqlite:///{path}")) as other:
        assert isinstance(other, SqlStore)
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sojourn_sessions").fetchall()
            for number in range(30):
                assert other.create([new_session(f"{number}", data={"x": "y" * 5_000})])[0]
            assert size(Path(f"{path}-wal")) > 100_000
        for number in range(30, 50):
            other.create([new_session(f"{number}", data={"x": "y" * 5_000})])
        assert size(Path(f"{path}-wal")) < 150_000


def test_settings(store: SqlStore) -> None:
    with store._db.writing() as tx:
        found = {
            name: tx.rows(f"PRAGMA {name}", {})[0][0]
            for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "mmap_size")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "wal_autocheckpoint": 0,
        "mmap_size": 0,
    }
    with store._db.reading() as tx:
        assert tx.rows("PRAGMA query_only", {})[0][0] == 1
        assert tx.rows("PRAGMA wal_autocheckpoint", {})[0][0] == 0


def test_two_processes_write(store: SqlStore, sqlite_url: str, path: Path) -> None:
    """Three writers, two of them processes of their own: all is there, and the file is whole."""
    command = [sys.executable, "-c", WRITER, sqlite_url]
    others = [subprocess.Popen([*command, name, "60"]) for name in ("a", "b")]
    for number in range(60):
        store.create([new_session(f"c-{number}")])
    assert [other.wait(60) for other in others] == [0, 0]
    names = [f"{who}-{number}" for who in "abc" for number in range(60)]
    assert {present(store, name).id for name in names} == set(names)
    assert [event.id for event in store.events(limit=1_000)] == list(range(1, 181))
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_closed_at_exit(sqlite_url: str, path: Path) -> None:
    """A process that ends without closing its store leaves no log behind."""
    stores.migrate(sqlite_url)
    subprocess.run([sys.executable, "-c", WRITER, sqlite_url, "x", "3"], check=True)
    assert not Path(f"{path}-wal").exists()
    with closing(stores.open_store(sqlite_url)) as store:
        assert present(store, "x-2").id == "x-2"


def test_same_file_by_two_names(store: SqlStore, path: Path, tmp_path: Path) -> None:
    """The lock belongs to the file, not to one of its names."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    one = FileDatabase(path, clock=STORE_CLOCK, durable=True)
    other = FileDatabase(link, clock=STORE_CLOCK, durable=True)
    assert one._lock is other._lock
    one.close()
    other.close()


def test_interrupted_statement(store: SqlStore) -> None:
    """Ctrl-C in the middle of a transaction undoes it, and the store works on."""
    store.define([pool(2)])
    lease = take(store)

    def interrupted(tx: object) -> None:
        del tx
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._db.transaction(interrupted)
    assert beat(store, lease) is not None
    assert store.touch(["none"]) == [False]
    assert store.load([token_hash("none")])


def test_private_databases_have_a_schema_and_nothing_in_common() -> None:
    def make(name: str) -> None:
        key = ApiKey(id=f"key_{name}", name=name, role=Role.ADMIN)
        ledger.create_key(key, name.encode(), actor="test")

    with closing(stores.open_ledger("memory:")) as ledger:
        make("one")
        with closing(stores.open_ledger("memory:")) as other:
            assert other.keys() == []
        make("two")
        assert len(ledger.keys()) == 2
    with closing(stores.open_ledger("memory:")) as ledger:
        assert ledger.keys() == []
