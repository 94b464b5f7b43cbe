"""`sojourn restore` where somebody has the database open, where it is another's, and where it breaks off."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from tests.e2e.cli_harness import run

from sojourn.errors import StoreUnavailable
from sojourn.stores.open import open_ledger, open_store
from sojourn.stores.sql import filelock
from sojourn.stores.sql.backup import put_back
from sojourn.stores.sql.store import SqlStore
from sojourn.testing.builders import sign_in

NOBODY = 1234  # an id that is not ours
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)


def told(database: Path, query: str = "SELECT count(*) FROM sojourn_sessions") -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute(query).fetchone()[0])


class Place:
    """A data folder whose database has two sessions, and a backup from when it had one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "sojourn-data"
        self.data.mkdir(mode=0o700)
        self.database = self.data / "sojourn.db"
        self.file = folder / "backup.db"
        with closing(self.store()) as store:
            sign_in(store, "ada")
        run(folder, "backup", str(self.file))
        with closing(self.store()) as store:
            sign_in(store, "grace")

    def store(self) -> SqlStore:
        opened = open_store(f"sqlite:///{self.database}", migrate=True)
        assert isinstance(opened, SqlStore)
        return opened

    def restore(self, *more: str, code: int = 0) -> str:
        done = run(self.folder, "restore", str(self.file), "--yes", *more, code=code)
        return done.stdout + done.stderr

    def names(self) -> set[str]:
        return {x.name for x in self.data.iterdir()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestOpen:
    def test_whoever_has_it_open_loses_nothing(self, place: Place) -> None:
        """An application on the same file: it would go on writing to a file without a name."""
        with closing(sqlite3.connect(place.database)) as other:
            other.execute("SELECT count(*) FROM sojourn_sessions").fetchone()
            assert "has it open" in place.restore(code=6)
            other.execute("CREATE TABLE songs (title TEXT)")
            other.commit()
            assert told(place.database) == 2
            assert told(place.database, "SELECT count(*) FROM songs") == 0
        assert not [x for x in place.names() if "before" in x or "restored" in x or "damaged" in x]
        place.restore()
        assert told(place.database) == 1

    def test_a_server_of_another_folder_loses_nothing(self, place: Place) -> None:
        """It has claimed its own data folder, and not this one."""
        with closing(place.store()) as store:
            assert "has it open" in place.restore(code=6)
            sign_in(store, "linus")
        assert told(place.database) == 3

    def test_another_restore_takes_nothing_half_written(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From another data folder, to the same database: it would take our part for its own."""
        monkeypatch.setattr(filelock, "TIMEOUT", 0.05)
        refused = []

        def meanwhile(part: Path) -> None:
            there = part.read_bytes()
            with pytest.raises(StoreUnavailable) as fault:
                put_back(place.file, place.database, stamp="2", prepare=lambda _: None)
            refused.append(fault)
            assert part.read_bytes() == there

        assert put_back(place.file, place.database, stamp="1", prepare=meanwhile) is not None
        assert len(refused) == 1
        assert told(place.database) == 1

    def test_a_database_that_is_damaged_is_replaced(self, place: Place) -> None:
        """Nobody can read it. It is kept, and nothing that lay beside it is read into the new one."""
        place.database.write_bytes(b"damaged" * 1_000)
        for end in ("-wal", "-journal"):
            Path(f"{place.database}{end}").write_bytes(b"left behind")
        place.restore()
        assert told(place.database) == 1
        assert not place.names() & {"sojourn.db-wal", "sojourn.db-journal"}
        (before,) = place.data.glob("sojourn.db.before-*")
        assert before.read_bytes() == b"damaged" * 1_000


class TestOwner:
    def test_mode_stays(self, place: Place) -> None:
        """As where a group may read it."""
        place.database.chmod(0o640)
        place.restore()
        assert stat.S_IMODE(place.database.stat().st_mode) == 0o640

    @as_root
    def test_it_belongs_to_whom_the_one_before_belonged(self, place: Place) -> None:
        """`sudo sojourn restore`: the server must be able to open it, and all that is beside it."""
        for path in (place.data, place.database):  # and the locks are root's
            os.chown(path, NOBODY, NOBODY)
        place.restore()
        assert {"server.lock", "sojourn.db.lock"} <= place.names()
        owners = {x.name: (x.stat().st_uid, x.stat().st_gid) for x in place.data.iterdir()}
        assert set(owners.values()) == {(NOBODY, NOBODY)}, owners
        assert stat.S_IMODE(place.database.stat().st_mode) == 0o600

    @as_root
    def test_in_an_empty_folder_it_belongs_to_the_folder_s_owner(self, place: Place) -> None:
        new = place.folder / "new"
        new.mkdir(mode=0o755)
        os.chown(new, NOBODY, NOBODY)
        place.restore("--data", str(new))
        assert {(x.stat().st_uid, x.stat().st_gid) for x in new.iterdir()} == {(NOBODY, NOBODY)}
        assert stat.S_IMODE((new / "sojourn.db").stat().st_mode) == 0o600

    @as_root
    def test_a_link_gives_nobody_another_s_file(self, place: Place) -> None:
        """Whoever owns the folder may have put it where root is going to make a file."""
        os.chown(place.data, NOBODY, NOBODY)
        (place.data / "sojourn.db.lock").unlink(missing_ok=True)
        secrets = []
        for name in ("server.lock", "sojourn.db.lock", "sojourn.db.restored"):
            secret = place.folder / f"secret-of-root-{name}"  # one each: two of them are locked
            secret.write_text("of root")
            secret.chmod(0o600)
            (place.data / name).symlink_to(secret)
            secrets.append(secret)
        place.restore()
        for secret in secrets:
            assert (secret.read_text(), secret.stat().st_uid) == ("of root", os.geteuid())


class TestBrokenOff:
    def test_it_revives_nobody(self, place: Place) -> None:
        """Signed out is who is in the copy before the copy gets the database's name."""
        with mock.patch.object(SqlStore, "cut_off", side_effect=StoreUnavailable("cut short")):
            place.restore(code=6)
        assert told(place.database) == 2
        assert not [x for x in place.names() if "restored" in x]

    def test_what_is_left_of_a_database_that_is_gone(self, place: Place) -> None:
        """Somebody has removed the file, and not the log beside it."""
        with closing(sqlite3.connect(place.database)) as left:
            left.execute("CREATE TABLE songs (title TEXT)")
            left.commit()
            log = Path(f"{place.database}-wal").read_bytes()
        assert log
        place.database.unlink()
        Path(f"{place.database}-wal").write_bytes(log)
        place.restore()
        assert told(place.database, "SELECT count(*) FROM sqlite_master WHERE name = 'songs'") == 0
        assert told(place.database) == 1

    def test_what_a_killed_one_left_is_not_taken_for_ours(self, place: Place) -> None:
        """A log that is left beside a part would be read into the next one."""
        part = Path(f"{place.database}.restored")
        with closing(sqlite3.connect(part)) as left:
            left.execute("PRAGMA journal_mode = WAL")
            left.execute("CREATE TABLE songs (title TEXT)")
            left.commit()
            kept = {end: Path(f"{part}{end}").read_bytes() for end in ("", "-wal", "-shm")}
        for end, content in kept.items():
            Path(f"{part}{end}").write_bytes(content)
        place.restore()
        assert told(place.database) == 1
        assert told(place.database, "SELECT count(*) FROM sqlite_master WHERE name = 'songs'") == 0
        assert not [x for x in place.names() if "restored" in x]


class TestSaid:
    def test_everybody_is_signed_out(self, place: Place) -> None:
        assert "Everybody has to sign in again." in place.restore()

    def test_nobody_is_where_that_is_asked_for(self, place: Place) -> None:
        assert "sign" not in place.restore("--keep-sessions")

    def test_nobody_is_where_sessions_are_kept_elsewhere(self, tmp_path: Path) -> None:
        """Sessions in Redis, and a ledger in a file: Redis is not asked at all."""
        ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
        open_ledger(ledger, migrate=True).close()
        where = ("--store", "redis://127.0.0.1:1/0", "--ledger", ledger)
        run(tmp_path, "backup", str(tmp_path / "backup.db"), *where)
        said = run(tmp_path, "restore", str(tmp_path / "backup.db"), "--yes", *where).stdout
        assert "Everybody" not in said
        assert "nobody was signed out" in said
